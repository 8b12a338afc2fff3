//! Reading the commit log back at start.
//!
//! Every valid record goes to the memtables again, in order. Where the bytes are damaged, one question decides: could a
//! crash have done it, and was nobody promised otherwise?
//!
//! - A later mark (a `synced` record, a segment header) says that the damaged place was durable: this is rot or a lost
//!   file, and the start is refused with file, offset and remedy.
//! - No mark says so, and the damage looks like a write that did not get out (the file ends, or zeros run up to the end of
//!   a 512-byte sector): the rest of the segment is cut, counted and logged. These writes were acknowledged before any
//!   sync, or not at all.
//! - No mark says so, but the bytes are there and wrong: rot in what was written last. Refused too.
//!
//! What is cut is never touched: after a cut everything that was replayed is flushed to SSTables, then the whole log is
//! removed. So a crash during recovery finds the same log and decides the same.
//!
//! CAVEAT: when rot hits the last batch before its mark got out *and* puts a zero at the end of a sector, or when whole
//! records vanish from the end of the file in that moment, it cannot be told from a torn write.

use super::log::{
    Damage, Found, Mutation, Position, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, Segment,
    SegmentHeader, record_at, segment_id, segment_seed,
};
use super::{corrupt, io_error};
use crate::seams::disk::{Disk, File};
use crate::storage::StorageError;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

const SECTOR_BYTES: usize = 512;
const REMEDY: &str = "Acknowledged writes may be lost: restore this file, or move the commit log aside, start, and \
                      repair this node from its replicas";

/// What replay found.
#[derive(Default)]
pub(super) struct Replayed {
    /// Oldest first.
    pub(super) segments: VecDeque<Segment>,
    /// Everything before this is known to be durable.
    pub(super) durable: Position,
    /// Mutations handed out.
    pub(super) records: u64,
    /// Bytes that were cut as torn.
    pub(super) cut_bytes: u64,
    /// Where the last segment ends.
    pub(super) end: Position,
}

impl Replayed {
    /// Whether the log had a torn tail, so that it must be flushed and removed.
    pub(super) fn is_cut(&self) -> bool {
        self.cut_bytes > 0
    }
}

/// A place where the log does not go on as it should.
struct Suspect {
    at: Position,
    path: std::path::PathBuf,
    what: &'static str,
}

/// Reads all segments in `dir` and hands every mutation to `visit`.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    visit: &mut dyn FnMut(Position, &Mutation<'_>) -> Result<(), StorageError>,
) -> Result<Replayed, StorageError> {
    let mut ids: Vec<u64> = disk
        .list(dir)
        .map_err(|e| io_error(dir, &e))?
        .iter()
        .filter_map(|name| segment_id(name))
        .collect();
    ids.sort_unstable();
    let mut replayed = Replayed::default();
    let mut suspects = Vec::new();
    let mut previous: Option<(u64, u64)> = None;
    for id in ids {
        let path = dir.join(super::log::segment_name(id));
        let file = disk.open(&path, false).map_err(|e| io_error(&path, &e))?;
        let bytes = read_all(file.as_ref()).map_err(|e| io_error(&path, &e))?;
        if previous.is_some_and(|(before, _)| before + 1 != id) {
            return Err(corrupt(&path, 0, "the segment before it is missing", REMEDY));
        }
        let header = SegmentHeader::decode(&path, &bytes)?;
        if let Some(header) = &header {
            if header.id != id {
                return Err(corrupt(&path, 12, "it is another segment, renamed", REMEDY));
            }
            replayed.durable = replayed.durable.max(header.durable);
            if let Some((before, len)) = previous
                && len < header.previous_len
            {
                suspects.push(Suspect {
                    at: Position { segment: before, offset: len },
                    path: dir.join(super::log::segment_name(before)),
                    what: "the file is shorter than it was",
                });
                replayed.cut_bytes += header.previous_len - len;
            }
        }
        read_segment(id, &path, &bytes, header.is_some(), &mut replayed, &mut suspects, visit)?;
        let written = bytes.len() as u64;
        replayed.segments.push_back(Segment { id, path, file, written, synced: 0 });
        previous = Some((id, written));
        replayed.end = Position { segment: id, offset: written };
    }
    judge(&suspects, &replayed)?;
    for segment in &mut replayed.segments {
        if segment.id < replayed.durable.segment {
            segment.synced = segment.written;
        } else if segment.id == replayed.durable.segment {
            segment.synced = replayed.durable.offset.min(segment.written);
        }
    }
    Ok(replayed)
}

/// Refuses when a place that does not go on was durable once.
fn judge(suspects: &[Suspect], replayed: &Replayed) -> Result<(), StorageError> {
    for suspect in suspects {
        if suspect.at < replayed.durable {
            return Err(corrupt(
                &suspect.path,
                suspect.at.offset,
                format!("{}, in a part that had been synced", suspect.what),
                REMEDY,
            ));
        }
        tracing::warn!(
            file = %suspect.path.display(),
            offset = suspect.at.offset,
            what = suspect.what,
            "cut a torn tail of the commit log: writes that no sync had covered"
        );
    }
    // Truncated behind the last valid record of the last segment.
    if replayed.end < replayed.durable
        && let Some(last) = replayed.segments.back()
    {
        return Err(corrupt(
            &last.path,
            replayed.end.offset,
            "the file is shorter than what had been synced",
            REMEDY,
        ));
    }
    Ok(())
}

/// Hands out a segment's records up to its first damage, and looks for marks behind it.
fn read_segment(
    id: u64,
    path: &Path,
    bytes: &[u8],
    has_header: bool,
    replayed: &mut Replayed,
    suspects: &mut Vec<Suspect>,
    visit: &mut dyn FnMut(Position, &Mutation<'_>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let seed = segment_seed(id);
    let damaged_header =
        Damage { what: "the segment's header is damaged", until: SEGMENT_HEADER_BYTES };
    let mut damage = (!has_header).then_some((0, damaged_header));
    let mut at = SEGMENT_HEADER_BYTES;
    while damage.is_none() && at < bytes.len() {
        match record_at(bytes, at, seed) {
            Ok((Found::Mutation(mutation), next)) => {
                visit(Position { segment: id, offset: at as u64 }, &mutation)?;
                replayed.records += 1;
                at = next;
            }
            Ok((Found::Synced(upto), next)) => {
                replayed.durable = replayed.durable.max(upto);
                at = next;
            }
            Err(found) => damage = Some((at, found)),
        }
    }
    let Some((at, Damage { what, until })) = damage else { return Ok(()) };
    if !looks_torn(bytes, at, until) {
        return Err(corrupt(path, at as u64, what, REMEDY));
    }
    suspects.push(Suspect {
        at: Position { segment: id, offset: at as u64 },
        path: path.into(),
        what,
    });
    replayed.cut_bytes += ((bytes.len() - at) as u64).max(1);
    // Marks behind the damage still testify.
    let mut at = at.max(SEGMENT_HEADER_BYTES);
    while at + RECORD_HEADER_BYTES < bytes.len() {
        match record_at(bytes, at, seed) {
            Ok((found, next)) => {
                if let Found::Synced(upto) = found {
                    replayed.durable = replayed.durable.max(upto);
                }
                at = next;
            }
            Err(_) => at += 1,
        }
    }
    Ok(())
}

/// Whether a write that did not get out whole explains bytes `at..until`: the file ends before `until`, or a run of zeros
/// reaches from there to the end of a sector or of the file.
fn looks_torn(bytes: &[u8], at: usize, until: usize) -> bool {
    if until > bytes.len() {
        return true;
    }
    let mut sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
    while sector_end <= until {
        if bytes.get(sector_end - 1) == Some(&0) {
            return true;
        }
        sector_end += SECTOR_BYTES;
    }
    // The last, partial sector: zeros from before `until` to its end.
    let rest = until.max(at + 1) - 1..sector_end.min(bytes.len());
    !rest.is_empty() && bytes.get(rest).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// A whole file.
pub(super) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::OutOfMemory)?;
    read_all_at(file, 0, len)
}

/// `len` bytes from `at` on; fewer when the file ends before.
pub(super) fn read_all_at(file: &dyn File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(at + filled as u64, rest)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
