//! The commit log: every write goes here before it is acknowledged.
//!
//! A log is a row of segment files. Records are appended to a buffer in memory and go to the file with one write for
//! as many as there are; a background job syncs. A segment is removed when every table has flushed what it holds.
//!
//! ```text
//! segment | "HLNSCLOG" | version u32 | id u64 | durable: segment u64, offset u64 | previous_len u64 | crc32 u32 | record ...
//! record  | len u32 | header_crc u32 | body_crc u32 | body (len bytes)
//! body    | 1 mutation u8 | table 16 | token i64 | key_len u32 | key | update | 0xE5 |
//!         | 2 synced u8   | segment u64 | offset u64 | 0xE5 |
//! ```
//!
//! All integers are little-endian. `header_crc` covers the segment's id, the record's offset and `len`; `body_crc` starts
//! from it. So a record that is valid is one that was written just there, and a damaged length is known from a damaged
//! body.
//!
//! **Why `synced` records.** A crash may leave the last records torn, and they may be cut: nobody was promised that they
//! are durable. Rot may damage the same bytes, and then cutting would lose acknowledged writes silently. So each sync
//! that succeeded is written down behind what it covered, and in the header of the next segment. Damage before such a
//! mark stops the start; see `replay` for what happens behind the last one.
//!
//! Invariants:
//! - positions only grow, also across restarts: `(segment id, offset)`;
//! - a write or a sync that failed poisons the log: what the file holds is unknown, so it takes no more (fsyncgate).

use super::{corrupt, io_error};
use crate::seams::disk::{Disk, File};
use crate::storage::StorageError;
use bytes::{Buf, BufMut};
use crc32fast::Hasher;
use helenus_core::{TableId, Token};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const SEGMENT_HEADER_BYTES: usize = 48;
pub(super) const RECORD_HEADER_BYTES: usize = 12;
/// Ends every body. Bytes that a crash lost read as zeros, so a body that ends with this one got out whole or not at all.
const END: u8 = 0xE5;
const MUTATION: u8 = 1;
const SYNCED: u8 = 2;
const MUTATION_HEAD_BYTES: usize = 1 + 16 + 8 + 4;
const MAGIC: &[u8; 8] = b"HLNSCLOG";
const VERSION: u32 = 1;
/// A buffer this full is written even if nobody asked: what waits in memory is bounded.
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// When nothing in the current segment is needed, it is left for a new one from this part of its size on.
const LEAVE_PART: u64 = 32;
/// A record larger than this is refused, and not believed on replay. Values are bounded far below it.
const RECORD_BYTES_MAX: usize = 1 << 30;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// What a log record says.
#[derive(Debug)]
pub(super) struct Mutation<'a> {
    pub(super) table: TableId,
    pub(super) token: Token,
    pub(super) key: &'a [u8],
    pub(super) update: &'a [u8],
}

/// One file of the log.
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// Bytes written to it. What is still in the buffer is not in here.
    pub(super) written: u64,
    /// Bytes of it that are known to be durable.
    pub(super) synced: u64,
}

/// The log, open for appending.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_size: u64,
    /// Oldest first; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    /// What the checksums of the last segment's records start from, ready to go on.
    seed: Hasher,
    /// Segments that were freed unsynced. Their files may still be there when the power fails, and the next mark will say
    /// that everything before it is durable: so they are synced like the others, once.
    freed_unsynced: Vec<(PathBuf, Arc<dyn File>)>,
    /// Appended, not yet written: continues the last segment.
    buffer: Vec<u8>,
    /// Mutations were appended since the last sync began.
    unsynced: bool,
    /// A segment was created since the directory was last synced.
    new_names: bool,
    durable: Position,
    poisoned: Option<String>,
    writes: u64,
}

/// A sync on its way to the background.
pub(super) struct SyncJob {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    files: Vec<(PathBuf, Arc<dyn File>)>,
    names: bool,
    /// What is durable when the job has succeeded.
    pub(super) upto: Position,
    /// About how much it writes.
    pub(super) bytes: u64,
}

impl SyncJob {
    /// Syncs oldest first, so that what a crash leaves is never a later segment without an earlier one.
    pub(super) fn run(&self) -> Result<(), StorageError> {
        for (path, file) in &self.files {
            file.sync().map_err(|e| io_error(path, &e))?;
        }
        if self.names {
            self.disk.sync_dir(&self.dir).map_err(|e| io_error(&self.dir, &e))?;
        }
        Ok(())
    }
}

impl Log {
    /// Continues behind what was replayed, in a new segment called `id`.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segment_size: u64,
        old: VecDeque<Segment>,
        durable: Position,
        id: u64,
    ) -> Result<Log, StorageError> {
        // What was replayed may sit in the page cache only, so the first sync covers it too.
        let unsynced = old.iter().any(|segment| segment.synced < segment.written);
        let mut log = Log {
            disk,
            dir,
            segment_size,
            segments: old,
            seed: Hasher::new(),
            freed_unsynced: Vec::new(),
            buffer: Vec::new(),
            unsynced,
            new_names: true,
            durable,
            poisoned: None,
            writes: 0,
        };
        log.create(id)?;
        Ok(log)
    }

    /// Where the next record begins.
    pub(super) fn end(&self) -> Position {
        self.segments.back().map_or(Position::default(), |segment| Position {
            segment: segment.id,
            offset: segment.written + self.buffer.len() as u64,
        })
    }

    /// Everything before this survives a crash.
    pub(super) fn durable(&self) -> Position {
        self.durable
    }

    /// Why it takes no more.
    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Bytes of all segments.
    pub(super) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.written).sum::<u64>() + self.buffer.len() as u64
    }

    /// Segments, the current one included.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Write calls so far, for figures.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether mutations wait for a sync.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Appends a record to the buffer. Gives where it begins.
    pub(super) fn append(&mut self, mutation: &Mutation<'_>) -> Result<Position, StorageError> {
        self.check()?;
        let body_bytes = MUTATION_HEAD_BYTES + mutation.key.len() + mutation.update.len() + 1;
        if body_bytes > RECORD_BYTES_MAX {
            return Err(StorageError::TooLarge {
                bytes: body_bytes as u64,
                limit: RECORD_BYTES_MAX as u64,
            });
        }
        if self.end().offset >= self.segment_size {
            self.rotate()?;
        }
        let at = self.end();
        let mut head = [0_u8; MUTATION_HEAD_BYTES];
        let mut fields = head.as_mut_slice();
        fields.put_u8(MUTATION);
        fields.put_u128_le(mutation.table.0);
        fields.put_i64_le(mutation.token.0);
        fields.put_u32_le(length(mutation.key.len()));
        self.put(at, &[&head, mutation.key, mutation.update]);
        self.unsynced = true;
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.write_out()?;
        }
        Ok(at)
    }

    /// Hands the buffer to the system, with one write.
    pub(super) fn write_out(&mut self) -> Result<(), StorageError> {
        self.check()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        self.writes += 1;
        if let Err(e) = segment.file.write_at(segment.written, &self.buffer) {
            let error = io_error(&segment.path, &e);
            return Err(self.poison(&error));
        }
        segment.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
        Ok(())
    }

    /// What a sync has to do now; `None` when nothing was appended since the last one began.
    pub(super) fn begin_sync(&mut self) -> Result<Option<SyncJob>, StorageError> {
        if !self.unsynced {
            return self.check().map(|()| None);
        }
        self.begin_final_sync().map(Some)
    }

    /// As [`Log::begin_sync`], even when only a mark waits.
    pub(super) fn begin_final_sync(&mut self) -> Result<SyncJob, StorageError> {
        self.write_out()?;
        self.unsynced = false;
        let freed = std::mem::take(&mut self.freed_unsynced);
        let unsynced = || self.segments.iter().filter(|segment| segment.synced < segment.written);
        Ok(SyncJob {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
            files: freed
                .into_iter()
                .chain(unsynced().map(|s| (s.path.clone(), Arc::clone(&s.file))))
                .collect(),
            bytes: unsynced().map(|s| s.written - s.synced).sum(),
            names: std::mem::take(&mut self.new_names),
            upto: self.end(),
        })
    }

    /// Takes note of how a sync ended, and writes it down.
    pub(super) fn finish_sync(
        &mut self,
        upto: Position,
        result: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.check()?;
        if let Err(error) = result {
            return Err(self.poison(&error));
        }
        for segment in &mut self.segments {
            if segment.id < upto.segment {
                segment.synced = segment.written;
            } else if segment.id == upto.segment {
                segment.synced = segment.synced.max(upto.offset);
            }
        }
        self.durable = self.durable.max(upto);
        let mut body = [0_u8; 17];
        let mut fields = body.as_mut_slice();
        fields.put_u8(SYNCED);
        fields.put_u64_le(upto.segment);
        fields.put_u64_le(upto.offset);
        let at = self.end();
        self.put(at, &[&body]);
        // At once: a process that dies now leaves it in the page cache.
        self.write_out()
    }

    /// Forgets the segments before `id`; the caller removes the files, oldest first.
    pub(super) fn free_before(&mut self, id: u64) -> Vec<PathBuf> {
        let mut freed = Vec::new();
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.id < id) {
            let Some(segment) = self.segments.pop_front() else { break };
            if segment.synced < segment.written {
                self.freed_unsynced.push((segment.path.clone(), segment.file));
            }
            freed.push(segment.path);
        }
        freed
    }

    fn check(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(StorageError::Poisoned { cause: cause.clone() }),
        }
    }

    fn poison(&mut self, error: &StorageError) -> StorageError {
        let cause = error.to_string();
        tracing::error!(%cause, "the commit log takes no more writes; reads go on; restart to replay it");
        self.poisoned = Some(cause.clone());
        StorageError::Poisoned { cause }
    }

    fn put(&mut self, at: Position, parts: &[&[u8]]) {
        let len = length(parts.iter().map(|part| part.len()).sum::<usize>() + 1);
        let mut hasher = header_hasher(self.seed.clone(), at.offset, len);
        self.buffer.put_u32_le(len);
        self.buffer.put_u32_le(hasher.clone().finalize());
        let crc_at = self.buffer.len();
        self.buffer.put_u32_le(0);
        let body_at = self.buffer.len();
        parts.iter().for_each(|part| self.buffer.put_slice(part));
        self.buffer.put_u8(END);
        // In one piece: over the parts, one by one, it takes twice as long.
        hasher.update(self.buffer.get(body_at..).unwrap_or(&[]));
        let crc = hasher.finalize().to_le_bytes();
        if let Some(place) = self.buffer.get_mut(crc_at..body_at) {
            place.copy_from_slice(&crc);
        }
    }

    fn rotate(&mut self) -> Result<(), StorageError> {
        self.write_out()?;
        let next = self.end().segment + 1;
        self.create(next)
    }

    /// Goes on in a new segment if the current one has grown to a part of its size, so that it can be freed: for when
    /// nothing in it is needed any more. That it cannot be created is no harm yet.
    pub(super) fn leave_segment(&mut self) {
        let end = self.end();
        let worth_it = (self.segment_size / LEAVE_PART).max(SEGMENT_HEADER_BYTES as u64 + 1);
        if end.offset < worth_it || self.write_out().is_err() {
            return;
        }
        if let Err(error) = self.try_create(end.segment + 1) {
            tracing::warn!(%error, "the commit log stays in its segment");
        }
    }

    fn create(&mut self, id: u64) -> Result<(), StorageError> {
        self.try_create(id).map_err(|error| self.poison(&error))
    }

    fn try_create(&mut self, id: u64) -> Result<(), StorageError> {
        let previous_len = self.segments.back().map_or(0, |segment| segment.written);
        let path = self.dir.join(segment_name(id));
        let header = SegmentHeader { id, durable: self.durable, previous_len };
        let file = self
            .disk
            .open(&path, true)
            .and_then(|file| {
                // A file of this name can only be what an interrupted removal or creation left.
                file.set_len(0)?;
                file.write_at(0, &header.encode())?;
                Ok(file)
            })
            .map_err(|e| io_error(&path, &e))?;
        let written = SEGMENT_HEADER_BYTES as u64;
        self.segments.push_back(Segment { id, path, file, written, synced: 0 });
        self.seed = Hasher::new_with_initial(segment_seed(id));
        self.new_names = true;
        Ok(())
    }
}

/// The first bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: u64,
    /// What was durable when the segment was created.
    pub(super) durable: Position,
    /// How long the segment before it is; 0 when there is none.
    pub(super) previous_len: u64,
}

impl SegmentHeader {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u64_le(self.id);
        out.put_u64_le(self.durable.segment);
        out.put_u64_le(self.durable.offset);
        out.put_u64_le(self.previous_len);
        let crc = crc32fast::hash(&out);
        out.put_u32_le(crc);
        out
    }

    /// `None`: damaged.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Option<SegmentHeader>, StorageError> {
        let Some((fields, mut crc)) = bytes
            .get(..SEGMENT_HEADER_BYTES)
            .and_then(|header| header.split_at_checked(SEGMENT_HEADER_BYTES - 4))
        else {
            return Ok(None);
        };
        if crc.get_u32_le() != crc32fast::hash(fields) || !fields.starts_with(MAGIC) {
            return Ok(None);
        }
        let mut fields = fields;
        fields.advance(MAGIC.len());
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(corrupt(
                path,
                8,
                format!("a commit log in format {version}; this build reads format {VERSION}"),
                "Start the build that wrote it, or a newer one",
            ));
        }
        let id = fields.get_u64_le();
        let durable = Position { segment: fields.get_u64_le(), offset: fields.get_u64_le() };
        Ok(Some(SegmentHeader { id, durable, previous_len: fields.get_u64_le() }))
    }
}

/// A record as found in a segment's bytes.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A write.
    Mutation(Mutation<'a>),
    /// Everything before this position was durable when it was written.
    Synced(Position),
}

/// Why the bytes at an offset are no record, and how many bytes are under suspicion.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) what: &'static str,
    /// The damaged part ends here at the latest; past the end of the file when the file is too short for it.
    pub(super) until: usize,
}

/// Reads the record at `at`. Gives it and where the next one begins.
pub(super) fn record_at(bytes: &[u8], at: usize, seed: u32) -> Result<(Found<'_>, usize), Damage> {
    let body_at = at + RECORD_HEADER_BYTES;
    let short = Damage { what: "a record's header is cut short", until: body_at };
    let Some(mut header) = bytes.get(at..body_at) else { return Err(short) };
    let len = header.get_u32_le();
    let crc = header.get_u32_le();
    if header_crc(seed, at as u64, len) != crc {
        return Err(Damage {
            what: "a record's header does not match its checksum",
            until: body_at,
        });
    }
    let until = body_at.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    let Some(body) = bytes.get(body_at..until) else {
        return Err(Damage { what: "a record is cut short", until });
    };
    let mut hasher = Hasher::new_with_initial(crc);
    hasher.update(body);
    if hasher.finalize() != header.get_u32_le() {
        return Err(Damage { what: "a record does not match its checksum", until });
    }
    let unknown = Damage { what: "a record of a kind that this build does not know", until };
    parse_body(body).map(|found| (found, until)).ok_or(unknown)
}

fn parse_body(body: &[u8]) -> Option<Found<'_>> {
    let mut fields = body.strip_suffix(&[END])?;
    match fields.try_get_u8().ok()? {
        MUTATION => {
            let table = TableId(fields.try_get_u128_le().ok()?);
            let token = Token(fields.try_get_i64_le().ok()?);
            let key_len = usize::try_from(fields.try_get_u32_le().ok()?).ok()?;
            let (key, update) = fields.split_at_checked(key_len)?;
            Some(Found::Mutation(Mutation { table, token, key, update }))
        }
        SYNCED => {
            let segment = fields.try_get_u64_le().ok()?;
            Some(Found::Synced(Position { segment, offset: fields.try_get_u64_le().ok()? }))
        }
        _ => None,
    }
}

/// What the checksums of one segment's records start from.
pub(super) fn segment_seed(id: u64) -> u32 {
    crc32fast::hash(&id.to_le_bytes())
}

fn header_crc(seed: u32, offset: u64, len: u32) -> u32 {
    header_hasher(Hasher::new_with_initial(seed), offset, len).finalize()
}

/// Goes on with a header; the body's checksum goes on from there.
fn header_hasher(mut hasher: Hasher, offset: u64, len: u32) -> Hasher {
    let mut bytes = [0_u8; 12];
    let mut fields = bytes.as_mut_slice();
    fields.put_u64_le(offset);
    fields.put_u32_le(len);
    hasher.update(&bytes);
    hasher
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("records are bounded by RECORD_BYTES_MAX")
}

/// The name of a segment's file: sorts as its id does.
pub(super) fn segment_name(id: u64) -> String {
    format!("commitlog-{id:016x}.log")
}

/// The id in a segment's file name.
pub(super) fn segment_id(name: &str) -> Option<u64> {
    let hex = name.strip_prefix("commitlog-")?.strip_suffix(".log")?;
    if hex.len() == 16 { u64::from_str_radix(hex, 16).ok() } else { None }
}
