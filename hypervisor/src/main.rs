//! Haechi at EL2. Boot reads as a table of contents; what runs afterwards is in `run.rs`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", allow(unsafe_code))] // Entry points, and the addresses that boot hands to `el2`.
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

    mod boot;
    mod calls;
    mod cpu;
    mod devices;
    mod hypercall;
    mod irq;
    mod log;
    mod mmio;
    mod panic;
    mod run;
    mod secure;
    mod smp;
    mod status;
    mod system;

    use aarch64::heap::BootHeap;

    use crate::log::log;
    use crate::system::Core;

    /// Constants of the board file.
    pub(crate) mod board {
        include!(concat!(env!("OUT_DIR"), "/board.rs"));
    }

    /// Memory for the time of boot.
    #[global_allocator]
    pub(crate) static HEAP: BootHeap = BootHeap::new();

    const EARLY_CONSOLE: u64 = match board::BOARD.early_console {
        Some(machine::board::EarlyConsole::Pl011(base)) => base,
        None => 0,
    };

    el2::entry!(main = start, secondary = smp::secondary, early_console = EARLY_CONSOLE);

    /// The boot core, from the first line of Rust to the general domain's first instruction.
    extern "C" fn start(loader_tree: usize) -> ! {
        el2::memory::init_heap(&HEAP);
        boot::early_console();
        log!("Haechi {} on {}", env!("CARGO_PKG_VERSION"), board::BOARD.name);

        // What there is.
        let tree = boot::device_tree(loader_tree);
        let found = boot::find_machine(&tree, loader_tree);
        let mut own = boot::own_tables(&found);
        boot::console(&found);
        let modules = boot::modules(&found);

        // Who gets what.
        let plan = boot::plan(&found, &modules);
        boot::report(&found, &plan);
        boot::load(&found, &modules, &plan);
        let (domains, denied) = boot::domains(&found, &plan);
        let interrupts = boot::interrupts(&found);
        let system = system::publish(boot::system(&found, &plan, domains, interrupts));

        // The secure domain first: it must hold the disk before anybody asks for it.
        let mut core = Core::new(system, found.boot_index());
        smp::init_core(&core);
        boot::claim_interrupts(&core, &found);
        secure::start(&mut core);

        // Then the general domain, which from here on is all that EL2 serves.
        boot::general_tree(&core, &found, &tree, &plan, &denied);
        own.close_window();
        HEAP.close();
        boot::load_vcpu(&mut core, plan.kernel.base(), plan.general_tree.base());
        run::run(&mut core)
    }
}
