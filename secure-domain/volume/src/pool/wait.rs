//! Waiting, for the mount alone: the engine itself never does.

use alloc::vec::Vec;

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer};

use super::{Pool, tree::Missing};
use crate::{
    Error, Fault, Transfer,
    record::{anchored::Anchored, node::Position},
};

/// One disk request.
pub(super) enum Action<'a> {
    /// Read up to this many blocks.
    Read(usize),
    Write(&'a [u8]),
    Flush,
}

/// The other end of a pool that nobody asks anything yet.
pub(super) struct Nowhere;

impl Transfer for Nowhere {
    fn gather(&mut self, _: u32, _: u32, _: u32, _: &mut [u8]) -> Result<(), Fault> {
        Err(Fault)
    }

    fn scatter(&mut self, _: u32, _: u32, _: u32, _: &[u8]) -> Result<(), Fault> {
        Err(Fault)
    }
}

/// Performs one request on a disk that has nothing else to do; the buffer of a read is the caller's to release.
pub(super) fn perform<D: BlockDevice>(
    disk: &mut D,
    member: usize,
    block: u64,
    action: Action<'_>,
    idle: &mut impl FnMut() -> bool,
) -> Result<Option<Buffer>, Error> {
    let reads = matches!(action, Action::Read(_));
    let taken = match action {
        Action::Flush => disk.flush(0),
        Action::Read(blocks) => {
            let buffer = disk.allocate(blocks).ok_or(Error::NoBuffer)?;
            disk.read(0, block, buffer)
        }
        Action::Write(bytes) => {
            let buffer = disk.allocate(1).ok_or(Error::NoBuffer)?;
            disk.bytes(&buffer).copy_from_slice(bytes);
            disk.write(0, block, buffer)
        }
    };
    if let Err(refused) = taken {
        refused.0.into_iter().for_each(|buffer| disk.release(buffer));
        return Err(Error::Disk { member, block, error: block::Error::Broken });
    }
    disk.kick();
    let mut patient = true;
    // Bounded by the caller's patience; when that is at its end, the disk is asked once more.
    loop {
        if let Some(completion) = disk.poll() {
            let (Ok(()), true) = (completion.result, reads) else {
                completion.buffer.into_iter().for_each(|buffer| disk.release(buffer));
                return completion.result.map(|()| None).map_err(|error| Error::Disk { member, block, error });
            };
            return Ok(completion.buffer);
        }
        if !patient {
            return Err(Error::Silent);
        }
        patient = idle();
        disk.acknowledge();
    }
}

/// Gives `anchor` a new record; returns its new counter.
pub(super) fn advance_anchor<A: MonotonicStore>(
    anchor: &mut A,
    counter: u64,
    next: &Anchored,
    idle: &mut impl FnMut() -> bool,
) -> Result<u64, Error> {
    anchor.start(counter, &next.encode()).map_err(Error::Anchor)?;
    // Bounded by the caller's patience.
    loop {
        if let Some(result) = anchor.poll() {
            return result.map_err(Error::Anchor);
        }
        if !idle() {
            return Err(Error::Silent);
        }
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Lets the disks work until something has happened.
    pub(super) fn wait(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        self.members.iter_mut().for_each(|member| member.device.kick());
        self.moved = false;
        self.take_completions(&mut Nowhere);
        if self.moved {
            return Ok(());
        }
        let patient = idle();
        self.members.iter_mut().for_each(|member| member.device.acknowledge());
        self.take_completions(&mut Nowhere);
        if patient || self.moved { Ok(()) } else { Err(Error::Silent) }
    }

    /// Cache slot of a tree block, waited for.
    pub(super) fn wait_for_tree(
        &mut self,
        position: Position,
        idle: &mut impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        // Bounded by the caller's patience: every turn but the last waits for a disk, or a level of the tree has come.
        loop {
            match self.tree_slot(position) {
                Ok(slot) => return Ok(slot),
                Err(Missing::Damaged) => return Err(self.damage(position)),
                Err(Missing::Exhausted) if self.jobs.all_free() => {
                    return Err(self.too_small());
                }
                Err(_) => self.wait(idle)?,
            }
        }
    }

    /// Why a tree block, or one above it, could not be had: as reported when it was found.
    pub(super) fn damage(&mut self, position: Position) -> Error {
        if let Some(error) = self.refusal() {
            return Error::Module(error);
        }
        let events: Vec<_> = self.events.iter().copied().collect();
        for event in events.into_iter().rev() {
            match event {
                crate::Event::TreeMac { member, block } => return Error::TreeMac { member, block },
                crate::Event::ReadFailed { member, block } => {
                    return Error::Disk { member, block, error: block::Error::Io };
                }
                _ => {}
            }
        }
        let member = usize::from(position.member);
        let block = self.members[member].geometry.tree_block(usize::from(position.level), position.index, 0);
        Error::TreeMac { member, block }
    }

    /// Advances until a durable record of the log names the last checkpoint.
    pub(super) fn wait_for_marker(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        // Bounded by the caller's patience.
        while self.log.named_checkpoint < self.superblock.checkpoint {
            self.log.force |= self.log.is_idle();
            if self.advance(0, &mut Nowhere) {
                continue;
            }
            if self.stopped {
                return Err(self.write_failure());
            }
            if self.log.named_checkpoint < self.superblock.checkpoint && !idle() {
                return Err(Error::Silent);
            }
            self.members.iter_mut().for_each(|member| member.device.acknowledge());
        }
        Ok(())
    }

    /// Advances until the checkpoint that was asked for is durable.
    pub(super) fn wait_for_checkpoint(&mut self, idle: &mut impl FnMut() -> bool) -> Result<(), Error> {
        self.checkpoint.want();
        // Bounded by the caller's patience.
        while self.checkpoint.is_running() {
            if self.advance(0, &mut Nowhere) {
                continue;
            }
            if self.stopped {
                return Err(self.write_failure());
            }
            if self.checkpoint.is_running() {
                if !idle() {
                    return Err(Error::Silent);
                }
                self.members.iter_mut().for_each(|member| member.device.acknowledge());
            }
        }
        if self.stopped { Err(self.write_failure()) } else { Ok(()) }
    }

    fn write_failure(&self) -> Error {
        if let Some(error) = self.refusal() {
            return Error::Module(error);
        }
        let failed = self.events.iter().find_map(|event| match *event {
            crate::Event::WriteFailed { member, block } => Some((member, block)),
            crate::Event::FlushFailed { member } => Some((member, 0)),
            _ => None,
        });
        let (member, block) = failed.unwrap_or((0, 0));
        Error::Disk { member, block, error: block::Error::Io }
    }
}
