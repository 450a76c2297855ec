//! The finite-state model of the module (KS X ISO/IEC 19790 section 7.11.4).
use core::fmt;

/// Where the module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Powered, nothing tested: no service but status.
    PowerOn = 0,
    /// The self-tests run: no service.
    SelfTest = 1,
    /// Tested: all services of the profile.
    Approved = 2,
    /// A conditional test failed (an entropy source, say): no cryptographic service until the self-tests pass again.
    SimpleError = 3,
    /// A self-test failed: nothing but zeroisation until the next power-on.
    CriticalError = 4,
    /// Told to forget: nothing until the next power-on.
    Zeroised = 5,
}

/// What can happen to the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The self-tests begin, after power-on or on demand.
    TestBegins,
    /// All self-tests passed.
    TestsPassed,
    /// A self-test failed.
    TestFailed,
    /// A conditional test failed.
    ConditionalFailed,
    /// The command to zeroise.
    Zeroise,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::PowerOn, Self::SelfTest, Self::Approved, Self::SimpleError, Self::CriticalError, Self::Zeroised];

    /// The state after `event`, or `None` where the model has no such transition.
    #[must_use]
    pub const fn next(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::PowerOn | Self::Approved | Self::SimpleError, Event::TestBegins) => Some(Self::SelfTest),
            (Self::SelfTest, Event::TestsPassed) => Some(Self::Approved),
            (Self::SelfTest, Event::TestFailed) => Some(Self::CriticalError),
            (Self::Approved | Self::SimpleError, Event::ConditionalFailed) => Some(Self::SimpleError),
            (Self::Zeroised, _) => None,
            (_, Event::Zeroise) => Some(Self::Zeroised),
            _ => None,
        }
    }

    /// Whether cryptographic services may run.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Approved)
    }

    pub(crate) fn from_number(number: u8) -> Self {
        // A number that names no state can only be a fault of ours or of the memory.
        Self::ALL.into_iter().find(|state| *state as u8 == number).unwrap_or(Self::CriticalError)
    }
}

/// As `docs/crypto-module.md` names it, in small letters.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOn => "power-on",
            Self::SelfTest => "self-test",
            Self::Approved => "approved",
            Self::SimpleError => "simple error",
            Self::CriticalError => "critical error",
            Self::Zeroised => "zeroised",
        })
    }
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 5] =
        [Self::TestBegins, Self::TestsPassed, Self::TestFailed, Self::ConditionalFailed, Self::Zeroise];
}

#[cfg(test)]
mod tests {
    use super::Event::*;
    use super::State::*;
    use super::*;

    /// The whole table, row by row in the order of `Event::ALL`.
    #[test]
    fn transitions_are_the_documented_ones_and_no_others() {
        let table = [
            (PowerOn, [Some(SelfTest), None, None, None, Some(Zeroised)]),
            (SelfTest, [None, Some(Approved), Some(CriticalError), None, Some(Zeroised)]),
            (Approved, [Some(SelfTest), None, None, Some(SimpleError), Some(Zeroised)]),
            (SimpleError, [Some(SelfTest), None, None, Some(SimpleError), Some(Zeroised)]),
            (CriticalError, [None, None, None, None, Some(Zeroised)]),
            (Zeroised, [None; 5]),
        ];
        for ((state, row), expected_state) in table.into_iter().zip(State::ALL) {
            assert_eq!(state, expected_state);
            for (event, expected) in Event::ALL.into_iter().zip(row) {
                assert_eq!(state.next(event), expected, "{state:?} {event:?}");
            }
        }
        assert_eq!(Event::ALL, [TestBegins, TestsPassed, TestFailed, ConditionalFailed, Zeroise]);
    }

    #[test]
    fn services_run_only_in_the_approved_state() {
        assert!(State::ALL.into_iter().all(|state| state.serves() == (state == Approved)));
    }

    #[test]
    fn a_damaged_number_is_a_critical_error() {
        for number in 6..=u8::MAX {
            assert_eq!(State::from_number(number), CriticalError);
        }
        assert!(State::ALL.into_iter().all(|state| State::from_number(state as u8) == state));
    }
}
