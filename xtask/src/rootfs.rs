//! The guest's root filesystem: chosen programs of Debian packages with the libraries they load, busybox for all else.
//!
//! Whole packages would do, but fio alone depends on 200 MB (Python, Perl, storage clusters). So the programs of a list
//! are followed through their `DT_NEEDED` entries, and only what they load is taken. The tree becomes ext4 through
//! `mke2fs -d`, which needs no root; owners and times, which the tree of an ordinary user cannot carry, are then set in
//! the image with `debugfs`.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use object::elf;

use crate::modules::Set;
use crate::{files, process};

/// The filesystem's own names, fixed so that equal trees give equal superblocks.
const UUID: &str = "68616563-6869-4e00-8000-000000000001";
const HASH_SEED: &str = "68616563-6869-4e00-8000-000000000002";
/// Every time stamp in the image: 2025-01-01.
const TIME: &str = "1735689600";
/// Where merged `/usr` moves the old top-level directories.
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];

/// A tree being put together for the image.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty tree with merged `/usr` and the mount points.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(root: &Path) -> Result<Self> {
        files::fresh_directory(root)?;
        for directory in
            ["usr/bin", "usr/sbin", "usr/lib", "dev", "proc", "sys", "run", "tmp", "mnt", "root", "var/log", "etc"]
        {
            fs::create_dir_all(root.join(directory))?;
        }
        for name in MERGED {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        Ok(Self { root: root.to_owned() })
    }

    /// Takes the listed programs and libraries, and all libraries they load, from unpacked packages.
    ///
    /// # Errors
    /// When a listed file or a library is missing.
    pub fn add_programs(&mut self, packages: &Path, programs: &[String]) -> Result<()> {
        let libraries = libraries(packages)?;
        let mut open: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
        let mut taken = BTreeSet::new();
        while let Some(path) = open.pop() {
            if !taken.insert(path.clone()) {
                continue;
            }
            let source = find_in(packages, &path)?;
            let bytes = fs::read(&source).with_context(|| format!("{} cannot be read", source.display()))?;
            self.add_file(&path, &bytes, fs::metadata(&source)?.permissions().mode())?;
            let Ok(elf) = Elf::parse(&bytes) else { continue };
            open.extend(interpreter(&elf));
            for name in needed(&elf) {
                let library = libraries.get(&name);
                open.push(
                    library.with_context(|| format!("no package has {name}, which {} loads", path.display()))?.clone(),
                );
            }
        }
        Ok(())
    }

    /// Adds a link to busybox for each applet that no real program stands for.
    ///
    /// # Errors
    /// When busybox lacks an applet.
    pub fn add_applets(&mut self, busybox: &Path, applets: &[String]) -> Result<()> {
        let bytes = fs::read(busybox)?;
        self.add_file(Path::new("usr/bin/busybox"), &bytes, 0o755)?;
        let names: BTreeSet<&[u8]> = bytes.split(|&byte| byte == 0).collect();
        for applet in applets {
            if !names.contains(applet.as_bytes()) {
                bail!("busybox has no applet `{applet}`");
            }
            let link = self.root.join("usr/bin").join(applet);
            let real = self.root.join("usr/sbin").join(applet);
            if !link.exists() && !real.exists() {
                symlink("busybox", link)?;
            }
        }
        symlink("../bin/busybox", self.root.join("usr/sbin/init")).context("/sbin/init is taken")
    }

    /// Adds kernel modules with their indexes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add_modules(&mut self, version: &str, set: &Set) -> Result<()> {
        let directory = Path::new("usr/lib/modules").join(version);
        for module in set.modules() {
            self.add_file(&directory.join(&module.path), &module.bytes, 0o644)?;
        }
        self.add_file(&directory.join("modules.dep"), set.dependencies().as_bytes(), 0o644)?;
        self.add_file(&directory.join("modules.alias"), set.aliases().as_bytes(), 0o644)
    }

    /// Lays the recipe's own files over the tree.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn add_overlay(&mut self, overlay: &Path) -> Result<()> {
        for source in files::walk(overlay)? {
            let path = source.strip_prefix(overlay)?;
            let executable = fs::metadata(&source)?.permissions().mode() & 0o100 != 0;
            self.add_file(path, &fs::read(&source)?, if executable { 0o755 } else { 0o644 })?;
        }
        Ok(())
    }

    /// Makes an ext4 image of `len_bytes` from the tree.
    ///
    /// # Errors
    /// When the tools of e2fsprogs fail, as when the tree does not fit.
    pub fn into_ext4(self, image: &Path, len_bytes: u64) -> Result<()> {
        let _ = fs::remove_file(image);
        fs::File::create(image)?.set_len(len_bytes)?;
        let extended = format!("hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0");
        let mut mke2fs = process::command("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "haechi-root", "-U", UUID, "-E", &extended]);
        mke2fs.arg("-d").arg(&self.root).arg(image).env("E2FSPROGS_FAKE_TIME", TIME);
        process::capture(&mut mke2fs)?;
        self.set_owners(image)
    }

    fn set_owners(&self, image: &Path) -> Result<()> {
        let mut script = String::new();
        for path in self.entries()? {
            let path = path.strip_prefix(&self.root)?.display();
            for (field, value) in
                [("uid", "0"), ("gid", "0"), ("atime", TIME), ("ctime", TIME), ("mtime", TIME), ("crtime", TIME)]
            {
                let at = if field.ends_with("time") { "@" } else { "" };
                writeln!(script, "sif \"/{path}\" {field} {at}{value}")?;
            }
        }
        let mut debugfs = process::command("debugfs");
        debugfs.args(["-w", "-f", "-"]).arg(image).env("E2FSPROGS_FAKE_TIME", TIME);
        let mut child = debugfs.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().expect("its input is piped").write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("debugfs could not set owners: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Every entry of the tree, directories too, sorted.
    fn entries(&self) -> Result<Vec<PathBuf>> {
        let mut found = files::walk(&self.root)?;
        found.extend(files::directories(&self.root)?);
        found.sort();
        Ok(found)
    }

    fn add_file(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let target = self.root.join(path);
        fs::create_dir_all(target.parent().context("a file lies in a directory")?)?;
        let _ = fs::remove_file(&target);
        fs::write(&target, bytes).with_context(|| format!("{} cannot be written", target.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode & 0o7777))?;
        Ok(())
    }
}

/// Shared libraries in the unpacked packages: name to path below the root.
fn libraries(packages: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let is_library = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    let found = files::walk(packages)?.into_iter().filter(|path| is_library(path));
    let mut map = BTreeMap::new();
    for path in found {
        let name = path.file_name().expect("a walked file has a name").to_string_lossy().into_owned();
        map.entry(name).or_insert(path.strip_prefix(packages)?.to_owned());
    }
    Ok(map)
}

/// A file of the packages, which may still lie in a directory that merged `/usr` moved.
fn find_in(packages: &Path, path: &Path) -> Result<PathBuf> {
    let moved = path.strip_prefix("usr").unwrap_or(path);
    let candidates = [packages.join(path), packages.join(moved)];
    let found = candidates.into_iter().find(|candidate| candidate.exists());
    found.with_context(|| format!("no package has /{}", path.display()))
}

type Elf<'a> = object::read::elf::ElfFile64<'a, object::Endianness>;

/// The libraries an ELF file asks the dynamic linker for.
fn needed(file: &Elf) -> Vec<String> {
    needed_entries(file).unwrap_or_default()
}

fn needed_entries(file: &Elf) -> Option<Vec<String>> {
    use object::read::elf::Dyn;
    let endian = file.endian();
    let table = file.elf_section_table();
    let (entries, strings) = table.dynamic(endian, file.data()).ok()??;
    let strings = table.strings(endian, file.data(), strings).ok()?;
    let needed = entries.iter().filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED));
    let names = needed.filter_map(|entry| entry.string(endian, strings).ok());
    Some(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// The dynamic linker an ELF program asks the kernel for, as a path below the root.
fn interpreter(file: &Elf) -> Option<PathBuf> {
    use object::read::elf::ProgramHeader;
    let endian = file.endian();
    let headers = file.elf_program_headers().iter();
    let name = headers.filter_map(|header| header.interpreter(endian, file.data()).ok().flatten()).next()?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some(PathBuf::from(name.trim_start_matches('/')))
}
