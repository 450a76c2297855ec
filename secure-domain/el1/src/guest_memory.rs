//! The window onto the general domain's memory: copies in and out, never a reference.
//!
//! The general domain runs on other cores and may change a byte between any two of our loads. Rust has no type for such
//! memory, so every access here is an assembly load or store: the compiler can assume nothing about what it returns, and nobody
//! holds a `&` to it. Bulk copies use pairs of 64-bit registers; ring indexes use load-acquire and store-release, which order
//! them as virtio 1.2 section 2.7.13 asks (DDI 0487 B2.3.11).

use core::arch::asm;
use core::ops::Range;

use virtio::{GuestMemory, OutOfRange};

/// RAM banks that the window can hold.
pub const MAX_BANKS: usize = 8;

/// The general domain's RAM, mapped at its own addresses.
#[derive(Clone, Debug)]
pub struct GuestWindow {
    banks: [Range<u64>; MAX_BANKS],
}

impl GuestWindow {
    /// The window over `banks`; those past [`MAX_BANKS`] are left out and so refused.
    ///
    /// # Safety
    /// Each bank must be mapped read-write at its own address for as long as the window lives, and be none of this program's own
    /// memory.
    pub unsafe fn new(banks: impl IntoIterator<Item = Range<u64>>) -> GuestWindow {
        let mut window = GuestWindow { banks: [const { 0..0 }; MAX_BANKS] };
        for (slot, bank) in window.banks.iter_mut().zip(banks) {
            *slot = bank;
        }
        window
    }

    /// The mapped address of `len` bytes at `address`, if they lie in one bank.
    fn check(&self, address: u64, len: usize) -> Result<usize, OutOfRange> {
        let refused = OutOfRange { address, len };
        let end = address.checked_add(len as u64).ok_or(refused)?;
        let inside = self.banks.iter().any(|bank| bank.start <= address && end <= bank.end);
        if inside { Ok(address as usize) } else { Err(refused) }
    }
}

impl GuestMemory for GuestWindow {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.check(address, out.len())?;
        // SAFETY: the source lies in a mapped bank, which is not ours; `out` is exclusively ours.
        unsafe { copy(from, out.as_mut_ptr().expose_provenance(), out.len()) };
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), OutOfRange> {
        let to = self.check(address, data.len())?;
        // SAFETY: the target lies in a mapped bank, which is not ours.
        unsafe { copy(data.as_ptr().expose_provenance(), to, data.len()) };
        Ok(())
    }

    fn load_acquire(&self, address: u64) -> Result<u16, OutOfRange> {
        let from = self.check(address, 2)?;
        if !from.is_multiple_of(2) {
            return Err(OutOfRange { address, len: 2 });
        }
        let value: u32;
        // SAFETY: an aligned load from a mapped bank.
        unsafe { asm!("ldarh {:w}, [{}]", out(reg) value, in(reg) from, options(nostack, preserves_flags)) };
        Ok(value as u16)
    }

    fn store_release(&self, address: u64, value: u16) -> Result<(), OutOfRange> {
        let to = self.check(address, 2)?;
        if !to.is_multiple_of(2) {
            return Err(OutOfRange { address, len: 2 });
        }
        // SAFETY: an aligned store to a mapped bank.
        unsafe { asm!("stlrh {:w}, [{}]", in(reg) u32::from(value), in(reg) to, options(nostack, preserves_flags)) };
        Ok(())
    }

    fn fence(&self) {
        // SAFETY: a barrier only waits.
        unsafe { asm!("dmb ish", options(nostack, preserves_flags)) };
    }
}

/// Copies `len` bytes with plain loads and stores that the compiler cannot see through.
///
/// # Safety
/// `len` bytes must be readable at `from` and writable at `to`, the two must not overlap, and nothing that Rust holds a
/// reference to may lie at `to` except the caller's own exclusive buffer.
unsafe fn copy(from: usize, to: usize, len: usize) {
    // SAFETY: every access is within the two ranges; x registers and flags are declared; memory is clobbered by default.
    unsafe {
        asm!(
            "cmp {len}, #64",
            "b.lo 3f",
            "2:",
            "ldp q0, q1, [{from}], #32",
            "ldp q2, q3, [{from}], #32",
            "stp q0, q1, [{to}], #32",
            "stp q2, q3, [{to}], #32",
            "sub {len}, {len}, #64",
            "cmp {len}, #64",
            "b.hs 2b",
            "3:",
            "cmp {len}, #8",
            "b.lo 5f",
            "4:",
            "ldr {word}, [{from}], #8",
            "str {word}, [{to}], #8",
            "sub {len}, {len}, #8",
            "cmp {len}, #8",
            "b.hs 4b",
            "5:",
            "cbz {len}, 7f",
            "6:",
            "ldrb {word:w}, [{from}], #1",
            "strb {word:w}, [{to}], #1",
            "subs {len}, {len}, #1",
            "b.ne 6b",
            "7:",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            len = inout(reg) len => _,
            word = out(reg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            options(nostack),
        );
    }
}
