//! What was tried, and what came of it.

use std::{collections::BTreeMap, fmt};

/// Counts over any number of worlds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Worlds that were run.
    pub worlds: u64,
    /// Operations of guests and administrators.
    pub operations: u64,
    /// Of those, answered with success.
    pub succeeded: u64,
    /// Of those, answered with an error that a fault, the adversary or a full pool excuses.
    pub excused: u64,
    /// Power cuts while the pool was served.
    pub cuts: u64,
    /// Power cuts during a recovery.
    pub recovery_cuts: u64,
    /// Recoveries that ended with a served pool.
    pub recoveries: u64,
    /// Blocks that recoveries looked at to tell old from new, and log records they replayed.
    pub examined: u64,
    /// Log records that recoveries replayed.
    pub replayed: u64,
    /// Blocks that recoveries repaired from the log.
    pub repaired: u64,
    /// Blocks read and compared with the model.
    pub compared: u64,
    /// Advances of anchors.
    pub advances: u64,
    /// Seals whose nonces were audited.
    pub seals: u64,
    /// Faults that struck: those that the disk told, and those it kept to itself.
    pub faults: (u64, u64),
    /// What happened to members that may be lost; how often one was given up, and how often one has caught up.
    pub losses: u64,
    /// Members that were given up, or missing at a mount.
    pub retired: u64,
    /// Members that caught up.
    pub resynced: u64,
    /// Parts of a pool that were served alone, and that were refused.
    pub parts: (u64, u64),
    /// Crashes of the secure domain with the power on.
    pub crashes: u64,
    /// What each trick of the adversary came to.
    pub adversary: BTreeMap<String, Outcome>,
    /// Why tampered or faulty disks were refused.
    pub refusals: BTreeMap<String, u64>,
}

/// What a trick came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The disks were refused.
    pub refused: u64,
    /// They were served, and some block answered with an error.
    pub errors: u64,
    /// They were served, and everything was as it must be.
    pub harmless: u64,
}

impl Tally {
    /// Adds what another run counted.
    pub fn add(&mut self, other: &Tally) {
        let counts = [
            (&mut self.worlds, other.worlds),
            (&mut self.operations, other.operations),
            (&mut self.succeeded, other.succeeded),
            (&mut self.excused, other.excused),
            (&mut self.cuts, other.cuts),
            (&mut self.recovery_cuts, other.recovery_cuts),
            (&mut self.recoveries, other.recoveries),
            (&mut self.examined, other.examined),
            (&mut self.replayed, other.replayed),
            (&mut self.repaired, other.repaired),
            (&mut self.compared, other.compared),
            (&mut self.advances, other.advances),
            (&mut self.seals, other.seals),
            (&mut self.faults.0, other.faults.0),
            (&mut self.faults.1, other.faults.1),
            (&mut self.losses, other.losses),
            (&mut self.parts.0, other.parts.0),
            (&mut self.parts.1, other.parts.1),
            (&mut self.retired, other.retired),
            (&mut self.resynced, other.resynced),
            (&mut self.crashes, other.crashes),
        ];
        counts.into_iter().for_each(|(sum, more)| *sum += more);
        for (trick, outcome) in &other.adversary {
            let sum = self.adversary.entry(trick.clone()).or_default();
            sum.refused += outcome.refused;
            sum.errors += outcome.errors;
            sum.harmless += outcome.harmless;
        }
        for (reason, count) in &other.refusals {
            *self.refusals.entry(reason.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} worlds, {} operations: {} succeeded, {} excused",
            self.worlds, self.operations, self.succeeded, self.excused
        )?;
        writeln!(
            f,
            "{} power cuts, {} more during recovery; {} recoveries: {} records replayed, {} blocks examined, {} repaired",
            self.cuts, self.recovery_cuts, self.recoveries, self.replayed, self.examined, self.repaired
        )?;
        writeln!(
            f,
            "{} blocks compared, {} advances of the anchor, {} nonces audited, faults: {} told, {} silent",
            self.compared, self.advances, self.seals, self.faults.0, self.faults.1
        )?;
        writeln!(
            f,
            "{} losses, returns and replacements of members: {} times without one, {} times one caught up; {} crashes with the power on",
            self.losses, self.retired, self.resynced, self.crashes
        )?;
        let (served, refused) = self.parts;
        writeln!(f, "{} parts of pools mounted alone: {served} served, {refused} refused", served + refused)?;
        for (trick, outcome) in &self.adversary {
            let Outcome { refused, errors, harmless } = outcome;
            writeln!(f, "  {trick:<24} {refused:>7} refused {errors:>7} errors {harmless:>7} harmless")?;
        }
        for (reason, count) in &self.refusals {
            writeln!(f, "  refused: {count:>7} {reason}")?;
        }
        Ok(())
    }
}
