//! Cycles as LLVM's machine code analyser models them: a front end that never waits, no branch mispredicted, all data in the first
//! cache. It knows the ports and latencies of a processor and nothing of its memory.
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::process;

/// The processors that are modelled.
pub(super) const PROCESSORS: [&str; 3] = ["cortex-a55", "neoverse-n1", "neoverse-v2"];

/// The oldest LLVM that has models of all of them.
const OLDEST: u32 = 17;
const NEWEST: u32 = 40;

/// The analyser over one program.
pub(super) struct Model {
    analyser: String,
    /// Assembly by address.
    text: HashMap<u64, String>,
    /// What was modelled before: kernels come back in every mode.
    known: HashMap<Vec<u64>, [f64; 3]>,
}

impl Model {
    pub(super) fn of(elf: &Path) -> Result<Self> {
        let (analyser, disassembler) = (tool("llvm-mca")?, tool("llvm-objdump")?);
        let mut command = process::command(&disassembler);
        let listing = process::text(command.args(["--disassemble", "--no-show-raw-insn"]).arg(elf))?;
        let text = listing.lines().filter_map(instruction).collect();
        Ok(Self { analyser, text, known: HashMap::new() })
    }

    /// Cycles that these instructions take one after the other, on each of [`PROCESSORS`].
    pub(super) fn cycles(&mut self, addresses: &[u64]) -> Result<[f64; 3]> {
        if let Some(known) = self.known.get(addresses) {
            return Ok(*known);
        }
        let lines: Vec<&str> =
            addresses.iter().filter_map(|address| self.text.get(address)).map(String::as_str).collect();
        let assembly = format!(".Lelsewhere:\n{}\n", lines.join("\n"));
        let cycles = thread::scope(|scope| {
            let runs = PROCESSORS.map(|processor| scope.spawn(|| analyse(&self.analyser, processor, &assembly)));
            let cycles = runs.map(|run| run.join().expect("the analyser's thread does not panic"));
            cycles.into_iter().collect::<Result<Vec<_>>>()
        })?;
        let cycles = [cycles[0], cycles[1], cycles[2]];
        self.known.insert(addresses.to_vec(), cycles);
        Ok(cycles)
    }
}

/// Runs the analyser over the assembly once.
fn analyse(analyser: &str, processor: &str, assembly: &str) -> Result<f64> {
    let mut command = process::command(analyser);
    command.args(["-mtriple=aarch64", "-mattr=+aes,+sha2,+sha3", "-iterations=1"]).arg(format!("-mcpu={processor}"));
    command.args(["-resource-pressure=false", "-instruction-info=false", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("its input is piped")?;
    // It reads all before it writes anything of size.
    input.write_all(assembly.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let cycles = said.lines().find_map(|line| line.strip_prefix("Total Cycles:")?.trim().parse().ok());
    match cycles {
        Some(cycles) if output.status.success() => Ok(cycles),
        _ => bail!("{analyser} failed for {processor}:\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Mnemonics whose last operand is a place in the program, which the analyser cannot take as a number.
const PLACED: [&str; 9] = ["b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr", "adrp", "ldr"];

/// Address and assembly of a line like `40080000:       b.eq    0x40080010 <name+0x10>`.
fn instruction(line: &str) -> Option<(u64, String)> {
    let (address, text) = line.split_once(':')?;
    let address = u64::from_str_radix(address.trim(), 16).ok()?;
    let text = text.split(['<']).next()?.split("//").next()?.trim();
    let (mnemonic, operands) = text.split_once(['\t', ' ']).unwrap_or((text, ""));
    let last = operands.trim().rsplit(',').next().unwrap_or_default().trim();
    let is_placed = last.starts_with("0x") && (PLACED.contains(&mnemonic) || mnemonic.starts_with("b."));
    let text = match mnemonic {
        // Calls and returns are modelled as jumps: the analyser would put a whole function's time in place of a call.
        "bl" | "blr" | "br" | "ret" => "b .Lelsewhere".to_owned(),
        _ if is_placed => format!("{mnemonic} {}", operands.replace(last, ".Lelsewhere")),
        _ => text.to_owned(),
    };
    Some((address, text))
}

/// The newest of LLVM's programs of this name.
fn tool(name: &str) -> Result<String> {
    let numbered = (OLDEST..=NEWEST).rev().map(|version| format!("{name}-{version}"));
    let candidates = numbered.chain([name.to_owned()]);
    let found = candidates.into_iter().find(|candidate| version(candidate).is_some_and(|version| version >= OLDEST));
    found.with_context(|| {
        format!("`{name}` of LLVM {OLDEST} or newer is not on this machine; `./x bench crypto` installs it")
    })
}

fn version(program: &str) -> Option<u32> {
    let said = process::text(process::command(program).arg("--version")).ok()?;
    let number = said.split("version ").nth(1)?;
    number.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_program_become_a_label() {
        let text = |line| instruction(line).map(|(_, text)| text);
        assert_eq!(
            text("400bb280:      \ttbnz\tw3, #0x0, 0x400bad2c <f+0xb38>").unwrap(),
            "tbnz w3, #0x0, .Lelsewhere"
        );
        assert_eq!(text("400bb280:      \tb.eq\t0x400bad2c <f+0xb38>").unwrap(), "b.eq .Lelsewhere");
        assert_eq!(text("400bb280:      \tadrp\tx2, 0x400ce000 <f>").unwrap(), "adrp x2, .Lelsewhere");
        assert_eq!(text("400bb280:      \tmov\tw0, #0x1                // =1").unwrap(), "mov\tw0, #0x1");
        assert_eq!(text("400bb280:      \tret").unwrap(), "b .Lelsewhere");
        assert_eq!(text("0000000040080000 <_start>:"), None);
    }
}
