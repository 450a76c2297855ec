//! Calls of the general domain (placeholder until psci lands).
use crate::system::{Core, System};
pub fn handle(core: &mut Core) {
    match core.frame.x[0] as u32 {
        0x8400_0000 => core.frame.x[0] = 0x10001,
        0x8400_0008 | 0x8400_0009 => {
            crate::log::log!("off: quiesced {}", crate::secure::quiesce(core));
            crate::panic::off()
        }
        _ => core.frame.x[0] = u64::MAX,
    }
}
pub fn started(_: &System, _: usize) -> Option<(u64, u64)> { None }
