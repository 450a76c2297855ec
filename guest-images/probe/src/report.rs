//! The line protocol.

use core::fmt::{Display, Write as _};

use crate::console::Console;
use crate::exception::Outcome;

/// Counts what it prints.
#[derive(Default)]
pub(crate) struct Report {
    class: &'static str,
    passed: u32,
    failed: u32,
}

impl Report {
    /// The cases that follow belong to `class`.
    pub(crate) fn begin(&mut self, class: &'static str) {
        self.class = class;
    }

    /// One case.
    pub(crate) fn case(&mut self, name: impl Display, expected: impl Display, got: impl Display, passed: bool) {
        let verdict = if passed { "PASS" } else { "FAIL" };
        *(if passed { &mut self.passed } else { &mut self.failed }) += 1;
        let _ = writeln!(Console, "probe: {} {name} {expected} {got} {verdict}", self.class);
    }

    /// A case whose answer must be a certain value.
    pub(crate) fn equal(&mut self, name: impl Display, expected: u64, got: u64) {
        self.case(name, format_args!("{expected:#x}"), format_args!("{got:#x}"), expected == got);
    }

    /// A case whose answer must be the abort that a forbidden address deserves.
    pub(crate) fn abort(&mut self, name: impl Display, got: Outcome) {
        self.case(name, "external_abort", got, got.is_external_abort());
    }

    /// A line that is no case.
    pub(crate) fn note(&mut self, text: impl Display) {
        let _ = writeln!(Console, "probe: # {text}");
    }

    /// The last line.
    pub(crate) fn finish(&self) {
        let _ = writeln!(Console, "probe: {} passed, {} failed", self.passed, self.failed);
    }
}
