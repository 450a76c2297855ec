//! What brought each core to EL2: one ring a core, told on demand, and kept over a stop.

use core::fmt::{self, Write};

use aarch64::time;
use el2::boot::MAX_CORES;
use trace::{Reason, Ring, Telling};

/// The rings, by core.
static RINGS: [Ring; MAX_CORES] = [const { Ring::new() }; MAX_CORES];

/// Records of each core that are told: the console is slow, and interrupts wait for it.
const TOLD: usize = 16;

/// The ring of core `index`.
pub fn of(index: usize) -> &'static Ring {
    &RINGS[index % MAX_CORES]
}

/// Notes an exit in `ring`, that of this core.
#[inline(always)]
pub fn note(ring: &Ring, reason: Reason, detail: u64) {
    ring.record(time::counter_about_now(), reason, detail);
}

/// Tells of every core that has something to tell.
pub fn tell(out: &mut impl Write) -> fmt::Result {
    for (core, ring) in RINGS.iter().enumerate().filter(|(_, ring)| ring.last(1).count() != 0) {
        write!(out, "{}", Telling { ring, core, hertz: time::frequency_hz(), most: TOLD })?;
    }
    Ok(())
}
