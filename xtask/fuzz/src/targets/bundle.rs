//! A boot bundle: every header that is accepted describes entries that lie in the file.

use bundle::{ALIGNMENT, Bundle, Kind};

/// Reads `data` as a bundle.
pub fn run(data: &[u8]) {
    let Ok(bundle) = Bundle::parse(data) else { return };
    assert!(bundle.total_length() <= data.len());
    for kind in Kind::ALL {
        let Ok(entry) = bundle.describe(kind) else { continue };
        assert!(entry.offset.is_multiple_of(ALIGNMENT) && entry.offset + entry.length <= bundle.total_length());
        assert_eq!(bundle.entry(kind).map(<[u8]>::len), Ok(entry.length));
        let _ = bundle.verify(kind);
    }
}
