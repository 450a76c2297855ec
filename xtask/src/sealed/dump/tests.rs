//! A dump of a good pool says what is there, and of a bad one what is wrong; it never panics.
use std::fs;

use sim::rng::Rng;
use volume::FormatOptions;

use super::super::{DEFAULT_SUITE, root_key, seal};
use super::*;
use crate::anchor;

/// Metadata of the small disk: beyond it there is ciphertext only.
const METADATA_BLOCKS: u64 = 128;

fn root() -> RootKey {
    root_key(&crate::board::find(None).unwrap().1).unwrap()
}

/// A sealed disk of its own for a test.
fn disk(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("haechi-dump-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (plain, disk) = (directory.join(format!("{name}.plain")), directory.join(name));
    fs::write(&plain, [7; 40 * BLOCK_BYTES]).unwrap();
    let board = crate::board::find(None).unwrap().1;
    seal(&plain, &disk, Some(8 << 20), DEFAULT_SUITE, &FormatOptions::default(), &board).unwrap();
    disk
}

fn text(disk: &Path, root: Option<&RootKey>) -> String {
    dump(&[disk.to_owned()], &anchor::beside(disk), root).unwrap()
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

#[test]
fn a_good_disk_is_told_in_full() {
    let disk = disk("good");
    let text = text(&disk, Some(&root()));
    says(&text, &["this is member 0 of 1", "newest: incarnation 2", "erase secret 1", "volume 1 \"system\": Linear"]);
    says(&text, &["aria-256-gcm, key wrapped under erase secret 1", "unwraps", "40 sealed in epoch 1", "0 of earlier"]);
    says(&text, &["a mount would serve this; pool: left in order"]);
    assert!(!text.contains("not what its parent says") && !text.contains("wrong MAC"), "{text}");
}

#[test]
fn without_the_key_it_is_told_as_claims() {
    let text = text(&disk("claims"), None);
    says(&text, &["nothing below is more than a claim", "40 sealed in epoch 1", "volume 1 \"system\"", "needs key"]);
    says(&text, &["cannot be told without the device's key"]);
    assert!(!text.contains("a mount would"), "{text}");
}

#[test]
fn a_damaged_block_is_named_and_the_rest_is_told() {
    let disk = disk("damaged");
    let newest = (0..8).max_by_key(|place| {
        let block = Disk::open(&disk).unwrap().block(*place).unwrap();
        Superblock::parse_claims(&*block).map(|found| (found.superblock.incarnation, found.superblock.sequence))
    });
    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&[0xff], newest.unwrap() * BLOCK_BYTES as u64 + 100).unwrap();
    says(&text(&disk, Some(&root())), &["wrong MAC of the superblock", "; it claims incarnation 2"]);
    fs::write(anchor::beside(&disk), [0x42; 1 << 20]).unwrap();
    says(&text(&disk, Some(&root())), &["something else than an anchor", "a mount would refuse this"]);
}

#[test]
fn a_truncated_disk_says_where_it_ends() {
    let disk = disk("short");
    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    for (blocks, word) in [
        (90, "its end is missing: 90 blocks"),
        (9, "which cannot be read"),
        (2, "superblock 7: cannot be read"),
        (0, "0 blocks"),
    ] {
        file.set_len(blocks * BLOCK_BYTES as u64).unwrap();
        says(&text(&disk, Some(&root())), &[word, "a mount would refuse this"]);
        text(&disk, None);
    }
}

#[test]
fn files_of_anything_are_dumped_without_a_panic() {
    let disk = disk("anything");
    let good = fs::read(&disk).unwrap();
    let mut refused = 0;
    for seed in 0..200 {
        let (mut rng, mut bytes) = (Rng::new(seed), good.clone());
        for _ in 0..1 + rng.index(40) {
            let at = rng.index(METADATA_BLOCKS as usize * BLOCK_BYTES);
            let len = 1 + rng.index(16);
            rng.fill(&mut bytes[at..at + len]);
        }
        fs::write(&disk, bytes).unwrap();
        refused += usize::from(text(&disk, Some(&root())).contains("a mount would refuse"));
        text(&disk, None);
    }
    assert!(refused > 0, "no damage was met");
}
