//! Which cores are whose.
//!
//! EL2 numbers the cores in the order of the tree, but for one: a core that the secure domain has for itself comes last. So the
//! numbers of the general domain's cores have no gap, and whatever counts its cores counts neither that one nor around it.

use core::fmt;

use arrayvec::ArrayVec;

use crate::MAX_CPUS;

/// The cores as EL2 numbers them, by MPIDR affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    all: ArrayVec<u64, MAX_CPUS>,
    exclusive: Option<u64>,
}

/// Why the cores cannot be shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoresError {
    /// The core that boots is not under `/cpus`.
    Unknown {
        /// Its affinity.
        affinity: u64,
    },
    /// The secure domain is to have a core that there is not.
    NotThere {
        /// Its place under `/cpus`, from 0.
        place: u32,
        /// Cores that there are.
        cores: usize,
    },
    /// The secure domain is to have the core that boots, on which the general domain begins.
    Boots {
        /// Its place under `/cpus`, from 0.
        place: u32,
    },
}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CoresError::Unknown { affinity } => write!(f, "the core that boots ({affinity:#x}) is not under /cpus"),
            CoresError::NotThere { place, cores } => {
                write!(f, "the board gives core {place} to the secure domain, and there are {cores}, counted from 0")
            }
            CoresError::Boots { place } => {
                write!(f, "the board gives core {place} to the secure domain, and it is the one that boots")
            }
        }
    }
}

impl core::error::Error for CoresError {}

impl Cores {
    /// Shares out the enabled cores of the machine, `cpus` in the order of its tree, of which the one with affinity `boots` runs. The
    /// secure domain has the one at the place `exclusive` for itself, if the board says so.
    ///
    /// # Errors
    /// A core that boots or is to be given away and is not there, or is the same.
    pub fn share(cpus: &[u64], boots: u64, exclusive: Option<u32>) -> Result<Cores, CoresError> {
        if !cpus.contains(&boots) {
            return Err(CoresError::Unknown { affinity: boots });
        }
        let Some(place) = exclusive else {
            return Ok(Cores { all: cpus.iter().copied().take(MAX_CPUS).collect(), exclusive: None });
        };
        let own = cpus.get(place as usize).copied();
        let own = own.ok_or(CoresError::NotThere { place, cores: cpus.len() })?;
        if own == boots {
            return Err(CoresError::Boots { place });
        }
        let general = cpus.iter().copied().filter(|affinity| *affinity != own);
        Ok(Cores { all: general.chain([own]).take(MAX_CPUS).collect(), exclusive: Some(own) })
    }

    /// Every core.
    pub fn all(&self) -> &[u64] {
        &self.all
    }

    /// The general domain's, which come first.
    pub fn general(&self) -> &[u64] {
        let others = usize::from(self.exclusive.is_some());
        &self.all[..self.all.len() - others]
    }

    /// The one that the secure domain has for itself.
    pub fn exclusive(&self) -> Option<u64> {
        self.exclusive
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const CPUS: [u64; 4] = [0x0, 0x1, 0x100, 0x101];

    #[test]
    fn a_core_that_is_not_there_cannot_be_given_away() {
        let refused = Cores::share(&CPUS, 0, Some(4)).unwrap_err();
        let sentence = "the board gives core 4 to the secure domain, and there are 4, counted from 0";
        assert_eq!(refused.to_string(), sentence);
    }

    #[test]
    fn the_core_that_boots_cannot_be_given_away_and_so_neither_can_the_only_one() {
        for (cpus, boots, place) in [(&CPUS[..], 0x100, 2), (&CPUS[..1], 0, 0)] {
            assert_eq!(Cores::share(cpus, boots, Some(place)), Err(CoresError::Boots { place }));
        }
    }

    #[test]
    fn a_core_that_boots_and_is_not_in_the_tree_is_refused() {
        let refused = Cores::share(&CPUS, 0x200, None).unwrap_err();
        assert_eq!(refused.to_string(), "the core that boots (0x200) is not under /cpus");
    }

    #[test]
    fn the_secure_domains_core_comes_last_and_the_others_keep_their_order() {
        let cores = Cores::share(&CPUS, 0, Some(1)).unwrap();
        assert_eq!(cores.all(), [0x0, 0x100, 0x101, 0x1]);
        assert_eq!((cores.general(), cores.exclusive()), (&[0x0, 0x100, 0x101][..], Some(0x1)));
    }

    #[test]
    fn without_one_every_core_is_the_general_domains() {
        let cores = Cores::share(&CPUS, 0x101, None).unwrap();
        assert_eq!((cores.all(), cores.general(), cores.exclusive()), (&CPUS[..], &CPUS[..], None));
    }
}
