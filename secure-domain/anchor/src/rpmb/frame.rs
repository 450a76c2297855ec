//! The frame: 512 bytes, big-endian, the same for question and answer (JEDEC eMMC 5.1, section 6.6.22.1).
//!
//! ```text
//! 0       196      228    484     500             504       506           508      510
//! stuff   key/MAC  data   nonce   write counter   address   block count   result   type
//!                  └────────────────── what the MAC covers: 284 bytes ─────────────────┘
//! ```

use crypto::module::MacKey;

use crate::Error;

/// Bytes of a frame.
pub const FRAME_BYTES: usize = 512;
/// Bytes of a block of RPMB.
pub const BLOCK_BYTES: usize = 256;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 16;

const MAC: core::ops::Range<usize> = 196..228;
const DATA: usize = 228;
const NONCE: usize = 484;
const WRITE_COUNTER: usize = 500;
const ADDRESS: usize = 504;
const BLOCK_COUNT: usize = 506;
const RESULT: usize = 508;
const KIND: usize = 510;

/// The type field of a request, and of its answer.
pub mod kind {
    /// Programs the key.
    pub const PROGRAM_KEY: u16 = 1;
    /// Reads the write counter.
    pub const READ_COUNTER: u16 = 2;
    /// Writes blocks.
    pub const WRITE: u16 = 3;
    /// Reads blocks.
    pub const READ: u16 = 4;
    /// Reads the result register: the answer to a key or a write.
    pub const READ_RESULT: u16 = 5;

    /// The type of the answer to a request.
    pub const fn response(request: u16) -> u16 {
        request << 8
    }
}

/// The result field of an answer.
pub mod result {
    /// Done.
    pub const OK: u16 = 0;
    /// Something failed.
    pub const GENERAL: u16 = 1;
    /// The request's MAC is wrong.
    pub const AUTHENTICATION: u16 = 2;
    /// The request's write counter is wrong.
    pub const COUNTER: u16 = 3;
    /// There is no such address.
    pub const ADDRESS: u16 = 4;
    /// The write failed.
    pub const WRITE: u16 = 5;
    /// The read failed.
    pub const READ: u16 = 6;
    /// No key was programmed yet.
    pub const NO_KEY: u16 = 7;
    /// Set in every answer once the write counter has reached its end.
    pub const EXPIRED: u16 = 0x80;
}

/// A frame as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(pub [u8; FRAME_BYTES]);

/// What a frame says, except for key or MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The block.
    pub data: [u8; BLOCK_BYTES],
    /// The asker's nonce.
    pub nonce: [u8; NONCE_BYTES],
    /// Writes so far.
    pub write_counter: u32,
    /// Number of the block.
    pub address: u16,
    /// Number of blocks.
    pub block_count: u16,
    /// One of [`result`], [`result::EXPIRED`] maybe added.
    pub result: u16,
    /// One of [`kind`].
    pub kind: u16,
}

impl Fields {
    /// A frame of this kind with zeros elsewhere.
    pub const fn new(kind: u16) -> Fields {
        Fields {
            data: [0; BLOCK_BYTES],
            nonce: [0; NONCE_BYTES],
            write_counter: 0,
            address: 0,
            block_count: 0,
            result: 0,
            kind,
        }
    }

    /// The frame, its MAC zero.
    pub fn frame(&self) -> Frame {
        let mut bytes = [0; FRAME_BYTES];
        bytes[DATA..NONCE].copy_from_slice(&self.data);
        bytes[NONCE..WRITE_COUNTER].copy_from_slice(&self.nonce);
        bytes[WRITE_COUNTER..ADDRESS].copy_from_slice(&self.write_counter.to_be_bytes());
        bytes[ADDRESS..BLOCK_COUNT].copy_from_slice(&self.address.to_be_bytes());
        bytes[BLOCK_COUNT..RESULT].copy_from_slice(&self.block_count.to_be_bytes());
        bytes[RESULT..KIND].copy_from_slice(&self.result.to_be_bytes());
        bytes[KIND..].copy_from_slice(&self.kind.to_be_bytes());
        Frame(bytes)
    }
}

impl Frame {
    /// The request that programs `key`.
    pub(super) fn program_key(key: &[u8; 32]) -> Frame {
        let mut frame = Fields::new(kind::PROGRAM_KEY).frame();
        frame.0[MAC].copy_from_slice(key);
        frame
    }

    /// The request that asks for the result of a key or a write.
    pub(super) fn read_result() -> Frame {
        Fields::new(kind::READ_RESULT).frame()
    }

    /// What the frame says.
    pub fn fields(&self) -> Fields {
        Fields {
            data: self.array(DATA),
            nonce: self.array(NONCE),
            write_counter: u32::from_be_bytes(self.array(WRITE_COUNTER)),
            address: u16::from_be_bytes(self.array(ADDRESS)),
            block_count: u16::from_be_bytes(self.array(BLOCK_COUNT)),
            result: u16::from_be_bytes(self.array(RESULT)),
            kind: u16::from_be_bytes(self.array(KIND)),
        }
    }

    /// The key or MAC field.
    pub fn mac(&self) -> [u8; 32] {
        self.array(MAC.start)
    }

    /// The same frame with the MAC that `key` gives it.
    ///
    /// # Errors
    /// [`Error::Module`] if the crypto module does not serve.
    pub fn signed(mut self, key: &MacKey) -> Result<Frame, Error> {
        let mac = key.mac(&[&self.0[DATA..]]).map_err(Error::Module)?;
        self.0[MAC].copy_from_slice(&mac);
        Ok(self)
    }

    /// Checks the MAC under `key`.
    ///
    /// # Errors
    /// [`Error::Forged`] if it is another, [`Error::Module`] if the crypto module does not serve.
    pub fn verify(&self, key: &MacKey) -> Result<(), Error> {
        key.verify(&[&self.0[DATA..]], &self.mac()).map_err(|error| Error::of_mac(error, Error::Forged))
    }

    fn array<const LEN: usize>(&self, start: usize) -> [u8; LEN] {
        core::array::from_fn(|index| self.0[start + index])
    }
}
