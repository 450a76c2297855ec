//! Damaged trees.

use super::*;
use crate::general_domain::HOST;
use crate::shared_bus::DISK;

/// The whole boot flow on bytes that may be anything.
fn boot_anyhow(dtb: &[u8]) -> Result<(), Error> {
    let machine = Machine::read(dtb)?;
    let storage = machine.storage(dtb, "virtio,mmio", FIRST_BASE)?;
    let Ok(plan) = MemoryPlan::make(&machine, &loaded()) else { return Ok(()) };
    let denied = Denied::new(&machine, &BOARD, &[storage.registers], None);
    assert!(device_windows(&machine, &denied, 1 << 44).iter().all(|window| !denied.touches(window)));
    let general = General {
        plan: &plan,
        exclusive_core: None,
        denied: &denied,
        host: None,
        devices: &[virtual_device()],
        pci: None,
        bootargs: None,
    };
    let tree = general_tree::write(dtb, &machine, &general)?;
    Fdt::new(&tree)?;
    let tree = general_tree::write(dtb, &machine, &General { devices: &[], pci: Some(HOST), ..general })?;
    Fdt::new(&tree)?;
    let host = SharedHost::find(dtb, &machine, &[DISK])?;
    let disk = host.device(DISK)?;
    let denied = Denied::new(&machine, &BOARD, &[disk.registers], Some(&host));
    assert!([host.configuration, host.window].iter().all(|region| denied.touches(region)));
    if let Some(driven) = SystemMmu::find(dtb, &machine, &denied)? {
        driven.stream(dtb, &host, DISK)?;
    }
    let general = General { denied: &denied, host: Some(&host), ..general };
    Fdt::new(&general_tree::write(dtb, &machine, &general)?)?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_damaged_tree_never_panics(
        which in 0..ALL.len(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..20),
    ) {
        let mut dtb = ALL[which].to_vec();
        for (position, bit) in flips {
            let position = position.index(dtb.len());
            dtb[position] ^= 1 << bit;
        }
        let _ = boot_anyhow(&dtb);
    }

    #[test]
    fn one_changed_cell_never_panics(
        which in 0..ALL.len(),
        position in any::<prop::sample::Index>(),
        value in prop_oneof![Just(0_u32), Just(u32::MAX), Just(0x8000_0000), any::<u32>(), 0..64_u32],
    ) {
        let mut dtb = ALL[which].to_vec();
        let position = position.index(dtb.len() / 4) * 4;
        dtb[position..position + 4].copy_from_slice(&value.to_be_bytes());
        let _ = boot_anyhow(&dtb);
    }
}
