//! The backends against each other, over any lengths, splits and alignments: this processor's must give what the portable one gives.
use ::ccm::aead::AeadInOut;
use cipher::consts::{U12, U16};
use crypto::algorithms::{Aead, BlockCipher, Ccm, CpuFeatures, ctr};
use crypto::{Algorithm, Error, SECTOR_LEN, Sector, Suite};
use proptest::prelude::*;

fn both() -> [CpuFeatures; 2] {
    [CpuFeatures::PORTABLE, CpuFeatures::detect()]
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(&Algorithm::ALL[..])
}

fn suites() -> impl Strategy<Value = Suite> {
    prop::sample::select(&Suite::ALL[..])
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn blocks_agree_and_come_back(algorithm in algorithms(), key: [u8; 32], blocks in prop::collection::vec(any::<[u8; 16]>(), 0..70)) {
        let [a, b] = both().map(|features| {
            let cipher = BlockCipher::with_features(algorithm, &key[..algorithm.key_len()], features).unwrap();
            let mut sealed = blocks.clone();
            cipher.encrypt_blocks(&mut sealed);
            let mut opened = sealed.clone();
            cipher.decrypt_blocks(&mut opened);
            assert_eq!(opened, blocks);
            sealed
        });
        prop_assert_eq!(a, b);
    }

    #[test]
    fn key_streams_agree_wherever_they_start_and_are_split(
        algorithm in algorithms(), key: [u8; 32], first: u128, low in 0..0x200u128, near_wrap: bool,
        data in bytes(1200), cut in 0..75usize, offset in 0..16usize,
    ) {
        // Starts near a carry of the low byte, of the low word, or anywhere.
        let first = if near_wrap { (first << 32) | (u128::from(u32::MAX) - low) } else { (first & !0x1ff) | low };
        let offset = offset.min(data.len());
        let [a, b] = both().map(|features| {
            let cipher = BlockCipher::with_features(algorithm, &key[..algorithm.key_len()], features).unwrap();
            let mut whole = data.clone();
            ctr::xor_keystream(&cipher, &first.to_be_bytes(), &mut whole[offset..]);
            let mut parts = data.clone();
            let cut = (16 * cut).min(data.len() - offset);
            let (head, tail) = parts[offset..].split_at_mut(cut);
            ctr::xor_keystream(&cipher, &first.to_be_bytes(), head);
            ctr::xor_keystream(&cipher, &first.wrapping_add(cut as u128 / 16).to_be_bytes(), tail);
            assert_eq!(whole, parts);
            whole
        });
        prop_assert_eq!(a, b);
    }

    #[test]
    fn suites_agree_in_place_and_across_and_refuse_each_others_damage(
        suite in suites(), key: [u8; 32], nonce: [u8; 12], aad in bytes(100), data in bytes(700), flip in any::<prop::sample::Index>(),
    ) {
        let key = &key[..suite.key_len()];
        let [portable, vector] = both().map(|features| Aead::with_features(suite, key, features).unwrap());
        let mut sealed = data.clone();
        let tag = portable.seal_in_place(&nonce, &aad, &mut sealed).unwrap();
        let mut across = vec![0; data.len()];
        prop_assert_eq!(vector.seal(&nonce, &aad, &data, &mut across), Ok(tag));
        prop_assert_eq!(&across, &sealed);
        let mut opened = vec![0; data.len()];
        prop_assert_eq!(vector.open(&nonce, &aad, &sealed, &mut opened, &tag), Ok(()));
        prop_assert_eq!(&opened, &data);
        if !sealed.is_empty() {
            let bit = flip.index(8 * sealed.len());
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(vector.open_in_place(&nonce, &aad, &mut sealed, &tag), Err(Error::TagMismatch));
            prop_assert!(sealed.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn ccm_of_the_crate_and_ccm_of_any_length_agree(
        algorithm in algorithms(), key: [u8; 32], nonce: [u8; 12], aad in bytes(100), data in bytes(300),
    ) {
        for features in both() {
            let cipher = || BlockCipher::with_features(algorithm, &key[..algorithm.key_len()], features).unwrap();
            let (mut ours, mut tag) = (data.clone(), [0; 16]);
            Ccm::new(cipher(), 12, 16).unwrap().seal(&nonce, &aad, &mut ours, &mut tag).unwrap();
            let theirs = ::ccm::Ccm::<_, U16, U12>::from(cipher());
            let mut data = data.clone();
            let sealed = theirs.encrypt_inout_detached((&nonce).into(), &aad, data.as_mut_slice().into()).unwrap();
            prop_assert_eq!(&ours, &data);
            prop_assert_eq!(&tag[..], &sealed[..]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batches_of_any_number_agree_with_single_sectors(
        suite in suites(), key: [u8; 32], seed: u8, sectors in 0..20usize, aad_len in 0..70usize, bad in any::<prop::sample::Index>(),
    ) {
        let key = &key[..suite.key_len()];
        let nonces: Vec<[u8; 12]> = (0..sectors).map(|i| [seed ^ i as u8; 12]).collect();
        let aads: Vec<Vec<u8>> = (0..sectors).map(|i| vec![i as u8; aad_len]).collect();
        let plain: Vec<Sector> = (0..sectors).map(|i| core::array::from_fn(|j| (i * 7 + j) as u8 ^ seed)).collect();
        for features in both() {
            let aead = Aead::with_features(suite, key, features).unwrap();
            let (mut sealed, mut tags) = (vec![[0; SECTOR_LEN]; sectors], vec![[0; 16]; sectors]);
            aead.seal_batch(&nonces, &aads, &plain, &mut sealed, &mut tags).unwrap();
            if sectors != 0 {
                let i = bad.index(sectors);
                let mut one = plain[i];
                prop_assert_eq!(aead.seal_in_place(&nonces[i], &aads[i], &mut one), Ok(tags[i]));
                prop_assert!(one == sealed[i]);
                tags[i][3] ^= 0x10;
                let (mut opened, mut results) = (vec![[1; SECTOR_LEN]; sectors], vec![Ok(()); sectors]);
                aead.open_batch(&nonces, &aads, &sealed, &mut opened, &tags, &mut results).unwrap();
                for j in 0..sectors {
                    prop_assert_eq!(results[j].is_ok(), j != i);
                    let expected = if j == i { [0; SECTOR_LEN] } else { plain[j] };
                    prop_assert!(opened[j] == expected);
                }
            }
        }
    }
}
