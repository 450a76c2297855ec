//! The entry table on its way from and to the disk.

use block::{BlockDevice, Buffer};

use super::{Job, Kind, Step, Volume};
use crate::{Event, cache::Victim};

/// Table blocks that an eviction stores at once.
const EVICTION_BATCH: usize = 8;

impl<D: BlockDevice> Volume<D> {
    /// Starts to load a block of the entry table into a slot of the cache.
    pub(super) fn load_table(&mut self, request: usize, table: u64) -> Step {
        let slot = match self.cache.victim() {
            Victim::Clean(slot) => slot,
            Victim::Dirty(slot) => {
                self.evict(slot);
                return Step::Exhausted;
            }
            Victim::None => return Step::Exhausted,
        };
        let Some((job, buffer)) = self.begin_job(1) else { return Step::Exhausted };
        self.cache.begin_load(slot, table);
        self.requests[request].jobs += 1;
        let at = self.superblock.geometry.table_start + table;
        let job_now = &mut self.jobs[job];
        (job_now.kind, job_now.request, job_now.slot, job_now.block) = (Kind::LoadTable, request, slot, at);
        let taken = self.disk.read(job as u32, at, buffer);
        self.check_taken(job, taken);
        Step::Waits
    }

    /// A table block has arrived, or could not be read.
    pub(super) fn complete_load(&mut self, job: usize, buffer: Option<&Buffer>) {
        let Job { request, slot, block, .. } = self.jobs[job];
        match buffer {
            Some(buffer) => self.cache.finish_load(slot, Some(self.disk.bytes(buffer))),
            None => {
                self.cache.finish_load(slot, None);
                self.report(Event::TableFailed { block });
                self.give_up(request);
            }
        }
        self.finish_job_of(request);
    }

    /// Stores `slot` and a few more dirty ones, so that the next misses find clean slots.
    pub(super) fn evict(&mut self, slot: usize) {
        let mut next = Some(slot);
        for _ in 0..EVICTION_BATCH {
            let Some(slot) = next else { return };
            if !self.cache.storing().contains(slot) && !self.store_table(slot) {
                return;
            }
            next = self.cache.dirty().next(slot + 1);
        }
    }

    /// Starts to store a dirty slot; `false` if a resource is missing.
    pub(super) fn store_table(&mut self, slot: usize) -> bool {
        let Some((job, buffer)) = self.begin_job(1) else { return false };
        let (table, bytes) = self.cache.begin_store(slot);
        self.disk.bytes(&buffer).copy_from_slice(bytes);
        if self.flush.to_store.contains(slot) {
            self.flush.to_store.remove(slot);
            self.flush.to_finish.insert(slot);
        }
        let at = self.superblock.geometry.table_start + table;
        let job_now = &mut self.jobs[job];
        (job_now.kind, job_now.slot, job_now.block) = (Kind::StoreTable, slot, at);
        let taken = self.disk.write(job as u32, at, buffer);
        self.check_taken(job, taken);
        true
    }

    /// A table block is on the disk, or is dirty again.
    pub(super) fn complete_store(&mut self, job: usize, ok: bool) {
        let slot = self.jobs[job].slot;
        self.cache.finish_store(slot, ok);
        let for_flush = self.flush.to_finish.contains(slot);
        self.flush.to_finish.remove(slot);
        if ok {
            self.flush.needed = true;
            return;
        }
        self.report(Event::TableFailed { block: self.jobs[job].block });
        if for_flush {
            self.flush.failed = true;
        } else if let Some(&request) = self.pending.front() {
            // An eviction failed: whoever has waited longest fails with it, so that nobody waits for ever.
            self.give_up(request);
        }
    }
}
