//! The arm64 `Image`: its header (Linux, Documentation/arch/arm64/booting.rst, section 4) and, since the file is a PE image
//! for EFI too, its section table, which tells whether the file is whole.

use core::fmt;

/// Length of the header in bytes.
pub const HEADER_LENGTH: usize = 64;
/// The image starts `text_offset` bytes behind a multiple of this.
pub const BASE_ALIGNMENT: u64 = 2 << 20;

const MAGIC: [u8; 4] = *b"ARM\x64";
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
/// `flags` bit 0: the kernel is big-endian.
const FLAG_BIG_ENDIAN: u64 = 1 << 0;
/// `flags` bit 3: the 2 MiB aligned base may be anywhere in memory.
const FLAG_ANYWHERE: u64 = 1 << 3;
/// More than any kernel has; a larger `image_size` or `text_offset` is damage.
const MAX_SIZE: u64 = 1 << 32;

/// PE/COFF: file offset of the PE header.
const PE_OFFSET: usize = 0x3C;
/// PE/COFF: length of signature and COFF header.
const COFF_LENGTH: usize = 24;
const PE_MACHINE_ARM64: u16 = 0xAA64;
const SECTION_LENGTH: usize = 40;
/// PE32+ optional header: number of data directories, and where they begin; the certificate table is number 4.
const DIRECTORY_COUNT: usize = 108;
const CERTIFICATE_DIRECTORY: usize = 112 + 4 * 8;

/// Why a file is no kernel that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not even a header.
    TooShort {
        /// Bytes that are there.
        has: usize,
    },
    /// The file is compressed with gzip.
    Gzip,
    /// The magic `ARM\x64` is not at offset 0x38.
    Magic,
    /// The kernel is big-endian.
    BigEndian,
    /// `image_size` is 0 (kernels before 3.17) or absurd; in bytes.
    ImageSize(u64),
    /// `text_offset` is absurd; in bytes.
    TextOffset(u64),
    /// The PE header does not lie in the file, or is for another machine.
    PeHeader,
    /// The file ends before something that its PE header says it holds.
    Truncated {
        /// Bytes that are there.
        has: usize,
        /// Bytes that must be there.
        needs: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::TooShort { has } => write!(f, "the kernel has {has} bytes, less than the header of an arm64 Image"),
            Error::Gzip => write!(f, "the kernel is compressed with gzip; it must be an uncompressed arm64 Image"),
            Error::Magic => write!(f, "the kernel is no arm64 Image: \"ARM\\x64\" is not at offset 0x38"),
            Error::BigEndian => write!(f, "the kernel is big-endian"),
            Error::ImageSize(size) => write!(f, "the kernel states the impossible image size of {size} bytes"),
            Error::TextOffset(offset) => write!(f, "the kernel states the impossible text offset of {offset} bytes"),
            Error::PeHeader => write!(f, "the kernel's PE header is damaged or for another machine than arm64"),
            Error::Truncated { has, needs } => {
                write!(f, "the kernel is cut short: it has {has} bytes and needs {needs}")
            }
        }
    }
}

impl core::error::Error for Error {}

/// What the header of an arm64 `Image` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Bytes from a 2 MiB aligned base to the first byte of the image.
    pub text_offset: u64,
    /// Bytes of memory that the kernel needs from its first byte on, zero-initialised data included; never 0.
    pub image_size: u64,
    /// Whether the base may be anywhere in memory, not only close to its start.
    pub anywhere: bool,
}

impl ImageHeader {
    /// Reads the header at the start of `file`.
    ///
    /// # Errors
    /// Anything that keeps the kernel from being started at EL1 in little-endian AArch64.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        if file.starts_with(&GZIP_MAGIC) {
            return Err(Error::Gzip);
        }
        let (header, _) = file.split_first_chunk::<HEADER_LENGTH>().ok_or(Error::TooShort { has: file.len() })?;
        if header[56..60] != MAGIC {
            return Err(Error::Magic);
        }
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|index| header[at + index]));
        let (text_offset, image_size, flags) = (word(8), word(16), word(24));
        if flags & FLAG_BIG_ENDIAN != 0 {
            return Err(Error::BigEndian);
        }
        if image_size == 0 || image_size > MAX_SIZE {
            return Err(Error::ImageSize(image_size));
        }
        if text_offset >= MAX_SIZE {
            return Err(Error::TextOffset(text_offset));
        }
        Ok(Self { text_offset, image_size, anywhere: flags & FLAG_ANYWHERE != 0 })
    }
}

/// Checks that `file` holds all that its PE header describes: sections, and the signature if there is one. A kernel built
/// without EFI has no PE header and passes.
///
/// # Errors
/// [`Error::Truncated`] for a cut file, [`Error::PeHeader`] for a damaged header.
#[inline(never)]
pub fn check_whole(file: &[u8]) -> Result<(), Error> {
    if !file.starts_with(b"MZ") {
        return Ok(());
    }
    let pe = u32_at(file, PE_OFFSET).ok_or(Error::PeHeader)? as usize;
    let coff = file.get(pe..).filter(|coff| coff.starts_with(b"PE\0\0")).ok_or(Error::PeHeader)?;
    if u16_at(coff, 4) != Some(PE_MACHINE_ARM64) {
        return Err(Error::PeHeader);
    }
    let sections = u16_at(coff, 6).ok_or(Error::PeHeader)?;
    let optional_length = usize::from(u16_at(coff, 20).ok_or(Error::PeHeader)?);
    let optional = coff.get(COFF_LENGTH..COFF_LENGTH + optional_length).ok_or(Error::PeHeader)?;
    let needs = sections_end(&coff[COFF_LENGTH + optional_length..], sections)?.max(certificates_end(optional));
    let has = file.len();
    if needs > has as u64 { Err(Error::Truncated { has, needs }) } else { Ok(()) }
}

/// The end of the last section's data in bytes from the start of the file.
fn sections_end(table: &[u8], count: u16) -> Result<u64, Error> {
    (0..usize::from(count)).try_fold(0, |end: u64, index| {
        let section = table.get(index * SECTION_LENGTH..(index + 1) * SECTION_LENGTH).ok_or(Error::PeHeader)?;
        let size = u32_at(section, 16).ok_or(Error::PeHeader)?;
        let offset = u32_at(section, 20).ok_or(Error::PeHeader)?;
        Ok(end.max(if size == 0 { 0 } else { u64::from(offset) + u64::from(size) }))
    })
}

/// The end of the signature in bytes from the start of the file; 0 if there is none.
fn certificates_end(optional: &[u8]) -> u64 {
    if u32_at(optional, DIRECTORY_COUNT).is_none_or(|count| count <= 4) {
        return 0;
    }
    match (u32_at(optional, CERTIFICATE_DIRECTORY), u32_at(optional, CERTIFICATE_DIRECTORY + 4)) {
        (Some(offset), Some(size)) if size > 0 => u64::from(offset) + u64::from(size),
        _ => 0,
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn header(text_offset: u64, image_size: u64, flags: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[0..2].copy_from_slice(b"MZ");
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[24..32].copy_from_slice(&flags.to_le_bytes());
        bytes[56..60].copy_from_slice(&MAGIC);
        bytes[60] = HEADER_LENGTH as u8;
        bytes
    }

    /// A file with one section of 0x1000 bytes at 0x1000 and a signature of 0x100 bytes behind it.
    fn kernel() -> Vec<u8> {
        let mut bytes = header(0, 0x4000, 0xA);
        bytes.resize(0x2100, 0);
        let optional_length = 160_u16;
        bytes[64..68].copy_from_slice(b"PE\0\0");
        bytes[68..70].copy_from_slice(&PE_MACHINE_ARM64.to_le_bytes());
        bytes[70..72].copy_from_slice(&1_u16.to_le_bytes());
        bytes[84..86].copy_from_slice(&optional_length.to_le_bytes());
        let optional = 64 + COFF_LENGTH;
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(optional + DIRECTORY_COUNT, 6);
        put(optional + CERTIFICATE_DIRECTORY, 0x2000);
        put(optional + CERTIFICATE_DIRECTORY + 4, 0x100);
        let section = optional + usize::from(optional_length);
        put(section + 16, 0x1000);
        put(section + 20, 0x1000);
        bytes
    }

    #[test]
    fn refuses_what_is_no_image() {
        assert_eq!(ImageHeader::parse(&[]), Err(Error::TooShort { has: 0 }));
        assert_eq!(ImageHeader::parse(&header(0, 1, 0)[..63]), Err(Error::TooShort { has: 63 }));
        assert_eq!(ImageHeader::parse(&[0x1F, 0x8B, 8]), Err(Error::Gzip));
        assert_eq!(ImageHeader::parse(&[0; 64]), Err(Error::Magic));
    }

    #[test]
    fn refuses_headers_that_cannot_be_true() {
        assert_eq!(ImageHeader::parse(&header(0, 0, 0)), Err(Error::ImageSize(0)));
        assert_eq!(ImageHeader::parse(&header(0, u64::MAX, 0)), Err(Error::ImageSize(u64::MAX)));
        assert_eq!(ImageHeader::parse(&header(u64::MAX, 1, 0)), Err(Error::TextOffset(u64::MAX)));
        assert_eq!(ImageHeader::parse(&header(0, 1, 1)), Err(Error::BigEndian));
    }

    #[test]
    fn refuses_a_file_cut_in_a_section_or_in_the_signature() {
        let file = kernel();
        assert_eq!(check_whole(&file[..0x1FFF]), Err(Error::Truncated { has: 0x1FFF, needs: 0x2100 }));
        assert_eq!(check_whole(&file[..0x20FF]), Err(Error::Truncated { has: 0x20FF, needs: 0x2100 }));
        assert_eq!(check_whole(&file[..100]), Err(Error::PeHeader));
    }

    #[test]
    fn refuses_a_kernel_for_another_machine() {
        let mut file = kernel();
        file[68] = 0x4C;
        assert_eq!(check_whole(&file), Err(Error::PeHeader));
    }

    #[test]
    fn a_whole_kernel_is_read() {
        let file = kernel();
        assert_eq!(check_whole(&file), Ok(()));
        let parsed = ImageHeader::parse(&file).unwrap();
        assert_eq!(parsed, ImageHeader { text_offset: 0, image_size: 0x4000, anywhere: true });
    }

    #[test]
    fn a_kernel_without_efi_has_nothing_to_check() {
        let mut file = header(0x8_0000, 1 << 20, 0);
        file[0] = 0;
        assert_eq!(check_whole(&file), Ok(()));
        assert!(!ImageHeader::parse(&file).unwrap().anywhere);
    }

    proptest! {
        #[test]
        fn damage_never_panics(changes in proptest::collection::vec((0..400_usize, any::<u8>()), 0..8), length in 0..0x2100_usize) {
            let mut file = kernel();
            for (position, value) in changes {
                file[position] = value;
            }
            file.truncate(length);
            let _ = ImageHeader::parse(&file);
            let _ = check_whole(&file);
        }
    }
}
