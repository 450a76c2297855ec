//! Sizes as people type them: `512M`, `2G`, `4096`.
use anyhow::{Context, Result, bail};

/// Bytes of a size: a whole number with an optional `K`, `M`, `G` or `T` (powers of 1024).
///
/// # Errors
/// A sentence for the person who typed it.
pub fn parse(text: &str) -> Result<u64> {
    let trimmed = text.trim().trim_end_matches(['b', 'B']).trim_end_matches(['i', 'I']);
    let (digits, shift) = match trimmed.char_indices().last() {
        Some((at, 'k' | 'K')) => (&trimmed[..at], 10),
        Some((at, 'm' | 'M')) => (&trimmed[..at], 20),
        Some((at, 'g' | 'G')) => (&trimmed[..at], 30),
        Some((at, 't' | 'T')) => (&trimmed[..at], 40),
        _ => (trimmed, 0),
    };
    let number: u64 = digits.parse().ok().with_context(|| format!("`{text}` is not a size such as 512M or 2G"))?;
    match number.checked_mul(1 << shift) {
        Some(0) => bail!("a size of 0 makes no sense here"),
        Some(bytes) => Ok(bytes),
        None => bail!("`{text}` is more than this machine can count"),
    }
}

/// A size the way [`parse`] reads it, in the largest unit that divides it.
pub fn shown(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "M", "-1M", "1.5G", "0", "12X", "99999999999G"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_what_it_shows() {
        for (text, bytes) in [("4096", 4096), ("512M", 512 << 20), ("1GiB", 1 << 30), ("3k", 3072)] {
            assert_eq!(parse(text).unwrap(), bytes);
            assert_eq!(parse(&shown(bytes)).unwrap(), bytes);
        }
    }
}
