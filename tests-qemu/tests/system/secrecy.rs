//! The physical disk tells nothing: neither what Linux wrote nor what the image held.
use std::fs::File;
use std::io::Read;

use anyhow::{Result, ensure};
use tests_qemu::images::Images;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};

/// Written many times into a file, at every alignment.
const MARKER: &str = "HAECHI-MARKER-7f";
/// What every root filesystem of ours holds in clear: parts of files, a name in a directory, the filesystem's label.
const KNOWN: [&str; 5] =
    ["block 03 of the victim", "busybox init. The console", "/lib/ld-linux-aarch64.so.1", "lost+found", "haechi-root"];
/// Bytes that are searched at once.
const PIECE: usize = 1 << 20;

pub(crate) fn groups() -> Vec<Group> {
    vec![Group::each("secrecy", vec![alone("raw_disk_holds_no_plaintext", raw_disk_holds_no_plaintext)])]
}

fn raw_disk_holds_no_plaintext(images: &Images, place: &Place) -> Result<()> {
    let mut guest = images.boot(place.inside("boot")?, |_| ())?;
    guest.run(&format!("i=0; while [ $i -lt 64 ]; do echo -n {MARKER}; i=$((i+1)); done >/root/planted"))?;
    // Also where no filesystem shifts it: the file as one run of blocks.
    guest.run("for i in 1 2 3 4 5 6 7 8; do cat /root/planted /root/planted; done >/root/planted8; sync")?;
    let size = guest.run("wc -c </root/planted8; grep -c HAECHI-MARKER /root/planted")?;
    ensure!(size == "16384\n1", "the marker was not planted: {size}");
    let disk = guest.place.file("disk.img");
    guest.power_off()?;

    let mut patterns: Vec<&[u8]> = KNOWN.iter().map(|text| text.as_bytes()).collect();
    patterns.push(MARKER.as_bytes());
    let plain = search(&images.plain, &patterns)?;
    ensure!(plain.len() == KNOWN.len(), "the search finds only {plain:?} in the plain image, so it proves nothing");
    let found = search(&disk, &patterns)?;
    ensure!(found.is_empty(), "the raw disk holds {found:?}");
    no_superblock(images, &disk)
}

/// ext4's magic (0xef53 at byte 1080 of the volume) must not stand where the volume begins on the disk, nor at the disk's start.
fn no_superblock(images: &Images, disk: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let first = xtask::sealed::locate(disk, 0, &images.board)?;
    let file = File::open(disk)?;
    for start in [0, first * 4096] {
        let mut magic = [0; 2];
        file.read_exact_at(&mut magic, start + 1080)?;
        ensure!(magic != [0x53, 0xef], "an ext4 superblock stands at {start}");
    }
    Ok(())
}

/// The patterns that stand in the file, each once.
fn search(file: &std::path::Path, patterns: &[&[u8]]) -> Result<Vec<String>> {
    let longest = patterns.iter().map(|pattern| pattern.len()).max().unwrap_or(1);
    let mut file = File::open(file)?;
    let mut buffer = vec![0; PIECE + longest];
    let (mut kept, mut found) = (0, Vec::new());
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(found);
        }
        let text = &buffer[..kept + read];
        if text.iter().any(|byte| *byte != 0) {
            for pattern in patterns.iter().filter(|pattern| contains(text, pattern)) {
                let name = String::from_utf8_lossy(pattern).into_owned();
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        let end = kept + read;
        kept = longest.min(end);
        buffer.copy_within(end - kept..end, 0);
    }
}

fn contains(text: &[u8], pattern: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == pattern[0]) {
        if rest[at..].starts_with(pattern) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
