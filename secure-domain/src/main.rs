//! The secure domain: owns the disk, seals every block of it, and serves it to the general domain as a virtual one.
//!
//! `start` brings it up, `event_loop` is what it does ever after.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", allow(unsafe_code))] // The entry point, and the addresses that `start` hands to `el1`.
#![allow(unreachable_pub)] // A binary exports nothing: `pub` is what a module offers its siblings.

/// On the host there is nothing to run, but `cargo clippy --workspace` and editors want a program.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is firmware: build and run it with ./x run");
    std::process::exit(2);
}

/// Items of the firmware.
macro_rules! firmware {
    ($($item:item)*) => { $(#[cfg(target_os = "none")] $item)* };
}

firmware! {
    extern crate alloc;

    mod event_loop;
    mod log;
    mod start;

    use aarch64::heap::BootHeap;

    use crate::log::log;

    /// Memory for the time of start-up.
    #[global_allocator]
    static HEAP: BootHeap = BootHeap::new();

    el1::entry!(main = main, exception = exception);

    extern "C" fn main(device_tree: usize) -> ! {
        let tree = start::device_tree(device_tree);
        let memory = start::memory(&tree, &HEAP);
        let module = start::crypto_module(&tree);
        let root = start::root_key(&tree, module);
        let anchor = start::anchor(&tree, &root);
        let disk = start::disk(&tree, memory.dma);
        let mut server = start::pool(disk, anchor, &root, &tree, memory.shared);
        start::offer(&mut server);
        // The heap stays open for what commands and failures need for a moment; serving takes nothing of it, which a test of `volume` holds.
        event_loop::run(server, memory.shared, &memory.general)
    }

    /// Any exception is a defect of ours: nothing here may fault.
    extern "C" fn exception(esr: u64, elr: u64, far: u64) -> ! {
        let image = aarch64::image::sections().text.start as u64;
        log!("exception at image+{:#x}: ESR {esr:#x}, FAR {far:#x}", elr.wrapping_sub(image));
        el1::hypercall::fail(abi::hypercall::Failure::Panic)
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        log!("{info}");
        el1::hypercall::fail(abi::hypercall::Failure::Panic)
    }
}
