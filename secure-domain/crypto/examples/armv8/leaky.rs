//! Functions that leak their secret, each in one way: the checker of emitted code has to refuse every one of them, or it is blind.
#![allow(unsafe_code)]
use core::arch::aarch64::{vaddq_u8, vgetq_lane_u8, vld1q_u8};
use core::hint::black_box;

/// A table lookup by a byte of the key.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_lookup(key: &[u8; 16], table: &[u8; 256]) -> u8 {
    table[usize::from(key[3])]
}

/// The same by way of a vector register.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_vector_lookup(key: &[u8; 16], table: &[u8; 256]) -> u8 {
    // SAFETY: the reference is to 16 bytes, and the bare target always has these instructions.
    let lane = unsafe {
        let x = vld1q_u8(key.as_ptr());
        vgetq_lane_u8::<5>(vaddq_u8(x, x))
    };
    table[usize::from(lane)]
}

/// The same through the stack, where the byte was put by an index.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_stack_lookup(key: &[u8; 16], table: &[u8; 256], place: usize) -> u8 {
    let mut copy = [0; 16];
    copy[place & 15] = key[0];
    table[usize::from(black_box(copy)[7])]
}

/// A write by a byte of the key.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_store(key: &[u8; 16], table: &mut [u8; 256]) {
    table[usize::from(key[3])] = 1;
}

/// A branch on a byte of the key.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_branch(key: &[u8; 16]) {
    if key[3] > 7 {
        black_box(key);
    }
}

/// A comparison that ends at the first difference, in a function of its own.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_comparison(key: &[u8], tag: &[u8]) -> bool {
    key == tag
}

/// A division, whose time depends on the numbers.
#[unsafe(no_mangle)]
#[inline(never)]
fn leaky_division(key: &[u64; 2]) -> u64 {
    key[0] / (key[1] | 1)
}

/// Keeps them in the program.
pub(crate) fn keep() {
    let table = leaky_lookup as fn(_, _) -> _;
    black_box((table, leaky_vector_lookup as fn(_, _) -> _, leaky_stack_lookup as fn(_, _, _) -> _));
    black_box((leaky_store as fn(_, _), leaky_branch as fn(_)));
    black_box((leaky_comparison as fn(&'static _, &'static _) -> _, leaky_division as fn(_) -> _));
}
