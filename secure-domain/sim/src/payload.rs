//! The guest's memory: what each request under way carries in or out, and whether the engine touched it as it must.

use std::collections::BTreeMap;

use block::BLOCK_BYTES;
use volume::{Fault, Transfer};

use crate::{audit::Audit, content};

/// What the guest's memory holds before a read: neither zeros nor plaintext.
const POISON: u8 = 0xdb;

/// The payload of one request.
#[derive(Debug)]
struct Payload {
    bytes: Vec<u8>,
    /// Each block of a write: bytes gathered so far.
    gathered: Vec<usize>,
    /// It is a read: bytes come in.
    inward: bool,
}

/// The payloads of the requests under way.
#[derive(Debug, Default)]
pub struct Payloads {
    held: BTreeMap<u32, Payload>,
    /// The first thing that the engine did to a payload and must not.
    pub misuse: Option<String>,
    /// Which nonces were used.
    pub audit: Audit,
}

impl Payloads {
    /// No memory is lent; the audit goes on.
    pub fn with(audit: Audit) -> Payloads {
        Payloads { audit, ..Payloads::default() }
    }

    /// Lends memory that a read of `blocks` blocks fills.
    pub fn lend_read(&mut self, cookie: u32, blocks: usize) {
        let payload = Payload { bytes: vec![POISON; blocks * BLOCK_BYTES], gathered: Vec::new(), inward: true };
        self.held.insert(cookie, payload);
    }

    /// Lends the plaintexts with these numbers for a write.
    pub fn lend_write(&mut self, cookie: u32, numbers: &[u64]) {
        let mut bytes = vec![0; numbers.len() * BLOCK_BYTES];
        for (number, out) in numbers.iter().zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            content::write_plaintext(*number, out);
        }
        self.held.insert(cookie, Payload { bytes, gathered: vec![0; numbers.len()], inward: false });
    }

    /// Takes the memory back. For a read: what each block holds, `None` where nothing was delivered.
    pub fn take(&mut self, cookie: u32) -> Vec<Option<Delivered>> {
        let Some(payload) = self.held.remove(&cookie).filter(|payload| payload.inward) else { return Vec::new() };
        payload.bytes.chunks_exact(BLOCK_BYTES).map(delivered).collect()
    }

    /// Takes all memory back: the guest is gone.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    fn misused(&mut self, what: String) -> Fault {
        self.misuse.get_or_insert(what);
        Fault
    }
}

/// What a read delivered into a block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The plaintext with this number.
    Plaintext(u64),
    /// Something else.
    Garbage,
}

fn delivered(bytes: &[u8]) -> Option<Delivered> {
    if bytes.iter().all(|byte| *byte == POISON) {
        return None;
    }
    Some(content::number_of(bytes).map_or(Delivered::Garbage, Delivered::Plaintext))
}

impl Transfer for Payloads {
    fn gather(&mut self, _volume: u32, cookie: u32, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        let range = offset as usize..offset as usize + out.len();
        let Some(payload) = self.held.get_mut(&cookie).filter(|payload| !payload.inward) else {
            return Err(self.misused(format!("gathered from request {cookie}, which has nothing to give")));
        };
        let Some(bytes) = payload.bytes.get(range.clone()) else {
            return Err(self.misused(format!("gathered bytes {range:?} of request {cookie}, which has fewer")));
        };
        out.copy_from_slice(bytes);
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            let (start, end) = (range.start.max(block * BLOCK_BYTES), range.end.min((block + 1) * BLOCK_BYTES));
            payload.gathered[block] += end - start;
        }
        if payload.gathered.iter().any(|count| *count > BLOCK_BYTES) {
            return Err(self.misused(format!("gathered a byte of request {cookie} twice")));
        }
        Ok(())
    }

    fn scatter(&mut self, _volume: u32, cookie: u32, offset: u32, data: &[u8]) -> Result<(), Fault> {
        let range = offset as usize..offset as usize + data.len();
        let Some(payload) = self.held.get_mut(&cookie).filter(|payload| payload.inward) else {
            return Err(self.misused(format!("scattered into request {cookie}, which takes nothing")));
        };
        let Some(bytes) = payload.bytes.get_mut(range.clone()) else {
            return Err(self.misused(format!("scattered bytes {range:?} of request {cookie}, which has fewer")));
        };
        bytes.copy_from_slice(data);
        Ok(())
    }

    fn sealed(&mut self, volume: u32, epoch: u16, version: u64) {
        self.audit.seal(volume, epoch, version);
    }
}
