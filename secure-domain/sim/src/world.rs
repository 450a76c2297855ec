//! A world: guest, administrator, engine, disks, anchor and clock; it performs steps and judges every answer.
//!
//! The judgement knows two kinds of trouble. An *honest* fault (an error that a disk or the anchor reports) excuses errors of the
//! requests it can have hit, and nothing else; after the next mount on healthy disks all is as it should be. A *tainted* world is
//! one whose disks lied or were changed by somebody: any error and any refusal is fine there, wrong data never is.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use anchor::Snapshot;
use keystore::RootKey;
use volume::{
    Command, Done, Error, FormatOptions, Name, Operation, Options, POOL, Policy, Pool, Random, Recovery, Refusal,
    Status, record::geometry::Geometry,
};

use crate::{
    config::Config,
    disk::{Disk, SimDisk},
    fault::Fault,
    media::{Image, Media},
    model::{self, View},
    payload::{Delivered, Payloads},
    power::{Power, Time},
    rng::Rng,
    step::{Ask, Step},
    store::{SimAnchor, Store},
    tally::Tally,
    tamper::{Hands, Part, Past, Tamper},
};

/// What the engine did that it must not: one sentence.
pub type Verdict = Result<(), String>;

/// Pasts that an adversary keeps.
const PASTS: usize = 8;
/// Calls of the engine after which requests that have no answer yet never will have one.
const PATIENCE: usize = 20_000;
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
    /// The names that it may have; the last is the newest.
    names: Vec<String>,
    /// The sizes that it may have.
    sizes: Vec<u64>,
    /// Its deletion was asked for.
    going: bool,
    /// Its deletion was confirmed.
    gone: bool,
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
    pub trace: Option<Vec<String>>,
    engine: Option<Pool<SimDisk, SimAnchor>>,
    payloads: Payloads,
    asked: BTreeMap<u32, Asked>,
    commanded: Option<Commanded>,
    /// Volumes whose creation was asked for and not confirmed.
    created: Vec<(String, u64)>,
    random: Rc<RefCell<Rng>>,
    root: RootKey,
    now_ms: u64,
    next_cookie: u32,
    next_number: u64,
    pasts: VecDeque<Past>,
    trust: Trust,
    /// The anchor has refused since the mount, or a disk has told of a fault.
    troubled: bool,
    faults_at_mount: u64,
    /// The pool is the adversary's copy.
    is_copy: bool,
}

fn root() -> RootKey {
    RootKey::from_huk(&[0x5e; 32])
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
            Disk::new(media, config.torn, &power, Rng::new(config.seed ^ (member as u64 + 1) << 56), config.order)
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
            random: Rc::new(RefCell::new(rng.fork(3))),
            root: root(),
            now_ms: 0,
            next_cookie: 1,
            next_number: 1,
            pasts: VecDeque::new(),
            trust: Trust::Sound,
            troubled: false,
            faults_at_mount: 0,
            is_copy: false,
            config,
        };
        world.format()?;
        Ok(world)
    }

    fn options(&self) -> Options {
        Options { policy: self.config.policy, cache_blocks: 512, ..Options::default() }
    }

    fn is_strict(&self) -> bool {
        self.config.policy == Policy::Strict
    }

    fn random(&self) -> Random {
        let random = Rc::clone(&self.random);
        Box::new(move |out| {
            random.borrow_mut().fill(out);
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
        self.disks.iter().map(Disk::attach).collect()
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
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
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
            Step::Wait { ms } => {
                self.now_ms += ms;
                return self.turn(1, 1);
            }
            Step::CutIn { ahead } => self.power.cut_in(*ahead),
            Step::Cut { seed, again } => return self.cut(*seed, again),
            Step::Restart => return self.restart(),
            Step::Faults { permille } => self.begin_faults(*permille),
            Step::Heal => self.end_faults(),
            Step::Refuse(refuse) => {
                self.store.refuse(*refuse);
                self.troubled |= refuse;
            }
            Step::Try { tamper, seed } => return self.attempt(*tamper, *seed),
            Step::Tamper { tamper, seed } => self.tamper(*tamper, *seed),
        }
        Ok(())
    }

    /// The world is over: what does its tally say?
    pub fn finish(mut self) -> Result<Tally, String> {
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

    // --- The guest ---

    /// The number of the `index`th volume that is there, counted round.
    fn nth(&self, index: usize) -> Option<u32> {
        let there: Vec<u32> =
            self.volumes.iter().filter(|(_, known)| !known.gone && !known.going).map(|(number, _)| *number).collect();
        (!there.is_empty()).then(|| there[index % there.len()])
    }

    fn ask(&mut self, index: usize, what: Ask) {
        let Some(volume) = self.nth(index) else { return };
        let len = self.volumes[&volume].sizes.iter().copied().min().unwrap_or_default();
        let reduce = |block: u64, blocks: u32| {
            let block = block % len;
            (block, u64::from(blocks).min(len - block) as u32)
        };
        let what = match what {
            Ask::Read(block, blocks) => {
                let (block, blocks) = reduce(block, blocks);
                Ask::Read(block, blocks)
            }
            Ask::Write(block, blocks) => {
                let (block, blocks) = reduce(block, blocks);
                Ask::Write(block, blocks)
            }
            Ask::Zero(block, blocks) => {
                let (block, blocks) = reduce(block, blocks);
                Ask::Zero(block, blocks)
            }
            other => other,
        };
        self.submit(volume, what);
    }

    /// Submits a request whose blocks lie in the volume; without a served pool, or when it is full, nothing happens.
    pub fn submit(&mut self, volume: u32, what: Ask) {
        let Some(engine) = &mut self.engine else { return };
        let cookie = self.next_cookie;
        let operation = match what {
            Ask::Read(block, blocks) => Operation::Read { block, blocks },
            Ask::Write(block, blocks) => Operation::Write { block, blocks },
            Ask::Zero(block, blocks) => Operation::Zero { block, blocks },
            Ask::Flush => Operation::Flush,
            Ask::Sync => Operation::Sync,
        };
        if !engine.has_room() || engine.submit(volume, cookie, operation).is_err() {
            return;
        }
        self.next_cookie += 1;
        let submitted = self.power.now();
        self.prepare(volume, cookie, what, submitted);
        let faults = self.honest_faults();
        self.asked.insert(cookie, Asked { volume, what, submitted, faults });
    }

    /// Lends the memory of a request and tells the model.
    fn prepare(&mut self, volume: u32, cookie: u32, what: Ask, submitted: Time) {
        let Some(known) = self.volumes.get_mut(&volume) else { return };
        match what {
            Ask::Read(_, blocks) => self.payloads.lend_read(cookie, blocks as usize),
            Ask::Write(block, blocks) => {
                let numbers: Vec<u64> = (self.next_number..self.next_number + u64::from(blocks)).collect();
                self.next_number += u64::from(blocks);
                self.payloads.lend_write(cookie, &numbers);
                known.model.begin(block, &numbers, submitted);
            }
            Ask::Zero(block, blocks) => known.model.begin(block, &vec![0; blocks as usize], submitted),
            Ask::Flush | Ask::Sync => {}
        }
    }

    fn honest_faults(&self) -> u64 {
        self.disks.iter().map(|disk| disk.faults().struck().0).sum()
    }

    fn silent_faults(&self) -> u64 {
        self.disks.iter().map(|disk| disk.faults().struck().1).sum()
    }

    fn is_tainted(&self) -> bool {
        self.trust == Trust::Tainted || self.silent_faults() > 0
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
        let Some(engine) = &mut self.engine else { return Ok(()) };
        self.disks.iter().for_each(|disk| disk.give(credit));
        self.store.give(credit);
        self.now_ms += 1;
        engine.advance(self.now_ms, &mut self.payloads);
        self.take_answers()
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

    /// Whether every request and command has its answer.
    pub fn is_quiet(&self) -> bool {
        self.engine.is_none() || self.asked.is_empty() && self.commanded.is_none()
    }

    /// Whether the engine has nothing to do in the background either.
    pub fn is_idle(&self) -> bool {
        self.engine.as_ref().is_none_or(Pool::is_idle)
    }

    fn take_answers(&mut self) -> Verdict {
        while let Some(done) = self.engine.as_mut().and_then(Pool::next_done) {
            if done.volume == POOL { self.judge_command(done)? } else { self.judge(done)? }
        }
        while let Some(event) = self.engine.as_mut().and_then(Pool::next_event) {
            self.note(|| format!("  event: {event}"));
        }
        self.take_advances();
        self.troubled |= self.honest_faults() > self.faults_at_mount;
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

    fn take_advances(&mut self) {
        for began in self.store.take_completed() {
            self.volumes.values_mut().for_each(|known| known.model.anchored(began));
        }
    }

    fn judge(&mut self, done: Done) -> Verdict {
        let Some(asked) = self.asked.remove(&done.cookie).filter(|asked| asked.volume == done.volume) else {
            return Err(format!("an answer to no request: {done:?}"));
        };
        self.note(|| format!("  {:?} of volume {}: {:?}", asked.what, asked.volume, done.status));
        let succeeded = done.status == Status::Ok;
        let now = self.power.now();
        let delivered = self.payloads.take(done.cookie);
        let strict = self.is_strict();
        if succeeded {
            self.tally.succeeded += 1;
        } else {
            self.excuse(&asked, done.status)?;
        }
        let Some(known) = self.volumes.get_mut(&asked.volume) else { return Ok(()) };
        match asked.what {
            Ask::Write(block, blocks) | Ask::Zero(block, blocks) => {
                known.model.end(block..block + u64::from(blocks), asked.submitted, succeeded, now);
            }
            Ask::Flush if succeeded => known.model.flushed(asked.submitted, now, strict),
            Ask::Sync if succeeded => known.model.flushed(asked.submitted, now, true),
            Ask::Read(block, _) => return self.judge_read(&asked, block, &delivered, succeeded),
            Ask::Flush | Ask::Sync => {}
        }
        Ok(())
    }

    /// What a read has delivered, however it ended, must be allowed.
    fn judge_read(&mut self, asked: &Asked, first: u64, delivered: &[Option<Delivered>], succeeded: bool) -> Verdict {
        let Some(known) = self.volumes.get_mut(&asked.volume) else { return Ok(()) };
        for (block, delivered) in (first..).zip(delivered) {
            let history = known.model.block(block);
            let what = match delivered {
                None if !succeeded => continue,
                Some(Delivered::Plaintext(number)) if history.allows(*number, View::Live(asked.submitted)) => {
                    known.model.observe(block, *number, asked.submitted);
                    self.tally.compared += 1;
                    continue;
                }
                None => "nothing".to_owned(),
                Some(Delivered::Garbage) => "garbage".to_owned(),
                Some(Delivered::Plaintext(number)) => format!("plaintext {number}"),
            };
            let allowed = history.allowed(View::Live(asked.submitted));
            return Err(format!(
                "integrity: block {block} of volume {} read as {what}, allowed are {allowed:?}",
                asked.volume
            ));
        }
        Ok(())
    }

    /// Whether an error has an excuse.
    fn excuse(&mut self, asked: &Asked, status: Status) -> Verdict {
        self.tally.excused += 1;
        let struck = self.honest_faults() > asked.faults;
        let touches_unsure = |block: u64, blocks: u32| {
            let model = &self.volumes[&asked.volume].model;
            (block..block + u64::from(blocks)).any(|block| model.block(block).is_unsure())
        };
        let excused = match asked.what {
            _ if self.is_tainted() || struck => true,
            _ if status == Status::NoSpace => self.is_full(),
            Ask::Read(block, blocks) => touches_unsure(block, blocks),
            _ => self.troubled,
        };
        if excused {
            return Ok(());
        }
        Err(format!("false error: {:?} of volume {} answered {status:?} without a reason", asked.what, asked.volume))
    }

    /// Whether some member has no free extent left.
    fn is_full(&self) -> bool {
        let taken: u64 = self.engine.iter().flat_map(|engine| engine.volumes()).map(|info| info.extents).sum();
        // Two copies and stripes need room on particular members, so a pool is full when any member can be.
        taken >= self.config.extents.iter().copied().min().unwrap_or_default()
    }

    // --- The administrator ---

    fn ask_command(&mut self, command: crate::step::Command) {
        use crate::step::Command as Wanted;
        let name = Name::new(&format!("volume-{}", self.next_cookie));
        let (Some(name), Some(volume)) = (name, self.nth(command.volume())) else { return };
        let size = self.volumes[&volume].sizes.iter().copied().max().unwrap_or_default();
        let layout = self.config.volumes[self.next_cookie as usize % self.config.volumes.len()].layout;
        self.command(match command {
            Wanted::Create(blocks, suite) => Command::Create { name, layout, blocks, suite },
            Wanted::Delete(_) => Command::Delete { volume },
            Wanted::Grow(_, more) => Command::Grow { volume, blocks: size + more },
            Wanted::Rename(_) => Command::Rename { volume, name },
            Wanted::Rekey(_, suite) => Command::Rekey { volume, suite },
            Wanted::Scrub => Command::Scrub,
        });
    }

    /// Gives the pool a command; while it has one, nothing happens.
    pub fn command(&mut self, command: Command) {
        let Some(engine) = &mut self.engine else { return };
        let cookie = self.next_cookie;
        if self.commanded.is_some() || engine.command(cookie, command.clone()).is_err() {
            return;
        }
        self.next_cookie += 1;
        match &command {
            Command::Create { name, blocks, .. } => self.created.push((name.as_str().to_owned(), *blocks)),
            Command::Delete { volume } => self.change(*volume, |known| known.going = true),
            Command::Grow { volume, blocks } => self.change(*volume, |known| known.sizes.push(*blocks)),
            Command::Rename { volume, name } => {
                self.change(*volume, |known| known.names.push(name.as_str().to_owned()))
            }
            Command::Rekey { .. } | Command::Scrub => {}
        }
        self.commanded = Some(Commanded { cookie, command });
    }

    fn change(&mut self, volume: u32, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.volumes.get_mut(&volume) {
            change(known);
        }
    }

    fn judge_command(&mut self, done: Done) -> Verdict {
        let Some(Commanded { command, .. }) = self.commanded.take().filter(|commanded| commanded.cookie == done.cookie)
        else {
            return Err(format!("an answer to no command: {done:?}"));
        };
        self.note(|| format!("  {command:?}: {:?}", done.status));
        let keep = |list: &mut Vec<_>, old: bool| {
            let kept = if old { list.remove(0) } else { list.remove(list.len() - 1) };
            *list = vec![kept];
        };
        match done.status {
            Status::Ok => {
                self.tally.succeeded += 1;
                match &command {
                    Command::Create { .. } => return self.adopt_created(),
                    Command::Delete { volume } => self.change(*volume, |known| known.gone = true),
                    Command::Grow { volume, blocks } => self.change(*volume, |known| {
                        keep(&mut known.sizes, false);
                        known.model.grow(*blocks);
                    }),
                    Command::Rename { volume, .. } => {
                        self.change(*volume, |known| known.names = known.names.split_off(known.names.len() - 1))
                    }
                    Command::Rekey { .. } | Command::Scrub => {}
                }
                Ok(())
            }
            Status::Refused(refusal) => {
                self.undo(&command);
                self.excuse_refusal(&command, refusal)
            }
            status => {
                // It may have happened or not; the next mount tells.
                self.tally.excused += 1;
                let full = status == Status::NoSpace && self.is_full();
                if self.troubled || self.is_tainted() || full || matches!(command, Command::Scrub) && self.has_unsure()
                {
                    return Ok(());
                }
                Err(format!("false error: {command:?} answered {status:?} without a reason"))
            }
        }
    }

    fn has_unsure(&self) -> bool {
        let mut models = self.volumes.values().map(|known| &known.model);
        models.any(|model| model.touched().any(|block| model.block(block).is_unsure()))
    }

    /// A refused command has changed nothing.
    fn undo(&mut self, command: &Command) {
        match command {
            Command::Create { .. } => drop(self.created.pop()),
            Command::Delete { volume } => self.change(*volume, |known| known.going = false),
            Command::Grow { volume, .. } => self.change(*volume, |known| known.sizes.truncate(known.sizes.len() - 1)),
            Command::Rename { volume, .. } => self.change(*volume, |known| known.names.truncate(known.names.len() - 1)),
            Command::Rekey { .. } | Command::Scrub => {}
        }
    }

    fn excuse_refusal(&mut self, command: &Command, refusal: Refusal) -> Verdict {
        self.tally.excused += 1;
        let excused = match refusal {
            Refusal::Busy => matches!(command, Command::Delete { .. } | Command::Rekey { .. }),
            Refusal::ReadOnly => self.troubled,
            Refusal::CatalogFull => self.volumes.len() > 200,
            Refusal::NoVolume | Refusal::NameTaken => self.troubled,
            Refusal::Size | Refusal::Layout | Refusal::NoRandom => false,
        };
        if excused || self.is_tainted() {
            return Ok(());
        }
        Err(format!("false refusal: {command:?} refused with {refusal:?}"))
    }

    /// A volume that was asked for and is there now.
    fn adopt_created(&mut self) -> Verdict {
        let Some((name, blocks)) = self.created.pop() else { return Ok(()) };
        let info = self.engine.iter().flat_map(|engine| engine.volumes()).find(|info| info.name == name);
        let Some(info) = info else { return Err(format!("{name} was created and is not there")) };
        self.adopt(info.number, name, blocks)
    }

    fn adopt(&mut self, number: u32, name: String, blocks: u64) -> Verdict {
        let known = Known {
            model: model::Volume::new(blocks),
            names: vec![name],
            sizes: vec![blocks],
            going: false,
            gone: false,
        };
        if self.volumes.insert(number, known).is_some() {
            return Err(format!("the number {number} was given to two volumes"));
        }
        Ok(())
    }

    // --- Faults ---

    fn begin_faults(&mut self, permille: u64) {
        for (member, disk) in self.disks.iter().enumerate() {
            if self.config.faulty_member.is_none_or(|faulty| faulty == member) {
                self.config.faults.iter().for_each(|fault| disk.faults().set(*fault, rate(*fault, permille)));
            }
        }
    }

    fn end_faults(&mut self) {
        self.disks.iter().for_each(|disk| disk.faults().end());
    }

    fn has_faults(&self) -> bool {
        self.disks.iter().any(|disk| disk.faults().may_strike())
    }

    // --- Power ---

    fn recover_from_planned_cut(&mut self) -> Verdict {
        let mut rng = Rng::new(self.config.seed ^ self.power.boundaries());
        let again: Vec<u64> = (0..rng.below(3)).map(|_| rng.below(60)).collect();
        self.cut(rng.next(), &again)
    }

    /// The power goes; then it comes back, as often as it takes.
    fn cut(&mut self, seed: u64, again: &[u64]) -> Verdict {
        if self.engine.is_none() {
            return Ok(());
        }
        self.tally.cuts += 1;
        self.lose_power(seed);
        self.keep_past();
        for (round, ahead) in again.iter().enumerate() {
            self.power.cut_in(*ahead);
            match self.mount()? {
                Mounted::Cut => {
                    self.tally.recovery_cuts += 1;
                    self.lose_power(seed.wrapping_add(round as u64 + 1));
                }
                Mounted::Served { .. } => return Ok(()),
                Mounted::Refused(_) => break,
            }
        }
        self.mount_somehow()
    }

    /// Mounts; when faulty disks prevent it, on healed ones. A sound pool must be served then.
    fn mount_somehow(&mut self) -> Verdict {
        if let Mounted::Served { .. } = self.mount()? {
            return Ok(());
        }
        let excused = self.has_faults() || self.store.refuses() || self.honest_faults() > self.faults_at_mount;
        self.end_faults();
        self.store.refuse(false);
        self.power.restore();
        match self.mount()? {
            Mounted::Served { .. } if excused || self.is_tainted() => Ok(()),
            Mounted::Refused(_) if self.is_tainted() => Ok(()),
            Mounted::Served { .. } => Err("a mount was refused and the next one served".into()),
            Mounted::Refused(error) => Err(format!("false refusal: a sound pool is not mounted: {error}")),
            Mounted::Cut => Err("a mount does not come to an end".into()),
        }
    }

    /// The power goes, and a seed decides what the devices keep.
    fn lose_power(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        let manner = rng.below(6);
        self.lose_power_keeping(
            &mut |_, sector, candidates| match (manner, sector) {
                (0, _) => 0,
                (1, _) => candidates - 1,
                // Mostly whole blocks even where sectors could tear.
                (2, Some(sector)) if sector > 0 => rng.index(candidates),
                _ => rng.index(candidates),
            },
            Rng::new(seed ^ 0x55).chance(500),
        );
    }

    /// The power goes: `choose` decides what the disks keep, `happened` whether the anchor's advance did.
    pub fn lose_power_keeping(&mut self, choose: &mut crate::media::Choose<'_>, happened: bool) {
        self.power.go();
        self.engine = None;
        self.asked.clear();
        self.commanded = None;
        self.payloads.clear();
        self.disks.iter().for_each(|disk| disk.cut(choose));
        self.store.cut(happened);
        self.take_advances();
        self.power.restore();
    }

    fn keep_past(&mut self) {
        let images = self.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        self.pasts.push_back(Past { images, anchor: self.store.snapshot() });
        if self.pasts.len() > PASTS {
            let victim = self.next_number as usize % (PASTS - 1);
            self.pasts.remove(victim);
        }
    }

    fn restart(&mut self) -> Verdict {
        let volumes: Vec<u32> =
            self.volumes.iter().filter(|(_, known)| !known.gone).map(|(number, _)| *number).collect();
        self.drain()?;
        volumes.into_iter().for_each(|volume| self.submit(volume, Ask::Sync));
        self.drain()?;
        self.lose_power_keeping(&mut |_, _, _| 0, false);
        self.keep_past();
        self.mount_somehow()
    }

    // --- Mounting ---

    /// Mounts, and checks everything that was found.
    pub fn mount(&mut self) -> Result<Mounted, String> {
        let began = self.power.now();
        self.faults_at_mount = self.honest_faults();
        let (members, anchor, options) = (self.attached(), self.store.attach(), self.options());
        let mounted = volume::mount(members, anchor, &self.root, self.random(), &options, self.idle());
        if self.power.is_off() {
            self.note(|| "  the power goes during the recovery".to_owned());
            return Ok(Mounted::Cut);
        }
        self.take_advances();
        let (pool, recovery) = match mounted {
            Ok(mounted) => mounted,
            Err(error) => {
                self.note(|| format!("  refused: {error}"));
                *self.tally.refusals.entry(kind(&error)).or_default() += 1;
                return Ok(Mounted::Refused(error));
            }
        };
        self.note(|| format!("  mounted: {recovery:?}"));
        self.engine = Some(pool);
        self.troubled = self.store.refuses() || self.honest_faults() > self.faults_at_mount;
        self.check_mounted(&recovery, began)
    }

    fn check_mounted(&mut self, recovery: &Recovery, began: Time) -> Result<Mounted, String> {
        self.tally.recoveries += 1;
        self.tally.replayed += recovery.records;
        self.tally.examined += recovery.examined;
        self.tally.repaired += recovery.repaired;
        let healthy = !self.is_tainted() && !self.troubled;
        if healthy && recovery.bad > 0 && !self.has_unsure() {
            return Err(format!("false integrity error: the recovery reports bad blocks: {recovery:?}"));
        }
        self.check_volumes()?;
        // No cut is planned for the check: what was planned is for later steps.
        self.power.restore();
        let bad = self.check_blocks(began)?;
        Ok(Mounted::Served { bad })
    }

    /// The volumes that are there are those that may be.
    fn check_volumes(&mut self) -> Verdict {
        let infos: Vec<_> = self.engine.iter().flat_map(|engine| engine.volumes()).collect();
        let listed: BTreeSet<u32> = infos.iter().map(|info| info.number).collect();
        if self.is_copy {
            return Ok(());
        }
        for info in infos {
            let Some(known) = self.volumes.get_mut(&info.number) else {
                self.adopt_found(info.number, info.name, info.blocks)?;
                continue;
            };
            let expected = !known.gone && known.names.contains(&info.name) && known.sizes.contains(&info.blocks);
            if !expected && self.trust == Trust::Sound {
                return Err(format!(
                    "volume {} is not as it was left: {info:?}, expected {:?} {:?}",
                    info.number, known.names, known.sizes
                ));
            }
            (known.names, known.sizes, known.going) = (vec![info.name], vec![info.blocks], false);
            known.model.grow(info.blocks);
        }
        self.created.clear();
        let tainted = self.is_tainted();
        for (number, known) in self.volumes.iter_mut().filter(|(number, known)| !known.gone && !listed.contains(number))
        {
            if !known.going && !tainted {
                return Err(format!("volume {number} is lost"));
            }
            known.gone = true;
        }
        Ok(())
    }

    fn adopt_found(&mut self, number: u32, name: String, blocks: u64) -> Verdict {
        if !self.created.contains(&(name.clone(), blocks)) && !self.is_tainted() {
            return Err(format!("volume {number}, {name}, was never asked for"));
        }
        self.adopt(number, name, blocks)
    }

    /// Reads every block that was ever written, and some that were not; returns how many cannot be read.
    fn check_blocks(&mut self, began: Time) -> Result<u64, String> {
        let mut bad = 0;
        let volumes: Vec<u32> =
            self.volumes.iter().filter(|(_, known)| !known.gone).map(|(number, _)| *number).collect();
        for volume in volumes {
            let model = &self.volumes[&volume].model;
            let last = self.engine.as_ref().and_then(|engine| engine.blocks(volume)).unwrap_or_default();
            for (first, blocks) in runs(model, last) {
                bad += self.check_run(volume, first, blocks, began)?;
            }
        }
        Ok(bad)
    }

    /// Reads a run; when it fails as a whole, block after block.
    fn check_run(&mut self, volume: u32, first: u64, blocks: u64, began: Time) -> Result<u64, String> {
        if self.check_read(volume, first, blocks)? {
            return Ok(0);
        }
        let mut bad = 0;
        for block in first..first + blocks {
            if self.check_read(volume, block, 1)? {
                continue;
            }
            bad += 1;
            let troubled = self.honest_faults() > self.faults_at_mount;
            let unsure = self.volumes[&volume].model.block(block).is_unsure();
            if !self.is_tainted() && !troubled && !unsure {
                let allowed = self.volumes[&volume].model.block(block).allowed(View::Durable);
                return Err(format!(
                    "false integrity error: block {block} of volume {volume} cannot be read after the mount at {began}, allowed are {allowed:?}"
                ));
            }
        }
        Ok(bad)
    }

    /// Reads blocks as a guest would, and holds them against what a mount may find; whether all could be read.
    fn check_read(&mut self, volume: u32, first: u64, blocks: u64) -> Result<bool, String> {
        let Some(engine) = &mut self.engine else { return Ok(false) };
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.payloads.lend_read(cookie, blocks as usize);
        let operation = Operation::Read { block: first, blocks: blocks as u32 };
        engine.submit(volume, cookie, operation).map_err(|_| "no request is taken after a mount")?;
        self.disks.iter().for_each(|disk| disk.give(usize::MAX));
        self.store.give(usize::MAX);
        for _ in 0..PATIENCE {
            engine.advance(self.now_ms, &mut self.payloads);
            let Some(done) = engine.next_done() else { continue };
            let delivered = self.payloads.take(cookie);
            self.take_advances();
            let ok = done.status == Status::Ok;
            self.check_found(volume, first, &delivered, ok)?;
            return Ok(ok);
        }
        Err(format!("a read after a mount has no answer after {PATIENCE} calls"))
    }

    fn check_found(&mut self, volume: u32, first: u64, delivered: &[Option<Delivered>], ok: bool) -> Verdict {
        let view = if self.is_tainted() { View::Anchored } else { View::Durable };
        let now = self.power.now();
        let Some(known) = self.volumes.get_mut(&volume) else { return Ok(()) };
        for (block, delivered) in (first..).zip(delivered) {
            match delivered {
                None if !ok => {}
                Some(Delivered::Plaintext(number)) if known.model.block(block).allows(*number, view) => {
                    known.model.settle(block, *number, now);
                    self.tally.compared += 1;
                }
                found => {
                    let allowed = known.model.block(block).allowed(view);
                    let claim = if view == View::Durable { "lost flushed write" } else { "freshness" };
                    return Err(format!(
                        "{claim}: block {block} of volume {volume} is {found:?} after a mount, allowed are {allowed:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    // --- The adversary ---

    fn geometries(&self) -> Vec<Geometry> {
        let blocks = self.disks.iter().map(|disk| disk.media().blocks());
        blocks.enumerate().filter_map(|(member, blocks)| Geometry::for_member(member, blocks, LOG_BLOCKS)).collect()
    }

    /// Somebody changes the disks while they are served: from here on nobody can be sure of them.
    fn tamper(&mut self, tamper: Tamper, seed: u64) {
        if matches!(tamper, Tamper::ReplayAnchor) {
            return;
        }
        let mut images: Vec<Image> = self.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        let geometries = self.geometries();
        let pasts = self.pasts.make_contiguous();
        let mut hands =
            Hands { images: &mut images, anchor: &mut self.store.snapshot(), geometries: &geometries, pasts };
        let changed = hands.perform(tamper, &mut Rng::new(seed)).unwrap_or_default();
        for (member, block) in changed {
            self.disks[member].media_mut().tamper(block, images[member][block as usize].clone());
        }
        self.trust = Trust::Tainted;
    }

    /// Somebody tries something on a copy of the disks, as a power cut would leave them now.
    fn attempt(&mut self, tamper: Tamper, seed: u64) -> Verdict {
        if self.engine.is_none() || self.is_tainted() {
            return Ok(());
        }
        let mut copy = self.copy();
        copy.lose_power(seed);
        let mut images: Vec<Image> = copy.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        let mut anchor = copy.store.snapshot();
        let mut hands = Hands {
            images: &mut images,
            anchor: &mut anchor,
            geometries: &copy.geometries(),
            pasts: copy.pasts.make_contiguous(),
        };
        let Some(changed) = hands.perform(tamper, &mut Rng::new(seed)) else {
            self.come_back(copy);
            return Ok(());
        };
        copy.give(images, anchor);
        let verdict = copy.suffer(tamper, &changed);
        self.come_back(copy);
        verdict.map_err(|what| format!("after {tamper:?} ({} blocks changed): {what}", changed.len()))
    }

    /// A copy of this world at this moment. What happens there does not happen here.
    pub fn copy(&mut self) -> World {
        let power = Power::at(&self.power);
        let disks = self.disks.iter().map(|disk| disk.copy(&power)).collect();
        self.payloads.audit.look_ahead();
        World {
            disks,
            store: self.store.copy(&power),
            power,
            volumes: self.volumes.clone(),
            tally: Tally::default(),
            trace: self.trace.take(),
            engine: None,
            payloads: Payloads::with(std::mem::take(&mut self.payloads.audit)),
            asked: BTreeMap::new(),
            commanded: None,
            created: self.created.clone(),
            random: Rc::new(RefCell::new(self.random.borrow().clone())),
            root: root(),
            now_ms: self.now_ms,
            next_cookie: self.next_cookie,
            next_number: self.next_number,
            pasts: self.pasts.clone(),
            trust: self.trust,
            troubled: self.troubled,
            faults_at_mount: self.faults_at_mount,
            is_copy: false,
            config: self.config.clone(),
        }
    }

    /// The copy is left; what it counted and noted stays.
    pub fn come_back(&mut self, mut copy: World) {
        self.trace = copy.trace.take();
        self.payloads.audit = std::mem::take(&mut copy.payloads.audit);
        self.payloads.audit.come_back();
        self.tally.add(&copy.tally);
    }

    /// Puts images and an anchor in place.
    fn give(&mut self, images: Vec<Image>, anchor: Snapshot) {
        for (disk, image) in self.disks.iter().zip(images) {
            *disk.media_mut() = Media::with(image);
        }
        self.store = Store::with(anchor, &self.power);
        (self.trust, self.is_copy) = (Trust::Tainted, true);
    }

    /// Mounts what the adversary left, and uses it for a while.
    fn suffer(&mut self, tamper: Tamper, changed: &[(usize, u64)]) -> Verdict {
        let mounted = self.mount()?;
        self.check_claims(tamper, changed, &mounted)?;
        let outcome = self.tally.adversary.entry(trick(tamper)).or_default();
        match mounted {
            Mounted::Served { bad: 0 } => outcome.harmless += 1,
            Mounted::Served { .. } => outcome.errors += 1,
            _ => outcome.refused += 1,
        }
        self.use_for_a_while()
    }

    fn use_for_a_while(&mut self) -> Verdict {
        for index in 0..3 {
            for what in [Ask::Write(index as u64 * 3, 2), Ask::Read(0, 8), Ask::Flush] {
                self.ask(index, what);
            }
            self.drain()?;
        }
        Ok(())
    }

    /// What the claims say about particular tricks.
    fn check_claims(&self, tamper: Tamper, changed: &[(usize, u64)], mounted: &Mounted) -> Verdict {
        let data =
            |(member, block): &(usize, u64)| Part::Data.range(&self.geometries()[*member]).contains(&(*block as usize));
        let only_data = !changed.is_empty() && changed.iter().all(data);
        match (tamper, mounted) {
            (_, Mounted::Cut) => Err("the mount did not come to an end".into()),
            (Tamper::ReplayDisks, Mounted::Refused(error)) if !matches!(error, Error::RolledBack { .. }) => {
                Err(format!("freshness: old disks are refused for another reason: {error}"))
            }
            (Tamper::ReplayAnchor, Mounted::Refused(error))
                if !matches!(error, Error::AnchorOlder { .. } | Error::AnchorForeign) =>
            {
                Err(format!("freshness: an old anchor is refused for another reason: {error}"))
            }
            (_, Mounted::Refused(error)) if only_data => {
                Err(format!("a change of sealed blocks refused the whole pool: {error}"))
            }
            (_, Mounted::Served { bad }) if only_data && *bad > changed.len() as u64 => {
                Err(format!("{} sealed blocks were changed and {bad} cannot be read", changed.len()))
            }
            _ => Ok(()),
        }
    }
}

/// Silent faults are rare even among faulty disks.
fn rate(fault: Fault, permille: u64) -> u64 {
    if fault.is_honest() { permille } else { permille.div_ceil(10) }
}

/// The runs of blocks that a check of a volume of `len` blocks reads: what was touched, a margin, and the volume's ends.
fn runs(model: &model::Volume, len: u64) -> Vec<(u64, u64)> {
    let around = |block: u64| block.saturating_sub(MARGIN)..(block + MARGIN + 1).min(len);
    let mut blocks: BTreeSet<u64> = model.touched().filter(|block| *block < len).flat_map(around).collect();
    blocks.extend([0, len.saturating_sub(1)].iter().filter(|block| **block < len));
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == block && *count < CHECK_BLOCKS => *count += 1,
            _ => runs.push((block, 1)),
        }
    }
    runs
}

/// The name of a trick, without its particulars.
fn trick(tamper: Tamper) -> String {
    format!("{tamper:?}")
}

/// The name of an error, without its particulars.
fn kind(error: &Error) -> String {
    format!("{error:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
