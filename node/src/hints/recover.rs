//! What the last run left behind: segments are counted again, the bound is enforced before anything new is taken.

use super::files::{Files, Name, Span, parent, parse_name};
use super::gone::Gone;
use super::record::{HEADER_BYTES, POSITIONS_BYTES, Position};
use super::state::{Segment, State};
use super::{HintError, at};
use crate::seams::probe::{Event, HintLoss};
use helenus_core::NodeId;
use helenus_core::hint::{Admission, Overflow};
use std::collections::{BTreeMap, BTreeSet};

/// Fills an empty state from its directory, which is made when it is not there. Gives the losses to tell.
///
/// A torn tail is cut by not reading it: what was synced comes before it. A record that cannot be read counts as lost;
/// in a tail that no longer shows where records begin, so does one record for the whole of it, at least.
pub(super) fn recover(
    state: &mut State,
    files: &Files,
    now_ms: u64,
) -> Result<Vec<Event>, HintError> {
    files.disk.create_dir(&files.dir).map_err(|e| at(&files.dir, &e))?;
    files.disk.sync_dir(parent(&files.dir)).map_err(|e| at(&files.dir, &e))?;
    let mut segments = Vec::new();
    let mut positions: BTreeMap<NodeId, (Position, u64)> = BTreeMap::new();
    for name in files.disk.list(&files.dir).map_err(|e| at(&files.dir, &e))? {
        match parse_name(&name) {
            Some(Name::Segment(target, seq)) => segments.push((seq, target)),
            Some(Name::Positions(target)) => {
                let read = files.read_position(target);
                let read = read.map_err(|e| at(&files.positions(target), &e))?;
                positions.insert(target, read.unwrap_or_default());
            }
            Some(Name::Ledger | Name::DeadLetters) => {}
            None => tracing::warn!(%name, "not a hint file; left alone and not counted"),
        }
    }
    segments.sort_unstable();
    let mut found = Vec::new();
    for (seq, target) in segments {
        state.next_seq = state.next_seq.max(seq + 1);
        let delivered = positions.get(&target).map(|(position, _)| *position).unwrap_or_default();
        if let Some(segment) = read_segment(state, files, target, seq, delivered, now_ms)? {
            found.push((target, segment));
        }
    }
    for (target, (position, turn)) in positions {
        // Numbers are never used again: a position that outlived its segments must not cover new ones.
        state.next_seq = state.next_seq.max(position.seq + 1);
        keep_position(state, files, target, turn, &found)?;
    }
    Ok(enforce(state, files, found, now_ms))
}

/// Charges the position file, or removes it when nothing is owed to its target any more.
fn keep_position(
    state: &mut State,
    files: &Files,
    target: NodeId,
    turn: u64,
    found: &[(NodeId, Segment)],
) -> Result<(), HintError> {
    let owed = found.iter().any(|(t, _)| *t == target);
    if owed && matches!(state.budget.admit(target, POSITIONS_BYTES), Admission::Store) {
        state.budget.charge(target, POSITIONS_BYTES);
        let kept = state.targets.entry(target).or_default();
        (kept.positioned, kept.turn) = (true, turn);
        return Ok(());
    }
    let path = files.positions(target);
    state.names_dirty = true;
    files.disk.remove(&path).map_err(|e| at(&path, &e))
}

/// Counts what is pending in a segment; removes it when that is nothing.
fn read_segment(
    state: &mut State,
    files: &Files,
    target: NodeId,
    seq: u64,
    delivered: Position,
    now_ms: u64,
) -> Result<Option<Segment>, HintError> {
    let head = if delivered.seq == seq { delivered.offset.max(HEADER_BYTES) } else { HEADER_BYTES };
    let (mut lost, mut lost_bytes) = (0, 0);
    let mut kept = None;
    if seq >= delivered.seq {
        match read_records(files, target, seq, head) {
            Ok(read) => (kept, lost, lost_bytes) = read,
            Err(error) => {
                tracing::error!(%target, seq, %error, "a hint segment cannot be read");
                lost = 1;
            }
        }
    }
    if lost > 0 {
        tracing::error!(%target, seq, lost, "hints could not be read back");
        state.accounts.stored(target, lost);
        state.accounts.lost(target, HintLoss::Damaged, lost);
        state.record_unknown(target, HintLoss::Damaged, lost, lost_bytes, now_ms);
    }
    if kept.is_none() {
        state.names_dirty = true;
        files.remove(target, seq).map_err(|e| at(&files.segment(target, seq), &e))?;
    }
    Ok(kept)
}

/// The segment with what is pending in it, if anything is; how many records are damaged, and their bytes.
fn read_records(
    files: &Files,
    target: NodeId,
    seq: u64,
    head: u64,
) -> std::io::Result<(Option<Segment>, u64, u64)> {
    let (whole, len) = files.inspect(target, seq)?;
    if !whole {
        // Header and first records are written together: a file without more than a header never had a synced record.
        return Ok((None, u64::from(len > HEADER_BYTES), len));
    }
    let part = files.read(target, Span { seq, from: head, to: len.max(head) }, len)?;
    let created = || part.hints.iter().map(|hint| hint.created_ms);
    let segment = created().min().map(|oldest_ms| Segment {
        seq,
        len,
        written: len,
        unwritten: Vec::new(),
        head,
        pending: part.hints.len() as u64,
        oldest_ms,
        newest_ms: created().max().unwrap_or(oldest_ms),
        file: None,
        named: true,
        sealed: true,
    });
    Ok((segment, part.damaged, part.damaged_bytes))
}

/// Takes as many segments as the bound allows: it may be lower than it was, and a crash may have brought removed files
/// back. Under `drop-newest` the oldest stay, under `drop-oldest` the newest.
fn enforce(
    state: &mut State,
    files: &Files,
    mut found: Vec<(NodeId, Segment)>,
    now_ms: u64,
) -> Vec<Event> {
    if state.budget.limits().overflow == Overflow::DropOldest {
        found.reverse();
    }
    let mut events = Vec::new();
    let mut excess = Vec::new();
    // No gaps: what comes behind a segment that does not fit is not kept either, though it be smaller.
    let mut full = BTreeSet::new();
    for (target, segment) in found {
        let positioned = state.targets.get(&target).is_some_and(|owed| owed.positioned);
        let cost = segment.len + if positioned { 0 } else { POSITIONS_BYTES };
        let fits = matches!(state.budget.admit(target, cost), Admission::Store);
        state.accounts.stored(target, segment.pending);
        if !fits || full.contains(&target) {
            full.insert(target);
            excess.push((target, segment));
            continue;
        }
        state.budget.charge(target, cost);
        let owed = state.targets.entry(target).or_default();
        owed.positioned = true;
        // `found` may be in either order; a target's segments are kept oldest first.
        let place = owed.segments.partition_point(|kept| kept.seq < segment.seq);
        owed.segments.insert(place, segment);
    }
    for (target, segment) in excess {
        state.accounts.lost(target, HintLoss::Evicted, segment.pending);
        state.names_dirty = true;
        let span = Span { seq: segment.seq, from: segment.head, to: segment.written };
        let part = files.read(target, span, span.to - span.from).unwrap_or_default();
        let unread = segment.pending.saturating_sub(part.hints.len() as u64);
        let (reason, hints) = (HintLoss::Evicted, part.hints);
        let gone = Gone { target, reason, hints, unread, unread_bytes: part.damaged_bytes };
        state.record_gone(gone, now_ms, &mut events);
        if let Err(error) = files.remove(target, segment.seq) {
            tracing::error!(%target, seq = segment.seq, %error, "hints above the bound stay on disk");
        }
    }
    events
}
