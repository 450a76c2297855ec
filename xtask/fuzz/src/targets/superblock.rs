//! The records that a disk brings: superblocks and entries.

use keystore::RootKey;
use volume::{
    BLOCK_BYTES, Error, Superblock,
    entry::{ENTRY_BYTES, Entry},
};

/// The first two kilobytes are the heads of two superblocks; all of it is entries too.
pub fn run(data: &[u8]) {
    for bytes in data.as_chunks::<ENTRY_BYTES>().0 {
        if let Some(entry) = Entry::parse(bytes) {
            assert_eq!(entry.encode(), *bytes);
        }
    }
    let root = RootKey::from_huk(&[0; 32]);
    let mut found = [Ok(None), Ok(None)];
    for (place, found) in found.iter_mut().enumerate() {
        let part = data.get(place * 1024..).unwrap_or_default();
        let mut block = [0; BLOCK_BYTES];
        let len = part.len().min(1024);
        block[..len].copy_from_slice(&part[..len]);
        assert!(!matches!(Superblock::parse(place as u64, &block, &root), Ok(Some(_))), "nobody forges a MAC");
        *found = Superblock::parse_unverified(place as u64, &block);
        if let Ok(Some(superblock)) = found {
            assert!(superblock.geometry.data_start > superblock.geometry.table_start);
            // What parses is encoded to the same bytes, except for the MAC and what is reserved.
            let mut again = [0; BLOCK_BYTES];
            superblock.encode(&superblock.keys(&root), &mut again);
            assert_eq!(again[..16], block[..16]);
            assert_eq!(again[20..96], block[20..96]);
            assert_eq!(Superblock::parse(0, &again, &root), Ok(Some(*superblock)));
        }
    }
    match Superblock::choose(found) {
        Ok((superblock, index, _)) => assert_eq!(found[index], Ok(Some(superblock))),
        Err(Error::NotHaechi) => assert_eq!(found, [Ok(None), Ok(None)]),
        Err(error) => assert!(found.contains(&Err(error))),
    }
}
