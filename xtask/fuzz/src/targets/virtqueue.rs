//! A driver that writes anything anywhere, at any time: the bytes are its memory, and they change between reads.

use std::cell::RefCell;

use virtio::{
    Chain, Error, GuestMemory, Ledger, OutOfRange, Queue, QueueConfig, QueueFeatures, blk, chain::MAX_SEGMENTS,
};

/// Guest memory that begins at address 0, repeats the input, and changes a byte every few reads.
pub(crate) struct Shifting<'a> {
    pub(crate) seed: &'a [u8],
    pub(crate) bytes: RefCell<Vec<u8>>,
    pub(crate) reads: RefCell<usize>,
}

impl<'a> Shifting<'a> {
    pub(crate) fn new(data: &'a [u8], len: usize) -> Shifting<'a> {
        let bytes = data.iter().copied().chain(std::iter::repeat(0)).take(len).collect();
        Shifting { seed: data, bytes: RefCell::new(bytes), reads: RefCell::new(0) }
    }

    fn range(&self, address: u64, len: usize) -> Result<std::ops::Range<usize>, OutOfRange> {
        let wrong = OutOfRange { address, len };
        let start = usize::try_from(address).map_err(|_| wrong)?;
        let end = start.checked_add(len).ok_or(wrong)?;
        if end <= self.bytes.borrow().len() { Ok(start..end) } else { Err(wrong) }
    }

    /// The other side writes, as the input says.
    fn shift(&self) {
        let mut reads = self.reads.borrow_mut();
        *reads += 1;
        let mut bytes = self.bytes.borrow_mut();
        if let (Some(&a), Some(&b)) = (self.seed.get(*reads % self.seed.len().max(1)), self.seed.first())
            && a.is_multiple_of(4)
        {
            let at = (usize::from(a) * 257 + usize::from(b) * *reads) % bytes.len();
            bytes[at] = a.wrapping_add(b).rotate_left(*reads as u32 % 8);
        }
    }
}

impl GuestMemory for Shifting<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfRange> {
        self.shift();
        out.copy_from_slice(&self.bytes.borrow()[self.range(address, out.len())?]);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let range = self.range(address, data.len())?;
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }

    fn load_acquire(&self, address: u64) -> Result<u16, OutOfRange> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_release(&self, address: u64, value: u16) -> Result<(), OutOfRange> {
        self.write(address, &value.to_le_bytes())
    }

    fn fence(&self) {}
}

/// Of the device's three lives: the second and third go on with what the bytes and the life before have left.
static LEDGER: Ledger = Ledger::new();

/// The first byte is features and queue size; the rest is memory, rings first.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let memory = Shifting::new(rest, 4096);
    let size = 1 << (first % 7);
    let config = QueueConfig { size, descriptor_table: 0, available_ring: 1024, used_ring: 1536 };
    let features = QueueFeatures { indirect: first & 64 != 0, event_idx: first & 128 != 0 };
    LEDGER.begin(0);
    let mut life = Queue::new(config, features, &LEDGER);
    for _ in 0..3 {
        let Ok(mut queue) = life else { return };
        live(&memory, &mut queue);
        life = Queue::resume(config, features, &LEDGER, &memory);
    }
}

fn live(memory: &Shifting<'_>, queue: &mut Queue) {
    let mut chain = Chain::new();
    for _ in 0..64 {
        match serve(memory, queue, &mut chain) {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
}

fn serve(memory: &Shifting<'_>, queue: &mut Queue, chain: &mut Chain) -> Result<bool, Error> {
    const CAPACITY: u64 = 1000;
    let Some(token) = queue.pop(memory, chain)? else {
        return queue.enable_notifications(memory, 2);
    };
    let total: u64 = chain.segments().iter().map(|segment| u64::from(segment.len)).sum();
    assert!(chain.segments().len() <= MAX_SEGMENTS && total == u64::from(chain.len_bytes()));
    assert!(chain.segments().is_sorted_by_key(|segment| segment.writable));
    let request = blk::parse(memory, chain, CAPACITY)?;
    let status = match request.operation {
        Ok(blk::Operation::Read { block, blocks } | blk::Operation::Write { block, blocks }) => {
            assert!(blocks > 0 && block + u64::from(blocks) <= CAPACITY);
            assert_eq!(chain.len_bytes(), blocks * blk::BLOCK_BYTES);
            blk::Status::IoError
        }
        Ok(blk::Operation::Discard { block, blocks } | blk::Operation::WriteZeroes { block, blocks }) => {
            assert!(blocks > 0 && block + u64::from(blocks) <= CAPACITY && blocks <= blk::MAX_ZERO_BLOCKS);
            blk::Status::Ok
        }
        Ok(_) => blk::Status::Ok,
        Err(status) => status,
    };
    let written = request.answer(memory, status, chain.writable_bytes());
    queue.push_used(memory, token, written)?;
    queue.publish(memory)?;
    Ok(true)
}
