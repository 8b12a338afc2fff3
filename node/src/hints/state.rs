//! The state of a log of hints: what is owed, in which segments, and how many bytes that takes.
//!
//! Everything here runs on the node's thread, under one lock, without waiting; what it does on the disk is a buffered
//! write (`write_out`, which makes the segment's file the first time) and, when a full store evicts, the removal of one
//! segment, read first for the names of what is lost with it.
//!
//! Invariant: `budget.used(target)` is the sum of the target's segments' `len`, of the files waiting to be removed, and
//! of its position file. As `len` counts what is written and what waits in memory to be, the bound holds for files and
//! memory together, at every moment.

use super::HeldBack;
use super::files::{Files, Part, Span};
use super::gone::Doomed;
use super::ledger::Losses;
use super::log::{Log, NotTaken};
use super::record::{self, HEADER_BYTES, NewHint, POSITIONS_BYTES, Position};
use super::sync_point::Point;
use crate::config::HintsConfig;
use crate::seams::disk::File;
use crate::seams::probe::{Event, HintLoss};
use helenus_core::NodeId;
use helenus_core::hint::pace::Pace;
use helenus_core::hint::{self, Accounts, Admission, Budget};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// More than this does not wait for the writer: the caller writes.
const UNWRITTEN_BYTES_MAX: usize = 256 * 1024;
/// A segment that could not be read so many times in a row is given up.
const READ_FAILURES_MAX: u32 = 3;

/// Told how the sync that covers a hint ended.
pub(super) type Waiter = oneshot::Sender<Result<(), HintLoss>>;

/// A file of hints for one target.
pub(super) struct Segment {
    /// Its age among all segments of the node: they are numbered as they are begun.
    pub(super) seq: u64,
    /// Bytes admitted to it, header included. Invariant: `len == written + unwritten.len()`.
    pub(super) len: u64,
    /// Bytes in the file.
    pub(super) written: u64,
    /// Bytes on their way into the file.
    pub(super) unwritten: Vec<u8>,
    /// Everything before is delivered, or skipped and counted.
    pub(super) head: u64,
    /// Hints from `head` on that are owed.
    pub(super) pending: u64,
    pub(super) oldest_ms: u64,
    pub(super) newest_ms: u64,
    /// Open while it is appended to or not synced.
    pub(super) file: Option<Arc<dyn File>>,
    /// Whether a file was made.
    pub(super) named: bool,
    /// Nothing more is appended.
    pub(super) sealed: bool,
}

/// A page that is on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnTheWay {
    /// Which page: no two of a run have the same number.
    pub(super) page: u64,
    /// Hints before this place are in it, or in one before it. While it is being read, no more is known than that none
    /// behind this place is.
    pub(super) until: Position,
    /// Whether it is being read.
    pub(super) reading: bool,
}

/// What is owed to one node.
#[derive(Default)]
pub(super) struct Target {
    /// Oldest first.
    pub(super) segments: VecDeque<Segment>,
    /// Pages that are on their way, oldest first. They are settled in this order, or not at all.
    pub(super) on_the_way: VecDeque<OnTheWay>,
    /// Whether the position file is charged.
    pub(super) positioned: bool,
    /// Of the position file.
    pub(super) turn: u64,
    read_failures: u32,
}

pub(super) struct State {
    pub(super) log: Log,
    pub(super) enabled: bool,
    pub(super) max_hint_window: Duration,
    pub(super) segment_bytes: u64,
    pub(super) budget: Budget,
    pub(super) accounts: Accounts,
    pub(super) targets: BTreeMap<NodeId, Target>,
    pub(super) next_seq: u64,
    /// Segments with bytes that are not in their file yet.
    pub(super) unwritten: BTreeSet<(NodeId, u64)>,
    /// Segments with bytes that are not synced yet.
    pub(super) dirty: BTreeSet<(NodeId, u64)>,
    dirty_bytes: u64,
    /// Names were made or removed since the directory was synced.
    pub(super) names_dirty: bool,
    /// Why the disk takes no bytes, while it does not.
    pub(super) unwritable: Option<String>,
    pub(super) doomed: Vec<Doomed>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) paused: bool,
    pub(super) sync_failures: u64,
    pub(super) held_back: HeldBack,
    /// How fast it fills.
    pub(super) pace: Pace,
    /// Bytes of records that were stored in this run.
    pub(super) stored_bytes: u64,
    /// Bytes of records that targets have acknowledged, by target.
    pub(super) delivered_bytes: BTreeMap<NodeId, u64>,
    /// Sync points that are waited for.
    pub(super) points: Vec<Point>,
    pub(super) last_point: u64,
    /// The number of the newest page.
    last_page: u64,
    pub(super) point_reached: Arc<Notify>,
    /// Where lost hints belonged; both logs' are there. Never locked before this state is.
    losses: Arc<Mutex<Losses>>,
}

/// What is to be synced now.
pub(super) struct Unsynced {
    pub(super) files: Vec<(NodeId, u64, Arc<dyn File>)>,
    pub(super) bytes: u64,
    pub(super) names: bool,
    pub(super) waiters: Vec<Waiter>,
    pub(super) doomed: Vec<Doomed>,
    pub(super) ledger: Option<Vec<u8>>,
}

impl State {
    /// Nothing is owed yet.
    pub(super) fn new(log: Log, config: &HintsConfig, losses: Arc<Mutex<Losses>>) -> State {
        let (enabled, max_hint_window) = log.open_for(config);
        State {
            log,
            enabled,
            max_hint_window,
            segment_bytes: log.segment_bytes(config),
            budget: Budget::new(log.limits(config)),
            accounts: Accounts::new(),
            targets: BTreeMap::new(),
            next_seq: 1,
            unwritten: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dirty_bytes: 0,
            names_dirty: false,
            unwritable: None,
            doomed: Vec::new(),
            waiters: Vec::new(),
            paused: config.paused,
            sync_failures: 0,
            held_back: HeldBack::default(),
            pace: Pace::default(),
            stored_bytes: 0,
            delivered_bytes: BTreeMap::new(),
            points: Vec::new(),
            last_point: 0,
            last_page: 0,
            point_reached: Arc::default(),
            losses,
        }
    }

    /// What was lost.
    pub(super) fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().expect("nothing panics while it holds the losses")
    }

    /// Stores a hint, or counts why not, unless it is to become a dead letter. Gives the bytes it takes of the bound;
    /// evicted hints are told in `events`.
    pub(super) fn append(
        &mut self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
        now_ms: u64,
        files: &Files,
        events: &mut Vec<Event>,
    ) -> Result<u64, NotTaken> {
        let admitted = self.admit(target, hint, down_for, now_ms, files, events);
        match admitted {
            Ok(cost) => {
                self.budget.charge(target, cost);
                self.push(target, hint, now_ms);
                self.stored_bytes += cost;
                self.accounts.stored(target, 1);
            }
            Err(NotTaken::DeadLetter) => {}
            Err(NotTaken::Refused(loss)) => {
                self.accounts.lost(target, loss, 1);
                let bytes = record::record_bytes(hint).unwrap_or(u64::from(u32::MAX));
                self.record_loss(target, loss, hint.table, hint.key, bytes, hint.created_ms);
            }
        }
        if admitted.is_ok() && self.waiting_bytes(target) > UNWRITTEN_BYTES_MAX {
            self.write_out(files);
        }
        admitted
    }

    fn admit(
        &mut self,
        target: NodeId,
        hint: &NewHint<'_>,
        down_for: Duration,
        now_ms: u64,
        files: &Files,
        events: &mut Vec<Event>,
    ) -> Result<u64, NotTaken> {
        if !self.enabled {
            return Err(HintLoss::Disabled.into());
        }
        let age = self.oldest_ms(target).map(|ms| Duration::from_millis(now_ms.saturating_sub(ms)));
        hint::window(self.max_hint_window, down_for, age)?;
        if self.unwritable.is_some() {
            return Err(HintLoss::Unwritable.into());
        }
        // A record that no length can say is larger than any message could bring.
        let bytes =
            record::record_bytes(hint).ok_or_else(|| self.log.full(HintLoss::NodeCapReached))?;
        let overflow = hint.overflow.unwrap_or(self.budget.limits().overflow);
        loop {
            // Asked anew each time: eviction may take the segment that had room.
            let cost = bytes + self.overhead(target, bytes);
            match self.budget.admit_by(overflow, target, cost) {
                Admission::Store => return Ok(cost),
                Admission::Refuse(loss) => return Err(self.log.full(loss).into()),
                Admission::DeadLetter => return Err(NotTaken::DeadLetter),
                Admission::EvictThen { from, .. } => {
                    if !self.evict_oldest(from, files, now_ms, events) {
                        let bound = match from {
                            None => HintLoss::NodeCapReached,
                            Some(_) => HintLoss::TargetCapReached,
                        };
                        return Err(bound.into());
                    }
                }
            }
        }
    }

    /// Whether a hint like this fits for every one of these targets, each down for so long. Targets that get no hints for
    /// another reason need no room.
    pub(super) fn room_for(
        &self,
        targets: &[(NodeId, Duration)],
        hint: &NewHint<'_>,
        now_ms: u64,
    ) -> Result<(), (NodeId, HintLoss)> {
        let Some((first, _)) = targets.first() else { return Ok(()) };
        if !self.enabled {
            return Ok(());
        }
        let Some(bytes) = record::record_bytes(hint) else {
            return Err((*first, HintLoss::NodeCapReached));
        };
        let open = |target: NodeId, down_for: Duration| {
            let age = self.oldest_ms(target).map(|ms| now_ms.saturating_sub(ms));
            hint::window(self.max_hint_window, down_for, age.map(Duration::from_millis)).is_ok()
        };
        let wanted: Vec<(NodeId, u64)> = targets
            .iter()
            .filter(|(target, down_for)| open(*target, *down_for))
            .map(|(target, _)| (*target, bytes + self.overhead(*target, bytes)))
            .collect();
        if let (Some((target, _)), true) = (wanted.first(), self.unwritable.is_some()) {
            return Err((*target, HintLoss::Unwritable));
        }
        self.budget.room_for(&wanted)
    }

    /// What a record of `bytes` costs besides itself: a new segment's header, a new target's position file.
    fn overhead(&self, target: NodeId, bytes: u64) -> u64 {
        let known = self.targets.get(&target);
        let segment =
            if known.is_some_and(|t| t.open(bytes, self.segment_bytes)) { 0 } else { HEADER_BYTES };
        let positions = if known.is_some_and(|t| t.positioned) { 0 } else { POSITIONS_BYTES };
        segment + positions
    }

    fn push(&mut self, target: NodeId, hint: &NewHint<'_>, now_ms: u64) {
        let bytes = record::record_bytes(hint).unwrap_or(0);
        let owed = self.targets.entry(target).or_default();
        owed.positioned = true;
        if !owed.open(bytes, self.segment_bytes) {
            if let Some(full) = owed.segments.back_mut() {
                full.sealed = true;
            }
            let seq = self.next_seq;
            self.next_seq += 1;
            owed.segments.push_back(Segment {
                seq,
                len: HEADER_BYTES,
                written: 0,
                unwritten: record::header(target, seq, now_ms),
                head: HEADER_BYTES,
                pending: 0,
                oldest_ms: hint.created_ms,
                newest_ms: hint.created_ms,
                file: None,
                named: false,
                sealed: false,
            });
        }
        let segment = owed.segments.back_mut().expect("one was pushed if there was none");
        record::push(&mut segment.unwritten, hint);
        segment.len += bytes;
        segment.pending += 1;
        segment.oldest_ms = segment.oldest_ms.min(hint.created_ms);
        segment.newest_ms = segment.newest_ms.max(hint.created_ms);
        self.unwritten.insert((target, segment.seq));
    }

    fn waiting_bytes(&self, target: NodeId) -> usize {
        let last = self.targets.get(&target).and_then(|t| t.segments.back());
        last.map_or(0, |segment| segment.unwritten.len())
    }

    /// Writes what waits in memory: one write a segment. While the disk refuses, the bytes stay (they are charged) and
    /// new hints are refused; a later call tries again.
    pub(super) fn write_out(&mut self, files: &Files) {
        while let Some((target, seq)) = self.unwritten.first().copied() {
            let segment = self.segment_mut(target, seq);
            let Some(segment) = segment else {
                self.unwritten.remove(&(target, seq));
                continue;
            };
            let was_named = segment.named;
            let wrote = segment.write(files, target);
            let named = segment.named && !was_named;
            self.names_dirty |= named;
            match wrote {
                Ok(bytes) => {
                    self.unwritten.remove(&(target, seq));
                    self.dirty.insert((target, seq));
                    self.dirty_bytes += bytes;
                }
                Err(error) => {
                    if self.unwritable.is_none() {
                        tracing::error!(%error, "hints cannot be written; new ones are refused");
                    }
                    self.unwritable = Some(error.to_string());
                    return;
                }
            }
        }
        if self.unwritable.take().is_some() {
            tracing::info!("hints can be written again");
        }
    }

    fn segment_mut(&mut self, target: NodeId, seq: u64) -> Option<&mut Segment> {
        self.targets.get_mut(&target)?.segments.iter_mut().find(|s| s.seq == seq)
    }

    /// What is to be synced. The waiters' hints are in it: they were appended before.
    pub(super) fn take_unsynced(&mut self, files: &Files) -> Unsynced {
        self.write_out(files);
        let mut open = Vec::new();
        for (target, seq) in std::mem::take(&mut self.dirty) {
            if let Some(file) = self.segment_mut(target, seq).and_then(|s| s.file.clone()) {
                open.push((target, seq, file));
            }
        }
        Unsynced {
            files: open,
            bytes: std::mem::take(&mut self.dirty_bytes),
            names: std::mem::take(&mut self.names_dirty),
            waiters: std::mem::take(&mut self.waiters),
            doomed: std::mem::take(&mut self.doomed),
            ledger: self.losses().take(),
        }
    }

    /// A segment was synced, or not: after a failed sync nothing more goes into that file, because a later good one
    /// would not say anything about these bytes (fsyncgate). Its hints stay pending: they can still be read.
    pub(super) fn synced(&mut self, target: NodeId, seq: u64, ok: bool) {
        let clean =
            !self.dirty.contains(&(target, seq)) && !self.unwritten.contains(&(target, seq));
        self.sync_failures += u64::from(!ok);
        if let Some(segment) = self.segment_mut(target, seq) {
            segment.sealed |= !ok;
            if segment.sealed && clean {
                segment.file = None;
            }
        }
    }

    /// The parts of segments to read for the next page, oldest first, behind the pages that are on their way. If there is
    /// something to read, the page is on its way from now on, and this is its number.
    pub(super) fn plan_page(
        &mut self,
        target: NodeId,
        max_bytes: u64,
        files: &Files,
    ) -> Option<(Vec<Span>, u64)> {
        self.write_out(files);
        let owed = self.targets.get_mut(&target)?;
        let behind = owed.on_the_way.back().map(|page| page.until);
        let mut spans = Vec::new();
        let mut planned = 0;
        for segment in &owed.segments {
            let from = match behind {
                Some(place) if segment.seq < place.seq => continue,
                Some(place) if segment.seq == place.seq => segment.head.max(place.offset),
                _ => segment.head,
            };
            // All of it is on its way.
            if from == segment.len {
                continue;
            }
            // In order: a segment that the disk has not taken yet holds up those behind it.
            if planned >= max_bytes || from >= segment.written {
                break;
            }
            planned += segment.written - from;
            spans.push(Span { seq: segment.seq, from, to: segment.written });
        }
        let last = spans.last()?;
        let until = Position { seq: last.seq, offset: last.to };
        self.last_page += 1;
        owed.on_the_way.push_back(OnTheWay { page: self.last_page, until, reading: true });
        Some((spans, self.last_page))
    }

    /// A segment could not be read. The third time in a row, what is left of it is lost.
    pub(super) fn unreadable(&mut self, target: NodeId, seq: u64, error: &io::Error, now_ms: u64) {
        let Some(owed) = self.targets.get_mut(&target) else { return };
        owed.read_failures += 1;
        let given_up = owed.read_failures >= READ_FAILURES_MAX;
        tracing::error!(%target, seq, %error, given_up, "a hint segment cannot be read");
        if given_up {
            owed.read_failures = 0;
            // Not told by name: the names are what cannot be read.
            let left = |s: &mut Segment| (std::mem::take(&mut s.pending), s.len - s.head);
            if let Some((pending, bytes)) = self.segment_mut(target, seq).map(left) {
                self.accounts.lost(target, HintLoss::Damaged, pending);
                self.note(target, seq, Some(HintLoss::Damaged), pending);
                self.record_unknown(target, HintLoss::Damaged, pending, bytes, now_ms);
                self.doom(target, seq, None);
            }
        }
    }

    /// What was read of a page is settled: hints that were delivered, or are lost for `loss`, leave the books, segments that
    /// are through are to be removed, and what is then still pending in them was damaged.
    ///
    /// `redirected`: others than the target have taken them.
    pub(super) fn settle(
        &mut self,
        target: NodeId,
        done: &[Settled],
        (redirected, loss): (bool, HintLoss),
        now_ms: u64,
    ) {
        if let Some(owed) = self.targets.get_mut(&target) {
            owed.read_failures = 0;
        }
        for part in done {
            match redirected {
                false => self.accounts.delivered(target, part.delivered),
                true => self.accounts.redirected(target, part.delivered),
            }
            self.accounts.lost(target, loss, part.lost);
            self.note(target, part.seq, None, part.delivered);
            self.note(target, part.seq, Some(loss), part.lost);
            let Some(segment) = self.segment_mut(target, part.seq) else { continue };
            segment.pending = segment
                .pending
                .checked_sub(part.delivered + part.lost)
                .expect("a page holds only what is pending in its segments");
            segment.head = part.until;
            segment.oldest_ms = segment.oldest_ms.max(part.newest_ms);
            if segment.head == segment.len {
                let damaged = std::mem::take(&mut segment.pending);
                if damaged > 0 {
                    tracing::error!(%target, seq = part.seq, damaged, "hints could not be read back");
                    self.accounts.lost(target, HintLoss::Damaged, damaged);
                    self.note(target, part.seq, Some(HintLoss::Damaged), damaged);
                    self.record_unknown(
                        target,
                        HintLoss::Damaged,
                        damaged,
                        part.damaged_bytes,
                        now_ms,
                    );
                }
                self.doom(target, part.seq, None);
            }
        }
    }

    /// Everything before this place needs no delivery, and the turn to write it with.
    pub(super) fn position(&mut self, target: NodeId) -> (Position, u64) {
        let next_seq = self.next_seq;
        let owed = self.targets.entry(target).or_default();
        owed.turn += 1;
        let position = owed.segments.front().map_or(
            Position { seq: next_seq, offset: HEADER_BYTES },
            |segment| Position { seq: segment.seq, offset: segment.head },
        );
        (position, owed.turn)
    }

    /// Takes everything owed to `target` out of the books; gives the number of hints.
    pub(super) fn truncate(&mut self, target: NodeId) -> u64 {
        let Some(owed) = self.targets.get_mut(&target) else { return 0 };
        // Pages from before settle nothing.
        owed.on_the_way.clear();
        let gone: Vec<(u64, u64)> = owed.segments.iter().map(|s| (s.seq, s.pending)).collect();
        for (seq, _) in &gone {
            self.doom(target, *seq, Some(self.log.emptied()));
        }
        gone.iter().map(|(_, pending)| pending).sum()
    }

    /// When the oldest pending hint was written, as far as is known without reading it.
    pub(super) fn oldest_ms(&self, target: NodeId) -> Option<u64> {
        self.targets.get(&target)?.segments.front().map(|segment| segment.oldest_ms)
    }
}

/// What became of the hints of one segment in a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    pub(super) seq: u64,
    /// Everything before this offset has been looked at.
    pub(super) until: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) newest_ms: u64,
    /// What of the part that was looked at is in no hint.
    pub(super) damaged_bytes: u64,
}

impl Settled {
    /// This part was looked at, and nothing became of its hints yet.
    pub(super) fn nothing_of(part: &Part) -> Settled {
        Settled {
            seq: part.seq,
            until: part.until,
            delivered: 0,
            lost: 0,
            newest_ms: part.hints.last().map_or(0, |hint| hint.created_ms),
            damaged_bytes: part.damaged_bytes,
        }
    }
}

impl Target {
    /// The page was read up to this place.
    pub(super) fn page_read(&mut self, page: u64, until: Position) {
        if let Some(on_the_way) = self.on_the_way.iter_mut().find(|it| it.page == page) {
            *on_the_way = OnTheWay { page, until, reading: false };
        }
    }

    /// The page is not on its way any more, and so none behind it is: they would be settled before it.
    pub(super) fn page_dropped(&mut self, page: u64) {
        let first = self.on_the_way.iter().position(|it| it.page == page);
        self.on_the_way.truncate(first.unwrap_or(self.on_the_way.len()));
    }

    /// Whether the newest segment takes a record of `bytes`. A segment takes at least one, however large.
    fn open(&self, bytes: u64, segment_bytes: u64) -> bool {
        self.segments
            .back()
            .is_some_and(|s| !s.sealed && (s.len == HEADER_BYTES || s.len + bytes <= segment_bytes))
    }
}

impl Segment {
    /// Writes what waits; gives how much that was. A failed write is repeated at the same place, whole.
    fn write(&mut self, files: &Files, target: NodeId) -> io::Result<u64> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let path = files.segment(target, self.seq);
                self.file.insert(files.disk.open(&path, true)?)
            }
        };
        self.named = true;
        file.write_at(self.written, &self.unwritten)?;
        let bytes = self.unwritten.len() as u64;
        self.written += bytes;
        // Freed, not kept: memory that is not charged is not used.
        self.unwritten = Vec::new();
        Ok(bytes)
    }
}
