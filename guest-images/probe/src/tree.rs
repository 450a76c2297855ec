//! What the device tree tells the probe of its machine.

use arrayvec::ArrayVec;
use fdt::Fdt;
use fdt::node::FdtNode;

/// A range of addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// First address.
    pub(crate) base: usize,
    /// Bytes.
    pub(crate) size: usize,
}

impl Range {
    /// Whether `address` lies in it.
    pub(crate) fn holds(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.size
    }
}

/// A GICv3.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GicFrames {
    /// `GICD_*`.
    pub(crate) distributor: Range,
    /// `GICR_*` of all cores.
    pub(crate) redistributors: Range,
}

/// A GICv2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GicV2Frames {
    /// `GICD_*`.
    pub(crate) distributor: Range,
    /// `GICC_*`.
    pub(crate) interface: Range,
}

/// A PCI host with memory-mapped configuration space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PciHost {
    /// Configuration space of all its functions.
    pub(crate) configuration: Range,
    /// Where functions may have registers, at the address that they know it by.
    pub(crate) window: usize,
}

impl PciHost {
    /// Each entry of `ranges` is a PCI address of 3 cells, an address of 2, a size of 2 (IEEE 1275 PCI binding); the one for 32-bit memory
    /// counts.
    fn read(configuration: Range, ranges: &[u8]) -> Option<PciHost> {
        let word = |entry: &[u8], cell: usize| Some(u32::from_be_bytes(*entry.get(4 * cell..)?.first_chunk()?));
        let entry =
            ranges.chunks_exact(28).find(|entry| word(entry, 0).is_some_and(|kind| kind >> 24 & 0b11 == 0b10))?;
        Some(PciHost { configuration, window: word(entry, 4)? as usize })
    }
}

/// What the probe needs to know.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// The PL011.
    pub(crate) console: Option<Range>,
    /// Its own memory.
    pub(crate) memory: ArrayVec<Range, 16>,
    /// The interrupt controller, if it is a GICv3.
    pub(crate) gic: Option<GicFrames>,
    /// The interrupt controller, if it is a GICv2.
    pub(crate) gic_v2: Option<GicV2Frames>,
    /// virtio-mmio transports.
    pub(crate) transports: ArrayVec<Range, 64>,
    /// `MPIDR_EL1` affinities of the cores, its own first.
    pub(crate) cores: ArrayVec<u64, 16>,
    /// The only memory that the virtual devices reach, if not all of it (`restricted-dma-pool`).
    pub(crate) window: Option<Range>,
    /// The PCI host of the machine's own devices.
    pub(crate) pci: Option<PciHost>,
    /// That of the virtual devices.
    pub(crate) virtual_pci: Option<PciHost>,
    /// The register that takes messages, and the first interrupt that they raise.
    pub(crate) messages: Option<(usize, u32)>,
    /// Whether PSCI is called by HVC and not by SMC.
    pub(crate) psci_by_hvc: bool,
}

impl Machine {
    /// Reads the tree.
    pub(crate) fn read(tree: &Fdt<'_>) -> Machine {
        let mut machine = Machine::default();
        for node in tree.all_nodes() {
            machine.take(&node);
        }
        machine
    }

    fn take(&mut self, node: &FdtNode<'_, '_>) {
        let mut ranges = node
            .reg()
            .into_iter()
            .flatten()
            .map(|region| Range { base: region.starting_address as usize, size: region.size.unwrap_or(0) });
        let is = |name: &str| node.compatible().is_some_and(|all| all.all().any(|one| one == name));
        let kind = node.property("device_type").and_then(|kind| kind.as_str());
        if kind == Some("memory") {
            ranges.take(self.memory.remaining_capacity()).for_each(|bank| self.memory.push(bank));
        } else if kind == Some("cpu") {
            ranges.take(self.cores.remaining_capacity()).for_each(|core| self.cores.push(core.base as u64));
        } else if is("arm,pl011") && self.console.is_none() {
            self.console = ranges.next();
        } else if is("arm,gic-v3") {
            self.gic = ranges
                .next()
                .zip(ranges.next())
                .map(|(distributor, redistributors)| GicFrames { distributor, redistributors });
            self.take_messages(self.gic.map(|frames| frames.distributor), node.property("mbi-ranges"));
        } else if is("arm,gic-v2m-frame") {
            self.take_messages(ranges.next(), node.property("arm,msi-base-spi"));
        } else if is("arm,cortex-a15-gic") || is("arm,gic-400") {
            self.gic_v2 =
                ranges.next().zip(ranges.next()).map(|(distributor, interface)| GicV2Frames { distributor, interface });
        } else if is("virtio,mmio") {
            ranges.take(self.transports.remaining_capacity()).for_each(|one| self.transports.push(one));
        } else if is("restricted-dma-pool") {
            self.window = ranges.next();
        } else if is("pci-host-ecam-generic") {
            let windows = node.property("ranges").map_or(&[] as &[u8], |windows| windows.value);
            let host = ranges.next().and_then(|configuration| PciHost::read(configuration, windows));
            // Only virtual functions send messages.
            let own = node.property("msi-parent").is_none();
            *if own { &mut self.pci } else { &mut self.virtual_pci } = host;
        } else if is("arm,psci-1.0") || is("arm,psci-0.2") {
            self.psci_by_hvc = node.property("method").and_then(|method| method.as_str()) == Some("hvc");
        }
    }

    /// Messages go to `frame`, at the same offset whichever it is; the property begins with the first interrupt that they raise.
    fn take_messages(&mut self, frame: Option<Range>, first: Option<fdt::node::NodeProperty<'_>>) {
        let first = first.and_then(|first| first.value.first_chunk().map(|word| u32::from_be_bytes(*word)));
        self.messages = frame.map(|frame| frame.base + 0x40).zip(first).or(self.messages);
    }

    /// Whether `address` lies in the probe's own memory.
    pub(crate) fn owns(&self, address: usize) -> bool {
        self.memory.iter().any(|bank| bank.holds(address))
    }
}

/// The value of the word `name=` on the command line.
pub(crate) fn word<'a>(bootargs: &'a str, name: &str) -> Option<&'a str> {
    bootargs.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// A hexadecimal number, with or without `0x`.
pub(crate) fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}
