//! CCM over one sector, by the `ccm` crate over this module's ciphers.
use ccm::Ccm;
use ccm::aead::AeadInOut;
use cipher::consts::{U12, U16};
use cipher::inout::InOutBuf;

use crate::Block;
use crate::block::BlockCipher;
use crate::error::Error;

/// The longest message with a 12-byte nonce, whose length field has three bytes.
const MAX_MESSAGE: usize = (1 << 24) - 1;

type Mode<'c> = Ccm<&'c BlockCipher, U16, U12>;

/// Enciphers `data` in place and returns its tag.
///
/// # Errors
/// [`Error::InputLength`] if `data` is longer than the length field can say.
pub(crate) fn seal(cipher: &BlockCipher, nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> Result<Block, Error> {
    if data.len() > MAX_MESSAGE {
        return Err(Error::InputLength);
    }
    let tag = Mode::from(cipher).encrypt_inout_detached(&(*nonce).into(), aad, data.into());
    Ok(tag.map_err(|_| Error::InputLength)?.0)
}

/// Deciphers `data` and checks its tag; on a mismatch the output is zero.
///
/// # Errors
/// [`Error::InputLength`] as in [`seal`], [`Error::TagMismatch`].
pub(crate) fn open(
    cipher: &BlockCipher,
    nonce: &[u8; 12],
    aad: &[u8],
    data: InOutBuf<'_, '_, u8>,
    tag: &Block,
) -> Result<(), Error> {
    if data.len() > MAX_MESSAGE {
        return Err(Error::InputLength);
    }
    let opened = Mode::from(cipher).decrypt_inout_detached(&(*nonce).into(), aad, data, &(*tag).into());
    opened.map_err(|_| Error::TagMismatch)
}
