//! QEMU's log of executed instructions, attributed to functions of the firmware.
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// What an instruction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// EL2.
    Hypervisor,
    /// The secure domain, but for the following two.
    Secure,
    /// `memcpy` and its like in the secure domain.
    Copies,
    /// The crate `crypto`.
    Cipher,
}

/// Firmware in memory.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) begin: u64,
    pub(super) end: u64,
    is_hypervisor: bool,
    /// Functions by address in the image, sorted.
    functions: Vec<(u64, String)>,
}

impl Image {
    /// The functions of the ELF file, which is linked at 0 and lies in memory at `begin`.
    pub(super) fn read(elf: &Path, begin: u64, end: u64, is_hypervisor: bool) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("{} cannot be read", elf.display()))?;
        let file = object::File::parse(bytes.as_slice())?;
        // Labels in assembly have no type; data behind the text need none.
        let text_end = file.section_by_name(".text").map_or(0, |text| text.address() + text.size());
        let is_code = |kind| matches!(kind, SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown);
        let symbols = file.symbols().filter(|symbol| is_code(symbol.kind()) && symbol.address() < text_end);
        let named = symbols.filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)));
        let named = named.filter(|(_, name)| !name.is_empty() && !name.starts_with('$'));
        let mut functions: Vec<_> =
            named.map(|(address, name)| (address, format!("{:#}", rustc_demangle::demangle(name)))).collect();
        functions.sort();
        // Of two names for one place, the longer one says more.
        functions.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same && next.1.len() > kept.1.len() {
                std::mem::swap(next, kept);
            }
            same
        });
        Ok(Self { begin, end, is_hypervisor, functions })
    }

    /// Whether `address` is in it.
    pub(super) fn contains(&self, address: u64) -> bool {
        (self.begin..self.end).contains(&address)
    }

    /// Whether the instruction at `address` is the first of an exception from a lower exception level (Arm ARM DDI 0487, D1.3.1.5).
    pub(super) fn is_exit_of_guest(&self, address: u64) -> bool {
        self.is_hypervisor
            && self.function(address) == "el2_vectors"
            && matches!(address & 0x7ff, 0x400 | 0x480 | 0x500)
    }

    /// The function at `address`, which is in it.
    pub(super) fn function(&self, address: u64) -> &str {
        let at = self.functions.partition_point(|(begin, _)| *begin <= address - self.begin);
        at.checked_sub(1).map_or("?", |at| &self.functions[at].1)
    }

    /// What a function belongs to.
    pub(super) fn part(&self, function: &str) -> Part {
        match function {
            _ if self.is_hypervisor => Part::Hypervisor,
            "memcpy" | "memmove" | "memset" | "memcmp" | "bcmp" => Part::Copies,
            name if name.starts_with("crypto::") || name.starts_with("<crypto::") => Part::Cipher,
            _ => Part::Secure,
        }
    }
}

/// Instructions by function.
#[derive(Debug, Default)]
pub(super) struct Profile {
    functions: HashMap<(Part, String), u64>,
    /// Fewest instructions at EL2 from an exception of the general domain to the secure domain's next instruction.
    pub(super) kick: Option<u64>,
}

impl Profile {
    /// Reads a log of one-instruction blocks.
    pub(super) fn read(log: &Path, images: &[Image]) -> Result<Self> {
        let file = File::open(log).with_context(|| format!("{} cannot be read", log.display()))?;
        let mut counts: HashMap<u64, i64> = HashMap::new();
        let mut kick = Kick::default();
        for line in BufReader::with_capacity(1 << 20, file).split(b'\n') {
            let Some((address, executed)) = executed(&line?) else { continue };
            *counts.entry(address).or_default() += if executed { 1 } else { -1 };
            if let Some(image) = images.iter().find(|image| image.contains(address)) {
                kick.step(image, address, executed);
            }
        }
        let mut profile = Self { kick: kick.least, ..Self::default() };
        for (address, count) in counts {
            let Some(image) = images.iter().find(|image| (image.begin..image.end).contains(&address)) else { continue };
            let function = image.function(address);
            let key = (image.part(function), function.to_owned());
            *profile.functions.entry(key).or_default() += count.max(0) as u64;
        }
        Ok(profile)
    }

    /// Instructions of a part.
    pub(super) fn total(&self, part: Part) -> u64 {
        self.functions.iter().filter(|((of, _), _)| *of == part).map(|(_, count)| count).sum()
    }

    /// What every function took more than in `less`, for each of `requests`, most first.
    pub(super) fn hottest(&self, less: &Self, requests: f64) -> Vec<(String, f64)> {
        let more = |(key, count): (&(Part, String), &u64)| {
            let before = less.functions.get(key).copied().unwrap_or(0);
            let place = if key.0 == Part::Hypervisor { "EL2" } else { "secure" };
            (format!("{place}: {}", key.1), (*count as f64 - before as f64) / requests)
        };
        let mut all: Vec<_> = self.functions.iter().map(more).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        all
    }
}

/// Counts instructions at EL2 since the general domain's last synchronous exception.
///
/// The general domain's own instructions are not in the log: what precedes its exceptions there is EL2's return to it.
#[derive(Default)]
struct Kick {
    since_trap: Option<u64>,
    least: Option<u64>,
    from_secure: bool,
}

impl Kick {
    fn step(&mut self, image: &Image, address: u64, executed: bool) {
        if !image.is_hypervisor {
            if let Some(count) = self.since_trap.take() {
                self.least = Some(self.least.map_or(count, |least| least.min(count)));
            }
        } else if executed {
            // The entry for synchronous exceptions of a lower exception level (Arm DDI 0487, D1.3.1.5).
            let is_entry = image.function(address) == "el2_vectors" && address & 0x7ff == 0x400;
            let counting = self.since_trap.map(|count| count + 1);
            self.since_trap = if is_entry { (!self.from_secure).then_some(1) } else { counting };
        } else {
            self.since_trap = self.since_trap.map(|count| count.saturating_sub(1));
        }
        self.from_secure = !image.is_hypervisor;
    }
}

/// The address of a line `Trace CPU: HOST [BASE/ADDRESS/...]`, and true; or of `Stopped execution of TB chain before HOST
/// [ADDRESS]`, which takes back an instruction, and false.
pub(super) fn executed(line: &[u8]) -> Option<(u64, bool)> {
    let line = std::str::from_utf8(line).ok()?;
    let inside = line.split('[').nth(1)?;
    let (digits, executed) = match line.starts_with("Trace") {
        true => (inside.split('/').nth(1)?, true),
        false if line.starts_with("Stopped") => (inside.split(']').next()?, false),
        false => return None,
    };
    Some((u64::from_str_radix(digits, 16).ok()?, executed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read() {
        let trace = b"Trace 0: 0x7f0a40000100 [00800400/0000000040201000/0000a001/ff200001] el2_vectors";
        assert_eq!(executed(trace), Some((0x4020_1000, true)));
        let stopped = b"Stopped execution of TB chain before 0x7f0a40000100 [0000000040201000] el2_vectors";
        assert_eq!(executed(stopped), Some((0x4020_1000, false)));
        assert_eq!(executed(b"cpu_io_recompile"), None);
    }
}
