//! What must hold in a board file beyond its form.

mod storage;
mod volumes;

use std::ops::Range;

use crate::{Board, Pci, Storage, Transport};

pub use volumes::SUITES;

const PAGE: u64 = 4096;
const BLOCK: u64 = 2 << 20;
/// SPIs (Arm IHI 0069, section 2.2).
const SPIS: Range<u64> = 32..1020;
/// Virtual devices of the contract between EL2 and the secure domain.
const MAX_DEVICES: u32 = 8;
const MESSAGES: std::ops::RangeInclusive<u32> = 1..=256;
const WINDOW_MIB: std::ops::RangeInclusive<u64> = 2..=1024;
/// The first core is the one that boots; EL2 drives eight.
const SECURE_CORES: std::ops::RangeInclusive<u32> = 1..=7;
const SLICE_US: std::ops::RangeInclusive<u32> = 50..=100_000;

/// Checks `board`, whose file is called `stem`; the error is one sentence.
pub(crate) fn check(stem: &str, board: &Board) -> Result<(), String> {
    check_names(stem, board)?;
    check_sizes(board)?;
    check_core(board)?;
    check_channel(board)?;
    check_window(board)?;
    check_huk(board)?;
    check_drills(board)?;
    storage::check(board)?;
    volumes::check(board)?;
    check_windows(board)
}

fn check_names(stem: &str, board: &Board) -> Result<(), String> {
    if board.name != stem {
        return Err(format!("name is \"{}\", but the file is called {stem}.toml", board.name));
    }
    if !board.name.chars().all(is_printable) {
        return Err("name takes printable ASCII only".into());
    }
    board.anchor.as_ref().map_or(Ok(()), |anchor| check_text("anchor.compatible", &anchor.compatible))
}

fn is_printable(letter: char) -> bool {
    letter.is_ascii_graphic() || letter == ' '
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || !text.chars().all(is_printable) {
        return Err(format!("{field} is empty or not printable ASCII"));
    }
    Ok(())
}

fn check_sizes(board: &Board) -> Result<(), String> {
    let sizes = [
        ("secure_memory_bytes", board.secure_memory_bytes, BLOCK, "2 MiB"),
        ("el2_heap_bytes", board.el2_heap_bytes, PAGE, "4 KiB"),
    ];
    for (field, size, unit, name) in sizes {
        if size == 0 || !size.is_multiple_of(unit) {
            return Err(format!("{field} is {size:#x}, which is no positive multiple of {name}"));
        }
    }
    if !SLICE_US.contains(&board.slice_us) {
        let (least, most) = (SLICE_US.start(), SLICE_US.end());
        return Err(format!("slice_us is {}, which is not between {least} and {most}", board.slice_us));
    }
    Ok(())
}

fn check_core(board: &Board) -> Result<(), String> {
    match board.secure_core {
        Some(core) if !SECURE_CORES.contains(&core) => {
            let (least, most) = (SECURE_CORES.start(), SECURE_CORES.end());
            Err(format!("secure_core is {core}, which is not between {least} and {most}: core 0 boots"))
        }
        _ => Ok(()),
    }
}

/// Who can crash a part of the system at will must not do so on a product.
fn check_drills(board: &Board) -> Result<(), String> {
    if board.crash_drills && board.huk.is_none() {
        return Err("crash_drills is for test boards, and this one has no test key [huk]".into());
    }
    Ok(())
}

fn check_channel(board: &Board) -> Result<(), String> {
    let channel = &board.channel;
    if channel.devices == 0 || channel.devices > MAX_DEVICES {
        return Err(format!("channel.devices is {}, which is not between 1 and {MAX_DEVICES}", channel.devices));
    }
    let intids = u64::from(channel.first_intid)..u64::from(channel.first_intid) + u64::from(channel.devices);
    if intids.start < SPIS.start || intids.end > SPIS.end {
        return Err(format!(
            "channel.first_intid is {}: {} devices do not fit into the SPIs, {} to {}",
            channel.first_intid,
            channel.devices,
            SPIS.start,
            SPIS.end - 1
        ));
    }
    match (&channel.pci, channel.transport) {
        (None, Transport::Pci) => Err("channel.transport is \"pci\", and there is no [channel.pci]".into()),
        (Some(pci), _) => check_pci(pci, channel.devices, &intids),
        (None, Transport::Mmio) => Ok(()),
    }
}

fn check_pci(pci: &Pci, devices: u32, lines: &Range<u64>) -> Result<(), String> {
    let messages = u64::from(pci.first_message)..u64::from(pci.first_message) + u64::from(pci.messages);
    if !MESSAGES.contains(&pci.messages) || messages.start < SPIS.start || messages.end > SPIS.end {
        let (least, most) = (MESSAGES.start(), MESSAGES.end());
        return Err(format!(
            "channel.pci.messages is {} from {}: {least} to {most} are taken, within the SPIs",
            pci.messages, pci.first_message
        ));
    }
    if messages.start < lines.end && lines.start < messages.end {
        return Err("channel.pci.first_message: the messages overlap the devices' interrupts".into());
    }
    let bytes = Pci::register_bytes(devices);
    if !pci.registers.is_multiple_of(1 << 14) || pci.registers > (1 << 32) - bytes {
        return Err(format!(
            "channel.pci.registers is {:#x}, which is no multiple of 16 KiB, or not below 4 GiB",
            pci.registers
        ));
    }
    Ok(())
}

fn check_window(board: &Board) -> Result<(), String> {
    match board.window {
        Some(window) if !WINDOW_MIB.contains(&window.mib) || window.mib % 2 != 0 => {
            let (least, most) = (WINDOW_MIB.start(), WINDOW_MIB.end());
            Err(format!("window.mib is {}, which is no even number between {least} and {most}", window.mib))
        }
        _ => Ok(()),
    }
}

fn check_huk(board: &Board) -> Result<(), String> {
    let Some(huk) = &board.huk else { return Ok(()) };
    if !huk.is_test_value {
        return Err("huk.is_test_value must be true: a key in a file protects nothing".into());
    }
    if huk.bytes().is_none() {
        return Err("huk.hex is not 64 hexadecimal digits".into());
    }
    Ok(())
}

/// A range of addresses with the field that states it.
struct Window {
    field: String,
    range: Range<u64>,
}

fn check_windows(board: &Board) -> Result<(), String> {
    let windows = windows(board)?;
    for (index, window) in windows.iter().enumerate() {
        for earlier in &windows[..index] {
            if window.range.start < earlier.range.end && earlier.range.start < window.range.end {
                return Err(format!(
                    "{} ({:#x} to {:#x}) and {} ({:#x} to {:#x}) overlap",
                    earlier.field,
                    earlier.range.start,
                    earlier.range.end - 1,
                    window.field,
                    window.range.start,
                    window.range.end - 1
                ));
            }
        }
    }
    Ok(())
}

/// Every window in whole pages.
fn windows(board: &Board) -> Result<Vec<Window>, String> {
    let mut windows = Vec::new();
    if let Some(console) = &board.early_console {
        windows.push(window("early_console.base".into(), console.base, PAGE)?);
    }
    for (index, storage) in board.storage.iter().enumerate() {
        let page_of = |storage: &Storage| storage.base.map(|base| base & !(PAGE - 1));
        // Two controllers may share a page.
        if let Some(page) = page_of(storage)
            && !board.storage[..index].iter().any(|earlier| page_of(earlier) == Some(page))
        {
            windows.push(window(format!("storage[{index}].base"), page, PAGE)?);
        }
    }
    if let Some(anchor) = &board.anchor {
        windows.push(window("anchor".into(), anchor.base, anchor.size)?);
    }
    windows.push(window("channel.base".into(), board.channel.base, u64::from(board.channel.devices) * PAGE)?);
    if let Some(pci) = &board.channel.pci {
        windows.push(window("channel.pci.configuration".into(), pci.configuration, Pci::CONFIGURATION_BYTES)?);
        let bytes = Pci::register_bytes(board.channel.devices);
        windows.push(window("channel.pci.registers".into(), pci.registers, bytes)?);
    }
    for (index, denied) in board.denied.iter().enumerate() {
        windows.push(window(format!("denied[{index}]"), denied.base, denied.size)?);
    }
    Ok(windows)
}

fn window(field: String, base: u64, size: u64) -> Result<Window, String> {
    if !base.is_multiple_of(PAGE) || !size.is_multiple_of(PAGE) || size == 0 {
        return Err(format!("{field} ({base:#x}, {size:#x} bytes) is not made of whole 4 KiB pages"));
    }
    match base.checked_add(size) {
        Some(end) => Ok(Window { field, range: base..end }),
        None => Err(format!("{field} ({base:#x}, {size:#x} bytes) leaves the address space")),
    }
}
