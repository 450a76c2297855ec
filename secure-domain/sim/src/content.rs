//! What a block can hold: the bytes as a disk keeps them, and the plaintexts that the guest writes, each under a number of its own.

use std::rc::Rc;

use block::BLOCK_BYTES;

use crate::rng::mix;

/// The bytes of a block.
pub type Bytes = [u8; BLOCK_BYTES];

/// Bytes of a sector: what a device writes whole even at a power cut.
pub const SECTOR_BYTES: usize = 512;
/// Sectors of a block.
pub const SECTORS: usize = BLOCK_BYTES / SECTOR_BYTES;

/// What every sector of every plaintext begins with, so that one glance at a disk tells whether plaintext got there.
pub const MARKER: u64 = 0x6c70_2d69_6863_6165;

/// The bytes of a block on a disk, with a digest that tells images apart quickly.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// The bytes.
    pub bytes: Bytes,
    /// A digest of the bytes; 0 for a block of zeros.
    pub digest: u64,
}

impl Content {
    /// A copy of one block.
    pub fn new(bytes: &[u8]) -> Rc<Content> {
        let mut copy = [0; BLOCK_BYTES];
        copy.copy_from_slice(bytes);
        Rc::new(Content { digest: digest(&copy), bytes: copy })
    }
}

/// A digest that is 0 for zeros. No adversary chooses what goes in.
fn digest(bytes: &Bytes) -> u64 {
    let mut sums = [0u64; 4];
    for (index, chunk) in bytes.chunks_exact(32).enumerate() {
        let turn = (index as u64 * 2 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (lane, sum) in sums.iter_mut().enumerate() {
            let word = word(&chunk[lane * 8..]);
            *sum = sum.rotate_left(5) ^ word.wrapping_mul(turn);
        }
    }
    sums.iter().fold(0, |all, sum| mix(all.rotate_left(17) ^ sum))
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default())
}

/// The plaintext with this number; 0 is the block of zeros.
pub fn write_plaintext(number: u64, out: &mut [u8]) {
    if number == 0 {
        return out.fill(0);
    }
    for (index, chunk) in out.chunks_exact_mut(8).enumerate() {
        let word = match index % (SECTOR_BYTES / 8) {
            0 => MARKER,
            1 => number,
            _ => number.wrapping_mul(index as u64 | 1).rotate_left(23) ^ 0x5aa5,
        };
        chunk.copy_from_slice(&word.to_le_bytes());
    }
}

/// The number of this plaintext, if it is one.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = if word(bytes) == MARKER { word(&bytes[8..]) } else { 0 };
    let mut whole = [0; BLOCK_BYTES];
    write_plaintext(number, &mut whole);
    (bytes == whole).then_some(number)
}

/// Whether any sector begins as plaintext does.
pub fn has_plaintext(bytes: &Bytes) -> bool {
    bytes.chunks_exact(8).any(|chunk| word(chunk) == MARKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plaintext_has_no_number() {
        let mut bytes = [0; BLOCK_BYTES];
        write_plaintext(77, &mut bytes);
        bytes[4095] ^= 1;
        assert_eq!(number_of(&bytes), None);
        assert_eq!(number_of(&[1; BLOCK_BYTES]), None);
    }

    #[test]
    fn a_plaintext_is_known_by_its_number_and_shows_its_marker() {
        for number in [1, 77, u64::MAX] {
            let mut bytes = [0; BLOCK_BYTES];
            write_plaintext(number, &mut bytes);
            assert_eq!(number_of(&bytes), Some(number));
            assert!(has_plaintext(&bytes));
        }
        assert_eq!(number_of(&[0; BLOCK_BYTES]), Some(0));
        assert!(!has_plaintext(&[0; BLOCK_BYTES]));
    }

    #[test]
    fn zeros_have_digest_zero_and_a_moved_word_another_digest() {
        assert_eq!(Content::new(&[0; BLOCK_BYTES]).digest, 0);
        let (mut one, mut two) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        (one[0], two[8]) = (1, 1);
        assert_ne!(Content::new(&one).digest, Content::new(&two).digest);
    }
}
