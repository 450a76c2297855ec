//! Writes of a hostile driver, and calls of a hostile backend, on one virtio-mmio register file.

use channel::{Device, Effect, Offer, RegisterPage, features, offset};

struct Page([u32; 0x80]);

impl RegisterPage for Page {
    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset / 4] = value;
    }

    fn get(&self, offset: usize) -> u32 {
        self.0[offset / 4]
    }
}

/// Eight bytes a step: what, the offset in words, the width, a spare byte, and the value.
pub fn run(data: &[u8]) {
    let mut page = Page([0; 0x80]);
    let mut device = Device::default();
    device.show(&mut page);
    let offer = Offer { device_id: 2, features: features::VERSION_1 | 0x244, queues: 3, queue_size_max: 256 };
    let mut line = false;
    for step in data.chunks_exact(8) {
        let value = u32::from_le_bytes([step[4], step[5], step[6], step[7]]);
        match step[0] % 16 {
            0 => line = device.raise_used(&mut page),
            1 => line = device.raise_config(&mut page),
            2 => line = device.needs_reset(&mut page),
            3 => _ = device.reset_done(&mut page),
            4 => device.backend_stopped(&mut page),
            5 => _ = device.attach(&mut page, offer),
            6 => _ = device.set_config(&mut page, value as usize, value),
            _ => {
                let place = usize::from(step[1]) * 4 + usize::from(step[3] % 16 / 15);
                let size = if step[2] < 16 { usize::from(step[2]) } else { 4 };
                match device.write(&mut page, place, size, value.into()) {
                    Effect::LineChanged(level) => line = level,
                    Effect::StatusChanged | Effect::ResetRequested => line = device.line(),
                    Effect::Notify { queue } => assert!(device.is_live() && queue < 3),
                    Effect::ResetPending => assert!(device.is_resetting()),
                    Effect::None => {}
                }
            }
        }
        assert_eq!(line, device.line(), "the line EL2 was told is the line");
        assert_eq!(page.0[offset::INTERRUPT_STATUS / 4] != 0, line);
        assert!(!line || device.is_live());
    }
}
