//! Reads: a run comes from the disk into a DMA buffer, is opened there, and only verified blocks go on to the guest. A run of
//! zeros needs no disk at all.

use block::{BlockDevice, Buffer, MAX_REQUEST_BLOCKS};

use super::{Job, Kind, Request, Run, Step, Transfer, Volume};
use crate::{BLOCK_BYTES, Event, entry::State};

impl<D: BlockDevice> Volume<D> {
    /// Starts to read a run, or answers it at once if all of it is zeros.
    pub(super) fn issue_read(&mut self, mut run: Run, transfer: &mut impl Transfer) -> Step {
        run.count = run.count.min(MAX_REQUEST_BLOCKS);
        if !self.cache.is_free(run.slot, run.first, run.count) {
            return Step::Waits;
        }
        if self.all_zero(&run) {
            return self.read_zeros(&run, transfer);
        }
        let Some((job, buffer)) = self.begin_job(run.count) else { return Step::Exhausted };
        run.count = buffer.blocks();
        self.start(job, Kind::Read, &run);
        let taken = self.disk.read(job as u32, self.superblock.geometry.data_start + run.block, buffer);
        self.check_taken(job, taken);
        Step::Issued
    }

    /// Whether every entry of the run states zeros (not yet verified).
    pub(super) fn all_zero(&self, run: &Run) -> bool {
        (run.first..run.first + run.count)
            .all(|index| self.cache.entry(run.slot, index).is_some_and(|entry| entry.state == State::Zero))
    }

    /// Answers a run of zeros from its entries, once they are verified.
    pub(super) fn read_zeros(&mut self, run: &Run, transfer: &mut impl Transfer) -> Step {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        for index in 0..run.count {
            let entry = self.cache.entry(run.slot, run.first + index);
            let block = run.block + index as u64;
            let verified = entry.is_some_and(|entry| self.sealer.open(block, &entry, &mut []).is_ok());
            let at = (run.offset + index as u32) * BLOCK_BYTES as u32;
            if !verified {
                self.report(Event::TagMismatch { block });
                self.requests[run.request].failed = true;
            } else if transfer.scatter(run.cookie, at, &ZEROS).is_err() {
                self.requests[run.request].failed = true;
            }
        }
        self.requests[run.request].issued += run.count as u32;
        Step::Issued
    }

    /// Opens each block in place and hands it on only when its tag is right.
    pub(super) fn complete_read(&mut self, job: usize, buffer: Option<&Buffer>, transfer: &mut impl Transfer) {
        let Job { request, slot, first, count, block, offset, .. } = self.jobs[job];
        let Request { cookie, cancelled, .. } = self.requests[request];
        match buffer {
            None => {
                self.report(Event::ReadFailed { block });
                self.requests[request].failed = true;
            }
            Some(_) if cancelled => {}
            Some(buffer) => {
                for index in 0..count {
                    let data = &mut self.disk.bytes(buffer)[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
                    let block = block + index as u64;
                    let event = match self.cache.entry(slot, first + index) {
                        None => Some(Event::EntryDamaged { block }),
                        Some(entry) if self.sealer.open(block, &entry, data).is_err() => {
                            Some(Event::TagMismatch { block })
                        }
                        Some(_) => None,
                    };
                    let at = (offset + index as u32) * BLOCK_BYTES as u32;
                    let given = event.is_none() && transfer.scatter(cookie, at, data).is_ok();
                    self.requests[request].failed |= !given;
                    if let Some(event) = event {
                        self.report(event);
                    }
                }
            }
        }
        self.finish_run(job);
    }
}
