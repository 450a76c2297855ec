//! A machine for the tests: physical GIC, list registers and virtual CPU interfaces of a few cores, as the manual describes them.

extern crate std;
use std::vec;
use std::vec::Vec;

use crate::bank::bits;
use crate::list_register::*;
use crate::*;

/// The physical interrupt of one INTID.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pub(crate) enabled: bool,
    pub(crate) pending: bool,
    pub(crate) active: bool,
    pub(crate) high: bool,
    pub(crate) edge: bool,
    pub(crate) route: usize,
}

impl Line {
    pub(crate) fn is_pending(&self) -> bool {
        self.pending || (self.high && !self.edge)
    }
}

/// What one core alone can reach.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) lrs: Vec<ListRegister>,
    pub(crate) hcr: u32,
    /// Priorities and INTIDs that were acknowledged and not ended, the running one last.
    pub(crate) running: Vec<(u8, u32)>,
}

/// All of it. As [`Physical`] and [`ListRegisters`] it is what core `here` sees.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) here: usize,
    pub(crate) cores: Vec<Interface>,
    /// `private[cpu][intid]`, then SPIs in `shared[intid]`.
    pub(crate) private: Vec<[Line; 32]>,
    pub(crate) shared: Vec<Line>,
    /// INTIDs that are the guest's.
    pub(crate) owned: Vec<u32>,
    pub(crate) writes: usize,
}

impl Machine {
    pub(crate) fn new(cores: usize, count: usize, owned: &[u32]) -> Machine {
        let interface = Interface { lrs: vec![ListRegister::EMPTY; count], hcr: 0, running: vec![] };
        Machine {
            here: 0,
            cores: vec![interface; cores],
            private: vec![[Line::default(); 32]; cores],
            shared: vec![Line::default(); INTIDS],
            owned: owned.to_vec(),
            writes: 0,
        }
    }

    pub(crate) fn line(&mut self, cpu: usize, intid: u32) -> &mut Line {
        if intid < 32 { &mut self.private[cpu][intid as usize] } else { &mut self.shared[intid as usize] }
    }

    pub(crate) fn on(&mut self, core: usize) -> &mut Machine {
        self.here = core;
        self
    }

    /// The physical interrupt that EL2 acknowledges on `core`, if any.
    pub(crate) fn acknowledge_physical(&mut self, core: usize) -> Option<u32> {
        let owned = self.owned.clone();
        let fires = |line: &Line, intid| {
            line.enabled && line.is_pending() && !line.active && (intid < 32 || line.route == core)
        };
        let intid = owned.into_iter().find(|intid| fires(&self.line(core, *intid).clone(), *intid))?;
        let line = self.line(core, intid);
        line.pending = false;
        line.active = true;
        Some(intid)
    }

    /// The guest's `ICC_IAR1_EL1` on `core`.
    pub(crate) fn acknowledge(&mut self, core: usize) -> Option<u32> {
        let interface = &mut self.cores[core];
        if interface.hcr & HCR_EN == 0 {
            return None;
        }
        let running = interface.running.last().map_or(0x100, |(priority, _)| u32::from(*priority));
        let pending = interface.lrs.iter_mut().filter(|value| value.is_pending() && !value.is_active());
        let best = pending.min_by_key(|value| (value.priority(), value.intid()))?;
        if u32::from(best.priority()) >= running {
            return None;
        }
        *best = best.with_state(false, true);
        let (priority, intid) = (best.priority(), best.intid());
        interface.running.push((priority, intid));
        Some(intid)
    }

    /// The guest's `ICC_EOIR1_EL1` on `core` with EOImode 0.
    pub(crate) fn end(&mut self, core: usize) -> Option<u32> {
        let (_, intid) = self.cores[core].running.pop()?;
        self.deactivate(core, intid);
        Some(intid)
    }

    /// Deactivation by the guest, of what a list register holds or else counted.
    pub(crate) fn deactivate(&mut self, core: usize, intid: u32) {
        let interface = &mut self.cores[core];
        let held = interface.lrs.iter_mut().find(|value| value.is_active() && value.intid() == intid);
        let Some(value) = held else {
            interface.hcr += 1 << HCR_EOICOUNT_SHIFT;
            return;
        };
        *value = value.with_state(value.is_pending(), false);
        if value.is_hardware() {
            self.line(core, intid).active = false;
        }
    }

    /// Whether the maintenance interrupt of `core` is asserted (GIC IHI 0069, `ICH_MISR_EL2`).
    pub(crate) fn maintenance(&self, core: usize) -> bool {
        let interface = &self.cores[core];
        let ended = interface.lrs.iter().any(|it| !it.is_pending() && !it.is_active() && it.has_eoi());
        let pending = interface.lrs.iter().any(|it| it.is_pending() && !it.is_active());
        let counted = interface.hcr >> HCR_EOICOUNT_SHIFT != 0;
        let asks = |bit: u32| interface.hcr & bit != 0;
        asks(HCR_EN) && (ended || (asks(HCR_NPIE) && !pending) || (asks(HCR_LRENPIE) && counted))
    }
}

impl ListRegisters for Machine {
    fn count(&self) -> usize {
        self.cores[self.here].lrs.len()
    }

    fn read(&self, index: usize) -> ListRegister {
        self.cores[self.here].lrs[index]
    }

    fn write(&mut self, index: usize, value: ListRegister) {
        assert!(!(value.is_hardware() && value.is_pending() && value.is_active()), "reserved state");
        let others = self.cores[self.here]
            .lrs
            .iter()
            .enumerate()
            .filter(|(at, it)| *at != index && (it.is_pending() || it.is_active()) && it.intid() == value.intid());
        assert!(value.0 == 0 || others.count() == 0, "one INTID in two list registers");
        self.cores[self.here].lrs[index] = value;
    }

    fn empty(&self) -> u32 {
        let lrs = self.cores[self.here].lrs.iter().enumerate();
        let free = lrs.filter(|(_, it)| !it.is_pending() && !it.is_active() && !it.has_eoi());
        free.fold(0, |all, (at, _)| all | 1 << at)
    }

    fn hcr(&self) -> u32 {
        self.cores[self.here].hcr
    }

    fn set_hcr(&mut self, value: u32) {
        self.cores[self.here].hcr = value;
    }
}

impl Physical for Machine {
    fn apply(&mut self, cpu: usize, intid: u32, change: Change) {
        assert!(self.owned.contains(&intid), "INTID {intid} is not the guest's");
        self.writes += 1;
        let line = self.line(cpu, intid);
        match change {
            Change::Enable(enabled) => line.enabled = enabled,
            Change::Pending(pending) => line.pending = pending,
            Change::Active(active) => line.active = active,
            Change::Priority(_) => {}
            Change::Edge(edge) => line.edge = edge,
            Change::Route(route) => line.route = route,
        }
    }

    fn pending(&mut self, cpu: usize, word: usize) -> u32 {
        (0..32).filter(|bit| self.line(cpu, word as u32 * 32 + bit).is_pending()).fold(0, |all, bit| all | 1 << bit)
    }

    fn active(&mut self, cpu: usize, word: usize) -> u32 {
        (0..32).filter(|bit| self.line(cpu, word as u32 * 32 + bit).active).fold(0, |all, bit| all | 1 << bit)
    }
}

/// The distributor and a machine under it, with the kicks that are under way.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) vgic: Vgic,
    pub(crate) machine: Machine,
    pub(crate) kicked: u32,
}

impl World {
    /// `hardware` and `software` are the INTIDs of the guest; every vCPU is on.
    pub(crate) fn new(version: Version, cores: usize, count: usize, hardware: &[u32], software: &[u32]) -> World {
        let affinities = [0, 1, 0x100, 0x101, 2, 3, 4, 5];
        let vgic = Vgic::new(Config { version, cpus: cores, affinities, spis: 64, messages: None });
        for intid in hardware {
            assert!(vgic.assign(*intid, Source::Hardware));
        }
        for intid in software {
            assert!(vgic.assign(*intid, Source::Virtual));
        }
        let mut world = World { vgic, machine: Machine::new(cores, count, hardware), kicked: 0 };
        for cpu in 0..cores {
            let kicks = world.vgic.cpu_on(cpu, world.machine.on(cpu));
            world.note(kicks);
        }
        world
    }

    /// As if made with `count` interrupts from `first` on that take messages.
    pub(crate) fn give_messages(&mut self, first: u32, count: u32) {
        self.vgic.config.messages = Some(Messages { first, count });
        self.vgic.typer = crate::distributor::typer(&self.vgic.config);
    }

    pub(crate) fn note(&mut self, kicks: Kicks) {
        self.kicked |= kicks.0 as u32;
    }

    pub(crate) fn write(&mut self, cpu: usize, frame: Frame, offset: u64, value: u64) {
        let size = if offset >= 0x6000 && frame == Frame::Distributor { 8 } else { 4 };
        let kicks = self.vgic.mmio_write(cpu, frame, offset, size, value, self.machine.on(cpu));
        self.note(kicks);
    }

    pub(crate) fn read(&mut self, cpu: usize, frame: Frame, offset: u64) -> u64 {
        for _ in 0..10 {
            match self.vgic.mmio_read(cpu, frame, offset, 4, self.machine.on(cpu)) {
                Read::Value(value) => return value,
                Read::Again(kicks) => {
                    self.note(kicks);
                    kicks.iter().for_each(|core| self.settle_core(core));
                }
            }
        }
        panic!("the read of {offset:#x} by vCPU {cpu} does not end")
    }

    /// Where the register array at offset `array` has the word of `intid`, of vCPU `owner` if private.
    fn place(&self, owner: usize, array: u64, intid: u32) -> (Frame, u64) {
        let offset = array + u64::from(intid / 32 * 4);
        match self.vgic.config.version {
            Version::V3 if intid < 32 => (Frame::Redistributor(owner), 0x1_0000 + offset),
            _ => (Frame::Distributor, offset),
        }
    }

    /// Writes the bit of `intid` in the register array that starts at `array`; on GICv2, `owner` writes its private ones itself.
    pub(crate) fn write_bit(&mut self, cpu: usize, owner: usize, array: u64, intid: u32) {
        let (frame, offset) = self.place(owner, array, intid);
        self.write(cpu, frame, offset, 1 << (intid % 32));
    }

    /// Reads the bit of `intid` likewise.
    pub(crate) fn bit(&mut self, cpu: usize, owner: usize, array: u64, intid: u32) -> bool {
        let (frame, offset) = self.place(owner, array, intid);
        self.read(cpu, frame, offset) >> (intid % 32) & 1 != 0
    }

    /// Writes a register of one byte.
    pub(crate) fn write_byte(&mut self, cpu: usize, frame: Frame, offset: u64, value: u8) {
        let kicks = self.vgic.mmio_write(cpu, frame, offset, 1, value.into(), self.machine.on(cpu));
        self.note(kicks);
    }

    /// EL2 on `core` takes its interrupts until none is left: IPIs, maintenance, the guest's.
    pub(crate) fn settle_core(&mut self, core: usize) {
        for round in 0.. {
            assert!(round < 200, "interrupts of core {core} do not end");
            if self.kicked >> core & 1 != 0 {
                self.kicked &= !(1 << core);
                let kicks = self.vgic.sync(core, self.machine.on(core));
                self.note(kicks);
            } else if self.machine.maintenance(core) {
                let kicks = self.vgic.maintenance(core, self.machine.on(core));
                self.note(kicks);
                assert!(!self.machine.maintenance(core), "the maintenance interrupt storms");
            } else if let Some(intid) = self.machine.acknowledge_physical(core) {
                let kicks = self.vgic.physical_interrupt(core, intid, self.machine.on(core)).unwrap();
                self.note(kicks);
            } else {
                break;
            }
        }
    }

    /// The same on every core, until all are quiet.
    pub(crate) fn settle(&mut self) {
        for _ in 0..4 {
            for core in 0..self.machine.cores.len() {
                self.settle_core(core);
            }
        }
        assert_eq!(self.kicked, 0, "kicks do not end");
        assert_eq!(bits(self.kicked).count(), 0);
    }
}
