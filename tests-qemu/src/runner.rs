//! Runs groups of checks, two at a time, and reports each check as a test.
//!
//! Why not one of the usual runners: a check needs its group's boot, some boots tell at run time how many tests they were (the
//! probe), and machines with four cores must not run beside each other. The output is that of Rust's own tests.
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Error, Result};

use crate::guest::Guest;
use crate::images::Images;
use crate::place::{self, Place};

/// Groups that run at once.
const WORKERS: usize = 2;

/// Boots a group's guest.
pub type Boot = Box<dyn Fn(&Images, Place) -> Result<Guest> + Send + Sync>;
/// A check on a guest that others used before.
pub type OnGuest = Box<dyn Fn(&Images, &mut Guest) -> Result<()> + Send + Sync>;
/// A check that starts what it needs.
pub type Alone = Box<dyn Fn(&Images, &Place) -> Result<()> + Send + Sync>;
/// A run that tells how many tests it was.
pub type Many = Box<dyn Fn(&Images, &Place) -> Result<Vec<Case>> + Send + Sync>;

/// One test that a run reported.
pub struct Case {
    /// Its name.
    pub name: String,
    /// How it went.
    pub outcome: Result<()>,
}

/// The checks of a group.
pub enum Checks {
    /// On one boot, in this order; after a failure the next check gets a fresh one.
    Shared(Boot, Vec<(&'static str, OnGuest)>),
    /// Each for itself.
    Each(Vec<(&'static str, Alone)>),
    /// As many as the run says.
    Many(Many),
}

/// A group: one thread works on it, in a place of its own.
pub struct Group {
    name: &'static str,
    checks: Checks,
}

impl Group {
    /// Checks on one boot.
    pub fn shared(
        name: &'static str,
        boot: impl Fn(&Images, Place) -> Result<Guest> + Send + Sync + 'static,
        checks: Vec<(&'static str, OnGuest)>,
    ) -> Self {
        Self { name, checks: Checks::Shared(Box::new(boot), checks) }
    }

    /// Checks that share nothing.
    pub fn each(name: &'static str, checks: Vec<(&'static str, Alone)>) -> Self {
        Self { name, checks: Checks::Each(checks) }
    }

    /// A run that reports its tests itself.
    pub fn many(
        name: &'static str,
        run: impl Fn(&Images, &Place) -> Result<Vec<Case>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, checks: Checks::Many(Box::new(run)) }
    }

    fn names(&self) -> Vec<String> {
        let join = |name: &&'static str| format!("{}::{name}", self.name);
        match &self.checks {
            Checks::Shared(_, checks) => checks.iter().map(|(name, _)| join(name)).collect(),
            Checks::Each(checks) => checks.iter().map(|(name, _)| join(name)).collect(),
            Checks::Many(_) => vec![self.name.to_owned()],
        }
    }
}

/// A check on a shared guest.
pub fn check(
    name: &'static str,
    run: impl Fn(&Images, &mut Guest) -> Result<()> + Send + Sync + 'static,
) -> (&'static str, OnGuest) {
    (name, Box::new(run))
}

/// A check of its own.
pub fn alone(
    name: &'static str,
    run: impl Fn(&Images, &Place) -> Result<()> + Send + Sync + 'static,
) -> (&'static str, Alone) {
    (name, Box::new(run))
}

/// Which tests are wanted: all, or those whose name contains one of the words.
pub struct Filter(Vec<String>);

impl Filter {
    /// A filter from words.
    pub fn new(words: Vec<String>) -> Self {
        Self(words)
    }

    fn wants(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|word| name.contains(word.as_str()))
    }

    /// A group that reports its tests itself is run for any word that names it or one of its cases.
    fn wants_many(&self, group: &str) -> bool {
        self.wants(group) || self.0.iter().any(|word| word.starts_with(&format!("{group}::")))
    }

    fn wants_group(&self, group: &Group) -> bool {
        match group.checks {
            Checks::Many(_) => self.wants_many(group.name),
            _ => group.names().iter().any(|name| self.wants(name)),
        }
    }
}

/// Names of all tests that can be told without running them.
pub fn names(groups: &[Group]) -> Vec<String> {
    groups.iter().flat_map(Group::names).collect()
}

/// Counts and prints. Shared by the workers.
#[derive(Default)]
struct Report(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    passed: usize,
    failures: Vec<(String, String)>,
}

impl Report {
    /// One test with a line of its own.
    fn note(&self, name: &str, outcome: Result<()>, start: Instant, place: &str) {
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.1} s)");
                self.lock().passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                let message = format!("{error:#}\nfiles: {place}\nrepeat with: ./x test --only system {name}");
                self.lock().failures.push((name.to_owned(), message));
            }
        }
    }

    /// Tests that passed together: one line.
    fn note_passed(&self, name: &str, count: usize, start: Instant) {
        println!("test {name} ... {count} cases ok ({:.1} s)", start.elapsed().as_secs_f64());
        self.lock().passed += count;
    }

    /// The failures again with their messages, and the last line. Tells whether all passed.
    fn end(&self) -> bool {
        let counts = self.lock();
        for (name, message) in &counts.failures {
            println!("\n---- {name} ----\n{message}");
        }
        let verdict = if counts.failures.is_empty() { "ok" } else { "FAILED" };
        println!("\ntest result: {verdict}. {} passed; {} failed;", counts.passed, counts.failures.len());
        counts.failures.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

/// Runs what the filter wants; the last line counts. Tells whether all passed.
///
/// # Errors
/// When what all tests start from cannot be made.
pub fn run(groups: Vec<Group>, filter: &Filter) -> Result<bool> {
    let wanted: VecDeque<_> = groups.into_iter().filter(|group| filter.wants_group(group)).collect();
    let report = Report::default();
    if wanted.is_empty() {
        return Ok(report.end());
    }
    let _turn = place::turn(filter.0.is_empty())?;
    let images = Images::make()?;
    let queue = Mutex::new(wanted);
    let next = || queue.lock().expect("no holder of the lock panics").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(group) = next() {
                    Work { group: &group, images: &images, filter, report: &report }.run();
                }
            });
        }
    });
    Ok(report.end())
}

/// One group and what its checks need.
struct Work<'a> {
    group: &'a Group,
    images: &'a Images,
    filter: &'a Filter,
    report: &'a Report,
}

impl Work<'_> {
    fn run(&self) {
        match &self.group.checks {
            Checks::Shared(boot, checks) => self.shared(boot, checks),
            Checks::Each(checks) => self.each(checks),
            Checks::Many(run) => self.many(run),
        }
    }

    fn shared(&self, boot: &Boot, checks: &[(&'static str, OnGuest)]) {
        let mut guest = None;
        let mut boots = 0;
        for (name, run) in checks {
            let name = format!("{}::{name}", self.group.name);
            if !self.filter.wants(&name) {
                continue;
            }
            let start = Instant::now();
            let fresh = guest.is_none();
            boots += usize::from(fresh);
            let directory =
                if boots == 1 { self.group.name.to_owned() } else { format!("{}-{boots}", self.group.name) };
            let outcome = guarded(|| {
                if fresh {
                    guest = Some(boot(self.images, Place::new(&directory)?)?);
                }
                run(self.images, guest.as_mut().expect("booted just now, if not before"))
            });
            if outcome.is_err() {
                guest = None;
            }
            self.report.note(&name, outcome, start, &Place::shown_as(&directory));
        }
        if let Some(guest) = guest {
            let place = guest.place.clone();
            drop(guest);
            clean(place);
        }
    }

    fn each(&self, checks: &[(&'static str, Alone)]) {
        for (name, run) in checks {
            let full = format!("{}::{name}", self.group.name);
            if self.filter.wants(&full) {
                let start = Instant::now();
                let directory = format!("{}-{name}", self.group.name);
                let outcome = in_place(&directory, |place| run(self.images, place));
                self.report.note(&full, outcome, start, &Place::shown_as(&directory));
            }
        }
    }

    fn many(&self, run: &Many) {
        let (start, name) = (Instant::now(), self.group.name);
        let mut cases = Vec::new();
        let outcome = in_place(name, |place| {
            cases = run(self.images, place)?;
            let failed = cases.iter().any(|case| case.outcome.is_err());
            if failed { Err(Error::msg("a case failed")) } else { Ok(()) }
        });
        // The run's own failure is a test only when no case tells it.
        if cases.is_empty() {
            return self.report.note(name, outcome, start, &Place::shown_as(name));
        }
        let mut passed = 0;
        for case in cases {
            let full = format!("{name}::{}", case.name);
            if !self.filter.wants(&full) {
                continue;
            }
            match case.outcome {
                Ok(()) => passed += 1,
                failed => self.report.note(&full, failed, start, &Place::shown_as(name)),
            }
        }
        self.report.note_passed(name, passed, start);
    }
}

/// Runs in a fresh place, which stays only after a failure.
fn in_place(directory: &str, run: impl FnOnce(&Place) -> Result<()>) -> Result<()> {
    let place = Place::new(directory)?;
    guarded(|| run(&place))?;
    clean(place);
    Ok(())
}

fn clean(place: Place) {
    // A directory that stays costs room, not a test.
    let _ = place.remove();
}

/// A panic of a check is its failure, not the suite's.
fn guarded(run: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Error::msg(format!("panicked: {}", text.unwrap_or("without words"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_wants_names_that_contain_a_word_and_runs_that_report_themselves() {
        let filter = Filter::new(vec!["probe::memory".into()]);
        assert!(!filter.wants("boots::a53"));
        assert!(filter.wants_many("probe") && !filter.wants_many("console"));
        assert!(Filter::new(Vec::new()).wants("anything"));
    }

    #[test]
    fn panic_is_a_failure() {
        let error = guarded(|| panic!("alas")).unwrap_err();
        assert!(error.to_string().contains("alas"));
    }
}
