//! Inputs: fresh ones, and changed copies of known ones.
use crate::random::Random;

/// Fresh inputs end here; changed ones may grow a little beyond their origin.
const MAX_BYTES: usize = 4096;
/// Changes to one input, at most.
const MAX_CHANGES: usize = 8;
/// Values that sit on the edges of fields.
const EDGES: [u64; 12] =
    [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x8000_0000_0000_0000];

/// Input number `case` of `seed`.
pub(crate) fn input(seed: u64, case: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::of_case(seed, case);
    if corpus.is_empty() || random.below(4) == 0 {
        return fresh(&mut random);
    }
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(MAX_CHANGES) {
        change(&mut bytes, &mut random, corpus);
    }
    bytes
}

/// Mostly short, since long inputs rarely get further; half of them mostly zero, as real headers are.
fn fresh(random: &mut Random) -> Vec<u8> {
    let longest = random.pick(&[16, 64, 256, 1024, MAX_BYTES]);
    let len = random.below(longest + 1);
    let sparse = random.below(2) == 0;
    let byte = |random: &mut Random| if sparse && random.below(4) != 0 { 0 } else { random.next() as u8 };
    (0..len).map(|_| byte(random)).collect()
}

fn change(bytes: &mut Vec<u8>, random: &mut Random, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 => overwrite(bytes, at, random),
        3 => bytes.truncate(at),
        4 => {
            let end = (at + random.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => {
            let more: Vec<u8> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, more);
        }
        6 => repeat(bytes, at, random),
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Puts an edge value, or one near it, over a field of 1, 2, 4 or 8 bytes in either order.
fn overwrite(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = random.pick(&[1, 2, 4, 8]);
    let value = random.pick(&EDGES).wrapping_add(random.below(3) as u64).wrapping_sub(1);
    let mut field = value.to_le_bytes();
    if random.below(4) == 0 {
        field[..width].reverse();
    }
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&field[..width]);
    }
}

fn repeat(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let end = (at + 1 + random.below(64)).min(bytes.len());
    let piece = bytes[at.min(end)..end].to_vec();
    bytes.splice(at..at, piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_case_gives_same_input() {
        let corpus = [vec![1; 100], b"hello".to_vec()];
        for case in 0..2000 {
            assert_eq!(input(7, case, &corpus), input(7, case, &corpus));
        }
        assert_ne!(input(7, 1, &corpus), input(8, 1, &corpus));
    }

    #[test]
    fn empty_corpus_entry_is_no_trouble() {
        for case in 0..2000 {
            let _ = input(1, case, &[Vec::new()]);
        }
    }
}
