//! What the GIC's architecture promises to whoever programs it, GICv2 (Arm IHI 0048) and GICv3 (Arm IHI 0069) alike. Runs with and without
//! a hypervisor and must find the same.

use crate::access::{load, read32, store, write32};
use crate::controller::{self, Controller, bits};
use crate::disk::barrier;
use crate::probe::Probe;

/// SPIs without a device on QEMU's `virt` (hw/arm/virt.c, `a15irqmap`): behind the GPIO, and the platform bus.
const ONE: u32 = 42;
const OTHER: u32 = 43;
const MANY: core::ops::Range<u32> = 144..164;
/// The virtual timer's PPI.
const TIMER: u32 = 27;
const SGI: u32 = 6;
/// No interrupt.
const NONE: u64 = 1023;
/// `RPR` when nothing is active, in the bits that every interface has.
const IDLE: u64 = 0xF8;
/// Longest wait for an interrupt to arrive, in reads of `HPPIR`.
const POLLS: u32 = 10_000;

struct Gic<'p, 'a> {
    probe: &'p mut Probe<'a>,
    gic: Controller,
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(gic) = Controller::find(&probe.machine) else {
        return probe.report.note("no GIC: class gic is left out");
    };
    let mut it = Gic { probe, gic };
    for case in cases() {
        gic.reset();
        case(&mut it);
    }
    gic.reset();
    more_than_list_registers(probe, gic);
    gic.reset();
}

/// Each begins with a controller that was reset.
fn cases<'p, 'a>() -> [fn(&mut Gic<'p, 'a>); 20] {
    [
        Gic::identification,
        Gic::enables,
        Gic::pending_and_active_bits,
        Gic::priorities,
        Gic::limits,
        Gic::triggers,
        Gic::routes,
        Gic::one_interrupt,
        Gic::order,
        Gic::preemption,
        Gic::binary_point,
        Gic::mask,
        Gic::split_end,
        Gic::groups,
        Gic::edges,
        Gic::disabled,
        Gic::activated_by_hand,
        Gic::deactivated_by_hand,
        Gic::level,
        Gic::sgis,
    ]
}

impl Gic<'_, '_> {
    fn equal(&mut self, name: &str, expected: u64, got: u64) {
        self.probe.report.equal(name, expected, got);
    }

    /// Enables an edge-triggered SPI of this core.
    fn prepare(&self, intid: u32, priority: u8) {
        self.gic.set_edge(intid, true);
        self.gic.set_priority(intid, priority);
        self.gic.route_here(intid);
        self.gic.write_bit(bits::SET_ENABLE, intid);
    }

    fn pend(&self, intid: u32) {
        self.gic.write_bit(bits::SET_PENDING, intid);
        self.settle(u64::from(intid));
    }

    /// Gives an interrupt time to arrive: its way from the distributor to the core may take some.
    fn settle(&self, intid: u64) {
        barrier();
        let _ = (0..POLLS).find(|_| self.gic.best_pending() & 0x3FF == intid);
    }

    fn acknowledge(&self) -> u64 {
        u64::from(self.gic.acknowledge())
    }

    /// Pending and active.
    fn state(&self, intid: u32) -> u64 {
        self.gic.bit(bits::SET_PENDING, intid) << 1 | self.gic.bit(bits::SET_ACTIVE, intid)
    }

    fn running(&self) -> u64 {
        self.gic.running() & IDLE
    }

    fn identification(&mut self) {
        let base = self.gic.distributor();
        let (version, pidr2) = match self.gic {
            Controller::V2(_) => (2, 0xFE8),
            Controller::V3(_) => (3, 0xFFE8),
        };
        self.equal("architecture_version", version, u64::from(read32(base + pidr2) >> 4 & 0xF));
        let typer = read32(base + controller::TYPER);
        self.probe.report.case("spis_exist", "224_or_more", 32 * (typer & 0x1F), typer & 0x1F >= 7);
        if let Controller::V2(_) = self.gic {
            let cores = self.probe.machine.cores.len() as u64;
            self.equal("typer_counts_the_cores", cores - 1, u64::from(typer >> 5 & 7));
        }
        for (name, offset) in [
            ("typer_is_read_only", controller::TYPER),
            ("iidr_is_read_only", controller::IIDR),
            ("pidr2_is_read_only", pidr2),
        ] {
            let before = read32(base + offset);
            write32(base + offset, !before);
            self.equal(name, before.into(), read32(base + offset).into());
        }
        let waits = self.gic.wait();
        self.equal("writes_complete", 1, waits.into());
    }

    fn enables(&mut self) {
        for (name, intid) in [("ppi", TIMER), ("spi", ONE)] {
            let both = |gic: &Controller| gic.bit(bits::SET_ENABLE, intid) << 1 | gic.bit(bits::CLEAR_ENABLE, intid);
            self.gic.write_bit(bits::SET_ENABLE, intid);
            let on = both(&self.gic);
            self.gic.write_bit(bits::CLEAR_ENABLE, intid);
            self.probe.report.equal(format_args!("{name}_enabled_and_disabled"), 0b1100, on << 2 | both(&self.gic));
        }
    }

    fn pending_and_active_bits(&mut self) {
        for (name, edge) in [("edge", true), ("level", false)] {
            self.gic.set_edge(ONE, edge);
            self.gic.route_here(ONE);
            let step = |gic: &Controller, array| {
                gic.write_bit(array, ONE);
                [bits::SET_PENDING, bits::CLEAR_PENDING, bits::SET_ACTIVE, bits::CLEAR_ACTIVE]
                    .into_iter()
                    .fold(0, |all, array| all << 1 | gic.bit(array, ONE))
            };
            let arrays = [bits::SET_PENDING, bits::SET_ACTIVE, bits::CLEAR_PENDING, bits::CLEAR_ACTIVE];
            let got = arrays.into_iter().fold(0, |all, array| all << 4 | step(&self.gic, array));
            self.probe.report.equal(format_args!("bits_of_a_disabled_{name}"), 0b1100_1111_0011_0000, got);
        }
    }

    fn priorities(&mut self) {
        let place = self.gic.distributor() + controller::PRIORITY + 40;
        write32(place, 0x1020_3040);
        let _ = store(place + 2, 1, 0x88);
        self.equal("priority_byte_in_its_word", 0x1088_3040, read32(place).into());
        self.equal("priority_word_in_its_byte", 0x30, load(place + 1, 1).value());
        write32(place, u32::MAX);
        let lowest = self.gic.priority(ONE);
        self.probe.report.case("priority_bits", "at_least_4", format_args!("{lowest:#x}"), lowest & 0xF0 == 0xF0);
    }

    /// The first SPIs, the last, and those that the distributor does not have.
    fn limits(&mut self) {
        let base = self.gic.distributor();
        let lines = 32 * (read32(base + controller::TYPER) as usize & 0x1F) + 32;
        let (first, last) = (base + controller::PRIORITY + 32, base + controller::PRIORITY + lines - 4);
        write32(first, u32::MAX);
        let mask = read32(first);
        self.equal("priorities_have_one_mask", u64::from(mask & 0xFF) * 0x0101_0101, mask.into());
        for (name, place) in [("first", first), ("last", last)] {
            write32(place, 0xFF7F_BF3F);
            let got = read32(place);
            self.probe.report.equal(
                format_args!("priorities_of_the_{name}_spis"),
                (0xFF7F_BF3F & mask).into(),
                got.into(),
            );
        }
        let mut beyond = 0;
        for array in [controller::PRIORITY + lines, bits::SET_ENABLE + lines / 8, bits::SET_PENDING + lines / 8] {
            for value in [u32::MAX, 0xA5A5_5A5A, 0] {
                write32(base + array, value);
                beyond |= read32(base + array);
            }
        }
        self.equal("there_is_nothing_beyond_the_last_spi", 0, beyond.into());
    }

    fn triggers(&mut self) {
        let sgis = read32(self.gic.frame(0) + controller::CONFIG);
        self.equal("sgis_are_edges", 0xAAAA_AAAA, sgis.into());
        for (name, edge) in [("spi_edge", true), ("spi_level", false)] {
            self.gic.set_edge(ONE, edge);
            let got = self.gic.is_edge(ONE);
            self.equal(name, edge.into(), got);
        }
    }

    fn routes(&mut self) {
        let base = self.gic.distributor();
        match self.gic {
            Controller::V2(_) => {
                let cores = self.probe.machine.cores.len();
                let all = if cores > 1 { (1 << cores) - 1 } else { load(base + controller::TARGETS + 42, 1).value() };
                let _ = store(base + controller::TARGETS + ONE as usize, 1, if cores > 1 { 0xFF } else { 1 });
                let got = load(base + controller::TARGETS + ONE as usize, 1).value();
                // Bits of cores that are not there should read 0, which QEMU's own GIC forgets.
                self.probe.report.case("targets_are_cores", all, got, cores == 1 || got & all == all);
                if cores > 1 {
                    self.equal(
                        "targets_of_an_sgi_are_the_reader",
                        0x0101_0101,
                        read32(base + controller::TARGETS).into(),
                    );
                }
            }
            Controller::V3(_) => {
                let place = base + controller::ROUTER + 8 * ONE as usize;
                let own = aarch64::read_sysreg!("mpidr_el1") & 0xff_00ff_ffff;
                let _ = store(place, 8, own);
                self.equal("router_by_doubleword", own, load(place, 8).value());
                write32(place, 1);
                let halves = u64::from(read32(place + 4)) << 32 | u64::from(read32(place));
                self.equal("router_by_words", own >> 32 << 32 | 1, halves);
            }
        }
    }

    fn one_interrupt(&mut self) {
        self.equal("nothing_is_pending", NONE, self.acknowledge());
        self.equal("running_priority_when_idle", IDLE, self.running());
        self.prepare(ONE, 0x90);
        self.pend(ONE);
        self.equal("highest_pending", ONE.into(), self.gic.best_pending());
        self.equal("pending_state", 0b10, self.state(ONE));
        self.equal("acknowledged", ONE.into(), self.acknowledge());
        self.equal("active_state", 0b01, self.state(ONE));
        self.equal("running_priority", 0x90, self.running());
        self.equal("once_only", NONE, self.acknowledge());
        self.gic.end(ONE);
        self.equal("idle_state", 0b00, self.state(ONE));
        self.equal("running_priority_afterwards", IDLE, self.running());
    }

    fn order(&mut self) {
        self.prepare(ONE, 0x90);
        self.prepare(OTHER, 0x60);
        self.pend(ONE);
        self.pend(OTHER);
        self.equal("higher_priority_first", OTHER.into(), self.acknowledge());
        self.equal("lower_priority_waits", NONE, self.acknowledge());
        self.gic.end(OTHER);
        self.settle(ONE.into());
        self.equal("lower_priority_next", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
    }

    fn preemption(&mut self) {
        self.prepare(ONE, 0x90);
        self.prepare(OTHER, 0x60);
        self.pend(ONE);
        let first = self.acknowledge();
        self.pend(OTHER);
        let second = self.acknowledge();
        self.equal("higher_priority_preempts", u64::from(ONE) << 16 | u64::from(OTHER), first << 16 | second);
        let deep = self.running();
        self.gic.end(OTHER);
        self.equal("running_priorities_nest", 0x6090, deep << 8 | self.running());
        self.gic.end(ONE);
    }

    /// The point 7 leaves the highest bit of a priority (Group 1 of GICv3) or none (Group 0) to decide about preemption.
    fn binary_point(&mut self) {
        self.gic.set_binary_point(7);
        self.prepare(ONE, 0xE0);
        self.prepare(OTHER, 0x90);
        self.pend(ONE);
        let first = self.acknowledge();
        self.pend(OTHER);
        self.equal("binary_point_7_forbids_preemption", u64::from(ONE) << 16 | NONE, first << 16 | self.acknowledge());
        self.gic.end(ONE);
        self.equal("and_delays_it", OTHER.into(), self.acknowledge());
        self.gic.end(OTHER);
    }

    fn mask(&mut self) {
        self.prepare(ONE, 0x90);
        self.gic.set_mask(0x90);
        self.pend(ONE);
        self.equal("mask_holds_its_own_priority_back", NONE, self.acknowledge());
        self.gic.set_mask(0x98);
        self.settle(ONE.into());
        self.equal("mask_lets_a_higher_one_through", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
    }

    fn split_end(&mut self) {
        self.gic.set_split(true);
        self.prepare(ONE, 0x90);
        self.pend(ONE);
        let got = self.gic.acknowledge();
        self.gic.end(got);
        self.equal("eoi_drops_the_priority", IDLE, self.running());
        self.equal("and_leaves_it_active", 0b01, self.state(ONE));
        self.gic.write_bit(bits::SET_PENDING, ONE);
        self.equal("active_and_pending_is_not_signalled", NONE, self.acknowledge());
        self.gic.deactivate(got);
        self.settle(ONE.into());
        self.equal("dir_deactivates", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
        self.gic.deactivate(ONE);
        self.equal("dir_leaves_nothing", 0b00, self.state(ONE));
        self.gic.set_split(false);
    }

    fn groups(&mut self) {
        self.prepare(ONE, 0x90);
        self.gic.forward(false);
        self.gic.write_bit(bits::SET_PENDING, ONE);
        self.equal("distributor_off_forwards_nothing", NONE, self.acknowledge());
        self.equal("and_remembers", 0b10, self.state(ONE));
        self.gic.forward(true);
        self.settle(ONE.into());
        self.equal("distributor_on_forwards", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
    }

    fn edges(&mut self) {
        self.prepare(ONE, 0x90);
        self.pend(ONE);
        self.pend(ONE);
        let first = self.acknowledge();
        self.gic.end(ONE);
        self.equal("two_edges_are_one", u64::from(ONE) << 16 | NONE, first << 16 | self.acknowledge());
        self.pend(ONE);
        let _ = self.acknowledge();
        self.gic.write_bit(bits::SET_PENDING, ONE);
        self.equal("an_edge_while_active_waits", 0b11, self.state(ONE));
        self.gic.end(ONE);
        self.settle(ONE.into());
        self.equal("and_comes_after_it", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
    }

    fn disabled(&mut self) {
        self.prepare(ONE, 0x90);
        self.pend(ONE);
        self.gic.write_bit(bits::CLEAR_ENABLE, ONE);
        self.equal("disabled_while_pending", NONE, self.acknowledge());
        self.equal("stays_pending", 0b10, self.state(ONE));
        self.gic.write_bit(bits::SET_ENABLE, ONE);
        self.settle(ONE.into());
        self.equal("enabled_again", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
        self.pend(ONE);
        self.gic.write_bit(bits::CLEAR_PENDING, ONE);
        self.equal("cleared_while_pending", NONE, self.acknowledge());
    }

    /// `ICACTIVER` in the place of `DIR`: the priority is dropped by `EOIR` alone.
    fn deactivated_by_hand(&mut self) {
        self.prepare(ONE, 0x90);
        self.pend(ONE);
        let got = self.gic.acknowledge();
        self.gic.write_bit(bits::CLEAR_ACTIVE, ONE);
        self.equal("deactivated_by_hand", 0b00, self.state(ONE));
        self.equal("its_priority_runs_on", 0x90, self.running());
        self.gic.end(got);
        self.equal("until_its_end", IDLE, self.running());
        self.pend(ONE);
        self.equal("and_it_can_come_again", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
    }

    fn activated_by_hand(&mut self) {
        self.prepare(ONE, 0x90);
        self.gic.write_bit(bits::SET_ACTIVE, ONE);
        self.gic.write_bit(bits::SET_PENDING, ONE);
        self.equal("active_by_hand_is_not_signalled", NONE, self.acknowledge());
        self.gic.write_bit(bits::CLEAR_ACTIVE, ONE);
        self.settle(ONE.into());
        self.equal("inactive_by_hand_is", ONE.into(), self.acknowledge());
        self.gic.end(ONE);
    }

    fn level(&mut self) {
        set_timer(true);
        self.settle(NONE);
        self.equal("level_is_pending_while_disabled", 0b10, self.state(TIMER));
        self.gic.write_bit(bits::CLEAR_PENDING, TIMER);
        self.equal("level_cannot_be_cleared", 0b10, self.state(TIMER));
        self.gic.write_bit(bits::SET_ENABLE, TIMER);
        self.settle(TIMER.into());
        let first = self.acknowledge();
        self.gic.end(TIMER);
        // QEMU's GICv2 looks at its levels again only when the distributor is touched, not when a guest of EL2 ends one.
        self.gic.write_bit(bits::CLEAR_PENDING, OTHER);
        self.settle(TIMER.into());
        self.equal("level_comes_again", u64::from(TIMER) << 16 | u64::from(TIMER), first << 16 | self.acknowledge());
        set_timer(false);
        self.equal("level_that_fell_is_active_only", 0b01, self.state(TIMER));
        self.gic.end(TIMER);
        self.equal("and_comes_no_more", NONE, self.acknowledge());
    }

    fn sgis(&mut self) {
        self.gic.write_bit(bits::SET_ENABLE, SGI);
        self.gic.sgi_to_others(SGI);
        self.equal("sgi_to_others_is_not_ours", NONE, self.acknowledge());
        self.gic.sgi_to_self(SGI);
        self.settle(SGI.into());
        self.equal("sgi_is_pending", 0b10, self.state(SGI));
        let got = self.gic.acknowledge();
        self.equal("sgi_arrives_with_its_sender", SGI.into(), got.into());
        self.gic.end(got);
        match self.gic {
            Controller::V2(_) => self.sgis_by_sender(),
            Controller::V3(_) => {
                self.pend(SGI);
                self.equal("sgi_pended_by_hand", SGI.into(), self.acknowledge());
                self.gic.end(SGI);
            }
        }
    }

    /// `GICD_SPENDSGIR` and `GICD_CPENDSGIR`: SGIs of several senders are several interrupts.
    fn sgis_by_sender(&mut self) {
        let base = self.gic.distributor();
        let senders = if self.probe.machine.cores.len() > 1 { 0b11 } else { 0b1 };
        let place = |array: usize| base + array + SGI as usize;
        let _ = store(place(controller::SET_SGI), 1, senders);
        self.settle(SGI.into());
        self.equal("senders_wait", senders, load(place(controller::CLEAR_SGI), 1).value());
        let _ = store(place(controller::CLEAR_SGI), 1, 0b1);
        self.equal("one_is_cleared", senders & !1, load(place(controller::SET_SGI), 1).value());
        let expected = if senders & 0b10 == 0 { NONE } else { 1 << 10 | u64::from(SGI) };
        let got = self.gic.acknowledge();
        self.equal("the_other_arrives", expected, got.into());
        self.gic.end(got);
    }
}

/// Nested handlers of more interrupts than any list register file holds: each preempts the one before.
fn more_than_list_registers(probe: &mut Probe<'_>, gic: Controller) {
    let it = Gic { probe, gic };
    let (mut nested, mut states, mut ended) = (0, 0, 0);
    for (depth, intid) in MANY.enumerate() {
        it.prepare(intid, 0xF0 - 8 * depth as u8);
        it.pend(intid);
        nested += u64::from(it.acknowledge() == intid.into());
    }
    for intid in MANY.rev() {
        states += u64::from(it.state(intid) == 0b01);
        gic.end(intid);
        ended += u64::from(it.state(intid) == 0b00);
    }
    let count = MANY.len() as u64;
    probe.report.equal("nested_interrupts", count, nested);
    probe.report.equal("nested_interrupts_are_active", count, states);
    probe.report.equal("nested_interrupts_end", count, ended);
    let it = Gic { probe, gic };
    MANY.for_each(|intid| gic.write_bit(bits::SET_PENDING, intid));
    let mut in_order = 0;
    for intid in MANY.rev() {
        it.settle(intid.into());
        in_order += u64::from(it.acknowledge() == intid.into());
        gic.end(intid);
    }
    it.probe.report.equal("waiting_interrupts_come_by_priority", count, in_order);
    it.probe.report.equal("nothing_is_left", NONE, gic.acknowledge().into());
    if let Controller::V3(_) = gic {
        named_deactivation(it.probe, gic);
    }
}

/// `DIR` names its interrupt, whatever the order. (A GICv2 tells a hypervisor only how many were deactivated.)
fn named_deactivation(probe: &mut Probe<'_>, gic: Controller) {
    let it = Gic { probe, gic };
    gic.set_split(true);
    for intid in MANY {
        it.pend(intid);
        gic.end(gic.acknowledge());
    }
    let active = MANY.filter(|intid| it.state(*intid) == 0b01).count() as u64;
    let mut ended = 0;
    for intid in MANY {
        gic.deactivate(intid);
        ended += u64::from(it.state(intid) == 0b00);
    }
    gic.set_split(false);
    probe.report.equal("active_without_a_handler", MANY.len() as u64, active);
    probe.report.equal("deactivated_by_name", MANY.len() as u64, ended);
}

/// The virtual timer, expired or off.
fn set_timer(expired: bool) {
    // SAFETY: the probe's own timer; its interrupt is polled.
    unsafe {
        core::arch::asm!("msr cntv_cval_el0, xzr", "msr cntv_ctl_el0, {}", "isb", in(reg) u64::from(expired), options(nostack));
    }
}
