//! What the trees say.

use super::*;

#[test]
fn gicv3_machine_is_read() {
    let machine = Machine::read(GIC3).unwrap();
    assert_eq!(machine.memory.as_slice(), [region(0x4000_0000, 1024 * MIB)]);
    assert_eq!(machine.cpus.as_slice(), [0, 1, 2, 3]);
    assert_eq!(machine.psci, Conduit::Smc);
    let Frames::V3 { distributor, redistributors, stride } = &machine.gic.frames else { panic!("GICv3") };
    assert_eq!(*distributor, region(0x0800_0000, 0x1_0000));
    assert_eq!(redistributors.as_slice(), [region(0x080A_0000, 0xF6_0000)]);
    assert_eq!(*stride, None);
    assert!(machine.gic.has_msi);
    assert_eq!(machine.gic.maintenance.unwrap().intid, 25);
    let timers = machine.timers;
    assert_eq!([timers.physical.intid, timers.virtual_.intid, timers.hypervisor.intid], [30, 27, 26]);
    let console = machine.console.unwrap();
    assert_eq!(console.path, "/pl011@9000000");
    assert_eq!(console.registers, region(0x0900_0000, 0x1000));
    assert_eq!(console.interrupt, Interrupt { intid: 33, trigger: Trigger::Level });
    assert_eq!(machine.initrd, Some(region(0x4800_0000, 2)));
    assert!(machine.seeds.is_some() && machine.reserved.is_empty() && machine.smmu.is_empty());
}

#[test]
fn gicv2_machine_is_read() {
    let machine = Machine::read(GIC2).unwrap();
    assert_eq!(machine.cpus.len(), MAX_CPUS);
    let frame = |base| region(base, 0x1_0000);
    assert_eq!(
        machine.gic.frames,
        Frames::V2 {
            distributor: frame(0x0800_0000),
            cpu_interface: frame(0x0801_0000),
            hypervisor_interface: frame(0x0803_0000),
            virtual_cpu_interface: frame(0x0804_0000),
        }
    );
    assert_eq!(machine.timers.virtual_.intid, 27);
    assert_eq!(machine.initrd, None);
}

#[test]
fn smmu_and_large_memory_are_read() {
    let machine = Machine::read(SMMU).unwrap();
    assert_eq!(machine.smmu, [region(0x0905_0000, 0x2_0000)]);
    assert_eq!(machine.memory_bytes(), 8 << 30);
}

#[test]
fn the_storage_controller_is_found_with_its_interrupt() {
    for dtb in ALL {
        let booted = boot(dtb);
        assert_eq!(booted.storage.path, "/virtio_mmio@a003e00");
        assert_eq!(booted.storage.registers, region(0x0A00_3E00, 0x200));
        assert_eq!(booted.storage.interrupt, Interrupt { intid: 79, trigger: Trigger::Edge });
    }
}

#[test]
fn bytes_behind_the_tree_are_ignored() {
    let mut padded = GIC3.to_vec();
    padded.resize(1 << 20, 0xA5);
    assert_eq!(machine::tree_length(&padded).unwrap(), GIC3.len());
    assert_eq!(Machine::read(&padded).unwrap().cpus.len(), 4);
}
