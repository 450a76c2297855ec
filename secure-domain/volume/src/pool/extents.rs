//! The extents of the members: whose each is, which are free, and which leaves of the tables have to be written.

use alloc::{vec, vec::Vec};

use crate::{
    bits::Bits,
    record::{
        extent::{self, Assignment, EXTENT_BYTES},
        geometry::Geometry,
        node::FAN_OUT,
    },
};

/// One extent.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Version of the assignment; 0: free.
    version: u64,
    volume: u32,
    index: u32,
    copy: u8,
    /// Runs under way in it.
    users: u16,
}

/// The extents of one member.
#[derive(Debug)]
pub(crate) struct Extents {
    states: Vec<State>,
    free: u64,
    /// Where the next search begins.
    hint: usize,
    /// Leaves of the table that differ from what the last checkpoint wrote.
    dirty: Bits,
    /// Leaves that could not be read.
    hidden: Bits,
}

impl Extents {
    /// All free.
    pub(crate) fn new(geometry: &Geometry) -> Extents {
        let free = State { version: 0, volume: 0, index: 0, copy: 0, users: 0 };
        Extents {
            states: vec![free; geometry.extents as usize],
            free: geometry.extents,
            hint: 0,
            dirty: Bits::new(geometry.extent_leaves as usize),
            hidden: Bits::new(geometry.extent_leaves as usize),
        }
    }

    /// Whose `extent` is; `None`: nobody's.
    pub(crate) fn get(&self, extent: u32) -> Option<Assignment> {
        let state = self.states.get(extent as usize)?;
        let State { version, volume, index, copy, .. } = *state;
        (version != 0).then_some(Assignment { volume, index, copy, version })
    }

    /// The version of the assignment of `extent`, which has one.
    pub(crate) fn version(&self, extent: u32) -> u64 {
        self.states[extent as usize].version
    }

    /// Gives `extent` to someone, or to nobody.
    pub(crate) fn set(&mut self, extent: u32, assignment: Option<&Assignment>) {
        let state = &mut self.states[extent as usize];
        self.free = self.free + u64::from(state.version != 0) - u64::from(assignment.is_some());
        match assignment {
            Some(to) => {
                (state.version, state.volume, state.index, state.copy) = (to.version, to.volume, to.index, to.copy)
            }
            None => state.version = 0,
        }
        self.dirty.insert(extent as usize / FAN_OUT as usize);
    }

    /// How many are free.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// A free extent that nobody uses any more.
    pub(crate) fn find_free(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        for step in 0..self.states.len() {
            let at = (self.hint + step) % self.states.len();
            if self.states[at].version == 0 && self.states[at].users == 0 {
                self.hint = at;
                return Some(at as u32);
            }
        }
        None
    }

    /// How many extents there are.
    pub(crate) fn len(&self) -> u32 {
        self.states.len() as u32
    }

    /// A run is under way in `extent`.
    pub(crate) fn enter(&mut self, extent: u32) {
        self.states[extent as usize].users += 1;
    }

    /// It has ended.
    pub(crate) fn leave(&mut self, extent: u32) {
        self.states[extent as usize].users -= 1;
    }

    /// Whether a run is under way in `extent`.
    pub(crate) fn in_use(&self, extent: u32) -> bool {
        self.states[extent as usize].users != 0
    }

    /// The first leaf of the table that has to be written.
    pub(crate) fn next_dirty(&self) -> Option<usize> {
        self.dirty.next(0)
    }

    /// Leaf `leaf` of the table (counted from the first of the table) as it is to be written; it is clean then.
    pub(crate) fn encode(&mut self, leaf: usize, out: &mut [u8]) {
        out.fill(0);
        let first = leaf * FAN_OUT as usize;
        for (at, bytes) in (first..self.states.len()).zip(out.chunks_exact_mut(EXTENT_BYTES)) {
            bytes.copy_from_slice(&extent::encode(self.get(at as u32).as_ref()));
        }
        self.dirty.remove(leaf);
    }

    /// No checkpoint will write what has changed.
    pub(crate) fn forget_changes(&mut self) {
        while let Some(leaf) = self.dirty.next(0) {
            self.dirty.remove(leaf);
        }
    }

    /// Whether it is not known whose `extent` is.
    pub(crate) fn is_hidden(&self, extent: u32) -> bool {
        self.hidden.contains(extent as usize / FAN_OUT as usize)
    }

    /// Leaf `leaf` of the table cannot be read: none of its extents is given to anyone, and it is never written.
    pub(crate) fn hide(&mut self, leaf: usize) {
        self.hidden.insert(leaf);
        let first = leaf * FAN_OUT as usize;
        let until = self.states.len().min(first + FAN_OUT as usize);
        for state in &mut self.states[first..until] {
            self.free -= u64::from(state.version == 0 && state.users == 0);
            (state.version, state.users) = (0, 1);
        }
    }

    /// Takes what lies on the disk: leaf `leaf` of the table. Nothing becomes dirty.
    pub(crate) fn load(&mut self, leaf: usize, bytes: &[u8]) -> Result<(), extent::Impossible> {
        let first = leaf * FAN_OUT as usize;
        for (at, record) in bytes.as_chunks().0.iter().enumerate() {
            let found = extent::parse(record)?;
            if let Some(assignment) = found {
                if first + at >= self.states.len() {
                    return Err(extent::Impossible);
                }
                self.set((first + at) as u32, Some(&assignment));
            }
        }
        self.dirty.remove(leaf);
        Ok(())
    }
}
