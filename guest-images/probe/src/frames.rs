//! Random accesses over whole emulated frames, seeded; afterwards the guest and its devices must still work.

use crate::access;
use crate::disk::{Answer, Disk};
use crate::gic;
use crate::probe::Probe;
use crate::tree::Range;

const ACCESSES: u32 = 20_000;
/// `DR` and `CR` of the PL011: the report needs them.
const CONSOLE_SPARED: [usize; 2] = [0x00, 0x30];

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    if let Some(frames) = probe.machine.gic {
        let one_core = Range { size: 2 * gic::SGI_BASE, ..frames.redistributors };
        // One more than there are: its frame is nobody's.
        let all_cores = Range { size: one_core.size * (probe.machine.cores.len() + 1), ..one_core };
        for (name, range) in [("gicd", frames.distributor), ("gicr", one_core), ("gicr_of_all", all_cores)] {
            rain(probe, name, range, |_| false);
            gic::start(&frames);
            gic::enable_private(&frames, 5);
            gic::send_sgi(5, 1);
            let intid = gic::take();
            probe.report.equal(format_args!("sgi_after_{name}"), 5, intid.into());
        }
        gic::start(&frames);
    }
    if let Some(console) = probe.machine.console {
        rain(probe, "pl011", console, |offset| CONSOLE_SPARED.contains(&(offset & !3)));
        crate::console::start(console.base);
    }
    if let Some(mut disk) = Disk::find(&probe.machine) {
        let page = Range { base: disk.base(), size: 0x200 };
        disk.start();
        rain(probe, "virtio", page, |_| false);
        disk.start();
        let got = disk.read_well();
        probe.report.case("good_read_after_virtio", "status_0", got, got == Answer::Status(0));
    }
}

/// Random loads and stores in `range`, but for offsets that are `spared`.
fn rain(probe: &mut Probe<'_>, name: &str, range: Range, spared: impl Fn(usize) -> bool) {
    let mut aborts = 0_u32;
    for _ in 0..ACCESSES {
        let size = 1 << probe.random.below(4);
        let offset = probe.random.below(range.size) & !(size - 1);
        if spared(offset) {
            continue;
        }
        let values = [0, 1, u64::MAX, probe.random.next(), 1 << probe.random.below(64)];
        let value = probe.random.pick(&values);
        let outcome = match probe.random.below(3) {
            0 => access::load(range.base + offset, size),
            _ => access::store(range.base + offset, size, value),
        };
        aborts += u32::from(outcome.is_caught());
    }
    if let Some(console) = probe.machine.console {
        crate::console::start(console.base);
    }
    probe.report.case(format_args!("rain_on_{name}"), "alive", format_args!("alive_{aborts}_aborts"), true);
}
