//! Links the image of the secure domain.

use std::env;
use std::path::Path;

fn main() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("secure-domain/ lies in the workspace");
        let script = root.join("hypervisor/aarch64/image.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        // Its heap is the memory behind the image, which EL2 tells at run time.
        println!("cargo::rustc-link-arg-bins=--defsym=HEAP_BYTES=0");
        for argument in
            ["-pie", "--no-dynamic-linker", "--hash-style=sysv", "-zmax-page-size=4096", "-znorelro", "-znotext"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
