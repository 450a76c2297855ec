//! Kernel modules: which files a list of names needs, and the indexes `modprobe` reads, made from what each module says
//! about itself (its `.modinfo` section: `depends=`, `softdep=`, `alias=`). The host needs no `depmod` for it, and
//! compressed modules are unpacked on the way.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use crate::files;

/// One module, uncompressed.
pub struct Module {
    /// Path below `lib/modules/VERSION`, ending in `.ko`.
    pub path: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
    depends: Vec<String>,
    soft_depends: Vec<String>,
    aliases: Vec<String>,
}

/// The modules of one kernel version as its package has them.
pub struct Tree {
    /// What `uname -r` says.
    pub version: String,
    files: BTreeMap<String, PathBuf>,
    directory: PathBuf,
    builtin: BTreeSet<String>,
}

/// A set of modules, closed under dependencies.
#[derive(Default)]
pub struct Set(BTreeMap<String, Module>);

impl Tree {
    /// Reads the tree of an unpacked kernel package, `PACKAGE/lib/modules/VERSION`.
    ///
    /// # Errors
    /// When the package has no modules.
    pub fn open(package: &Path) -> Result<Self> {
        let parent = package.join("lib/modules");
        let directory = fs::read_dir(&parent).ok().and_then(|mut entries| entries.next()).transpose()?;
        let directory = directory.with_context(|| format!("{} has no kernel modules", package.display()))?.path();
        let version = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = files::walk(&directory)?.into_iter().filter_map(|path| Some((name_of(&path)?, path)));
        let builtin = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
        Ok(Self { version, files: found.collect(), directory, builtin })
    }

    /// The named modules and all they need. A name that this kernel has built in adds nothing.
    ///
    /// # Errors
    /// When a name is unknown to this kernel, or a file is damaged.
    pub fn closure(&self, names: &[String]) -> Result<Set> {
        let mut set = Set::default();
        let mut open: Vec<(String, bool)> = names.iter().map(|name| (normal(name), true)).collect();
        while let Some((name, required)) = open.pop() {
            if set.0.contains_key(&name) || self.builtin.contains(&name) {
                continue;
            }
            let Some(file) = self.files.get(&name) else {
                if required {
                    bail!("kernel {} has no module `{name}`", self.version);
                }
                continue;
            };
            let module = self.read(file).with_context(|| format!("{} is damaged", file.display()))?;
            open.extend(module.depends.iter().map(|name| (name.clone(), true)));
            open.extend(module.soft_depends.iter().map(|name| (name.clone(), false)));
            set.0.insert(name, module);
        }
        Ok(set)
    }

    fn read(&self, file: &Path) -> Result<Module> {
        let raw = fs::read(file)?;
        let bytes = match file.extension().is_some_and(|extension| extension == "xz") {
            true => unpack_xz(&raw)?,
            false => raw,
        };
        let path = file.strip_prefix(&self.directory)?.with_extension("");
        let path = path.with_extension("").display().to_string() + ".ko";
        let info = information(&bytes)?;
        let all =
            |key: &str| info.iter().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect::<Vec<_>>();
        let depends = all("depends=")
            .iter()
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
            .map(normal)
            .collect();
        let soft = all("softdep=");
        let soft = soft.iter().flat_map(|line| line.split_whitespace()).filter(|word| !word.ends_with(':'));
        Ok(Module { path, depends, soft_depends: soft.map(normal).collect(), aliases: all("alias="), bytes })
    }
}

impl Set {
    /// The modules in order of name.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.0.values()
    }

    /// `modules.dep`: each file, and the files to load before it, nearest first.
    pub fn dependencies(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.0 {
            let before: Vec<_> = self.all_before(name).iter().map(|name| self.0[name].path.clone()).collect();
            text += format!("{}: {}", module.path, before.join(" ")).trim_end();
            text += "\n";
        }
        text
    }

    /// `modules.alias`: how the kernel asks for a module by what it does.
    pub fn aliases(&self) -> String {
        let lines =
            self.0.iter().flat_map(|(name, m)| m.aliases.iter().map(move |alias| format!("alias {alias} {name}\n")));
        lines.collect()
    }

    fn all_before(&self, name: &str) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let mut next = vec![name.to_owned()];
        while let Some(name) = next.pop() {
            for before in self.0[&name].depends.iter().filter(|before| self.0.contains_key(*before)) {
                order.retain(|known| known != before);
                order.push(before.clone());
                next.push(before.clone());
            }
        }
        order
    }
}

/// `dm-crypt.ko.xz` is module `dm_crypt`.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(normal(stem))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn unpack_xz(raw: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match lzma_rs::xz_decompress(&mut &raw[..], &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => bail!("its xz data is damaged: {error:?}"),
    }
}

fn information(elf: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(elf)?;
    let section = file.section_by_name(".modinfo").context("it has no .modinfo section")?;
    let lines = section.data()?.split(|&byte| byte == 0).filter(|line| !line.is_empty());
    Ok(lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str]) -> Module {
        let depends = depends.iter().map(|name| normal(name)).collect();
        let aliases = vec![format!("crypto-{path}")];
        Module { path: path.into(), bytes: Vec::new(), depends, soft_depends: Vec::new(), aliases }
    }

    #[test]
    fn dependencies_list_every_file_once_and_the_deepest_last() {
        let set = [("top", module("top.ko", &["left", "right"])), ("left", module("left.ko", &["base"]))];
        let set =
            set.into_iter().chain([("right", module("right.ko", &["left", "base"])), ("base", module("base.ko", &[]))]);
        let set = Set(set.map(|(name, module)| (name.to_owned(), module)).collect());
        assert!(set.dependencies().contains("top.ko: right.ko left.ko base.ko\n"), "{}", set.dependencies());
        assert!(set.dependencies().contains("base.ko:\n"));
        assert!(set.aliases().contains("alias crypto-top.ko top\n"));
    }

    #[test]
    fn module_names_are_the_kernels() {
        assert_eq!(name_of(Path::new("kernel/drivers/md/dm-crypt.ko.xz")).as_deref(), Some("dm_crypt"));
        assert_eq!(name_of(Path::new("modules.order")), None);
    }
}
