//! Who owns each physical range, and with whom it is shared.
//!
//! A sorted table of disjoint claims; neighbours that say the same are one claim. Every transition is checked on the whole range
//! before it is committed in one assignment, so a refusal leaves the table as it was. What is legal is a table:
//! [`may_share`] and [`may_donate`].
//!
//! What no claim covers belongs to nobody, and nobody may map it.

use arrayvec::ArrayVec;

use crate::{PAGE_SIZE, PhysAddr};

/// An owner of physical memory or registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// EL2 itself.
    Hypervisor,
    /// The secure domain.
    Secure,
    /// The general domain.
    General,
}

/// How the owner holds a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No one else reaches it.
    Private,
    /// Another may read it.
    SharedRo(Owner),
    /// Another may read and write it.
    SharedRw(Owner),
}

impl State {
    /// The other side, if there is one.
    pub const fn with(self) -> Option<Owner> {
        match self {
            State::Private => None,
            State::SharedRo(with) | State::SharedRw(with) => Some(with),
        }
    }
}

/// One range with its owner: `start` to `end` (exclusive), both multiples of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// First byte.
    pub start: PhysAddr,
    /// First byte after it.
    pub end: PhysAddr,
    /// Whose it is.
    pub owner: Owner,
    /// How it is held.
    pub state: State,
}

/// Why a transition or an access was refused; each names the first address concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnershipError {
    /// The range is empty, not whole pages, or ends beyond 64 bits.
    Range(PhysAddr),
    /// Someone owns this already.
    Owned(PhysAddr, Owner),
    /// Nobody owns this.
    Unowned(PhysAddr),
    /// Someone else owns this.
    NotOwner(PhysAddr, Owner),
    /// The owner has shared this: it must be private first.
    Shared(PhysAddr),
    /// The owner has not shared this.
    NotShared(PhysAddr),
    /// It is shared with less access than was asked for.
    Access(PhysAddr),
    /// This owner never shares or donates so.
    Illegal(PhysAddr),
    /// The table has no room for another claim.
    Full,
}

/// Whether `owner` may share with `with` in this way.
///
/// The general domain lends its buffers; the hypervisor lends pages for its own interfaces, to the general domain read-only.
/// The secure domain's memory holds keys and plaintext: it is never shared.
pub const fn may_share(owner: Owner, state: State) -> bool {
    matches!(
        (owner, state),
        (Owner::General, State::SharedRo(Owner::Secure) | State::SharedRw(Owner::Secure))
            | (Owner::Hypervisor, State::SharedRo(Owner::General | Owner::Secure))
            | (Owner::Hypervisor, State::SharedRw(Owner::Secure))
    )
}

/// Whether `from` may give a range away to `to`. Memory that leaves a domain returns to the hypervisor, which scrubs it before
/// anyone else gets it.
pub const fn may_donate(from: Owner, to: Owner) -> bool {
    matches!(
        (from, to),
        (Owner::Hypervisor, Owner::Secure | Owner::General) | (Owner::Secure | Owner::General, Owner::Hypervisor)
    )
}

/// The table, with room for `N` claims.
#[derive(Clone, Debug, Default)]
pub struct Ownership<const N: usize> {
    claims: ArrayVec<Claim, N>,
}

impl<const N: usize> Ownership<N> {
    /// A table in which nobody owns anything.
    pub const fn new() -> Ownership<N> {
        Ownership { claims: ArrayVec::new_const() }
    }

    /// Every claim, in the order of addresses.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The claim on the byte at `pa`.
    pub fn find(&self, pa: PhysAddr) -> Option<&Claim> {
        let index = self.claims.partition_point(|claim| claim.end <= pa);
        self.claims.get(index).filter(|claim| claim.start <= pa)
    }

    /// Gives a range that nobody owns to `owner`.
    ///
    /// # Errors
    ///
    /// `Range`, `Owned`, `Full`.
    pub fn assign(&mut self, start: PhysAddr, len_bytes: u64, owner: Owner) -> Result<(), OwnershipError> {
        let end = end_of(start, len_bytes)?;
        if let Some(claim) = self.claims.iter().find(|claim| claim.start < end && start < claim.end) {
            return Err(OwnershipError::Owned(claim.start.max(start), claim.owner));
        }
        self.commit(Claim { start, end, owner, state: State::Private })
    }

    /// Shares a private range of `owner`, as `state` says.
    ///
    /// # Errors
    ///
    /// `Range`, `Illegal`, `Unowned`, `NotOwner`, `Shared`, `Full`.
    pub fn share(&mut self, start: PhysAddr, len_bytes: u64, owner: Owner, state: State) -> Result<(), OwnershipError> {
        if !may_share(owner, state) {
            return Err(OwnershipError::Illegal(start));
        }
        self.change(start, len_bytes, owner, private, Claim { start, end: start, owner, state })
    }

    /// Ends the sharing of a range of `owner`. The caller has unmapped it from the other side before.
    ///
    /// # Errors
    ///
    /// `Range`, `Unowned`, `NotOwner`, `NotShared`, `Full`.
    pub fn unshare(&mut self, start: PhysAddr, len_bytes: u64, owner: Owner) -> Result<(), OwnershipError> {
        self.change(start, len_bytes, owner, shared, Claim { start, end: start, owner, state: State::Private })
    }

    /// Moves a private range of `from` to `to`. The caller has unmapped (and scrubbed) it before.
    ///
    /// # Errors
    ///
    /// `Range`, `Illegal`, `Unowned`, `NotOwner`, `Shared`, `Full`.
    pub fn donate(&mut self, start: PhysAddr, len_bytes: u64, from: Owner, to: Owner) -> Result<(), OwnershipError> {
        if !may_donate(from, to) {
            return Err(OwnershipError::Illegal(start));
        }
        self.change(start, len_bytes, from, private, Claim { start, end: start, owner: to, state: State::Private })
    }

    /// Whether `domain` may have the whole range in its tables with that access. What is shared is never executed by the
    /// other side.
    ///
    /// # Errors
    ///
    /// `Range`, `Unowned`, `NotOwner`, `Access`.
    pub fn check_access(
        &self,
        domain: Owner,
        start: PhysAddr,
        len_bytes: u64,
        writes: bool,
        executable: bool,
    ) -> Result<(), OwnershipError> {
        let end = end_of(start, len_bytes)?;
        self.check_each(start, end, |claim, at| match claim.state {
            _ if claim.owner == domain => Ok(()),
            State::SharedRw(with) if with == domain && !executable => Ok(()),
            State::SharedRo(with) if with == domain && !executable && !writes => Ok(()),
            state if state.with() == Some(domain) => Err(OwnershipError::Access(at)),
            _ => Err(OwnershipError::NotOwner(at, claim.owner)),
        })
    }

    /// The common shape of every transition: check the whole range, then commit `to` for it.
    fn change(
        &mut self,
        start: PhysAddr,
        len_bytes: u64,
        owner: Owner,
        allowed: fn(State, PhysAddr) -> Result<(), OwnershipError>,
        to: Claim,
    ) -> Result<(), OwnershipError> {
        let end = end_of(start, len_bytes)?;
        self.check_each(start, end, |claim, at| match claim.owner == owner {
            true => allowed(claim.state, at),
            false => Err(OwnershipError::NotOwner(at, claim.owner)),
        })?;
        self.commit(Claim { end, ..to })
    }

    /// Asks about every claim of the range; a hole is an error. Bounded by the number of claims.
    fn check_each(
        &self,
        start: PhysAddr,
        end: PhysAddr,
        check: impl Fn(&Claim, PhysAddr) -> Result<(), OwnershipError>,
    ) -> Result<(), OwnershipError> {
        let first = self.claims.partition_point(|claim| claim.end <= start);
        let mut at = start;
        for claim in &self.claims[first..] {
            if at >= end || claim.start > at {
                break;
            }
            check(claim, at)?;
            at = claim.end;
        }
        if at < end { Err(OwnershipError::Unowned(at)) } else { Ok(()) }
    }

    /// Lays `new` over the table: a new table is built beside the old one and takes its place only when it fits.
    fn commit(&mut self, new: Claim) -> Result<(), OwnershipError> {
        let mut next = ArrayVec::new();
        let before = self.claims.iter().map(|claim| Claim { end: claim.end.min(new.start), ..*claim });
        let after = self.claims.iter().map(|claim| Claim { start: claim.start.max(new.end), ..*claim });
        for claim in before.chain([new]).chain(after).filter(|claim| claim.start < claim.end) {
            push(&mut next, claim)?;
        }
        self.claims = next;
        Ok(())
    }
}

/// Appends a claim, or lengthens the last one if both say the same.
fn push<const N: usize>(claims: &mut ArrayVec<Claim, N>, claim: Claim) -> Result<(), OwnershipError> {
    match claims.last_mut() {
        Some(last) if last.end == claim.start && last.owner == claim.owner && last.state == claim.state => {
            last.end = claim.end;
            Ok(())
        }
        _ => claims.try_push(claim).map_err(|_| OwnershipError::Full),
    }
}

fn private(state: State, at: PhysAddr) -> Result<(), OwnershipError> {
    if state == State::Private { Ok(()) } else { Err(OwnershipError::Shared(at)) }
}

fn shared(state: State, at: PhysAddr) -> Result<(), OwnershipError> {
    if state == State::Private { Err(OwnershipError::NotShared(at)) } else { Ok(()) }
}

fn end_of(start: PhysAddr, len_bytes: u64) -> Result<PhysAddr, OwnershipError> {
    let whole = start.is_aligned(PAGE_SIZE) && len_bytes.is_multiple_of(PAGE_SIZE) && len_bytes != 0;
    start.checked_add(len_bytes).filter(|_| whole).ok_or(OwnershipError::Range(start))
}
