//! What the engine owes, kept apart from it: plain partitions, merged by `helenus_core::merge` and nothing else.
//!
//! Of each key is known what was tried, what this boot has taken, what must survive the process and what must survive
//! the power. What the engine shows lies between two of them: `required` is in it, and nothing but what was tried is.
//! Both are asked with one question, as merging is a join: does merging it in change what a reader sees?
//!
//! A purge is legal past gc_grace, so both sides are looked at through `for_read`, which purges everything that it may. A
//! covered value that comes back is seen all the same: merged with its tombstone it vanishes.
//!
//! A drop of a table takes effect durably at some later moment, in one step. Until it is known to have, both histories
//! are kept, and a start must agree with one of them, over all keys.

use bytes::Bytes;
use helenus_core::data::{Cell, Content};
use helenus_core::merge::{self, for_read};
use helenus_core::{GcSeconds, Partition, TimestampMicros};

/// Which of its promises the engine is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// All that this boot has taken.
    Live,
    /// What was committed: the process died, the machine did not.
    Committed,
    /// What was acknowledged: the power failed.
    Acked,
}

#[derive(Debug, Clone, Default)]
struct KeyModel {
    /// Timestamps that were tried, and the one value that each wrote.
    tried: Vec<(i64, Bytes)>,
    /// Tombstones, and values with a TTL, that were tried: from when each counts as deleted.
    dying: Vec<(u32, Partition)>,
    all: Partition,
    live: Partition,
    committed: Partition,
    acked: Partition,
}

/// The moment at which a table is looked at, and how long its tombstones are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) second: GcSeconds,
    pub(super) gc_grace_s: u32,
}

impl Now {
    fn view(self, partition: &Partition) -> Partition {
        for_read(partition.clone(), self.second, self.gc_grace_s).unwrap_or_default()
    }

    pub(super) fn gc_before(self) -> u32 {
        self.second.0.saturating_sub(self.gc_grace_s)
    }
}

impl KeyModel {
    fn owed(&self, owed: Owed) -> &Partition {
        match owed {
            Owed::Live => &self.live,
            Owed::Committed => &self.committed,
            Owed::Acked => &self.acked,
        }
    }

    /// What is wrong with `found`, if anything.
    fn fault(&self, found: &Partition, owed: Owed, now: Now) -> Option<String> {
        let seen = now.view(found);
        let with = |other: &Partition| {
            let mut with = found.clone();
            merge::merge(&mut with, other.clone());
            now.view(&with)
        };
        let required = self.owed(owed);
        // What is merged with itself stays as it is, and nearly always it is the same.
        let lacks = |other: &Partition| found != other && with(other) != seen;
        if lacks(required) && !self.is_covered(found, required, now) {
            return Some(format!("lost or resurrected ({owed:?}): {seen:?}\nowed: {required:?}"));
        }
        if *found != self.all && with(&self.all) != now.view(&self.all) {
            return Some(format!("invented: {seen:?}\ntried: {:?}", self.all));
        }
        self.stranger(found).map(|what| format!("{what}: {found:?}"))
    }

    /// Whether what `found` lacks was covered by a tombstone that nobody had to keep: it was tried, came through, did its
    /// work, and was purged past gc_grace.
    fn is_covered(&self, found: &Partition, required: &Partition, now: Now) -> bool {
        let seen = now.view(found);
        let dead = self.dying.iter().filter(|(at, _)| *at < now.gc_before());
        let dead: Vec<&Partition> = dead.map(|(_, update)| update).collect();
        let explains = |tombstones: &[&Partition]| {
            let mut with = found.clone();
            for update in tombstones.iter().chain(&[required]) {
                join(&mut with, update);
            }
            now.view(&with) == seen
        };
        explains(&dead) || dead.iter().any(|one| explains(&[one]))
    }

    /// Something in `found` that no write put there.
    fn stranger(&self, found: &Partition) -> Option<String> {
        let known = |timestamp: TimestampMicros| {
            self.tried.iter().find(|(tried, _)| *tried == timestamp.0).map(|(_, value)| value)
        };
        let odd = |cell: &Cell| match (known(cell.timestamp), &cell.content) {
            (None, _) => true,
            (Some(written), Content::Value { value, .. }) => written != value,
            (Some(_), Content::Tombstone { .. }) => false,
        };
        let deletions = found.deletion.iter().chain(found.ranges.iter().map(|r| &r.deletion));
        if let Some(deletion) = deletions.clone().find(|d| known(d.timestamp).is_none()) {
            return Some(format!("nobody deleted at {:?}", deletion.timestamp));
        }
        let rows = found.rows.iter().map(|(_, row)| row).chain(&found.static_row);
        for row in rows {
            let times = row.deletion.map(|d| d.timestamp).into_iter();
            if times.chain(row.liveness.map(|l| l.timestamp)).any(|t| known(t).is_none()) {
                return Some("nobody wrote this row".to_owned());
            }
            let complex = || row.complex.iter().map(|(_, complex)| complex);
            if complex().filter_map(|it| it.deletion).any(|d| known(d.timestamp).is_none()) {
                return Some("nobody deleted this column".to_owned());
            }
            let elements = complex().flat_map(|it| &it.elements).map(|(_, cell)| cell);
            let mut cells = row.cells.iter().map(|(_, cell)| cell).chain(elements);
            if let Some(cell) = cells.find(|cell| odd(cell)) {
                return Some(format!("nobody wrote this cell: {cell:?}"));
            }
        }
        None
    }
}

/// One history of a table.
type History = Vec<KeyModel>;

/// One table.
#[derive(Debug, Clone)]
pub(super) struct TableModel {
    /// With and without drops of which nobody knows whether they took effect durably; the last one is what this boot
    /// shows. Never empty.
    histories: Vec<History>,
    /// Tombstones, and values that become some: (timestamp, second). Of all histories.
    deletions: Vec<Vec<(i64, u32)>>,
    /// Defined, as far as the schema goes.
    pub(super) open: bool,
    /// This boot's content is known: it was looked at, or began empty.
    pub(super) known: bool,
    /// It was dropped in this boot.
    dropped: bool,
    /// Writes since the last commit.
    uncommitted: Vec<(usize, Partition)>,
    /// What the next look is held to: the power may have failed since the last one.
    since: Owed,
    /// The last boot ended with the power: what is there is on the platter.
    power_failed: bool,
}

fn join(into: &mut Partition, other: &Partition) {
    // Nearly always it is the same already, and looking costs less than merging.
    if into != other {
        merge::merge(into, other.clone());
    }
}

fn take_over(into: &mut Partition, other: &Partition) {
    if into != other {
        into.clone_from(other);
    }
}

impl TableModel {
    pub(super) fn new(keys: usize) -> TableModel {
        TableModel {
            histories: vec![vec![KeyModel::default(); keys]],
            deletions: vec![Vec::new(); keys],
            open: true,
            known: true,
            dropped: false,
            uncommitted: Vec::new(),
            since: Owed::Committed,
            power_failed: false,
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.deletions.len()
    }

    fn each(&mut self, key: usize, mut change: impl FnMut(&mut KeyModel)) {
        self.histories.iter_mut().filter_map(|keys| keys.get_mut(key)).for_each(&mut change);
    }

    fn every(&mut self, mut change: impl FnMut(&mut KeyModel)) {
        self.histories.iter_mut().flatten().for_each(&mut change);
    }

    /// A timestamp older than this may be covered by a tombstone that is forgotten already, and rightly so: a write that
    /// comes so late is the client's problem.
    pub(super) fn floor(&self, key: usize, now: Now) -> i64 {
        let deletions = self.deletions.get(key).into_iter().flatten();
        deletions.filter(|(_, at)| *at < now.gc_before()).map(|(t, _)| *t).max().unwrap_or(0)
    }

    /// A write is about to be tried. `dies_at`: when it, or what becomes of it, counts as deleted.
    pub(super) fn trying(
        &mut self,
        key: usize,
        timestamp: i64,
        value: &Bytes,
        update: &Partition,
        dies_at: Option<u32>,
    ) {
        if let (Some(at), Some(deletions)) = (dies_at, self.deletions.get_mut(key)) {
            deletions.push((timestamp, at));
        }
        self.each(key, |k| {
            k.tried.push((timestamp, value.clone()));
            k.dying.extend(dies_at.map(|at| (at, update.clone())));
            join(&mut k.all, update);
        });
    }

    /// The engine has taken it.
    pub(super) fn taken(&mut self, key: usize, update: &Partition) {
        self.each(key, |k| join(&mut k.live, update));
        self.uncommitted.push((key, update.clone()));
    }

    /// A commit has worked.
    pub(super) fn committed(&mut self) {
        for (key, update) in std::mem::take(&mut self.uncommitted) {
            self.each(key, |k| join(&mut k.committed, &update));
        }
    }

    /// A write was acknowledged: by the sync mode it survives the power, or the process only.
    pub(super) fn acked(&mut self, key: usize, update: &Partition, synced: bool) {
        self.each(key, |k| {
            if synced {
                join(&mut k.acked, update);
            }
            join(&mut k.committed, update);
        });
    }

    /// All that was committed, or taken, is durable.
    pub(super) fn all_durable(&mut self, owed: Owed) {
        self.every(|k| {
            let durable = k.owed(owed);
            if k.acked != *durable || k.committed != *durable {
                let durable = durable.clone();
                join(&mut k.acked, &durable);
                join(&mut k.committed, &durable);
            }
        });
    }

    /// How many drops may or may not have taken effect.
    pub(super) fn doubts(&self) -> usize {
        self.histories.len() - 1
    }

    /// The table is dropped, and empty at once; not durably yet. `failing`: the disk is, so that even its log may be
    /// removed and its SSTables not.
    pub(super) fn drop_table(&mut self, failing: bool) {
        self.uncommitted.clear();
        self.every(|k| {
            if failing {
                k.acked = Partition::default();
            }
            // What the memtable held is gone, and what the log holds of it may be.
            k.live = k.acked.clone();
            k.committed = k.acked.clone();
        });
        self.histories.push(vec![KeyModel::default(); self.keys()]);
        self.open = false;
        self.known = true;
        self.dropped = true;
    }

    /// Whatever was dropped in this boot is known to be gone for good.
    pub(super) fn drops_are_durable(&mut self) {
        if self.dropped {
            self.histories.drain(..self.histories.len() - 1);
        }
    }

    /// What one key shows, against what this boot has taken.
    pub(super) fn fault_of(&self, key: usize, found: &Partition, now: Now) -> Option<String> {
        let history = self.histories.last()?;
        history.get(key)?.fault(found, Owed::Live, now).map(|what| format!("key {key}: {what}"))
    }

    /// The first look after a start: some history must agree. From here on it is what was found.
    pub(super) fn settle(&mut self, found: &[Partition], now: Now) -> Option<String> {
        let owed = self.since;
        let fault = |history: &History| {
            let mut keys = history.iter().zip(found).enumerate();
            keys.find_map(|(key, (model, found))| {
                model.fault(found, owed, now).map(|what| format!("key {key}: {what}"))
            })
        };
        let faults: Vec<Option<String>> = self.histories.iter().map(fault).collect();
        if !faults.iter().any(Option::is_none) {
            return faults.into_iter().flatten().last();
        }
        let mut faults = faults.into_iter();
        self.histories.retain(|_| faults.next().flatten().is_none());
        for history in &mut self.histories {
            for (key, found) in history.iter_mut().zip(found) {
                take_over(&mut key.live, found);
                join(&mut key.committed, found);
                if self.power_failed {
                    join(&mut key.acked, found);
                }
            }
        }
        self.known = true;
        self.since = Owed::Committed;
        None
    }

    /// A new boot: nothing of it is known, and nothing waits for a commit.
    pub(super) fn restarted(&mut self, power_failed: bool) {
        self.known = false;
        self.dropped = false;
        self.uncommitted.clear();
        self.power_failed = power_failed;
        if power_failed {
            self.since = Owed::Acked;
        }
        // Until somebody looks, it holds this at least.
        self.every(|k| {
            if power_failed {
                take_over(&mut k.committed, &k.acked);
            }
            take_over(&mut k.live, &k.committed);
        });
    }
}
