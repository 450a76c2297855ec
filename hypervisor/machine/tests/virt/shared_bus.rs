//! A PCI host that is shared out.

use super::*;
use crate::address_space::{PHANDLE, named, with_map};

pub(crate) const DISK: Function = Function::new(3, 0).unwrap();
/// Configuration space of the tree's host, and of the disk.
const CONFIGURATION: Region = Region::new(0x40_1000_0000, 0x1000_0000).unwrap();
const DISK_PAGE: Region = Region::new(0x40_1001_8000, 0x1000).unwrap();
/// The end of its 32-bit memory.
const PCI_WINDOW: Region = Region::between(0x3EC0_0000, 0x3EFF_0000).unwrap();

fn host(dtb: &[u8]) -> Result<SharedHost, Error> {
    SharedHost::find(dtb, &Machine::read(dtb)?, &[DISK])
}

fn boot_shared(dtb: &[u8]) -> (Booted, SharedHost) {
    let host = host(dtb).unwrap();
    let booted = boot(dtb);
    let denied = Denied::new(&booted.machine, &BOARD, &[host.device(DISK).unwrap().registers], Some(&host));
    (Booted { denied, ..booted }, host)
}

#[test]
fn a_host_that_cannot_be_shared_out_is_refused() {
    fn says<T: ToPropertyValue>(name: &str, value: T, because: &str) {
        let error = host(&with(SMMU, "/pcie@10000000", name, value)).unwrap_err().to_string();
        assert!(error.contains("/pcie@10000000") && error.contains(because), "{error}");
    }
    says("reg", [0x40_u32, 0x1000_0000, 0, 0x8_0000], "shorter than a bus' configuration space");
    says("bus-range", [1_u32, 0xff], "does not begin with bus 0");
    says("ranges", [0x0100_0000_u32, 0, 0, 0, 0x3EFF_0000, 0, 0x1_0000], "has no 32-bit memory");
    says("ranges", [0x0200_0000_u32, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x10_0000], "has no room for");
    says(
        "ranges",
        [0x0200_0000_u32, 0xFFFF_FFFF, 0xF000_0000, 0, 0x1000_0000, 0, 0x1000_0000],
        "leaves the address space",
    );
    says("interrupt-map-mask", [0x1800_u32, 0, 7], "does not have four cells");
    says("interrupt-map", [0_u32, 0, 0, 1, 0xdead, 0, 0, 0, 3, 4], "not made of wired interrupts");
    says("interrupt-map", [0_u32, 0, 0, 1, 0x8002, 0, 0, 0, 3], "not made of wired interrupts");
    let error = host(&without(SMMU, "pcie@10000000")).unwrap_err().to_string();
    assert!(error.contains("pci-host-ecam-generic"), "{error}");
}

#[test]
fn a_function_without_a_line_is_no_disk() {
    let fdt = Fdt::new(SMMU).unwrap();
    let map = fdt.find_node("/pcie@10000000").unwrap().property("interrupt-map").unwrap().value()[..40].to_vec();
    let one = with(SMMU, "/pcie@10000000", "interrupt-map", map);
    let error = host(&one).unwrap().device(DISK).unwrap_err().to_string();
    assert!(error.contains("interrupt of PCI function 00:03.0"), "{error}");
}

#[test]
fn the_disk_is_its_page_its_line_and_its_stream() {
    for dtb in [GIC3, GIC2, SMMU] {
        let (booted, host) = boot_shared(dtb);
        let disk = host.device(DISK).unwrap();
        assert_eq!((disk.registers, disk.interrupt), (DISK_PAGE, Interrupt { intid: 38, trigger: Trigger::Level }));
        assert_eq!((host.window, host.bus_window()), (PCI_WINDOW, PCI_WINDOW.base()..PCI_WINDOW.end()));
        let one = PCI_WINDOW.base() + 0x4000..PCI_WINDOW.base() + 0x5000;
        assert_eq!(host.to_cpu(&one), Some(region(one.start, 0x1000)));
        let driven = SystemMmu::find(dtb, &booted.machine, &booted.denied).unwrap();
        assert_eq!(driven.map(|driven| driven.stream(dtb, &host, DISK).unwrap()), (dtb == SMMU).then_some(Some(0x18)));
    }
}

#[test]
fn a_function_that_no_system_mmu_names_has_no_stream() {
    let dtb = with_map(&[0, PHANDLE, 0x40, 0x18, 0x19, PHANDLE, 0x59, 0x8000]);
    let (booted, host) = boot_shared(&dtb);
    let driven = SystemMmu::find(&dtb, &booted.machine, &booted.denied).unwrap().unwrap();
    assert_eq!(driven.stream(&dtb, &host, DISK), Ok(None));
    assert_eq!(driven.stream(&dtb, &host, Function::new(2, 0).unwrap()), Ok(Some(0x50)));
}

#[test]
fn what_the_disk_has_is_denied_and_the_host_is_not() {
    let (booted, _) = boot_shared(SMMU);
    for taken in [CONFIGURATION, PCI_WINDOW] {
        assert!(booted.denied.touches(&taken));
        assert!(!device_windows(&booted.machine, &booted.denied, 1 << 44).iter().any(|window| window.overlaps(&taken)));
    }
    let driven = SystemMmu::find(SMMU, &booted.machine, &booted.denied).unwrap().unwrap();
    assert_eq!(driven.streams.first(), Some(&(0..0x1_0000)), "its other functions have theirs");
    let masters = machine::bus_masters(SMMU, &booted.denied, None).unwrap();
    assert_eq!(named(&masters), [("virtio_mmio", 24), ("pcie", 1)]);
}

#[test]
fn the_general_domain_is_told_of_the_rest_of_the_host() {
    for dtb in [GIC3, GIC2, SMMU] {
        let (booted, host) = boot_shared(dtb);
        let general = General {
            plan: &booted.plan,
            exclusive_core: None,
            denied: &booted.denied,
            host: Some(&host),
            devices: &[virtual_device()],
            pci: None,
            bootargs: None,
        };
        let tree = general_tree::write(dtb, &booted.machine, &general).unwrap();
        let fdt = Fdt::new(&tree).unwrap();
        let node = fdt.find_node("/pcie@10000000").unwrap();
        let words = |name: &str| -> Vec<u32> {
            node.property(name)
                .unwrap()
                .value()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| u32::from_be_bytes(*word))
                .collect()
        };
        assert_eq!(words("reg"), [0x40, 0x1000_0000, 0, 0x10_0000]);
        assert_eq!(words("bus-range"), [0, 0]);
        let memory: Vec<u32> = words("ranges")[7..14].to_vec();
        assert_eq!(memory, [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2EC0_0000]);
        assert_eq!(words("ranges").len(), 21);
        let lines: Vec<u32> = words("interrupt-map").chunks(10).map(|entry| entry[8]).collect();
        assert_eq!((lines.len(), lines.contains(&6)), (12, false), "SPI 6 is the disk's");
    }
}

#[test]
fn a_pin_on_the_disks_line_is_known() {
    let (_, host) = boot_shared(SMMU);
    // By the swizzle of QEMU's tree the line is that of (device + pin - 1) modulo 4.
    for page in 0..=255 {
        let function = Function::of_page(page);
        for pin in 0..=4 {
            let shared = pin > 0 && (function.device() + pin - 1) % 4 == 3;
            assert_eq!(host.shares_line(&Endpoint::with_pin(function, pin)), shared, "{function} {pin}");
        }
    }
}
