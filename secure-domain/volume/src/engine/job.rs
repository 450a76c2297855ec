//! Jobs: what is under way on the disk, and how it begins and ends.

use block::{BlockDevice, Buffer, Completion, Refused};

use super::{Fault, Job, Kind, Run, Transfer, Volume};

impl<D: BlockDevice> Volume<D> {
    /// A job, a place in the disk's queue, and a buffer of up to `blocks` blocks; or nothing.
    pub(super) fn begin_job(&mut self, blocks: usize) -> Option<(usize, Buffer)> {
        if self.disk.room() == 0 || self.free_jobs.is_empty() {
            return None;
        }
        let buffer = self.disk.allocate(blocks)?;
        Some((self.free_jobs.pop()?, buffer))
    }

    /// Gives back a job that was not started.
    pub(super) fn drop_job(&mut self, job: usize, buffer: Buffer) {
        self.disk.release(buffer);
        self.free_jobs.push(job);
    }

    /// Makes `job` the one of `run`: locks its blocks and counts them as issued.
    pub(super) fn start(&mut self, job: usize, kind: Kind, run: &Run) {
        let locked = self.cache.lock(run.slot, run.first, run.count);
        assert!(locked, "the blocks of a run were seen to be free");
        self.requests[run.request].issued += run.count as u32;
        self.requests[run.request].jobs += 1;
        let now = &mut self.jobs[job];
        (now.kind, now.request, now.slot, now.first) = (kind, run.request, run.slot, run.first);
        (now.count, now.block, now.offset) = (run.count, run.block, run.offset);
    }

    /// A disk that refuses a request after it said it had room has failed it.
    pub(super) fn check_taken(&mut self, job: usize, taken: Result<(), Refused>) {
        if let Err(Refused(buffer)) = taken {
            let result = Err(block::Error::Broken);
            self.complete(Completion { tag: job as u32, result, buffer }, &mut Nowhere);
        }
    }

    /// Ends the job that the completion names, whatever it was for, and gives its buffer back.
    pub(super) fn complete(&mut self, completion: Completion, transfer: &mut impl Transfer) {
        let Completion { tag, result, buffer } = completion;
        let job = tag as usize;
        let ok = result.is_ok();
        let kind = self.jobs.get(job).map_or(Kind::Free, |job| job.kind);
        match kind {
            Kind::Free => {}
            Kind::Read => self.complete_read(job, buffer.as_ref().filter(|_| ok), transfer),
            Kind::Write => self.complete_write(job, ok),
            Kind::LoadTable => self.complete_load(job, buffer.as_ref().filter(|_| ok)),
            Kind::StoreTable => self.complete_store(job, ok),
            Kind::StoreSuperblock => self.complete_superblock(job, ok),
            Kind::FlushSuperblock => self.complete_reservation(ok),
            Kind::FlushRound => self.complete_flush(ok),
        }
        if let Some(buffer) = buffer {
            self.disk.release(buffer);
        }
        // A superblock's write goes on as its flush, under the same job.
        if kind != Kind::Free && !(kind == Kind::StoreSuperblock && self.jobs[job].kind == Kind::FlushSuperblock) {
            self.jobs[job].kind = Kind::Free;
            self.free_jobs.push(job);
        }
    }

    /// Unlocks the blocks of a run and ends its job.
    pub(super) fn finish_run(&mut self, job: usize) {
        let Job { request, slot, first, count, .. } = self.jobs[job];
        self.cache.unlock(slot, first, count);
        self.finish_job_of(request);
    }

    /// One job of `request` has ended.
    pub(super) fn finish_job_of(&mut self, request: usize) {
        self.requests[request].jobs -= 1;
        self.settle(request);
    }
}

/// The other end of a completion that carries no data.
struct Nowhere;

impl Transfer for Nowhere {
    fn gather(&mut self, _: u32, _: u32, _: &mut [u8]) -> Result<(), Fault> {
        Err(Fault)
    }

    fn scatter(&mut self, _: u32, _: u32, _: &[u8]) -> Result<(), Fault> {
        Err(Fault)
    }
}
