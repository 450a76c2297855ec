//! Debian's stock kernels boot to a prompt on every kind of core, with their root on the sealed disk; QEMU loads Haechi, or U-Boot does.
use anyhow::{Context, Result, ensure};
use tests_qemu::guest::Guest;
use tests_qemu::images::{Images, Linux};
use tests_qemu::runner::{Group, check};
use xtask::qemu::{Gic, Machine};

/// One machine of the table.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    cpu: &'static str,
    smp: u32,
    linux: Linux,
    gic: Gic,
    mem_mib: u64,
}

const fn row(name: &'static str, cpu: &'static str, smp: u32, linux: Linux, gic: Gic) -> Row {
    Row { name, cpu, smp, linux, gic, mem_mib: 1024 }
}

const TABLE: [Row; 7] = [
    row("boots_a53_1_core_6_1", "cortex-a53", 1, Linux::V6_1, Gic::V3),
    row("boots_a72_4_cores_6_1", "cortex-a72", 4, Linux::V6_1, Gic::V3),
    row("boots_a76_1_core_6_12", "cortex-a76", 1, Linux::V6_12, Gic::V3),
    row("boots_a72_4_cores_gicv2_6_12", "cortex-a72", 4, Linux::V6_12, Gic::V2),
    row("boots_max_4_cores_6_1", "max", 4, Linux::V6_1, Gic::V3),
    Row { mem_mib: 256, ..row("boots_a72_in_256_mib_6_1", "cortex-a72", 1, Linux::V6_1, Gic::V3) },
    Row { mem_mib: 6144, ..row("boots_a72_8_cores_in_6_gib_6_12", "cortex-a72", 8, Linux::V6_12, Gic::V3) },
];

pub(crate) fn groups() -> Vec<Group> {
    TABLE.into_iter().map(group).chain([through_u_boot()]).collect()
}

/// U-Boot takes Haechi and the bundle from QEMU's firmware configuration device, moves the bundle and the device tree to
/// where it wants them, and starts Haechi with `booti`.
fn through_u_boot() -> Group {
    let boot = |images: &Images, place| {
        let u_boot = xtask::images::u_boot()?;
        images.boot(place, |machine| machine.extra = vec!["-bios".into(), u_boot.display().to_string()])
    };
    let checks = vec![
        check("u_boot_started_haechi", |_, guest| {
            let console = guest.transcript();
            let order = ["U-Boot", "Starting kernel", "[haechi] Haechi"].map(|line| console.find(line));
            ensure!(order[0].is_some() && order.is_sorted(), "the console does not show them in order: {order:?}");
            Ok(())
        }),
        check("root_is_the_virtual_disk", |_, guest| root_is_the_virtual_disk(guest)),
    ];
    Group::shared("boots_through_u_boot", boot, checks)
}

fn group(row: Row) -> Group {
    let boot = move |images: &Images, place| images.boot(place, |machine| row.shape(images, machine));
    let checks = vec![
        check("root_is_the_virtual_disk", |_, guest| root_is_the_virtual_disk(guest)),
        check("linux_has_every_core", move |_, guest| linux_has_every_core(guest, row.smp)),
        check("linux_sees_the_interrupt_controller", move |_, guest| {
            linux_sees_the_interrupt_controller(guest, row.gic)
        }),
        check("secure_domain_tested_its_crypto_module", move |_, guest| crypto_module_is_tested(guest, row.cpu)),
        check("secure_domain_has_its_anchor", |_, guest| {
            let said = guest.transcript().contains("[secure] anchor: development flash, counter ");
            ensure!(said, "the secure domain does not name its anchor");
            Ok(())
        }),
        check("linux_has_performance_monitors", |_, guest| linux_has_performance_monitors(guest)),
        check("linux_accounts_for_the_time_of_the_secure_domain", |_, guest| linux_knows_stolen_time(guest)),
        check("a_pci_device_works_behind_the_system_mmu", |_, guest| pci_device(guest)),
        check("linux_is_the_stock_kernel", move |_, guest| linux_is_the_stock_kernel(guest, row.linux)),
    ];
    Group::shared(row.name, boot, checks)
}

impl Row {
    fn shape(self, images: &Images, machine: &mut Machine) {
        machine.cpu = self.cpu.into();
        machine.smp = self.smp;
        machine.gic = self.gic;
        machine.mem_bytes = self.mem_mib << 20;
        machine.initrd = Some(images.bundle(self.linux));
        machine.smmu = true;
        machine.extra = ["-device", "virtio-rng-pci"].map(String::from).into();
    }
}

fn root_is_the_virtual_disk(guest: &mut Guest) -> Result<()> {
    let mounts = guest.run("grep ' / ' /proc/mounts")?;
    ensure!(mounts.contains("/dev/vda / ext4 rw"), "the root is {mounts}");
    let driver = guest.run("readlink /sys/block/vda/device/driver")?;
    ensure!(driver.ends_with("/virtio_blk"), "its driver is {driver}");
    Ok(())
}

/// Linux counts with the core's own monitors, and has every one of them.
fn linux_has_performance_monitors(guest: &mut Guest) -> Result<()> {
    let said = guest.run("dmesg | grep perfevents")?;
    ensure!(said.contains("enabled with armv8_") && said.contains("PMU driver, 7 "), "Linux says: {said}");
    Ok(())
}

/// The self-tests ran before the disk was touched, and instructions take a time that depends on no data where the core has that.
fn crypto_module_is_tested(guest: &mut Guest, cpu: &str) -> Result<()> {
    let console = guest.transcript();
    let timing = if cpu == "max" { "PSTATE.DIT is set" } else { "no PSTATE.DIT on this core" };
    let tested = console.find("[secure] Haechi Crypto Module").context("the module says nothing")?;
    let line = console[tested..].lines().next().unwrap_or_default();
    ensure!(
        line.contains("self-tests passed, state approved, profile open, ") && line.ends_with(timing),
        "the module says `{line}`"
    );
    ensure!(console.find("[secure] disk 0: ") > Some(tested), "the disk came before the self-tests");
    Ok(())
}

fn linux_has_every_core(guest: &mut Guest, smp: u32) -> Result<()> {
    let online = guest.run("cat /sys/devices/system/cpu/online")?;
    let expected = if smp == 1 { "0".to_owned() } else { format!("0-{}", smp - 1) };
    ensure!(online == expected, "online are {online}, not {expected}");
    let said = guest.run("dmesg | grep -c 'SMP: Total of '")?;
    ensure!(said == "1", "the kernel does not report its cores");
    Ok(())
}

/// The kernel found the interrupt controller of the machine, in the virtual form that EL2 gives it.
fn linux_sees_the_interrupt_controller(guest: &mut Guest, gic: Gic) -> Result<()> {
    // Linux calls a GICv2 whose interrupts it ends in one step GIC-0 (drivers/irqchip/irq-gic.c).
    let name = match gic {
        Gic::V2 => "GIC-0",
        Gic::V3 => "GICv3",
    };
    let lines = guest.run("grep -o 'GIC[v-][0-9]' /proc/interrupts | sort -u")?;
    ensure!(lines == name, "its interrupts come from {lines}, not {name}");
    Ok(())
}

/// It writes random bytes to Linux' memory, and says so by a wired interrupt. The kernel is told of no system MMU.
pub(crate) fn pci_device(guest: &mut Guest) -> Result<()> {
    let current = guest.run("modprobe virtio_rng; cat /sys/class/misc/hw_random/rng_current")?;
    ensure!(current.starts_with("virtio_rng"), "the random number generator is {current}");
    let bytes = guest.run("dd if=/dev/hwrng bs=64 count=1 iflag=fullblock 2>/dev/null | wc -c")?;
    ensure!(bytes == "64", "it gave {bytes} bytes");
    let bus = guest.run("readlink /sys/bus/virtio/drivers/virtio_rng/virtio*")?;
    ensure!(bus.contains("/pci"), "it is on {bus}");
    let nodes = guest.run("ls /proc/device-tree")?;
    ensure!(!nodes.contains("smmu"), "Linux is told of a system MMU");
    let console = guest.transcript();
    ensure!(console.contains("not behind the system MMU at 0x9050000"), "EL2 does not drive the system MMU");
    ensure!(!console.contains("DMA stopped"), "a transfer to Linux' own memory was stopped");
    Ok(())
}

/// Booting from a sealed disk takes more than the hundredth of a second in which Linux counts.
fn linux_knows_stolen_time(guest: &mut Guest) -> Result<()> {
    let said = guest.run("dmesg | grep -c 'arm-pv: using stolen time PV'")?;
    ensure!(said == "1", "the kernel has found no stolen time");
    let stolen = guest.run("awk '$1 == \"cpu\" { print $9 }' /proc/stat")?;
    let ticks = |text: &str| text.parse::<u64>().with_context(|| format!("{text} is no number of ticks"));
    let before = ticks(&stolen)?;
    ensure!(before > 0, "it has counted no stolen time");
    // A core that went off and came back goes on counting from where it was.
    guest.run("cd /sys/devices/system/cpu; for core in cpu[1-7]; do [ ! -d $core ] || { echo 0 >$core/online; echo 1 >$core/online; }; done; cd")?;
    let after = ticks(&guest.run("awk '$1 == \"cpu\" { print $9 }' /proc/stat")?)?;
    ensure!((before..before + 3_000).contains(&after), "stolen time went from {before} to {after} ticks of 10 ms");
    Ok(())
}

fn linux_is_the_stock_kernel(guest: &mut Guest, linux: Linux) -> Result<()> {
    let release = guest.run("uname -r")?;
    ensure!(release.starts_with(&format!("{}.", linux.series())) && release.contains("cloud-arm64"), "it is {release}");
    let tainted = guest.run("cat /proc/sys/kernel/tainted")?;
    ensure!(
        tainted == "0",
        "the kernel is tainted ({tainted}): {}",
        guest.run("dmesg | grep -iA3 'warn\\|taint' | head -20")?
    );
    Ok(())
}
