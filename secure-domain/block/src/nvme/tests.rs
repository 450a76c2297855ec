//! The driver against a controller that works, and against controllers that fail and lie.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::model::Function;
use crate::model::nvme::{ControllerMemory, ControllerRegisters, NvmeController, TestClock, machine};
use crate::pci;

type Disk = Nvme<ControllerRegisters, ControllerMemory>;

const BLOCKS: usize = 128;
const PLACE: Range<usize> = ControllerRegisters::START..ControllerRegisters::END;

fn sound() -> NvmeController {
    NvmeController::new(BLOCKS, 9)
}

fn bring_up_with(controller: NvmeController, blocks: usize) -> Result<Disk, Error> {
    let (registers, memory) = machine(controller, Disk::OVERHEAD_BYTES + blocks * BLOCK_BYTES);
    Nvme::new(registers, PLACE, memory, &mut TestClock::default())
}

fn disk() -> Disk {
    bring_up_with(sound(), 64).expect("it is sound")
}

/// Why a sound controller is refused that was changed so.
fn refused(change: impl FnOnce(&mut NvmeController)) -> Refusal {
    let mut controller = sound();
    change(&mut controller);
    match bring_up_with(controller, 1) {
        Err(Error::Nvme(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Starts a read of `blocks` blocks.
fn read(disk: &mut Disk, tag: u32, blocks: usize) {
    let buffer = disk.allocate(blocks).expect("there are free ones");
    disk.read(tag, 0, buffer).expect("there is room");
}

#[test]
fn a_controller_that_cannot_be_driven_is_refused_by_name() {
    assert_eq!(refused(|it| it.cap = u64::MAX), Refusal::Gone);
    assert_eq!(refused(|it| it.cap |= 1 << 48), Refusal::PageSize(13));
    assert_eq!(refused(|it| it.cap &= !(1 << 37)), Refusal::CommandSet);
    assert_eq!(refused(|it| it.cap &= !0xffff), Refusal::Entries(1));
    assert_eq!(refused(|it| it.cap |= 15 << 32), Refusal::Doorbells(4 << 15));
    assert_eq!(bring_up_with(sound(), 0).err(), Some(Error::DmaRegion(Disk::OVERHEAD_BYTES)));
}

#[test]
fn doorbells_are_where_the_controller_has_them() {
    for stride in 0..=9 {
        let mut controller = sound();
        controller.cap |= stride << 32;
        let mut disk = bring_up_with(controller, 1).expect("they fit");
        read(&mut disk, 1, 1);
        disk.kick();
        assert_eq!(disk.machine().0.controller().rings[&2], 1);
    }
    assert_eq!(refused(|it| it.cap |= 10 << 32), Refusal::Doorbells(4 << 10));
}

#[test]
fn a_controller_that_does_not_start_or_stop_is_given_up_in_its_own_time() {
    assert_eq!(refused(|it| it.stuck = true), Refusal::Late(5_000));
    assert_eq!(refused(|it| (it.stuck, it.cap) = (true, it.cap & !(0xff << 24))), Refusal::Late(500));
    assert_eq!(refused(|it| (it.stuck, it.cc) = (true, 1)), Refusal::Late(5_000), "it was never ready");
    assert_eq!(refused(|it| it.fails = true), Refusal::Fatal);
    assert_eq!(refused(|it| it.csts = u32::MAX), Refusal::Gone);
}

#[test]
fn admin_commands_that_fail_or_are_not_answered_refuse_the_controller() {
    for opcode in [0x06, 0x09, 0x05, 0x01] {
        assert_eq!(refused(|it| it.refuses = Some((opcode, Some(0x10a)))), Refusal::Command(opcode, 0x10a));
        assert_eq!(refused(|it| it.refuses = Some((opcode, None))), Refusal::Silent(opcode));
    }
}

#[test]
fn a_namespace_that_cannot_be_driven_is_refused_by_name() {
    assert_eq!(refused(|it| it.namespaces.clear()), Refusal::NoNamespace);
    assert_eq!(refused(|it| it.namespace[..8].fill(0)), Refusal::NoNamespace);
    assert_eq!(refused(|it| it.namespace[..8].copy_from_slice(&7u64.to_le_bytes())), Refusal::NoNamespace);
    assert_eq!(refused(|it| it.namespace[128 + 4] = 8), Refusal::Metadata);
    assert_eq!(refused(|it| it.namespace[29] = 1), Refusal::Metadata);
    for power in [0, 8, 13, 255] {
        assert_eq!(refused(|it| it.namespace[128 + 6] = power), Refusal::LogicalBlocks(power));
    }
}

#[test]
fn a_refused_controller_is_stopped() {
    let (registers, memory) = machine(sound(), Disk::OVERHEAD_BYTES + BLOCK_BYTES);
    registers.controller().namespaces.clear();
    assert!(Disk::new(registers.clone(), PLACE, memory, &mut TestClock::default()).is_err());
    assert_eq!(registers.controller().cc & 1, 0);
    assert!(!registers.controller().line());
}

#[test]
fn a_controller_at_work_is_stopped_before_memory_is_touched() {
    for (cc, csts, settling) in
        [(1, 1, None), (1, 2, None), (1, 3, None), (0, 0, None), (1, 0, Some(9)), (0, 1, Some(9))]
    {
        let mut controller = sound();
        (controller.cc, controller.csts, controller.settling) = (cc, csts, settling);
        let mut disk = bring_up_with(controller, 1).expect("it can be started anew");
        assert_eq!(disk.machine().0.controller().starts, 1);
    }
    // What does not stop finds its memory as it was: the model watches that.
    assert_eq!(refused(|it| (it.stuck, it.cc, it.csts) = (true, 1, 1)), Refusal::Late(5_000));
}

#[test]
fn the_first_active_namespace_is_the_disk() {
    let mut controller = sound();
    controller.namespaces = vec![7, 9];
    let mut disk = bring_up_with(controller, 1).expect("it is sound");
    read(&mut disk, 1, 1);
    disk.flush(2).expect("there is room");
    disk.kick();
    disk.machine().1.serve(9, 0);
    let results: Vec<_> = core::iter::from_fn(|| disk.poll()).map(|done| done.result).collect();
    assert_eq!(results, [Ok(()), Ok(())]);
}

#[test]
fn what_the_controller_says_of_itself_is_kept() {
    let disk = bring_up_with(sound(), 1).expect("it is sound");
    assert_eq!((disk.blocks(), disk.has_cache(), disk.atomic_bytes()), (BLOCKS as u64, true, 512));
    let whole = |change: fn(&mut NvmeController)| {
        let mut controller = sound();
        change(&mut controller);
        bring_up_with(controller, 1).expect("it is sound").atomic_bytes()
    };
    assert_eq!(whole(|it| it.controller[528] = 7), 4096);
    assert_eq!(whole(|it| it.controller[528] = 6), 512);
    assert_eq!(whole(|it| (it.namespace[24], it.namespace[36]) = (2, 7)), 4096);
    assert_eq!(whole(|it| it.namespace[36] = 7), 512, "it says that this does not count");
    assert_eq!(whole(|it| (it.controller[528], it.namespace[44]) = (7, 11)), 512, "boundaries every 12");
    assert_eq!(whole(|it| (it.controller[528], it.namespace[44]) = (7, 15)), 4096);
    assert_eq!(whole(|it| (it.controller[528], it.namespace[44], it.namespace[42]) = (7, 15, 3)), 512);
    let large = bring_up_with(NvmeController::new(BLOCKS, 12), 1).expect("it is sound");
    assert_eq!((large.blocks(), large.atomic_bytes()), (BLOCKS as u64, 4096));
}

#[test]
fn no_buffer_is_longer_than_a_transfer_may_be() {
    for (power, most) in [(0, 32), (1, 2), (2, 4), (4, 16), (5, 32), (6, 32), (64, 32), (255, 32)] {
        let mut controller = sound();
        controller.controller[77] = power;
        let mut disk = bring_up_with(controller, 64).expect("it is sound");
        let buffer = disk.allocate(32).expect("there are free ones");
        assert_eq!(buffer.blocks(), most, "MDTS {power}");
        disk.read(1, 0, buffer).expect("there is room");
        disk.kick();
        disk.machine().1.serve(1, 0);
        assert_eq!(disk.poll().expect("it is answered").result, Ok(()));
    }
}

#[test]
fn a_full_queue_refuses_and_gives_the_buffer_back() {
    for (entries, depth) in [(2, 1), (3, 2), (64, 63), (65, 64), (4096, 64)] {
        let mut controller = sound();
        controller.cap = controller.cap & !0xffff | (entries - 1);
        let mut disk = bring_up_with(controller, 100).expect("it is sound");
        assert_eq!(disk.room(), depth, "{entries} entries");
        for tag in 0..depth {
            read(&mut disk, tag as u32, 1);
        }
        assert_eq!(disk.room(), 0);
        let buffer = disk.allocate(1).expect("there are free ones");
        let Err(Refused(Some(buffer))) = disk.read(99, 0, buffer) else { panic!("taken") };
        disk.release(buffer);
        assert!(disk.flush(99).is_err());
    }
}

#[test]
fn many_requests_cost_one_doorbell() {
    let mut disk = disk();
    for tag in 0..10 {
        read(&mut disk, tag, 4);
    }
    disk.kick();
    disk.kick();
    disk.machine().1.serve(10, 0);
    assert_eq!(core::iter::from_fn(|| disk.poll()).count(), 10);
    let controller = disk.machine().0.controller();
    assert_eq!((controller.rings[&2], controller.rings[&3]), (1, 1));
}

#[test]
fn the_line_falls_when_everything_was_found() {
    let mut disk = disk();
    assert!(!disk.machine().0.controller().line());
    read(&mut disk, 1, 1);
    disk.flush(2).expect("there is room");
    disk.kick();
    disk.machine().1.serve(2, 0);
    assert!(disk.machine().0.controller().line());
    disk.acknowledge();
    assert!(disk.poll().is_some() && disk.poll().is_some());
    assert!(disk.machine().0.controller().line(), "nobody has looked whether there is more");
    assert!(disk.poll().is_none());
    assert!(!disk.machine().0.controller().line());
}

#[test]
fn a_flush_makes_durable_what_was_written() {
    let mut disk = disk();
    let buffer = disk.allocate(3).expect("there are free ones");
    disk.bytes(&buffer).fill(7);
    disk.write(1, 5, buffer).expect("there is room");
    disk.kick();
    disk.machine().1.serve(1, 0);
    disk.poll().expect("it is answered").result.expect("it is written");
    assert!(disk.machine().0.controller().durable.iter().all(|byte| *byte == 0));
    disk.flush(2).expect("there is room");
    disk.kick();
    disk.machine().1.serve(1, 0);
    disk.poll().expect("it is answered").result.expect("it is flushed");
    let controller = disk.machine().0.controller();
    assert_eq!(controller.durable[5 * BLOCK_BYTES..8 * BLOCK_BYTES], [7; 3 * BLOCK_BYTES]);
    assert_eq!((controller.flushes, &controller.durable), (1, &controller.image));
}

#[test]
fn what_lies_behind_the_disk_is_an_error_whatever_its_number() {
    let mut disk = disk();
    for (tag, block) in [BLOCKS as u64, 1 << 61, 1 << 63, u64::MAX].into_iter().enumerate() {
        let buffer = disk.allocate(1).expect("there are free ones");
        disk.write(tag as u32, block, buffer).expect("there is room");
        disk.kick();
        disk.machine().1.serve(1, 0);
        assert_eq!(disk.poll().expect("it is answered").result, Err(Error::Io), "{block:#x}");
    }
    assert!(!disk.is_broken());
}

#[test]
fn an_error_status_fails_the_request_alone() {
    let mut disk = disk();
    for status in [0x04, 0x80, 0x281, 0x7ff] {
        disk.machine().0.controller().io_status = status;
        read(&mut disk, 1, 1);
        disk.kick();
        disk.machine().1.serve(1, 0);
        let done = disk.poll().expect("it is answered");
        assert_eq!(done.result, Err(Error::Io), "{status:#x}");
        disk.release(done.buffer.expect("it comes back"));
    }
    disk.machine().0.controller().io_status = 0;
    read(&mut disk, 2, 1);
    disk.kick();
    disk.machine().1.serve(1, 0);
    assert_eq!(disk.poll().expect("it is answered").result, Ok(()));
}

/// What a driver with one read under way, of this identifier, makes of an answer.
fn lie(answer: impl FnOnce(u16) -> [u16; 4]) -> (Option<Result<(), Error>>, bool) {
    let mut disk = disk();
    read(&mut disk, 5, 2);
    disk.kick();
    let memory = disk.machine().1;
    let identifier = memory.under_way()[0];
    memory.lie(answer(identifier));
    (disk.poll().map(|done| done.result), disk.is_broken())
}

#[test]
fn a_controller_that_lies_breaks_and_never_panics() {
    let broken = (Some(Err(Error::Broken)), true);
    assert_eq!(lie(|it| [it ^ 1, 1, 1, 0]), broken, "another slot");
    assert_eq!(lie(|it| [it ^ 1 << SLOT_BITS, 1, 1, 0]), broken, "another time");
    assert_eq!(lie(|it| [it | 1 << 15, 1, 1, 0]), broken);
    assert_eq!(lie(|_| [u16::MAX, 1, 1, 0]), broken);
    assert_eq!(lie(|it| [it, 0, 1, 0]), broken, "another queue");
    assert_eq!(lie(|it| [it, 2, 1, 0]), broken, "no queue");
    assert_eq!(lie(|it| [it, 1, layout::ENTRIES, 0]), broken, "no entry");
    assert_eq!(lie(|it| [it, 1, 1, 1]), (Some(Err(Error::Io)), false));
    assert_eq!(lie(|it| [it, 1, 77, 0]), (Some(Ok(())), false), "a head that nobody needs");
}

#[test]
fn an_answer_that_comes_twice_breaks() {
    let mut disk = disk();
    for tag in 0..2 {
        read(&mut disk, tag, 1);
    }
    disk.kick();
    let memory = disk.machine().1;
    let identifier = memory.under_way()[0];
    memory.lie([identifier, 1, 2, 0]);
    assert_eq!(disk.poll().expect("it is answered").result, Ok(()));
    // The slot is used anew in between.
    read(&mut disk, 2, 1);
    disk.kick();
    disk.machine().1.lie([identifier, 1, 2, 0]);
    assert_eq!(disk.poll().expect("it is over").result, Err(Error::Broken));
    assert!(!disk.machine().0.controller().line(), "it interrupts no more");
}

#[test]
fn a_broken_disk_ends_every_request_and_keeps_its_buffers() {
    let mut disk = disk();
    for tag in 0..3 {
        read(&mut disk, tag, 1);
    }
    disk.kick();
    disk.machine().1.lie([999, 1, 0, 0]);
    let mut tags: Vec<_> = core::iter::from_fn(|| disk.poll())
        .map(|done| {
            assert_eq!((done.result, done.buffer), (Err(Error::Broken), None));
            done.tag
        })
        .collect();
    tags.sort();
    assert_eq!(tags, [0, 1, 2]);
    assert_eq!(disk.room(), 0);
    assert!(disk.flush(1).is_err());
}

#[test]
fn a_controller_that_has_failed_is_noticed_with_the_next_request() {
    for status in [0, 2, 3, u32::MAX] {
        let mut disk = disk();
        read(&mut disk, 1, 1);
        disk.kick();
        disk.machine().0.controller().csts = status;
        assert!(disk.poll().is_none(), "a controller that is silent is waited for");
        read(&mut disk, 2, 1);
        disk.kick();
        assert!(disk.is_broken(), "{status:#x}");
        assert_eq!(core::iter::from_fn(|| disk.poll()).count(), 2);
    }
}

#[test]
fn what_is_no_nvme_function_is_refused() {
    let window = 0x1000_0000..0x1000_8000u64;
    let sound = || {
        let mut function = Function::new(window.start);
        [(0x08, 0x0108_0202), (0x10, 0x1000_0004), (0x14, 0)].into_iter().for_each(|(at, word)| function.set(at, word));
        function
    };
    let with = |at: usize, word: u32| {
        let mut function = sound();
        function.set(at, word);
        function::find(&function, &window)
    };
    assert_eq!(with(0x08, 0x0108_0100), Err(pci::Refusal::Class(0x01_0801)));
    assert_eq!(with(0x08, u32::MAX), Err(pci::Refusal::Class(0xff_ffff)));
    assert_eq!(with(0x0c, 1 << 16), Err(pci::Refusal::Header(1)));
    for bar in [0x1000_0001, 0x0fff_f004, 0x1000_8004, 0x2000_0000, 0x1000_0002, 0] {
        assert_eq!(with(0x10, bar), Err(pci::Refusal::Elsewhere), "{bar:#x}");
    }
    assert_eq!(with(0x14, 1), Err(pci::Refusal::Elsewhere), "above 4 GiB");
    assert_eq!(function::find(&sound(), &window), Ok(0..0x8000));
    assert_eq!(with(0x10, 0x1000_4000), Ok(0x4000..0x8000));
    // Too few for a controller's registers, which its driver sees.
    let (registers, memory) = machine(self::sound(), Disk::OVERHEAD_BYTES + BLOCK_BYTES);
    let end = ControllerRegisters::START + 0xffc;
    let refused = Nvme::new(registers, ControllerRegisters::START..end, memory, &mut TestClock::default());
    assert_eq!(refused.err(), Some(Error::Nvme(Refusal::Doorbells(0))));
}

#[derive(Clone, Debug)]
enum Act {
    Write(u64, usize),
    Read(u64, usize),
    Flush,
    Serve(usize, u64),
}

fn act() -> impl Strategy<Value = Act> {
    let place = || (0..BLOCKS as u64, 1usize..40);
    prop_oneof![
        3 => place().prop_map(|(block, blocks)| Act::Write(block, blocks)),
        3 => place().prop_map(|(block, blocks)| Act::Read(block, blocks)),
        1 => Just(Act::Flush),
        4 => (0usize..20, any::<u64>()).prop_map(|(count, order)| Act::Serve(count, order)),
    ]
}

/// A request that waits: its place and length in blocks, and whether it writes.
type Waiting = Vec<Option<(u64, usize, bool)>>;

fn collect(disk: &mut Disk, waiting: &mut Waiting) {
    while let Some(done) = disk.poll() {
        assert_eq!(done.result, Ok(()));
        let (block, blocks, writes) = waiting[done.tag as usize].take().expect("each tag comes back once");
        let Some(buffer) = done.buffer else {
            assert_eq!(blocks, 0);
            continue;
        };
        assert_eq!(buffer.blocks(), blocks);
        if !writes {
            // Nothing is written while reads are under way, so the image is what was read.
            let at = block as usize * BLOCK_BYTES;
            let image = disk.machine().0.controller().image[at..at + blocks * BLOCK_BYTES].to_vec();
            assert!(disk.bytes(&buffer) == image.as_slice());
        }
        disk.release(buffer);
    }
}

/// Starts what can be started: writes alone, so that the order of completion does not matter to the model.
fn start(disk: &mut Disk, act: &Act, number: u8, waiting: &mut Waiting, model: &mut [u8]) {
    let tag = waiting.len() as u32;
    let others = || waiting.iter().flatten().filter(|other| other.1 > 0);
    match *act {
        Act::Flush if disk.room() > 0 => {
            disk.flush(tag).expect("there is room");
            waiting.push(Some((0, 0, false)));
        }
        Act::Write(block, blocks) | Act::Read(block, blocks) if disk.room() > 0 => {
            let writes = matches!(act, Act::Write(..));
            if others().count() > 0 && (writes || others().any(|other| other.2)) {
                return;
            }
            let Some(buffer) = disk.allocate(blocks.min(BLOCKS - block as usize)) else { return };
            let (blocks, at) = (buffer.blocks(), block as usize * BLOCK_BYTES);
            if writes {
                disk.bytes(&buffer).fill(number);
                model[at..at + blocks * BLOCK_BYTES].fill(number);
                disk.write(tag, block, buffer).expect("there is room");
            } else {
                disk.read(tag, block, buffer).expect("there is room");
            }
            waiting.push(Some((block, blocks, writes)));
        }
        _ => {}
    }
}

fn run(mut disk: Disk, acts: &[Act]) {
    let (mut waiting, mut model) = (Waiting::new(), vec![0; BLOCKS * BLOCK_BYTES]);
    let depth = disk.room();
    for (number, act) in acts.iter().enumerate() {
        match *act {
            Act::Serve(count, order) => {
                disk.kick();
                disk.machine().1.serve(count, order);
                collect(&mut disk, &mut waiting);
            }
            _ => start(&mut disk, act, number as u8, &mut waiting, &mut model),
        }
    }
    // A completion queue that is small may take several rounds.
    for _ in 0..DEPTH {
        disk.kick();
        disk.machine().1.serve(usize::MAX, 0);
        collect(&mut disk, &mut waiting);
    }
    assert!(waiting.iter().all(Option::is_none), "a request never ended");
    assert!(disk.machine().0.controller().image == model, "the disk holds what was written");
    assert_eq!(disk.room(), depth);
    assert!(!disk.machine().0.controller().line());
}

proptest! {
    #[test]
    fn requests_do_what_they_say_and_each_ends_once(
        acts in prop::collection::vec(act(), 0..300),
        power in 9u32..=12,
        entries in prop_oneof![2u64..140, Just(65536)],
        most in 0u8..8,
        buffers in 40usize..200,
    ) {
        let mut controller = NvmeController::new(BLOCKS, power);
        controller.cap = controller.cap & !0xffff | (entries - 1);
        controller.controller[77] = most;
        run(bring_up_with(controller, buffers).expect("it is sound"), &acts);
    }

    #[test]
    fn whatever_a_controller_says_of_itself_is_no_panic(
        cap in any::<u64>(),
        changes in prop::collection::vec((any::<bool>(), 0usize..200, any::<u8>()), 0..20),
        status in any::<u16>(),
    ) {
        let mut controller = sound();
        controller.cap = if cap & 1 == 0 { controller.cap } else { controller.cap ^ cap & cap.rotate_left(17) & cap.rotate_left(40) };
        for (of_controller, at, value) in changes {
            if of_controller { controller.controller[at + 400] = value } else { controller.namespace[at] = value }
        }
        controller.refuses = Some((status as u8, (status >> 8 != 0).then_some(status >> 8)));
        if let Ok(disk) = bring_up_with(controller, 1) {
            prop_assert!(disk.blocks() > 0 && disk.room() > 0 && (512..=4096).contains(&disk.atomic_bytes()));
        }
    }
}
