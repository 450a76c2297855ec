//! DMA of the general domain's devices. The system MMU lets them reach what the domain's cores reach, by the very same tables, and tells what
//! it has stopped.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64::mmio::Mmio;
use arrayvec::ArrayVec;
use el2::context::Confinement;
use el2::smmu::{Frames, Memory};
use el2::tables;
use machine::{Denied, Interrupt, Masters, SystemMmu, Trigger};
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
    /// Transfers that were stopped, and other notices, so far.
    notices: AtomicU64,
    watch: Mutex<Watch>,
}

struct Watch {
    smmu: Smmu<Frames, Memory>,
    printed: u32,
    /// The last fault.
    last: Option<Fault>,
}

/// What one look at the system MMU brings.
#[derive(Default)]
struct Heard {
    news: ArrayVec<Notice, NOTICES>,
    /// No more will be printed.
    enough: bool,
    /// There is more than one look may cost.
    more: bool,
}

/// Lets no device through from here on: what is measured and copied afterwards stays as it was.
pub fn stop_devices(mmu: &SystemMmu, registers: Mmio) {
    smmu::stop(&Frames::new(registers)).unwrap_or_else(|error| broken(mmu, error));
}

fn broken(mmu: &SystemMmu, error: smmu::Error) -> ! {
    stop(format_args!("system MMU at {}: {error}", mmu.registers))
}

impl Dma {
    /// Confines the devices behind `mmu` to what `general` has. The tables are whole by then, and stay as they are.
    pub fn confine(mmu: &SystemMmu, registers: Mmio, general: &Confinement) -> Dma {
        // Its walks need not see the caches of the cores.
        tables::clean();
        let translation = Translation::of(general.vtcr_el2, general.vttbr_el2);
        let smmu = Smmu::start(Frames::new(registers), Memory::shared(), &mmu.streams, translation);
        let smmu = smmu.unwrap_or_else(|error| broken(mmu, error));
        Dma {
            interrupts: mmu.interrupts.clone(),
            notices: AtomicU64::new(0),
            watch: Mutex::new(Watch { smmu, printed: 0, last: None }),
        }
    }

    /// Lets nothing of the general domain's devices through. Whether it does not.
    pub fn hold(&self) -> bool {
        self.change(Smmu::hold)
    }

    /// Lets them through again, as far as their domain reaches. Whether it does.
    pub fn release(&self) -> bool {
        self.change(Smmu::release)
    }

    fn change(&self, change: fn(&mut Smmu<Frames, Memory>) -> Result<(), smmu::Error>) -> bool {
        let outcome = change(&mut self.watch.lock().smmu);
        outcome.inspect_err(|error| log!("system MMU: {error}")).is_ok()
    }

    /// Its interrupts.
    pub fn interrupts(&self) -> &[Interrupt] {
        &self.interrupts
    }

    /// Transfers that were stopped, and other notices, so far.
    pub fn notices(&self) -> u64 {
        self.notices.load(Ordering::Relaxed)
    }

    /// Reads what there is, as far as one look goes. The lock is free again before anything is printed.
    fn hear(&self) -> Heard {
        let mut heard = Heard::default();
        let mut watch = self.watch.lock();
        for _ in 0..NOTICES {
            let Some(notice) = watch.smmu.notice() else { return heard };
            self.notices.fetch_add(1, Ordering::Relaxed);
            if watch.is_news(notice) {
                heard.news.push(notice);
                heard.enough = watch.printed == PRINTED;
            }
        }
        heard.more = !watch.smmu.discard();
        heard
    }
}

impl Watch {
    /// Whether `notice` is to be printed.
    fn is_news(&mut self, notice: Notice) -> bool {
        let known = match notice {
            Notice::Fault(fault) => self.last.replace(fault).is_some_and(|last| fault.repeats(&last)),
            Notice::Lost | Notice::Errors(_) => false,
        };
        let news = !known && self.printed < PRINTED;
        self.printed += u32::from(news);
        news
    }
}

/// Serves the system MMU, if `intid` is its interrupt.
pub fn serve(core: &Core, intid: u32) {
    let Some(dma) = &core.system.dma else { return };
    if dma.interrupts.iter().any(|interrupt| interrupt.intid == intid) {
        look(core, dma);
    }
}

/// Turns the interrupts on that `core` takes for the system MMU. They have the general domain's priority: its devices cause them, so they must not
/// cut a slice that the secure domain is due.
pub fn enable(core: &Core) {
    let Some(dma) = &core.system.dma else { return };
    for Interrupt { intid, trigger } in dma.interrupts() {
        core.interrupts.set_edge(core.index, *intid, *trigger == Trigger::Edge);
        core.interrupts.set_target(*intid, core.index);
        core.interrupts.enable(*intid);
    }
    // What came before asks no more.
    look(core, dma);
}

fn look(core: &Core, dma: &Dma) {
    let Heard { news, enough, more } = dma.hear();
    for notice in news {
        match notice {
            Notice::Fault(fault) => log!("DMA stopped: {fault}"),
            Notice::Lost => log!("DMA stopped: more often than could be told"),
            Notice::Errors(errors) => log!("system MMU: global errors {errors:#x}"),
        }
    }
    if enough {
        log!("DMA stopped: what follows is only counted");
    }
    if let (true, Some(interrupt)) = (more, dma.interrupts().first()) {
        core.interrupts.pend(interrupt.intid);
    }
}

/// Kinds of devices in words.
pub fn names(masters: &[Masters]) -> String {
    let named: Vec<_> = masters.iter().map(|kind| alloc::format!("{} {}", kind.count, kind.name)).collect();
    named.join(", ")
}

/// Says which devices of the general domain can reach all memory.
pub fn report(tree: &[u8], denied: &Denied, driven: Option<&SystemMmu>) {
    let masters = machine::bus_masters(tree, denied, driven);
    let masters = masters.unwrap_or_else(|error| stop(format_args!("device tree: {error}")));
    let named = names(&masters);
    match driven {
        None if masters.is_empty() => log!("DMA isolation: the device tree shows no bus master of the general domain"),
        None => log!("DMA isolation: partial (no system MMU is driven: not confined are {named})"),
        Some(mmu) if masters.is_empty() => log!("DMA isolation: by the system MMU at {}", mmu.registers),
        Some(mmu) => log!("DMA isolation: partial (not behind the system MMU at {} are {named})", mmu.registers),
    }
}
