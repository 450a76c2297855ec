//! The escape key: separates the operator's commands to EL2 from the keys of the general domain.

/// The escape key, Ctrl-].
pub const ESCAPE: u8 = 0x1d;

/// What the operator asks of EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// List the commands.
    Help,
    /// Show the state of cores, domains and devices.
    Status,
    /// Make the secure domain crash.
    Crash,
    /// Make the secure domain hang.
    Freeze,
    /// Tell what brought each core to EL2 lately.
    Trace,
    /// Make the hypervisor itself fail.
    Panic,
    /// Reset the general domain.
    Reset,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Input {
    /// Nothing yet: the escape key was pressed.
    Nothing,
    /// A byte for the general domain.
    General(u8),
    /// A command for EL2.
    Command(Command),
}

/// Recognises the escape key: Ctrl-] then `h` for help, `s` for the status, `t` for the last exits, `r` to reset the general domain, `c`, `f`
/// and `p` for drills, Ctrl-] for a literal Ctrl-].
#[derive(Clone, Debug, Default)]
pub struct Keyboard {
    escaped: bool,
}

impl Keyboard {
    /// No key pressed yet.
    pub const fn new() -> Self {
        Keyboard { escaped: false }
    }

    /// Takes the next byte from the physical UART. An unknown key after the escape key asks for help.
    pub fn key(&mut self, byte: u8) -> Input {
        if !core::mem::take(&mut self.escaped) {
            self.escaped = byte == ESCAPE;
            return if self.escaped { Input::Nothing } else { Input::General(byte) };
        }
        match byte {
            ESCAPE => Input::General(ESCAPE),
            b's' => Input::Command(Command::Status),
            b'c' => Input::Command(Command::Crash),
            b'f' => Input::Command(Command::Freeze),
            b't' => Input::Command(Command::Trace),
            b'p' => Input::Command(Command::Panic),
            b'r' => Input::Command(Command::Reset),
            _ => Input::Command(Command::Help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_but_the_escape_key_is_the_general_domains() {
        let mut keyboard = Keyboard::new();
        for byte in (0..=255).filter(|&byte| byte != ESCAPE) {
            assert_eq!(keyboard.key(byte), Input::General(byte));
        }
    }

    #[test]
    fn the_escape_key_twice_is_one_literal_escape_key() {
        let mut keyboard = Keyboard::new();
        assert_eq!(keyboard.key(ESCAPE), Input::Nothing);
        assert_eq!(keyboard.key(ESCAPE), Input::General(ESCAPE));
        assert_eq!(keyboard.key(b'h'), Input::General(b'h'));
    }

    #[test]
    fn commands_follow_the_escape_key() {
        let mut keyboard = Keyboard::new();
        let commands = [
            (b'h', Command::Help),
            (b's', Command::Status),
            (b'c', Command::Crash),
            (b'f', Command::Freeze),
            (b'r', Command::Reset),
            (b'?', Command::Help),
        ];
        for (key, command) in commands {
            assert_eq!(keyboard.key(ESCAPE), Input::Nothing);
            assert_eq!(keyboard.key(key), Input::Command(command));
            assert_eq!(keyboard.key(b'x'), Input::General(b'x'));
        }
    }
}
