//! What is asked of the device, and which frame answers it.

use crypto::module::MacKey;

use super::frame::{BLOCK_BYTES, Fields, Frame, NONCE_BYTES, kind, result};
use crate::Error;

/// A question to the device. Only the one answer that belongs to it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How many writes were there?
    ReadCounter {
        /// Comes back in the answer.
        nonce: [u8; NONCE_BYTES],
    },
    /// What is in this block?
    ReadBlock {
        /// Number of the block.
        address: u16,
        /// Comes back in the answer.
        nonce: [u8; NONCE_BYTES],
    },
    /// Write this block.
    Write {
        /// Number of the block.
        address: u16,
        /// The device's count of its writes before this one. The last value is never used: the device refuses it.
        writes: u32,
    },
}

impl Question {
    /// The request; for a write see [`write_frame`](Self::write_frame).
    pub fn frame(&self) -> Frame {
        self.request().frame()
    }

    /// The request to write `block`, signed with `key`.
    ///
    /// # Errors
    /// [`Error::Module`] if the crypto module does not serve.
    pub fn write_frame(&self, block: &[u8; BLOCK_BYTES], key: &MacKey) -> Result<Frame, Error> {
        Fields { data: *block, ..self.request() }.frame().signed(key)
    }

    /// What a correct answer to this question says.
    ///
    /// # Errors
    /// [`Error::NoKey`]; [`Error::Forged`] for a frame that is not the device's, or not the answer to this question;
    /// [`Error::Device`] for an authentic report of failure; [`Error::Module`] if the crypto module does not serve.
    pub fn check(&self, answer: &Frame, key: &MacKey) -> Result<Fields, Error> {
        let fields = answer.fields();
        let request = self.request();
        if fields.kind != kind::response(request.kind) {
            return Err(Error::Forged);
        }
        // Without a key the device cannot sign; nothing is believed here but that there is nothing to believe.
        if fields.result == result::NO_KEY {
            return Err(Error::NoKey);
        }
        answer.verify(key)?;
        if fields.nonce != request.nonce {
            return Err(Error::Forged);
        }
        if fields.result & !result::EXPIRED != result::OK {
            return Err(Error::Device);
        }
        if fields.address != request.address {
            return Err(Error::Forged);
        }
        match self {
            Question::Write { writes, .. } if Some(fields.write_counter) != writes.checked_add(1) => Err(Error::Forged),
            _ => Ok(fields),
        }
    }

    fn request(&self) -> Fields {
        match *self {
            Question::ReadCounter { nonce } => Fields { nonce, ..Fields::new(kind::READ_COUNTER) },
            // The count of a read is left out of the frame: it is the length of the transfer (section 6.6.22.4.4).
            Question::ReadBlock { address, nonce } => Fields { address, nonce, ..Fields::new(kind::READ) },
            Question::Write { address, writes } => {
                Fields { address, write_counter: writes, block_count: 1, ..Fields::new(kind::WRITE) }
            }
        }
    }
}
