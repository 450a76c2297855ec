//! A boot bundle: every header that is accepted describes entries that lie in the file.

use bundle::{ALIGNMENT, Bundle, Kind};

/// Where the header's own digest stands.
const DIGEST: usize = ALIGNMENT - 32;

/// Reads `data` as a bundle, as it is and with a digest that fits: else no changed header would get past the digest.
pub fn run(data: &[u8]) {
    read(data);
    let mut sealed = data.to_vec();
    if sealed.len() >= ALIGNMENT {
        let digest = bundle::digest_of(&sealed[..DIGEST]);
        sealed[DIGEST..ALIGNMENT].copy_from_slice(&digest);
        read(&sealed);
    }
}

fn read(data: &[u8]) {
    let Ok(bundle) = Bundle::parse(data) else { return };
    assert!(bundle.total_length() <= data.len());
    for kind in Kind::ALL {
        let Ok(entry) = bundle.describe(kind) else { continue };
        assert!(entry.offset.is_multiple_of(ALIGNMENT) && entry.offset + entry.length <= bundle.total_length());
        assert_eq!(bundle.entry(kind).map(<[u8]>::len), Ok(entry.length));
        let _ = bundle.verify(kind);
    }
}
