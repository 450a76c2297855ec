//! One QEMU: its console read and written by pattern, a shell in it, its end. Killed when dropped.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use xtask::process;
use xtask::qemu::Machine;

use crate::console::{Plain, Transcript, Unseen, is_ours};
use crate::place::Place;

/// What the shell says when it waits for a command.
pub const PROMPT: &str = "haechi:~# ";

/// From QEMU's start to the prompt, on a machine that is busy with other things.
pub const BOOT: Duration = Duration::from_secs(150);
/// One command of the shell, unless it is known to be long.
pub const COMMAND: Duration = Duration::from_secs(60);
/// From a refusal's cause to QEMU's end.
pub const STOP: Duration = Duration::from_secs(60);

/// How much longer than usual to wait: `HAECHI_TEST_PATIENCE`, a factor, for a slower machine.
static PATIENCE: LazyLock<f64> = LazyLock::new(|| {
    let given = std::env::var("HAECHI_TEST_PATIENCE").ok().and_then(|text| text.parse().ok());
    given.filter(|factor: &f64| factor.is_finite() && *factor > 0.0).unwrap_or(1.0)
});

/// `time`, stretched for this machine.
pub fn patience(time: Duration) -> Duration {
    time.mul_f64(*PATIENCE)
}

/// A running QEMU.
pub struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    console: Arc<Transcript>,
    reader: Option<JoinHandle<()>>,
    /// Everything before this offset of the console was waited for already.
    seen: usize,
    commands: u32,
    /// Where its files are.
    pub place: Place,
}

impl Guest {
    /// Starts the machine. Its console goes to `console.log`, its command line to `command.txt`.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(machine: &Machine, place: Place) -> Result<Self> {
        let mut command = machine.command();
        fs::write(place.file("command.txt"), process::shown(&command) + "\n")?;
        let log = File::create(place.file("console.log"))?;
        let errors = File::create(place.file("qemu.err"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().context("QEMU could not be started")?;
        let output = child.stdout.take().context("QEMU's output is piped")?;
        let input = child.stdin.take();
        let console = Arc::new(Transcript::default());
        let reader = thread::spawn({
            let console = console.clone();
            move || read(output, log, &console)
        });
        Ok(Self { child, input, console, reader: Some(reader), seen: 0, commands: 0, place })
    }

    /// Waits until the shell of Linux answers, and keeps the kernel's messages off the console from then on.
    ///
    /// # Errors
    /// When there is no prompt in time.
    pub fn login(&mut self) -> Result<()> {
        self.expect(PROMPT, BOOT)?;
        self.run("dmesg -n 1").map(drop)
    }

    /// Waits for `pattern` behind what was waited for before; gives the text up to and with it.
    ///
    /// # Errors
    /// When it does not come in time, or QEMU ends before it. The message shows the last lines of the console.
    pub fn expect(&mut self, pattern: &str, time: Duration) -> Result<String> {
        match self.console.find(pattern, self.seen, patience(time)) {
            Ok((_, end)) => {
                let mut text = self.console.since(self.seen);
                text.truncate(end - self.seen);
                self.seen = end;
                Ok(text)
            }
            Err(Unseen::TimedOut) => bail!("no `{}` within {:?}; {}", pattern.trim_end(), patience(time), self.tail()),
            Err(Unseen::Closed) => bail!("QEMU ended before `{}`; {}", pattern.trim_end(), self.tail()),
        }
    }

    /// Types `text` as it is.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("the console's input is closed")?;
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).context("QEMU takes no input any more")
    }

    /// Runs a command in the shell; gives what it printed, without the hypervisor's lines.
    ///
    /// # Errors
    /// When it fails or takes longer than [`COMMAND`].
    pub fn run(&mut self, command: &str) -> Result<String> {
        self.run_within(command, COMMAND)
    }

    /// [`Self::run`] with a time of its own.
    ///
    /// # Errors
    /// When it fails or takes longer than `time`.
    pub fn run_within(&mut self, command: &str, time: Duration) -> Result<String> {
        let (output, status) = self.status_of(command, time)?;
        ensure!(status == 0, "`{command}` ended with {status}: {}", output.trim());
        Ok(output)
    }

    /// What a command printed, and its exit status.
    ///
    /// # Errors
    /// When it takes longer than `time` or the guest is gone.
    pub fn status_of(&mut self, command: &str, time: Duration) -> Result<(String, i32)> {
        self.commands += 1;
        // The marks are put together by printf, so that the echo of the command line is none.
        let (begin, end) = (format!("@B{}@", self.commands), format!("@E{}@", self.commands));
        let number = self.commands;
        self.send(&format!("printf '@%s{number}@\\n' B; {command}; printf '\\n@%s{number}@%d@\\n' E $?\n"))?;
        self.expect(&begin, COMMAND).with_context(|| format!("the shell did not take `{command}`"))?;
        let output = self.expect(&end, time).with_context(|| format!("`{command}` did not end"))?;
        let status = self.expect("@", COMMAND)?;
        self.expect(PROMPT, COMMAND)?;
        let status = status.trim_end_matches('@').trim().parse().context("the exit status is a number")?;
        Ok((said(&output, &end), status))
    }

    /// Everything on the console so far.
    pub fn transcript(&self) -> String {
        self.console.since(0)
    }

    /// What was on the console behind what was waited for.
    pub fn rest(&self) -> String {
        self.console.since(self.seen)
    }

    /// Waits for QEMU's end and all of its console.
    ///
    /// # Errors
    /// When it still runs after `time`.
    pub fn wait(&mut self, time: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience(time);
        loop {
            if let Some(status) = self.child.try_wait()? {
                if let Some(reader) = self.reader.take() {
                    reader.join().map_err(|_| anyhow::anyhow!("the console's reader panicked"))?;
                }
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("QEMU still runs after {:?}; {}", patience(time), self.tail());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Turns Linux off and waits for QEMU's end, which must be a good one.
    ///
    /// # Errors
    /// When it does not end, or with a code other than 0.
    pub fn power_off(&mut self) -> Result<()> {
        self.send("poweroff\n")?;
        let status = self.wait(BOOT)?;
        ensure!(status.success(), "QEMU ended with {status}; {}", self.tail());
        Ok(())
    }

    /// The last lines of the console.
    fn tail(&self) -> String {
        let text = self.transcript();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n    ");
        format!("the console ends with\n    {tail}")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// What stands between two marks that are on lines of their own, without the lines of the hypervisor and the secure domain.
fn said(text: &str, end: &str) -> String {
    let text = text.strip_suffix(end).unwrap_or(text);
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.lines().filter(|line| !is_ours(line)).collect::<Vec<_>>().join("\n")
}

/// Copies QEMU's output into the log and the transcript until its end.
fn read(mut output: ChildStdout, mut log: File, console: &Transcript) {
    let mut plain = Plain::default();
    let mut buffer = [0; 4096];
    while let Ok(len) = output.read(&mut buffer) {
        if len == 0 {
            break;
        }
        // A log that cannot be written must not stop the test.
        let _ = log.write_all(&buffer[..len]);
        console.add(buffer[..len].iter().filter_map(|byte| plain.next(*byte)));
    }
    console.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_what_stands_between_the_marks() {
        assert_eq!(said("\none\n[secure] disk: 1 MiB\ntwo\n\n@E1@", "@E1@"), "one\ntwo");
        assert_eq!(said("\nopen\n@E1@", "@E1@"), "open");
        assert_eq!(said("\n\n@E1@", "@E1@"), "");
    }
}
