//! A core that the secure domain has for itself, on boards that say so (`secure_core`).
//!
//! It is the last of EL2's numbers, behind the general domain's cores, of which none ever runs the secure domain again once this one
//! does: a kick is an event and at most an SGI, and what the domain takes is its own core's time. The core leaves EL2's sleep when
//! there is work, and the domain when there is none:
//!
//! ```text
//!     a core of the general domain       this core
//!     raise(event)                       asleep = true
//!     fence (SeqCst)                     fence (SeqCst)
//!     asleep ?  -> SGI                   wanted() ?  -> do not sleep, else WFI
//! ```
//!
//! Of two sequentially consistent fences one is first (C++ memory model, [atomics.fences]; both are `DMB ISH`, DDI 0487 B2.3): either the event is
//! seen here, or the sleeper there. The SGI stays pending while EL2 masks it, so that a WFI behind it does not wait, and its barrier makes
//! the event visible first (`send_sgi`). A domain that runs is not disturbed: it looks at its events before it waits.
//!
//! The secure domain begins on the core that boots, as elsewhere, and moves here when boot is over.

use core::sync::atomic::{AtomicBool, Ordering, fence};

use aarch64::time;
use el2::{context, firmware};

use crate::board::BOARD;
use crate::irq::{self, Claim};
use crate::panic::stop;
use crate::system::{Core, System};
use crate::{secure, smp};

/// Longest time that the core may take from its start to its first line, in microseconds.
const START_US: u64 = 1_000_000;

/// Whether the board has such a core.
pub const IS_THERE: bool = BOARD.secure_core.is_some();

/// How the core stands.
#[derive(Default)]
pub struct State {
    /// The domain has moved to it.
    moved: AtomicBool,
    /// The core has begun.
    begun: AtomicBool,
    /// It sleeps, or is about to.
    asleep: AtomicBool,
    /// It leaves the domain alone: another core is about to end its life.
    held_off: AtomicBool,
}

/// Its index.
fn index(system: &System) -> usize {
    system.cores
}

/// Cores that EL2 drives, of which `general` are the general domain's.
pub const fn all_cores(general: usize) -> usize {
    general + IS_THERE as usize
}

/// Whether this is the core.
#[inline(always)]
pub fn is(core: &Core) -> bool {
    IS_THERE && core.index == index(core.system)
}

/// Whether this core may run the secure domain.
#[inline(always)]
pub fn may_host(core: &Core) -> bool {
    !IS_THERE || is(core) || !core.system.exclusive.moved.load(Ordering::Relaxed)
}

/// Whether the secure domain is to be left alone for now.
#[inline(always)]
pub fn is_held_off(core: &Core) -> bool {
    IS_THERE && is(core) && core.system.exclusive.held_off.load(Ordering::Relaxed)
}

/// Keeps the core away from the domain, which it gives back within a slice.
pub fn hold_off(core: &Core) {
    core.system.exclusive.held_off.store(true, Ordering::Relaxed);
}

/// Lets it on again.
pub fn let_on(core: &Core) {
    core.system.exclusive.held_off.store(false, Ordering::Relaxed);
    ring(core);
}

/// What the secure domain may want has changed: wakes its core.
pub fn ring(core: &Core) {
    if !IS_THERE {
        return;
    }
    let asleep = &core.system.exclusive.asleep;
    fence(Ordering::SeqCst);
    if asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::Relaxed) {
        core.interrupts.send_sgi(irq::KICK, index(core.system));
    }
}

/// Boot is over: starts the core. From here on the others leave the domain to it.
pub fn start(core: &Core) {
    if !IS_THERE {
        return;
    }
    let state = &core.system.exclusive;
    let deadline = time::counter() + time::ticks(START_US);
    let started = smp::start(core, index(core.system));
    while started && !state.begun.load(Ordering::Acquire) && time::counter() < deadline {
        core::hint::spin_loop();
    }
    if !state.begun.load(Ordering::Acquire) {
        stop(format_args!("the core that the board gives to the secure domain does not start"));
    }
    state.moved.store(true, Ordering::Release);
}

/// What the core does for ever.
pub fn run(core: &mut Core) -> ! {
    core.interrupts.reset_virtual();
    // What a visit saves and puts back is then known, though no general domain is here.
    context::load(&core.el1, &core.system.general);
    context::load_timers(&core.el1);
    context::reset_monitors(core.has_pmu);
    irq::route_disks(core, core.index);
    core.system.exclusive.begun.store(true, Ordering::Release);
    loop {
        secure::serve_idle(core);
        sleep(core);
        match irq::take(core) {
            Claim::Served | Claim::Secure => {}
            Claim::Slice => secure::tell_time(core),
            Claim::General(interrupt) => irq::deliver(core, interrupt),
        }
    }
}

/// Until an interrupt is pending; not at all if the domain has something to do.
fn sleep(core: &Core) {
    let asleep = &core.system.exclusive.asleep;
    asleep.store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if is_held_off(core) || !secure::wanted(core) {
        firmware::wait_for_interrupt();
    }
    asleep.store(false, Ordering::Relaxed);
}
