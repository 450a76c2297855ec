//! The secure domain's next life.
//!
//! A life ends when it panics, faults, asks for what nobody may have, or runs for ever. The general domain is not told: its
//! requests wait in its rings, its register pages answer, its notifications are remembered. Meanwhile the cores that have time
//! for the secure domain bring its next life up, a chunk at a time, so that no interrupt waits for long:
//!
//! ```text
//!     stop      the disks, first at the system MMU: no DMA may write what is written next
//!     scrub     all memory of the domain, but for the kept page, where it noted which requests it has
//!     load      its image from the copy that no domain can reach
//!     measure   what was loaded: SHA-256 must be the measurement of the first life
//!     tell      its device tree, and with it its keys, and a seed that no life before could know
//!     enter     as at boot; when it is ready, it is told which drivers wait, and serves what the life before left
//! ```
//!
//! A life that ends soon without having answered a request counts as a failure. After [`MAX_FAILURES`] in a row there is no
//! other: the devices ask their drivers for a reset, which is how a broken disk looks (virtio 1.2, section 2.1.2).

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aarch64::mmio::Mmio;
use aarch64::time;
use abi::hypercall::NO_DEADLINE;
use el2::memory::DomainMemory;
use el2::{context, storage, tables};
use sha2::{Digest as _, Sha256};

use crate::devices;
use crate::dma::Dma;
use crate::log::log;
use crate::pcie::Bus;
use crate::secure::{Leave, SecureDomain, stop};
use crate::system::{Core, System};

/// Lives in a row that may end soon and without an answer.
const MAX_FAILURES: u32 = 5;
/// A life that has lasted this long since it was ready has not failed, in microseconds.
const SOON_US: u64 = 10_000_000;
/// Bytes that are scrubbed, loaded or hashed between two looks at the clock and at interrupts.
const CHUNK: usize = 64 << 10;

/// Where the domain's parts are and come from.
pub struct Origin {
    /// Its image in the pristine copy.
    pub image: Range<usize>,
    /// Its device tree in the pristine copy, to its last byte.
    pub tree: Range<usize>,
    /// Where the seed is in that tree, and where the next one comes from; `None`: the boot loader gave none.
    pub seed: Option<(usize, machine::Restart)>,
    /// SHA-256 of the image.
    pub measurement: [u8; 32],
    /// The domain's memory: what is scrubbed in front of and behind the kept page.
    pub scrubbed: [Range<usize>; 2],
    /// The registers of the disks that are no PCI functions; `None`: there is one that EL2 cannot stop.
    pub disks: Option<Vec<Mmio>>,
}

/// What brings the next life up.
pub struct Restart {
    origin: Origin,
    /// Once boot is over.
    memory: Option<DomainMemory>,
    step: Option<Step>,
}

/// What comes next, from this address on.
enum Step {
    Scrub(usize),
    Load(usize),
    Measure(usize, Sha256),
}

/// How many lives there were, for those who do not have the domain's lock.
#[derive(Debug, Default)]
pub struct Lives {
    /// Lives in a row that ended soon and without an answer.
    failures: AtomicU32,
    /// Lives after the first that have become ready.
    restarts: AtomicU32,
    /// When the last one ended, in ticks of the counter.
    ended: AtomicU64,
    /// When this one was ready.
    ready: AtomicU64,
    /// Longest time from an end to the next life's being ready, in ticks.
    longest: AtomicU64,
}

impl Lives {
    /// This life has answered a request.
    pub fn answered(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// This life ends: whether there have been too many like it.
    fn end(&self) -> bool {
        let now = time::counter();
        self.ended.store(now, Ordering::Relaxed);
        if now - self.ready.load(Ordering::Relaxed) > time::ticks(SOON_US) {
            self.answered();
        }
        self.failures.fetch_add(1, Ordering::Relaxed) >= MAX_FAILURES
    }

    /// The next life is ready: how many there were, and the microseconds that it took.
    pub fn ready(&self) -> (u32, u64) {
        let now = time::counter();
        self.ready.store(now, Ordering::Relaxed);
        let ticks = now - self.ended.load(Ordering::Relaxed);
        self.longest.fetch_max(ticks, Ordering::Relaxed);
        (self.restarts.fetch_add(1, Ordering::Relaxed) + 1, time::microseconds(ticks))
    }

    /// Restarts so far, and the microseconds of the longest.
    pub fn count(&self) -> (u32, u64) {
        (self.restarts.load(Ordering::Relaxed), time::microseconds(self.longest.load(Ordering::Relaxed)))
    }
}

impl Restart {
    /// No life has ended yet.
    pub fn new(origin: Origin) -> Restart {
        Restart { origin, memory: None, step: None }
    }

    /// From here on a life that ends is followed by another.
    pub fn allow(&mut self, memory: DomainMemory) {
        self.memory = Some(memory);
    }

    /// Whether the next life is being brought up.
    pub fn is_under_way(&self) -> bool {
        self.step.is_some()
    }

    /// Stops what the last life may have left running. Returns whether there will be another: if it is `wanted`, and possible.
    fn begin(&mut self, system: &System, wanted: bool) -> bool {
        let stopped = stop_disks(system, self.origin.disks.as_deref());
        let possible = stopped && wanted && self.memory.is_some();
        self.step = possible.then(|| Step::Scrub(self.origin.scrubbed[0].start));
        possible
    }

    /// Takes the next step; `Some` once there is no other: whether the life can begin.
    fn step(&mut self) -> Option<bool> {
        let (Some(memory), Some(step)) = (&mut self.memory, self.step.take()) else { return Some(false) };
        let origin = &mut self.origin;
        self.step = match step {
            Step::Scrub(at) => Some(scrub(memory, origin, at)),
            Step::Load(at) => Some(load(memory, origin, at)),
            Step::Measure(at, hash) => match measure(memory, origin, at, hash) {
                Ok(step) => Some(step),
                Err(measurement) if measurement != origin.measurement => return Some(false),
                Err(_) => {
                    tell(memory, origin);
                    return Some(true);
                }
            },
        };
        None
    }
}

/// Cuts every disk off from memory, then tells it to stop. Whether all of that was done.
fn stop_disks(system: &System, mapped: Option<&[Mmio]>) -> bool {
    let cut_off = system.dma.as_ref().is_none_or(Dma::hold_disks);
    let functions = system.shared_bus.as_ref().is_none_or(Bus::stop_disks);
    let mapped = mapped.is_some_and(|disks| disks.iter().all(storage::stop));
    cut_off && functions && mapped
}

/// Lets the disks that are PCI functions reach memory again. They reach what is kept for them alone, and nobody uses that before the next life's
/// driver has reset them. Whether that was done.
fn start_disks(system: &System) -> bool {
    let admitted = system.dma.as_ref().is_none_or(Dma::release_disks);
    if admitted {
        system.shared_bus.iter().for_each(Bus::start_disks);
    }
    admitted
}

/// The chunk of `range` that begins at `at`.
fn chunk(range: &Range<usize>, at: usize) -> Range<usize> {
    at..range.end.min(at + CHUNK)
}

fn scrub(memory: &mut DomainMemory, origin: &Origin, at: usize) -> Step {
    let [front, behind] = &origin.scrubbed;
    let piece = chunk(if front.contains(&at) { front } else { behind }, at);
    memory.zero(&piece);
    match piece.end {
        end if end == front.end => Step::Scrub(behind.start),
        end if end == behind.end => Step::Load(origin.image.start),
        end => Step::Scrub(end),
    }
}

fn load(memory: &mut DomainMemory, origin: &Origin, at: usize) -> Step {
    let piece = chunk(&origin.image, at);
    let base = origin.scrubbed[0].start;
    memory.load(base + (at - origin.image.start), &piece);
    if piece.end < origin.image.end { Step::Load(piece.end) } else { Step::Measure(base, Sha256::new()) }
}

/// The next step, or the measurement.
fn measure(memory: &DomainMemory, origin: &Origin, at: usize, hash: Sha256) -> Result<Step, [u8; 32]> {
    let base = origin.scrubbed[0].start;
    let loaded = base..base + origin.image.len();
    let piece = chunk(&loaded, at);
    let hash = hash.chain_update(memory.bytes(&piece));
    if piece.end < loaded.end { Ok(Step::Measure(piece.end, hash)) } else { Err(hash.finalize().into()) }
}

/// Gives the life its tree with a seed of its own.
fn tell(memory: &mut DomainMemory, origin: &mut Origin) {
    let place = origin.scrubbed[1].start;
    memory.load(place, &origin.tree);
    if let Some((offset, seed)) = &mut origin.seed {
        memory.write(place + *offset, &seed.next_seed());
    }
}

/// A life of the domain has ended. `Idle`: another one is on its way, and [`advance`] is what it needs.
pub fn begin(core: &mut Core, domain: &mut SecureDomain) -> Leave {
    let system = core.system;
    let enough = system.secure_state.lives.end();
    if !domain.restart.begin(system, !enough) {
        log!("the secure domain is stopped for good");
        return stop(core);
    }
    // What the last life was to acknowledge comes from disks that are stopped now.
    system.lines.iter().flatten().for_each(|intid| core.interrupts.deactivate(*intid));
    system.secure_state.set_alarm(NO_DEADLINE);
    devices::backend_absent(core);
    Leave::Idle
}

/// Brings the next life up, until the counter reaches `deadline` or an interrupt is pending.
pub fn advance(core: &Core, domain: &mut SecureDomain, deadline: u64) -> Leave {
    loop {
        match domain.restart.step() {
            Some(true) if !start_disks(core.system) => {
                log!("the secure domain is stopped for good: its disks cannot be let through");
                return stop(core);
            }
            Some(true) => {
                // Translations and instructions of the last life may still be cached, on any core that it ran on.
                tables::invalidate_all();
                aarch64::cache::invalidate_instructions();
                domain.reset();
                return Leave::Idle;
            }
            Some(false) => {
                log!("the secure domain is stopped for good: its image is not the one that was measured at boot");
                return stop(core);
            }
            None if time::counter() >= deadline || context::interrupt_pending() => return Leave::Slice,
            None => {}
        }
    }
}
