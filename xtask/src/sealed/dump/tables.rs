//! What the leaves of a member's tree say: catalog, extent table, entry table.
use std::collections::BTreeMap;

use volume::BLOCK_BYTES;
use volume::record::EXTENT_BLOCKS;
use volume::record::catalog::{Epoch, RECORD_BYTES, VolumeRecord};
use volume::record::entry::Entry;
use volume::record::extent::{self, Assignment};
use volume::record::geometry::Geometry;
use volume::record::node::FAN_OUT;

use super::super::suite_name;
use super::{Contents, Report};

/// What was found in the leaves so far.
pub(super) struct Tables {
    geometry: Geometry,
    /// Records of the catalog, by their place; `None`: an impossible one.
    volumes: BTreeMap<u64, Option<VolumeRecord>>,
    /// Assigned extents.
    assigned: BTreeMap<u64, Assignment>,
    impossible_extents: u64,
    entries: Entries,
}

#[derive(Default)]
struct Entries {
    /// By epoch.
    sealed: BTreeMap<u16, u64>,
    zeros: u64,
    /// Of an earlier owner of their extent.
    stale: u64,
    impossible: u64,
}

impl Tables {
    pub(super) fn new(geometry: Geometry) -> Tables {
        let (volumes, assigned) = (BTreeMap::new(), BTreeMap::new());
        Tables { geometry, volumes, assigned, impossible_extents: 0, entries: Entries::default() }
    }

    /// Takes leaf `index`. The leaves come in order, so extents are known before their entries.
    pub(super) fn leaf(&mut self, index: u64, block: &[u8; BLOCK_BYTES]) {
        let (catalog, extents) = (self.geometry.catalog_leaves, self.geometry.extent_leaves);
        if index < catalog {
            self.catalog_leaf(index, block);
        } else if index < catalog + extents {
            self.extent_leaf((index - catalog) * FAN_OUT, block);
        } else {
            self.entry_leaf(self.geometry.leaf_block(index), block);
        }
    }

    fn catalog_leaf(&mut self, leaf: u64, block: &[u8; BLOCK_BYTES]) {
        for (number, record) in block.chunks_exact(RECORD_BYTES).enumerate() {
            match VolumeRecord::parse(record) {
                Ok(None) => continue,
                Ok(found) => self.volumes.insert(leaf * 16 + number as u64, found),
                Err(_) => self.volumes.insert(leaf * 16 + number as u64, None),
            };
        }
    }

    fn extent_leaf(&mut self, first: u64, block: &[u8; BLOCK_BYTES]) {
        for (number, record) in block.as_chunks().0.iter().enumerate() {
            match extent::parse(record) {
                Ok(None) => {}
                Ok(Some(assignment)) => drop(self.assigned.insert(first + number as u64, assignment)),
                Err(_) => self.impossible_extents += 1,
            }
        }
    }

    fn entry_leaf(&mut self, first: u64, block: &[u8; BLOCK_BYTES]) {
        let since = self.assigned.get(&(first / EXTENT_BLOCKS)).map(|extent| extent.version);
        for record in block.as_chunks().0 {
            let entries = &mut self.entries;
            match Entry::parse(record) {
                None => entries.impossible += 1,
                Some(Entry::Blank) => {}
                Some(entry) if since.is_none_or(|since| entry.version() < since) => entries.stale += 1,
                Some(Entry::Sealed { epoch, .. }) => *entries.sealed.entry(epoch).or_default() += 1,
                Some(Entry::Zero { .. }) => entries.zeros += 1,
            }
        }
    }

    pub(super) fn report(&self, pool: &Contents<'_>, report: &mut Report) {
        report.say(1, "catalog:");
        for (place, volume) in &self.volumes {
            match volume {
                Some(volume) => show_volume(volume, pool, report),
                None => report.say(2, format!("place {place}: an impossible record")),
            }
        }
        self.report_extents(report);
        let Entries { sealed, zeros, stale, impossible } = &self.entries;
        let sealed: Vec<_> = sealed.iter().map(|(epoch, count)| format!("{count} sealed in epoch {epoch}")).collect();
        let sealed = if sealed.is_empty() { "none sealed".to_owned() } else { sealed.join(", ") };
        report.say(1, format!("entries: {sealed}, {zeros} zeros, {stale} of earlier owners, {impossible} impossible"));
    }

    fn report_extents(&self, report: &mut Report) {
        let mut owners: BTreeMap<u32, u64> = BTreeMap::new();
        self.assigned.values().for_each(|extent| *owners.entry(extent.volume).or_default() += 1);
        let owners = owners.iter().map(|(volume, count)| format!("{count} of volume {volume}, "));
        let owners: String = owners.collect();
        let (all, taken) = (self.geometry.extents, self.assigned.len());
        report.say(1, format!("extents: {owners}{taken} of {all} taken, {} impossible", self.impossible_extents));
    }
}

fn show_volume(volume: &VolumeRecord, pool: &Contents<'_>, report: &mut Report) {
    let VolumeRecord { number, layout, name, blocks, epoch, old, cursor } = volume;
    report.say(2, format!("volume {number} {:?}: {layout:?}, {blocks} blocks", name.as_str()));
    report.say(3, format!("epoch {}", shown_epoch(*number, epoch, pool)));
    if let Some(old) = old {
        report.say(
            3,
            format!("resealing, from block {cursor} on, what is left of epoch {}", shown_epoch(*number, old, pool)),
        );
    }
}

fn shown_epoch(volume: u32, epoch: &Epoch, pool: &Contents<'_>) -> String {
    let Epoch { number, suite, generation, version, .. } = epoch;
    let suite = suite_name(*suite);
    format!(
        "{number}, {suite}, key wrapped under erase secret {generation} with version {version}: {}",
        key_state(volume, epoch, pool)
    )
}

/// Whether the key of an epoch can be had.
fn key_state(volume: u32, epoch: &Epoch, pool: &Contents<'_>) -> &'static str {
    let (Some(keys), Some(anchored)) = (pool.keys(), &pool.anchored) else { return "needs key and anchor" };
    let secrets = [Some(&anchored.secret), anchored.next_secret.as_ref()];
    let held = secrets.into_iter().flatten().find(|secret| secret.generation == epoch.generation);
    match held.map(|secret| keys.kek(&secret.bytes).and_then(|kek| epoch.unwrap(volume, &kek)).is_ok()) {
        None => "that secret is gone",
        Some(true) => "unwraps",
        Some(false) => "does not unwrap",
    }
}
