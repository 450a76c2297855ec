//! The running image: an arm64 `Image` that may be loaded anywhere and relocates itself, with its sections' bounds.
//!
//! Layout (`image.ld`): text (read-execute), rodata (read-only, with relocated constants), data and bss (read-write), each
//! starting on a page. The header is the one that QEMU's `-kernel` and U-Boot's `booti` expect.

use core::ops::Range;

unsafe extern "C" {
    static _image_start: u8;
    static _text_end: u8;
    static _rela_start: Relocation;
    static _rela_end: Relocation;
    static _integrity_mac: [u8; 32];
    static _rodata_end: u8;
    static _image_end: u8;
}

/// Addresses of the image's parts as it runs.
#[derive(Clone, Debug)]
pub struct Sections {
    /// Header and code.
    pub text: Range<usize>,
    /// Constants.
    pub rodata: Range<usize>,
    /// Data, bss and stacks.
    pub data: Range<usize>,
}

/// The bounds of this image.
pub fn sections() -> Sections {
    let [start, text_end, rodata_end, end] =
        [&raw const _image_start, &raw const _text_end, &raw const _rodata_end, &raw const _image_end]
            .map(|symbol| symbol.expose_provenance());
    Sections { text: start..text_end, rodata: text_end..rodata_end, data: rodata_end..end }
}

/// An entry of the relocation table (`Elf64_Rela`).
#[repr(C)]
struct Relocation {
    offset: u64,
    _info: u64,
    _addend: u64,
}

/// What a check of the image's integrity covers, as it was linked: all code and constants, with zeros in place of the words that
/// relocation has filled since. The linker sorts its relocations.
pub fn linked() -> impl Iterator<Item = &'static [u8]> {
    let start = &raw const _image_start;
    let rodata = (&raw const _integrity_mac).addr() - start.addr();
    let mut words =
        relocations().iter().map(|relocation| relocation.offset as usize).filter(move |word| *word < rodata);
    let (mut done, mut zeros) = (0, false);
    core::iter::from_fn(move || {
        if core::mem::take(&mut zeros) {
            return Some(&[0; 8][..]);
        }
        let (end, next) = match words.next() {
            Some(word) => (word, word + 8),
            None if done < rodata => (rodata, rodata),
            None => return None,
        };
        zeros = next != end;
        // SAFETY: the linker script places text and constants up to the MAC; they are mapped readable for as long as the image
        // runs, and nothing writes to them after it has relocated itself.
        let piece = unsafe { core::slice::from_raw_parts(start.add(done), end - done) };
        done = next;
        Some(piece)
    })
}

/// The 32 bytes that the step after linking wrote for [`linked`].
pub fn integrity_mac() -> &'static [u8; 32] {
    // SAFETY: the linker script keeps them behind the constants; as in `linked`.
    unsafe { &_integrity_mac }
}

fn relocations() -> &'static [Relocation] {
    let (start, end) = (&raw const _rela_start, &raw const _rela_end);
    // SAFETY: the linker script places the table between the two symbols, 8-byte aligned, in whole entries.
    unsafe { core::slice::from_raw_parts(start, (end.addr() - start.addr()) / size_of::<Relocation>()) }
}

/// The arm64 `Image` header (Linux, Documentation/arch/arm64/booting.rst) that branches to `_start`.
#[macro_export]
macro_rules! image_header {
    () => {
        core::arch::global_asm!(
            ".section .head.text, \"ax\"",
            ".global _image_start",
            "_image_start:",
            "b _start",            // code0
            ".long 0",             // code1
            ".quad 0",             // text_offset
            ".quad _image_size",   // effective image size
            ".quad 0xa",           // flags: little-endian, 4 KiB pages, anywhere in memory
            ".quad 0, 0, 0",       // reserved
            ".ascii \"ARM\\x64\"", // magic
            ".long 0",
        );
    };
}

/// Assembly that an image runs first, with the MMU off: applies its own relative relocations, clears its bss, and drops
/// every cached line of the image, which were all written uncached (what is kept over a reset was cleaned to memory before it). Uses `x9..x14`; needs no stack.
///
/// Only `R_AARCH64_RELATIVE` (1027) exists in a self-contained position-independent image; the linker is told to make no other.
#[macro_export]
macro_rules! relocate_and_clear {
    () => {
        "
        adrp x9, _image_start
        adrp x10, _rela_start
        add  x10, x10, :lo12:_rela_start
        adrp x11, _rela_end
        add  x11, x11, :lo12:_rela_end
    1:  cmp  x10, x11
        b.hs 2f
        ldp  x12, x13, [x10]        // r_offset, r_info
        ldr  x14, [x10, #16]        // r_addend
        add  x10, x10, #24
        cmp  w13, #1027
        b.ne 1b
        add  x14, x14, x9
        str  x14, [x9, x12]
        b    1b
    2:  adrp x10, _bss_start
        adrp x11, _bss_end
    3:  cmp  x10, x11
        b.hs 4f
        stp  xzr, xzr, [x10], #16
        b    3b
    4:  mrs  x12, ctr_el0           // DminLine: log2 of the words of a line
        ubfx x12, x12, #16, #4
        mov  x13, #4
        lsl  x13, x13, x12
        mov  x10, x9
        adrp x11, _image_end
    5:  dc   ivac, x10
        add  x10, x10, x13
        cmp  x10, x11
        b.lo 5b
        dsb  sy
        "
    };
}
