//! Measures the throughput of every suite on this machine, over 4 KiB sectors. It asserts nothing.
use std::hint::black_box;
use std::time::{Duration, Instant};

use crypto::aead::{SECTOR_LEN, Sector};
use crypto::{Aead, Algorithm, BlockCipher, Suite, ctr};

const SECTORS: usize = 16;

/// Megabytes a second of `work`, which handles `bytes` bytes each time: the best of many short runs, so that other work on the machine
/// disturbs little.
fn throughput(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(150) {
        let run = Instant::now();
        work();
        best = best.min(run.elapsed());
    }
    bytes as f64 / best.as_secs_f64() / 1e6
}

fn main() {
    let mut buffer = vec![[0x5a; SECTOR_LEN]; SECTORS];
    println!("{:<14} {:>10} {:>10} {:>10}   MB/s", "", "one", "batch", "open");
    for algorithm in Algorithm::ALL {
        let cipher =
            BlockCipher::new(algorithm, &[7; 32][..algorithm.key_len()]).expect("the length is the algorithm's");
        let data = buffer.as_flattened_mut();
        let rate = throughput(data.len(), || ctr::xor_keystream(&cipher, &[1; 16], black_box(data)));
        println!("{:<14} {rate:>10.1}", format!("{algorithm:?}-CTR"));
    }
    for suite in Suite::ALL {
        let aead = Aead::new(suite, &[7; 32][..suite.key_len()]).expect("the length is the suite's");
        let source: Vec<Sector> = vec![[0x5a; SECTOR_LEN]; SECTORS];
        let (nonces, aads) = ([[3; 12]; SECTORS], [[4; 32]; SECTORS]);
        let mut tags = [[0; 16]; SECTORS];
        let one = throughput(SECTOR_LEN, || {
            let sealed = aead.seal(&nonces[0], &aads[0], black_box(&source[0]), &mut buffer[0]);
            black_box(sealed).expect("a sector is short enough");
        });
        let batch = throughput(SECTOR_LEN * SECTORS, || {
            let sealed = aead.seal_batch(&nonces, &aads, black_box(&source), &mut buffer, &mut tags);
            black_box(sealed).expect("all slices have one length");
        });
        let sealed = buffer.clone();
        let mut results = [Ok(()); SECTORS];
        let open = throughput(SECTOR_LEN * SECTORS, || {
            let opened = aead.open_batch(&nonces, &aads, black_box(&sealed), &mut buffer, &tags, &mut results);
            black_box(opened).expect("all slices have one length");
        });
        assert!(results.iter().all(Result::is_ok));
        println!("{:<14} {one:>10.1} {batch:>10.1} {open:>10.1}", suite.name());
    }
}
