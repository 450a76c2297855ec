//! A world: guest, administrator, engine, disks, anchor and clock; it performs steps and judges every answer.
//!
//! The judgement knows two kinds of trouble. An *honest* fault (an error that a disk or the anchor reports) excuses errors of the
//! requests it can have hit, and nothing else; after the next mount on healthy disks all is as it should be. A *tainted* world is
//! one whose disks lied or were changed by somebody: any error and any refusal is fine there, wrong data never is.

mod administrator;
mod adversary;
mod check;
mod guest;
mod losses;
mod power;

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::{Arc, Mutex},
};

use keystore::RootKey;
use volume::{
    Command, Error, FormatOptions, Layout, Name, Options, POOL, Policy, Pool, Random, RandomFailed,
    record::geometry::Geometry,
};

use crate::{
    config::Config,
    disk::{Disk, SimDisk},
    media::Media,
    model,
    payload::Payloads,
    power::{Power, Time},
    rng::Rng,
    step::{Ask, Step},
    store::{SimAnchor, Store},
    tally::Tally,
    tamper::Past,
};

/// What the engine did that it must not: one sentence.
pub type Verdict = Result<(), String>;

/// What is judged.
type Engine = Pool<SimDisk, SimAnchor>;

/// What happened, line by line.
pub type Notes = Rc<RefCell<Vec<String>>>;

/// Pasts that an adversary keeps.
const PASTS: usize = 8;
/// Calls of the engine after which requests that have no answer yet never will have one.
const PATIENCE: usize = 20_000;
/// Calls of the engine while nobody asks for anything.
const REST: usize = 300;
/// Turns that a mount may wait for a disk.
const MOUNT_PATIENCE: usize = 100_000;
/// Blocks of the logs: the fewest, so that they wrap often.
const LOG_BLOCKS: u64 = volume::record::geometry::MIN_LOG_BLOCKS;
/// Blocks of the largest read that checks.
const CHECK_BLOCKS: u64 = 32;
/// Blocks around a touched one that a check reads too.
const MARGIN: u64 = 2;

/// A volume as the world knows it.
#[derive(Clone, Debug)]
pub struct Known {
    /// What its blocks may hold.
    pub model: model::Volume,
    /// How it lies on the members.
    layout: Layout,
    /// The names that it may have; the last is the newest.
    names: Vec<String>,
    /// The sizes that it may have.
    sizes: Vec<u64>,
    /// Its deletion was asked for.
    going: bool,
    /// Its deletion was confirmed.
    gone: bool,
}

impl Known {
    /// Whether it was deleted.
    pub fn is_gone(&self) -> bool {
        self.gone
    }
}

/// A request without an answer.
#[derive(Clone, Debug)]
struct Asked {
    volume: u32,
    what: Ask,
    submitted: Time,
    /// Honest faults before it.
    faults: u64,
}

/// A command without an answer.
#[derive(Clone, Debug)]
struct Commanded {
    cookie: u32,
    command: Command,
}

/// How harshly what is found is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The disks keep their word.
    Sound,
    /// They lied, or somebody changed them.
    Tainted,
}

/// What a mount came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The pool is served, and so many blocks cannot be read.
    Served {
        /// Unreadable blocks.
        bad: u64,
    },
    /// It is not served.
    Refused(Error),
    /// The power went.
    Cut,
}

/// A world.
pub struct World {
    /// Its shape.
    pub config: Config,
    /// Its power and clock.
    pub power: Power,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its anchor.
    pub store: Store,
    /// The volumes that were ever made.
    pub volumes: BTreeMap<u32, Known>,
    /// What was tried.
    pub tally: Tally,
    /// What happens is noted here.
    pub trace: Option<Notes>,
    engine: Option<Engine>,
    payloads: Payloads,
    asked: BTreeMap<u32, Asked>,
    commanded: Option<Commanded>,
    /// Volumes whose creation was asked for and not confirmed.
    created: Vec<(String, u64)>,
    random: Arc<Mutex<Rng>>,
    root: RootKey,
    now_ms: u64,
    next_cookie: u32,
    next_number: u64,
    pasts: VecDeque<Past>,
    trust: Trust,
    /// Another disk is in the place of a member; what was there before can still be put back.
    bereft: bool,
    replaced: Option<losses::Replaced>,
    /// The engine has given a member up since the mount.
    retired: bool,
    /// The secure domain crashed, and no power was lost since: what its next life must find.
    crashed: Option<model::View>,
    /// The anchor has refused since the mount, or a disk has told of a fault.
    troubled: bool,
    /// The anchor has refused since the mount.
    refused: bool,
    /// Something of a volume with one copy was changed since the mount.
    changed_single: bool,
    faults_at_mount: u64,
    /// The fewest free extents of each member since no request was under way.
    least_free: Vec<u64>,
    /// The pool is the adversary's copy.
    is_copy: bool,
    /// The world believes its disks, whatever they do: for tests of its judgement.
    pub gullible: bool,
}

fn root() -> RootKey {
    RootKey::from_huk(crypto::host::module(), &[0x5e; 32]).expect("the module of the process serves")
}

/// Notes what happens, if anybody reads it; what repeats is noted once.
fn note(trace: Option<&Notes>, what: impl FnOnce() -> String) {
    let Some(notes) = trace else { return };
    let (mut notes, what) = (notes.borrow_mut(), what());
    if notes.last() != Some(&what) {
        notes.push(what);
    }
}

/// Blocks of a member with so many extents.
fn member_blocks(member: usize, extents: u64) -> u64 {
    // The smallest size with that many extents: found from below, since metadata takes a few dozen blocks.
    let enough = |blocks: &u64| {
        Geometry::for_member(member, *blocks, LOG_BLOCKS).is_some_and(|geometry| geometry.extents >= extents)
    };
    (extents * volume::record::EXTENT_BLOCKS..).step_by(8).find(enough).unwrap_or_default()
}

impl World {
    /// A new world with a new pool and its first volumes.
    pub fn new(config: Config) -> Result<World, String> {
        let mut rng = Rng::new(config.seed).fork(1);
        let power = Power::default();
        let disk = |(member, extents): (usize, &u64)| {
            let media = Media::new(member_blocks(member, *extents));
            Disk::new(
                member,
                media,
                config.torn,
                &power,
                Rng::new(config.seed ^ (member as u64 + 1) << 56),
                config.order,
            )
        };
        let disks = config.extents.iter().enumerate().map(disk).collect();
        let mut world = World {
            disks,
            store: Store::new(&power),
            power,
            volumes: BTreeMap::new(),
            tally: Tally { worlds: 1, ..Tally::default() },
            trace: None,
            engine: None,
            payloads: Payloads::default(),
            asked: BTreeMap::new(),
            commanded: None,
            created: Vec::new(),
            random: Arc::new(Mutex::new(rng.fork(3))),
            root: root(),
            now_ms: 0,
            next_cookie: 1,
            next_number: 1,
            pasts: VecDeque::new(),
            trust: Trust::Sound,
            bereft: false,
            replaced: None,
            retired: false,
            crashed: None,
            troubled: false,
            refused: false,
            changed_single: false,
            faults_at_mount: 0,
            least_free: config.extents.clone(),
            is_copy: false,
            gullible: false,
            config,
        };
        world.format()?;
        Ok(world)
    }

    fn options(&self) -> Options {
        let Config { policy, cache_blocks, degraded, uncovered_limit, tree_budget, .. } = self.config;
        Options { policy, cache_blocks, degraded, uncovered_limit, tree_budget, ..Options::default() }
    }

    fn is_strict(&self) -> bool {
        self.config.policy == Policy::Strict
    }

    fn random(&self) -> Random {
        let random = Arc::clone(&self.random);
        Box::new(move |out| {
            random.lock().map_err(|_| RandomFailed)?.fill(out);
            Ok(())
        })
    }

    fn idle(&self) -> impl FnMut() -> bool + use<> {
        let (power, mut calls) = (self.power.clone(), 0);
        move || {
            calls += 1;
            !power.is_off() && calls < MOUNT_PATIENCE
        }
    }

    fn attached(&self) -> Vec<SimDisk> {
        self.disks.iter().for_each(|disk| disk.give(usize::MAX));
        self.store.give(usize::MAX);
        let mut members: Vec<SimDisk> = self.disks.iter().filter(|disk| !disk.is_lost()).map(Disk::attach).collect();
        // A pool finds its members in whatever order they are given.
        let first = self.power.boundaries() as usize % members.len().max(1);
        members.rotate_left(first);
        members
    }

    fn format(&mut self) -> Verdict {
        let new = FormatOptions { log_blocks: Some(LOG_BLOCKS), torn_sectors: self.config.torn };
        let (members, anchor, options) = (self.attached(), self.store.attach(), self.options());
        let pool = volume::format(members, anchor, &self.root, self.random(), &new, &options, self.idle());
        self.engine = Some(pool.map_err(|error| format!("a new pool could not be made: {error}"))?);
        for plan in self.config.volumes.clone() {
            let name = format!("volume-{}", self.next_cookie);
            self.note(|| format!("create {name}: {plan:?}"));
            let name = Name::new(&name).ok_or("a name of a dozen letters is too long")?;
            self.command(Command::Create { name, layout: plan.layout, blocks: plan.blocks, suite: plan.suite });
            self.drain()?;
        }
        if self.volumes.len() != self.config.volumes.len() {
            return Err(format!(
                "{} volumes were asked for, {} are there",
                self.config.volumes.len(),
                self.volumes.len()
            ));
        }
        Ok(())
    }

    /// Notes what happens, if anybody reads it.
    pub fn note(&self, what: impl FnOnce() -> String) {
        note(self.trace.as_ref(), what);
    }

    /// Performs a step.
    pub fn step(&mut self, step: &Step) -> Verdict {
        self.note(|| step.to_string());
        self.tally.operations += u64::from(step.is_operation());
        match step {
            Step::Ask { volume, what } => self.ask(*volume, *what),
            Step::Command(command) => self.ask_command(*command),
            Step::Turn { times, credit } => return self.turn(*times, *credit),
            Step::Drain => return self.drain(),
            Step::Idle => return self.rest(),
            Step::Wait { ms } => return self.wait(*ms),
            Step::Spoil { seed } => self.spoil(*seed),
            Step::CutIn { ahead } => self.power.cut_in(*ahead),
            Step::Cut { seed, again } => return self.cut(*seed, again),
            Step::Restart => return self.restart(),
            Step::Faults { permille } => self.begin_faults(*permille),
            Step::Heal => self.end_faults(),
            Step::Lose { loss, seed } => return self.lose(*loss, *seed),
            Step::Part { seed } => return self.mount_part(*seed),
            Step::Crash { seed } => return self.crash(*seed),
            Step::Refuse(refuse) => {
                self.store.refuse(*refuse);
                self.troubled |= refuse;
                self.refused |= refuse;
            }
            Step::Try { tamper, seed } => return self.attempt(*tamper, *seed),
            Step::Tamper { tamper, seed } => self.tamper(*tamper, *seed),
        }
        Ok(())
    }

    /// The world is over: what does its tally say?
    pub fn finish(mut self) -> Result<Tally, String> {
        self.check_catching_up()?;
        if self.disks.iter().any(Disk::saw_plaintext) {
            return Err("confidentiality: plaintext was written to a disk".into());
        }
        if let Some(repeated) = self.payloads.audit.repeated() {
            return Err(format!("nonce audit: {repeated}"));
        }
        self.tally.seals += self.payloads.audit.seals();
        self.tally.advances += self.store.advances();
        for disk in &self.disks {
            let (honest, silent) = disk.faults().struck();
            self.tally.faults.0 += honest;
            self.tally.faults.1 += silent;
        }
        Ok(self.tally)
    }

    /// Calls the engine, and judges what it answers.
    fn turn(&mut self, times: usize, credit: usize) -> Verdict {
        for _ in 0..times {
            self.call(credit)?;
            if self.power.is_off() {
                return self.recover_from_planned_cut();
            }
        }
        Ok(())
    }

    /// One call of the engine.
    pub fn call(&mut self, credit: usize) -> Verdict {
        self.note_free_extents(self.asked.is_empty());
        let Some(engine) = &mut self.engine else { return Ok(()) };
        self.disks.iter().for_each(|disk| disk.give(credit));
        self.store.give(credit);
        let marked = engine.superblock().stale;
        // Whoever waits for a silent disk waits long.
        self.now_ms += if self.disks.iter().any(Disk::is_silent) { 50 } else { 1 };
        engine.advance(self.now_ms, &mut self.payloads);
        let cleared = marked & !engine.superblock().stale;
        self.take_answers()?;
        self.check_cleared(cleared)
    }

    /// Time passes. A disk that answers at all has answered by then.
    fn wait(&mut self, ms: u64) -> Verdict {
        let owes = |disk: &Disk| disk.in_flight() != 0 && !disk.is_silent();
        for _ in 0..100 {
            if self.engine.is_none() || !self.disks.iter().any(owes) {
                self.now_ms += ms;
                break;
            }
            self.turn(1, usize::MAX)?;
        }
        self.turn(1, 1)
    }

    /// Calls the engine until nothing is under way.
    pub fn drain(&mut self) -> Verdict {
        for _ in 0..PATIENCE {
            if self.is_quiet() {
                return Ok(());
            }
            self.call(4)?;
            if self.power.is_off() {
                return self.recover_from_planned_cut();
            }
        }
        let waiting: Vec<&Asked> = self.asked.values().collect();
        Err(format!("no answer after {PATIENCE} calls: {waiting:?} {:?}", self.commanded))
    }

    /// Calls the engine until the background has nothing to do, or often enough.
    pub fn rest(&mut self) -> Verdict {
        for _ in 0..REST {
            if self.is_idle() {
                return Ok(());
            }
            self.call(4)?;
            if self.power.is_off() {
                return self.recover_from_planned_cut();
            }
        }
        Ok(())
    }

    /// Whether every request and command has its answer.
    pub fn is_quiet(&self) -> bool {
        self.engine.is_none() || self.asked.is_empty() && self.commanded.is_none()
    }

    /// Whether the engine has nothing to do in the background either.
    pub fn is_idle(&self) -> bool {
        self.engine.as_ref().is_none_or(Pool::is_idle)
    }

    fn take_answers(&mut self) -> Verdict {
        let faults = self.honest_faults();
        self.troubled |= faults > self.faults_at_mount;
        while let Some(event) = self.engine.as_mut().and_then(Pool::next_event) {
            self.note(|| format!("  event: {event}"));
            self.count_event(&event);
        }
        while let Some(done) = self.engine.as_mut().and_then(Pool::next_done) {
            if done.volume == POOL { self.judge_command(done)? } else { self.judge(done)? }
        }
        self.take_advances();
        if let Some(misuse) = &self.payloads.misuse {
            return Err(format!("guest memory: {misuse}"));
        }
        if let Some(repeated) = self.payloads.audit.repeated() {
            return Err(format!("nonce audit: {repeated}"));
        }
        if self.disks.iter().any(Disk::saw_plaintext) {
            return Err("confidentiality: plaintext was written to a disk".into());
        }
        Ok(())
    }

    /// Tells the models which request is the oldest: it may still see what was there when it was submitted.
    fn note_oldest(&mut self) {
        let oldest = self.asked.values().map(|asked| asked.submitted).min().unwrap_or(Time::MAX);
        self.volumes.values_mut().for_each(|known| known.model.under_way_since(oldest));
    }

    fn take_advances(&mut self) {
        self.note_oldest();
        for began in self.store.take_completed() {
            self.volumes.values_mut().for_each(|known| known.model.anchored(began));
        }
    }
}
