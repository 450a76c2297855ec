//! What distinguishes one world from another before anything happens: disks, volumes, policy, what goes wrong.

use crypto::Suite;
use volume::{Layout, Policy};

use crate::{disk::Order, fault::Fault, rng::Rng};

/// A volume that a world begins with.
#[derive(Clone, Debug)]
pub struct VolumePlan {
    /// How it lies on the members.
    pub layout: Layout,
    /// Its size in blocks.
    pub blocks: u64,
    /// Its first suite.
    pub suite: Suite,
}

/// The shape of a world.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seed of everything that is not in the steps.
    pub seed: u64,
    /// Extents of each member.
    pub extents: Vec<u64>,
    /// A power cut can tear blocks between their sectors.
    pub torn: bool,
    /// When the anchor advances.
    pub policy: Policy,
    /// In which order the disks complete.
    pub order: Order,
    /// The volumes.
    pub volumes: Vec<VolumePlan>,
    /// Tree blocks that the engine keeps in memory.
    pub cache_blocks: usize,
    /// Requests that the guest has under way.
    pub depth: usize,
    /// What the disks do wrong, and on which member; none: every member.
    pub faults: Vec<Fault>,
    /// The member that does it; none: every one.
    pub faulty_member: Option<usize>,
    /// Somebody changes the disks.
    pub adversary: bool,
    /// The faulty member is lost, comes back, is replaced.
    pub losses: bool,
    /// Blocks of that member can be neither read nor written any more.
    pub spoils: bool,
    /// Log entries that may wait for their data to be durable.
    pub uncovered_limit: u32,
    /// Tree blocks that the engine stores in one look.
    pub tree_budget: u32,
    /// The pool is mounted without a member if need be, and goes on without one.
    pub degraded: bool,
}

/// What a run may be narrowed to from outside.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The faults to try; none: the usual mixture.
    pub faults: Option<Vec<Fault>>,
    /// With those faults: a member is lost, comes back, is replaced.
    pub losses: bool,
}

/// The smallest cache with which the largest of these pools can be mounted.
pub const CACHE_BLOCKS: usize = 96;

/// Blocks of the largest volume that a world begins with.
pub const MOST_BLOCKS: u64 = 2100;

/// Suites that are quick enough to be the rule.
const QUICK: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Aria128Gcm];

impl Config {
    /// The world of `seed`.
    pub fn draw(seed: u64, limits: &Limits) -> Config {
        let mut rng = Rng::new(seed);
        let Trouble { faults, adversary, losses } = trouble(&mut rng, limits);
        let members = if losses { *rng.pick(&[2, 2, 3]) } else { *rng.pick(&[1, 1, 1, 2, 2, 3]) };
        let mirrors = losses && rng.chance(500);
        Config {
            seed,
            extents: (0..members).map(|_| 2 + rng.below(4)).collect(),
            torn: rng.chance(500),
            policy: if rng.chance(500) { Policy::Strict } else { Policy::Bulk { window_ms: 60_000 } },
            order: *rng.pick(&[Order::Random, Order::Random, Order::First, Order::Last]),
            volumes: (0..1 + rng.below(3)).map(|_| plan(&mut rng, members, mirrors)).collect(),
            cache_blocks: *rng.pick(&[CACHE_BLOCKS, 128, 400]),
            depth: *rng.pick(&[1, 4, 16]),
            faulty_member: (losses || members > 1 && rng.chance(500)).then(|| rng.index(members)),
            faults,
            adversary,
            losses,
            degraded: losses || rng.chance(500),
            spoils: losses && rng.chance(400),
            uncovered_limit: *rng.pick(&[256, 256, 4096]),
            tree_budget: *rng.pick(&[1, 1, 2, 32]),
        }
    }
}

/// What goes wrong in a world.
#[derive(Default)]
struct Trouble {
    faults: Vec<Fault>,
    adversary: bool,
    losses: bool,
}

/// Most worlds have honest disks and power cuts only: there nothing may ever fail.
fn trouble(rng: &mut Rng, limits: &Limits) -> Trouble {
    let (none, drawn) = (Trouble::default(), rng.below(12));
    if let Some(faults) = &limits.faults {
        return Trouble { faults: faults.clone(), losses: limits.losses, ..none };
    }
    let honest = || Fault::ALL.into_iter().filter(|fault| fault.is_honest()).collect();
    match drawn {
        0..=3 => none,
        4..=6 => Trouble { adversary: true, ..none },
        7 => Trouble { faults: honest(), ..none },
        8..=9 => Trouble { faults: Fault::ALL.to_vec(), ..none },
        10 => Trouble { losses: true, ..none },
        _ => Trouble { faults: honest(), losses: true, ..none },
    }
}

fn plan(rng: &mut Rng, members: usize, mirrors: bool) -> VolumePlan {
    let layout = match rng.below(3) {
        _ if mirrors => Layout::Mirrored,
        0 if members > 1 => Layout::Mirrored,
        1 if members > 1 => Layout::Striped(members as u8),
        _ => Layout::Linear,
    };
    VolumePlan { layout, blocks: *rng.pick(&[8, 24, 48, 200, 1040, MOST_BLOCKS]), suite: suite(rng) }
}

/// A suite: mostly a quick one.
pub fn suite(rng: &mut Rng) -> Suite {
    if rng.chance(950) { *rng.pick(&QUICK) } else { *rng.pick(&Suite::ALL) }
}
