//! Where SPIs go: `IROUTER`, and affinities.

use super::target::Effect;
use super::{give_back, owns};
use crate::bank::{Fact, Interrupts, NONE};
use crate::physical::{Change, Gic};
use crate::{Config, Kicks, Read, Shared, Vgic};

impl Vgic {
    pub(super) fn read_router(&self, intid: u32, upper: bool, size: usize) -> Read {
        let shared = self.shared.lock();
        let affinity = if owns(&shared.bank, intid) { unpack(shared.affinity[intid as usize]) } else { 0 };
        let value = match (size, upper) {
            (8, _) => affinity,
            (_, true) => affinity >> 32,
            (_, false) => affinity & 0xFFFF_FFFF,
        };
        Read::Value(value)
    }

    pub(super) fn write_router(
        &self,
        cpu: usize,
        intid: u32,
        upper: bool,
        size: usize,
        value: u64,
        hw: &mut dyn Gic,
    ) -> Kicks {
        let mut shared = self.shared.lock();
        if !owns(&shared.bank, intid) {
            return Kicks::NONE;
        }
        let old = unpack(shared.affinity[intid as usize]);
        let affinity = match (size, upper) {
            (8, _) => value,
            (_, true) => old & 0xFFFF_FFFF | value << 32,
            (_, false) => old & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
        };
        shared.affinity[intid as usize] = pack(affinity);
        let route = self.config.vcpu_with_affinity(pack(affinity));
        self.set_route(cpu, intid, route, &mut shared, hw)
    }

    /// Routes an SPI to vCPU `route`, or nowhere.
    pub(crate) fn set_route(&self, cpu: usize, intid: u32, route: u8, shared: &mut Shared, hw: &mut dyn Gic) -> Kicks {
        let old = core::mem::replace(&mut shared.route[intid as usize], route);
        if old == route {
            return Kicks::NONE;
        }
        if shared.bank.is(Fact::Hardware, intid) {
            if route != NONE {
                hw.apply(cpu, intid, Change::Route(route.into()));
            }
            if shared.bank.is(Fact::Enabled, intid) && (old == NONE) != (route == NONE) {
                hw.apply(cpu, intid, Change::Enable(route != NONE));
            }
            if shared.bank.take(Fact::Latch, intid) {
                give_back(&shared.bank, cpu, intid, hw);
            }
        }
        let bit = 1 << (intid % 32);
        self.spread_shared(cpu, (intid / 32) as usize, Effect { raise: bit, revise: bit }, shared, hw)
    }
}

impl Config {
    /// The vCPU with packed affinity `affinity`, or [`NONE`].
    pub(crate) fn vcpu_with_affinity(&self, affinity: u32) -> u8 {
        let found = self.affinities[..self.cpus].iter().position(|it| pack(*it) == affinity);
        found.map_or(NONE, |cpu| cpu as u8)
    }
}

/// Aff3.Aff2.Aff1.Aff0 in one word.
pub(crate) const fn pack(affinity: u64) -> u32 {
    (affinity & 0xFF_FFFF) as u32 | (affinity >> 32 << 24) as u32
}

const fn unpack(affinity: u32) -> u64 {
    (affinity & 0xFF_FFFF) as u64 | (affinity as u64 >> 24) << 32
}
