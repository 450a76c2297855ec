//! Lines on the console, through EL2.

/// Prints one line: `log!("disk of {blocks} blocks")`.
macro_rules! log {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        // EL2 takes every line; nobody could be told of a failure.
        let _ = writeln!(el1::hypercall::Log, $($argument)*);
    }};
}
pub(crate) use log;
