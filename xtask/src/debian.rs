//! Debian's arm64 packages, fetched as an ordinary user and without touching the machine's own package state.
//!
//! apt is given a root of its own: its lists, its cache, an empty dpkg status, one foreign architecture. What it keeps
//! from the machine is how to reach the archive: the mirror and keyring of the machine's own Debian sources, its proxy
//! settings and credentials.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{files, paths, process};

/// The release the guest is made of.
const SUITE: &str = "bookworm";

/// A private apt root.
pub struct Debian {
    root: PathBuf,
    updated: bool,
}

impl Debian {
    /// Opens the root in the cache directory; the network is not touched before something is asked for.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn open() -> Result<Self> {
        let root = paths::debian_cache();
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(directory)).context("the package cache cannot be made")?;
        }
        Ok(Self { root, updated: false })
    }

    /// The newest package whose name matches `PREFIX*SUFFIX`, the star standing for digits and dots.
    ///
    /// # Errors
    /// When the archive cannot be reached or has none.
    pub fn newest(&mut self, pattern: &str) -> Result<String> {
        self.update()?;
        let (prefix, suffix) = pattern.split_once('*').context("a package pattern has one `*`")?;
        let names = process::text(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        let newest = names.lines().filter_map(|name| Some((version(name, prefix, suffix)?, name))).max();
        let (_, name) = newest.with_context(|| format!("the Debian archive has no package {pattern}"))?;
        Ok(name.to_owned())
    }

    /// Downloads one package, without what it depends on, into `directory`, and gives its file.
    ///
    /// # Errors
    /// When the archive cannot be reached or has no such package.
    pub fn download(&mut self, package: &str, directory: &Path) -> Result<PathBuf> {
        self.update()?;
        files::fresh_directory(directory)?;
        process::capture(self.apt("apt-get").current_dir(directory).args(["download", package]))?;
        packages_in(directory)?.pop().with_context(|| format!("apt downloaded nothing for {package}"))
    }

    /// Downloads packages and all they depend on into `directory`, and gives the files.
    ///
    /// # Errors
    /// When the archive cannot be reached or lacks a package.
    pub fn download_closure(&mut self, packages: &[String], directory: &Path) -> Result<Vec<PathBuf>> {
        self.update()?;
        files::fresh_directory(directory)?;
        fs::create_dir_all(directory.join("partial"))?;
        let mut apt = self.apt("apt-get");
        apt.args(["install", "--yes", "--download-only", "--no-install-recommends"]);
        apt.arg("-o").arg(format!("Dir::Cache::archives={}", directory.display())).args(packages);
        process::capture(&mut apt)?;
        packages_in(directory)
    }

    fn update(&mut self) -> Result<()> {
        if !self.updated {
            self.configure()?;
            process::capture(self.apt("apt-get").arg("update")).context("the Debian archive cannot be reached")?;
            self.updated = true;
        }
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        let sources = Archive::of_this_machine()?.sources();
        fs::write(self.root.join("debian.sources"), sources)?;
        fs::write(self.root.join("status"), "")?;
        fs::write(self.root.join("apt.conf"), CONFIGURATION.replace("@ROOT@", &self.root.display().to_string()))?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = process::command(program);
        apt.arg("--config-file").arg(self.root.join("apt.conf")).env("LC_ALL", "C");
        apt
    }
}

/// Hooks of the machine are cleared because they act on the machine's own cache.
const CONFIGURATION: &str = r#"#clear APT::Architectures;
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "@ROOT@/state";
Dir::State::status "@ROOT@/status";
Dir::Cache "@ROOT@/cache";
Dir::Cache::archives "@ROOT@/cache/archives";
Dir::Etc::sourcelist "@ROOT@/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"#;

/// Unpacks a package's files into `directory`.
///
/// # Errors
/// When the package is damaged or the directory cannot be written.
pub fn unpack(package: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    process::capture(process::command("dpkg-deb").arg("--extract").arg(package).arg(directory)).map(drop)
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files::walk(directory)?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    Ok(found)
}

/// The numbers the star of a pattern stands for; `None` when the name does not match.
fn version(name: &str, prefix: &str, suffix: &str) -> Option<Vec<u32>> {
    let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    middle.split('.').map(|number| number.parse().ok()).collect()
}

/// Where a machine gets Debian from.
#[derive(Debug, PartialEq, Eq)]
struct Archive {
    main: Source,
    /// Absent on machines without security updates, which then get older packages.
    security: Option<Source>,
}

/// One entry of apt's sources, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Source {
    uris: String,
    suites: Vec<String>,
    signed_by: Option<String>,
}

impl Archive {
    fn of_this_machine() -> Result<Self> {
        let mut entries = Vec::new();
        let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
        let mut parts: Vec<_> = parts.collect();
        parts.sort();
        for path in std::iter::once(PathBuf::from("/etc/apt/sources.list")).chain(parts) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => entries.extend(one_line_entries(&text)),
                Some("sources") => entries.extend(stanza_entries(&text)),
                _ => {}
            }
        }
        Self::among(&entries)
    }

    /// Debian's own among all entries: the archive by the path every mirror keeps it under, or by its keyring.
    fn among(entries: &[Source]) -> Result<Self> {
        let debian = |source: &&Source| {
            let uri = source.uris.split_whitespace().next().unwrap_or_default().trim_end_matches('/');
            let keyring = source.signed_by.as_deref().is_some_and(|keyring| keyring.contains("debian-archive"));
            !uri.starts_with("cdrom:") && (keyring || uri.ends_with("/debian") || uri.ends_with("/debian-security"))
        };
        let is_security = |source: &&Source| source.suites.iter().any(|suite| suite.ends_with("-security"));
        let is_release = |source: &&Source| source.suites.iter().any(|suite| !suite.contains('-'));
        let main = entries.iter().filter(debian).find(|source| is_release(source) && !is_security(source));
        let Some(main) = main else {
            bail!("the apt sources of this machine name no Debian archive, which the guest's packages come from");
        };
        Ok(Self { main: main.clone(), security: entries.iter().filter(debian).find(is_security).cloned() })
    }

    /// The same places for the guest's release, in apt's own format.
    fn sources(&self) -> String {
        let mut text = self.main.stanza(&format!("{SUITE} {SUITE}-updates"));
        if let Some(security) = &self.security {
            text += &security.stanza(&format!("{SUITE}-security"));
        }
        text
    }
}

impl Source {
    fn stanza(&self, suites: &str) -> String {
        let signed_by = self.signed_by.as_ref().map(|keyring| format!("Signed-By: {keyring}\n")).unwrap_or_default();
        format!("Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main\n{signed_by}\n", self.uris)
    }
}

/// Entries of a `.list` file: `deb [options] URI SUITE COMPONENT...` (sources.list(5), one-line style).
fn one_line_entries(text: &str) -> Vec<Source> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Source> {
    let rest = line.strip_prefix("deb")?;
    let rest = rest.starts_with(char::is_whitespace).then(|| rest.trim_start())?;
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace();
    let uris = words.next()?.to_owned();
    Some(Source { uris, suites: vec![words.next()?.to_owned()], signed_by: signed_by.map(str::to_owned) })
}

/// Entries of a `.sources` file (sources.list(5), deb822 style). A value goes on over indented lines, as a key inside
/// `Signed-By` does.
fn stanza_entries(text: &str) -> Vec<Source> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain(std::iter::once("")) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(stanza_entry(&std::mem::take(&mut fields)));
        } else if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), fields.last_mut()) {
            value.push('\n');
            value.push_str(line);
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn stanza_entry(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
    let has_packages = field("types")?.split_whitespace().any(|kind| kind == "deb");
    let disabled = field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    let suites = field("suites")?.split_whitespace().map(str::to_owned).collect();
    (has_packages && !disabled).then_some(Source { uris: field("uris")?, suites, signed_by: field("signed-by") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
        Types: deb\nURIs: https://elsewhere.example/tool\nSuites: bookworm\nEnabled: no\n";

    #[test]
    fn refuses_machine_without_debian() {
        assert!(Archive::among(&stanza_entries("Types: deb\nURIs: http://a.example/ubuntu\nSuites: noble\n")).is_err());
        assert!(
            Archive::among(&one_line_entries("deb cdrom:[disc]/debian bookworm main\n# deb http://a/debian sid main"))
                .is_err()
        );
    }

    #[test]
    fn both_styles_of_sources_say_the_same() {
        let lines = "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main # x\n\
            deb-src http://mirror.example/debian bookworm main\n\
            deb http://mirror.example/debian-security bookworm-security main\n";
        let (lines, stanzas) =
            (Archive::among(&one_line_entries(lines)).unwrap(), Archive::among(&stanza_entries(STANZAS)).unwrap());
        assert_eq!(lines.sources(), stanzas.sources());
        assert!(lines.sources().contains("URIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n"));
        assert!(lines.sources().contains("Suites: bookworm-security\n"));
    }

    #[test]
    fn embedded_key_is_kept() {
        let text =
            "Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nSigned-By:\n -----BEGIN\n .\n -----END\n";
        let archive = Archive::among(&stanza_entries(text)).unwrap();
        assert!(archive.sources().contains("Signed-By: \n -----BEGIN\n .\n -----END\n"));
    }

    #[test]
    fn newest_counts_numbers_not_letters() {
        let numbers = |name| version(name, "linux-image-6.12.", "+deb12-cloud-arm64");
        assert!(numbers("linux-image-6.12.117+deb12-cloud-arm64") > numbers("linux-image-6.12.95+deb12-cloud-arm64"));
        assert_eq!(numbers("linux-image-6.12.117+deb12-cloud-arm64-unsigned"), None);
        assert_eq!(numbers("linux-image-6.12.117+deb12-rt-cloud-arm64"), None);
    }
}
