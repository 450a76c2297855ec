//! Why an anchor cannot be read or advanced.

/// Why an anchor cannot be read or advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A record of this many bytes is longer than an anchor holds.
    RecordTooLong(usize),
    /// An advance is under way.
    Busy,
    /// The anchor's counter is another than the caller expected.
    CounterMismatch {
        /// What the caller expected.
        expected: u64,
        /// What the anchor holds.
        found: u64,
    },
    /// The anchor must be read first: it was not since it was opened, or since an advance failed.
    Unread,
    /// The anchor refuses to be advanced.
    Refused,
    /// The anchor's counter has reached its end.
    Exhausted,
    /// There is no device of the expected kind.
    NoDevice,
    /// The device does not answer.
    Silent,
    /// The device reports that it failed.
    Device,
    /// The device's answer is not authentic, or belongs to another question.
    Forged,
    /// The device has no key yet: it was never provisioned.
    NoKey,
    /// The contents are something else than an anchor.
    Foreign,
    /// The contents are an anchor's, but of another key, or were changed.
    Damaged,
    /// The crypto module refuses.
    Module(crypto::Error),
}

impl Error {
    /// What a MAC that could not be checked, or is another, means for contents that are then `otherwise`.
    pub(crate) fn of_mac(error: crypto::Error, otherwise: Error) -> Error {
        if error == crypto::Error::TagMismatch { otherwise } else { Error::Module(error) }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::RecordTooLong(bytes) => write!(f, "a record of {bytes} bytes is longer than the anchor holds"),
            Error::Busy => write!(f, "the anchor is being advanced"),
            Error::CounterMismatch { expected, found } => {
                write!(f, "the anchor's counter is {found}, not {expected} as expected")
            }
            Error::Unread => write!(f, "the anchor was not read yet, or an advance failed since"),
            Error::Refused => write!(f, "the anchor refuses to be advanced"),
            Error::Exhausted => write!(f, "the anchor's counter has reached its end"),
            Error::NoDevice => write!(f, "there is no device that could be the anchor"),
            Error::Silent => write!(f, "the anchor does not answer"),
            Error::Device => write!(f, "the anchor's device reports a failure"),
            Error::Forged => write!(f, "the anchor's answer is not authentic"),
            Error::NoKey => write!(f, "the anchor has no key: it was never provisioned"),
            Error::Foreign => write!(f, "the anchor's device holds something else than an anchor"),
            Error::Module(error) => write!(f, "crypto module: {error}"),
            Error::Damaged => write!(f, "the anchor was changed, or belongs to another key"),
        }
    }
}

impl core::error::Error for Error {}
