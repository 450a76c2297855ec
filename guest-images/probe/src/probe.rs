//! The order of the classes, and what they share.

use fdt::Fdt;

use crate::random::Random;
use crate::report::Report;
use crate::tree::{self, Machine};
use crate::{
    bench, bus, calls, conformance, console, copies, cores, debug, disk, dma, features, frames, hostile, interrupts,
    memory, pcie, pmu, power, registers, rings, siege, sysregs, timer, vectors,
};

/// What every class has at hand.
pub(crate) struct Probe<'a> {
    /// The machine as its device tree tells it.
    pub(crate) machine: Machine,
    /// The command line.
    pub(crate) bootargs: &'a str,
    /// The line protocol.
    pub(crate) report: Report,
    /// Seeded random numbers.
    pub(crate) random: Random,
}

/// A class: its name on the command line and its cases.
type Class = (&'static str, fn(&mut Probe<'_>));

/// Every class. The rough ones come last: should one harm the probe, the others have spoken.
const CLASSES: [Class; 21] = [
    ("memory", memory::run),
    ("calls", calls::run),
    ("sysregs", sysregs::run),
    ("interrupts", interrupts::run),
    ("gic", conformance::run),
    ("timer", timer::run),
    ("pmu", pmu::run),
    ("debug", debug::run),
    ("features", features::run),
    ("copies", copies::run),
    ("registers", registers::run),
    ("rings", rings::run),
    ("dma", dma::run),
    ("pcie", pcie::run),
    ("vectors", vectors::run),
    ("power", power::run),
    ("cores", cores::run),
    ("siege", siege::run),
    ("frames", frames::run),
    ("bus", bus::run),
    ("hostile", hostile::run),
];

const DEFAULT_SEED: u64 = 0x4841_4543_4849;

/// Runs every class that the command line asks for.
pub(crate) fn run(device_tree: usize) {
    // SAFETY: the loader has put the tree there (Linux, Documentation/arch/arm64/booting.rst); nothing writes to it.
    let Ok(tree) = (unsafe { Fdt::from_ptr(device_tree as *const u8) }) else { return };
    let machine = Machine::read(&tree);
    if let Some(uart) = machine.console {
        console::start(uart.base);
    }
    if let Some(window) = machine.window {
        disk::move_to(window);
    }
    let bootargs = tree.chosen().bootargs().unwrap_or("");
    let seed = tree::word(bootargs, "probe.seed").and_then(tree::hexadecimal).unwrap_or(DEFAULT_SEED);
    let mut probe = Probe { machine, bootargs, report: Report::default(), random: Random::new(seed) };
    probe.report.note(format_args!("seed {seed:#x}"));
    for (name, class) in CLASSES.into_iter().filter(|(name, _)| wanted(bootargs, name)) {
        probe.report.begin(name);
        class(&mut probe);
    }
    if tree::word(bootargs, "probe.only") == Some("bench") {
        bench::run(&mut probe);
    }
    probe.report.finish();
}

fn wanted(bootargs: &str, name: &str) -> bool {
    tree::word(bootargs, "probe.only").is_none_or(|only| only.split(',').any(|only| only == name))
        && bootargs.split_whitespace().all(|word| word.strip_prefix("probe.skip=") != Some(name))
}
