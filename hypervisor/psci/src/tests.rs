//! What the state machine promises.

extern crate std;
use std::vec;
use std::vec::Vec;

use core::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

const AFFINITIES: [u64; MAX_CORES] = [0, 1, 0x100, 0x101, 0x1_0000_0000, 0, 0, 0];
const CORES: usize = 5;

fn config() -> Config {
    Config { cores: CORES, affinities: AFFINITIES, stolen_time: 0x4000, system_suspend: true, warm_reset: true }
}

/// Workarounds 1 needed, 2 switched on for good, 3 unknown; random numbers.
const FIRMWARE: Firmware = Firmware::with([0, 1, -1], true);

fn psci() -> Psci {
    let psci = Psci::new(config());
    psci.claim(0, Start { entry: 0x4000_0000, context: 1 }).unwrap();
    assert_eq!(psci.begin(0), Some(Start { entry: 0x4000_0000, context: 1 }));
    psci
}

fn call(psci: &Psci, function: u32, arguments: [u64; 3]) -> Decision {
    psci.decide(0, decode(function, arguments), &FIRMWARE, &|entry| entry < 0x8000_0000)
}

fn refused(error: Error) -> Decision {
    Decision::from(error)
}

const CPU_ON: u32 = 0xC400_0003;
const AFFINITY_INFO: u32 = 0xC400_0004;

#[test]
fn unknown_functions_are_not_supported() {
    let psci = psci();
    for function in [0, 5, 0x8400_0005, 0x8400_0007, 0xC400_0002, 0x8000_0002, 0x8600_0000, 0xFFFF_FFFF] {
        assert_eq!(call(&psci, function, [0; 3]), Decision::Return(u64::MAX));
    }
}

#[test]
fn a_core_that_does_not_exist_is_not_switched_on() {
    let psci = psci();
    for target in [2, 0x1000, 1 << 31, 1 << 40, 0x1_0000_0001, u64::MAX] {
        assert_eq!(call(&psci, CPU_ON, [target, 0, 0]), refused(Error::InvalidParameters));
    }
}

#[test]
fn a_core_of_the_machine_that_is_not_the_guests_does_not_exist_for_it() {
    let psci = Psci::new(Config { cores: CORES - 1, ..config() });
    for function in [CPU_ON, AFFINITY_INFO] {
        assert_eq!(call(&psci, function, [AFFINITIES[CORES - 1], 0, 0]), refused(Error::InvalidParameters));
    }
}

#[test]
fn an_entry_point_outside_of_memory_is_refused() {
    let psci = psci();
    for entry in [0x8000_0000, 0x4000_0002] {
        assert_eq!(call(&psci, CPU_ON, [1, entry, 0]), refused(Error::InvalidAddress));
    }
    assert_eq!(psci.power(1), Power::Off);
}

#[test]
fn a_core_goes_on_once_and_off_when_it_has_stopped() {
    let psci = psci();
    assert_eq!(call(&psci, AFFINITY_INFO, [0x101, 0, 0]), Decision::Return(1));
    assert_eq!(call(&psci, CPU_ON, [0x101, 0x1000, 7]), Decision::Wake { cpu: 3 });
    assert_eq!(call(&psci, AFFINITY_INFO, [0x101, 0, 0]), Decision::Return(2));
    assert_eq!(call(&psci, CPU_ON, [0x101, 0x2000, 8]), Decision::Await { cpu: 3 });
    assert_eq!(psci.after_wait(3) as i64, Error::OnPending as i64);
    assert_eq!(psci.begin(3), Some(Start { entry: 0x1000, context: 7 }));
    assert_eq!(psci.begin(3), None);
    assert_eq!(call(&psci, AFFINITY_INFO, [0x101, 0, 0]), Decision::Return(0));
    assert_eq!(call(&psci, CPU_ON, [0x101, 0x2000, 8]), refused(Error::AlreadyOn));
    assert_eq!(psci.decide(3, Call::CpuOff, &FIRMWARE, &|_| true), Decision::Off);
    assert_eq!(call(&psci, CPU_ON, [0x101, 0x2000, 8]), refused(Error::AlreadyOn));
    psci.stopped(3);
    assert_eq!(psci.begin(3), None);
    assert_eq!(call(&psci, AFFINITY_INFO, [0x101, 0, 0]), Decision::Return(1));
    assert_eq!(call(&psci, CPU_ON, [0x101, 0x2000, 8]), Decision::Wake { cpu: 3 });
}

#[test]
fn affinity_levels_cover_the_cores_below() {
    let psci = psci();
    assert_eq!(call(&psci, AFFINITY_INFO, [0x1, 1, 0]), Decision::Return(0));
    assert_eq!(call(&psci, AFFINITY_INFO, [0x100, 1, 0]), Decision::Return(1));
    assert_eq!(call(&psci, AFFINITY_INFO, [0x200, 2, 0]), Decision::Return(0));
    assert_eq!(call(&psci, AFFINITY_INFO, [0x200, 1, 0]), refused(Error::InvalidParameters));
    assert_eq!(call(&psci, AFFINITY_INFO, [0, 4, 0]), refused(Error::InvalidParameters));
}

#[test]
fn suspend_is_standby_and_its_reserved_bits_are_checked() {
    let psci = psci();
    for power_state in [0, 1 << 16, 3 << 24 | 1 << 16 | 0xFFFF] {
        assert_eq!(call(&psci, 0xC400_0001, [power_state, 0, 0]), Decision::Standby);
    }
    assert_eq!(call(&psci, 0x8400_0001, [1 << 31, 0, 0]), refused(Error::InvalidParameters));
}

#[test]
fn system_suspend_needs_every_other_core_off() {
    let psci = psci();
    let start = Start { entry: 0x1000, context: 5 };
    assert_eq!(call(&psci, 0xC400_000E, [0x8000_0000, 5, 0]), refused(Error::InvalidAddress));
    assert_eq!(call(&psci, 0xC400_000E, [0x1000, 5, 0]), Decision::SystemSuspend(start));
    psci.claim(2, start).unwrap();
    assert_eq!(call(&psci, 0xC400_000E, [0x1000, 5, 0]), refused(Error::Denied));
    let without = Psci::new(Config { system_suspend: false, warm_reset: false, ..config() });
    assert_eq!(call(&without, 0xC400_000E, [0x1000, 5, 0]), refused(Error::NotSupported));
    assert_eq!(call(&without, 0x8400_0012, [0; 3]), refused(Error::NotSupported));
}

#[test]
fn each_core_has_a_record_of_its_stolen_time() {
    let psci = psci();
    assert_eq!(call(&psci, 0x8000_0001, [0xC500_0020, 0, 0]), Decision::Return(0));
    for function in [0xC500_0020, 0xC500_0021] {
        assert_eq!(call(&psci, 0xC500_0020, [function, 0, 0]), Decision::Return(0));
    }
    assert_eq!(call(&psci, 0xC500_0020, [0xC500_0022, 0, 0]), refused(Error::NotSupported));
    assert_eq!(call(&psci, 0x8500_0021, [0; 3]), refused(Error::NotSupported));
    for cpu in 0..CORES {
        let decision = psci.decide(cpu, Call::PvTimeStolen, &FIRMWARE, &|_| true);
        assert_eq!(decision, Decision::Return(0x4000 + 64 * cpu as u64));
    }
}

#[test]
fn resets_are_told_apart() {
    let psci = psci();
    assert_eq!(call(&psci, 0x8400_0008, [0; 3]), Decision::SystemOff);
    assert_eq!(call(&psci, 0x8400_0009, [0; 3]), Decision::SystemReset { warm: false });
    assert_eq!(call(&psci, 0xC400_0012, [0; 3]), Decision::SystemReset { warm: true });
    assert_eq!(call(&psci, 0x8400_0012, [1 << 31, 0, 0]), refused(Error::InvalidParameters));
}

#[test]
fn versions_and_features_are_those_that_there_are() {
    let psci = psci();
    assert_eq!(call(&psci, 0x8400_0000, [0; 3]), Decision::Return(0x1_0001));
    assert_eq!(call(&psci, 0x8000_0000, [0; 3]), Decision::Return(0x1_0001));
    assert_eq!(call(&psci, 0x8400_0006, [0; 3]), Decision::Return(2));
    for function in [0x8400_0001, 0xC400_0001, 0xC400_0003, 0x8400_000A, 0xC400_000E, 0xC400_0012, 0x8000_0000] {
        assert_eq!(call(&psci, 0x8400_000A, [function, 0, 0]), Decision::Return(0));
    }
    for function in [0x8400_0005, 0xC400_0002, 0x8400_0010, 0x8000_8000, 0] {
        assert_eq!(call(&psci, 0x8400_000A, [function, 0, 0]), refused(Error::NotSupported));
    }
}

#[test]
fn workarounds_are_firmwares() {
    let psci = psci();
    let answers = [(0x8000_8000, 0), (0x8000_7FFF, 1), (0x8000_3FFF, u64::MAX), (0x8000_0002, u64::MAX)];
    for (function, answer) in answers {
        assert_eq!(call(&psci, 0x8000_0001, [function, 0, 0]), Decision::Return(answer));
    }
    assert_eq!(call(&psci, 0x8000_3FFF, [0; 3]), refused(Error::NotSupported));
    assert_eq!(call(&psci, 0x8000_8000, [3, 0, 0]), Decision::Firmware(0x8000_8000, 0));
    assert_eq!(call(&psci, 0x8000_7FFF, [0; 3]), Decision::Return(0), "it stays on");
}

#[test]
fn random_numbers_come_from_firmware_that_has_them() {
    let psci = psci();
    let call_of = |firmware, function| psci.decide(0, decode(function, [64, 0, 0]), firmware, &|_| true);
    for function in [0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xC400_0053] {
        assert_eq!(call_of(&Firmware::NONE, function), refused(Error::NotSupported));
        assert_eq!(call_of(&FIRMWARE, function), Decision::Firmware(function, 64));
    }
    assert_eq!(call(&psci, 0x8000_0001, [0x8400_0050, 0, 0]), Decision::Return(0));
}

#[test]
fn of_many_callers_exactly_one_switches_a_core_on() {
    let psci = psci();
    for round in 0..200u64 {
        let decisions: Vec<Decision> = std::thread::scope(|scope| {
            let callers = [1u64, 2, 3].map(|n| {
                let psci = &psci;
                scope.spawn(move || call(psci, CPU_ON, [1, n * 0x1000, n + 10 * round]))
            });
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..3).filter(|n| decisions[*n] == Decision::Wake { cpu: 1 }).collect();
        assert_eq!(winners.len(), 1);
        let n = winners[0] as u64 + 1;
        assert_eq!(psci.begin(1), Some(Start { entry: n * 0x1000, context: n + 10 * round }));
        psci.stopped(1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    On(usize, u64),
    Off(usize),
    Begin(usize),
    Info(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let cpu = 0..CORES;
    prop_oneof![
        (cpu.clone(), 0u64..0x100).prop_map(|(cpu, entry)| Op::On(cpu, entry * 4)),
        cpu.clone().prop_map(Op::Off),
        cpu.clone().prop_map(Op::Begin),
        cpu.prop_map(Op::Info),
    ]
}

#[test]
fn a_second_core_that_wants_a_reset_does_not_lead_it() {
    let psci = psci();
    assert!(!psci.must_leave(3));
    assert!(psci.lead_reset(0));
    assert!(!psci.lead_reset(3) && !psci.lead_reset(0));
    assert!(psci.must_leave(3) && !psci.must_leave(0) && psci.is_resetting());
}

#[test]
fn the_leader_is_not_alone_while_a_core_is_on_or_on_its_way() {
    let psci = psci();
    assert_eq!(call(&psci, CPU_ON, [1, 0x1000, 0]), Decision::Wake { cpu: 1 });
    assert!(psci.lead_reset(0));
    assert!(!psci.is_alone(0), "one is on its way");
    assert!(psci.begin(1).is_some());
    assert!(!psci.is_alone(0), "one is on");
    psci.stopped(1);
    assert!(psci.is_alone(0));
}

#[test]
fn a_reset_ends_with_the_first_core_claimed_and_all_others_off() {
    let psci = psci();
    let start = Start { entry: 0x4020_0000, context: 9 };
    for (leader, first) in [(0, 3), (3, 3), (3, 0)] {
        assert!(psci.lead_reset(leader));
        assert!(psci.is_alone(leader));
        psci.end_reset(leader, first, start);
        assert!((0..CORES).all(|cpu| !psci.must_leave(cpu)) && !psci.is_resetting());
        assert!((0..CORES).filter(|cpu| *cpu != first).all(|cpu| psci.power(cpu) == Power::Off));
        assert_eq!(psci.begin(first), Some(start));
    }
}

/// Cores that turn each other on as fast as they can, and one after the other resets the guest: when it is alone, nobody is in there.
#[test]
fn a_leader_that_is_alone_stays_alone_however_cores_race() {
    const ROUNDS: usize = 300;
    let psci = psci();
    let inside: [AtomicBool; CORES] = core::array::from_fn(|cpu| AtomicBool::new(cpu == 0));
    let resets = AtomicUsize::new(0);
    let start = Start { entry: 0, context: 0 };
    let run = |cpu: usize| {
        while resets.load(Ordering::SeqCst) < ROUNDS {
            if !inside[cpu].load(Ordering::SeqCst) {
                // Where the firmware starts a core: it enters the guest only if no reset is under way.
                if psci.power(cpu) == Power::OnPending && psci.begin(cpu).is_some() {
                    match psci.must_leave(cpu) {
                        true => psci.stopped(cpu),
                        false => inside[cpu].store(true, Ordering::SeqCst),
                    }
                }
                std::thread::yield_now();
                continue;
            }
            for other in 0..CORES {
                let _ = psci.claim(other, start);
            }
            if !psci.lead_reset(cpu) {
                inside[cpu].store(false, Ordering::SeqCst);
                psci.stopped(cpu);
                continue;
            }
            while !psci.is_alone(cpu) {
                std::thread::yield_now();
            }
            for (other, inside) in inside.iter().enumerate() {
                assert!(other == cpu || !inside.load(Ordering::SeqCst), "core {other} runs beside the leader {cpu}");
            }
            inside[cpu].store(false, Ordering::SeqCst);
            resets.fetch_add(1, Ordering::SeqCst);
            psci.end_reset(cpu, (cpu + 1) % CORES, start);
        }
    };
    std::thread::scope(|scope| (0..CORES).for_each(|cpu| drop(scope.spawn(move || run(cpu)))));
}

proptest! {
    /// The naive model: a core is off, waits with an entry point, or is on.
    #[test]
    fn cores_are_where_the_model_has_them(ops in prop::collection::vec(op(), 1..200)) {
        let psci = psci();
        let mut model: Vec<(Power, u64)> = vec![(Power::Off, 0); CORES];
        model[0].0 = Power::On;
        for op in ops {
            match op {
                Op::On(cpu, entry) => {
                    let expected = match model[cpu].0 {
                        Power::Off => Decision::Wake { cpu },
                        Power::On => refused(Error::AlreadyOn),
                        Power::OnPending => Decision::Await { cpu },
                    };
                    if model[cpu].0 == Power::Off {
                        model[cpu] = (Power::OnPending, entry);
                    }
                    prop_assert_eq!(call(&psci, CPU_ON, [AFFINITIES[cpu], entry, entry + 1]), expected);
                }
                Op::Off(cpu) if model[cpu].0 == Power::On => {
                    prop_assert_eq!(psci.decide(cpu, Call::CpuOff, &FIRMWARE, &|_| true), Decision::Off);
                    prop_assert_eq!(psci.power(cpu), Power::On);
                    psci.stopped(cpu);
                    model[cpu].0 = Power::Off;
                }
                Op::Off(_) => {}
                Op::Begin(cpu) => {
                    let pending = model[cpu].0 == Power::OnPending;
                    let expected = pending.then_some(Start { entry: model[cpu].1, context: model[cpu].1 + 1 });
                    prop_assert_eq!(psci.begin(cpu), expected);
                    if pending {
                        model[cpu].0 = Power::On;
                    }
                }
                Op::Info(cpu) => {
                    let expected = match model[cpu].0 {
                        Power::On => 0,
                        Power::Off => 1,
                        Power::OnPending => 2,
                    };
                    prop_assert_eq!(call(&psci, AFFINITY_INFO, [AFFINITIES[cpu], 0, 0]), Decision::Return(expected));
                }
            }
        }
    }
}
