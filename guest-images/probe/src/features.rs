//! What the identification registers offer must work: of every extension that is shown, one instruction is tried. Those that are
//! hidden and that hardware can take away must be undefined.

use core::arch::global_asm;

use crate::access;
use crate::probe::Probe;

/// An extension: its register, lowest bit and least value of its field (Arm DDI 0487, D19.2), and the place of its instruction.
struct Extension {
    name: &'static str,
    register: fn() -> u64,
    low: u32,
    least: u64,
    code: unsafe extern "C" fn(),
}

macro_rules! extensions {
    ($($name:literal, $register:literal, $low:literal, $least:literal, $function:ident, $requires:literal, $instruction:literal;)*) => {
        $(global_asm!(
            ".section .text.features, \"ax\"",
            concat!(".arch_extension ", $requires),
            concat!(stringify!($function), ": ", $instruction),
            "ret",
        );)*
        global_asm!(".arch_extension nosimd");
        unsafe extern "C" { $(fn $function();)* }
        static EXTENSIONS: &[Extension] = &[$(Extension {
            name: $name,
            register: || aarch64::read_sysreg!($register),
            low: $low,
            least: $least,
            code: $function,
        }),*];
    };
}

// x0 is 0 where they are called.
extensions! {
    "aes", "id_aa64isar0_el1", 4, 1, probe_has_aes, "aes", "aese v31.16b, v30.16b";
    "pmull", "id_aa64isar0_el1", 4, 2, probe_has_pmull, "aes", "pmull v31.1q, v30.1d, v29.1d";
    "sha1", "id_aa64isar0_el1", 8, 1, probe_has_sha1, "sha2", "sha1h s31, s30";
    "sha256", "id_aa64isar0_el1", 12, 1, probe_has_sha256, "sha2", "sha256su0 v31.4s, v30.4s";
    "sha512", "id_aa64isar0_el1", 12, 2, probe_has_sha512, "sha3", "sha512su0 v31.2d, v30.2d";
    "crc32", "id_aa64isar0_el1", 16, 1, probe_has_crc32, "crc", "crc32w w1, w1, w1";
    "rdm", "id_aa64isar0_el1", 28, 1, probe_has_rdm, "rdm", "sqrdmlah v31.4h, v30.4h, v29.4h";
    "sha3", "id_aa64isar0_el1", 32, 1, probe_has_sha3, "sha3", "eor3 v31.16b, v30.16b, v29.16b, v28.16b";
    "sm3", "id_aa64isar0_el1", 36, 1, probe_has_sm3, "sm4", "sm3partw1 v31.4s, v30.4s, v29.4s";
    "sm4", "id_aa64isar0_el1", 40, 1, probe_has_sm4, "sm4", "sm4e v31.4s, v30.4s";
    "dotprod", "id_aa64isar0_el1", 44, 1, probe_has_dotprod, "dotprod", "udot v31.4s, v30.16b, v29.16b";
    "fhm", "id_aa64isar0_el1", 48, 1, probe_has_fhm, "fp16fml", "fmlal v31.4s, v30.4h, v29.4h";
    "flagm", "id_aa64isar0_el1", 52, 1, probe_has_flagm, "flagm", "cfinv";
    "rndr", "id_aa64isar0_el1", 60, 1, probe_has_rndr, "rng", "mrs x1, rndr";
    "pauth_address", "id_aa64isar1_el1", 4, 1, probe_has_apa, "pauth", "pacia x1, x1";
    "pauth_implementation", "id_aa64isar1_el1", 8, 1, probe_has_api, "pauth", "pacda x1, x1";
    "pauth_generic", "id_aa64isar1_el1", 28, 1, probe_has_gpi, "pauth", "pacga x1, x1, x1";
    "jscvt", "id_aa64isar1_el1", 12, 1, probe_has_jscvt, "jscvt", "fjcvtzs w1, d31";
    "fcma", "id_aa64isar1_el1", 16, 1, probe_has_fcma, "simd", ".inst 0x6e9de7df"; // fcadd v31.4s, v30.4s, v29.4s, #90
    "lrcpc", "id_aa64isar1_el1", 20, 1, probe_has_lrcpc, "rcpc", "ldapr x1, [sp]";
    "frintts", "id_aa64isar1_el1", 32, 1, probe_has_frintts, "simd", ".inst 0x1e68c39f"; // frint32x d31, d28
    "sb", "id_aa64isar1_el1", 36, 1, probe_has_sb, "sb", "sb";
    "predictor_restriction", "id_aa64isar1_el1", 40, 1, probe_has_specres, "predres", "cfp rctx, x0";
    "bf16", "id_aa64isar1_el1", 44, 1, probe_has_bf16, "bf16", "bfdot v31.4s, v30.8h, v29.8h";
    "i8mm", "id_aa64isar1_el1", 52, 1, probe_has_i8mm, "i8mm", "smmla v31.4s, v30.16b, v29.16b";
    "ssbs", "id_aa64pfr1_el1", 4, 2, probe_has_ssbs, "ssbs", "msr ssbs, #1";
    "bti", "id_aa64pfr1_el1", 0, 1, probe_has_bti, "simd", "hint #34";
    "dit", "id_aa64pfr0_el1", 48, 1, probe_has_dit, "simd", ".inst 0xd503415f"; // msr dit, #1
    "pan", "id_aa64mmfr1_el1", 20, 1, probe_has_pan, "simd", ".inst 0xd500409f"; // msr pan, #0
    "uao", "id_aa64mmfr2_el1", 4, 1, probe_has_uao, "simd", ".inst 0xd500407f"; // msr uao, #0
    "cache_maintenance_to_persistence", "id_aa64isar1_el1", 0, 1, probe_has_dpb, "simd", "mov x1, sp
        sys #3, c7, c12, #1, x1";
    "tlb_ranges", "id_aa64isar0_el1", 56, 2, probe_has_tlbirange, "tlb-rmi", "tlbi rvae1, xzr";
    "address_translation_with_pan", "id_aa64mmfr1_el1", 20, 2, probe_has_pan2, "simd", "sys #0, c7, c9, #0, xzr";
    "wfxt", "id_aa64isar2_el1", 0, 2, probe_has_wfxt, "wfxt", "wfit xzr";
}

global_asm!(
    ".section .text.features, \"ax\"",
    "probe_sve: .inst 0x04bf5020", // rdvl x0, #1
    "ret",
    "probe_sme: .inst 0x04bf5820", // rdsvl x0, #1
    "ret",
);

unsafe extern "C" {
    fn probe_sve();
    fn probe_sme();
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    for Extension { name, register, low, least, code } in EXTENSIONS {
        if register() >> low & 0xf < *least {
            continue;
        }
        let got = access::execute((*code as *const ()).addr());
        probe.report.case(format_args!("{name}_works"), "no_exception", got, !got.is_caught());
    }
    let sve = aarch64::read_sysreg!("id_aa64pfr0_el1") >> 32 & 0xf;
    let sme = aarch64::read_sysreg!("id_aa64pfr1_el1") >> 24 & 0xf;
    for (name, shown, code) in [("sve", sve, probe_sve as *const ()), ("sme", sme, probe_sme as *const ())] {
        let got = access::execute(code.addr());
        let as_shown = if shown == 0 { got.is_undefined() } else { !got.is_caught() };
        let expected = if shown == 0 { "undefined" } else { "no_exception" };
        probe.report.case(format_args!("{name}_is_as_shown"), expected, got, as_shown);
    }
}
