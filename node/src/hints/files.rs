//! Where hint files are, and how they are read and removed, and positions kept. Segments are appended to by `state` and
//! synced by `writer`.

use super::ledger::LedgerFiles;
use super::record::{self, Found, HEADER_BYTES, Hint, POSITIONS_BYTES, Position};
use crate::seams::disk::{Disk, File};
use bytes::Bytes;
use helenus_core::NodeId;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of a log on a disk.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Of the losses of both logs.
    pub(super) ledger: Arc<LedgerFiles>,
}

/// The directory of the dead-letter log, in that of the hints.
pub(super) const DEAD_LETTERS: &str = "dead";

/// What a file's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Segment(NodeId, u64),
    Positions(NodeId),
    Ledger,
    DeadLetters,
}

pub(super) fn parse_name(name: &str) -> Option<Name> {
    match name {
        "loss-0.ledger" | "loss-1.ledger" => return Some(Name::Ledger),
        DEAD_LETTERS => return Some(Name::DeadLetters),
        _ => {}
    }
    if let Some(target) = name.strip_suffix(".pos") {
        return target.parse().ok().map(Name::Positions);
    }
    let (target, seq) = name.strip_suffix(".hints")?.rsplit_once('-')?;
    Some(Name::Segment(target.parse().ok()?, seq.parse().ok()?))
}

/// A part of a segment to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) seq: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What was read of a span: intact hints, and everything before `until` has been looked at.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) seq: u64,
    pub(super) until: u64,
    pub(super) hints: Vec<Hint>,
    /// Damaged records met, at least.
    pub(super) damaged: u64,
    /// The bytes of those.
    pub(super) damaged_bytes: u64,
}

impl Files {
    pub(super) fn segment(&self, target: NodeId, seq: u64) -> PathBuf {
        self.dir.join(format!("{target}-{seq}.hints"))
    }

    pub(super) fn positions(&self, target: NodeId) -> PathBuf {
        self.dir.join(format!("{target}.pos"))
    }

    /// Removes a segment. One that is not there is removed already.
    pub(super) fn remove(&self, target: NodeId, seq: u64) -> io::Result<()> {
        match self.disk.remove(&self.segment(target, seq)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Reads whole records of a span: as many as `max_bytes` hold, and at least one.
    pub(super) fn read(&self, target: NodeId, span: Span, max_bytes: u64) -> io::Result<Part> {
        self.read_some(target, span, max_bytes, usize::MAX)
    }

    /// As [`Files::read`], and not more than `max_hints`.
    pub(super) fn read_some(
        &self,
        target: NodeId,
        span: Span,
        max_bytes: u64,
        max_hints: usize,
    ) -> io::Result<Part> {
        let file = self.disk.open(&self.segment(target, span.seq), false)?;
        let end = span.to.saturating_sub(span.from);
        let mut bytes = read_exactly(&*file, span.from, end.min(max_bytes))?;
        let mut part = Part { seq: span.seq, ..Part::default() };
        let mut at = 0;
        while part.hints.len() < max_hints {
            match record::parse(&bytes, at, end) {
                Found::Record(hint, next) => {
                    part.hints.push(hint);
                    at = next;
                }
                Found::Damaged(next) => {
                    part.damaged += 1;
                    part.damaged_bytes += next - at;
                    at = next;
                }
                // The first record of a page is read whatever its size; others wait for the next page.
                Found::Short(needs) if at == 0 => {
                    bytes = read_exactly(&*file, span.from, needs.min(end))?;
                    if (bytes.len() as u64) < needs {
                        // The file is shorter than it was.
                        part.damaged += 1;
                        part.damaged_bytes += end;
                        at = end;
                        break;
                    }
                }
                Found::Short(_) | Found::End => break,
            }
        }
        part.until = span.from + at;
        Ok(part)
    }

    /// Reads the spans in order until `max_bytes` are reached. An error after something was read ends the page there:
    /// the next one meets it first.
    pub(super) fn read_page(
        &self,
        target: NodeId,
        spans: &[Span],
        max_bytes: u64,
    ) -> (Vec<Part>, Option<(u64, io::Error)>) {
        let mut parts = Vec::new();
        let mut left = max_bytes;
        for span in spans {
            if left == 0 {
                break;
            }
            match self.read(target, *span, left) {
                Ok(part) => {
                    left = left.saturating_sub(part.until - span.from);
                    let whole = part.until == span.to;
                    parts.push(part);
                    if !whole {
                        break;
                    }
                }
                Err(error) => return (parts, Some((span.seq, error))),
            }
        }
        (parts, None)
    }

    /// Makes durable that everything before `position` was delivered.
    pub(super) fn write_position(
        &self,
        target: NodeId,
        position: Position,
        turn: u64,
    ) -> io::Result<()> {
        let path = self.positions(target);
        let (file, is_new) = match self.disk.open(&path, false) {
            Ok(file) => (file, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (self.disk.open(&path, true)?, true),
            Err(e) => return Err(e),
        };
        let (at, bytes) = record::slot(position, turn);
        file.write_at(at, &bytes)?;
        file.sync()?;
        if is_new { self.disk.sync_dir(&self.dir) } else { Ok(()) }
    }

    pub(super) fn read_position(&self, target: NodeId) -> io::Result<Option<(Position, u64)>> {
        match self.disk.open(&self.positions(target), false) {
            Ok(file) => Ok(record::latest(&read_exactly(&*file, 0, POSITIONS_BYTES)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a segment's header is there and its own, and how long the file is.
    pub(super) fn inspect(&self, target: NodeId, seq: u64) -> io::Result<(bool, u64)> {
        let file = self.disk.open(&self.segment(target, seq), false)?;
        let head = read_exactly(&*file, 0, HEADER_BYTES)?;
        Ok((record::is_header(&head, target, seq), file.len()?))
    }
}

/// Reads `len` bytes, or what there is.
pub(super) fn read_exactly(file: &dyn File, offset: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(|_| io::Error::other("too long for memory"))?;
    let mut buf = vec![0; len];
    let read = file.read_at(offset, &mut buf)?;
    buf.truncate(read);
    Ok(Bytes::from(buf))
}

/// The directory that holds `dir`.
pub(super) fn parent(dir: &Path) -> &Path {
    dir.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let disk = Arc::new(crate::seams::disk::SimDisk::new(1, Default::default()));
        let dir = PathBuf::from("hints");
        let (disk, slot) = (disk as Arc<dyn Disk>, Default::default());
        let ledger = LedgerFiles { disk: Arc::clone(&disk), dir: dir.clone(), slot };
        let files = Files { disk, dir, ledger: Arc::new(ledger) };
        let target = NodeId(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let segment = name(files.segment(target, 17));
        assert_eq!(segment, "12345678-9abc-def0-1234-56789abcdef0-17.hints");
        assert_eq!(parse_name(&segment), Some(Name::Segment(target, 17)));
        assert_eq!(parse_name(&name(files.positions(target))), Some(Name::Positions(target)));
        assert_eq!(parse_name("12345678-9abc-def0-1234-56789abcdef0.hints"), None);
        assert_eq!(parse_name("loss-1.ledger"), Some(Name::Ledger));
        assert_eq!(parse_name("dead"), Some(Name::DeadLetters));
        assert_eq!(parse_name("notes.txt"), None);
    }
}
