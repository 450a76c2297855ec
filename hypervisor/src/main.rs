//! Haechi at EL2. Boot reads as a table of contents; what runs afterwards is in `run.rs`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", allow(unsafe_code))] // The entry point, and what it knows of the loader's addresses.
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
    mod dma;
    mod exclusive;
    mod exits;
    mod hypercall;
    mod irq;
    mod log;
    mod mmio;
    mod panic;
    mod pci;
    mod pcie;
    mod reset;
    mod restart;
    mod run;
    mod secure;
    mod smp;
    mod status;
    mod system;

    use aarch64::heap::BootHeap;
    use aarch64::pl011::Pl011;
    use el2::memory::{self, BootMemory};

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
        memory::init_heap(&HEAP);
        if EARLY_CONSOLE != 0 {
            // SAFETY: `el2::entry!` has mapped it.
            boot::connect(unsafe { memory::early_device(EARLY_CONSOLE, Pl011::LEN) });
        }
        log!("Haechi {} on {}", env!("CARGO_PKG_VERSION"), board::BOARD.name);
        panic::tell_last_stop();

        // What there is.
        // SAFETY: the loader's address; `el2::entry!` has mapped it, and nothing else runs yet.
        let tree = boot::device_tree(loader_tree, unsafe { memory::device_tree(loader_tree) });
        let found = boot::find_machine(&tree, loader_tree);
        // SAFETY: the machine's tree tells which is which. The secure domain, which runs before the value is closed, has memory
        // of its own; what is read of the general domain's, which it may write, has been read by then.
        let mapped = unsafe { BootMemory::map(&boot::memory_ranges(&found), boot::device_ranges(&found)) };
        let mut memory = boot::mapped(mapped);
        boot::console(&found, &memory);
        boot::stop_devices(&found, &memory);
        let bus = boot::share_bus(&found, &memory);
        let modules = boot::modules(&found, &memory);

        // Who gets what.
        let plan = boot::plan(&found, &modules);
        boot::report(&found, &plan);
        let origin = boot::load(&found, bus.as_ref(), &modules, &plan, &mut memory);
        let domains = boot::domains(&found, bus.as_ref(), &plan);
        let dma = boot::confine_devices(&found, &tree, &memory, &domains);
        bus.iter().for_each(pcie::Bus::start_disks);
        let interrupts = boot::interrupts(&found, &memory);
        let system = system::publish(boot::system(&found, &plan, domains, dma, bus, interrupts, origin));

        // The secure domain first: it must hold the disk before anybody asks for it.
        let mut core = Core::new(system, found.boot_index());
        smp::init_core(&core);
        boot::claim_interrupts(&core, &found);
        dma::enable(&core);
        secure::start(&mut core);

        // Then the general domain, which from here on is all that EL2 serves.
        let told = boot::general_tree(&core, &found, &tree, &plan, &mut memory);
        let (pristine, domain) = boot::restart_memory(&plan);
        let life = boot::next_life(&found, &modules, &plan, told).map(|(place, origin)| {
            // SAFETY: the plan keeps the bundle for EL2, and the devices are the general domain's; `reset` opens the memory when every core of
            // the general domain but its own is off.
            let memory = unsafe { memory.set_aside(place, &pristine, &domain) };
            reset::Life { origin, memory: boot::mapped(memory) }
        });
        // SAFETY: the ownership table gives the copy to EL2; `restart` uses the value under the lock of the secure domain, when the
        // domain runs on no core and its disks are stopped.
        let kept = unsafe { memory.close(pristine, domain) };
        secure::allow_restart(&core, boot::mapped(kept));
        reset::allow(&core, life);
        HEAP.close();
        exclusive::start(&core);
        boot::load_vcpu(&mut core, plan.kernel.base(), plan.general_tree.base());
        run::run(&mut core)
    }
}
