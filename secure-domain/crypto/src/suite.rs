//! The AEAD suites: a cipher, a key length and a mode under one number that is stable on disk.
use crate::error::Error;

/// A block cipher with its key length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ARIA with a 128-bit key (KS X 1213-1, RFC 5794).
    Aria128,
    /// ARIA with a 192-bit key.
    Aria192,
    /// ARIA with a 256-bit key.
    Aria256,
    /// SEED with its only key length, 128 bits (TTAS.KO-12.0004, RFC 4269).
    Seed128,
    /// AES with a 128-bit key (FIPS 197).
    Aes128,
    /// AES with a 192-bit key.
    Aes192,
    /// AES with a 256-bit key.
    Aes256,
}

impl Algorithm {
    /// Every block cipher of the module.
    pub const ALL: [Self; 7] =
        [Self::Aria128, Self::Aria192, Self::Aria256, Self::Seed128, Self::Aes128, Self::Aes192, Self::Aes256];

    /// Length of the key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aria128 | Self::Seed128 | Self::Aes128 => 16,
            Self::Aria192 | Self::Aes192 => 24,
            Self::Aria256 | Self::Aes256 => 32,
        }
    }
}

/// A mode of operation for authenticated encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Galois/Counter Mode (SP 800-38D).
    Gcm,
    /// Counter with CBC-MAC (SP 800-38C).
    Ccm,
}

/// A block cipher in an AEAD mode with a 12-byte nonce and a 16-byte tag. The discriminant is written to disk and never
/// changes its meaning: the low byte names the cipher, the high byte the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Suite {
    /// ARIA-128 in GCM.
    Aria128Gcm = 0x0101,
    /// ARIA-192 in GCM.
    Aria192Gcm = 0x0102,
    /// ARIA-256 in GCM.
    Aria256Gcm = 0x0103,
    /// SEED-128 in GCM.
    Seed128Gcm = 0x0104,
    /// AES-128 in GCM.
    Aes128Gcm = 0x0105,
    /// AES-256 in GCM.
    Aes256Gcm = 0x0106,
    /// ARIA-128 in CCM.
    Aria128Ccm = 0x0201,
    /// ARIA-192 in CCM.
    Aria192Ccm = 0x0202,
    /// ARIA-256 in CCM.
    Aria256Ccm = 0x0203,
    /// SEED-128 in CCM.
    Seed128Ccm = 0x0204,
    /// AES-128 in CCM.
    Aes128Ccm = 0x0205,
    /// AES-256 in CCM.
    Aes256Ccm = 0x0206,
}

impl Suite {
    /// Every suite, in the order of its number.
    pub const ALL: [Self; 12] = [
        Self::Aria128Gcm,
        Self::Aria192Gcm,
        Self::Aria256Gcm,
        Self::Seed128Gcm,
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::Aria128Ccm,
        Self::Aria192Ccm,
        Self::Aria256Ccm,
        Self::Seed128Ccm,
        Self::Aes128Ccm,
        Self::Aes256Ccm,
    ];

    /// The number written to disk.
    #[must_use]
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// The suite with this number.
    ///
    /// # Errors
    /// [`Error::UnknownSuite`] if there is none.
    pub fn from_id(id: u16) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|suite| suite.id() == id).ok_or(Error::UnknownSuite(id))
    }

    /// The block cipher.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Aria128Gcm | Self::Aria128Ccm => Algorithm::Aria128,
            Self::Aria192Gcm | Self::Aria192Ccm => Algorithm::Aria192,
            Self::Aria256Gcm | Self::Aria256Ccm => Algorithm::Aria256,
            Self::Seed128Gcm | Self::Seed128Ccm => Algorithm::Seed128,
            Self::Aes128Gcm | Self::Aes128Ccm => Algorithm::Aes128,
            Self::Aes256Gcm | Self::Aes256Ccm => Algorithm::Aes256,
        }
    }

    /// The mode of operation.
    #[must_use]
    pub const fn mode(self) -> Mode {
        match self.id() >> 8 {
            1 => Mode::Gcm,
            _ => Mode::Ccm,
        }
    }

    /// Length of the key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.algorithm().key_len()
    }

    /// The name shown to people, for example `ARIA-256-GCM`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aria128Gcm => "ARIA-128-GCM",
            Self::Aria192Gcm => "ARIA-192-GCM",
            Self::Aria256Gcm => "ARIA-256-GCM",
            Self::Seed128Gcm => "SEED-128-GCM",
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::Aria128Ccm => "ARIA-128-CCM",
            Self::Aria192Ccm => "ARIA-192-CCM",
            Self::Aria256Ccm => "ARIA-256-CCM",
            Self::Seed128Ccm => "SEED-128-CCM",
            Self::Aes128Ccm => "AES-128-CCM",
            Self::Aes256Ccm => "AES-256-CCM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_are_refused() {
        for id in [0, 0x0100, 0x0107, 0x0200, 0x0301, 0xffff] {
            assert_eq!(Suite::from_id(id), Err(Error::UnknownSuite(id)));
        }
    }

    #[test]
    fn numbers_name_the_suites_they_always_named() {
        let numbers = [0x0101, 0x0102, 0x0103, 0x0104, 0x0105, 0x0106, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206];
        for (suite, id) in Suite::ALL.into_iter().zip(numbers) {
            assert_eq!(suite.id(), id);
            assert_eq!(Suite::from_id(id), Ok(suite));
            assert_eq!(suite.mode() == Mode::Gcm, suite.name().ends_with("GCM"));
        }
    }
}
