//! The ARMv8 kernels: instructions per byte, counted in QEMU, and modelled cycles per byte.
//!
//! The program `armv8 bench` does each piece of work once under `-icount` and says how many instructions it took by its own counter. QEMU
//! logs all of them besides, which tells them apart by function, finds the round loops, and gives LLVM's analyser what was really executed:
//! of every function its first some thousand instructions in a piece of work, whose cycles are then scaled to all of them.
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::model::{Model, PROCESSORS};
use super::trace::{self, Functions, Work};
use crate::toolchain::Toolchain;
use crate::{firmware, process, progress};

/// Functions with a smaller share of the instructions are taken for as quick as the others.
const SMALL: f64 = 0.005;
/// Turns of a loop that are modelled.
const TURNS: usize = 40;

/// What was found for one row.
struct Row {
    name: String,
    instructions: f64,
    cycles: [f64; 3],
}

impl Row {
    fn print(&self, note: &str) {
        let [a55, n1, v2] = self.cycles;
        println!("{:<24} {:>12.2} {a55:>12.2} {n1:>12.2} {v2:>12.2}{note}", self.name, self.instructions);
    }
}

/// Builds, runs and models the program, and prints the table.
pub(super) fn print(toolchain: &Toolchain) -> Result<()> {
    let elf = firmware::armv8_program(toolchain)?;
    let (functions, mut model) = (Functions::read(&elf)?, Model::of(&elf)?);
    let works = progress::step("Counting instructions in QEMU", || count(&elf, &functions))?;
    let rows = progress::step("Modelling cycles", || rows(&works, &functions, &mut model))?;
    let [a55, n1, v2] = PROCESSORS;
    println!("ARMv8 kernels over 4 KiB (x16: over 16 such sectors at once), per byte");
    println!("{:<24} {:>12} {a55:>12} {n1:>12} {v2:>12}   cycles modelled", "", "instructions");
    for row in &rows {
        row.print(&against_ctr(row, &rows));
    }
    println!();
    bars(&rows);
    Ok(())
}

fn count(elf: &std::path::Path, functions: &Functions) -> Result<Vec<Work>> {
    let mut qemu = process::command("qemu-system-aarch64");
    qemu.args([
        "-M",
        "virt",
        "-cpu",
        "cortex-a76",
        "-m",
        "64",
        "-display",
        "none",
        "-nic",
        "none",
        "-icount",
        "shift=0",
    ]);
    // One instruction to a block: where longer ones end, the log does not say.
    qemu.args(["-accel", "tcg,one-insn-per-tb=on", "-d", "exec,nochain"]);
    qemu.args(["-semihosting-config", "enable=on,arg=armv8,arg=bench", "-kernel"]).arg(elf);
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let works = trace::read(child.stderr.take().context("its log is piped")?, functions);
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", process::shown(&qemu));
    }
    works
}

fn rows(works: &[Work], functions: &Functions, model: &mut Model) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for work in works {
        if work.mode == "CTR" {
            rows.push(round_loop(work, functions, model)?);
        }
        let name = format!("{}-{}", work.cipher, work.mode);
        rows.push(Row { name, instructions: work.instructions / work.bytes, cycles: whole(work, functions, model)? });
    }
    Ok(rows)
}

/// The loop over the rounds; where a cipher's rounds begin outside of it, those are not in this row.
fn round_loop(work: &Work, functions: &Functions, model: &mut Model) -> Result<Row> {
    let hottest = work.hottest_loop(functions).context("a cipher has a loop")?;
    let body: Vec<u64> = (hottest.begin..=hottest.end).step_by(4).collect();
    let turns = hottest.turns / TURNS as f64 / work.bytes;
    let cycles = model.cycles(&body.repeat(TURNS))?.map(|cycles| cycles * turns);
    Ok(Row { name: format!("{} round loop", work.cipher), instructions: hottest.instructions / work.bytes, cycles })
}

/// Cycles per byte of a whole piece of work.
fn whole(work: &Work, functions: &Functions, model: &mut Model) -> Result<[f64; 3]> {
    let by_function = work.by_function(functions);
    let all: f64 = by_function.iter().map(|(_, count)| count).sum();
    let (mut cycles, mut modelled) = ([0.0; 3], 0.0);
    for (function, count) in by_function.iter().filter(|(_, count)| *count >= SMALL * all) {
        let sample =
            work.samples.get(function).with_context(|| format!("no sample of {}", functions.name(*function)))?;
        let each = model.cycles(sample)?.map(|total| total / sample.len() as f64);
        cycles = std::array::from_fn(|i| cycles[i] + each[i] * count);
        modelled += count;
    }
    Ok(cycles.map(|cycles| cycles * all / modelled / work.bytes))
}

fn find<'r>(rows: &'r [Row], name: &str) -> Option<&'r Row> {
    rows.iter().find(|row| row.name == name)
}

/// How many times the counter mode's instructions and cycles a row of CCM takes.
fn against_ctr(row: &Row, rows: &[Row]) -> String {
    let ctr = row.name.split_once("-CCM").and_then(|(cipher, _)| find(rows, &format!("{cipher}-CTR")));
    let times = |ctr: &Row| {
        format!("   {:.2} x CTR, cycles {:.2}", row.instructions / ctr.instructions, row.cycles[1] / ctr.cycles[1])
    };
    ctr.map(times).unwrap_or_default()
}

/// Prints what issue and design ask for beside what was found.
fn bars(rows: &[Row]) {
    let row = |name: &str| find(rows, name).map_or([f64::NAN; 2], |row| [row.instructions, row.cycles[1]]);
    let [aria, seed, aes] = ["ARIA-128", "SEED-128", "AES-128"]
        .map(|cipher| [row(&format!("{cipher}-CTR")), row(&format!("{cipher}-CCMx16"))]);
    let bars = [
        ("ARIA-128-CTR, instructions", aria[0][0], 5.5),
        ("ARIA-128-CTR, cycles on neoverse-n1", aria[0][1], 3.0),
        ("SEED-128-CTR, instructions", seed[0][0], 20.0),
        ("SEED-128-CTR, cycles on neoverse-n1", seed[0][1], 10.5),
        ("ARIA-128-CCMx16 / CTR, instructions", aria[1][0] / aria[0][0], 2.2),
        ("SEED-128-CCMx16 / CTR, instructions", seed[1][0] / seed[0][0], 2.2),
        ("AES-128-CCMx16 / CTR, instructions", aes[1][0] / aes[0][0], 2.2),
    ];
    for (what, found, bar) in bars {
        let verdict =
            if found <= bar { "kept".to_owned() } else { format!("missed by {:.1} %", (found / bar - 1.0) * 100.0) };
        println!("{what:<38} {found:>6.2}, bar {bar:>5.1}: {verdict}");
    }
}
