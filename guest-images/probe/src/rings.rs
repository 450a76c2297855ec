//! Malformed virtqueues, offered to the secure domain. Each must end in a status other than success, in DEVICE_NEEDS_RESET, or
//! in nothing; never in a hang, and a reset must bring the device back.

use crate::access::{load, store};
use crate::disk::{self, Answer, BLOCK, DATA_BYTES, Descriptor, Disk, QUEUE_SIZE, chain, flag};
use crate::interrupts::{now, ticks};
use crate::probe::Probe;
use crate::random::Random;

const READ: u32 = 0;
const WRITE: u32 = 1;
/// Requests of the random round.
const RANDOM_ROUNDS: u32 = 200;
/// Answers of the block device (virtio 1.2, section 5.2.6).
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A request that is wrong: its name, its type, and its chain.
type Wrong = (&'static str, u32, fn(&Places) -> [Descriptor; 3]);

/// Addresses that wrong requests need.
struct Places {
    /// The first page behind the memory that the device reaches: another's, nobody's, or outside the window.
    foreign: u64,
    /// The register page of the device.
    registers: u64,
}

const WRONG: [Wrong; 22] = [
    ("read_into_foreign_memory", READ, |places| chain(places.foreign, BLOCK, flag::WRITE)),
    ("write_from_foreign_memory", WRITE, |places| chain(places.foreign, BLOCK, 0)),
    ("read_across_the_end_of_memory", READ, |places| chain(places.foreign - 512, BLOCK, flag::WRITE)),
    ("read_into_registers", READ, |places| chain(places.registers, BLOCK, flag::WRITE)),
    ("read_at_address_0", READ, |_| chain(0, BLOCK, flag::WRITE)),
    ("read_across_the_end_of_addresses", READ, |_| chain(u64::MAX - 511, BLOCK, flag::WRITE)),
    ("read_of_4_gib", READ, |_| chain(disk::data() as u64, u32::MAX, flag::WRITE)),
    ("read_of_4_gib_in_blocks", READ, |_| chain(disk::data() as u64, 0_u32.wrapping_sub(BLOCK), flag::WRITE)),
    ("read_of_nothing", READ, |_| chain(disk::data() as u64, 0, flag::WRITE)),
    ("read_of_100_bytes", READ, |_| chain(disk::data() as u64, 100, flag::WRITE)),
    ("read_into_device_readable_buffer", READ, |_| chain(disk::data() as u64, BLOCK, 0)),
    ("write_from_device_writable_buffer", WRITE, |_| chain(disk::data() as u64, BLOCK, flag::WRITE)),
    ("unknown_request", 0x1234, |_| chain(disk::data() as u64, BLOCK, flag::WRITE)),
    ("loop", READ, |_| edited(1, |data| data.next = 0)),
    ("loop_on_itself", READ, |_| edited(1, |data| data.next = 1)),
    ("next_beyond_the_queue", READ, |_| edited(1, |data| data.next = QUEUE_SIZE)),
    ("next_65535", READ, |_| edited(0, |header| header.next = u16::MAX)),
    ("header_of_8_bytes", READ, |_| edited(0, |header| header.len = 8)),
    ("header_that_the_device_writes", READ, |_| edited(0, |header| header.flags |= flag::WRITE)),
    ("no_status_byte", READ, |_| edited(1, |data| data.flags = flag::WRITE)),
    ("status_that_the_device_reads", READ, |_| edited(2, |status| status.flags = 0)),
    ("status_of_no_bytes", READ, |_| edited(2, |status| status.len = 0)),
];

/// A good read with one descriptor changed.
fn edited(index: usize, edit: fn(&mut Descriptor)) -> [Descriptor; 3] {
    let mut descriptors = chain(disk::data() as u64, BLOCK, flag::WRITE);
    edit(&mut descriptors[index]);
    descriptors
}

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let Some(mut disk) = Disk::find(&probe.machine) else {
        return probe.report.note("no virtual disk: class rings is left out");
    };
    let reached = probe.machine.window;
    let reach = reached.as_slice();
    let banks = if reach.is_empty() { &probe.machine.memory[..] } else { reach };
    let foreign = banks.iter().map(|bank| (bank.base + bank.size) as u64).min().unwrap_or(0);
    // QEMU's own device stands still for ever when it is told to read into itself.
    let registers = if disk.is_haechis() { disk.base() as u64 } else { 0 };
    let places = Places { foreign, registers };
    disk.start();
    let got = disk.read_well();
    probe.report.case("good_read", "status_0", got, got == Answer::Status(0));
    let end = disk.sectors();
    for (name, kind, make) in WRONG {
        // A write that is taken after all lands on the last block.
        let sector = if kind == WRITE { end.saturating_sub(8) } else { 0 };
        wrong(probe, &mut disk, name, |disk| {
            disk.set_header(kind, sector);
            disk.send(&make(&places))
        });
    }
    if !reach.is_empty() {
        outside_the_window(probe, &mut disk, end);
    }
    sectors(probe, &mut disk, end);
    available_ring(probe, &mut disk);
    indirect(probe, &mut disk);
    ring_addresses(probe, &mut disk, &places);
    random(probe, &mut disk, &places);
    reset_in_flight(probe, &mut disk);
}

/// One wrong thing after a fresh start; then the device must come back.
fn wrong(probe: &mut Probe<'_>, disk: &mut Disk, name: &str, misdeed: impl FnOnce(&mut Disk) -> Answer) {
    disk.start();
    let got = misdeed(disk);
    disk.start();
    let after = disk.read_well();
    let passed = got != Answer::Status(0) && after == Answer::Status(0);
    probe.report.case(name, "refused+status_0", format_args!("{got}+{after}"), passed);
}

/// Requests for blocks that are not there, and what has a prescribed answer.
fn sectors(probe: &mut Probe<'_>, disk: &mut Disk, end: u64) {
    let cases = [
        ("read_at_the_end", READ, end, IO_ERROR),
        ("read_at_the_last_sector_number", READ, u64::MAX, IO_ERROR),
        ("read_where_bytes_overflow", READ, 1 << 55, IO_ERROR),
        ("read_between_blocks", READ, 1, IO_ERROR),
        ("request_of_no_type", 0xffff_ffff, 0, UNSUPPORTED),
    ];
    disk.start();
    for (name, kind, sector, status) in cases {
        disk.set_header(kind, sector);
        let got = disk.send(&chain(disk::data() as u64, BLOCK, flag::WRITE));
        probe.report.case(name, Answer::Status(status), got, got == Answer::Status(status));
    }
}

fn available_ring(probe: &mut Probe<'_>, disk: &mut Disk) {
    wrong(probe, disk, "available_index_jumps", |disk| {
        disk.set_header(0x1234, 0);
        disk.submit(0, 1000);
        disk.wait(100)
    });
    wrong(probe, disk, "head_beyond_the_queue", |disk| {
        disk.set_header(READ, 0);
        disk.submit(QUEUE_SIZE, 1);
        disk.wait(100)
    });
}

/// Indirect tables (virtio 1.2, section 2.7.5.3).
fn indirect(probe: &mut Probe<'_>, disk: &mut Disk) {
    let table = disk::indirect() as u64;
    let whole = Descriptor { address: table, len: 48, flags: flag::INDIRECT, next: 0 };
    let cases = [
        ("indirect_of_odd_length", Descriptor { len: 47, ..whole }, 0),
        ("indirect_of_no_length", Descriptor { len: 0, ..whole }, 0),
        ("indirect_of_4_gib", Descriptor { len: 0xffff_fff0, ..whole }, 0),
        ("indirect_with_next", Descriptor { flags: flag::INDIRECT | flag::NEXT, next: 1, ..whole }, 0),
        ("indirect_nested", whole, flag::INDIRECT),
        ("indirect_at_address_0", Descriptor { address: 0, ..whole }, 0),
    ];
    for (name, descriptor, inner) in cases {
        wrong(probe, disk, name, |disk| {
            disk.set_header(READ, 0);
            for (index, mut part) in chain(disk::data() as u64, BLOCK, flag::WRITE).into_iter().enumerate() {
                part.flags |= inner;
                disk::put(disk::indirect(), index, part);
            }
            disk.send(&[descriptor])
        });
    }
}

/// Requests with a buffer in the driver's own memory that the device must not reach.
fn outside_the_window(probe: &mut Probe<'_>, disk: &mut Disk, end: u64) {
    let outside = disk::own_area() as u64;
    for (name, kind, flags) in
        [("read_into_memory_outside_the_window", READ, flag::WRITE), ("write_from_memory_outside_the_window", WRITE, 0)]
    {
        wrong(probe, disk, name, |disk| {
            disk.set_header(kind, end.saturating_sub(8));
            disk.send(&chain(outside, BLOCK, flags))
        });
    }
}

/// Rings that lie where the driver has no memory.
fn ring_addresses(probe: &mut Probe<'_>, disk: &mut Disk, places: &Places) {
    let good = disk::table() as u64;
    for (name, address) in
        [("foreign", places.foreign), ("registers", places.registers), ("high", 0xffff_ffff_ffff_f000)]
    {
        for (part, index) in [("table", 0), ("available_ring", 1), ("used_ring", 2)] {
            let mut rings = [good, good + 0x1000, good + 0x2000];
            rings[index] = address;
            wrong(probe, disk, part_name(name, part), |disk| {
                disk.start_at(rings);
                disk.set_header(READ, 0);
                for (index, descriptor) in chain(disk::data() as u64, BLOCK, flag::WRITE).into_iter().enumerate() {
                    disk::put(disk::table(), index, descriptor);
                }
                disk.submit(0, 1);
                disk.wait(50)
            });
        }
    }
}

/// Names without formatting: there is no heap.
fn part_name(place: &str, part: &str) -> &'static str {
    match (place, part) {
        ("foreign", "table") => "table_in_foreign_memory",
        ("foreign", "available_ring") => "available_ring_in_foreign_memory",
        ("foreign", _) => "used_ring_in_foreign_memory",
        ("registers", "table") => "table_in_registers",
        ("registers", "available_ring") => "available_ring_in_registers",
        ("registers", _) => "used_ring_in_registers",
        (_, "table") => "table_above_48_bits",
        (_, "available_ring") => "available_ring_above_48_bits",
        _ => "used_ring_above_48_bits",
    }
}

/// Good reads with one or two random fields; the device may answer as it likes as long as it comes back.
fn random(probe: &mut Probe<'_>, disk: &mut Disk, places: &Places) {
    disk.start();
    let mut resets = 0;
    for _ in 0..RANDOM_ROUNDS {
        disk.set_header(READ, 8 * probe.random.below(16) as u64);
        let mut descriptors = chain(disk::data() as u64, BLOCK, flag::WRITE);
        for _ in 0..=probe.random.below(2) {
            spoil(&mut probe.random, &mut descriptors, places);
        }
        if matches!(disk.send(&descriptors), Answer::NeedsReset | Answer::Ignored) {
            resets += 1;
            disk.start();
        }
    }
    wrong(probe, disk, "random_chains", |_| Answer::Ignored);
    probe.report.note(format_args!("{RANDOM_ROUNDS} random chains, {resets} resets"));
}

/// Changes one field. The device never gets leave to write the header, which might turn the next read into a write.
fn spoil(random: &mut Random, descriptors: &mut [Descriptor; 3], places: &Places) {
    let data = disk::data() as u64;
    let index = random.below(3);
    let descriptor = &mut descriptors[index];
    match random.below(if index == 0 { 2 } else { 4 }) {
        0 => descriptor.next = random.below(usize::from(QUEUE_SIZE) + 2) as u16,
        1 => descriptor.len = random.pick(&[0, 1, 15, 16, 48, 512, BLOCK, 2 * BLOCK, DATA_BYTES, u32::MAX]),
        2 => {
            descriptor.address =
                random.pick(&[data, data + 1, data + 4095, places.foreign, places.registers, 0, u64::MAX])
        }
        _ => descriptor.flags = random.below(8) as u16,
    }
}

/// A reset completes only when nothing is under way: what the driver writes afterwards must stay.
fn reset_in_flight(probe: &mut Probe<'_>, disk: &mut Disk) {
    const PATTERN: u64 = 0xa5a5_a5a5_a5a5_a5a5;
    disk.start();
    disk.set_header(READ, 0);
    for (index, descriptor) in chain(disk::data() as u64, DATA_BYTES, flag::WRITE).into_iter().enumerate() {
        disk::put(disk::table(), index, descriptor);
    }
    for _ in 0..8 {
        disk.submit(0, 1);
    }
    let reset = disk.reset();
    let words = || (disk::data()..disk::data() + DATA_BYTES as usize).step_by(8);
    words().for_each(|word| _ = store(word, 8, PATTERN));
    let deadline = now() + ticks(50);
    while now() < deadline {}
    let torn = words().filter(|word| load(*word, 8).value() != PATTERN).count();
    let got = format_args!("{}+{torn}_words_changed", if reset { "reset" } else { "no_reset" });
    probe.report.case("reset_in_flight", "reset+0_words_changed", got, reset && torn == 0);
    wrong(probe, disk, "read_after_reset_in_flight", |_| Answer::Ignored);
}
