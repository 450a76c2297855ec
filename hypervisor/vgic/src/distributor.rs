//! Trapped accesses to the distributor and the redistributors: reads compose facts, writes change them and tell whose list
//! registers must be looked at.

use core::sync::atomic::Ordering;

mod identity;
mod route;
mod state;
mod target;

use self::identity::typer_redistributor;
use self::target::{Effect, Target};
use crate::bank::{Fact, Interrupts, NONE, bits};
use crate::inbox::{REVISE, SURVEY};
use crate::messages;
use crate::physical::Gic;
use crate::registers::{Bits, Register, identification};
use crate::{Frame, Kicks, Read, Shared, Source, Version, Vgic};

pub(crate) use self::identity::{IIDR, typer};
pub(crate) use self::route::pack;
pub(crate) use self::target::give_back;

/// `GICD_CTLR.EnableGrp0` and `EnableGrp1`.
pub(crate) const CTLR_GROUPS: u32 = 0b11;
/// `GICD_CTLR.ARE` and `DS`, read as one (GIC IHI 0069, `GICD_CTLR` when only one Security state is
/// supported).
const CTLR_ARE_DS: u32 = 1 << 4 | 1 << 6;
/// `GICD_CTLR.RWP`.
const CTLR_RWP: u32 = 1 << 31;
/// `GICR_CTLR.RWP`.
const GICR_CTLR_RWP: u32 = 1 << 3;
/// `GICR_WAKER.ProcessorSleep`; `ChildrenAsleep` is the bit above.
const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
/// SGI frame of a redistributor.
const SGI_BASE: u64 = 0x1_0000;
/// Offset of `PIDR4` in a GICv3 frame.
const IDENTIFICATION_V3: u64 = 0xFFD0;
/// Offset of `PIDR4` in the GICv2 distributor.
const IDENTIFICATION_V2: u64 = 0xFD0;

/// The interrupts that an access to a bit register is about.
#[derive(Clone, Copy)]
struct Word {
    /// Word of the INTID space.
    index: usize,
    /// Whose private interrupts, for word 0.
    owner: usize,
}

impl Vgic {
    /// A trapped read of `size` bytes (1, 2, 4, 8) at `offset` in `frame` by vCPU `cpu`.
    pub fn mmio_read(&self, cpu: usize, frame: Frame, offset: u64, size: usize, hw: &mut impl Gic) -> Read {
        match frame {
            Frame::Distributor => match self.config.version {
                Version::V3 => self.read_v3(cpu, Register::decode(offset, size, IDENTIFICATION_V3), size, hw),
                Version::V2 => self.read_v2(cpu, Register::decode(offset, size, IDENTIFICATION_V2), size, hw),
            },
            _ => self.read_elsewhere(cpu, frame, offset, size, hw),
        }
    }

    /// The frames that are read less often than the distributor of a GICv3.
    #[inline(never)]
    fn read_elsewhere(&self, cpu: usize, frame: Frame, offset: u64, size: usize, hw: &mut dyn Gic) -> Read {
        match (frame, self.config.version) {
            (Frame::Redistributor(owner), Version::V3) if owner < self.config.cpus => {
                if offset < SGI_BASE {
                    return Read::from(self.read_redistributor(owner, offset, size));
                }
                let register = Register::decode(offset - SGI_BASE, size, IDENTIFICATION_V3);
                self.read_interrupts(cpu, owner, register, size, hw)
            }
            (Frame::Messages, Version::V2) => Read::from(self.read_message_frame(offset, size)),
            _ => Read::ZERO,
        }
    }

    /// A trapped write of `size` bytes.
    #[inline(never)]
    pub fn mmio_write(
        &self,
        cpu: usize,
        frame: Frame,
        offset: u64,
        size: usize,
        value: u64,
        hw: &mut impl Gic,
    ) -> Kicks {
        match (frame, self.config.version) {
            (Frame::Distributor, Version::V3) => match Register::decode(offset, size, IDENTIFICATION_V3) {
                Register::Router(intid, upper) => self.write_router(cpu, intid, upper, size, value, hw),
                Register::Control => self.write_control(cpu, value as u32, hw),
                Register::Message(set) => self.write_message(cpu, value as u32, set, hw),
                register if is_private(register) => Kicks::NONE,
                register => self.write_interrupts(cpu, 0, register, size, value as u32, hw),
            },
            (Frame::Messages, Version::V2) if messages::is_set(offset, size) => {
                self.write_message(cpu, value as u32, true, hw)
            }
            (Frame::Distributor, Version::V2) => self.write_v2(cpu, offset, size, value as u32, hw),
            (Frame::Redistributor(owner), Version::V3) if owner < self.config.cpus => {
                if offset >= SGI_BASE {
                    let register = Register::decode(offset - SGI_BASE, size, IDENTIFICATION_V3);
                    let private = is_private(register);
                    return if private {
                        self.write_interrupts(cpu, owner, register, size, value as u32, hw)
                    } else {
                        Kicks::NONE
                    };
                }
                if (offset, size) == (0x14, 4) {
                    self.cpus[owner].waker.store(value as u32 & WAKER_PROCESSOR_SLEEP, Ordering::Relaxed);
                }
                Kicks::NONE
            }
            _ => Kicks::NONE,
        }
    }

    fn read_v3(&self, cpu: usize, register: Register, size: usize, hw: &mut impl Gic) -> Read {
        match register {
            Register::Control => {
                let waits = if self.revision_waits(cpu) { CTLR_RWP } else { 0 };
                Read::from(self.ctlr() | CTLR_ARE_DS | waits)
            }
            Register::Type => Read::from(self.typer),
            Register::Implementer => Read::from(IIDR),
            Register::Identification(offset) => Read::from(identification(offset, 3)),
            Register::Router(intid, upper) => self.read_router(intid, upper, size),
            Register::Bits(_, 0) => Read::ZERO,
            Register::Bits(kind, index) => self.read_bits(cpu, kind, Word { index, owner: 0 }, hw),
            register if is_private(register) => Read::ZERO,
            register => self.read_interrupts(cpu, 0, register, size, hw),
        }
    }

    #[inline(never)]
    fn read_v2(&self, cpu: usize, register: Register, size: usize, hw: &mut dyn Gic) -> Read {
        match register {
            Register::Control => Read::from(self.ctlr()),
            Register::Type => Read::from(self.typer),
            Register::Implementer => Read::from(IIDR),
            Register::Identification(offset) => Read::from(identification(offset, 2)),
            Register::Targets(first) => self.read_targets(cpu, first, size),
            Register::SetSgiPending(first) | Register::ClearSgiPending(first) => {
                self.read_sgi_pending(cpu, first, size, hw)
            }
            register => self.read_interrupts(cpu, cpu, register, size, hw),
        }
    }

    fn write_v2(&self, cpu: usize, offset: u64, size: usize, value: u32, hw: &mut impl Gic) -> Kicks {
        match Register::decode(offset, size, IDENTIFICATION_V2) {
            Register::Control => self.write_control(cpu, value, hw),
            Register::Targets(first) => self.write_targets(cpu, first, size, value, hw),
            Register::Sgi => self.write_sgir(cpu, value, hw),
            Register::SetSgiPending(first) => self.set_sgi_pending(cpu, first, size, value, hw),
            Register::ClearSgiPending(first) => self.clear_sgi_pending(cpu, first, size, value, hw),
            register => self.write_interrupts(cpu, cpu, register, size, value, hw),
        }
    }

    /// `RD_base` of vCPU `owner` (GIC IHI 0069, the `GICR` register map).
    fn read_redistributor(&self, owner: usize, offset: u64, size: usize) -> u64 {
        match (offset, size) {
            (0x00, 4) if self.cpus[owner].is_online() && self.cpus[owner].inbox.revision_waits() => {
                u64::from(GICR_CTLR_RWP)
            }
            (0x04, 4) => u64::from(IIDR),
            (0x08, 8) => typer_redistributor(&self.config, owner),
            (0x08, 4) => typer_redistributor(&self.config, owner) & 0xFFFF_FFFF,
            (0x0C, 4) => typer_redistributor(&self.config, owner) >> 32,
            (0x14, 4) => {
                let sleep = self.cpus[owner].waker.load(Ordering::Relaxed);
                u64::from(sleep | sleep << 1)
            }
            (IDENTIFICATION_V3..0x1_0000, 4) if offset.is_multiple_of(4) => {
                u64::from(identification(offset - IDENTIFICATION_V3, 3))
            }
            _ => 0,
        }
    }

    /// Whether a core other than `cpu` has not carried out a change yet. It waits for a refill under way.
    #[inline]
    fn revision_waits(&self, cpu: usize) -> bool {
        if self.config.cpus == 1 {
            return false;
        }
        let _refill_done = self.shared.lock();
        let cpus = &self.cpus[..self.config.cpus];
        cpus.iter().enumerate().any(|(other, it)| other != cpu && it.is_online() && it.inbox.revision_waits())
    }

    fn write_control(&self, cpu: usize, value: u32, hw: &mut dyn Gic) -> Kicks {
        let mut shared = self.shared.lock();
        let groups = value & CTLR_GROUPS;
        if groups == self.ctlr() {
            return Kicks::NONE;
        }
        self.set_ctlr(groups);
        let mut kicks = Kicks::NONE;
        for target in 0..self.config.cpus {
            self.cpus[target].inbox.ask(SURVEY);
            self.kick_unless(cpu, target, &mut kicks);
        }
        kicks | self.refill_locked(cpu, &mut shared, hw)
    }

    fn read_interrupts(&self, cpu: usize, owner: usize, register: Register, size: usize, hw: &mut dyn Gic) -> Read {
        match register {
            Register::Bits(kind, index) => self.read_bits(cpu, kind, Word { index, owner }, hw),
            Register::Priority(first) => Read::from(self.with_bank(owner, first, |bank| {
                let priority = |intid| if owns(bank, intid) { bank.priority(intid) } else { 0 };
                compose_bytes(size, |n| priority(first + n))
            })),
            Register::Config(first) => Read::from(self.with_bank(owner, first, |bank| {
                let edges = bank.word(Fact::Edge, (first / 32) as usize) & bank.owned((first / 32) as usize);
                spread(edges >> (first % 32))
            })),
            _ => Read::ZERO,
        }
    }

    #[inline(always)]
    fn read_bits(&self, cpu: usize, kind: Bits, word: Word, hw: &mut dyn Gic) -> Read {
        let fact = match kind {
            Bits::Group => Fact::Group1,
            Bits::SetEnable | Bits::ClearEnable => Fact::Enabled,
            Bits::SetPending | Bits::ClearPending => return self.read_state(cpu, word, hw).0,
            Bits::SetActive | Bits::ClearActive => return self.read_state(cpu, word, hw).1,
        };
        let first = word.index as u32 * 32;
        Read::from(self.with_bank(word.owner, first, |bank| bank.word(fact, word.index) & bank.owned(word.index)))
    }

    pub(crate) fn write_interrupts(
        &self,
        cpu: usize,
        owner: usize,
        register: Register,
        size: usize,
        value: u32,
        hw: &mut dyn Gic,
    ) -> Kicks {
        let first = match register {
            Register::Bits(_, index) => index as u32 * 32,
            Register::Priority(first) | Register::Config(first) => first,
            _ => return Kicks::NONE,
        };
        let mut shared = self.shared.lock();
        let index = (first / 32) as usize;
        let sgis_by_bits = self.config.version == Version::V3;
        if index == 0 {
            let mut state = self.cpus[owner].state.lock();
            let mut target = Target { bank: &mut state.private, places: None, index, cpu: owner, sgis_by_bits };
            let effect = target.write(register, size, value, hw);
            drop(state);
            self.spread_private(cpu, owner, effect, &mut shared, hw)
        } else {
            let Shared { bank, route, home, .. } = &mut *shared;
            let mut target = Target { bank, places: Some((route, home)), index, cpu, sgis_by_bits };
            let effect = target.write(register, size, value, hw);
            self.spread_shared(cpu, index, effect, &mut shared, hw)
        }
    }

    fn spread_private(&self, cpu: usize, owner: usize, effect: Effect, shared: &mut Shared, hw: &mut dyn Gic) -> Kicks {
        if effect.raise | effect.revise == 0 {
            return Kicks::NONE;
        }
        let flags = if effect.revise != 0 { REVISE } else { 0 };
        self.cpus[owner].inbox.push_word(0, effect.raise | effect.revise, flags);
        if owner == cpu {
            return self.refill_locked(cpu, shared, hw);
        }
        let mut kicks = Kicks::NONE;
        self.kick_unless(cpu, owner, &mut kicks);
        kicks
    }

    fn spread_shared(&self, cpu: usize, index: usize, effect: Effect, shared: &mut Shared, hw: &mut dyn Gic) -> Kicks {
        let (mut kicks, mut own) = (Kicks::NONE, false);
        for bit in bits(effect.raise | effect.revise) {
            let intid = index as u32 * 32 + bit;
            let (home, route) = (shared.home[intid as usize], shared.route[intid as usize]);
            let (target, flags) = if home == NONE { (route, 0) } else { (home, REVISE) };
            own |= usize::from(target) == cpu;
            self.push_except(cpu, target, intid, flags, &mut kicks);
        }
        if own {
            kicks = kicks | self.refill_locked(cpu, shared, hw);
        }
        kicks
    }

    #[inline]
    fn with_bank<R>(&self, owner: usize, first: u32, read: impl FnOnce(&dyn Interrupts) -> R) -> R {
        if first < 32 { read(&self.cpus[owner].state.lock().private) } else { read(&self.shared.lock().bank) }
    }
}

impl Source {
    pub(crate) fn facts(self) -> (bool, bool) {
        (self == Source::Hardware, self == Source::Virtual)
    }
}

/// Whether all of `register` is about SGIs and PPIs.
fn is_private(register: Register) -> bool {
    match register {
        Register::Bits(_, index) => index == 0,
        Register::Priority(first) | Register::Config(first) | Register::Targets(first) => first < 32,
        _ => false,
    }
}

fn owns(bank: &(impl Interrupts + ?Sized), intid: u32) -> bool {
    bank.is(Fact::Hardware, intid) || bank.is(Fact::Virtual, intid)
}

/// `size` bytes, byte *n* from `byte(n)`.
pub(crate) fn compose_bytes(size: usize, byte: impl Fn(u32) -> u8) -> u32 {
    (0..size as u32).fold(0, |value, n| value | u32::from(byte(n)) << (8 * n))
}

/// 16 bits to the odd bits of a word, as `ICFGR` has them.
fn spread(flags: u32) -> u32 {
    (0..16).fold(0, |value, n| value | (flags >> n & 1) << (2 * n + 1))
}

impl Read {
    /// RAZ.
    const ZERO: Read = Read::Value(0);
}

impl From<u32> for Read {
    fn from(value: u32) -> Read {
        Read::from(u64::from(value))
    }
}

impl From<u64> for Read {
    fn from(value: u64) -> Read {
        Read::Value(value)
    }
}
