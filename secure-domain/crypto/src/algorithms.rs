//! The algorithms without the module, for what stands outside its boundary: tests, measurements, the check of the linked kernels.
//!
//! The feature `algorithms` opens this door. No firmware has it, so that on a device nothing computes behind the module's back.

pub use crate::aead::Aead;
pub use crate::block::BlockCipher;
pub use crate::ccm::Ccm;
pub use crate::features::CpuFeatures;
pub use crate::gcm::Gcm;
pub use crate::xts::Xts;

/// Wrapping of keys with CCM.
pub mod ccm_wrap {
    pub use crate::ccm_wrap::*;
}

/// CMAC.
pub mod cmac {
    pub use crate::cmac::*;
}

/// Counter mode.
pub mod ctr {
    pub use crate::ctr::*;
}

/// The random bit generator and the health tests.
pub mod drbg {
    pub use crate::drbg::*;
}

/// Hashes, HMAC and the derivations made from them.
pub mod hash {
    pub use crate::hash::*;
}

/// Key wrap (RFC 3394).
pub mod kw {
    pub use crate::kw::*;
}
