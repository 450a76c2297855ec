//! A controller's registers (specification, section 3.1): what it can, how it is stopped and started, its doorbells.

use core::ops::Range;

use super::Refusal;
use crate::{Clock, Registers};

/// Register offsets.
mod register {
    pub(super) const CAP: usize = 0x00;
    pub(super) const INTMS: usize = 0x0c;
    pub(super) const INTMC: usize = 0x10;
    pub(super) const CC: usize = 0x14;
    pub(super) const CSTS: usize = 0x1c;
    pub(super) const AQA: usize = 0x24;
    pub(super) const ASQ: usize = 0x28;
    pub(super) const ACQ: usize = 0x30;
    pub(super) const DOORBELLS: usize = 0x1000;
}

/// `CC`: enable, shutdown notification; command set, page size and arbitration are the fields that are 0 here: NVM, 4 KiB, round robin.
const EN: u32 = 1 << 0;
const SHN: u32 = 0b11 << 14;
/// `CC.IOSQES` and `CC.IOCQES`: entries of 2^6 and 2^4 bytes.
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
/// `CSTS`: ready, fatal status.
const RDY: u32 = 1 << 0;
const CFS: u32 = 1 << 1;
/// What every register of a function reads as that has left its bus or lost its addresses.
const ALL_ONES: u32 = u32::MAX;
/// Every interrupt vector; a wired interrupt is vector 0 (section 7.5.1.1).
const ALL_VECTORS: u32 = u32::MAX;

/// What `CAP` (section 3.1.1) tells, as far as the driver needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Most entries of a queue: at least 2.
    pub(super) entries: u32,
    /// Longest time until a change of `CC.EN` shows in `CSTS.RDY`.
    timeout_ms: u64,
    /// Bytes from one doorbell to the next.
    stride: usize,
}

impl Capabilities {
    fn parse(cap: u64) -> Result<Capabilities, Refusal> {
        let field = |low: u32, bits: u32| (cap >> low) as u32 & ((1 << bits) - 1);
        let (entries, smallest_page) = (field(0, 16) + 1, 12 + field(48, 4));
        if cap == u64::MAX {
            return Err(Refusal::Gone);
        }
        if smallest_page != 12 {
            return Err(Refusal::PageSize(smallest_page));
        }
        if field(37, 1) == 0 {
            return Err(Refusal::CommandSet);
        }
        if entries < 2 {
            return Err(Refusal::Entries(entries));
        }
        // In units of 500 ms; the least that a controller can mean is one of them.
        let timeout_ms = u64::from(field(24, 8).max(1)) * 500;
        Ok(Capabilities { entries, timeout_ms, stride: 4 << field(32, 4) })
    }
}

/// The registers of a controller.
#[derive(Debug)]
pub(super) struct Controller<R> {
    registers: R,
    /// Where they begin in `registers`.
    start: usize,
    capabilities: Capabilities,
}

impl<R: Registers> Controller<R> {
    /// The controller whose registers lie at `place` of `registers`. Nothing is written.
    pub(super) fn new(registers: R, place: Range<usize>) -> Result<Controller<R>, Refusal> {
        let unknown = Capabilities { entries: 0, timeout_ms: 0, stride: 4 };
        let mut controller = Controller { registers, start: place.start, capabilities: unknown };
        if place.len() < register::DOORBELLS {
            return Err(Refusal::Doorbells(0));
        }
        let cap = u64::from(controller.read(register::CAP)) | u64::from(controller.read(register::CAP + 4)) << 32;
        controller.capabilities = Capabilities::parse(cap)?;
        // Two queue pairs have four doorbells.
        let stride = controller.capabilities.stride;
        if register::DOORBELLS + 3 * stride + 4 > place.len() {
            return Err(Refusal::Doorbells(stride));
        }
        Ok(controller)
    }

    /// What it can.
    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Its registers, for tests that play the device.
    #[cfg(any(test, feature = "ram"))]
    pub(super) fn registers(&mut self) -> &mut R {
        &mut self.registers
    }

    /// Stops it (section 7.3.2): when this has gone well it has no queues and touches no memory, whatever it was told by a driver before.
    pub(super) fn reset(&mut self, clock: &mut impl Clock) -> Result<(), Refusal> {
        if self.read(register::CC) & EN != 0 {
            // To disable one that is not ready yet has undefined results (section 3.1.5). One that never gets ready is beyond that rule, and a
            // reset is what is left to try.
            match self.wait(clock, |status| status & (RDY | CFS) != 0) {
                Ok(()) | Err(Refusal::Late(_)) => self.disable(),
                Err(refusal) => return Err(refusal),
            }
        }
        // One that had failed was perhaps not ready before, and shows by its fatal status alone that the reset is done.
        self.wait(clock, |status| status & (RDY | CFS) == 0)
    }

    /// Starts it (section 7.6.1) with these addresses of the admin queues, both of `entries` entries and empty. Its interrupts are masked. What
    /// the queues hold is visible to it by now.
    pub(super) fn start(&mut self, queues: [u64; 2], entries: u32, clock: &mut impl Clock) -> Result<(), Refusal> {
        self.mask_interrupts();
        self.write(register::AQA, (entries - 1) << 16 | (entries - 1));
        for (low, address) in [register::ASQ, register::ACQ].into_iter().zip(queues) {
            self.write(low, address as u32);
            self.write(low + 4, (address >> 32) as u32);
        }
        self.write(register::CC, ENTRY_SIZES | EN);
        self.wait(clock, |status| status & (RDY | CFS) != 0)?;
        if self.is_dead() { Err(Refusal::Fatal) } else { Ok(()) }
    }

    /// Tells it to stop, without waiting until it has.
    pub(super) fn disable(&mut self) {
        let configuration = self.read(register::CC);
        self.write(register::CC, configuration & !(EN | SHN));
    }

    /// Lets it raise no interrupt.
    pub(super) fn mask_interrupts(&mut self) {
        self.write(register::INTMS, ALL_VECTORS);
    }

    /// Lets it raise interrupts.
    pub(super) fn unmask_interrupts(&mut self) {
        self.write(register::INTMC, ALL_VECTORS);
    }

    /// Whether a controller that was started will answer nothing more: it has failed, has been reset, or is not there (section 9.5).
    pub(super) fn is_dead(&self) -> bool {
        self.read(register::CSTS) & (RDY | CFS) != RDY
    }

    /// Shows it the tail of the submission queue `queue`.
    pub(super) fn ring_tail(&mut self, queue: u16, tail: u16) {
        self.write(self.doorbell(2 * usize::from(queue)), tail.into());
    }

    /// Shows it the head of the completion queue `queue`: what is before it is read. Its interrupt ends if nothing is behind it.
    pub(super) fn ring_head(&mut self, queue: u16, head: u16) {
        self.write(self.doorbell(2 * usize::from(queue) + 1), head.into());
    }

    /// Section 3.1.24 and 3.1.25.
    fn doorbell(&self, number: usize) -> usize {
        register::DOORBELLS + number * self.capabilities.stride
    }

    /// Waits until `done(CSTS)`; bounded by the time that the controller allows itself.
    fn wait(&self, clock: &mut impl Clock, done: impl Fn(u32) -> bool) -> Result<(), Refusal> {
        let limit_ms = self.capabilities.timeout_ms;
        let begun = clock.now_ms();
        loop {
            let late = clock.now_ms().saturating_sub(begun) > limit_ms;
            match self.read(register::CSTS) {
                ALL_ONES => return Err(Refusal::Gone),
                status if done(status) => return Ok(()),
                _ if late => return Err(Refusal::Late(limit_ms)),
                _ => clock.pause(),
            }
        }
    }

    fn read(&self, offset: usize) -> u32 {
        self.registers.read(self.start + offset)
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.registers.write(self.start + offset, value);
    }
}
