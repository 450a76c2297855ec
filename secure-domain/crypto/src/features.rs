//! What the processor can do, as a proof: a value that says yes can only come from asking the processor.

/// The vector instructions that the fast backends need. The default is none, which selects the portable backend everywhere.
///
/// The fields are private and only [`CpuFeatures::detect`] sets them, because calling a kernel on a processor without
/// its instructions would be undefined behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    pub(crate) aes: bool,
    pub(crate) clmul: bool,
    pub(crate) sha256: bool,
}

impl CpuFeatures {
    /// No vector instructions: the portable backend.
    pub const PORTABLE: Self = Self { aes: false, clmul: false, sha256: false };

    /// Asks the processor this runs on: `ID_AA64ISAR0_EL1` on AArch64 (at EL1 or above, or where the operating system answers for
    /// it), CPUID on x86-64. The answer holds for every core only if all cores are alike.
    #[must_use]
    pub fn detect() -> Self {
        crate::simd::detect()
    }

    /// Whether the AES round instructions carry ARIA, SEED and AES.
    #[must_use]
    pub const fn has_aes(self) -> bool {
        self.aes
    }

    /// Whether carry-less multiplication carries GHASH.
    #[must_use]
    pub const fn has_clmul(self) -> bool {
        self.clmul
    }

    /// Whether the SHA-256 instructions can be used.
    #[must_use]
    pub const fn has_sha256(self) -> bool {
        self.sha256
    }
}
