//! All short histories: every script of up to four operations on a tiny volume, cut at every moment, with every choice of what
//! the disk kept.
//!
//! A moment is what lies between two completions. At each the power goes, for every combination of contents that the blocks with
//! unflushed writes can hold (where sectors tear: of the whole contents and of some mixtures of old and new sectors), and with the
//! anchor's advance, if one is under way, done and not done. Each pool is then recovered and read throughout. Combinations beyond
//! [`LIMIT`] are drawn at random, and such moments are counted. Recoveries are cut too: after scripts of at most one operation each
//! at every boundary of its own, after longer ones each at one, after the longest one in four.
//!
//! The moments before a script's last operation are those of a shorter script, so they are not looked at again, except where
//! all operations are under way together.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crypto::Suite;
use volume::{Layout, Policy};

use crate::{
    campaign::{self, Failure},
    config::{CACHE_BLOCKS, Config, VolumePlan},
    content::SECTORS,
    disk::Order,
    media,
    model::View,
    power::Power,
    rng::{Rng, mix},
    step::Ask,
    tally::Tally,
    world::{Mounted, Verdict, World},
};

/// Operations of the longest script.
pub const LENGTH: usize = 4;
/// Combinations that are enumerated at one moment.
const LIMIT: usize = 1024;
/// Combinations that are drawn where there are more.
const DRAWN: usize = 256;
/// What a script is made of.
const ALPHABET: [Ask; 5] = [Ask::Write(0, 1), Ask::Write(1, 1), Ask::Write(0, 2), Ask::Zero(0, 1), Ask::Flush];
/// Volume of the tiny pool.
const BLOCKS: u64 = 4;

/// How the scripts are run.
#[derive(Clone, Copy, Debug)]
struct Manner {
    layout: Layout,
    torn: bool,
    policy: Policy,
    order: Order,
    /// All operations are under way at once.
    together: bool,
}

const BULK: Policy = Policy::Bulk { window_ms: 60_000 };

/// The manners in which every script is run.
const MANNERS: [Manner; 7] = [
    Manner { layout: Layout::Linear, torn: false, policy: Policy::Strict, order: Order::First, together: false },
    Manner { layout: Layout::Linear, torn: false, policy: BULK, order: Order::Last, together: false },
    Manner { layout: Layout::Linear, torn: false, policy: BULK, order: Order::First, together: true },
    Manner { layout: Layout::Linear, torn: false, policy: Policy::Strict, order: Order::Last, together: true },
    Manner { layout: Layout::Linear, torn: true, policy: BULK, order: Order::First, together: false },
    Manner { layout: Layout::Linear, torn: true, policy: Policy::Strict, order: Order::Last, together: true },
    Manner { layout: Layout::Mirrored, torn: false, policy: BULK, order: Order::First, together: false },
];

/// What was enumerated.
#[derive(Clone, Debug, Default)]
pub struct Enumerated {
    /// Scripts, in each of their manners.
    pub scripts: u64,
    /// Moments at which the power went.
    pub moments: u64,
    /// What a disk could have kept, over all moments.
    pub outcomes: u64,
    /// Of those, different ones: these were recovered.
    pub distinct: u64,
    /// Moments with more than the limit of outcomes, where some were drawn.
    pub sampled: u64,
    /// Cuts of recoveries.
    pub recovery_cuts: u64,
    /// What the worlds counted.
    pub tally: Tally,
}

impl Enumerated {
    fn add(&mut self, other: &Enumerated) {
        self.scripts += other.scripts;
        self.moments += other.moments;
        self.outcomes += other.outcomes;
        self.distinct += other.distinct;
        self.sampled += other.sampled;
        self.recovery_cuts += other.recovery_cuts;
        self.tally.add(&other.tally);
    }
}

impl fmt::Display for Enumerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scripts of up to {LENGTH} operations, {} moments, {} outcomes of a power cut ({} different, all recovered; {} moments drawn from), {} cuts of a recovery, {} blocks compared",
            self.scripts,
            self.moments,
            self.outcomes,
            self.distinct,
            self.sampled,
            self.recovery_cuts,
            self.tally.compared
        )
    }
}

/// Every script of up to `length` operations.
fn scripts(length: usize) -> Vec<Vec<Ask>> {
    let mut all: Vec<Vec<Ask>> = vec![Vec::new()];
    let mut longest = 0;
    for _ in 0..length {
        let more: Vec<Vec<Ask>> =
            all[longest..].iter().flat_map(|script| ALPHABET.map(|ask| [&script[..], &[ask]].concat())).collect();
        longest = all.len();
        all.extend(more);
    }
    all
}

/// Runs all scripts of up to `length` operations in every manner.
///
/// # Errors
/// The first history after which the engine did what it must not.
pub fn run(length: usize, threads: usize) -> Result<Enumerated, Box<Failure>> {
    let work: Vec<(Manner, Vec<Ask>)> =
        MANNERS.iter().flat_map(|manner| scripts(length).into_iter().map(|script| (*manner, script))).collect();
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new(Ok(Enumerated::default()));
    let one = || {
        while let Some((manner, script)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = campaign::caught(|| run_script(*manner, script));
            let Ok(mut outcome) = outcome.lock() else { return };
            match (&mut *outcome, result) {
                (Ok(sum), Ok(found)) => sum.add(&found),
                (Ok(_), Err(what)) => *outcome = Err(Box::new(failure(*manner, script, what, length))),
                (Err(_), _) => return,
            }
        }
    };
    thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(one))));
    outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn failure(manner: Manner, script: &[Ask], what: String, length: usize) -> Failure {
    let trace = vec![format!("{manner:?}"), format!("{script:?}")];
    Failure { what, command: format!("./x sim --exhaustive --length {}", length.min(script.len())), trace }
}

fn world(manner: Manner) -> Result<World, String> {
    let volume = VolumePlan { layout: manner.layout, blocks: BLOCKS, suite: Suite::Aes128Gcm };
    let mut world = World::new(Config {
        seed: 1,
        extents: vec![1; if manner.layout == Layout::Linear { 1 } else { 2 }],
        torn: manner.torn,
        policy: manner.policy,
        order: manner.order,
        volumes: vec![volume],
        cache_blocks: CACHE_BLOCKS,
        depth: LENGTH,
        faults: Vec::new(),
        faulty_member: None,
        adversary: false,
        losses: false,
        degraded: true,
        spoils: false,
        uncovered_limit: 4096,
        tree_budget: 32,
    })?;
    let number = world.volumes.keys().copied().next().ok_or("there is no volume")?;
    world.submit(number, Ask::Write(0, BLOCKS as u32));
    world.drain()?;
    world.submit(number, Ask::Flush);
    world.drain()?;
    Ok(world)
}

/// One script in one manner.
fn run_script(manner: Manner, script: &[Ask]) -> Result<Enumerated, String> {
    let mut world = world(manner)?;
    let volume = world.volumes.keys().copied().next().ok_or("there is no volume")?;
    let mut search = Search {
        found: Enumerated { scripts: 1, ..Enumerated::default() },
        seen: HashSet::new(),
        length: script.len(),
    };
    let groups: Vec<&[Ask]> = if manner.together { vec![script] } else { script.chunks(1).collect() };
    if script.is_empty() {
        search.moment(&mut world)?;
    }
    for (index, group) in groups.iter().enumerate() {
        group.iter().for_each(|ask| world.submit(volume, *ask));
        // The moments before the last group are those of a shorter script.
        let is_last = index + 1 == groups.len();
        for calls in 0.. {
            world.call(1)?;
            if is_last {
                search.moment(&mut world)?;
            }
            if world.is_quiet() {
                break;
            }
            if calls > 1000 {
                return Err("a request has no answer after 1000 calls".into());
            }
        }
    }
    let tally = world.finish()?;
    search.found.tally.add(&tally);
    Ok(search.found)
}

struct Search {
    found: Enumerated,
    /// Outcomes that were recovered already.
    seen: HashSet<u64>,
    /// Operations of the script.
    length: usize,
}

impl Search {
    /// The power goes now, in every way.
    fn moment(&mut self, world: &mut World) -> Verdict {
        self.found.moments += 1;
        let choices = Choices::of(world);
        let advances = if world.store.is_busy() { &[false, true][..] } else { &[false][..] };
        let all = choices.combinations();
        self.found.sampled += u64::from(all.is_none());
        let combinations = all.unwrap_or_else(|| choices.draw(self.found.moments));
        for combination in &combinations {
            for happened in advances {
                self.found.outcomes += 1;
                self.outcome(world, &choices, combination, *happened).map_err(|what| {
                    format!(
                        "{what}\nkept: {choices:?} {combination:?}, advance happened: {happened}, moment {}",
                        self.found.moments
                    )
                })?;
            }
        }
        Ok(())
    }

    fn outcome(&mut self, world: &mut World, choices: &Choices, combination: &[usize], happened: bool) -> Verdict {
        let mut copy = world.copy();
        copy.lose_power_keeping(&mut choices.chooser(combination), happened);
        let verdict = if self.seen.insert(digest(&copy)) { self.recover(&mut copy) } else { Ok(()) };
        world.come_back(copy);
        verdict
    }

    fn recover(&mut self, world: &mut World) -> Verdict {
        self.found.distinct += 1;
        if self.length < LENGTH || self.found.distinct.is_multiple_of(4) {
            self.cut_recovery(world)?;
        }
        must_serve(world)?;
        if self.found.distinct.is_multiple_of(8) {
            return go_on(world);
        }
        Ok(())
    }

    /// Cuts the recovery: of a short script at each of its boundaries, of a longer one at one of them.
    fn cut_recovery(&mut self, world: &mut World) -> Verdict {
        let one = mix(self.found.distinct) % 48;
        let deep = self.length <= 1;
        let ahead = if deep { 0..200 } else { one..one + 1 };
        for ahead in ahead {
            let mut copy = world.copy();
            copy.power.cut_in(ahead);
            let mounted = copy.mount();
            if mounted == Ok(Mounted::Cut) {
                self.found.recovery_cuts += 1;
                let mut rng = Rng::new(ahead ^ self.found.distinct << 8);
                copy.lose_power_keeping(&mut |_, _, candidates| rng.index(candidates), ahead % 2 == 0);
                let verdict = must_serve(&mut copy);
                world.come_back(copy);
                verdict.map_err(|what| format!("{what}\nthe recovery was cut after {ahead} boundaries"))?;
            } else {
                world.come_back(copy);
                return mounted.map(drop);
            }
        }
        if deep { Err("a recovery passes more than 200 boundaries".into()) } else { Ok(()) }
    }
}

fn must_serve(world: &mut World) -> Verdict {
    match world.mount()? {
        Mounted::Served { bad: 0 } => Ok(()),
        other => Err(format!("a sound pool is not served: {other:?}")),
    }
}

/// The recovered pool works: what is written now survives the next cut.
fn go_on(world: &mut World) -> Verdict {
    let volume = world.volumes.keys().copied().next().ok_or("there is no volume")?;
    world.submit(volume, Ask::Write(1, 2));
    world.drain()?;
    world.submit(volume, Ask::Flush);
    world.drain()?;
    world.lose_power_keeping(&mut |_, _, _| 0, false);
    must_serve(world)
}

/// Everything that decides what a recovery finds and how it is judged.
fn digest(world: &World) -> u64 {
    let images = world.disks.iter().map(|disk| media::digest(disk.media().durable()));
    let sum = images.fold(world.store.snapshot().counter, |sum, digest| mix(sum ^ digest));
    let blocks = world.volumes.values().flat_map(|known| (0..known.model.len()).map(|block| known.model.block(block)));
    blocks.fold(sum, |sum, block| block.allowed(View::Durable).iter().fold(mix(sum), |sum, number| mix(sum ^ number)))
}

/// What each block with unflushed writes can hold: whole contents, and mixtures where sectors tear.
#[derive(Debug)]
struct Choices {
    torn: bool,
    /// The blocks in the order in which a cut asks, each with its number of whole contents.
    blocks: Vec<usize>,
}

/// Mixtures of the oldest and the newest content of a block: bit `n` set takes sector `n` from the newest.
const MIXTURES: [u8; 6] = [0x01, 0xfe, 0x0f, 0xf0, 0x55, 0x80];
const _: () = assert!(SECTORS == 8);

impl Choices {
    fn of(world: &mut World) -> Choices {
        // A cut of a copy tells which blocks it asks for.
        let mut blocks: Vec<((usize, u64), usize)> = Vec::new();
        for disk in &world.disks {
            disk.copy(&Power::default()).cut(&mut |block, _, candidates| {
                if blocks.last() != Some(&(block, candidates)) {
                    blocks.push((block, candidates));
                }
                0
            });
        }
        let torn = world.disks.iter().any(crate::disk::Disk::is_torn);
        Choices { torn, blocks: blocks.into_iter().map(|(_, candidates)| candidates).collect() }
    }

    /// How many ways block `index` has.
    fn ways(&self, index: usize) -> usize {
        self.blocks[index] + if self.torn { MIXTURES.len() } else { 0 }
    }

    /// Every combination, one way for each block; `None` if there are too many.
    fn combinations(&self) -> Option<Vec<Vec<usize>>> {
        let mut all: Vec<Vec<usize>> = vec![Vec::new()];
        for index in 0..self.blocks.len() {
            if all.len() * self.ways(index) > LIMIT {
                return None;
            }
            all = all
                .iter()
                .flat_map(|head| (0..self.ways(index)).map(move |way| [&head[..], &[way]].concat()))
                .collect();
        }
        Some(all)
    }

    fn draw(&self, seed: u64) -> Vec<Vec<usize>> {
        let mut rng = Rng::new(seed);
        (0..DRAWN).map(|_| (0..self.blocks.len()).map(|index| rng.index(self.ways(index))).collect()).collect()
    }

    fn chooser<'a>(&'a self, combination: &'a [usize]) -> impl FnMut((usize, u64), Option<usize>, usize) -> usize + 'a {
        let (mut index, mut last) = (0, None);
        move |block, sector, candidates| {
            if last.is_some_and(|last| last != block) {
                index += 1;
            }
            last = Some(block);
            let way = combination[index];
            match sector {
                Some(sector) if way >= candidates => {
                    let newest = MIXTURES[way - candidates] & 1 << sector != 0;
                    if newest { candidates - 1 } else { 0 }
                }
                _ => way,
            }
        }
    }
}
