//! Commands: changes of the catalog. One at a time; each becomes true with the checkpoint that carries it.
//!
//! A change that destroys a key (the end of a volume, or of an epoch) rotates the erase secret as well:
//!
//! ```text
//! Announcing   the anchor takes the next secret beside the current one
//! Carrying     a checkpoint writes the catalog with every remaining key wrapped under the next secret
//! Dropping     the anchor forgets the old secret: what was wrapped under it alone is gone
//! ```
//! Power may fail anywhere: before the checkpoint every key is wrapped under the current secret; after it under the next one, and a
//! mount that finds that drops the old one.

use alloc::{vec, vec::Vec};

use anchor::MonotonicStore;
use block::BlockDevice;
use crypto::Suite;
use keystore::{DataKey, MAX_DATA_KEY_BYTES};
use zeroize::Zeroizing;

use super::{
    Policy, Pool,
    volumes::{Physical, Volume},
};
use crate::{
    Command, Done, Event, Full, Layout, Name, POOL, Refusal, Status,
    record::{
        MAX_MEMBERS, MAX_VOLUME,
        anchored::Secret,
        catalog::{Epoch, MAX_BLOCKS, VolumeRecord},
    },
    seal::Sealer,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Announcing,
    Carrying,
    Dropping,
}

/// A change of the catalog that the next checkpoint carries.
struct Change {
    /// Places in the catalog, and what will be there.
    records: Vec<(usize, Option<VolumeRecord>)>,
    /// The cipher of the first record's epoch, if it is a new one.
    sealer: Option<Sealer>,
    /// Extents that nobody may take before the checkpoint is durable.
    held: Vec<Physical>,
    /// The secret that all keys are to be wrapped under.
    secret: Option<Secret>,
    /// What to tell the log at the end.
    event: Option<Event>,
}

impl Change {
    fn of(slot: usize, record: Option<VolumeRecord>) -> Change {
        Change { records: vec![(slot, record)], sealer: None, held: Vec::new(), secret: None, event: None }
    }
}

struct Running {
    /// Who waits for it, if anyone does.
    cookie: Option<u32>,
    change: Change,
    phase: Phase,
    /// Advances of the anchor that had failed when it began.
    failures: u64,
    /// The log's last record then: with what it says of a volume that goes.
    said: u64,
}

/// The commands of a pool.
pub(super) struct Commands {
    waiting: Option<(u32, Command)>,
    running: Option<Running>,
    /// All keys are wrapped under this secret, and the anchor has yet to forget the one before it: its next advance says so.
    pub(super) undropped: Option<Secret>,
}

impl Commands {
    pub(super) fn new() -> Commands {
        Commands { waiting: None, running: None, undropped: None }
    }

    /// Whether a rotation's last step is left to whoever advances the anchor next.
    pub(super) fn wants_anchor(&self) -> bool {
        self.undropped.is_some() && self.running.is_none()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.running.is_none()
    }

    pub(super) fn take(&mut self, cookie: u32, command: Command) -> Result<(), Full> {
        if !self.is_idle() {
            return Err(Full);
        }
        self.waiting = Some((cookie, command));
        Ok(())
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Moves the command under way on, or begins the waiting one once no checkpoint is half through.
    pub(super) fn pump_commands(&mut self) {
        match self.commands.running.as_ref().map(|running| running.phase) {
            Some(Phase::Announcing) => self.announce(),
            Some(Phase::Dropping) => self.drop_secret(),
            Some(Phase::Carrying) => {}
            None => self.begin_waiting(),
        }
    }

    fn begin_waiting(&mut self) {
        if self.commands.waiting.is_none() || !self.checkpoint.is_idle() {
            return;
        }
        if self.versions_left() == 0 && !self.stopped {
            return;
        }
        let Some((cookie, command)) = self.commands.waiting.take() else { return };
        self.moved = true;
        if command == Command::Scrub && !self.stopped {
            self.begin_scrub(cookie);
            return;
        }
        match self.begin_command(&command) {
            Ok(change) => self.begin_change(Some(cookie), change),
            Err(refusal) => self.done.push_back(Done { volume: POOL, cookie, status: Status::Refused(refusal) }),
        }
    }

    fn begin_change(&mut self, cookie: Option<u32>, change: Change) {
        let phase = if change.secret.is_some() { Phase::Announcing } else { Phase::Carrying };
        let failures = self.anchoring.failures;
        let said = self.log.last();
        self.commands.running = Some(Running { cookie, change, phase, failures, said });
        if phase == Phase::Carrying {
            self.carry();
        }
    }

    fn begin_command(&mut self, command: &Command) -> Result<Change, Refusal> {
        if self.stopped {
            return Err(Refusal::ReadOnly);
        }
        match *command {
            Command::Create { name, layout, blocks, suite } => self.create(name, layout, blocks, suite),
            Command::Delete { volume } => self.delete(volume),
            Command::Grow { volume, blocks } => self.grow(volume, blocks),
            Command::Rename { volume, name } => self.rename(volume, name),
            Command::Rekey { volume, suite } => self.rekey(volume, suite),
            Command::Scrub => Err(Refusal::Busy),
        }
    }

    fn create(&mut self, name: Name, layout: Layout, blocks: u64, suite: Suite) -> Result<Change, Refusal> {
        self.check_name(&name)?;
        if !(1..=MAX_BLOCKS).contains(&blocks) {
            return Err(Refusal::Size);
        }
        let members = self.members.len();
        let enough = match layout {
            Layout::Linear => true,
            Layout::Striped(columns) => (2..=members.min(MAX_MEMBERS)).contains(&usize::from(columns)),
            Layout::Mirrored => members >= 2,
        };
        if !enough {
            return Err(Refusal::Layout);
        }
        let slot = self.volumes.iter().position(Option::is_none).ok_or(Refusal::CatalogFull)?;
        let number = self.checkpoint.next_volume;
        if number >= MAX_VOLUME {
            return Err(Refusal::CatalogFull);
        }
        let (epoch, sealer) = self.new_epoch(number, 1, suite)?;
        self.checkpoint.next_volume += 1;
        let record = VolumeRecord { number, layout, name, blocks, epoch, old: None, cursor: 0 };
        Ok(Change { sealer: Some(sealer), ..Change::of(slot, Some(record)) })
    }

    /// A new key for `volume`, wrapped, and its cipher.
    fn new_epoch(&mut self, volume: u32, number: u16, suite: Suite) -> Result<(Epoch, Sealer), Refusal> {
        let mut random = Zeroizing::new([0; MAX_DATA_KEY_BYTES]);
        (self.random)(&mut *random).map_err(|_| Refusal::NoRandom)?;
        let key = DataKey::new(&random);
        let version = self.take_versions(1);
        let secret = self.commands.undropped.as_ref().unwrap_or(&self.anchoring.held.secret);
        let generation = secret.generation;
        let wrapped = self.keys.kek(&secret.bytes).and_then(|kek| {
            let sealer = Sealer::new(self.keys.module(), volume, number, suite, &key)?;
            Ok((Epoch::wrap(volume, number, suite, generation, version, &kek, &key)?, sealer))
        });
        wrapped.map_err(|error| self.refuse_command(error))
    }

    /// The crypto module refuses what a command needs.
    fn refuse_command(&mut self, error: crypto::Error) -> Refusal {
        if error == crypto::Error::NotApproved {
            return Refusal::NotApproved;
        }
        self.refused(error);
        Refusal::Module
    }

    fn check_name(&self, name: &Name) -> Result<(), Refusal> {
        let taken = self.volumes.iter().flatten().any(|volume| volume.record.name == *name);
        if taken { Err(Refusal::NameTaken) } else { Ok(()) }
    }

    fn slot_of(&self, number: u32) -> Result<usize, Refusal> {
        self.find(number).ok_or(Refusal::NoVolume)
    }

    fn delete(&mut self, number: u32) -> Result<Change, Refusal> {
        let slot = self.slot_of(number)?;
        if self.volume(slot).requests != 0 || self.walker_is_in(slot) {
            return Err(Refusal::Busy);
        }
        let secret = Some(self.next_secret()?);
        self.volume_mut(slot).closed = true;
        Ok(Change { secret, ..Change::of(slot, None) })
    }

    fn grow(&mut self, number: u32, blocks: u64) -> Result<Change, Refusal> {
        let slot = self.slot_of(number)?;
        let record = self.volume(slot).record;
        if !(record.blocks..=MAX_BLOCKS).contains(&blocks) {
            return Err(Refusal::Size);
        }
        Ok(Change::of(slot, Some(VolumeRecord { blocks, ..record })))
    }

    fn rename(&mut self, number: u32, name: Name) -> Result<Change, Refusal> {
        let slot = self.slot_of(number)?;
        self.check_name(&name)?;
        let record = self.volume(slot).record;
        Ok(Change::of(slot, Some(VolumeRecord { name, ..record })))
    }

    /// A new epoch. Blocks are sealed in it once the checkpoint that carries its key is durable.
    fn rekey(&mut self, number: u32, suite: Suite) -> Result<Change, Refusal> {
        let slot = self.slot_of(number)?;
        let record = self.volume(slot).record;
        let next = record.epoch.number.checked_add(1).filter(|_| record.old.is_none()).ok_or(Refusal::Busy)?;
        let (epoch, sealer) = self.new_epoch(number, next, suite)?;
        let record = VolumeRecord { epoch, old: Some(record.epoch), cursor: 0, ..record };
        Ok(Change { sealer: Some(sealer), ..Change::of(slot, Some(record)) })
    }

    /// Everything of the volume is sealed in its current epoch: the old key goes. Returns whether that could be begun.
    pub(super) fn end_resealing(&mut self, slot: usize) -> bool {
        if !self.commands.is_idle() || !self.checkpoint.is_idle() || self.stopped {
            return false;
        }
        let Ok(secret) = self.next_secret() else { return false };
        let record = VolumeRecord { old: None, cursor: 0, ..self.volume(slot).record };
        let event = Some(Event::Resealed { volume: record.number });
        self.begin_change(None, Change { secret: Some(secret), event, ..Change::of(slot, Some(record)) });
        true
    }

    fn next_secret(&mut self) -> Result<Secret, Refusal> {
        // One rotation after the other: what the anchor still calls the next secret must not be replaced.
        if self.commands.undropped.is_some() {
            return Err(Refusal::Busy);
        }
        let generation = self.anchoring.held.secret.generation.checked_add(1).ok_or(Refusal::Busy)?;
        let mut bytes = Zeroizing::new([0; 32]);
        (self.random)(&mut *bytes).map_err(|_| Refusal::NoRandom)?;
        Ok(Secret { generation, bytes })
    }

    /// Waits until the anchor holds the next secret, and until the checkpoint will begin behind all that the log says of a volume
    /// that goes; then wraps all keys under it.
    fn announce(&mut self) {
        let Some(Running { change, said, .. }) = &self.commands.running else { return };
        let is_said = self.log.durable().seq >= *said;
        if self.anchoring.held.next_secret != change.secret {
            let mut next = self.next_anchored();
            next.next_secret.clone_from(&change.secret);
            self.anchor_for_command(next);
            return;
        }
        let left = self.versions_left();
        if !self.checkpoint.is_idle() || left < 2 * self.volumes.len() as u64 || !is_said {
            return;
        }
        self.hold_extents();
        match self.rewrap() {
            Ok(()) => self.carry(),
            Err(error) => self.refused(error),
        }
    }

    /// Gives the anchor a record that a command needs; a failure ends the command.
    fn anchor_for_command(&mut self, next: super::Anchored) {
        let failures = self.commands.running.as_ref().map_or(0, |running| running.failures);
        if self.anchoring.failures != failures || self.stopped {
            self.fail_command();
        } else if !self.anchoring.is_busy() {
            self.start_anchor(next);
        }
    }

    /// Frees the extents of a volume that goes, and holds them until its end is durable.
    fn hold_extents(&mut self) {
        let Some(Running { change, .. }) = &self.commands.running else { return };
        let (slot, None) = change.records[0] else { return };
        let volume = self.volume(slot);
        let mut held = Vec::new();
        for extent in 0..volume.len() {
            for copy in 0..volume.copies() {
                held.extend(volume.physical(extent, copy));
            }
        }
        for at in &held {
            let extents = &mut self.members[at.member].extents;
            extents.set(at.extent, None);
            extents.enter(at.extent);
        }
        if let Some(Running { change, .. }) = &mut self.commands.running {
            change.held = held;
        }
    }

    /// Wraps the keys of all volumes that remain under the next secret.
    fn rewrap(&mut self) -> Result<(), crypto::Error> {
        let Some(Running { change, .. }) = &self.commands.running else { return Ok(()) };
        let (first, Some(secret)) = (change.records[0], change.secret.clone()) else { return Ok(()) };
        let mut records = vec![first];
        for (slot, volume) in self.volumes.iter().enumerate() {
            if let Some(volume) = volume
                && slot != first.0
            {
                records.push((slot, Some(volume.record)));
            }
        }
        for (_, record) in &mut records {
            if let Some(record) = record {
                let number = record.number;
                record.epoch = self.rewrapped(number, &record.epoch, &secret)?;
                record.old = record.old.as_ref().map(|old| self.rewrapped(number, old, &secret)).transpose()?;
            }
        }
        if let Some(Running { change, .. }) = &mut self.commands.running {
            change.records = records;
        }
        Ok(())
    }

    /// The epoch with its key wrapped under `secret`.
    fn rewrapped(&mut self, volume: u32, epoch: &Epoch, secret: &Secret) -> Result<Epoch, crypto::Error> {
        let version = self.take_versions(1);
        let (old, new) = (self.keys.kek(&self.anchoring.held.secret.bytes)?, self.keys.kek(&secret.bytes)?);
        // It was unwrapped at the mount or wrapped here: what can refuse is the module.
        let key = epoch.unwrap(volume, &old)?;
        Epoch::wrap(volume, epoch.number, epoch.suite, secret.generation, version, &new, &key)
    }

    /// Asks for the checkpoint that makes the change true.
    fn carry(&mut self) {
        let Some(running) = &mut self.commands.running else { return };
        running.phase = Phase::Carrying;
        for (slot, _) in &running.change.records {
            self.checkpoint.catalog_changed(*slot);
        }
        self.checkpoint.want();
        self.moved = true;
    }

    /// The record that the running checkpoint writes to place `slot` of the catalog.
    pub(super) fn record_to_store(&self, slot: usize) -> Option<VolumeRecord> {
        let carried = self.commands.running.as_ref().filter(|running| running.phase == Phase::Carrying);
        let changed = carried.and_then(|running| running.change.records.iter().find(|(at, _)| *at == slot));
        match changed {
            Some((_, record)) => *record,
            None => self.volumes[slot].as_ref().map(|volume| volume.record),
        }
    }

    /// Whether space is about to become free.
    pub(super) fn frees_space(&self) -> bool {
        self.commands.running.as_ref().is_some_and(|running| {
            running.phase != Phase::Dropping
                && running.change.records.first().is_some_and(|(_, record)| record.is_none())
        })
    }

    /// The checkpoint that carries the change is durable: it is true now. Returns whether there was one: then the log has to name
    /// this checkpoint, so that nobody takes the superblock away and with it the change.
    pub(super) fn end_command(&mut self) -> bool {
        let Some(running) = self.commands.running.as_mut().filter(|running| running.phase == Phase::Carrying) else {
            return false;
        };
        running.phase = Phase::Dropping;
        if let Some(secret) = &running.change.secret {
            self.commands.undropped = Some(secret.clone());
        }
        let held = core::mem::take(&mut running.change.held);
        let (records, sealer) = (core::mem::take(&mut running.change.records), running.change.sealer.take());
        for at in held {
            self.members[at.member].extents.leave(at.extent);
        }
        let mut sealer = sealer;
        for (slot, record) in records {
            self.change_volume(slot, record, sealer.take());
        }
        self.count_old_epochs();
        self.moved = true;
        true
    }

    fn change_volume(&mut self, slot: usize, record: Option<VolumeRecord>, sealer: Option<Sealer>) {
        let place = &mut self.volumes[slot];
        let Some(record) = record else {
            *place = None;
            return;
        };
        let Some(volume) = place else {
            *place = sealer.map(|sealer| Volume::new(record, sealer, None));
            return;
        };
        volume.record = record;
        volume.resize(record.blocks);
        if let Some(sealer) = sealer {
            volume.old = Some(core::mem::replace(&mut volume.sealer, sealer));
        }
        if record.old.is_none() {
            volume.old = None;
        }
    }

    /// Waits until the log names the checkpoint and the anchor has forgotten the old secret; then the command is done.
    fn drop_secret(&mut self) {
        if self.log.named_checkpoint < self.superblock.checkpoint {
            self.log.force |= self.log.is_idle();
            return;
        }
        if !self.is_marked() {
            return;
        }
        let Some(Running { change, .. }) = &self.commands.running else { return };
        if change.secret.is_none()
            && (self.options.policy == Policy::Strict || self.anchoring.lacks_mark())
            && self.anchoring.held.head.seq < self.log.durable().seq
        {
            let next = self.next_anchored();
            self.anchor_for_command(next);
            return;
        }
        if let Some(secret) = &change.secret
            && self.anchoring.held.secret != *secret
        {
            let next = self.next_anchored();
            self.anchor_for_command(next);
            return;
        }
        let Some(Running { cookie, change, .. }) = self.commands.running.take() else { return };
        if let Some(event) = change.event {
            self.report(event);
        }
        self.done.extend(cookie.map(|cookie| Done { volume: POOL, cookie, status: Status::Ok }));
        self.moved = true;
    }

    /// The command under way, and the one that waits, cannot be carried out.
    pub(super) fn fail_command(&mut self) {
        let running = self.commands.running.take();
        if let Some((slot, None)) = running.as_ref().and_then(|running| running.change.records.first())
            && let Some(volume) = &mut self.volumes[*slot]
        {
            volume.closed = false;
        }
        if running.as_ref().is_some_and(|running| running.cookie.is_none()) {
            self.pause_walker();
        }
        let waiting = self.commands.waiting.take().map(|(cookie, _)| cookie);
        for cookie in running.and_then(|running| running.cookie).into_iter().chain(waiting) {
            self.done.push_back(Done { volume: POOL, cookie, status: Status::IoError });
        }
    }
}
