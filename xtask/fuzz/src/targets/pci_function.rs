//! Accesses of a hostile driver to configuration space and BAR of one function, and calls of a hostile backend behind it.

use channel::{Device, Effect, Offer, RegisterPage, features};
use pci::{Access, Behind, Bus, Function};

struct Page([u32; 0x80]);

impl RegisterPage for Page {
    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset / 4] = value;
    }

    fn get(&self, offset: usize) -> u32 {
        self.0[offset / 4]
    }
}

/// Sixteen bytes a step: what, the width, two spare, the offset (4), the value (8).
pub fn run(data: &[u8]) {
    let (mut page, mut device) = (Page([0; 0x80]), Device::default());
    device.show(&mut page);
    let offer = Offer { device_id: 2, features: features::VERSION_1 | 0x244, queues: 3, queue_size_max: 256 };
    let (mut function, bus) = (Function::new(), Bus::default());
    for step in data.chunks_exact(16) {
        let size = [1, 2, 4, 8, 0, 3, 16, 255][usize::from(step[1]) % 8];
        let offset = u32::from_le_bytes([step[4], step[5], step[6], step[7]]);
        let value = u64::from_le_bytes([step[8], step[9], step[10], step[11], step[12], step[13], step[14], step[15]]);
        let mut behind = Behind { device: &mut device, page: &mut page };
        let vectors = match step[0] % 16 {
            0 => used(&mut function, &mut behind),
            1 => changed(&mut function, &mut behind),
            2..=6 => {
                match step[0] % 16 {
                    2 => _ = behind.device.reset_done(behind.page),
                    3 => behind.device.backend_stopped(behind.page),
                    4 => _ = behind.device.attach(behind.page, offer),
                    5 => fits(function.read_configuration(&mut behind, offset as usize % 4096, size), size),
                    _ => fits(function.read_bar(&mut behind, offset as usize % pci::BAR_BYTES, size), size),
                }
                0
            }
            7..=10 => {
                let access = function.write_configuration(&mut behind, offset as usize % 4096, size, value);
                after(access, &device)
            }
            _ => after(function.write_bar(&mut behind, offset as usize % pci::BAR_BYTES, size, value), &device),
        };
        assert_eq!(vectors >> 4, 0, "a vector that does not exist is sent");
        (0..4).for_each(|vector| assert_eq!(function.message(vector).address % 4, 0));
        bus.decode(5, function.base());
        let found = function.base().and_then(|base| bus.find(base.into()));
        assert_eq!(found, function.base().map(|_| (5, 0)));
        assert!(!function.line(&device) || device.line());
    }
}

fn used(function: &mut Function, behind: &mut Behind<'_, Page>) -> u32 {
    behind.device.raise_used(behind.page);
    told(function.raise_used(behind.device), behind.device)
}

fn changed(function: &mut Function, behind: &mut Behind<'_, Page>) -> u32 {
    behind.device.needs_reset(behind.page);
    told(function.raise_config(behind.device), behind.device)
}

/// A driver that is not ready hears nothing new; what waited from before may still come.
fn told(vectors: u32, device: &Device) -> u32 {
    assert!(vectors == 0 || device.is_attached());
    vectors
}

fn after(Access { effect, vectors }: Access, device: &Device) -> u32 {
    match effect {
        Effect::Notify { queue } => assert!(device.is_live() && queue < 3),
        Effect::ResetPending | Effect::ResetRequested => assert!(device.is_resetting()),
        Effect::LineChanged(_) => unreachable!("a store acknowledges nothing"),
        Effect::StatusChanged | Effect::None => {}
    }
    vectors
}

fn fits(value: u64, size: usize) {
    assert!(size >= 8 || value >> (8 * size) == 0, "a value wider than the access");
}
