//! Progress of long steps: a spinner on a terminal, plain lines elsewhere.
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Steps shorter than this leave no line behind on a terminal.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Runs `work` under a line that says what is going on.
///
/// # Errors
/// What `work` gives.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let spinner = spinner(what);
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
        if result.is_ok() && start.elapsed() >= WORTH_A_LINE {
            eprintln!("{what} ({:.1} s)", start.elapsed().as_secs_f64());
        }
    }
    result
}

/// One line about what happens, for what is no step.
pub fn note(what: &str) {
    eprintln!("{what}");
}

/// A bar over `len_bytes`; off the terminal it shows nothing.
pub fn bytes_bar(what: &str, len_bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("{what} ...");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}");
    let style = style.expect("the template is a constant that indicatif accepts");
    ProgressBar::new(len_bytes).with_style(style).with_message(what.to_owned())
}

fn spinner(what: &str) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        eprintln!("{what} ...");
        return None;
    }
    let spinner = ProgressBar::new_spinner().with_message(format!("{what} ..."));
    spinner.enable_steady_tick(Duration::from_millis(120));
    Some(spinner)
}
