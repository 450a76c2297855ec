//! Measures what enciphering a number of blocks at once costs on this machine, in nanoseconds; `./x bench crypto` calls it.
use std::hint::black_box;
use std::time::Instant;

use crypto::Algorithm;
use crypto::algorithms::{BlockCipher, CpuFeatures};

const CIPHERS: [(Algorithm, &str); 3] =
    [(Algorithm::Aria128, "ARIA-128"), (Algorithm::Seed128, "SEED-128"), (Algorithm::Aes128, "AES-128")];
const BLOCKS: [usize; 14] = [1, 2, 3, 4, 8, 9, 15, 16, 17, 24, 32, 33, 48, 64];
/// The best of so many batches, each of so many calls: what other work on the machine takes is left out.
const BATCHES: usize = 25;
const CALLS: u32 = 60;

fn nanoseconds(cipher: &BlockCipher, blocks: usize) -> u128 {
    let mut blocks = vec![[0x5a; 16]; blocks];
    let batch = || {
        let begin = Instant::now();
        for _ in 0..CALLS {
            cipher.encrypt_blocks(black_box(&mut blocks));
        }
        (begin.elapsed() / CALLS).as_nanos()
    };
    std::iter::repeat_with(batch).take(BATCHES).min().expect("there is a batch")
}

fn main() {
    println!("Blocks at once, ns: the fastest backend of this machine, and the portable one");
    println!("{:<20}{}", "", BLOCKS.map(|blocks| format!("{blocks:>6}")).concat());
    for (backend, features) in [("", CpuFeatures::detect()), (", portable", CpuFeatures::PORTABLE)] {
        for (algorithm, name) in CIPHERS {
            let key = &[7; 32][..algorithm.key_len()];
            let cipher = BlockCipher::with_features(algorithm, key, features).expect("the key fits");
            let row = BLOCKS.map(|blocks| format!("{:>6}", nanoseconds(&cipher, blocks)));
            println!("{:<20}{}", format!("{name}{backend}"), row.concat());
        }
    }
}
