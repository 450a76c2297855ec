//! Four cores under load: each makes progress, and each goes off and comes back, the first one too.
use std::time::Duration;

use anyhow::{Result, ensure};
use tests_qemu::guest::Guest;
use tests_qemu::images::DEBUGGER;
use tests_qemu::runner::{Group, check};
use xtask::qemu::{Gic, Machine};

/// Off and on again, with four busy cores on two real ones.
const HOTPLUG: Duration = Duration::from_secs(120);

pub(crate) fn groups() -> Vec<Group> {
    vec![group("cores", Gic::V3), group("cores_gicv2", Gic::V2)]
}

fn group(name: &'static str, gic: Gic) -> Group {
    let checks = vec![
        check("every_core_makes_progress_under_load", |_, guest| progress(guest)),
        check("every_core_goes_off_and_on_under_load", |_, guest| hotplug(guest)),
        check("disk_is_served_from_every_core", |_, guest| disk_from_every_core(guest)),
        check("fio_on_every_core_at_once_verifies", |_, guest| fio(guest)),
        check("interrupts_between_cores_arrive", |_, guest| interrupts(guest)),
        check("a_debugger_is_obeyed_beside_disk_io", |_, guest| debugger(guest)),
        check("core_that_is_not_there_is_not_shown", |_, guest| no_fifth(guest)),
        check("machine_goes_off_after_all_of_it", |_, guest| guest.power_off()),
    ];
    let shape = move |machine: &mut Machine| (machine.smp, machine.gic) = (4, gic);
    Group::shared(name, move |images, place| images.boot(place, shape), checks)
}

/// Busy loops that write how far they came, one on each core.
const LOAD: &str = "rm -f /tmp/c*; for c in 0 1 2 3; do \
    taskset -p $((1<<c)) $$ >/dev/null; (n=0; while :; do n=$((n+1)); [ $((n%500)) = 0 ] && echo $n >>/tmp/c$c; done) & done; taskset -p f $$ >/dev/null";
const UNLOAD: &str = "kill $(jobs -p); wait";

fn loaded<T>(guest: &mut Guest, work: impl FnOnce(&mut Guest) -> Result<T>) -> Result<T> {
    guest.run(&format!("set +m; {LOAD}"))?;
    let result = work(guest)?;
    guest.run_within(&format!("{UNLOAD} 2>/dev/null; true"), HOTPLUG)?;
    Ok(result)
}

fn progress(guest: &mut Guest) -> Result<()> {
    loaded(guest, |guest| {
        let newest = "for c in 0 1 2 3; do tail -n 1 /tmp/c$c; done";
        let counts = guest.run_within(&format!("sleep 3; {newest}; sleep 3; echo; {newest}"), HOTPLUG)?;
        let (before, after) = counts.split_once("\n\n").unwrap_or((&counts, ""));
        let parse = |text: &str| text.lines().filter_map(|line| line.trim().parse::<u64>().ok()).collect::<Vec<_>>();
        let (before, after) = (parse(before), parse(after));
        ensure!(before.len() == 4 && after.len() == 4, "not every core counted: {counts}");
        ensure!(
            before.iter().zip(&after).all(|(before, after)| after > before),
            "a core stands still: {before:?} {after:?}"
        );
        Ok(())
    })
}

fn hotplug(guest: &mut Guest) -> Result<()> {
    loaded(guest, |guest| {
        for core in [3, 1, 0, 2] {
            let file = format!("/sys/devices/system/cpu/cpu{core}/online");
            guest.run_within(&format!("echo 0 >{file}"), HOTPLUG)?;
            let online = guest.run("cat /sys/devices/system/cpu/online")?;
            ensure!(guest.run(&format!("cat {file}"))? == "0", "core {core} is not off: {online}");
            guest.run_within(&format!("echo 1 >{file}"), HOTPLUG)?;
            ensure!(guest.run(&format!("cat {file}"))? == "1", "core {core} did not come back");
        }
        let online = guest.run("cat /sys/devices/system/cpu/online")?;
        ensure!(online == "0-3", "online are {online}");
        Ok(())
    })
}

fn disk_from_every_core(guest: &mut Guest) -> Result<()> {
    for core in 0..4 {
        let mask = 1 << core;
        let read = format!(
            "taskset {mask:x} dd if=/dev/vda of=/dev/null bs=64k count=16 skip={} iflag=direct 2>&1 | grep -c '16+0 records in'",
            core * 32
        );
        ensure!(guest.run(&read)? == "1", "core {core} cannot read the disk");
    }
    Ok(())
}

fn fio(guest: &mut Guest) -> Result<()> {
    let job = "fio --name=each --directory=/root --numjobs=4 --cpus_allowed=0-3 --cpus_allowed_policy=split --size=1M --bs=4k \
        --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 --fallocate=none";
    let output = guest.run_within(job, Duration::from_secs(240))?;
    ensure!(output.matches("err= 0").count() == 4, "fio reports an error: {output}");
    guest.run("rm /root/each.*").map(drop)
}

/// A program steps, breaks and watches a child of its own from core to core, while the secure domain has work on all of them.
pub(crate) fn debugger(guest: &mut Guest) -> Result<()> {
    let io = "dd if=/dev/vda of=/dev/null bs=4k count=256 iflag=direct";
    guest.run(&format!("set +m; for c in 0 1 2 3; do (while :; do {io}; done) >/dev/null 2>&1 & done"))?;
    let (said, status) = guest.status_of(DEBUGGER, HOTPLUG)?;
    guest.run_within("kill $(jobs -p); wait 2>/dev/null; true", HOTPLUG)?;
    ensure!(status == 0, "its promise {status} was broken: {said}");
    Ok(())
}

fn interrupts(guest: &mut Guest) -> Result<()> {
    let table = guest.run("cat /proc/interrupts")?;
    let timer = table.lines().find(|line| line.contains("arch_timer")).unwrap_or_default();
    let counts: Vec<u64> = timer.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    ensure!(counts.len() == 4 && counts.iter().all(|count| *count > 0), "timers: {timer}");
    let rescheduling = table.lines().find(|line| line.trim_start().starts_with("IPI0:")).unwrap_or_default();
    let counts: Vec<u64> = rescheduling.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    ensure!(counts.len() == 4 && counts.iter().sum::<u64>() > 0, "interrupts between cores: {rescheduling}");
    Ok(())
}

fn no_fifth(guest: &mut Guest) -> Result<()> {
    let (_, status) = guest.status_of("echo 1 >/sys/devices/system/cpu/cpu2/online", HOTPLUG)?;
    ensure!(status == 0, "a core that is on cannot be asked to be on");
    ensure!(guest.run("ls -d /sys/devices/system/cpu/cpu4 2>/dev/null; true")?.is_empty(), "there is a fifth core");
    Ok(())
}
