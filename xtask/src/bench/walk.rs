//! One write of 4 KiB through its stages, with the instructions that each takes.
//!
//! QEMU logs every instruction of the firmware while Linux writes one block. Of what the log holds, the walk is the visit of the
//! secure domain in which the block is sealed, from the trap that led to it, and all that follows up to the last visit.
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};

use super::requests::{self, Ranges};
use super::rig::{self, Guest};
use super::trace::{Part, executed};
use super::{Bench, guest};
use crate::sealed;

/// Stages that are shorter are told with the one before them.
const SHORT: u64 = 24;

/// Instructions of one stage, in the order in which they were executed.
#[derive(Clone, Debug, PartialEq)]
struct Stage {
    part: Part,
    /// Module and function, or `general domain`.
    name: String,
    instructions: u64,
}

/// The general domain's turn: its instructions are not logged.
const GENERAL: &str = "general domain";

/// Boots, has Linux write one block, and prints the walk.
pub(super) fn print(bench: &Bench) -> Result<()> {
    let initrd = guest::initrd(bench)?;
    let disk = guest::sealed_disk(bench, "walk", sealed::DEFAULT_SUITE)?;
    let mut machine = rig::haechi(bench, "walk", bench.images.default_kernel(), Some(&initrd), rig::SEED)?;
    machine.append = guest::arguments("walk");
    let ranges = requests::filter(bench, &machine)?;
    machine.extra.extend(["-dfilter".into(), ranges.filter.clone()]);
    let mut guest = Guest::start(bench, "walk", &rig::with_disk(machine, &disk))?;
    let log = bench.directory.join("walk.log");
    while guest.word()? != "open" {}
    guest.monitor(&["one-insn-per-tb on", &format!("logfile {}", log.display()), "log exec,nochain"])?;
    guest.nod()?;
    while guest.word()? != "close" {}
    guest.monitor(&["log none", "one-insn-per-tb off"])?;
    drop(guest);
    let stages = stages(&log, &ranges)?;
    fs::remove_file(&log)?;
    guest::remove(&disk)?;
    show(&walk(&stages).context("no block was sealed while the log was written")?);
    Ok(())
}

/// The log as stages.
fn stages(log: &Path, ranges: &Ranges) -> Result<Vec<Stage>> {
    let file = File::open(log).with_context(|| format!("{} cannot be read", log.display()))?;
    let mut stages: Vec<Stage> = Vec::new();
    for line in BufReader::with_capacity(1 << 20, file).split(b'\n') {
        let Some((address, executed)) = executed(&line?) else { continue };
        let Some(image) = ranges.images.iter().find(|image| image.contains(address)) else { continue };
        if !executed {
            if let Some(last) = stages.last_mut() {
                last.instructions = last.instructions.saturating_sub(1);
            }
            continue;
        }
        let function = image.function(address);
        let part = image.part(function);
        let returned = stages.last().is_some_and(|last| last.part == Part::Hypervisor);
        if image.is_exit_of_guest(address) && returned {
            stages.push(Stage { part: Part::Hypervisor, name: GENERAL.into(), instructions: 0 });
        }
        let name = short(function);
        match stages.last_mut() {
            Some(last) if last.part == part && last.name == name => last.instructions += 1,
            _ => stages.push(Stage { part, name, instructions: 1 }),
        }
    }
    Ok(stages)
}

/// The last two parts of a function's path; of the cipher, its crate.
fn short(function: &str) -> String {
    if function.starts_with("crypto::") || function.starts_with("<crypto::") {
        return "crypto".into();
    }
    let plain = without_parameters(function);
    let path: Vec<&str> = plain.split("::").collect();
    path[path.len().saturating_sub(2)..].join("::")
}

/// `<a::B<C> as D>::e` as `a::B::e`, `a::b<C>::d` as `a::b::d`.
fn without_parameters(function: &str) -> String {
    let outer = i32::from(function.starts_with('<'));
    let (mut depth, mut behind_as, mut plain) = (0, false, String::new());
    for (at, letter) in function.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ if depth == 0 || (depth == outer && !behind_as) => {
                if depth > 0 && function[at..].starts_with(" as ") {
                    behind_as = true;
                } else {
                    plain.push(letter);
                }
            }
            _ => {}
        }
    }
    plain
}

/// From the general domain's trap before the sealing up to its last return, short stages told with the one before them.
fn walk(stages: &[Stage]) -> Option<Vec<Stage>> {
    let sealing = stages.iter().position(|stage| stage.part == Part::Cipher && stage.instructions > 1000)?;
    let begin = stages[..sealing].iter().rposition(|stage| stage.name == GENERAL)?;
    let end = stages.iter().rposition(|stage| stage.part != Part::Hypervisor)?;
    let end = end + stages[end..].iter().position(|stage| stage.name == GENERAL).unwrap_or(stages.len() - end);
    let mut walk: Vec<Stage> = Vec::new();
    for stage in &stages[begin..end] {
        match walk.last_mut() {
            Some(last) if stage.name != GENERAL && last.name != GENERAL && same_side(last, stage) => {
                if last.name == stage.name || stage.instructions < SHORT {
                    last.instructions += stage.instructions;
                } else {
                    walk.push(stage.clone());
                }
            }
            _ => walk.push(stage.clone()),
        }
    }
    Some(walk)
}

/// Whether both are EL2's or both the secure domain's.
fn same_side(one: &Stage, other: &Stage) -> bool {
    (one.part == Part::Hypervisor) == (other.part == Part::Hypervisor)
}

fn show(walk: &[Stage]) {
    println!("{:>10} {:>10}   one write of 4 KiB, instructions", "so far", "stage");
    let mut total = 0;
    for Stage { part, name, instructions } in walk {
        total += instructions;
        let place = match part {
            _ if name == GENERAL => "EL1",
            Part::Hypervisor => "EL2",
            Part::Secure | Part::Copies | Part::Cipher => "secure domain",
        };
        println!("{total:>10} {instructions:>10}   {place:<14} {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(part: Part, name: &str, instructions: u64) -> Stage {
        Stage { part, name: name.into(), instructions }
    }

    #[test]
    fn a_log_without_sealing_has_no_walk() {
        assert_eq!(walk(&[stage(Part::Hypervisor, GENERAL, 0), stage(Part::Hypervisor, "run", 50)]), None);
    }

    #[test]
    fn the_walk_begins_at_the_trap_before_the_sealing_and_short_stages_join_the_one_before() {
        let log = [
            stage(Part::Hypervisor, GENERAL, 0),
            stage(Part::Hypervisor, "irq::serve", 90),
            stage(Part::Hypervisor, GENERAL, 0),
            stage(Part::Hypervisor, "mmio::data_abort", 90),
            stage(Part::Hypervisor, "el2_enter", 10),
            stage(Part::Secure, "queue::pop", 100),
            stage(Part::Copies, "memcpy", 5),
            stage(Part::Cipher, "crypto", 30_000),
            stage(Part::Hypervisor, "secure::visit", 200),
            stage(Part::Hypervisor, GENERAL, 0),
            stage(Part::Hypervisor, "irq::serve", 90),
        ];
        let names: Vec<_> = walk(&log).unwrap().into_iter().map(|stage| (stage.name, stage.instructions)).collect();
        let expected =
            [(GENERAL, 0), ("mmio::data_abort", 100), ("queue::pop", 105), ("crypto", 30_000), ("secure::visit", 200)];
        assert_eq!(names, expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn functions_are_named_by_module() {
        assert_eq!(short("<vgic::Vgic>::signal"), "Vgic::signal");
        assert_eq!(short("<volume::pool::Pool<D,A>>::begin"), "Pool::begin");
        assert_eq!(short("<block::Disk<R> as block::Device>::start"), "Disk::start");
        assert_eq!(short("core::slice::sort<T>::quick"), "sort::quick");
        assert_eq!(short("crypto::simd::aria::encrypt"), "crypto");
        assert_eq!(short("el2_vectors"), "el2_vectors");
    }
}
