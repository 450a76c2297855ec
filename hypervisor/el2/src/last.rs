//! The page that a stop of EL2 leaves to the next boot: part of the image's memory, but neither loaded nor cleared.

use core::arch::global_asm;

use trace::LAST_BYTES;

global_asm!(
    ".section .noinit, \"aw\", %nobits",
    ".balign 4096",
    "el2_last_stop:",
    ".skip {bytes}",
    bytes = const LAST_BYTES,
);

unsafe extern "C" {
    #[link_name = "el2_last_stop"]
    static mut LAST: [u8; LAST_BYTES];
}

/// What the page holds: what a boot before this one left, or anything.
pub fn read() -> [u8; LAST_BYTES] {
    // SAFETY: the page is mapped with the image's data, and any byte is a value. Whoever else writes it stops the machine; a copy
    // half new fails its check sum.
    unsafe { (&raw const LAST).read() }
}

/// Writes the page and cleans it to memory, where it outlives the caches.
pub fn write(contents: &[u8; LAST_BYTES]) {
    // SAFETY: as above; no reference to the page exists.
    let page = unsafe {
        let page = &raw mut LAST;
        page.write(*contents);
        page
    };
    aarch64::cache::clean_to_poc(page.addr()..page.addr() + LAST_BYTES);
}
