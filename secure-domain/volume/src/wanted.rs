//! The volumes that a pool shall have, and the way there, one command at a time.
//!
//! What is wanted is a list, and the next step follows from the list and from what the pool has now. Nothing of the way is written
//! down, so power may fail anywhere: the next start looks again and goes on. A step that the pool refuses is told once and not tried
//! again before the next start; the volume is served as it is.
//!
//! A volume that the list does not name is none of its business: nothing is ever deleted for want of a line. For the same reason
//! nothing shrinks, and a volume keeps its layout.

use alloc::{collections::VecDeque, vec::Vec};
use core::fmt;

use crypto::Suite;

use crate::{Command, Layout, Name, Refusal, Status, VolumeInfo};

/// A volume that a pool shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, which tells it from the others.
    pub name: Name,
    /// How it lies on the members.
    pub layout: Layout,
    /// Its size in blocks, at least.
    pub blocks: u64,
    /// The suite of its epoch.
    pub suite: Suite,
    /// The number of its epoch, at least: every new key is a new epoch, so a number above the volume's asks for one.
    pub epoch: u16,
}

/// What is done about a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is missing.
    Create,
    /// It is smaller than wanted.
    Grow,
    /// Its suite is another, or its key too old.
    Rekey,
}

/// How far it has come with one volume.
struct Item {
    wanted: Wanted,
    /// What cannot be reached has been told.
    told: bool,
    /// The pool has refused a step.
    refused: bool,
    /// Quarters of a resealing that were told.
    quarters: u64,
}

/// The list, and how far it has come.
pub struct Plan {
    items: Vec<Item>,
    /// The command that was given out: which volume, what for.
    running: Option<(usize, Step)>,
    notes: VecDeque<Note>,
}

impl Plan {
    /// Nothing has been done yet about any of `wanted`, whose names differ.
    pub fn new(wanted: impl IntoIterator<Item = Wanted>) -> Plan {
        let item = |wanted| Item { wanted, told: false, refused: false, quarters: 0 };
        Plan { items: wanted.into_iter().map(item).collect(), running: None, notes: VecDeque::new() }
    }

    /// The command that makes the next missing volume, given what the pool has. Tell [`ended`](Self::ended) how it went.
    pub fn next_creation(&mut self, volumes: &[VolumeInfo]) -> Option<Command> {
        let missing = |item: &Item| !item.refused && find(volumes, &item.wanted).is_none();
        let index = self.items.iter().position(missing).filter(|_| self.running.is_none())?;
        let Wanted { name, layout, blocks, suite, .. } = self.items[index].wanted;
        self.running = Some((index, Step::Create));
        Some(Command::Create { name, layout, blocks, suite })
    }

    /// The command that brings the next volume closer to what is wanted. A volume is grown once `in_use` says that a driver has it
    /// (by its number): the driver then learns of its new size the way it would at any other time.
    pub fn next_change(&mut self, volumes: &[VolumeInfo], in_use: impl Fn(u32) -> bool) -> Option<Command> {
        if self.running.is_some() {
            return None;
        }
        for (index, item) in self.items.iter_mut().enumerate() {
            let Some(found) = find(volumes, &item.wanted) else { continue };
            self.notes.extend(item.look(found));
            let Some((step, command)) = item.change(found, &in_use) else { continue };
            self.running = Some((index, step));
            return Some(command);
        }
        None
    }

    /// The command that was given out could not be given to the pool, which has another one under way.
    pub fn put_off(&mut self) {
        self.running = None;
    }

    /// The command that was given out has ended; `volumes` is what the pool has now.
    pub fn ended(&mut self, status: Status, volumes: &[VolumeInfo]) {
        let Some((index, step)) = self.running.take() else { return };
        let item = &mut self.items[index];
        let name = item.wanted.name;
        match (status, find(volumes, &item.wanted)) {
            (Status::Ok, Some(found)) => {
                let VolumeInfo { blocks, layout, epoch, suite, .. } = *found;
                self.notes.push_back(match step {
                    Step::Create => Note::Created { name, blocks, layout, suite },
                    Step::Grow => Note::Grown { name, blocks },
                    Step::Rekey => Note::Rekeyed { name, epoch, suite },
                });
                item.quarters = 0;
            }
            // It may be so no longer when it is asked again.
            (Status::Refused(Refusal::Busy), _) => {}
            (status, _) => {
                item.refused = true;
                self.notes.push_back(Note::Refused { name, step, status });
            }
        }
    }

    /// Whether nothing is left to do or to tell: every volume is as wanted, or cannot be.
    pub fn is_settled(&self, volumes: &[VolumeInfo]) -> bool {
        self.running.is_none()
            && self.items.iter().all(|item| match find(volumes, &item.wanted) {
                None => item.refused,
                Some(found) => found.resealing.is_none() && item.change(found, |_| true).is_none(),
            })
    }

    /// The numbers of the pool's volumes in the order in which to offer them: those of the list as it has them, then the others.
    pub fn order(&self, volumes: &[VolumeInfo]) -> Vec<u32> {
        let is_listed = |info: &VolumeInfo| self.items.iter().any(|item| item.wanted.is(info));
        let listed = self.items.iter().filter_map(|item| find(volumes, &item.wanted));
        listed.chain(volumes.iter().filter(|info| !is_listed(info))).map(|info| info.number).collect()
    }

    /// What there is to tell.
    pub fn next_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }
}

fn find<'a>(volumes: &'a [VolumeInfo], wanted: &Wanted) -> Option<&'a VolumeInfo> {
    volumes.iter().find(|info| wanted.is(info))
}

impl Wanted {
    fn is(&self, info: &VolumeInfo) -> bool {
        self.name.as_str() == info.name
    }
}

impl Item {
    /// What to do about the volume as it was found.
    fn change(&self, found: &VolumeInfo, in_use: impl Fn(u32) -> bool) -> Option<(Step, Command)> {
        let (Wanted { blocks, suite, epoch, .. }, volume) = (self.wanted, found.number);
        if self.refused {
            return None;
        }
        // One resealing after the other, however many are wanted.
        if (found.suite != suite || found.epoch < epoch) && found.resealing.is_none() {
            return Some((Step::Rekey, Command::Rekey { volume, suite }));
        }
        (found.blocks < blocks && in_use(volume)).then_some((Step::Grow, Command::Grow { volume, blocks }))
    }

    /// What there is to tell of the volume as it was found.
    fn look(&mut self, found: &VolumeInfo) -> Vec<Note> {
        let mut notes = Vec::new();
        let name = self.wanted.name;
        if !core::mem::replace(&mut self.told, true) {
            if found.layout != self.wanted.layout {
                notes.push(Note::Layout { name, is: found.layout, wanted: self.wanted.layout });
            }
            if found.blocks > self.wanted.blocks {
                notes.push(Note::Larger { name, is: found.blocks, wanted: self.wanted.blocks });
            }
        }
        let seen = found.resealing.map_or(0, |seen| seen.min(found.blocks) * 4 / found.blocks.max(1));
        if seen > self.quarters {
            self.quarters = seen;
            notes.push(Note::Progress { name, percent: 25 * seen });
        }
        notes
    }
}

/// Something to tell of a volume; each displays as one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was missing and is there now.
    Created {
        /// Its name.
        name: Name,
        /// Its size.
        blocks: u64,
        /// How it lies on the members.
        layout: Layout,
        /// The suite that seals it.
        suite: Suite,
    },
    /// It was smaller.
    Grown {
        /// Its name.
        name: Name,
        /// Its size now.
        blocks: u64,
    },
    /// It has a new key, and what lies there is being resealed.
    Rekeyed {
        /// Its name.
        name: Name,
        /// The new epoch.
        epoch: u16,
        /// The suite of that epoch.
        suite: Suite,
    },
    /// So much of it was looked at since resealing began.
    Progress {
        /// Its name.
        name: Name,
        /// Hundredths of its blocks.
        percent: u64,
    },
    /// It lies otherwise than wanted.
    Layout {
        /// Its name.
        name: Name,
        /// How it lies.
        is: Layout,
        /// How it should.
        wanted: Layout,
    },
    /// It is larger than wanted.
    Larger {
        /// Its name.
        name: Name,
        /// Its size in blocks.
        is: u64,
        /// The size that is wanted.
        wanted: u64,
    },
    /// The pool refused what was wanted.
    Refused {
        /// Its name.
        name: Name,
        /// What was to be done.
        step: Step,
        /// Why not.
        status: Status,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Create => "created",
            Step::Grow => "grown",
            Step::Rekey => "given a new key",
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |blocks: u64| blocks >> 8;
        match *self {
            Note::Created { name, blocks, layout, suite } => {
                write!(f, "volume {name:?} is created: {} MiB, {layout}, {}", mib(blocks), suite.name())
            }
            Note::Grown { name, blocks } => write!(f, "volume {name:?} is grown to {} MiB", mib(blocks)),
            Note::Rekeyed { name, epoch, suite } => {
                write!(f, "volume {name:?} has a new key, epoch {epoch}, {}: it is being resealed", suite.name())
            }
            Note::Progress { name, percent } => write!(f, "volume {name:?}: {percent} % resealed"),
            Note::Layout { name, is, wanted } => {
                write!(f, "volume {name:?} is {is} and not {wanted} as wanted: it is served as it is")
            }
            Note::Larger { name, is, wanted } => {
                let (is, wanted) = (mib(is), mib(wanted));
                write!(f, "volume {name:?} has {is} MiB, more than the {wanted} that are wanted: it is served as it is")
            }
            Note::Refused { name, step, status } => write!(f, "volume {name:?} cannot be {step}: {status}"),
        }
    }
}
