//! The tools' way to the engine.

use std::{vec, vec::Vec};

use anchor::ram::RamAnchor;
use crypto::Suite;

use super::world::*;
use crate::{
    BLOCK_BYTES, Command, Error, FormatOptions, Layout, Name, Status,
    host::{Host, Store, inspect},
};

struct Image(Vec<u8>);

impl Store for Image {
    type Error = ();

    fn blocks(&self) -> u64 {
        (self.0.len() / BLOCK_BYTES) as u64
    }

    fn read(&mut self, block: u64, out: &mut [u8]) -> Result<(), ()> {
        let at = block as usize * BLOCK_BYTES;
        out.copy_from_slice(self.0.get(at..at + out.len()).ok_or(())?);
        Ok(())
    }

    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), ()> {
        let at = block as usize * BLOCK_BYTES;
        self.0.get_mut(at..at + data.len()).ok_or(())?.copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

fn disk() -> Image {
    Image(vec![0xee; DISK as usize * BLOCK_BYTES])
}

#[test]
fn an_image_is_sealed_checked_and_its_damage_named() {
    let new = FormatOptions { log_blocks: Some(64), torn_sectors: false };
    let mut host = Host::format(vec![disk()], RamAnchor::new(), &root(), random(), &new, &options()).unwrap();
    let create = |name: &str| Command::Create {
        name: Name::new(name).unwrap(),
        layout: Layout::Linear,
        blocks: 1000,
        suite: Suite::Aria256Gcm,
    };
    host.command(create("data")).unwrap();
    assert!(matches!(host.command(create("data")), Err(Status::Refused(_))));
    let mut plain = Image((0..600).flat_map(|at| filled(if at % 50 < 20 { 0 } else { at })).collect());
    let summary = host.seal(1, &mut plain, |_, _| ()).unwrap();
    assert_eq!((summary.sealed, summary.zero), (360, 240));
    let (mut stores, anchor) = host.into_parts();
    let report = inspect(&mut stores[0], &root()).unwrap();
    let (superblock, member) = report.newest.unwrap();
    assert_eq!((member, superblock.members().len()), (0, 1));
    let start = superblock.geometry(0).unwrap().data_start as usize;
    stores[0].0[(start + 123) * BLOCK_BYTES] ^= 1;
    let (mut host, recovery) = Host::mount(stores, anchor, &root(), random(), &options()).unwrap();
    assert_eq!(recovery.records, 0);
    let mut seen = 0;
    let found = host.check(1, |block, bytes| {
        seen += 1;
        assert_eq!(value(bytes), if block >= 600 || block % 50 < 20 { 0 } else { block as u32 });
    });
    let found = found.unwrap();
    assert_eq!((found.sealed, found.zero, found.bad, found.first_bad), (359, 640, 1, vec![123]));
    assert_eq!(seen, 999);
}

#[test]
fn a_read_only_mount_writes_nothing_and_refuses_changes() {
    let mut world = World::small(1000, Suite::Aes128Gcm);
    assert_eq!(world.write(1, 7, filled(7)), Status::Ok);
    assert_eq!(world.run(1, crate::Operation::Flush), Status::Ok);
    let (images, anchor) = world.cut(|_| false);
    let (before, held) = (images[0].clone(), anchor.snapshot());
    let read_only = crate::Options { read_only: true, ..options() };
    let stores = images.into_iter().map(Image).collect();
    let (mut host, recovery) = Host::mount(stores, anchor, &root(), random(), &read_only).unwrap();
    assert!(recovery.records > 0);
    let mut block = filled(0);
    host.read(1, 7, &mut block).unwrap();
    assert_eq!(block, filled(7));
    assert_eq!(host.write(1, 7, &mut block), Err(Status::IoError));
    assert!(matches!(host.command(Command::Delete { volume: 1 }), Err(Status::Refused(_))));
    let (stores, anchor) = host.into_parts();
    assert!(stores[0].0 == before && anchor.snapshot() == held);
}

#[test]
fn impossible_pools_are_refused() {
    let format =
        |stores: Vec<Image>, new| Host::format(stores, RamAnchor::new(), &root(), random(), &new, &options()).err();
    let small = Image(vec![0; 1000 * BLOCK_BYTES]);
    assert!(matches!(format(vec![small], FormatOptions::default()), Some(Error::TooSmall { .. })));
    assert_eq!(format(vec![], FormatOptions::default()), Some(Error::Members { given: 0 }));
    let many = (0..9).map(|_| disk()).collect();
    assert_eq!(format(many, FormatOptions::default()), Some(Error::Members { given: 9 }));
}
