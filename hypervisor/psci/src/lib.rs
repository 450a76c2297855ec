//! PSCI 1.1 (Arm DEN 0022) over up to eight cores, and the calls of the SMC Calling Convention 1.1 (Arm DEN 0028) that a guest expects.
//!
//! Three functions: [`decode`] reads a call, [`Psci::decide`] says what is to be done and moves the state, the binary does it. A core
//! is off, about to be on, or on:
//!
//! ```text
//!        CPU_ON by any core           begin() by itself
//!  Off ---------------------> OnPending -----------------> On
//!   ^                                                       |
//!   +------------------ stopped() by itself <-- CPU_OFF ----+
//! ```
//!
//! `CPU_ON` claims the core with one compare-and-swap, so of two callers one wins and the other hears `ALREADY_ON`, or `ON_PENDING` if the
//! core takes its time; the entry point is
//! published with the state after it. `CPU_OFF` leaves the state alone: the core itself reports [`Psci::stopped`] once nothing of the
//! guest is left on it, and only then `AFFINITY_INFO` says OFF and another `CPU_ON` may succeed (DEN 0022, `CPU_OFF`).
//!
//! **A reset of the guest alone** is led by one core ([`Psci::lead_reset`]). Every other core, wherever it is found, leaves the guest
//! as by `CPU_OFF`, and a core that is on its way does not enter it; once the leader is alone ([`Psci::is_alone`]) nothing of the guest
//! runs, and [`Psci::end_reset`] makes the cores what they are after power-on: all off, and the first one claimed.
#![no_std]
#![forbid(unsafe_code)]

mod call;
mod firmware;

use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

pub use call::{Call, Workaround, decode};
use call::{id, is_random, normalise, workaround};
pub use firmware::Firmware;

/// Most cores.
pub const MAX_CORES: usize = 8;

/// The version that `PSCI_VERSION` returns: 1.1.
pub const PSCI_VERSION: u32 = 0x1_0001;

/// The version that `SMCCC_VERSION` returns: 1.1.
pub const SMCCC_VERSION: u32 = 0x1_0001;

/// Affinity fields of `MPIDR_EL1`: Aff3 39:32, Aff2 23:16, Aff1 15:8, Aff0 7:0.
pub const AFFINITY_MASK: u64 = 0xFF_00FF_FFFF;

/// What a call returns in `x0` when it did not succeed (DEN 0022, Return error codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// No such function.
    NotSupported = -1,
    /// An argument is out of range.
    InvalidParameters = -2,
    /// The call does not fit the state.
    Denied = -3,
    /// The core is on.
    AlreadyOn = -4,
    /// The core is about to be on.
    OnPending = -5,
    /// The entry point is not in memory of the guest.
    InvalidAddress = -9,
}

/// What the binary does for a call. Where it returns to the caller, it does so with the stated `x0`; `x1..x3` may be kept.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Return this in `x0`.
    Return(u64),
    /// Core `cpu` has been claimed: wake it, so that it calls [`Psci::begin`]; return 0.
    Wake {
        /// Index of the core.
        cpu: usize,
    },
    /// Core `cpu` has been claimed by another `CPU_ON` and is on its way: give it a moment, then return [`Psci::after_wait`].
    Await {
        /// Index of the core.
        cpu: usize,
    },
    /// Take the guest off this core, call [`Psci::stopped`], wait for [`Psci::begin`]. Does not return to the caller.
    Off,
    /// Wait for an interrupt as `WFI` does, then return 0.
    Standby,
    /// Switch the machine off. Does not return.
    SystemOff,
    /// Reset the machine; a warm reset may keep memory. Does not return.
    SystemReset {
        /// `SYSTEM_WARM_RESET` was asked for.
        warm: bool,
    },
    /// Suspend to RAM. Every other core is off. Afterwards this core starts at `start`; a failure returns to the caller.
    SystemSuspend(Start),
    /// Call firmware with this function and argument; its `x0` to `x3` are the answer.
    Firmware(u32, u64),
}

impl Decision {
    fn ok(value: u32) -> Decision {
        Decision::Return(value.into())
    }
}

impl From<Error> for Decision {
    fn from(error: Error) -> Decision {
        Decision::Return(error as i64 as u64)
    }
}

/// Where a core enters the guest: EL1h, MMU and interrupts off (DEN 0022, Initial core configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Program counter, intermediate physical.
    pub entry: u64,
    /// `x0`.
    pub context: u64,
}

/// What the guest's machine has.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Cores, 1 to [`MAX_CORES`].
    pub cores: usize,
    /// Affinity of each, as in [`AFFINITY_MASK`].
    pub affinities: [u64; MAX_CORES],
    /// `SYSTEM_SUSPEND` works.
    pub system_suspend: bool,
    /// Where the records of stolen time are, 64 bytes for each core in their order (Arm DEN 0057).
    pub stolen_time: u64,
    /// `SYSTEM_RESET2` with `SYSTEM_WARM_RESET` works.
    pub warm_reset: bool,
}

/// State of one core, in [`AFFINITY_INFO`'s](Call::AffinityInfo) words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// In the guest, or not out of it yet.
    On,
    /// Out of the guest.
    Off,
    /// Claimed by a `CPU_ON`.
    OnPending,
}

const OFF: u8 = 0;
/// Claimed; the entry point is being written.
const CLAIMED: u8 = 1;
/// The entry point is written.
const PENDING: u8 = 2;
const ON: u8 = 3;

#[derive(Debug)]
struct Core {
    state: AtomicU8,
    entry: AtomicU64,
    context: AtomicU64,
}

impl Core {
    const fn new() -> Core {
        Core { state: AtomicU8::new(OFF), entry: AtomicU64::new(0), context: AtomicU64::new(0) }
    }
}

/// The state machine. Every method may be called by every core at any time.
#[derive(Debug)]
pub struct Psci {
    config: Config,
    cores: [Core; MAX_CORES],
    /// The core that leads a reset, or [`NOBODY`].
    leader: AtomicUsize,
}

/// No reset is under way.
const NOBODY: usize = usize::MAX;

impl Psci {
    /// All cores off.
    ///
    /// # Panics
    /// If `config.cores` is not 1 to [`MAX_CORES`].
    pub const fn new(config: Config) -> Psci {
        assert!(config.cores >= 1 && config.cores <= MAX_CORES);
        Psci { config, cores: [const { Core::new() }; MAX_CORES], leader: AtomicUsize::new(NOBODY) }
    }

    /// Claims core `cpu` and leaves `start` for it: `CPU_ON` by the guest, or by the binary for the first core.
    ///
    /// # Errors
    /// [`Error::AlreadyOn`] or [`Error::OnPending`]: it was not off.
    pub fn claim(&self, cpu: usize, start: Start) -> Result<(), Error> {
        let core = &self.cores[cpu];
        match core.state.compare_exchange(OFF, CLAIMED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                core.entry.store(start.entry, Ordering::Relaxed);
                core.context.store(start.context, Ordering::Relaxed);
                core.state.store(PENDING, Ordering::Release);
                Ok(())
            }
            Err(ON) => Err(Error::AlreadyOn),
            Err(_) => Err(Error::OnPending),
        }
    }

    /// Core `cpu`, which is out of the guest, asks whether to enter it. If so it is on from now.
    pub fn begin(&self, cpu: usize) -> Option<Start> {
        let core = &self.cores[cpu];
        if core.state.load(Ordering::Acquire) != PENDING {
            return None;
        }
        let start = Start { entry: core.entry.load(Ordering::Relaxed), context: core.context.load(Ordering::Relaxed) };
        core.state.store(ON, Ordering::Release);
        Some(start)
    }

    /// Core `cpu` has left the guest for good (after [`Decision::Off`]).
    pub fn stopped(&self, cpu: usize) {
        self.cores[cpu].state.store(OFF, Ordering::Release);
    }

    /// Core `cpu`, which is on, wants the guest to be reset: whether it leads. If not, another one does, and `cpu` has to leave the guest.
    #[must_use]
    pub fn lead_reset(&self, cpu: usize) -> bool {
        self.leader.compare_exchange(NOBODY, cpu, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether a reset is under way.
    pub fn is_resetting(&self) -> bool {
        self.leader.load(Ordering::SeqCst) != NOBODY
    }

    /// Whether core `cpu` has to leave the guest, or must not enter it, because another one resets it.
    pub fn must_leave(&self, cpu: usize) -> bool {
        let leader = self.leader.load(Ordering::SeqCst);
        leader != NOBODY && leader != cpu
    }

    /// Whether all cores but `cpu`, the leader, are off, and will be. One look is not enough: a core that was still on when it was
    /// looked at may have claimed one before it, and have gone off since. One that is claimed during a reset claims nobody.
    pub fn is_alone(&self, cpu: usize) -> bool {
        let others = || (0..self.config.cores).filter(|other| *other != cpu);
        (0..2).all(|_| others().all(|other| self.power(other) == Power::Off))
    }

    /// The leader `cpu`, which is alone and has left the guest too, ends the reset: core `first` is claimed for `start`, every other one is off.
    pub fn end_reset(&self, cpu: usize, first: usize, start: Start) {
        self.stopped(cpu);
        // First: a core that has been claimed may begin at once, and must not find that it has to leave.
        self.leader.store(NOBODY, Ordering::SeqCst);
        let claimed = self.claim(first, start);
        debug_assert!(claimed.is_ok(), "every core is off");
    }

    /// The state of core `cpu`.
    pub fn power(&self, cpu: usize) -> Power {
        match self.cores[cpu].state.load(Ordering::Acquire) {
            OFF => Power::Off,
            ON => Power::On,
            _ => Power::OnPending,
        }
    }

    /// What is to be done for `call` of core `cpu`, whose firmware is `firmware`. `is_memory` tells whether an entry point is in memory of
    /// the guest.
    #[inline(never)]
    pub fn decide(&self, cpu: usize, call: Call, firmware: &Firmware, is_memory: &dyn Fn(u64) -> bool) -> Decision {
        match call {
            Call::PsciVersion => Decision::ok(PSCI_VERSION),
            Call::SmcccVersion => Decision::ok(SMCCC_VERSION),
            Call::PsciFeatures(function) => self.psci_features(function),
            Call::SmcccArchFeatures(function) => Decision::Return(i64::from(arch_features(function, firmware)) as u64),
            Call::PvTimeFeatures(id::PV_TIME_FEATURES | id::PV_TIME_ST) => Decision::ok(0),
            Call::PvTimeFeatures(_) => Error::NotSupported.into(),
            Call::PvTimeStolen => Decision::Return(self.config.stolen_time + 64 * cpu as u64),
            Call::MigrateInfoType => Decision::ok(MIGRATION_NOT_REQUIRED),
            Call::CpuSuspend { power_state } => cpu_suspend(power_state),
            Call::CpuOff => Decision::Off,
            Call::CpuOn { target, entry, context } => self.cpu_on(target, Start { entry, context }, is_memory),
            Call::AffinityInfo { target, level } => self.affinity_info(target, level),
            Call::SystemOff => Decision::SystemOff,
            Call::SystemReset => Decision::SystemReset { warm: false },
            Call::SystemReset2 { kind, .. } => self.system_reset2(kind),
            Call::SystemSuspend { entry, context } => self.system_suspend(cpu, Start { entry, context }, is_memory),
            Call::SmcccArchWorkaround(it) => run_workaround(it, firmware),
            Call::Random(function, argument) if firmware.has_random() => Decision::Firmware(function, argument),
            Call::Random(..) | Call::Unknown(_) => Error::NotSupported.into(),
        }
    }

    /// The core with exactly this affinity.
    fn core_with_affinity(&self, affinity: u64) -> Option<usize> {
        self.config.affinities[..self.config.cores].iter().position(|it| it & AFFINITY_MASK == affinity)
    }

    fn cpu_on(&self, target: u64, start: Start, is_memory: &dyn Fn(u64) -> bool) -> Decision {
        let Some(cpu) = self.core_with_affinity(target) else { return Error::InvalidParameters.into() };
        if !is_memory(start.entry) || !start.entry.is_multiple_of(4) {
            return Error::InvalidAddress.into();
        }
        match self.claim(cpu, start) {
            Ok(()) => Decision::Wake { cpu },
            Err(Error::OnPending) => Decision::Await { cpu },
            Err(error) => error.into(),
        }
    }

    /// The answer to a `CPU_ON` that found core `cpu` on its way ([`Decision::Await`]), once it has arrived or has had its moment.
    /// Callers that race for a core may so hear of one that is on, as from firmware that serves them one after the other.
    pub fn after_wait(&self, cpu: usize) -> u64 {
        let answer = if self.power(cpu) == Power::On { Error::AlreadyOn } else { Error::OnPending };
        answer as i64 as u64
    }

    /// On if any core below the affinity is on, pending if any is about to be, else off (DEN 0022, `AFFINITY_INFO`).
    fn affinity_info(&self, target: u64, level: u32) -> Decision {
        let ignored = match level {
            0 => 0,
            1 => 0xFF,
            2 => 0xFFFF,
            3 => 0xFF_FFFF,
            _ => return Error::InvalidParameters.into(),
        };
        let cores = self.config.affinities[..self.config.cores].iter().enumerate();
        let named = cores.filter(|(_, it)| **it & AFFINITY_MASK & !ignored == target & !ignored);
        let states = named.map(|(cpu, _)| match self.power(cpu) {
            Power::On => 0,
            Power::OnPending => 1,
            Power::Off => 2,
        });
        match states.min() {
            None => Error::InvalidParameters.into(),
            Some(0) => Decision::ok(AFFINITY_ON),
            Some(1) => Decision::ok(AFFINITY_ON_PENDING),
            Some(_) => Decision::ok(AFFINITY_OFF),
        }
    }

    fn system_reset2(&self, kind: u32) -> Decision {
        if !self.config.warm_reset {
            return Error::NotSupported.into();
        }
        if kind == SYSTEM_WARM_RESET { Decision::SystemReset { warm: true } } else { Error::InvalidParameters.into() }
    }

    fn system_suspend(&self, cpu: usize, start: Start, is_memory: &dyn Fn(u64) -> bool) -> Decision {
        if !self.config.system_suspend {
            return Error::NotSupported.into();
        }
        if !is_memory(start.entry) || !start.entry.is_multiple_of(4) {
            return Error::InvalidAddress.into();
        }
        let others_off = (0..self.config.cores).all(|other| other == cpu || self.power(other) == Power::Off);
        if others_off { Decision::SystemSuspend(start) } else { Error::Denied.into() }
    }

    /// 0 for what there is; the flags of `CPU_SUSPEND` are zero too: original format, platform-coordinated (DEN 0022, `PSCI_FEATURES`).
    fn psci_features(&self, function: u32) -> Decision {
        use id::*;
        let exists = match normalise(function) {
            Some((PSCI_VERSION | CPU_SUSPEND | CPU_OFF | CPU_ON | AFFINITY_INFO | MIGRATE_INFO_TYPE, _)) => true,
            Some((SYSTEM_OFF | SYSTEM_RESET | PSCI_FEATURES | SMCCC_VERSION, _)) => true,
            Some((SYSTEM_SUSPEND, _)) => self.config.system_suspend,
            Some((SYSTEM_RESET2, _)) => self.config.warm_reset,
            _ => false,
        };
        if exists { Decision::ok(0) } else { Error::NotSupported.into() }
    }
}

/// What there is on this core. The calls of DEN 0098 have their own `TRNG_FEATURES`, but their existence may be asked for here too.
fn arch_features(function: u32, firmware: &Firmware) -> i32 {
    match function {
        id::SMCCC_VERSION | id::SMCCC_ARCH_FEATURES | id::PV_TIME_FEATURES => 0,
        _ if is_random(function) && firmware.has_random() => 0,
        _ => workaround(function).map_or(-1, |it| firmware.answer(it)),
    }
}

/// A workaround that is offered is firmware's to carry out where this core needs it, and else nothing to do.
fn run_workaround(it: Workaround, firmware: &Firmware) -> Decision {
    match firmware.answer(it) {
        0 => Decision::Firmware(it.function(), 0),
        1.. => Decision::ok(0),
        _ => Error::NotSupported.into(),
    }
}

/// `AFFINITY_INFO` of a core that is on.
const AFFINITY_ON: u32 = 0;
/// `AFFINITY_INFO` of a core that is off.
const AFFINITY_OFF: u32 = 1;
/// `AFFINITY_INFO` of a core that is about to be on.
const AFFINITY_ON_PENDING: u32 = 2;
/// `MIGRATE_INFO_TYPE`: no Trusted OS that needs migration.
const MIGRATION_NOT_REQUIRED: u32 = 2;
/// `SYSTEM_RESET2` reset type.
const SYSTEM_WARM_RESET: u32 = 0;
/// Reserved bits of `power_state` in the original format: 31:26 and 23:17 (DEN 0022, `CPU_SUSPEND`, `power_state`).
const POWER_STATE_RESERVED: u32 = 0xFCFE_0000;

/// A powerdown request is carried out as standby, which PSCI allows: its wake-up returns to the caller (DEN 0022, `CPU_SUSPEND`).
fn cpu_suspend(power_state: u32) -> Decision {
    if power_state & POWER_STATE_RESERVED != 0 { Error::InvalidParameters.into() } else { Decision::Standby }
}

#[cfg(test)]
mod tests;
