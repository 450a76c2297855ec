//! Every record of the vector files, on the portable backend and on the one this processor selects: the valid ones must come out, the
//! invalid ones must be refused with nothing left behind.
mod common;

use std::cell::Cell;

use common::{Record, algorithm, label_stream, records};
use crypto::Suite;
use crypto::algorithms::ccm_wrap::WrappingKey;
use crypto::algorithms::drbg::{HmacDrbgSha256, HmacDrbgSha512};
use crypto::algorithms::hash::{kbkdf_fixed_input, pbkdf2, sha256};
use crypto::algorithms::{Aead, BlockCipher, Ccm, CpuFeatures, Gcm, Xts, cmac, ctr, kw};

thread_local! {
    static FEATURES: Cell<CpuFeatures> = const { Cell::new(CpuFeatures::PORTABLE) };
}

/// Runs `check` once for each backend; [`cipher`] and [`gcm`] use the one that is its turn.
fn on_both_backends(check: fn()) {
    for features in [CpuFeatures::PORTABLE, CpuFeatures::detect()] {
        FEATURES.set(features);
        check();
    }
}

fn cipher(record: &Record, key: &[u8]) -> Option<BlockCipher> {
    let algorithm = algorithm(&record.section, key.len())?;
    Some(BlockCipher::with_features(algorithm, key, FEATURES.get()).unwrap())
}

fn gcm(cipher: BlockCipher) -> Gcm {
    Gcm::with_features(cipher, FEATURES.get())
}

fn blocks(bytes: &[u8]) -> Vec<[u8; 16]> {
    bytes.as_chunks().0.to_vec()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

fn cbc(cipher: &BlockCipher, iv: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut last: [u8; 16] = iv.try_into().unwrap();
    let mut out = Vec::new();
    for block in blocks(plaintext) {
        last = cipher.encrypt_block(xor(&last, &block).try_into().unwrap());
        out.extend(last);
    }
    out
}

#[test]
fn block_modes() {
    on_both_backends(block_modes_here);
}

fn block_modes_here() {
    let mut checked = 0;
    for record in records("aria-block-modes.txt").iter().chain(&records("seed-block-modes.txt")) {
        let cipher = cipher(record, &record.hex("key")).unwrap();
        let (plaintext, ciphertext) = (record.hex("pt"), record.hex("ct"));
        let mode = record.section.rsplit('-').next().unwrap();
        let got = match mode {
            "ECB" => {
                let mut text = blocks(&plaintext);
                cipher.encrypt_blocks(&mut text);
                let mut back = text.clone();
                cipher.decrypt_blocks(&mut back);
                assert_eq!(back.concat(), plaintext, "{record:?}");
                text.concat()
            }
            "CTR" => {
                let mut text = plaintext.clone();
                ctr::xor_keystream(&cipher, &record.array("iv"), &mut text);
                text
            }
            "CBC" => cbc(&cipher, &record.hex("iv"), &plaintext),
            "CFB" | "OFB" => {
                // Not offered by the module; they only exercise the cipher.
                let mut feedback = record.array::<16>("iv");
                let mut out = Vec::new();
                for block in plaintext.chunks(16) {
                    let stream = cipher.encrypt_block(feedback);
                    let sum = xor(block, &stream);
                    feedback = if mode == "OFB" { stream } else { sum.clone().try_into().unwrap_or_default() };
                    out.extend(sum);
                }
                out
            }
            _ => panic!("{record:?}"),
        };
        assert_eq!(got, ciphertext, "{record:?}");
        checked += 1;
    }
    assert_eq!(checked, 24);
}

/// Seals and opens one record with `seal(nonce, aad, data, tag)` and `open(...)`; `None` if a parameter is refused.
fn check_aead(record: &Record, mode: &str, cipher: BlockCipher) -> bool {
    let (nonce, aad, tag) = (record.hex("nonce"), record.hex("aad"), record.hex("tag"));
    let (plaintext, ciphertext) = (record.hex("pt"), record.hex("ct"));
    let mut sealed = plaintext.clone();
    let mut new_tag = vec![0; tag.len()];
    let mut opened = ciphertext.clone();
    let (seal, open) = if mode == "GCM" {
        let gcm = gcm(cipher);
        (gcm.seal(&nonce, &aad, &mut sealed, &mut new_tag), gcm.open(&nonce, &aad, &mut opened, &tag))
    } else {
        let Ok(ccm) = Ccm::new(cipher, nonce.len(), tag.len()) else { return false };
        (ccm.seal(&nonce, &aad, &mut sealed, &mut new_tag), ccm.open(&nonce, &aad, &mut opened, &tag))
    };
    if open.is_ok() {
        assert_eq!((seal, opened), (Ok(()), plaintext), "{record:?}");
        assert_eq!((sealed, new_tag), (ciphertext, tag), "{record:?}");
        return true;
    }
    // Refused: either the lengths, and nothing was touched, or the tag, and nothing is left.
    let nothing_left = opened.iter().all(|byte| *byte == 0);
    assert!(nothing_left || seal.is_err() && opened == ciphertext, "{record:?}");
    false
}

fn check_aead_file(file: &str, mode: &str) -> (usize, usize) {
    let (mut valid, mut invalid) = (0, 0);
    for record in records(file) {
        let expected = record.is_valid();
        let accepted = cipher(&record, &record.hex("key")).is_some_and(|cipher| check_aead(&record, mode, cipher));
        assert_eq!(accepted, expected, "{record:?}");
        if expected { valid += 1 } else { invalid += 1 }
    }
    (valid, invalid)
}

#[test]
fn wycheproof_gcm() {
    on_both_backends(wycheproof_gcm_here);
}

fn wycheproof_gcm_here() {
    for (file, count) in
        [("aria-gcm-wycheproof.txt", 311), ("seed-gcm-wycheproof.txt", 104), ("aes-gcm-wycheproof.txt", 316)]
    {
        let (valid, invalid) = check_aead_file(file, "GCM");
        assert_eq!(valid + invalid, count, "{file}");
    }
}

#[test]
fn wycheproof_ccm_as_key_wrap() {
    on_both_backends(wycheproof_ccm_as_key_wrap_here);
}

/// The records whose lengths the key wrap takes.
fn wycheproof_ccm_as_key_wrap_here() {
    let (mut valid, mut invalid) = (0, 0);
    for record in records("aria-ccm-wycheproof.txt") {
        let Ok(wrapping) = WrappingKey::with_features(&record.hex("key"), FEATURES.get()) else { continue };
        let (Ok(nonce), Ok(tag)) = (record.hex("nonce").try_into(), record.hex("tag").try_into()) else { continue };
        let (aad, key, wrapped) = (record.hex("aad"), record.hex("pt"), record.hex("ct"));
        if !(16..=64).contains(&wrapped.len()) {
            continue;
        }
        let mut unwrapped = wrapped.clone();
        let result = wrapping.unwrap(&nonce, &aad, &mut unwrapped, &tag);
        assert_eq!(result.is_ok(), record.is_valid(), "{record:?}");
        if result.is_ok() {
            assert_eq!(unwrapped, key, "{record:?}");
            assert_eq!(wrapping.wrap(&nonce, &aad, &mut unwrapped), Ok(tag), "{record:?}");
            assert_eq!(unwrapped, wrapped, "{record:?}");
            valid += 1;
        } else {
            assert!(unwrapped.iter().all(|byte| *byte == 0), "{record:?}");
            invalid += 1;
        }
    }
    assert!(valid >= 20 && invalid >= 20, "{valid} {invalid}");
}

#[test]
fn wycheproof_ccm() {
    on_both_backends(wycheproof_ccm_here);
}

fn wycheproof_ccm_here() {
    for (file, count) in
        [("aria-ccm-wycheproof.txt", 552), ("seed-ccm-wycheproof.txt", 184), ("aes-ccm-wycheproof.txt", 552)]
    {
        let (valid, invalid) = check_aead_file(file, "CCM");
        assert_eq!(valid + invalid, count, "{file}");
    }
}

#[test]
fn srtp() {
    on_both_backends(srtp_here);
}

fn srtp_here() {
    let all = records("srtp-aead-ctr-rfc5669-rfc8269.txt");
    assert_eq!(all.len(), 13);
    for record in all {
        let cipher = cipher(&record, &record.hex("key")).unwrap();
        let mode = record.section.rsplit('-').next().unwrap();
        if mode == "CTR" {
            let mut text = record.hex("pt");
            ctr::xor_keystream(&cipher, &record.array("iv"), &mut text);
            assert_eq!(text, record.hex("ct"), "{record:?}");
        } else {
            assert!(check_aead(&record, mode, cipher), "{record:?}");
        }
    }
}

#[test]
fn wycheproof_cmac() {
    on_both_backends(wycheproof_cmac_here);
}

fn wycheproof_cmac_here() {
    for file in ["aria-cmac-wycheproof.txt", "aes-cmac-wycheproof.txt"] {
        let all = records(file);
        assert_eq!(all.len(), 311);
        for record in all {
            let accepted = cipher(&record, &record.hex("key"))
                .is_some_and(|cipher| cmac::verify(&cipher, &record.hex("msg"), &record.hex("tag")).is_ok());
            assert_eq!(accepted, record.is_valid(), "{record:?}");
        }
    }
}

#[test]
fn wycheproof_key_wrap() {
    on_both_backends(wycheproof_key_wrap_here);
}

fn wycheproof_key_wrap_here() {
    for (file, count) in [("aria-kw-wycheproof.txt", 159), ("seed-kw-wycheproof.txt", 35)] {
        let all = records(file);
        assert_eq!(all.len(), count);
        for record in all {
            let (plain, wrapped) = (record.hex("pt"), record.hex("ct"));
            let cipher = cipher(&record, &record.hex("kek"));
            let mut key = vec![0xee; wrapped.len().saturating_sub(kw::OVERHEAD)];
            let accepted = cipher.as_ref().is_some_and(|kek| kw::unwrap(kek, &wrapped, &mut key).is_ok());
            assert_eq!(accepted, record.is_valid(), "{record:?}");
            if accepted {
                assert_eq!(key, plain, "{record:?}");
                let mut again = vec![0; wrapped.len()];
                kw::wrap(&cipher.unwrap(), &plain, &mut again).unwrap();
                assert_eq!(again, wrapped, "{record:?}");
            } else {
                assert!(key.iter().all(|byte| *byte == 0) || key.iter().all(|byte| *byte == 0xee), "{record:?}");
            }
        }
    }
}

#[test]
fn wycheproof_aes_xts() {
    on_both_backends(wycheproof_aes_xts_here);
}

fn wycheproof_aes_xts_here() {
    let all = records("aes-xts-wycheproof.txt");
    assert_eq!(all.len(), 123);
    for record in all {
        let key = record.hex("key");
        let mut tweak = [0; 16];
        let short = record.hex("tweak");
        tweak[..short.len()].copy_from_slice(&short);
        let xts = algorithm("AES", key.len() / 2)
            .and_then(|algorithm| Xts::with_features(algorithm, &key, FEATURES.get()).ok());
        let mut text = record.hex("pt");
        let mut back = record.hex("ct");
        let done =
            xts.is_some_and(|xts| xts.encrypt(tweak, &mut text).is_ok() && xts.decrypt(tweak, &mut back).is_ok());
        assert_eq!(done, record.is_valid(), "{record:?} {:?}", record.text("flags"));
        assert!(!done || text == record.hex("ct") && back == record.hex("pt"), "{record:?}");
    }
}

#[test]
fn derived_xts_and_cmac() {
    on_both_backends(derived_xts_and_cmac_here);
}

fn derived_xts_and_cmac_here() {
    let all = records("derived-xts-cmac.txt");
    assert_eq!(all.len(), 48);
    for record in all {
        if record.section.ends_with("XTS") {
            let key = [record.hex("key1"), record.hex("key2")].concat();
            let xts = {
                let algorithm = algorithm(&record.section, key.len() / 2).unwrap();
                Xts::with_features(algorithm, &key, FEATURES.get()).unwrap()
            };
            let whole = record.has("pt");
            let plaintext = if whole { record.hex("pt") } else { label_stream(record.text("pt_label"), 4096) };
            let mut text = plaintext.clone();
            xts.encrypt(record.array("tweak"), &mut text).unwrap();
            if whole {
                assert_eq!(text, record.hex("ct"), "{record:?}");
            } else {
                assert_eq!(sha256(&text).to_vec(), record.hex("ct_sha256"), "{record:?}");
            }
            xts.decrypt(record.array("tweak"), &mut text).unwrap();
            assert_eq!(text, plaintext, "{record:?}");
        } else {
            let cipher = cipher(&record, &record.hex("key")).unwrap();
            assert_eq!(cmac::cmac(&cipher, &record.hex("msg")).to_vec(), record.hex("tag"), "{record:?}");
        }
    }
}

#[test]
fn derived_sectors() {
    on_both_backends(derived_sectors_here);
}

fn derived_sectors_here() {
    let all = records("derived-sector-aead.txt");
    assert_eq!(all.len(), 12);
    for record in all {
        let key = record.hex("key");
        let (nonce, aad) = (record.hex("nonce"), record.hex("aad"));
        let plaintext = label_stream(record.text("pt_label"), 4096);
        assert_eq!(sha256(&plaintext).to_vec(), record.hex("pt_sha256"), "{record:?}");
        let check = |ciphertext: &[u8], tag: &[u8], way: &str| {
            assert_eq!(ciphertext[..64], record.hex("ct_first64"), "{record:?} {way}");
            assert_eq!(sha256(ciphertext).to_vec(), record.hex("ct_sha256"), "{record:?} {way}");
            assert_eq!(tag, record.hex("tag"), "{record:?} {way}");
        };
        let cipher = cipher(&record, &key).unwrap();
        let mut text = plaintext.clone();
        let mut tag = [0; 16];
        let ccm = record.section.contains("CCM");
        if ccm {
            Ccm::new(cipher, nonce.len(), 16).unwrap().seal(&nonce, &aad, &mut text, &mut tag).unwrap();
        } else {
            gcm(cipher).seal(&nonce, &aad, &mut text, &mut tag).unwrap();
        }
        check(&text, &tag, "mode");
        let Ok(nonce) = <[u8; 12]>::try_from(nonce) else { continue };
        let name = record.section.split(' ').next().unwrap();
        let suite = Suite::ALL.into_iter().find(|suite| suite.name() == name).unwrap();
        let aead = Aead::with_features(suite, &key, FEATURES.get()).unwrap();
        let mut sealed = vec![0; 4096];
        let tag = aead.seal(&nonce, &aad, &plaintext, &mut sealed).unwrap();
        check(&sealed, &tag, "suite");
        let sectors = vec![<[u8; 4096]>::try_from(&plaintext[..]).unwrap(); 17];
        let mut batch = vec![[0; 4096]; 17];
        let mut tags = [[0; 16]; 17];
        aead.seal_batch(&[nonce; 17], &vec![aad; 17], &sectors, &mut batch, &mut tags).unwrap();
        batch.iter().zip(&tags).for_each(|(sector, tag)| check(sector, tag, "batch"));
    }
}

fn variable_texts(record: &Record) {
    let bits = |len: usize, i: usize| -> Vec<u8> {
        (0..len).map(|byte| (0..8).fold(0, |v, bit| v | u8::from(8 * byte + bit <= i) << (7 - bit))).collect()
    };
    let fixed = record.hex(if record.has("key") { "key" } else { "pt" });
    let out: Vec<[u8; 16]> = if record.text("test") == "VARTXT" {
        let cipher = cipher(record, &fixed).unwrap();
        (0..128).map(|i| cipher.encrypt_block(bits(16, i).try_into().unwrap())).collect()
    } else {
        let len = record.section.split('-').nth(1).unwrap().parse::<usize>().unwrap() / 8;
        (0..8 * len).map(|i| cipher(record, &bits(len, i)).unwrap().encrypt_block([0; 16])).collect()
    };
    assert_eq!(out[0].to_vec(), record.hex("ct_first"), "{record:?}");
    assert_eq!(out[out.len() - 1].to_vec(), record.hex("ct_last"), "{record:?}");
    assert_eq!(sha256(&out.concat()).to_vec(), record.hex("ct_sha256"), "{record:?}");
}

/// AESAVS ECB Monte-Carlo: 100 keys of 1000 chained blocks.
fn monte_carlo(record: &Record) {
    let mut key = record.hex("key");
    let mut text = record.array::<16>("pt");
    for _ in 0..100 {
        let cipher = cipher(record, &key).unwrap();
        let mut before = text;
        for _ in 0..1000 {
            before = text;
            text = cipher.encrypt_block(text);
        }
        let both = [before, text].concat();
        key = xor(&key, &both[32 - key.len()..]);
    }
    assert_eq!(text.to_vec(), record.hex("final_ct"), "{record:?}");
    assert_eq!(key, record.hex("final_key"), "{record:?}");
}

#[test]
fn derived_known_answers_and_monte_carlo() {
    on_both_backends(derived_known_answers_and_monte_carlo_here);
}

fn derived_known_answers_and_monte_carlo_here() {
    let all = records("derived-kat-mct.txt");
    assert_eq!(all.len(), 12);
    for record in all {
        match record.text("test") {
            "MCT" => monte_carlo(&record),
            _ => variable_texts(&record),
        }
    }
}

#[test]
fn derived_hmac_drbg() {
    let mut checked = 0;
    let (ours, others): (Vec<_>, Vec<_>) =
        records("derived-drbg.txt").into_iter().partition(|record| record.section.starts_with("HMAC_DRBG"));
    assert!(others.len() == 12 && others.iter().all(|record| record.section.starts_with("CTR_DRBG")), "not offered");
    for record in ours {
        let (entropy, nonce, personalization) = (record.hex("entropy"), record.hex("nonce"), record.hex("pers"));
        let (out1, out2) = (record.hex("out1"), record.hex("out2"));
        let mut got1 = vec![0; out1.len()];
        let mut got2 = vec![0; out2.len()];
        macro_rules! run {
            ($drbg:ty) => {{
                let mut drbg = <$drbg>::new(&entropy, &nonce, &personalization).unwrap();
                drbg.generate(&[], &mut got1).unwrap();
                drbg.reseed(&record.hex("entropy2"), &[]).unwrap();
                drbg.generate(&[], &mut got2).unwrap();
            }};
        }
        if record.section.ends_with("SHA256") {
            run!(HmacDrbgSha256)
        } else {
            run!(HmacDrbgSha512)
        }
        assert_eq!((got1, got2), (out1, out2), "{record:?}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn nist_kbkdf() {
    let all = records("kbkdf-ctr-hmac-sha256-nist.txt");
    assert_eq!(all.len(), 160);
    for record in all {
        let (key, input, expected) = (record.hex("ki"), record.hex("fixed_input"), record.hex("ko"));
        let mut out = vec![0; expected.len()];
        let derive = match record.section.rsplit('=').next().unwrap() {
            "8" => kbkdf_fixed_input::<1>,
            "16" => kbkdf_fixed_input::<2>,
            "24" => kbkdf_fixed_input::<3>,
            _ => kbkdf_fixed_input::<4>,
        };
        derive(&key, &[&input], &mut out).unwrap();
        assert_eq!(out, expected, "{record:?}");
    }
}

#[test]
fn wycheproof_pbkdf2() {
    let all = records("pbkdf2-hmac-sha256-wycheproof.txt");
    assert_eq!(all.len(), 60);
    for record in all {
        let expected = record.hex("dk");
        let mut out = vec![0; expected.len()];
        pbkdf2(&record.hex("password"), &record.hex("salt"), record.number("iterations"), &mut out).unwrap();
        assert_eq!(out == expected, record.is_valid(), "{record:?}");
    }
}
