//! The step after linking: the MAC by which the crypto engine checks its own image at the start.
use anyhow::{Context, Result, ensure};
use crypto::{DIGEST_LEN, selftest};
use object::{Object, ObjectSymbol};

/// Where `hypervisor/aarch64/image.ld` keeps the MAC: behind everything that it covers.
const MAC: &str = "_integrity_mac";

/// Writes the MAC of code and constants into the flat image made of `elf`, which is linked at 0. The words that the image relocates
/// at its start are zeros in it.
///
/// # Errors
/// When the ELF file does not say where, or it lies outside the image.
pub fn write(elf: &[u8], image: &mut [u8]) -> Result<()> {
    let file = object::File::parse(elf)?;
    let symbol = file.symbol_by_name(MAC).with_context(|| format!("it has no symbol {MAC}"))?;
    let at = usize::try_from(symbol.address())?;
    ensure!(at + DIGEST_LEN <= image.len(), "its MAC at {at:#x} lies outside the image");
    let value = selftest::integrity_mac(&[&image[..at]]);
    image[at..at + DIGEST_LEN].copy_from_slice(&value);
    Ok(())
}
