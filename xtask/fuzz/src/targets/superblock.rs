//! The superblock, authentic or not: what parses says the same when it is written again.

use crypto::host;
use keystore::RootKey;
use volume::{BLOCK_BYTES, record::superblock::Superblock};

/// The input is the head of a block; the rest is zeros.
pub fn run(data: &[u8]) {
    let root = RootKey::from_huk(host::module(), &[0; 32]).expect("the module serves");
    let mut block = [0; BLOCK_BYTES];
    let len = data.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&data[..len]);
    assert!(!matches!(Superblock::parse(0, &block, &root), Ok(Some(_))), "nobody forges a MAC");
    // What its writer would have signed: the same contents under our magic and version.
    block[..12].copy_from_slice(b"HAECHISV\x01\0\0\0");
    let Some(found) = Superblock::parse_claims(&block) else { return };
    let superblock = found.superblock;
    for member in 0..superblock.members().len() {
        let geometry = superblock.geometry(member).expect("a sound superblock has a layout for each member");
        assert!(geometry.end() <= superblock.members()[member].blocks);
    }
    let mut again = [0; BLOCK_BYTES];
    let keys = root.pool_keys(&superblock.pool).expect("the module serves");
    superblock.encode(found.member, &keys, &mut again).expect("the module serves");
    let parsed = Superblock::parse(0, &again, &root).expect("what is written is sound").expect("and has the magic");
    assert_eq!(parsed, found);
}
