//! A PCI bus of which one function is not the probe's: the secure domain's disk, whose place the word `probe.pci=` on the command line tells. Without
//! that word there are no cases.
//!
//! QEMU's `edu` is the function that tries to get between the disk and its domain; `virtio-rng-pci` in device 7 has the disk's interrupt line.

use crate::access::{load, read32, store, write32};
use crate::dma::{BAR_0, COMMAND, Edu, MEMORY_AND_MASTER};
use crate::probe::Probe;
use crate::tree::{PciHost, hexadecimal, word};
use crate::{disk, memory};

/// Bytes of a function's configuration space.
const PAGE: usize = 4096;
/// Functions of a bus.
const FUNCTIONS: usize = 256;
/// What is read where nothing is.
const NOTHING: u64 = u64::MAX;
/// `COMMAND`: answer in memory space; raise no interrupt.
const MEMORY: u32 = 1 << 1;
const NO_INTERRUPT: u32 = 1 << 10;
/// The function that shares the disk's line: device 7.
const NEIGHBOUR: usize = 7 * 8 * PAGE;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(disk) = word(probe.bootargs, "probe.pci").and_then(hexadecimal) else { return };
    let Some(host) = probe.machine.pci else { return };
    let Some(edu) = Edu::find(host) else { return };
    let page = host.configuration.base + disk as usize * PAGE;
    enumerate(probe, host, page);
    registers(probe, host);
    overlap(probe, &edu, host);
    peer_to_peer(probe, &edu, host);
    silent(probe, host);
}

/// The disk's page is like one of a function that is not there.
fn enumerate(probe: &mut Probe<'_>, host: PciHost, page: usize) {
    let there = |function: &usize| read32(host.configuration.base + function * PAGE) as u16 != u16::MAX;
    // The host bridge, `edu`, the neighbour.
    probe.report.equal("functions_on_the_bus", 3, (0..FUNCTIONS).filter(there).count() as u64);
    for offset in [0, COMMAND, BAR_0, 0x34, 0x100, PAGE - 4] {
        for size in [1, 2, 4] {
            let got = load(page + offset, size);
            let wanted = NOTHING >> (64 - 8 * size);
            let passed = !got.is_caught() && got.value() == wanted;
            probe.report.case(format_args!("reads_nothing_of_the_disk_at_{offset:#x}_by_{size}"), wanted, got, passed);
        }
    }
    let writes = [(COMMAND, 2), (COMMAND, 4), (BAR_0 + 0x10, 4), (0x100, 8), (COMMAND + 1, 1)];
    let caught = writes.iter().filter(|(offset, size)| store(page + offset, *size, 0).is_caught()).count();
    probe.report.equal("writes_to_the_disks_configuration_are_ignored", 0, caught as u64);
    probe.report.abort("bus_1_is_not_there", load(host.configuration.base + FUNCTIONS * PAGE, 4));
}

/// Where the window ends that the probe is told of, the disk's begins.
fn registers(probe: &mut Probe<'_>, host: PciHost) {
    for offset in [0, 0x4000, 0x7000] {
        probe.report.abort(format_args!("reads_no_register_of_the_disk_at_{offset:#x}"), load(host.behind + offset, 4));
        probe
            .report
            .abort(format_args!("writes_no_register_of_the_disk_at_{offset:#x}"), store(host.behind + offset, 2, 0));
    }
}

/// No function of the probe's comes to answer where the disk does.
fn overlap(probe: &mut Probe<'_>, edu: &Edu, host: PciHost) {
    let bar = || read32(edu.configuration + BAR_0);
    let command = || read32(edu.configuration + COMMAND);
    let (own, foreign) = (host.window as u32, host.behind as u32);
    write32(edu.configuration + BAR_0, foreign);
    probe.report.equal("a_working_function_does_not_move_there", own.into(), bar().into());
    let _ = store(edu.configuration + BAR_0 + 2, 2, (foreign >> 16).into());
    probe.report.equal("nor_by_halves", own.into(), bar().into());
    write32(edu.configuration + COMMAND, 0);
    write32(edu.configuration + BAR_0, foreign);
    probe.report.equal("one_that_does_not_answer_may_have_any_address", foreign.into(), bar().into());
    for (name, size) in [("by_1", 1), ("by_2", 2), ("by_4", 4)] {
        let _ = store(edu.configuration + COMMAND, size, MEMORY_AND_MASTER.into());
        probe.report.equal(format_args!("but_does_not_come_to_answer_there_{name}"), 0, (command() & MEMORY).into());
    }
    write32(edu.configuration + BAR_0, own);
    write32(edu.configuration + COMMAND, MEMORY_AND_MASTER);
    probe.report.equal("elsewhere_it_answers", MEMORY_AND_MASTER.into(), (command() & MEMORY_AND_MASTER).into());
}

/// What a function reads and writes on the bus itself is stopped like what it does to memory.
fn peer_to_peer(probe: &mut Probe<'_>, edu: &Edu, host: PciHost) {
    let (source, target) = (disk::data(), disk::data() + PAGE);
    probe.report.equal("reads_no_register_of_the_disk_from_the_bus", 0, edu.peek(host.behind as u64, source, target));
    let before = read32(edu.configuration + BAR_0);
    edu.store((edu.configuration + BAR_0) as u64);
    probe.report.equal("writes_no_configuration_from_the_bus", before.into(), read32(edu.configuration + BAR_0).into());
    let foreign = memory::blocks(probe).find(|block| !probe.machine.owns(*block)).unwrap_or(0);
    probe.report.equal("reads_no_memory_of_others", 0, edu.peek(foreign as u64, source, target));
}

/// A function with the disk's interrupt line does not raise it.
fn silent(probe: &mut Probe<'_>, host: PciHost) {
    let command = host.configuration.base + NEIGHBOUR + COMMAND;
    for (name, offset, size) in [("command", 0, 2), ("word", 0, 4), ("byte", 1, 1)] {
        let _ = store(command + offset, size, 0);
        let got = read32(command) & NO_INTERRUPT;
        probe.report.equal(
            format_args!("a_function_on_the_disks_line_is_silent_by_{name}"),
            NO_INTERRUPT.into(),
            got.into(),
        );
    }
}
