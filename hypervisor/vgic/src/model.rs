//! The virtual GIC against a naive model of what the architecture promises, under random operations.
//!
//! The model knows of each interrupt whether it is pending, active, enabled, its priority and route, and nothing of list
//! registers. After every core has taken its interrupts (*settled*), what the guest acknowledges must be exactly one of the best of
//! the model. Between settlings, when another core has not been told yet, it may also be one that was deliverable at the last
//! settling; never anything else, and nothing may be lost.

extern crate std;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::machine::World;
use crate::*;

const TIMER: u32 = 27;
const VIRTUAL_PPI: u32 = 23;
const HW_LEVEL: u32 = 33;
const HW_EDGE: u32 = 34;
const HARDWARE: [u32; 3] = [TIMER, HW_LEVEL, HW_EDGE];
/// 40, 41 level-sensitive, 42 and 70 edge-triggered.
const SOFTWARE: [u32; 5] = [VIRTUAL_PPI, 40, 41, 42, 70];
/// Of these, 40 to 42 take messages.
const MESSAGES: core::ops::Range<u32> = 40..43;
const INTERRUPTS: [u32; 11] = [0, 1, 15, TIMER, VIRTUAL_PPI, HW_LEVEL, HW_EDGE, 40, 41, 42, 70];
const CORES: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Op {
    Enable(usize, u32),
    Disable(usize, u32),
    Priority(usize, u32, u8),
    Route(usize, u32, usize),
    SetPending(usize, u32),
    ClearPending(usize, u32),
    Deactivate(usize, u32),
    Sgi(usize, u8, u32),
    Raise(usize, u32),
    Lower(usize, u32),
    /// `SETSPI_NSR` or, false, `CLRSPI_NSR`.
    Message(usize, u32, bool),
    Acknowledge(usize),
    /// Its next acknowledgement is a look that traps.
    Watch(usize),
    End(usize),
    Groups(usize, bool),
    Restart(usize),
    SettleCore(usize),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let cpu = 0..CORES;
    let intid = proptest::sample::select(&INTERRUPTS[..]);
    let spi = proptest::sample::select(&INTERRUPTS[5..]);
    let sgi = proptest::sample::select(&INTERRUPTS[..3]);
    prop_oneof![
        1 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::Enable(c, i)),
        1 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::Disable(c, i)),
        1 => (cpu.clone(), intid.clone(), 0u8..6).prop_map(|(c, i, p)| Op::Priority(c, i, p << 3)),
        1 => (cpu.clone(), spi, 0..CORES + 1).prop_map(|(c, i, t)| Op::Route(c, i, t)),
        1 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::SetPending(c, i)),
        1 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::ClearPending(c, i)),
        1 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::Deactivate(c, i)),
        3 => (cpu.clone(), 0u8..8, sgi).prop_map(|(c, t, i)| Op::Sgi(c, t, i)),
        8 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::Raise(c, i)),
        2 => (cpu.clone(), intid.clone()).prop_map(|(c, i)| Op::Lower(c, i)),
        3 => (cpu.clone(), intid, any::<bool>()).prop_map(|(c, i, set)| Op::Message(c, i, set)),
        8 => cpu.clone().prop_map(Op::Acknowledge),
        2 => cpu.clone().prop_map(Op::Watch),
        6 => cpu.clone().prop_map(Op::End),
        1 => (cpu.clone(), any::<bool>()).prop_map(|(c, on)| Op::Groups(c, on)),
        1 => cpu.clone().prop_map(Op::Restart),
        4 => cpu.prop_map(Op::SettleCore),
        4 => Just(Op::Settle),
    ]
}

/// One interrupt of the model: an SPI, or a private one of one vCPU.
#[derive(Clone, Debug, Default)]
struct Irq {
    enabled: bool,
    latch: bool,
    line: bool,
    /// Acknowledged by EL2 before its line fell, so still pending (hardware levels).
    captured: bool,
    /// An edge came since the last settling.
    recent: bool,
    /// Who requested an SGI and was not served, and who did since the last settling (GICv3: all count as vCPU 0).
    requesters: u8,
    recent_requesters: u8,
    active: Option<usize>,
    priority: u8,
    route: usize,
    edge: bool,
}

struct Model {
    world: World,
    private: Vec<Vec<Irq>>,
    shared: Vec<Irq>,
    groups: bool,
    /// Deliverable somewhere at some time since the last settling, or changed since.
    grace: BTreeSet<(usize, u32)>,
    /// Acknowledged on one core after another had changed it: only the GIC can say what came first.
    ambiguous: BTreeSet<(usize, u32)>,
    settled: bool,
}

fn is_edge(intid: u32) -> bool {
    intid < 16 || [HW_EDGE, 42, 70].contains(&intid)
}

impl Model {
    fn new(version: Version, count: usize) -> Model {
        let mut world = World::new(version, CORES, count, &HARDWARE, &SOFTWARE);
        world.give_messages(MESSAGES.start, MESSAGES.len() as u32);
        for offset in [0xC08, 0xC0C, 0xC10] {
            let first = (offset as u32 - 0xC00) * 4;
            let value = (0..16).filter(|n| is_edge(first + n)).fold(0, |all, n| all | 2 << (2 * n));
            world.write(0, Frame::Distributor, offset, value);
        }
        world.write(0, Frame::Distributor, 0, 0b11);
        if version == Version::V2 {
            INTERRUPTS[5..]
                .iter()
                .for_each(|intid| world.write_byte(0, Frame::Distributor, 0x800 + u64::from(*intid), 1));
        }
        let irqs = |len: u32| (0..len).map(|intid| Irq { edge: is_edge(intid), ..Irq::default() }).collect::<Vec<_>>();
        let private = (0..CORES).map(|_| irqs(32)).collect();
        Model {
            world,
            private,
            shared: irqs(96),
            groups: true,
            grace: BTreeSet::new(),
            ambiguous: BTreeSet::new(),
            settled: true,
        }
    }

    fn irq(&mut self, cpu: usize, intid: u32) -> &mut Irq {
        if intid < 32 { &mut self.private[cpu][intid as usize] } else { &mut self.shared[intid as usize] }
    }

    fn key(cpu: usize, intid: u32) -> (usize, u32) {
        (if intid < 32 { cpu } else { 0 }, intid)
    }

    fn deliverable(&mut self, cpu: usize, intid: u32) -> bool {
        self.irq(cpu, intid).active.is_none() && self.forwarded(cpu, intid)
    }

    /// Deliverable, or will be once it is not active.
    fn forwarded(&mut self, cpu: usize, intid: u32) -> bool {
        let groups = self.groups;
        let irq = self.irq(cpu, intid);
        let pending = irq.latch || irq.captured || (irq.line && !irq.edge);
        groups && pending && irq.enabled && (intid < 32 || irq.route == cpu)
    }

    /// Remembers what is deliverable before something changes.
    fn before(&mut self) {
        for cpu in 0..CORES {
            for intid in INTERRUPTS {
                if self.forwarded(cpu, intid) {
                    self.grace.insert(Self::key(cpu, intid));
                }
            }
        }
    }

    fn settle(&mut self) {
        self.world.settle();
        self.settled = true;
        self.grace.clear();
        for (cpu, intid) in core::mem::take(&mut self.ambiguous) {
            let pending = self.world.bit(cpu, cpu, 0x200, intid);
            let requesters = match self.version() {
                Version::V2 if intid < 16 => {
                    let word = self.world.read(cpu, Frame::Distributor, 0xF20 + u64::from(intid & !3));
                    (word >> (8 * (intid % 4))) as u8
                }
                _ => u8::from(pending),
            };
            let irq = self.irq(cpu, intid);
            irq.requesters &= requesters;
            if irq.edge {
                irq.latch &= pending;
            }
        }
        self.private
            .iter_mut()
            .flatten()
            .chain(&mut self.shared)
            .for_each(|irq| (irq.recent, irq.recent_requesters) = (false, 0));
        self.forget_what_was_given_back();
        self.world.settle();
    }

    fn forget_what_was_given_back(&mut self) {
        for cpu in 0..CORES {
            for intid in HARDWARE {
                let line = *self.world.machine.line(cpu, intid);
                let irq = self.irq(cpu, intid);
                let acknowledged = line.active && irq.active.is_none();
                irq.captured &= acknowledged;
            }
        }
    }

    fn version(&self) -> Version {
        self.world.vgic.config.version
    }

    /// SGI `intid` of `cpu` to `target`.
    fn request(&mut self, cpu: usize, target: usize, intid: u32) {
        let requester = if self.version() == Version::V2 { 1 << cpu } else { 1 };
        let irq = self.irq(target, intid);
        irq.requesters |= requester;
        irq.recent_requesters |= requester;
        self.edge(target, intid);
    }

    /// One more edge of `intid`.
    fn edge(&mut self, cpu: usize, intid: u32) {
        let irq = self.irq(cpu, intid);
        irq.latch = true;
        irq.recent = true;
    }

    fn apply(&mut self, op: Op) {
        self.before();
        self.settled &= matches!(op, Op::Settle | Op::Acknowledge(_) | Op::Watch(_) | Op::SettleCore(_));
        match op {
            Op::Enable(cpu, intid) => {
                self.irq(cpu, intid).enabled = true;
                self.world.write_bit(cpu, cpu, 0x100, intid);
            }
            Op::Disable(cpu, intid) => {
                self.irq(cpu, intid).enabled = false;
                self.world.write_bit(cpu, cpu, 0x180, intid);
            }
            Op::Priority(cpu, intid, priority) => {
                self.irq(cpu, intid).priority = priority;
                let (frame, base) = match self.version() {
                    Version::V3 if intid < 32 => (Frame::Redistributor(cpu), 0x1_0400),
                    _ => (Frame::Distributor, 0x400),
                };
                self.world.write_byte(cpu, frame, base + u64::from(intid), priority);
            }
            Op::Route(cpu, intid, target) => {
                self.irq(0, intid).route = target;
                if self.version() == Version::V2 {
                    let targets = [1, 2, 4, 0][target];
                    return self.world.write_byte(cpu, Frame::Distributor, 0x800 + u64::from(intid), targets);
                }
                let affinity = [0, 1, 0x100, 0x77][target];
                self.world.write(cpu, Frame::Distributor, 0x6000 + 8 * u64::from(intid), affinity);
            }
            Op::SetPending(cpu, intid) => {
                if intid < 16 {
                    if self.version() == Version::V3 {
                        self.request(cpu, cpu, intid);
                    }
                } else if is_edge(intid) {
                    self.edge(cpu, intid);
                } else if HARDWARE.contains(&intid) {
                    return;
                } else {
                    self.settle();
                    self.irq(cpu, intid).latch = true;
                }
                self.world.write_bit(cpu, cpu, 0x200, intid);
                if !is_edge(intid) {
                    self.settle();
                }
            }
            Op::ClearPending(cpu, intid) => {
                if self.version() == Version::V2 && intid < 16 {
                    return self.world.write_bit(cpu, cpu, 0x280, intid);
                }
                let irq = self.irq(cpu, intid);
                irq.latch = false;
                irq.captured = false;
                irq.requesters = 0;
                self.world.write_bit(cpu, cpu, 0x280, intid);
            }
            Op::Deactivate(cpu, intid) => self.deactivate(cpu, intid),
            Op::Sgi(cpu, targets, intid) => self.sgi(cpu, targets, intid),
            Op::Raise(cpu, intid) => self.line(cpu, intid, true),
            Op::Lower(cpu, intid) => self.line(cpu, intid, false),
            Op::Message(cpu, intid, set) => self.message(cpu, intid, set),
            Op::Acknowledge(cpu) => self.acknowledge(cpu),
            Op::Watch(cpu) => self.world.vgic.watch(cpu, self.world.machine.on(cpu)),
            Op::End(cpu) => self.end(cpu),
            Op::Groups(cpu, on) => {
                self.groups = on;
                self.world.write(cpu, Frame::Distributor, 0, if on { 0b11 } else { 0 });
            }
            Op::Restart(cpu) => self.restart(cpu),
            Op::SettleCore(cpu) => self.world.settle_core(cpu),
            Op::Settle => self.settle(),
        }
    }

    fn sgi(&mut self, cpu: usize, targets: u8, intid: u32) {
        // vCPUs 0 and 1 share a cluster, 2 is in another.
        for target in 0..CORES {
            if targets >> target & 1 != 0 {
                self.request(cpu, target, intid);
            }
        }
        if self.version() == Version::V2 {
            return self.world.write(cpu, Frame::Distributor, 0xF00, u64::from(targets) << 16 | u64::from(intid));
        }
        let clusters = [u64::from(targets & 0b11), 1 << 16 | u64::from(targets >> 2 & 1)];
        for value in clusters {
            let kicks = self.world.vgic.sgi1r(cpu, value | u64::from(intid) << 24, self.world.machine.on(cpu));
            self.world.note(kicks);
        }
    }

    /// A message is a level on a level-sensitive interrupt; a GICv2m frame has none that clears.
    fn message(&mut self, cpu: usize, intid: u32, set: bool) {
        if !MESSAGES.contains(&intid) || (self.version() == Version::V2 && !set) {
            return;
        }
        let irq = self.irq(cpu, intid);
        match (irq.edge, set) {
            (true, true) => self.edge(cpu, intid),
            (true, false) => irq.latch = false,
            (false, level) => irq.line = level,
        }
        let frame = if self.version() == Version::V2 { Frame::Messages } else { Frame::Distributor };
        self.world.write(cpu, frame, if set { 0x40 } else { 0x48 }, intid.into());
    }

    fn line(&mut self, cpu: usize, intid: u32, level: bool) {
        if intid < 16 {
            return;
        }
        let irq = self.irq(cpu, intid);
        irq.line = level;
        let edge = irq.edge;
        if edge && level {
            self.edge(cpu, intid);
        }
        if HARDWARE.contains(&intid) {
            let line = self.world.machine.line(cpu, intid);
            if edge {
                line.pending |= level;
            } else {
                line.high = level;
            }
            // EL2 may have acknowledged it already: then the guest sees one that is gone, as it would on many a GIC.
            let captured = line.active;
            let irq = self.irq(cpu, intid);
            irq.captured |= !level && !edge && captured && irq.active.is_none();
        } else {
            let kicks = self.world.vgic.set_level(cpu, intid, level, self.world.machine.on(cpu));
            self.world.note(kicks);
        }
    }

    fn acknowledge(&mut self, cpu: usize) {
        if self.world.machine.cores[cpu].hcr & HCR_TALL1 != 0 {
            let kicks = self.world.vgic.look(cpu, self.world.machine.on(cpu));
            self.world.note(kicks);
            self.forget_what_was_given_back();
        }
        let running = self.world.machine.cores[cpu].running.last().map_or(0x100, |(p, _)| u32::from(*p));
        let candidates: Vec<u32> = INTERRUPTS.into_iter().filter(|intid| self.deliverable(cpu, *intid)).collect();
        let best = candidates.iter().map(|intid| self.irq(cpu, *intid).priority).min();
        let got = self.world.machine.acknowledge(cpu);
        if self.settled {
            let expected = best.filter(|best| u32::from(*best) < running);
            let got = got.map(|intid| (intid, self.irq(cpu, intid).priority));
            assert_eq!(got.map(|(_, priority)| priority), expected, "of {candidates:?}, got {got:?}");
            assert!(got.is_none_or(|(intid, _)| candidates.contains(&intid)), "{got:?} not in {candidates:?}");
        }
        let Some(intid) = got else { return };
        let mut held = self.world.machine.cores[cpu].lrs.iter();
        let source = held.find(|it| it.is_active() && it.intid() == intid).unwrap().source();
        if !candidates.contains(&intid) || self.irq(cpu, intid).recent {
            self.ambiguous.insert(Self::key(cpu, intid));
        }
        let known = candidates.contains(&intid) || self.grace.contains(&Self::key(cpu, intid));
        assert!(known, "vCPU {cpu} got {intid}, which was not pending");
        let irq = self.irq(cpu, intid);
        assert_eq!(irq.active, None, "{intid} is active already");
        irq.active = Some(cpu);
        irq.latch = irq.edge && irq.recent;
        if intid < 16 {
            irq.requesters &= !(1 << source) | irq.recent_requesters;
            irq.latch = irq.requesters != 0;
        }
        irq.captured = false;
    }

    fn end(&mut self, cpu: usize) {
        if let Some(intid) = self.world.machine.end(cpu) {
            let irq = self.irq(cpu, intid);
            if irq.active == Some(cpu) {
                irq.active = None;
            }
        }
    }

    /// `ICACTIVER` by the vCPU that has it active, which then forgets the running priority too.
    fn deactivate(&mut self, cpu: usize, intid: u32) {
        if self.irq(cpu, intid).active != Some(cpu) {
            return;
        }
        self.irq(cpu, intid).active = None;
        self.world.write_bit(cpu, cpu, 0x380, intid);
        let running = &mut self.world.machine.cores[cpu].running;
        running.retain(|(_, running)| *running != intid);
    }

    /// Off and on again; then, as Linux does, the vCPU clears all its active bits.
    fn restart(&mut self, cpu: usize) {
        let kicks = self.world.vgic.cpu_off(cpu, self.world.machine.on(cpu));
        self.world.note(kicks);
        self.world.settle_core((cpu + 1) % CORES);
        self.world.machine.cores[cpu].running.clear();
        let kicks = self.world.vgic.cpu_on(cpu, self.world.machine.on(cpu));
        self.world.note(kicks);
        for intid in INTERRUPTS {
            self.deactivate(cpu, intid);
        }
    }

    /// Ends everything and takes everything that is left: nothing may be lost.
    fn drain(&mut self) {
        self.apply(Op::Settle);
        for _ in 0..200 {
            for cpu in 0..CORES {
                self.apply(Op::Acknowledge(cpu));
                for intid in INTERRUPTS.into_iter().filter(|intid| *intid >= 16) {
                    let irq = self.irq(cpu, intid);
                    if irq.active == Some(cpu) && irq.line {
                        self.apply(Op::Lower(cpu, intid));
                    }
                }
                self.apply(Op::End(cpu));
                self.apply(Op::Settle);
            }
        }
        for cpu in 0..CORES {
            for intid in INTERRUPTS {
                assert!(!self.deliverable(cpu, intid), "{intid} is left for vCPU {cpu}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_guest_of_gicv3_sees_what_the_architecture_promises(count in 1usize..=16, ops in prop::collection::vec(op(), 1..120)) {
        check(Version::V3, count, ops);
    }

    #[test]
    fn the_guest_of_gicv2_sees_what_the_architecture_promises(count in 1usize..=16, ops in prop::collection::vec(op(), 1..120)) {
        check(Version::V2, count, ops);
    }
}

fn check(version: Version, count: usize, ops: Vec<Op>) {
    let mut model = Model::new(version, count);
    for intid in INTERRUPTS {
        for cpu in 0..CORES {
            model.apply(Op::Enable(cpu, intid));
        }
    }
    model.apply(Op::Settle);
    for op in ops {
        model.apply(op);
    }
    model.drain();
}
