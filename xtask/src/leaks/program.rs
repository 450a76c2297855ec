//! The code of an ELF file: instructions by address, functions by name.
use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind, elf};

use super::instruction::{self, Op};

/// A linked program.
pub(super) struct Program {
    text_begin: u64,
    text: Vec<u32>,
    /// Where memory holds constants of the program.
    constant: Vec<Range<u64>>,
    /// Functions by address, sorted.
    functions: Vec<(u64, String)>,
    /// Where branches go.
    targets: HashSet<u64>,
}

impl Program {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let file = object::File::parse(bytes.as_slice())?;
        let text = file.section_by_name(".text").context("the program has no text")?;
        let (words, rest) = text.data()?.as_chunks::<4>();
        ensure!(rest.is_empty(), "the text of {} ends within an instruction", path.display());
        let writable =
            |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_WRITE) != 0);
        let constant = file.sections().filter(|section| section.address() != 0 && !writable(section.flags()));
        let constant = constant.map(|section| section.address()..section.address() + section.size()).collect();
        let code = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        let named = code.filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)));
        let mut functions: Vec<_> =
            named.map(|(address, name)| (address, format!("{:#}", rustc_demangle::demangle(name)))).collect();
        functions.sort();
        let text = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Ok(Self::new(file.section_by_name(".text").map_or(0, |text| text.address()), text, constant, functions))
    }

    pub(super) fn new(
        text_begin: u64,
        text: Vec<u32>,
        constant: Vec<Range<u64>>,
        functions: Vec<(u64, String)>,
    ) -> Self {
        let mut program = Self { text_begin, text, constant, functions, targets: HashSet::new() };
        let addresses = (0..program.text.len() as u64).map(|i| text_begin + 4 * i);
        let target = |address| match program.op(address)? {
            Op::Branch { target, .. } => Some(target),
            _ => None,
        };
        program.targets = addresses.filter_map(target).collect();
        program
    }

    pub(super) fn word(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.text_begin)?;
        self.text.get(usize::try_from(offset / 4).ok()?).copied()
    }

    pub(super) fn op(&self, address: u64) -> Option<Op> {
        Some(instruction::decode(self.word(address)?, address))
    }

    pub(super) fn is_target(&self, address: u64) -> bool {
        self.targets.contains(&address)
    }

    /// Whether these bytes never change.
    pub(super) fn is_constant(&self, address: u64, size: u8) -> bool {
        self.constant.iter().any(|range| range.start <= address && address + u64::from(size) <= range.end)
    }

    /// The name of the function that begins here.
    pub(super) fn function(&self, address: u64) -> Option<&str> {
        let at = self.functions.binary_search_by_key(&address, |(begin, _)| *begin).ok()?;
        Some(&self.functions[at].1)
    }

    pub(super) fn functions(&self) -> &[(u64, String)] {
        &self.functions
    }

    /// An address as people want it.
    pub(super) fn shown(&self, address: u64) -> String {
        let at = self.functions.partition_point(|(begin, _)| *begin <= address);
        match at.checked_sub(1).map(|at| &self.functions[at]) {
            Some((begin, name)) => format!("{name}+{:#x} ({address:#x})", address - begin),
            None => format!("{address:#x}"),
        }
    }
}
