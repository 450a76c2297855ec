//! What must hold of the volumes that a board wants.

use std::ops::RangeInclusive;

use super::check_text;
use crate::{Board, Layout, Profile, Volume};

/// Names of the suites as a board file has them: the crypto engine's, in small letters.
pub const SUITES: [&str; 12] = [
    "aria-128-gcm",
    "aria-192-gcm",
    "aria-256-gcm",
    "seed-128-gcm",
    "aes-128-gcm",
    "aes-256-gcm",
    "aria-128-ccm",
    "aria-192-ccm",
    "aria-256-ccm",
    "seed-128-ccm",
    "aes-128-ccm",
    "aes-256-ccm",
];

/// Bytes of a volume's name at most.
const MAX_NAME_BYTES: usize = 63;
/// Up to 128 TiB, the largest volume of the format.
const SIZE_MIB: RangeInclusive<u64> = 1..=128 << 20;

pub(super) fn check(board: &Board) -> Result<(), String> {
    let (wanted, devices) = (board.volumes.len(), board.channel.devices);
    if wanted as u64 > u64::from(devices) {
        return Err(format!("[[volume]] stands there {wanted} times, and channel.devices is {devices}"));
    }
    for (index, volume) in board.volumes.iter().enumerate() {
        check_volume(index, volume, board.storage.len())?;
        check_listed(index, volume, board.crypto.profile)?;
        if let Some(earlier) = board.volumes[..index].iter().position(|earlier| earlier.name == volume.name) {
            return Err(format!("volume[{earlier}].name and volume[{index}].name are both \"{}\"", volume.name));
        }
    }
    Ok(())
}

/// A suite that the crypto module would refuse is refused here: at the start it would leave a device without its volume.
fn check_listed(index: usize, volume: &Volume, profile: Profile) -> Result<(), String> {
    if !profile.lists(&volume.suite) {
        let (suite, profile) = (&volume.suite, profile.name());
        return Err(format!("volume[{index}].suite is \"{suite}\", which crypto.profile \"{profile}\" does not list"));
    }
    Ok(())
}

fn check_volume(index: usize, volume: &Volume, disks: usize) -> Result<(), String> {
    check_text(&format!("volume[{index}].name"), &volume.name)?;
    if volume.name.len() > MAX_NAME_BYTES {
        return Err(format!("volume[{index}].name has {} bytes, more than {MAX_NAME_BYTES}", volume.name.len()));
    }
    if !SIZE_MIB.contains(&volume.size_mib) {
        let (least, most) = (SIZE_MIB.start(), SIZE_MIB.end());
        return Err(format!(
            "volume[{index}].size_mib is {}, which is not between {least} and {most}",
            volume.size_mib
        ));
    }
    if !SUITES.contains(&volume.suite.as_str()) {
        let (suite, all) = (&volume.suite, SUITES.join(", "));
        return Err(format!("volume[{index}].suite is \"{suite}\"; there are: {all}"));
    }
    if volume.key_generation == 0 {
        return Err(format!("volume[{index}].key_generation is 0, and the first is 1"));
    }
    if volume.layout != Layout::Linear && disks < 2 {
        return Err(format!("volume[{index}].layout needs two disks or more, and [[storage]] names {disks}"));
    }
    Ok(())
}
