//! Many worlds, one after the other on every processor; the first that fails is shortened and shown.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    config::{Config, Limits},
    fault::Fault,
    step::{self, Step},
    tally::Tally,
    world::{Notes, World},
};

/// Operations of one world.
pub const WORLD_OPERATIONS: u64 = 300;
/// Attempts to leave steps out of a failing world.
const SHRINK_ATTEMPTS: usize = 600;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seed of the first world; each further one has the next seed.
    pub seed: u64,
    /// Operations, over all worlds.
    pub operations: u64,
    /// The faults to try; none: the usual mixture, an adversary included.
    pub faults: Option<Vec<Fault>>,
    /// With those faults: a member is lost, comes back, is replaced.
    pub losses: bool,
    /// Threads.
    pub threads: usize,
}

/// A world that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the engine did that it must not.
    pub what: String,
    /// The command that repeats it.
    pub command: String,
    /// The shortest way there that was found.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "shortened to:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "repeat with: {}", self.command)
    }
}

/// Runs it; `progress` is told how many operations are done.
///
/// # Errors
/// The first world that fails.
pub fn run(campaign: &Campaign, progress: &(dyn Fn(u64) + Sync)) -> Result<Tally, Box<Failure>> {
    let worlds = campaign.operations.div_ceil(WORLD_OPERATIONS);
    let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let outcome = Mutex::new(Ok(Tally::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let world = next.fetch_add(1, Ordering::Relaxed);
            if world >= worlds {
                return;
            }
            let operations = WORLD_OPERATIONS.min(campaign.operations - world * WORLD_OPERATIONS);
            let result = run_seed(campaign, campaign.seed.wrapping_add(world), operations);
            progress(done.fetch_add(operations, Ordering::Relaxed) + operations);
            stop.fetch_or(result.is_err(), Ordering::Relaxed);
            merge(&outcome, result);
        }
    };
    thread::scope(|scope| (0..campaign.threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn merge(outcome: &Mutex<Result<Tally, Box<Failure>>>, result: Result<Tally, Box<Failure>>) {
    let mut outcome = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match (&mut *outcome, result) {
        (Ok(sum), Ok(tally)) => sum.add(&tally),
        (Ok(_), Err(failure)) => *outcome = Err(failure),
        (Err(_), _) => {}
    }
}

/// Runs the world of one seed.
fn run_seed(campaign: &Campaign, seed: u64, operations: u64) -> Result<Tally, Box<Failure>> {
    let limits = Limits { faults: campaign.faults.clone(), losses: campaign.losses };
    let config = Config::draw(seed, &limits);
    let steps = step::draw(&config, operations);
    let (outcome, _) = run_world(&config, &steps, false);
    outcome.map_err(|_| {
        let (steps, what, trace) = shrink(&config, steps);
        let faults = campaign.faults.as_ref().map(|faults| {
            let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
            let losses = if campaign.losses { " --losses" } else { "" };
            format!(" --fault {}{losses}", if names.is_empty() { "none".to_owned() } else { names.join(",") })
        });
        let command = format!("./x sim --seed {seed} --ops {operations}{}", faults.unwrap_or_default());
        let mut lines = vec![format!("{config:?}"), format!("{} steps", steps.len())];
        lines.extend(trace);
        Box::new(Failure { what, command, trace: lines })
    })
}

/// Runs a world; the second is what was noted.
pub fn run_world(config: &Config, steps: &[Step], trace: bool) -> (Result<Tally, String>, Vec<String>) {
    let notes = Notes::default();
    let life = || {
        let mut world = World::new(config.clone())?;
        world.trace = trace.then(|| notes.clone());
        steps.iter().try_for_each(|step| world.step(step))?;
        world.finish()
    };
    let outcome = caught(life);
    (outcome, notes.take())
}

std::thread_local! {
    /// What the last panic of this thread said, and where.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets panics be kept for the report instead of printed: shortening a world may repeat one a hundred times.
pub fn keep_panics() {
    panic::set_hook(Box::new(|info| LAST_PANIC.set(info.to_string().replace('\n', ": "))));
}

/// What `life` came to; a panic is one more thing that the engine must not do.
pub(crate) fn caught<T>(life: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(life)).unwrap_or_else(|_| Err(LAST_PANIC.take()))
}

/// Leaves out steps while the world still fails.
fn shrink(config: &Config, mut steps: Vec<Step>) -> (Vec<Step>, String, Vec<String>) {
    let (mut chunk, mut attempts) = (steps.len().div_ceil(2), 0);
    while chunk > 0 && attempts < SHRINK_ATTEMPTS {
        let mut start = 0;
        while start < steps.len() && attempts < SHRINK_ATTEMPTS {
            attempts += 1;
            let mut shorter = steps.clone();
            shorter.drain(start..(start + chunk).min(steps.len()));
            if run_world(config, &shorter, false).0.is_err() {
                steps = shorter;
            } else {
                start += chunk;
            }
        }
        chunk /= 2;
    }
    let (outcome, trace) = run_world(config, &steps, true);
    let what = outcome.err().unwrap_or_else(|| "it failed once and does not fail again".to_owned());
    (steps, what, trace)
}
