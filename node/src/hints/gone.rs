//! What is lost: read back for its names, told, put into the ledger; then its file goes.
//!
//! The order matters: names are read before a file is removed, and the ledger is written before a removal is made durable,
//! so that a crash between the two says a loss twice and never hides one.
//!
//! CAVEAT: a ledger that cannot be written (the disk refuses it) does not hold a removal back; it is written again with the
//! next sync, and a crash before that hides the loss.

use super::files::{Files, Span};
use super::record::{self, Found, HEADER_BYTES, Hint};
use super::state::{Segment, State};
use crate::seams::probe::{Event, HintLoss};
use bytes::Bytes;
use helenus_core::hint::ledger::{Lost, Scope, Tokens};
use helenus_core::{Key, NodeId, TableId, token};
use std::io;

/// A segment that is to be removed; its bytes stay charged until it is.
pub(super) struct Doomed {
    pub(super) target: NodeId,
    pub(super) seq: u64,
    bytes: u64,
    named: bool,
    /// The hints in it whose loss is still to be told, and why.
    tell: Option<Tell>,
}

/// Where the hints of a segment are that is to go: so many, in the file, then in memory.
struct Tell {
    reason: HintLoss,
    pending: u64,
    span: Span,
    unwritten: Vec<u8>,
}

/// Hints that will not be delivered, by name as far as they could be read.
pub(super) struct Gone {
    pub(super) target: NodeId,
    pub(super) reason: HintLoss,
    pub(super) hints: Vec<Hint>,
    /// Those whose names are not known, and the bytes of the place where they were.
    pub(super) unread: u64,
    pub(super) unread_bytes: u64,
}

impl Doomed {
    /// Reads what is lost with it, once, so that it can be told by name before it goes.
    pub(super) fn read(&mut self, files: &Files) -> Option<Gone> {
        let Tell { reason, pending, span, unwritten } = self.tell.take()?;
        let mut hints = Vec::new();
        if span.to > span.from {
            match files.read(self.target, span, span.to - span.from) {
                Ok(part) => hints = part.hints,
                Err(error) => {
                    tracing::error!(target = %self.target, seq = self.seq, %error, "hints removed unread");
                }
            }
        }
        let place = span.to.saturating_sub(span.from) + unwritten.len() as u64;
        let unwritten = Bytes::from(unwritten);
        let mut at = 0;
        while let Found::Record(hint, next) = record::parse(&unwritten, at, unwritten.len() as u64)
        {
            hints.push(hint);
            at = next;
        }
        let read: u64 = hints.iter().map(Hint::record_bytes).sum();
        Some(Gone {
            target: self.target,
            reason,
            unread: pending.saturating_sub(hints.len() as u64),
            unread_bytes: place.saturating_sub(read),
            hints,
        })
    }

    pub(super) fn unlink(&self, files: &Files) -> io::Result<()> {
        if self.named { files.remove(self.target, self.seq) } else { Ok(()) }
    }
}

impl State {
    /// Frees the oldest segment, of `from` or of all, unless its hints are on their way. Segments are small parts of the
    /// bound, so that little is lost at a time; its keys are read back so that the loss is told by name.
    pub(super) fn evict_oldest(
        &mut self,
        from: Option<NodeId>,
        files: &Files,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> bool {
        // What is through already goes first.
        let through = self.doomed.iter().position(|d| from.is_none_or(|from| from == d.target));
        if let Some(doomed) = through.map(|at| self.doomed.swap_remove(at)) {
            return self.remove_now(doomed, files, now_ms, events);
        }
        let oldest = self
            .targets
            .iter()
            .filter(|(target, _)| from.is_none_or(|from| from == **target))
            .filter_map(|(target, owed)| {
                let sent = owed.on_the_way.back().map(|page| page.until.seq);
                let free = |s: &&Segment| sent.is_none_or(|until| s.seq > until);
                owed.segments.iter().find(free).map(|segment| (segment.seq, *target))
            })
            .min();
        let Some((seq, target)) = oldest else { return false };
        self.doom(target, seq, Some(HintLoss::Evicted));
        let Some(doomed) = self.doomed.pop() else { return false };
        self.remove_now(doomed, files, now_ms, events)
    }

    fn remove_now(
        &mut self,
        mut doomed: Doomed,
        files: &Files,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> bool {
        if let Some(gone) = doomed.read(files) {
            self.record_gone(gone, now_ms, events);
        }
        let removed = doomed.unlink(files);
        self.settle_removal(doomed, removed.map_err(|e| e.to_string()))
    }

    /// Puts a lost hint into the ledger. Its account is kept elsewhere.
    pub(super) fn record_loss(
        &mut self,
        target: NodeId,
        reason: HintLoss,
        table: TableId,
        key: &Key,
        bytes: u64,
        written_ms: u64,
    ) {
        let tokens = Tokens::one(token::of(&key.0));
        let lost = Lost { tokens, count: 1, bytes, written_ms };
        self.losses().record(Scope::table(target, table), reason, lost);
    }

    /// Hints were lost that nobody can name: anything that the target holds may be among them.
    pub(super) fn record_unknown(
        &mut self,
        target: NodeId,
        reason: HintLoss,
        count: u64,
        bytes: u64,
        now_ms: u64,
    ) {
        let lost = Lost { tokens: Tokens::ALL, count, bytes, written_ms: now_ms };
        self.losses().record(Scope::target(target), reason, lost);
    }

    /// Puts hints that are gone into the ledger, and tells of them.
    pub(super) fn record_gone(&mut self, gone: Gone, now_ms: u64, events: &mut Vec<Event>) {
        let Gone { target, reason, hints, unread, unread_bytes } = gone;
        self.record_unknown(target, reason, unread, unread_bytes, now_ms);
        for hint in hints {
            let bytes = hint.record_bytes();
            self.record_loss(target, reason, hint.table, &hint.key, bytes, hint.created_ms);
            events.push(Event::HintLost { target, key: hint.key, reason });
        }
    }

    /// The ledger could not be written.
    pub(super) fn ledger_failed(&mut self) {
        self.losses().write_failed();
        self.sync_failures += 1;
    }

    /// Takes a segment out of the books: what is still pending in it is counted under `loss`, and the file waits to be
    /// removed.
    pub(super) fn doom(&mut self, target: NodeId, seq: u64, loss: Option<HintLoss>) {
        let Some(owed) = self.targets.get_mut(&target) else { return };
        let Some(at) = owed.segments.iter().position(|s| s.seq == seq) else { return };
        let Some(segment) = owed.segments.remove(at) else { return };
        self.unwritten.remove(&(target, seq));
        self.dirty.remove(&(target, seq));
        let tell = loss.filter(|_| segment.pending > 0).map(|loss| {
            self.accounts.lost(target, loss, segment.pending);
            self.note(target, seq, Some(loss), segment.pending);
            let to = segment.written.max(segment.head);
            // A segment that was never written has its header in memory.
            let mut unwritten = segment.unwritten;
            if segment.written == 0 {
                let header = usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX);
                unwritten.drain(..unwritten.len().min(header));
            }
            let span = Span { seq, from: segment.head, to };
            Tell { reason: loss, pending: segment.pending, span, unwritten }
        });
        self.doomed.push(Doomed { target, seq, bytes: segment.len, named: segment.named, tell });
    }

    /// After an attempt to remove a file: its bytes are free, or it is tried again later.
    pub(super) fn settle_removal(&mut self, doomed: Doomed, removed: Result<(), String>) -> bool {
        match removed {
            Ok(()) => {
                self.names_dirty |= doomed.named;
                self.budget.release(doomed.target, doomed.bytes);
                true
            }
            Err(error) => {
                tracing::warn!(target = %doomed.target, seq = doomed.seq, %error, "a hint segment stays");
                self.doomed.push(doomed);
                false
            }
        }
    }
}
