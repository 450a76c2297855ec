//! Looks in the emitted AArch64 code for time that depends on secrets.
//!
//! The sources say that no key and no text ever chooses an address or a branch. The compiler need not keep that promise: it may
//! turn a selection into a branch or a circuit into a table. So the kernels are followed as they were linked, instruction by instruction,
//! from their arguments on: every value that was loaded from memory is secret, and so is all that is made from it, through vector registers,
//! the stack and calls. Refused are loads and stores whose address is secret, branches that a secret decides, divisions of
//! secrets, and every instruction that the decoder does not know. What comes back from the stack is what was put there; a write to the stack at an
//! unknown place makes all of it secret. This errs on the side of refusing: code that passes has no such address, branch or division, on any path.
//!
//! What is trusted: the public words listed below; that `memcpy`, `memmove` and `memset` touch what their arguments say and no more, and
//! functions keep the registers that they have to keep; that an index into a constant table stays inside it; that panics do not return.
mod instruction;
mod program;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use crypto::public_words::{AES_ROUNDS, ARIA_ROUNDS};

use instruction::{Condition, Op, Place, Register, Step};
use program::Program;
use state::{State, Value};

/// Where the kernels are.
const KERNELS: &str = "crypto::simd::machine::";
/// Kernels that must be found, so that a new name does not hide them.
const EXPECTED: [&str; 13] = [
    "aria_ctr",
    "seed_ctr",
    "aes_ctr",
    "aria_crypt",
    "seed_crypt",
    "ghash_update",
    "ghash_digest",
    "aria_chain",
    "seed_chain",
    "aes_chain",
    "aria_chain_one",
    "seed_chain_one",
    "aes_chain_one",
];
/// Functions that have to be refused, in the program that tries the kernels.
const LEAKY: &str = "leaky_";

/// Words behind arguments of kernels that may decide branches: kernel (beginning or end of its name), argument, bytes, what it is.
const PUBLIC: [(&str, u8, Range<i64>); 5] = [
    // The first counter block, and where the data lie: from, to, how many.
    ("_ctr", 1, 0..16),
    ("_ctr", 2, 0..24),
    // The number of rounds behind the round keys.
    ("aria_", 0, word(ARIA_ROUNDS)),
    ("aes_", 0, word(AES_ROUNDS)),
    // Here the first argument is where the result goes.
    ("aes_reverse", 1, word(AES_ROUNDS)),
];

/// The eight bytes from an offset on.
const fn word(offset: usize) -> Range<i64> {
    offset as i64..offset as i64 + 8
}

/// Calls within calls that are followed.
const DEPTH: usize = 8;
/// Instructions that are followed for one kernel.
const STEPS: usize = 5_000_000;

/// Follows the kernels of a program.
///
/// # Errors
/// Every place that leaks, or a program without kernels.
pub fn check(elf: &Path) -> Result<()> {
    let program = Program::read(elf)?;
    let kernels: Vec<_> = program.functions().iter().filter(|(_, name)| name.starts_with(KERNELS)).collect();
    for expected in EXPECTED {
        let found = kernels.iter().any(|(_, name)| kernel(name) == expected);
        ensure!(found, "{} has no kernel `{expected}`", elf.display());
    }
    let complaints: Vec<_> =
        kernels.iter().flat_map(|(begin, name)| complaints(&program, *begin, kernel(name))).collect();
    if !complaints.is_empty() {
        let hint = "(is it a public word that is loaded there? xtask/src/leaks/mod.rs lists those)";
        bail!("{}:\n{}\n{hint}", elf.display(), complaints.join("\n"));
    }
    Ok(())
}

/// Sees that functions made to leak are refused, each of them.
///
/// # Errors
/// When one passes, or there are none.
pub fn check_refusals(elf: &Path) -> Result<()> {
    let program = Program::read(elf)?;
    let mut leaky = program.functions().iter().filter(|(_, name)| name.starts_with(LEAKY)).peekable();
    ensure!(leaky.peek().is_some(), "{} has no function made to leak", elf.display());
    for (begin, name) in leaky {
        ensure!(!complaints(&program, *begin, name).is_empty(), "`{name}` leaks, and nobody noticed");
    }
    Ok(())
}

/// `aria_ctr` of `crypto::simd::machine::aria_ctr::inner`.
fn kernel(name: &str) -> &str {
    let rest = name.strip_prefix(KERNELS).unwrap_or(name);
    rest.split("::").next().unwrap_or(rest)
}

/// What is wrong with the function that begins at `begin`, one line for each place.
fn complaints(program: &Program, begin: u64, kernel: &str) -> Vec<String> {
    let mut walk = Walk { program, kernel, complaints: BTreeSet::new(), steps: 0 };
    walk.run(begin, State::entry(), DEPTH);
    walk.complaints.into_iter().map(|(address, what)| format!("{}: {what}", program.shown(address))).collect()
}

/// A walk over all paths from one function.
struct Walk<'a> {
    program: &'a Program,
    kernel: &'a str,
    complaints: BTreeSet<(u64, &'static str)>,
    steps: usize,
}

/// What comes after an instruction.
enum Next {
    On,
    To(u64),
    Either(u64),
    Return,
    Stop,
}

impl Walk<'_> {
    fn complain(&mut self, address: u64, what: &'static str) {
        self.complaints.insert((address, what));
    }

    /// Follows everything that can happen from `begin` until it returns; what is known then, if it does.
    fn run(&mut self, begin: u64, state: State, depth: usize) -> Option<State> {
        let mut known: HashMap<u64, State> = HashMap::new();
        let mut open = BTreeMap::from([(begin, state)]);
        let mut returned: Option<State> = None;
        while let Some((mut address, mut state)) = open.pop_first() {
            loop {
                self.steps += 1;
                if self.steps > STEPS {
                    self.complain(address, "too much to follow");
                    return returned;
                }
                if self.program.is_target(address) {
                    let Some(merged) = merge(&mut known, address, &state) else { break };
                    state = merged;
                }
                match self.step(address, &mut state, depth) {
                    Next::On => address += 4,
                    Next::To(target) => address = target,
                    Next::Either(target) => {
                        join(&mut open, target, &state);
                        address += 4;
                    }
                    Next::Return => {
                        if let Some(other) = &returned {
                            state.meet(other);
                        }
                        returned = Some(state);
                        break;
                    }
                    Next::Stop => break,
                }
            }
        }
        returned
    }

    fn step(&mut self, address: u64, state: &mut State, depth: usize) -> Next {
        if let Some(name) = self.program.function(address) {
            if is_copy(name) {
                self.copy(address, state, name);
                return Next::Return;
            }
            if diverges(name) {
                return Next::Stop;
            }
        }
        let Some(op) = self.program.op(address) else {
            self.complain(address, "there is no code here");
            return Next::Stop;
        };
        match op {
            Op::Branch { target, when } => return self.branch(address, state, target, when),
            Op::Call { target } => {
                if depth == 0 {
                    self.complain(address, "calls go too deep to follow");
                    return Next::Stop;
                }
                let Some(after) = self.run(target, state.clone(), depth - 1) else { return Next::Stop };
                state.after_call(after);
            }
            Op::Return => return Next::Return,
            Op::Stop => return Next::Stop,
            other => self.compute(address, state, other),
        }
        if !matches!(state.get(Register::Stack), Value::Stack(_)) {
            self.complain(address, "the stack pointer is not followed here");
            return Next::Stop;
        }
        Next::On
    }

    fn branch(&mut self, address: u64, state: &State, target: u64, when: Condition) -> Next {
        let is_secret = match when {
            Condition::Always => return Next::To(target),
            Condition::Flags => state.flags_are_secret,
            Condition::Register(register) => state.get(register).is_secret(),
        };
        if is_secret {
            self.complain(address, "a secret decides this branch");
        }
        Next::Either(target)
    }

    /// Everything that goes on with the next instruction.
    fn compute(&mut self, address: u64, state: &mut State, op: Op) {
        match op {
            Op::Constant { to, value } => state.set(to, Value::Constant(value)),
            Op::Address { to, value } => state.set(to, Value::Linked(value)),
            Op::Copy { to, from } => state.set(to, state.get(from)),
            Op::AddConstant { to, from, value, sets_flags } => {
                let from = state.get(from);
                state.flags_are_secret = if sets_flags { from.is_secret() } else { state.flags_are_secret };
                state.set(to, from.plus(value));
            }
            Op::Add { to, from, sets_flags } => {
                let sum = Value::sum(from.map(|register| state.get(register)));
                state.flags_are_secret = if sets_flags { sum.is_secret() } else { state.flags_are_secret };
                state.set(to, sum);
            }
            Op::Mix { to, from, reads_flags, sets_flags } => mix(state, to, &from, reads_flags, sets_flags),
            Op::Divide { to, from } => {
                if from.iter().any(|register| state.get(*register).is_secret()) {
                    self.complain(address, "a secret is divided, or divides");
                }
                mix(state, to, &from, false, false);
            }
            Op::Opaque { to, sets_flags } => {
                to.iter().for_each(|register| state.set(*register, Value::Secret));
                state.flags_are_secret |= sets_flags;
            }
            Op::Load { to, size, place, keeps } => self.load(address, state, &to, size, place, keeps),
            Op::Store { from, size, place } => self.store(address, state, &from, size, place),
            Op::LoadConstant { to } => state.set(to, Value::Public),
            Op::Prefetch { place } => {
                self.reach(address, state, place);
            }
            Op::Nothing => {}
            _ => self.complain(address, "this instruction is not known"),
        }
    }

    fn load(&mut self, address: u64, state: &mut State, to: &[Register], size: u8, place: Place, keeps: bool) {
        let from = self.reach(address, state, place);
        step_base(state, place);
        for (i, register) in to.iter().enumerate() {
            let loaded = self.loaded(state, from.plus(i as i64 * i64::from(size)), size, *register);
            let kept = keeps.then(|| state.get(*register));
            state.set(*register, kept.map_or(loaded, |kept| Value::mixed([kept, loaded])));
        }
    }

    fn loaded(&self, state: &State, from: Value, size: u8, to: Register) -> Value {
        match from {
            Value::Stack(offset) => state.load(offset, size, to),
            Value::Linked(address) if self.program.is_constant(address, size) => Value::Public,
            Value::Near(address) if self.program.is_constant(address, 1) => Value::Public,
            Value::Argument(number, offset) if self.is_public(number, offset, size) => Value::Public,
            _ => Value::Secret,
        }
    }

    fn is_public(&self, argument: u8, offset: i64, size: u8) -> bool {
        PUBLIC.iter().any(|(name, number, bytes)| {
            let names = self.kernel.starts_with(name) || self.kernel.ends_with(name);
            names && *number == argument && bytes.start <= offset && offset + i64::from(size) <= bytes.end
        })
    }

    fn store(&mut self, address: u64, state: &mut State, from: &[Register], size: u8, place: Place) {
        let to = self.reach(address, state, place);
        for (i, register) in from.iter().enumerate() {
            match to.plus(i as i64 * i64::from(size)) {
                Value::Stack(offset) => state.store(offset, size, *register),
                Value::Frame => {
                    state.fill_somewhere(!matches!(state.get(*register), Value::Public | Value::Constant(_)))
                }
                _ => {}
            }
        }
        step_base(state, place);
    }

    /// The address of an access.
    fn reach(&mut self, address: u64, state: &State, place: Place) -> Value {
        let base = state.get(place.base).plus(place.offset);
        let reached = match place.index {
            Some(index) => Value::sum([base, state.get(index)]),
            None => base,
        };
        if reached.is_secret() {
            self.complain(address, "a secret chooses this address");
        }
        reached
    }

    /// `memcpy(to, from, length)` and its like.
    fn copy(&mut self, address: u64, state: &mut State, name: &str) {
        let [to, from, length] = [0, 1, 2].map(|number| state.get(Register::General(number)));
        let fills = name == "memset";
        if to.is_secret() || length.is_secret() || (from.is_secret() && !fills) {
            self.complain(address, "a secret chooses what is copied, where, or how much");
        }
        let is_secret = !fills || !matches!(from, Value::Public | Value::Constant(_));
        let known = match length {
            Value::Constant(length) => i64::try_from(length).ok().filter(|length| *length < 1 << 20),
            _ => None,
        };
        match to {
            Value::Stack(offset) => state.fill(offset, known, is_secret),
            Value::Frame => state.fill_somewhere(is_secret),
            _ => {}
        }
    }
}

/// `known` at this address with `state` taken in; nothing when that is nothing new.
fn merge(known: &mut HashMap<u64, State>, address: u64, state: &State) -> Option<State> {
    match known.get_mut(&address) {
        Some(old) => old.meet(state).then(|| old.clone()),
        None => {
            known.insert(address, state.clone());
            Some(state.clone())
        }
    }
}

/// Takes `state` into what waits at this address.
fn join(open: &mut BTreeMap<u64, State>, address: u64, state: &State) {
    match open.get_mut(&address) {
        Some(other) => {
            other.meet(state);
        }
        None => {
            open.insert(address, state.clone());
        }
    }
}

fn mix(state: &mut State, to: Register, from: &[Register], reads_flags: bool, sets_flags: bool) {
    let mixed = Value::mixed(from.iter().map(|register| state.get(*register)));
    let value = if reads_flags && state.flags_are_secret { Value::Secret } else { mixed };
    state.set(to, value);
    if sets_flags {
        state.flags_are_secret = value.is_secret();
    }
}

/// Moves the base register as the access says.
fn step_base(state: &mut State, place: Place) {
    let base = state.get(place.base);
    match place.write_back {
        Some(Step::By(distance)) => state.set(place.base, base.plus(distance)),
        Some(Step::Register(by)) => state.set(place.base, Value::mixed([base, state.get(by)])),
        None => {}
    }
}

fn is_copy(name: &str) -> bool {
    ["memcpy", "memmove", "memset"].contains(&name)
}

/// Functions of `core` that end in a panic.
fn diverges(name: &str) -> bool {
    name.starts_with("core::panicking::")
        || name.starts_with("core::") && (name.ends_with("_fail") || name.ends_with("_failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 0x1000;

    /// Complaints about these instructions.
    fn about(text: &[u32]) -> Vec<String> {
        let program = Program::new(BEGIN, text.to_vec(), Vec::new(), vec![(BEGIN, "f".to_owned())]);
        complaints(&program, BEGIN, "f")
    }

    const RET: u32 = 0xd65f_03c0;

    #[test]
    fn table_lookup_is_refused() {
        // ldrb w8, [x0, #3]; ldrb w0, [x1, x8]; ret
        assert_eq!(about(&[0x3940_0c08, 0x3868_6820, RET]), ["f+0x4 (0x1004): a secret chooses this address"]);
    }

    #[test]
    fn lookup_through_a_vector_register_is_refused() {
        // ldr q0, [x0]; aese v0.16b, v1.16b; umov w8, v0.b[0]; add x8, x1, x8; strb w8, [x8]; ret
        let text = [0x3dc0_0000, 0x4e28_4820, 0x0e01_3c08, 0x8b08_0028, 0x3900_0108, RET];
        assert_eq!(about(&text), ["f+0x10 (0x1010): a secret chooses this address"]);
    }

    #[test]
    fn lookup_through_the_stack_is_refused() {
        // ldr x8, [x0]; sub sp, sp, #16; str x8, [sp, #8]; ldr x9, [sp, #8]; ldr x0, [x9]; add sp, sp, #16; ret
        let text = [0xf940_0008, 0xd100_43ff, 0xf900_07e8, 0xf940_07e9, 0xf940_0120, 0x9100_43ff, RET];
        assert_eq!(about(&text), ["f+0x10 (0x1010): a secret chooses this address"]);
        // The same with an argument in place of the loaded word: mov x8, x1.
        let text = [0xaa01_03e8, 0xd100_43ff, 0xf900_07e8, 0xf940_07e9, 0xf940_0120, 0x9100_43ff, RET];
        assert!(about(&text).is_empty());
    }

    #[test]
    fn branch_on_a_secret_is_refused_after_a_loop_too() {
        // mov x8, #0; 1: cbz x8, 2f; nop; 2: ldr x8, [x0]; subs x1, x1, #1; b.ne 1b; ret
        let text = [0xd280_0008, 0xb400_0048, 0xd503_201f, 0xf940_0008, 0xf100_0421, 0x54ff_ff81, RET];
        assert_eq!(about(&text), ["f+0x4 (0x1004): a secret decides this branch"]);
    }

    #[test]
    fn division_of_a_secret_and_what_is_unknown_are_refused() {
        // ldr x8, [x0]; udiv x8, x8, x1; ldxr x0, [x1]; ret
        let text = [0xf940_0008, 0x9ac1_0908, 0xc85f_7c20, RET];
        let found = about(&text);
        assert!(found[0].ends_with("a secret is divided, or divides"), "{found:?}");
        assert!(found[1].ends_with("this instruction is not known"), "{found:?}");
    }

    #[test]
    fn loop_over_blocks_passes() {
        // add x2, x1, x2, lsl #4; 1: ldr q0, [x1]; aese v0.16b, v1.16b; str q0, [x1], #16; cmp x1, x2; b.ne 1b; ret
        let text = [0x8b02_1022, 0x3dc0_0020, 0x4e28_4820, 0x3c81_0420, 0xeb02_003f, 0x54ff_ff81, RET];
        assert_eq!(about(&text), [""; 0]);
    }
}
