//! QEMU's log of the program `armv8 bench`: which instructions each piece of work executes, and how often.
//!
//! The log has a line for each block that QEMU translated and ran: where it begins, and how many instructions it has at most. It ends with
//! the first jump in the program's text or, when QEMU found it long enough, before. So where the next block begins behind this one's
//! beginning and before its jump, this one ended there; unless its jump leads there.
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The longest block that QEMU makes (`TCG_MAX_INSNS`).
const LONGEST: u64 = 512;
/// Instructions of a function that are kept as they were executed.
const SAMPLE: usize = 8192;
/// Calls of this function stand before and after every piece of work.
const MARK: &str = "armv8_mark";

/// The program's functions.
pub(super) struct Functions {
    begin: u64,
    /// Begin and name, sorted.
    all: Vec<(u64, String)>,
    end: u64,
    mark: u64,
    text: Vec<u32>,
}

impl Functions {
    pub(super) fn read(elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("{} cannot be read", elf.display()))?;
        let file = object::File::parse(bytes.as_slice())?;
        let text = file.section_by_name(".text").context("the program has no text")?;
        let code = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        let named = code.filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)));
        let mut all: Vec<_> =
            named.map(|(address, name)| (address, format!("{:#}", rustc_demangle::demangle(name)))).collect();
        all.sort();
        let mark = all.iter().find(|(_, name)| name == MARK).context("the program has no marks")?.0;
        let words = text.data()?.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Ok(Self { begin: text.address(), end: text.address() + text.size(), all, mark, text: words })
    }

    /// The number of the function that holds this address.
    fn at(&self, address: u64) -> usize {
        self.all.partition_point(|(begin, _)| *begin <= address).saturating_sub(1)
    }

    fn word(&self, address: u64) -> u32 {
        self.text.get(((address - self.begin) / 4) as usize).copied().unwrap_or(0)
    }

    /// Whether the instruction may go elsewhere: B, BL, B.cond, CBZ, TBZ, BR and their like (DDI 0487 section C4.1.66).
    fn is_jump(&self, address: u64) -> bool {
        let word = self.word(address);
        word & 0x7c00_0000 == 0x1400_0000 || word & 0x7c00_0000 == 0x3400_0000 || matches!(word >> 25, 0x2a | 0x6b)
    }

    /// Where the first jump at or behind this address leads, if it says so itself.
    fn next_jump(&self, address: u64) -> Option<u64> {
        let jump = (address..self.end).step_by(4).take(LONGEST as usize).find(|address| self.is_jump(*address))?;
        let word = self.word(jump);
        let (low, width) = match word >> 24 {
            0x14..=0x17 | 0x94..=0x97 => (0, 26),
            0x36 | 0x37 | 0xb6 | 0xb7 => (5, 14),
            0xd6 | 0xd7 => return None,
            _ => (5, 19),
        };
        let distance = i64::from(word >> low) << (64 - width) >> (64 - width);
        Some(jump.wrapping_add_signed(4 * distance))
    }

    pub(super) fn name(&self, function: usize) -> &str {
        self.all.get(function).map_or("?", |(_, name)| name)
    }
}

/// One piece of work.
#[derive(Default)]
pub(super) struct Work {
    pub(super) cipher: String,
    pub(super) mode: String,
    pub(super) bytes: f64,
    /// By the machine's own counter.
    pub(super) instructions: f64,
    /// By address, in instructions from the begin of the text.
    counts: Vec<u32>,
    /// The first instructions of every function, as they were executed.
    pub(super) samples: HashMap<usize, Vec<u64>>,
    /// Jumps backwards within a function: to, from, how often.
    loops: HashMap<(u64, u64), u64>,
}

/// The round loop of a kernel.
pub(super) struct Loop {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) turns: f64,
    pub(super) instructions: f64,
}

impl Work {
    fn count(&self, functions: &Functions, address: u64) -> u64 {
        self.counts.get(((address - functions.begin) / 4) as usize).copied().unwrap_or(0).into()
    }

    /// Executed instructions by function, most first.
    pub(super) fn by_function(&self, functions: &Functions) -> Vec<(usize, f64)> {
        let mut sums: HashMap<usize, f64> = HashMap::new();
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        for (i, count) in counted {
            *sums.entry(functions.at(functions.begin + 4 * i as u64)).or_default() += f64::from(*count);
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        sums
    }

    /// Of the loops without a loop in them, the one that most instructions are spent in.
    pub(super) fn hottest_loop(&self, functions: &Functions) -> Option<Loop> {
        let holds_another = |(begin, end): (u64, u64)| {
            self.loops.keys().any(|(to, from)| (*to, *from) != (begin, end) && begin <= *to && *from <= end)
        };
        let innermost = self.loops.keys().filter(|bounds| !holds_another(**bounds));
        let whole = |(begin, end): &(u64, u64)| {
            let instructions = (*begin..=*end).step_by(4).map(|address| self.count(functions, address)).sum::<u64>();
            let turns = self.count(functions, *end);
            Loop { begin: *begin, end: *end, turns: turns as f64, instructions: instructions as f64 }
        };
        innermost.map(whole).max_by(|one, other| one.instructions.total_cmp(&other.instructions))
    }

    fn step(&mut self, functions: &Functions, address: u64, before: &mut (u64, usize)) {
        let place = ((address - functions.begin) / 4) as usize;
        if self.counts.is_empty() {
            self.counts = vec![0; ((functions.end - functions.begin) / 4) as usize];
        }
        self.counts[place] += 1;
        let (last, function) = *before;
        let here = match address == last + 4 && functions.all.get(function + 1).is_none_or(|next| address < next.0) {
            true => function,
            false => functions.at(address),
        };
        if here == function && address <= last {
            *self.loops.entry((address, last)).or_default() += 1;
        }
        let sample = self.samples.entry(here).or_default();
        if sample.len() < SAMPLE {
            sample.push(address);
        }
        *before = (address, here);
    }

    /// Takes in a block, behind which execution went on at `next`.
    fn block(&mut self, functions: &Functions, block: &Block, next: u64, before: &mut (u64, usize)) {
        let mut address = block.begin;
        for count in 1..=block.limit {
            if !(functions.begin..functions.end).contains(&address) {
                return;
            }
            self.step(functions, address, before);
            let ended = functions.is_jump(address) || count == block.limit;
            address += 4;
            if ended || next == address && functions.next_jump(address) != Some(next) {
                return;
            }
        }
    }
}

/// A translated block.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    begin: u64,
    limit: u64,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// `Trace CPU: HOST [BASE/ADDRESS/FLAGS/HOW] NAME`: a block begins. The low nine bits of the last number limit its instructions.
    Begins(Block),
    /// `Stopped execution of TB chain before HOST [ADDRESS] NAME`: this one did not run after all.
    Stopped,
    Other,
}

fn parsed(line: &[u8]) -> Option<Line> {
    let line = std::str::from_utf8(line).ok()?;
    if line.starts_with("Stopped") {
        return Some(Line::Stopped);
    }
    if !line.starts_with("Trace") {
        return Some(Line::Other);
    }
    let inside = line.split('[').nth(1)?.split(']').next()?;
    let numbers: Vec<_> = inside.split('/').map(|digits| u64::from_str_radix(digits, 16)).collect();
    let [_, Ok(begin), _, Ok(how)] = numbers[..] else { return None };
    let limit = if how & 0x1ff == 0 { LONGEST } else { how & 0x1ff };
    Some(Line::Begins(Block { begin, limit }))
}

/// Reads the log to its end.
pub(super) fn read(log: impl Read, functions: &Functions) -> Result<Vec<Work>> {
    let mut log = BufReader::with_capacity(1 << 20, log);
    let (mut done, mut work, mut open) = (Vec::new(), Work::default(), false);
    let (mut line, mut before, mut last) = (Vec::new(), (0, 0), None);
    while log.read_until(b'\n', &mut line)? > 0 {
        match parsed(&line) {
            Some(Line::Begins(block)) => {
                if let Some(last) = last.take().filter(|_| open) {
                    work.block(functions, &last, block.begin, &mut before);
                }
                open ^= block.begin == functions.mark;
                last = (block.begin != functions.mark).then_some(block);
            }
            Some(Line::Stopped) => last = None,
            Some(Line::Other) => {
                if let Some(said) = said(&line)? {
                    done.push(named(std::mem::take(&mut work), &said)?);
                }
            }
            None => bail!("QEMU logged `{}`", String::from_utf8_lossy(&line).trim()),
        }
        line.clear();
    }
    ensure!(!done.is_empty(), "the program counted nothing");
    Ok(done)
}

/// What the program itself said in this line.
fn said(line: &[u8]) -> Result<Option<String>> {
    let line = String::from_utf8_lossy(line).trim().to_owned();
    match line.strip_prefix('@') {
        _ if line.starts_with("FAILED") => bail!("the program failed: {line}"),
        said => Ok(said.map(str::to_owned)),
    }
}

fn named(work: Work, said: &str) -> Result<Work> {
    let words: Vec<_> = said.split_whitespace().collect();
    let [cipher, mode, bytes, instructions] = words[..] else { bail!("`{said}` is not what the program says") };
    let (bytes, instructions): (f64, f64) = (bytes.parse()?, instructions.parse()?);
    let logged: f64 = work.counts.iter().map(|count| f64::from(*count)).sum();
    ensure!((logged - instructions).abs() <= instructions * 0.01 + 100.0, "{said}: the log has {logged} instructions");
    Ok(Work { cipher: cipher.to_owned(), mode: mode.to_owned(), bytes, instructions, ..work })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read() {
        let line = b"Trace 0: 0x7f5784000100 [00004000/0000000040080000/00000521/ff022003] f\n";
        assert_eq!(parsed(line), Some(Line::Begins(Block { begin: 0x4008_0000, limit: 3 })));
        let line = b"Trace 0: 0x7f5784000100 [00004000/0000000040080000/00000521/ff022000] f\n";
        assert_eq!(parsed(line), Some(Line::Begins(Block { begin: 0x4008_0000, limit: LONGEST })));
        assert_eq!(parsed(b"Stopped execution of TB chain before 0x7f [0000000040201000] f"), Some(Line::Stopped));
        assert_eq!(parsed(b"@ARIA-128 CTR 4096 20000\n"), Some(Line::Other));
        assert_eq!(parsed(b"Trace 0: 0x7f5784000100 []"), None);
    }

    #[test]
    fn loop_into_the_middle_of_a_block_is_seen() {
        // nop; 1: nop; nop; b.ne 1b; ret
        let text = vec![0xd503_201f, 0xd503_201f, 0xd503_201f, 0x54ff_ffc1, 0xd65f_03c0];
        let functions = Functions { begin: 0x1000, end: 0x1014, all: vec![(0x1000, "f".into())], mark: 0, text };
        let (mut work, mut before) = (Work::default(), (0, 0));
        for (begin, next) in [(0x1000, 0x1004), (0x1004, 0x1004), (0x1004, 0x1010), (0x1010, 0)] {
            work.block(&functions, &Block { begin, limit: LONGEST }, next, &mut before);
        }
        assert_eq!(work.counts, [1, 3, 3, 3, 1]);
        let hottest = work.hottest_loop(&functions).unwrap();
        assert_eq!((hottest.begin, hottest.end, hottest.turns), (0x1004, 0x100c, 3.0));
    }
}
