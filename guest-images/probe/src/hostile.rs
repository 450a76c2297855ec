//! Many random misdeeds, seeded: calls, system registers, emulated frames, virtqueues, tables of a stage 1, cores that come and go, and
//! interrupts in between. Nothing that comes back is judged; that everything comes back, and that the machine works afterwards, is.
//!
//! `probe.cases=DECIMAL` says how many; `probe.seed=HEX` repeats a run of one core exactly. With more cores one of them rewrites rings
//! while the device reads them, and all of them come and go.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::access::{self, Odd};
use crate::calls::{self, AFFINITY_INFO, CPU_ON, Conduit, call};
use crate::cores;
use crate::disk::{self, Answer, Disk, chain, flag, register};
use crate::gic;
use crate::probe::Probe;
use crate::stage1;
use crate::sysregs::run_instruction;
use crate::tree::{self, PciHost, Range};

/// Cases where nobody says how many.
const CASES: u64 = 20_000;
/// Cases between two lines that tell how far it is.
const TOLD: u64 = 100_000;
/// PSCI functions that end or stop what runs here: `CPU_SUSPEND`, `CPU_OFF`, `SYSTEM_OFF`, `SYSTEM_RESET`, `SYSTEM_SUSPEND`,
/// `SYSTEM_RESET2`.
const FATAL: [u64; 6] = [0x01, 0x02, 0x08, 0x09, 0x0e, 0x12];
/// `MSR <op0 = 2>, x0`, `MRS x0, <op0 = 2>` and `SYS #0, C0, C0, #0, x0`.
const MSR: u32 = 0xd510_0000;
const MRS: u32 = 0xd530_0000;
const SYS: u32 = 0xd508_0000;
/// `op0` = 3 for the first two.
const OP0_3: u32 = 1 << 19;
/// Offsets of the PL011 that the report needs: `DR`, `CR`.
const CONSOLE_SPARED: [usize; 2] = [0x00, 0x30];
/// Requests that may be under way before the device is started anew.
const REQUESTS: u64 = 64;

global_asm!(
    ".section .text.scribbler, \"ax\"",
    ".global probe_scribbler",
    "probe_scribbler:", // x0 = address of the scribbler; no stack, MMU off
    "mov  x19, x0",
    "ldr  x1, [x19]", // the table
    "mov  x2, #0x4843",
    "1:",
    "ldr  x3, [x19, #8]", // until it is told to stop
    "cbz  x3, 2f",
    "eor  x2, x2, x2, lsl #13",
    "eor  x2, x2, x2, lsr #7",
    "eor  x2, x2, x2, lsl #17",
    // The second half of a descriptor: length within 16 KiB, flags, next.
    "and  x4, x2, #0xf0",
    "add  x4, x4, #8",
    "and  x5, x2, #0x3f00",
    "lsr  x6, x2, #20",
    "and  x6, x6, #0x7",
    "orr  x5, x5, x6, lsl #32",
    "lsr  x6, x2, #30",
    "and  x6, x6, #0x1f",
    "orr  x5, x5, x6, lsl #48",
    "str  x5, [x1, x4]",
    "b    1b",
    "2:",
    "mov  w0, #0x0002", // CPU_OFF
    "movk w0, #0x8400, lsl #16",
    "smc  #0",
    "3:",
    "b    3b",
);

unsafe extern "C" {
    fn probe_scribbler();
}

/// What the scribbling core is told.
#[repr(C)]
struct Scribbler {
    table: AtomicU64,
    runs: AtomicU64,
}

static SCRIBBLER: Scribbler = Scribbler { table: AtomicU64::new(0), runs: AtomicU64::new(0) };

/// What is at hand.
struct Hostile<'p, 'a> {
    probe: &'p mut Probe<'a>,
    disk: Option<Disk>,
    conduit: Conduit,
    /// First byte behind the probe's memory.
    foreign: usize,
    requests: u64,
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    if !calls::has_hypervisor() {
        return probe.report.note("no hypervisor: class hostile is left out");
    }
    let conduit = calls::psci(probe);
    let cases = tree::word(probe.bootargs, "probe.cases").and_then(|word| word.parse().ok()).unwrap_or(CASES);
    let foreign = probe.machine.memory.iter().map(|bank| bank.base + bank.size).min().unwrap_or(0);
    let disk = Disk::find(&probe.machine).filter(Disk::is_haechis);
    let mut hostile = Hostile { probe, disk, conduit, foreign, requests: 0 };
    hostile.scribble();
    for case in 0..cases {
        if case % TOLD == 0 {
            hostile.probe.report.note(format_args!("hostile case {case} of {cases}"));
        }
        hostile.one();
    }
    hostile.end(cases);
}

impl Hostile<'_, '_> {
    fn below(&mut self, bound: usize) -> usize {
        self.probe.random.below(bound)
    }

    /// 0, 1, all ones, one bit, or anything.
    fn value(&mut self) -> u64 {
        let random = &mut self.probe.random;
        let values = [0, 1, u64::MAX, random.next(), 1 << random.below(64)];
        random.pick(&values)
    }

    fn one(&mut self) {
        match self.below(100) {
            0..30 => self.call(),
            30..38 => self.system_register(),
            38..88 => self.frame(),
            88..96 => self.request(),
            96..98 => self.storm(),
            98 => self.stage1(),
            _ => self.core(),
        }
    }

    /// Any identifier by either instruction, but for those that end what runs here.
    fn call(&mut self) {
        let function = self.probe.random.next();
        let id = match self.below(6) {
            0 => function & 0xffff_ffff,
            1 => 0x8400_0000 | function & 0x1f,
            2 => 0xc400_0000 | function & 0x1f,
            3 => 0xc600_0000 | function & 0x1f,
            4 => 0x8000_0000 | function & 0xffff,
            _ => 0xc500_0000 | function & 0xff,
        };
        let psci = matches!(id & !0x4000_00ff, 0x8400_0000);
        if psci && (FATAL.contains(&(id & 0xff)) || id & 0xff == CPU_ON & 0xff) {
            return;
        }
        let conduit = if function >> 63 != 0 { Conduit::Smc } else { Conduit::Hvc };
        let arguments = [id, self.value(), self.value(), self.value()];
        let _ = call(conduit, arguments);
    }

    /// A read of anything, or a write of what is EL2's, trapped, or harmless here.
    fn system_register(&mut self) {
        let fields = (self.probe.random.next() as u32 & 0x3fff) << 5;
        let instruction = match self.below(6) {
            0 => MRS | OP0_3 | fields,
            1 => MRS | fields,
            // op1 4 to 6: EL2 and EL3.
            2 => MSR | OP0_3 | fields & !(7 << 16) | (4 + self.below(3) as u32) << 16,
            3 => SYS | fields & !(7 << 16) | (4 + self.below(3) as u32) << 16,
            // Identification registers and the implementation's own.
            4 => MSR | OP0_3 | fields & !(0xf << 12) | [0, 11, 15][self.below(3)] << 12,
            // Performance monitors: op1 3, CRn 9, CRm 12 to 14.
            _ => MSR | OP0_3 | 3 << 16 | 9 << 12 | (12 + self.below(3) as u32) << 8 | fields & 7 << 5,
        };
        let _ = run_instruction(instruction);
    }

    /// An access of any width or kind to an emulated frame, its neighbourhood, or memory of others.
    fn frame(&mut self) {
        let (range, spared): (Range, &[usize]) = match self.below(8) {
            0 | 1 => (self.distributor(), &[]),
            2 | 3 => (self.redistributors(), &[]),
            4 => match self.probe.machine.console {
                Some(console) => (console, &CONSOLE_SPARED),
                None => return,
            },
            5 | 6 => match self.probe.machine.virtual_pci {
                // A doorbell for nothing costs time and says nothing new: it is in a page of its own.
                Some(host) => return self.bus(&host),
                None => (self.transports(), &[register::QUEUE_NOTIFY]),
            },
            _ => (Range { base: self.foreign, size: 64 << 20 }, &[]),
        };
        let offset = self.below(range.size);
        if !spared.contains(&(offset & 0xffc)) {
            self.touch(range.base + offset);
        }
    }

    /// The virtual devices' bus: configuration space, or registers but for the doorbells.
    fn bus(&mut self, host: &PciHost) {
        let near = self.below(0x100) + 0x1000 * self.below(16);
        match self.below(4) {
            0 => {
                let offset = self.below(host.configuration.size);
                self.touch(host.configuration.base + offset);
            }
            1 => self.touch(host.configuration.base + near),
            _ if near & 0x3000 != 0x1000 => self.touch(host.window + near),
            _ => {}
        }
    }

    /// An access of any width or kind at `address` or a little below.
    fn touch(&mut self, address: usize) {
        let size = 1 << self.below(4);
        let (address, value) = (address & !(size - 1), self.value());
        match self.below(8) {
            0..3 => drop(access::load(address, size)),
            3..7 => drop(access::store(address, size, value)),
            _ => {
                let (odd, _) = self.probe.random.pick(&Odd::ALL);
                let _ = odd.run(address & !0xf);
            }
        }
    }

    fn distributor(&self) -> Range {
        self.probe.machine.gic.map_or(Range { base: self.foreign, size: 4096 }, |frames| frames.distributor)
    }

    /// Of all cores and one more.
    fn redistributors(&self) -> Range {
        let size = 2 * gic::SGI_BASE * (self.probe.machine.cores.len() + 1);
        self.probe.machine.gic.map_or(self.distributor(), |frames| Range { size, ..frames.redistributors })
    }

    /// The register pages of all virtual devices, and what follows them.
    fn transports(&self) -> Range {
        self.disk.as_ref().map_or(self.distributor(), |disk| Range { base: disk.base(), size: 10 * 4096 })
    }

    /// A request with one or two things wrong, or none.
    fn request(&mut self) {
        let (foreign, wrong) = (self.foreign as u64, self.probe.random.below(3));
        let Some(disk) = &mut self.disk else { return };
        let random = &mut self.probe.random;
        self.requests += 1;
        if self.requests.is_multiple_of(REQUESTS) || disk.needs_reset() {
            disk.start();
        }
        disk.set_header(random.pick(&[0, 1, 4, 8, 11, 13, 0x55]), random.next() % (2 * disk.sectors()));
        let mut descriptors = chain(disk::data() as u64, 4096, flag::WRITE);
        for _ in 0..wrong {
            spoil(random, &mut descriptors, foreign, disk.base() as u64);
        }
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            disk::put(disk::table(), index, descriptor);
        }
        // Mostly one on, at times a jump.
        let step = random.pick(&[1, 1, 1, 1, 1, 0, 2, 17, u16::MAX]);
        disk.submit(random.below(4) as u16, step);
        if random.below(16) == 0 {
            let _ = disk.wait(1);
        }
    }

    /// Interrupts by the dozen, to whoever there is.
    fn storm(&mut self) {
        for _ in 0..8 {
            let (intid, targets) = (self.below(16) as u32, self.value());
            gic::send_sgi(intid, targets & 0x00ff_01ff_00ff_ffff);
        }
        if self.probe.machine.gic.is_some() {
            let _ = gic::take();
        }
    }

    fn stage1(&mut self) {
        let transport = self.transports().base;
        let targets = [self.foreign, transport, self.distributor().base, 0, 1 << 40, stage1::table()];
        let (target, kind) = (self.probe.random.pick(&targets), self.below(4));
        stage1::visit(target, kind, self.probe.random.next());
    }

    /// Another core on, or told to be on where there is nothing.
    fn core(&mut self) {
        let others = self.probe.machine.cores.len().saturating_sub(2);
        if others == 0 {
            return;
        }
        // The first runs this, the second scribbles.
        let chosen = 2 + self.below(others);
        let target = self.probe.machine.cores[chosen];
        if self.below(2) == 0 {
            let _ = cores::visit(self.conduit, target);
        } else {
            let wrong = [self.foreign as u64, 0x0900_0000, u64::MAX, self.probe.random.next() | 1];
            let entry = self.probe.random.pick(&wrong);
            let _ = call(self.conduit, [CPU_ON, target, entry, 0]);
        }
        let _ = call(self.conduit, [AFFINITY_INFO, target, 0, 0]);
    }

    /// The second core begins to rewrite descriptors.
    fn scribble(&mut self) {
        let Some(core) = self.probe.machine.cores.get(1).copied().filter(|_| self.disk.is_some()) else { return };
        SCRIBBLER.table.store(disk::table() as u64, Ordering::SeqCst);
        SCRIBBLER.runs.store(1, Ordering::SeqCst);
        disk::barrier();
        let entry = (probe_scribbler as *const ()).addr() as u64;
        let _ = call(self.conduit, [CPU_ON, core, entry, (&raw const SCRIBBLER).addr() as u64]);
    }

    fn end(&mut self, cases: u64) {
        SCRIBBLER.runs.store(0, Ordering::SeqCst);
        if let Some(frames) = self.probe.machine.gic {
            gic::start(&frames);
            gic::enable_private(&frames, 5);
            gic::send_sgi(5, crate::interrupts::own_target());
            let intid = gic::take();
            self.probe.report.equal("interrupts_work_afterwards", 5, intid.into());
            gic::start(&frames);
        }
        if let Some(console) = self.probe.machine.console {
            crate::console::start(console.base);
        }
        if let Some(disk) = &mut self.disk {
            cores::pause();
            disk.start();
            let got = disk.read_well();
            self.probe.report.case("disk_works_afterwards", "status_0", got, got == Answer::Status(0));
        }
        self.probe.report.case("hostile_cases", "alive", format_args!("alive_after_{cases}"), true);
    }
}

/// Changes one field. Addresses in the probe's own memory stay in the area of the rings: what the device writes must not hit the probe.
fn spoil(random: &mut crate::random::Random, descriptors: &mut [disk::Descriptor; 3], foreign: u64, registers: u64) {
    let data = disk::data() as u64;
    let index = random.below(3);
    let descriptor = &mut descriptors[index];
    match random.below(5) {
        0 => descriptor.next = random.below(20) as u16,
        1 => descriptor.len = random.pick(&[0, 1, 15, 16, 48, 512, 4096, 8192, 0x4000, u32::MAX, 0xffff_f000]),
        2 => {
            let places = [data, data + 1, data + 4095, foreign, foreign - 512, registers, 0, u64::MAX, u64::MAX - 511];
            descriptor.address = random.pick(&places);
        }
        3 => descriptor.flags = random.below(8) as u16,
        // Overlapping buffers: header, status and data in one place.
        _ => descriptor.address = disk::header() as u64,
    }
}
