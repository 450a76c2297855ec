//! The secure domain crashes and hangs under load: Linux sees nothing of it but time.
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests_qemu::guest::{BOOT, COMMAND, Guest};
use tests_qemu::runner::{Group, check};

/// The escape key, Ctrl-].
const ESCAPE: char = '\u{1d}';
/// Crashes under fio.
const CRASHES: u32 = 100;
/// What EL2 says when the next life serves.
const AGAIN: &str = "[haechi] the secure domain serves again after ";

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("a_hundred_crashes_under_fio_cost_no_request_and_no_byte", |_, guest| crashes(guest, CRASHES)),
        check("a_domain_that_hangs_is_started_again", |_, guest| hang(guest)),
        check("a_reset_of_linux_while_the_domain_is_away_is_carried_out", |_, guest| reset(guest)),
        check("a_domain_that_crashes_too_often_is_left_alone_and_linux_goes_on", |_, guest| give_up(guest)),
    ];
    vec![Group::shared("restart", |images, place| images.boot(place, |machine| machine.smp = 2), checks)]
}

/// Presses `key` and waits for the next life; the microseconds that it took.
pub(crate) fn restart(guest: &mut Guest, key: char) -> Result<u64> {
    guest.send(&format!("{ESCAPE}{key}"))?;
    guest.expect(AGAIN, BOOT)?;
    let took = guest.expect(" us, restart ", COMMAND)?;
    took.trim_end_matches(" us, restart ").parse().context("a number of microseconds")
}

/// The domain crashes `count` times under fio.
pub(crate) fn crashes(guest: &mut Guest, count: u32) -> Result<()> {
    // Writes, reads back and compares all the time, 32 requests at once, with flushes between.
    let job = "fio --name=crash --filename=/root/crash --size=8M --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=32 \
        --fsync=64 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --fallocate=none --time_based --runtime=100000";
    let writes = "awk '{ print $5 }' /sys/block/vda/stat";
    guest.run(&format!("before=$({writes}); {job} >/tmp/fio.out 2>&1 & echo started"))?;
    guest.run(&format!("until [ $({writes}) -gt $((before + 100)) ]; do sleep 0.2; done"))?;
    let mut times = Vec::new();
    for crash in 0..count {
        times.push(restart(guest, 'c').with_context(|| format!("crash {crash}"))?);
        if crash % 3 == 0 {
            // EL2 gives up a domain that answers nothing, which on a slow machine needs its time.
            guest.run("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null")?;
        }
        // Another moment of the work each time.
        std::thread::sleep(Duration::from_millis(u64::from(crash * 37 % 101)));
    }
    guest.run("kill $!; wait; true")?;
    let report = guest.run("cat /tmp/fio.out")?;
    ensure!(report.contains("err= 0"), "fio reports an error: {report}");
    ensure!(!report.contains("verify:"), "fio read what it had not written: {report}");
    let written = report.lines().find(|line| line.trim_start().starts_with("write:")).unwrap_or_default().trim();
    let errors = guest.run("dmesg | grep -ci 'i/o error'; true")?;
    ensure!(errors == "0", "Linux saw {errors} I/O errors");
    times.sort_unstable();
    let [least, median, most] = [times[0], times[times.len() / 2], times[times.len() - 1]].map(|us| us / 1000);
    println!("    {count} restarts in {least} / {median} / {most} ms, fio meanwhile: {written}");
    guest.run("rm /root/crash").map(drop)
}

pub(crate) fn hang(guest: &mut Guest) -> Result<()> {
    guest.run("dd if=/dev/urandom of=/root/hang bs=4k count=256 conv=fsync 2>/dev/null")?;
    let sum = guest.run("sha256sum /root/hang")?;
    guest.send(&format!("{ESCAPE}f"))?;
    guest.expect("[haechi] the secure domain has crashed: it hangs", BOOT)?;
    guest.expect(AGAIN, BOOT)?;
    guest.run("sync; echo 3 >/proc/sys/vm/drop_caches")?;
    ensure!(guest.run("sha256sum /root/hang")? == sum, "the file changed");
    Ok(())
}

/// Linux asks for a reset at once after the crash: the next life comes up and saves everything, and then Linux is started again.
fn reset(guest: &mut Guest) -> Result<()> {
    let before = guest.run("cat /proc/sys/kernel/random/boot_id")?;
    guest.send(&format!("{ESCAPE}c"))?;
    guest.send("reboot -f\n")?;
    guest.expect(crate::reset::AGAIN, BOOT)?;
    guest.login()?;
    ensure!(guest.run("cat /proc/sys/kernel/random/boot_id")? != before, "Linux did not boot anew");
    Ok(())
}

fn give_up(guest: &mut Guest) -> Result<()> {
    // What an answered request forgives is bounded too: Linux, which does nothing, asks for little.
    for _ in 0..50 {
        guest.send(&format!("{ESCAPE}c"))?;
        let text = guest.expect("[haechi] the secure domain ", BOOT)?;
        let rest = guest.expect("\n", COMMAND)?;
        if rest.starts_with("has crashed") {
            let next = guest.expect("[haechi] the secure domain ", BOOT)? + &guest.expect("\n", COMMAND)?;
            if next.contains("is stopped for good") {
                guest.send(&format!("{ESCAPE}s"))?;
                guest.expect("[haechi] secure domain: stopped", COMMAND)?;
                return guest.run("echo alive").map(drop);
            }
            continue;
        }
        ensure!(!text.is_empty(), "EL2 says nothing");
    }
    bail!("it is started again and again")
}
