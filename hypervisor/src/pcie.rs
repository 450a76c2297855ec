//! The PCI bus that both domains have functions on: the secure domain's disks, and all else.
//!
//! The general domain reads the configuration of its own functions past EL2, which maps them read-only. Everything else of the bus comes here: stores,
//! and functions that are not its own, of which it reads all ones as of one that is not there.

use alloc::vec::Vec;

use aarch64::mmio::Mmio;
use machine::secure_tree::Window;
use machine::{Region, SharedHost};
use pcie::{BUS_BYTES, Configuration, FUNCTION_BYTES, Filter, Function, Refusal};
use spin::Mutex;

/// The bus at work.
pub struct Bus {
    filter: Filter,
    disks: Vec<Disk>,
    /// One write at a time: each is judged by what is there before it.
    space: Mutex<Space>,
    base: u64,
}

/// A function of the secure domain's.
struct Disk {
    function: Function,
    window: Window,
}

/// Configuration space of the bus.
struct Space(Mmio);

fn at(function: Function, offset: usize) -> usize {
    usize::from(function.page()) * FUNCTION_BYTES + offset
}

impl Configuration for Space {
    fn read32(&self, function: Function, offset: usize) -> u32 {
        self.0.read32(at(function, offset))
    }

    fn write8(&self, function: Function, offset: usize, value: u8) {
        self.0.write8(at(function, offset), value);
    }

    fn write16(&self, function: Function, offset: usize, value: u16) {
        self.0.write16(at(function, offset), value);
    }

    fn write32(&self, function: Function, offset: usize, value: u32) {
        self.0.write32(at(function, offset), value);
    }
}

impl Bus {
    /// Shares out the bus of `host`, whose configuration space is `registers`. No function answers, interrupts, or reads and writes memory then.
    ///
    /// # Errors
    /// A bus that cannot be shared out.
    pub fn share(host: &SharedHost, registers: Mmio) -> Result<Bus, Refusal> {
        let space = Space(registers);
        let found = pcie::survey(&space, host.functions())?;
        let (secure, general): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|endpoint| host.functions().contains(&endpoint.function));
        let mut left = host.bus_window();
        let mut disks = Vec::with_capacity(secure.len());
        for endpoint in secure {
            let behind = endpoint.place(&space, left.clone())?;
            let own = left.start..behind.start;
            let too_large = Refusal::TooLarge(endpoint.function, own.end - own.start);
            let registers = host.to_cpu(&own).ok_or(too_large)?;
            disks.push(Disk { function: endpoint.function, window: Window { registers, bus_address: own.start } });
            left = behind;
        }
        let filter = Filter::new(general, host.bus_window(), |endpoint| host.shares_line(endpoint));
        Ok(Bus { filter, disks, space: Mutex::new(space), base: host.configuration.base() })
    }

    /// The general domain's functions.
    pub fn general(&self) -> impl Iterator<Item = Function> {
        self.filter.functions()
    }

    /// Where the registers of the secure domain's `function` are.
    pub fn window(&self, function: Function) -> Option<Window> {
        self.disks.iter().find(|disk| disk.function == function).map(|disk| disk.window)
    }

    /// Configuration space.
    pub fn region(&self) -> Region {
        Region::new(self.base, BUS_BYTES as u64).expect("read from a tree as a region of that size or more")
    }

    /// The general domain stores `size` bytes of `value` at `offset` of the bus' configuration space.
    pub fn store(&self, offset: u64, size: usize, value: u64) {
        let function = Function::of_page((offset / FUNCTION_BYTES as u64) as u8);
        let space = self.space.lock();
        // What is not done is not told: configuration space has no way to refuse.
        self.filter.write(&*space, function, (offset % FUNCTION_BYTES as u64) as usize, size, value);
    }

    /// Lets the general domain's functions neither answer nor read and write memory, until a driver sets them up anew. Whether all have taken note.
    pub fn stop_general(&self) -> bool {
        let space = self.space.lock();
        self.filter.functions().filter(|function| !pcie::stop(&*space, *function)).count() == 0
    }

    /// Lets the secure domain's disks answer, and read and write memory.
    pub fn start_disks(&self) {
        let space = self.space.lock();
        self.disks.iter().for_each(|disk| pcie::start(&*space, disk.function));
    }

    /// Lets them do neither. Whether all have taken note.
    pub fn stop_disks(&self) -> bool {
        let space = self.space.lock();
        self.disks.iter().filter(|disk| !pcie::stop(&*space, disk.function)).count() == 0
    }
}
