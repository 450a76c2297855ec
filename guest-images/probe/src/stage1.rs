//! Stage-1 tables that lead where they must not: into memory of others, into devices, into themselves.
//!
//! The probe's own GiB and that of the devices stay mapped one to one, so that code, stack, vectors and console work under either
//! state of the MMU.

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::access;

/// A level 1 table for 39-bit addresses, 512 entries of 1 GiB (Arm DDI 0487, D8.2).
#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: only touched by address through `access`.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([0; 512]));

/// The entry that is tried.
const TRIED: usize = 100;
/// Block, access flag, attributes 0 (Device) or 1 (Normal, not cached).
const DEVICE: u64 = 1 << 10 | 0b01;
const NORMAL: u64 = 1 << 10 | 1 << 2 | 0b01;
const GIB: u64 = 1 << 30;

/// Where the table lies.
pub(crate) fn table() -> usize {
    TABLE.0.get().addr()
}

/// Turns the MMU on with an entry of `kind` (a table, a block, or rubbish) that leads to `target`, touches addresses behind it, and
/// turns it off.
pub(crate) fn visit(target: usize, kind: usize, rubbish: u64) {
    let aligned = target as u64 & !0xfff & 0xffff_ffff_f000;
    let entry = match kind {
        0 => aligned | 0b11,
        1 => aligned & !(GIB - 1) | NORMAL,
        2 => table() as u64 | 0b11,
        _ => rubbish & 0xffff_ffff_ffff | 0b11,
    };
    put(0, DEVICE);
    put(1, GIB | NORMAL);
    put(TRIED, entry);
    switch(true);
    let base = TRIED << 30;
    for offset in [0, target & (GIB as usize - 1) & !7, TRIED << 21 | TRIED << 12, GIB as usize - 8] {
        let _ = access::load(base + offset, 8);
    }
    switch(false);
}

fn put(index: usize, entry: u64) {
    let _ = access::store(table() + 8 * index, 8, entry);
}

/// `SCTLR_EL1.M`, with nothing left in the TLB on either side.
fn switch(on: bool) {
    // MAIR_EL1: 0 Device-nGnRnE, 1 Normal not cached. TCR_EL1: T0SZ 25, 4 KiB, no walks from TTBR1, 40-bit addresses.
    let (mair, tcr, bit) = (0x4400_u64, 25_u64 | 1 << 23 | 0b010 << 32, u64::from(on));
    // SAFETY: code, stack and vectors lie at the same addresses either way.
    unsafe {
        asm!("msr mair_el1, {mair}", "msr tcr_el1, {tcr}", "msr ttbr0_el1, {table}", "dsb sy", "isb",
            "tlbi vmalle1", "dsb sy", "isb",
            "mrs {old}, sctlr_el1", "bic {old}, {old}, #1", "orr {old}, {old}, {bit}", "msr sctlr_el1, {old}", "isb",
            "tlbi vmalle1", "dsb sy", "isb",
            mair = in(reg) mair, tcr = in(reg) tcr, table = in(reg) table(), old = out(reg) _, bit = in(reg) bit,
            options(nostack));
    }
}
