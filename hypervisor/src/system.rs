//! What all cores share, and what each has of its own.

use alloc::vec::Vec;

use abi::{DEVICES, IRQ_LINES, SharedPage};
use el2::boot::MAX_CORES;
use el2::context::Confinement;
use el2::gic::Interrupts;
use el2::{firmware, pages};
use machine::Region;
use psci::Psci;

use spin::{Mutex, Once};
use vcpu::control::Domain;
use vcpu::{Allowance, El1State, Features, Frame, IdRegisters, StolenTime, VectorState};
use vgic::Vgic;

use crate::devices::VirtualDevice;
use crate::dma::Dma;
use crate::exclusive;
use crate::pcie::Bus;
use crate::secure::SecureDomain;

/// The system, once boot has put it together.
static SYSTEM: Once<System> = Once::new();

/// Shared by all cores. Locks are taken one at a time, except that `devices` may be held while the vGIC takes its own, and
/// `secure` while its disks are stopped or started.
pub struct System {
    /// The general domain's cores, from 1; with one that the secure domain has for itself ([`exclusive`]) at most [`MAX_CORES`].
    pub cores: usize,
    /// The physical GIC and where each core's part of it is.
    pub interrupts: Interrupts,
    /// The general domain's GIC.
    pub vgic: Vgic,

    /// The general domain's cores.
    pub psci: Psci,
    /// The general domain's memory.
    pub general_memory: Vec<Region>,
    /// Stage 2 and traps of the general domain.
    pub general: Confinement,
    /// The system MMU, if one is driven.
    pub dma: Option<Dma>,
    /// The PCI bus that both domains have functions on, if there is one.
    pub shared_bus: Option<Bus>,
    /// What injected exceptions depend on.
    pub features: Features,
    /// Where the general domain's emulated devices are.
    pub map: crate::mmio::Map,
    /// INTID of the console's UART.
    pub console_intid: u32,
    /// Physical interrupt of each of the secure domain's lines.
    pub lines: [Option<u32>; IRQ_LINES],
    /// The virtual devices.
    pub devices: [Mutex<VirtualDevice>; DEVICES],
    /// The bus that they are on, if they are on one.
    pub pci: crate::pci::State,
    /// What EL2 tells the secure domain.
    pub shared: &'static SharedPage,
    /// The secure domain: whoever holds the lock has it on its core.
    pub secure: Mutex<SecureDomain>,
    /// How the secure domain stands, without its lock.
    pub secure_state: crate::secure::State,
    /// The core that the secure domain has for itself, where the board says so.
    pub exclusive: exclusive::State,
    /// Resets of the general domain.
    pub reset: crate::reset::State,
    /// Ticks of one slice of the secure domain.
    pub slice_ticks: u64,
}

/// Publishes the system; called once, before another core or a domain runs.
pub fn publish(system: System) -> &'static System {
    SYSTEM.call_once(|| system)
}

/// The system.
pub fn get() -> &'static System {
    SYSTEM.get().expect("no domain runs before boot has published the system")
}

/// The index of the core with `affinity`, once there is a system.
pub fn index_of(affinity: u64) -> Option<usize> {
    let system = SYSTEM.get()?;
    system.interrupts.affinities()[..exclusive::all_cores(system.cores)].iter().position(|it| *it == affinity)
}

/// One physical core and the general domain's vCPU on it, if it has one.
pub struct Core {
    /// Index of the core and of its vCPU.
    pub index: usize,
    /// The system.
    pub system: &'static System,
    /// This core's view of the GIC.
    pub interrupts: Interrupts,
    /// General registers of the vCPU.
    pub frame: Frame,
    /// EL1 registers of the vCPU while the secure domain has the core.
    pub el1: El1State,
    /// Vector registers of the vCPU while the secure domain has the core.
    pub vectors: VectorState,
    /// This core's identification registers as the vCPU may see them.
    pub identification: IdRegisters,
    /// Whether the core has performance monitors, which are the general domain's.
    pub has_pmu: bool,
    /// The vCPU's OS lock is closed, as after a reset.
    pub os_lock: bool,
    /// What firmware does for this core.
    pub firmware: psci::Firmware,
    /// What the secure domain may take of this core by interrupts of its own.
    pub allowance: Allowance,
    /// What brought this core to EL2 lately.
    pub exits: &'static trace::Ring,
    /// What the secure domain has taken of this core while the vCPU wanted it.
    pub stolen: StolenTime,
    /// When the secure domain is due a slice of its own on this core, in ticks of the counter, if it has unfinished work.
    pub slice_due: Option<u64>,
}

impl Core {
    /// Core `index`, with nothing loaded.
    pub fn new(system: &'static System, index: usize) -> Core {
        assert!(index < exclusive::all_cores(system.cores) && index < MAX_CORES);
        Core {
            index,
            system,
            interrupts: system.interrupts.for_core(index),
            frame: Frame::default(),
            el1: El1State::reset(),
            vectors: VectorState::default(),
            identification: crate::cpu::identification(Domain::General),
            has_pmu: crate::cpu::has_pmu(),
            os_lock: true,
            firmware: psci::Firmware::learn(|function, argument| firmware::ask(function, argument)[0] as i64),
            allowance: Allowance::new(system.slice_ticks, aarch64::time::counter()),
            exits: crate::exits::of(index),
            stolen: StolenTime::resume(aarch64::time::frequency_hz(), pages::stolen_time(index)),
            slice_due: None,
        }
    }

    /// Interrupts the cores of `kicks`, so that they look at their virtual GIC.
    pub fn kick(&self, kicks: vgic::Kicks) {
        for cpu in kicks.iter() {
            self.interrupts.send_sgi(crate::irq::KICK, cpu);
        }
    }
}
