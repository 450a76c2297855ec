//! Faults and power cuts of a world.

use volume::record::catalog::{RECORD_BYTES, VolumeRecord};

use super::{Mounted, PASTS, Verdict, World};
use crate::{
    disk::ChooseOn,
    fault::Fault,
    rng::{Rng, mix},
    tamper::Past,
};

impl World {
    pub(super) fn begin_faults(&mut self, permille: u64) {
        for (member, disk) in self.disks.iter().enumerate() {
            if self.config.faulty_member.is_none_or(|faulty| faulty == member) {
                self.config.faults.iter().for_each(|fault| disk.faults().set(*fault, rate(*fault, permille)));
            }
        }
    }

    pub(super) fn end_faults(&mut self) {
        self.disks.iter().for_each(|disk| {
            disk.faults().end();
            disk.unspoil();
        });
    }

    pub(super) fn has_faults(&self) -> bool {
        self.disks.iter().any(|disk| disk.faults().may_strike())
    }

    pub(super) fn recover_from_planned_cut(&mut self) -> Verdict {
        let mut rng = Rng::new(self.config.seed ^ self.power.boundaries());
        let again: Vec<u64> = (0..rng.below(3)).map(|_| rng.below(60)).collect();
        self.cut(rng.next(), &again)
    }

    /// The power goes; then it comes back, as often as it takes.
    pub(super) fn cut(&mut self, seed: u64, again: &[u64]) -> Verdict {
        if self.engine.is_none() {
            return Ok(());
        }
        self.tally.cuts += 1;
        self.lose_power(seed);
        self.keep_past();
        for (round, ahead) in again.iter().enumerate() {
            self.power.cut_in(*ahead);
            match self.mount()? {
                Mounted::Cut => {
                    self.tally.recovery_cuts += 1;
                    self.lose_power(seed.wrapping_add(round as u64 + 1));
                }
                Mounted::Served { .. } => return Ok(()),
                Mounted::Refused(_) => break,
            }
        }
        self.mount_somehow()
    }

    /// Mounts; when faulty disks prevent it, on healed ones. A sound pool must be served then.
    pub(super) fn mount_somehow(&mut self) -> Verdict {
        self.power.restore();
        if let Mounted::Served { .. } = self.mount()? {
            return Ok(());
        }
        let excused = self.has_faults()
            || self.store.refuses()
            || self.honest_faults() > self.faults_at_mount
            || self.is_bereft() && !self.is_safe();
        self.end_faults();
        self.store.refuse(false);
        self.power.restore();
        if !self.bereft {
            self.disks.iter().for_each(crate::disk::Disk::come_back);
        }
        match self.mount()? {
            Mounted::Refused(_) if self.bereft => self.mount_without(),
            Mounted::Served { .. } if excused || self.is_tainted() => Ok(()),
            Mounted::Refused(_) if self.is_tainted() => Ok(()),
            Mounted::Served { .. } => Err("a mount was refused and the next one served".into()),
            Mounted::Refused(error) => Err(format!("false refusal: a sound pool is not mounted: {error}")),
            Mounted::Cut => Err("a mount does not come to an end".into()),
        }
    }

    /// The power goes, and a seed decides what the devices keep.
    pub(super) fn lose_power(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        let manner = rng.below(6);
        self.lose_power_keeping(
            &mut |(member, block), _, candidates| match manner {
                0 => 0,
                1 => candidates - 1,
                // Whole blocks even where sectors could tear.
                2 | 3 => (mix(seed ^ block ^ (member as u64) << 48) % candidates as u64) as usize,
                _ => rng.index(candidates),
            },
            Rng::new(seed ^ 0x55).chance(500),
        );
    }

    /// The power goes: `choose` decides what the disks keep, `happened` whether the anchor's advance did.
    pub fn lose_power_keeping(&mut self, choose: &mut ChooseOn<'_>, happened: bool) {
        self.power.go();
        self.crashed = None;
        let served = self.end_life();
        self.disks.iter().for_each(|disk| disk.cut(choose));
        self.store.cut(happened);
        if served {
            self.take_advances();
        } else {
            self.take_mount_advances();
        }
        self.power.restore();
        self.audit_wrapped_keys();
    }

    /// Looks for wrapped keys in the catalogs as they lie on the disks.
    pub(super) fn audit_wrapped_keys(&mut self) {
        // What somebody changed says nothing about what the engine wrapped.
        if self.is_tainted() {
            return;
        }
        for (disk, geometry) in self.disks.iter().zip(self.geometries()) {
            let start = geometry.tree_block(0, 0, 0) as usize;
            let second = geometry.tree_block(0, 0, 1) as usize;
            let leaves = geometry.catalog_leaves as usize;
            let media = disk.media();
            let catalog =
                media.durable()[start..start + leaves].iter().chain(&media.durable()[second..second + leaves]);
            for record in catalog.flatten().flat_map(|content| content.bytes.chunks_exact(RECORD_BYTES)) {
                let Ok(Some(volume)) = VolumeRecord::parse(record) else { continue };
                for epoch in [Some(volume.epoch), volume.old].into_iter().flatten() {
                    self.payloads.audit.wrap(epoch.version, &epoch.key);
                }
            }
        }
    }

    /// The engine is gone, and nobody waits for it; whether it served.
    pub(super) fn end_life(&mut self) -> bool {
        let served = self.engine.take().is_some();
        self.asked.clear();
        self.commanded = None;
        self.payloads.clear();
        served
    }

    pub(super) fn keep_past(&mut self) {
        let images = self.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        self.pasts.push_back(Past { images, anchor: self.store.snapshot() });
        if self.pasts.len() > PASTS {
            let victim = self.next_number as usize % (PASTS - 1);
            self.pasts.remove(victim);
        }
    }

    pub(super) fn restart(&mut self) -> Verdict {
        self.drain()?;
        self.sync_all()?;
        self.lose_power_keeping(&mut |_, _, _| 0, false);
        self.keep_past();
        self.mount_somehow()
    }
}

/// Silent faults are rare even among faulty disks.
fn rate(fault: Fault, permille: u64) -> u64 {
    if fault.is_honest() { permille } else { permille.div_ceil(4) }
}
