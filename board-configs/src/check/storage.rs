//! What must hold of the disks and of the pool on them.

use std::ops::RangeInclusive;

use super::check_text;
use crate::{Board, Partition, Policy, Pool, Storage, StorageKind};

/// Disks of a pool that one board drives.
const MAX_DISKS: usize = 4;
const WINDOW_MS: RangeInclusive<u32> = 100..=3_600_000;
const CACHE_MIB: RangeInclusive<u32> = 4..=1024;
/// Memory of the secure domain that is not its heap's share for the cache, in MiB: image, buffers for the disks, requests.
const BESIDE_CACHE_MIB: u64 = 28;

pub(super) fn check(board: &Board) -> Result<(), String> {
    let disks = board.storage.len();
    if !(1..=MAX_DISKS).contains(&disks) {
        return Err(format!("[[storage]] stands there {disks} times, which is not between 1 and {MAX_DISKS}"));
    }
    for (index, storage) in board.storage.iter().enumerate() {
        check_place(index, storage)?;
        let place = |it: &Storage| (it.base, it.pci.clone());
        if let Some(earlier) = board.storage[..index].iter().position(|earlier| place(earlier) == place(storage)) {
            let (field, at) = match (&storage.pci, storage.base) {
                (Some(pci), _) => ("pci", format!("\"{pci}\"")),
                (None, base) => ("base", format!("{:#x}", base.unwrap_or(0))),
            };
            return Err(format!("storage[{earlier}].{field} and storage[{index}].{field} are both {at}"));
        }
        storage.partition.as_ref().map_or(Ok(()), |partition| check_partition(index, partition))?;
    }
    check_pool(&board.pool, board.secure_memory_bytes)
}

/// It is in the device tree, or a function of the PCI bus.
fn check_place(index: usize, storage: &Storage) -> Result<(), String> {
    if storage.pci.is_none() && storage.kind != StorageKind::default() {
        return Err(format!("storage[{index}].kind is about a PCI function, and there is no pci"));
    }
    match (&storage.compatible, storage.base, &storage.pci) {
        (Some(compatible), Some(base), None) => {
            check_text(&format!("storage[{index}].compatible"), compatible)?;
            match base.is_multiple_of(4) {
                true => Ok(()),
                false => Err(format!("storage[{index}].base is {base:#x}, which is no multiple of 4")),
            }
        }
        (None, None, Some(pci)) => match storage.function() {
            Some(_) => Ok(()),
            None => {
                Err(format!("storage[{index}].pci is \"{pci}\", which is no function of bus 0, such as \"00:03.0\""))
            }
        },
        _ => Err(format!("storage[{index}] needs either compatible and base, or pci")),
    }
}

fn check_partition(index: usize, partition: &Partition) -> Result<(), String> {
    if partition.kind.is_none() && partition.name.is_none() {
        return Err(format!("storage[{index}].partition has neither a type nor a name"));
    }
    if let Some(kind) = &partition.kind
        && partition.kind_bytes().is_none_or(|bytes| bytes == [0; 16])
    {
        return Err(format!("storage[{index}].partition.type is \"{kind}\", which is no GUID of a partition"));
    }
    let Some(name) = &partition.name else { return Ok(()) };
    check_text(&format!("storage[{index}].partition.name"), name)?;
    if name.len() > 36 {
        return Err(format!("storage[{index}].partition.name has {} letters, more than 36", name.len()));
    }
    Ok(())
}

fn check_pool(pool: &Pool, secure_memory_bytes: u64) -> Result<(), String> {
    let between = |range: &RangeInclusive<u32>| format!("which is not between {} and {}", range.start(), range.end());
    match pool.window_ms {
        Some(_) if pool.policy == Policy::Strict => {
            return Err("pool.window_ms has no meaning with policy \"strict\", which has no window".into());
        }
        Some(window_ms) if !WINDOW_MS.contains(&window_ms) => {
            return Err(format!("pool.window_ms is {window_ms}, {}", between(&WINDOW_MS)));
        }
        _ => {}
    }
    if !CACHE_MIB.contains(&pool.cache_mib) {
        return Err(format!("pool.cache_mib is {}, {}", pool.cache_mib, between(&CACHE_MIB)));
    }
    let (need, have) = (2 * u64::from(pool.cache_mib) + BESIDE_CACHE_MIB, secure_memory_bytes >> 20);
    if need > have {
        return Err(format!(
            "pool.cache_mib is {}, which needs {need} MiB of secure_memory_bytes, and that is {have} MiB",
            pool.cache_mib
        ));
    }
    Ok(())
}
