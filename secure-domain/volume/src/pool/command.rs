//! Commands: changes of the catalog. One at a time; each becomes true with the checkpoint that carries it.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::BlockDevice;
use crypto::Suite;
use keystore::{DataKey, MAX_DATA_KEY_BYTES};
use zeroize::Zeroizing;

use super::{
    Pool,
    volumes::{Physical, Volume},
};
use crate::{
    Command, Done, Full, Layout, Name, POOL, Refusal, Status,
    record::{
        MAX_MEMBERS, MAX_VOLUME,
        catalog::{Epoch, MAX_BLOCKS, VolumeRecord},
    },
    seal::Sealer,
};

/// A change of the catalog that the next checkpoint carries.
pub(super) struct Change {
    /// Place in the catalog.
    slot: usize,
    /// What will be there.
    record: Option<VolumeRecord>,
    /// The cipher of the record's epoch, if it is a new one.
    sealer: Option<Sealer>,
    /// Extents that nobody may take before the checkpoint is durable.
    held: Vec<Physical>,
}

/// The commands of a pool.
pub(super) struct Commands {
    waiting: Option<(u32, Command)>,
    /// Cookie of the command under way, and its change.
    running: Option<(u32, Change)>,
}

impl Commands {
    pub(super) fn new() -> Commands {
        Commands { waiting: None, running: None }
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
    /// Begins the waiting command, once no checkpoint is half through.
    pub(super) fn pump_commands(&mut self) {
        if self.commands.waiting.is_none() || !self.checkpoint.is_idle() || self.versions_left() == 0 {
            return;
        }
        let Some((cookie, command)) = self.commands.waiting.take() else { return };
        self.moved = true;
        match self.begin_command(&command) {
            Ok(change) => {
                self.checkpoint.catalog_changed(change.slot);
                self.commands.running = Some((cookie, change));
                self.checkpoint.want();
            }
            Err(refusal) => self.done.push_back(Done { volume: POOL, cookie, status: Status::Refused(refusal) }),
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
            Command::Rekey { .. } | Command::Scrub => Err(Refusal::Busy),
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
        Ok(Change { slot, record: Some(record), sealer: Some(sealer), held: Vec::new() })
    }

    /// A new key for `volume`, wrapped, and its cipher.
    pub(super) fn new_epoch(&mut self, volume: u32, number: u16, suite: Suite) -> Result<(Epoch, Sealer), Refusal> {
        let mut random = Zeroizing::new([0; MAX_DATA_KEY_BYTES]);
        (self.random)(&mut *random).map_err(|_| Refusal::NoRandom)?;
        let key = DataKey::new(&random);
        let version = self.take_versions(1);
        let secret = &self.anchoring.held.secret;
        let kek = self.keys.kek(&secret.bytes);
        let epoch = Epoch::wrap(volume, number, suite, secret.generation, version, &kek, &key);
        Ok((epoch, Sealer::new(volume, number, suite, &key)))
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
        if self.volume(slot).requests != 0 {
            return Err(Refusal::Busy);
        }
        let mut held = Vec::new();
        let volume = self.volume_mut(slot);
        volume.closed = true;
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
        Ok(Change { slot, record: None, sealer: None, held })
    }

    fn grow(&mut self, number: u32, blocks: u64) -> Result<Change, Refusal> {
        let slot = self.slot_of(number)?;
        let record = self.volume(slot).record;
        if !(record.blocks..=MAX_BLOCKS).contains(&blocks) {
            return Err(Refusal::Size);
        }
        Ok(Change { slot, record: Some(VolumeRecord { blocks, ..record }), sealer: None, held: Vec::new() })
    }

    fn rename(&mut self, number: u32, name: Name) -> Result<Change, Refusal> {
        let slot = self.slot_of(number)?;
        self.check_name(&name)?;
        let record = self.volume(slot).record;
        Ok(Change { slot, record: Some(VolumeRecord { name, ..record }), sealer: None, held: Vec::new() })
    }

    /// The record that the running checkpoint writes to place `slot` of the catalog.
    pub(super) fn record_to_store(&self, slot: usize) -> Option<VolumeRecord> {
        match &self.commands.running {
            Some((_, change)) if change.slot == slot => change.record,
            _ => self.volumes[slot].as_ref().map(|volume| volume.record),
        }
    }

    /// The checkpoint that carries the change is durable: it is true now.
    pub(super) fn end_command(&mut self) {
        let Some((cookie, change)) = self.commands.running.take() else { return };
        for at in &change.held {
            self.members[at.member].extents.leave(at.extent);
        }
        let place = &mut self.volumes[change.slot];
        match (change.record, change.sealer) {
            (None, _) => *place = None,
            (Some(record), Some(sealer)) if place.is_none() => *place = Some(Volume::new(record, sealer, None)),
            (Some(record), _) => {
                if let Some(volume) = place {
                    volume.record = record;
                    volume.resize(record.blocks);
                }
            }
        }
        self.done.push_back(Done { volume: POOL, cookie, status: Status::Ok });
        self.moved = true;
    }

    /// No checkpoint ends any more.
    pub(super) fn fail_command(&mut self) {
        let running = self.commands.running.take().map(|(cookie, _)| cookie);
        let waiting = self.commands.waiting.take().map(|(cookie, _)| cookie);
        for cookie in running.into_iter().chain(waiting) {
            self.done.push_back(Done { volume: POOL, cookie, status: Status::IoError });
        }
    }
}
