//! The loss ledger on the disk, so that a restart forgets nothing that was recorded before the last flush.
//!
//! ```text
//! loss-0.ledger, loss-1.ledger      | magic 8 | version u32 | turn u64 | recorded u64 | rows u32 | row | ... | crc32 u32 |
//! row                               | target u128 | table u128 | known u8 | len u8 | reason | ranges u32 | range | ... |
//! range                             | first i64 | last i64 | count u64 | bytes u64 | first_ms u64 | last_ms u64 | latest u64 |
//! ```
//!
//! Integers are little-endian; `known` has bit 0 for the target and bit 1 for the table; the CRC covers what is before it.
//! The two files are written whole and in turn, so that a torn write leaves the other one. Each is at most
//! [`LEDGER_BYTES_MAX`]. They are no part of `max_hints_size`: a ledger that had no room would be needed most.

use super::files::read_exactly;
use crate::seams::disk::Disk;
use bytes::{Buf, Bytes};
use helenus_core::hint::Loss;
use helenus_core::hint::ledger::{Ledger, Lost, LostRange, RANGES_MAX, ROWS_MAX, Scope, Tokens};
use helenus_core::{NodeId, TableId, Token};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const MAGIC: &[u8; 8] = b"HELLEDGR";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const RANGE_BYTES: usize = 56;
/// Without its reason's name, which has at most 255 bytes.
const ROW_BYTES: usize = 38;

/// The largest that one of the two files gets.
pub(super) const LEDGER_BYTES_MAX: u64 =
    (HEADER_BYTES + ROWS_MAX * (ROW_BYTES + 32 + RANGES_MAX * RANGE_BYTES) + 4) as u64;

/// A run may have recorded losses that it did not live to write down. What comes after it is numbered from beyond any of
/// those, so that a repair which asked before cannot settle them.
const RUN: u64 = 1 << 40;

/// Where the lost hints belonged, those of the store and its dead letters alike.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) ledger: Ledger,
    /// It has something that its file has not.
    dirty: bool,
    /// Of the ledger's latest file.
    turn: u64,
}

impl Losses {
    /// What the runs before left.
    pub(super) fn found((ledger, turn): (Ledger, u64)) -> Losses {
        Losses { ledger, dirty: false, turn }
    }

    pub(super) fn record(&mut self, scope: Scope, reason: Loss, lost: Lost) {
        self.dirty |= lost.count > 0;
        self.ledger.record(scope, reason, lost);
    }

    /// Takes out of the ledger what a repair covered.
    pub(super) fn settle(&mut self, settle: impl FnOnce(&mut Ledger) -> bool) {
        self.dirty |= settle(&mut self.ledger);
    }

    /// The ledger, if its file does not say all of it.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        self.turn += 1;
        Some(encode(&self.ledger, self.turn))
    }

    /// It could not be written.
    pub(super) fn write_failed(&mut self) {
        self.dirty = true;
    }
}

/// The ledger as a file of this turn.
fn encode(ledger: &Ledger, turn: u64) -> Vec<u8> {
    let mut buf = Vec::new();
    buf.extend_from_slice(MAGIC);
    buf.extend_from_slice(&VERSION.to_le_bytes());
    buf.extend_from_slice(&turn.to_le_bytes());
    buf.extend_from_slice(&ledger.recorded().to_le_bytes());
    buf.extend_from_slice(&length(ledger.rows().count()));
    for (scope, reason, ranges) in ledger.rows() {
        let known = u8::from(scope.target.is_some()) | u8::from(scope.table.is_some()) << 1;
        buf.extend_from_slice(&scope.target.map_or(0, |target| target.0).to_le_bytes());
        buf.extend_from_slice(&scope.table.map_or(0, |table| table.0).to_le_bytes());
        let name = reason.as_str();
        buf.extend_from_slice(&[known, u8::try_from(name.len()).expect("a short word")]);
        buf.extend_from_slice(name.as_bytes());
        buf.extend_from_slice(&length(ranges.len()));
        for range in ranges {
            buf.extend_from_slice(&range.tokens.first.0.to_le_bytes());
            buf.extend_from_slice(&range.tokens.last.0.to_le_bytes());
            let numbers = [range.count, range.bytes, range.first_ms, range.last_ms, range.latest];
            for number in numbers {
                buf.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    let crc = crc32fast::hash(&buf);
    buf.extend_from_slice(&crc.to_le_bytes());
    buf
}

fn length(items: usize) -> [u8; 4] {
    u32::try_from(items).expect("the ledger is bounded").to_le_bytes()
}

/// The ledger in a file, and its turn; `None`: it is no whole one.
fn decode(file: &Bytes) -> Option<(Ledger, u64)> {
    let (body, mut crc) = file.split_at_checked(file.len().checked_sub(4)?)?;
    if crc32fast::hash(body) != crc.try_get_u32_le().ok()? || !body.starts_with(MAGIC) {
        return None;
    }
    let mut body = body.get(MAGIC.len()..)?;
    if body.try_get_u32_le().ok()? != VERSION {
        return None;
    }
    let turn = body.try_get_u64_le().ok()?;
    let mut ledger = Ledger::resumed(body.try_get_u64_le().ok()?);
    for _ in 0..body.try_get_u32_le().ok()? {
        let target = NodeId(body.try_get_u128_le().ok()?);
        let table = TableId(body.try_get_u128_le().ok()?);
        let known = body.try_get_u8().ok()?;
        let name_len = usize::from(body.try_get_u8().ok()?);
        let (name, rest) = body.split_at_checked(name_len)?;
        body = rest;
        let reason = Loss::parse(std::str::from_utf8(name).ok()?)?;
        let scope = Scope {
            target: (known & 1 != 0).then_some(target),
            table: (known & 2 != 0).then_some(table),
        };
        for _ in 0..body.try_get_u32_le().ok()? {
            let range = LostRange {
                tokens: Tokens {
                    first: Token(body.try_get_i64_le().ok()?),
                    last: Token(body.try_get_i64_le().ok()?),
                },
                count: body.try_get_u64_le().ok()?,
                bytes: body.try_get_u64_le().ok()?,
                first_ms: body.try_get_u64_le().ok()?,
                last_ms: body.try_get_u64_le().ok()?,
                latest: body.try_get_u64_le().ok()?,
            };
            ledger.put(scope, reason, range);
        }
    }
    Some((ledger, turn))
}

/// The ledger's two files.
pub(super) struct LedgerFiles {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Which of them is the last that was written whole.
    pub(super) slot: AtomicU8,
}

impl LedgerFiles {
    fn path(&self, slot: u8) -> PathBuf {
        self.dir.join(format!("loss-{slot}.ledger"))
    }

    /// Makes an encoded ledger durable, beside the last that is. After a failure the same file is the one to
    /// write, as the other is the only whole one.
    pub(super) fn write(&self, ledger: &[u8]) -> io::Result<()> {
        // The hint lane runs one job at a time, so nobody else writes a ledger meanwhile.
        let slot = 1 - self.slot.load(Ordering::Relaxed).min(1);
        let file = self.disk.open(&self.path(slot), true)?;
        file.write_at(0, ledger)?;
        file.set_len(ledger.len() as u64)?;
        file.sync()?;
        // Twice in a ledger's life the name is new; that is not worth a question.
        self.disk.sync_dir(&self.dir)?;
        self.slot.store(slot, Ordering::Relaxed);
        Ok(())
    }

    /// The ledger of the runs before, and the turn of its file.
    pub(super) fn read(&self) -> io::Result<(Ledger, u64)> {
        let mut latest: Option<(Ledger, u64)> = None;
        let mut damaged = 0;
        for slot in 0..2 {
            let file = match self.disk.open(&self.path(slot), false) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let bytes = read_exactly(&*file, 0, file.len()?.min(LEDGER_BYTES_MAX))?;
            match decode(&bytes) {
                Some(found) if latest.as_ref().is_none_or(|(_, turn)| *turn < found.1) => {
                    latest = Some(found);
                    self.slot.store(slot, Ordering::Relaxed);
                }
                Some(_) => {}
                None => damaged += 1,
            }
        }
        if latest.is_none() && damaged > 0 {
            tracing::error!(
                dir = %self.dir.display(), damaged,
                "the ledger of lost hints cannot be read; what was in it, only a full repair mends"
            );
        }
        let (ledger, turn) = latest.unwrap_or_default();
        let mut resumed = Ledger::resumed(ledger.recorded().saturating_add(RUN));
        for (scope, reason, ranges) in ledger.rows() {
            for range in ranges {
                resumed.put(scope, reason, *range);
            }
        }
        Ok((resumed, turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_core::hint::ledger::Lost;

    fn full() -> Ledger {
        let mut ledger = Ledger::new();
        for target in 0..30 {
            for table in 0..10 {
                for (nth, reason) in Loss::ALL.into_iter().enumerate() {
                    for at in 0..2 * i64::try_from(RANGES_MAX).unwrap() {
                        let lost = Lost {
                            tokens: Tokens::one(Token(at * at * 7)),
                            count: 1,
                            bytes: 99,
                            written_ms: nth as u64,
                        };
                        ledger.record(Scope::table(NodeId(target), TableId(table)), reason, lost);
                    }
                }
            }
        }
        ledger
    }

    #[test]
    fn the_fullest_ledger_fits_and_comes_back() {
        let ledger = full();
        assert_eq!(ledger.rows().count(), ROWS_MAX);
        let file = encode(&ledger, 5);
        assert!(file.len() as u64 <= LEDGER_BYTES_MAX && LEDGER_BYTES_MAX <= 1 << 20);
        let back = decode(&Bytes::from(file));
        assert!(back == Some((ledger, 5)), "it came back otherwise");
    }

    #[test]
    fn no_damage_is_taken_for_a_ledger() {
        let mut ledger = Ledger::new();
        let lost = Lost { tokens: Tokens::ALL, count: 1, bytes: 1, written_ms: 1 };
        ledger.record(Scope::target(NodeId(1)), Loss::Damaged, lost);
        let file = encode(&ledger, 5);
        for at in 0..file.len() {
            assert_eq!(decode(&Bytes::from(file[..at].to_vec())), None);
            let mut broken = file.clone();
            broken[at] ^= 1;
            assert_eq!(decode(&Bytes::from(broken)), None);
        }
    }
}
