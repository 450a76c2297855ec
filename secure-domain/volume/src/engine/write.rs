//! Writes: the payload is copied once into a DMA buffer, sealed there under fresh versions, and goes to its place; the entries
//! change when the data is on the disk.

use block::{BlockDevice, MAX_REQUEST_BLOCKS};

use super::{Job, Kind, Run, Step, Transfer, Volume};
use crate::{
    BLOCK_BYTES, Event,
    entry::{Entry, State},
};

impl<D: BlockDevice> Volume<D> {
    /// Order matters: what may be missing is asked for first (a job, a buffer, versions), then the payload is read, once.
    pub(super) fn issue_write(&mut self, mut run: Run, transfer: &mut impl Transfer) -> Step {
        run.count = run.count.min(MAX_REQUEST_BLOCKS);
        if !self.cache.is_free(run.slot, run.first, run.count) {
            return Step::Waits;
        }
        let Some((job, buffer)) = self.begin_job(run.count) else { return Step::Exhausted };
        run.count = buffer.blocks();
        let Some(version) = self.versions.take(run.count as u64) else {
            self.drop_job(job, buffer);
            return self.without_versions(run.request);
        };
        if transfer.gather(run.cookie, run.offset * BLOCK_BYTES as u32, self.disk.bytes(&buffer)).is_err() {
            self.drop_job(job, buffer);
            self.give_up(run.request);
            return Step::Issued;
        }
        for (index, data) in self.disk.bytes(&buffer).chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let entry = self.sealer.seal(run.block + index as u64, version + index as u64, data);
            self.jobs[job].tags[index] = entry.tag;
        }
        self.jobs[job].version = version;
        self.start(job, Kind::Write, &run);
        let taken = self.disk.write(job as u32, self.superblock.geometry.data_start + run.block, buffer);
        self.check_taken(job, taken);
        Step::Issued
    }

    /// The data is on the disk: from here on the new entries are the block's.
    pub(super) fn complete_write(&mut self, job: usize, ok: bool) {
        let Job { request, slot, first, count, block, version, .. } = self.jobs[job];
        if ok {
            self.flush.needed = true;
            for index in 0..count {
                let (version, tag) = (version + index as u64, self.jobs[job].tags[index]);
                self.cache.set_entry(slot, first + index, &Entry { version, tag, state: State::Sealed });
            }
        } else {
            self.report(Event::WriteFailed { block });
            self.requests[request].failed = true;
        }
        self.finish_run(job);
    }
}
