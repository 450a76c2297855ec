//! ELF to flat image: what a boot loader copies to memory, byte for byte.
use anyhow::{Context, Result, bail};
use bundle::image::ImageHeader;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// A flat image larger than this is a linker script gone wrong, not firmware.
const MAX_BYTES: u64 = 64 << 20;

/// Lays the load segments out from the lowest address on. Zero-initialised memory at the end is not part of the file,
/// but must be covered by the `image_size` of the arm64 Image header, which tells the loader how much memory to keep free.
///
/// # Errors
/// When the ELF file is damaged, or its header does not cover it.
pub fn from_elf(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<object::Endianness>::parse(elf).context("not a 64-bit ELF file")?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, elf)?.iter();
    let loaded: Vec<_> = segments.filter(|s| s.p_type(endian) == PT_LOAD && s.p_memsz(endian) > 0).collect();
    let base = loaded.iter().map(|s| s.p_paddr(endian)).min().context("the ELF file has nothing to load")?;
    let mut image = Vec::new();
    let mut memory_end = 0;
    for segment in loaded {
        let offset = segment.p_paddr(endian) - base;
        let bytes = segment.data(endian, elf).ok().context("a segment lies outside the ELF file")?;
        let end = offset.saturating_add(bytes.len() as u64);
        if end > MAX_BYTES {
            bail!("the segments span more than {} MiB", MAX_BYTES >> 20);
        }
        if image.len() < end as usize {
            image.resize(end as usize, 0);
        }
        image[offset as usize..end as usize].copy_from_slice(bytes);
        memory_end = memory_end.max(offset.saturating_add(segment.p_memsz(endian)));
    }
    let header = ImageHeader::parse(&image)?;
    if header.image_size < memory_end {
        bail!("the Image header promises {} bytes of memory but the program needs {memory_end}", header.image_size);
    }
    Ok(image)
}
