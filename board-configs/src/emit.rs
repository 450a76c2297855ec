//! A board as a Rust constant.

use std::fmt::Write as _;

use crate::{Board, ConsoleKind, Pci, Storage, Transport};

/// Rust source of `pub(crate) const BOARD: machine::Board`, for a build script to write and the firmware to include.
pub fn emit(board: &Board) -> String {
    let mut text = format!("/// {}: from board-configs/boards/{}.toml.\n", one_line(&board.description), board.name);
    text.push_str("pub(crate) const BOARD: machine::Board = machine::Board {\n");
    let mut field = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {name}: {value},");
    };
    field("name", format!("{:?}", board.name));
    field("early_console", early_console(board));
    field("storage", storage(board));
    field("pool", pool(board));
    field("volumes", volumes(board));
    field("anchor", anchor(board));
    field("secure_memory_bytes", format!("{:#x}", board.secure_memory_bytes));
    field("el2_heap_bytes", format!("{:#x}", board.el2_heap_bytes));
    field("channel", channel(board));
    field("window_bytes", format!("{:?}", board.window.map(|window| window.mib << 20)));
    field("denied", denied(board));
    field("test_huk", format!("{:?}", board.huk.as_ref().and_then(crate::Huk::bytes)));
    field("crypto_profile", format!("{:?}", board.crypto.profile.name()));
    field("slice_us", board.slice_us.to_string());
    field("secure_core", format!("{:?}", board.secure_core));
    field("crash_drills", board.crash_drills.to_string());
    field("reset", format!("machine::board::Reset::{:?}", board.general.reset));
    text.push_str("};\n");
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn early_console(board: &Board) -> String {
    match &board.early_console {
        None => "None".into(),
        Some(console) => match console.kind {
            ConsoleKind::Pl011 => format!("Some(machine::board::EarlyConsole::Pl011({:#x}))", console.base),
        },
    }
}

fn storage(board: &Board) -> String {
    list(board.storage.iter().map(|it| {
        let partition = match &it.partition {
            None => "None".into(),
            Some(found) => {
                format!("Some(machine::board::Partition {{ kind: {:?}, name: {:?} }})", found.kind_bytes(), found.name)
            }
        };
        format!("machine::board::StorageController {{ at: {}, partition: {partition} }}", attachment(it))
    }))
}

/// As [`denied`]: the function is one.
fn attachment(storage: &Storage) -> String {
    match storage.function() {
        Some(function) => format!(
            "machine::board::Attachment::Function(machine::board::Function::new({}, {}).unwrap(), \
             machine::board::FunctionKind::{:?})",
            function.device(),
            function.number(),
            storage.kind
        ),
        None => format!(
            "machine::board::Attachment::Registers {{ compatible: {:?}, base: {:#x} }}",
            storage.compatible.as_deref().unwrap_or_default(),
            storage.base.unwrap_or(0)
        ),
    }
}

fn pool(board: &Board) -> String {
    let (window_ms, cache_mib, degraded) = (board.pool.bulk_window_ms(), board.pool.cache_mib, board.pool.degraded);
    format!("machine::board::Pool {{ window_ms: {window_ms:?}, cache_mib: {cache_mib}, degraded: {degraded} }}")
}

fn volumes(board: &Board) -> String {
    list(board.volumes.iter().map(|it| {
        format!(
            "machine::board::Volume {{ name: {:?}, size_mib: {}, layout: machine::board::Layout::{:?}, suite: {:?}, \
             key_generation: {} }}",
            it.name, it.size_mib, it.layout, it.suite, it.key_generation
        )
    }))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("&[{}]", items.collect::<Vec<_>>().join(", "))
}

/// As [`denied`]: the range is one.
fn anchor(board: &Board) -> String {
    match &board.anchor {
        None => "None".into(),
        Some(it) => format!(
            "Some(machine::board::AnchorFlash {{ compatible: {:?}, registers: machine::Region::new({:#x}, {:#x}).unwrap() }})",
            it.compatible, it.base, it.size
        ),
    }
}

fn channel(board: &Board) -> String {
    let channel = &board.channel;
    format!(
        "machine::board::ChannelWindow {{ base: {:#x}, first_intid: {}, devices: {}, pci: {} }}",
        channel.base,
        channel.first_intid,
        channel.devices,
        pci(board)
    )
}

/// Only where it is the transport: what the firmware does not use it need not hold.
fn pci(board: &Board) -> String {
    match &board.channel.pci {
        Some(pci) if board.channel.transport == Transport::Pci => format!(
            "Some(machine::board::PciBus {{ configuration: machine::Region::new({:#x}, {:#x}).unwrap(), \
             registers: machine::Region::new({:#x}, {:#x}).unwrap(), first_message: {}, messages: {} }})",
            pci.configuration,
            Pci::CONFIGURATION_BYTES,
            pci.registers,
            Pci::register_bytes(board.channel.devices),
            pci.first_message,
            pci.messages
        ),
        _ => "None".into(),
    }
}

/// The check has seen to it that every range is one: `unwrap` is evaluated when the firmware is compiled.
fn denied(board: &Board) -> String {
    list(board.denied.iter().map(|it| format!("machine::Region::new({:#x}, {:#x}).unwrap()", it.base, it.size)))
}
