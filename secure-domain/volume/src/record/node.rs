//! A slot of a tree node: which block is the child, and what it must contain.
//!
//! ```text
//! offset  size
//!      0    24  MAC of the child: HMAC-SHA-256 truncated to 192 bits
//!     24     8  stamp: checkpoint number << 1 | place (0: A, 1: B)
//! ```
//! A node is 128 slots. A slot of zeros says that the child, and all below it, is zeros and lies nowhere. The MAC is over a head of 24
//! bytes and the child's 4,096 bytes:
//!
//! ```text
//!      0     4  "SVTN"
//!      4     1  level: 0 a leaf, 1 the nodes above, ...
//!      5     1  member
//!      6     2  zero
//!      8     8  index of the child in its level
//!     16     8  stamp
//! ```
//! so a child is good for one place in one tree at one checkpoint only.

use crypto::{Error, module::MacKey};

use super::bytes::{Reader, put};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 32;
/// Children of a node.
pub const FAN_OUT: u64 = 128;
/// Bytes of a truncated MAC.
pub const MAC_BYTES: usize = 24;

/// What a parent says about a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// MAC of the child.
    pub mac: [u8; MAC_BYTES],
    /// Checkpoint and place.
    pub stamp: u64,
}

/// Where a block stands in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of the member.
    pub member: u8,
    /// Level: 0 is the leaves.
    pub level: u8,
    /// Index in the level.
    pub index: u64,
}

impl Slot {
    /// The child is zeros and lies nowhere.
    pub const BLANK: Slot = Slot { mac: [0; MAC_BYTES], stamp: 0 };

    /// Reads a slot; any bytes are one.
    pub fn parse(bytes: &[u8; SLOT_BYTES]) -> Slot {
        Slot { mac: Reader(bytes).array(0), stamp: Reader(bytes).u64(MAC_BYTES) }
    }

    /// The bytes of the slot.
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        put(&mut bytes, 0, &self.mac);
        put(&mut bytes, MAC_BYTES, &self.stamp.to_le_bytes());
        bytes
    }

    /// The slot of a child with these contents, `key` being the tree's.
    ///
    /// # Errors
    /// [`Error::State`] if the crypto module does not serve.
    pub fn of(key: &MacKey, position: Position, stamp: u64, content: &[u8]) -> Result<Slot, Error> {
        let mac = key.mac(&[&head(position, stamp), content])?;
        Ok(Slot { mac: Reader(&mac).array(0), stamp })
    }

    /// Checks that these are the child's contents.
    ///
    /// # Errors
    /// [`Error::TagMismatch`] if they are not; [`Error::State`] if the crypto module does not serve.
    pub fn verify(&self, key: &MacKey, position: Position, content: &[u8]) -> Result<(), Error> {
        key.verify(&[&head(position, self.stamp), content], &self.mac)
    }

    /// Whether the child lies nowhere.
    pub fn is_blank(&self) -> bool {
        self.stamp == 0
    }

    /// The place of the child: 0 or 1.
    pub fn place(&self) -> u64 {
        self.stamp & 1
    }

    /// The stamp of the child's next version, which goes to the other place.
    pub fn next_stamp(&self, checkpoint: u64) -> u64 {
        let place = if self.is_blank() { 0 } else { 1 - self.place() };
        checkpoint << 1 | place
    }
}

fn head(position: Position, stamp: u64) -> [u8; 24] {
    let mut head = [0; 24];
    put(&mut head, 0, b"SVTN");
    (head[4], head[5]) = (position.level, position.member);
    put(&mut head, 8, &position.index.to_le_bytes());
    put(&mut head, 16, &stamp.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use crypto::host::mac_key;

    use super::*;

    #[test]
    fn a_child_elsewhere_or_at_another_time_is_refused() {
        let key = mac_key(&[1; 32]);
        let here = Position { member: 1, level: 0, index: 7 };
        let content = [5; 4096];
        let slot = Slot::of(&key, here, 6, &content).unwrap();
        let mut changed = content;
        changed[4095] ^= 1;
        let other = Err(Error::TagMismatch);
        assert_eq!(slot.verify(&key, here, &changed), other);
        assert_eq!(slot.verify(&key, Position { member: 0, ..here }, &content), other);
        assert_eq!(slot.verify(&key, Position { level: 1, ..here }, &content), other);
        assert_eq!(slot.verify(&key, Position { index: 8, ..here }, &content), other);
        assert_eq!(Slot { stamp: 7, ..slot }.verify(&key, here, &content), other);
        assert_eq!(slot.verify(&mac_key(&[2; 32]), here, &content), other);
        assert_eq!(slot.verify(&key, here, &content), Ok(()));
        assert_eq!(Slot::parse(&slot.encode()), slot);
    }

    #[test]
    fn places_take_turns() {
        assert_eq!(Slot::BLANK.next_stamp(3), 6);
        assert_eq!(Slot { stamp: 6, ..Slot::BLANK }.next_stamp(9), 19);
        assert_eq!(Slot { stamp: 19, ..Slot::BLANK }.next_stamp(10), 20);
    }
}
