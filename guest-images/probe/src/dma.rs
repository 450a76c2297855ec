//! Transfers by a device. QEMU's `edu` (docs/specs/edu.rst) carries bytes between memory and a buffer of its own as its driver says; it must
//! reach the probe's memory and no other. Without such a device there are no cases.

use crate::access::{load, read32, store, write32};
use crate::disk::{self, Disk};
use crate::interrupts::{now, ticks};
use crate::memory;
use crate::probe::Probe;
use crate::tree::PciHost;

/// Vendor and device of `edu`.
const EDU: u32 = 0x11e8_1234;
/// Functions of the first bus, with their configuration space (PCI Local Bus 3.0, section 6.1).
const SLOTS: usize = 32;
const SLOT_BYTES: usize = 8 * 4096;
/// The command register.
pub(crate) const COMMAND: usize = 0x04;
/// The first base address register.
pub(crate) const BAR_0: usize = 0x10;
/// `COMMAND`: answer in memory space, and be a bus master.
pub(crate) const MEMORY_AND_MASTER: u32 = 0b110;

/// Registers of `edu`.
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const CONTROL: usize = 0x98;
const START: u64 = 0b01;
const TO_MEMORY: u64 = 0b10;
/// Where its buffer is for it.
const BUFFER: u64 = 0x4_0000;

/// Bytes of one transfer.
const BYTES: usize = 64;
/// A transfer takes a tenth of a second.
const PATIENCE_MS: u64 = 2_000;

/// Blocks of others' memory that are tried: each costs a second.
const TRIED: usize = 7;

const PATTERN: u64 = 0x5a5a_1234_abcd_0f0f;
const OTHER_PATTERN: u64 = 0x6b6b_4321_dcba_f0f0;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(edu) = probe.machine.pci.and_then(Edu::find) else { return };
    let (source, target) = (disk::data(), disk::data() + 4096);
    fill(source, PATTERN);
    fill(target, 0);
    let carried = edu.load(source as u64) && edu.store(target as u64);
    let got = if carried { load(target + BYTES - 8, 8).value() } else { 0 };
    probe.report.equal("carries_own_memory", PATTERN, got);

    let foreign = foreign(probe);
    let mut seen = 0;
    for address in &foreign {
        seen |= edu.peek(*address as u64, source, target);
    }
    probe.report.case("tries_memory_of_others", "some", foreign.len(), !foreign.is_empty());
    probe.report.equal("reads_no_memory_of_others", 0, seen);
    probe.report.equal("reads_nothing_beyond_all_memory", 0, edu.peek(1 << 42, source, target));

    fill(source, OTHER_PATTERN);
    edu.load(source as u64);
    let ended = foreign.iter().all(|address| edu.store(*address as u64));
    probe.report.case("writes_to_memory_of_others_end", true, ended, ended);
    if let Some(page) = Disk::find(&probe.machine).map(|disk| disk.base()) {
        let before = read32(page);
        edu.store(page as u64);
        probe.report.equal("writes_no_register_page", before.into(), read32(page).into());
    }
}

/// First bytes of some blocks that are not the probe's, from the first to the last: EL2's, the copy that it keeps, the secure domain's.
fn foreign(probe: &Probe<'_>) -> arrayvec::ArrayVec<usize, TRIED> {
    let others = || memory::blocks(probe).filter(|block| !probe.machine.owns(*block));
    others().step_by(others().count().div_ceil(TRIED).max(1)).collect()
}

fn fill(address: usize, pattern: u64) {
    for place in (address..address + BYTES).step_by(8) {
        let _ = store(place, 8, pattern);
    }
}

/// The device.
pub(crate) struct Edu {
    /// Its configuration space.
    pub(crate) configuration: usize,
    registers: usize,
}

impl Edu {
    /// Finds it on the first bus, and gives it a place in the bus' window.
    pub(crate) fn find(host: PciHost) -> Option<Edu> {
        let slots = (0..SLOTS).map(|slot| host.configuration.base + slot * SLOT_BYTES);
        let slot = slots.into_iter().find(|slot| read32(*slot) == EDU)?;
        write32(slot + BAR_0, host.window as u32);
        write32(slot + COMMAND, MEMORY_AND_MASTER);
        Some(Edu { configuration: slot, registers: host.window })
    }

    /// Carries bytes of memory into the buffer. Whether that came to an end.
    fn load(&self, address: u64) -> bool {
        self.carry(address, BUFFER, START)
    }

    /// Carries the buffer to memory.
    pub(crate) fn store(&self, address: u64) -> bool {
        self.carry(BUFFER, address, START | TO_MEMORY)
    }

    fn carry(&self, source: u64, destination: u64, control: u64) -> bool {
        for (register, value) in
            [(SOURCE, source), (DESTINATION, destination), (COUNT, BYTES as u64), (CONTROL, control)]
        {
            let _ = store(self.registers + register, 8, value);
        }
        let deadline = now() + ticks(PATIENCE_MS);
        while load(self.registers + CONTROL, 8).value() & START != 0 {
            if now() > deadline {
                return false;
            }
        }
        true
    }

    /// What the device brings of `address`: 0 if it is nothing, or what its buffer had before.
    pub(crate) fn peek(&self, address: u64, source: usize, target: usize) -> u64 {
        fill(source, PATTERN);
        fill(target, 0);
        self.load(source as u64);
        self.load(address);
        self.store(target as u64);
        let words = (target..target + BYTES).step_by(8).map(|place| load(place, 8).value());
        words.filter(|word| *word != PATTERN).fold(0, |seen, word| seen | word)
    }
}
