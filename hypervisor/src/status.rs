//! What the operator sees who presses the escape key: how cores, domains and devices stand.

use core::fmt::Write;

use console::Command;

use crate::board::BOARD;
use crate::exits;
use crate::log::{Console, Voice};
use crate::secure::Drill;
use crate::system::Core;

/// Answers `command` on the console, which the caller holds.
#[cold]
#[inline(never)]
pub fn answer(core: &Core, console: &mut Console, command: Command) {
    let dropped = console.dropped();
    let mut out = Voice(console);
    // Writing to the console cannot fail.
    let _ = match command {
        Command::Help => writeln!(
            out,
            "Ctrl-] then: h this help, s status, t trace, r reset the general domain, c and f crash and freeze the secure domain, p fails, Ctrl-] sends Ctrl-]"
        ),
        Command::Status => status(core, dropped, &mut out),
        Command::Crash => demand(core, &mut out, Drill::Crash),
        Command::Freeze => demand(core, &mut out, Drill::Hang),
        Command::Trace => exits::tell(&mut out),
        Command::Panic => fail(&mut out),
        Command::Reset => reset(core),
    };
}

/// Breaks the secure domain on purpose, where the board file allows it.
fn demand(core: &Core, out: &mut Voice<'_>, drill: Drill) -> core::fmt::Result {
    if !BOARD.crash_drills {
        return no_drills(out);
    }
    core.system.secure_state.demand(drill);
    crate::exclusive::ring(core);
    Ok(())
}

/// Breaks the hypervisor on purpose, where the board file allows it.
fn fail(out: &mut Voice<'_>) -> core::fmt::Result {
    if BOARD.crash_drills {
        panic!("a drill");
    }
    no_drills(out)
}

/// Not here: the console is held. The IPI that this core gives itself comes when it is not.
fn reset(core: &Core) -> core::fmt::Result {
    core.system.reset.demand();
    core.interrupts.send_sgi(crate::irq::KICK, core.index);
    Ok(())
}

fn no_drills(out: &mut Voice<'_>) -> core::fmt::Result {
    writeln!(out, "this board allows no drills (`crash_drills` of its board file)")
}

fn status(core: &Core, dropped: u64, out: &mut Voice<'_>) -> core::fmt::Result {
    let system = core.system;
    let secure = &system.secure_state;
    writeln!(out, "core {} of {} answers", core.index, system.cores)?;
    let (restarts, longest_us) = secure.lives.count();
    writeln!(
        out,
        "secure domain: {}{}, events {:#x}, {restarts} restarts, the longest took {longest_us} us",
        if secure.is_stopped() { "stopped" } else { "running" },
        if crate::exclusive::IS_THERE { " on a core of its own" } else { "" },
        system.shared.events.load(core::sync::atomic::Ordering::Relaxed)
    )?;
    let (resets, longest_us) = system.reset.count();
    writeln!(out, "general domain: {resets} resets, the longest took {longest_us} us")?;
    for (index, view) in system.shared.devices.iter().enumerate() {
        let status = view.status.load(core::sync::atomic::Ordering::Relaxed);
        if status != 0 {
            writeln!(out, "virtual device {index}: status {status:#x}")?;
        }
    }
    if let Some(dma) = &system.dma {
        writeln!(out, "system MMU: {} notices", dma.notices())?;
    }
    if crate::pci::IS_THERE {
        writeln!(out, "PCI: {} message(s) went nowhere", system.pci.dropped())?;
    }
    if dropped != 0 {
        writeln!(out, "console: {dropped} line(s) of the secure domain were left out")?;
    }
    Ok(())
}
