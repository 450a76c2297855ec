//! What is counted: every cipher over a few blocks, and in every mode over one sector of 4 KiB and over 16.
//!
//! Each piece of work stands between two calls of [`armv8_mark`], so that a log of executed instructions can be cut there. Then comes
//! one line `@CIPHER MODE BYTES INSTRUCTIONS`.
use core::fmt::{self, Write};
use core::hint::black_box;

use crypto::algorithms::{Aead, BlockCipher, ctr};
use crypto::{Algorithm, Mode, SECTOR_LEN, Suite};

use crate::check::{KEY, SECTORS, buffers};
use crate::machine::{Console, now_ns};

const CIPHERS: [(Algorithm, &str); 5] = [
    (Algorithm::Aria128, "ARIA-128"),
    (Algorithm::Aria256, "ARIA-256"),
    (Algorithm::Seed128, "SEED-128"),
    (Algorithm::Aes128, "AES-128"),
    (Algorithm::Aes256, "AES-256"),
];

/// Blocks at once, and what a row with so many is called.
const BLOCKS: [(usize, &str); 8] = [
    (1, "ECBx1"),
    (2, "ECBx2"),
    (3, "ECBx3"),
    (4, "ECBx4"),
    (8, "ECBx8"),
    (9, "ECBx9"),
    (15, "ECBx15"),
    (16, "ECBx16"),
];

/// Says in a log of instructions where work begins and ends.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn armv8_mark() {
    black_box(());
}

/// Counts `work`, which has been done once before, so that nothing happens in it for the first time.
fn measure(cipher: &str, mode: &str, bytes: usize, mut work: impl FnMut()) {
    work();
    let begin = now_ns();
    armv8_mark();
    work();
    armv8_mark();
    let instructions = now_ns() - begin;
    // In one piece: between two pieces there would be instructions in the log.
    let mut line = Line([0; 100], 0);
    writeln!(line, "@{cipher} {mode} {bytes} {instructions}").expect("the line is shorter than its buffer");
    // A console that fails cannot be helped.
    let _ = Console.write_str(line.text());
}

pub(crate) fn run() {
    for (algorithm, name) in CIPHERS {
        let cipher = BlockCipher::new(algorithm, &KEY[..algorithm.key_len()]).expect("the key fits");
        let target = &mut buffers().1;
        for (blocks, mode) in BLOCKS {
            let blocks = &mut target[1].as_chunks_mut().0[..blocks];
            measure(name, mode, 16 * blocks.len(), || cipher.encrypt_blocks(black_box(blocks)));
        }
        measure(name, "CTR", SECTOR_LEN, || ctr::xor_keystream(&cipher, &[1; 16], black_box(&mut target[0])));
        for suite in Suite::ALL.into_iter().filter(|suite| suite.algorithm() == algorithm) {
            count_suite(name, suite);
        }
    }
}

fn count_suite(name: &str, suite: Suite) {
    let (source, target) = buffers();
    let aead = Aead::new(suite, &KEY[..suite.key_len()]).expect("the key fits");
    let (nonces, aads, mut tags) = ([[3; 12]; SECTORS], [[4; 32]; SECTORS], [[0; 16]; SECTORS]);
    let (one, many) = match suite.mode() {
        Mode::Gcm => ("GCM", "GCMx16"),
        Mode::Ccm => ("CCM", "CCMx16"),
    };
    measure(name, one, SECTOR_LEN, || {
        let sealed = aead.seal(&nonces[0], &aads[0], black_box(&source[0]), &mut target[0]);
        black_box(sealed).expect("a sector is short enough");
    });
    measure(name, many, SECTOR_LEN * SECTORS, || {
        let sealed = aead.seal_batch(&nonces, &aads, black_box(source), target, &mut tags);
        black_box(sealed).expect("all slices have one length");
    });
}

/// A short text on the stack.
struct Line([u8; 100], usize);

impl Line {
    fn text(&self) -> &str {
        core::str::from_utf8(&self.0[..self.1]).unwrap_or("?")
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.1 + text.len();
        self.0.get_mut(self.1..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.1 = end;
        Ok(())
    }
}
