//! The workspace as its manifests describe it: members, what each depends on, their sources.
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::{files, paths};

/// A package of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its directory below the workspace's root.
    pub directory: String,
    /// Members it is linked with; not those of its tests and build script.
    pub depends: Vec<String>,
}

/// Reads all members, in order of directory.
///
/// # Errors
/// When a manifest cannot be read.
pub fn packages() -> Result<Vec<Package>> {
    let root = manifest("")?;
    let members = root.get("workspace").and_then(|workspace| workspace.get("members")).and_then(Value::as_array);
    let members = members.context("Cargo.toml lists no members")?.iter().filter_map(Value::as_str);
    let read: BTreeMap<&str, Table> = members.map(|member| Ok((member, manifest(member)?))).collect::<Result<_>>()?;
    let names: Vec<String> = read.values().filter_map(name_of).collect();
    let package = |(directory, table): (&&str, &Table)| {
        let name = name_of(table).with_context(|| format!("{directory}/Cargo.toml names no package"))?;
        let depends = dependencies(table).into_iter().filter(|name| names.contains(name)).collect();
        Ok(Package { name, directory: (*directory).to_owned(), depends })
    };
    read.iter().map(package).collect()
}

impl Package {
    /// Its source files, those of nested members left out.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn sources(&self, all: &[Self]) -> Result<Vec<PathBuf>> {
        let own = paths::workspace().join(&self.directory);
        let nested = all.iter().map(|other| paths::workspace().join(&other.directory));
        let nested: Vec<_> = nested.filter(|other| *other != own && other.starts_with(&own)).collect();
        let mut found = files::walk(&own)?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
        found.retain(|path| !nested.iter().any(|other| path.starts_with(other)));
        Ok(found)
    }
}

fn manifest(directory: &str) -> Result<Table> {
    let file = paths::workspace().join(directory).join("Cargo.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    text.parse().with_context(|| format!("{} is damaged", file.display()))
}

fn name_of(manifest: &Table) -> Option<String> {
    Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
}

/// Dependencies for all targets and for one.
fn dependencies(manifest: &Table) -> Vec<String> {
    let tables = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = tables.filter_map(Value::as_table).chain([manifest]);
    let listed = tables.filter_map(|table| table.get("dependencies")?.as_table());
    listed.flat_map(Table::keys).cloned().collect()
}
