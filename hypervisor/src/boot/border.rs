//! Who owns which page, what each domain's stage 2 maps, and what devices reach.

use alloc::vec::Vec;

use el2::context::Confinement;
use el2::memory::BootMemory;
use el2::{pages, tables};
use machine::{Frames, MemoryPlan, PAGE, Region};
use stage2::{Access, Attributes, Ipa, MemoryType, Owner, Ownership, PhysAddr, Shareability, Stage2, State};
use vcpu::control::Domain;

use super::found::Found;
use super::range;
use crate::board::BOARD;
use crate::dma::{self, Disks, Dma};
use crate::panic::stop;
use crate::pcie::Bus;
use crate::{cpu, pci};

/// Claims that the ownership table has room for: EL2, the secure domain, the pieces of general memory, the shared pages.
const CLAIMS: usize = 32;

/// Stage 2 of both domains, made through the ownership table.
pub struct Domains {
    pub general: Confinement,
    pub secure: Confinement,
    /// What the secure domain's disks reach that are behind the system MMU.
    disks: Option<Confinement>,
}

/// Draws the border: who owns which page, and what each domain's stage 2 maps.
pub fn domains(found: &Found, bus: Option<&Bus>, plan: &MemoryPlan) -> Domains {
    let ownership = ownership(plan).unwrap_or_else(|error| stop(format_args!("memory ownership: {error:?}")));
    let pa_range = cpu::pa_range();
    let bits = stage2::vtcr::ipa_bits(pa_range);
    tables::invalidate_all();

    let new_tables = |index: usize| {
        let memory = tables::Memory::new(index);
        Stage2::new(bits, index as u8 + 1, memory.root(), memory, tables::Tlb::default())
            .unwrap_or_else(|error| stop(format_args!("stage 2: {error:?}")))
    };
    let mut general = Border { tables: new_tables(0), owner: Owner::General, ownership: &ownership };
    for bank in &plan.general {
        general.memory(bank, Attributes::RAM);
    }
    for window in machine::device_windows(&found.machine, &found.denied, 1 << bits) {
        general.device(&window, window.base(), Attributes::DEVICE);
    }
    if let Frames::V2 { cpu_interface, virtual_cpu_interface, .. } = &found.machine.gic.frames {
        // The general domain's CPU interface is the hardware's virtual one, at the address of the physical one.
        general.device(virtual_cpu_interface, cpu_interface.base(), Attributes::DEVICE);
    }
    let stolen = Region::new(pages::stolen_times() as u64, PAGE).expect("a page");
    general.memory(&stolen, Attributes::READ_ONLY_RAM);
    if !pci::IS_THERE {
        let register_pages = pages::register_pages();
        let registers = Region::between(register_pages.start as u64, register_pages.end as u64).expect("not empty");
        general.device(&registers, BOARD.channel.base, READ_ONLY_DEVICE);
    }
    if let (Some(host), Some(bus)) = (&found.host, bus) {
        let pages = bus.general().filter_map(|function| host.page(function));
        pages.for_each(|page| general.device(&page, page.base(), READ_ONLY_DEVICE));
    }

    let mut secure = Border { tables: new_tables(1), owner: Owner::Secure, ownership: &ownership };
    secure.memory(&plan.secure, Attributes::RAM);
    for bank in plan.lent() {
        secure.memory(bank, Attributes::SHARED_RAM);
    }
    let shared = Region::new(pages::shared_address() as u64, PAGE).expect("a page");
    secure.memory(&shared, Attributes::SHARED_RAM);
    for page in found.storage_pages() {
        secure.device(&page, page.base(), Attributes::DEVICE);
    }
    for (page, window) in found.function_pages(bus) {
        secure.device(&page, page.base(), READ_ONLY_DEVICE);
        secure.device(&window, window.base(), Attributes::DEVICE);
    }
    if let Some(bank) = &found.anchor {
        secure.device(bank, bank.base(), Attributes::DEVICE);
    }
    let disks = (!found.disk_streams.is_empty()).then(|| {
        let mut disks = Border { tables: new_tables(2), owner: Owner::Secure, ownership: &ownership };
        disks.memory(&plan.secure_dma, Attributes::SHARED_RAM);
        disks
    });

    let confine = |border: &Border<'_>, domain| Confinement {
        control: cpu::control(domain),
        vtcr_el2: border.tables.vtcr(pa_range),
        vttbr_el2: border.tables.vttbr(),
    };
    Domains {
        general: confine(&general, Domain::General),
        secure: confine(&secure, Domain::Secure),
        disks: disks.map(|disks| confine(&disks, Domain::Secure)),
    }
}

/// Stops the devices behind the system MMU, which an earlier stage of boot may have left at work.
pub fn stop_devices(found: &Found, memory: &BootMemory) {
    if let Some(mmu) = &found.system_mmu {
        dma::stop_devices(mmu, memory.device(&range(&mmu.registers)));
    }
}

/// Shares the PCI bus out that the secure domain's disks are on, if they are.
pub fn share_bus(found: &Found, memory: &BootMemory) -> Option<Bus> {
    let host = found.host.as_ref()?;
    let shared = Bus::share(host, memory.device(&range(&host.bus())));
    Some(shared.unwrap_or_else(|refusal| stop(format_args!("no storage for the secure domain: {refusal}"))))
}

/// Confines the devices of the general domain as its cores are and the secure domain's disks to what is kept for them, and says which are not
/// confined.
pub fn confine_devices(found: &Found, tree: &[u8], memory: &BootMemory, domains: &Domains) -> Option<Dma> {
    let mmu = found.system_mmu.as_ref();
    let streams: Vec<_> = found.disk_streams.iter().map(|(_, stream)| *stream..*stream + 1).collect();
    let disks = Disks { streams: &streams, confinement: domains.disks.as_ref() };
    let dma = mmu.map(|mmu| Dma::confine(mmu, memory.device(&range(&mmu.registers)), &domains.general, &disks));
    dma::report(tree, &found.denied, mmu, found.unconfined_disks());
    dma
}

/// A device that a domain can only read: register pages, and configuration space.
const READ_ONLY_DEVICE: Attributes = Attributes {
    memory: MemoryType::DeviceNGnRE,
    access: Access::ReadOnly,
    executable: false,
    shareability: Shareability::Outer,
};

/// One domain's stage 2 while it is made.
struct Border<'a> {
    tables: Stage2<tables::Memory, tables::Tlb>,
    owner: Owner,
    ownership: &'a Ownership<CLAIMS>,
}

impl Border<'_> {
    /// Maps memory at its own address, if the domain may have it.
    fn memory(&mut self, region: &Region, attributes: Attributes) {
        let at = (Ipa(region.base()), PhysAddr(region.base()), region.size());
        stage2::map(self.ownership, self.owner, &mut self.tables, at, attributes)
            .unwrap_or_else(|error| stop(format_args!("stage 2 of {:?}, {region}: {error:?}", self.owner)));
    }

    /// Maps device registers, or a page that stands for them, at `ipa`. No one owns them: what a domain must not have has been
    /// left out of `region` by [`Denied`].
    fn device(&mut self, region: &Region, ipa: u64, attributes: Attributes) {
        self.tables
            .map(Ipa(ipa), PhysAddr(region.base()), region.size(), attributes)
            .unwrap_or_else(|error| stop(format_args!("stage 2 of {:?}, {region}: {error:?}", self.owner)));
    }
}

/// Every page of memory with its owner: EL2's, the secure domain's, the general domain's, of which the secure domain may read and
/// write what is lent to it; and EL2's page that the secure domain shares and the one that the general domain reads.
fn ownership(plan: &MemoryPlan) -> Result<Ownership<CLAIMS>, stage2::OwnershipError> {
    let mut ownership = Ownership::new();
    ownership.assign(PhysAddr(plan.el2.base()), plan.el2.size(), Owner::Hypervisor)?;
    ownership.assign(PhysAddr(plan.pristine.base()), plan.pristine.size(), Owner::Hypervisor)?;
    if let Some(kept) = plan.kept {
        ownership.assign(PhysAddr(kept.base()), kept.size(), Owner::Hypervisor)?;
    }
    ownership.assign(PhysAddr(plan.secure.base()), plan.secure.size(), Owner::Secure)?;
    for bank in &plan.general {
        ownership.assign(PhysAddr(bank.base()), bank.size(), Owner::General)?;
    }
    for bank in plan.lent() {
        ownership.share(PhysAddr(bank.base()), bank.size(), Owner::General, State::SharedRw(Owner::Secure))?;
    }
    let shared = PhysAddr(pages::shared_address() as u64);
    ownership.share(shared, PAGE, Owner::Hypervisor, State::SharedRw(Owner::Secure))?;
    let stolen = PhysAddr(pages::stolen_times() as u64);
    ownership.share(stolen, PAGE, Owner::Hypervisor, State::SharedRo(Owner::General))?;
    Ok(ownership)
}
