//! The file behind QEMU's second flash bank, in which a disk's development anchor lies.
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Length of the bank; QEMU takes no other.
const BANK_BYTES: u64 = 64 << 20;
/// What the anchor uses, two sectors, and what must be erased in a new one. The rest of the file is a hole.
const ERASED_BYTES: usize = 512 << 10;

/// The anchor's file of a disk: `DISK.anchor`.
pub fn beside(disk: &Path) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(".anchor");
    name.into()
}

/// Makes a new anchor for a disk, in place of the one that is there.
///
/// # Errors
/// When the file cannot be written.
pub fn create(disk: &Path) -> Result<PathBuf> {
    let path = beside(disk);
    let new = path.with_extension("anchor-new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&vec![0xff; ERASED_BYTES])?;
        file.set_len(BANK_BYTES)?;
        fs::rename(&new, &path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_anchor_is_blank() {
        let disk = std::env::temp_dir().join(format!("haechi-anchor-{}.img", std::process::id()));
        let path = create(&disk).unwrap();
        assert_eq!(path.extension().unwrap(), "anchor");
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, BANK_BYTES);
        assert!(bytes[..ERASED_BYTES].iter().all(|&byte| byte == 0xff));
        bytes[0] = 0x42;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(fs::read(create(&disk).unwrap()).unwrap()[0], 0xff);
        fs::remove_file(path).unwrap();
    }
}
