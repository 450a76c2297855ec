//! What single operations cost, in ticks of the virtual counter. Not a class that tries what is forbidden: it runs only when it
//! is asked for by name, and speaks lines of its own:
//!
//! ```text
//! probe: # bench frequency HZ
//! probe: # bench NAME REPETITIONS TICKS TICKS ...
//! ```
//!
//! One number of ticks a batch. Loops are written out in assembly, so that a batch is the operation and two instructions that
//! count; `loop` is a batch without operation, to be subtracted. Latencies are sums over single samples. There the counter, which
//! ticks once in many instructions, would round every sample alike, so that each is preceded by a pause of random length: then
//! the mean is right. `first_latency_zero` is such a batch whose two readings follow each other at once.
//!
//! On a machine of several cores it is interrupts from one to another that are measured, and nothing else. The receiver loops; whoever has nothing to
//! do says `YIELD`, at which an emulator that runs one core at a time goes on with the other: so the time is what both execute.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::calls::{CPU_ON, call, psci};
use crate::disk::{Disk, barrier};
use crate::probe::Probe;
use crate::tree::GicFrames;
use crate::{calls, gic};

/// Batches of each operation; the first one warms up and is not told.
const BATCHES: usize = 8;
/// Operations in a batch.
const REPETITIONS: u64 = 1000;
/// Bytes in a batch of the console: they are seen.
const BYTES: u64 = 64;
/// Looks at whether the second core has come.
const PATIENCE: u32 = 10_000_000;
/// An SGI that nobody else uses.
const SGI: u32 = 5;
/// An SPI without a device on QEMU's `virt`, the first of its word (hw/arm/virt.c, `a15irqmap`).
const SPI: u32 = 160;
const GICD_ICFGR: usize = 0x0c00;
/// The INTID that says that there is none.
const NO_INTERRUPT: u64 = 1023;
/// The virtual timer's PPI (BSA, Arm DEN 0094).
const VIRTUAL_TIMER: u32 = 27;
/// A fast call to a vendor's hypervisor (Arm DEN 0028, section 6) that nobody defines.
const NULL_CALL: u64 = 0x8600_00ff;
/// `DR` of the PL011.
const UART_DR: usize = 0;

core::arch::global_asm!(
    ".section .text.vectors, \"ax\"",
    ".balign 2048",
    "bench_vectors:",
    // Nothing but an IRQ of EL1 on its own stack is expected; anything else ends in a loop that the host's patience ends.
    ".skip 0x280",
    // The interrupted loops leave x9 to x11 to this handler: time of arrival, INTID, mark.
    "mrs  x9, cntvct_el0",
    "msr  cntv_ctl_el0, xzr",
    "mrs  x10, s3_0_c12_c12_0", // ICC_IAR1_EL1
    "msr  s3_0_c12_c12_1, x10", // ICC_EOIR1_EL1
    "mov  x11, #1",
    "eret",
    ".balign 2048",
);

core::arch::global_asm!(
    ".section .text.vectors, \"ax\"",
    ".balign 2048",
    "bench_receiver_vectors:",
    ".skip 0x280",
    "mrs  x9, cntvct_el0",
    "mrs  x10, s3_0_c12_c12_0", // ICC_IAR1_EL1
    "msr  s3_0_c12_c12_1, x10", // ICC_EOIR1_EL1
    "str  x9, [x19]",
    "eret",
    ".balign 2048",
    ".global bench_receiver",
    "bench_receiver:", // no stack, MMU off
    "adrp x19, BENCH_ARRIVED",
    "add  x19, x19, :lo12:BENCH_ARRIVED",
    "adrp x1, bench_receiver_vectors",
    "add  x1, x1, :lo12:bench_receiver_vectors",
    "msr  vbar_el1, x1",
    "mov  x1, #7",
    "msr  s3_0_c12_c12_5, x1", // ICC_SRE_EL1
    "isb",
    "mov  x1, #0xff",
    "msr  s3_0_c4_c6_0, x1", // ICC_PMR_EL1
    "mov  x1, #1",
    "msr  s3_0_c12_c12_7, x1", // ICC_IGRPEN1_EL1
    "isb",
    "msr  daifclr, #2",
    "str  x1, [x19]",
    "0:",
    "yield",
    "b    0b",
);

unsafe extern "C" {
    fn bench_receiver();
}

/// When the receiver's handler began, in ticks; 0 once that was taken. The receiver says so by 1 when it is ready.
#[unsafe(no_mangle)]
static BENCH_ARRIVED: AtomicU64 = AtomicU64::new(0);

/// Ticks of the batches.
struct Batches([u64; BATCHES]);

impl Batches {
    fn run(mut batch: impl FnMut() -> u64) -> Self {
        Self(core::array::from_fn(|_| batch()))
    }
}

impl fmt::Display for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().skip(1).try_for_each(|ticks| write!(f, " {ticks}"))
    }
}

/// A batch of [`REPETITIONS`] of an operation: `$x` registers and their values go in, the counter's difference comes out. The
/// operation may change x0 to x17.
macro_rules! batch {
    ($repetitions:expr, [$($operation:literal),*], $x12:expr, $x13:expr) => {{
        let (begin, end): (u64, u64);
        // SAFETY: the operations are loads and stores of device registers, calls by the SMC Calling Convention and interrupts
        // to the handler above, which keep all registers but those declared.
        unsafe {
            asm!("isb", "mrs {begin}, cntvct_el0", "2:", $($operation,)* "subs {count}, {count}, #1", "b.ne 2b",
                "mrs {end}, cntvct_el0",
                begin = out(reg) begin, end = lateout(reg) end, count = inout(reg) $repetitions => _,
                inout("x12") $x12 => _, inout("x13") $x13 => _,
                out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _,
                out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
                options(nostack));
        }
        end - begin
    }};
}

/// A batch of samples: from before the operation to the handler's first instruction, or whatever fills x9.
macro_rules! latency {
    ([$($operation:literal),*], $x12:expr, $seed:expr) => {{
        let sum: u64;
        // SAFETY: as above.
        unsafe {
            asm!("2:",
                // A pause of 0 to 31 rounds of three instructions (Marsaglia, Xorshift RNGs, 2003, 64 bit).
                "eor x16, x16, x16, lsl #13", "eor x16, x16, x16, lsr #7", "eor x16, x16, x16, lsl #17",
                "and x14, x16, #31", "3:", "cbz x14, 4f", "sub x14, x14, #1", "b 3b", "4:",
                "mov x11, xzr", "mrs x17, cntvct_el0", $($operation,)*
                "sub x14, x9, x17", "add x15, x15, x14", "subs {count}, {count}, #1", "b.ne 2b",
                count = inout(reg) REPETITIONS => _, inout("x15") 0_u64 => sum, inout("x16") $seed => _,
                inout("x12") $x12 => _, inout("x13") 1_u64 => _,
                out("x9") _, out("x10") _, out("x11") _, out("x14") _, out("x17") _, options(nostack));
        }
        sum
    }};
}

/// All of them.
pub(crate) fn run(probe: &mut Probe<'_>) {
    probe.report.note(format_args!("bench frequency {}", aarch64::read_sysreg!("cntfrq_el0")));
    if let ([_, target, ..], Some(frames)) = (probe.machine.cores.as_slice(), probe.machine.gic) {
        let target = *target;
        return between_cores(probe, target, &frames);
    }
    tell(probe, "loop", REPETITIONS, || batch!(REPETITIONS, [], 0_u64, 0_u64));
    tell(probe, "loop_of_call", REPETITIONS, || batch!(REPETITIONS, ["mov x0, x12"], NULL_CALL, 0_u64));
    if !calls::has_hypervisor() {
        // Without a hypervisor the instruction is the emulator's firmware, or undefined.
        probe.report.note("no hypervisor: null calls are left out");
    } else {
        tell(probe, "hvc", REPETITIONS, || batch!(REPETITIONS, ["mov x0, x12", "hvc #0"], NULL_CALL, 0_u64));
    }
    if let Some(frames) = probe.machine.gic {
        let base = frames.distributor.base;
        for (name, register) in [("gicd_ctlr", gic::GICD_CTLR), ("gicd_isenabler1", gic::GICD_ISENABLER + 4)] {
            tell(probe, name, REPETITIONS, || batch!(REPETITIONS, ["ldr w0, [x12]"], base + register, 0_u64));
        }
        gic::start(&frames);
        gic::enable_private(&frames, SGI);
        gic::enable_private(&frames, VIRTUAL_TIMER);
        with_interrupts(|| interrupts(probe));
        gic::start(&frames);
    }
    if let Some(mut disk) = Disk::find(&probe.machine) {
        doorbells(probe, &mut disk);
    }
    if let Some(console) = probe.machine.console {
        let data = console.base + UART_DR;
        tell(probe, "console_byte", BYTES, || batch!(BYTES, ["str w13, [x12]"], data, u64::from(b'.')));
    }
}

/// Interrupts from this core, the first, to the second, whose affinity is `target`.
fn between_cores(probe: &mut Probe<'_>, target: u64, frames: &GicFrames) {
    gic::start(frames);
    gic::start_other(frames, 1, SGI);
    barrier();
    let conduit = psci(probe);
    call(conduit, [CPU_ON, target, (bench_receiver as *const ()).addr() as u64, 0]);
    if (0..PATIENCE).all(|_| BENCH_ARRIVED.load(Ordering::SeqCst) == 0) {
        return probe.report.note("the second core does not come: no interrupts between cores");
    }
    BENCH_ARRIVED.store(0, Ordering::SeqCst);
    let mut seed = || probe.random.next() | 1;
    // ICC_SGI1R_EL1: Aff3, Aff2, Aff1 and the bit of Aff0.
    let [aff0, aff1, aff2, aff3] = [0, 8, 16, 32].map(|shift| target >> shift & 0xff);
    let sgi = aff3 << 48 | aff2 << 32 | u64::from(SGI) << 24 | aff1 << 16 | 1 << (aff0 & 0xf);
    let zero = Batches::run(|| latency!(["mrs x9, cntvct_el0"], 0_u64, seed()));
    let arrived = Batches::run(|| {
        latency!(
            [
                "msr s3_0_c12_c11_5, x12",
                "adrp x13, BENCH_ARRIVED",
                "add x13, x13, :lo12:BENCH_ARRIVED",
                "3:",
                "yield",
                "ldr x9, [x13]",
                "cbz x9, 3b",
                "str xzr, [x13]"
            ],
            sgi,
            seed()
        )
    });
    for (name, batches) in [("zero", zero), ("ipi", arrived)] {
        probe.report.note(format_args!("bench between_{name} {REPETITIONS}{batches}"));
    }
}

fn tell(probe: &mut Probe<'_>, name: &str, repetitions: u64, batch: impl FnMut() -> u64) {
    let batches = Batches::run(batch);
    probe.report.note(format_args!("bench {name} {repetitions}{batches}"));
}

fn interrupts(probe: &mut Probe<'_>) {
    let sgi = u64::from(SGI) << 24 | crate::interrupts::own_target();
    let pending = spi(probe);
    let mut seed = || probe.random.next() | 1;
    // `msr s3_0_c12_c11_5` is ICC_SGI1R_EL1.
    let zero = Batches::run(|| latency!(["mrs x9, cntvct_el0"], 0_u64, seed()));
    let to_handler = Batches::run(|| latency!(["msr s3_0_c12_c11_5, x12", "3:", "cbz x11, 3b"], sgi, seed()));
    let of_timer = Batches::run(|| latency!(["msr cntv_ctl_el0, x13", "3:", "cbz x11, 3b"], 0_u64, seed()));
    let of_spi =
        pending.map(|pending| Batches::run(|| latency!(["str w13, [x12]", "3:", "cbz x11, 3b"], pending, seed())));
    for (name, batches) in [("zero", zero), ("sgi", to_handler), ("timer", of_timer)] {
        probe.report.note(format_args!("bench first_latency_{name} {REPETITIONS}{batches}"));
    }
    if let Some(batches) = of_spi {
        probe.report.note(format_args!("bench first_latency_spi {REPETITIONS}{batches}"));
    }
    // Of an interrupt that is none: what the instruction itself costs.
    tell(probe, "end_of_interrupt", REPETITIONS, || {
        batch!(REPETITIONS, ["msr s3_0_c12_c12_1, x12"], NO_INTERRUPT, 0_u64)
    });
    tell(probe, "loop_of_interrupt", REPETITIONS, || {
        batch!(REPETITIONS, ["mov x11, #1", "3:", "cbz x11, 3b"], 0_u64, 0_u64)
    });
    let send = || batch!(REPETITIONS, ["mov x11, xzr", "msr s3_0_c12_c11_5, x12", "3:", "cbz x11, 3b"], sgi, 0_u64);
    tell(probe, "sgi_round", REPETITIONS, send);
    let fire = || batch!(REPETITIONS, ["mov x11, xzr", "msr cntv_ctl_el0, x13", "3:", "cbz x11, 3b"], 0_u64, 1_u64);
    tell(probe, "timer_round", REPETITIONS, fire);
}

/// Prepares [`SPI`] as an edge of this core; the register whose bit 0 makes it pending.
fn spi(probe: &Probe<'_>) -> Option<usize> {
    let base = probe.machine.gic?.distributor.base;
    let word = 4 * (SPI as usize / 32);
    crate::access::write32(base + GICD_ICFGR + 4 * (SPI as usize / 16), 0b10);
    crate::access::write32(base + gic::GICD_ISENABLER + word, 1);
    Some(base + gic::GICD_ISPENDR + word)
}

/// Runs `work` with the handler in place, IRQs unmasked and a virtual timer that has long expired.
fn with_interrupts(work: impl FnOnce()) {
    let kept = aarch64::read_sysreg!("vbar_el1");
    // SAFETY: the table above serves every interrupt that is enabled; the timer is the probe's own and still off.
    unsafe {
        asm!("adrp {v}, bench_vectors", "add {v}, {v}, :lo12:bench_vectors", "msr vbar_el1, {v}",
            "msr cntv_ctl_el0, xzr", "msr cntv_cval_el0, xzr", "isb", "msr daifclr, #2",
            v = out(reg) _, out("x9") _, out("x10") _, out("x11") _, options(nostack));
    }
    work();
    // SAFETY: back to the vectors that every other class uses.
    unsafe { asm!("msr daifset, #2", "msr vbar_el1, {}", "isb", in(reg) kept, options(nostack)) };
}

/// Notifications: of a device that nobody has set up, and of a queue in which nothing is new.
fn doorbells(probe: &mut Probe<'_>, disk: &mut Disk) {
    let notify = disk.doorbell();
    disk.reset();
    tell(probe, "doorbell", REPETITIONS, || batch!(REPETITIONS, ["str wzr, [x12]"], notify, 0_u64));
    if disk.start() {
        tell(probe, "switch", REPETITIONS, || batch!(REPETITIONS, ["str wzr, [x12]"], notify, 0_u64));
        let got = disk.read_well();
        probe.report.note(format_args!("bench read_afterwards {got}"));
    }
    disk.reset();
}
