//! What continuous integration runs: a million operations in mixed worlds, and every short history.

use std::fmt;

use crate::{
    campaign::{self, Campaign, Failure},
    exhaustive::{self, Enumerated},
    tally::Tally,
};

/// Operations of the worlds.
pub const OPERATIONS: u64 = 1_000_000;

/// What both have found.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Seed of the first world.
    pub seed: u64,
    /// What the worlds counted.
    pub worlds: Tally,
    /// What was enumerated.
    pub histories: Enumerated,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}\n{}{}", self.seed, self.worlds, self.histories)
    }
}

/// Runs both, from `seed` on.
///
/// # Errors
/// The first failure, with the command that repeats it.
pub fn run(seed: u64, threads: usize) -> Result<Summary, Box<Failure>> {
    let campaign = Campaign { seed, operations: OPERATIONS, faults: None, losses: false, threads };
    let worlds = campaign::run(&campaign, &|_| {})?;
    let histories = exhaustive::run(exhaustive::LENGTH, threads)?;
    Ok(Summary { seed, worlds, histories })
}
