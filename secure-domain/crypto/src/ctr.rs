//! Counter mode (SP 800-38A section 6.5): the whole block as one big-endian counter for callers, and a 32-bit counter in its last
//! word for GCM and CCM.
use cipher::inout::InOutBuf;
use zeroize::Zeroize;

use crate::Block;
use crate::block::BlockCipher;

/// Blocks of key stream made at once: a multiple of every backend's stride, 1 KiB on the stack.
const BATCH: usize = 64;

/// XORs the key stream that begins with the counter block `first` into `data`, counting in all 128 bits. Enciphering and deciphering
/// are the same. The caller never uses a counter block twice under one key.
pub fn xor_keystream(cipher: &BlockCipher, first: &Block, data: &mut [u8]) {
    let mut first = u128::from_be_bytes(*first);
    let mut rest = data;
    while !rest.is_empty() {
        // As far as the last word goes without a carry.
        let blocks = (1u64 << 32) - (first as u32 as u64);
        let cut = usize::try_from(blocks * 16).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at_mut(cut);
        apply(cipher, &first.to_be_bytes(), now.into());
        first = first.wrapping_add(u128::from(blocks));
        rest = later;
    }
}

/// XORs the key stream that begins with the counter block `first` into `data`; the last word counts modulo 2^32.
pub(crate) fn apply(cipher: &BlockCipher, first: &Block, data: InOutBuf<'_, '_, u8>) {
    let mut counter = Counter::new(first);
    let (done, data) = cipher.xor_keystream_prefix(first, data);
    if data.is_empty() {
        return;
    }
    counter.skip(done / 16);
    let mut stream = [[0; 16]; BATCH];
    for_each_chunk(data, BATCH * 16, |mut chunk| {
        let stream = &mut stream[..chunk.len().div_ceil(16)];
        stream.fill_with(|| counter.next());
        cipher.encrypt_blocks(stream);
        chunk.xor_in2out(&stream.as_flattened()[..chunk.len()]);
    });
    stream.as_flattened_mut().zeroize();
}

/// Hands `data` to `f` in pieces of `size` bytes, the last one shorter.
fn for_each_chunk(mut data: InOutBuf<'_, '_, u8>, size: usize, mut f: impl FnMut(InOutBuf<'_, '_, u8>)) {
    while data.len() > size {
        let (chunk, rest) = data.split_at(size);
        f(chunk);
        data = rest;
    }
    f(data);
}

/// The counter blocks of a message, one after the other.
pub(crate) struct Counter {
    prefix: Block,
    value: u32,
}

impl Counter {
    /// Starts at `first`.
    pub(crate) fn new(first: &Block) -> Self {
        let value = u32::from_be_bytes([first[12], first[13], first[14], first[15]]);
        Self { prefix: *first, value }
    }

    /// Steps over `blocks` counter blocks.
    fn skip(&mut self, blocks: usize) {
        self.value = self.value.wrapping_add(blocks as u32);
    }

    /// The present counter block; steps to the one after it.
    pub(crate) fn next(&mut self) -> Block {
        let mut block = self.prefix;
        block[12..].copy_from_slice(&self.value.to_be_bytes());
        self.value = self.value.wrapping_add(1);
        block
    }
}
