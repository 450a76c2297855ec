//! Discard and write-zeroes: the entries state zeros, and no data is written.

use block::BlockDevice;

use super::{Run, Step, Volume};
use crate::entry::State;

impl<D: BlockDevice> Volume<D> {
    /// States zeros in the entries alone; the old ciphertext stays on the disk and means nothing any more.
    pub(super) fn issue_zero(&mut self, mut run: Run, lazily: bool) -> Step {
        run.count = run.count.min(self.zero_budget as usize);
        if run.count == 0 {
            return Step::Exhausted;
        }
        if !self.cache.is_free(run.slot, run.first, run.count) {
            return Step::Waits;
        }
        self.zero_budget -= run.count as u32;
        for index in 0..run.count {
            let (at, block) = (run.first + index, run.block + index as u64);
            let is_zero = lazily && self.cache.entry(run.slot, at).is_some_and(|entry| entry.state == State::Zero);
            if !is_zero {
                let Some(version) = self.versions.take(1) else { return self.without_versions(run.request) };
                let entry = self.sealer.seal_zero(block, version);
                self.cache.set_entry(run.slot, at, &entry);
            }
            self.requests[run.request].issued += 1;
        }
        Step::Issued
    }
}
