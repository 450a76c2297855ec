//! A GUID as tables hold it: the first three fields little-endian (UEFI 2.10, appendix A).

/// A GUID, its 16 bytes as on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The type of an entry that is not used.
    pub const UNUSED: Guid = Guid([0; 16]);

    /// The GUID that is written `first-second-third-rest`.
    pub const fn new(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Guid {
        let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
        let [i, j, k, l, m, n, o, p] = rest;
        Guid([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

impl core::fmt::Display for Guid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (place, index) in ORDER.into_iter().enumerate() {
            let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{:02x}", self.0[index])?;
        }
        Ok(())
    }
}
