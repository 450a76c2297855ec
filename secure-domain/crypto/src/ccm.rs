//! Counter with CBC-MAC (SP 800-38C) over one message, through the `ccm` crate and this module's ciphers.
use ccm::Ccm;
use ccm::aead::AeadInOut;
use cipher::consts::{U12, U16};
use cipher::inout::InOutBuf;

use crate::Block;
use crate::block::BlockCipher;
use crate::error::Error;

/// The longest message with a 12-byte nonce, whose length field has three bytes.
const MAX_MESSAGE: usize = (1 << 24) - 1;

/// CCM with a 12-byte nonce and a 16-byte tag.
pub(crate) struct SectorCcm(Ccm<BlockCipher, U16, U12>);

impl SectorCcm {
    /// Takes the cipher for both halves of the mode.
    pub(crate) fn new(cipher: BlockCipher) -> Self {
        Self(Ccm::from(cipher))
    }

    /// Enciphers `data` and returns its tag.
    ///
    /// # Errors
    /// [`Error::InputLength`] if `data` is longer than the length field can say.
    pub(crate) fn seal(&self, nonce: &[u8; 12], aad: &[u8], data: InOutBuf<'_, '_, u8>) -> Result<Block, Error> {
        if data.len() > MAX_MESSAGE {
            return Err(Error::InputLength);
        }
        let tag = self.0.encrypt_inout_detached(&(*nonce).into(), aad, data).map_err(|_| Error::InputLength)?;
        Ok(tag.0)
    }

    /// Deciphers `data` and checks its tag; on a mismatch the output is zero.
    ///
    /// # Errors
    /// [`Error::InputLength`] as in [`SectorCcm::seal`], [`Error::TagMismatch`].
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: InOutBuf<'_, '_, u8>,
        tag: &Block,
    ) -> Result<(), Error> {
        if data.len() > MAX_MESSAGE {
            return Err(Error::InputLength);
        }
        self.0.decrypt_inout_detached(&(*nonce).into(), aad, data, &(*tag).into()).map_err(|_| Error::TagMismatch)
    }
}
