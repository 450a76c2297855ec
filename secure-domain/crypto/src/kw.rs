//! Key wrap (RFC 3394, SP 800-38F section 6.2) over any of the block ciphers: how volume keys are stored under a KEK.
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::Block;
use crate::block::BlockCipher;
use crate::error::Error;

/// What a wrapped key is longer than the key, in bytes.
pub const OVERHEAD: usize = 8;
/// The integrity check value (RFC 3394 section 2.2.3.1).
const IV: u64 = 0xa6a6_a6a6_a6a6_a6a6;

/// Wraps `key` into `wrapped`, which is [`OVERHEAD`] bytes longer.
///
/// # Errors
/// [`Error::InputLength`] unless `key` has 16 or more bytes, a multiple of 8; [`Error::OutputLength`].
pub fn wrap(kek: &BlockCipher, key: &[u8], wrapped: &mut [u8]) -> Result<(), Error> {
    check_lengths(key.len(), wrapped.len())?;
    let (head, registers) = wrapped.split_at_mut(OVERHEAD);
    registers.copy_from_slice(key);
    let registers = registers.as_chunks_mut::<8>().0;
    let mut a = IV;
    let mut t = 0;
    for _ in 0..6 {
        for register in registers.iter_mut() {
            t += 1;
            let (high, low) = split(kek.encrypt_block(join(a, *register)));
            a = high ^ t;
            *register = low;
        }
    }
    head.copy_from_slice(&a.to_be_bytes());
    Ok(())
}

/// Unwraps `wrapped` into `key`, which is [`OVERHEAD`] bytes shorter.
///
/// # Errors
/// [`Error::TagMismatch`] if `wrapped` was not made under this KEK, with `key` zero; lengths as in [`wrap`].
pub fn unwrap(kek: &BlockCipher, wrapped: &[u8], key: &mut [u8]) -> Result<(), Error> {
    check_lengths(key.len(), wrapped.len())?;
    let (head, registers) = wrapped.split_first_chunk::<OVERHEAD>().ok_or(Error::InputLength)?;
    key.copy_from_slice(registers);
    let registers = key.as_chunks_mut::<8>().0;
    let mut a = u64::from_be_bytes(*head);
    let mut t = 6 * registers.len() as u64;
    for _ in 0..6 {
        for register in registers.iter_mut().rev() {
            let (high, low) = split(kek.decrypt_block(join(a ^ t, *register)));
            a = high;
            *register = low;
            t -= 1;
        }
    }
    if bool::from(a.ct_eq(&IV)) {
        return Ok(());
    }
    key.zeroize();
    Err(Error::TagMismatch)
}

fn check_lengths(key: usize, wrapped: usize) -> Result<(), Error> {
    if key < 16 || !key.is_multiple_of(8) {
        return Err(Error::InputLength);
    }
    if wrapped.checked_sub(OVERHEAD) != Some(key) {
        return Err(Error::OutputLength);
    }
    Ok(())
}

fn join(a: u64, register: [u8; 8]) -> Block {
    (u128::from(a) << 64 | u128::from(u64::from_be_bytes(register))).to_be_bytes()
}

fn split(block: Block) -> (u64, [u8; 8]) {
    let whole = u128::from_be_bytes(block);
    ((whole >> 64) as u64, (whole as u64).to_be_bytes())
}
