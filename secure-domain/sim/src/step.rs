//! What happens in a world, drawn beforehand: each step carries its own choices, so that a failing world can be shortened by
//! leaving steps out.

use std::fmt;

use crypto::Suite;

use crate::{
    config::{self, Config, MOST_BLOCKS},
    rng::Rng,
    tamper::Tamper,
};

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The guest asks volume number `volume` (of those that are there, counted round) for something.
    Ask {
        /// Which volume.
        volume: usize,
        /// What.
        what: Ask,
    },
    /// The administrator asks the pool for something.
    Command(Command),
    /// The engine is called `times` times, and before each call every disk and the anchor may complete `credit` requests.
    Turn {
        /// Calls.
        times: usize,
        /// Completions.
        credit: usize,
    },
    /// The engine is called until nothing is under way.
    Drain,
    /// Nobody asks for anything: the engine is called until the background has nothing to do, or often enough.
    Idle,
    /// Time passes.
    Wait {
        /// How much.
        ms: u64,
    },
    /// The power goes `ahead` boundaries from now.
    CutIn {
        /// Boundaries.
        ahead: u64,
    },
    /// The power goes now; `seed` decides what is left, `again` how often and after how many boundaries the recovery is cut.
    Cut {
        /// What is left.
        seed: u64,
        /// Cuts of the recovery.
        again: Vec<u64>,
    },
    /// Everything is synchronised; then the pool is mounted anew.
    Restart,
    /// Faults begin, each striking `permille` times of a thousand.
    Faults {
        /// How often.
        permille: u64,
    },
    /// Faults end.
    Heal,
    /// Something happens to the member that may be lost.
    Lose {
        /// What.
        loss: Loss,
        /// What a power cut leaves, and which past comes back.
        seed: u64,
    },
    /// A block of the member that may be lost can be neither read nor written any more.
    Spoil {
        /// Which.
        seed: u64,
    },
    /// Some of the members are mounted without the others, on a copy of what a power cut leaves now.
    Part {
        /// What the power cut leaves, and which members.
        seed: u64,
    },
    /// The secure domain crashes and is started again, with the power on; `seed` decides what of what was under way has happened.
    Crash {
        /// What has happened.
        seed: u64,
    },
    /// The anchor refuses to advance, or not any more.
    Refuse(bool),
    /// Somebody who has the powered-off disks tries this on a copy of them.
    Try {
        /// What.
        tamper: Tamper,
        /// Where.
        seed: u64,
    },
    /// Somebody changes the disks while they are served.
    Tamper {
        /// What.
        tamper: Tamper,
        /// Where.
        seed: u64,
    },
}

/// What happens to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It answers everything with an error, and is missing at the next mount.
    Fails,
    /// It takes nothing any more, and is missing at the next mount.
    Dies,
    /// It takes requests and answers none, and is missing at the next mount.
    Silent,
    /// The power fails, and it is missing when it is back.
    Vanishes,
    /// It is back after a power cut.
    Returns,
    /// After a power cut it is as it once was.
    Older,
    /// After a power cut a new disk is in its place.
    Blank,
}

/// What the guest asks for. Blocks are reduced to the size of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read blocks.
    Read(u64, u32),
    /// Write blocks.
    Write(u64, u32),
    /// Make blocks zeros.
    Zero(u64, u32),
    /// Flush.
    Flush,
    /// Synchronise.
    Sync,
}

/// What the administrator asks for; volumes are counted round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a volume of so many blocks.
    Create(u64, Suite),
    /// Drop a volume.
    Delete(usize),
    /// Lengthen a volume by so many blocks.
    Grow(usize, u64),
    /// Give a volume another name.
    Rename(usize),
    /// Give a volume a new key and suite.
    Rekey(usize, Suite),
    /// Verify everything.
    Scrub,
}

impl Command {
    /// Which volume it is about.
    pub fn volume(&self) -> usize {
        match self {
            Command::Delete(volume)
            | Command::Grow(volume, _)
            | Command::Rename(volume)
            | Command::Rekey(volume, _) => *volume,
            Command::Create(..) | Command::Scrub => 0,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ask { volume, what } => write!(f, "volume {volume}: {what:?}"),
            Step::Command(command) => write!(f, "command {command:?}"),
            Step::Turn { times, credit } => write!(f, "turn {times} times, {credit} completions each"),
            Step::Drain => write!(f, "drain"),
            Step::Idle => write!(f, "idle"),
            Step::Wait { ms } => write!(f, "wait {ms} ms"),
            Step::CutIn { ahead } => write!(f, "cut the power {ahead} boundaries ahead"),
            Step::Cut { seed, again } => {
                write!(f, "cut the power (seed {seed:#x}, recovery cut after {again:?} boundaries)")
            }
            Step::Restart => write!(f, "restart"),
            Step::Faults { permille } => write!(f, "faults, {permille} of 1000"),
            Step::Heal => write!(f, "heal"),
            Step::Lose { loss, seed } => write!(f, "the member {loss:?} (seed {seed:#x})"),
            Step::Spoil { seed } => write!(f, "a block of the member is spoiled (seed {seed:#x})"),
            Step::Part { seed } => write!(f, "a part of the members is mounted (seed {seed:#x})"),
            Step::Crash { seed } => write!(f, "the secure domain crashes (seed {seed:#x})"),
            Step::Refuse(refuse) => write!(f, "anchor {}", if *refuse { "refuses" } else { "is willing" }),
            Step::Try { tamper, seed } => write!(f, "try {tamper:?} on a copy (seed {seed:#x})"),
            Step::Tamper { tamper, seed } => write!(f, "{tamper:?} on the live disks (seed {seed:#x})"),
        }
    }
}

impl Step {
    /// Whether it counts as an operation.
    pub fn is_operation(&self) -> bool {
        matches!(self, Step::Ask { .. } | Step::Command(_))
    }
}

/// The steps of a world with `operations` operations.
pub fn draw(config: &Config, operations: u64) -> Vec<Step> {
    let mut rng = Rng::new(config.seed).fork(2);
    let (mut steps, mut asked) = (Vec::new(), 0);
    while asked < operations {
        let burst = 1 + rng.below(config.depth as u64 * 2);
        for _ in 0..burst {
            steps.push(operation(&mut rng));
            asked += 1;
        }
        steps.push(turn(&mut rng));
        if rng.chance(250) {
            steps.extend(incident(&mut rng, config));
        }
    }
    steps.extend([Step::Heal, Step::Refuse(false), Step::Drain]);
    steps
}

fn turn(rng: &mut Rng) -> Step {
    match rng.below(10) {
        0..=4 => Step::Drain,
        5..=8 => Step::Turn { times: 1 + rng.index(12), credit: 1 + rng.index(4) },
        _ if rng.chance(500) => Step::Idle,
        _ => Step::Wait { ms: *rng.pick(&[1, 1000, 61_000]) },
    }
}

fn operation(rng: &mut Rng) -> Step {
    if rng.chance(20) {
        return Step::Command(command(rng));
    }
    if rng.chance(5) {
        return Step::Ask { volume: rng.index(4), what: whole_extents(rng) };
    }
    // Mostly the beginning, so that blocks are written again and again; else where leaves and extents meet, or anywhere, so that
    // the cache of leaves is too small at times.
    let block = match rng.below(8) {
        0..=3 => rng.below(24),
        4 => rng.below(MOST_BLOCKS),
        _ => rng.pick(&[112, 1008, 2032]) + rng.below(24),
    };
    let blocks = *rng.pick(&[1, 1, 1, 2, 3, 8, 33]);
    let what = match rng.below(100) {
        0..=44 => Ask::Write(block, blocks),
        45..=66 => Ask::Read(block, blocks),
        67..=84 => Ask::Flush,
        85..=97 => Ask::Zero(block, blocks),
        _ => Ask::Sync,
    };
    Step::Ask { volume: rng.index(4), what }
}

/// Blocks that are given back with their extents, if the volume has so many.
fn whole_extents(rng: &mut Rng) -> Ask {
    let (block, blocks) = *rng.pick(&[(0, 1024), (1024, 1024), (0, 2048)]);
    Ask::Zero(block, blocks)
}

fn command(rng: &mut Rng) -> Command {
    let volume = rng.index(4);
    match rng.below(6) {
        0 => Command::Create(1 + rng.below(40), config::suite(rng)),
        1 => Command::Delete(volume),
        2 => Command::Grow(volume, rng.below(20)),
        3 => Command::Rename(volume),
        4 => Command::Rekey(volume, config::suite(rng)),
        _ => Command::Scrub,
    }
}

/// Something that is not the guest's doing.
fn incident(rng: &mut Rng, config: &Config) -> Vec<Step> {
    let again = (0..rng.below(3)).map(|_| rng.below(60)).collect();
    let cut = Step::Cut { seed: rng.next(), again };
    if config.adversary && rng.chance(500) {
        return adversary(rng, cut);
    }
    if config.losses && rng.chance(150) {
        return vec![Step::Part { seed: rng.next() }];
    }
    if config.spoils && rng.chance(250) {
        return vec![Step::Spoil { seed: rng.next() }];
    }
    if config.losses && rng.chance(400) {
        return lose(rng);
    }
    if !config.faults.is_empty() && rng.chance(400) {
        let permille = *rng.pick(&[2, 5, 30, 300]);
        return if rng.chance(600) { vec![Step::Faults { permille }] } else { vec![Step::Heal, cut] };
    }
    match rng.below(12) {
        0..=4 => vec![Step::CutIn { ahead: rng.below(30) }],
        5..=6 => vec![cut],
        7 => vec![Step::Restart],
        8 if rng.chance(200) => vec![Step::Refuse(true)],
        8 => vec![Step::Refuse(false), cut],
        9..=10 => vec![Step::Crash { seed: rng.next() }],
        _ => Vec::new(),
    }
}

/// Something happens to a member, mostly at a moment when that matters.
fn lose(rng: &mut Rng) -> Vec<Step> {
    let (loss, seed) = (loss(rng), rng.next());
    let mut steps = vec![Step::Lose { loss, seed }];
    match loss {
        // Data is on its way to both copies, and may reach either.
        Loss::Vanishes => {
            let write = |rng: &mut Rng| Step::Ask { volume: rng.index(4), what: Ask::Write(rng.below(24), 2) };
            let begun = [write(rng), write(rng), write(rng), Step::Turn { times: 2 + rng.index(8), credit: 2 }];
            steps.splice(0..0, begun);
        }
        // It has the time to catch up, and is asked what it knows.
        Loss::Returns if rng.chance(500) => {
            steps.extend([Step::Idle, Step::Idle, Step::Idle, Step::Part { seed: rng.next() }]);
        }
        _ => {}
    }
    steps
}

/// Mostly it comes and goes; that another disk is in its place is rare, since it ends the checks of what it alone holds.
fn loss(rng: &mut Rng) -> Loss {
    match rng.below(20) {
        0..=2 => Loss::Fails,
        3..=4 => Loss::Dies,
        5 => Loss::Silent,
        6..=8 => Loss::Vanishes,
        9..=17 => Loss::Returns,
        18 => Loss::Older,
        _ => Loss::Blank,
    }
}

/// Somebody tries something on a copy of what a power cut leaves now, or of a pool that has just recovered; rarely on the live disks.
fn adversary(rng: &mut Rng, cut: Step) -> Vec<Step> {
    if rng.chance(20) {
        return vec![Step::Tamper { tamper: Tamper::draw(rng), seed: rng.next() }];
    }
    // Whoever has the disk in his hands tries more than one thing.
    let tries: Vec<Step> = (0..4).map(|_| Step::Try { tamper: Tamper::draw(rng), seed: rng.next() }).collect();
    let before = rng.chance(300).then_some(cut);
    before.into_iter().chain(tries).collect()
}
