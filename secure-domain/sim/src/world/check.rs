//! Mounting, and the check of everything that was found.

use std::collections::BTreeSet;

use volume::{Error, Event, Layout, Operation, Recovery, Status};

use super::{CHECK_BLOCKS, MARGIN, Mounted, PATIENCE, Trust, Verdict, World, note};
use crate::{
    model::{self, View},
    payload::Delivered,
    power::Time,
};

impl World {
    /// Mounts, and checks everything that was found.
    pub fn mount(&mut self) -> Result<Mounted, String> {
        let began = self.power.now();
        self.faults_at_mount = self.honest_faults();
        let (members, anchor, options) = (self.attached(), self.store.attach(), self.options());
        let mounted = volume::mount(members, anchor, &self.root, self.random(), &options, self.idle());
        if self.power.is_off() {
            self.note(|| "  the power goes during the recovery".to_owned());
            return Ok(Mounted::Cut);
        }
        let (pool, recovery) = match mounted {
            Ok(mounted) => mounted,
            Err(error) => {
                self.take_mount_advances();
                self.note(|| format!("  refused: {error}"));
                *self.tally.refusals.entry(kind(&error)).or_default() += 1;
                return Ok(Mounted::Refused(error));
            }
        };
        self.note(|| format!("  mounted: {recovery:?}"));
        self.engine = Some(pool);
        (self.retired, self.changed_single, self.refused) = (false, false, self.store.refuses());
        self.troubled = self.store.refuses() || self.honest_faults() > self.faults_at_mount || self.is_bereft();
        self.check_mounted(&recovery, began)
    }

    pub(super) fn check_mounted(&mut self, recovery: &Recovery, began: Time) -> Result<Mounted, String> {
        self.tally.recoveries += 1;
        self.tally.replayed += recovery.records;
        self.tally.examined += recovery.examined;
        self.tally.repaired += recovery.repaired;
        let healthy = !self.is_tainted() && (!self.troubled || self.is_safe() && !self.is_spoiled_alone());
        if healthy && recovery.bad > 0 && !self.has_unsure() {
            return Err(format!("false integrity error: the recovery reports bad blocks: {recovery:?}"));
        }
        self.check_volumes()?;
        // No cut is planned for the check: what was planned is for later steps.
        self.power.restore();
        let bad = self.check_blocks(began)?;
        self.take_mount_advances();
        Ok(Mounted::Served { bad })
    }

    /// What a mount anchors is what it found: it says nothing about what a tainted disk should have held.
    pub(super) fn take_mount_advances(&mut self) {
        if self.is_tainted() {
            drop(self.store.take_completed());
        } else {
            self.take_advances();
        }
    }

    /// The volumes that are there are those that may be.
    pub(super) fn check_volumes(&mut self) -> Verdict {
        let infos: Vec<_> = self.engine.iter().flat_map(|engine| engine.volumes()).collect();
        let listed: BTreeSet<u32> = infos.iter().map(|info| info.number).collect();
        if self.is_copy {
            return Ok(());
        }
        for info in infos {
            let Some(known) = self.volumes.get_mut(&info.number) else {
                self.adopt_found(info.number, info.name, info.blocks, info.layout)?;
                continue;
            };
            let expected = !known.gone && known.names.contains(&info.name) && known.sizes.contains(&info.blocks);
            if !expected && self.trust == Trust::Sound {
                return Err(format!(
                    "volume {} is not as it was left: {info:?}, expected {:?} {:?}",
                    info.number, known.names, known.sizes
                ));
            }
            (known.names, known.sizes, known.going) = (vec![info.name], vec![info.blocks], false);
            known.model.grow(info.blocks);
        }
        self.created.clear();
        let tainted = self.is_tainted();
        for (number, known) in self.volumes.iter_mut().filter(|(number, known)| !known.gone && !listed.contains(number))
        {
            if !known.going && !tainted {
                return Err(format!("volume {number} is lost"));
            }
            known.gone = true;
        }
        Ok(())
    }

    pub(super) fn adopt_found(&mut self, number: u32, name: String, blocks: u64, layout: Layout) -> Verdict {
        if !self.created.contains(&(name.clone(), blocks)) && !self.is_tainted() {
            return Err(format!("volume {number}, {name}, was never asked for"));
        }
        self.adopt(number, name, blocks, layout)
    }

    /// Reads every block that was ever written, and some that were not; returns how many cannot be read.
    pub(super) fn check_blocks(&mut self, began: Time) -> Result<u64, String> {
        let mut bad = 0;
        let volumes: Vec<u32> =
            self.volumes.iter().filter(|(_, known)| !known.gone).map(|(number, _)| *number).collect();
        for volume in volumes {
            let model = &self.volumes[&volume].model;
            let last = self.engine.as_ref().and_then(|engine| engine.blocks(volume)).unwrap_or_default();
            for (first, blocks) in runs(model, last) {
                bad += self.check_run(volume, first, blocks, began)?;
            }
        }
        Ok(bad)
    }

    /// Reads a run; when it fails as a whole, block after block.
    pub(super) fn check_run(&mut self, volume: u32, first: u64, blocks: u64, began: Time) -> Result<u64, String> {
        if self.check_read(volume, first, blocks)? {
            return Ok(0);
        }
        let mut bad = 0;
        for block in first..first + blocks {
            if self.check_read(volume, block, 1)? {
                continue;
            }
            bad += 1;
            let troubled = self.honest_faults() > self.faults_at_mount || self.is_bereft();
            let unsure = self.volumes[&volume].model.block(block).is_unsure(View::Durable);
            let excused = (self.is_tainted() || troubled) && !self.is_protected(volume);
            if excused || unsure {
                let (view, now) = (self.view_of_mount(volume), self.power.now());
                self.change(volume, |known| known.model.lose(block, view, now));
            } else {
                let allowed = self.volumes[&volume].model.block(block).allowed(View::Durable);
                return Err(format!(
                    "false integrity error: block {block} of volume {volume} cannot be read after the mount at {began}, allowed are {allowed:?}"
                ));
            }
        }
        Ok(bad)
    }

    /// Reads blocks as a guest would, and holds them against what a mount may find; whether all could be read.
    pub(super) fn check_read(&mut self, volume: u32, first: u64, blocks: u64) -> Result<bool, String> {
        let trace = self.trace.clone();
        let Some(engine) = &mut self.engine else { return Ok(false) };
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.payloads.lend_read(cookie, blocks as usize);
        let operation = Operation::Read { block: first, blocks: blocks as u32 };
        engine.submit(volume, cookie, operation).map_err(|_| "no request is taken after a mount")?;
        self.disks.iter().for_each(|disk| disk.give(usize::MAX));
        self.store.give(usize::MAX);
        for _ in 0..PATIENCE {
            engine.advance(self.now_ms, &mut self.payloads);
            while let Some(event) = engine.next_event() {
                note(trace.as_ref(), || format!("  event: {event}"));
                self.retired |= matches!(event, Event::MemberLost { .. });
            }
            let Some(done) = engine.next_done() else { continue };
            let delivered = self.payloads.take(cookie);
            let ok = done.status == Status::Ok;
            self.check_found(volume, first, &delivered, ok)?;
            return Ok(ok);
        }
        Err(format!("a read after a mount has no answer after {PATIENCE} calls"))
    }

    /// What a mount may find in the volume.
    fn view_of_mount(&self, volume: u32) -> View {
        let lenient = self.is_tainted() && !self.is_protected(volume);
        if lenient { View::Anchored } else { self.crashed.unwrap_or(View::Durable) }
    }

    pub(super) fn check_found(
        &mut self,
        volume: u32,
        first: u64,
        delivered: &[Option<Delivered>],
        ok: bool,
    ) -> Verdict {
        let view = self.view_of_mount(volume);
        let now = self.power.now();
        let Some(known) = self.volumes.get_mut(&volume) else { return Ok(()) };
        for (block, delivered) in (first..).zip(delivered) {
            match delivered {
                None if !ok => {}
                Some(Delivered::Plaintext(number)) if known.model.block(block).allows(*number, view) => {
                    known.model.settle(block, *number, now);
                    self.tally.compared += 1;
                }
                found => {
                    let allowed = known.model.block(block).allowed(view);
                    let claim = match view {
                        View::Live(_) => "lost answered write",
                        View::Durable => "lost flushed write",
                        View::Anchored => "freshness",
                    };
                    return Err(format!(
                        "{claim}: block {block} of volume {volume} is {found:?} after a mount, allowed are {allowed:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The runs of blocks that a check of a volume of `len` blocks reads: what was touched, a margin, and the volume's ends.
fn runs(model: &model::Volume, len: u64) -> Vec<(u64, u64)> {
    let around = |block: u64| block.saturating_sub(MARGIN)..(block + MARGIN + 1).min(len);
    let mut blocks: BTreeSet<u64> = model.worth_a_look().filter(|block| *block < len).flat_map(around).collect();
    blocks.extend([0, len.saturating_sub(1)].iter().filter(|block| **block < len));
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == block && *count < CHECK_BLOCKS => *count += 1,
            _ => runs.push((block, 1)),
        }
    }
    runs
}

/// The name of an error, without its particulars.
fn kind(error: &Error) -> String {
    format!("{error:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
