//! The bound and the identity, against a store reduced to sizes.

use super::*;
use proptest::prelude::*;

#[test]
fn the_window_closes_by_downtime_and_by_the_oldest_hint() {
    let s = Duration::from_secs;
    assert_eq!(window(s(10), s(10), None), Ok(()));
    assert_eq!(window(s(10), s(11), None), Err(Loss::WindowClosed));
    assert_eq!(window(s(10), s(0), Some(s(10))), Ok(()));
    assert_eq!(window(s(10), s(0), Some(s(11))), Err(Loss::WindowClosed));
}

#[test]
fn the_smaller_gc_grace_expires_a_hint() {
    let s = Duration::from_secs;
    assert!(!expired(s(9), 10, None));
    assert!(expired(s(10), 10, None));
    assert!(expired(s(5), 10, Some(5)));
    assert!(!expired(s(5), 10, Some(20)));
    assert!(expired(s(0), 0, Some(20)), "no grace: never safe to replay");
}

#[test]
fn every_reason_has_its_own_name() {
    let names: std::collections::BTreeSet<_> = Loss::ALL.iter().map(|l| l.as_str()).collect();
    assert_eq!(names.len(), Loss::ALL.len());
}

#[test]
fn every_policy_has_its_own_name() {
    for (name, policy) in Overflow::NAMES {
        assert_eq!((Overflow::parse(name), policy.as_str()), (Some(policy), name));
    }
    assert_eq!(Overflow::parse("drop-all"), None);
}

#[test]
#[should_panic(expected = "only pending hints are settled")]
fn a_hint_cannot_be_delivered_twice() {
    let mut accounts = Accounts::new();
    accounts.stored(NodeId(1), 1);
    accounts.delivered(NodeId(1), 1);
    accounts.delivered(NodeId(1), 1);
}

#[test]
#[should_panic(expected = "exceed the node's bound")]
fn charging_without_asking_is_noticed() {
    let limits = Limits { node_bytes: 10, target_bytes: None, overflow: Overflow::DropNewest };
    Budget::new(limits).charge(NodeId(1), 11);
}

#[test]
fn dead_letters_are_in_the_account_until_something_becomes_of_them() {
    let (node, mut hints, mut letters) = (NodeId(1), Accounts::new(), Accounts::new());
    hints.stored(node, 2);
    hints.delivered(node, 1);
    letters.stored(node, 3);
    letters.lost(node, Loss::DeadLettersFull, 1);
    let all = |letters: &Accounts| hints.clone().with_dead_letters(letters);
    let held = all(&letters).of(node);
    assert_eq!((held.created, held.pending, held.dead_lettered, held.refused), (6, 1, 3, 1));
    letters.delivered(node, 1);
    letters.lost(node, Loss::Purged, 1);
    let after = all(&letters);
    let account = after.total();
    assert_eq!((account.delivered, account.evicted, account.dead_lettered), (2, 1, 1));
    assert_eq!((after.of(node), after.reason(Loss::DeadLettersFull)), (account, 1));
}

/// A store reduced to sizes: (target, bytes), oldest first.
#[derive(Debug)]
struct Model {
    budget: Budget,
    accounts: Accounts,
    stored: Vec<(NodeId, u64)>,
    /// The dead-letter log, which has none.
    letters: Option<Box<Model>>,
}

impl Model {
    fn new(limits: Limits, dead_letter_bytes: u64) -> Model {
        let letters = Limits {
            node_bytes: dead_letter_bytes,
            target_bytes: None,
            overflow: Overflow::DropNewest,
        };
        let new = |limits, letters| Model {
            budget: Budget::new(limits),
            accounts: Accounts::new(),
            stored: Vec::new(),
            letters,
        };
        new(limits, Some(Box::new(new(letters, None))))
    }

    fn accounts(&self) -> Accounts {
        let none = Accounts::new();
        let letters = self.letters.as_ref().map_or(&none, |letters| &letters.accounts);
        self.accounts.clone().with_dead_letters(letters)
    }

    /// The oldest goes to its target.
    fn deliver(&mut self) {
        if !self.stored.is_empty() {
            let (target, bytes) = self.stored.remove(0);
            self.budget.release(target, bytes);
            self.accounts.delivered(target, 1);
        }
    }

    fn append(&mut self, target: NodeId, bytes: u64) {
        loop {
            match self.budget.admit(target, bytes) {
                Admission::Store => {
                    self.budget.charge(target, bytes);
                    self.accounts.stored(target, 1);
                    self.stored.push((target, bytes));
                    return;
                }
                Admission::Refuse(loss) => {
                    assert_eq!(loss.class(), Class::Refused);
                    // Where there is no log of dead letters, this is it.
                    let loss = if self.letters.is_none() { Loss::DeadLettersFull } else { loss };
                    return self.accounts.lost(target, loss, 1);
                }
                Admission::DeadLetter => {
                    let letters = self.letters.as_mut().expect("there is one log of dead letters");
                    return letters.append(target, bytes);
                }
                Admission::EvictThen { from, bytes } => {
                    assert!(bytes > 0);
                    let oldest = self
                        .stored
                        .iter()
                        .position(|(t, _)| from.is_none_or(|from| from == *t))
                        .expect("a full store has something to evict");
                    let (evicted, freed) = self.stored.remove(oldest);
                    self.budget.release(evicted, freed);
                    self.accounts.lost(evicted, Loss::Evicted, 1);
                }
            }
        }
    }

    fn check(&self) {
        let sum = |t: Option<NodeId>| -> u64 {
            self.stored.iter().filter(|s| t.is_none_or(|t| t == s.0)).map(|s| s.1).sum()
        };
        let limits = self.budget.limits();
        assert_eq!(self.budget.total(), sum(None));
        assert!(sum(None) <= limits.node_bytes);
        assert_eq!(self.accounts.total().pending, self.stored.len() as u64);
        let mut all = Account::default();
        for (target, account) in self.accounts.targets() {
            assert_eq!(self.budget.used(target), sum(Some(target)));
            assert!(limits.target_bytes.is_none_or(|bound| sum(Some(target)) <= bound));
            assert!(account.balances());
            all.created += account.created;
            all.pending += account.pending;
        }
        assert_eq!(all.created, self.accounts.total().created);
        assert_eq!(all.pending, self.accounts.total().pending);
        if let Some(letters) = &self.letters {
            letters.check();
            let held = letters.stored.len() as u64;
            assert_eq!(self.accounts().total().dead_lettered, held);
            assert!(self.accounts().total().balances());
        }
    }
}

proptest! {
    #[test]
    fn the_bound_is_never_exceeded_and_the_identity_always_holds(
        node_bytes in 0..2000_u64,
        target_bytes in prop::option::of(0..1000_u64),
        policy in 0..Overflow::NAMES.len(),
        dead_letter_bytes in 0..1000_u64,
        steps in prop::collection::vec((0..4_u128, 0..300_u64, 0..8_u8), 0..200),
    ) {
        let (_, overflow) = Overflow::NAMES[policy];
        let mut model = Model::new(Limits { node_bytes, target_bytes, overflow }, dead_letter_bytes);
        for (target, bytes, what) in steps {
            match what {
                0 | 1 => model.deliver(),
                2 => model.letters.as_mut().unwrap().deliver(),
                _ => model.append(NodeId(target), bytes),
            }
            model.check();
            let refused = model.accounts().reason(Loss::DeadLettersFull);
            prop_assert!(refused == 0 || overflow == Overflow::DeadLetter);
            prop_assert!(
                overflow != Overflow::DeadLetter || refused == model.accounts().total().refused,
                "what no bound of the store takes, the dead-letter log takes or refuses"
            );
        }
    }

    /// What a write was let in for, `fail-write` stores.
    #[test]
    fn what_there_is_room_for_is_admitted_one_by_one(
        node_bytes in 0..2000_u64,
        target_bytes in prop::option::of(0..1000_u64),
        before in prop::collection::vec((0..4_u128, 0..300_u64), 0..10),
        wanted in prop::collection::btree_map(0..4_u128, 0..600_u64, 1..4),
    ) {
        let overflow = Overflow::FailWrite;
        let mut budget = Budget::new(Limits { node_bytes, target_bytes, overflow });
        for (target, bytes) in before {
            if budget.admit(NodeId(target), bytes) == Admission::Store {
                budget.charge(NodeId(target), bytes);
            }
        }
        let wanted: Vec<_> = wanted.into_iter().map(|(t, bytes)| (NodeId(t), bytes)).collect();
        let room = budget.room_for(&wanted);
        let refused = wanted.iter().find_map(|(target, bytes)| {
            match budget.admit(*target, *bytes) {
                Admission::Store => {
                    budget.charge(*target, *bytes);
                    None
                }
                _ => Some(*target),
            }
        });
        prop_assert_eq!(room.err().map(|(target, _)| target), refused);
    }
}
