//! What a replica tells of its part in a request that is traced. It goes back with the answer: the coordinator keeps the
//! trace, and a replica keeps nothing.
//!
//! Of a request that is not traced there are no notes, and telling one costs a look at an `Option`. At most [`NOTES_MAX`]
//! go with an answer.

use crate::seams::clock::Clock;
use crate::storage::{Applied, Engine, StorageError};
use helenus_core::merge::Statistics;
use helenus_core::read::Part;
use helenus_core::{Partition, TableId};
use helenus_proto::v1;
use helenus_proto::v1::message::Body;
use std::sync::Arc;
use std::time::Duration;

/// Notes of one replica on one message; what is beyond is left out.
pub(crate) const NOTES_MAX: usize = 32;

/// What was done for one message, if anybody wants to know.
#[derive(Default)]
pub(crate) struct Notes(Option<Box<Noted>>);

struct Noted {
    clock: Arc<dyn Clock>,
    began: Duration,
    notes: Vec<v1::TraceNote>,
}

impl Notes {
    /// Begins now, if the message is `traced`.
    pub(crate) fn begin(traced: bool, clock: &Arc<dyn Clock>) -> Notes {
        Notes(traced.then(|| {
            let (clock, began) = (Arc::clone(clock), clock.now());
            Box::new(Noted { clock, began, notes: Vec::new() })
        }))
    }

    /// Tells what was done just now.
    pub(crate) fn tell(&mut self, activity: impl FnOnce() -> String) {
        let Some(noted) = self.0.as_mut().filter(|noted| noted.notes.len() < NOTES_MAX) else {
            return;
        };
        let elapsed = noted.clock.now().saturating_sub(noted.began);
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        noted.notes.push(v1::TraceNote { elapsed_us, activity: activity() });
    }

    /// The answer, with the notes.
    pub(crate) fn onto(self, mut answer: Body) -> Body {
        if let (Some(noted), Some(place)) = (self.0, place(&mut answer)) {
            *place = noted.notes;
        }
        answer
    }
}

/// Takes the notes out of an answer.
pub(crate) fn take(answer: &mut Body) -> Vec<v1::TraceNote> {
    place(answer).map(std::mem::take).unwrap_or_default()
}

fn place(answer: &mut Body) -> Option<&mut Vec<v1::TraceNote>> {
    match answer {
        Body::Ack(ack) => Some(&mut ack.trace),
        Body::Failed(failed) => Some(&mut failed.trace),
        Body::Partition(found) => Some(&mut found.trace),
        Body::RangeAnswer(page) => Some(&mut page.trace),
        _ => None,
    }
}

/// What there is of a partition, in a few words.
pub(crate) fn in_words(partition: &Partition) -> String {
    let mut found = Statistics::default();
    found.add(partition);
    let Some(newest) = found.max_timestamp else { return "nothing".to_owned() };
    let newest = newest.0;
    let (rows, cells) = (count(found.rows, "row"), count(found.cells, "cell"));
    let tombstones = count(found.tombstones, "tombstone");
    format!("{rows}, {cells}, {tombstones}, newest timestamp {newest}")
}

/// `1 row`, `2 rows`.
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The first bytes of a digest: enough to see that two differ.
pub(crate) fn short(digest: &[u8]) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// What became of a write.
pub(crate) fn applied_in_words(applied: &Result<Applied, StorageError>) -> String {
    match applied {
        Ok(Applied::Now) => "Merged into the memtable; the log is written before the answer",
        Ok(Applied::After(_)) => "Merged into the memtable; the log is synced before the answer",
        Err(error) => return format!("The write was refused: {error}"),
    }
    .to_owned()
}

/// In how many partitions a read of a range found something.
pub(crate) fn page_in_words(partitions: Result<usize, &StorageError>) -> String {
    match partitions {
        Ok(partitions) => format!("Read {}", count(partitions as u64, "partition")),
        Err(error) => format!("The read failed: {error}"),
    }
}

/// Where a read looks: the engine's own counts before and after it. All reads of a node are on its one thread, so what was
/// counted meanwhile is this read's.
pub(crate) struct Look<'a>(Option<Looked<'a>>);

struct Looked<'a> {
    engine: &'a dyn Engine,
    table: TableId,
    /// SSTables read and passed by before, if the engine has some.
    before: Option<(u64, u64)>,
}

impl<'a> Look<'a> {
    /// Before the read, if it is `traced`.
    pub(crate) fn before(traced: bool, engine: &'a dyn Engine, table: TableId) -> Look<'a> {
        Look(traced.then(|| Looked { engine, table, before: engine.sstables_read(table) }))
    }

    /// After the read: where it looked, and what it found.
    pub(crate) fn after(self, found: &Result<Option<Partition>, StorageError>) -> String {
        self.in_words(found.as_ref().map(Option::as_ref))
    }

    /// The same after a read of a part.
    pub(crate) fn after_part(self, found: &Result<Part, StorageError>) -> String {
        let mut said = self.in_words(found.as_ref().map(|part| Some(&part.partition)));
        if matches!(found, Ok(Part { next: Some(_), .. })) {
            said.push_str(", and there is more");
        }
        said
    }

    fn in_words(self, found: Result<Option<&Partition>, &StorageError>) -> String {
        let looked = self.0.and_then(|Looked { engine, table, before }| {
            let ((read, skipped), now) = (before?, engine.sstables_read(table)?);
            let (read, skipped) = (now.0.saturating_sub(read), now.1.saturating_sub(skipped));
            Some(match (read, skipped) {
                (0, 0) => " from the memtable".to_owned(),
                _ => format!(
                    " from the memtable and {}, {skipped} passed by",
                    count(read, "SSTable")
                ),
            })
        });
        let looked = looked.unwrap_or_default();
        match found {
            Ok(None) => format!("Read nothing{looked}"),
            Ok(Some(partition)) => format!("Read {}{looked}", in_words(partition)),
            Err(error) => format!("The read failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::clock::SystemClock;

    #[test]
    fn notes_go_with_every_answer_and_only_if_they_are_asked_for() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let answers = [
            Body::Ack(v1::Ack::default()),
            Body::Failed(v1::ReplicaError::default()),
            Body::Partition(v1::PartitionAnswer::default()),
            Body::RangeAnswer(v1::RangeAnswer::default()),
        ];
        for answer in answers {
            let mut silent = Notes::begin(false, &clock);
            silent.tell(|| panic!("nobody asked"));
            assert_eq!(silent.onto(answer.clone()), answer);
            let mut notes = Notes::begin(true, &clock);
            for nth in 0..NOTES_MAX + 3 {
                notes.tell(|| nth.to_string());
            }
            let mut told = notes.onto(answer.clone());
            assert_ne!(told, answer);
            let taken = take(&mut told);
            assert_eq!(told, answer);
            assert_eq!(taken.len(), NOTES_MAX);
            assert!(taken.is_sorted_by_key(|note| note.elapsed_us));
        }
    }
}
