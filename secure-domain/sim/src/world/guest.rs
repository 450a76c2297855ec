//! The guest of a world: its requests, and the judgement of their answers.

use volume::{Done, Layout, Operation, Status, record::EXTENT_BLOCKS};

use super::{Asked, Engine, Trust, Verdict, World};
use crate::{disk::Disk, model::View, payload::Delivered, power::Time, step::Ask};

/// Blocks of a row of a striped volume.
const ROW_BLOCKS: u64 = 32;

impl World {
    /// The number of the `index`th volume that is there, counted round.
    pub(super) fn nth(&self, index: usize) -> Option<u32> {
        let there: Vec<u32> =
            self.volumes.iter().filter(|(_, known)| !known.gone && !known.going).map(|(number, _)| *number).collect();
        (!there.is_empty()).then(|| there[index % there.len()])
    }

    pub(super) fn ask(&mut self, index: usize, what: Ask) {
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
        self.changed_single |= matches!(what, Ask::Write(..) | Ask::Zero(..)) && !self.is_mirrored(volume);
        let submitted = self.power.now();
        self.prepare(volume, cookie, what, submitted);
        let faults = self.honest_faults();
        self.asked.insert(cookie, Asked { volume, what, submitted, faults });
    }

    /// Lends the memory of a request and tells the model.
    pub(super) fn prepare(&mut self, volume: u32, cookie: u32, what: Ask, submitted: Time) {
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

    pub(super) fn honest_faults(&self) -> u64 {
        self.disks.iter().map(|disk| disk.faults().struck().0).sum()
    }

    pub(super) fn silent_faults(&self) -> u64 {
        self.disks.iter().map(|disk| disk.faults().struck().1).sum()
    }

    pub(super) fn is_tainted(&self) -> bool {
        !self.gullible && (self.trust == Trust::Tainted || self.silent_faults() > 0)
    }

    pub(super) fn judge(&mut self, done: Done) -> Verdict {
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
        if succeeded {
            self.note_oldest();
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
    pub(super) fn judge_read(
        &mut self,
        asked: &Asked,
        first: u64,
        delivered: &[Option<Delivered>],
        succeeded: bool,
    ) -> Verdict {
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
    pub(super) fn excuse(&mut self, asked: &Asked, status: Status) -> Verdict {
        self.tally.excused += 1;
        self.note_free_extents(false);
        let full = self.is_full(asked.volume);
        let struck = self.honest_faults() > asked.faults;
        let touches_unsure = |block: u64, blocks: u32| {
            let model = &self.volumes[&asked.volume].model;
            (block..block + u64::from(blocks)).any(|block| model.block(block).is_unsure(View::Live(asked.submitted)))
        };
        let full = status == Status::NoSpace && full;
        let lacking = struck || self.is_bereft();
        let excused = match asked.what {
            Ask::Read(block, blocks) if self.is_safe() => touches_unsure(block, blocks),
            _ if self.is_safe() => full || self.refused,
            Ask::Read(block, blocks) if self.is_protected(asked.volume) => touches_unsure(block, blocks),
            _ if self.is_tainted() => true,
            Ask::Read(block, blocks) if lacking && self.victim_only() => {
                touches_unsure(block, blocks) || self.may_lie_on_victim(asked.volume, block, blocks)
            }
            _ if self.is_protected(asked.volume) && self.config.losses => {
                full || self.refused || self.is_stopped() && self.may_need_victim()
            }
            _ if lacking => true,
            _ if status == Status::NoSpace => full || self.troubled,
            Ask::Read(block, blocks) => self.is_resealing_cut_off(asked.volume) || touches_unsure(block, blocks),
            _ => self.troubled,
        };
        if excused {
            return Ok(());
        }
        Err(format!("false error: {:?} of volume {} answered {status:?} without a reason", asked.what, asked.volume))
    }

    /// Whether the volume has a second copy of everything on a member that keeps its word.
    pub(super) fn is_protected(&self, volume: u32) -> bool {
        let victim = self.config.faulty_member;
        self.is_mirrored(volume) && victim.is_some() && self.trust == Trust::Sound && !self.is_spoiled_alone()
    }

    /// Whether a member is there without the others on which what was spoiled is whole.
    pub(super) fn is_spoiled_alone(&self) -> bool {
        let lost = |disk: &Disk| disk.is_lost() && Some(disk.member()) != self.config.faulty_member;
        self.config.spoils && self.disks.iter().any(lost)
    }

    pub(super) fn is_mirrored(&self, volume: u32) -> bool {
        self.volumes.get(&volume).is_some_and(|known| known.layout == Layout::Mirrored)
    }

    /// Whether the member that may be lost may hold what no other one knows, so that the pool cannot go on without it.
    fn may_need_victim(&self) -> bool {
        let resealed =
            |engine: &Engine| engine.volumes().any(|info| info.layout != Layout::Mirrored && info.resealing.is_some());
        self.changed_single || self.engine.as_ref().is_some_and(resealed)
    }

    /// Whether one member alone may be at fault, and the pool may go on without it.
    fn victim_only(&self) -> bool {
        self.config.losses && self.trust == Trust::Sound
    }

    /// Whether writes have stopped.
    fn is_stopped(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_read_only)
    }

    /// Whether one of the blocks lies on the member that may be lost, or nobody knows where.
    fn may_lie_on_victim(&self, volume: u32, block: u64, blocks: u32) -> bool {
        let Some(engine) = &self.engine else { return true };
        let victim = self.config.faulty_member.unwrap_or_default();
        let member = |block| Some(engine.member(engine.locate(volume, block, 0)?.0).disk().member());
        (block..block + u64::from(blocks)).any(|block| member(block).is_none_or(|member| member == victim))
    }

    /// Whether a block of the volume may have been sealed anew on the disk and not in memory, until the next mount: writes stopped
    /// meanwhile.
    fn is_resealing_cut_off(&self, volume: u32) -> bool {
        let resealing = |engine: &Engine| {
            engine.is_read_only() && engine.volumes().any(|info| info.number == volume && info.resealing.is_some())
        };
        self.engine.as_ref().is_some_and(resealing)
    }

    /// Free extents of each member, as far as volumes say; a member that is not there has none.
    pub(super) fn free_extents(&self) -> Vec<u64> {
        let mut free = self.config.extents.clone();
        let replaced = self.config.faulty_member.filter(|_| self.bereft || self.retired);
        let lost = |disk: &&Disk| disk.is_lost() || Some(disk.member()) == replaced;
        self.disks.iter().filter(lost).for_each(|disk| free[disk.member()] = 0);
        let Some(engine) = &self.engine else { return free };
        for info in engine.volumes() {
            for (block, copy) in extents(info.layout, info.blocks) {
                let Some((given, _)) = engine.locate(info.number, block, copy) else { continue };
                let left = &mut free[engine.member(given).disk().member()];
                *left = left.saturating_sub(1);
            }
        }
        free
    }

    /// Notes how few extents are free while requests are under way.
    pub(super) fn note_free_extents(&mut self, afresh: bool) {
        let now = self.free_extents();
        if afresh {
            self.least_free = now;
        } else {
            self.least_free.iter_mut().zip(now).for_each(|(least, now)| *least = now.min(*least));
        }
    }

    /// Whether an extent of the volume may have found no room. One that was given back may still be in use.
    pub(super) fn is_full(&self, volume: u32) -> bool {
        let layout = self.volumes.get(&volume).map(|known| known.layout);
        let roomy: Vec<bool> = self.least_free.iter().map(|free| *free > 1).collect();
        match layout {
            Some(Layout::Mirrored) => roomy.iter().filter(|roomy| **roomy).count() < 2,
            Some(Layout::Striped(columns)) => !roomy.iter().take(columns.into()).all(|roomy| *roomy),
            Some(Layout::Linear) | None => !roomy.contains(&true),
        }
    }
}

/// The first block of each extent of a volume, for every copy.
pub(super) fn extents(layout: Layout, blocks: u64) -> Vec<(u64, usize)> {
    let (columns, copies) = match layout {
        Layout::Linear => (1, 1),
        Layout::Striped(columns) => (u64::from(columns), 1),
        Layout::Mirrored => (1, 2),
    };
    let sets = (0..blocks.div_ceil(EXTENT_BLOCKS * columns)).map(|set| set * EXTENT_BLOCKS * columns);
    let firsts = sets.flat_map(|first| (0..columns).map(move |column| first + column * ROW_BLOCKS));
    firsts.flat_map(|first| (0..copies).map(move |copy| (first, copy))).collect()
}
