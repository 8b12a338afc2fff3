//! Hints: what is owed to a replica that could not be reached, under an exact bound.
//!
//! Plain values decide everything; the shell (`helenus-node`'s hint store) carries it out:
//!
//! - [`window`] says whether a target may get hints at all;
//! - [`Budget`] says whether the bytes fit, and what must go when they do not;
//! - [`Accounts`] say what became of every hint, and refuse to lose one silently;
//! - the [`ledger::Ledger`] remembers where the lost ones belong, so that a repair finds them.
//!
//! The identity, of every target and of the node, after every change:
//!
//! ```text
//! created = delivered + redirected + expired + refused + evicted + dead_lettered + lost + pending
//! ```
//!
//! Invariants: the bytes charged never exceed `node_bytes`, nor a target's `target_bytes`; the identity holds. Both are
//! asserted always, not only in tests: a store that breaks them must stop, not go on counting wrong.
//!
//! CAVEAT: Cassandra 4.1 and 5.0 check the size of files on disk only, with a strict `>`, and drop what does not fit
//! without a counter (facts measured on 4.1.8: 26,978 of 30,000 hints gone, no metric, no log line). None of that is
//! followed here; the names of the settings are.

pub mod ledger;
pub mod pace;

use crate::types::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a hint was refused or did not reach its target. Every one is counted; none is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Refused: the target has been down for longer than `max_hint_window`.
    WindowClosed,
    /// Refused: the node-wide bound `max_hints_size` is reached (`drop-newest`).
    NodeCapReached,
    /// Refused: the target's bound `max_hints_size_per_host` is reached (`drop-newest`).
    TargetCapReached,
    /// Refused: there was no room, and none in the dead-letter log (`max_dead_letters_size`) either (`dead-letter`).
    DeadLettersFull,
    /// Refused: hinted handoff is disabled.
    Disabled,
    /// Evicted: the oldest made room for a newer one (`drop-oldest`).
    Evicted,
    /// Expired: older than the smaller gc_grace of then and now.
    Expired,
    /// Evicted: truncated by an operator.
    Truncated,
    /// Evicted: a dead letter that an operator purged.
    Purged,
    /// Refused: the disk takes no bytes (full, or failing).
    Unwritable,
    /// Lost: its bytes could not be written, or could not be read back.
    Damaged,
}

/// The classes of the accounting identity that a hint can leave `pending` for, or never reach it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Never stored.
    Refused,
    /// Stored, then removed on purpose before it was delivered.
    Evicted,
    /// Stored, then too old to be applied safely.
    Expired,
    /// Stored, then unreadable or unwritable.
    Lost,
}

impl Loss {
    /// Every reason, in declaration order.
    pub const ALL: [Loss; 11] = [
        Loss::WindowClosed,
        Loss::NodeCapReached,
        Loss::TargetCapReached,
        Loss::DeadLettersFull,
        Loss::Disabled,
        Loss::Evicted,
        Loss::Expired,
        Loss::Truncated,
        Loss::Purged,
        Loss::Unwritable,
        Loss::Damaged,
    ];

    /// Where this reason is counted.
    pub fn class(self) -> Class {
        match self {
            Loss::WindowClosed
            | Loss::NodeCapReached
            | Loss::TargetCapReached
            | Loss::DeadLettersFull
            | Loss::Disabled
            | Loss::Unwritable => Class::Refused,
            Loss::Evicted | Loss::Truncated | Loss::Purged => Class::Evicted,
            Loss::Expired => Class::Expired,
            Loss::Damaged => Class::Lost,
        }
    }

    /// The reason with this name.
    pub fn parse(name: &str) -> Option<Loss> {
        Loss::ALL.into_iter().find(|loss| loss.as_str() == name)
    }

    /// The name in metrics, traces and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Loss::WindowClosed => "window_closed",
            Loss::NodeCapReached => "node_cap_reached",
            Loss::TargetCapReached => "target_cap_reached",
            Loss::DeadLettersFull => "dead_letters_full",
            Loss::Disabled => "disabled",
            Loss::Evicted => "evicted",
            Loss::Expired => "expired",
            Loss::Truncated => "truncated",
            Loss::Purged => "purged",
            Loss::Unwritable => "unwritable",
            Loss::Damaged => "damaged",
        }
    }
}

/// What happens to a new hint when the store is full. A node has a policy, and a keyspace may have its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overflow {
    /// The new one is refused (Cassandra's behaviour, but counted).
    DropNewest,
    /// The oldest make room, whosever keyspace they are of.
    DropOldest,
    /// The new one goes to the dead-letter log, which has a bound of its own: nobody delivers it until an operator says so.
    /// Only what a bound keeps out: a target whose window is closed gets no dead letters either.
    DeadLetter,
    /// The write that would owe it is refused before anything is sent. What could not be foreseen (a replica that did not
    /// answer) is refused as by `DropNewest`.
    FailWrite,
    /// The write that would owe it waits for room, for a time; then the new one is refused.
    Throttle,
}

impl Overflow {
    /// Every policy, and its name in configurations, schemas and statements.
    pub const NAMES: [(&'static str, Overflow); 5] = [
        ("drop-newest", Overflow::DropNewest),
        ("drop-oldest", Overflow::DropOldest),
        ("dead-letter", Overflow::DeadLetter),
        ("fail-write", Overflow::FailWrite),
        ("throttle", Overflow::Throttle),
    ];

    /// The policy of this name.
    pub fn parse(name: &str) -> Option<Overflow> {
        Overflow::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, policy)| policy)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        let named = Overflow::NAMES.into_iter().find(|(_, policy)| *policy == self);
        named.map_or("", |(name, _)| name)
    }
}

/// Whether a target may get a new hint. It may not once it has been down for longer than `max_hint_window`, nor while
/// its oldest pending hint is older than that (`hint_window_persistent_enabled`): a target that flaps would otherwise
/// start a fresh window with every short life.
pub fn window(
    max_hint_window: Duration,
    down_for: Duration,
    oldest_pending: Option<Duration>,
) -> Result<(), Loss> {
    let closed = down_for > max_hint_window || oldest_pending.is_some_and(|a| a > max_hint_window);
    if closed { Err(Loss::WindowClosed) } else { Ok(()) }
}

/// Whether a hint may still be applied. One that is older than the table's gc_grace could bring back what a tombstone,
/// purged meanwhile, had deleted. The smaller gc_grace of then and now counts.
pub fn expired(age: Duration, gc_grace_then_s: u32, gc_grace_now_s: Option<u32>) -> bool {
    let grace = gc_grace_now_s.map_or(gc_grace_then_s, |now| now.min(gc_grace_then_s));
    age >= Duration::from_secs(u64::from(grace))
}

/// How many bytes hints may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For all targets together.
    pub node_bytes: u64,
    /// For each target; `None`: only the node's.
    pub target_bytes: Option<u64>,
    /// What happens at either, to hints whose keyspace does not say.
    pub overflow: Overflow,
}

/// What to do with a hint of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It fits: charge it and store it.
    Store,
    /// It is refused.
    Refuse(Loss),
    /// There is no room: it goes to the dead-letter log, whose own budget decides the rest.
    DeadLetter,
    /// Evict the oldest, of `from` or of any target, until at least `bytes` are free; then ask again.
    EvictThen {
        /// Whose; `None`: the oldest of all.
        from: Option<NodeId>,
        /// How many are missing.
        bytes: u64,
    },
}

/// The bytes charged, per target and in all. What a byte is, the shell says (file bytes and what waits to become some);
/// that they never exceed the limits is decided here.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: Limits,
    used: BTreeMap<NodeId, u64>,
    total: u64,
}

impl Budget {
    /// Nothing charged yet.
    pub fn new(limits: Limits) -> Budget {
        Budget { limits, used: BTreeMap::new(), total: 0 }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes charged in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes charged to `target`.
    pub fn used(&self, target: NodeId) -> u64 {
        self.used.get(&target).copied().unwrap_or(0)
    }

    /// Whether `bytes` more fit, by the node's policy.
    pub fn admit(&self, target: NodeId, bytes: u64) -> Admission {
        self.admit_by(self.limits.overflow, target, bytes)
    }

    /// Whether `bytes` more fit, by this policy. The target's own bound is looked at first, because making room there
    /// also makes room in the node's.
    pub fn admit_by(&self, overflow: Overflow, target: NodeId, bytes: u64) -> Admission {
        let bounds = [
            (self.limits.target_bytes, self.used(target), Some(target), Loss::TargetCapReached),
            (Some(self.limits.node_bytes), self.total, None, Loss::NodeCapReached),
        ];
        let no_room = |loss| match overflow {
            Overflow::DeadLetter => Admission::DeadLetter,
            _ => Admission::Refuse(loss),
        };
        for (bound, _, _, loss) in bounds {
            // What exceeds a bound all alone would evict everything and still not fit.
            if bound.is_some_and(|bound| bytes > bound) {
                return no_room(loss);
            }
        }
        for (bound, used, from, loss) in bounds {
            let missing = used.saturating_add(bytes).saturating_sub(bound.unwrap_or(u64::MAX));
            if missing > 0 {
                return match overflow {
                    Overflow::DropOldest => Admission::EvictThen { from, bytes: missing },
                    // `fail-write` and `throttle` have refused or delayed the write before; what comes here all the same
                    // has no room.
                    Overflow::DropNewest
                    | Overflow::DeadLetter
                    | Overflow::FailWrite
                    | Overflow::Throttle => no_room(loss),
                };
            }
        }
        Admission::Store
    }

    /// Whether all of these fit together, one for each target. If not: the bound that is in the way, and whose hint.
    pub fn room_for(&self, wanted: &[(NodeId, u64)]) -> Result<(), (NodeId, Loss)> {
        let mut total = self.total;
        for (target, bytes) in wanted {
            total = total.saturating_add(*bytes);
            let used = self.used(*target).saturating_add(*bytes);
            if self.limits.target_bytes.is_some_and(|bound| used > bound) {
                return Err((*target, Loss::TargetCapReached));
            }
            if total > self.limits.node_bytes {
                return Err((*target, Loss::NodeCapReached));
            }
        }
        Ok(())
    }

    /// Charges bytes that [`Budget::admit`] let in.
    ///
    /// # Panics
    /// When they exceed a limit: whoever charges must have asked.
    pub fn charge(&mut self, target: NodeId, bytes: u64) {
        let used = self.used.entry(target).or_default();
        *used += bytes;
        self.total += bytes;
        assert!(self.total <= self.limits.node_bytes, "hints exceed the node's bound");
        let bound = self.limits.target_bytes;
        assert!(bound.is_none_or(|bound| *used <= bound), "hints exceed the target's bound");
    }

    /// Gives back bytes that were charged.
    ///
    /// # Panics
    /// When they were not: freed twice is a bound that no longer holds.
    pub fn release(&mut self, target: NodeId, bytes: u64) {
        let used = self.used.entry(target).or_default();
        *used = used.checked_sub(bytes).expect("released bytes were charged to this target");
        self.total = self.total.checked_sub(bytes).expect("released bytes were charged");
        if *used == 0 {
            self.used.remove(&target);
        }
    }
}

/// What became of hints. Counts of hints, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Owed at some time: every write that a replica missed, stored or not.
    pub created: u64,
    /// Acknowledged by the target.
    pub delivered: u64,
    /// Taken by others in the target's stead: by the replicas of a target that has left the ring, or by another node that
    /// keeps what this one, leaving the ring, still owed. There it is counted anew.
    pub redirected: u64,
    /// Too old to be applied.
    pub expired: u64,
    /// Never stored.
    pub refused: u64,
    /// Removed on purpose, undelivered.
    pub evicted: u64,
    /// Held in the dead-letter log now. One that is delivered, expires, is purged or cannot be read leaves this for the
    /// count of that.
    pub dead_lettered: u64,
    /// Unreadable or unwritable.
    pub lost: u64,
    /// Stored and owed now.
    pub pending: u64,
}

impl Account {
    /// Whether the identity holds.
    pub fn balances(&self) -> bool {
        let settled = self.delivered
            + self.redirected
            + self.expired
            + self.refused
            + self.evicted
            + self.dead_lettered
            + self.lost;
        self.created == settled + self.pending
    }

    /// Hints that will never reach their target.
    pub fn undelivered(&self) -> u64 {
        self.expired + self.refused + self.evicted + self.lost
    }

    /// This account of hints together with that of dead letters, which is kept like one of hints: what is pending there is
    /// dead-lettered here, and what became of the others is the same for both.
    #[must_use]
    pub fn with_dead_letters(mut self, letters: Account) -> Account {
        self.created += letters.created;
        self.delivered += letters.delivered;
        self.redirected += letters.redirected;
        self.expired += letters.expired;
        self.refused += letters.refused;
        self.evicted += letters.evicted;
        self.lost += letters.lost;
        self.dead_lettered += letters.pending;
        self
    }

    fn settle(&mut self, class: Class, count: u64) {
        let bucket = match class {
            Class::Refused => &mut self.refused,
            Class::Evicted => &mut self.evicted,
            Class::Expired => &mut self.expired,
            Class::Lost => &mut self.lost,
        };
        *bucket += count;
    }

    fn take_pending(&mut self, count: u64) {
        self.pending = self.pending.checked_sub(count).expect("only pending hints are settled");
    }
}

/// The accounts of one node: per target, in all, and per reason.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    targets: BTreeMap<NodeId, Account>,
    total: Account,
    reasons: BTreeMap<Loss, u64>,
}

impl Accounts {
    /// All zero.
    pub fn new() -> Accounts {
        Accounts::default()
    }

    /// Of all targets together.
    pub fn total(&self) -> Account {
        self.total
    }

    /// Of one target.
    pub fn of(&self, target: NodeId) -> Account {
        self.targets.get(&target).copied().unwrap_or_default()
    }

    /// Of each target that was ever owed a hint.
    pub fn targets(&self) -> impl Iterator<Item = (NodeId, Account)> + '_ {
        self.targets.iter().map(|(target, account)| (*target, *account))
    }

    /// How many hints were not delivered for this reason.
    pub fn reason(&self, loss: Loss) -> u64 {
        self.reasons.get(&loss).copied().unwrap_or(0)
    }

    /// Hints were stored, or found at the start.
    pub fn stored(&mut self, target: NodeId, count: u64) {
        self.change(target, |account| {
            account.created += count;
            account.pending += count;
        });
    }

    /// Pending hints were acknowledged by their target.
    pub fn delivered(&mut self, target: NodeId, count: u64) {
        self.change(target, |account| {
            account.take_pending(count);
            account.delivered += count;
        });
    }

    /// Pending hints were taken by others than their target.
    pub fn redirected(&mut self, target: NodeId, count: u64) {
        self.change(target, |account| {
            account.take_pending(count);
            account.redirected += count;
        });
    }

    /// Hints will not be delivered. Those of class [`Class::Refused`] were never pending; the others were.
    pub fn lost(&mut self, target: NodeId, loss: Loss, count: u64) {
        let class = loss.class();
        self.change(target, |account| {
            match class {
                Class::Refused => account.created += count,
                Class::Evicted | Class::Expired | Class::Lost => account.take_pending(count),
            }
            account.settle(class, count);
        });
        if count > 0 {
            *self.reasons.entry(loss).or_default() += count;
        }
    }

    /// These accounts together with those of the dead-letter log: see [`Account::with_dead_letters`].
    #[must_use]
    pub fn with_dead_letters(mut self, letters: &Accounts) -> Accounts {
        for (target, account) in letters.targets() {
            self.change(target, |own| *own = own.with_dead_letters(account));
        }
        for (loss, count) in &letters.reasons {
            *self.reasons.entry(*loss).or_default() += count;
        }
        self
    }

    /// Makes the same change to a target's account and to the total, and checks both.
    fn change(&mut self, target: NodeId, change: impl Fn(&mut Account)) {
        let account = self.targets.entry(target).or_default();
        change(account);
        change(&mut self.total);
        assert!(account.balances(), "the accounts of {target} do not balance: {account:?}");
        assert!(self.total.balances(), "the accounts do not balance: {:?}", self.total);
    }
}

#[cfg(test)]
mod tests;
