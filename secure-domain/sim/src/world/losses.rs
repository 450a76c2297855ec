//! Members of a world that go and come back, are replaced, and secure domains that crash while the power stays on.
//!
//! One member alone is ever lost. Mirrored volumes then go on: nothing of them may be lost, and in a world of mirrors nothing may
//! even fail. Of the others only what lies on that member may fail, and what it held is there when it is back, unless another disk is
//! in its place: then it is unreadable, and never old.

use volume::{Error, Event, Layout};

use super::{Mounted, Verdict, World, guest::extents};
use crate::{
    media::{Image, Media},
    model::View,
    rng::Rng,
    step::{Ask, Loss},
};

/// What was put in the place of a member.
#[derive(Clone, Debug)]
pub(super) struct Replaced {
    /// What the member held.
    original: Image,
}

impl World {
    /// The member that may be lost.
    fn victim(&self) -> usize {
        self.config.faulty_member.unwrap_or_default()
    }

    /// Whether nothing may fail, whatever becomes of one member: every volume has its copies on two.
    pub(super) fn is_safe(&self) -> bool {
        let mut there = self.volumes.values().filter(|known| !known.gone);
        self.config.losses && !self.is_tainted() && there.all(|known| known.layout == Layout::Mirrored)
    }

    /// Whether a member is not there, or not the one that it was.
    pub(super) fn is_bereft(&self) -> bool {
        self.bereft || self.disks.iter().any(|disk| disk.is_lost())
    }

    /// Something happens to the member.
    pub(super) fn lose(&mut self, loss: Loss, seed: u64) -> Verdict {
        let victim = self.victim();
        if self.engine.is_none() {
            return Ok(());
        }
        self.tally.losses += 1;
        match loss {
            Loss::Fails => self.disks[victim].lose(false),
            Loss::Dies => self.disks[victim].lose(true),
            Loss::Silent => self.disks[victim].fall_silent(),
            Loss::Vanishes => {
                self.disks[victim].lose(true);
                return self.cut(seed, &[]);
            }
            Loss::Returns => {
                self.disks[victim].come_back();
                return self.cut(seed, &[]);
            }
            Loss::Older | Loss::Blank => return self.replace(loss, seed),
        }
        self.troubled = true;
        Ok(())
    }

    /// The power goes, and another disk is in the member's place when it comes back.
    fn replace(&mut self, loss: Loss, seed: u64) -> Verdict {
        let victim = self.victim();
        self.lose_power(seed);
        self.keep_past();
        let original = self.disks[victim].media().durable().clone();
        let image = match loss {
            Loss::Older => self.pasts[Rng::new(seed).index(self.pasts.len())].images[victim].clone(),
            _ => vec![None; original.len()],
        };
        *self.disks[victim].media_mut() = Media::with(image);
        self.disks[victim].come_back();
        self.replaced = (!self.bereft).then_some(Replaced { original });
        self.bereft = true;
        let verdict = self.mount_somehow();
        self.replaced = None;
        verdict
    }

    /// A pool that is refused with what is there is served without the member, or with the one that it had.
    pub(super) fn mount_without(&mut self) -> Verdict {
        let victim = self.victim();
        self.disks[victim].lose(true);
        let refused = match self.mount()? {
            Mounted::Served { .. } => return Ok(()),
            Mounted::Cut => return Err("a mount does not come to an end".into()),
            Mounted::Refused(error) => error,
        };
        if self.is_safe() || !matches!(refused, Error::MemberNeeded { .. }) {
            return Err(format!("false refusal: a pool is not mounted without member {victim}: {refused}"));
        }
        self.disks[victim].come_back();
        // Without its own member, nobody can write to this pool any more.
        let Some(Replaced { original }) = self.replaced.take() else { return Ok(()) };
        *self.disks[victim].media_mut() = Media::with(original);
        self.bereft = false;
        match self.mount()? {
            Mounted::Served { .. } => Ok(()),
            other => Err(format!("false refusal: a pool is not mounted with the member it had: {other:?}")),
        }
    }

    /// The secure domain crashes and is started again; the power stays on. What the disks have answered they still show; what was
    /// under way has happened or not.
    pub(super) fn crash(&mut self, seed: u64) -> Verdict {
        if self.engine.is_none() || self.power.is_off() {
            return Ok(());
        }
        self.tally.crashes += 1;
        let mut rng = Rng::new(seed);
        let answered = self.power.now();
        self.end_life();
        self.disks.iter().for_each(|disk| disk.reset(&mut rng));
        self.store.cut(rng.chance(500));
        self.take_advances();
        self.crashed = Some(View::Live(answered));
        let verdict = self.mount_somehow();
        self.crashed = None;
        verdict
    }

    /// Notes what the engine tells about its members.
    pub(super) fn count_event(&mut self, event: &Event) {
        let lost = matches!(event, Event::MemberLost { .. });
        self.retired |= lost;
        self.tally.retired += u64::from(lost);
        self.tally.resynced += u64::from(matches!(event, Event::Resynced { .. }));
    }

    /// At the end the member is back, catches up, and holds everything that the others hold: they go, and it serves alone.
    pub(super) fn check_catching_up(&mut self) -> Verdict {
        if !self.config.losses || self.is_tainted() || self.engine.is_none() {
            return Ok(());
        }
        let victim = self.victim();
        self.end_faults();
        self.disks[victim].come_back();
        self.restart()?;
        for _ in 0..20 {
            self.rest()?;
        }
        let stale = self.engine.as_ref().map_or(0, |engine| engine.superblock().stale);
        if self.bereft {
            return Ok(());
        }
        let seed = self.config.seed ^ self.power.boundaries();
        if self.config.spoils {
            // What could not be written when it was made equal is found by whoever reads it.
            self.command(volume::Command::Scrub);
            self.drain()?;
        }
        if seed.is_multiple_of(2) || self.config.spoils {
            self.sync_all()?;
        }
        let behind = self.engine.as_ref().map_or(0, |engine| engine.superblock().stale);
        // A copy that found no place is made when there is room.
        if behind != 0 && !self.lacks_room() {
            return Err(format!("a member that is back does not catch up: {stale:#x}, {behind:#x}"));
        }
        if self.disks.len() == 2 && self.is_safe() && behind == 0 {
            self.lose_power(seed);
            self.disks[1 - victim].lose(true);
            return match self.mount()? {
                Mounted::Served { bad: 0 } => Ok(()),
                other => Err(format!("a member that caught up does not serve alone: {other:?}")),
            };
        }
        Ok(())
    }

    /// Whether an extent of a mirror has one copy, and there is no room for the other.
    fn lacks_room(&self) -> bool {
        let (free, Some(engine)) = (self.free_extents(), &self.engine) else { return false };
        let lies = |volume, block, copy| Some(engine.member(engine.locate(volume, block, copy)?.0).disk().member());
        let mirrors = engine.volumes().filter(|info| info.layout == Layout::Mirrored);
        let mut blocks =
            mirrors.flat_map(|info| extents(info.layout, info.blocks).into_iter().map(move |at| (info.number, at)));
        blocks.any(|(volume, (block, copy))| match (lies(volume, block, copy), lies(volume, block, 1 - copy)) {
            (Some(member), None) => !free.iter().enumerate().any(|(other, free)| other != member && *free > 0),
            _ => false,
        })
    }

    /// Some of the members are mounted without the others, on a copy: whatever they show must be what the whole pool may show, and
    /// without the member that may be lost they must be served.
    pub(super) fn mount_part(&mut self, seed: u64) -> Verdict {
        let served = self.engine.as_ref().filter(|_| self.disks.len() > 1 && !self.is_tainted() && !self.bereft);
        let Some(marked) = served.map(|engine| engine.superblock().stale) else { return Ok(()) };
        let missing = self.draw_missing(&mut Rng::new(seed));
        self.mount_rest(&missing, marked, seed)
    }

    /// The pool is mounted on a copy, without these members.
    fn mount_rest(&mut self, missing: &[usize], marked: u8, seed: u64) -> Verdict {
        let must = self.must_do_without(missing, marked);
        let mut copy = self.copy();
        copy.store.refuse(false);
        copy.lose_power(seed);
        for disk in &copy.disks {
            if missing.contains(&disk.member()) { disk.lose(true) } else { disk.come_back() }
        }
        let mounted = copy.mount();
        let served = matches!(mounted, Ok(Mounted::Served { .. }));
        copy.tally.parts = (u64::from(served), u64::from(!served));
        self.come_back(copy);
        match mounted.map_err(|what| format!("without members {missing:?}: {what}"))? {
            Mounted::Cut => Err("a mount does not come to an end".into()),
            Mounted::Refused(error) if must && (self.is_safe() || !matches!(error, Error::MemberNeeded { .. })) => {
                Err(format!("false refusal: a pool is not mounted without members {missing:?}: {error}"))
            }
            Mounted::Served { .. } | Mounted::Refused(_) => Ok(()),
        }
    }

    /// The marks of these members were just cleared: each has caught up, and shows nothing old, whatever a power cut takes.
    pub(super) fn check_cleared(&mut self, cleared: u8) -> Verdict {
        let sound = !self.is_tainted() && !self.bereft && !self.is_copy && !self.power.is_off();
        if cleared == 0 || !sound || self.disks.len() != 2 {
            return Ok(());
        }
        let missing = [usize::from(cleared & 1 != 0)];
        (0..4).try_for_each(|round| self.mount_rest(&missing, 0, self.config.seed ^ self.power.boundaries() ^ round))
    }

    /// A block of the member that holds data can be neither read nor written any more.
    pub(super) fn spoil(&mut self, seed: u64) {
        let victim = self.victim();
        let Some(start) = self.geometries().get(victim).map(|geometry| geometry.data_start) else { return };
        let disk = &self.disks[victim];
        let used: Vec<u64> = (start..)
            .zip(&disk.media().visible()[start as usize..])
            .filter_map(|(block, cell)| cell.as_ref().map(|_| block))
            .collect();
        if !used.is_empty() {
            disk.spoil(used[Rng::new(seed).index(used.len())]);
            self.troubled = true;
        }
    }

    /// All members but one, or one: mostly that which may be lost.
    fn draw_missing(&self, rng: &mut Rng) -> Vec<usize> {
        let members = self.disks.len();
        let chosen = if rng.chance(500) { self.victim() } else { rng.index(members) };
        let alone = rng.chance(500);
        (0..members).filter(|member| (*member == chosen) != alone).collect()
    }

    /// Whether the pool must be served without these members, while its superblock calls those in `marked` stale.
    fn must_do_without(&self, missing: &[usize], marked: u8) -> bool {
        let victim = self.victim();
        let whole = marked == 0 && self.honest_faults() == 0 && self.disks.iter().all(|disk| !disk.is_lost());
        let current = missing == [victim] && marked & !(1 << victim) == 0 || whole;
        missing.len() == 1 && current
    }

    /// Every volume is synchronised.
    pub(super) fn sync_all(&mut self) -> Verdict {
        let volumes: Vec<u32> =
            self.volumes.iter().filter(|(_, known)| !known.gone).map(|(number, _)| *number).collect();
        volumes.into_iter().for_each(|volume| self.submit(volume, Ask::Sync));
        self.drain()
    }
}
