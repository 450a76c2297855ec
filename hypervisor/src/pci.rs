//! The virtual devices as PCI functions: accesses to configuration space and BARs, messages. On a board whose transport is virtio-mmio
//! the compiler leaves all of it out.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::board::PciBus;
use pci::{Access, Behind, Bus, Function, Message, Place};

use crate::board::BOARD;
use crate::devices::{self, Store, VirtualDevice};
use crate::system::Core;

/// The bus, where the board has one.
pub const BUS: Option<PciBus> = BOARD.channel.pci;
/// Whether it has. Asked by name, so that what is behind a "no" is not even compiled, and inlining elsewhere is as if it did not exist.
pub const IS_THERE: bool = BUS.is_some();

/// What an address on the bus means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An offset in configuration space.
    Configuration(u64),
    /// An address where functions may have their registers.
    Registers(u64),
}

/// The state of the bus itself.
#[derive(Debug, Default)]
pub struct State {
    bus: Bus,
    /// Messages that went to no register that takes them.
    dropped: AtomicU64,
}

impl State {
    /// Messages that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What `address` means, if it is on the bus.
#[inline]
pub fn find(address: u64) -> Option<Target> {
    let bus = BUS?;
    let within = |base: u64, size: u64| address.checked_sub(base).filter(|offset| *offset < size);
    if within(bus.registers.base(), bus.registers.size()).is_some() {
        return Some(Target::Registers(address));
    }
    within(bus.configuration.base(), bus.configuration.size()).map(Target::Configuration)
}

/// A load: all ones where nothing answers.
pub fn load(core: &mut Core, target: Target, size: usize) -> u64 {
    if !IS_THERE {
        return u64::MAX;
    }
    match target {
        Target::Configuration(offset) => match pci::place(offset) {
            Some(Place { function, register }) => {
                with(core, function, |function, behind| function.read_configuration(behind, register, size))
            }
            None => None,
        },
        Target::Registers(address) => core.system.pci.bus.find(address).and_then(|(function, offset)| {
            with(core, function, |function, behind| function.read_bar(behind, offset, size))
        }),
    }
    .unwrap_or(u64::MAX)
}

/// Reads by `read` from function `index`, if the bus has that one. A load may acknowledge an interrupt.
fn with(
    core: &mut Core,
    index: usize,
    read: impl FnOnce(&mut Function, &mut Behind<'_, el2::pages::RegisterPage>) -> u64,
) -> Option<u64> {
    let mut guard = core.system.devices.get(index)?.lock();
    let VirtualDevice { device, page, function } = &mut *guard;
    let line = function.line(device);
    let value = read(function, &mut Behind { device, page });
    if function.line(device) != line {
        devices::drive_line(core, index, !line);
    }
    Some(value)
}

/// A store: nothing happens where nobody answers.
pub fn store(core: &mut Core, target: Target, size: usize, value: u64) -> Store {
    if !IS_THERE {
        return Store::Done;
    }
    let system = core.system;
    let place = match target {
        Target::Configuration(offset) => pci::place(offset).map(|place| (place.function, place.register)),
        Target::Registers(address) => system.pci.bus.find(address),
    };
    let Some((index, offset)) = place else { return Store::Done };
    let Some(device) = system.devices.get(index) else { return Store::Done };
    let mut guard = device.lock();
    let VirtualDevice { device, page, function } = &mut *guard;
    let line = function.line(device);
    let mut behind = Behind { device, page };
    let Access { effect, vectors } = match target {
        Target::Configuration(_) => {
            let access = function.write_configuration(&mut behind, offset, size, value);
            system.pci.bus.decode(index, function.base());
            access
        }
        Target::Registers(_) => function.write_bar(&mut behind, offset, size, value),
    };
    if vectors != 0 {
        send(core, function, vectors);
    }
    if function.line(device) != line {
        devices::drive_line(core, index, !line);
    }
    match devices::carry_out(core, index, device, effect) {
        // A driver waits until it reads 0.
        Store::Replay => Store::Kick,
        store => store,
    }
}

/// Sends the messages of `vectors`, a bit each, to the virtual interrupt controller; what is meant for any other place is dropped.
pub fn send(core: &mut Core, function: &Function, vectors: u32) {
    let system = core.system;
    for vector in (0..pci::VECTORS).filter(|vector| vectors >> vector & 1 != 0) {
        let Message { address, data } = function.message(vector);
        let taken = system
            .map
            .interrupt_controller(address)
            .and_then(|(frame, offset)| system.vgic.message(core.index, frame, offset, data, &mut core.interrupts));
        match taken {
            Some(kicks) => core.kick(kicks),
            None => _ = system.pci.dropped.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Puts every function back to power-on: nothing is decoded, no vector is open. The register files behind them are reset by their own means.
pub fn reset(core: &Core) {
    if IS_THERE {
        for (index, device) in core.system.devices.iter().enumerate() {
            device.lock().function.reset();
            core.system.pci.bus.decode(index, None);
        }
    }
}
