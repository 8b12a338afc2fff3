//! Which conditional writes this node has accepted and does not know to be committed: what has to be decided before it leaves
//! the ring, because a quorum that it was in may have decided them, and one without it would not know.

use super::{ACCEPTED, COMMITTED, TABLE};
use crate::storage::{Engine, RangeStart, StorageError, system_row};
use bytes::Bytes;
use helenus_core::paxos::Proposal;
use helenus_core::{GcSeconds, Key, TableId, Token, codec};
use std::ops::ControlFlow;

/// States that are looked at in one step.
const STEP_STATES: usize = 16_384;
/// Partitions that one step finds at most.
const FOUND_MAX: usize = 256;

/// What a step found, and where the next one begins, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) found: Vec<(TableId, Key)>,
    pub(crate) next: Option<RangeStart>,
}

/// Looks at the states from `start` on.
pub(crate) fn unfinished(
    engine: &dyn Engine,
    start: &RangeStart,
    now: GcSeconds,
) -> Result<Step, StorageError> {
    let (mut step, mut seen) = (Step::default(), 0);
    engine.scan(TABLE, start, Token::MAX, &mut |token, key, encoded| {
        seen += 1;
        if is_unfinished(encoded, now) {
            step.found.extend(partition_of(key));
        }
        if seen < STEP_STATES && step.found.len() < FOUND_MAX {
            return ControlFlow::Continue(());
        }
        step.next = Some(RangeStart::AfterKey(token, Key(Bytes::copy_from_slice(key))));
        ControlFlow::Break(())
    })?;
    Ok(step)
}

/// A state that cannot be read says nothing to other proposers either.
fn is_unfinished(encoded: &[u8], now: GcSeconds) -> bool {
    let Ok(state) = codec::decode(Bytes::copy_from_slice(encoded)) else { return false };
    let proposal = |column| {
        let bytes = system_row::value(&state, column, now)?;
        Proposal::decode(&bytes)
    };
    let committed = proposal(COMMITTED).map(|committed| committed.ballot);
    // That nothing is written needs no deciding.
    proposal(ACCEPTED).is_some_and(|accepted| {
        !accepted.update.is_empty() && accepted.ballot.supersedes(committed.as_ref())
    })
}

/// The inverse of `row_key`.
fn partition_of(row: &[u8]) -> Option<(TableId, Key)> {
    let (table, key) = row.split_first_chunk::<16>()?;
    Some((TableId(u128::from_be_bytes(*table)), Key(Bytes::copy_from_slice(key))))
}
