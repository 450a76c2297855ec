//! The reservation of versions while serving: a superblock with a higher limit is written in the other place and made durable
//! before the first of the new numbers is given out.

use block::{BlockDevice, Refused};

use super::{Kind, Reservation, Step, Volume};
use crate::{
    Event,
    superblock::{PLACES, Superblock},
};

impl<D: BlockDevice> Volume<D> {
    /// Starts to reserve the next versions when few are left.
    pub(super) fn reserve_versions(&mut self) {
        if self.reservation != Reservation::Idle || !self.versions.is_low() {
            return;
        }
        let Some(version_limit) = self.versions.next_limit() else { return };
        let Some((job, buffer)) = self.begin_job(1) else { return };
        let next = Superblock { version_limit, sequence: self.superblock.sequence + 1, ..self.superblock };
        next.encode(&self.keys, self.disk.bytes(&buffer));
        self.reservation = Reservation::Under(next);
        self.jobs[job].kind = Kind::StoreSuperblock;
        let taken = self.disk.write(job as u32, PLACES[1 - self.place], buffer);
        self.check_taken(job, taken);
    }

    /// What a write does that finds no reserved versions: it waits for the reservation, or fails if there can be none.
    pub(super) fn without_versions(&mut self, request: usize) -> Step {
        let hopeless = self.versions.next_limit().is_none();
        if !hopeless && self.reservation != Reservation::Failed {
            return Step::Exhausted;
        }
        self.reservation = Reservation::Idle;
        self.give_up(request);
        Step::Issued
    }

    /// The superblock is written: make it durable before a version that it reserves is used.
    pub(super) fn complete_superblock(&mut self, job: usize, ok: bool) {
        if !ok {
            return self.complete_reservation(false);
        }
        self.flush.needed = true;
        match self.disk.flush(job as u32) {
            Ok(()) => self.jobs[job].kind = Kind::FlushSuperblock,
            Err(Refused(_)) => self.complete_reservation(false),
        }
    }

    /// The new superblock is durable and the current one now, or the attempt has failed.
    pub(super) fn complete_reservation(&mut self, ok: bool) {
        match self.reservation {
            Reservation::Under(superblock) if ok => {
                self.superblock = superblock;
                self.place = 1 - self.place;
                self.versions.reserved(superblock.version_limit);
                self.reservation = Reservation::Idle;
            }
            _ => {
                self.report(Event::ReservationFailed);
                self.reservation = Reservation::Failed;
            }
        }
    }
}
