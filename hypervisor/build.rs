//! Links the EL2 image and turns the board file into constants.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("hypervisor/ lies in the workspace");
    let board =
        env::var("HAECHI_BOARD").map_or_else(|_| root.join("board-configs/boards/qemu-virt.toml"), PathBuf::from);
    println!("cargo::rerun-if-env-changed=HAECHI_BOARD");
    println!("cargo::rerun-if-changed={}", board.display());
    println!("cargo::rerun-if-env-changed=HAECHI_TRANSPORT");
    let transport = env::var("HAECHI_TRANSPORT").ok();
    let board = match board_configs::load_with(&board, transport.as_deref()) {
        Ok(board) => board,
        Err(error) => {
            println!("cargo::error={error}");
            return;
        }
    };
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("board.rs"), board_configs::emit(&board)).expect("OUT_DIR is writable");

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let script = root.join("hypervisor/aarch64/image.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        println!("cargo::rustc-link-arg-bins=--defsym=HEAP_BYTES={}", board.el2_heap_bytes);
        for argument in
            ["-pie", "--no-dynamic-linker", "--hash-style=sysv", "-zmax-page-size=4096", "-znorelro", "-znotext"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
