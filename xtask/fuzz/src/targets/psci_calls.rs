//! A hostile guest at PSCI: any function identifier with any arguments, from any core, in any order.

use psci::{Config, Decision, Firmware, MAX_CORES, Power, Psci, Start, decode};

const CORES: usize = 4;
const MEMORY: std::ops::Range<u64> = 0x4000_0000..0x8000_0000;

/// Sixteen bytes a step: core, kind of identifier, identifier (4), spare (2), an argument (8).
pub fn run(data: &[u8]) {
    let affinities = [0, 1, 0x100, 0x1_0000_0000, 0, 0, 0, 0];
    let config = Config {
        cores: CORES,
        affinities,
        stolen_time: 0x1000,
        system_suspend: data.first().is_some_and(|byte| byte & 1 != 0),
        warm_reset: data.first().is_some_and(|byte| byte & 2 != 0),
    };
    const { assert!(CORES <= MAX_CORES) };
    let psci = Psci::new(config);
    assert_eq!(psci.claim(0, Start { entry: MEMORY.start, context: 0 }), Ok(()));
    // Firmware that answers by the first bytes, whatever it is asked.
    let answers = [-1, 0, 1, 0x1_0001];
    let mut asked = data.iter().cycle();
    let firmware = Firmware::learn(|_, _| answers[usize::from(*asked.next().unwrap_or(&0)) % 4]);
    for step in data.chunks_exact(16) {
        let cpu = usize::from(step[0]) % CORES;
        if psci.power(cpu) != Power::On {
            if let Some(start) = psci.begin(cpu) {
                assert!(MEMORY.contains(&start.entry), "a core starts outside of memory");
                assert_eq!(psci.power(cpu), Power::On);
            }
            continue;
        }
        one(&psci, cpu, &firmware, step);
    }
}

fn one(psci: &Psci, cpu: usize, firmware: &Firmware, step: &[u8]) {
    let id = u32::from_le_bytes([step[2], step[3], step[4], step[5]]);
    let id = match step[1] % 4 {
        0 => 0x8400_0000 | id & 0x1F,
        1 => 0xC400_0000 | id & 0x1F,
        2 => 0x8000_0000 | id & 0xFFFF,
        _ => id,
    };
    let value = u64::from_le_bytes([step[8], step[9], step[10], step[11], step[12], step[13], step[14], step[15]]);
    let target = [0, 1, 0x100, 0x1_0000_0000, value][usize::from(step[6]) % 5];
    let entry = if step[7] & 1 == 0 { MEMORY.start + (value & 0xFFFC) } else { value };
    match psci.decide(cpu, decode(id, [target, entry, value]), firmware, &|entry| MEMORY.contains(&entry)) {
        Decision::Wake { cpu: woken } => {
            assert!(woken < CORES && woken != cpu, "a core that runs was woken");
            assert_eq!(psci.power(woken), Power::OnPending);
        }
        Decision::Await { cpu: awaited } => assert_ne!(awaited, cpu, "a core that runs waits for itself"),
        Decision::Off => psci.stopped(cpu),
        Decision::SystemSuspend(start) => assert!(MEMORY.contains(&start.entry)),
        Decision::Return(value) => {
            let signed = value as i64;
            assert!((-9..0).contains(&signed) || value <= 0x1_0001, "no such result: {signed}");
        }
        Decision::Firmware(function, _) => assert!(
            matches!(function, 0x8000_8000 | 0x8000_3FFF | 0x8400_0050..=0x8400_0053 | 0xC400_0053),
            "firmware is asked {function:#x}"
        ),
        Decision::Standby | Decision::SystemOff | Decision::SystemReset { .. } => {}
    }
}
