//! The bus of the virtual devices: walked, sized, moved and filled with nonsense; then messages that go astray. Without such a bus there are no
//! cases.

use crate::access::{load, read32, store, write32};
use crate::controller::{Controller, bits};
use crate::disk::{self, Answer, Disk};
use crate::probe::Probe;
use crate::tree::{PciHost, Range};

/// A virtio block device on PCI (virtio 1.2, section 4.1.2).
const BLOCK: u32 = 0x1042_1af4;
/// Devices of the bus, functions of each, and bytes of each function's configuration space.
const DEVICES: usize = 32;
const FUNCTIONS: usize = 8;
const SPACE: usize = 4096;
/// Devices that have a place for their registers.
const BUSY: usize = 8;
/// Bytes of a function's registers, and the pages of them that have a doorbell, the MSI-X table and the pending bits.
const REGISTERS: usize = 0x4000;
const DOORBELL: usize = 0x1000;
const TABLE: usize = 0x2000;
const PENDING: usize = 0x3000;

const COMMAND: usize = 0x04;
const BAR: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const MSIX: usize = 0x40;
const MSIX_ENABLE: u64 = 0x8000;
const ONES: u32 = u32::MAX;

const ACCESSES: u32 = 20_000;
const PATTERN: u64 = 0x5a5a_1234_abcd_0f0f;

/// A function, at its place in the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    configuration: usize,
    /// Where its registers are.
    pub(crate) registers: usize,
}

impl Function {
    /// The first block device on the bus.
    pub(crate) fn find(host: &PciHost) -> Option<Function> {
        (0..DEVICES).map(|device| Function::at(host, device)).find(|it| read32(it.configuration) == BLOCK)
    }

    fn at(host: &PciHost, device: usize) -> Function {
        Function {
            configuration: host.configuration.base + device * FUNCTIONS * SPACE,
            registers: host.window + device * REGISTERS,
        }
    }

    /// Puts its registers into their place, and lets it answer and send.
    pub(crate) fn enable(&self) {
        self.set(BAR, 4, self.registers as u64);
        self.set(COMMAND, 2, 0x6);
    }

    fn get(&self, register: usize) -> u32 {
        read32(self.configuration + register)
    }

    fn set(&self, register: usize, size: usize, value: u64) {
        let _ = store(self.configuration + register, size, value);
    }

    /// Where a register of virtio-mmio is, by its meaning, and its width.
    pub(crate) fn field(&self, register: usize) -> (usize, usize) {
        let (offset, size) = match register {
            0x010 => (0x04, 4),
            0x014 => (0x00, 4),
            0x020 => (0x0c, 4),
            0x024 => (0x08, 4),
            0x030 => (0x16, 2),
            0x034 | 0x038 => (0x18, 2),
            0x044 => (0x1c, 2),
            0x050 => (DOORBELL, 2),
            0x060 | 0x064 => (0x80, 1),
            0x070 => (0x14, 1),
            0x080..0x0a8 => (0x20 + (register - 0x80) / 0x10 * 8 + register % 8, 4),
            0x100.. => (register, 4),
            _ => (PENDING, 4),
        };
        (self.registers + offset, size)
    }

    /// Vector `vector` goes to `address` with `data`, unmasked; queue 0 speaks by it.
    fn aim(&self, vector: usize, address: u64, data: u32) {
        let entry = self.registers + TABLE + 16 * vector;
        let _ = store(entry, 8, address);
        write32(entry + 8, data);
        write32(entry + 12, 0);
        self.set(MSIX + 2, 2, MSIX_ENABLE);
        let _ = store(self.registers + 0x16, 2, 0);
        let _ = store(self.registers + 0x1a, 2, vector as u64);
    }
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(host) = probe.machine.virtual_pci else { return };
    let Some(function) = Function::find(&host) else {
        return probe.report.case("a_block_device_is_on_the_bus", "one", "none", false);
    };
    walk(probe, &host);
    size(probe, &function);
    nowhere(probe, &host, &function);
    messages(probe, &function);
    rain(probe, "configuration", host.configuration, |_| false);
    let window = Range { base: host.window, size: (BUSY + 2) * REGISTERS };
    rain(probe, "registers", window, |offset| offset & (REGISTERS - 0x1000) == DOORBELL);
    works(probe, "good_read_after_nonsense");
}

/// What is there is function 0 of the first devices, and everything else reads as ones.
fn walk(probe: &mut Probe<'_>, host: &PciHost) {
    let spaces = (0..DEVICES * FUNCTIONS).map(|index| host.configuration.base + index * SPACE);
    let mut seen = 0_u64;
    let mut strange = 0_u64;
    for (index, space) in spaces.enumerate() {
        match (read32(space), index % FUNCTIONS) {
            (BLOCK, 0) => seen += 1,
            (ONES, _) => {
                write32(space + COMMAND, 6);
                strange += u64::from(read32(space + COMMAND) != ONES || read32(space + SPACE - 4) != ONES);
            }
            _ => strange += 1,
        }
    }
    probe.report.case("block_devices_are_on_the_bus", "some", seen, seen > 0);
    probe.report.equal("absent_functions_read_as_ones", 0, strange);
    probe.report.abort("read_behind_all_registers", load(host.window + BUSY * REGISTERS, 4));
}

fn size(probe: &mut Probe<'_>, function: &Function) {
    function.set(COMMAND, 2, 0);
    function.set(BAR, 4, ONES.into());
    probe.report.equal("bar_is_16_kib", 0xffff_c000, function.get(BAR).into());
    let others = (0x14..0x28).step_by(4).chain([0x30]).fold(0, |all, register| {
        function.set(register, 4, ONES.into());
        all | function.get(register)
    });
    probe.report.equal("there_is_no_other_bar", 0, others.into());
    let (mut at, mut length) = (function.get(CAPABILITIES) as usize & 0xff, 0);
    while at != 0 && length < 48 {
        at = function.get(at & 0xfc) as usize >> 8 & 0xff;
        length += 1;
    }
    probe.report.equal("list_of_capabilities_ends", 6, length);
}

/// A BAR on memory, on the interrupt controller or out of the window moves nothing there; where no function answers there are ones.
fn nowhere(probe: &mut Probe<'_>, host: &PciHost, function: &Function) {
    let own = disk::data();
    let _ = store(own, 8, PATTERN);
    let distributor = Controller::find(&probe.machine).map_or(own, |controller| controller.distributor());
    let type_register = read32(distributor + 4);
    for wrong in [own & !(REGISTERS - 1), distributor, 0, 0xffff_c000] {
        function.set(BAR, 4, wrong as u64);
        function.set(COMMAND, 2, 0x6);
    }
    function.set(BAR, 4, (own & !(REGISTERS - 1)) as u64);
    probe.report.equal("a_bar_on_memory_hides_none", PATTERN, load(own, 8).value());
    function.set(BAR, 4, distributor as u64);
    probe.report.equal("nor_one_on_the_interrupt_controller", type_register.into(), read32(distributor + 4).into());
    let mut strange = 0;
    for offset in (0..BUSY * REGISTERS).step_by(0x400) {
        write32(host.window + offset, 0);
        strange += u64::from(read32(host.window + offset) != ONES);
    }
    probe.report.equal("where_nobody_answers_are_ones", 0, strange);
    function.enable();
}

/// A message to the right register raises its interrupt; one to memory, to another register or for another interrupt does nothing.
fn messages(probe: &mut Probe<'_>, function: &Function) {
    let (Some(controller), Some((doorbell, first))) = (Controller::find(&probe.machine), probe.machine.messages) else {
        return probe.report.case("something_takes_messages", "a_register", "none", false);
    };
    let own = disk::data() + 0x4000;
    let wrong: [(&str, usize, u32); 5] = [
        ("memory", own, first),
        ("another_register", doorbell + 4, first),
        ("the_console", probe.machine.console.map_or(own, |console| console.base), 0x21),
        ("an_interrupt_of_a_device", doorbell, 33),
        ("an_interrupt_that_is_none", doorbell, ONES),
    ];
    for (name, address, data) in wrong {
        controller.reset();
        let _ = store(own, 8, PATTERN);
        let got = told(function, address, data);
        let pending = [first, 33].map(|intid| controller.bit(bits::SET_PENDING, intid));
        let nothing = got == Answer::Status(0) && pending == [0, 0] && load(own, 8).value() == PATTERN;
        probe.report.case(format_args!("a_message_to_{name}_does_nothing"), true, nothing, nothing);
    }
    controller.reset();
    controller.set_edge(first, true);
    let got = told(function, doorbell, first);
    probe.report.case("good_read_with_messages", "status_0", got, got == Answer::Status(0));
    probe.report.equal("a_message_raises_its_interrupt", 1, controller.bit(bits::SET_PENDING, first));
    controller.reset();
    function.set(MSIX + 2, 2, 0);
}

/// Reads a block with the disk's used buffers told to `address` by `data`.
fn told(function: &Function, address: usize, data: u32) -> Answer {
    let mut disk = Disk::on(*function);
    if !disk.start_with(|| function.aim(1, address as u64, data)) {
        return Answer::Ignored;
    }
    disk.read_well()
}

fn rain(probe: &mut Probe<'_>, name: &str, range: Range, spared: impl Fn(usize) -> bool) {
    let mut aborts = 0_u32;
    for _ in 0..ACCESSES {
        let size = 1 << probe.random.below(4);
        // Mostly where something is.
        let offset = match probe.random.below(4) {
            0 => probe.random.below(range.size),
            _ => probe.random.below(0x100) + 0x1000 * probe.random.below(16),
        } & !(size - 1);
        if offset >= range.size || spared(offset) {
            continue;
        }
        let values = [0, 1, u64::MAX, probe.random.next(), 1 << probe.random.below(64)];
        let value = probe.random.pick(&values);
        let outcome = match probe.random.below(3) {
            0 => load(range.base + offset, size),
            _ => store(range.base + offset, size, value),
        };
        aborts += u32::from(outcome.is_caught());
    }
    if let Some(console) = probe.machine.console {
        crate::console::start(console.base);
    }
    probe.report.case(format_args!("rain_on_{name}"), "alive", format_args!("alive_{aborts}_aborts"), true);
}

fn works(probe: &mut Probe<'_>, name: &str) {
    let Some(mut disk) = Disk::find(&probe.machine) else { return };
    disk.start();
    let got = disk.read_well();
    probe.report.case(name, "status_0", got, got == Answer::Status(0));
}
