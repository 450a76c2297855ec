//! What the guest's GIC says that it is.

use super::pack;
use crate::{Config, Version};

/// `GICD_IIDR` and `GICR_IIDR`: product 'H', no JEP106 code.
pub(crate) const IIDR: u32 = 0x48 << 24;

/// `GICD_TYPER`. GICv3: `IDbits` 10, `No1N`, `A3V` if an affinity needs it, `MBIS` if there are message-based SPIs; no LPIs, no extended
/// ranges.
/// GICv2: the number of CPU interfaces.
pub(crate) const fn typer(config: &Config) -> u32 {
    let spis = if config.spis < 988 { config.spis as u32 } else { 988 };
    let lines = spis.div_ceil(32);
    if matches!(config.version, Version::V2) {
        return lines | (config.cpus as u32 - 1) << 5;
    }
    let (mut aff3, mut cpu) = (0, 0);
    while cpu < config.cpus {
        aff3 |= config.affinities[cpu] >> 32 & 0xFF;
        cpu += 1;
    }
    lines | (config.messages.is_some() as u32) << 16 | 9 << 19 | ((aff3 != 0) as u32) << 24 | 1 << 25
}

/// `GICR_TYPER`: affinity, processor number, `Last`.
pub(super) fn typer_redistributor(config: &Config, owner: usize) -> u64 {
    let last = owner + 1 == config.cpus;
    u64::from(pack(config.affinities[owner])) << 32 | (owner as u64) << 8 | u64::from(last) << 4
}
