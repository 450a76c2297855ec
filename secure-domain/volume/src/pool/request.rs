//! Requests: what is asked, how much of it is issued, how it ends.

use alloc::{collections::VecDeque, vec::Vec};

use anchor::MonotonicStore;
use block::BlockDevice;

use super::Pool;
use crate::{Done, Operation, Status};

/// Requests that a pool holds at a time.
pub const MAX_REQUESTS: usize = 256;
/// Blocks of data that are issued before the disks are looked at again: so few that their buffers stay in a cache, and that the disks
/// get something to do before everything is sealed.
const ISSUE_BUDGET: u32 = 64;
/// Stands for the background: nobody waits for it.
pub(super) const WALKER: usize = MAX_REQUESTS;

#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Place of the volume in the catalog.
    pub(super) slot: usize,
    /// Its number.
    pub(super) volume: u32,
    pub(super) cookie: u32,
    pub(super) operation: Operation,
    /// Blocks that were issued or given up.
    pub(super) issued: u32,
    /// Runs under way.
    pub(super) runs: u32,
    pub(super) status: Status,
    /// Nobody waits for it any more: no payload is touched and no answer given.
    pub(super) cancelled: bool,
    pending: bool,
    live: bool,
}

const FREE: Request = Request {
    slot: 0,
    volume: 0,
    cookie: 0,
    operation: Operation::Flush,
    issued: 0,
    runs: 0,
    status: Status::Ok,
    cancelled: false,
    pending: false,
    live: false,
};

/// The requests of a pool.
pub(super) struct Requests {
    all: Vec<Request>,
    free: Vec<usize>,
    /// Those with something left to issue, oldest first.
    pending: VecDeque<usize>,
}

impl Requests {
    pub(super) fn new() -> Requests {
        Requests {
            all: alloc::vec![FREE; MAX_REQUESTS + 1],
            free: (0..MAX_REQUESTS).rev().collect(),
            pending: VecDeque::with_capacity(MAX_REQUESTS),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn all_free(&self) -> bool {
        self.free.len() == MAX_REQUESTS
    }

    pub(super) fn no_pending(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn add(&mut self, slot: usize, volume: u32, cookie: u32, operation: Operation) {
        let request = self.free.pop().expect("the caller has seen that there is room");
        self.all[request] = Request { slot, volume, cookie, operation, pending: true, live: true, ..FREE };
        self.pending.push_back(request);
    }

    pub(super) fn get(&self, request: usize) -> &Request {
        &self.all[request]
    }

    pub(super) fn get_mut(&mut self, request: usize) -> &mut Request {
        &mut self.all[request]
    }

    pub(super) fn cancel(&mut self, volume: u32) {
        let of_volume = |request: &&mut Request| request.live && request.volume == volume;
        self.all.iter_mut().filter(of_volume).for_each(|request| request.cancelled = true);
    }

    /// Takes everything out of the pending list.
    pub(super) fn take_pending(&mut self) -> Vec<usize> {
        let taken: Vec<usize> = self.pending.drain(..).collect();
        taken.iter().for_each(|request| self.all[*request].pending = false);
        taken
    }

    /// Takes what belongs to `volume` out of the pending list.
    pub(super) fn take_pending_of(&mut self, volume: u32) -> Vec<usize> {
        let taken = self.take_pending();
        let (of_volume, others): (Vec<usize>, _) =
            taken.into_iter().partition(|&index| self.all[index].volume == volume);
        for request in others {
            self.wait(request);
        }
        of_volume
    }

    fn next_pending(&mut self) -> Option<usize> {
        let request = self.pending.pop_front()?;
        self.all[request].pending = false;
        Some(request)
    }

    fn wait(&mut self, request: usize) {
        self.all[request].pending = true;
        self.pending.push_back(request);
    }
}

/// Why a request stays in the pending list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It does not: all of it has been issued.
    Issued,
    /// A block or a leaf; requests behind it may go on.
    Waits,
    /// A resource; requests behind it wait as well.
    Exhausted,
}

impl<D: BlockDevice, A: MonotonicStore> Pool<D, A> {
    /// Goes through the waiting requests once, oldest first.
    pub(super) fn issue_pending(&mut self, transfer: &mut impl crate::Transfer) {
        self.issue_budget = ISSUE_BUDGET;
        let waiting = self.requests.pending.len();
        for seen in 0..waiting {
            let Some(request) = self.requests.next_pending() else { break };
            let step = self.issue(request, transfer);
            if step != Step::Issued {
                self.requests.wait(request);
            }
            if step == Step::Exhausted {
                // Whoever was behind keeps the place behind.
                self.requests.pending.rotate_left(waiting - seen - 1);
                break;
            }
        }
        self.seal_batch(transfer);
    }

    /// Answers the request if nothing of it is left to do.
    pub(super) fn settle(&mut self, request: usize) {
        let state = &mut self.requests.all[request];
        if !state.live || state.pending || state.runs != 0 || state.issued < total(&state.operation) {
            return;
        }
        state.live = false;
        let Request { slot, volume, cookie, status, cancelled, .. } = *state;
        if !cancelled {
            self.done.push_back(Done { volume, cookie, status });
        }
        self.requests.free.push(request);
        if let Some(volume) = &mut self.volumes[slot] {
            volume.requests -= 1;
        }
        self.moved = true;
    }

    /// The request fails and issues nothing more. Whoever holds it settles it.
    pub(super) fn give_up(&mut self, request: usize, status: Status) {
        let state = &mut self.requests.all[request];
        state.issued = total(&state.operation);
        self.fail(request, status);
    }

    /// A part of the request has failed; the first reason stays.
    pub(super) fn fail(&mut self, request: usize, status: Status) {
        let state = &mut self.requests.all[request];
        if state.status == Status::Ok {
            state.status = status;
        }
    }

    /// One run of `request` has ended.
    pub(super) fn finish_run_of(&mut self, request: usize) {
        self.requests.all[request].runs -= 1;
        self.settle(request);
    }
}

/// The blocks that an operation is about; `None` for a flush.
pub(super) fn range(operation: &Operation) -> Option<(u64, u32)> {
    match *operation {
        Operation::Flush | Operation::Sync => None,
        Operation::Read { block, blocks } | Operation::Write { block, blocks } | Operation::Zero { block, blocks } => {
            Some((block, blocks))
        }
    }
}

/// Blocks that have to be issued; a flush counts as one.
fn total(operation: &Operation) -> u32 {
    range(operation).map_or(1, |(_, blocks)| blocks)
}
