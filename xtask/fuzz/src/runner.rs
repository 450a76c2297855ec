//! Runs a target over its corpus and many inputs; saves the one that fails and says how to repeat it.
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use fuzz::targets::Target;

use crate::mutate;

/// One input must not take longer; a parser with an unbounded loop would never come back.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to run.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) runs: u64,
    pub(crate) time: Option<Duration>,
}

/// Tells whether all inputs passed.
pub(crate) fn run(target: &Target, plan: &Plan) -> bool {
    let (name, _) = target;
    let corpus = corpus(name);
    let watch = Watch::start(name);
    let start = Instant::now();
    for known in &corpus {
        if !one(target, known, &watch, "an input of the corpus") {
            return false;
        }
    }
    let mut done = 0;
    for case in plan.first..plan.first.saturating_add(plan.runs) {
        if plan.time.is_some_and(|time| start.elapsed() >= time) {
            break;
        }
        let what = format!("input {case} of seed {}", plan.seed);
        if !one(target, &mutate::input(plan.seed, case, &corpus), &watch, &what) {
            return false;
        }
        done += 1;
    }
    println!(
        "fuzz {name}: {} inputs, {:.1} s, seed {}",
        corpus.len() as u64 + done,
        start.elapsed().as_secs_f64(),
        plan.seed
    );
    true
}

/// Runs a saved input.
pub(crate) fn run_file(target: &Target, file: &Path) -> bool {
    match fs::read(file) {
        Ok(input) => one(target, &input, &Watch::start(target.0), "the given input"),
        Err(error) => {
            eprintln!("x: {} cannot be read: {error}", file.display());
            false
        }
    }
}

fn one(target: &Target, input: &[u8], watch: &Watch, what: &str) -> bool {
    let (name, function) = target;
    watch.begin(input);
    let passed = panic::catch_unwind(AssertUnwindSafe(|| function(input))).is_ok();
    watch.end();
    if !passed {
        report(name, input, &format!("{what} panics"));
    }
    passed
}

/// Saves the input under a name that depends on nothing but itself.
fn report(name: &str, input: &[u8], what: &str) {
    let hash = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let file = workspace().join(format!("target/haechi/fuzz/{name}-{hash:016x}"));
    let saved = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, input));
    eprintln!("fuzz {name}: {what} ({} bytes)", input.len());
    match saved {
        Ok(()) => eprintln!("repeat with: ./x fuzz {name} --input {}", file.display()),
        Err(error) => eprintln!("{} cannot be written: {error}", file.display()),
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = workspace().join("xtask/fuzz/corpus").join(name);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

fn workspace() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("xtask/fuzz lies two directories below the workspace")
}

/// The input that is running, and since when.
type Running = Option<(Instant, Vec<u8>)>;

/// Ends the program when one input takes too long, since a loop cannot be stopped from outside.
struct Watch(Arc<Mutex<Running>>);

impl Watch {
    fn start(name: &str) -> Self {
        let running = Arc::new(Mutex::new(Running::None));
        let (seen, name) = (Arc::downgrade(&running), name.to_owned());
        thread::spawn(move || {
            while let Some(running) = seen.upgrade() {
                let running = running.lock().expect("no holder of the lock panics");
                if let Some((begun, input)) = running.as_ref()
                    && begun.elapsed() > PATIENCE
                {
                    report(&name, input, &format!("an input runs longer than {} s", PATIENCE.as_secs()));
                    let _ = std::io::stderr().flush();
                    process::exit(1);
                }
                drop(running);
                thread::sleep(Duration::from_millis(500));
            }
        });
        Self(running)
    }

    fn begin(&self, input: &[u8]) {
        *self.0.lock().expect("no holder of the lock panics") = Some((Instant::now(), input.to_vec()));
    }

    fn end(&self) {
        *self.0.lock().expect("no holder of the lock panics") = None;
    }
}
