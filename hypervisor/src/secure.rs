//! The secure domain: when it runs, on which core, and for how long.
//!
//! It has one vCPU and no core of its own. A core that finds work for it (a kick, an interrupt of its disk) gives itself
//! to it at once, by an ordinary function call: [`serve`] swaps the EL1 state, loops over the domain's exits, and swaps back
//! when the domain waits, when its slice ends, or when an interrupt for the general domain has arrived. Whoever holds the lock
//! of [`SecureDomain`] has it; a core that finds it taken goes on with the general domain, because the event it raised is seen by
//! the domain before it sleeps:
//!
//! ```text
//!     this core                          the core that has the domain
//!     raise(event)          (SeqCst)     domain waits: release the lock   (SeqCst)
//!     try_lock fails        (SeqCst)     pending() ?  -> take the lock again
//! ```
//!
//! Either the lock was free for the first, or the second sees the event. A domain that was stopped in the middle of its work gets
//! the next idle moment of any core, and at the latest a slice of its own when the timer of the core that stopped it fires.
//!
//! An idle core that finds the lock taken sleeps, and the core that leaves the domain with work undone wakes one of those ([`await_turn`]).
//!
//! A domain that waits may name a time. Every core that has visited it since then keeps its timer for it, so that it does not matter
//! which of them goes off; the first that fires raises [`Event::TIME`], the others find nothing to do.
//!
//! A board may give the domain a core of its own ([`exclusive`]): then no other runs it, and what is said here of cores holds of that one.
//!
//! Nothing here waits, and one call of [`serve`] lasts at most one slice. Kicks and idle time are the general domain's to give; what the domain
//! takes by its own interrupts and its due slices is limited ([`vcpu::allowance`]), however fast it ends its interrupts.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use aarch64::time;
use aarch64_cpu::registers::{ESR_EL2, FAR_EL2, Readable};
use abi::Event;
use abi::hypercall::{Failure, NO_DEADLINE};
use el2::context::Confinement;
use el2::gic::Acknowledged;
use el2::guest::{self, Trap};
use el2::memory::DomainMemory;
use el2::{context, firmware, pages, timer};
use trace::Reason;
use vcpu::control::Domain;
use vcpu::sysreg::{Action, decide};
use vcpu::{El1State, Exit, Frame, IdRegisters, VectorState, Watchdog};

use crate::irq::{self, Claim};
use crate::log::log;
use crate::restart::{self, Lives, Restart};
use crate::system::Core;
use crate::{boot, cpu, devices, exclusive, exits, hypercall};

/// The secure domain's vCPU.
pub struct SecureDomain {
    frame: Frame,
    el1: El1State,
    vectors: VectorState,
    confinement: Confinement,
    identification: IdRegisters,
    entry: u64,
    tree: u64,
    watchdog: Watchdog,
    /// What brings up its next life.
    pub restart: Restart,
}

/// How the domain stands, for those who do not have its lock.
#[derive(Debug, Default)]
pub struct State {
    /// When it wants [`Event::TIME`], in ticks of the counter, plus 1; 0, as [`NO_DEADLINE`] gives: never.
    alarm: AtomicU64,
    /// It wants [`Event::IDLE`] as soon as a core of the general domain has nothing to do.
    when_idle: AtomicBool,
    /// It was stopped in the middle of its work.
    preempted: AtomicBool,
    /// It has attached its devices: the general domain may start.
    ready: AtomicBool,
    /// Everything it has acknowledged is on stable storage.
    quiesced: AtomicBool,
    /// It will not run again.
    stopped: AtomicBool,
    /// It is to save everything, and has not said yet that it has.
    quiescing: AtomicBool,
    /// It has waited, or answered a request, since its watchdog last looked.
    alive: AtomicBool,
    /// Cores that have nothing to do and sleep because another one has it, as a bitmap.
    waiting: AtomicU32,
    /// A [`Drill`] that it has to go through.
    drill: AtomicU8,
    /// Its lives.
    pub lives: Lives,
}

/// A crash on demand, on boards whose file allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// It jumps to where it has no memory, and its own handler gives up.
    Crash = 1,
    /// The same, and its handler is gone too: it faults for ever and says nothing.
    Hang = 2,
}

impl State {
    /// It waits, and wants [`Event::TIME`] when the counter reaches `alarm`.
    pub fn set_alarm(&self, alarm: u64) {
        self.alarm.store(alarm.wrapping_add(1), Ordering::SeqCst);
    }

    /// It waits, and whether it is to be told when the general domain has nothing to do.
    pub fn set_when_idle(&self, when_idle: bool) {
        self.when_idle.store(when_idle, Ordering::Relaxed);
    }

    /// When the domain is to be woken though nothing happens, if it is.
    fn alarm(&self) -> Option<u64> {
        self.alarm.load(Ordering::SeqCst).checked_sub(1).filter(|_| !self.is_stopped())
    }

    /// Whether it has attached its devices.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether it has stopped for good.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Everything it has acknowledged is on stable storage.
    pub fn set_quiesced(&self) {
        self.quiescing.store(false, Ordering::Relaxed);
        self.quiesced.store(true, Ordering::Release);
    }

    /// It has served what it knew of, or answered a request: it does not hang, however much there is to do.
    pub fn set_alive(&self) {
        self.alive.store(true, Ordering::Relaxed);
    }

    /// The next visit begins with `drill`.
    pub fn demand(&self, drill: Drill) {
        self.drill.store(drill as u8, Ordering::SeqCst);
        self.preempted.store(true, Ordering::SeqCst);
    }
}

/// Why the domain gave the core back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It waits for an event.
    Idle,
    /// Its slice is over.
    Slice,
    /// Its life has ended.
    Crashed,
    /// The general domain must look at this interrupt, which [`irq::take`] has taken.
    Interrupt(Acknowledged),
    /// It has stopped for good.
    Stopped,
}

impl Leave {
    /// As the trace tells it ([`Reason::Leave`]).
    fn number(self) -> u64 {
        match self {
            Leave::Idle => 0,
            Leave::Slice => 1,
            Leave::Crashed => 2,
            Leave::Interrupt(_) => 3,
            Leave::Stopped => 4,
        }
    }
}

/// Longest time that a shutdown waits for the domain to save everything, in microseconds.
const QUIESCE_US: u64 = 5_000_000;
/// Longest time that a core may take to give the domain back, in microseconds: many slices.
const GIVE_BACK_US: u64 = 1_000_000;
/// Longest time that the domain may run without waiting for events and without an answer to a request, in microseconds: beyond it, it hangs. The
/// longest that it has to compute in one piece, the self-tests of its crypto engine, are a small part of that on an emulator.
const WATCHDOG_US: u64 = 10_000_000;

impl SecureDomain {
    /// A domain that will enter its image at `entry` with the address of its tree.
    pub fn new(entry: u64, tree: u64, confinement: Confinement, restart: Restart) -> SecureDomain {
        SecureDomain {
            frame: cpu::data_independent_timing(Frame::reset(entry, tree)),
            el1: El1State::reset(),
            vectors: VectorState::default(),
            confinement,
            identification: cpu::identification(Domain::Secure),
            entry,
            tree,
            watchdog: Watchdog::new(time::ticks(WATCHDOG_US)),
            restart,
        }
    }

    /// The vCPU as it was before its first instruction.
    pub fn reset(&mut self) {
        self.frame = cpu::data_independent_timing(Frame::reset(self.entry, self.tree));
        self.el1 = El1State::reset();
        self.vectors = VectorState::default();
        self.watchdog.reset();
    }

    /// Makes the next instruction the domain's last.
    fn suffer(&mut self, drill: u8) {
        log!("drill: the secure domain is made to {}", if drill == Drill::Hang as u8 { "hang" } else { "crash" });
        self.frame.elr = 0;
        if drill == Drill::Hang as u8 {
            self.el1.vbar_el1 = 0;
        }
    }
}

/// Gives this core to the secure domain for as long as it has work and nothing of the general domain's is more urgent, at most
/// a slice in all: however often the domain says that it waits while events wait for it, the general domain gets its core back.
/// Where another core has the domain for good, that one is told instead.
pub fn serve(core: &mut Core) {
    if !exclusive::may_host(core) {
        return exclusive::ring(core);
    }
    let begin = time::counter();
    serve_for(core, core.system.slice_ticks);
    steal(core, time::counter() - begin);
}

/// As [`serve`], in time that the vCPU has no use for. Whether this core has had the domain.
pub fn serve_idle(core: &mut Core) -> bool {
    serve_for(core, core.system.slice_ticks)
}

/// Another core has the domain, and this one nothing to do: sleeps until an interrupt comes, which is at the latest the slice that is due, or until
/// that core leaves work behind.
pub fn await_turn(core: &Core) {
    let waiting = &core.system.secure_state.waiting;
    waiting.fetch_or(1 << core.index, Ordering::Relaxed);
    // Of this fence and the one behind the release of the lock one is first: either the lock is seen to be free here, or this core there.
    fence(Ordering::SeqCst);
    if core.system.secure.is_locked() {
        firmware::wait_for_interrupt();
    }
    waiting.fetch_and(!(1 << core.index), Ordering::Relaxed);
}

/// This core leaves work of the domain behind, whose lock it has released: wakes one that waits for it.
fn pass_turn(core: &Core) {
    let waiting = &core.system.secure_state.waiting;
    let next = waiting.load(Ordering::Relaxed).trailing_zeros();
    if next < u32::BITS && waiting.fetch_and(!(1 << next), Ordering::Relaxed) >> next & 1 != 0 {
        core.interrupts.send_sgi(irq::KICK, next as usize);
    }
}

/// Tells the vCPU that its core was another's for `ticks`.
fn steal(core: &mut Core, ticks: u64) {
    let nanoseconds = core.stolen.add(ticks);
    pages::tell_stolen_time(core.index, nanoseconds);
}

/// As [`serve`], when an interrupt of the domain asks for it: only as long as it has not had more than its share of this core. If
/// it has, its interrupt waits, quiet because nobody has ended it, until the core is idle or a slice is due.
pub fn serve_interrupt(core: &mut Core) {
    if !exclusive::may_host(core) {
        return exclusive::ring(core);
    }
    let begin = time::counter();
    match core.allowance.grant(begin) {
        Some(ticks) => {
            serve_for(core, ticks);
            let end = time::counter();
            core.allowance.charge(begin, end);
            steal(core, end - begin);
        }
        None => wake_later(core),
    }
}

/// Whether this core has had the domain.
fn serve_for(core: &mut Core, ticks: u64) -> bool {
    let system = core.system;
    let mut had = false;
    let deadline = time::counter() + ticks;
    while wanted(core) && !exclusive::is_held_off(core) {
        let left = deadline.saturating_sub(time::counter());
        // An SError that is pending now is the general domain's, if it has been here, whose store caused it: it must not be taken for the other's.
        if left == 0 || !exclusive::is(core) && context::serror_pending() {
            break;
        }
        let Some(mut domain) = system.secure.try_lock() else { break };
        had = true;
        if system.secure_state.is_stopped() {
            break;
        }
        let mut leave = if domain.restart.is_under_way() {
            restart::advance(core, &mut domain, deadline)
        } else {
            visit(core, &mut domain, left)
        };
        if leave == Leave::Crashed {
            leave = restart::begin(core, &mut domain);
        }
        drop(domain);
        // Orders the release of the lock before the next look at the events: see the essay above.
        fence(Ordering::SeqCst);
        match leave {
            Leave::Idle => {}
            Leave::Slice | Leave::Crashed => break,
            Leave::Interrupt(interrupt) => {
                irq::deliver(core, interrupt);
                break;
            }
            Leave::Stopped => {
                devices::backend_stopped(core);
                break;
            }
        }
    }
    if had && wanted(core) {
        pass_turn(core);
    }
    wake_later(core);
    had
}

/// As [`serve`], but interrupts of the general domain wait until the slice is over: however many there are, the secure domain
/// gets on with its work.
pub fn serve_guaranteed(core: &mut Core) {
    core.slice_due = None;
    let begin = time::counter();
    core.interrupts.mask_general(true);
    serve(core);
    core.interrupts.mask_general(false);
    core.allowance.charge(begin, time::counter());
}

/// Whether the domain has something to do that this core may have it do.
pub fn wanted(core: &Core) -> bool {
    let system = core.system;
    exclusive::may_host(core)
        && (system.shared.pending() || system.secure_state.preempted.load(Ordering::Acquire))
        && !system.secure_state.is_stopped()
}

/// This core has nothing to do: tells the domain if it asked for that. A core that misses the question is no loss: the domain names a
/// time as well.
pub fn tell_idle(core: &Core) {
    let system = core.system;
    let asked = &system.secure_state.when_idle;
    if asked.load(Ordering::Relaxed) && asked.swap(false, Ordering::Relaxed) {
        call(core, Event::IDLE);
    }
}

/// Tells the domain of `event`, wherever it is.
pub fn call(core: &Core, event: Event) {
    core.system.shared.raise(event);
    exclusive::ring(core);
}

/// Whether the domain waits for a time, which this core may tell it.
pub fn has_alarm(core: &Core) -> bool {
    exclusive::may_host(core) && core.system.secure_state.alarm().is_some()
}

/// Tells the domain of the time that it named, if that has come.
pub fn tell_time(core: &Core) {
    let state = &core.system.secure_state;
    if state.alarm().is_some_and(|alarm| alarm <= time::counter()) {
        state.set_alarm(NO_DEADLINE);
        core.system.shared.raise(Event::TIME);
    }
}

/// The timer of this core has fired: a slice of the domain's own is due, or the time that it named has come.
pub fn timer_fired(core: &mut Core) {
    tell_time(core);
    // A time is no more urgent than an interrupt: whoever names one after the other gets no more than its share.
    if core.slice_due.is_some() { serve_guaranteed(core) } else { serve_interrupt(core) }
}

/// Sets this core's timer for what the domain may come to want. If it has unfinished work, a slice of its own is due: one slice from
/// when that was first seen, and visits in between do not put it off. If it waits for a time, that is when it is due.
pub fn wake_later(core: &mut Core) {
    if !exclusive::may_host(core) {
        return;
    }
    let now = time::counter();
    let due = if wanted(core) {
        Some(*core.slice_due.get_or_insert(now + core.system.slice_ticks))
    } else {
        core.slice_due = None;
        core.system.secure_state.alarm()
    };
    if let Some(due) = due {
        timer::start(due.saturating_sub(now).max(1));
    }
}

/// Swaps the domain in, runs it for at most `ticks`, swaps it out.
fn visit(core: &mut Core, domain: &mut SecureDomain, ticks: u64) -> Leave {
    let system = core.system;
    // Before the drill is looked for: one that is demanded from here on has a visit of its own.
    system.secure_state.preempted.store(false, Ordering::SeqCst);
    let drill = system.secure_state.drill.swap(0, Ordering::SeqCst);
    if drill != 0 {
        domain.suffer(drill);
    }
    context::save(&mut core.el1);
    core.interrupts.close();
    let counters = context::stop_counters(core.has_pmu);
    context::switch_vectors(&mut core.vectors, &domain.vectors);
    let serror = context::load(&domain.el1, &domain.confinement);
    if !exclusive::is(core)
        && let Some(function) = core.firmware.clear_predictors()
    {
        // What the general domain has taught them must not steer the secure domain past its checks. For EL2 itself nothing is done:
        // see the known gaps of the threat model.
        firmware::ask(function, 0);
    }
    exits::note(core.exits, Reason::Visit, system.shared.events.load(Ordering::Relaxed));
    timer::start(ticks);

    let began = time::counter();
    let leave = run(core, domain);
    let leave = watch(core, domain, leave, time::counter() - began);

    timer::stop();
    exits::note(core.exits, Reason::Leave, leave.number());
    if !matches!(leave, Leave::Idle) {
        system.secure_state.preempted.store(true, Ordering::Release);
    }
    context::save(&mut domain.el1);
    context::switch_vectors(&mut domain.vectors, &core.vectors);
    context::load(&core.el1, &system.general);
    context::load_timers(&core.el1);
    context::restore_counters(core.has_pmu, counters);
    core.interrupts.open();
    if serror {
        context::pend_virtual_serror();
    }
    leave
}

/// Notices a domain that gets nowhere. It has run for `ticks` and leaves for the reason `leave`.
fn watch(core: &Core, domain: &mut SecureDomain, leave: Leave, ticks: u64) -> Leave {
    let rests = leave == Leave::Idle && !core.system.shared.pending();
    let alive = core.system.secure_state.alive.swap(false, Ordering::Relaxed);
    if domain.watchdog.hangs(ticks, rests || alive) && leave == Leave::Slice {
        return crash(&domain.frame, format_args!("it hangs"));
    }
    leave
}

/// Runs the domain until it gives the core back. Bounded by its slice.
fn run(core: &mut Core, domain: &mut SecureDomain) -> Leave {
    loop {
        let leave = match guest::enter(&mut domain.frame) {
            Trap::Synchronous => exit(core, domain),
            Trap::Interrupt => interrupt(core),
            Trap::SError => Some(crash(&domain.frame, format_args!("an SError"))),
        };
        if let Some(leave) = leave {
            return leave;
        }
    }
}

fn interrupt(core: &mut Core) -> Option<Leave> {
    match irq::take(core) {
        Claim::Served | Claim::Secure => None,
        Claim::Slice => Some(Leave::Slice),
        Claim::General(interrupt) => Some(Leave::Interrupt(interrupt)),
    }
}

fn exit(core: &mut Core, domain: &mut SecureDomain) -> Option<Leave> {
    let frame = &mut domain.frame;
    match crate::run::decode() {
        Exit::Hvc { .. } => hypercall::handle(core, frame),
        // Idle by another name: an event may come, and it asks again.
        Exit::Wfi { .. } | Exit::Wfe { .. } => {
            frame.advance(4);
            Some(Leave::Idle)
        }
        Exit::SystemRegister(access) => match decide(&access, frame.read(access.rt), &domain.identification) {
            Action::Read(value) => {
                frame.write(access.rt, value);
                frame.advance(4);
                None
            }
            _ => Some(crash(
                frame,
                format_args!("it reads or writes a register that it does not have, ESR {:#x}", ESR_EL2.get()),
            )),
        },
        // It has no other reason to come here: a defect of its own.
        _ => Some(crash(frame, format_args!("ESR {:#x}, FAR {:#x}", ESR_EL2.get(), FAR_EL2.get()))),
    }
}

/// Ends the domain's life: what it did cannot be continued from.
#[cold]
#[inline(never)]
fn crash(frame: &Frame, what: core::fmt::Arguments<'_>) -> Leave {
    log!("the secure domain has crashed: {what} at {:#x}", frame.elr);
    Leave::Crashed
}

/// Ends the domain's life because of `what` it has not done, on a core that does not have it, while no other core may have it but its own,
/// which gives it back within a slice. False: that core does not, so nothing can be done.
pub fn end_life(core: &mut Core, what: core::fmt::Arguments<'_>) -> bool {
    let system = core.system;
    exclusive::hold_off(core);
    let deadline = time::counter() + time::ticks(GIVE_BACK_US);
    let mut domain = loop {
        match system.secure.try_lock() {
            Some(domain) => break domain,
            None if time::counter() > deadline => return false,
            None => core::hint::spin_loop(),
        }
    };
    // It may have ended by itself, and for good, in the meantime.
    let ends = !system.secure_state.is_stopped();
    let stops = ends && {
        crash(&domain.frame, what);
        restart::begin(core, &mut domain) == Leave::Stopped
    };
    drop(domain);
    exclusive::let_on(core);
    if stops {
        devices::backend_stopped(core);
    }
    true
}

/// The domain has attached its devices. After a restart, its drivers have been waiting.
pub fn ready(core: &mut Core) {
    let state = &core.system.secure_state;
    if !state.is_ready() {
        state.ready.store(true, Ordering::Release);
        return;
    }
    let (number, took_us) = state.lives.ready();
    log!("the secure domain serves again after {took_us} us, restart {number}");
    devices::backend_returned(core);
    if state.quiescing.load(Ordering::Relaxed) {
        core.system.shared.raise(Event::SHUTDOWN);
    }
}

/// Boot is over: from here on the domain is started again in `memory` when it has crashed.
pub fn allow_restart(core: &Core, memory: DomainMemory) {
    core.system.secure.lock().restart.allow(memory);
}

/// Ends the domain; its devices ask for a reset that nobody will complete, and the general domain goes on without them.
pub fn stop(core: &Core) -> Leave {
    core.system.secure_state.stopped.store(true, Ordering::Release);
    Leave::Stopped
}

/// Before the general domain exists: runs the secure domain until it is ready or has stopped, sleeping while its disk works.
pub fn start(core: &mut Core) {
    while !core.system.secure_state.is_ready() && !core.system.secure_state.is_stopped() {
        core.system.secure_state.preempted.store(true, Ordering::Release);
        serve(core);
        idle_unless(core, |core| core.system.secure_state.is_ready());
    }
    timer::stop();
    if core.system.secure_state.is_stopped() {
        boot::stop_for(Failure::Panic);
    }
    wake_later(core);
}

/// Before power goes or the machine sleeps: has the domain bring everything it has acknowledged to stable storage, with a deadline.
/// True if it did.
pub fn quiesce(core: &mut Core) -> bool {
    let system = core.system;
    let quiesced = |core: &Core| core.system.secure_state.quiesced.load(Ordering::Acquire);
    let deadline = time::counter() + time::ticks(QUIESCE_US);
    system.secure_state.quiesced.store(false, Ordering::Relaxed);
    system.secure_state.quiescing.store(true, Ordering::Relaxed);
    call(core, Event::SHUTDOWN);
    drive_until(core, deadline, quiesced);
    system.secure_state.quiescing.store(false, Ordering::Relaxed);
    quiesced(core)
}

/// Gives this core to the domain until it is `done` or stopped for good, or the counter reaches `deadline`. Whether it is done.
pub fn drive_until(core: &mut Core, deadline: u64, done: impl Fn(&Core) -> bool) -> bool {
    while !done(core) && !core.system.secure_state.is_stopped() && time::counter() < deadline {
        serve_guaranteed(core);
        idle_unless(core, &done);
    }
    done(core)
}

/// Sleeps until an interrupt, at most a slice, then serves it; not at all if `done` or the domain has something to do.
fn idle_unless(core: &mut Core, done: impl Fn(&Core) -> bool) {
    if done(core) || core.system.secure_state.is_stopped() || wanted(core) {
        return;
    }
    timer::start(core.system.slice_ticks);
    firmware::wait_for_interrupt();
    irq::serve(core);
}
