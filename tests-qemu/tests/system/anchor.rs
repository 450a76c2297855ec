//! The development anchor on QEMU's flash, register by register: QEMU's processor stands still (`-S`), and QEMU answers reads and
//! writes of its address space, a line each (`-qtest`).
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anchor::flash::DevelopmentAnchor;
use anchor::flash::model::SimulatedNor;
use anchor::{MonotonicStore, Record};
use anyhow::{Context, Result, ensure};
use crypto::host;
use tests_qemu::place::Place;
use tests_qemu::runner::{Group, alone};
use xtask::{process, qemu};

/// The second flash bank of `virt`: its address, its sectors, the write buffer of a chip (QEMU, hw/arm/virt.c and
/// hw/block/pflash_cfi01.c).
const BANK: u64 = 0x0400_0000;
const SECTORS: usize = 256;
const SECTOR_BYTES: usize = 256 << 10;
const BUFFER_LOG2: u8 = 11;

const KEY: [u8; 32] = [0x2d; 32];

pub(crate) fn groups() -> Vec<Group> {
    let checks = vec![
        alone("advances_over_a_change_of_sector", |_, place| advances(place)),
        alone("survives_the_end_of_qemu_at_any_write", |_, place| survives(place)),
    ];
    vec![Group::each("anchor", checks)]
}

/// QEMU's flash, a word at a time.
struct Flash {
    qemu: Child,
    pipe: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    /// Writes after which QEMU is killed.
    left: usize,
}

impl Flash {
    fn start(file: &Path) -> Result<Flash> {
        let mut command = process::command(qemu::PROGRAM);
        command.args(["-M", "virt", "-S", "-display", "none", "-nodefaults", "-qtest", "stdio"]);
        command.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", file.display()));
        let mut qemu = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (input, output) = (qemu.stdin.take().context("no input")?, qemu.stdout.take().context("no output")?);
        Ok(Flash { qemu, pipe: RefCell::new((input, BufReader::new(output))), left: usize::MAX })
    }

    /// The answer to a line; none once QEMU is gone.
    fn ask(&self, line: &str) -> Option<String> {
        let (input, output) = &mut *self.pipe.borrow_mut();
        input.write_all(line.as_bytes()).and_then(|()| input.flush()).ok()?;
        loop {
            let mut answer = String::new();
            match output.read_line(&mut answer) {
                Ok(0) | Err(_) => return None,
                Ok(_) if answer.starts_with("OK") => return Some(answer),
                Ok(_) => {}
            }
        }
    }
}

impl Drop for Flash {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl block::Registers for Flash {
    fn read(&self, offset: usize) -> u32 {
        let answer = self.ask(&format!("readl {:#x}\n", BANK + offset as u64));
        let number = answer.and_then(|answer| u32::from_str_radix(answer.trim_start_matches("OK 0x").trim(), 16).ok());
        number.unwrap_or(0)
    }

    fn write(&mut self, offset: usize, value: u32) {
        if self.left == 0 {
            // It may be gone already.
            let _ = self.qemu.kill();
        }
        self.left = self.left.saturating_sub(1);
        self.ask(&format!("writel {:#x} {value:#x}\n", BANK + offset as u64));
    }
}

/// A flash file at counter 510, made by the model: the record after the next two lies in the other sector.
fn prepared(place: &Place) -> Result<std::path::PathBuf> {
    let flash = SimulatedNor::new(SECTORS, SECTOR_BYTES, BUFFER_LOG2);
    let mut anchor = DevelopmentAnchor::new(flash, host::mac_key(&KEY))?;
    anchor.read()?;
    for counter in 0..510 {
        advance(&mut anchor, counter)?;
    }
    let file = place.file("flash.anchor");
    fs::write(&file, anchor.registers().words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())?;
    Ok(file)
}

fn record(counter: u64) -> Record {
    Record::new(&[counter as u8; 224]).expect("224 bytes are allowed")
}

fn advance(anchor: &mut impl MonotonicStore, counter: u64) -> Result<()> {
    anchor.start(counter, &record(counter + 1))?;
    let end = (0..100).find_map(|_| anchor.poll()).context("the advance never ends")?;
    ensure!(end? == counter + 1);
    Ok(())
}

fn open(file: &Path, expected: &[u64]) -> Result<(DevelopmentAnchor<Flash>, u64)> {
    let mut anchor = DevelopmentAnchor::new(Flash::start(file)?, host::mac_key(&KEY))?;
    let found = anchor.read()?;
    ensure!(expected.contains(&found.counter), "the counter is {}, not one of {expected:?}", found.counter);
    ensure!(found.record == record(found.counter), "the record is another");
    Ok((anchor, found.counter))
}

fn advances(place: &Place) -> Result<()> {
    let file = prepared(place)?;
    for counter in 510..515 {
        let (mut anchor, found) = open(&file, &[counter])?;
        advance(&mut anchor, found)?;
    }
    open(&file, &[515]).map(drop)
}

fn survives(place: &Place) -> Result<()> {
    let file = prepared(place)?;
    let (mut counter, mut ends) = (510, 0);
    // An advance takes some 270 writes, with an erasure two more; the steps meet each part of it. Whole advances lie between, so
    // that the sector changes on the way.
    for left in (0..290).step_by(29) {
        let (mut anchor, found) = open(&file, &[counter])?;
        anchor.registers().left = left;
        ends += usize::from(advance(&mut anchor, found).is_err());
        drop(anchor);
        let (mut anchor, found) = open(&file, &[found, found + 1])?;
        advance(&mut anchor, found)?;
        counter = found + 1;
    }
    ensure!(ends > 7 && counter > 515, "{ends} ends, counter {counter}: the test does not reach what it should");
    Ok(())
}
