//! A bare-metal guest as people give it: an arm64 `Image`, or a flat binary, which is given the header of one.
//!
//! A flat binary tells nothing of itself. It goes where boot loaders put kernels before these had a header, 512 KiB behind the start of a
//! block of memory, is entered at its first byte with the device tree in `x0`, and takes what lies behind it for variables and stacks. A page
//! with a header before it says all that; its first instruction jumps over the page. (Linux, Documentation/arch/arm64/booting.rst.)
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{files, kernel, paths};

/// Where the first byte goes, from a multiple of 2 MiB on.
const PLACE: u64 = 512 << 10;
/// Bytes of the header and what fills its page.
const HEADER_PAGE: usize = 4096;
/// Memory behind the file that is kept free for it, in bytes.
const ROOM: u64 = 32 << 20;
/// More is no guest that fits the machine.
const MAX_BYTES: usize = 256 << 20;
/// `flags`: little-endian, pages of 4 KiB, its block may be anywhere in memory.
const FLAGS: u64 = 1 << 1 | 1 << 3;

/// Loads the guest and gives an arm64 `Image`.
///
/// # Errors
/// One sentence that names the file: missing, or neither an Image nor AArch64 code.
pub fn load(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("the guest {} cannot be read", path.display()))?;
    if bytes.get(56..60) == Some(b"ARM\x64") || bytes.starts_with(&[0x1f, 0x8b]) {
        return kernel::load(path);
    }
    check(&bytes).with_context(|| format!("{} is no guest that can be started", path.display()))?;
    Ok(with_header(&bytes))
}

/// The same as the file `target/haechi/guest.img`.
///
/// # Errors
/// As [`load`], and when that file cannot be written.
pub fn make(path: &Path) -> Result<PathBuf> {
    let image = paths::artefacts().join("guest.img");
    files::replace_if_changed(&image, &load(path)?)?;
    Ok(image)
}

fn check(flat: &[u8]) -> Result<()> {
    if flat.starts_with(b"\x7fELF") {
        bail!("it is an ELF file; make a flat binary of it (objcopy -O binary)");
    }
    if flat.starts_with(b"MZ") {
        bail!("it is an EFI program without the header of an arm64 Image");
    }
    if flat.len() > MAX_BYTES {
        bail!("it has more than {} MiB", MAX_BYTES >> 20);
    }
    let first = flat.first_chunk().map(|word| u32::from_le_bytes(*word));
    if !first.is_some_and(is_instruction) || flat.iter().take(64).all(u8::is_ascii) {
        bail!("it is neither an arm64 Image nor a flat binary that begins with an AArch64 instruction");
    }
    Ok(())
}

/// Whether `op0` of the word is of an instruction group (Arm DDI 0487, C4.1): 0 is reserved, 1 and 3 are unallocated, 2 is SVE, with which
/// nothing begins.
fn is_instruction(word: u32) -> bool {
    word >> 25 & 0xf > 3
}

fn with_header(flat: &[u8]) -> Vec<u8> {
    let branch = 0b101 << 26 | (HEADER_PAGE as u32 / 4);
    let mut image = vec![0; HEADER_PAGE];
    image[..4].copy_from_slice(&branch.to_le_bytes());
    let image_size = (HEADER_PAGE + flat.len()) as u64 + ROOM;
    for (at, value) in [(8, PLACE - HEADER_PAGE as u64), (16, image_size), (24, FLAGS)] {
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    image[56..60].copy_from_slice(b"ARM\x64");
    image.extend_from_slice(flat);
    image
}

#[cfg(test)]
mod tests {
    use bundle::image::ImageHeader;

    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        check(bytes).expect_err("must be refused").to_string()
    }

    #[test]
    fn refuses_what_is_no_code() {
        assert!(refusal(b"\x7fELF and more").contains("objcopy"));
        assert!(refusal(b"MZ and more").contains("EFI"));
        for other in [&b""[..], b"abc", &[0; 4096], b"#!/bin/sh\n", b"/dts-v1/;"] {
            assert!(refusal(other).contains("AArch64 instruction"), "{other:?}");
        }
    }

    #[test]
    fn a_flat_binary_lies_where_it_would_without_a_header() {
        // `adrp x4, .`, `msr daifset, #15` and `b .`.
        for first in [0x9000_0004_u32, 0xd503_4fdf, 0x1400_0000] {
            let flat = [first.to_le_bytes(), 0xd65f_03c0_u32.to_le_bytes()].concat();
            check(&flat).unwrap();
            let image = with_header(&flat);
            let header = ImageHeader::parse(&image).unwrap();
            let branch = u32::from_le_bytes(*image.first_chunk().unwrap());
            assert_eq!((branch >> 26, branch & 0x3ff_ffff), (0b101, 1024));
            assert_eq!(image[4096..], flat);
            assert_eq!(header.text_offset + 4096, 512 << 10);
            assert!(header.anywhere && header.image_size > 32 << 20);
        }
    }
}
