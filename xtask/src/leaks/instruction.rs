//! What an A64 instruction does to registers, memory and control, decoded as far as the search for leaks needs it.
//!
//! The encodings are those of the Arm ARM (DDI 0487) chapter C4, "A64 instruction set encoding". What is not understood becomes
//! [`Op::Unknown`], which is refused; of vector arithmetic only a few instructions are told apart, the others give a secret.

/// A register that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// `x0` to `x30`, or their lower halves.
    General(u8),
    /// The stack pointer.
    Stack,
    /// `xzr`: reads as zero, and forgets what is written.
    Zero,
    /// `v0` to `v31`, or parts of them.
    Vector(u8),
}

/// Where a load or store reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: Register,
    /// Bytes added to the base before the access.
    pub(super) offset: i64,
    /// A register added to the base before the access.
    pub(super) index: Option<Register>,
    /// What is added to the base register itself.
    pub(super) write_back: Option<Step>,
}

/// What a base register moves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    By(i64),
    Register(Register),
}

/// What decides whether a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Flags,
    Register(Register),
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A number that stands in the instruction.
    Constant {
        to: Register,
        value: u64,
    },
    /// An address in the program.
    Address {
        to: Register,
        value: u64,
    },
    /// A plain copy of all bits.
    Copy {
        to: Register,
        from: Register,
    },
    /// `from + value` in 64 bits.
    AddConstant {
        to: Register,
        from: Register,
        value: i64,
        sets_flags: bool,
    },
    /// A 64-bit sum or difference of two registers.
    Add {
        to: Register,
        from: [Register; 2],
        sets_flags: bool,
    },
    /// Any other function of registers.
    Mix {
        to: Register,
        from: Vec<Register>,
        reads_flags: bool,
        sets_flags: bool,
    },
    /// A function of registers that takes longer for some values than for others.
    Divide {
        to: Register,
        from: [Register; 2],
    },
    /// Vector arithmetic that is not looked into.
    Opaque {
        to: Vec<Register>,
        sets_flags: bool,
    },
    /// Reads `size` bytes into each of the registers, one behind the other. With `keeps`, other parts of the registers stay.
    Load {
        to: Vec<Register>,
        size: u8,
        place: Place,
        keeps: bool,
    },
    /// Writes `size` bytes of each of the registers, one behind the other.
    Store {
        from: Vec<Register>,
        size: u8,
        place: Place,
    },
    /// Reads a constant that lies in the code.
    LoadConstant {
        to: Register,
    },
    /// Touches memory without an effect on values.
    Prefetch {
        place: Place,
    },
    /// Goes elsewhere.
    Branch {
        target: u64,
        when: Condition,
    },
    /// Goes elsewhere and comes back.
    Call {
        target: u64,
    },
    Return,
    /// Never goes on: BRK, UDF.
    Stop,
    /// Nothing that matters: hints, barriers.
    Nothing,
    Unknown,
}

use Register::{Stack, Vector, Zero};

/// Bits `low + width - 1` to `low`.
const fn bits(word: u32, low: u32, width: u32) -> u32 {
    word >> low & ((1 << width) - 1)
}

/// The same as a signed number.
const fn signed(word: u32, low: u32, width: u32) -> i64 {
    let unused = 64 - width;
    (bits(word, low, width) as i64) << unused >> unused
}

fn general(number: u32) -> Register {
    if number == 31 { Zero } else { Register::General(number as u8) }
}

fn general_or_stack(number: u32) -> Register {
    if number == 31 { Stack } else { Register::General(number as u8) }
}

fn vector(number: u32) -> Register {
    Vector((number % 32) as u8)
}

const fn rd(word: u32) -> u32 {
    bits(word, 0, 5)
}
const fn rn(word: u32) -> u32 {
    bits(word, 5, 5)
}
const fn ra(word: u32) -> u32 {
    bits(word, 10, 5)
}
const fn rm(word: u32) -> u32 {
    bits(word, 16, 5)
}

/// Decodes the instruction at `address`.
pub(super) fn decode(word: u32, address: u64) -> Op {
    match bits(word, 25, 4) {
        0b0000 if word >> 16 == 0 => Op::Stop,
        0b1000 | 0b1001 => immediate(word, address),
        0b1010 | 0b1011 => branch(word, address),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => memory(word),
        0b0101 | 0b1101 => registers(word),
        0b0111 | 0b1111 => vectors(word),
        _ => Op::Unknown,
    }
}

fn immediate(word: u32, address: u64) -> Op {
    let wide = word >> 31 == 1;
    match bits(word, 23, 3) {
        0b000 | 0b001 => {
            let offset = signed(word, 5, 19) << 2 | i64::from(bits(word, 29, 2));
            let value = match wide {
                true => (address & !0xfff).wrapping_add_signed(offset << 12),
                false => address.wrapping_add_signed(offset),
            };
            Op::Address { to: general(rd(word)), value }
        }
        0b010 => {
            let sets_flags = bits(word, 29, 1) == 1;
            let to = if sets_flags { general(rd(word)) } else { general_or_stack(rd(word)) };
            let from = general_or_stack(rn(word));
            let value = i64::from(bits(word, 10, 12)) << (12 * bits(word, 22, 1));
            let value = if bits(word, 30, 1) == 1 { -value } else { value };
            match wide {
                true => Op::AddConstant { to, from, value, sets_flags },
                false => Op::Mix { to, from: vec![from], reads_flags: false, sets_flags },
            }
        }
        0b100 => {
            let sets_flags = bits(word, 29, 2) == 3;
            let to = if sets_flags { general(rd(word)) } else { general_or_stack(rd(word)) };
            Op::Mix { to, from: vec![general(rn(word))], reads_flags: false, sets_flags }
        }
        0b101 => move_wide(word),
        // BFM keeps a part of what it writes to.
        0b110 if bits(word, 29, 2) == 1 => pure(general(rd(word)), [general(rn(word)), general(rd(word))]),
        0b110 => pure(general(rd(word)), [general(rn(word))]),
        0b111 => pure(general(rd(word)), [general(rn(word)), general(rm(word))]),
        _ => Op::Unknown,
    }
}

fn move_wide(word: u32) -> Op {
    let to = general(rd(word));
    let value = u64::from(bits(word, 5, 16)) << (16 * bits(word, 21, 2));
    let wide = word >> 31 == 1;
    match bits(word, 29, 2) {
        0b00 => Op::Constant { to, value: if wide { !value } else { u64::from(!(value as u32)) } },
        0b10 => Op::Constant { to, value },
        0b11 => pure(to, [to]),
        _ => Op::Unknown,
    }
}

/// A function of registers without flags.
fn pure<const N: usize>(to: Register, from: [Register; N]) -> Op {
    Op::Mix { to, from: from.to_vec(), reads_flags: false, sets_flags: false }
}

fn branch(word: u32, address: u64) -> Op {
    let near = |low, width| address.wrapping_add_signed(signed(word, low, width) * 4);
    let tested = Condition::Register(general(rd(word)));
    match word >> 24 {
        0x14..=0x17 => Op::Branch { target: near(0, 26), when: Condition::Always },
        0x94..=0x97 => Op::Call { target: near(0, 26) },
        0x54 => Op::Branch { target: near(5, 19), when: Condition::Flags },
        0x34 | 0x35 | 0xb4 | 0xb5 => Op::Branch { target: near(5, 19), when: tested },
        0x36 | 0x37 | 0xb6 | 0xb7 => Op::Branch { target: near(5, 14), when: tested },
        0xd6 if bits(word, 21, 4) == 2 => Op::Return,
        0xd4 if bits(word, 21, 3) == 1 => Op::Stop,
        0xd5 if word & 0xffff_f01f == 0xd503_201f || word & 0xffff_f000 == 0xd503_3000 => Op::Nothing,
        // MRS: what the machine is, not what it works on.
        0xd5 if bits(word, 20, 4) == 0b0011 => {
            Op::Mix { to: general(rd(word)), from: Vec::new(), reads_flags: true, sets_flags: false }
        }
        _ => Op::Unknown,
    }
}

fn registers(word: u32) -> Op {
    let (to, n, m) = (general(rd(word)), general(rn(word)), general(rm(word)));
    let wide = word >> 31 == 1;
    match (bits(word, 28, 1), bits(word, 24, 1), bits(word, 21, 3)) {
        (0, 0, _) => {
            let is_move = bits(word, 29, 2) == 1 && bits(word, 21, 3) == 0 && rn(word) == 31 && bits(word, 10, 6) == 0;
            match is_move && wide {
                true => Op::Copy { to, from: m },
                false => mixed(to, vec![n, m], false, bits(word, 29, 2) == 3),
            }
        }
        (0, 1, _) => {
            let sets_flags = bits(word, 29, 1) == 1;
            let extended = bits(word, 21, 1) == 1;
            let to = if extended && !sets_flags { general_or_stack(rd(word)) } else { to };
            let n = if extended { general_or_stack(rn(word)) } else { n };
            match wide {
                true => Op::Add { to, from: [n, m], sets_flags },
                false => mixed(to, vec![n, m], false, sets_flags),
            }
        }
        (1, 0, 0b000) if bits(word, 10, 6) == 0 => mixed(to, vec![n, m], true, bits(word, 29, 1) == 1),
        (1, 0, 0b010) if bits(word, 29, 1) == 1 => {
            // CCMP and CCMN compare with a register or with a number in its place.
            let m = if bits(word, 11, 1) == 1 { Zero } else { m };
            mixed(Zero, vec![n, m], true, true)
        }
        (1, 0, 0b100) => mixed(to, vec![n, m], true, false),
        (1, 0, 0b110) if bits(word, 29, 1) == 0 => match bits(word, 30, 1) {
            1 => pure(to, [n]),
            _ if bits(word, 11, 5) == 1 => Op::Divide { to, from: [n, m] },
            _ => pure(to, [n, m]),
        },
        (1, 1, _) => pure(to, [n, m, general(ra(word))]),
        _ => Op::Unknown,
    }
}

fn mixed(to: Register, from: Vec<Register>, reads_flags: bool, sets_flags: bool) -> Op {
    Op::Mix { to, from, reads_flags, sets_flags }
}

fn vectors(word: u32) -> Op {
    let opaque = Op::Opaque { to: vec![vector(rd(word))], sets_flags: false };
    let is_scalar = bits(word, 28, 1) == 1;
    match (word >> 31, is_scalar) {
        (0, false) => vector_data(word).unwrap_or(opaque),
        // SHA-3, SHA-512, SM3, SM4.
        (1, false) if word >> 24 == 0xce => opaque,
        (0, true) if bits(word, 30, 1) == 1 => opaque,
        (_, true) if bits(word, 29, 2) == 0 => floating(word),
        _ => Op::Unknown,
    }
}

/// The vector instructions that are looked into.
fn vector_data(word: u32) -> Option<Op> {
    let (to, n) = (vector(rd(word)), vector(rn(word)));
    // "Advanced SIMD copy".
    if bits(word, 21, 8) == 0b0111_0000 && bits(word, 15, 1) == 0 && bits(word, 10, 1) == 1 {
        let is_insert = bits(word, 29, 1) == 1;
        return Some(match bits(word, 11, 4) {
            _ if is_insert => pure(to, [to, n]),
            0b0000 => pure(to, [n]),
            0b0001 => pure(to, [general(rn(word))]),
            0b0011 => pure(to, [to, general(rn(word))]),
            0b0101 | 0b0111 => pure(general(rd(word)), [n]),
            _ => Op::Unknown,
        });
    }
    // "Advanced SIMD modified immediate": a number, or bits added to a register.
    if bits(word, 19, 10) == 0b01_1110_0000 && bits(word, 10, 1) == 1 {
        return Some(if bits(word, 12, 1) == 0 || bits(word, 12, 4) >= 0b1100 { pure(to, []) } else { pure(to, [to]) });
    }
    // "Advanced SIMD three same", integers without PMULL's relatives.
    let three_same = bits(word, 24, 5) == 0b01110 && bits(word, 21, 1) == 1 && bits(word, 10, 1) == 1;
    three_same.then(|| pure(to, [to, n, vector(rm(word))]))
}

fn floating(word: u32) -> Op {
    // "Conversion between floating-point and integer": FMOV.
    if bits(word, 21, 8) & 0b1111_1001 == 0b1111_0001 && bits(word, 10, 6) == 0 {
        match bits(word, 16, 3) {
            0b110 => return pure(general(rd(word)), [vector(rn(word))]),
            // One form writes the upper half alone.
            0b111 => return pure(vector(rd(word)), [vector(rd(word)), general(rn(word))]),
            _ => {}
        }
    }
    // FMOV between vector registers, and of a number.
    if word & 0xff3f_fc00 == 0x1e20_4000 {
        return pure(vector(rd(word)), [vector(rn(word))]);
    }
    // Anything else may write a vector, a general register or the flags.
    Op::Opaque { to: vec![vector(rd(word)), general(rd(word))], sets_flags: true }
}

fn memory(word: u32) -> Op {
    match bits(word, 24, 6) {
        0b00_1100 if word >> 31 == 0 => structures(word),
        0b00_1101 if word >> 31 == 0 => lanes(word),
        _ => addressed(word),
    }
}

/// Literals, pairs and single registers.
fn addressed(word: u32) -> Op {
    let is_vector = bits(word, 26, 1) == 1;
    let name = |number| if is_vector { vector(number) } else { general(number) };
    match (bits(word, 28, 2), bits(word, 24, 2)) {
        (0b01, 0b00) => match word >> 30 {
            0b11 if !is_vector => Op::Nothing,
            _ => Op::LoadConstant { to: name(rd(word)) },
        },
        (0b10, 0b00 | 0b01) => pair(word, name),
        (0b11, _) => single(word, name),
        _ => Op::Unknown,
    }
}

fn pair(word: u32, name: impl Fn(u32) -> Register) -> Op {
    let (opc, is_vector, is_load) = (word >> 30, bits(word, 26, 1) == 1, bits(word, 22, 1) == 1);
    let size: u8 = match (is_vector, opc) {
        (true, 0..=2) => 4 << opc,
        (false, 0) => 4,
        (false, 1) if is_load => 4,
        (false, 2) => 8,
        _ => return Op::Unknown,
    };
    let distance = signed(word, 15, 7) * i64::from(size);
    let place = indexed(word, bits(word, 23, 2), distance);
    let both = vec![name(rd(word)), name(ra(word))];
    match is_load {
        true => Op::Load { to: both, size, place, keeps: false },
        false => Op::Store { from: both, size, place },
    }
}

/// The addressing of pairs: bits 24 and 23 say 01 after, 11 before, else without changing the base.
fn indexed(word: u32, kind: u32, distance: i64) -> Place {
    let base = general_or_stack(rn(word));
    match kind {
        0b01 => Place { base, offset: 0, index: None, write_back: Some(Step::By(distance)) },
        0b11 => Place { base, offset: distance, index: None, write_back: Some(Step::By(distance)) },
        _ => Place { base, offset: distance, index: None, write_back: None },
    }
}

fn single(word: u32, name: impl Fn(u32) -> Register) -> Op {
    let (width, opc, is_vector) = (word >> 30, bits(word, 22, 2), bits(word, 26, 1) == 1);
    let size: u8 = if is_vector && opc >= 2 { 16 } else { 1 << width };
    let place = match (bits(word, 24, 1), bits(word, 21, 1), bits(word, 10, 2)) {
        (1, _, _) => indexed(word, 0b10, i64::from(bits(word, 10, 12)) * i64::from(size)),
        (0, 0, 0b00) => indexed(word, 0b10, signed(word, 12, 9)),
        (0, 0, kind @ (0b01 | 0b11)) => indexed(word, kind, signed(word, 12, 9)),
        (0, 1, 0b10) => Place { index: Some(general(rm(word))), ..indexed(word, 0b10, 0) },
        // Atomics, and loads as another exception level.
        _ => return Op::Unknown,
    };
    let register = vec![name(rd(word))];
    match (is_vector, opc) {
        (true, _) if opc >= 2 && width != 0 => Op::Unknown,
        (false, 2) if width == 3 => Op::Prefetch { place },
        (false, 3) if width >= 2 => Op::Unknown,
        (_, 0) | (true, 2) => Op::Store { from: register, size, place },
        _ => Op::Load { to: register, size, place, keeps: false },
    }
}

/// LD1 to LD4 and ST1 to ST4 of whole registers.
fn structures(word: u32) -> Op {
    let count = match bits(word, 12, 4) {
        0b0000 | 0b0010 => 4,
        0b0100 | 0b0110 => 3,
        0b0111 => 1,
        0b1000 | 0b1010 => 2,
        _ => return Op::Unknown,
    };
    let size = 8 << bits(word, 30, 1);
    structure(word, count, size, false)
}

/// LD1 to LD4 and ST1 to ST4 of one lane, and LD1R to LD4R.
fn lanes(word: u32) -> Op {
    let opcode = bits(word, 13, 3);
    let size = match (opcode >> 1, bits(word, 10, 2)) {
        (0, _) => 1,
        (1, _) => 2,
        (2, 0) => 4,
        (2, 1) => 8,
        (3, width) => 1 << width,
        _ => return Op::Unknown,
    };
    structure(word, 1 + 2 * (opcode & 1) + bits(word, 21, 1), size, opcode >> 1 != 3)
}

fn structure(word: u32, count: u32, size: u8, keeps: bool) -> Op {
    let registers: Vec<_> = (0..count).map(|i| vector(rd(word) + i)).collect();
    let step = match rm(word) {
        31 => Step::By(i64::from(count) * i64::from(size)),
        number => Step::Register(general(number)),
    };
    let write_back = (bits(word, 23, 1) == 1).then_some(step);
    let place = Place { base: general_or_stack(rn(word)), offset: 0, index: None, write_back };
    match bits(word, 22, 1) {
        1 => Op::Load { to: registers, size, place, keeps },
        _ => Op::Store { from: registers, size, place },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: fn(u8) -> Register = Register::General;

    fn place(base: Register, offset: i64) -> Place {
        Place { base, offset, index: None, write_back: None }
    }

    /// Words as LLVM's assembler gives them.
    #[test]
    fn unknown_instructions_are_not_guessed() {
        // ldxr x0, [x1]; cas x0, x1, [x2]; br x3; svc #0; ldadd x0, x1, [x2]; ld1b (SVE).
        for word in [0xc85f_7c20, 0xc8a0_7c41, 0xd61f_0060, 0xd400_0001, 0xf820_0041, 0xa400_a000] {
            assert_eq!(decode(word, 0), Op::Unknown, "{word:#x}");
        }
    }

    #[test]
    fn loads_and_stores_name_their_addresses() {
        // ldrb w8, [x1, x8]; ldr q0, [x2, #0xc10]; stp x29, x30, [sp, #-16]!; ldr x8, [x0], #8.
        let indexed = Place { index: Some(X(8)), ..place(X(1), 0) };
        assert_eq!(decode(0x3868_6828, 0), Op::Load { to: vec![X(8)], size: 1, place: indexed, keeps: false });
        assert_eq!(
            decode(0x3dc3_0440, 0),
            Op::Load { to: vec![Vector(0)], size: 16, place: place(X(2), 0xc10), keeps: false }
        );
        let before = Place { write_back: Some(Step::By(-16)), ..place(Stack, -16) };
        assert_eq!(decode(0xa9bf_7bfd, 0), Op::Store { from: vec![X(29), X(30)], size: 8, place: before });
        let after = Place { write_back: Some(Step::By(8)), ..place(X(0), 0) };
        assert_eq!(decode(0xf840_8408, 0), Op::Load { to: vec![X(8)], size: 8, place: after, keeps: false });
        // ld1 { v30.16b, v31.16b, v0.16b, v1.16b }, [x5], x6.
        let Op::Load { to, size: 16, place, .. } = decode(0x4cc6_20be, 0) else { panic!("it is a load") };
        assert_eq!(
            (to, place.write_back),
            (vec![Vector(30), Vector(31), Vector(0), Vector(1)], Some(Step::Register(X(6))))
        );
    }

    #[test]
    fn branches_name_what_decides_them() {
        // cbz x8, +8; tbnz w3, #0, -4; b.eq +16; bl +4; ret.
        assert_eq!(decode(0xb400_0048, 0x100), Op::Branch { target: 0x108, when: Condition::Register(X(8)) });
        assert_eq!(decode(0x3707_ffe3, 0x100), Op::Branch { target: 0xfc, when: Condition::Register(X(3)) });
        assert_eq!(decode(0x5400_0080, 0x100), Op::Branch { target: 0x110, when: Condition::Flags });
        assert_eq!(decode(0x9400_0001, 0x100), Op::Call { target: 0x104 });
        assert_eq!(decode(0xd65f_03c0, 0x100), Op::Return);
    }

    #[test]
    fn values_cross_between_register_files() {
        // umov w13, v0.s[3]; fmov w12, s1; fmov s0, w14; mov v0.b[1], w18; mov x19, x0; udiv x0, x1, x2.
        assert_eq!(decode(0x0e1c_3c0d, 0), pure(X(13), [Vector(0)]));
        assert_eq!(decode(0x1e26_002c, 0), pure(X(12), [Vector(1)]));
        assert_eq!(decode(0x1e27_01c0, 0), pure(Vector(0), [Vector(0), X(14)]));
        assert_eq!(decode(0x4e03_1e40, 0), pure(Vector(0), [Vector(0), X(18)]));
        assert_eq!(decode(0xaa00_03f3, 0), Op::Copy { to: X(19), from: X(0) });
        assert_eq!(decode(0x9ac2_0820, 0), Op::Divide { to: X(0), from: [X(1), X(2)] });
    }

    #[test]
    fn vector_arithmetic_is_not_looked_into() {
        // aese v0.16b, v1.16b; tbl v0.16b, {v1.16b, v2.16b}, v3.16b.
        for word in [0x4e28_4820, 0x4e03_2020] {
            assert_eq!(decode(word, 0), Op::Opaque { to: vec![Vector(0)], sets_flags: false });
        }
        // adrp x15, 3 pages on; movi v0.2d, #0.
        assert_eq!(decode(0xf000_000f, 0x1234), Op::Address { to: X(15), value: 0x4000 });
        assert_eq!(decode(0x6f00_e400, 0), pure(Vector(0), []));
    }
}
