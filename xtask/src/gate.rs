//! A row of checks: each runs, whatever came before; each failure prints the command that repeats it.
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::toolchain::Toolchain;
use crate::{process, progress};

/// Counts what passed and failed.
#[derive(Default)]
pub struct Gate {
    passed: u64,
    failed: u64,
}

impl Gate {
    /// Runs cargo as one check; its words are shown when it fails.
    pub fn cargo(&mut self, what: &str, toolchain: &Toolchain, arguments: &str) {
        let mut cargo = toolchain.cargo();
        cargo.args(arguments.split_whitespace());
        let done = progress::step(what, || process::words(&mut cargo));
        let repeated = done.and_then(|words| match words {
            Ok(_) => Ok(()),
            Err(words) => bail!("{words}\nrepeat with: ./x cargo {arguments}"),
        });
        self.note(what, repeated);
    }

    /// Runs cargo as a row of tests, shown as they come, and counts those it reports. When it reports none and ends
    /// well, it counts as one.
    pub fn tests(&mut self, what: &str, toolchain: &Toolchain, arguments: &str) {
        progress::note(&format!("{what} ..."));
        let mut cargo = toolchain.cargo();
        let counted = counted(cargo.args(arguments.split_whitespace()));
        if self.count(what, counted) {
            eprintln!("repeat with: ./x cargo {arguments}");
        }
    }

    /// Takes the outcome of one check.
    pub fn note(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                eprintln!("failed: {what}\n{error:#}");
            }
        }
    }

    /// Adds what a test program reported; tells whether it failed.
    fn count(&mut self, what: &str, counted: Result<(u64, u64, bool)>) -> bool {
        match counted {
            Ok((0, 0, true)) => self.passed += 1,
            Ok((passed, failed, success)) => {
                self.passed += passed;
                self.failed += failed + u64::from(!success && failed == 0);
                return !success;
            }
            Err(error) => self.note(what, Err(error)),
        }
        false
    }

    /// The last line, and an error when anything failed.
    ///
    /// # Errors
    /// When a check failed.
    pub fn end(&self) -> Result<()> {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 {
            bail!("something failed; see above");
        }
        Ok(())
    }
}

/// Passed, failed, and whether the program ended well.
fn counted(command: &mut Command) -> Result<(u64, u64, bool)> {
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => bail!("`{}` could not be started: {error}", process::shown(command)),
    };
    let (mut passed, mut failed) = (0, 0);
    let output = child.stdout.take().expect("its output is piped");
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some((good, bad)) = summary(&line) {
            passed += good;
            failed += bad;
        }
        // The hundred crates without a test of their own need no line.
        if !is_noise(&line) {
            println!("{line}");
        }
    }
    Ok((passed, failed, child.wait()?.success()))
}

/// Counts in the last line of a test program: `test result: ok. 3 passed; 0 failed; ...`, or our own `fuzz: 3 passed, 0 failed`.
fn summary(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")).map(|(_, counts)| counts);
    let counts = counts.or_else(|| line.strip_prefix("fuzz: "))?;
    let number = |word: &str| {
        let before = counts.split([';', ',']).find_map(|part| part.trim().strip_suffix(word))?;
        before.trim().parse().ok()
    };
    Some((number("passed")?, number("failed")?))
}

fn is_noise(line: &str) -> bool {
    line.is_empty() || line == "running 0 tests" || line.starts_with("test result: ok. 0 passed; 0 failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_forms() {
        assert_eq!(
            summary("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out"),
            Some((3, 2))
        );
        assert_eq!(summary("fuzz: 5 passed, 0 failed"), Some((5, 0)));
        assert_eq!(summary("test volume::tests::holds ... ok"), None);
    }

    #[test]
    fn program_that_dies_without_a_summary_fails() {
        let mut gate = Gate::default();
        let mut run = |script| gate.count("dies", counted(Command::new("sh").args(["-c", script])));
        assert!(run("exit 101"));
        assert!(run("echo 'test result: ok. 2 passed; 0 failed;'; exit 1"));
        assert!(!run("echo 'test result: ok. 3 passed; 0 failed;'"));
        assert_eq!((gate.passed, gate.failed), (5, 2));
    }
}
