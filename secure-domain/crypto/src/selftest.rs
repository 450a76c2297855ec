//! The self-tests: known answers for every algorithm (KS X ISO/IEC 19790 section 7.10), on the portable backend and on the one that this
//! processor selects.
//!
//! The answers are published values: RFC 5794, RFC 4269, FIPS 197, RFC 4231, FIPS 180-4, Wycheproof, NIST CAVP, RFC 7914, and for
//! HMAC-DRBG and SEED's CMAC the derived values of `tests/vectors`. A tester can name one test to be falsified, and must then see it fail.
use crate::block::BlockCipher;
use crate::ccm::Ccm;
use crate::ccm_wrap::WrappingKey;
use crate::drbg::HmacDrbgSha256;
use crate::features::CpuFeatures;
use crate::gcm::Gcm;
use crate::hash::{Digest32, Hash, HmacSha256, hmac_sha512, kbkdf_fixed_input, pbkdf2, sha512};
use crate::suite::Algorithm;
use crate::{cmac, ctr, kw};

/// One self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// HMAC-SHA-256, which the integrity test needs and so runs first.
    Hmac,
    /// The integrity of the module's image.
    Integrity,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// HMAC-SHA-512.
    HmacSha512,
    /// The named block cipher, one block in each direction.
    Block(Algorithm),
    /// Counter mode.
    Ctr,
    /// GCM with the named cipher, sealing and opening.
    Gcm(Algorithm),
    /// CCM with the named cipher, sealing and opening.
    Ccm(Algorithm),
    /// CMAC with the named cipher.
    Cmac(Algorithm),
    /// Key wrap and unwrap.
    KeyWrap,
    /// Key wrap and unwrap with CCM.
    CcmWrap,
    /// KBKDF in counter mode.
    Kbkdf,
    /// PBKDF2.
    Pbkdf2,
    /// HMAC-DRBG: instantiate, generate, reseed, generate.
    HmacDrbg,
}

impl Test {
    /// Every test after HMAC and integrity, in the order they run.
    pub const KNOWN_ANSWERS: [Self; 25] = [
        Self::Sha256,
        Self::Sha512,
        Self::HmacSha512,
        Self::Block(Algorithm::Aria128),
        Self::Block(Algorithm::Aria192),
        Self::Block(Algorithm::Aria256),
        Self::Block(Algorithm::Seed128),
        Self::Block(Algorithm::Aes128),
        Self::Block(Algorithm::Aes192),
        Self::Block(Algorithm::Aes256),
        Self::Ctr,
        Self::Gcm(Algorithm::Aria128),
        Self::Gcm(Algorithm::Aria256),
        Self::Gcm(Algorithm::Seed128),
        Self::Gcm(Algorithm::Aes256),
        Self::Ccm(Algorithm::Aria256),
        Self::Ccm(Algorithm::Seed128),
        Self::Ccm(Algorithm::Aes128),
        Self::Cmac(Algorithm::Aria128),
        Self::Cmac(Algorithm::Seed128),
        Self::KeyWrap,
        Self::CcmWrap,
        Self::Kbkdf,
        Self::Pbkdf2,
        Self::HmacDrbg,
    ];
}

/// What the integrity test covers: the linked image, with the MAC that was written into it after linking.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The bytes under the MAC, in order, in as many pieces as they come in.
    pub pieces: &'a [&'a [u8]],
    /// Their HMAC-SHA-256 under [`INTEGRITY_KEY`].
    pub mac: &'a Digest32,
}

/// The key of the integrity test. It is public: the test finds accidents, and the boot chain finds attackers.
pub const INTEGRITY_KEY: [u8; 32] = *b"Haechi crypto module, integrity!";

/// The MAC that belongs to an image, for the step after linking.
#[must_use]
pub fn integrity_mac(pieces: &[&[u8]]) -> Digest32 {
    let mut hmac = HmacSha256::new(&INTEGRITY_KEY);
    for piece in pieces {
        hmac.update(piece);
    }
    hmac.finish()
}

/// Runs all tests in order: HMAC, integrity, known answers. `falsified` names a test whose outcome is turned into a failure by one
/// flipped bit in its answer.
///
/// # Errors
/// The first test that failed.
pub fn run(image: &Image<'_>, falsified: Option<Test>) -> Result<(), Test> {
    let both = [CpuFeatures::PORTABLE, CpuFeatures::detect()];
    let flip = |test| u8::from(falsified == Some(test));
    let check = |test: Test, passed: bool| if passed { Ok(()) } else { Err(test) };
    for features in both {
        check(Test::Hmac, hmac(features, flip(Test::Hmac)))?;
    }
    check(Test::Integrity, integrity(image, flip(Test::Integrity)))?;
    for test in Test::KNOWN_ANSWERS {
        for features in both {
            check(test, known_answer(test, features, flip(test)))?;
        }
    }
    Ok(())
}

/// Compares with one bit of the answer flipped if `flip` is 1. The answers are public, so this need not be constant time.
fn same(got: &[u8], expected: &[u8], flip: u8) -> bool {
    let Some((first, rest)) = got.split_first() else { return false };
    expected.split_first().is_some_and(|(wanted, others)| first ^ flip == *wanted && rest == others)
}

/// RFC 4231 section 4.3.
fn hmac(features: CpuFeatures, flip: u8) -> bool {
    let mut hmac = HmacSha256::with_features(b"Jefe", features);
    hmac.update(b"what do ya want for nothing?");
    let expected: Digest32 = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    same(&hmac.finish(), &expected, flip)
}

fn integrity(image: &Image<'_>, flip: u8) -> bool {
    same(&integrity_mac(image.pieces), image.mac, flip)
}

fn known_answer(test: Test, features: CpuFeatures, flip: u8) -> bool {
    match test {
        Test::Hmac => hmac(features, flip),
        // Not a known answer: `run` has the image.
        Test::Integrity => false,
        Test::Sha256 => sha256(features, flip),
        Test::Sha512 => long_hash(flip),
        Test::HmacSha512 => long_hmac(flip),
        Test::Block(algorithm) => block(algorithm, features, flip),
        Test::Ctr => counter(features, flip),
        Test::Gcm(algorithm) => gcm(algorithm, features, flip),
        Test::Ccm(algorithm) => ccm(algorithm, features, flip),
        Test::Cmac(algorithm) => mac(algorithm, features, flip),
        Test::KeyWrap => wrap(features, flip),
        Test::CcmWrap => ccm_wrap(features, flip),
        Test::Kbkdf => kbkdf(flip),
        Test::Pbkdf2 => password(flip),
        Test::HmacDrbg => drbg(flip),
    }
}

/// FIPS 180-4's example of three bytes.
fn sha256(features: CpuFeatures, flip: u8) -> bool {
    let mut hash = Hash::with_features(features);
    hash.update(b"abc");
    let expected: Digest32 = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    same(&hash.finish(), &expected, flip)
}

/// FIPS 180-4's example of three bytes.
fn long_hash(flip: u8) -> bool {
    const HALVES: [&str; 2] = [
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a",
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ];
    same(&sha512(b"abc"), HALVES.map(hex::<32>).as_flattened(), flip)
}

/// RFC 4231 section 4.3.
fn long_hmac(flip: u8) -> bool {
    const HALVES: [&str; 2] = [
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554",
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ];
    same(&hmac_sha512(b"Jefe", b"what do ya want for nothing?"), HALVES.map(hex::<32>).as_flattened(), flip)
}

fn cipher(algorithm: Algorithm, key: &[u8], features: CpuFeatures) -> Option<BlockCipher> {
    BlockCipher::with_features(algorithm, &key[..algorithm.key_len()], features).ok()
}

/// RFC 5794 appendix A, RFC 4269 appendix B.2, FIPS 197 appendix C. All keys count up from zero. 17 blocks, so that both a whole pass
/// and single blocks run.
fn block(algorithm: Algorithm, features: CpuFeatures, flip: u8) -> bool {
    let key: [u8; 32] = core::array::from_fn(|i| i as u8);
    let (plaintext, expected): ([u8; 16], [u8; 16]) = match algorithm {
        Algorithm::Seed128 => ([0; 16], hex("c11f22f20140505084483597e4370f43")),
        _ => (
            hex("00112233445566778899aabbccddeeff"),
            match algorithm {
                Algorithm::Aria128 => hex("d718fbd6ab644c739da95f3be6451778"),
                Algorithm::Aria192 => hex("26449c1805dbe7aa25a468ce263a9e79"),
                Algorithm::Aria256 => hex("f92bd7c79fb72e2f2b8f80c1972d24fc"),
                Algorithm::Aes128 => hex("69c4e0d86a7b0430d8cdb78070b4c55a"),
                Algorithm::Aes192 => hex("dda97ca4864cdfe06eaf70a0ec0d7191"),
                Algorithm::Aes256 | Algorithm::Seed128 => hex("8ea2b7ca516745bfeafc49904b496089"),
            },
        ),
    };
    cipher(algorithm, &key, features).is_some_and(|cipher| {
        let mut blocks = [plaintext; 17];
        cipher.encrypt_blocks(&mut blocks);
        let sealed = blocks.iter().all(|block| same(block, &expected, flip));
        cipher.decrypt_blocks(&mut blocks);
        sealed && blocks.iter().all(|block| *block == plaintext)
    })
}

/// RFC 8269 appendix A.1, ARIA-128, the first 16 bytes twice: once as a short text, once within a long one.
fn counter(features: CpuFeatures, flip: u8) -> bool {
    let key: [u8; 16] = hex("0c5ffd37a11edc42c325287fc0604f2e");
    let first: [u8; 16] = hex("cd3a7c42e69915ed7a2a263985640000");
    let expected: [u8; 16] = hex("ee8da60958076632cfa2fcf7922b7fb9");
    cipher(Algorithm::Aria128, &key, features).is_some_and(|cipher| {
        let (mut short, mut long) = ([0; 16], [0; 300]);
        ctr::xor_keystream(&cipher, &first, &mut short);
        ctr::xor_keystream(&cipher, &first, &mut long);
        same(&short, &expected, flip) && long[..16] == short
    })
}

/// A published AEAD record.
struct Record<const N: usize> {
    key: [u8; 32],
    nonce: [u8; 12],
    plaintext: [u8; N],
    ciphertext: [u8; N],
    tag: [u8; 16],
}

/// Seals and opens `record`, and refuses it with a wrong tag.
fn aead<const N: usize>(
    record: &Record<N>,
    flip: u8,
    seal: impl Fn(&mut [u8], &mut [u8]) -> bool,
    open: impl Fn(&mut [u8], &[u8]) -> bool,
) -> bool {
    let (mut data, mut tag) = (record.plaintext, [0; 16]);
    let sealed = seal(&mut data, &mut tag) && same(&data, &record.ciphertext, flip) && tag == record.tag;
    let mut wrong = record.tag;
    wrong[15] ^= 1;
    let mut refused = record.ciphertext;
    let refuses = !open(&mut refused, &wrong) && refused == [0; N];
    sealed && refuses && open(&mut data, &record.tag) && data == record.plaintext
}

/// Wycheproof: one record for each cipher, 20 bytes.
fn gcm(algorithm: Algorithm, features: CpuFeatures, flip: u8) -> bool {
    let long = matches!(algorithm, Algorithm::Aria256 | Algorithm::Aes256);
    let (ciphertext, tag) = match algorithm {
        Algorithm::Aria128 => ("958dc8edc90aa016290563df13e6a4ee07df1c98", "13477edb44988754ed4f1974a44d102f"),
        Algorithm::Aria256 => ("7221f323e4c7c12f997206e7324258b3617b8b38", "765b50970795eff984c90eb1da1cb3a9"),
        Algorithm::Seed128 => ("39debce3287773ffb01b414d30317b17081def6c", "725b40e5c5d1b95cf9752be4f3c52987"),
        _ => ("feca44952447015b5df1f456df8ca4bb4eee2ce2", "082e91924deeb77880e1b1c84f9b8d30"),
    };
    let record: Record<20> = Record {
        key: if long {
            hex("cdccfe3f46d782ef47df4e72f0c02d9c7f774def970d23486f11a57f54247f17")
        } else {
            hex("e63a43216c08867210e248859eb5e99c00000000000000000000000000000000")
        },
        nonce: if long { hex("376187894605a8d45e30de51") } else { hex("9c3a4263d983456658aad4b1") },
        plaintext: if long {
            hex("e28e0e9f9d22463ac0e42639b530f42102fded75")
        } else {
            hex("b14da56b0462dc05b871fc815273ff4810f92f4b")
        },
        ciphertext: hex(ciphertext),
        tag: hex(tag),
    };
    let aad: [u8; 8] = if long { hex("956846a209e087ed") } else { hex("834afdc5c737186b") };
    cipher(algorithm, &record.key, features).is_some_and(|cipher| {
        let gcm = Gcm::with_features(cipher, features);
        aead(
            &record,
            flip,
            |data, tag| gcm.seal(&record.nonce, &aad, data, tag).is_ok(),
            |data, tag| gcm.open(&record.nonce, &aad, data, tag).is_ok(),
        )
    })
}

/// Wycheproof: one CCM record for each cipher, 31 bytes, and its associated data.
fn ccm_record(algorithm: Algorithm) -> (Record<31>, [u8; 16]) {
    let long = algorithm == Algorithm::Aria256;
    let (ciphertext, tag) = match algorithm {
        Algorithm::Aria256 => {
            ("30423c03d4d9aa0dfcd8bceec7d80cdeac6db6fa6721de6d711fa41776d154", "dd092794ffd84df3124d50e0f0b93612")
        }
        Algorithm::Seed128 => {
            ("862ac333d942af28a755757aabacb086f3ebc53e49ebc8d6066ed58ad0e6ef", "e6a63bb1d54ac92709f90273f46e7252")
        }
        _ => ("320ae0c11e92d10d5bf5485c854b2d8f6318e33f16b520cffd35ada381c967", "a4866908e664ee140c6ae2b9d2ab8416"),
    };
    let record: Record<31> = Record {
        key: if long {
            hex("f59abcbf4218bd5c7601f080b5fbd3ae088733702c8fbef0c5296a406f563827")
        } else {
            hex("2c9b9ff47d742c4ab224e9ca1ed57c4c00000000000000000000000000000000")
        },
        nonce: if long { hex("a5eb0e6fe669e68239ace550") } else { hex("917962caf3932441c259282f") },
        plaintext: if long {
            hex("97dcbacd70a678cfaed13c942cf920e851ec3e6fb1f6c6eb95f1c965fb1a13")
        } else {
            hex("b542c2f3f81670ddf74f15184ab7de17e057cde9eef92babdb837500774c19")
        },
        ciphertext: hex(ciphertext),
        tag: hex(tag),
    };
    let aad = if long { hex("d603491fbf0950d36489abb40dd8d42b") } else { hex("72175bdfdb4a23e97fdcbd263baf4316") };
    (record, aad)
}

fn ccm(algorithm: Algorithm, features: CpuFeatures, flip: u8) -> bool {
    let (record, aad) = ccm_record(algorithm);
    let ccm = cipher(algorithm, &record.key, features).and_then(|cipher| Ccm::new(cipher, 12, 16).ok());
    ccm.is_some_and(|ccm| {
        aead(
            &record,
            flip,
            |data, tag| ccm.seal(&record.nonce, &aad, data, tag).is_ok(),
            |data, tag| ccm.open(&record.nonce, &aad, data, tag).is_ok(),
        )
    })
}

/// Wycheproof's record of 20 bytes for ARIA-128, and that of 17 in `derived-xts-cmac.txt` for SEED.
fn mac(algorithm: Algorithm, features: CpuFeatures, flip: u8) -> bool {
    let (key, message, expected): ([u8; 16], &[u8], [u8; 16]) = match algorithm {
        Algorithm::Seed128 => (
            hex("97dcad728a4e4991b7c53f07da3c3aef"),
            &hex::<17>("a83b92a7aead8fa1e1f7d597e26cd9077c"),
            hex("19e3fb4cfe18bde2407ac937298ce616"),
        ),
        _ => (
            hex("cbffc6c8c7f76f46349c32d666f4efb0"),
            &hex::<20>("6df067add738195fd55ac2e76b476971b9a0e6d8"),
            hex("cf2c4db717a06a26ac317f02433107bf"),
        ),
    };
    cipher(algorithm, &key, features).is_some_and(|cipher| same(&cmac::cmac(&cipher, message), &expected, flip))
}

/// Wycheproof, ARIA-256.
fn wrap(features: CpuFeatures, flip: u8) -> bool {
    let kek: [u8; 32] = hex("fce0429c610658ef8e7cfb0154c51de2239a8a317f5af5b6714f985fb5c4d75c");
    let key: [u8; 16] = hex("287326b5ed0078e7ca0164d748f667e7");
    let expected: [u8; 24] = hex("2d4f896fa07106601c7ffe49774daa46c5032cae81c74742");
    cipher(Algorithm::Aria256, &kek, features).is_some_and(|cipher| {
        let (mut wrapped, mut unwrapped) = ([0; 24], [0; 16]);
        let wraps = kw::wrap(&cipher, &key, &mut wrapped).is_ok() && same(&wrapped, &expected, flip);
        wraps && kw::unwrap(&cipher, &wrapped, &mut unwrapped).is_ok() && unwrapped == key
    })
}

/// The record of ARIA-256 as a key.
fn ccm_wrap(features: CpuFeatures, flip: u8) -> bool {
    let (record, aad) = ccm_record(Algorithm::Aria256);
    WrappingKey::with_features(&record.key, features).is_ok_and(|wrapping| {
        aead(
            &record,
            flip,
            |key, tag| {
                wrapping.wrap(&record.nonce, &aad, key).is_ok_and(|new| {
                    tag.copy_from_slice(&new);
                    true
                })
            },
            |key, tag| tag.try_into().is_ok_and(|tag| wrapping.unwrap(&record.nonce, &aad, key, tag).is_ok()),
        )
    })
}

/// NIST CAVP KDFCTR_gen, HMAC-SHA-256, 32-bit counter, record 0.
fn kbkdf(flip: u8) -> bool {
    let key: [u8; 32] = hex("dd1d91b7d90b2bd3138533ce92b272fbf8a369316aefe242e659cc0ae238afe0");
    let input: [u8; 60] = hex(concat!(
        "01322b96b30acd197979444e468e1c5c6859bf1b1cf951b7e725303e237e46b864a145fab25e517b08f8683d0315bb29",
        "11d80a0e8aba17f3b413faac"
    ));
    let expected: [u8; 16] = hex("10621342bfb0fd40046c0e29f2cfdbf0");
    let mut out = [0; 16];
    kbkdf_fixed_input::<4>(&key, &[&input], &mut out).is_ok() && same(&out, &expected, flip)
}

/// RFC 7914 section 11, the first 32 bytes.
fn password(flip: u8) -> bool {
    let expected: [u8; 32] = hex("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    let mut out = [0; 32];
    pbkdf2(b"passwd", b"salt", 1, &mut out).is_ok() && same(&out, &expected, flip)
}

/// `derived-drbg.txt`, the first 32 bytes of each 128-byte output.
fn drbg(flip: u8) -> bool {
    let entropy: [u8; 32] = hex("79ec9a31b836255fd90ea6e38c1d5d355f4fa172de4c7425c6e64c8e9912a7b8");
    let nonce: [u8; 16] = hex("030a16aaf5fe22619bb7ba91d5641fd5");
    let again: [u8; 32] = hex("028c43ecc0a7875d7950b15441f83dfb52f7eb3b774daed4b12554418cdd3182");
    let expected: [[u8; 32]; 2] = [
        hex("54975b8a263fb95e30ee8a2e48626c9a82875e3e04cd7ccb894339187cf3efac"),
        hex("df6099fed5ce03265b69180144e2d5836fa9844b28a8d2e12154bc3beb35af52"),
    ];
    let mut out = [[0; 128]; 2];
    let Ok(mut drbg) = HmacDrbgSha256::new(&entropy, &nonce, &[]) else { return false };
    drbg.generate(&[], &mut out[0]).is_ok()
        && drbg.reseed(&again, &[]).is_ok()
        && drbg.generate(&[], &mut out[1]).is_ok()
        && same(&out[0][..32], &expected[0], flip)
        && same(&out[1][..32], &expected[1], 0)
}

/// The bytes that `text` spells in hexadecimal digits.
///
/// # Panics
/// If it has another length or other digits; every call here is on a constant.
const fn hex<const N: usize>(text: &str) -> [u8; N] {
    let text = text.as_bytes();
    assert!(text.len() == 2 * N, "two digits a byte");
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

const fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'f' => character - b'a' + 10,
        _ => panic!("a hexadecimal digit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &[&[u8]] = &[b"an image"];

    #[test]
    fn each_falsified_test_is_the_one_that_fails() {
        let mac = integrity_mac(IMAGE);
        let image = Image { pieces: IMAGE, mac: &mac };
        for test in [Test::Hmac, Test::Integrity].into_iter().chain(Test::KNOWN_ANSWERS) {
            assert_eq!(run(&image, Some(test)), Err(test));
        }
    }

    #[test]
    fn a_changed_image_fails_the_integrity_test() {
        let mac = integrity_mac(IMAGE);
        assert_eq!(run(&Image { pieces: &[b"an", b" imagf"], mac: &mac }, None), Err(Test::Integrity));
    }

    #[test]
    fn all_tests_pass() {
        let mac = integrity_mac(IMAGE);
        assert_eq!(run(&Image { pieces: IMAGE, mac: &mac }, None), Ok(()));
    }
}
