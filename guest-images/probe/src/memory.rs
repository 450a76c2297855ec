//! Addresses that are not the general domain's: memory of EL2 and of the secure domain, pages of denied devices, addresses
//! that do not exist. Each load, store and fetch must come back as the probe's own external abort.

use core::fmt;

use crate::access;
use crate::exception::Outcome;
use crate::probe::Probe;
use crate::tree;

/// Memory is shared out in blocks of this size.
const BLOCK: usize = 2 << 20;
/// Memory of the machine unless the command line says otherwise, in bytes.
const MEMORY_BYTES: usize = 1 << 30;

/// Pages of QEMU's `virt` machine that are denied (hw/arm/virt.c, `base_memmap`).
const DENIED: [(&str, usize); 9] = [
    ("storage_controller", 0x0a00_3e00),
    ("storage_controller_page", 0x0a00_3000),
    ("fw_cfg", 0x0902_0000),
    ("flash_bank_2", 0x0400_0000),
    ("gich", 0x0803_0000),
    ("gicv", 0x0804_0000),
    ("gicv2m", 0x0802_0000),
    ("its", 0x0808_0000),
    ("smmu", 0x0905_0000),
];

/// Addresses at which nothing is, or which stage 2 does not translate.
const NOWHERE: [(&str, usize); 5] = [
    ("hole_between_devices", 0x0bff_f000),
    ("above_40_bits", 1 << 40),
    ("above_44_bits", 1 << 44),
    ("above_47_bits", 1 << 47),
    ("last_page_of_48_bits", 0xffff_ffff_f000),
];

/// Something that can be done to an address, and its name.
type Deed = (&'static str, fn(usize) -> Outcome);

/// What can be done to an address.
const DEEDS: [Deed; 3] = [
    ("read", |address| access::load(address, 4)),
    ("write", |address| access::store(address, 4, 0)),
    ("execute", access::execute),
];

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    for deed in DEEDS {
        sweep(probe, deed);
    }
    for (name, address) in DENIED {
        for (verb, deed) in DEEDS {
            probe.report.abort(format_args!("{verb}_{name}"), deed(address));
        }
    }
    for (name, address) in NOWHERE {
        for (verb, deed) in DEEDS {
            let got = deed(address);
            probe.report.case(format_args!("{verb}_{name}"), "abort", got, got.is_caught());
        }
    }
}

/// Where the machine's memory is cut, from its first block to its last.
pub(crate) fn blocks(probe: &Probe<'_>) -> impl Iterator<Item = usize> + use<> {
    let bytes = tree::word(probe.bootargs, "probe.ram").and_then(tree::hexadecimal);
    let bytes = bytes.map_or(MEMORY_BYTES, |bytes| bytes as usize);
    let first = probe.machine.memory.iter().map(|bank| bank.base).min().unwrap_or(0) & !(MEMORY_BYTES - 1);
    (first..first.saturating_add(bytes)).step_by(BLOCK)
}

/// The first and last page of every block of memory that is not the probe's. EL2 and the secure domain lie there.
fn sweep(probe: &mut Probe<'_>, (verb, deed): Deed) {
    let mut tally = Tally::default();
    for block in blocks(probe) {
        for address in [block, block + BLOCK - 4096, block + BLOCK - 4] {
            if !probe.machine.owns(address) {
                tally.add(address, deed(address));
            }
        }
    }
    let passed = tally.refused == tally.tried && tally.tried > 0;
    probe.report.case(format_args!("{verb}_memory_of_others"), "external_abort", &tally, passed);
}

/// How a sweep went.
#[derive(Default)]
struct Tally {
    tried: u32,
    refused: u32,
    /// The first address that was not refused.
    breach: Option<(usize, Outcome)>,
}

impl Tally {
    fn add(&mut self, address: usize, outcome: Outcome) {
        self.tried += 1;
        if outcome.is_external_abort() {
            self.refused += 1;
        } else {
            self.breach.get_or_insert((address, outcome));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.breach {
            None if self.tried == 0 => f.write_str("all_memory_is_ours"),
            None => write!(f, "external_abort_at_all_{}", self.tried),
            Some((address, outcome)) => write!(f, "{outcome}_at_{address:#x}"),
        }
    }
}
