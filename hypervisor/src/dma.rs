//! DMA of the general domain's devices. The system MMU lets them reach what the domain's cores reach, by the very same tables, and tells what
//! it has stopped.

use alloc::vec::Vec;

use aarch64::mmio::Mmio;
use el2::context::Confinement;
use el2::smmu::{Frames, Memory};
use el2::tables;
use machine::{Denied, Interrupt, SystemMmu};
use smmu::{Fault, Notice, Smmu, Translation};
use spin::Mutex;

use crate::log::log;
use crate::panic::stop;
use crate::system::Core;

/// Notices that one interrupt may cost: a device that faults without end must not keep the core.
const NOTICES: usize = 16;
/// Notices that are printed, so that no device can fill the console; all are counted.
const PRINTED: u32 = 16;

/// The system MMU at work.
pub struct Dma {
    interrupts: Vec<Interrupt>,
    watch: Mutex<Watch>,
}

struct Watch {
    smmu: Smmu<Frames, Memory>,
    /// Notices so far.
    notices: u64,
    printed: u32,
    /// The last fault.
    last: Option<Fault>,
}

impl Dma {
    /// Confines the devices behind `mmu` to what `general` has. The tables are whole by then, and stay as they are.
    pub fn confine(mmu: &SystemMmu, registers: Mmio, general: &Confinement) -> Dma {
        let broken = |error| stop(format_args!("system MMU at {}: {error}", mmu.registers));
        // Its walks need not see the caches of the cores.
        tables::clean();
        let translation = Translation::of(general.vtcr_el2, general.vttbr_el2);
        let smmu = Smmu::start(Frames::new(registers), Memory::shared(), &mmu.streams, translation).unwrap_or_else(broken);
        Dma { interrupts: mmu.interrupts.clone(), watch: Mutex::new(Watch { smmu, notices: 0, printed: 0, last: None }) }
    }

    /// Its interrupts.
    pub fn interrupts(&self) -> &[Interrupt] {
        &self.interrupts
    }

    /// Transfers that were stopped, and other notices, so far.
    pub fn notices(&self) -> u64 {
        self.watch.lock().notices
    }
}

/// Reads what the system MMU has to tell, if `intid` is its interrupt.
pub fn serve(core: &Core, intid: u32) {
    let Some(dma) = &core.system.dma else { return };
    if dma.interrupts.iter().any(|interrupt| interrupt.intid == intid) {
        let mut watch = dma.watch.lock();
        for _ in 0..NOTICES {
            let Some(notice) = watch.smmu.notice() else { break };
            watch.take(notice);
        }
    }
}

impl Watch {
    /// Counts `notice`, and prints it if it is news.
    fn take(&mut self, notice: Notice) {
        self.notices += 1;
        if self.printed == PRINTED || self.is_known(notice) {
            return;
        }
        match notice {
            Notice::Fault(fault) => log!("DMA stopped: {fault}"),
            Notice::Lost => log!("DMA stopped: more often than could be told"),
            Notice::Errors(errors) => log!("system MMU: global errors {errors:#x}"),
        }
        self.printed += 1;
        if self.printed == PRINTED {
            log!("DMA stopped: what follows is only counted");
        }
    }

    fn is_known(&mut self, notice: Notice) -> bool {
        let Notice::Fault(fault) = notice else { return false };
        self.last.replace(fault).is_some_and(|last| fault.repeats(&last))
    }
}

/// Says which devices of the general domain can reach all memory.
pub fn report(tree: &[u8], denied: &Denied, driven: Option<&SystemMmu>) {
    let masters = machine::bus_masters(tree, denied, driven);
    let masters = masters.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let named: Vec<_> = masters.iter().map(|kind| alloc::format!("{} {}", kind.count, kind.name)).collect();
    let named = named.join(", ");
    match driven {
        None if masters.is_empty() => log!("DMA isolation: the device tree shows no bus master of the general domain"),
        None => log!("DMA isolation: partial (no system MMU is driven: not confined are {named})"),
        Some(mmu) if masters.is_empty() => log!("DMA isolation: by the system MMU at {}", mmu.registers),
        Some(mmu) => log!("DMA isolation: partial (not behind the system MMU at {} are {named})", mmu.registers),
    }
}
