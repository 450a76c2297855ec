//! The firmware's `memcpy`, here where the MMU is off and an access that is not aligned would fault: every alignment of both ends against many
//! lengths.
use core::hint::black_box;

use crate::probe::Probe;

/// Alignments of either end.
const OFFSETS: usize = 16;
const LONGEST: usize = 200;
/// What must stay around the target.
const GUARD: u8 = 0xee;

/// All cases.
pub(crate) fn run(probe: &mut Probe<'_>) {
    let lengths = || (0..=40).chain(60..=70).chain(124..=136).chain([LONGEST]);
    let from: [u8; LONGEST + OFFSETS] = core::array::from_fn(|at| at as u8);
    let mut wrong = 0;
    for (to, source) in (0..OFFSETS).flat_map(|to| (0..OFFSETS).map(move |source| (to, source))) {
        wrong += lengths().filter(|len| !copies(&from, to, source, *len)).count() as u64;
    }
    probe.report.equal("memcpy_copies_all_and_nothing_else", 0, wrong);
}

/// Whether `len` bytes from `source` on come to lie from `to` on, and nothing beside them changes.
fn copies(from: &[u8; LONGEST + OFFSETS], to: usize, source: usize, len: usize) -> bool {
    let mut target = [GUARD; LONGEST + 2 * OFFSETS];
    let end = to + len;
    // SAFETY: both ranges lie in their arrays, which are apart.
    let result = unsafe { aarch64::copy::memcpy(target.as_mut_ptr().add(to), from.as_ptr().add(source), len) };
    let returned = result.cast_const() == target.as_ptr().wrapping_add(to);
    let target = black_box(target);
    let copied = target[to..end].iter().zip(&from[source..]).all(|(one, other)| one == other);
    let kept = target[..to].iter().chain(&target[end..]).all(|byte| *byte == GUARD);
    returned && copied && kept
}
