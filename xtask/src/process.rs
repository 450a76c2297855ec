//! Running other programs: found where users' `PATH` ends too soon, quoted as a shell would read it, failing with a sentence.
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's own words to repeat.
const TAIL_LINES: usize = 30;

/// A command by name; `/usr/sbin` and `/sbin` are searched too, which an ordinary user's `PATH` leaves out.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// The command as one line that can be pasted into a shell.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Runs to the end with its output kept; a failure shows the command and the end of what it said.
///
/// # Errors
/// When the program is missing or ends with a code other than 0.
pub fn capture(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    bail!("`{}` failed ({}):\n{}", shown(command), output.status, tail(&String::from_utf8_lossy(&said)))
}

/// Runs to the end and gives all it said, as an error when it failed.
///
/// # Errors
/// When the program is missing.
pub fn words(command: &mut Command) -> Result<Result<String, String>> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim_end().to_owned();
    Ok(if output.status.success() { Ok(said) } else { Err(said) })
}

/// Like [`capture`], giving standard output as text.
///
/// # Errors
/// As [`capture`]; also when the output is not UTF-8.
pub fn text(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed what is not UTF-8", shown(command)))
}

/// Runs to the end with its output going where ours goes.
///
/// # Errors
/// When the program is missing or ends with a code other than 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Becomes the program, so that signals and the exit code are its own. Comes back only when it could not be started.
///
/// # Errors
/// When the program is missing.
pub fn replace(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(not_started(command, &error))
}

fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let name = command.get_program().to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("`{name}` is not on this machine; `./x` installs what is needed"),
        _ => anyhow::anyhow!("`{name}` could not be started: {error}"),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_is_named() {
        let error = capture(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("`no-such-program-here` is not on this machine"));
    }

    #[test]
    fn failure_shows_command_and_words() {
        let error = capture(Command::new("sh").args(["-c", "echo alas >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("echo alas") && error.ends_with("alas"), "{error}");
    }

    #[test]
    fn shown_command_survives_a_shell() {
        let line = shown(Command::new("echo").args(["a b", "it's", "$HOME"]));
        let echoed = text(Command::new("sh").args(["-c", &line])).unwrap();
        assert_eq!(echoed, "a b it's $HOME\n");
    }
}
