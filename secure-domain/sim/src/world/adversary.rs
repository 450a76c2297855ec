//! Somebody else in a world: changes of the disks, live or on a copy, and what the claims say about them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use anchor::Snapshot;
use volume::{Error, record::geometry::Geometry};

use super::{LOG_BLOCKS, Mounted, Trust, Verdict, World, root};
use crate::{
    media::{Image, Media},
    payload::Payloads,
    power::Power,
    rng::Rng,
    step::Ask,
    store::Store,
    tally::Tally,
    tamper::{Hands, Part, Tamper},
};

impl World {
    pub(super) fn geometries(&self) -> Vec<Geometry> {
        let blocks = self.disks.iter().map(|disk| disk.media().blocks());
        blocks.enumerate().filter_map(|(member, blocks)| Geometry::for_member(member, blocks, LOG_BLOCKS)).collect()
    }

    /// Somebody changes the disks while they are served: from here on nobody can be sure of them.
    pub(super) fn tamper(&mut self, tamper: Tamper, seed: u64) {
        if matches!(tamper, Tamper::ReplayAnchor) {
            return;
        }
        let mut images: Vec<Image> = self.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        let geometries = self.geometries();
        let pasts = self.pasts.make_contiguous();
        let mut hands =
            Hands { images: &mut images, anchor: &mut self.store.snapshot(), geometries: &geometries, pasts };
        let changed = hands.perform(tamper, &mut Rng::new(seed)).unwrap_or_default();
        for (member, block) in changed {
            self.disks[member].media_mut().tamper(block, images[member][block as usize].clone());
        }
        self.trust = Trust::Tainted;
    }

    /// Somebody tries something on a copy of the disks, as a power cut would leave them now.
    pub(super) fn attempt(&mut self, tamper: Tamper, seed: u64) -> Verdict {
        if self.engine.is_none() || self.is_tainted() {
            return Ok(());
        }
        let mut copy = self.copy();
        copy.lose_power(seed);
        let mut images: Vec<Image> = copy.disks.iter().map(|disk| disk.media().durable().clone()).collect();
        let mut anchor = copy.store.snapshot();
        let mut hands = Hands {
            images: &mut images,
            anchor: &mut anchor,
            geometries: &copy.geometries(),
            pasts: copy.pasts.make_contiguous(),
        };
        let Some(changed) = hands.perform(tamper, &mut Rng::new(seed)) else {
            self.come_back(copy);
            return Ok(());
        };
        copy.give(images, anchor);
        let verdict = copy.suffer(tamper, &changed);
        self.come_back(copy);
        verdict.map_err(|what| format!("after {tamper:?} ({} blocks changed): {what}", changed.len()))
    }

    /// A copy of this world at this moment. What happens there does not happen here.
    pub fn copy(&mut self) -> World {
        let power = Power::at(&self.power);
        let disks = self.disks.iter().map(|disk| disk.copy(&power)).collect();
        self.payloads.audit.look_ahead();
        World {
            disks,
            store: self.store.copy(&power),
            power,
            volumes: self.volumes.clone(),
            tally: Tally::default(),
            trace: self.trace.clone(),
            engine: None,
            payloads: Payloads::with(std::mem::take(&mut self.payloads.audit)),
            asked: BTreeMap::new(),
            commanded: None,
            created: self.created.clone(),
            random: Arc::new(Mutex::new(self.random.lock().map_or_else(|_| Rng::new(0), |rng| rng.clone()))),
            root: root(),
            now_ms: self.now_ms,
            next_cookie: self.next_cookie,
            next_number: self.next_number,
            pasts: self.pasts.clone(),
            trust: self.trust,
            bereft: self.bereft,
            replaced: None,
            retired: self.retired,
            crashed: None,
            troubled: self.troubled,
            refused: self.refused,
            changed_single: self.changed_single,
            faults_at_mount: self.faults_at_mount,
            least_free: self.least_free.clone(),
            is_copy: false,
            gullible: self.gullible,
            config: self.config.clone(),
        }
    }

    /// The copy is left; what it counted and noted stays.
    pub fn come_back(&mut self, mut copy: World) {
        self.payloads.audit = std::mem::take(&mut copy.payloads.audit);
        self.payloads.audit.come_back();
        self.tally.add(&copy.tally);
    }

    /// Puts images and an anchor in place.
    pub fn give(&mut self, images: Vec<Image>, anchor: Snapshot) {
        for (disk, image) in self.disks.iter().zip(images) {
            *disk.media_mut() = Media::with(image);
        }
        self.store = Store::with(anchor, &self.power);
        (self.trust, self.is_copy) = (Trust::Tainted, true);
    }

    /// Mounts what the adversary left, and uses it for a while.
    pub(super) fn suffer(&mut self, tamper: Tamper, changed: &[(usize, u64)]) -> Verdict {
        let mounted = self.mount()?;
        self.check_claims(tamper, changed, &mounted)?;
        let outcome = self.tally.adversary.entry(trick(tamper)).or_default();
        match mounted {
            Mounted::Served { bad: 0 } => outcome.harmless += 1,
            Mounted::Served { .. } => outcome.errors += 1,
            _ => outcome.refused += 1,
        }
        self.use_for_a_while()
    }

    pub(super) fn use_for_a_while(&mut self) -> Verdict {
        for index in 0..3 {
            for what in [Ask::Write(index as u64 * 3, 2), Ask::Read(0, 8), Ask::Flush] {
                self.ask(index, what);
            }
            self.drain()?;
        }
        Ok(())
    }

    /// What the claims say about particular tricks.
    pub(super) fn check_claims(&self, tamper: Tamper, changed: &[(usize, u64)], mounted: &Mounted) -> Verdict {
        let data =
            |(member, block): &(usize, u64)| Part::Data.range(&self.geometries()[*member]).contains(&(*block as usize));
        let only_data = !changed.is_empty() && changed.iter().all(data);
        match (tamper, mounted) {
            (_, Mounted::Cut) => Err("the mount did not come to an end".into()),
            (Tamper::ReplayDisks, Mounted::Refused(error))
                if !matches!(error, Error::RolledBack { .. } | Error::KeyErased { .. }) =>
            {
                Err(format!("freshness: old disks are refused for another reason: {error}"))
            }
            (Tamper::ReplayAnchor, Mounted::Refused(error))
                if !matches!(error, Error::AnchorOlder { .. } | Error::AnchorForeign) =>
            {
                Err(format!("freshness: an old anchor is refused for another reason: {error}"))
            }
            (_, Mounted::Refused(error)) if only_data => {
                Err(format!("a change of sealed blocks refused the whole pool: {error}"))
            }
            (_, Mounted::Served { bad }) if only_data && *bad > changed.len() as u64 => {
                Err(format!("{} sealed blocks were changed and {bad} cannot be read", changed.len()))
            }
            _ => Ok(()),
        }
    }
}

/// The name of a trick, without its particulars.
fn trick(tamper: Tamper) -> String {
    format!("{tamper:?}")
}
