//! What only GICv2 has: targets by CPU interface number, and SGIs that keep their requester (GIC IHI 0048, `GICD_ITARGETSR<n>`, `GICD_SGIR`,
//! `GICD_CPENDSGIR<n>`, `GICD_SPENDSGIR<n>`). The guest's CPU interface is `GICV`, mapped by stage 2; its list registers are `GICH_LR`, to which
//! [`crate::ListRegister::to_gich`] converts.

use crate::bank::{Fact, Interrupts, NONE};
use crate::distributor::compose_bytes;
use crate::inbox::REVISE;
use crate::list_register::ListRegisters;
use crate::physical::Gic;
use crate::{Kicks, Read, State, Vgic};

impl Vgic {
    /// The lowest of the vCPUs in `targets`: an interrupt of several targets is served by any one (1-of-N).
    pub(crate) fn first_target(&self, targets: u32) -> u8 {
        let targets = targets & self.all_targets();
        if targets == 0 { NONE } else { targets.trailing_zeros() as u8 }
    }

    fn all_targets(&self) -> u32 {
        (1 << self.config.cpus) - 1
    }

    /// `ITARGETSR`: of a private interrupt, the reader itself.
    pub(crate) fn read_targets(&self, cpu: usize, first: u32, size: usize) -> Read {
        if first < 32 {
            return Read::from(compose_bytes(size, |_| 1 << cpu));
        }
        let shared = self.shared.lock();
        Read::from(compose_bytes(size, |n| shared.affinity[(first + n) as usize] as u8))
    }

    pub(crate) fn write_targets(&self, cpu: usize, first: u32, size: usize, value: u32, hw: &mut dyn Gic) -> Kicks {
        let mut kicks = Kicks::NONE;
        if first < 32 {
            return kicks;
        }
        let mut shared = self.shared.lock();
        for n in 0..size as u32 {
            let intid = first + n;
            if shared.bank.is(Fact::Hardware, intid) || shared.bank.is(Fact::Virtual, intid) {
                let targets = value >> (8 * n) & self.all_targets();
                shared.affinity[intid as usize] = targets;
                kicks = kicks | self.set_route(cpu, intid, self.first_target(targets), &mut shared, hw);
            }
        }
        kicks
    }

    /// `GICD_SGIR`: filter 25:24, target list 23:16, INTID 3:0.
    pub(crate) fn write_sgir(&self, cpu: usize, value: u32, hw: &mut impl Gic) -> Kicks {
        let targets = match value >> 24 & 0b11 {
            0b00 => value >> 16 & self.all_targets(),
            0b01 => self.all_targets() & !(1 << cpu),
            0b10 => 1 << cpu,
            _ => 0,
        };
        let mut kicks = Kicks::NONE;
        for target in crate::bank::bits(targets) {
            kicks = kicks | self.raise_sgi(cpu, target as usize, value & 0xF, true, hw);
        }
        kicks
    }

    /// `GICD_SPENDSGIR` and `GICD_CPENDSGIR` read alike: per SGI, the requesters that wait on the reader.
    pub(crate) fn read_sgi_pending(&self, cpu: usize, first: u32, size: usize, hw: &dyn ListRegisters) -> Read {
        let mut guard = self.cpus[cpu].state.lock();
        let State { private, lists } = &mut *guard;
        let mut requesters = [0; 4];
        for (n, requesters) in requesters.iter_mut().enumerate().take(size) {
            let intid = first + n as u32;
            *requesters = *private.requesters(intid);
            if let Some(value) = lists.slot_of(private, intid).map(|slot| hw.read(slot)).filter(|it| it.is_pending()) {
                *requesters |= 1 << value.source();
            }
        }
        Read::from(compose_bytes(size, |n| requesters[n as usize]))
    }

    pub(crate) fn set_sgi_pending(&self, cpu: usize, first: u32, size: usize, value: u32, hw: &mut dyn Gic) -> Kicks {
        let mut kicks = Kicks::NONE;
        for n in 0..size as u32 {
            for requester in crate::bank::bits(value >> (8 * n) & self.all_targets()) {
                kicks = kicks | self.request_sgi(cpu, requester as usize, first + n, hw);
            }
        }
        kicks
    }

    /// SGI `first + n` of `requester` becomes pending on the writer.
    fn request_sgi(&self, cpu: usize, requester: usize, intid: u32, hw: &mut dyn Gic) -> Kicks {
        {
            let private = &mut self.cpus[cpu].state.lock().private;
            *private.requesters(intid) |= 1 << requester;
            private.set(Fact::Latch, intid, true);
        }
        self.revise(cpu, cpu as u8, intid, hw)
    }

    pub(crate) fn clear_sgi_pending(&self, cpu: usize, first: u32, size: usize, value: u32, hw: &mut dyn Gic) -> Kicks {
        {
            let mut guard = self.cpus[cpu].state.lock();
            let State { private, lists } = &mut *guard;
            for n in 0..size as u32 {
                let (intid, cleared) = (first + n, (value >> (8 * n)) as u8);
                *private.requesters(intid) &= !cleared;
                let more = *private.requesters(intid) != 0;
                private.set(Fact::Latch, intid, more);
                let held = lists.slot_of(private, intid).map(|slot| hw.read(slot)).filter(|it| it.is_pending());
                let drop = held.is_some_and(|value| cleared >> value.source() & 1 != 0);
                private.set(Fact::DropPending, intid, drop);
            }
        }
        self.cpus[cpu].inbox.ask(REVISE);
        self.refill(cpu, hw)
    }
}
