//! What verify, scrub and snapshots are asked for, and what they report.
//!
//! Reports are bounded: of a disk that rots, the first findings tell as much as all of them, and what was left out is
//! counted.

use helenus_core::{TableId, Token};

/// Findings that a report holds.
pub const FINDINGS_MAX: usize = 1000;

/// What to verify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// `None`: every table, and the commit log.
    pub tables: Option<Vec<TableId>>,
    /// Files, footers and manifests only; blocks are not read.
    pub quick: bool,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `None`: the commit log, which all tables share.
    pub table: Option<TableId>,
    /// The file.
    pub path: String,
    /// Where in it: the beginning of the block, section or record.
    pub offset: u64,
    /// What does not hold there.
    pub what: String,
    /// What an operator can do.
    pub remedy: String,
}

/// What verify found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Tables that were looked at.
    pub tables: u64,
    /// SSTables that were read.
    pub sstables: u64,
    /// Partitions that were decoded.
    pub partitions: u64,
    /// Bytes of SSTables that were read.
    pub bytes: u64,
    /// Segments of the commit log that were read.
    pub log_segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Invariant: at most [`FINDINGS_MAX`].
    pub problems: Vec<Problem>,
    /// Problems beyond those.
    pub problems_left_out: u64,
}

impl VerifyReport {
    /// Takes note of a problem.
    pub fn add(&mut self, problem: Problem) {
        if self.problems.len() < FINDINGS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}

/// What to scrub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubOptions {
    /// `None`: every table.
    pub tables: Option<Vec<TableId>>,
    /// Rewrite SSTables without problems too.
    pub all: bool,
    /// Keep the files as they were, as a snapshot.
    pub snapshot: bool,
}

impl Default for ScrubOptions {
    /// Every table, only what is damaged, after a snapshot.
    fn default() -> Self {
        ScrubOptions { tables: None, all: false, snapshot: true }
    }
}

/// Something that could not be kept: what a repair has to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The table.
    pub table: TableId,
    /// The file it was in.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// Why it could not be read.
    pub what: String,
    /// It lay at this token at the earliest.
    pub from: Token,
    /// And at this one at the latest.
    pub until: Token,
}

/// What scrub did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// SSTables that were read.
    pub sstables: u64,
    /// SSTables that were written anew.
    pub rewritten: u64,
    /// SSTables that compaction replaced before it was their turn.
    pub overtaken: u64,
    /// Partitions of rewritten SSTables that were kept.
    pub partitions_kept: u64,
    /// Partitions that the statistics of rewritten SSTables count and that could not be kept.
    pub partitions_lost: u64,
    /// Partitions that were not in order, and are in SSTables of their own now.
    pub reordered: u64,
    /// Manifests that were stored anew because the file was damaged.
    pub manifests: u64,
    /// The snapshot that holds the files as they were.
    pub snapshot: Option<String>,
    /// Invariant: at most [`FINDINGS_MAX`].
    pub lost: Vec<Lost>,
    /// Losses beyond those.
    pub lost_left_out: u64,
}

impl ScrubReport {
    /// Takes note of a loss.
    pub fn add(&mut self, lost: Lost) {
        if self.lost.len() < FINDINGS_MAX {
            self.lost.push(lost);
        } else {
            self.lost_left_out += 1;
        }
    }
}

/// One table in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFigures {
    /// The snapshot's name.
    pub tag: String,
    /// Its table; `None` when its description cannot be read.
    pub table: Option<TableId>,
    /// The keyspace's name then.
    pub keyspace: String,
    /// The table's name then.
    pub name: String,
    /// When it was taken, by the wall clock, in milliseconds since the epoch; 0: not known.
    pub created_ms: i64,
    /// SSTables in it.
    pub sstables: u64,
    /// Bytes of its files.
    pub bytes_on_disk: u64,
    /// Bytes that clearing it would free: files that the table itself no longer has.
    pub true_bytes: u64,
    /// `false`: it was cut short, and the next start removes it.
    pub complete: bool,
}
