//! Emulated registers: stores of wrong width or to read-only registers change nothing, and instructions that hardware does not
//! describe are answered at once.

use crate::access::{self, Odd};
use crate::disk::{Disk, register};
use crate::exception::Outcome;
use crate::gic;
use crate::probe::Probe;

/// A reserved offset of the PL011, far from `DR`.
const CONSOLE_RESERVED: usize = 0x100;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    if let Some(frames) = probe.machine.gic {
        gic::start(&frames);
        odd_instructions(probe, "gicd", frames.distributor.base + gic::GICD_ISENABLER);
        odd_instructions(probe, "gicr", frames.redistributors.base + gic::SGI_BASE + gic::GICD_ISENABLER);
        odd_widths(probe, frames.distributor.base);
    }
    if let Some(console) = probe.machine.console {
        odd_instructions(probe, "pl011", console.base + CONSOLE_RESERVED);
        crate::console::start(console.base);
    }
    match Disk::find(&probe.machine) {
        Some(mut disk) => virtio(probe, &mut disk),
        None => probe.report.note("no virtual disk: its registers are left out"),
    }
}

/// Each is answered with an abort or carried out; coming back is what counts.
fn odd_instructions(probe: &mut Probe<'_>, name: &str, address: usize) {
    for (odd, instruction) in Odd::ALL {
        let got = odd.run(address);
        probe.report.case(format_args!("{instruction}_of_{name}"), "answered", got, true);
    }
}

/// The distributor's word registers by other widths: never more than the bytes that were asked for.
fn odd_widths(probe: &mut Probe<'_>, distributor: usize) {
    for (size, name) in [(1, "byte"), (2, "halfword"), (8, "doubleword")] {
        let got = access::load(distributor + gic::GICD_CTLR, size);
        let fits = size == 8 || got.is_caught() || got.value() < 1 << (8 * size);
        probe.report.case(format_args!("gicd_{name}"), "answered", got, fits);
    }
}

/// The register page, which is read-only memory: stores trap, and only those to registers mean something.
fn virtio(probe: &mut Probe<'_>, disk: &mut Disk) {
    disk.start();
    let page = |disk: &Disk| (0..0x200).step_by(4).fold(0_u32, |sum, place| sum.rotate_left(1) ^ disk.read(place));
    let before = page(disk);
    for (name, place) in [
        ("magic", register::MAGIC),
        ("version", register::VERSION),
        ("device_id", register::DEVICE_ID),
        ("interrupt_status", 0x060),
        ("config", register::CONFIG),
        ("reserved", 0x0f0),
        ("end_of_page", 0xffc),
    ] {
        disk.write(place, 0xffff_ffff);
        unchanged(probe, format_args!("write_{name}"), before, page(disk));
    }
    for (size, name) in [(1, "byte"), (2, "halfword"), (8, "doubleword")] {
        let _ = access::store(disk.base() + register::STATUS, size, 0);
        unchanged(probe, format_args!("{name}_to_status"), before, page(disk));
    }
    for (odd, instruction) in Odd::ALL {
        let got = odd.run(disk.base() + register::CONFIG);
        let passed = !odd.stores() || got.is_caught();
        let expected = if odd.stores() { "abort" } else { "answered" };
        probe.report.case(format_args!("{instruction}_of_register_page"), expected, got, passed);
        unchanged(probe, format_args!("page_after_{instruction}"), before, page(disk));
    }
    let got: Outcome = access::execute(disk.base());
    probe.report.case("execute_register_page", "abort", got, got.is_caught());
    let alive = disk.read_well();
    probe.report.case("good_read_after_all", "status_0", alive, alive == crate::disk::Answer::Status(0));
}

fn unchanged(probe: &mut Probe<'_>, name: impl core::fmt::Display, before: u32, after: u32) {
    probe.report.case(name, "unchanged", if before == after { "unchanged" } else { "changed" }, before == after);
}
