//! Batches for the crypto engine: 16 blocks at a time, of however many requests.
//!
//! A payload is copied once from the guest into `plain`; the batch is sealed into `sealed` and copied from there into the DMA
//! buffers of the runs, or, when the batch is one run's alone, sealed straight into them. Reading goes the other way.

use alloc::{boxed::Box, vec::Vec};

use anchor::MonotonicStore;
use block::BlockDevice;
use crypto::{NONCE_LEN, Nonce, Sector, TAG_LEN, Tag};

use super::{
    Pool,
    place::{MAX_COPIES, MAX_RUNS, Purpose},
    read::ZEROS,
    request::{Request, WALKER},
};
use crate::{
    BLOCK_BYTES, Event, Status, Transfer,
    record::entry::Entry,
    seal::{AAD_BYTES, Aad, BATCH},
};

/// A block of a batch.
#[derive(Clone, Copy, Debug, Default)]
struct Item {
    run: usize,
    /// Block of the run.
    index: usize,
}

/// What is gathered for the crypto engine.
pub(super) struct Batch {
    plain: Box<[Sector; BATCH]>,
    sealed: Box<[Sector; BATCH]>,
    nonces: [Nonce; BATCH],
    aads: [Aad; BATCH],
    tags: [Tag; BATCH],
    items: [Item; BATCH],
    len: usize,
    /// Whose key: place of the volume in the catalog, and epoch.
    key: (usize, u16),
    /// Runs that are gathered to their end: they go into the log when sealed, or end when opened.
    whole: Vec<usize>,
    /// Runs that came from a disk and are to be opened.
    reads: Vec<usize>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let sectors = || {
            let boxed: Box<[Sector]> = alloc::vec![[0; BLOCK_BYTES]; BATCH].into();
            <Box<[Sector; BATCH]>>::try_from(boxed).expect("the vector has that length")
        };
        Batch {
            plain: sectors(),
            sealed: sectors(),
            nonces: [[0; NONCE_LEN]; BATCH],
            aads: [[0; AAD_BYTES]; BATCH],
            tags: [[0; TAG_LEN]; BATCH],
            items: [Item::default(); BATCH],
            len: 0,
            key: (0, 0),
            whole: Vec::with_capacity(BATCH),
            reads: Vec::with_capacity(MAX_RUNS),
        }
    }

    pub(super) fn add_read(&mut self, run: usize) {
        self.reads.push(run);
    }

    /// The run that the whole batch belongs to, with its first block; the items of one run are consecutive.
    fn only_run(&self) -> Option<Item> {
        let (first, last) = (self.items[0], self.items[self.len.checked_sub(1)?]);
        (first.run == last.run).then_some(first)
    }
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Copies the payload of a write into the batch, which is sealed whenever it is full.
    pub(super) fn gather_run(&mut self, run: usize, transfer: &mut impl Transfer) {
        let state = self.runs.get(run);
        let (count, first, offset, version) = (state.count, state.block, state.offset, state.version);
        let (key, request) = ((state.volume, state.epoch), state.request);
        if self.batch.key != key || (count >= BATCH && self.batch.len != 0) {
            self.seal_batch(transfer);
            self.batch.key = key;
        }
        let (volume, cookie) = (self.requests.get(request).volume, self.requests.get(request).cookie);
        let mut done = 0;
        while done < count {
            let (from, take) = (self.batch.len, (BATCH - self.batch.len).min(count - done));
            let place = self.batch.plain[from..from + take].as_flattened_mut();
            let at = (offset + done as u32) * BLOCK_BYTES as u32;
            if transfer.gather(volume, cookie, at, place).is_err() {
                // What of the run was sealed already lies in its own buffers alone.
                self.fail(request, Status::IoError);
                self.batch.len = self.batch.items[..from].iter().position(|item| item.run == run).unwrap_or(from);
                self.keep_promise(run);
                self.end_run(run);
                return;
            }
            let sealer = &self.volumes[key.0].as_ref().expect("a volume with requests is not deleted").sealer;
            for step in 0..take {
                let (slot, index) = (from + step, done + step);
                self.batch.items[slot] = Item { run, index };
                self.batch.nonces[slot] = sealer.nonce(version + index as u64);
                self.batch.aads[slot] = sealer.aad(first + index as u64);
                transfer.sealed(volume, key.1, version + index as u64);
            }
            self.batch.len += take;
            done += take;
            if done == count {
                self.batch.whole.push(run);
            }
            if self.batch.len == BATCH {
                self.seal_batch(transfer);
            }
        }
    }

    /// Seals what the batch holds; runs that are sealed to their end go into the log.
    pub(super) fn seal_batch(&mut self, transfer: &mut impl Transfer) {
        for (slot, version, count) in core::mem::take(&mut self.resealed) {
            let (volume, epoch) = (self.volume(slot).record.number, self.volume(slot).sealer.epoch());
            (0..count).for_each(|index| transfer.sealed(volume, epoch, version + index));
        }
        if let Err(error) = self.seal_items() {
            self.refused(error);
        }
        for at in 0..self.batch.whole.len() {
            let run = self.batch.whole[at];
            self.keep_promise(run);
            if self.refusal().is_none() {
                self.append_run(run);
            } else {
                self.fail(self.runs.get(run).request, Status::IoError);
                self.end_run(run);
            }
        }
        self.batch.whole.clear();
    }

    fn seal_items(&mut self) -> Result<(), crypto::Error> {
        let Pool { batch, runs, members, volumes, .. } = self;
        let only = batch.only_run();
        let len = core::mem::take(&mut batch.len);
        if len == 0 {
            return Ok(());
        }
        let sealer = &volumes[batch.key.0].as_ref().expect("a volume with requests is not deleted").sealer;
        let (nonces, aads, plain) = (&batch.nonces[..len], &batch.aads[..len], &batch.plain[..len]);
        if let Some(Item { run, index }) = only {
            let state = runs.get_mut(run);
            let bytes = copy_bytes(members, state, 0);
            let target = &mut bytes.as_chunks_mut().0[index..index + len];
            sealer.seal(nonces, aads, plain, target, &mut state.tags[index..index + len])?;
            if state.copies == MAX_COPIES {
                batch.sealed[..len].copy_from_slice(target);
                copy_bytes(members, state, 1).as_chunks_mut().0[index..index + len]
                    .copy_from_slice(&batch.sealed[..len]);
            }
            return Ok(());
        }
        sealer.seal(nonces, aads, plain, &mut batch.sealed[..len], &mut batch.tags[..len])?;
        for slot in 0..len {
            let Item { run, index } = batch.items[slot];
            let state = runs.get_mut(run);
            state.tags[index] = batch.tags[slot];
            for copy in 0..state.copies {
                copy_bytes(members, state, copy).as_chunks_mut().0[index] = batch.sealed[slot];
            }
        }
        Ok(())
    }

    /// Opens what came from the disks, in batches, and hands on what is good.
    pub(super) fn open_reads(&mut self, transfer: &mut impl Transfer) {
        let mut reads = core::mem::take(&mut self.batch.reads);
        for run in reads.drain(..) {
            self.open_run(run, transfer);
        }
        self.batch.reads = reads;
        self.open_items(transfer);
    }

    /// Puts the blocks of a run into the batch; zeros need none.
    fn open_run(&mut self, run: usize, transfer: &mut impl Transfer) {
        let state = self.runs.get(run);
        let (count, first, place, volume) = (state.count, state.block, state.places[0], state.volume);
        let (request, offset) = (state.request, state.offset);
        if state.purpose == Purpose::Read && self.requests.get(request).cancelled {
            self.end_run(run);
            return;
        }
        let floor = self.members[place.physical.member].extents.version(place.physical.extent);
        for index in 0..count {
            let entry = Entry::parse(self.cache.entry(place.slot, place.first + index));
            match entry {
                Some(Entry::Sealed { version, epoch, tag }) if version >= floor => {
                    self.open_one(run, index, volume, epoch, version, tag, first + index as u64, transfer);
                }
                Some(_) if request == WALKER => {}
                Some(_) => self.scatter(request, offset + index as u32, &ZEROS, transfer),
                None => {
                    let volume = self.volume(volume).record.number;
                    self.runs.get_mut(run).spoiled = true;
                    self.report(Event::EntryImpossible { volume, block: first + index as u64 });
                    self.fail(request, Status::IoError);
                }
            }
        }
        self.batch.whole.push(run);
    }

    #[allow(clippy::too_many_arguments)]
    fn open_one(
        &mut self,
        run: usize,
        index: usize,
        volume: usize,
        epoch: u16,
        version: u64,
        tag: Tag,
        block: u64,
        transfer: &mut impl Transfer,
    ) {
        if self.batch.len == BATCH || (self.batch.key != (volume, epoch) && self.batch.len != 0) {
            self.open_items(transfer);
        }
        self.batch.key = (volume, epoch);
        let Some(sealer) = self.volume(volume).sealer_of(epoch) else {
            let (request, volume) = (self.runs.get(run).request, self.volume(volume).record.number);
            self.report(Event::EntryImpossible { volume, block });
            self.runs.get_mut(run).spoiled = true;
            self.fail(request, Status::IoError);
            return;
        };
        let (nonce, aad) = (sealer.nonce(version), sealer.aad(block));
        let Pool { batch, runs, members, .. } = self;
        let slot = batch.len;
        batch.items[slot] = Item { run, index };
        (batch.nonces[slot], batch.aads[slot], batch.tags[slot]) = (nonce, aad, tag);
        batch.sealed[slot] = copy_bytes(members, runs.get_mut(run), 0).as_chunks().0[index];
        batch.len += 1;
    }

    /// Opens what the batch holds and hands on what is good; runs that are through end.
    fn open_items(&mut self, transfer: &mut impl Transfer) {
        let len = core::mem::take(&mut self.batch.len);
        let mut good = [false; BATCH];
        match self.open_batch(len, &mut good) {
            Ok(()) => (0..len).for_each(|slot| self.hand_on(slot, good[slot], transfer)),
            Err(error) => self.open_nothing(len, error),
        }
        let mut whole = core::mem::take(&mut self.batch.whole);
        for run in whole.drain(..) {
            self.finish_opened(run);
        }
        self.batch.whole = whole;
    }

    fn open_batch(&mut self, len: usize, good: &mut [bool; BATCH]) -> Result<(), crypto::Error> {
        let Pool { batch, volumes, .. } = self;
        let sealer = volumes[batch.key.0].as_ref().and_then(|volume| volume.sealer_of(batch.key.1));
        let Some(sealer) = sealer.filter(|_| len != 0) else { return Ok(()) };
        let Batch { nonces, aads, sealed, plain, tags, .. } = batch;
        let plain = &mut plain[..len];
        sealer.open(&nonces[..len], &aads[..len], &sealed[..len], plain, &tags[..len], &mut good[..len])
    }

    /// The crypto module refused: nothing is known about the blocks of the batch.
    fn open_nothing(&mut self, len: usize, error: crypto::Error) {
        self.refused(error);
        for slot in 0..len {
            let run = self.batch.items[slot].run;
            self.runs.get_mut(run).spoiled = true;
            self.fail(self.runs.get(run).request, Status::IoError);
        }
    }

    /// All blocks of the run were opened, or could not be: what becomes of it depends on what it is for.
    pub(super) fn finish_opened(&mut self, run: usize) {
        let state = self.runs.get(run);
        match (state.purpose, state.spoiled) {
            (Purpose::Heal, false) => self.rewrite_bad_copy(run),
            (Purpose::Reseal, false) => self.reseal_run(run),
            (Purpose::Reseal, true) => {
                self.reseal_carefully(run);
                self.end_run(run);
            }
            _ => self.end_run(run),
        }
    }

    /// Seals what was opened in the new epoch; it lies in the run's first buffer.
    fn reseal_run(&mut self, run: usize) {
        let state = self.runs.get(run);
        let (count, first, slot, copies) = (state.count, state.block, state.volume, state.copies);
        if self.stopped || self.versions_left() < count as u64 || !self.log_has_room(count * copies) {
            self.end_run(run);
            return;
        }
        let version = self.take_versions(count as u64);
        let Pool { batch, runs, members, volumes, .. } = self;
        let sealer = &volumes[slot].as_ref().expect("a volume is not deleted while it is resealed").sealer;
        let state = runs.get_mut(run);
        (state.version, state.epoch) = (version, sealer.epoch());
        for index in 0..count {
            batch.nonces[index] = sealer.nonce(version + index as u64);
            batch.aads[index] = sealer.aad(first + index as u64);
        }
        let plain = &mut copy_bytes(members, state, 0).as_chunks_mut().0[..count];
        batch.plain[..count].copy_from_slice(plain);
        let Batch { nonces, aads, plain, sealed, .. } = batch;
        let (nonces, aads, plain, tags) = (&nonces[..count], &aads[..count], &plain[..count], &mut state.tags[..count]);
        if let Err(error) = sealer.seal(nonces, aads, plain, &mut sealed[..count], tags) {
            self.refused(error);
            self.end_run(run);
            return;
        }
        for copy in 0..copies {
            copy_bytes(members, state, copy).as_chunks_mut().0[..count].copy_from_slice(&sealed[..count]);
        }
        self.resealed.push((slot, version, count as u64));
        self.append_run(run);
    }

    fn hand_on(&mut self, slot: usize, good: bool, transfer: &mut impl Transfer) {
        let Item { run, index } = self.batch.items[slot];
        let state = self.runs.get(run);
        let (request, at, block) = (state.request, state.offset + index as u32, state.block + index as u64);
        let Request { volume, cookie, .. } = *self.requests.get(request);
        let purpose = state.purpose;
        if !good {
            self.runs.get_mut(run).spoiled = true;
            if !self.heal(run, index) {
                let slot = self.runs.get(run).volume;
                self.report(Event::TagMismatch { volume: self.volume(slot).record.number, block });
                self.fail(request, Status::IoError);
                self.pass_over(slot, block);
            }
            return;
        }
        if purpose == Purpose::Reseal {
            let Pool { batch, runs, members, .. } = self;
            copy_bytes(members, runs.get_mut(run), 0).as_chunks_mut().0[index] = batch.plain[slot];
            return;
        }
        if request == WALKER || self.requests.get(request).cancelled {
            return;
        }
        let plain = &self.batch.plain[slot];
        if transfer.scatter(volume, cookie, at * BLOCK_BYTES as u32, plain).is_err() {
            self.fail(request, Status::IoError);
        }
    }

    fn scatter(&mut self, request: usize, at: u32, data: &Sector, transfer: &mut impl Transfer) {
        let Request { volume, cookie, .. } = *self.requests.get(request);
        if transfer.scatter(volume, cookie, at * BLOCK_BYTES as u32, data).is_err() {
            self.fail(request, Status::IoError);
        }
    }
}

/// The bytes of the buffer of copy `copy` of a run.
fn copy_bytes<'a, D: BlockDevice>(
    members: &'a mut [super::Member<D>],
    run: &super::place::Run,
    copy: usize,
) -> &'a mut [u8] {
    let buffer = run.buffers[copy].as_ref().expect("a run that is sealed or opened holds its buffers");
    members[run.places[copy].physical.member].device.bytes(buffer)
}
