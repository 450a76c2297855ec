//! Board files that must be refused, each with the sentence that says why, and those that the project ships.

use std::{fs, path::Path};

use board_configs::{Board, Error, Layout, Partition, Profile, SUITES, directory, emit, load, load_with, named, parse};

use machine::board::{Attachment, Function, FunctionKind};

/// What the firmware gets for QEMU `virt`: the text is checked below, the compiler checks the rest.
mod emitted {
    include!("emitted/qemu-virt.in");

    pub(crate) mod pair {
        include!("emitted/qemu-virt-pair.in");
    }

    pub(crate) mod pcie {
        include!("emitted/qemu-virt-pcie.in");
    }
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
    refuses("[[storage]]\n", "[[storage]]\nirq = 1\n", "unknown field `irq`");
    refuses("slice_us = 1000", "", "missing field `slice_us`");
    refuses("kind = \"pl011\"", "kind = \"16550\"", "unknown variant `16550`");
    refuses("slice_us = 1000", "slice_us = -1", "line 7: invalid value");
    refuses("[channel]", "[channel", "line");
}

#[test]
fn refuses_a_reset_that_there_is_not() {
    refuses(
        "[channel]",
        "[general]\nreset = \"warm\"\n[channel]",
        "unknown variant `warm`, expected `domain` or `machine`",
    );
    refuses("[channel]", "[general]\nrestart = \"domain\"\n[channel]", "unknown field `restart`");
}

#[test]
fn refuses_to_give_the_core_that_boots_away_or_one_that_el2_does_not_drive() {
    for core in ["0", "8"] {
        let because = format!("secure_core is {core}, which is not between 1 and 7: core 0 boots");
        refuses("slice_us = 1000", &format!("slice_us = 1000\nsecure_core = {core}"), &because);
    }
    refuses("slice_us = 1000", "slice_us = 1000\nsecure_core = \"last\"", "line 8: invalid type");
}

#[test]
fn a_core_of_the_secure_domains_own_is_emitted() {
    let text = emit(&named("qemu-virt-core").unwrap());
    assert!(text.contains("    secure_core: Some(1),\n"), "{text}");
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
    refuses("compatible = \"virtio,mmio\"", "compatible = \"\"", "storage[0].compatible is empty");
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
    refuses("base = 0x0a00_3e00", "base = 0x0a00_3e01", "storage[0].base is 0xa003e01");
    refuses("base = 0x0900_0000", "base = 0x0900_0004", "early_console.base");
}

#[test]
fn refuses_windows_that_overlap() {
    refuses("base = 0x0b00_0000", "base = 0x0a00_0000", "storage[0].base (0xa003000 to 0xa003fff) and channel.base");
    refuses("base = 0x0b00_0000", "base = 0x07ff_f000", "anchor (0x4000000 to 0x7ffffff) and channel.base");
    refuses("base = 0x0400_0000", "base = 0x0300_0000", "anchor (0x3000000 to 0x6ffffff) and denied[0]");
    refuses(
        "base = 0x0a00_3e00",
        "base = 0x0900_0800",
        "early_console.base (0x9000000 to 0x9000fff) and storage[0].base",
    );
}

#[test]
fn refuses_interrupts_that_are_no_spis() {
    refuses("first_intid = 224", "first_intid = 31", "channel.first_intid is 31");
    refuses("first_intid = 224", "first_intid = 1013", "do not fit into the SPIs, 32 to 1019");
    refuses("devices = 8", "devices = 9", "channel.devices is 9, which is not between 1 and 8");
    refuses("devices = 8", "devices = 0", "channel.devices is 0");
}

#[test]
fn refuses_a_bus_that_does_not_fit() {
    refuses("[channel.pci]", "[channel.bus]", "unknown field `bus`");
    refuses("devices = 8\n", "devices = 8\ntransport = \"usb\"\n", "unknown variant `usb`");
    let bus =
        "\n[channel.pci]\nconfiguration = 0x0b10_0000\nregisters = 0x0b20_0000\nfirst_message = 232\nmessages = 56\n";
    refuses(bus, "\ntransport = \"pci\"\n", "channel.transport is \"pci\", and there is no [channel.pci]");
    refuses("messages = 56", "messages = 0", "channel.pci.messages is 0 from 232: 1 to 256 are taken");
    refuses("messages = 56", "messages = 257", "channel.pci.messages is 257");
    refuses("first_message = 232", "first_message = 1000", "channel.pci.messages is 56 from 1000");
    refuses("first_message = 232", "first_message = 231", "the messages overlap the devices' interrupts");
    refuses("registers = 0x0b20_0000", "registers = 0x0b20_1000", "no multiple of 16 KiB");
    refuses("registers = 0x0b20_0000", "registers = 0xffff_0000", "not below 4 GiB");
    refuses("registers = 0x0b20_0000", "registers = 0x0b1f_c000", "channel.pci.configuration (0xb100000 to 0xb1fffff)");
    refuses("configuration = 0x0b10_0000", "configuration = 0x0b00_0000", "channel.base (0xb000000 to 0xb007fff) and");
}

#[test]
fn another_transport_than_the_file_says_can_be_named() {
    let file = directory().join("qemu-virt.toml");
    assert!(emit(&load_with(&file, None).unwrap()).contains("pci: None }"));
    let text = emit(&load_with(&file, Some("pci")).unwrap());
    assert!(
        text.contains("pci: Some(machine::board::PciBus { configuration: machine::Region::new(0xb100000, 0x100000)")
    );
    assert!(
        text.contains(
            "registers: machine::Region::new(0xb200000, 0x20000).unwrap(), first_message: 232, messages: 56 }"
        )
    );
    let error = load_with(&file, Some("usb")).unwrap_err().to_string();
    assert!(error.contains("there is no transport `usb`: mmio or pci"), "{error}");
}

#[test]
fn refuses_a_key_that_is_not_said_to_be_a_test_value() {
    refuses("is_test_value = true", "is_test_value = false", "a key in a file protects nothing");
    refuses("is_test_value = true", "", "missing field `is_test_value`");
    refuses("hex = \"", "hex = \"0", "huk.hex is not 64 hexadecimal digits");
}

#[test]
fn refuses_drills_on_a_board_that_has_no_test_key() {
    let text = qemu_virt();
    let (before, key) = text.split_at(text.find("[huk]").unwrap());
    let without = format!("{before}{}", key.find("\n[").map_or("", |end| &key[end..]));
    let sentence = parse(Path::new("qemu-virt.toml"), &without).unwrap_err().to_string();
    assert!(sentence.ends_with("crash_drills is for test boards, and this one has no test key [huk]"), "{sentence}");
    assert!(
        !parse(Path::new("qemu-virt.toml"), &without.replacen("crash_drills = true\n", "", 1)).unwrap().crash_drills
    );
}

/// A second `[[storage]]`, to be put before the first.
fn second(fields: &str) -> String {
    format!("[[storage]]\ncompatible = \"virtio,mmio\"\n{fields}\n\n[[storage]]\n")
}

#[test]
fn refuses_disks_that_a_pool_cannot_have() {
    refuses("[[storage]]\n", &second("base = 0x0a00_3e00"), "storage[0].base and storage[1].base are both 0xa003e00");
    let disks: String =
        (1..5).map(|index| second(&format!("base = 0x0a00_{index}000")).replace("\n\n[[storage]]", "")).collect();
    refuses("[[storage]]\n", &format!("{disks}[[storage]]\n"), "5 times, which is not between 1 and 4");
    let text = qemu_virt();
    let disk = &text[text.find("[[storage]]").unwrap()..text.find("[anchor]").unwrap()];
    refuses(disk, "", "missing field `storage`");
    let none = text.replacen(disk, "", 1).replacen("slice_us", "storage = []\nslice_us", 1);
    let sentence = parse(Path::new("qemu-virt.toml"), &none).unwrap_err().to_string();
    assert!(sentence.ends_with("[[storage]] stands there 0 times, which is not between 1 and 4"), "{sentence}");
}

#[test]
fn refuses_partitions_that_cannot_be_found() {
    let refuses = |partition: &str, because| {
        refuses("base = 0x0a00_3e00", &format!("base = 0x0a00_3e00\npartition = {{ {partition} }}"), because)
    };
    refuses("", "storage[0].partition has neither a type nor a name");
    refuses("number = 1", "unknown field `number`");
    refuses("name = \"\"", "storage[0].partition.name is empty");
    refuses("name = \"a name that takes more than thirty-six\"", "has 38 letters, more than 36");
    for wrong in ["", "fe20907b", "fe20907bxc4a0-42e6-aa46-77976e8f4fcc", "ge20907b-c4a0-42e6-aa46-77976e8f4fcc"] {
        refuses(&format!("type = \"{wrong}\""), "which is no GUID of a partition");
    }
    refuses("type = \"00000000-0000-0000-0000-000000000000\"", "which is no GUID of a partition");
}

#[test]
fn a_type_is_turned_into_the_bytes_of_the_table() {
    let kind = Some("fe20907b-c4a0-42e6-aa46-77976e8f4fcc".to_owned());
    let bytes = Partition { kind, name: None }.kind_bytes();
    // UEFI 2.10, appendix A: the first three fields are little-endian.
    let expected = [0x7b, 0x90, 0x20, 0xfe, 0xa0, 0xc4, 0xe6, 0x42, 0xaa, 0x46, 0x77, 0x97, 0x6e, 0x8f, 0x4f, 0xcc];
    assert_eq!(bytes, Some(expected));
}

#[test]
fn refuses_a_pool_that_cannot_be_mounted() {
    let refuses = |pool: &str, because| refuses("[anchor]", &format!("[pool]\n{pool}\n\n[anchor]"), because);
    refuses("policy = \"lazy\"", "unknown variant `lazy`");
    refuses("window = 1", "unknown field `window`");
    refuses("window_ms = 1000", "pool.window_ms has no meaning with policy \"strict\"");
    refuses("policy = \"bulk\"\nwindow_ms = 99", "pool.window_ms is 99, which is not between 100 and 3600000");
    refuses("cache_mib = 3", "pool.cache_mib is 3, which is not between 4 and 1024");
    refuses("cache_mib = 32", "pool.cache_mib is 32, which needs 92 MiB of secure_memory_bytes, and that is 64 MiB");
}

/// A volume that is right.
const VOLUME: &str = "[[volume]]\nname = \"data\"\nsize_mib = 64\nsuite = \"seed-128-gcm\"\n";

#[test]
fn refuses_volumes_that_cannot_be() {
    let refuses = |from: &str, to: &str, because| {
        let volume = VOLUME.replacen(from, to, 1);
        assert_ne!(volume, VOLUME);
        refuses("[anchor]", &format!("{volume}\n[anchor]"), because);
    };
    refuses("\"data\"", "\"\"", "volume[0].name is empty");
    refuses("\"data\"", &format!("\"{}\"", "n".repeat(64)), "volume[0].name has 64 bytes, more than 63");
    refuses("= 64", "= 0", "volume[0].size_mib is 0, which is not between 1 and 134217728");
    refuses("seed-128-gcm", "seed-256-gcm", "volume[0].suite is \"seed-256-gcm\"; there are: aria-128-gcm, ");
    refuses("size_mib = 64", "size_mib = 64\nkey_generation = 0", "volume[0].key_generation is 0");
    refuses("size_mib = 64", "size_mib = 64\nkey_generation = 65536", "invalid value");
    refuses("size_mib = 64", "size_mib = 64\nlayout = \"raid\"", "unknown variant `raid`");
    refuses("size_mib = 64", "size_mib = 64\nlayout = \"mirrored\"", "volume[0].layout needs two disks or more");
    refuses("[[volume]]", &format!("{VOLUME}\n[[volume]]"), "volume[0].name and volume[1].name are both \"data\"");
    refuses("[[volume]]", "[[volume]]\ndelete = true", "unknown field `delete`");
}

/// QEMU's board file in the approved profile, with a volume in `suite`.
fn in_kcmvp(suite: &str) -> Result<Board, Error> {
    let volume = VOLUME.replacen("seed-128-gcm", suite, 1);
    let text = qemu_virt().replacen("[anchor]", &format!("{volume}\n[anchor]"), 1);
    parse(Path::new("qemu-virt.toml"), &text.replacen("profile = \"open\"", "profile = \"kcmvp\"", 1))
}

#[test]
fn refuses_volumes_outside_the_approved_profile() {
    for suite in SUITES.into_iter().filter(|suite| suite.starts_with("aes-")) {
        let sentence = in_kcmvp(suite).unwrap_err().to_string();
        let says = format!("volume[0].suite is \"{suite}\", which crypto.profile \"kcmvp\" does not list");
        assert_eq!(sentence, format!("board file qemu-virt.toml: {says}"));
    }
    // XTS and short tags have no name in a board file, whatever the profile.
    for suite in ["aria-256-xts", "aes-256-xts", "aria-256-gcm-96", "aria-256-ccm-8"] {
        let sentence = in_kcmvp(suite).unwrap_err().to_string();
        assert!(sentence.contains(&format!("volume[0].suite is \"{suite}\"; there are: ")), "{sentence}");
    }
    assert_eq!(in_kcmvp("aria-256-ccm").unwrap().crypto.profile, Profile::Kcmvp);
}

#[test]
fn suites_and_profiles_are_those_of_the_crypto_engine() {
    let theirs = crypto::Suite::ALL.map(|suite| suite.name().to_lowercase());
    assert_eq!(SUITES.map(str::to_owned), theirs);
    for profile in [Profile::Open, Profile::Kcmvp] {
        let module = crypto::module::Profile::named(profile.name()).expect("the engine has the profile");
        for (name, suite) in SUITES.into_iter().zip(crypto::Suite::ALL) {
            assert_eq!(profile.lists(name), module.lists(suite.algorithm()), "{name} {module}");
        }
    }
}

#[test]
fn refuses_more_volumes_than_devices() {
    let volumes: String = (0..9).map(|index| VOLUME.replace("data", &format!("data {index}"))).collect();
    refuses("[anchor]", &format!("{volumes}\n[anchor]"), "[[volume]] stands there 9 times, and channel.devices is 8");
}

#[test]
fn what_is_not_stated_is_strict_linear_and_of_the_first_generation() {
    let text = qemu_virt().replacen("[anchor]", &format!("{VOLUME}\n[anchor]"), 1);
    let board = parse(Path::new("qemu-virt.toml"), &text).unwrap();
    assert_eq!((board.pool.bulk_window_ms(), board.pool.cache_mib, board.pool.degraded), (None, 16, false));
    assert_eq!((board.volumes[0].layout, board.volumes[0].key_generation), (Layout::Linear, 1));
    let bulk = |pool| parse(Path::new("qemu-virt.toml"), &qemu_virt().replacen("[anchor]", pool, 1)).unwrap().pool;
    assert_eq!(bulk("[pool]\npolicy = \"bulk\"\n[anchor]").bulk_window_ms(), Some(60_000));
    assert_eq!(bulk("[pool]\npolicy = \"bulk\"\nwindow_ms = 500\n[anchor]").bulk_window_ms(), Some(500));
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
fn a_window_that_no_memory_has_is_refused() {
    for mib in ["0", "3", "2048"] {
        let window = format!("[window]\nmib = {mib}\n\n[huk]");
        refuses("[huk]", &window, &format!("window.mib is {mib}, which is no even number between 2 and 1024"));
    }
}

#[test]
fn a_window_is_emitted_in_bytes() {
    let text = emit(&named("qemu-virt-window").unwrap());
    assert!(text.contains("    window_bytes: Some(67108864),\n"), "{text}");
}

#[test]
fn what_is_emitted_says_what_the_file_says() {
    let board = named("qemu-virt").unwrap();
    assert_eq!(emit(&board), include_str!("emitted/qemu-virt.in"), "tests/emitted/qemu-virt.in is out of date");
    let emitted = emitted::BOARD;
    assert_eq!(emitted.name, board.name);
    assert_eq!(emitted.storage.len(), 1);
    assert_eq!(emitted.storage[0].at, Attachment::Registers { compatible: "virtio,mmio", base: 0x0a00_3e00 });
    assert_eq!((emitted.storage[0].partition, board.storage[0].base), (None, Some(0x0a00_3e00)));
    assert_eq!((emitted.pool.window_ms, emitted.pool.cache_mib), (None, board.pool.cache_mib));
    assert!(emitted.volumes.is_empty());
    let (flash, anchor) = (emitted.anchor.unwrap(), board.anchor.unwrap());
    assert_eq!(flash.compatible, anchor.compatible);
    assert_eq!((flash.registers.base(), flash.registers.size()), (anchor.base, anchor.size));
    assert_eq!(emitted.secure_memory_bytes, board.secure_memory_bytes);
    assert_eq!(emitted.crypto_profile, board.crypto.profile.name());
    assert_eq!(emitted.test_huk, board.huk.unwrap().bytes());
    assert_eq!(emitted.denied.len(), board.denied.len());
    assert_eq!(emitted.channel.region().unwrap().size(), 8 * 4096);
}

#[test]
fn refuses_a_disk_that_is_in_two_places_or_none() {
    let both = "storage[0] needs either compatible and base, or pci";
    refuses("base = 0x0a00_3e00\n", "", both);
    refuses("compatible = \"virtio,mmio\"\n", "", both);
    refuses("base = 0x0a00_3e00\n", "base = 0x0a00_3e00\npci = \"00:03.0\"\n", both);
    let mmio = "compatible = \"virtio,mmio\"\nbase = 0x0a00_3e00\n";
    refuses(mmio, "", both);
    for pci in ["00:20.0", "01:00.0", "3.0", ""] {
        let because = format!("storage[0].pci is \"{pci}\", which is no function of bus 0");
        refuses(mmio, &format!("pci = \"{pci}\"\n"), &because);
    }
    let unknown = "pci = \"00:03.0\"\nkind = \"nvm\"\n";
    refuses(mmio, unknown, "unknown variant `nvm`");
    refuses(mmio, &format!("{mmio}kind = \"nvme\"\n"), "storage[0].kind is about a PCI function, and there is no pci");
    let two = "pci = \"00:03.0\"\n\n[[storage]]\npci = \"00:03.0\"\n";
    refuses(mmio, two, "storage[0].pci and storage[1].pci are both \"00:03.0\"");
}

#[test]
fn what_is_emitted_of_a_pci_disk_says_what_the_file_says() {
    let board = named("qemu-virt-pcie").unwrap();
    let text = include_str!("emitted/qemu-virt-pcie.in");
    assert_eq!(emit(&board), text, "tests/emitted/qemu-virt-pcie.in is out of date");
    let disk = Function::new(3, 0).unwrap();
    assert_eq!(emitted::pcie::BOARD.storage[0].at, Attachment::Function(disk, FunctionKind::VirtioBlk));
    assert_eq!(emitted::pcie::BOARD.functions().collect::<Vec<_>>(), [disk]);
}

#[test]
fn the_boards_with_a_pci_disk_differ_in_its_kind_alone() {
    let nvme = named("qemu-virt-nvme").unwrap();
    let virtio = emit(&named("qemu-virt-pcie").unwrap());
    let place = |text: &str| text[text.find("early_console").unwrap()..].to_owned();
    assert_eq!(place(&emit(&nvme)), place(&virtio).replace("FunctionKind::VirtioBlk", "FunctionKind::Nvme"));
}

#[test]
fn what_is_emitted_of_disks_and_volumes_says_what_the_file_says() {
    let board = named("qemu-virt-pair").unwrap();
    assert_eq!(
        emit(&board),
        include_str!("emitted/qemu-virt-pair.in"),
        "tests/emitted/qemu-virt-pair.in is out of date"
    );
    let emitted = emitted::pair::BOARD;
    let registers = |base| Attachment::Registers { compatible: "virtio,mmio", base };
    assert_eq!(emitted.storage.iter().map(|it| it.at).collect::<Vec<_>>(), [0x0a00_3e00, 0x0a00_3c00].map(registers));
    assert_eq!(emitted.volumes.len(), board.volumes.len());
    for (emitted, board) in emitted.volumes.iter().zip(&board.volumes) {
        assert_eq!((emitted.name, emitted.size_mib), (board.name.as_str(), board.size_mib));
        assert_eq!(emitted.layout.name(), format!("{:?}", board.layout).to_lowercase());
        assert_eq!((emitted.suite, emitted.key_generation), (board.suite.as_str(), board.key_generation));
    }
}
