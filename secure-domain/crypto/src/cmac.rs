//! CMAC (SP 800-38B) over any of the block ciphers.
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::block::BlockCipher;
use crate::error::Error;
use crate::{Block, xor_block};

/// The shortest tag that [`verify`] takes, in bytes (SP 800-38B appendix A.2).
pub const MIN_TAG_LEN: usize = 8;

/// The full CMAC of `message`.
#[must_use]
pub fn cmac(cipher: &BlockCipher, message: &[u8]) -> Block {
    let subkeys = Subkeys::new(cipher);
    // The last block may be whole, so it is cut off first; an empty message has an empty last block.
    let whole = message.len().saturating_sub(1) / 16 * 16;
    let (body, last) = message.split_at(whole);
    let mut state = [0; 16];
    cipher.chain(&mut state, body.as_chunks::<16>().0);
    let mac = cipher.encrypt_block(xor_block(&state, &subkeys.mask(last)));
    state.zeroize();
    mac
}

/// Compares the CMAC of `message` with `tag`, its leading 8 to 16 bytes, in constant time.
///
/// # Errors
/// [`Error::TagLength`] for another length, [`Error::TagMismatch`] if it differs.
pub fn verify(cipher: &BlockCipher, message: &[u8], tag: &[u8]) -> Result<(), Error> {
    if !(MIN_TAG_LEN..=16).contains(&tag.len()) {
        return Err(Error::TagLength);
    }
    if bool::from(cmac(cipher, message)[..tag.len()].ct_eq(tag)) {
        return Ok(());
    }
    Err(Error::TagMismatch)
}

/// K1 and K2 (SP 800-38B section 6.1).
#[derive(Zeroize, ZeroizeOnDrop)]
struct Subkeys {
    k1: Block,
    k2: Block,
}

impl Subkeys {
    fn new(cipher: &BlockCipher) -> Self {
        let k1 = double(cipher.encrypt_block([0; 16]));
        Self { k1, k2: double(k1) }
    }

    /// The last block, padded if it must be, with its subkey added.
    fn mask(&self, last: &[u8]) -> Block {
        let mut block = [0; 16];
        block[..last.len()].copy_from_slice(last);
        if last.len() == 16 {
            return xor_block(&block, &self.k1);
        }
        block[last.len()] = 0x80;
        xor_block(&block, &self.k2)
    }
}

/// Multiplication by x in GF(2^128), most significant bit first, without a branch.
fn double(block: Block) -> Block {
    let x = u128::from_be_bytes(block);
    (x << 1 ^ 0x87 & (x >> 127).wrapping_neg()).to_be_bytes()
}
