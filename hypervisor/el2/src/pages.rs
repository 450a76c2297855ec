//! Pages of EL2's own memory that a domain sees too: the register pages of virtual devices, and the shared page.
//!
//! A register page is plain memory that the general domain reads as a device: its stage 2 makes it Device memory there, and EL2
//! maps it as Device memory here, so both sides use the same attributes (DDI 0487 B2.16.1, mismatched attributes) and a
//! load of the domain sees EL2's last store with no cache between them.

use core::ops::Range;
use core::sync::atomic::AtomicU32;

use aarch64::mmio::Mmio;
use abi::{DEVICES, SharedPage};

const PAGE_BYTES: usize = 4096;

#[repr(C, align(4096))]
struct RegisterPages([[AtomicU32; PAGE_BYTES / 4]; DEVICES]);

static REGISTER_PAGES: RegisterPages =
    RegisterPages([const { [const { AtomicU32::new(0) }; PAGE_BYTES / 4] }; DEVICES]);

static SHARED: SharedPage = SharedPage::new();

/// The page that EL2 and the secure domain share.
pub fn shared() -> &'static SharedPage {
    &SHARED
}

/// Where the shared page lies.
pub fn shared_address() -> usize {
    (&raw const SHARED).addr()
}

/// Where the register pages lie, one behind the other; to be mapped as Device memory before [`RegisterPage::of`] is used.
pub fn register_pages() -> Range<usize> {
    let start = (&raw const REGISTER_PAGES).addr();
    start..start + DEVICES * PAGE_BYTES
}

/// One device's register page.
#[derive(Debug)]
pub struct RegisterPage(Mmio);

impl RegisterPage {
    /// The page of device `index`.
    pub fn of(index: usize) -> RegisterPage {
        assert!(index < DEVICES);
        // SAFETY: the static lives for ever, is written here alone, and is mapped as Device memory by the boot code.
        RegisterPage(unsafe { Mmio::new(register_pages().start + index * PAGE_BYTES, PAGE_BYTES) })
    }
}

impl channel::RegisterPage for RegisterPage {
    fn set(&mut self, offset: usize, value: u32) {
        self.0.write32(offset, value);
    }
}
