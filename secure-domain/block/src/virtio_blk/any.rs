//! A transport of either kind, for a machine that may have both.

use super::{Mmio, Pci, Transport};
use crate::{Error, NarrowRegisters};

/// Either transport.
#[derive(Debug)]
pub enum Any<R> {
    /// Memory-mapped.
    Mmio(Mmio<R>),
    /// PCI.
    Pci(Pci<R>),
}

/// Calls the method of whichever it is.
macro_rules! either {
    ($any:expr, $transport:ident => $call:expr) => {
        match $any {
            Any::Mmio($transport) => $call,
            Any::Pci($transport) => $call,
        }
    };
}

impl<R: NarrowRegisters> Transport for Any<R> {
    fn identify(&self) -> Result<(), Error> {
        either!(self, transport => transport.identify())
    }

    fn needs(&self) -> u64 {
        either!(self, transport => transport.needs())
    }

    fn status(&self) -> u32 {
        either!(self, transport => transport.status())
    }

    fn set_status(&mut self, status: u32) {
        either!(self, transport => transport.set_status(status));
    }

    fn features(&mut self, half: u32) -> u32 {
        either!(self, transport => transport.features(half))
    }

    fn accept(&mut self, half: u32, features: u32) {
        either!(self, transport => transport.accept(half, features));
    }

    fn generation(&self) -> u32 {
        either!(self, transport => transport.generation())
    }

    fn config(&self, offset: usize) -> u32 {
        either!(self, transport => transport.config(offset))
    }

    fn start_queue(&mut self, size: u16, areas: [u64; 3]) -> Result<(), Error> {
        either!(self, transport => transport.start_queue(size, areas))
    }

    fn notify(&mut self) {
        either!(self, transport => transport.notify());
    }

    fn acknowledge(&mut self) {
        either!(self, transport => transport.acknowledge());
    }
}
