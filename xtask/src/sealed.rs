//! Sealed disks on the host: made, looked at and checked with the same code that the secure domain runs.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use board_configs::Board;
use crypto::Suite;
use keystore::RootKey;
use volume::provision::{self, Check, Failure, Options, Report, Store, Summary};
use volume::{BLOCK_BYTES, Geometry, Superblock};

use crate::{anchor, process, progress, size};

/// The suite of a volume when none is asked for.
pub const DEFAULT_SUITE: Suite = Suite::Aria256Gcm;
/// The number of the one volume a disk has today.
const VOLUME: u32 = 1;

/// The root key that a board's device would derive: from the test value its board file states.
///
/// # Errors
/// When the board states none, as a board with fuses does.
pub fn root_key(board: &Board) -> Result<RootKey> {
    let huk = board.huk.as_ref().and_then(board_configs::Huk::bytes);
    let huk =
        huk.with_context(|| format!("board {} states no test key, so no disk can be sealed for it here", board.name))?;
    Ok(RootKey::from_huk(&huk))
}

/// Seals the plain image into a new disk file with a new anchor. `disk_bytes` is the length of the disk; without it the disk is as long as
/// the image needs.
///
/// # Errors
/// When a file cannot be read or written, or the disk would be too small for the image.
pub fn seal(plain: &Path, sealed: &Path, disk_bytes: Option<u64>, suite: Suite, board: &Board) -> Result<Summary> {
    let root = root_key(board)?;
    let mut image = FileStore::open(plain)?;
    let data_blocks = data_blocks(image.blocks(), disk_bytes)?;
    let disk_blocks = provision::disk_blocks(data_blocks).context("a volume of this size cannot be made")?;
    let beside = sealed.with_extension("new");
    let mut disk = FileStore::create(&beside, disk_bytes.unwrap_or(disk_blocks * BLOCK_BYTES as u64))?;
    let options = Options { suite, volume: VOLUME, data_blocks, salt: random_salt()? };
    let bar = progress::bytes_bar("Sealing", data_blocks * BLOCK_BYTES as u64);
    let done = provision::provision(&mut disk, &mut image, &root, &options, |done, _| {
        bar.set_position(done * BLOCK_BYTES as u64)
    });
    bar.finish_and_clear();
    let summary = done.map_err(|failure| failed(&failure))?;
    fs::rename(&beside, sealed).with_context(|| format!("{} cannot be replaced", sealed.display()))?;
    // The anchor of the disk that was there before knows nothing of this one.
    anchor::create(sealed)?;
    Ok(summary)
}

/// Seals the root filesystem, grown to fill its volume, into a new disk file of `disk_bytes`.
///
/// # Errors
/// As [`seal`].
pub fn seal_filesystem(rootfs: &Path, sealed: &Path, disk_bytes: Option<u64>, board: &Board) -> Result<Summary> {
    let blocks = FileStore::open(rootfs)?.blocks();
    let data_blocks = data_blocks(blocks, disk_bytes)?;
    if data_blocks == blocks {
        return seal(rootfs, sealed, disk_bytes, DEFAULT_SUITE, board);
    }
    let grown = sealed.with_extension("plain");
    fs::copy(rootfs, &grown).with_context(|| format!("{} cannot be written", grown.display()))?;
    grow_filesystem(&grown, data_blocks * BLOCK_BYTES as u64)?;
    let summary = seal(&grown, sealed, disk_bytes, DEFAULT_SUITE, board)?;
    fs::remove_file(&grown)?;
    Ok(summary)
}

/// Makes an ext4 image longer, file and filesystem.
///
/// # Errors
/// When the file cannot be written, or `resize2fs` fails.
pub fn grow_filesystem(image: &Path, len_bytes: u64) -> Result<()> {
    OpenOptions::new().write(true).open(image)?.set_len(len_bytes)?;
    process::capture(process::command("resize2fs").arg("-f").arg(image)).map(drop)
}

/// What a disk is, its superblocks verified with the board's key.
///
/// # Errors
/// When the file cannot be read.
pub fn inspect(disk: &Path, board: &Board) -> Result<Report> {
    let root = root_key(board)?;
    Ok(provision::inspect(&mut FileStore::open(disk)?, Some(&root))?)
}

/// The superblock of a disk that the board's secure domain would serve.
///
/// # Errors
/// One sentence about why it would not.
pub fn superblock(disk: &Path, board: &Board) -> Result<Superblock> {
    match inspect(disk, board)?.current {
        Ok((superblock, _)) => Ok(superblock),
        Err(error) => bail!("{} is not a disk that board {} can serve: {error}", disk.display(), board.name),
    }
}

/// Opens every block of a disk.
///
/// # Errors
/// When it is not a disk that can be served, or cannot be read.
pub fn check(disk: &Path, board: &Board) -> Result<Check> {
    let superblock = superblock(disk, board)?;
    let root = root_key(board)?;
    Ok(provision::check(&mut FileStore::open(disk)?, &root, &superblock, |_, _| {})?)
}

/// A suite by its name, such as `aria-256-gcm`.
///
/// # Errors
/// A sentence that lists the suites.
pub fn suite(name: &str) -> Result<Suite> {
    let found = Suite::ALL.into_iter().find(|suite| suite_name(*suite) == name);
    let names = || Suite::ALL.map(suite_name).join(", ");
    found.with_context(|| format!("there is no suite `{name}`; there are: {}", names()))
}

/// The name of a suite on the command line.
pub fn suite_name(suite: Suite) -> String {
    suite.name().to_lowercase()
}

fn data_blocks(image_blocks: u64, disk_bytes: Option<u64>) -> Result<u64> {
    let Some(disk_bytes) = disk_bytes else { return Ok(image_blocks) };
    let fits = Geometry::for_disk(disk_bytes / BLOCK_BYTES as u64).map_or(0, |geometry| geometry.data_blocks);
    if fits < image_blocks {
        let need = provision::disk_blocks(image_blocks).unwrap_or(u64::MAX).saturating_mul(BLOCK_BYTES as u64);
        let (disk, image) = (size::shown(disk_bytes), size::shown(image_blocks * BLOCK_BYTES as u64));
        bail!("a disk of {disk} is too small for an image of {image}: sealed it takes {need} bytes");
    }
    Ok(fits)
}

fn random_salt() -> Result<[u8; keystore::SALT_BYTES]> {
    let mut salt = [0; keystore::SALT_BYTES];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut salt)).context("no random numbers")?;
    Ok(salt)
}

fn failed(failure: &Failure<io::Error>) -> anyhow::Error {
    anyhow::anyhow!("the disk cannot be sealed: {failure}")
}

/// A file as blocks; bytes behind its end, inside the last block, are zeros.
pub struct FileStore {
    file: File,
    blocks: u64,
}

impl FileStore {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it is missing, empty or no file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() == 0 {
            bail!("{} is not a file with something in it", path.display());
        }
        Ok(Self { file, blocks: meta.len().div_ceil(BLOCK_BYTES as u64) })
    }

    fn create(path: &Path, len_bytes: u64) -> Result<Self> {
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = made.with_context(|| format!("{} cannot be written", path.display()))?;
        file.set_len(len_bytes)?;
        Ok(Self { file, blocks: len_bytes / BLOCK_BYTES as u64 })
    }
}

impl Store for FileStore {
    type Error = io::Error;

    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&mut self, block: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], block * BLOCK_BYTES as u64 + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        out[done..].fill(0);
        Ok(())
    }

    fn write(&mut self, block: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, block * BLOCK_BYTES as u64)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Whoever loses power while making an image makes it again; waiting for the host's disk would only cost time.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        crate::board::find(None).unwrap().1
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("haechi-sealed-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory.join(name)
    }

    #[test]
    fn small_disk_is_refused_before_it_is_written() {
        let (plain, sealed) = (scratch("small-plain"), scratch("small-sealed"));
        fs::write(&plain, [1; 1 << 20]).unwrap();
        let error = seal(&plain, &sealed, Some(1 << 20), DEFAULT_SUITE, &board()).unwrap_err().to_string();
        assert!(error.contains("too small"), "{error}");
        assert!(!sealed.exists());
    }

    #[test]
    fn foreign_disk_is_named() {
        let disk = scratch("foreign");
        fs::write(&disk, [0x5a; 1 << 16]).unwrap();
        let error = superblock(&disk, &board()).unwrap_err().to_string();
        assert!(error.contains("foreign") && error.contains("not a Haechi disk"), "{error}");
    }

    #[test]
    fn sealed_disk_opens_and_a_flipped_bit_is_found() {
        let (plain, sealed) = (scratch("plain"), scratch("sealed"));
        fs::write(&plain, b"planted pattern".repeat(10_000)).unwrap();
        let summary = seal(&plain, &sealed, Some(2 << 20), DEFAULT_SUITE, &board()).unwrap();
        assert_eq!(summary.sealed, 37);
        let mut bytes = fs::read(&sealed).unwrap();
        assert!(!bytes.windows(15).any(|window| window == b"planted pattern"));
        assert_eq!(check(&sealed, &board()).unwrap().bad, 0);
        let data = superblock(&sealed, &board()).unwrap().geometry.data_start as usize * BLOCK_BYTES;
        bytes[data + 5000] ^= 4;
        fs::write(&sealed, bytes).unwrap();
        assert_eq!(check(&sealed, &board()).unwrap().first_bad, [1]);
    }

    #[test]
    fn suites_have_names_that_are_read_back() {
        assert_eq!(suite_name(Suite::Aria256Gcm), "aria-256-gcm");
        for known in Suite::ALL {
            assert_eq!(suite(&suite_name(known)).unwrap(), known);
        }
        assert!(suite("rot13").unwrap_err().to_string().contains("seed-128-ccm"));
    }
}
