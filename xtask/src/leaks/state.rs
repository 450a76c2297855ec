//! What the search for leaks knows about registers and stack at one place of the code.
use std::collections::BTreeMap;

use super::instruction::Register;

/// What is known about a general register, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// This number.
    Constant(u64),
    /// This address in the program.
    Linked(u64),
    /// An address of the same object in the program as this one, made without a secret.
    Near(u64),
    /// The address so many bytes above the stack pointer at the start.
    Stack(i64),
    /// The argument with this number, and so many bytes behind it.
    Argument(u8, i64),
    /// Some address in the stack frame, made without a secret.
    Frame,
    /// Made without a secret, and no address in the stack frame.
    Public,
    /// May come from data, keys or an unknown place.
    Secret,
}

impl Value {
    /// What is known when it may be either.
    fn or(self, other: Self) -> Self {
        use Value::{Frame, Public, Secret, Stack};
        match (self, other) {
            _ if self == other => self,
            (Secret, _) | (_, Secret) => Secret,
            (Stack(_) | Frame, _) | (_, Stack(_) | Frame) => Frame,
            _ => Public,
        }
    }

    /// What is known of a number made from all of these.
    pub(super) fn mixed(from: impl IntoIterator<Item = Self>) -> Self {
        // A function of a constant is none of the exact values.
        from.into_iter().fold(Self::Public, Self::or)
    }

    /// What is known of a sum.
    pub(super) fn sum(from: [Self; 2]) -> Self {
        match from {
            [Self::Secret, _] | [_, Self::Secret] => Self::Secret,
            [Self::Linked(address) | Self::Near(address), _] => Self::Near(address),
            _ => Self::mixed(from),
        }
    }

    pub(super) fn plus(self, distance: i64) -> Self {
        match self {
            Self::Linked(address) => Self::Linked(address.wrapping_add_signed(distance)),
            Self::Constant(value) => Self::Constant(value.wrapping_add_signed(distance)),
            Self::Stack(offset) => Self::Stack(offset.wrapping_add(distance)),
            Self::Argument(number, offset) => Self::Argument(number, offset.wrapping_add(distance)),
            other => other,
        }
    }

    pub(super) fn is_secret(self) -> bool {
        self == Self::Secret
    }
}

/// What lies on the stack, by distance from the stack pointer at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Memory {
    /// Bits of the bytes that hold nothing secret, in slots of eight bytes.
    public: BTreeMap<i64, u8>,
    /// Registers that were put aside.
    exact: BTreeMap<i64, Value>,
}

impl Memory {
    fn write(&mut self, offset: i64, size: i64, is_secret: bool) {
        let overlapping: Vec<_> = self.exact.range(offset - 7..offset + size).map(|(at, _)| *at).collect();
        for at in overlapping {
            self.exact.remove(&at);
        }
        for byte in offset..offset + size {
            let (slot, bit) = (byte & !7, 1 << (byte & 7));
            let mask = self.public.entry(slot).or_default();
            *mask = if is_secret { *mask & !bit } else { *mask | bit };
        }
    }

    fn is_public(&self, offset: i64, size: i64) -> bool {
        (offset..offset + size)
            .all(|byte| self.public.get(&(byte & !7)).is_some_and(|mask| mask >> (byte & 7) & 1 == 1))
    }

    /// What both know.
    fn meet(&mut self, other: &Self) {
        for (slot, mask) in &mut self.public {
            *mask &= other.public.get(slot).copied().unwrap_or(0);
        }
        self.public.retain(|_, mask| *mask != 0);
        self.exact.retain(|at, value| other.exact.get(at) == Some(value));
    }
}

/// Registers, flags and stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    general: [Value; 31],
    stack_pointer: Value,
    vector_is_secret: [bool; 32],
    pub(super) flags_are_secret: bool,
    memory: Memory,
}

impl State {
    /// At the start of a kernel: arguments in `x0` to `x7`, and in `x8` where the result goes (AAPCS64 section 6.8, 6.9). They are
    /// addresses and lengths; what lies behind the addresses is secret. Nothing is known of the rest.
    pub(super) fn entry() -> Self {
        let argument = |i| if i <= 8 { Value::Argument(i as u8, 0) } else { Value::Secret };
        Self {
            general: std::array::from_fn(argument),
            stack_pointer: Value::Stack(0),
            vector_is_secret: [true; 32],
            flags_are_secret: true,
            memory: Memory::default(),
        }
    }

    pub(super) fn get(&self, register: Register) -> Value {
        match register {
            Register::General(number) => self.general[usize::from(number)],
            Register::Stack => self.stack_pointer,
            Register::Zero => Value::Constant(0),
            Register::Vector(number) if self.vector_is_secret[usize::from(number)] => Value::Secret,
            Register::Vector(_) => Value::Public,
        }
    }

    pub(super) fn set(&mut self, register: Register, value: Value) {
        match register {
            Register::General(number) => self.general[usize::from(number)] = value,
            Register::Stack => self.stack_pointer = value,
            Register::Zero => {}
            Register::Vector(number) => self.vector_is_secret[usize::from(number)] = value.is_secret(),
        }
    }

    /// What a load from this place of the stack gives.
    pub(super) fn load(&self, offset: i64, size: u8, to: Register) -> Value {
        let exact = self.memory.exact.get(&offset).filter(|_| size == 8 && matches!(to, Register::General(_)));
        match exact {
            Some(value) => *value,
            None if self.memory.is_public(offset, i64::from(size)) => Value::Public,
            None => Value::Secret,
        }
    }

    /// Puts a register onto the stack.
    pub(super) fn store(&mut self, offset: i64, size: u8, from: Register) {
        let value = self.get(from);
        // An address in the frame may come back only as what it is.
        let is_public = !matches!(value, Value::Secret | Value::Stack(_) | Value::Frame);
        self.memory.write(offset, i64::from(size), !is_public);
        if size == 8 && matches!(from, Register::General(_)) {
            self.memory.exact.insert(offset, value);
        }
    }

    /// Fills a piece of the stack; without a length, all that lies above `offset` too.
    pub(super) fn fill(&mut self, offset: i64, length: Option<i64>, is_secret: bool) {
        match length {
            Some(length) => self.memory.write(offset, length, is_secret),
            None => {
                self.memory.exact.retain(|at, _| *at + 8 <= offset);
                if is_secret {
                    self.memory.public.retain(|slot, _| *slot + 8 <= offset);
                }
            }
        }
    }

    /// After a write to some place of the stack.
    pub(super) fn fill_somewhere(&mut self, is_secret: bool) {
        self.fill(i64::MIN, None, is_secret);
    }

    /// After a call that came back so: the callee keeps `x19` to `x29` and the stack pointer (AAPCS64 section 6.1).
    pub(super) fn after_call(&mut self, returned: Self) {
        for number in (0..=18).chain([30]) {
            self.general[number] = Value::Secret;
        }
        self.vector_is_secret = [true; 32];
        self.flags_are_secret = true;
        self.memory = returned.memory;
    }

    /// Keeps what both know; tells whether that is less than before.
    pub(super) fn meet(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (value, other) in self.general.iter_mut().zip(other.general) {
            *value = value.or(other);
        }
        self.stack_pointer = self.stack_pointer.or(other.stack_pointer);
        for (is_secret, other) in self.vector_is_secret.iter_mut().zip(other.vector_is_secret) {
            *is_secret |= other;
        }
        self.flags_are_secret |= other.flags_are_secret;
        self.memory.meet(&other.memory);
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: fn(u8) -> Register = Register::General;

    #[test]
    fn secret_on_the_stack_is_not_forgotten() {
        let mut state = State::entry();
        state.set(X(9), Value::Secret);
        state.set(X(10), Value::Constant(1));
        state.store(-16, 8, X(10));
        assert_eq!(state.load(-16, 8, X(0)), Value::Constant(1));
        assert_eq!(state.load(-16, 4, X(0)), Value::Public);
        state.store(-13, 1, X(9));
        assert_eq!(state.load(-16, 8, X(0)), Value::Secret);
        assert_eq!(state.load(-16, 2, X(0)), Value::Public);
        assert_eq!(state.load(-24, 8, X(0)), Value::Secret, "nobody wrote there");
        state.fill_somewhere(true);
        assert_eq!(state.load(-16, 2, X(0)), Value::Secret);
    }

    #[test]
    fn either_way_is_the_worse_one() {
        let (mut one, mut other) = (State::entry(), State::entry());
        one.set(X(1), Value::Constant(1));
        other.set(X(1), Value::Secret);
        one.store(-8, 8, X(0));
        assert!(one.meet(&other));
        assert!(!one.meet(&other));
        assert_eq!((one.get(X(0)), one.get(X(1))), (Value::Argument(0, 0), Value::Secret));
        assert_eq!(one.load(-8, 8, X(0)), Value::Secret);
    }

    #[test]
    fn address_in_the_frame_stays_one() {
        assert_eq!(Value::mixed([Value::Stack(8), Value::Public]), Value::Frame);
        assert_eq!(Value::mixed([Value::Stack(8)]), Value::Frame);
        assert_eq!(Value::mixed([Value::Frame, Value::Secret]), Value::Secret);
        assert_eq!(Value::mixed([Value::Constant(3)]), Value::Public);
    }
}
