//! Looks for time that depends on secrets: Welch's t between fixed and random classes, for each backend.
//!
//! Each operation is timed many times on one of two classes, chosen at random: a fixed key (or text) and a random one. If the time does not depend
//! on the secret, the means agree and |t| stays small; beyond 4.5 the difference is no accident (Reparaz, Balasch, Verbauwhede, "Dude, is my code
//! constant time?", 2017). The slowest tenth of the measurements is left out, because other work on the machine makes it. Nothing is asserted:
//! a shared machine is not quiet enough for a verdict.
use std::hint::black_box;
use std::time::Instant;

use crypto::algorithms::hash::sha256;
use crypto::algorithms::{Aead, BlockCipher, CpuFeatures, cmac};
use crypto::{Algorithm, Suite};

const SAMPLES: usize = 20_000;
const KEYS: usize = 64;

/// Random bytes that the compiler cannot foresee.
struct Noise([u8; 32]);

impl Noise {
    fn next(&mut self) -> [u8; 32] {
        self.0 = sha256(&self.0);
        self.0
    }
}

/// Welch's t of two samples of times.
fn welch(classes: [Vec<f64>; 2]) -> f64 {
    let all: Vec<f64> = {
        let mut all: Vec<f64> = classes.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let limit = all[all.len() * 9 / 10];
    let [a, b] = classes.map(|class| {
        let kept: Vec<f64> = class.into_iter().filter(|time| *time <= limit).collect();
        let n = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / n;
        let variance = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

/// Times `work` on the secret of one class or the other. It makes what it needs from the secret itself, always in the same memory: two
/// sets of expanded keys would differ by what the caches hold of them.
fn compare<S>(name: &str, fixed: &[S], random: &[S], mut work: impl FnMut(&S)) {
    let mut noise = Noise(*b"which class is timed next: coins");
    let mut times = [Vec::new(), Vec::new()];
    for i in 0..SAMPLES {
        let coin = noise.next();
        let class = usize::from(coin[0] & 1);
        // The same access pattern for both: each class is an array of the same length.
        let secret = &[fixed, random][class][i % KEYS];
        let begin = Instant::now();
        work(black_box(secret));
        times[class].push(begin.elapsed().as_nanos() as f64);
    }
    println!("{name:<40} t = {:>7.2}", welch(times));
}

fn main() {
    let mut noise = Noise(*b"the secrets of the random class!");
    for (features, backend) in [(CpuFeatures::PORTABLE, "portable"), (CpuFeatures::detect(), "detected")] {
        for algorithm in [Algorithm::Aria256, Algorithm::Seed128, Algorithm::Aes256] {
            let len = algorithm.key_len();
            let random: Vec<[u8; 32]> = (0..KEYS).map(|_| noise.next()).collect();
            let fixed = vec![[0; 32]; KEYS];
            compare(&format!("{algorithm:?} key schedule, {backend}"), &fixed, &random, |key| {
                black_box(BlockCipher::with_features(algorithm, &key[..len], features).expect("the key fits"));
            });
            let cipher =
                |key: &[u8; 32]| BlockCipher::with_features(algorithm, &key[..len], features).expect("the key fits");
            compare(&format!("{algorithm:?} 16 blocks by key, {backend}"), &fixed, &random, |key| {
                cipher(key).encrypt_blocks(black_box(&mut [[7; 16]; 16]));
            });
            compare(&format!("{algorithm:?} CMAC by key, {backend}"), &fixed, &random, |key| {
                black_box(cmac::cmac(&cipher(key), &[7; 32]));
            });
            let one = cipher(&[9; 32]);
            let texts: Vec<[u8; 32]> = (0..KEYS).map(|_| noise.next()).collect();
            compare(&format!("{algorithm:?} blocks by text, {backend}"), &vec![[0; 32]; KEYS], &texts, |text| {
                one.encrypt_blocks(black_box(text.as_chunks::<16>().0.to_vec().as_mut_slice()));
            });
        }
        for suite in [Suite::Aria256Gcm, Suite::Seed128Ccm] {
            let open =
                |key: &[u8; 32]| Aead::with_features(suite, &key[..suite.key_len()], features).expect("the key fits");
            let random: Vec<[u8; 32]> = (0..KEYS).map(|_| noise.next()).collect();
            let name = format!("{} refusal by key, {backend}", suite.name());
            compare(&name, &vec![[0; 32]; KEYS], &random, |key| {
                let aead = open(key);
                black_box(aead.open_in_place(&[1; 12], b"", &mut [5; 64], &[0; 16])).expect_err("the tag is wrong");
            });
        }
    }
}
