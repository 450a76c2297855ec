//! One block request whose chain and memory are the input.

use virtio::{Chain, Segment, blk};

use super::virtqueue::Shifting;

/// A byte for the number of segments, four for each (place, length, direction), then memory.
pub fn run(data: &[u8]) {
    const CAPACITY: u64 = 1 << 20;
    let Some((&count, mut rest)) = data.split_first() else { return };
    let mut chain = Chain::new();
    for _ in 0..count % 12 {
        let Some((segment, after)) = rest.split_first_chunk::<4>() else { break };
        rest = after;
        // Lengths that matter: a few bytes, a header, blocks.
        let len = match segment[2] % 4 {
            0 => u32::from(segment[1]),
            1 => 16,
            2 => u32::from(segment[1]) * 512,
            _ => u32::from(segment[1] % 8) * 4096,
        };
        let _ = chain.push(Segment { address: u64::from(segment[0]) * 8, len, writable: segment[3] & 1 != 0 });
    }
    let memory = Shifting::new(rest, 4096);
    let before = chain.len_bytes();
    let Ok(request) = blk::parse(&memory, &mut chain, CAPACITY) else { return };
    assert!(chain.len_bytes() < before, "the status byte is no data");
    if let Ok(blk::Operation::Read { block, blocks } | blk::Operation::Write { block, blocks }) = request.operation {
        assert!(blocks > 0 && block + u64::from(blocks) <= CAPACITY);
        assert_eq!(chain.len_bytes(), blocks * blk::BLOCK_BYTES);
        let mut bytes = vec![0; 4096];
        let _ = chain.gather(&memory, (blocks - 1) * blk::BLOCK_BYTES, &mut bytes);
    }
    let _ = request.answer(&memory, blk::Status::Ok, chain.writable_bytes());
}
