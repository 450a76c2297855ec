//! Accesses of a hostile driver to the virtual PL011, and keys, with the multiplexer behind it.

use console::{Input, Keyboard, Mux, Pl011, Speaker};

/// Six bytes a step: what, the width, the offset (two bytes), the value (two bytes).
pub fn run(data: &[u8]) {
    let (mut uart, mut mux, mut keyboard) = (Pl011::new(), Mux::new(), Keyboard::new());
    let mut line = false;
    for step in data.chunks_exact(6) {
        let place = usize::from(u16::from_le_bytes([step[2], step[3]]) % 0x1004);
        let value = u64::from(u16::from_le_bytes([step[4], step[5]]));
        let size = [1, 2, 4, 8, 0, 3, 16, 4][usize::from(step[1] % 8)];
        let changed = match step[0] % 4 {
            0 => uart.read(place, size).1.line,
            1 => {
                let effect = uart.write(place, size, value);
                let byte = effect.transmit.unwrap_or(b'.');
                mux.push(Speaker::General, &[byte], &mut |sent| assert_eq!(sent, byte));
                effect.line
            }
            2 => match keyboard.key(step[4]) {
                Input::General(byte) => uart.receive(byte),
                Input::Nothing | Input::Command(_) => None,
            },
            _ => {
                mux.push(Speaker::Secure, step, &mut |byte| assert!(matches!(byte, 0x20..=0x7e | b'\r' | b'\n')));
                None
            }
        };
        line = changed.unwrap_or(line);
        assert_eq!(line, uart.line(), "the line EL2 was told is the line");
    }
}
