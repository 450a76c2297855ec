//! The header of an arm64 kernel and its PE section table.

use bundle::image::{ImageHeader, check_whole};

/// Reads `data` as a kernel.
pub fn run(data: &[u8]) {
    if let Ok(header) = ImageHeader::parse(data) {
        assert!(header.image_size > 0 && header.text_offset.checked_add(header.image_size).is_some());
    }
    let _ = check_whole(data);
}
