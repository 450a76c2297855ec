//! The deterministic rig: QEMU counts instructions and takes each for a nanosecond of the guest's time.
//!
//! `ioeventfd=off` lets the disk be served from the guest's notification instead of racing with it in QEMU's main loop.
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Bench;
use crate::qemu::Machine;
use crate::{boot, process};

/// What a guest may take of the host's time, at most.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The seed of a run that is not repeated with others.
pub(super) const SEED: u32 = 42;

/// A machine in the rig with Haechi on it, which boots `linux` (any arm64 Image).
pub(super) fn haechi(bench: &Bench, name: &str, linux: &Path, initrd: Option<&Path>, seed: u32) -> Result<Machine> {
    let bundle = bench.directory.join(format!("{name}.bundle"));
    let mut machine = Machine::new(&bench.firmware.hypervisor);
    machine.initrd = Some(boot::pack_to(&bundle, &bench.firmware.secure_domain, linux, initrd)?);
    Ok(deterministic(machine, seed))
}

/// The same without Haechi and without EL2. Its disk has Haechi's logical block of 4 KiB.
pub(super) fn bare(linux: &Path, initrd: Option<&Path>, seed: u32) -> Machine {
    let mut machine = Machine::new(linux);
    machine.virtualization = false;
    machine.initrd = initrd.map(Path::to_owned);
    for property in ["logical_block_size", "physical_block_size"] {
        machine.extra.extend(["-global".into(), format!("virtio-blk-device.{property}=4096")]);
    }
    deterministic(machine, seed)
}

fn deterministic(mut machine: Machine, seed: u32) -> Machine {
    let seed = seed.to_string();
    let arguments = [
        ["-icount", "shift=0,sleep=off"],
        ["-seed", &seed],
        ["-rtc", "base=2024-01-01,clock=vm"],
        ["-global", "virtio-mmio.ioeventfd=off"],
    ];
    machine.extra.extend(arguments.as_flattened().iter().map(|word| (*word).to_owned()));
    machine.extra.push("-no-reboot".into());
    machine
}

/// The machine's physical disk, where Haechi's board file says it is. Through io_uring, where the host has it: what is in the
/// host's memory is then mostly there before the guest can become idle. An idle guest's time jumps to its next timer, however
/// short the host needs; so a flush must not wait for the host's disk either (`cache=unsafe`).
pub(super) fn with_disk(machine: Machine, file: &Path) -> Machine {
    add_disk(with_anchor(machine, file), 31, &backend(file))
}

/// A sealed disk's anchor.
fn with_anchor(mut machine: Machine, file: &Path) -> Machine {
    let anchor = crate::anchor::beside(file);
    machine.anchor = anchor.is_file().then_some(anchor);
    machine
}

/// A disk for the root filesystem, and one of the emulator's own that takes no time at all and holds nothing: the guest's
/// instructions are all there is to measure, and repeat exactly.
pub(super) fn with_disk_and_null(machine: Machine, file: &Path) -> Machine {
    // Linux gives names in the order of addresses.
    let machine = add_disk(with_anchor(machine, file), 30, &backend(file));
    add_disk(machine, 31, "driver=null-co,read-zeroes=on,size=64M")
}

fn backend(file: &Path) -> String {
    let allowed = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() == "0");
    let aio = if allowed { "io_uring" } else { "threads" };
    format!("format=raw,cache=unsafe,aio={aio},file={}", file.display().to_string().replace(',', ",,"))
}

fn add_disk(mut machine: Machine, slot: u32, backend: &str) -> Machine {
    machine.extra.extend(["-drive".into(), format!("if=none,id=disk{slot},{backend}")]);
    let device = format!("virtio-blk-device,drive=disk{slot},bus=virtio-mmio-bus.{slot}");
    machine.extra.extend(["-device".into(), device]);
    machine
}

/// A guest that runs. It is killed when dropped.
pub(super) struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    monitor: PathBuf,
    log: PathBuf,
    deadline: Instant,
}

impl Guest {
    /// Starts it; its console is kept in `NAME.console`.
    pub(super) fn start(bench: &Bench, name: &str, machine: &Machine) -> Result<Self> {
        let (log, monitor) = (bench.directory.join(format!("{name}.console")), socket());
        let mut command = machine.command();
        command.arg("-monitor").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log.with_extension("errors"))?);
        let mut child = command.spawn().with_context(|| format!("`{}` cannot be started", process::shown(&command)))?;
        let output = child.stdout.take().context("QEMU's output is piped")?;
        let input = child.stdin.take();
        let mut copy = File::create(&log)?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                // A console that cannot be kept must not stop the figures.
                let _ = copy.write_all(&line);
                if sender.send(String::from_utf8_lossy(&line).trim().to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Ok(Self { child, input, lines, monitor, log, deadline: Instant::now() + PATIENCE })
    }

    /// The next line of the console; `None` when QEMU has ended.
    pub(super) fn line(&mut self) -> Result<Option<String>> {
        match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest did not end within {} s; its console is {}", PATIENCE.as_secs(), self.log.display())
            }
        }
    }

    /// The next line that begins with `@`, without it; a guest that says `failed`, or ends, is an error.
    pub(super) fn word(&mut self) -> Result<String> {
        while let Some(line) = self.line()? {
            match line.strip_prefix('@') {
                Some(said) if said.starts_with("failed") => bail!("the guest {said} ({})", self.log.display()),
                Some(said) => return Ok(said.to_owned()),
                None => {}
            }
        }
        bail!("the guest ended too soon; its console is {}", self.log.display())
    }

    /// All words up to `end`.
    pub(super) fn words(&mut self) -> Result<Vec<String>> {
        let mut words = Vec::new();
        loop {
            match self.word()? {
                word if word == "end" => return Ok(words),
                word => words.push(word),
            }
        }
    }

    /// Types a line feed.
    pub(super) fn nod(&mut self) -> Result<()> {
        self.press("\n")
    }

    /// Presses `keys`.
    pub(super) fn press(&mut self, keys: &str) -> Result<()> {
        let input = self.input.as_mut().context("QEMU's input is piped")?;
        input.write_all(keys.as_bytes()).and_then(|()| input.flush()).context("QEMU takes no input any more")
    }

    /// Gives commands to QEMU's monitor and waits until it has carried them out.
    pub(super) fn monitor(&self, commands: &[&str]) -> Result<()> {
        let mut stream = UnixStream::connect(&self.monitor).context("QEMU's monitor does not answer")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        for command in commands {
            stream.write_all(format!("{command}\n").as_bytes())?;
        }
        // The answer to the last command is there when something behind it is answered.
        stream.write_all(b"info name\ninfo kvm\n")?;
        let (mut said, mut buffer) = (String::new(), [0; 4096]);
        while !said.contains("kvm support") {
            match stream.read(&mut buffer)? {
                0 => bail!("QEMU's monitor went away"),
                len => said += &String::from_utf8_lossy(&buffer[..len]),
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // All fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.monitor);
    }
}

/// A short name: sockets' names must be.
fn socket() -> PathBuf {
    std::env::temp_dir().join(format!("haechi-bench-{}.monitor", std::process::id()))
}
