//! The crypto module stops while a pool is mounted and served: at every point, what is asked gets an I/O error and what was flushed
//! is there at the next mount.

use std::{rc::Rc, vec, vec::Vec};

use core::cell::Cell;

use anchor::ram::RamAnchor;
use block::{BlockDevice, Buffer, Completion, Refused, ram::RamDisk};
use crypto::{
    Suite, host,
    module::{Module, Profile},
};

use super::world::*;
use crate::{
    BLOCK_BYTES, Command, Done, Error, Event, FormatOptions, Layout, Name, Operation, Pool, Refusal, Status, mount,
};

/// Blocks of the volume that are written and flushed before anything fails, and those that are written again.
const FLUSHED: u32 = 40;
const AGAIN: core::ops::Range<u32> = 20..60;

/// A disk whose driver is asked a number of times until the module fails in the middle of what the engine is at.
struct Tripwire {
    disk: RamDisk,
    left: Rc<Cell<usize>>,
    module: &'static Module,
}

impl Tripwire {
    fn touch(&self) {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => drop(self.module.conditional_failed()),
        }
    }
}

impl BlockDevice for Tripwire {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn room(&self) -> usize {
        self.disk.room()
    }

    fn allocate(&mut self, blocks: usize) -> Option<Buffer> {
        self.touch();
        self.disk.allocate(blocks)
    }

    fn release(&mut self, buffer: Buffer) {
        self.disk.release(buffer);
    }

    fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        self.touch();
        self.disk.bytes(buffer)
    }

    fn read(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.disk.read(tag, block, buffer)
    }

    fn write(&mut self, tag: u32, block: u64, buffer: Buffer) -> Result<(), Refused> {
        self.disk.write(tag, block, buffer)
    }

    fn flush(&mut self, tag: u32) -> Result<(), Refused> {
        self.touch();
        self.disk.flush(tag)
    }

    fn kick(&mut self) {
        self.disk.kick();
    }

    fn acknowledge(&mut self) {
        self.disk.acknowledge();
    }

    fn poll(&mut self) -> Option<Completion> {
        self.touch();
        self.disk.poll()
    }
}

/// A pool whose first blocks are flushed, and what of the second write is.
struct Served {
    pool: Pool<Tripwire, RamAnchor>,
    guest: Guest,
    cookie: u32,
}

impl Served {
    /// What the engine answers to one operation or command.
    fn answer(&mut self) -> Status {
        for _ in 0..20_000 {
            self.pool.advance(0, &mut self.guest);
            if self.pool.is_idle() {
                let Done { cookie, status, .. } = self.pool.next_done().expect("an idle pool has answered");
                assert_eq!(cookie, self.cookie);
                return status;
            }
        }
        panic!("requests hang");
    }

    fn run(&mut self, operation: Operation) -> Status {
        self.cookie += 1;
        self.pool.submit(1, self.cookie, operation).unwrap();
        self.answer()
    }

    fn command(&mut self, command: Command) -> Status {
        self.cookie += 1;
        self.pool.command(self.cookie, command).unwrap();
        self.answer()
    }

    fn write(&mut self, blocks: core::ops::Range<u32>, what: u32) -> Status {
        self.guest.payloads.insert((1, self.cookie + 1), blocks.clone().flat_map(|_| filled(what)).collect());
        self.run(Operation::Write { block: blocks.start.into(), blocks: blocks.len() as u32 })
    }

    fn read(&mut self, blocks: u32) -> Result<Vec<u32>, Status> {
        self.guest.payloads.insert((1, self.cookie + 1), vec![0xdd; blocks as usize * BLOCK_BYTES]);
        match self.run(Operation::Read { block: 0, blocks }) {
            Status::Ok => Ok(self.guest.payloads[&(1, self.cookie)].chunks(BLOCK_BYTES).map(value).collect()),
            status => Err(status),
        }
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.pool.next_event()).collect()
    }
}

/// A mirrored pool with one volume whose first blocks are written and flushed.
fn flushed() -> (Vec<Vec<u8>>, RamAnchor) {
    let disks = vec![blank(2300, 1), blank(2300, 2)];
    let mut world = World::format(disks, &FormatOptions { log_blocks: Some(64), torn_sectors: false });
    assert_eq!(world.create("one", Layout::Mirrored, 100, Suite::Aria256Gcm), Status::Ok);
    let data = (0..FLUSHED).flat_map(|_| filled(1)).collect();
    assert_eq!(world.write(1, 0, data), Status::Ok);
    assert_eq!(world.run(1, Operation::Flush), Status::Ok);
    world.cut(|_| false)
}

/// Mounts with a module of its own that fails when the disks have been asked `after` times.
fn mounted(images: &[Vec<u8>], anchor: &RamAnchor, after: usize) -> (Result<Served, Error>, &'static Module) {
    let (module, left) = (host::fresh(Profile::Kcmvp), Rc::new(Cell::new(after)));
    let disk = |image: &Vec<u8>| Tripwire {
        disk: RamDisk::new(image.clone(), BUFFERS, after as u64),
        left: left.clone(),
        module,
    };
    let disks = images.iter().map(disk).collect();
    let pool = mount(disks, anchor.clone(), &root_of(module), random(), &options(), || true);
    (pool.map(|(pool, _)| Served { pool, guest: Guest::default(), cookie: 0 }), module)
}

/// Does some of everything; returns whether the second write was flushed.
fn work(served: &mut Served) -> bool {
    let written = served.write(AGAIN, 2) == Status::Ok;
    let durable = served.run(Operation::Flush) == Status::Ok && written;
    if let Ok(found) = served.read(FLUSHED) {
        assert!(found.iter().enumerate().all(|(at, value)| *value == 1 || AGAIN.contains(&(at as u32))));
    }
    let _ = served.run(Operation::Zero { block: 80, blocks: 4 });
    let durable = durable | (served.run(Operation::Sync) == Status::Ok && written);
    let _ = served.command(Command::Rekey { volume: 1, suite: Suite::Seed128Ccm });
    let _ = served.command(Command::Scrub);
    durable
}

/// Everything is refused, with a reason said once and no block blamed.
fn refuses_everything(served: &mut Served) {
    assert_eq!(served.write(0..1, 9), Status::IoError);
    assert_eq!(served.read(1), Err(Status::IoError));
    assert_eq!(served.run(Operation::Flush), Status::IoError);
    let name = Name::new("other").unwrap();
    assert_eq!(served.command(Command::Rename { volume: 1, name }), Status::Refused(Refusal::ReadOnly));
    let events = served.events();
    let said = events.iter().filter(|event| matches!(event, Event::ModuleRefused(_))).count();
    assert_eq!(said, 1, "{events:?}");
    let blames =
        |event: &&Event| !matches!(event, Event::ModuleRefused(_) | Event::WritesStopped | Event::Resealed { .. });
    assert_eq!(events.iter().find(blames), None);
}

/// Mounts what is left with a sound module: nothing that was flushed is gone.
fn nothing_is_lost(images: &[Vec<u8>], anchor: &RamAnchor, durable: bool) {
    let (Ok(mut served), _) = mounted(images, anchor, usize::MAX) else { panic!("this pool is sound") };
    let found = served.read(AGAIN.end).unwrap();
    for (at, value) in (0u32..).zip(found) {
        let old = u32::from(at < FLUSHED);
        let may_be = |new: u32| value == new || !durable && value == old;
        assert!(if AGAIN.contains(&at) { may_be(2) } else { value == old }, "block {at} is {value}");
    }
}

/// One run in which the module fails after the disks were asked so many times; returns whether it failed.
fn fails_after(images: &[Vec<u8>], anchor: &RamAnchor, after: usize) -> bool {
    let (mounted, module) = mounted(images, anchor, after);
    let mut served = match mounted {
        Ok(served) => served,
        // The mount itself: it must have named the module, and not a disk.
        Err(error) => {
            assert!(matches!(error, Error::Module(_)), "{error}");
            return true;
        }
    };
    let durable = work(&mut served);
    let failed = module.permit().is_err();
    if failed {
        refuses_everything(&mut served);
    }
    let (disks, anchor) = served.pool.into_parts();
    let images: Vec<_> = disks.iter().map(|disk| disk.disk.cut(|block| block % 3 == after as u64 % 3)).collect();
    nothing_is_lost(&images, &anchor, durable);
    failed
}

#[test]
fn a_pool_whose_module_fails_answers_io_errors_and_loses_no_flushed_block() {
    let (images, anchor) = flushed();
    // `PROPTEST_CASES` asks for more of the points.
    let stride = (512 / cases(64)).max(1) as usize;
    let points = (1..).step_by(stride).take_while(|after| fails_after(&images, &anchor, *after)).count();
    assert!(points > 40, "the module failed at {points} points only");
}

#[test]
fn a_pool_with_a_volume_in_a_suite_that_the_profile_does_not_list_is_refused() {
    let mut world = World::small(100, Suite::Aria256Gcm);
    assert_eq!(world.create("two", Layout::Linear, 100, Suite::Aes256Gcm), Status::Ok);
    let (images, anchor) = world.cut(|_| false);
    let module = host::fresh(Profile::Kcmvp);
    let disks = images.into_iter().map(|image| RamDisk::new(image, BUFFERS, 7)).collect();
    let refused = mount(disks, anchor, &root_of(module), random(), &options(), || true).err();
    assert_eq!(refused, Some(Error::NotApproved { volume: 2, suite: Suite::Aes256Gcm }));
}

#[test]
fn no_volume_is_made_or_resealed_in_a_suite_that_the_profile_does_not_list() {
    let (images, anchor) = flushed();
    let (Ok(mut served), _) = mounted(&images, &anchor, usize::MAX) else { panic!("this pool is sound") };
    let (name, suite) = (Name::new("two").unwrap(), Suite::Aes128Ccm);
    let refused = Status::Refused(Refusal::NotApproved);
    assert_eq!(served.command(Command::Create { name, layout: Layout::Linear, blocks: 9, suite }), refused);
    assert_eq!(served.command(Command::Rekey { volume: 1, suite }), refused);
    assert_eq!(served.write(0..1, 3), Status::Ok, "a refusal is not a failure");
    assert_eq!(served.command(Command::Rekey { volume: 1, suite: Suite::Aria128Ccm }), Status::Ok);
}
