//! Commands as they lie in a submission queue (specification, sections 4.2, 5 and 6).

/// Bytes of a submission queue entry.
pub(super) const ENTRY_BYTES: usize = 64;

/// Admin commands (section 5), and commands of the NVM command set (section 6).
pub(super) mod opcode {
    pub(crate) const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    pub(crate) const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
}

/// What Identify is asked for (section 5.15).
#[derive(Clone, Copy, Debug)]
pub(super) enum Structure {
    /// The namespace.
    Namespace = 0,
    /// The controller.
    Controller = 1,
    /// Active namespaces above the one that is named.
    ActiveNamespaces = 2,
}

/// Feature: how many I/O queues there shall be (section 5.21.1.7).
const NUMBER_OF_QUEUES: u32 = 7;
/// A queue lies in one piece; a completion queue interrupts (sections 5.3 and 5.4).
const CONTIGUOUS: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 1;

/// A command, but for its identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) opcode: u8,
    namespace: u32,
    /// Where its data is, as two physical region page entries (section 4.3).
    data: [u64; 2],
    /// Command dwords 10, 11 and 12.
    dwords: [u32; 3],
}

impl Command {
    /// Tells of the controller or of `namespace` in the page at `page`.
    pub(super) fn identify(structure: Structure, namespace: u32, page: u64) -> Command {
        Command { opcode: opcode::IDENTIFY, namespace, data: [page, 0], dwords: [structure as u32, 0, 0] }
    }

    /// Asks for one I/O queue pair, which is the least: the fields count from 0.
    pub(super) fn one_queue_pair() -> Command {
        Command { opcode: opcode::SET_FEATURES, dwords: [NUMBER_OF_QUEUES, 0, 0], ..Command::default() }
    }

    /// Makes completion queue `queue` of `entries` at `address`, which raises interrupt vector 0.
    pub(super) fn create_completion_queue(queue: u16, entries: u16, address: u64) -> Command {
        let size = u32::from(entries - 1) << 16 | u32::from(queue);
        let dwords = [size, INTERRUPTS | CONTIGUOUS, 0];
        Command { opcode: opcode::CREATE_COMPLETION_QUEUE, data: [address, 0], dwords, ..Command::default() }
    }

    /// Makes submission queue `queue` of `entries` at `address`, which completes in the completion queue of the same number.
    pub(super) fn create_submission_queue(queue: u16, entries: u16, address: u64) -> Command {
        let size = u32::from(entries - 1) << 16 | u32::from(queue);
        let dwords = [size, u32::from(queue) << 16 | CONTIGUOUS, 0];
        Command { opcode: opcode::CREATE_SUBMISSION_QUEUE, data: [address, 0], dwords, ..Command::default() }
    }

    /// Makes durable what `namespace` has completed (section 6.8).
    pub(super) fn flush(namespace: u32) -> Command {
        Command { opcode: opcode::FLUSH, namespace, ..Command::default() }
    }

    /// Reads or writes `count` logical blocks, at least one, from `first` on (sections 6.9 and 6.15).
    pub(super) fn transfer(opcode: u8, namespace: u32, first: u64, count: u32, data: [u64; 2]) -> Command {
        Command { opcode, namespace, data, dwords: [first as u32, (first >> 32) as u32, count - 1] }
    }

    /// The entry, in words of 64 bits; `identifier` is one that no command under way in its queue has.
    pub(super) fn entry(&self, identifier: u16) -> [u64; ENTRY_BYTES / 8] {
        let [dword_10, dword_11, dword_12] = self.dwords.map(u64::from);
        let first = u64::from(self.namespace) << 32 | u64::from(identifier) << 16 | u64::from(self.opcode);
        let [data, more_data] = self.data;
        [first, 0, 0, data, more_data, dword_11 << 32 | dword_10, dword_12, 0]
    }
}
