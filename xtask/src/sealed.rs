//! Sealed disks on the host: made, looked at and checked with the same engine that the secure domain runs.
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::slice;

use anyhow::{Context, Result, anyhow, bail, ensure};
use block::gpt::{self, Guid, Selector};
use board_configs::{Board, Partition};
use crypto::{Suite, host, module::Profile};
use keystore::RootKey;
use volume::record::geometry::{Geometry, RING_BLOCKS};
use volume::record::superblock;
use volume::{BLOCK_BYTES, Command, FormatOptions, Layout, Name, Recovery};

use crate::{anchor, process, progress, size};

pub mod dump;
mod file_disk;
mod file_flash;
mod host_pool;

use file_disk::FileDisk;
use host_pool::Member;
pub use host_pool::{Access, HostPool};

/// The suite of a volume when none is asked for.
pub const DEFAULT_SUITE: Suite = Suite::Aria256Gcm;
/// The name of the volume that a disk is made with.
pub const VOLUME: &str = "system";

/// What sealing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Blocks that were sealed.
    pub sealed: u64,
    /// Blocks that were left unwritten, because there are only zeros around them.
    pub zero: u64,
}

/// What checking found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Blocks that are what was sealed, or were never written.
    pub good: u64,
    /// Blocks that are not.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Vec<u64>,
}

/// Bad blocks that a [`Check`] names.
const NAMED: usize = 8;

/// The root key that a board's device would derive: from the test value its board file states.
///
/// # Errors
/// When the board states none, as a board with fuses does.
pub fn root_key(board: &Board) -> Result<RootKey> {
    let huk = board.huk.as_ref().and_then(board_configs::Huk::bytes);
    let huk =
        huk.with_context(|| format!("board {} states no test key, so no disk can be sealed for it here", board.name))?;
    let profile = Profile::named(board.crypto.profile.name()).context("the engine has no such profile")?;
    Ok(RootKey::from_huk(host::module_in(profile), &huk)?)
}

/// Makes a new disk file of `disk_bytes` with a new anchor, and on it the empty volume [`VOLUME`], as large as it can be.
///
/// # Errors
/// When a file cannot be written, or the disk would be too small.
pub fn create(disk: &Path, disk_bytes: u64, suite: Suite, format: &FormatOptions, board: &Board) -> Result<Summary> {
    let (_, volume_blocks) = layout(1, Some(disk_bytes))?;
    let disk = disk.to_owned();
    make(&New::on_one(&disk, disk_bytes, volume_blocks, suite, format), board, |_, _| Ok(()))?;
    Ok(Summary { sealed: 0, zero: volume_blocks })
}

/// Seals the plain image into the volume [`VOLUME`] of a new disk file with a new anchor. `disk_bytes` is the length of the disk; without
/// it the disk is as long as the image needs.
///
/// # Errors
/// When a file cannot be read or written, or the disk would be too small for the image.
pub fn seal(
    plain: &Path,
    disk: &Path,
    disk_bytes: Option<u64>,
    suite: Suite,
    format: &FormatOptions,
    board: &Board,
) -> Result<Summary> {
    let image = Plain::open(plain)?;
    ensure!(
        ![disk, &anchor::beside(disk)].iter().any(|file| same(plain, file)),
        "{} cannot be sealed into itself",
        plain.display()
    );
    let (disk_blocks, volume_blocks) = layout(image.blocks, disk_bytes)?;
    let bar = progress::bytes_bar("Sealing", image.blocks * BLOCK_BYTES as u64);
    let mut summary = Summary { sealed: 0, zero: 0 };
    let disk_bytes = disk_bytes.unwrap_or(disk_blocks * BLOCK_BYTES as u64);
    let disk = disk.to_owned();
    make(&New::on_one(&disk, disk_bytes, volume_blocks, suite, format), board, |pool, volume| {
        let progress = |done| bar.set_position(done * BLOCK_BYTES as u64);
        summary.sealed = pool.write(volume, image.blocks, |block, out| image.read(block, out), progress)?;
        summary.zero = image.blocks - summary.sealed;
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(summary)
}

/// What a new pool is to be.
struct New<'a> {
    disks: &'a [PathBuf],
    disk_bytes: u64,
    volume_blocks: u64,
    layout: Layout,
    suite: Suite,
    format: &'a FormatOptions,
}

impl<'a> New<'a> {
    fn on_one(disk: &'a PathBuf, disk_bytes: u64, volume_blocks: u64, suite: Suite, format: &'a FormatOptions) -> Self {
        Self { disks: slice::from_ref(disk), disk_bytes, volume_blocks, layout: Layout::Linear, suite, format }
    }
}

/// Makes disks beside those that are there, lets `fill` write the volume [`VOLUME`] on them, and puts all files in place. Of what could not
/// be made nothing is left.
fn make(new: &New<'_>, board: &Board, fill: impl FnOnce(&mut HostPool, u32) -> Result<()>) -> Result<()> {
    for disk in new.disks {
        ensure!(!disk.is_dir(), "{} is a directory", disk.display());
    }
    let beside: Vec<_> = new.disks.iter().map(|disk| disk.with_extension("new")).collect();
    make_beside(new, &beside, board, fill).inspect_err(|_| {
        // What is not there was not made.
        let files = beside.iter().cloned().chain([anchor::beside(&beside[0])]);
        files.for_each(|file| drop(fs::remove_file(file)));
    })
}

fn make_beside(
    new: &New<'_>,
    beside: &[PathBuf],
    board: &Board,
    fill: impl FnOnce(&mut HostPool, u32) -> Result<()>,
) -> Result<()> {
    let root = root_key(board)?;
    let flash = anchor::create(&beside[0])?;
    let mut members = Vec::with_capacity(beside.len());
    for (file, storage) in beside.iter().zip(&board.storage) {
        members.push(member(FileDisk::create(file, new.disk_bytes)?, storage.partition.as_ref())?);
    }
    let mut pool = HostPool::format(members, &flash, &root, new.format)?;
    let name = Name::new(VOLUME).context("the name is one")?;
    pool.command(Command::Create { name, layout: new.layout, blocks: new.volume_blocks, suite: new.suite })?;
    let volume = pool.volume(VOLUME)?.number;
    fill(&mut pool, volume)?;
    pool.close()?;
    for (beside, disk) in beside.iter().zip(new.disks) {
        fs::rename(beside, disk).with_context(|| format!("{} cannot be replaced", disk.display()))?;
    }
    fs::rename(&flash, anchor::beside(&new.disks[0])).with_context(|| format!("{} cannot be renamed", flash.display()))
}

/// A member of a pool: a partition of a disk, or all of it.
fn member(disk: FileDisk, partition: Option<&Partition>) -> Result<Member> {
    let selector = partition.map(|it| Selector { kind: it.kind_bytes().map(Guid), name: it.name.as_deref() });
    gpt::open(disk, selector.as_ref(), || true).map_err(|error| anyhow!("{error}"))
}

/// Seals the root filesystem, grown to fill its volume, into a new disk file of `disk_bytes`.
///
/// # Errors
/// As [`seal`].
pub fn seal_filesystem(rootfs: &Path, sealed: &Path, disk_bytes: Option<u64>, board: &Board) -> Result<Summary> {
    let blocks = Plain::open(rootfs)?.blocks;
    let (_, volume_blocks) = layout(blocks, disk_bytes)?;
    if volume_blocks == blocks {
        return seal(rootfs, sealed, disk_bytes, DEFAULT_SUITE, &FormatOptions::default(), board);
    }
    let grown = sealed.with_extension("plain");
    fs::copy(rootfs, &grown).with_context(|| format!("{} cannot be written", grown.display()))?;
    grow_filesystem(&grown, volume_blocks * BLOCK_BYTES as u64)?;
    let summary = seal(&grown, sealed, disk_bytes, DEFAULT_SUITE, &FormatOptions::default(), board)?;
    fs::remove_file(&grown)?;
    Ok(summary)
}

/// Seals the root filesystem into the volume [`VOLUME`] as the board wants it, on new disk files: each large enough for all volumes
/// that the board wants, or of `disk_bytes`.
///
/// # Errors
/// As [`seal`].
pub fn seal_system(rootfs: &Path, disks: &[PathBuf], disk_bytes: Option<u64>, board: &Board) -> Result<Summary> {
    let image = Plain::open(rootfs)?;
    let wanted = board.volumes.iter().find(|volume| volume.name == VOLUME);
    let volume_blocks = wanted.map_or(0, |volume| volume.size_mib << 8).max(image.blocks);
    let others: u64 = board.volumes.iter().filter(|it| it.name != VOLUME).map(|it| it.size_mib << 8).sum();
    let need = disk_blocks(volume_blocks + others).context("there is no disk large enough for this board's volumes")?;
    let new = New {
        disks,
        disk_bytes: disk_bytes.unwrap_or(need * BLOCK_BYTES as u64),
        volume_blocks,
        layout: wanted.map_or(Layout::Linear, |volume| layout_of(volume.layout, disks.len())),
        suite: wanted.map_or(Ok(DEFAULT_SUITE), |volume| suite(&volume.suite))?,
        format: &FormatOptions::default(),
    };
    let mut sealed = 0;
    make(&new, board, |pool, volume| {
        sealed = pool.write(volume, image.blocks, |block, out| image.read(block, out), |_| ())?;
        Ok(())
    })?;
    Ok(Summary { sealed, zero: volume_blocks - sealed })
}

/// A layout of a board file, on so many disks.
fn layout_of(layout: board_configs::Layout, disks: usize) -> Layout {
    match layout {
        board_configs::Layout::Linear => Layout::Linear,
        board_configs::Layout::Striped => Layout::Striped(disks as u8),
        board_configs::Layout::Mirrored => Layout::Mirrored,
    }
}

/// Makes an ext4 image longer, file and filesystem.
///
/// # Errors
/// When the file cannot be written, or `resize2fs` fails.
pub fn grow_filesystem(image: &Path, len_bytes: u64) -> Result<()> {
    OpenOptions::new().write(true).open(image)?.set_len(len_bytes)?;
    process::capture(process::command("resize2fs").arg("-f").arg(image)).map(drop)
}

/// Mounts a pool of one disk with the anchor beside it.
///
/// # Errors
/// As [`mount_all`].
pub fn mount(disk: &Path, board: &Board, access: Access) -> Result<(HostPool, Recovery)> {
    mount_all(&[disk.to_owned()], board, access)
}

/// Mounts the pool on `disks`, which are the board's in its order, with the anchor beside the first.
///
/// # Errors
/// One sentence about why the board's secure domain would not.
pub fn mount_all(disks: &[PathBuf], board: &Board, access: Access) -> Result<(HostPool, Recovery)> {
    let root = root_key(board)?;
    let (count, names) =
        (board.storage.len(), || disks.iter().map(|disk| disk.display().to_string()).collect::<Vec<_>>().join(" and "));
    ensure!((1..=count).contains(&disks.len()), "board {} has {count} disk(s), not {}", board.name, disks.len());
    let flash = anchor::beside(&disks[0]);
    let mount = || {
        let mut members = Vec::with_capacity(disks.len());
        for (disk, storage) in disks.iter().zip(&board.storage) {
            let partition = storage.partition.as_ref();
            let ours = partition.is_some() || claims_to_be_ours(disk)?;
            ensure!(ours, "{} is not a Haechi disk: no superblock", disk.display());
            members.push(member(FileDisk::open(disk, access == Access::ReadWrite)?, partition)?);
        }
        ensure!(flash.is_file(), "its anchor {} is missing", flash.display());
        HostPool::mount(members, &flash, &root, access, board.pool.degraded)
    };
    mount().with_context(|| format!("board {} cannot serve {}", board.name, names()))
}

/// The block of the disk that holds a block of the volume [`VOLUME`].
///
/// # Errors
/// When the disk cannot be served, or the block was never written.
pub fn locate(disk: &Path, block: u64, board: &Board) -> Result<u64> {
    let (pool, _) = mount(disk, board, Access::ReadOnly)?;
    let place = pool.pool().locate(pool.volume(VOLUME)?.number, block, 0);
    place.map(|(_, block)| block).with_context(|| format!("block {block} of the volume was never written"))
}

/// Whether both names are of one file.
fn same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Writes the plain contents of a volume into a file, without writing to the disk.
///
/// # Errors
/// When the disk cannot be served, has no such volume, or a block of it is not what was sealed.
pub fn unseal(disks: &[PathBuf], plain: &Path, volume: &str, board: &Board) -> Result<()> {
    let own = disks.iter().cloned().chain(disks.first().map(|disk| anchor::beside(disk)));
    for file in own {
        ensure!(
            !same(plain, &file),
            "{} belongs to the pool, so a volume of it cannot be written there",
            plain.display()
        );
    }
    let (mut pool, _) = mount_all(disks, board, Access::ReadOnly)?;
    let volume = pool.volume(volume)?;
    let file = File::create(plain).with_context(|| format!("{} cannot be written", plain.display()))?;
    file.set_len(volume.blocks * BLOCK_BYTES as u64)?;
    let mut failed = None;
    pool.read(volume.number, volume.blocks, |block, bytes| match bytes {
        Some(bytes) if bytes.iter().all(|byte| *byte == 0) => {}
        Some(bytes) => {
            let written = file.write_all_at(bytes, block * BLOCK_BYTES as u64);
            failed = failed.take().or(written.err().map(|error| error.to_string()));
        }
        None => failed = failed.take().or(Some(format!("block {block} is not what was sealed"))),
    })?;
    failed.map_or(Ok(()), |why| bail!("{why}"))
}

/// Whether a superblock begins where one may, believed or not.
fn claims_to_be_ours(disk: &Path) -> Result<bool> {
    let mut ring = Vec::new();
    let file = File::open(disk).with_context(|| format!("{} cannot be read", disk.display()))?;
    file.take(RING_BLOCKS * BLOCK_BYTES as u64).read_to_end(&mut ring)?;
    Ok(ring.chunks(BLOCK_BYTES).any(|block| block.starts_with(&superblock::MAGIC)))
}

/// Opens every block of every volume of a disk, without writing to it.
///
/// # Errors
/// When it is not a disk that can be served.
pub fn check(disk: &Path, board: &Board) -> Result<Check> {
    check_all(&[disk.to_owned()], board)
}

/// As [`check`], of a pool of these disks.
///
/// # Errors
/// As [`check`].
pub fn check_all(disks: &[PathBuf], board: &Board) -> Result<Check> {
    let (mut pool, _) = mount_all(disks, board, Access::ReadOnly)?;
    let mut found = Check::default();
    for volume in pool.pool().volumes().collect::<Vec<_>>() {
        pool.read(volume.number, volume.blocks, |block, bytes| match bytes {
            Some(_) => found.good += 1,
            None => {
                found.bad += 1;
                if found.first_bad.len() < NAMED {
                    found.first_bad.push(block);
                }
            }
        })?;
    }
    Ok(found)
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

/// Blocks of the disk and of its one volume, for an image of so many blocks.
fn layout(image_blocks: u64, disk_bytes: Option<u64>) -> Result<(u64, u64)> {
    let need = disk_blocks(image_blocks).context("there is no disk large enough for this image")?;
    let Some(disk_bytes) = disk_bytes else { return Ok((need, image_blocks)) };
    let blocks = disk_bytes / BLOCK_BYTES as u64;
    let volume_blocks = geometry(blocks).map_or(0, |geometry| geometry.data_blocks());
    if volume_blocks < image_blocks {
        let (disk, image) = (size::shown(disk_bytes), size::shown(image_blocks * BLOCK_BYTES as u64));
        bail!(
            "a disk of {disk} is too small for an image of {image}: sealed it takes {} bytes",
            need * BLOCK_BYTES as u64
        );
    }
    Ok((blocks, volume_blocks))
}

/// The layout of a pool of one disk.
fn geometry(blocks: u64) -> Option<Geometry> {
    Geometry::for_member(0, blocks, Geometry::default_log_blocks(blocks))
}

/// The fewest blocks of a disk that has room for a volume of so many. The metadata of an extent is less than a fiftieth of it.
fn disk_blocks(volume_blocks: u64) -> Option<u64> {
    let fits = |blocks: u64| geometry(blocks).is_some_and(|geometry| geometry.data_blocks() >= volume_blocks);
    let (mut below, mut enough) = (volume_blocks, volume_blocks.checked_add(volume_blocks / 20 + (8 << 10))?);
    if !fits(enough) {
        return None;
    }
    while enough - below > 1 {
        let middle = below + (enough - below) / 2;
        if fits(middle) { enough = middle } else { below = middle }
    }
    Some(enough)
}

/// A plain image; bytes behind its end, inside the last block, are zeros.
struct Plain {
    file: File,
    blocks: u64,
}

impl Plain {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() == 0 {
            bail!("{} is not a file with something in it", path.display());
        }
        Ok(Self { file, blocks: meta.len().div_ceil(BLOCK_BYTES as u64) })
    }

    /// Reads blocks; whether they hold anything but zeros.
    fn read(&self, block: u64, out: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], block * BLOCK_BYTES as u64 + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        out[done..].fill(0);
        Ok(out.iter().any(|byte| *byte != 0))
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
        let error = seal(&plain, &sealed, Some(1 << 20), DEFAULT_SUITE, &FormatOptions::default(), &board())
            .unwrap_err()
            .to_string();
        assert!(error.contains("too small"), "{error}");
        assert!(!sealed.exists());
    }

    #[test]
    fn no_file_is_read_and_written_at_once() {
        let (plain, disk) = (scratch("own-plain"), scratch("own"));
        fs::write(&plain, [1; 1 << 16]).unwrap();
        let sealed = |plain, disk| seal(plain, disk, None, DEFAULT_SUITE, &FormatOptions::default(), &board());
        assert!(format!("{:#}", sealed(&plain, &plain).unwrap_err()).contains("sealed into itself"));
        assert_eq!(fs::read(&plain).unwrap(), [1; 1 << 16]);
        sealed(&plain, &disk).unwrap();
        let link = scratch("own-link");
        fs::hard_link(&disk, &link).unwrap();
        for target in [&disk, &link, &anchor::beside(&disk)] {
            let error = unseal(slice::from_ref(&disk), target, VOLUME, &board()).unwrap_err();
            assert!(format!("{error:#}").contains("belongs to the pool"), "{error:#}");
        }
        assert_eq!(check(&disk, &board()).unwrap().bad, 0);
    }

    #[test]
    fn a_disk_that_cannot_be_made_leaves_nothing() {
        let (disk, directory) = (scratch("vast"), scratch("directory"));
        fs::create_dir_all(&directory).unwrap();
        let created = |disk: &Path, bytes| create(disk, bytes, DEFAULT_SUITE, &FormatOptions::default(), &board());
        let error = format!("{:#}", created(&disk, u64::MAX >> 1).unwrap_err());
        assert!(error.contains("vast.new") && error.contains("bytes long"), "{error}");
        let error = format!("{:#}", created(&directory, 8 << 20).unwrap_err());
        assert!(error.contains("is a directory"), "{error}");
        for left in
            [disk.with_extension("new"), anchor::beside(&disk.with_extension("new")), directory.with_extension("new")]
        {
            assert!(!left.exists(), "{} is left", left.display());
        }
    }

    #[test]
    fn foreign_disk_is_named() {
        let disk = scratch("foreign");
        fs::write(&disk, [0x5a; 1 << 16]).unwrap();
        anchor::create(&disk).unwrap();
        let error = format!("{:#}", mount(&disk, &board(), Access::ReadOnly).err().unwrap());
        assert!(error.contains("foreign") && error.contains("not a Haechi disk"), "{error}");
    }

    #[test]
    fn a_board_in_the_kcmvp_profile_refuses_aes() {
        let (plain, disk, open) = (scratch("kcmvp-plain"), scratch("kcmvp"), board());
        let crypto = board_configs::Crypto { profile: board_configs::Profile::Kcmvp };
        let kcmvp = Board { crypto, ..open.clone() };
        fs::write(&plain, [1; 1 << 16]).unwrap();
        let sealed = |suite, board| seal(&plain, &disk, None, suite, &FormatOptions::default(), board);
        let error = format!("{:#}", sealed(Suite::Aes256Gcm, &kcmvp).unwrap_err());
        assert!(error.contains("the profile of the crypto module does not list the suite"), "{error}");
        sealed(Suite::Aes256Gcm, &open).unwrap();
        let error = format!("{:#}", mount(&disk, &kcmvp, Access::ReadOnly).err().unwrap());
        assert!(error.contains("volume 1 is sealed with AES-256-GCM, which the profile"), "{error}");
        sealed(DEFAULT_SUITE, &kcmvp).unwrap();
        assert_eq!(check(&disk, &kcmvp).unwrap().bad, 0);
    }

    #[test]
    fn missing_anchor_is_named() {
        let disk = scratch("alone");
        fs::write(&disk, [0; 1 << 16]).unwrap();
        fs::write(scratch("alone-plain"), [1; 1 << 16]).unwrap();
        let error = format!("{:#}", mount(&disk, &board(), Access::ReadOnly).err().unwrap());
        assert!(error.contains("not a Haechi disk"), "{error}");
        seal(&scratch("alone-plain"), &disk, None, DEFAULT_SUITE, &FormatOptions::default(), &board()).unwrap();
        fs::remove_file(anchor::beside(&disk)).unwrap();
        let error = format!("{:#}", mount(&disk, &board(), Access::ReadOnly).err().unwrap());
        assert!(error.contains("alone.anchor") && error.contains("missing"), "{error}");
    }

    #[test]
    fn sealed_disk_opens_and_a_flipped_bit_is_found() {
        let (plain, sealed) = (scratch("plain"), scratch("sealed"));
        fs::write(&plain, b"planted pattern".repeat(10_000)).unwrap();
        let summary = seal(&plain, &sealed, Some(8 << 20), DEFAULT_SUITE, &FormatOptions::default(), &board()).unwrap();
        assert_eq!((summary.sealed, summary.zero), (37, 0));
        let mut bytes = fs::read(&sealed).unwrap();
        assert!(!bytes.windows(15).any(|window| window == b"planted pattern"));
        assert_eq!(check(&sealed, &board()).unwrap().bad, 0);
        let data = geometry(bytes.len() as u64 / BLOCK_BYTES as u64).unwrap().data_start as usize * BLOCK_BYTES;
        bytes[data + 5000] ^= 4;
        fs::write(&sealed, bytes).unwrap();
        assert_eq!(check(&sealed, &board()).unwrap().first_bad, [1]);
    }

    #[test]
    fn a_disk_is_no_longer_than_its_volume_needs() {
        for blocks in [1, 1024, 1025, 65_536, 1 << 20] {
            let need = disk_blocks(blocks).unwrap();
            assert!(geometry(need).unwrap().data_blocks() >= blocks);
            assert!(geometry(need - 1).is_none_or(|geometry| geometry.data_blocks() < blocks));
        }
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
