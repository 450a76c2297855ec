//! What is on the bus.

use alloc::vec::Vec;

use crate::{Configuration, Endpoint, Function, Refusal, offset};

/// Vendor of a function that is not there.
const NOBODY: u32 = 0xffff;
/// Header type (PCI Local Bus 3.0, section 6.2.1): its kind, and whether the device has several functions.
const KIND: u32 = 0x7f_0000;
const SEVERAL: u32 = 0x80_0000;

/// Every function of the bus, each silent from then on. Those of `apart` must be there, each alone in its device.
///
/// # Errors
/// See [`Refusal`].
#[inline(never)]
pub fn survey(space: &dyn Configuration, apart: &[Function]) -> Result<Vec<Endpoint>, Refusal> {
    let mut found = Vec::new();
    for device in 0..32 {
        for function in functions(space, device) {
            if space.read32(function, offset::HEADER) & KIND != 0 {
                return Err(Refusal::Bridge(function));
            }
            found.push(Endpoint::read(space, function)?);
        }
    }
    for function in apart {
        let others = found.iter().filter(|other| other.function.device() == function.device()).count();
        if !found.iter().any(|endpoint| endpoint.function == *function) {
            return Err(Refusal::Missing(*function));
        }
        if others != 1 {
            return Err(Refusal::NotAlone(*function));
        }
    }
    Ok(found)
}

/// The functions of a device: without its first one there is none, and only that one says whether there are others.
fn functions(space: &dyn Configuration, device: u8) -> impl Iterator<Item = Function> {
    let all = (0..8).filter_map(move |number| Function::new(device, number));
    let is_there = |function: &Function| space.read32(*function, offset::ID) & NOBODY != NOBODY;
    let several =
        all.clone().next().is_some_and(|first| is_there(&first) && space.read32(first, offset::HEADER) & SEVERAL != 0);
    all.take(if several { 8 } else { 1 }).filter(is_there)
}
