//! Links the probe as an arm64 Image.

use std::env;
use std::path::Path;

fn main() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hypervisor/aarch64/image.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        println!("cargo::rustc-link-arg-bins=--defsym=HEAP_BYTES=0");
        for argument in
            ["-pie", "--no-dynamic-linker", "-zmax-page-size=4096", "-znorelro", "-znotext", "--hash-style=sysv"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
