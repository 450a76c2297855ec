//! Small programs for the measured guest, as A64 instructions: no compiler for Linux on Arm is needed to make them.
//!
//! System calls are numbered as in Linux' `include/uapi/asm-generic/unistd.h`, and change `x0` alone.

/// A program with its name in the initrd's root.
pub(super) struct Program {
    pub(super) name: &'static str,
    code: &'static [u32],
}

/// All of them.
pub(super) const PROGRAMS: [Program; 3] = [
    Program { name: "tick", code: &TICK },
    Program { name: "ping-pong", code: &PING_PONG },
    Program { name: "page-faults", code: &PAGE_FAULTS },
];

/// Writes `CNTVCT_EL0` to its standard output as eight bytes.
const TICK: [u32; 10] = [
    0xd53b_e040, // mrs x0, cntvct_el0
    0xf81f_0fe0, // str x0, [sp, #-16]!
    0xd280_0020, // mov x0, #1
    0x9100_03e1, // mov x1, sp
    0xd280_0102, // mov x2, #8
    0xd280_0808, // mov x8, #64
    0xd400_0001, // svc #0
    0xd280_0000, // mov x0, #0
    0xd280_0ba8, // mov x8, #93
    0xd400_0001, // svc #0
];

/// Passes a byte to a second process and back 10,000 times, by two pipes (`pipe2`, `clone` with `SIGCHLD`, `write`, `read`).
const PING_PONG: [u32; 37] = [
    0xd100_83ff, // sub sp, sp, #32
    0x9100_03e0, // mov x0, sp
    0xd280_0001, // mov x1, #0
    0xd280_0768, // mov x8, #59
    0xd400_0001, // svc #0
    0x9100_23e0, // add x0, sp, #8
    0xd400_0001, // svc #0
    0xd280_0220, // mov x0, #17
    0xd280_0002, // mov x2, #0
    0xd280_0003, // mov x3, #0
    0xd280_0004, // mov x4, #0
    0xd280_1b88, // mov x8, #220
    0xd400_0001, // svc #0
    0xd284_e213, // mov x19, #10000
    0x9100_43e1, // add x1, sp, #16
    0xd280_0022, // mov x2, #1
    0xb400_0140, // cbz x0, #+40
    0xb940_07e0, // ldr w0, [sp, #4]
    0xd280_0808, // mov x8, #64
    0xd400_0001, // svc #0
    0xb940_0be0, // ldr w0, [sp, #8]
    0xd280_07e8, // mov x8, #63
    0xd400_0001, // svc #0
    0xf100_0673, // subs x19, x19, #1
    0x54ff_ff21, // b.ne #-28
    0x1400_0009, // b #+36
    0xb940_03e0, // ldr w0, [sp]
    0xd280_07e8, // mov x8, #63
    0xd400_0001, // svc #0
    0xb940_0fe0, // ldr w0, [sp, #12]
    0xd280_0808, // mov x8, #64
    0xd400_0001, // svc #0
    0xf100_0673, // subs x19, x19, #1
    0x54ff_ff21, // b.ne #-28
    0xd280_0000, // mov x0, #0
    0xd280_0ba8, // mov x8, #93
    0xd400_0001, // svc #0
];

/// Maps 16 MiB, writes one byte of each page, and unmaps them, 16 times (`mmap` private and anonymous, `munmap`).
const PAGE_FAULTS: [u32; 22] = [
    0xd280_0213, // mov x19, #16
    0xd2a0_2001, // mov x1, #16777216
    0xd280_0000, // mov x0, #0
    0xd280_0062, // mov x2, #3
    0xd280_0443, // mov x3, #34
    0x9280_0004, // mov x4, #-1
    0xd280_0005, // mov x5, #0
    0xd280_1bc8, // mov x8, #222
    0xd400_0001, // svc #0
    0x8b01_0014, // add x20, x0, x1
    0x3800_141f, // strb wzr, [x0], #1
    0x913f_fc00, // add x0, x0, #4095
    0xeb14_001f, // cmp x0, x20
    0x54ff_ffa1, // b.ne #-12
    0xcb01_0000, // sub x0, x0, x1
    0xd280_1ae8, // mov x8, #215
    0xd400_0001, // svc #0
    0xf100_0673, // subs x19, x19, #1
    0x54ff_fe01, // b.ne #-64
    0xd280_0000, // mov x0, #0
    0xd280_0ba8, // mov x8, #93
    0xd400_0001, // svc #0
];

impl Program {
    /// The program as an ELF file of one segment (System V ABI: ELF-64 header, program header).
    pub(super) fn elf(&self) -> Vec<u8> {
        const BASE: u64 = 0x40_0000;
        let code: Vec<u8> = self.code.iter().flat_map(|instruction| instruction.to_le_bytes()).collect();
        let (header, total) = (120_u64, 120 + code.len() as u64);
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // ET_EXEC, EM_AARCH64, version 1.
        elf.extend([2, 0, 183, 0, 1, 0, 0, 0]);
        [BASE + header, 64, 0].iter().for_each(|word| elf.extend(word.to_le_bytes()));
        elf.extend([0; 4]);
        [64_u16, 56, 1, 0, 0, 0].iter().for_each(|half| elf.extend(half.to_le_bytes()));
        // PT_LOAD, PF_R | PF_X.
        [1_u32, 5].iter().for_each(|word| elf.extend(word.to_le_bytes()));
        [0, BASE, BASE, total, total, 0x1000].iter().for_each(|word| elf.extend(word.to_le_bytes()));
        elf.extend(code);
        elf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_an_elf_file_whose_entry_is_its_first_instruction() {
        for program in PROGRAMS {
            let elf = program.elf();
            assert_eq!(elf.len(), 120 + 4 * program.code.len());
            assert_eq!(u64::from_le_bytes(elf[24..32].try_into().unwrap()), 0x40_0000 + 120);
            assert_eq!(elf[120..124], program.code[0].to_le_bytes());
        }
    }
}
