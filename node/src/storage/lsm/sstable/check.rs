//! Reading an SSTable block by block, past whatever is damaged: how verify finds what does not hold, and how scrub finds
//! what can be kept.
//!
//! A read trusts what the file says of itself: the range and the filter to say where nothing is, the index to name the
//! one block, the statistics to say what a purge or a read may pass by. Each of them can hide data without an error, so
//! each is held against the entries.
//!
//! CAVEAT: it reads what the system gives, which may be its cache and not the disk.

use super::{Cursor, SsTable};
use crate::storage::StorageError;
use crate::storage::integrity::FINDINGS_MAX;
use crate::storage::lsm::order::Walker as _;
use crate::storage::lsm::place::Place;
use bytes::Bytes;
use helenus_core::merge::Statistics;
use helenus_core::read::concat;
use helenus_core::{Partition, Token, codec, token};
use std::ops::Range;
use std::sync::Arc;

const SCRUB: &str = "`helenusctl scrub` keeps all that can be read and says what cannot; reading the table at ALL then \
                     brings that back from the other replicas";
const ELSEWHERE: &str = "Reads look for it elsewhere. Another build, or another program, wrote it: move the file aside \
                         while the node is down, and read the table at ALL";

/// One of the things that a walk over an SSTable meets.
pub(in crate::storage::lsm) enum Seen<'a> {
    /// An entry of a block that matches its checksum.
    Entry {
        /// Its block.
        block: usize,
        /// Where the block begins.
        offset: u64,
        token: Token,
        key: &'a [u8],
        value: Bytes,
    },
    /// A block, or the rest of one, that cannot be read.
    Damaged { offset: u64, error: StorageError, from: Token, until: Token },
}

type Visit<'a> = &'a mut dyn FnMut(Seen<'_>) -> Result<(), StorageError>;

/// Walks all blocks that the index knows, in order.
pub(in crate::storage::lsm) struct Blocks {
    table: Arc<SsTable>,
    /// The next one.
    number: usize,
}

impl Blocks {
    pub(in crate::storage::lsm) fn new(table: &Arc<SsTable>) -> Blocks {
        Blocks { table: Arc::clone(table), number: 0 }
    }

    /// Walks on for about `bytes`. Gives how many it were, and whether blocks are left.
    pub(in crate::storage::lsm) fn step(
        &mut self,
        bytes: u64,
        visit: Visit<'_>,
    ) -> Result<(u64, bool), StorageError> {
        let mut read = 0;
        while read < bytes {
            let Some(entry) = self.table.index.get(self.number) else { return Ok((read, false)) };
            if let Some(run) = self.table.run(self.number) {
                self.number = run.end;
                read += self.walk_pieces(run, visit)?;
                continue;
            }
            read += u64::from(entry.len);
            self.walk(self.number, entry.offset, visit)?;
            self.number += 1;
        }
        Ok((read, self.number < self.table.index.len()))
    }

    /// A partition in pieces is one entry: all its pieces that can be read, put together. Gives their bytes.
    fn walk_pieces(&self, run: Range<usize>, visit: Visit<'_>) -> Result<u64, StorageError> {
        let first = run.start;
        let (mut read, mut pieces, mut at) = (0, Vec::new(), None);
        for (number, entry) in run.clone().zip(self.table.index.get(run).unwrap_or_default()) {
            read += u64::from(entry.len);
            match self.piece(number) {
                Ok((place, piece)) => {
                    at.get_or_insert((entry.offset, place));
                    pieces.push(piece);
                }
                Err(error) => {
                    let (from, until) = self.table.span(number);
                    visit(Seen::Damaged { offset: entry.offset, error, from, until })?;
                }
            }
        }
        if let Some((offset, Place { token, key })) = at {
            let (key, value) = (key.as_slice(), codec::encode(&concat(pieces)));
            visit(Seen::Entry { block: first, offset, token, key, value })?;
        }
        Ok(read)
    }

    fn piece(&self, block: usize) -> Result<(Place, Partition), StorageError> {
        let cursor = Cursor::of_block(&self.table, block)?;
        let (token, key) = cursor.place().ok_or_else(|| self.table.bad_entry(block))?;
        let piece = codec::decode(cursor.share_value()).map_err(|e| self.table.undecodable(&e))?;
        Ok((Place::new(token, key), piece))
    }

    fn walk(&self, block: usize, offset: u64, visit: Visit<'_>) -> Result<(), StorageError> {
        let damaged = |error| {
            let (from, until) = self.table.span(block);
            Seen::Damaged { offset, error, from, until }
        };
        let mut cursor = match Cursor::of_block(&self.table, block) {
            Ok(cursor) => cursor,
            Err(error) => return visit(damaged(error)),
        };
        while let Some((token, key)) = cursor.place() {
            visit(Seen::Entry { block, offset, token, key, value: cursor.share_value() })?;
            if let Err(error) = cursor.advance() {
                return visit(damaged(error));
            }
        }
        Ok(())
    }
}

impl SsTable {
    /// The first and the last token that a block may hold.
    fn span(&self, block: usize) -> (Token, Token) {
        let first = |block: usize| self.index.get(block).map(|entry| entry.first.token);
        (first(block).unwrap_or(Token::MIN), first(block + 1).unwrap_or(self.last.token))
    }
}

/// What kind of thing does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Block,
    Entry,
    Order,
    Index,
    Filter,
    Token,
    Statistics,
}

/// Something in an SSTable that does not hold.
#[derive(Debug, Clone)]
pub(in crate::storage::lsm) struct Flaw {
    kind: Kind,
    pub(in crate::storage::lsm) offset: u64,
    pub(in crate::storage::lsm) what: String,
    pub(in crate::storage::lsm) remedy: &'static str,
}

impl Flaw {
    fn new(kind: Kind, offset: u64, what: impl Into<String>) -> Flaw {
        let remedy = if kind == Kind::Token { ELSEWHERE } else { SCRUB };
        Flaw { kind, offset, what: what.into(), remedy }
    }

    /// The file does not open, or what is behind its blocks is damaged.
    pub(in crate::storage::lsm) fn of_file(error: StorageError) -> Flaw {
        let (offset, what) = parts(error);
        Flaw::new(Kind::File, offset, what)
    }

    /// Whether writing the SSTable anew helps.
    pub(in crate::storage::lsm) fn is_mendable(&self) -> bool {
        self.kind != Kind::Token
    }
}

fn parts(error: StorageError) -> (u64, String) {
    match error {
        StorageError::Corrupt { offset, what, .. } => (offset, what),
        StorageError::Io { message, .. } => (0, message),
        other => (0, other.to_string()),
    }
}

/// Holds all that an SSTable says of itself against its entries.
pub(in crate::storage::lsm) struct Check {
    table: Arc<SsTable>,
    blocks: Blocks,
    findings: Findings,
}

/// What a check has found so far.
#[derive(Default)]
pub(in crate::storage::lsm) struct Findings {
    pub(in crate::storage::lsm) partitions: u64,
    pub(in crate::storage::lsm) bytes: u64,
    /// Invariant: at most [`FINDINGS_MAX`], and one of each kind a block.
    pub(in crate::storage::lsm) flaws: Vec<Flaw>,
    pub(in crate::storage::lsm) left_out: u64,
    /// Something could not be read, so the sums say nothing.
    partial: bool,
    statistics: Statistics,
    last: Option<Place>,
}

impl Check {
    pub(in crate::storage::lsm) fn new(table: &Arc<SsTable>) -> Check {
        let (blocks, findings) = (Blocks::new(table), Findings::default());
        Check { table: Arc::clone(table), blocks, findings }
    }

    /// Checks about `bytes` more. Gives how many it were, and whether blocks are left.
    pub(in crate::storage::lsm) fn step(
        &mut self,
        bytes: u64,
    ) -> Result<(u64, bool), StorageError> {
        let Check { table, blocks, findings } = self;
        let (read, more) = blocks.step(bytes, &mut |seen| {
            findings.see(table, seen);
            Ok(())
        })?;
        findings.bytes += read;
        Ok((read, more))
    }

    /// The sums are checked last.
    pub(in crate::storage::lsm) fn finish(self) -> Findings {
        let Check { table, mut findings, .. } = self;
        if findings.partial {
            return findings;
        }
        let (content, found) = (&table.content, findings.partitions);
        if content.partitions != found {
            let what = format!(
                "it holds {found} partitions, and its statistics say {}",
                content.partitions
            );
            findings.add(Flaw::new(Kind::Statistics, 0, what));
        }
        if let Some(what) = contradiction(&content.statistics, &findings.statistics) {
            findings.add(Flaw::new(Kind::Statistics, 0, what));
        }
        findings
    }
}

impl Findings {
    fn see(&mut self, table: &SsTable, seen: Seen<'_>) {
        let (block, offset, token, key, value) = match seen {
            Seen::Entry { block, offset, token, key, value } => (block, offset, token, key, value),
            Seen::Damaged { offset, error, .. } => {
                self.partial = true;
                let (_, what) = parts(error);
                return self.add(Flaw::new(Kind::Block, offset, what));
            }
        };
        let place = Place::new(token, key);
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            self.add(Flaw::new(Kind::Order, offset, "entries are not in order: reads miss some"));
        }
        if table.index.get(block).is_some_and(|entry| entry.first > place) {
            let what = "the index says that the block begins behind its first entry";
            self.add(Flaw::new(Kind::Index, offset, what));
        }
        if !table.may_contain(token) {
            let what =
                "the bloom filter, or the range in the index, denies a partition that is here";
            self.add(Flaw::new(Kind::Filter, offset, what));
        }
        if token != token::of(key) {
            let what = format!("a partition lies at token {token}, which is not its key's");
            self.add(Flaw::new(Kind::Token, offset, what));
        }
        match codec::decode(value) {
            Ok(partition) => {
                self.partitions += 1;
                self.statistics.add(&partition);
            }
            Err(error) => {
                self.partial = true;
                let what = format!("a partition at token {token} does not decode: {error}");
                self.add(Flaw::new(Kind::Entry, offset, what));
            }
        }
        self.last = Some(place);
    }

    /// The first of a kind stands for all of them in its block.
    fn add(&mut self, flaw: Flaw) {
        let repeats = |other: &&Flaw| other.offset == flaw.offset && other.kind == flaw.kind;
        let block = self.flaws.iter().rev().take_while(|other| other.offset == flaw.offset);
        if block.clone().any(|other| repeats(&other)) {
            return;
        }
        if self.flaws.len() < FINDINGS_MAX {
            self.flaws.push(flaw);
        } else {
            self.left_out += 1;
        }
    }

    /// A flaw of the file itself comes before those in its blocks.
    pub(in crate::storage::lsm) fn put_first(&mut self, flaw: Flaw) {
        self.flaws.insert(0, flaw);
    }
}

/// Statistics are bounds: versions that were overwritten before the file was written may count. What they must not do is
/// exclude what is there.
fn contradiction(stored: &Statistics, found: &Statistics) -> Option<String> {
    let excludes = |bound: bool, what: &str| {
        bound.then(|| format!("its statistics exclude what it holds: {what}"))
    };
    excludes(is_later(stored.min_timestamp, found.min_timestamp), "older writes")
        .or_else(|| {
            let newest = (stored.max_timestamp, found.max_timestamp);
            excludes(newest.0 < newest.1, "newer writes")
        })
        // How many rows, cells and tombstones there are is an estimate where a compaction copied without looking; that there
        // are none is not.
        .or_else(|| excludes(stored.tombstones == 0 && found.tombstones > 0, "tombstones"))
        .or_else(|| {
            let beyond = found.beyond_value && !stored.beyond_value;
            excludes(beyond, "more than plain values")
        })
        .or_else(|| excludes(stored.expiring == 0 && found.expiring > 0, "values with a TTL"))
        .or_else(|| {
            let later = is_later(stored.min_deleted_at, found.min_deleted_at);
            excludes(later, "earlier deletions")
        })
        // What these two leave out could be dropped with a whole SSTable that seems to have expired.
        .or_else(|| excludes(stored.lasting == 0 && found.lasting > 0, "what does not expire"))
        .or_else(|| excludes(stored.max_deleted_at < found.max_deleted_at, "later deletions"))
}

/// Whether a lower bound lies above what was found.
fn is_later<T: PartialOrd>(stored: Option<T>, found: Option<T>) -> bool {
    found.is_some_and(|found| stored.is_none_or(|stored| stored > found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::{GcSeconds, TimestampMicros};

    #[test]
    fn bounds_may_be_wide_and_not_narrow() {
        let found = Statistics {
            min_timestamp: Some(TimestampMicros(10)),
            max_timestamp: Some(TimestampMicros(20)),
            rows: 2,
            cells: 3,
            tombstones: 1,
            expiring: 1,
            min_deleted_at: Some(GcSeconds(5)),
            max_deleted_at: Some(GcSeconds(7)),
            lasting: 1,
            beyond_value: true,
        };
        assert_eq!(contradiction(&found, &found), None);
        let wide = Statistics {
            min_timestamp: Some(TimestampMicros(9)),
            max_timestamp: Some(TimestampMicros(21)),
            rows: 1,
            tombstones: 2,
            min_deleted_at: Some(GcSeconds(4)),
            max_deleted_at: Some(GcSeconds(8)),
            lasting: 2,
            ..found
        };
        assert_eq!(contradiction(&wide, &found), None);
        let narrow = [
            Statistics { min_timestamp: Some(TimestampMicros(11)), ..found },
            Statistics { min_timestamp: None, ..found },
            Statistics { lasting: 0, ..found },
            Statistics { max_deleted_at: Some(GcSeconds(6)), ..found },
            Statistics { max_timestamp: Some(TimestampMicros(19)), ..found },
            Statistics { max_timestamp: None, ..found },
            Statistics { tombstones: 0, ..found },
            Statistics { expiring: 0, ..found },
            Statistics { min_deleted_at: Some(GcSeconds(6)), ..found },
            Statistics { min_deleted_at: None, ..found },
            Statistics { beyond_value: false, ..found },
        ];
        for narrow in narrow {
            assert!(contradiction(&narrow, &found).is_some(), "{narrow:?}");
        }
        assert_eq!(contradiction(&Statistics::default(), &Statistics::default()), None);
    }
}
