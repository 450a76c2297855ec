//! Hypercalls of the secure domain: `HVC #0` with a function identifier in `w0` and arguments in `x1..x7`.
//!
//! Identifiers follow the SMC Calling Convention (Arm DEN 0028, section 2.5): fast calls, 64-bit, owner 6 (vendor-specific
//! hypervisor service). On return `x0` is 0 or an [`Error`], `x1` the value where a call has one; `x2..x7` are preserved.

/// First identifier of the range: fast call, SMC64, vendor-specific hypervisor service.
const BASE: u32 = 0xC600_0000;

/// Text bytes that one [`Function::Log`] carries, in `x2..x7`.
pub const LOG_BYTES: usize = 48;

/// In `x1` of [`Function::Wait`]: the passing of time wakes nobody.
pub const NO_DEADLINE: u64 = u64::MAX;

/// What the secure domain may ask of EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Function {
    /// Returns [`crate::VERSION`] of the hypervisor.
    Version = BASE,
    /// Sleeps until an event is set; returns at once if one is. Events stay in the shared page for the caller to take. `x1` = value
    /// of the physical counter at which to set [`crate::Event::TIME`] ([`NO_DEADLINE`]: never), `x2` = 1: set [`crate::Event::IDLE`],
    /// once, as soon as a core of the general domain has nothing to do. Both replace those of the last call.
    Wait = BASE + 1,
    /// Initialisation is done and every device that will be served is attached: the general domain may start.
    Ready = BASE + 2,
    /// `x1` = length in bytes (at most [`LOG_BYTES`]), `x2..x7` = text, little-endian. A newline ends the console line.
    Log = BASE + 3,
    /// Offers a virtual device: `x1` = index, `x2` = virtio device id, `x3` = device features, `x4` = number of queues,
    /// `x5` = largest queue size (a power of two). Its configuration words must have been set before.
    Attach = BASE + 4,
    /// Sets one 32-bit word of a device's configuration space: `x1` = index, `x2` = byte offset (multiple of 4), `x3` = value.
    Config = BASE + 5,
    /// Used-buffer notification to the driver of device `x1`.
    Interrupt = BASE + 6,
    /// Device `x1` has dropped every request and will touch no ring: the driver's reset may complete.
    ResetDone = BASE + 7,
    /// The interrupt of line `x1` has been served at its source and may fire again.
    IrqDone = BASE + 8,
    /// Everything acknowledged is on stable storage: power may go (answer to [`crate::Event::SHUTDOWN`]).
    Quiesced = BASE + 9,
    /// The domain cannot serve (the reason has been logged): `x1` = a [`Failure`].
    Fail = BASE + 10,
    /// Device `x1` cannot go on and needs a reset by its driver (virtio 1.2, section 2.1.2).
    NeedsReset = BASE + 11,
    /// Configuration change notification to the driver of device `x1`: its words have been set.
    ConfigChanged = BASE + 12,
}

impl Function {
    /// Every function, in order of its identifier.
    pub const ALL: [Function; 13] = [
        Function::Version,
        Function::Wait,
        Function::Ready,
        Function::Log,
        Function::Attach,
        Function::Config,
        Function::Interrupt,
        Function::ResetDone,
        Function::IrqDone,
        Function::Quiesced,
        Function::Fail,
        Function::NeedsReset,
        Function::ConfigChanged,
    ];

    /// The function that `w0` names, if it is one.
    pub fn from_id(id: u32) -> Option<Function> {
        Self::ALL.get(id.checked_sub(BASE)? as usize).copied()
    }
}

/// Why the secure domain gave up, in `x1` of [`Function::Fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Failure {
    /// No disk, or one that cannot be driven.
    Disk = 1,
    /// The disk holds no volume that this domain can serve.
    Volume = 2,
    /// A panic or an unexpected exception.
    Panic = 3,
    /// A self-test of the crypto engine failed.
    SelfTest = 4,
    /// The device tree that EL2 gave lacks something.
    DeviceTree = 5,
}

impl Failure {
    /// The failure that `x1` names; anything unknown counts as a panic.
    pub fn from_code(code: u64) -> Failure {
        match code {
            1 => Failure::Disk,
            2 => Failure::Volume,
            4 => Failure::SelfTest,
            5 => Failure::DeviceTree,
            _ => Failure::Panic,
        }
    }
}

/// An error in `x0` (as `i64`), with the values of the SMC Calling Convention where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// No such function.
    NotSupported = -1,
    /// An argument is out of range.
    InvalidParameter = -3,
    /// The call does not fit the state (for example [`Function::ResetDone`] with no reset under way).
    Denied = -4,
}

/// `x0` for a result.
pub fn encode(result: Result<(), Error>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(error) => error as i64 as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found_by_its_identifier_and_no_other_is() {
        for (index, function) in Function::ALL.into_iter().enumerate() {
            assert_eq!(function as u32, BASE + index as u32);
            assert_eq!(Function::from_id(function as u32), Some(function));
        }
        assert_eq!(Function::from_id(BASE + Function::ALL.len() as u32), None);
        assert_eq!(Function::from_id(BASE - 1), None);
        assert_eq!(Function::from_id(0), None);
    }

    #[test]
    fn errors_are_negative_in_x0() {
        assert_eq!(encode(Ok(())), 0);
        assert_eq!(encode(Err(Error::NotSupported)) as i64, -1);
    }

    #[test]
    fn an_unknown_failure_counts_as_a_panic() {
        assert_eq!(Failure::from_code(2), Failure::Volume);
        assert_eq!(Failure::from_code(99), Failure::Panic);
    }
}
