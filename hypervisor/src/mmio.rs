//! The general domain's emulated devices: an access that stage 2 refused goes to the one at its address, or back as an abort.

use aarch64_cpu::registers::{FAR_EL2, HPFAR_EL2, Readable};
use el2::context;
use machine::Region;
use trace::Reason;
use vcpu::exit::{self, DeviceAccess, device_access, instruction_bytes};
use vcpu::{Access, Exception, Fault};
use vgic::{Frame as GicFrame, Read as GicRead};

use crate::devices::{self, Store};
use crate::log::CONSOLE;
use crate::system::Core;
use crate::{exits, irq, pci, run, secure};

/// Bytes of one core's redistributor: `RD_base` and `SGI_base`.
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
const PAGE_BYTES: u64 = 4096;

/// Where the emulated devices are.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// The distributor.
    pub distributor: Region,
    /// The redistributors, one behind the other; a GICv2 has none.
    pub redistributors: Option<Region>,
    /// The PL011 of the console.
    pub console: u64,
    /// The register pages of the virtual devices; where these are on a PCI bus, the frame that takes their messages, on a GICv2.
    pub channel: u64,
    /// INTID of the first virtual device; the others follow.
    pub first_channel_intid: u32,
}

/// What an address belongs to, with the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Gic(GicFrame, u64),
    Console(usize),
    Channel(usize, usize),
    Pci(pci::Target),
}

impl Map {
    /// INTID of virtual device `index`.
    pub fn channel_intid(&self, index: usize) -> u32 {
        self.first_channel_intid + index as u32
    }

    /// The frame of the interrupt controller at `address`, but for redistributors, and the offset in it.
    pub fn interrupt_controller(&self, address: u64) -> Option<(GicFrame, u64)> {
        match self.find(address, 0) {
            Some(Target::Gic(frame, offset)) => Some((frame, offset)),
            _ => None,
        }
    }

    /// The device at `address`, if an emulated one is there.
    fn find(&self, address: u64, cores: usize) -> Option<Target> {
        let within = |base: u64, len: u64| address.checked_sub(base).filter(|offset| *offset < len);
        if let Some(offset) = within(self.distributor.base(), self.distributor.size()) {
            return Some(Target::Gic(GicFrame::Distributor, offset));
        }
        if pci::IS_THERE {
            if let Some(target) = pci::find(address) {
                return Some(Target::Pci(target));
            }
            if self.redistributors.is_none()
                && let Some(offset) = within(self.channel, PAGE_BYTES)
            {
                return Some(Target::Gic(GicFrame::Messages, offset));
            }
        } else if let Some(offset) = within(self.channel, abi::DEVICES as u64 * PAGE_BYTES) {
            return Some(Target::Channel((offset / PAGE_BYTES) as usize, (offset % PAGE_BYTES) as usize));
        }
        let redistributors = self.redistributors.map_or(0, |region| region.base());
        if self.redistributors.is_some()
            && let Some(offset) = within(redistributors, cores as u64 * REDISTRIBUTOR_BYTES)
        {
            let frame = GicFrame::Redistributor((offset / REDISTRIBUTOR_BYTES) as usize);
            return Some(Target::Gic(frame, offset % REDISTRIBUTOR_BYTES));
        }
        within(self.console, PAGE_BYTES).map(|offset| Target::Console(offset as usize))
    }
}

/// A data abort of the general domain with syndrome `esr`: emulates the access, or gives the abort back.
pub fn data_abort(core: &mut Core, esr: u64) {
    let (far, hpfar) = (FAR_EL2.get(), HPFAR_EL2.get());
    match device_access(esr, far, hpfar).and_then(|access| emulate(core, &access, far)) {
        Some(Store::Done) => core.frame.advance(instruction_bytes(esr)),
        Some(Store::Kick) => {
            core.frame.advance(instruction_bytes(esr));
            secure::serve(core);
        }
        Some(Store::Replay) => secure::serve(core),
        Some(Store::Again) => {}
        None => refuse(core, &exit::data_abort(esr, far, hpfar)),
    }
}

/// An abort that is the general domain's own.
#[inline(never)]
pub fn refuse(core: &mut Core, fault: &Fault) {
    exits::note(core.exits, Reason::Abort, fault.ipa.map_or(fault.far.unwrap_or(0), |ipa| ipa.0));
    if fault.cache_maintenance {
        // There is no memory at the address whose cache lines could matter.
        return core.frame.advance(fault.instruction_bytes);
    }
    run::inject(core, Exception::data_abort(fault));
}

/// Emulates the access, if a device is there.
fn emulate(core: &mut Core, device: &DeviceAccess, far: u64) -> Option<Store> {
    let ipa = device.ipa.or_else(|| context::stage1_translate(far))?;
    let target = core.system.map.find(ipa.0, core.system.cores)?;
    exits::note(core.exits, if device.write { Reason::Store } else { Reason::Load }, ipa.0);
    Some(if device.write { store(core, target, &device.access) } else { load(core, target, &device.access) })
}

fn load(core: &mut Core, target: Target, access: &Access) -> Store {
    let system = core.system;
    let size = usize::from(access.size_bytes);
    let value = match target {
        Target::Gic(frame, offset) => {
            match system.vgic.mmio_read(core.index, frame, offset, size, &mut core.interrupts) {
                GicRead::Value(value) => value,
                GicRead::Again(kicks) => {
                    core.kick(kicks);
                    return Store::Again;
                }
            }
        }
        Target::Console(offset) => console_load(core, offset, size),
        // Reads of a register page do not trap; whoever comes here raced with its mapping.
        Target::Channel(..) => 0,
        Target::Pci(target) => pci::load(core, target, size),
    };
    access.load(&mut core.frame, value);
    Store::Done
}

fn store(core: &mut Core, target: Target, access: &Access) -> Store {
    let system = core.system;
    let size = usize::from(access.size_bytes);
    let value = access.store_value(&core.frame);
    match target {
        Target::Gic(frame, offset) => {
            let kicks = system.vgic.mmio_write(core.index, frame, offset, size, value, &mut core.interrupts);
            core.kick(kicks);
            Store::Done
        }
        Target::Console(offset) => console_store(core, offset, size, value),
        Target::Channel(index, offset) => devices::store(core, index, offset, size, value),
        Target::Pci(target) => pci::store(core, target, size, value),
    }
}

fn console_load(core: &mut Core, offset: usize, size: usize) -> u64 {
    let mut console = CONSOLE.lock();
    let (value, effect) = console.guest.read(offset, size);
    irq::console_effect(core, &mut console, effect);
    irq::feed(core, &mut console);
    value
}

fn console_store(core: &mut Core, offset: usize, size: usize, value: u64) -> Store {
    let mut console = CONSOLE.lock();
    let effect = console.guest.write(offset, size, value);
    irq::console_effect(core, &mut console, effect);
    Store::Done
}
