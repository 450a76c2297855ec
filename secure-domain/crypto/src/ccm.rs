//! Counter with CBC-MAC (SP 800-38C): any allowed nonce and tag length, and many sectors side by side.
//!
//! A CBC-MAC is a chain, so one message alone keeps a 16-block cipher pass nearly empty. [`Ccm::seal_lanes`] runs the chains of up
//! to 16 sectors in one pass each step, which makes CCM cost about two encipherments a block instead of seventeen.
use cipher::inout::InOutBuf;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::aead::{Nonce, SECTOR_LEN, Sector, Tag};
use crate::block::BlockCipher;
use crate::error::Error;
use crate::{Block, ctr, xor_block};

/// Sectors whose chains run side by side.
pub(crate) const LANES: usize = 16;
/// The longest associated data of the lane form: with its two length bytes it fills four blocks.
const MAX_LANE_AAD: usize = 62;
/// Associated data from this length on needs a longer length field (SP 800-38C section A.2.2).
const SHORT_AAD: usize = 0xff00;

/// A block cipher key in CCM with fixed nonce and tag lengths.
pub struct Ccm {
    cipher: BlockCipher,
    nonce_len: usize,
    tag_len: usize,
}

impl Ccm {
    /// Fixes the lengths: nonces of 7 to 13 bytes, tags of 4, 6, ... 16 bytes.
    ///
    /// # Errors
    /// [`Error::NonceLength`], [`Error::TagLength`] for any other.
    pub fn new(cipher: BlockCipher, nonce_len: usize, tag_len: usize) -> Result<Self, Error> {
        if !(7..=13).contains(&nonce_len) {
            return Err(Error::NonceLength);
        }
        if !(4..=16).contains(&tag_len) || !tag_len.is_multiple_of(2) {
            return Err(Error::TagLength);
        }
        Ok(Self { cipher, nonce_len, tag_len })
    }

    /// Enciphers `data` in place and writes the tag.
    ///
    /// # Errors
    /// [`Error::NonceLength`], [`Error::TagLength`] if a length is not the fixed one, [`Error::InputLength`] if the message or
    /// the associated data (2^32 - 1 bytes) is too long.
    pub fn seal(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> Result<(), Error> {
        self.check(nonce, aad, data.len(), tag.len())?;
        let full = self.seal_inout(nonce, aad, data.into())?;
        tag.copy_from_slice(&full[..self.tag_len]);
        Ok(())
    }

    /// Deciphers `data` in place and checks `tag`; on a mismatch `data` is zero.
    ///
    /// # Errors
    /// As [`Ccm::seal`], and [`Error::TagMismatch`].
    pub fn open(&self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), Error> {
        self.open_inout(nonce, aad, data.into(), tag)
    }

    /// [`Ccm::seal`] from one buffer to another; returns the full tag.
    pub(crate) fn seal_inout(&self, nonce: &[u8], aad: &[u8], data: InOutBuf<'_, '_, u8>) -> Result<Block, Error> {
        self.check(nonce, aad, data.len(), self.tag_len)?;
        let tag = self.tag(nonce, aad, data.get_in());
        ctr::apply(&self.cipher, &self.counter(nonce, 1), data);
        Ok(tag)
    }

    /// [`Ccm::open`] from one buffer to another.
    pub(crate) fn open_inout(
        &self,
        nonce: &[u8],
        aad: &[u8],
        mut data: InOutBuf<'_, '_, u8>,
        tag: &[u8],
    ) -> Result<(), Error> {
        self.check(nonce, aad, data.len(), tag.len())?;
        ctr::apply(&self.cipher, &self.counter(nonce, 1), data.reborrow());
        let full = self.tag(nonce, aad, data.get_out());
        if bool::from(full[..self.tag_len].ct_eq(tag)) {
            return Ok(());
        }
        data.get_out().fill(0);
        Err(Error::TagMismatch)
    }

    fn check(&self, nonce: &[u8], aad: &[u8], message: usize, tag: usize) -> Result<(), Error> {
        if nonce.len() != self.nonce_len {
            return Err(Error::NonceLength);
        }
        if tag != self.tag_len {
            return Err(Error::TagLength);
        }
        // The counter field is as long as the length field, and `ctr` counts in 32 bits.
        let field = (15 - self.nonce_len).min(4);
        if message as u64 >= 1 << (8 * field) || u32::try_from(aad.len()).is_err() {
            return Err(Error::InputLength);
        }
        Ok(())
    }

    /// The counter block with this count (SP 800-38C section A.3).
    fn counter(&self, nonce: &[u8], count: u8) -> Block {
        let mut block = [0; 16];
        block[0] = 14 - self.nonce_len as u8;
        block[1..=self.nonce_len].copy_from_slice(nonce);
        block[15] = count;
        block
    }

    /// The first block of the chain (SP 800-38C section A.2.1).
    fn first_block(&self, nonce: &[u8], aad: &[u8], message: usize) -> Block {
        let mut block = (message as u128).to_be_bytes();
        let adata = u8::from(!aad.is_empty());
        block[0] = adata << 6 | ((self.tag_len as u8 - 2) / 2) << 3 | (14 - self.nonce_len as u8);
        block[1..=self.nonce_len].copy_from_slice(nonce);
        block
    }

    /// The full tag of a plaintext.
    fn tag(&self, nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Block {
        let mut chain = Chain::new(&self.cipher, self.first_block(nonce, aad, plaintext.len()));
        if !aad.is_empty() {
            let (field, len) = length_field(aad.len());
            chain.absorb_padded(&field[..len], aad);
        }
        chain.absorb_padded(&[], plaintext);
        xor_block(&chain.state, &self.cipher.encrypt_block(self.counter(nonce, 0)))
    }
}

/// The length of the associated data as SP 800-38C section A.2.2 encodes it, and the length of that.
fn length_field(aad: usize) -> ([u8; 6], usize) {
    let bytes = (aad as u32).to_be_bytes();
    if aad < SHORT_AAD {
        return ([bytes[2], bytes[3], 0, 0, 0, 0], 2);
    }
    ([0xff, 0xfe, bytes[0], bytes[1], bytes[2], bytes[3]], 6)
}

/// One CBC-MAC chain.
struct Chain<'c> {
    cipher: &'c BlockCipher,
    state: Block,
}

impl<'c> Chain<'c> {
    fn new(cipher: &'c BlockCipher, first: Block) -> Self {
        Self { cipher, state: cipher.encrypt_block(first) }
    }

    /// Absorbs `head` (shorter than a block) and `data` as one string, filled up with zeros to whole blocks.
    fn absorb_padded(&mut self, head: &[u8], data: &[u8]) {
        let (joint, data) = data.split_at(data.len().min((16 - head.len()) % 16));
        if !head.is_empty() {
            let mut block = [0; 16];
            block[..head.len()].copy_from_slice(head);
            block[head.len()..head.len() + joint.len()].copy_from_slice(joint);
            self.absorb(block);
        }
        let (blocks, rest) = data.as_chunks::<16>();
        self.cipher.chain(&mut self.state, blocks);
        if !rest.is_empty() {
            let mut block = [0; 16];
            block[..rest.len()].copy_from_slice(rest);
            self.absorb(block);
        }
    }

    fn absorb(&mut self, block: Block) {
        self.cipher.chain(&mut self.state, &[block]);
    }
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

/// The sectors of one call of the lane form; all slices have the same length.
pub(crate) struct Lanes<'a, A> {
    /// Nonces, one for each sector.
    pub(crate) nonces: &'a [Nonce],
    /// Associated data, one for each sector.
    pub(crate) aads: &'a [A],
}

impl<A: AsRef<[u8]>> Lanes<'_, A> {
    /// Whether the lane form applies: at most [`LANES`] sectors, associated data short and of one length.
    pub(crate) fn fit(&self) -> bool {
        let length = self.aads.first().map_or(0, |aad| aad.as_ref().len());
        self.nonces.len() <= LANES && length <= MAX_LANE_AAD && self.aads.iter().all(|aad| aad.as_ref().len() == length)
    }
}

/// The lane form, for 12-byte nonces and 16-byte tags. The caller has checked that the slices have one length and [`Lanes::fit`].
impl Ccm {
    /// Enciphers sectors from one buffer to another. Each source byte is read once.
    pub(crate) fn seal_lanes<A: AsRef<[u8]>>(
        &self,
        lanes: &Lanes<'_, A>,
        plaintext: &[Sector],
        ciphertext: &mut [Sector],
        tags: &mut [Tag],
    ) {
        ciphertext.copy_from_slice(plaintext);
        self.tag_lanes(lanes, ciphertext, tags);
        for (sector, nonce) in ciphertext.iter_mut().zip(lanes.nonces) {
            ctr::apply(&self.cipher, &self.counter(nonce, 1), sector.as_mut_slice().into());
        }
    }

    /// Deciphers sectors from one buffer to another and judges each; a sector with a wrong tag comes out zero.
    pub(crate) fn open_lanes<A: AsRef<[u8]>>(
        &self,
        lanes: &Lanes<'_, A>,
        ciphertext: &[Sector],
        plaintext: &mut [Sector],
        tags: &[Tag],
        results: &mut [Result<(), Error>],
    ) {
        for (i, sector) in plaintext.iter_mut().enumerate() {
            let both = InOutBuf::new(&ciphertext[i][..], &mut sector[..]).expect("both are one sector long");
            ctr::apply(&self.cipher, &self.counter(&lanes.nonces[i], 1), both);
        }
        let mut expected = [[0; 16]; LANES];
        let expected = &mut expected[..plaintext.len()];
        self.tag_lanes(lanes, plaintext, expected);
        for (i, result) in results.iter_mut().enumerate() {
            *result = Ok(());
            if !bool::from(expected[i].ct_eq(&tags[i])) {
                plaintext[i].fill(0);
                *result = Err(Error::TagMismatch);
            }
        }
    }

    /// The tags of sectors, one cipher pass for each step of all chains.
    fn tag_lanes<A: AsRef<[u8]>>(&self, lanes: &Lanes<'_, A>, plaintext: &[Sector], tags: &mut [Tag]) {
        let heads = self.heads(lanes);
        let aad_len = lanes.aads.first().map_or(0, |aad| aad.as_ref().len());
        let head_blocks = 1 + if aad_len == 0 { 0 } else { (2 + aad_len).div_ceil(16) };
        let n = plaintext.len();
        let mut chains = [[0; 16]; LANES];
        for step in 0..head_blocks {
            for (chain, head) in chains.iter_mut().zip(&heads[..n]) {
                *chain = xor_block(chain, &head[step]);
            }
            self.cipher.encrypt_blocks(&mut chains[..n]);
        }
        let whole = plaintext.try_into();
        if !whole.is_ok_and(|sectors: &[Sector; LANES]| self.cipher.chain_sectors(sectors, &mut chains)) {
            for step in 0..SECTOR_LEN / 16 {
                for (chain, sector) in chains.iter_mut().zip(plaintext) {
                    *chain = xor_block(chain, &sector.as_chunks::<16>().0[step]);
                }
                self.cipher.encrypt_blocks(&mut chains[..n]);
            }
        }
        for (tag, nonce) in tags.iter_mut().zip(lanes.nonces) {
            *tag = self.counter(nonce, 0);
        }
        self.cipher.encrypt_blocks(tags);
        for (tag, chain) in tags.iter_mut().zip(&chains) {
            *tag = xor_block(tag, chain);
        }
        chains.as_flattened_mut().zeroize();
    }

    /// The blocks before the message: the first block and the associated data with its length.
    fn heads<A: AsRef<[u8]>>(&self, lanes: &Lanes<'_, A>) -> [[Block; 5]; LANES] {
        let mut heads = [[[0; 16]; 5]; LANES];
        for ((head, nonce), aad) in heads.iter_mut().zip(lanes.nonces).zip(lanes.aads) {
            let aad = aad.as_ref();
            head[0] = self.first_block(nonce, aad, SECTOR_LEN);
            let rest = head[1..].as_flattened_mut();
            rest[..2].copy_from_slice(&(aad.len() as u16).to_be_bytes());
            rest[2..2 + aad.len()].copy_from_slice(aad);
        }
        heads
    }
}
