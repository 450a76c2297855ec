//! The general domain's next life, while the secure domain and the machine go on.
//!
//! It begins when the domain asks for a reset (PSCI `SYSTEM_RESET`, which is also how its kernel ends a panic) or when the operator does.
//! One core leads; the others leave the domain wherever they are, and go off, but for one that is the secure domain's alone:
//!
//! ```text
//!     gather    the cores: an IPI takes each out of the guest, its sleep or the secure domain's slice, and it turns itself off
//!     save      the secure domain finishes what it has and brings it to stable storage, as before power-off
//!     detach    every virtual device is reset as by its driver, so that nobody touches a ring or a buffer any more
//!     stop      the bus masters: the system MMU lets nothing through, virtio-mmio devices are reset, no PCI function is a master
//!     forget    interrupt controller, console, stolen time and the cores' registers are as after power-on
//!     clear     all of the domain's memory but what the device tree reserves: firmware's, or the record of a crash
//!     load      kernel and initrd from the boot bundle, which EL2 has kept, and its device tree with another seed
//!     enter     as at boot, on the core that boots
//! ```
//!
//! Every wait has a deadline. If a core does not come, or a bus master cannot be stopped, the machine is reset, as it is on boards that want
//! it so: what would come up beside a device that still writes is no fresh system. While memory is cleared the secure domain gets its events
//! and its time, a chunk apart.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use aarch64::time;
use abi::Event;
use console::Pl011;
use el2::memory::{GeneralMemory, OpenMemory};
use el2::{boot, context, firmware, pages, tables};
use psci::{Power, Start};
use spin::Mutex;
use vcpu::{El1State, VectorState};

use crate::log::{CONSOLE, log};
use crate::pcie::Bus;
use crate::system::Core;
use crate::{devices, irq, panic, secure, smp};

/// Longest time that the other cores may take to leave, in microseconds: more than the longest that EL2 keeps one.
const GATHER_US: u64 = 6_000_000;
/// Longest time that the secure domain may take to let go of the virtual devices, in microseconds.
const DETACH_US: u64 = 1_000_000;
/// Time between two calls to cores that have not left, in microseconds.
const CALL_US: u64 = 100;
/// Bytes that are cleared or loaded between two looks at the secure domain.
const CHUNK: usize = 1 << 20;

/// Where the domain's parts are and come from.
pub struct Origin {
    /// Where each part of the bundle is, and where it goes; the kernel is entered at its first byte.
    pub parts: Vec<(Range<usize>, usize)>,
    /// The kernel's first instruction.
    pub entry: u64,
    /// Its device tree, and where that goes.
    pub tree: Vec<u8>,
    /// See `tree`.
    pub tree_place: usize,
    /// Where the seeds are in the tree, and the bytes of each.
    pub seeds: Vec<Range<usize>>,
    /// Where the next ones come from; `None`: the boot loader gave none.
    pub seed: Option<machine::Restart>,
    /// The domain's memory, but for what outlives it.
    pub cleared: Vec<Range<usize>>,
    /// Registers of its virtio-mmio devices.
    pub virtio: Vec<Range<usize>>,
    /// Configuration spaces of its PCI hosts, but for one that is shared out.
    pub ecam: Vec<Range<usize>>,
    /// Index of the core that enters it.
    pub first: usize,
}

/// What brings the next life up.
pub struct Life {
    /// Where it comes from.
    pub origin: Origin,
    /// The domain's memory.
    pub memory: GeneralMemory,
}

/// What is known of resets, for all cores.
#[derive(Default)]
pub struct State {
    /// The domain runs.
    ready: AtomicBool,
    /// The operator wants a reset.
    demanded: AtomicBool,
    /// The domain can be started again without the machine.
    alone: AtomicBool,
    /// Lives after the first.
    lives: AtomicU32,
    /// Longest time from the wish to the next life's first instruction, in ticks.
    longest: AtomicU64,
    life: Mutex<Option<Life>>,
}

impl State {
    /// The next IPI that a core takes begins a reset.
    pub fn demand(&self) {
        self.demanded.store(true, Ordering::SeqCst);
    }

    /// Whether a demand waits for a core.
    pub fn is_demanded(&self) -> bool {
        self.demanded.load(Ordering::SeqCst)
    }

    /// Whether a reset is the domain's alone.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Lives after the first so far, and the microseconds of the longest reset.
    pub fn count(&self) -> (u32, u64) {
        (self.lives.load(Ordering::Relaxed), time::microseconds(self.longest.load(Ordering::Relaxed)))
    }
}

/// The domain is about to run; with `life` a reset of it is its own.
pub fn allow(core: &Core, life: Option<Life>) {
    let state = &core.system.reset;
    state.alone.store(life.is_some(), Ordering::Relaxed);
    *state.life.lock() = life;
    // Of before, when there was nothing to reset.
    state.demanded.store(false, Ordering::SeqCst);
    state.ready.store(true, Ordering::Release);
}

/// An IPI has come: leaves the domain if another core resets it, and resets it if the operator has said so.
pub fn attend(core: &mut Core) {
    let system = core.system;
    if system.psci.must_leave(core.index) {
        smp::leave(core);
    }
    let state = &system.reset;
    if system.psci.is_resetting() {
        // This core's own: what the operator asks for meanwhile is being done ([`enter`] forgets it).
        return;
    }
    if state.is_demanded() && state.ready.load(Ordering::Acquire) && state.demanded.swap(false, Ordering::SeqCst) {
        log!("the operator resets the general domain");
        carry_out(core, false);
    }
}

/// Resets the domain, or the machine where it has to be; `warm`: which may keep memory.
#[cold]
pub fn carry_out(core: &mut Core, warm: bool) -> ! {
    if !core.system.reset.is_alone() {
        reset_machine(core, warm);
    }
    let began = time::counter();
    if !core.system.psci.lead_reset(core.index) {
        smp::leave(core);
    }
    if !gather(core) {
        log!("a core does not leave the general domain");
        reset_machine(core, false);
    }
    save(core);
    if !detach(core) || !renew(core) {
        reset_machine(core, false);
    }
    enter(core, began)
}

/// Brings everything to stable storage and resets the machine.
fn reset_machine(core: &mut Core, warm: bool) -> ! {
    save(core);
    log!("reset");
    let answer = if warm { firmware::system_warm_reset() } else { firmware::system_reset() };
    panic::stop(format_args!("the firmware refused to reset the machine: {answer}"))
}

/// Before power goes, or what the general domain has is lost: the secure domain brings what it has acknowledged to stable storage.
pub fn save(core: &mut Core) {
    if !secure::quiesce(core) && !core.system.secure_state.is_stopped() {
        log!("the secure domain has not saved everything in time");
    }
}

/// Takes every other core out of the domain and off. Whether all have gone in time.
fn gather(core: &Core) -> bool {
    let system = core.system;
    let deadline = time::counter() + time::ticks(GATHER_US);
    while !system.psci.is_alone(core.index) {
        let now = time::counter();
        if now > deadline {
            return false;
        }
        let others = (0..system.cores).filter(|other| *other != core.index && system.psci.power(*other) == Power::On);
        others.for_each(|other| core.interrupts.send_sgi(irq::KICK, other));
        while time::counter() - now < time::ticks(CALL_US) {}
    }
    true
}

/// Takes the virtual devices from their drivers. A secure domain that does not confirm it has its life ended, which confirms it too; then it
/// may serve again. False: not even that could be done.
fn detach(core: &mut Core) -> bool {
    devices::reset_all(core);
    let deadline = time::counter() + time::ticks(DETACH_US);
    let detached = secure::drive_until(core, deadline, devices::are_reset)
        || secure::end_life(core, format_args!("it does not let go of the virtual devices"));
    secure::call(core, Event::AWAKE);
    detached
}

/// Brings the machine's state and the domain's memory to what they are at boot. False: the bus masters are not all stopped.
fn renew(core: &mut Core) -> bool {
    let system = core.system;
    let mut guard = system.reset.life.lock();
    let Some(Life { origin, memory }) = &mut *guard else { return false };
    forget(core);
    let mut memory = memory.open();
    if !stop_masters(core, origin, &memory) {
        return false;
    }
    for range in &origin.cleared {
        chunks(range).for_each(|chunk| {
            memory.zero(&chunk);
            breathe(core);
        });
    }
    load(core, origin, &mut memory);
    drop(memory);
    // What the domain's cores have cached of its stage 1, and of its code.
    tables::invalidate_all();
    aarch64::cache::invalidate_instructions();
    system.dma.as_ref().is_none_or(|dma| dma.release())
}

/// The cores' registers, interrupt controller and console are as after power-on.
fn forget(core: &mut Core) {
    let system = core.system;
    let kicks = system.vgic.cpu_off(core.index, &mut core.interrupts);
    core.kick(kicks);
    context::load_timers(&El1State::reset());
    context::reset_monitors(core.has_pmu);
    context::switch_vectors(&mut core.vectors, &VectorState::default());
    CONSOLE.lock().guest = Pl011::new();
    system.vgic.reset(core.index, &mut core.interrupts);
}

/// Whether none of the domain's devices writes any more.
fn stop_masters(core: &Core, origin: &Origin, memory: &OpenMemory<'_>) -> bool {
    if !core.system.dma.as_ref().is_none_or(|dma| dma.hold()) {
        return false;
    }
    if !origin.virtio.iter().all(|registers| memory.stop_virtio(registers)) {
        log!("a virtio device of the general domain does not answer its reset");
        return false;
    }
    if !core.system.shared_bus.as_ref().is_none_or(Bus::stop_general) {
        log!("a PCI function of the general domain does not let itself be stopped");
        return false;
    }
    for space in &origin.ecam {
        machine::pci::stop(&mut memory.configuration_space(space), space.len());
    }
    true
}

fn load(core: &mut Core, origin: &mut Origin, memory: &mut OpenMemory<'_>) {
    for (source, place) in &origin.parts {
        for chunk in chunks(source) {
            memory.load(place + (chunk.start - source.start), &chunk);
            breathe(core);
        }
    }
    if let Some(next) = &mut origin.seed {
        for place in &origin.seeds {
            let seed = next.next_seed();
            origin.tree[place.clone()].copy_from_slice(&seed[..place.len()]);
        }
    }
    memory.write(origin.tree_place, &origin.tree);
}

/// `range` in pieces.
fn chunks(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.clone().step_by(CHUNK).map(move |start| start..end.min(start + CHUNK))
}

/// The secure domain gets what waits for it.
fn breathe(core: &mut Core) {
    if context::interrupt_pending() {
        irq::serve(core);
    }
    if secure::wanted(core) {
        secure::serve_idle(core);
    }
}

/// Has the core that boots enter the domain, as `secondary` does on any other: nothing of this core's is left.
fn enter(core: &mut Core, began: u64) -> ! {
    let system = core.system;
    let (first, start) = {
        let guard = system.reset.life.lock();
        let Life { origin, .. } = guard.as_ref().expect("`renew` has found it");
        (origin.first, Start { entry: origin.entry, context: origin.tree_place as u64 })
    };
    let ticks = time::counter() - began;
    system.reset.longest.fetch_max(ticks, Ordering::Relaxed);
    let number = system.reset.lives.fetch_add(1, Ordering::Relaxed) + 1;
    log!("the general domain starts again after {} us, reset {number}", time::microseconds(ticks));
    // Last of all: the secure domain has had this core's time until now, and the operator may have asked again.
    (0..system.cores).for_each(|index| pages::tell_stolen_time(index, 0));
    system.reset.demanded.store(false, Ordering::SeqCst);
    system.psci.end_reset(core.index, first, start);
    if core.index == first {
        boot::begin_again(first, smp::secondary);
    }
    smp::hand_over(core, first)
}
