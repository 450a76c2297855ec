//! Kernels as people give them: an arm64 `Image`, plain or gzip; unpacked, and checked before anything long is done.
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bundle::image::{ImageHeader, check_whole};

/// An unpacked kernel is never larger; more is a decompression bomb.
const MAX_BYTES: u64 = 512 << 20;

/// Loads a kernel and gives the plain image.
///
/// # Errors
/// One sentence that names the file: missing, of another kind, damaged or truncated.
pub fn load(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("the kernel {} cannot be read", path.display()))?;
    let checked = unpack(bytes).and_then(|image| check(&image).map(|()| image));
    checked.with_context(|| format!("{} is not a kernel that can be started", path.display()))
}

fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut image = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(bytes.as_slice()).take(MAX_BYTES + 1);
    reader.read_to_end(&mut image).context("its gzip data is truncated or damaged")?;
    if image.len() as u64 > MAX_BYTES {
        bail!("it unpacks to more than {} MiB", MAX_BYTES >> 20);
    }
    Ok(image)
}

fn check(image: &[u8]) -> Result<()> {
    if image.starts_with(b"\x7fELF") {
        bail!("it is an ELF file; give the `Image` (arch/arm64/boot/Image)");
    }
    if image.get(4..8) == Some(b"zimg") {
        bail!("it is a compressed EFI program (zboot); give the plain `Image`");
    }
    ImageHeader::parse(image)?;
    Ok(check_whole(image)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A kernel without an EFI stub.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[16..24].copy_from_slice(&4096u64.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    fn refusal(bytes: &[u8]) -> String {
        format!("{:#}", unpack(bytes.to_vec()).and_then(|image| check(&image)).unwrap_err())
    }

    #[test]
    fn refuses_other_kinds() {
        assert!(refusal(b"\x7fELF and more").contains("ELF"));
        assert!(refusal(b"MZ\0\0zimg").contains("zboot"));
        assert!(refusal(&[0; 4096]).contains("no arm64 Image"));
    }

    #[test]
    fn gzip_is_unpacked_and_its_end_noticed() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&image()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(unpack(packed.clone()).unwrap(), image());
        assert!(check(&image()).is_ok());
        assert!(refusal(&packed[..packed.len() - 9]).contains("gzip"));
    }
}
