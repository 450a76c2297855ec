//! Board files that must be refused, each with the sentence that says why, and those that the project ships.

use std::{fs, path::Path};

use board_configs::{Error, directory, emit, load, named, parse};

/// What the firmware gets for QEMU `virt`: the text is checked below, the compiler checks the rest.
mod emitted {
    include!("emitted/qemu-virt.in");
}

fn qemu_virt() -> String {
    fs::read_to_string(directory().join("qemu-virt.toml")).unwrap()
}

/// The sentence with which QEMU's board file is refused after replacing `from` by `to`.
fn refusal(from: &str, to: &str) -> String {
    let text = qemu_virt();
    assert!(text.contains(from), "the test looks for {from:?}");
    let error = parse(Path::new("qemu-virt.toml"), &text.replacen(from, to, 1)).expect_err("must be refused");
    let sentence = error.to_string();
    assert!(sentence.starts_with("board file qemu-virt.toml") && !sentence.contains('\n'), "{sentence}");
    sentence
}

#[track_caller]
fn refuses(from: &str, to: &str, because: &str) {
    let sentence = refusal(from, to);
    assert!(sentence.contains(because), "{sentence}");
}

#[test]
fn a_missing_file_is_answered_with_the_boards_there_are() {
    let sentence = named("phone").unwrap_err().to_string();
    assert!(sentence.contains("phone.toml; boards there: ") && sentence.contains("qemu-virt"), "{sentence}");
    assert!(
        matches!(load(Path::new("/nowhere/x.toml")), Err(Error::Missing { available, .. }) if available.is_empty())
    );
    assert!(matches!(load(&directory()), Err(Error::Unreadable { .. })));
}

#[test]
fn refuses_what_has_not_the_form_and_names_the_line() {
    refuses("slice_us = 1000", "slice_us = 1000\nslice_ms = 1", "line 8: unknown field `slice_ms`");
    refuses("[storage]\n", "[storage]\nirq = 1\n", "unknown field `irq`");
    refuses("slice_us = 1000", "", "missing field `slice_us`");
    refuses("kind = \"pl011\"", "kind = \"16550\"", "unknown variant `16550`");
    refuses("slice_us = 1000", "slice_us = -1", "line 7: invalid value");
    refuses("[channel]", "[channel", "line");
}

#[test]
fn refuses_a_crypto_profile_that_there_is_not() {
    refuses("profile = \"open\"", "profile = \"fips\"", "unknown variant `fips`, expected `open` or `kcmvp`");
    refuses("profile = \"open\"", "", "missing field `profile`");
    refuses("[crypto]\nprofile = \"open\"", "", "missing field `crypto`");
}

#[test]
fn refuses_a_name_that_is_not_the_files() {
    refuses("name = \"qemu-virt\"", "name = \"virt\"", "name is \"virt\", but the file is called qemu-virt.toml");
}

#[test]
fn refuses_a_device_without_a_usable_name() {
    refuses("compatible = \"virtio,mmio\"", "compatible = \"\"", "storage.compatible is empty");
    refuses("compatible = \"cfi-flash\"", "compatible = \"cfi\\u00e9\"", "anchor.compatible is empty or not printable");
}

#[test]
fn refuses_sizes_that_do_not_fit() {
    refuses("0x0400_0000", "0x0410_0000", "secure_memory_bytes is 0x4100000, which is no positive multiple of 2 MiB");
    refuses("secure_memory_bytes = 0x0400_0000", "secure_memory_bytes = 0", "secure_memory_bytes");
    refuses("0x0040_0000", "0x0040_0001", "el2_heap_bytes");
    refuses("slice_us = 1000", "slice_us = 10", "slice_us is 10, which is not between 50 and 100000");
}

#[test]
fn refuses_windows_that_are_not_whole_pages() {
    refuses("base = 0x0b00_0000", "base = 0x0b00_0200", "channel.base (0xb000200");
    refuses("size = 0x0400_0000", "size = 0x0400_0001", "anchor (0x4000000, 0x4000001 bytes) is not made of whole");
    refuses("base = 0x0000_0000\nsize = 0x0400_0000", "base = 0\nsize = 0", "denied[0]");
    refuses("base = 0x0000_0000\nsize = 0x0400_0000", "base = 0\nsize = 0x7fff_ffff_ffff_f000", "overlap");
    refuses("base = 0x0a00_3e00", "base = 0x0a00_3e01", "storage.base is 0xa003e01");
    refuses("base = 0x0900_0000", "base = 0x0900_0004", "early_console.base");
}

#[test]
fn refuses_windows_that_overlap() {
    refuses("base = 0x0b00_0000", "base = 0x0a00_0000", "storage.base (0xa003000 to 0xa003fff) and channel.base");
    refuses("base = 0x0b00_0000", "base = 0x07ff_f000", "anchor (0x4000000 to 0x7ffffff) and channel.base");
    refuses("base = 0x0400_0000", "base = 0x0300_0000", "anchor (0x3000000 to 0x6ffffff) and denied[0]");
    refuses("base = 0x0a00_3e00", "base = 0x0900_0800", "early_console.base (0x9000000 to 0x9000fff) and storage.base");
}

#[test]
fn refuses_interrupts_that_are_no_spis() {
    refuses("first_intid = 224", "first_intid = 31", "channel.first_intid is 31");
    refuses("first_intid = 224", "first_intid = 1013", "do not fit into the SPIs, 32 to 1019");
    refuses("devices = 8", "devices = 9", "channel.devices is 9, which is not between 1 and 8");
    refuses("devices = 8", "devices = 0", "channel.devices is 0");
}

#[test]
fn refuses_a_key_that_is_not_said_to_be_a_test_value() {
    refuses("is_test_value = true", "is_test_value = false", "a key in a file protects nothing");
    refuses("is_test_value = true", "", "missing field `is_test_value`");
    refuses("hex = \"", "hex = \"0", "huk.hex is not 64 hexadecimal digits");
}

#[test]
fn every_board_of_the_project_is_accepted() {
    let files: Vec<_> = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for path in files {
        load(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_is_emitted_says_what_the_file_says() {
    let board = named("qemu-virt").unwrap();
    assert_eq!(emit(&board), include_str!("emitted/qemu-virt.in"), "tests/emitted/qemu-virt.in is out of date");
    let emitted = emitted::BOARD;
    assert_eq!(emitted.name, board.name);
    assert_eq!(emitted.storage.compatible, board.storage.compatible);
    assert_eq!(emitted.storage.base, board.storage.base);
    let (flash, anchor) = (emitted.anchor.unwrap(), board.anchor.unwrap());
    assert_eq!(flash.compatible, anchor.compatible);
    assert_eq!((flash.registers.base(), flash.registers.size()), (anchor.base, anchor.size));
    assert_eq!(emitted.secure_memory_bytes, board.secure_memory_bytes);
    assert_eq!(emitted.crypto_profile, board.crypto.profile.name());
    assert_eq!(emitted.test_huk, board.huk.unwrap().bytes());
    assert_eq!(emitted.denied.len(), board.denied.len());
    assert_eq!(emitted.channel.region().unwrap().size(), 8 * 4096);
}
