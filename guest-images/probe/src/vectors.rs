//! Both domains compute in vector registers, on the same core. What the probe has in them must survive the secure domain's ciphers,
//! and what the ciphers have must survive the probe: a block that was deciphered with foreign bits fails its tag, and the read fails.

use core::arch::{asm, global_asm};

use crate::disk::{Answer, Disk};
use crate::probe::Probe;

/// Reads through the ciphers.
const ROUNDS: u64 = 50;

/// `q0` to `q31`, `FPSR` and `FPCR`.
#[repr(C, align(16))]
#[derive(Clone, PartialEq, Eq)]
struct Vectors {
    q: [u128; 32],
    fpsr: u64,
    fpcr: u64,
}

unsafe extern "C" {
    fn probe_vectors_load(from: *const Vectors);
    fn probe_vectors_store(to: *mut Vectors);
}

global_asm!(
    ".arch_extension fp",
    ".arch_extension simd",
    ".section .text.fp, \"ax\"",
    ".macro probe_vectors_all operation",
    "\\operation q0, q1, [x0, #0]",
    "\\operation q2, q3, [x0, #32]",
    "\\operation q4, q5, [x0, #64]",
    "\\operation q6, q7, [x0, #96]",
    "\\operation q8, q9, [x0, #128]",
    "\\operation q10, q11, [x0, #160]",
    "\\operation q12, q13, [x0, #192]",
    "\\operation q14, q15, [x0, #224]",
    "\\operation q16, q17, [x0, #256]",
    "\\operation q18, q19, [x0, #288]",
    "\\operation q20, q21, [x0, #320]",
    "\\operation q22, q23, [x0, #352]",
    "\\operation q24, q25, [x0, #384]",
    "\\operation q26, q27, [x0, #416]",
    "\\operation q28, q29, [x0, #448]",
    "\\operation q30, q31, [x0, #480]",
    ".endm",
    ".global probe_vectors_load",
    "probe_vectors_load:",
    "probe_vectors_all ldp",
    "add  x0, x0, #512",
    "ldp  x1, x2, [x0]",
    "msr  fpsr, x1",
    "msr  fpcr, x2",
    "ret",
    ".global probe_vectors_store",
    "probe_vectors_store:",
    "probe_vectors_all stp",
    "mrs  x1, fpsr",
    "mrs  x2, fpcr",
    "add  x0, x0, #512",
    "stp  x1, x2, [x0]",
    "ret",
    ".arch_extension nosimd",
);

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(mut disk) = Disk::find(&probe.machine) else {
        return probe.report.note("no virtual disk: class vectors is left out");
    };
    // SAFETY: CPACR_EL1.FPEN was set at boot; this waits for it.
    unsafe { asm!("isb", options(nostack)) };
    let (mut reads, mut kept) = (0, 0);
    disk.start();
    for _ in 0..ROUNDS {
        let mut word = || u128::from(probe.random.next()) << 64 | u128::from(probe.random.next());
        // FPSR.QC and exception flags; FPCR rounds towards minus infinity and flushes to zero.
        let mine = Vectors { q: core::array::from_fn(|_| word()), fpsr: 0x0800_0015, fpcr: 0x0180_0000 };
        let mut found = Vectors { q: [0; 32], fpsr: 0, fpcr: 0 };
        // SAFETY: the whole structures are valid; the probe is built soft-float, so nothing of Rust's is in these registers.
        let answer = unsafe {
            probe_vectors_load(&mine);
            let answer = disk.read_well();
            probe_vectors_store(&mut found);
            answer
        };
        reads += u64::from(answer == Answer::Status(0));
        kept += u64::from(found == mine);
    }
    probe.report.equal("reads_that_verify", ROUNDS, reads);
    probe.report.equal("registers_that_survive", ROUNDS, kept);
}
