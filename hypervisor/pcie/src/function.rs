//! The name of a function.

use core::fmt;

/// A function of bus 0: its device and its number in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function(u8);

impl Function {
    /// Function `function` (below 8) of `device` (below 32).
    pub const fn new(device: u8, function: u8) -> Option<Function> {
        if device < 32 && function < 8 { Some(Function(device << 3 | function)) } else { None }
    }

    /// As it is written: `00:DEVICE.FUNCTION`, the device in two hexadecimal digits. None if it is not that, or of another bus.
    pub fn parse(text: &str) -> Option<Function> {
        let (device, function) = text.strip_prefix("00:")?.split_once('.')?;
        let digits =
            |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits(device, 2) || !digits(function, 1) {
            return None;
        }
        Function::new(u8::from_str_radix(device, 16).ok()?, u8::from_str_radix(function, 16).ok()?)
    }

    /// The function whose page of the bus' configuration space `page` is.
    pub const fn of_page(page: u8) -> Function {
        Function(page)
    }

    /// Its page in the bus' configuration space: its low eight bits as a requester.
    pub const fn page(self) -> u8 {
        self.0
    }

    /// Its device.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// Its number in its device.
    pub const fn number(self) -> u8 {
        self.0 & 7
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00:{:02x}.{}", self.device(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn what_names_no_function_of_the_first_bus_is_refused() {
        for text in
            ["", "3", "00:3.0", "01:03.0", "00:20.0", "00:03.8", "00:+3.0", "00:03.", "00:03.0 ", "0000:00:03.0"]
        {
            assert_eq!(Function::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_function_is_read_as_it_is_written() {
        for page in 0..=255 {
            let function = Function::of_page(page);
            assert_eq!(Function::parse(&function.to_string()), Some(function));
            assert_eq!(Function::new(function.device(), function.number()), Some(function));
        }
    }
}
