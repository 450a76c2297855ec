//! The console: keys arrive whole, the escape key reaches EL2, and nobody's lines are torn.
use std::time::Duration;

use anyhow::{Result, ensure};
use tests_qemu::console::is_ours;
use tests_qemu::guest::{BOOT, COMMAND, Guest, PROMPT};
use tests_qemu::runner::{Group, check};

/// The escape key, Ctrl-].
const ESCAPE: char = '\u{1d}';

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        check("paste_longer_than_the_fifo_arrives_whole", |_, guest| paste(guest)),
        check("escape_key_h_prints_the_help_of_el2", |_, guest| help(guest)),
        check("escape_key_s_prints_the_status", |_, guest| status(guest)),
        check("escape_key_t_tells_the_last_exits", |_, guest| exits(guest)),
        check("escape_key_twice_is_one_for_linux", |_, guest| literal(guest)),
        check("lines_of_el2_tear_no_line_of_linux", |_, guest| untorn(guest)),
        check("lines_of_el2_and_the_secure_domain_begin_at_a_lines_start", |_, guest| prefix_at_line_start(guest)),
        check("a_defect_of_el2_is_told_by_the_next_boot", |_, guest| defect(guest)),
    ];
    vec![Group::shared("console", |images, place| images.boot(place, |_| ()), checks)]
}

fn paste(guest: &mut Guest) -> Result<()> {
    let text: String = ('a'..='z').chain('A'..='Z').cycle().take(200).collect();
    for _ in 0..5 {
        guest.send("cat >/tmp/pasted\n")?;
        guest.expect("cat >/tmp/pasted", COMMAND)?;
        // `cat` must be reading before the paste, else the shell's line editor gets it.
        std::thread::sleep(Duration::from_millis(500));
        guest.send(&format!("{text}\n\u{4}"))?;
        guest.expect(PROMPT, COMMAND)?;
        let got = guest.run("cat /tmp/pasted")?;
        ensure!(got == text, "typed {text}, arrived {got}");
    }
    Ok(())
}

fn help(guest: &mut Guest) -> Result<()> {
    guest.send(&format!("{ESCAPE}h"))?;
    guest.expect("[haechi] Ctrl-] then: h this help", COMMAND)?;
    ensure!(guest.run("echo here")? == "here", "the shell got the escape key");
    Ok(())
}

fn status(guest: &mut Guest) -> Result<()> {
    guest.send(&format!("{ESCAPE}s"))?;
    guest.expect("[haechi] secure domain: running", COMMAND)?;
    guest.expect("[haechi] virtual device 0: status 0xf", COMMAND).map(drop)
}

/// What `./x trace` reads: the last records are in order, and the key itself came by an interrupt.
fn exits(guest: &mut Guest) -> Result<()> {
    let before = guest.transcript().len();
    guest.send(&format!("{ESCAPE}t"))?;
    guest.expect("[haechi] trace 0 ", COMMAND)?;
    ensure!(guest.run("echo here")? == "here", "the shell got the escape key");
    let text = guest.transcript()[before..].to_owned();
    let told: Vec<_> = text.lines().filter_map(trace::Told::parse).collect();
    let records: Vec<_> = told.iter().flat_map(|told| told.records()).collect();
    ensure!(records.len() == 16 && records.is_sorted_by_key(|record| record.ticks), "the records are {records:?}");
    ensure!(
        records.last().is_some_and(|last| last.reason() == trace::Reason::Interrupt),
        "the last is {:?}",
        records.last()
    );
    let counted: u64 = told.iter().flat_map(|told| told.counts()).map(|(_, count)| count).sum();
    ensure!(counted > 1000, "Linux has booted with {counted} exits");
    Ok(())
}

/// The next boot tells why the one before it ended, and what its core did last; then Linux is there again.
fn defect(guest: &mut Guest) -> Result<()> {
    guest.send(&format!("{ESCAPE}p"))?;
    guest.expect("[haechi] stopped: defect in the hypervisor: ", COMMAND)?;
    guest.expect("[haechi] last stop, 1 in a row: defect in the hypervisor: ", BOOT)?;
    guest.expect("[haechi] it was preceded by", COMMAND)?;
    let told = guest.expect("[haechi] 1 core(s)", COMMAND)?;
    let records: Vec<_> = told.lines().filter_map(trace::Told::parse).flat_map(|told| told.records()).collect();
    ensure!(records.len() == 16, "the next boot tells {} records", records.len());
    guest.login()
}

fn literal(guest: &mut Guest) -> Result<()> {
    guest.send("head -c 2 | hexdump -C\n")?;
    guest.expect("hexdump -C", COMMAND)?;
    std::thread::sleep(Duration::from_millis(500));
    guest.send(&format!("{ESCAPE}{ESCAPE}\n"))?;
    guest.expect("00000000  1d 0a", COMMAND)?;
    guest.expect(PROMPT, COMMAND).map(drop)
}

/// Linux prints numbers while the operator asks for help again and again: no digit is lost, and every line of EL2 is whole.
fn untorn(guest: &mut Guest) -> Result<()> {
    let before = guest.transcript().len();
    guest.send("i=10000; while [ $i -lt 11500 ]; do echo $i; i=$((i+1)); done; echo 'do''ne'\n")?;
    for _ in 0..20 {
        guest.send(&format!("{ESCAPE}h"))?;
        std::thread::sleep(Duration::from_millis(30));
    }
    guest.expect("done\n", COMMAND)?;
    guest.expect(PROMPT, COMMAND)?;
    let text = guest.transcript()[before..].to_owned();
    let helps = text.lines().filter(|line| is_ours(line));
    let whole = "[haechi] Ctrl-] then: h this help, s status, t trace, r reset the general domain, c and f crash and freeze the secure domain, p fails, Ctrl-] sends Ctrl-]";
    let mut count = 0;
    for line in helps {
        ensure!(line == whole, "a torn line: {line}");
        count += 1;
    }
    ensure!(count == 20, "asked 20 times for help, {count} answers");
    ensure!(text.matches("[haechi]").count() == count, "an answer that does not begin its line");
    let numbers: String = text.lines().filter(|line| !is_ours(line)).flat_map(|line| line.chars()).collect();
    let expected: String = (10000..11500).map(|number| number.to_string()).collect();
    ensure!(numbers.contains(&expected), "digits of Linux were lost");
    Ok(())
}

/// Every prefix of ours stands at the start of a line, over the whole boot.
fn prefix_at_line_start(guest: &mut Guest) -> Result<()> {
    let text = guest.transcript();
    for prefix in ["[haechi] ", "[secure] "] {
        ensure!(text.contains(prefix), "nobody said `{prefix}`");
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            let line = text[..at].lines().next_back().unwrap_or_default();
            ensure!(matches!(before, None | Some('\n')), "`{prefix}` inside the line `{line}`");
        }
    }
    Ok(())
}
