//! fio over the sealed disk, over a plain one, and over dm-crypt on the plain one.
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use crypto::Suite;

use super::figures::Spread;
use super::rig::{self, Guest};
use super::{Bench, guest};
use crate::sealed;

/// The jobs of `guest.sh` in the order of the table, and what is told of each.
const JOBS: [(&str, Unit); 6] = [
    ("read-128k", Unit::Megabytes),
    ("write-128k", Unit::Megabytes),
    ("randread-4k-qd32", Unit::Requests),
    ("randwrite-4k-qd32", Unit::Requests),
    ("randread-4k-qd1", Unit::Microseconds),
    ("randwrite-4k-qd1", Unit::Microseconds),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Megabytes,
    Requests,
    /// Of the median request: a mean would hold the jumps of an idle guest's time.
    Microseconds,
}

/// One column.
enum Target {
    /// Haechi's disk of this suite.
    Sealed(Suite),
    /// No hypervisor, and this job of `guest.sh`.
    Bare(&'static str),
}

/// Runs fio everywhere and prints the table.
pub(super) fn print(bench: &Bench) -> Result<()> {
    let targets = [
        ("sealed ARIA-256-GCM", Target::Sealed(sealed::DEFAULT_SUITE)),
        ("sealed AES-256-GCM", Target::Sealed(Suite::Aes256Gcm)),
        ("plain", Target::Bare("raw")),
        ("dm-crypt AES-256-XTS", Target::Bare("crypt")),
        ("the same, 4 KiB sectors", Target::Bare("crypt-4k")),
    ];
    let columns = targets.iter().map(|(_, target)| run(bench, target)).collect::<Result<Vec<_>>>()?;
    let units =
        [(Unit::Megabytes, "MB/s", 1), (Unit::Requests, "requests/s", 0), (Unit::Microseconds, "us, median", 1)];
    for (unit, name, digits) in units {
        let jobs: Vec<_> = JOBS.iter().filter(|(_, of)| *of == unit).collect();
        print!("{name:<24}");
        jobs.iter().for_each(|(job, _)| print!(" {job:>24}"));
        println!();
        for ((name, _), column) in targets.iter().zip(&columns) {
            print!("{name:<24}");
            for (job, _) in &jobs {
                print!(" {:>24.digits$}", spread(column, job)?);
            }
            println!();
        }
    }
    Ok(())
}

/// Numbers of a job, one a round.
type Column = BTreeMap<String, Vec<f64>>;

fn run(bench: &Bench, target: &Target) -> Result<Column> {
    let initrd = guest::initrd(bench)?;
    let linux = bench.images.default_kernel();
    let (name, job) = match target {
        Target::Sealed(suite) => (format!("disk-{}", sealed::suite_name(*suite)), "sealed"),
        Target::Bare(job) => (format!("disk-{job}"), *job),
    };
    let (mut machine, disk) = match target {
        Target::Sealed(suite) => {
            let disk = guest::sealed_disk(bench, &name, *suite)?;
            (rig::with_disk(rig::haechi(bench, &name, linux, Some(&initrd), rig::SEED)?, &disk), disk)
        }
        Target::Bare(_) => {
            let disk = guest::plain_disk(bench, &name)?;
            (rig::with_disk_and_null(rig::bare(linux, Some(&initrd), rig::SEED), &disk), disk)
        }
    };
    machine.append = guest::arguments(job);
    let words = Guest::start(bench, &name, &machine)?.words()?;
    guest::remove(&disk)?;
    let mut column = Column::new();
    for word in &words {
        let (job, number) = match *word.splitn(3, ' ').collect::<Vec<_>>() {
            ["rate", job, terse] => (job, rate(job, terse)?),
            ["latency", job, nanoseconds] => (job, nanoseconds.parse::<f64>()? / 1000.0),
            _ => continue,
        };
        column.entry(job.to_owned()).or_default().push(number);
    }
    Ok(column)
}

/// MB/s (10^6) of 128 KiB jobs, requests a second of others. fio's terse format, version 3: total KiB and milliseconds are fields
/// 6 and 9 for reads, 47 and 50 for writes (fio(1), TERSE OUTPUT).
fn rate(job: &str, terse: &str) -> Result<f64> {
    let fields: Vec<&str> = terse.split(';').collect();
    let first = if job.contains("write") { 47 } else { 6 };
    let number = |field: usize| {
        let text = fields.get(field - 1).with_context(|| format!("fio's line has no field {field}"))?;
        text.parse::<f64>().with_context(|| format!("fio's field {field} is `{text}`"))
    };
    let (kibibytes, milliseconds) = (number(first)?, number(first + 3)?);
    Ok(match job.contains("128k") {
        true => kibibytes * 1024.0 / milliseconds / 1000.0,
        false => kibibytes / 4.0 / milliseconds * 1000.0,
    })
}

/// All rounds but the first.
fn spread(column: &Column, job: &str) -> Result<Spread> {
    let rounds = column.get(job).with_context(|| format!("the guest did not run {job}"))?;
    Spread::of(rounds.iter().skip(1).copied()).with_context(|| format!("the guest ran {job} once"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_of_a_write_is_not_that_of_a_read() {
        let mut fields = vec!["0"; 60];
        (fields[46], fields[49]) = ("4096", "2");
        let line = fields.join(";");
        assert_eq!(rate("randwrite-4k-qd1", &line).unwrap(), 512_000.0);
        assert!(rate("write-128k", &line).unwrap() > 2_097.0);
        assert!(rate("read", "1;2").is_err());
    }
}
