//! Batches for the crypto engine: 16 blocks at a time, of however many requests.
//!
//! A payload is copied once from the guest into `plain`, and sealed from there into the DMA buffers of the runs. What was read is
//! opened from the DMA buffers into `plain`, and only what is good is copied on to the guest. The cipher takes
//! its sectors in one piece, and mostly they are: the blocks of a run are, and runs that are issued together get buffers that
//! follow each other. Where they are not, `sealed` stands between; a mode that gains little by the number opens stretch by stretch instead.
//!
//! Opening from a DMA buffer relies on its device not writing to it after it has said that it is done: GCM goes over the bytes twice,
//! first for the tag. The disk's controller is part of the machine; what may lie to us is what it stores.

use alloc::{boxed::Box, vec::Vec};

use anchor::MonotonicStore;
use block::{BlockDevice, Buffer};
use crypto::{NONCE_LEN, Nonce, Sector, TAG_LEN, Tag};

use super::{
    Pool,
    place::{MAX_COPIES, MAX_RUNS, Purpose, Runs},
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
        while let Some((slot, version, count)) = self.resealed.pop() {
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
        self.fetch_entries();
        let Pool { batch, runs, members, volumes, .. } = self;
        let len = core::mem::take(&mut batch.len);
        if len == 0 {
            return Ok(());
        }
        let sealer = &volumes[batch.key.0].as_ref().expect("a volume with requests is not deleted").sealer;
        let Batch { nonces, aads, plain, sealed, tags, items, .. } = batch;
        let (nonces, aads, plain, items) = (&nonces[..len], &aads[..len], &plain[..len], &items[..len]);
        let target = joined(members, runs, items);
        let in_place = target.is_some();
        sealer.seal(nonces, aads, plain, target.unwrap_or(&mut sealed[..len]), &mut tags[..len])?;
        for (slot, Item { run, index }) in items.iter().enumerate() {
            let state = runs.get_mut(*run);
            state.tags[*index] = tags[slot];
            if !in_place {
                sector(members, state, 0, *index).copy_from_slice(&sealed[slot]);
            }
            if state.copies == MAX_COPIES {
                sealed[slot] = *sector(members, state, 0, *index);
                sector(members, state, 1, *index).copy_from_slice(&sealed[slot]);
            }
        }
        Ok(())
    }

    /// Looks at the entries of the batch, all at once: they are mostly in no cache of the processor's, will be changed when the data is
    /// written, and are waited for one by one then.
    fn fetch_entries(&self) {
        let items = &self.batch.items[..self.batch.len];
        let versions = items.iter().map(|Item { run, index }| {
            let place = &self.runs.get(*run).places[0];
            self.cache.entry(place.slot, place.first + index)[0]
        });
        core::hint::black_box(versions.fold(0, u8::wrapping_add));
    }

    /// Opens what came from the disks, in batches, and hands on what is good.
    pub(super) fn open_reads(&mut self, transfer: &mut impl Transfer) {
        if self.batch.reads.is_empty() {
            return;
        }
        let mut reads = core::mem::take(&mut self.batch.reads);
        // Disks answer in any order; buffers that follow each other are opened together.
        reads.sort_unstable_by_key(|run| self.runs.get(*run).buffers[0].as_ref().map(Buffer::first));
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
        let (request, offset, unread) = (state.request, state.offset, state.unread);
        if state.purpose == Purpose::Read && self.requests.get(request).cancelled {
            self.end_run(run);
            return;
        }
        for index in 0..count {
            match self.entry_at(&place, index) {
                Some(Entry::Sealed { .. }) if unread => self.unreadable(run, index),
                Some(Entry::Sealed { version, epoch, tag }) => {
                    self.open_one(run, index, volume, epoch, version, tag, first + index as u64, transfer);
                }
                Some(_) if request == WALKER => {}
                Some(_) => self.scatter(request, offset + index as u32, &ZEROS, transfer),
                None => self.impossible(run, volume, first + index as u64),
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
            self.impossible(run, volume, block);
            return;
        };
        let (nonce, aad) = (sealer.nonce(version), sealer.aad(block));
        let batch = &mut self.batch;
        let slot = batch.len;
        batch.items[slot] = Item { run, index };
        (batch.nonces[slot], batch.aads[slot], batch.tags[slot]) = (nonce, aad, tag);
        batch.len += 1;
    }

    /// The entry of a block is none that this code writes, or of an epoch that has no key.
    fn impossible(&mut self, run: usize, slot: usize, block: u64) {
        let (request, volume) = (self.runs.get(run).request, self.volume(slot).record.number);
        self.report(Event::EntryImpossible { volume, block });
        self.runs.get_mut(run).spoiled = true;
        self.fail(request, Status::IoError);
        self.pass_over(slot, block);
    }

    /// Opens what the batch holds and hands on what is good; runs that are through end.
    fn open_items(&mut self, transfer: &mut impl Transfer) {
        if self.batch.len == 0 && self.batch.whole.is_empty() {
            return;
        }
        let len = core::mem::take(&mut self.batch.len);
        let mut good = [false; BATCH];
        match self.open_batch(len, &mut good) {
            Ok(()) => self.hand_on_all(&good[..len], transfer),
            Err(error) => self.open_nothing(len, error),
        }
        let mut whole = core::mem::take(&mut self.batch.whole);
        for run in whole.drain(..) {
            self.finish_opened(run);
        }
        self.batch.whole = whole;
    }

    fn open_batch(&mut self, len: usize, good: &mut [bool; BATCH]) -> Result<(), crypto::Error> {
        let Pool { batch, runs, members, volumes, .. } = self;
        let sealer = volumes[batch.key.0].as_ref().and_then(|volume| volume.sealer_of(batch.key.1));
        let Some(sealer) = sealer.filter(|_| len != 0) else { return Ok(()) };
        let Batch { nonces, aads, sealed, plain, tags, items, .. } = batch;
        let mut from = 0;
        while from < len {
            let until = if sealer.in_lanes() { len } else { from + stretch(runs, &items[from..len]) };
            let part = from..until;
            let source = match joined(members, runs, &items[part.clone()]) {
                Some(source) => source,
                None => {
                    for (sealed, Item { run, index }) in sealed.iter_mut().zip(&items[..len]) {
                        *sealed = *sector(members, runs.get(*run), 0, *index);
                    }
                    &mut sealed[part.clone()]
                }
            };
            let (nonces, aads, plain) = (&nonces[part.clone()], &aads[part.clone()], &mut plain[part.clone()]);
            sealer.open(nonces, aads, source, plain, &tags[part.clone()], &mut good[part])?;
            from = until;
        }
        Ok(())
    }

    /// Hands on what was opened, in stretches of blocks that fare alike.
    fn hand_on_all(&mut self, good: &[bool], transfer: &mut impl Transfer) {
        let mut from = 0;
        while from < good.len() {
            let until = self.same_fate(good, from);
            self.hand_on(from..until, good[from], transfer);
            from = until;
        }
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
            (Purpose::Heal, true) => {
                if state.unread {
                    self.heal_again(run, 1);
                } else {
                    self.walker.incomplete = true;
                }
                self.end_run(run);
            }
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

    /// Behind the good blocks of one run that begin with `from`, which go on together; a bad one goes alone.
    fn same_fate(&self, good: &[bool], from: usize) -> usize {
        let Item { run, index } = self.batch.items[from];
        let follows = |at: &usize| {
            let next = self.batch.items[*at];
            good[*at] && next.run == run && next.index == index + (*at - from)
        };
        let more = if good[from] { (from + 1..good.len()).take_while(follows).count() } else { 0 };
        from + 1 + more
    }

    /// Consecutive blocks of one run were opened, or one could not be.
    fn hand_on(&mut self, slots: core::ops::Range<usize>, good: bool, transfer: &mut impl Transfer) {
        let Item { run, index } = self.batch.items[slots.start];
        let state = self.runs.get(run);
        let (request, at, block) = (state.request, state.offset + index as u32, state.block + index as u64);
        let Request { volume, cookie, cancelled, .. } = *self.requests.get(request);
        let purpose = state.purpose;
        if !good {
            self.hand_on_bad(run, index, block);
            return;
        }
        if purpose == Purpose::Reseal {
            let Pool { batch, runs, members, .. } = self;
            let target = &mut copy_bytes(members, runs.get(run), 0).as_chunks_mut().0[index..index + slots.len()];
            target.copy_from_slice(&batch.plain[slots]);
            return;
        }
        if request == WALKER || cancelled {
            return;
        }
        let plain = self.batch.plain[slots].as_flattened();
        if transfer.scatter(volume, cookie, at * BLOCK_BYTES as u32, plain).is_err() {
            self.fail(request, Status::IoError);
        }
    }

    /// A block could not be opened: another copy may be good.
    fn hand_on_bad(&mut self, run: usize, index: usize, block: u64) {
        self.runs.get_mut(run).spoiled = true;
        if self.heal(run, index) {
            return;
        }
        let state = self.runs.get(run);
        let (request, slot) = (state.request, state.volume);
        self.report(Event::TagMismatch { volume: self.volume(slot).record.number, block });
        self.fail(request, Status::IoError);
        self.pass_over(slot, block);
    }

    fn scatter(&mut self, request: usize, at: u32, data: &Sector, transfer: &mut impl Transfer) {
        let Request { volume, cookie, .. } = *self.requests.get(request);
        if transfer.scatter(volume, cookie, at * BLOCK_BYTES as u32, data).is_err() {
            self.fail(request, Status::IoError);
        }
    }
}

/// How many of the first blocks of `items`, at least one, lie in one piece in their DMA buffers, in order.
fn stretch(runs: &Runs, items: &[Item]) -> usize {
    // Blocks of zeros between those of a run are not opened, so even one run's need not follow each other.
    let place = |item: &Item| {
        let run = runs.get(item.run);
        run.buffers[0].as_ref().map(|buffer| (run.places[0].physical.member, buffer.first() + item.index))
    };
    let Some((member, first)) = items.first().and_then(place) else { return 1 };
    (1..items.len()).find(|at| place(&items[*at]) != Some((member, first + at))).unwrap_or(items.len())
}

/// The blocks of the batch in their DMA buffers, if they lie in one piece there, in order.
fn joined<'a, D: BlockDevice>(
    members: &'a mut [super::Member<D>],
    runs: &Runs,
    items: &[Item],
) -> Option<&'a mut [Sector]> {
    let (first, last) = (items.first()?, items.last()?);
    let run = runs.get(first.run);
    let (member, buffer) = (run.places[0].physical.member, run.buffers[0].as_ref()?);
    if stretch(runs, items) != items.len() {
        return None;
    }
    let until = first.index + items.len();
    let device = &mut members[member].device;
    let bytes = if first.run == last.run { device.bytes(buffer) } else { device.span(buffer, until)? };
    bytes.as_chunks_mut().0.get_mut(first.index..until)
}

/// Block `index` of the buffer of copy `copy` of a run.
fn sector<'a, D: BlockDevice>(
    members: &'a mut [super::Member<D>],
    run: &super::place::Run,
    copy: usize,
    index: usize,
) -> &'a mut Sector {
    &mut copy_bytes(members, run, copy).as_chunks_mut().0[index]
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
