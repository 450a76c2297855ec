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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Shared;
    use crate::{Attributes, Ipa, MapError, Stage2, map};

    const GENERAL_RAM: PhysAddr = PhysAddr(0x4000_0000);
    const SECURE_RAM: PhysAddr = PhysAddr(0x5000_0000);
    const EL2_RAM: PhysAddr = PhysAddr(0x6000_0000);
    const LEN: u64 = 0x10_0000;

    fn board() -> Ownership<16> {
        let mut ownership = Ownership::new();
        let ranges = [(GENERAL_RAM, Owner::General), (SECURE_RAM, Owner::Secure), (EL2_RAM, Owner::Hypervisor)];
        for (start, owner) in ranges {
            ownership.assign(start, LEN, owner).expect("free");
        }
        ownership
    }

    fn try_map(ownership: &Ownership<16>, domain: Owner, pa: PhysAddr, attributes: Attributes) -> Result<(), MapError> {
        let world = Shared::new(8);
        let mut tables = Stage2::new(40, 1, PhysAddr(0x1_0000_0000), world.clone(), world).expect("valid arguments");
        map(ownership, domain, &mut tables, (Ipa(pa.0), pa, PAGE_SIZE), attributes)
    }

    fn refused(error: OwnershipError) -> Result<(), MapError> {
        Err(MapError::Ownership(error))
    }

    #[test]
    fn cannot_map_page_owned_by_other_domain() {
        let ownership = board();
        for (domain, pa, owner) in [
            (Owner::General, SECURE_RAM, Owner::Secure),
            (Owner::General, EL2_RAM, Owner::Hypervisor),
            (Owner::Secure, GENERAL_RAM, Owner::General),
            (Owner::Secure, EL2_RAM, Owner::Hypervisor),
        ] {
            let error = OwnershipError::NotOwner(pa, owner);
            assert_eq!(try_map(&ownership, domain, pa, Attributes::RAM), refused(error));
            assert_eq!(try_map(&ownership, domain, pa, Attributes::READ_ONLY_RAM), refused(error));
        }
    }

    #[test]
    fn cannot_map_what_nobody_owns() {
        let free = PhysAddr(GENERAL_RAM.0 + LEN);
        let error = refused(OwnershipError::Unowned(free));
        assert_eq!(try_map(&board(), Owner::General, free, Attributes::RAM), error);
        let across = board().check_access(Owner::General, PhysAddr(free.0 - PAGE_SIZE), 2 * PAGE_SIZE, false, false);
        assert_eq!(across, Err(OwnershipError::Unowned(free)));
    }

    #[test]
    fn what_is_shared_read_only_is_neither_written_nor_executed() {
        let mut ownership = board();
        ownership.share(EL2_RAM, PAGE_SIZE, Owner::Hypervisor, State::SharedRo(Owner::General)).expect("legal");
        let access = refused(OwnershipError::Access(EL2_RAM));
        assert_eq!(try_map(&ownership, Owner::General, EL2_RAM, Attributes::SHARED_RAM), access);
        let executable = Attributes { executable: true, ..Attributes::READ_ONLY_RAM };
        assert_eq!(try_map(&ownership, Owner::General, EL2_RAM, executable), access);
        assert_eq!(try_map(&ownership, Owner::General, EL2_RAM, Attributes::READ_ONLY_RAM), Ok(()));
        let next = PhysAddr(EL2_RAM.0 + PAGE_SIZE);
        let error = refused(OwnershipError::NotOwner(next, Owner::Hypervisor));
        assert_eq!(try_map(&ownership, Owner::General, next, Attributes::READ_ONLY_RAM), error);
    }

    #[test]
    fn the_secure_domain_reaches_lent_buffers_but_never_runs_them() {
        let mut ownership = board();
        ownership.share(GENERAL_RAM, LEN, Owner::General, State::SharedRw(Owner::Secure)).expect("legal");
        assert_eq!(try_map(&ownership, Owner::Secure, GENERAL_RAM, Attributes::SHARED_RAM), Ok(()));
        let error = refused(OwnershipError::Access(GENERAL_RAM));
        assert_eq!(try_map(&ownership, Owner::Secure, GENERAL_RAM, Attributes::RAM), error);
        assert_eq!(try_map(&ownership, Owner::General, GENERAL_RAM, Attributes::RAM), Ok(()));
    }

    #[test]
    fn secure_memory_is_never_shared_nor_given_to_the_general_domain() {
        let mut ownership = board();
        for state in
            [State::SharedRo(Owner::General), State::SharedRw(Owner::General), State::SharedRo(Owner::Hypervisor)]
        {
            let shared = ownership.share(SECURE_RAM, LEN, Owner::Secure, state);
            assert_eq!(shared, Err(OwnershipError::Illegal(SECURE_RAM)));
        }
        let donated = ownership.donate(SECURE_RAM, LEN, Owner::Secure, Owner::General);
        assert_eq!(donated, Err(OwnershipError::Illegal(SECURE_RAM)));
        let stolen = ownership.donate(SECURE_RAM, LEN, Owner::General, Owner::Hypervisor);
        assert_eq!(stolen, Err(OwnershipError::NotOwner(SECURE_RAM, Owner::Secure)));
    }

    #[test]
    fn nothing_is_assigned_twice() {
        let mut ownership = board();
        let inside = PhysAddr(SECURE_RAM.0 + PAGE_SIZE);
        let again = ownership.assign(inside, PAGE_SIZE, Owner::General);
        assert_eq!(again, Err(OwnershipError::Owned(inside, Owner::Secure)));
        let around = ownership.assign(PhysAddr(SECURE_RAM.0 - LEN), 3 * LEN, Owner::General);
        assert_eq!(around, Err(OwnershipError::Owned(SECURE_RAM, Owner::Secure)));
    }

    #[test]
    fn what_is_shared_is_not_donated() {
        let mut ownership = board();
        ownership.share(GENERAL_RAM, LEN, Owner::General, State::SharedRw(Owner::Secure)).expect("legal");
        let donated = ownership.donate(GENERAL_RAM, LEN, Owner::General, Owner::Hypervisor);
        assert_eq!(donated, Err(OwnershipError::Shared(GENERAL_RAM)));
        ownership.unshare(GENERAL_RAM, LEN, Owner::General).expect("shared");
        ownership.donate(GENERAL_RAM, LEN, Owner::General, Owner::Hypervisor).expect("private");
        assert_eq!(ownership.claims().len(), 3);
    }

    #[test]
    fn ranges_that_are_not_whole_pages_are_refused() {
        let mut ownership = board();
        for (start, len_bytes) in [(0x1001, 0x1000), (0x1000, 0), (0x1000, 0x1001), (u64::MAX - 0xfff, 0x1000)] {
            let start = PhysAddr(start);
            assert_eq!(ownership.assign(start, len_bytes, Owner::General), Err(OwnershipError::Range(start)));
        }
    }

    #[test]
    fn a_full_table_refuses_and_stays_as_it_was() {
        let mut ownership = Ownership::<2>::new();
        ownership.assign(GENERAL_RAM, LEN, Owner::General).expect("free");
        ownership.assign(SECURE_RAM, LEN, Owner::Secure).expect("free");
        let before = Vec::from(ownership.claims());
        let shared = ownership.share(GENERAL_RAM, PAGE_SIZE, Owner::General, State::SharedRo(Owner::Secure));
        assert_eq!(shared, Err(OwnershipError::Full));
        assert_eq!(ownership.claims(), before);
    }

    type Model = BTreeMap<u64, (Owner, State)>;

    const OWNERS: [Owner; 3] = [Owner::Hypervisor, Owner::Secure, Owner::General];

    fn owner() -> impl Strategy<Value = Owner> {
        (0..3_usize).prop_map(|index| OWNERS[index])
    }

    fn state() -> impl Strategy<Value = State> {
        (owner(), any::<bool>()).prop_map(|(with, rw)| if rw { State::SharedRw(with) } else { State::SharedRo(with) })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Assign(Owner),
        Share(Owner, State),
        Unshare(Owner),
        Donate(Owner, Owner),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            owner().prop_map(Step::Assign),
            (owner(), state()).prop_map(|(owner, state)| Step::Share(owner, state)),
            owner().prop_map(Step::Unshare),
            (owner(), owner()).prop_map(|(from, to)| Step::Donate(from, to)),
        ]
    }

    /// What one page becomes, if the step is legal for it.
    fn page_after(page: Option<(Owner, State)>, step: &Step) -> Option<(Owner, State)> {
        match (*step, page) {
            (Step::Assign(owner), None) => Some((owner, State::Private)),
            (Step::Share(by, state), Some((owner, State::Private))) if by == owner && may_share(by, state) => {
                Some((owner, state))
            }
            (Step::Unshare(by), Some((owner, state))) if by == owner && state != State::Private => {
                Some((owner, State::Private))
            }
            (Step::Donate(from, to), Some((owner, State::Private))) if from == owner && may_donate(from, to) => {
                Some((to, State::Private))
            }
            _ => None,
        }
    }

    impl Copy for Step {}

    proptest! {
        #[test]
        fn claims_agree_with_a_map_of_pages(steps in prop::collection::vec((0..24_u64, 1..8_u64, step()), 1..60)) {
            let mut ownership = Ownership::<64>::new();
            let mut model = Model::new();
            for (page, pages, step) in steps {
                let (start, len_bytes) = (PhysAddr(page * PAGE_SIZE), pages * PAGE_SIZE);
                let result = match step {
                    Step::Assign(owner) => ownership.assign(start, len_bytes, owner),
                    Step::Share(owner, state) => ownership.share(start, len_bytes, owner, state),
                    Step::Unshare(owner) => ownership.unshare(start, len_bytes, owner),
                    Step::Donate(from, to) => ownership.donate(start, len_bytes, from, to),
                };
                let after: Option<Vec<_>> =
                    (page..page + pages).map(|page| page_after(model.get(&page).copied(), &step).map(|to| (page, to))).collect();
                prop_assert_eq!(result.is_ok(), after.is_some(), "{:?}: {:?}", step, result);
                model.extend(after.unwrap_or_default());
            }
            for page in 0..40 {
                let found = ownership.find(PhysAddr(page * PAGE_SIZE + 5)).map(|claim| (claim.owner, claim.state));
                prop_assert_eq!(found, model.get(&page).copied());
            }
            let sorted = ownership.claims().windows(2).all(|pair| pair[0].end <= pair[1].start);
            prop_assert!(sorted && ownership.claims().iter().all(|claim| claim.start < claim.end));
        }
    }
}
