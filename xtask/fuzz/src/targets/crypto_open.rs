//! Opening what an attacker wrote: sealed data, wrapped keys, XTS units, CMAC tags. Whatever the bytes, a refusal leaves zeros, and
//! both backends agree.
use crypto::algorithms::{Aead, BlockCipher, Ccm, CpuFeatures, Gcm, cmac, kw};
use crypto::{Algorithm, Suite};

/// Takes a selector, a nonce length, a tag length, 16 bytes of tag, and the data.
pub fn run(data: &[u8]) {
    let Some((&[selector, nonce_len, tag_len], rest)) = data.split_first_chunk::<3>() else { return };
    let Some((tag, rest)) = rest.split_first_chunk::<16>() else { return };
    let both = [CpuFeatures::PORTABLE, CpuFeatures::detect()];
    open_suite(both, selector, tag, rest);
    open_modes(both, selector, nonce_len, &tag[..usize::from(tag_len) % 17], rest);
    unwrap(both, selector, rest);
}

fn open_suite(both: [CpuFeatures; 2], selector: u8, tag: &[u8; 16], data: &[u8]) {
    let suite = Suite::ALL[usize::from(selector) % Suite::ALL.len()];
    let outcomes = both.map(|features| {
        let aead = Aead::with_features(suite, &[selector; 32][..suite.key_len()], features).expect("the key fits");
        let mut copy = data.to_vec();
        let opened = aead.open_in_place(&[selector; 12], &data[..data.len() / 2], &mut copy, tag);
        assert!(opened.is_ok() || copy.iter().all(|byte| *byte == 0));
        (opened, copy)
    });
    assert_eq!(outcomes[0], outcomes[1]);
}

fn open_modes(both: [CpuFeatures; 2], selector: u8, nonce_len: u8, tag: &[u8], data: &[u8]) {
    let algorithm = Algorithm::ALL[usize::from(selector) % Algorithm::ALL.len()];
    let nonce = &[selector; 256][..usize::from(nonce_len)];
    let outcomes = both.map(|features| {
        let cipher = || {
            let key = &[selector; 32][..algorithm.key_len()];
            BlockCipher::with_features(algorithm, key, features).expect("the key fits")
        };
        let mut copies = [data.to_vec(), data.to_vec()];
        let gcm = Gcm::with_features(cipher(), features).open(nonce, &[], &mut copies[0], tag);
        let ccm = Ccm::new(cipher(), nonce.len(), tag.len()).and_then(|ccm| ccm.open(nonce, &[], &mut copies[1], tag));
        (gcm, ccm, cmac::verify(&cipher(), data, tag), copies)
    });
    assert_eq!(outcomes[0], outcomes[1]);
}

fn unwrap(both: [CpuFeatures; 2], selector: u8, data: &[u8]) {
    let outcomes = both.map(|features| {
        let kek = BlockCipher::with_features(Algorithm::Aria256, &[selector; 32], features).expect("the key fits");
        let mut key = vec![0; data.len().saturating_sub(kw::OVERHEAD)];
        let unwrapped = kw::unwrap(&kek, data, &mut key);
        assert!(unwrapped.is_ok() || key.iter().all(|byte| *byte == 0));
        (unwrapped, key)
    });
    assert_eq!(outcomes[0], outcomes[1]);
}
