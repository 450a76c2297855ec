//! Measures the throughput of one cipher in one mode on this machine, over sectors of 4 KiB; `./x bench crypto` calls it.
//!
//! ```text
//! bench ARIA-128 CTR 120
//! ```
//! gives 120 ms of processor time to each of: the fastest backend (`one`), the same over 16 sectors at once (`batch`), the portable backend
//! (`portable`), and RustCrypto's crates over its `aria` (`rustcrypto`); and prints bytes a second.
use std::hint::black_box;
use std::time::{Duration, Instant};

use aes_gcm::AesGcm;
use ccm::Ccm;
use ccm::aead::AeadInOut;
use cipher::consts::{U12, U16};
use cipher::{KeyInit, KeyIvInit, StreamCipher};
use crypto::algorithms::{Aead, BlockCipher, CpuFeatures, ctr};
use crypto::{Algorithm, SECTOR_LEN, Sector, Suite};

const SECTORS: usize = 16;

/// The processor's time that this process has had. (Linux brings the account up to date when a thread yields.)
fn processor_time(begin: Instant) -> Duration {
    std::thread::yield_now();
    let account = std::fs::read_to_string("/proc/self/schedstat").ok();
    let spent = account.and_then(|text| text.split_whitespace().next()?.parse().ok());
    spent.map_or_else(|| begin.elapsed(), Duration::from_nanos)
}

/// Prints bytes a second of `work`, which handles `bytes` bytes each time.
fn measure(name: &str, limit: Duration, bytes: usize, mut work: impl FnMut()) {
    let clock = Instant::now();
    work();
    let (begin, wall) = (processor_time(clock), Instant::now());
    let mut done = 0;
    while wall.elapsed() < limit {
        for _ in 0..4 {
            work();
            done += bytes;
        }
    }
    let spent = processor_time(clock) - begin;
    println!("{name} {:.0}", done as f64 / spent.as_secs_f64());
}

fn ours(cipher: &str, mode: &str, limit: Duration) {
    let suite = Suite::ALL.into_iter().find(|suite| suite.name() == format!("{cipher}-{mode}"));
    let algorithm = Suite::ALL.into_iter().find(|suite| suite.name().starts_with(cipher)).map(Suite::algorithm);
    let algorithm = algorithm.expect("the cipher is one of ours");
    let is_aes = matches!(algorithm, Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256);
    for (name, features) in [("one", CpuFeatures::detect()), ("portable", CpuFeatures::PORTABLE)] {
        // The portable AES is the crate `aes`, which finds the processor's instructions itself.
        if is_aes && name == "portable" {
            continue;
        }
        let key = &[7; 32][..algorithm.key_len()];
        match suite {
            Some(suite) => sectors(&Aead::with_features(suite, key, features).expect("the key fits"), name, limit),
            None => {
                let cipher = BlockCipher::with_features(algorithm, key, features).expect("the key fits");
                let mut data = [0x5a; SECTOR_LEN];
                measure(name, limit, SECTOR_LEN, || ctr::xor_keystream(&cipher, &[1; 16], black_box(&mut data)));
            }
        }
    }
}

fn sectors(aead: &Aead, name: &str, limit: Duration) {
    let source: Vec<Sector> = vec![[0x5a; SECTOR_LEN]; SECTORS];
    let mut target = source.clone();
    let (nonces, aads, mut tags) = ([[3; 12]; SECTORS], [[4; 32]; SECTORS], [[0; 16]; SECTORS]);
    measure(name, limit, SECTOR_LEN, || {
        let sealed = aead.seal(&nonces[0], &aads[0], black_box(&source[0]), &mut target[0]);
        black_box(sealed).expect("a sector is short enough");
    });
    if name == "one" {
        measure("batch", limit, SECTOR_LEN * SECTORS, || {
            let sealed = aead.seal_batch(&nonces, &aads, black_box(&source), &mut target, &mut tags);
            black_box(sealed).expect("all slices have one length");
        });
    }
}

/// RustCrypto's modes over one of its ciphers.
macro_rules! rustcrypto {
    ($cipher:ty, $mode:expr, $limit:expr) => {{
        let key = <$cipher>::generate_key_of_sevens();
        let (mut data, aad, nonce) = ([0x5a; SECTOR_LEN], [4; 32], [3; 12].into());
        match $mode {
            "CTR" => {
                let mut stream = ::ctr::Ctr128BE::<$cipher>::new(&key, &[1; 16].into());
                measure("rustcrypto", $limit, SECTOR_LEN, || stream.apply_keystream(black_box(&mut data)));
            }
            "GCM" => {
                let aead = AesGcm::<$cipher, U12>::new(&key);
                measure("rustcrypto", $limit, SECTOR_LEN, || {
                    let tag = aead.encrypt_inout_detached(&nonce, &aad, black_box(&mut data[..]).into());
                    black_box(tag).expect("a sector is short enough");
                });
            }
            _ => {
                let aead = Ccm::<$cipher, U16, U12>::new(&key);
                measure("rustcrypto", $limit, SECTOR_LEN, || {
                    let tag = aead.encrypt_inout_detached(&nonce, &aad, black_box(&mut data[..]).into());
                    black_box(tag).expect("a sector is short enough");
                });
            }
        }
    }};
}

/// A key for measurements.
trait Sevens: KeyInit {
    fn generate_key_of_sevens() -> cipher::Key<Self> {
        let mut key = cipher::Key::<Self>::default();
        key.fill(7);
        key
    }
}

impl<C: KeyInit> Sevens for C {}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [cipher, mode, milliseconds] = &words[..] else {
        eprintln!("usage: bench ARIA-128|ARIA-256|SEED-128|AES-128|AES-256 CTR|GCM|CCM MILLISECONDS");
        return;
    };
    let limit = Duration::from_millis(milliseconds.parse().expect("the last word is a number"));
    ours(cipher, mode, limit);
    match cipher.as_str() {
        "ARIA-128" => rustcrypto!(aria::Aria128, mode.as_str(), limit),
        "ARIA-256" => rustcrypto!(aria::Aria256, mode.as_str(), limit),
        _ => {}
    }
}
