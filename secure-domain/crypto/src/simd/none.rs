//! A machine without vector instructions we know: nothing is ever detected, so no entry point can be called.
use cipher::Array;
use cipher::consts::U256;
use cipher::inout::InOutBuf;

use super::vector::Aligned;
use super::{Sha256Proof, VectorProof, aes, aria, ghash, seed};
use crate::Block;
use crate::aead::Sector;
use crate::features::CpuFeatures;

pub(super) fn ask() -> CpuFeatures {
    CpuFeatures::PORTABLE
}

/// Makes an entry point that cannot be called.
macro_rules! absent {
    ($proof:ty, $name:ident($($type:ty),*) $(-> $result:ty)?) => {
        pub(crate) fn $name(_: $proof, $(_: $type),*) $(-> $result)? {
            unreachable!("no proof exists here")
        }
    };
}

absent!(VectorProof, aes_reverse(&aes::Keys) -> aes::Keys);
absent!(VectorProof, aes_encrypt(&aes::Keys, &mut [Block]));
absent!(VectorProof, aes_decrypt(&aes::Keys, &mut [Block]));
absent!(VectorProof, aes_ctr(&aes::Keys, &Block, InOutBuf<'_, '_, Array<u8, U256>>));
absent!(VectorProof, aria_crypt(&aria::Keys, &mut [Block]));
absent!(VectorProof, aria_ctr(&aria::Keys, &Block, InOutBuf<'_, '_, Array<u8, U256>>));
absent!(VectorProof, seed_crypt(&seed::Keys, &mut [Block]));
absent!(VectorProof, seed_ctr(&seed::Keys, &Block, InOutBuf<'_, '_, Array<u8, U256>>));
absent!(VectorProof, aes_chain(&aes::Keys, &[Sector; 16], Option<&mut [Sector; 16]>, &mut [Block; 16]));
absent!(
    VectorProof,
    aria_chain(&aria::Keys, &aria::ChainKeys, &[Sector; 16], Option<&mut [Sector; 16]>, &mut [Block; 16])
);
absent!(VectorProof, seed_chain(&seed::Keys, &[Sector; 16], Option<&mut [Sector; 16]>, &mut [Block; 16]));
absent!(VectorProof, aes_chain_one(&aes::Keys, &mut Block, &[Block]));
absent!(VectorProof, aria_chain_one(&aria::Keys, &mut Block, &[Block]));
absent!(VectorProof, seed_chain_one(&seed::Keys, &mut Block, &[Block]));
absent!(VectorProof, ghash_powers(&Block) -> ghash::Powers);
absent!(VectorProof, ghash_update(&ghash::Powers, &mut Block, &[Block]));
absent!(VectorProof, ghash_digest(&ghash::Powers, &[u8], &[u8]) -> Aligned);
absent!(Sha256Proof, sha256_compress(&mut [u32; 8], &[[u8; 64]]));
