//! Links the example that runs on a bare QEMU `virt` machine with its own script.

fn main() {
    println!("cargo::rerun-if-changed=examples/armv8/link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
        println!("cargo::rustc-link-arg-examples=-T{here}/examples/armv8/link.ld");
    }
}
