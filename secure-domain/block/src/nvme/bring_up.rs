//! From a controller that may be in any state to one I/O queue pair (specification, section 7.6.1).

use super::command::{Command, Structure};
use super::controller::Controller;
use super::identity::{self, Namespace};
use super::queue::Pair;
use super::{Refusal, layout};
use crate::{Clock, Dma, Error, Registers};

/// Entries of the admin queues: one command at a time needs two.
const ADMIN_ENTRIES: u16 = 4;
/// Longest time that an admin command may take. The specification has no limit; none of these touches the medium for long.
const ADMIN_LIMIT_MS: u64 = 10_000;
/// I/O queues count from 1.
const QUEUE: u16 = 1;

/// What is there when this has gone well.
pub(super) struct Up {
    pub(super) pair: Pair,
    /// The namespace that is the disk.
    pub(super) number: u32,
    pub(super) namespace: Namespace,
    pub(super) controller: identity::Controller,
}

/// A controller with its admin queues.
struct Admin<'a, R, M, C> {
    controller: &'a mut Controller<R>,
    dma: &'a mut M,
    clock: &'a mut C,
    pair: Pair,
    /// The identifier of the command under way.
    identifier: u16,
}

/// Stops `controller`, starts it again, and brings it to where it takes reads and writes; its interrupts are masked.
///
/// On an error it is told to stop.
pub(super) fn bring_up<R: Registers, M: Dma, C: Clock>(
    controller: &mut Controller<R>,
    dma: &mut M,
    clock: &mut C,
) -> Result<Up, Error> {
    controller.reset(clock).map_err(Error::Nvme)?;
    // Only now: what a life before had under way is over.
    dma.bytes(0..layout::BUFFERS).fill(0);
    dma.fence();
    let pair = Pair::new(0, ADMIN_ENTRIES, layout::ADMIN_SUBMISSIONS, layout::ADMIN_COMPLETIONS);
    let mut admin = Admin { controller, dma, clock, pair, identifier: 0 };
    admin.start().and_then(|()| admin.identify_and_create()).inspect_err(|_| admin.controller.disable())
}

impl<R: Registers, M: Dma, C: Clock> Admin<'_, R, M, C> {
    fn start(&mut self) -> Result<(), Error> {
        let queues = [self.pair.submissions, self.pair.completions].map(|offset| self.address(offset));
        self.controller.start(queues, ADMIN_ENTRIES.into(), self.clock).map_err(Error::Nvme)
    }

    fn identify_and_create(&mut self) -> Result<Up, Error> {
        self.identify(Structure::Controller, 0)?;
        let controller = identity::Controller::read(self.dma, layout::IDENTITY);
        self.identify(Structure::ActiveNamespaces, 0)?;
        let number = self.dma.load32(layout::IDENTITY);
        if number == 0 {
            return Err(Error::Nvme(Refusal::NoNamespace));
        }
        self.identify(Structure::Namespace, number)?;
        let namespace = Namespace::read(self.dma, layout::IDENTITY, &controller).map_err(Error::Nvme)?;
        Ok(Up { pair: self.create_queues()?, number, namespace, controller })
    }

    fn identify(&mut self, structure: Structure, namespace: u32) -> Result<(), Error> {
        let page = self.address(layout::IDENTITY);
        self.run(&Command::identify(structure, namespace, page))
    }

    /// One pair, as large as the controller allows and the driver has use for.
    fn create_queues(&mut self) -> Result<Pair, Error> {
        let entries = self.controller.capabilities().entries.min(u32::from(layout::ENTRIES)) as u16;
        let pair = Pair::new(QUEUE, entries, layout::SUBMISSIONS, layout::COMPLETIONS);
        self.run(&Command::one_queue_pair())?;
        self.run(&Command::create_completion_queue(QUEUE, entries, self.address(pair.completions)))?;
        self.run(&Command::create_submission_queue(QUEUE, entries, self.address(pair.submissions)))?;
        Ok(pair)
    }

    /// Runs one command. Nothing else is under way.
    fn run(&mut self, command: &Command) -> Result<(), Error> {
        self.identifier = self.identifier.wrapping_add(1);
        self.pair.put(self.dma, command, self.identifier);
        self.dma.fence();
        self.controller.ring_tail(self.pair.number, self.pair.tail());
        let outcome = self.answer(command.opcode);
        if let Some(head) = self.pair.head_to_show() {
            self.dma.fence();
            self.controller.ring_head(self.pair.number, head);
        }
        outcome
    }

    /// Waits for the answer to the command under way; bounded by [`ADMIN_LIMIT_MS`].
    fn answer(&mut self, opcode: u8) -> Result<(), Error> {
        let begun = self.clock.now_ms();
        loop {
            let late = self.clock.now_ms().saturating_sub(begun) > ADMIN_LIMIT_MS;
            match self.pair.take(self.dma) {
                Some(Ok(posted)) if posted.identifier == self.identifier => {
                    return match posted.status {
                        0 => Ok(()),
                        status => Err(Error::Nvme(Refusal::Command(opcode, status))),
                    };
                }
                Some(_) => return Err(Error::Broken),
                None if self.controller.is_dead() => return Err(Error::Nvme(Refusal::Fatal)),
                None if late => return Err(Error::Nvme(Refusal::Silent(opcode))),
                None => self.clock.pause(),
            }
        }
    }

    fn address(&self, offset: usize) -> u64 {
        self.dma.address() + offset as u64
    }
}
