//! Throughput on this machine, as ratios to OpenSSL's in the same run.
//!
//! OpenSSL is asked through its own `openssl speed`, so that nothing has to be linked with it; it is there wherever certificates are. Every round
//! measures each cipher and mode once here and once there, so that both meet the same other work on the machine.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::bench::figures::Spread;
use crate::{process, progress};

const ROUNDS: usize = 3;
/// Processor time for each of ours; `openssl speed` counts whole seconds.
const MILLISECONDS: &str = "120";

/// A cipher in a mode.
struct Cell {
    cipher: &'static str,
    mode: &'static str,
    /// What OpenSSL calls it. Its SEED has neither counter mode nor a mode that authenticates; ECB is the cipher alone.
    openssl: String,
}

fn cells() -> Vec<Cell> {
    let ciphers = ["ARIA-128", "ARIA-256", "SEED-128", "AES-128", "AES-256"];
    let cell = |(cipher, mode): (&'static str, &'static str)| {
        let openssl = match cipher {
            "SEED-128" => "seed-ecb".to_owned(),
            _ => format!("{cipher}-{mode}").to_lowercase(),
        };
        Cell { cipher, mode, openssl }
    };
    ciphers.into_iter().flat_map(|cipher| ["CTR", "GCM", "CCM"].map(|mode| (cipher, mode))).map(cell).collect()
}

/// Measures and prints the table; `bench` is the example of that name.
pub(super) fn print(bench: &Path) -> Result<()> {
    let cells = cells();
    let mut ratios: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
    for round in 1..=ROUNDS {
        progress::step(&format!("Ciphers on this machine, round {round} of {ROUNDS}"), || {
            for (i, cell) in cells.iter().enumerate() {
                let theirs = openssl(cell)?;
                for (name, rate) in ours(bench, cell)? {
                    ratios.entry((i, name)).or_default().push(rate / theirs);
                }
            }
            Ok(())
        })?;
    }
    println!("throughput over 4 KiB as a multiple of {}", version()?);
    println!(
        "(processor time; {ROUNDS} rounds: least / median / greatest; SEED against its ECB in the legacy provider)"
    );
    println!("{:<14} {:>22} {:>22} {:>22} {:>22}", "", "one sector", "16 sectors", "portable", "RustCrypto");
    for (i, cell) in cells.iter().enumerate() {
        let column = |name: &str| {
            let spread = ratios.get(&(i, name.to_owned())).and_then(|all| Spread::of(all.iter().copied()));
            spread.map_or_else(|| "-".to_owned(), |spread| format!("{spread:.2}"))
        };
        let [one, batch, portable, rustcrypto] = ["one", "batch", "portable", "rustcrypto"].map(column);
        let name = format!("{}-{}", cell.cipher, cell.mode);
        println!("{name:<14} {one:>22} {batch:>22} {portable:>22} {rustcrypto:>22}");
    }
    Ok(())
}

/// Bytes a second of each of ours.
fn ours(bench: &Path, cell: &Cell) -> Result<Vec<(String, f64)>> {
    let mut command = process::command(&bench.display().to_string());
    let said = process::text(command.args([cell.cipher, cell.mode, MILLISECONDS]))?;
    let rate = |line: &str| {
        let (name, rate) = line.split_once(' ')?;
        Some((name.to_owned(), rate.parse().ok()?))
    };
    said.lines().map(|line| rate(line).with_context(|| format!("`{line}` is no rate"))).collect()
}

/// Bytes a second of OpenSSL.
fn openssl(cell: &Cell) -> Result<f64> {
    let mut command = process::command("openssl");
    command.args(["speed", "-mr", "-seconds", "1", "-bytes", "4096", "-provider", "legacy", "-provider", "default"]);
    if cell.openssl.ends_with("gcm") || cell.openssl.ends_with("ccm") {
        command.arg("-aead");
    }
    let said = process::text(command.args(["-evp", &cell.openssl]))?;
    rate(&said).with_context(|| format!("`openssl speed` gave no rate for {}:\n{said}", cell.openssl))
}

/// The rate in the last line of `openssl speed -mr`: `+F:25:ARIA-128-CTR:171966464.00`.
fn rate(said: &str) -> Option<f64> {
    said.lines().rev().find_map(|line| line.strip_prefix("+F:"))?.rsplit(':').next()?.parse().ok()
}

fn version() -> Result<String> {
    let said = process::text(process::command("openssl").arg("version"))?;
    Ok(said.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_of_openssl_is_read() {
        assert_eq!(rate("+R:17216:SEED-ECB:1.000000\n+H:4096\n"), None);
        assert_eq!(rate("+H:4096\n+F:25:SEED-ECB:70516736.00\n"), Some(70_516_736.0));
    }
}
