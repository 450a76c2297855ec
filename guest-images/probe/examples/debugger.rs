//! A program for Linux that debugs a child of its own as gdb would: it steps it, stops it by a hardware breakpoint and by a watchpoint, and moves it
//! from core to core meanwhile (Linux, ptrace(2); `NT_ARM_HW_BREAK` and `NT_ARM_HW_WATCH` of include/uapi/linux/elf.h).
//!
//! After each stop it runs the child's code itself, at the same address and on the same core, where no breakpoint of its own is set: one that
//! leaks stops it. It needs no library: system calls are numbered as in include/uapi/asm-generic/unistd.h. Its exit status is 0, or the
//! number of the promise below that was broken.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", allow(unsafe_code))] // System calls, and the code that is traced.

/// On the host there is nothing to debug.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a program for Linux in the guest: the system tests run it");
}

#[cfg(target_os = "none")]
mod debugger {
    use core::arch::{asm, global_asm};
    use core::panic::PanicInfo;
    use core::ptr::{from_mut, from_ref};

    /// What is promised, and tried so often.
    const ROUNDS: u64 = 60;
    const STEPS: u64 = 400;
    /// Steps from the system call that stopped the child to its loop, at most.
    const WAY: u64 = 64;

    const WRITE: u64 = 64;
    const EXIT: u64 = 93;
    const PTRACE: u64 = 117;
    const SET_AFFINITY: u64 = 122;
    const GET_AFFINITY: u64 = 123;
    const KILL: u64 = 129;
    const GETPID: u64 = 172;
    const CLONE: u64 = 220;
    const WAIT: u64 = 260;

    const TRACEME: u64 = 0;
    const CONTINUE: u64 = 7;
    const STEP: u64 = 9;
    const GET_SIGNAL: u64 = 0x4202;
    const GET_REGISTERS: u64 = 0x4204;
    const SET_REGISTERS: u64 = 0x4205;

    const GENERAL: u64 = 1;
    const BREAK: u64 = 0x402;
    const WATCH: u64 = 0x403;

    const SIGTRAP: u64 = 5;
    const SIGKILL: u64 = 9;
    const SIGCHLD: u64 = 17;
    const SIGSTOP: u64 = 19;
    /// `si_code` of a step, and of a breakpoint or watchpoint.
    const TRAP_TRACE: i32 = 2;
    const TRAP_HWBKPT: i32 = 4;

    /// Enabled, for EL0; all four bytes of an instruction, all eight of a doubleword that is stored to.
    const BREAK_CONTROL: u32 = 0xf << 5 | 2 << 1 | 1;
    const WATCH_CONTROL: u32 = 0xff << 5 | 2 << 3 | 2 << 1 | 1;

    global_asm!(
        ".section .text.traced, \"ax\"",
        ".global traced",
        "traced:", // x0 = a doubleword, x1 = rounds
        "nop",
        "str  x1, [x0]",
        "subs x1, x1, #1",
        "b.ne traced",
        "ret",
        ".global _start",
        "_start:",
        "bl   begin",
    );

    unsafe extern "C" {
        fn traced(place: *mut u64, rounds: u64);
    }

    /// What the child stores to, and the parent too.
    static mut GUARDED: u64 = 0;

    fn call(number: u64, arguments: [u64; 6]) -> i64 {
        let [x0, x1, x2, x3, x4, x5] = arguments;
        let result: i64;
        // SAFETY: a system call; those below are given addresses of whole values that live on.
        unsafe {
            asm!("svc #0", in("x8") number, inout("x0") x0 => result, in("x1") x1, in("x2") x2, in("x3") x3, in("x4") x4,
                in("x5") x5, options(nostack));
        }
        result
    }

    fn call3(number: u64, x0: u64, x1: u64, x2: u64) -> i64 {
        call(number, [x0, x1, x2, 0, 0, 0])
    }

    fn exit(status: u64) -> ! {
        loop {
            call3(EXIT, status, 0, 0);
        }
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        exit(255)
    }

    /// Ends with `promise` unless it is kept.
    fn keep(promise: u64, kept: bool) {
        if !kept {
            exit(promise);
        }
    }

    fn guarded() -> *mut u64 {
        &raw mut GUARDED
    }

    fn place_of_loop() -> u64 {
        (traced as *const ()).addr() as u64
    }

    /// The loop in this process.
    fn run_it(rounds: u64) {
        // SAFETY: it stores to the doubleword, which nobody else of this process uses.
        unsafe { traced(guarded(), rounds) };
    }

    /// `iovec`.
    #[repr(C)]
    struct Vector {
        base: u64,
        len: u64,
    }

    /// `user_pt_regs`.
    #[repr(C)]
    #[derive(Default)]
    struct Registers {
        x: [u64; 31],
        sp: u64,
        pc: u64,
        pstate: u64,
    }

    /// `user_hwdebug_state` with one register.
    #[repr(C)]
    #[derive(Default)]
    struct Debug {
        info: u32,
        pad: u32,
        address: u64,
        control: u32,
        pad_behind: u32,
    }

    /// The begin of `siginfo_t`.
    #[repr(C, align(8))]
    struct Signal {
        number: i32,
        error: i32,
        code: i32,
        pad: i32,
        address: u64,
        rest: [u64; 13],
    }

    /// A child under ptrace.
    struct Child(u64);

    impl Child {
        /// One that has stopped itself and is about to run its loop for ever.
        fn new() -> Child {
            let child = call(CLONE, [SIGCHLD, 0, 0, 0, 0, 0]);
            if child == 0 {
                call3(PTRACE, TRACEME, 0, 0);
                call3(KILL, call3(GETPID, 0, 0, 0) as u64, SIGSTOP, 0);
                loop {
                    run_it(u64::MAX);
                }
            }
            keep(1, child > 0);
            let child = Child(child as u64);
            keep(2, child.wait() == SIGSTOP);
            child
        }

        fn trace(&self, request: u64, address: u64, data: u64) -> i64 {
            call(PTRACE, [request, self.0, address, data, 0, 0])
        }

        /// The signal that has stopped it, or 0 if something else happened.
        fn wait(&self) -> u64 {
            let mut status = 0_u32;
            let waited = call(WAIT, [self.0, from_mut(&mut status).addr() as u64, 0, 0, 0, 0]);
            let stopped = waited == self.0 as i64 && status & 0xff == 0x7f;
            if stopped { u64::from(status >> 8 & 0xff) } else { 0 }
        }

        fn signal(&self) -> Signal {
            let mut signal = Signal { number: 0, error: 0, code: 0, pad: 0, address: 0, rest: [0; 13] };
            keep(3, self.trace(GET_SIGNAL, 0, from_mut(&mut signal).addr() as u64) == 0);
            signal
        }

        fn pc(&self) -> u64 {
            let mut registers = Registers::default();
            let vector = Vector { base: from_mut(&mut registers).addr() as u64, len: size_of::<Registers>() as u64 };
            keep(4, self.trace(GET_REGISTERS, GENERAL, from_ref(&vector).addr() as u64) == 0);
            registers.pc
        }

        /// Sets breakpoint or watchpoint 0.
        fn guard(&self, kind: u64, address: u64, control: u32) {
            let debug = Debug { address, control, ..Debug::default() };
            let vector = Vector { base: from_ref(&debug).addr() as u64, len: size_of::<Debug>() as u64 };
            keep(5, self.trace(SET_REGISTERS, kind, from_ref(&vector).addr() as u64) == 0);
        }

        /// Goes on by `request` to the next stop, which must be a trap of this code.
        fn go(&self, request: u64, code: i32) -> Signal {
            keep(6, self.trace(request, 0, 0) == 0);
            keep(7, self.wait() == SIGTRAP);
            let signal = self.signal();
            keep(8, signal.number == SIGTRAP as i32 && signal.code == code);
            signal
        }

        /// Moves it and this process to the next core of `cores`.
        fn move_on(&self, cores: u64, round: u64) {
            let place = round % u64::from(cores.count_ones());
            let core = (0..64).filter(|core| cores >> core & 1 != 0).nth(place as usize).unwrap_or(0);
            let mask = 1_u64 << core;
            for process in [0, self.0] {
                keep(9, call3(SET_AFFINITY, process, 8, from_ref(&mask).addr() as u64) == 0);
            }
        }
    }

    fn cores() -> u64 {
        let mut mask = 0_u64;
        keep(10, call3(GET_AFFINITY, 0, 8, from_mut(&mut mask).addr() as u64) > 0);
        mask
    }

    /// Each step is one instruction of the loop, and the next one.
    fn steps(child: &Child, cores: u64) {
        let start = place_of_loop();
        let arrived = (0..WAY).any(|_| {
            child.go(STEP, TRAP_TRACE);
            child.pc() == start
        });
        keep(11, arrived);
        for step in 1..STEPS {
            if step % 16 == 0 {
                child.move_on(cores, step / 16);
            }
            child.go(STEP, TRAP_TRACE);
            keep(12, child.pc() == start + step % 4 * 4);
        }
    }

    fn breakpoints(child: &Child, cores: u64) {
        let store = place_of_loop() + 4;
        for round in 0..ROUNDS {
            child.move_on(cores, round);
            child.guard(BREAK, store, BREAK_CONTROL);
            child.go(CONTINUE, TRAP_HWBKPT);
            keep(13, child.pc() == store);
            run_it(3);
            // Off, as a debugger does to come past it.
            child.guard(BREAK, store, 0);
            child.go(STEP, TRAP_TRACE);
            keep(14, child.pc() == store + 4);
        }
    }

    fn watchpoints(child: &Child, cores: u64) {
        let store = place_of_loop() + 4;
        let watched = guarded().addr() as u64;
        for round in 0..ROUNDS {
            child.move_on(cores, round);
            child.guard(WATCH, watched, WATCH_CONTROL);
            let signal = child.go(CONTINUE, TRAP_HWBKPT);
            keep(15, signal.address == watched && child.pc() == store);
            run_it(3);
            child.guard(WATCH, watched, 0);
            child.go(STEP, TRAP_TRACE);
            keep(16, child.pc() == store + 4);
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn begin() -> ! {
        let cores = cores();
        let child = Child::new();
        steps(&child, cores);
        breakpoints(&child, cores);
        watchpoints(&child, cores);
        call3(KILL, child.0, SIGKILL, 0);
        let said = "steps, breakpoints and watchpoints are kept\n";
        call3(WRITE, 1, said.as_ptr().addr() as u64, said.len() as u64);
        exit(0)
    }
}
