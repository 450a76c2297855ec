//! The format: what is on the disk, and that it stays what it is.

use std::{vec, vec::Vec};

use crypto::{Suite, hash::sha256};

use super::world::*;
use crate::{
    BLOCK_BYTES, Error, Geometry,
    provision::{self, Failure, check, inspect, provision},
};

#[test]
fn impossible_volumes_are_refused() {
    let mut disk = Image(vec![0; 50 * BLOCK_BYTES]);
    let options = provision::Options { suite: Suite::Aria256Gcm, volume: 1, data_blocks: 10, salt: [1; 32] };
    let mut try_with = |image: usize, options| {
        let mut image = Image(vec![1; image * BLOCK_BYTES]);
        provision(&mut disk, &mut image, &root(), &options, |_, _| ()).err()
    };
    let refused = |error| Some(Failure::Volume(error));
    assert_eq!(try_with(11, options), refused(Error::TooSmall { have: 10, need: 11 }));
    let big = provision::Options { data_blocks: 19, ..options };
    assert_eq!(try_with(1, big), refused(Error::TooSmall { have: 50, need: 51 }));
    let empty = provision::Options { data_blocks: 0, ..options };
    assert_eq!(try_with(0, empty), refused(Error::Layout { block: 0 }));
    let numbered = provision::Options { volume: 1 << 24, ..options };
    assert_eq!(try_with(1, numbered), refused(Error::Layout { block: 0 }));
}

#[test]
fn every_suite_serves_what_was_provisioned() {
    for suite in Suite::ALL {
        let plain: Vec<u8> = [filled(1), filled(0), filled(3)].concat();
        let image = sealed(plain.clone(), 8, suite);
        assert!(!image.windows(8).any(|window| window == &plain[..8]), "{} leaks", suite.name());
        let mut world = World::new(image, 8, 4, 1);
        assert_eq!(world.read(0, 8), (OK, [plain, vec![0; 5 * BLOCK_BYTES]].concat()));
        assert_eq!(world.write(7, &filled(7)), OK);
        let mut world = World::new(world.shut_down(), 8, 4, 1);
        assert_eq!(world.read(7, 1), (OK, filled(7)));
    }
}

#[test]
fn zero_blocks_are_entries_alone() {
    let image = sealed([filled(0), filled(2)].concat(), 4, Suite::Aria256Gcm);
    let data = Geometry::for_data(4).unwrap().data_start as usize * BLOCK_BYTES;
    assert!(image[data..data + BLOCK_BYTES].iter().all(|&byte| byte == 0xee), "the disk is left as it was");
    let mut world = World::new(image, 8, 4, 1);
    let before = world.disk().requests;
    assert_eq!(world.read(0, 1), (OK, filled(0)));
    assert_eq!(world.disk().requests - before, 1, "only the entry table is read");
}

#[test]
fn inspection_tells_what_a_disk_is() {
    let mut disk = Image(sealed(filled(1), 200, Suite::Aria256Gcm));
    let report = inspect(&mut disk, Some(&root())).unwrap();
    let (superblock, index) = report.current.unwrap();
    assert_eq!((superblock.sequence, index, report.verified), (2, 0, true));
    assert_eq!(inspect(&mut disk, None).unwrap().current, Ok((superblock, 0)));
    let found = check(&mut disk, &root(), &superblock, |_, _| ()).unwrap();
    assert_eq!((found.sealed, found.zero, found.bad), (1, 199, 0));
    let last = disk.0.len() - 200 * BLOCK_BYTES;
    disk.0[last] ^= 1;
    let found = check(&mut disk, &root(), &superblock, |block, _| assert_ne!(block, 0)).unwrap();
    assert_eq!((found.bad, found.first_bad), (1, vec![0]));
    disk.0[0] = 0;
    disk.0[BLOCK_BYTES] = 0;
    assert_eq!(inspect(&mut disk, None).unwrap().current, Err(Error::NotHaechi));
}

/// A change of this digest is a change of the format: it needs a new version and a decision note.
#[test]
fn version_0_1_is_what_it_was() {
    let image = sealed([filled(1), filled(0), filled(2)].concat(), 4, Suite::Aria256Gcm);
    let digest: std::string::String = sha256(&image).iter().map(|byte| std::format!("{byte:02x}")).collect();
    assert_eq!(digest, "0026985d1091537b3cdd4a19c37bf87b52be011daa092889254f1cf7e6770646");
}
