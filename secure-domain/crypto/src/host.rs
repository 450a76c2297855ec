//! The module for programs on a host: the disk tool, the simulator, tests. They are outside of the boundary and have no linked image to
//! check, so the integrity test covers nothing; all known answers are checked as on a device.
extern crate std;

use std::boxed::Box;
use std::sync::LazyLock;

use crate::module::{MacKey, Module, Profile};
use crate::selftest::{Image, integrity_mac};

/// The module of this process, in the open profile, tested at the first call.
pub fn module() -> &'static Module {
    module_in(Profile::Open)
}

/// The module of this process in `profile`.
pub fn module_in(profile: Profile) -> &'static Module {
    static OPEN: LazyLock<&'static Module> = LazyLock::new(|| fresh(Profile::Open));
    static KCMVP: LazyLock<&'static Module> = LazyLock::new(|| fresh(Profile::Kcmvp));
    match profile {
        Profile::Open => &OPEN,
        Profile::Kcmvp => &KCMVP,
    }
}

/// An HMAC key of [`module`].
///
/// # Panics
/// Never: nobody stops that module.
pub fn mac_key(key: &[u8]) -> MacKey {
    module().mac_key(key).expect("the module of the process serves")
}

/// Another module, tested, for a test that puts it into an error state. Its memory is never given back.
///
/// # Panics
/// If a self-test fails, as on a device nothing would be served.
pub fn fresh(profile: Profile) -> &'static Module {
    let module = Box::leak(Box::new(Module::power_on(profile)));
    module.self_test(&Image { pieces: &[], mac: &integrity_mac(&[]) }).expect("this build's algorithms are sound");
    module
}
