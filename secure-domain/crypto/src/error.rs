//! What a caller can get wrong, one variant per cause.
use core::fmt;

use crate::selftest::Test;
use crate::state::State;

/// Why an operation was refused. No variant carries secret data, and no output is left behind when one is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The key does not have the length the algorithm takes.
    KeyLength,
    /// The data key and the tweak key of XTS are the same.
    EqualKeys,
    /// The nonce or tweak does not have a length the mode takes.
    NonceLength,
    /// The tag has a length the mode or the active profile does not take.
    TagLength,
    /// The message, the associated data or the requested output is longer than the mode allows under one nonce or call,
    /// or shorter than it needs.
    InputLength,
    /// The output buffer does not have the length of the input.
    OutputLength,
    /// The parts of a batch do not have the same number of elements.
    BatchShape,
    /// The tag does not belong to this key, nonce, associated data and message. Any plaintext was wiped.
    TagMismatch,
    /// The generator has answered as many requests as it may before fresh entropy.
    ReseedRequired,
    /// The raw entropy failed a health test.
    EntropySource,
    /// The module is in this state, which has no such service or transition.
    State(State),
    /// The profile does not list the algorithm or the parameters.
    NotApproved,
    /// This self-test failed.
    SelfTest(Test),
    /// The number does not name a suite.
    UnknownSuite(u16),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyLength => "the key has the wrong length",
            Self::EqualKeys => "the two keys are equal",
            Self::NonceLength => "the nonce has the wrong length",
            Self::TagLength => "the tag length is not allowed",
            Self::InputLength => "the input length is not allowed",
            Self::OutputLength => "the output has not the length of the input",
            Self::BatchShape => "the parts of the batch differ in number",
            Self::TagMismatch => "the tag does not match",
            Self::ReseedRequired => "the random bit generator needs fresh entropy",
            Self::EntropySource => "the entropy source failed a health test",
            Self::State(state) => return write!(f, "not in the state \"{state}\""),
            Self::NotApproved => "the profile does not list this",
            Self::SelfTest(test) => return write!(f, "the self-test {test:?} failed"),
            Self::UnknownSuite(id) => return write!(f, "no suite has the number {id:#06x}"),
        })
    }
}

impl core::error::Error for Error {}
