//! What is checked: the ARMv8 kernels against the portable ones.
use core::fmt::Write;

use crypto::algorithms::hash::HmacSha256;
use crypto::algorithms::{Aead, BlockCipher, CpuFeatures, ctr};
use crypto::module::{Module, Profile};
use crypto::selftest::{Image, integrity_mac};
use crypto::{Algorithm, SECTOR_LEN, Sector, Suite};

use crate::machine::Console;

pub(crate) const SECTORS: usize = 16;
pub(crate) const KEY: [u8; 32] = *b"a key that is the same each time";

/// xorshift64*: bytes that differ, nothing more.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            *byte = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8;
        }
    }
}

pub(crate) fn run() {
    let features = CpuFeatures::detect();
    // A console that fails cannot be helped.
    let _ = writeln!(Console, "{features:?}");
    for algorithm in Algorithm::ALL {
        blocks_agree(algorithm, features);
        key_streams_agree(algorithm, features);
    }
    for suite in Suite::ALL {
        suites_agree(suite, features);
    }
    hashes_agree(features);
    batches_agree(features);
    module_tests_itself();
    let _ = writeln!(Console, "backends agree");
}

fn blocks_agree(algorithm: Algorithm, features: CpuFeatures) {
    let mut noise = Noise(0x1234_5678_9abc_def1);
    for count in [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 33, 48, 64] {
        let mut key = [0; 32];
        noise.fill(&mut key);
        let key = &key[..algorithm.key_len()];
        let portable = BlockCipher::with_features(algorithm, key, CpuFeatures::PORTABLE).expect("the key fits");
        let vector = BlockCipher::with_features(algorithm, key, features).expect("the key fits");
        let mut plain = [[0; 16]; 64];
        noise.fill(plain.as_flattened_mut());
        let mut a = plain;
        let mut b = plain;
        portable.encrypt_blocks(&mut a[..count]);
        vector.encrypt_blocks(&mut b[..count]);
        assert_eq!(a, b, "{algorithm:?} encrypt {count}");
        vector.decrypt_blocks(&mut b[..count]);
        assert_eq!(b, plain, "{algorithm:?} decrypt {count}");
    }
}

fn key_streams_agree(algorithm: Algorithm, features: CpuFeatures) {
    let mut noise = Noise(0xfeed_5678_9abc_def1);
    let key = &KEY[..algorithm.key_len()];
    let portable = BlockCipher::with_features(algorithm, key, CpuFeatures::PORTABLE).expect("the key fits");
    let vector = BlockCipher::with_features(algorithm, key, features).expect("the key fits");
    for first in [0, 1, 0xef, 0xf1, 0xff, 0xfff1, 0xffff_ffef, 0xffff_fff5, u128::MAX - 20] {
        for length in [0, 1, 16, 255, 256, 257, 700, 1024] {
            let mut a = [0; 1024];
            noise.fill(&mut a);
            let mut b = a;
            ctr::xor_keystream(&portable, &u128::to_be_bytes(first), &mut a[..length]);
            ctr::xor_keystream(&vector, &u128::to_be_bytes(first), &mut b[..length]);
            assert!(a == b, "{algorithm:?} from {first:x}, {length} bytes");
        }
    }
}

fn suites_agree(suite: Suite, features: CpuFeatures) {
    let mut noise = Noise(0xabcd_5678_9abc_def1);
    let key = &KEY[..suite.key_len()];
    let portable = Aead::with_features(suite, key, CpuFeatures::PORTABLE).expect("the key fits");
    let vector = Aead::with_features(suite, key, features).expect("the key fits");
    for length in [0, 1, 15, 16, 17, 127, 128, 129, 255, 256, 300, 1000] {
        let (mut nonce, mut aad, mut a) = ([0; 12], [0; 40], [0; 1000]);
        noise.fill(&mut nonce);
        noise.fill(&mut aad);
        noise.fill(&mut a);
        let plain = a;
        let mut b = a;
        let aad = &aad[..length % 41];
        let tag = portable.seal_in_place(&nonce, aad, &mut a[..length]).expect("the message is short");
        assert_eq!(vector.seal_in_place(&nonce, aad, &mut b[..length]), Ok(tag), "{suite:?} {length}");
        assert!(a == b, "{suite:?} {length}");
        vector.open_in_place(&nonce, aad, &mut b[..length], &tag).expect("the tag is right");
        assert!(b == plain, "{suite:?} {length}");
        let mut wrong = tag;
        wrong[length % 16] ^= 1;
        assert!(vector.open_in_place(&nonce, aad, &mut a[..length], &wrong).is_err(), "{suite:?} {length}");
        assert!(a[..length].iter().all(|byte| *byte == 0));
    }
}

static mut SOURCE: [Sector; SECTORS] = [[0x5a; SECTOR_LEN]; SECTORS];
static mut TARGET: [Sector; SECTORS] = [[0; SECTOR_LEN]; SECTORS];

fn hashes_agree(features: CpuFeatures) {
    let mut noise = Noise(0x7777_5678_9abc_def1);
    let mut data = [0; 700];
    noise.fill(&mut data);
    for length in [0, 1, 55, 56, 63, 64, 65, 119, 128, 700] {
        let [a, b] = [CpuFeatures::PORTABLE, features].map(|features| {
            let mut hmac = HmacSha256::with_features(&KEY, features);
            data[..length].chunks(37).for_each(|piece| hmac.update(piece));
            hmac.finish()
        });
        assert_eq!(a, b, "HMAC of {length} bytes");
    }
}

/// Where sectors come from and go to.
#[allow(unsafe_code, static_mut_refs)]
pub(crate) fn buffers() -> (&'static mut [Sector; SECTORS], &'static mut [Sector; SECTORS]) {
    // SAFETY: this is the only core, and no caller calls another while it uses them.
    unsafe { (&mut SOURCE, &mut TARGET) }
}

fn batches_agree(features: CpuFeatures) {
    let (source, target) = buffers();
    let mut noise = Noise(0x9999_5678_9abc_def1);
    for suite in Suite::ALL {
        noise.fill(source.as_flattened_mut());
        let [portable, vector] = [CpuFeatures::PORTABLE, features]
            .map(|features| Aead::with_features(suite, &KEY[..suite.key_len()], features).expect("the key fits"));
        let (mut nonces, mut aads, mut tags) = ([[0; 12]; SECTORS], [[0; 24]; SECTORS], [[0; 16]; SECTORS]);
        noise.fill(nonces.as_flattened_mut());
        noise.fill(aads.as_flattened_mut());
        vector.seal_batch(&nonces, &aads, source, target, &mut tags).expect("all slices have one length");
        for i in 0..SECTORS {
            let mut sector = source[i];
            let tag = portable.seal_in_place(&nonces[i], &aads[i], &mut sector).expect("a sector is short enough");
            assert!(sector == target[i] && tag == tags[i], "{suite:?} sector {i}");
        }
        tags[7][7] ^= 0x80;
        let mut results = [Ok(()); SECTORS];
        source.as_flattened_mut().fill(1);
        vector.open_batch(&nonces, &aads, target, source, &tags, &mut results).expect("all slices have one length");
        for (i, result) in results.iter().enumerate() {
            assert!(result.is_ok() == (i != 7), "{suite:?} sector {i}");
        }
        assert!(source[7] == [0; SECTOR_LEN], "{suite:?}");
    }
}

fn module_tests_itself() {
    let module = Module::power_on(Profile::Kcmvp);
    let (pieces, mac): (&[&[u8]], _) = (&[b"an image"], integrity_mac(&[b"an image"]));
    module.self_test(&Image { pieces, mac: &mac }).expect("the self-tests pass");
}
