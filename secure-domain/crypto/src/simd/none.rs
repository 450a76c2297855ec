//! A machine without vector instructions we know: nothing is ever detected, so no entry point can be called.
use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;

use super::{AesProof, ClmulProof, aria, ghash, seed};
use crate::Block;
use crate::features::CpuFeatures;

pub(crate) fn detect() -> CpuFeatures {
    CpuFeatures::PORTABLE
}

pub(crate) fn aria_crypt(_: AesProof, _: &aria::Keys, _: &mut [Block; aria::PASS]) {
    unreachable!("no proof exists here")
}

pub(crate) fn aria_ctr(_: AesProof, _: &aria::Keys, _: &Block, _: InOutBuf<'_, '_, Array<u8, U256>>) {
    unreachable!("no proof exists here")
}

pub(crate) fn seed_crypt(_: AesProof, _: &seed::Keys, _: &mut [Block; seed::PASS]) {
    unreachable!("no proof exists here")
}

pub(crate) fn seed_ctr(_: AesProof, _: &seed::Keys, _: &Block, _: InOutBuf<'_, '_, Array<u8, U256>>) {
    unreachable!("no proof exists here")
}

pub(crate) fn ghash_powers(_: ClmulProof, _: &Block) -> ghash::Powers {
    unreachable!("no proof exists here")
}

pub(crate) fn ghash_update(_: ClmulProof, _: &ghash::Powers, _: &mut Block, _: &[Block]) {
    unreachable!("no proof exists here")
}
