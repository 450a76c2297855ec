//! All cores against the secure domain: none ever waits, none takes an interrupt, and some call EL2 or each other without a pause. A request must
//! be answered all the same, which takes what the secure domain is due.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::calls::{AFFINITY_INFO, CPU_ON, Conduit, call, psci};
use crate::controller::{Controller, bits};
use crate::disk::{Answer, BLOCK, Disk, barrier, chain, data, flag, put, table};
use crate::interrupts::{now, own_target, ticks};
use crate::probe::Probe;

/// What a core does that comes on, until it is let go; then it goes off.
#[repr(C)]
struct Siege {
    /// 0: let go.
    held: AtomicU64,
    by_hvc: AtomicU64,
    /// [`Deed`].
    deed: AtomicU64,
    /// The value to write, and the register if it is one in memory.
    value: AtomicU64,
    register: AtomicU64,
    /// Rounds of all cores together, more or less: they race.
    rounds: AtomicU64,
}

static SIEGE: Siege = {
    let [held, by_hvc, deed, value, register, rounds] = [const { AtomicU64::new(0) }; 6];
    Siege { held, by_hvc, deed, value, register, rounds }
};

/// What the besiegers do.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
enum Deed {
    /// Nothing but loop.
    Spin = 0,
    /// Call EL2 for nothing.
    Call = 1,
    /// Interrupt the core that asks, by the system register of a GICv3.
    SgiByRegister = 2,
    /// Store to a register of a device: the one of a GICv2 that does the same, or a doorbell.
    Store = 3,
}

unsafe extern "C" {
    fn probe_besieger();
}

global_asm!(
    ".section .text.besieger, \"ax\"",
    ".global probe_besieger",
    "probe_besieger:", // x0 = the siege; no stack, MMU off, all exceptions masked
    "mov  x19, x0",
    "0:",
    "ldr  x1, [x19, #40]",
    "add  x1, x1, #1",
    "str  x1, [x19, #40]",
    "ldr  x1, [x19]",
    "cbz  x1, 4f",
    "ldp  x1, x2, [x19, #16]",
    "cbz  x1, 0b",
    "cmp  x1, #2",
    "b.eq 1f",
    "b.hi 2f",
    "mov  w0, #0xff",
    "hvc  #0",
    "b    0b",
    "1:",
    "msr  s3_0_c12_c11_5, x2", // ICC_SGI1R_EL1
    "b    0b",
    "2:",
    "ldr  x3, [x19, #32]",
    "str  w2, [x3]",
    "b    0b",
    "4:",
    "ldr  x1, [x19, #8]",
    "mov  w0, #0x0002", // CPU_OFF
    "movk w0, #0x8400, lsl #16",
    "cbnz x1, 5f",
    "smc  #0",
    "5:",
    "hvc  #0",
    "6:",
    "b    6b",
);

const OFF: i32 = 1;
/// Reads of each siege.
const READS: u64 = 20;
/// The longest that a read may take. The emulator's cores share the host's with whatever else runs there.
const PATIENCE_MS: u64 = 5_000;
/// An SGI that nobody else uses here.
const SGI: u32 = 9;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let (Some(mut disk), Some(controller)) = (Disk::find(&probe.machine), Controller::find(&probe.machine)) else {
        return probe.report.note("no virtual disk or no interrupt controller: class siege is left out");
    };
    let by_memory = matches!(controller, Controller::V2(_));
    let sgi = if by_memory { Deed::Store } else { Deed::SgiByRegister };
    // GICD_SGIR: to the first core.
    let value = if by_memory { 1 << 16 | u64::from(SGI) } else { own_target() | u64::from(SGI) << 24 };
    SIEGE.value.store(value, Ordering::SeqCst);
    SIEGE.register.store(controller.distributor() as u64 + 0xF00, Ordering::SeqCst);
    controller.reset();
    controller.write_bit(bits::SET_ENABLE, SGI);
    for (name, deed) in [("spinning", Deed::Spin), ("calling", Deed::Call), ("interrupting", sgi)] {
        besiege(probe, &mut disk, name, deed);
    }
    // Told without a pause of a ring in which there is nothing, but for what is read.
    SIEGE.value.store(0, Ordering::SeqCst);
    SIEGE.register.store(disk.doorbell() as u64, Ordering::SeqCst);
    besiege(probe, &mut disk, "kicking", Deed::Store);
    // What is still pending would be taken for an answer by whoever comes next.
    controller.reset();
}

fn besiege(probe: &mut Probe<'_>, disk: &mut Disk, name: &str, deed: Deed) {
    let conduit = psci(probe);
    let own = aarch64::read_sysreg!("mpidr_el1") & 0xff_00ff_ffff;
    let others = || probe.machine.cores.iter().copied().filter(|core| *core != own);
    SIEGE.by_hvc.store((conduit == Conduit::Hvc).into(), Ordering::SeqCst);
    SIEGE.deed.store(deed as u64, Ordering::SeqCst);
    SIEGE.held.store(1, Ordering::SeqCst);
    barrier();
    let entry = (probe_besieger as *const ()).addr() as u64;
    for core in others() {
        call(conduit, [CPU_ON, core, entry, (&raw const SIEGE).addr() as u64]);
    }
    disk.start();
    let before = SIEGE.rounds.load(Ordering::SeqCst);
    let mut longest = 0;
    let mut timed = || {
        let begin = now();
        let answer = read(disk);
        longest = (now() - begin).max(longest);
        answer
    };
    let answered = (0..READS).take_while(|_| timed() == Answer::Status(0)).count() as u64;
    let rounds = SIEGE.rounds.load(Ordering::SeqCst) - before;
    SIEGE.held.store(0, Ordering::SeqCst);
    let deadline = now() + ticks(PATIENCE_MS);
    let off = || others().all(|core| call(conduit, [AFFINITY_INFO, core, 0, 0]).code() == OFF);
    while !off() && now() < deadline {}
    let alone = others().next().is_none();
    probe.report.equal(format_args!("reads_while_all_cores_are_{name}"), READS, answered);
    let longest_us = longest * 1000 / ticks(1);
    probe.report.note(format_args!("longest read while all cores are {name}: {longest_us} us"));
    let passed = alone || rounds > 0;
    probe.report.case(format_args!("all_cores_were_{name}"), "rounds", format_args!("rounds_{rounds}"), passed);
}

/// Reads the first block and never rests meanwhile.
fn read(disk: &mut Disk) -> Answer {
    disk.set_header(0, 0);
    for (index, descriptor) in chain(data() as u64, BLOCK, flag::WRITE).into_iter().enumerate() {
        put(table(), index, descriptor);
    }
    disk.submit(0, 1);
    disk.wait(PATIENCE_MS)
}
