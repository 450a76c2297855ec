//! An NVMe controller for tests and fuzz targets (NVM Express Base Specification 1.4): its registers, its admin commands, a disk with a volatile
//! write cache behind one I/O queue pair. It checks what a driver owes to a controller, and does wrong where a test says so.

mod memory;

use alloc::{collections::BTreeMap, rc::Rc, vec, vec::Vec};
use core::cell::{RefCell, RefMut};

use crate::{Clock, Registers};

pub use memory::ControllerMemory;

const RDY: u32 = 1;
const CFS: u32 = 2;
const PAGE: usize = 4096;
const SETTLING: u32 = 3;

/// A queue pair as the controller has it.
#[derive(Clone, Debug)]
struct Queues {
    submissions: u64,
    completions: u64,
    entries: u32,
    /// Next entry to fetch, tail as shown, next completion to post, head as shown.
    fetch: u32,
    tail: u32,
    post: u32,
    head: u32,
    phase: u16,
}

impl Queues {
    fn is_full(&self) -> bool {
        (self.post + 1) % self.entries == self.head
    }

    fn new(submissions: u64, completions: u64, entries: u32) -> Queues {
        assert!(entries >= 2 && submissions.is_multiple_of(PAGE as u64) && completions.is_multiple_of(PAGE as u64));
        Queues { submissions, completions, entries, fetch: 0, tail: 0, post: 0, head: 0, phase: 1 }
    }
}

/// A command that was fetched.
#[derive(Clone, Debug)]
struct Fetched {
    identifier: u16,
    dwords: [u32; 16],
}

/// The controller.
#[derive(Debug)]
pub struct NvmeController {
    /// `CAP`.
    pub cap: u64,
    /// `CSTS`.
    pub csts: u32,
    /// `CC`.
    pub cc: u32,
    /// `CC.EN` does not show in `CSTS.RDY`.
    pub stuck: bool,
    /// How often `CSTS` is read until it follows a change of `CC.EN`, if there was one.
    pub settling: Option<u32>,
    /// It fails when it is started.
    pub fails: bool,
    /// Status with which it answers the admin command of this opcode; no answer at all if there is no status.
    pub refuses: Option<(u8, Option<u16>)>,
    /// Status with which it answers reads, writes and flushes.
    pub io_status: u16,
    /// What Identify tells of the controller.
    pub controller: Vec<u8>,
    /// What Identify tells of the namespace.
    pub namespace: Vec<u8>,
    /// Its active namespaces.
    pub namespaces: Vec<u32>,
    /// What reads see.
    pub image: Vec<u8>,
    /// What a power failure leaves.
    pub durable: Vec<u8>,
    /// Flushes that were answered.
    pub flushes: usize,
    /// Starts.
    pub starts: usize,
    /// It holds the driver to what is posted; not so where a test writes to the completion queue itself.
    pub strict: bool,
    /// Writes of each doorbell, by its number.
    pub rings: BTreeMap<usize, usize>,
    aqa: u32,
    addresses: [u32; 4],
    masked: bool,
    queues: [Option<Queues>; 2],
    completion_queue: Option<(u64, u32)>,
    taken: Vec<Fetched>,
}

impl NvmeController {
    /// A sound controller of a disk of `blocks` blocks of 4 KiB, in logical blocks of 2^`power` bytes.
    pub fn new(blocks: usize, power: u32) -> NvmeController {
        let mut namespace = vec![0; PAGE];
        let logical = (blocks as u64) << (12 - power);
        namespace[..8].copy_from_slice(&logical.to_le_bytes());
        // Format 1 of two.
        (namespace[25], namespace[26], namespace[128 + 6]) = (1, 1, power as u8);
        let mut controller = vec![0; PAGE];
        // Transfers of 128 pages; a volatile write cache.
        (controller[77], controller[525]) = (7, 1);
        NvmeController {
            cap: 1 << 37 | 10 << 24 | 1 << 16 | 2047,
            csts: 0,
            cc: 0,
            stuck: false,
            settling: None,
            fails: false,
            refuses: None,
            io_status: 0,
            controller,
            namespace,
            namespaces: vec![1],
            image: vec![0; blocks * PAGE],
            durable: vec![0; blocks * PAGE],
            flushes: 0,
            starts: 0,
            strict: true,
            rings: BTreeMap::new(),
            aqa: 0,
            addresses: [0; 4],
            masked: false,
            queues: [None, None],
            completion_queue: None,
            taken: Vec::new(),
        }
    }

    /// Whether its interrupt line is up (section 7.5.1.1).
    pub fn line(&self) -> bool {
        !self.masked && self.queues.iter().flatten().any(|queues| queues.post != queues.head)
    }

    /// Bytes of a logical block.
    fn logical_bytes(&self) -> usize {
        1 << self.namespace[128 + 4 * usize::from(self.namespace[26] & 0xf) + 2]
    }

    fn configure(&mut self, value: u32) {
        let (was, is) = (self.cc & 1, value & 1);
        self.cc = value;
        match (was, is) {
            (0, 1) => {
                assert_eq!(self.csts & RDY, 0, "it is started only after it has stopped");
                assert_eq!((value >> 16 & 0xf, value >> 20 & 0xf, value >> 4 & 0x3ff), (6, 4, 0), "CC is {value:#x}");
                self.starts += 1;
                let pair = |low: usize| u64::from(self.addresses[low]) | u64::from(self.addresses[low + 1]) << 32;
                assert_eq!(self.aqa & 0xfff, self.aqa >> 16 & 0xfff);
                self.queues = [Some(Queues::new(pair(0), pair(2), (self.aqa & 0xfff) + 1)), None];
                self.settling = Some(SETTLING);
            }
            (1, 0) => {
                let settled = self.csts & (RDY | CFS) != 0 || self.stuck || self.settling.is_none();
                assert!(settled, "it is stopped only after it got ready");
                (self.queues, self.completion_queue) = ([None, None], None);
                self.taken.clear();
                self.settling = Some(SETTLING);
            }
            _ => {}
        }
    }

    /// What `CSTS` reads as, which follows `CC.EN` in its time.
    fn status(&mut self) -> u32 {
        match self.settling.filter(|_| !self.stuck) {
            None => {}
            Some(0) => {
                self.csts = [0, if self.fails { CFS } else { RDY }][(self.cc & 1) as usize];
                self.settling = None;
            }
            Some(reads) => self.settling = Some(reads - 1),
        }
        self.csts
    }

    fn ring(&mut self, number: usize, value: u32) {
        *self.rings.entry(number).or_default() += 1;
        // What cannot be rung is not there after a reset or a lie.
        let Some(Some(queues)) = self.queues.get_mut(number / 2) else { return };
        assert!(value < queues.entries, "doorbell {number} is out of range");
        let distance = |from: u32, to: u32| (to + queues.entries - from) % queues.entries;
        if number.is_multiple_of(2) {
            assert!(distance(queues.fetch, queues.tail) <= distance(queues.fetch, value), "the tail goes backwards");
            queues.tail = value;
        } else {
            let posted = distance(queues.head, value) <= distance(queues.head, queues.post);
            assert!(posted || !self.strict, "the head passes the tail");
            queues.head = value;
        }
    }
}

/// The controller's registers, in a block that has something else before them.
#[derive(Clone, Debug)]
pub struct ControllerRegisters(Rc<RefCell<NvmeController>>);

impl ControllerRegisters {
    /// Where they begin.
    pub const START: usize = 0x2000;
    /// Where the block ends.
    pub const END: usize = ControllerRegisters::START + 0x4000;

    /// The controller behind them.
    pub fn controller(&self) -> RefMut<'_, NvmeController> {
        self.0.borrow_mut()
    }
}

/// `controller` as a driver finds it: registers, and `bytes` bytes of memory that both reach.
pub fn machine(controller: NvmeController, bytes: usize) -> (ControllerRegisters, ControllerMemory) {
    let shared = Rc::new(RefCell::new(controller));
    (ControllerRegisters(shared.clone()), ControllerMemory::new(shared, bytes))
}

impl Registers for ControllerRegisters {
    fn read(&self, offset: usize) -> u32 {
        let mut controller = self.0.borrow_mut();
        match offset - ControllerRegisters::START {
            0x00 => controller.cap as u32,
            0x04 => (controller.cap >> 32) as u32,
            0x14 => controller.cc,
            0x1c => controller.status(),
            other => panic!("nobody needs to read {other:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let controller = &mut *self.0.borrow_mut();
        match offset - ControllerRegisters::START {
            0x0c => controller.masked |= value & 1 != 0,
            0x10 => controller.masked &= value & 1 == 0,
            0x14 => controller.configure(value),
            at @ (0x24 | 0x28..0x38) => {
                assert_eq!(controller.cc & 1, 0, "admin queues are set up while the controller is stopped");
                if at == 0x24 { controller.aqa = value } else { controller.addresses[(at - 0x28) / 4] = value }
            }
            at @ 0x1000.. => {
                assert!(offset + 4 <= ControllerRegisters::END);
                let stride = 4 << (controller.cap >> 32 & 0xf);
                assert_eq!((at - 0x1000) % stride, 0, "doorbells are {stride} bytes apart");
                controller.ring((at - 0x1000) / stride, value);
            }
            other => panic!("nobody needs to write {other:#x}"),
        }
    }
}

/// A clock that goes on by being looked at.
#[derive(Debug, Default)]
pub struct TestClock(core::cell::Cell<u64>);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }

    fn pause(&mut self) {
        self.0.set(self.0.get() + 10);
    }
}
