//! Dead letters: hints that a bound kept out, under the policy `dead-letter`. An operator reads, replays or purges them.
//!
//! They are kept by the same machinery as hints, so all that is said of those holds: an exact bound (`max_dead_letters_size`,
//! beside `max_hints_size`), a CRC for each record, positions, what a crash leaves. The differences: they are replayed only
//! when somebody says so, never make room for each other, and are not asked about the window. When there is no room for one
//! it is refused (`dead_letters_full`), counted and in the ledger.
//!
//! Only what a bound keeps out becomes a dead letter. Hints that are refused for another reason (the window is closed,
//! handoff is disabled, the disk takes nothing) would not be kept in a larger store either.
//!
//! Like a hint, a letter expires with its table's gc_grace: one that is older is never applied, but counted as expired when
//! it is replayed. Reading changes nothing and needs no claim, so it never stands in the way of a replay.

use super::files::{Files, Span};
use super::log::Log;
use super::record::Hint;
use super::replay::{self, Replay, Rounds};
use super::state::{Segment, State};
use super::{Deliver, HintError, HintFigures, HintStore, PendingHints, at};
use crate::seams::background::{self, Lane};
use helenus_core::NodeId;
use helenus_core::hint::Account;
use std::sync::Arc;
use std::time::Duration;

/// At most so many letters are read at once.
const LETTERS_MAX: usize = 1000;
/// And so many bytes of them, or one.
const READ_BYTES_MAX: u64 = 512 * 1024;

/// The dead-letter log of one node. Clones are the same log.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    pub(super) log: HintStore,
    /// What its replays owe to the throttle.
    rounds: Rounds,
}

/// A place in the log: everything before it was read. Targets come in the order of their ids, the letters of one in the
/// order in which they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose letters.
    pub target: NodeId,
    /// The segment.
    pub seq: u64,
    /// The byte in it.
    pub offset: u64,
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whom it is owed.
    pub target: NodeId,
    /// What.
    pub hint: Hint,
    /// Bytes of its record.
    pub bytes: u64,
}

/// Letters that were read, and where to go on; `None`: there are no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Letters {
    /// In the order of their places.
    pub letters: Vec<Letter>,
    /// The place behind the last of them.
    pub next: Option<Place>,
}

/// Why a replay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing is left.
    Done,
    /// The time was up; asked again it goes on.
    TimeUp,
    /// The target is down, or has another schema.
    TargetDown,
    /// Handoff is paused on this node.
    Paused,
    /// A page was not acknowledged, or could not be read.
    Failed(String),
}

/// What a replay of one target's letters did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Whose letters.
    pub target: NodeId,
    /// What became of its letters since it began: how many were delivered, expired or lost. `pending`: those that are held
    /// when it ends.
    pub account: Account,
    /// Why it ended.
    pub stopped: Stopped,
}

impl DeadLetters {
    pub(super) fn new(log: HintStore) -> DeadLetters {
        let rounds = replay::rounds(&log.shared.config);
        DeadLetters { log, rounds }
    }

    /// What is held for each target, as for hints: `account.pending` counts the letters.
    pub fn list(&self) -> Vec<PendingHints> {
        self.log.list()
    }

    /// How many letters are held for `target`.
    pub(super) fn held_for(&self, target: NodeId) -> u64 {
        self.log.lock().accounts.of(target).pending
    }

    /// The log's figures, as for hints: `bytes_max` is `max_dead_letters_size`, `account.pending` counts the letters.
    pub fn figures(&self) -> HintFigures {
        self.log.figures()
    }

    /// Removes the letters for `target`, or all: counted as purged, and in the loss ledger. Gives their number.
    pub async fn purge(&self, target: Option<NodeId>) -> Result<u64, HintError> {
        self.log.truncate(target).await
    }

    /// As [`DeadLetters::purge`], from the oldest of each target up to the first that was written at `before_ms` or later.
    pub async fn purge_older(
        &self,
        target: Option<NodeId>,
        before_ms: u64,
    ) -> Result<u64, HintError> {
        let held = self.list().into_iter().filter(|held| target.is_none_or(|it| it == held.target));
        let mut purged = 0;
        for target in held.map(|held| held.target) {
            let next = || {
                self.log.older_page(target, before_ms, Log::DeadLetters.emptied(), READ_BYTES_MAX)
            };
            while let Some(page) = next().await? {
                purged += page.lost();
                self.log.complete(page).await?;
            }
        }
        // Said only when it is durable.
        self.log.flush().await?;
        Ok(purged)
    }

    /// Delivers the letters for `target` until none is left, `patience` is over, or something goes wrong: in pages, at the
    /// pace of `hinted_handoff_throttle`, beside the replay of hints. What a page brought is settled before the next one,
    /// so whatever ends it, another replay goes on there.
    pub async fn replay(
        &self,
        deliver: Arc<dyn Deliver>,
        target: NodeId,
        patience: Duration,
    ) -> Replayed {
        let account = || self.log.lock().accounts.of(target);
        let before = account();
        let until = self.log.shared.clock.now().saturating_add(patience);
        let replay = Replay::new(self.log.clone(), deliver, Arc::clone(&self.rounds));
        let ended = replay.deliver_all(target, until).await;
        let after = account();
        let stopped = match ended {
            _ if after.pending == 0 => Stopped::Done,
            Err(reason) => Stopped::Failed(reason),
            Ok(()) if self.log.paused() => Stopped::Paused,
            Ok(()) if !replay.alive(target) => Stopped::TargetDown,
            Ok(()) if self.log.shared.clock.now() >= until => Stopped::TimeUp,
            Ok(()) => Stopped::Failed("the disk has not taken the others yet".to_owned()),
        };
        let account = Account {
            created: after.created - before.created,
            delivered: after.delivered - before.delivered,
            redirected: after.redirected - before.redirected,
            expired: after.expired - before.expired,
            refused: after.refused - before.refused,
            evicted: after.evicted - before.evicted,
            lost: after.lost - before.lost,
            ..after
        };
        Replayed { target, account, stopped }
    }

    /// Reads letters, of `target` or of all, behind a place that an earlier read ended at: at most `count` of them (and
    /// never more than a page holds). Changes nothing.
    pub async fn read(
        &self,
        target: Option<NodeId>,
        after: Option<Place>,
        count: usize,
    ) -> Result<Letters, HintError> {
        let shared = &self.log.shared;
        let (mut after, mut read) = (after, Letters::default());
        let mut left = (count.min(LETTERS_MAX), READ_BYTES_MAX);
        loop {
            let found = self.log.lock().next_span(target, after, &shared.files);
            let Some((target, span)) = found else {
                read.next = None;
                return Ok(read);
            };
            if left.0 == 0 || left.1 == 0 {
                return Ok(read);
            }
            let (files, (count, bytes)) = (shared.files.clone(), left);
            let job = move || files.read_some(target, span, bytes, count);
            let part = match background::run(&*shared.background, Lane::Hints, bytes, job).await? {
                Ok(part) => part,
                Err(error) if self.log.lock().has_segment(target, span.seq) => {
                    return Err(at(&shared.files.segment(target, span.seq), &error));
                }
                // Delivered or purged meanwhile.
                Err(_) => {
                    after = Some(Place { target, seq: span.seq, offset: u64::MAX });
                    continue;
                }
            };
            left.0 -= part.hints.len().min(left.0);
            left.1 = left.1.saturating_sub(part.until - span.from);
            read.letters.extend(part.hints.into_iter().map(|hint| {
                let bytes = hint.record_bytes();
                Letter { target, hint, bytes }
            }));
            after = Some(Place { target, seq: span.seq, offset: part.until });
            read.next = after;
        }
    }
}

impl State {
    /// The next part of a segment behind a place.
    fn next_span(
        &mut self,
        only: Option<NodeId>,
        after: Option<Place>,
        files: &Files,
    ) -> Option<(NodeId, Span)> {
        self.write_out(files);
        let from = after.map_or(NodeId(0), |place| place.target);
        let targets = self.targets.range(from..);
        let mut targets = targets.filter(|(target, _)| only.is_none_or(|only| only == **target));
        targets.find_map(|(target, held)| {
            let read = |segment: &Segment| match after {
                Some(place) if place.target == *target => match segment.seq.cmp(&place.seq) {
                    std::cmp::Ordering::Less => u64::MAX,
                    std::cmp::Ordering::Equal => place.offset,
                    std::cmp::Ordering::Greater => 0,
                },
                _ => 0,
            };
            held.segments.iter().find_map(|segment| {
                let (from, to) = (segment.head.max(read(segment)), segment.written);
                (from < to).then_some((*target, Span { seq: segment.seq, from, to }))
            })
        })
    }

    fn has_segment(&self, target: NodeId, seq: u64) -> bool {
        let held = self.targets.get(&target);
        held.is_some_and(|held| held.segments.iter().any(|segment| segment.seq == seq))
    }
}
