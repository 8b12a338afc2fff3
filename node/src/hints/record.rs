//! The bytes of hint files. Integers are little-endian; a CRC covers everything behind it (a header's and a slot's: before it).
//!
//! ```text
//! segment    <target>-<seq>.hints   | header | record | record | ...
//! header     | magic 8 | version u32 | target u128 | seq u64 | created_ms u64 | crc32 u32 |             48 bytes
//! record     | crc32 u32 | len u32 | created_ms u64 | gc_grace_s u32 | key_len u32 | table u128 | key | update |
//! positions  <target>.pos           | slot | slot |                                                     64 bytes
//! slot       | seq u64 | offset u64 | turn u64 | unused u32 | crc32 u32 |                                32 bytes
//! ```
//!
//! A hint costs 24 bytes besides its mutation (table, key, update), plus its share of the segment's header. The two
//! slots of a position are written in turn, so that a torn write leaves the other one.

use bytes::{Buf, Bytes};
use helenus_core::hint::Overflow;
use helenus_core::{Key, NodeId, TableId};

const MAGIC: &[u8; 8] = b"HELHINTS";
const VERSION: u32 = 1;

/// A segment's header.
pub(super) const HEADER_BYTES: u64 = 48;
/// A record's bytes besides key and update: 24, and 16 of the table's id.
const FIXED_BYTES: u64 = 40;
/// `crc32` and `len`, which `len` does not count.
const PREFIX_BYTES: u64 = 8;
/// One position.
pub(super) const SLOT_BYTES: u64 = 32;
/// A position file.
pub(super) const POSITIONS_BYTES: u64 = 2 * SLOT_BYTES;

/// A hint as it is given to the store.
#[derive(Debug, Clone, Copy)]
pub struct NewHint<'a> {
    /// The table.
    pub table: TableId,
    /// The partition.
    pub key: &'a Key,
    /// The canonical encoding of what was written.
    pub update: &'a Bytes,
    /// When it was written, in milliseconds of wall time: its life is counted from here.
    pub created_ms: u64,
    /// The table's `gc_grace_seconds` now.
    pub gc_grace_s: u32,
    /// What happens when there is no room for it; `None`: what the node's configuration says.
    pub overflow: Option<Overflow>,
}

/// A hint as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The table.
    pub table: TableId,
    /// The partition.
    pub key: Key,
    /// The canonical encoding of what was written.
    pub update: Bytes,
    /// When it was written, in milliseconds of wall time.
    pub created_ms: u64,
    /// The table's `gc_grace_seconds` when it was written.
    pub gc_grace_s: u32,
}

impl Hint {
    /// How many bytes its record takes.
    pub(super) fn record_bytes(&self) -> u64 {
        FIXED_BYTES + self.key.0.len() as u64 + self.update.len() as u64
    }
}

/// How many bytes a hint takes in a segment; `None` when that is more than a record can say.
pub(super) fn record_bytes(hint: &NewHint<'_>) -> Option<u64> {
    let bytes = FIXED_BYTES + hint.key.0.len() as u64 + hint.update.len() as u64;
    u32::try_from(bytes).ok().map(|_| bytes)
}

/// Appends a hint's record.
pub(super) fn push(buf: &mut Vec<u8>, hint: &NewHint<'_>) {
    let checked = "record_bytes was asked before";
    let len = record_bytes(hint).expect(checked) - PREFIX_BYTES;
    let start = buf.len();
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&u32::try_from(len).expect(checked).to_le_bytes());
    buf.extend_from_slice(&hint.created_ms.to_le_bytes());
    buf.extend_from_slice(&hint.gc_grace_s.to_le_bytes());
    buf.extend_from_slice(&u32::try_from(hint.key.0.len()).expect(checked).to_le_bytes());
    buf.extend_from_slice(&hint.table.0.to_le_bytes());
    buf.extend_from_slice(&hint.key.0);
    buf.extend_from_slice(hint.update);
    if let Some((crc, covered)) = buf.get_mut(start..).and_then(|r| r.split_at_mut_checked(4)) {
        crc.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
    }
}

/// What is found at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record, and where the next one begins.
    Record(Hint, u64),
    /// The record goes on behind the bytes at hand: so many are needed from here.
    Short(u64),
    /// Damage, and where to go on: behind the record when its length is plausible, else at the end.
    Damaged(u64),
    /// Nothing more.
    End,
}

/// Reads the record at `at`. `bytes` is a beginning of what there is, which ends at `end` (both counted from the start
/// of `bytes`).
pub(super) fn parse(bytes: &Bytes, at: u64, end: u64) -> Found {
    let there = end.saturating_sub(at);
    if there == 0 {
        return Found::End;
    }
    if there < FIXED_BYTES {
        return Found::Damaged(end);
    }
    let Some(mut rest) = tail(bytes, at) else { return Found::Short(FIXED_BYTES) };
    if (rest.len() as u64) < PREFIX_BYTES {
        return Found::Short(FIXED_BYTES);
    }
    let crc = rest.get_u32_le();
    let whole = rest.clone();
    let total = PREFIX_BYTES + u64::from(rest.get_u32_le());
    if total < FIXED_BYTES || total > there {
        return Found::Damaged(end);
    }
    let next = at + total;
    // The CRC covers the length too, so a wrong length is found out as well.
    let covered = usize::try_from(total).unwrap_or(usize::MAX).saturating_sub(4);
    let Some(checked) = whole.get(..covered) else { return Found::Short(total) };
    if crc32fast::hash(checked) != crc {
        return Found::Damaged(next);
    }
    let mut body = whole.slice(4..covered);
    let created_ms = body.get_u64_le();
    let gc_grace_s = body.get_u32_le();
    let key_len = body.get_u32_le() as usize;
    let table = TableId(body.get_u128_le());
    if key_len > body.len() {
        return Found::Damaged(next);
    }
    let key = Key(body.split_to(key_len));
    Found::Record(Hint { table, key, update: body, created_ms, gc_grace_s }, next)
}

fn tail(bytes: &Bytes, at: u64) -> Option<Bytes> {
    let at = usize::try_from(at).ok().filter(|at| *at <= bytes.len())?;
    Some(bytes.slice(at..))
}

/// A segment's header.
pub(super) fn header(target: NodeId, seq: u64, created_ms: u64) -> Vec<u8> {
    let mut buf = Vec::with_capacity(48);
    buf.extend_from_slice(MAGIC);
    buf.extend_from_slice(&VERSION.to_le_bytes());
    buf.extend_from_slice(&target.0.to_le_bytes());
    buf.extend_from_slice(&seq.to_le_bytes());
    buf.extend_from_slice(&created_ms.to_le_bytes());
    let crc = crc32fast::hash(&buf);
    buf.extend_from_slice(&crc.to_le_bytes());
    buf
}

/// Whether `bytes` begin with the header of this segment.
pub(super) fn is_header(bytes: &[u8], target: NodeId, seq: u64) -> bool {
    let Some(created) = bytes.get(36..44).and_then(|b| <[u8; 8]>::try_from(b).ok()) else {
        return false;
    };
    bytes.starts_with(&header(target, seq, u64::from_le_bytes(created)))
}

/// How far a target's hints are delivered: everything before this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub(super) seq: u64,
    pub(super) offset: u64,
}

/// A slot of the position file, and where in the file it goes. Turns alternate between the two.
pub(super) fn slot(position: Position, turn: u64) -> (u64, Vec<u8>) {
    let mut buf = Vec::with_capacity(32);
    buf.extend_from_slice(&position.seq.to_le_bytes());
    buf.extend_from_slice(&position.offset.to_le_bytes());
    buf.extend_from_slice(&turn.to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
    let crc = crc32fast::hash(&buf);
    buf.extend_from_slice(&crc.to_le_bytes());
    ((turn % 2) * SLOT_BYTES, buf)
}

/// The position of the latest whole slot, and its turn.
pub(super) fn latest(bytes: &[u8]) -> Option<(Position, u64)> {
    let whole = |slot: &[u8]| {
        let (mut body, mut crc) = slot.split_at_checked(28)?;
        let crc = crc.try_get_u32_le().ok()?;
        (crc32fast::hash(body) == crc).then(|| {
            let (seq, offset) = (body.get_u64_le(), body.get_u64_le());
            (Position { seq, offset }, body.get_u64_le())
        })
    };
    bytes.chunks(32).filter_map(whole).max_by_key(|(_, turn)| *turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sizes: &[usize]) -> (Bytes, Vec<u64>) {
        let mut buf = Vec::new();
        let mut starts = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            starts.push(buf.len() as u64);
            let key = Key(Bytes::from(format!("key{i}")));
            let update = Bytes::from(vec![7; *size]);
            let hint = NewHint {
                table: TableId(9),
                key: &key,
                update: &update,
                created_ms: 1000 + i as u64,
                gc_grace_s: 10,
                overflow: None,
            };
            push(&mut buf, &hint);
            assert_eq!(buf.len() as u64 - starts[i], record_bytes(&hint).unwrap());
        }
        (Bytes::from(buf), starts)
    }

    #[test]
    fn a_hint_costs_24_bytes_besides_its_mutation() {
        let (bytes, _) = segment(&[100]);
        assert_eq!(bytes.len(), 24 + 16 + "key0".len() + 100);
    }

    #[test]
    fn records_are_read_back_and_short_reads_say_what_they_need() {
        let (bytes, starts) = segment(&[3, 0, 50]);
        let end = bytes.len() as u64;
        let mut at = 0;
        for (i, start) in starts.iter().enumerate() {
            assert_eq!(at, *start);
            let Found::Record(hint, next) = parse(&bytes, at, end) else { panic!() };
            assert_eq!(hint.key.0, format!("key{i}"));
            assert_eq!(hint.created_ms, 1000 + i as u64);
            at = next;
        }
        assert_eq!(parse(&bytes, at, end), Found::End);
        for cut in 0..bytes.len() as u64 - starts[2] {
            let part = bytes.slice(..usize::try_from(starts[2] + cut).unwrap());
            let Found::Short(needs) = parse(&part, starts[2], end) else { panic!("{cut}") };
            assert!(needs > cut && needs <= end - starts[2]);
            // The same bytes as a torn tail: the segment really ends there.
            let torn = parse(&part, starts[2], starts[2] + cut);
            assert!(matches!(torn, Found::Damaged(_)) || cut == 0, "{cut}: {torn:?}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_later_records_are_still_found() {
        let (bytes, starts) = segment(&[20, 20]);
        let end = bytes.len() as u64;
        let second = usize::try_from(starts[1]).unwrap();
        for bit in 0..second * 8 {
            let mut broken = bytes.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            let broken = Bytes::from(broken);
            let Found::Damaged(next) = parse(&broken, 0, end) else { panic!("bit {bit}") };
            if !(4..8).contains(&(bit / 8)) {
                assert_eq!(next, starts[1]);
                assert!(matches!(parse(&broken, next, end), Found::Record(..)));
            }
        }
    }

    #[test]
    fn a_header_names_its_target_and_sequence() {
        let bytes = header(NodeId(5), 7, 1234);
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert!(is_header(&bytes, NodeId(5), 7));
        assert!(!is_header(&bytes, NodeId(5), 8));
        assert!(!is_header(&bytes, NodeId(6), 7));
        assert!(!is_header(&bytes[..47], NodeId(5), 7));
        for byte in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[byte] ^= 1;
            assert!(!is_header(&broken, NodeId(5), 7), "byte {byte}");
        }
    }

    #[test]
    fn a_torn_position_leaves_the_one_before() {
        let mut file = vec![0; 64];
        assert_eq!(latest(&file), None);
        for turn in 1..5 {
            let before = latest(&file);
            let (at, bytes) = slot(Position { seq: turn, offset: 48 }, turn);
            let at = usize::try_from(at).unwrap();
            for torn in 0..32 {
                let mut half = file.clone();
                half[at..at + torn].copy_from_slice(&bytes[..torn]);
                let read = latest(&half);
                assert!(read == before || read == Some((Position { seq: turn, offset: 48 }, turn)));
            }
            file[at..at + 32].copy_from_slice(&bytes);
            assert_eq!(latest(&file), Some((Position { seq: turn, offset: 48 }, turn)));
        }
        assert_eq!(latest(&file[..40]).unwrap().1, 4, "a short file has the first slot only");
    }
}
