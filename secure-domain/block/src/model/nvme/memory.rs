//! Memory that a controller reaches, and what it does there.

use alloc::{rc::Rc, vec, vec::Vec};
use core::cell::RefCell;
use core::ops::Range;

use super::{CFS, Fetched, NvmeController, PAGE, Queues, RDY};
use crate::{Dma, model::Memory};

/// Invalid field in command; LBA out of range (section 4.6.1.2.1).
const INVALID_FIELD: u16 = 0x02;
const OUT_OF_RANGE: u16 = 0x80;

/// DMA memory with the controller at work in it. Admin commands it answers while the driver looks for answers; what goes to the I/O queues waits
/// for [`ControllerMemory::serve`].
#[derive(Debug)]
pub struct ControllerMemory {
    bytes: RefCell<Vec<u8>>,
    controller: Rc<RefCell<NvmeController>>,
}

impl ControllerMemory {
    pub(super) fn new(controller: Rc<RefCell<NvmeController>>, len: usize) -> ControllerMemory {
        ControllerMemory { bytes: RefCell::new(Memory::new(len).bytes), controller }
    }

    /// Fetches the commands that were shown, and answers up to `count` of those under way, chosen by `order`, as long as the completion queue has
    /// room.
    pub fn serve(&mut self, count: usize, order: u64) {
        let (controller, bytes) = (&mut *self.controller.borrow_mut(), self.bytes.get_mut());
        while let Some(fetched) = fetch(controller, bytes, 1) {
            let twice = controller.taken.iter().any(|other| other.identifier == fetched.identifier);
            assert!(!twice && fetched.identifier != u16::MAX, "identifier {:#x}", fetched.identifier);
            controller.taken.push(fetched);
        }
        for turn in 0..count.min(controller.taken.len()) as u64 {
            if controller.queues[1].as_ref().is_none_or(Queues::is_full) {
                return;
            }
            let index = (order.wrapping_add(turn * 7) % controller.taken.len() as u64) as usize;
            let fetched = controller.taken.swap_remove(index);
            let status = transfer(controller, bytes, &fetched);
            post(controller, bytes, 1, fetched.identifier, status);
        }
    }

    /// Posts an entry to the I/O completion queue that nothing asked for: identifier, queue, submission head, status.
    pub fn lie(&mut self, [identifier, queue, head, status]: [u16; 4]) {
        let (controller, bytes) = (&mut *self.controller.borrow_mut(), self.bytes.get_mut());
        post_raw(controller, bytes, 1, [identifier, queue, head, status]);
    }

    /// Identifiers of the commands under way, which it fetches for that.
    pub fn under_way(&mut self) -> Vec<u16> {
        self.serve(0, 0);
        self.controller.borrow().taken.iter().map(|fetched| fetched.identifier).collect()
    }

    fn serve_admin(&self) {
        let controller = &mut *self.controller.borrow_mut();
        let bytes = &mut *self.bytes.borrow_mut();
        while let Some(fetched) = fetch(controller, bytes, 0) {
            let opcode = fetched.dwords[0] as u8;
            match controller.refuses.filter(|(refused, _)| *refused == opcode) {
                Some((_, None)) => {}
                Some((_, Some(status))) => post(controller, bytes, 0, fetched.identifier, status),
                None => {
                    let status = administer(controller, bytes, &fetched);
                    post(controller, bytes, 0, fetched.identifier, status);
                }
            }
        }
    }
}

/// Where the controller's `address` is in memory.
fn place(address: u64, len: usize) -> Range<usize> {
    let start = usize::try_from(address.checked_sub(Memory::BASE).expect("below memory")).expect("above memory");
    start..start + len
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn fetch(controller: &mut NvmeController, bytes: &[u8], number: usize) -> Option<Fetched> {
    if controller.csts & (RDY | CFS) != RDY {
        return None;
    }
    let queues = controller.queues[number].as_mut()?;
    if queues.fetch == queues.tail {
        return None;
    }
    let at = place(queues.submissions + 64 * u64::from(queues.fetch), 64);
    queues.fetch = (queues.fetch + 1) % queues.entries;
    let words = bytes[at].as_chunks::<4>().0;
    let dwords: [u32; 16] = core::array::from_fn(|index| u32::from_le_bytes(words[index]));
    assert_eq!(dwords[0] & 0xff00, 0, "neither fused nor with scatter-gather lists");
    Some(Fetched { identifier: (dwords[0] >> 16) as u16, dwords })
}

fn post(controller: &mut NvmeController, bytes: &mut [u8], number: usize, identifier: u16, status: u16) {
    let head = controller.queues[number].as_ref().map_or(0, |queues| queues.fetch);
    post_raw(controller, bytes, number, [identifier, number as u16, head as u16, status]);
}

fn post_raw(controller: &mut NvmeController, bytes: &mut [u8], number: usize, entry: [u16; 4]) {
    let [identifier, queue, head, status] = entry;
    let Some(queues) = controller.queues[number].as_mut().filter(|queues| !queues.is_full()) else { return };
    let at = place(queues.completions + 16 * u64::from(queues.post), 16);
    let fields = [0, 0, 0, 0, head, queue, identifier, status << 1 | queues.phase];
    let entry: Vec<u8> = fields.into_iter().flat_map(u16::to_le_bytes).collect();
    bytes[at].copy_from_slice(&entry);
    queues.post = (queues.post + 1) % queues.entries;
    queues.phase ^= u16::from(queues.post == 0);
}

/// Answers an admin command (section 5): its status.
fn administer(controller: &mut NvmeController, bytes: &mut [u8], fetched: &Fetched) -> u16 {
    let [address, ..] = data(&fetched.dwords);
    let [dword_10, dword_11] = [fetched.dwords[10], fetched.dwords[11]];
    match fetched.dwords[0] as u8 {
        0x06 => {
            let Some(page) = identify(controller, fetched.dwords[1], dword_10) else { return INVALID_FIELD };
            bytes[place(address, PAGE)].copy_from_slice(&page);
        }
        0x09 => assert_eq!((dword_10, dword_11), (7, 0), "one queue pair is asked for"),
        0x05 => {
            assert_eq!((dword_10 & 0xffff, dword_11), (1, 3), "queue 1, contiguous, with interrupt vector 0");
            controller.completion_queue = Some((address, (dword_10 >> 16) + 1));
        }
        0x01 => {
            assert_eq!((dword_10 & 0xffff, dword_11), (1, 1 << 16 | 1), "queue 1, contiguous, for completion queue 1");
            let (completions, entries) = controller.completion_queue.expect("the completion queue comes first");
            assert_eq!((dword_10 >> 16) + 1, entries);
            assert!(u64::from(entries) <= (controller.cap & 0xffff) + 1, "larger than the controller allows");
            controller.queues[1] = Some(Queues::new(address, completions, entries));
            bytes[place(completions, 16 * entries as usize)].iter().for_each(|byte| assert_eq!(*byte, 0));
        }
        other => panic!("no driver needs admin command {other:#x}"),
    }
    0
}

fn identify(controller: &NvmeController, namespace: u32, structure: u32) -> Option<Vec<u8>> {
    match structure {
        0 if controller.namespaces.contains(&namespace) => Some(controller.namespace.clone()),
        1 => Some(controller.controller.clone()),
        2 => {
            let mut list = vec![0; PAGE];
            let above = controller.namespaces.iter().filter(|number| **number > namespace);
            for (place, number) in list.as_chunks_mut::<4>().0.iter_mut().zip(above) {
                *place = number.to_le_bytes();
            }
            Some(list)
        }
        _ => None,
    }
}

fn data(dwords: &[u32; 16]) -> [u64; 2] {
    let entry = |low: usize| u64::from(dwords[low]) | u64::from(dwords[low + 1]) << 32;
    [entry(6), entry(8)]
}

/// The pages that a command names (section 4.3), which begin and end with a page.
fn pages(bytes: &[u8], dwords: &[u32; 16], count: usize) -> Vec<u64> {
    let [first, second] = data(dwords);
    let mut pages = vec![first];
    match count {
        0 | 1 => assert_eq!(second, 0, "reserved"),
        2 => pages.push(second),
        _ => {
            assert!(
                second.is_multiple_of(8) && second as usize % PAGE + 8 * (count - 1) <= PAGE,
                "one list, in one page"
            );
            let list = place(second, 0).start;
            pages.extend((0..count - 1).map(|index| word(bytes, list + 8 * index)));
        }
    }
    assert!(pages.iter().all(|page| page.is_multiple_of(PAGE as u64)), "{pages:x?}");
    pages
}

/// Answers a command of the NVM command set (section 6): its status.
fn transfer(controller: &mut NvmeController, bytes: &mut [u8], fetched: &Fetched) -> u16 {
    let dwords = &fetched.dwords;
    if controller.io_status != 0 {
        return controller.io_status;
    }
    if controller.namespaces.first() != Some(&dwords[1]) {
        return INVALID_FIELD;
    }
    if dwords[0] as u8 == 0x00 {
        controller.flushes += 1;
        controller.durable.clone_from(&controller.image);
        return 0;
    }
    let logical = controller.logical_bytes() as u64;
    let (first, count) = (u64::from(dwords[10]) | u64::from(dwords[11]) << 32, u64::from(dwords[12] & 0xffff) + 1);
    let (start, len) = (first.saturating_mul(logical), (count * logical) as usize);
    if start.saturating_add(len as u64) > controller.image.len() as u64 {
        return OUT_OF_RANGE;
    }
    let limit = match controller.controller[77] {
        0 => usize::MAX,
        power => PAGE << power.min(16),
    };
    assert!(len <= limit && len.is_multiple_of(PAGE), "{len} bytes are too much or no pages");
    let pages = pages(bytes, dwords, len / PAGE);
    for (index, page) in pages.into_iter().enumerate() {
        let (memory, disk) = (place(page, PAGE), start as usize + index * PAGE);
        match dwords[0] as u8 {
            0x01 => controller.image[disk..disk + PAGE].copy_from_slice(&bytes[memory]),
            0x02 => bytes[memory].copy_from_slice(&controller.image[disk..disk + PAGE]),
            other => panic!("no driver needs command {other:#x}"),
        }
    }
    0
}

impl Dma for ControllerMemory {
    fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn address(&self) -> u64 {
        Memory::BASE
    }

    fn bytes(&mut self, range: Range<usize>) -> &mut [u8] {
        let controller = self.controller.borrow();
        assert!(controller.starts > 0 || controller.csts & RDY == 0, "a driver before may be at work here");
        &mut self.bytes.get_mut()[range]
    }

    fn load8(&self, offset: usize) -> u8 {
        self.bytes.borrow()[offset]
    }

    fn load16(&self, offset: usize) -> u16 {
        self.serve_admin();
        let bytes = self.bytes.borrow();
        u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
    }

    fn load32(&self, offset: usize) -> u32 {
        let bytes = self.bytes.borrow();
        u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
    }

    fn store8(&mut self, offset: usize, value: u8) {
        self.bytes(offset..offset + 1)[0] = value;
    }

    fn store16(&mut self, offset: usize, value: u16) {
        self.bytes(offset..offset + 2).copy_from_slice(&value.to_le_bytes());
    }

    fn store32(&mut self, offset: usize, value: u32) {
        self.bytes(offset..offset + 4).copy_from_slice(&value.to_le_bytes());
    }

    fn store64(&mut self, offset: usize, value: u64) {
        self.bytes(offset..offset + 8).copy_from_slice(&value.to_le_bytes());
    }

    fn fence(&self) {}
}
