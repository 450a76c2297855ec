//! What the hypervisor takes out of the machine's tree.

use alloc::{string::ToString as _, vec::Vec};

use arrayvec::ArrayVec;
use dtoolkit::{Node as _, Property as _, fdt::Fdt, standard::NodeStandard as _};

use crate::{
    Error, Gic, Interrupt, MAX_BANKS, MAX_CPUS, PAGE, Region, Seeds,
    board::AnchorFlash,
    device::{self, Device},
    region,
    tree::{self, Place},
};

/// MPIDR_EL1: the affinity fields Aff3 and Aff2 to Aff0 (Arm DDI 0487, D19.2).
const AFFINITY: u64 = 0xFF_00FF_FFFF;
/// More reserved ranges than any machine has; bounds what a damaged tree can cost.
const MAX_RESERVED: usize = 64;
/// More register windows than any machine has.
const MAX_WINDOWS: usize = 4096;

/// `compatible` strings of system MMUs (Linux, bindings/iommu/arm,smmu.yaml and arm,smmu-v3.yaml) and of their counters, which write to memory
/// wherever their user says (bindings/perf/arm,smmu-v3-pmcg.yaml; Arm IHI 0070, `SMMU_PMCG_IRQ_CFG0`).
pub(crate) const SMMU: [&str; 7] =
    ["arm,smmu-v3", "arm,smmu-v2", "arm,smmu-v1", "arm,mmu-400", "arm,mmu-401", "arm,mmu-500", "arm,smmu-v3-pmcg"];
/// QEMU's firmware configuration device: its DMA interface writes wherever its user says.
pub(crate) const FIRMWARE_CONFIGURATION: &str = "qemu,fw-cfg-mmio";
const PL011: &str = "arm,pl011";
/// The timers of a core.
pub(crate) const TIMER: &str = "arm,armv8-timer";
/// Firmware that has PSCI.
pub(crate) const PSCI: [&str; 3] = ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"];

/// How firmware is called (Arm DEN 0022, section 5; Linux, bindings/arm/psci.yaml).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By `SMC`.
    Smc,
    /// By `HVC`: whoever says so expects its caller at EL1, so nothing at EL2 can call it.
    Hvc,
}

/// Interrupts of the generic timer, all PPIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// EL1 physical timer (`CNTP_*`), non-secure.
    pub physical: Interrupt,
    /// EL1 virtual timer (`CNTV_*`).
    pub virtual_: Interrupt,
    /// EL2 physical timer (`CNTHP_*`).
    pub hypervisor: Interrupt,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its memory in whole pages, sorted, each range as long as it can be.
    pub memory: ArrayVec<Region, MAX_BANKS>,
    /// MPIDR affinities of its enabled cores, in the order of the tree.
    pub cpus: ArrayVec<u64, MAX_CPUS>,
    /// Its interrupt controller.
    pub gic: Gic,
    /// How its firmware is called.
    pub psci: Conduit,
    /// Interrupts of its timers.
    pub timers: Timers,
    /// The PL011 that `/chosen/stdout-path` names, if it names one.
    pub console: Option<Device>,
    /// Where the boot loader put the initrd: for this hypervisor, the bundle.
    pub initrd: Option<Region>,
    /// Seeds for the domains, if the boot loader gave one.
    pub seeds: Option<Seeds>,
    /// Memory that the boot loader or firmware asks to leave alone (`/memreserve/` and `/reserved-memory`).
    pub reserved: Vec<Region>,
    /// Registers of system MMUs.
    pub smmu: Vec<Region>,
    /// Registers that give DMA to whoever can write them and that no domain gets.
    pub(crate) firmware_configuration: Vec<Region>,
    /// Registers of message-signalled interrupt controllers inside the GIC.
    pub(crate) msi: Vec<Region>,
    /// What the enabled nodes have outside memory: registers and the windows of buses.
    pub(crate) windows: Vec<Region>,
}

impl Machine {
    /// Reads the tree at the start of `dtb`.
    ///
    /// # Errors
    /// A damaged tree, or one that lacks something or says what cannot be: see [`Error`].
    #[inline(never)]
    pub fn read(dtb: &[u8]) -> Result<Machine, Error> {
        let fdt = tree::open(dtb)?;
        let mut survey = Survey::default();
        survey.reserved.extend(fdt.memory_reservations().filter_map(|it| Region::new(it.address(), it.size())));
        survey.stdout = stdout(fdt);
        tree::walk(fdt, &mut |place| survey.visit(place))?;
        survey.finish(fdt)
    }

    /// The storage controller whose `compatible` has this string and whose registers begin at `base`.
    ///
    /// # Errors
    /// See [`Device::find`].
    pub fn storage(&self, dtb: &[u8], compatible: &str, base: u64) -> Result<Device, Error> {
        Device::find(dtb, self, compatible, base)
    }

    /// The flash bank that `board` names, in the machine's tree.
    ///
    /// # Errors
    /// See [`device::find_registers`].
    pub fn anchor(&self, dtb: &[u8], board: &AnchorFlash) -> Result<Region, Error> {
        device::find_registers(dtb, board.compatible, &board.registers)
    }

    /// All memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.iter().map(Region::size).sum()
    }
}

/// What has been found while walking the tree.
#[derive(Default)]
struct Survey<'a> {
    memory: Vec<Region>,
    cpus: ArrayVec<u64, MAX_CPUS>,
    /// Why a core cannot be started by PSCI; of no interest while there is only the one that runs already.
    unstartable: Option<Error>,
    gic: Option<Gic>,
    psci: Option<Conduit>,
    /// Interrupts are read when the GIC is known.
    timers: bool,
    stdout: Option<&'a str>,
    initrd: Option<Region>,
    seeds: Option<Seeds>,
    reserved: Vec<Region>,
    smmu: Vec<Region>,
    firmware_configuration: Vec<Region>,
    msi: Vec<Region>,
    windows: Vec<Region>,
}

impl<'a> Survey<'a> {
    fn visit(&mut self, place: &Place<'_, 'a>) -> Result<(), Error> {
        match place.device_type() {
            Some("memory") => return self.visit_memory(place),
            Some("cpu") => return self.visit_cpu(place),
            _ => {}
        }
        if place.parent.is_some_and(|parent| parent.is("/reserved-memory")) {
            return self.visit_reserved(place);
        }
        if place.is("/chosen") {
            return self.visit_chosen(place);
        }
        if place.is_any_of(&PSCI) {
            return self.visit_psci(place);
        }
        self.timers |= place.is_any_of(&[TIMER]);
        self.visit_device(place)
    }

    fn visit_memory(&mut self, place: &Place<'_, '_>) -> Result<(), Error> {
        if !place.is_enabled() {
            return Ok(());
        }
        place.property("reg")?;
        self.memory.extend(place.registers()?.iter().filter_map(|bank| bank.core(PAGE)));
        Ok(())
    }

    fn visit_cpu(&mut self, place: &Place<'_, '_>) -> Result<(), Error> {
        if !place.is_enabled() {
            return Ok(());
        }
        let affinity = place.number("reg")?.ok_or_else(|| Error::NoProperty { node: place.path(), property: "reg" })?;
        if affinity & !AFFINITY != 0 {
            return Err(place.wrong("reg", "is no MPIDR affinity"));
        }
        if self.cpus.contains(&affinity) {
            return Err(place.wrong("reg", "names the same core as another node"));
        }
        if self.unstartable.is_none() {
            self.unstartable = unstartable(place);
        }
        self.cpus.try_push(affinity).map_err(|_| Error::TooMany { what: "enabled cores", limit: MAX_CPUS })
    }

    fn visit_reserved(&mut self, place: &Place<'_, '_>) -> Result<(), Error> {
        if place.is_enabled() {
            self.reserved.extend(place.registers()?);
        }
        within("reserved ranges of memory", &self.reserved, MAX_RESERVED)
    }

    fn visit_chosen(&mut self, place: &Place<'_, '_>) -> Result<(), Error> {
        if let Some(start) = place.number("linux,initrd-start")? {
            let end = place.number("linux,initrd-end")?.unwrap_or(0);
            let initrd = Region::between(start, end);
            self.initrd = Some(initrd.ok_or_else(|| place.wrong("linux,initrd-end", "is not above its start"))?);
        }
        if let Some(seed) = place.node.property("rng-seed") {
            self.seeds = Some(Seeds::derive(seed.value()));
        }
        Ok(())
    }

    fn visit_psci(&mut self, place: &Place<'_, '_>) -> Result<(), Error> {
        self.psci = Some(match place.text("method")? {
            "smc" => Conduit::Smc,
            "hvc" => Conduit::Hvc,
            _ => return Err(place.wrong("method", "is neither \"smc\" nor \"hvc\"")),
        });
        Ok(())
    }

    fn visit_device(&mut self, place: &Place<'_, '_>) -> Result<(), Error> {
        let registers = place.registers()?;
        if let Some(gic) = Gic::read(place)? {
            if self.gic.replace(gic).is_some() {
                return Err(Error::TooMany { what: "interrupt controllers of the GIC family", limit: 1 });
            }
        } else if place
            .parent
            .is_some_and(|parent| parent.is_any_of(&crate::gic::GIC_V3) || parent.is_any_of(&crate::gic::GIC_V2))
        {
            self.msi.extend_from_slice(&registers);
        } else if place.is_any_of(&SMMU) {
            self.smmu.extend_from_slice(&registers);
        } else if place.is_any_of(&[FIRMWARE_CONFIGURATION]) {
            self.firmware_configuration.extend_from_slice(&registers);
        }
        if place.is_enabled() {
            self.windows.extend(registers);
            self.windows.extend(place.windows()?);
        }
        within("register windows", &self.windows, MAX_WINDOWS)
    }

    /// Checks what was found and reads what had to wait for the GIC.
    fn finish(self, fdt: Fdt<'a>) -> Result<Machine, Error> {
        let missing = |what: &str| Error::NoNode { what: what.to_string() };
        let mut gic = self.gic.ok_or_else(|| missing("interrupt controller of the GIC family (v2 or v3)"))?;
        gic.has_msi = !self.msi.is_empty();
        if self.cpus.is_empty() {
            return Err(missing("enabled core (a node with device_type \"cpu\")"));
        }
        if let (Some(error), true) = (self.unstartable, self.cpus.len() > 1) {
            return Err(error);
        }
        if !self.timers {
            return Err(missing("node compatible with 'arm,armv8-timer'"));
        }
        Ok(Machine {
            memory: banks(self.memory)?,
            cpus: self.cpus,
            psci: self.psci.ok_or_else(|| missing("node compatible with 'arm,psci-0.2' or later"))?,
            timers: timers(fdt, &gic)?,
            console: console(fdt, &gic, self.stdout)?,
            gic,
            initrd: self.initrd,
            seeds: self.seeds,
            reserved: self.reserved,
            smmu: self.smmu,
            firmware_configuration: self.firmware_configuration,
            msi: self.msi,
            windows: self.windows,
        })
    }
}

fn unstartable(cpu: &Place<'_, '_>) -> Option<Error> {
    match cpu.text("enable-method") {
        Ok("psci") => None,
        Ok(_) => Some(cpu.wrong("enable-method", "is not \"psci\"")),
        Err(error) => Some(error),
    }
}

fn within(what: &'static str, list: &[Region], limit: usize) -> Result<(), Error> {
    if list.len() > limit { Err(Error::TooMany { what, limit }) } else { Ok(()) }
}

fn banks(memory: Vec<Region>) -> Result<ArrayVec<Region, MAX_BANKS>, Error> {
    if memory.is_empty() {
        return Err(Error::NoNode {
            what: "memory (a node with device_type \"memory\" and a whole page in 'reg')".to_string(),
        });
    }
    let mut banks = ArrayVec::new();
    for bank in region::union(memory) {
        banks.try_push(bank).map_err(|_| Error::TooMany { what: "separate ranges of memory", limit: MAX_BANKS })?;
    }
    Ok(banks)
}

/// The binding fixes the order: secure physical, non-secure physical, virtual, hypervisor (Linux,
/// bindings/timer/arm,arch_timer.yaml).
fn timers(fdt: Fdt<'_>, gic: &Gic) -> Result<Timers, Error> {
    let mut found = None;
    tree::walk(fdt, &mut |place| {
        if found.is_none() && place.is_any_of(&[TIMER]) {
            let interrupts = place.interrupts(gic.phandle, gic.interrupt_cells)?;
            let [_, physical, virtual_, hypervisor, ..] = interrupts.as_slice() else {
                return Err(place.wrong("interrupts", "does not name the four timers"));
            };
            found = Some(Timers { physical: *physical, virtual_: *virtual_, hypervisor: *hypervisor });
        }
        Ok(())
    })?;
    found.ok_or_else(|| Error::NoNode { what: "node compatible with 'arm,armv8-timer'".to_string() })
}

/// The path in `/chosen/stdout-path`, without its options and with an alias resolved.
fn stdout<'a>(fdt: Fdt<'a>) -> Option<&'a str> {
    let text = |node: &str, property: &str| fdt.find_node(node)?.property(property)?.value_as::<&'a str>().ok();
    let stdout = text("/chosen", "stdout-path")?;
    let name = stdout.split(':').next().unwrap_or(stdout);
    if name.starts_with('/') { Some(name) } else { text("/aliases", name) }
}

fn console(fdt: Fdt<'_>, gic: &Gic, stdout: Option<&str>) -> Result<Option<Device>, Error> {
    let mut found = None;
    let Some(stdout) = stdout else { return Ok(None) };
    tree::walk(fdt, &mut |place| {
        if found.is_none() && place.node.is_compatible(PL011) && place.is(stdout) {
            let registers = place.registers()?;
            let registers = *registers.first().ok_or_else(|| place.wrong("reg", "names no registers"))?;
            let interrupts = place.interrupts(gic.phandle, gic.interrupt_cells)?;
            let interrupt = *interrupts.first().ok_or_else(|| place.wrong("interrupts", "is empty"))?;
            found = Some(Device { path: place.path(), registers, interrupt });
        }
        Ok(())
    })?;
    Ok(found)
}
