//! Writing a bundle, on the host.

use alloc::vec::Vec;

use crate::{ALIGNMENT, Entry, Error, Kind, digest_of, header};

/// The bytes of a bundle of `parts`, in their order.
///
/// # Errors
/// No parts, an empty part, or two parts of one kind.
pub fn write(parts: &[(Kind, &[u8])]) -> Result<Vec<u8>, Error> {
    check(parts)?;
    let mut entries = Vec::with_capacity(parts.len());
    let mut offset = header::LENGTH;
    for (kind, content) in parts {
        entries.push(Entry { kind: *kind, offset, length: content.len(), digest: digest_of(content) });
        offset = (offset + content.len()).next_multiple_of(ALIGNMENT);
    }
    let mut bytes = Vec::with_capacity(offset);
    bytes.resize(header::LENGTH, 0);
    for (_, content) in parts {
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    header::write(&mut bytes[..header::LENGTH], offset, &entries);
    Ok(bytes)
}

fn check(parts: &[(Kind, &[u8])]) -> Result<(), Error> {
    if parts.is_empty() {
        return Err(Error::EntryCount(0));
    }
    for (index, (kind, content)) in parts.iter().enumerate() {
        if content.is_empty() {
            return Err(Error::Empty(*kind));
        }
        if parts[..index].iter().any(|(earlier, _)| earlier == kind) {
            return Err(Error::Twice(*kind));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_reader_would_refuse() {
        assert_eq!(write(&[]), Err(Error::EntryCount(0)));
        assert_eq!(write(&[(Kind::Kernel, b"")]), Err(Error::Empty(Kind::Kernel)));
        assert_eq!(write(&[(Kind::Kernel, b"a"), (Kind::Kernel, b"b")]), Err(Error::Twice(Kind::Kernel)));
    }

    #[test]
    fn every_part_is_aligned_and_padded_with_zeros() {
        let bytes = write(&[(Kind::Kernel, &[7; 4097]), (Kind::Initrd, &[8])]).unwrap();
        assert_eq!(bytes.len(), 4096 + 8192 + 4096);
        assert!(bytes[4096 + 4097..4096 + 8192].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[4096 + 8192], 8);
    }
}
