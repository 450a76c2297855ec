//! Brings the pool's volumes to what the board wants: `volume::wanted` decides, this carries it out and tells of it.
//!
//! What is missing is created before the general domain starts, because its device tree lists the disks that are attached by then. All
//! else is done while it runs.

use alloc::vec::Vec;

use abi::SharedPage;
use crypto::Suite;
use el1::guest_memory::GuestWindow;
use el1::hypercall::{config_changed, set_config};
use machine::board;
use machine::secure_tree::SecureTree;
use volume::wanted::{Plan, Wanted};
use volume::{Done, Layout, Name, VolumeInfo};

use crate::disks::Lines;
use crate::event_loop::{bits, now_ms};
use crate::log::log;
use crate::start::Served;

/// How often to look how far a resealing has come, in milliseconds.
const LOOK_MS: u64 = 1000;
/// The cookie of commands: there is one at a time.
const COOKIE: u32 = 0;

/// The volumes that the board wants, and how far it has come.
pub struct Reconciler {
    plan: Plan,
    /// When to look again, if there is a reason.
    look_at_ms: Option<u64>,
    stopped: bool,
}

impl Reconciler {
    /// For the volumes that `tree` names.
    pub fn new(tree: &SecureTree<'_>) -> Reconciler {
        let disks = tree.storage.len();
        let plan = Plan::new(tree.volumes.iter().filter_map(|volume| wanted(volume, disks)));
        Reconciler { plan, look_at_ms: Some(0), stopped: false }
    }

    /// Creates what is missing, before anybody else asks anything of the pool.
    pub fn create_missing(&mut self, server: &mut Served, lines: &Lines, shared: &SharedPage, memory: &GuestWindow) {
        let mut idle = lines.patience(shared);
        while let Some(command) = self.plan.next_creation(&volumes(server)) {
            let taken = server.pool_mut().command(COOKIE, command);
            taken.expect("no command is under way before the pool serves");
            let Some(done) = wait_for_command(server, lines, memory, &mut idle) else {
                log!("the disks do not answer while volumes are created");
                break;
            };
            self.plan.ended(done.status, &volumes(server));
        }
        self.tell();
    }

    /// The numbers of the volumes in the order in which to offer them.
    pub fn order(&self, server: &Served) -> Vec<u32> {
        self.plan.order(&volumes(server))
    }

    /// A driver has come.
    pub fn look_soon(&mut self) {
        self.look_at_ms = (!self.stopped).then_some(0);
    }

    /// When to call [`step`](Self::step) though nothing happens.
    pub fn wake_at(&self) -> Option<u64> {
        self.look_at_ms
    }

    /// Takes the answer to the last command and begins the next one, if it is time. Whether one was begun.
    pub fn step(&mut self, server: &mut Served) -> bool {
        if let Some(done) = server.next_command() {
            self.plan.ended(done.status, &volumes(server));
            notify_grown(server);
            self.look_soon();
        }
        if self.look_at_ms.is_none_or(|at| now_ms() < at) {
            return false;
        }
        let now = volumes(server);
        let command = self.plan.next_change(&now, |volume| server.has_driver(volume));
        let begun = command.map(|command| server.pool_mut().command(COOKIE, command).is_ok());
        if begun == Some(false) {
            self.plan.put_off();
        }
        self.look_at_ms = (!self.plan.is_settled(&now)).then(|| now_ms() + LOOK_MS);
        self.tell();
        begun == Some(true)
    }

    /// The machine is about to go off: nothing more is begun.
    pub fn stop(&mut self) {
        (self.look_at_ms, self.stopped) = (None, true);
    }

    /// The machine has slept, and is awake.
    pub fn go_on(&mut self) {
        self.stopped = false;
        self.look_soon();
    }

    fn tell(&mut self) {
        while let Some(note) = self.plan.next_note() {
            log!("{note}");
        }
    }
}

/// Lets the pool work until the command under way is answered; `None` if `idle` has no patience left.
fn wait_for_command(
    server: &mut Served,
    lines: &Lines,
    memory: &GuestWindow,
    idle: &mut impl FnMut() -> bool,
) -> Option<Done> {
    // Bounded by the patience.
    loop {
        lines.disks().for_each(|disk| server.pool_mut().acknowledge(disk));
        let outcome = server.resume(now_ms(), memory);
        if let Some(done) = server.next_command() {
            return Some(done);
        }
        if !outcome.again && !idle() {
            return None;
        }
    }
}

fn volumes(server: &Served) -> Vec<VolumeInfo> {
    server.pool().volumes().collect()
}

/// Tells the drivers of disks that have grown.
fn notify_grown(server: &mut Served) {
    for device in bits(server.take_grown()) {
        set_config(device, &server.config(device));
        config_changed(device);
    }
}

/// A volume of the board, striped over all its disks.
fn wanted(volume: &board::Volume<'_>, disks: usize) -> Option<Wanted> {
    let suite = Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(volume.suite));
    let (Some(name), Some(suite)) = (Name::new(volume.name), suite) else {
        log!("volume {:?} of {} is none that this pool can have", volume.name, volume.suite);
        return None;
    };
    let layout = match volume.layout {
        board::Layout::Linear => Layout::Linear,
        board::Layout::Striped => Layout::Striped(disks as u8),
        board::Layout::Mirrored => Layout::Mirrored,
    };
    Some(Wanted { name, layout, blocks: volume.size_mib << 8, suite, epoch: volume.key_generation })
}
