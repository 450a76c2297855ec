//! `vcpu`: any syndrome is decoded, and what follows from it (completion, injection, trapped registers) holds.

use vcpu::id_registers::{COUNT, Filter};
use vcpu::{Action, Entry, Exception, Exit, Features, Frame, IdRegisters, sysreg};

/// Takes `ESR_EL2`, `FAR_EL2`, `HPFAR_EL2`, `SPSR_EL2` and a value of a register, little-endian, as often as they come.
pub fn run(data: &[u8]) {
    for registers in data.chunks_exact(40) {
        let word = |index: usize| registers[8 * index..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        one_exit(word(0), word(1), word(2), word(3), word(4));
    }
}

fn one_exit(esr: u64, far: u64, hpfar: u64, spsr: u64, value: u64) {
    let mut frame = Frame { x: [value; 31], elr: far, spsr };
    let exception = match Exit::decode(esr, far, hpfar) {
        Exit::DataAbort(fault) => {
            if let Some(access) = fault.access {
                assert!(access.store_value(&frame) <= value);
                access.load(&mut frame, value);
                frame.advance(fault.instruction_bytes);
            }
            Exception::data_abort(&fault)
        }
        Exit::InstructionAbort(fault) => Exception::instruction_abort(&fault),
        Exit::SystemRegister(access) => {
            let filter = Filter { pa_range: 5, gic: true, pointer_authentication: true, pmu: true };
            let action = sysreg::decide(&access, value, &IdRegisters::new(&[value; COUNT], filter));
            assert!(!access.read || matches!(action, Action::Read(_) | Action::Undefined));
            Exception::Undefined
        }
        _ => Exception::Undefined,
    };
    let entry = Entry::new(exception, frame.elr, frame.spsr, far, value, Features::default());
    assert_eq!(entry.pstate & 0b1_1111, 0b0_0101);
}
