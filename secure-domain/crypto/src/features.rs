//! What the processor can do, as a proof: a value that says yes can only come from asking the processor.

/// The vector instructions that the fast backends need. The default is none, which selects the portable backend everywhere.
///
/// The fields are private and only [`CpuFeatures::detect`] sets them, because calling a kernel on a processor without
/// its instructions would be undefined behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// The AES round instructions and the carry-less product of 64-bit polynomials.
    pub(crate) vector: bool,
    /// The SHA-256 instructions.
    pub(crate) sha256: bool,
}

impl CpuFeatures {
    /// No vector instructions: the portable backend.
    pub const PORTABLE: Self = Self { vector: false, sha256: false };

    /// Asks the processor this runs on, once, and remembers the answer: `ID_AA64ISAR0_EL1` on AArch64 (at EL1 or above, or where the
    /// operating system answers for it), CPUID on x86-64. All cores are taken to be alike.
    #[must_use]
    pub fn detect() -> Self {
        crate::simd::detect()
    }

    /// Whether the AES and carry-less multiplication instructions carry the block ciphers and GHASH.
    #[must_use]
    pub const fn has_vector_aes(self) -> bool {
        self.vector
    }

    /// Whether this module's own SHA-256 instructions carry the hash. (On x86-64 the `sha2` crate finds its own.)
    #[must_use]
    pub const fn has_sha256(self) -> bool {
        self.sha256
    }
}
