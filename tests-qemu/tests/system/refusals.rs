//! What Haechi cannot serve: one message that names what and where, then the machine goes off; the disk is as it was.
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bundle::Kind;
use tests_qemu::guest::{Guest, STOP};
use tests_qemu::images::{BLOCK_BYTES, Images, Linux};
use tests_qemu::place::Place;
use tests_qemu::runner::{Alone, Group, alone};
use volume::record::geometry::RING_BLOCKS;
use volume::record::superblock::Superblock;
use xtask::process;
use xtask::qemu::Machine;
use xtask::sealed::Access;

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group::each("refuses_machine", machine()),
        Group::each("refuses_bundle", bundle()),
        Group::each("refuses_disk", disk()),
        Group::each("refuses_tree", tree()),
    ]
}

fn machine() -> Vec<(&'static str, Alone)> {
    vec![
        alone("with_too_little_memory", |images, place| {
            // 64 MiB of them are the secure domain's, and Linux' kernel needs room to unpack.
            refused(images, place, |machine| machine.mem_bytes = 128 << 20, &["memory"])
        }),
        alone("without_el2", |images, place| {
            refused(images, place, |machine| machine.virtualization = false, &["EL2"])
        }),
    ]
}

fn bundle() -> Vec<(&'static str, Alone)> {
    vec![
        alone("that_is_missing", |images, place| {
            refused(images, place, |machine| machine.initrd = None, &["no boot bundle", "initrd"])
        }),
        alone("that_is_truncated", |images, place| {
            let file = changed(images, place, |bytes| bytes.truncate(bytes.len() / 2))?;
            refused(images, place, |machine| machine.initrd = Some(file), &["boot bundle at", "cut short"])
        }),
        alone("that_is_none", |images, place| {
            let initrd = images.initrd.clone();
            refused(images, place, |machine| machine.initrd = Some(initrd), &["boot bundle at"])
        }),
        alone("with_a_damaged_header", |images, place| {
            let file = changed(images, place, |bytes| bytes[40] ^= 1)?;
            refused(images, place, |machine| machine.initrd = Some(file), &["boot bundle at"])
        }),
        alone("with_a_damaged_secure_domain", |images, place| {
            let file = changed(images, place, |bytes| bytes[4096 + 5000] ^= 0x20)?;
            refused(images, place, |machine| machine.initrd = Some(file), &["boot bundle at", "secure domain"])
        }),
        alone("whose_secure_domain_fails_its_integrity_test", |images, place| {
            // Packed anew, the bundle's digest is right; only the crypto engine can tell.
            let mut domain = fs::read(images.secure_domain())?;
            let name = crypto::module::NAME.as_bytes();
            let at = domain.windows(name.len()).position(|window| window == name).context("the module has its name")?;
            domain[at] ^= 1;
            let file = packed_with(place, &domain, Some(&fs::read(images.kernel(Linux::V6_1))?))?;
            refused(images, place, |machine| machine.initrd = Some(file), &["crypto module", "Integrity", "self-test"])
        }),
        alone("whose_kernel_is_no_arm64_image", |images, place| {
            let file = packed(images, place, Some(&[0x5a; 8192]))?;
            refused(images, place, |machine| machine.initrd = Some(file), &["boot bundle at", "kernel", "arm64"])
        }),
        alone("whose_kernel_is_cut", |images, place| {
            let kernel = fs::read(images.kernel(Linux::V6_1))?;
            let file = packed(images, place, Some(&kernel[..kernel.len() / 3]))?;
            refused(images, place, |machine| machine.initrd = Some(file), &["boot bundle at", "kernel"])
        }),
        alone("without_a_kernel", |images, place| {
            let file = packed(images, place, None)?;
            refused(images, place, |machine| machine.initrd = Some(file), &["boot bundle at", "kernel"])
        }),
    ]
}

fn disk() -> Vec<(&'static str, Alone)> {
    vec![
        alone("that_is_missing", |images, place| {
            let says = ["disk 0 at 0xa003e00", "empty", "no disk can be driven", "stopped"];
            refused(images, place, |machine| machine.disks.clear(), &says)
        }),
        alone("that_is_plain", |images, place| {
            let plain = place.copy(&images.small_plain, "plain.img")?;
            refused_disk(images, place, &plain, &["disk 0 is not a Haechi disk"])
        }),
        alone("that_is_empty", |images, place| {
            let empty = place.file("empty.img");
            fs::write(&empty, vec![0; 1 << 20])?;
            refused_disk(images, place, &empty, &["not a Haechi disk"])
        }),
        alone("of_one_block", |images, place| {
            let tiny = place.file("tiny.img");
            fs::write(&tiny, [0; 4096])?;
            refused_disk(images, place, &tiny, &["disk", "small"])
        }),
        alone("of_another_version", |images, place| {
            let disk = place.copy(&images.small_disk, "other.img")?;
            let file = OpenOptions::new().write(true).open(&disk)?;
            ring().try_for_each(|block| file.write_all_at(&[9, 0], block + 8))?;
            refused_disk(images, place, &disk, &["disk 0 has format version 9."])
        }),
        alone("of_the_first_format", |images, place| {
            let disk = place.file("first.img");
            let mut bytes = vec![0; 1 << 20];
            bytes[..8].copy_from_slice(b"HAECHIV0");
            fs::write(&disk, bytes)?;
            refused_disk(images, place, &disk, &["not a Haechi disk"])
        }),
        alone("with_every_superblock_damaged", |images, place| {
            let disk = place.copy(&images.small_disk, "damaged.img")?;
            ring().try_for_each(|block| flip(&disk, block + 70))?;
            refused_disk(images, place, &disk, &["disk 0", "wrong MAC of the superblock"])
        }),
        alone("that_is_smaller_than_its_volume", |images, place| {
            let disk = place.copy(&images.small_disk, "cut.img")?;
            let file = OpenOptions::new().write(true).open(&disk)?;
            file.set_len(file.metadata()?.len() - 16 * BLOCK_BYTES)?;
            refused_disk(images, place, &disk, &["too small", "blocks"])
        }),
        alone("without_its_anchor", |images, place| {
            let disk = place.copy(&images.small_disk, "alone.img")?;
            xtask::anchor::create(&disk)?;
            refused_disk(images, place, &disk, &["anchor", "belongs to another pool, or to none"])
        }),
        alone("whose_flash_holds_something_else", |images, place| {
            let disk = place.copy(&images.small_disk, "other-flash.img")?;
            fs::write(xtask::anchor::beside(&disk), vec![0x42; 64 << 20])?;
            refused_disk(images, place, &disk, &["anchor at 0x4000000", "something else than an anchor"])
        }),
        alone("that_was_rolled_back", |images, place| {
            let disk = place.copy(&images.small_disk, "old.img")?;
            let later = place.copy(&images.small_disk, "later.img")?;
            drop(xtask::sealed::mount(&later, &images.board, Access::ReadWrite)?);
            fs::rename(xtask::anchor::beside(&later), xtask::anchor::beside(&disk))?;
            refused_disk(images, place, &disk, &["rolled back", "the anchor demands"])
        }),
        alone("whose_anchor_was_rolled_back", |images, place| {
            let disk = place.copy(&images.small_disk, "new.img")?;
            let earlier = place.copy(&images.small_disk, "earlier.img")?;
            drop(xtask::sealed::mount(&disk, &images.board, Access::ReadWrite)?);
            fs::rename(xtask::anchor::beside(&earlier), xtask::anchor::beside(&disk))?;
            refused_disk(images, place, &disk, &["the anchor is older than the disk"])
        }),
        alone("of_another_device", |images, place| {
            let disk = place.copy(&images.small_disk, "foreign.img")?;
            // Another key's MAC cannot be told from a wrong one.
            ring().try_for_each(|block| flip(&disk, block + BLOCK_BYTES - 1))?;
            refused_disk(images, place, &disk, &["disk 0", "another device"])
        }),
        alone("only_if_no_superblock_is_good", one_superblock),
    ]
}

/// Where the superblocks lie, in bytes.
fn ring() -> impl Iterator<Item = u64> {
    (0..RING_BLOCKS).map(|place| place * BLOCK_BYTES)
}

/// A damaged superblock is told, and the newest one serves.
fn one_superblock(images: &Images, place: &Place) -> Result<()> {
    let disk = place.copy(&images.small_disk, "half.img")?;
    let bytes = fs::read(&disk)?;
    let sequence = |at: u64| {
        let found = Superblock::parse_claims(&bytes[at as usize..][..BLOCK_BYTES as usize]);
        found.map(|found| (found.superblock.sequence, at))
    };
    let (_, oldest) = ring().filter_map(sequence).min().context("the disk has superblocks")?;
    flip(&disk, oldest + 70)?;
    let mut guest = Guest::start(&images.machine(&disk), place.inside("boot")?)?;
    guest.expect("[haechi] general domain:", STOP).map(drop)
}

fn tree() -> Vec<(&'static str, Alone)> {
    vec![
        alone("without_a_magic", |images, place| refused_tree(images, place, |tree| tree[0] = 0, &["device tree"])),
        alone("that_is_missing", |images, place| refused_tree(images, place, |tree| tree.fill(0), &["device tree"])),
        alone("that_is_truncated", |images, place| {
            refused_tree(
                images,
                place,
                |tree| {
                    let nodes = structure(tree);
                    tree[nodes.start + nodes.len() / 2..].fill(0)
                },
                &["device tree"],
            )
        }),
        alone("that_claims_to_be_huge", |images, place| {
            refused_tree(images, place, |tree| tree[4..8].copy_from_slice(&u32::MAX.to_be_bytes()), &["device tree"])
        }),
        alone("whose_structure_lies_outside", |images, place| {
            refused_tree(
                images,
                place,
                |tree| tree[8..12].copy_from_slice(&0x00ff_fff0_u32.to_be_bytes()),
                &["device tree"],
            )
        }),
        alone("whose_memory_is_gone", |images, place| {
            refused_tree(images, place, |tree| rename(tree, b"memory\0", b"memorx\0"), &["memory"])
        }),
        alone("with_random_damage_or_serves_it", random_damage),
        alone("only_if_it_is_damaged", |images, place| {
            let mut guest = start_tree(images, place, "boot", |_| ())?;
            guest.expect("[haechi] general domain:", STOP).map(drop)
        }),
    ]
}

/// Starts the machine of the tests with a change, on a copy of the small disk named `disk.img`.
fn start(images: &Images, place: &Place, change: impl FnOnce(&mut Machine)) -> Result<Guest> {
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    change(&mut machine);
    Guest::start(&machine, place.inside("boot")?)
}

fn refused(images: &Images, place: &Place, change: impl FnOnce(&mut Machine), says: &[&str]) -> Result<()> {
    let mut guest = start(images, place, change)?;
    stops(&mut guest, says)?;
    same(&images.small_disk, &place.file("disk.img"))
}

fn refused_disk(images: &Images, place: &Place, disk: &Path, says: &[&str]) -> Result<()> {
    if !xtask::anchor::beside(disk).is_file() {
        xtask::anchor::create(disk)?;
    }
    let before = place.copy(disk, "before.img")?;
    let mut guest = Guest::start(&images.machine(disk), place.inside("boot")?)?;
    stops(&mut guest, says)?;
    same(&before, disk)
}

/// The machine goes off, and the last lines, ours, say why.
fn stops(guest: &mut Guest, says: &[&str]) -> Result<()> {
    guest.wait(STOP)?;
    let transcript = guest.transcript();
    ensure!(!transcript.is_empty(), "it ended without a word");
    let last = transcript.lines().last().unwrap_or_default();
    ensure!(last.starts_with("[haechi] stopped: "), "the last line is no reason: {last}");
    ensure!(!last.contains("defect"), "a refusal must be no defect: {last}");
    let reason = transcript.lines().rev().take(4).filter(|line| line.starts_with("[secure] ") || line == &last);
    let reason: String = reason.collect::<Vec<_>>().join("\n");
    for word in says {
        ensure!(reason.contains(word), "the reason does not name `{word}`: {reason}");
    }
    ensure!(!transcript.contains("Booting Linux"), "Linux was started all the same");
    Ok(())
}

fn same(one: &Path, other: &Path) -> Result<()> {
    ensure!(fs::read(one)? == fs::read(other)?, "the disk {} was written to", other.display());
    Ok(())
}

fn flip(file: &Path, offset: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, offset)?)
}

/// The bundle of Linux 6.1, changed.
fn changed(images: &Images, place: &Place, change: impl FnOnce(&mut Vec<u8>)) -> Result<PathBuf> {
    let mut bytes = fs::read(images.bundle(Linux::V6_1))?;
    change(&mut bytes);
    let file = place.file("changed.bundle");
    fs::write(&file, bytes)?;
    Ok(file)
}

/// A bundle whose digests fit, with this kernel.
fn packed(images: &Images, place: &Place, kernel: Option<&[u8]>) -> Result<PathBuf> {
    packed_with(place, &fs::read(images.secure_domain())?, kernel)
}

/// The same with another secure domain.
fn packed_with(place: &Place, domain: &[u8], kernel: Option<&[u8]>) -> Result<PathBuf> {
    let mut parts = vec![(Kind::SecureDomain, domain)];
    parts.extend(kernel.map(|kernel| (Kind::Kernel, kernel)));
    let file = place.file("packed.bundle");
    fs::write(&file, bundle::write(&parts)?)?;
    Ok(file)
}

// Trees. QEMU repairs or refuses what it is given with `-dtb`, so the damaged tree is put into memory beside it, and a few
// instructions in the kernel's place start Haechi with its address, as another boot loader would.

/// Where Haechi and its tree are put: behind what QEMU loads.
const ENTRY: u64 = 0x5000_0000;
const TREE: u64 = 0x5200_0000;

/// `ldr x0, tree; ldr x4, entry; mov x1, xzr; br x4; tree: .quad; entry: .quad` (Arm ARM, C6.2).
fn stub() -> Vec<u8> {
    let code: [u32; 4] = [0x5800_0080, 0x5800_00a4, 0xaa1f_03e1, 0xd61f_0080];
    let code = code.into_iter().flat_map(u32::to_le_bytes);
    code.chain([TREE, ENTRY].into_iter().flat_map(u64::to_le_bytes)).collect()
}

/// The tree that QEMU would hand over.
fn whole_tree(machine: &Machine, place: &Place) -> Result<Vec<u8>> {
    let file = place.file("whole.dtb");
    let mut machine = machine.clone();
    machine.extra.extend(["-machine".into(), format!("dumpdtb={}", file.display())]);
    process::capture(&mut machine.command())?;
    let mut tree = Vec::new();
    fs::File::open(&file).context("QEMU wrote no tree")?.read_to_end(&mut tree)?;
    Ok(tree)
}

fn start_tree(images: &Images, place: &Place, name: &str, change: impl FnOnce(&mut [u8])) -> Result<Guest> {
    let disk = place.copy(&images.small_disk, "disk.img")?;
    let mut machine = images.machine(&disk);
    let stub_file = place.file("stub.bin");
    fs::write(&stub_file, stub())?;
    machine.kernel = stub_file;
    let mut tree = whole_tree(&machine, place)?;
    change(&mut tree);
    let tree_file = place.file(&format!("{name}.dtb"));
    fs::write(&tree_file, &tree)?;
    let load = |file: &Path, address: u64| {
        ["-device".to_owned(), format!("loader,file={},addr={address:#x},force-raw=on", file.display())]
    };
    machine.extra.extend(load(&images.hypervisor(), ENTRY).into_iter().chain(load(&tree_file, TREE)));
    Guest::start(&machine, place.inside(name)?)
}

fn refused_tree(images: &Images, place: &Place, change: impl FnOnce(&mut [u8]), says: &[&str]) -> Result<()> {
    let mut guest = start_tree(images, place, "boot", change)?;
    stops(&mut guest, says)?;
    same(&images.small_disk, &place.file("disk.img"))
}

/// Where the structure block lies in a tree (Devicetree specification 0.4, section 5.2).
fn structure(tree: &[u8]) -> Range<usize> {
    let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().expect("four bytes")) as usize;
    let start = word(8);
    start..start + word(36)
}

/// Puts another name of the same length everywhere.
fn rename(tree: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    for at in 0..=tree.len() - from.len() {
        if tree[at..].starts_with(from) {
            tree[at..at + to.len()].copy_from_slice(to);
        }
    }
}

/// Some bytes of the structure block changed: a message and an end, or, where it did not matter, the general domain; no hang.
fn random_damage(images: &Images, place: &Place) -> Result<()> {
    const TREES: u64 = 24;
    for seed in 1..=TREES {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: usize| {
            // xorshift64 (Marsaglia 2003); a seed that fails repeats.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut guest = start_tree(images, place, &format!("seed-{seed}"), |tree| {
            let nodes = structure(tree);
            for _ in 0..1 << (seed % 4) {
                tree[nodes.start + random(nodes.len())] = random(256) as u8;
            }
        })?;
        let Err(seen) = guest.expect("[haechi] general domain:", Duration::from_secs(30)) else { continue };
        if let Err(error) = stops(&mut guest, &[]) {
            bail!("seed {seed}: {error:#}; {seen:#}");
        }
    }
    Ok(())
}
