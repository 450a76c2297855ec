//! The administrator of a world: commands, and the judgement of their answers.

use volume::{Command, Done, Layout, Name, Refusal, Status};

use super::{Commanded, Known, Verdict, World};
use crate::model::{self, View};

impl World {
    pub(super) fn ask_command(&mut self, command: crate::step::Command) {
        use crate::step::Command as Wanted;
        let name = Name::new(&format!("volume-{}", self.next_cookie));
        let (Some(name), Some(volume)) = (name, self.nth(command.volume())) else { return };
        let size = self.volumes[&volume].sizes.iter().copied().max().unwrap_or_default();
        let layout = self.config.volumes[self.next_cookie as usize % self.config.volumes.len()].layout;
        self.command(match command {
            Wanted::Create(blocks, suite) => Command::Create { name, layout, blocks, suite },
            Wanted::Delete(_) => Command::Delete { volume },
            Wanted::Grow(_, more) => Command::Grow { volume, blocks: size + more },
            Wanted::Rename(_) => Command::Rename { volume, name },
            Wanted::Rekey(_, suite) => Command::Rekey { volume, suite },
            Wanted::Scrub => Command::Scrub,
        });
    }

    /// Gives the pool a command; while it has one, nothing happens.
    pub fn command(&mut self, command: Command) {
        let Some(engine) = &mut self.engine else { return };
        let cookie = self.next_cookie;
        if self.commanded.is_some() || engine.command(cookie, command.clone()).is_err() {
            return;
        }
        self.next_cookie += 1;
        self.changed_single |= matches!(&command, Command::Rekey { volume, .. } if !self.is_mirrored(*volume));
        match &command {
            Command::Create { name, blocks, .. } => self.created.push((name.as_str().to_owned(), *blocks)),
            Command::Delete { volume } => self.change(*volume, |known| known.going = true),
            Command::Grow { volume, blocks } => self.change(*volume, |known| known.sizes.push(*blocks)),
            Command::Rename { volume, name } => {
                self.change(*volume, |known| known.names.push(name.as_str().to_owned()))
            }
            Command::Rekey { .. } | Command::Scrub => {}
        }
        self.commanded = Some(Commanded { cookie, command });
    }

    pub(super) fn change(&mut self, volume: u32, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.volumes.get_mut(&volume) {
            change(known);
        }
    }

    pub(super) fn judge_command(&mut self, done: Done) -> Verdict {
        let Some(Commanded { command, .. }) = self.commanded.take().filter(|commanded| commanded.cookie == done.cookie)
        else {
            return Err(format!("an answer to no command: {done:?}"));
        };
        self.note(|| format!("  {command:?}: {:?}", done.status));
        let keep = |list: &mut Vec<_>, old: bool| {
            let kept = if old { list.remove(0) } else { list.remove(list.len() - 1) };
            *list = vec![kept];
        };
        match done.status {
            Status::Ok => {
                self.tally.succeeded += 1;
                match &command {
                    Command::Create { .. } => return self.adopt_created(),
                    Command::Delete { volume } => self.change(*volume, |known| known.gone = true),
                    Command::Grow { volume, blocks } => self.change(*volume, |known| {
                        keep(&mut known.sizes, false);
                        known.model.grow(*blocks);
                    }),
                    Command::Rename { volume, .. } => {
                        self.change(*volume, |known| known.names = known.names.split_off(known.names.len() - 1))
                    }
                    Command::Rekey { .. } | Command::Scrub => {}
                }
                Ok(())
            }
            Status::Refused(refusal) => {
                self.undo(&command);
                self.excuse_refusal(&command, refusal)
            }
            status => {
                // It may have happened or not; the next mount tells.
                self.tally.excused += 1;
                if self.troubled && !self.is_safe()
                    || self.refused
                    || self.is_tainted()
                    || matches!(command, Command::Scrub) && self.has_unsure()
                {
                    return Ok(());
                }
                Err(format!("false error: {command:?} answered {status:?} without a reason"))
            }
        }
    }

    pub(super) fn has_unsure(&self) -> bool {
        let mut models = self.volumes.values().map(|known| &known.model);
        models.any(|model| model.touched().any(|block| model.block(block).is_unsure(View::Durable)))
    }

    /// A refused command has changed nothing.
    pub(super) fn undo(&mut self, command: &Command) {
        match command {
            Command::Create { .. } => drop(self.created.pop()),
            Command::Delete { volume } => self.change(*volume, |known| known.going = false),
            Command::Grow { volume, .. } => self.change(*volume, |known| known.sizes.truncate(known.sizes.len() - 1)),
            Command::Rename { volume, .. } => self.change(*volume, |known| known.names.truncate(known.names.len() - 1)),
            Command::Rekey { .. } | Command::Scrub => {}
        }
    }

    pub(super) fn excuse_refusal(&mut self, command: &Command, refusal: Refusal) -> Verdict {
        self.tally.excused += 1;
        let excused = match refusal {
            Refusal::Busy => matches!(command, Command::Delete { .. } | Command::Rekey { .. }),
            Refusal::ReadOnly => self.troubled && !self.is_safe(),
            Refusal::CatalogFull => self.volumes.len() > 200,
            Refusal::NoVolume | Refusal::NameTaken => self.troubled,
            Refusal::Size | Refusal::Layout | Refusal::NoRandom | Refusal::NotApproved | Refusal::Module => false,
        };
        if excused || self.is_tainted() {
            return Ok(());
        }
        Err(format!("false refusal: {command:?} refused with {refusal:?}"))
    }

    /// A volume that was asked for and is there now.
    pub(super) fn adopt_created(&mut self) -> Verdict {
        let Some((name, blocks)) = self.created.pop() else { return Ok(()) };
        let info = self.engine.iter().flat_map(|engine| engine.volumes()).find(|info| info.name == name);
        let Some(info) = info else { return Err(format!("{name} was created and is not there")) };
        self.adopt(info.number, name, blocks, info.layout)
    }

    pub(super) fn adopt(&mut self, number: u32, name: String, blocks: u64, layout: Layout) -> Verdict {
        let known = Known {
            model: model::Volume::new(blocks),
            layout,
            names: vec![name],
            sizes: vec![blocks],
            going: false,
            gone: false,
        };
        if self.volumes.insert(number, known).is_some() {
            return Err(format!("the number {number} was given to two volumes"));
        }
        Ok(())
    }
}
