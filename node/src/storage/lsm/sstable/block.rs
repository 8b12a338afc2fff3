//! A block of an SSTable: sorted entries, found by halving.
//!
//! ```text
//! stored  | codec u8 (0 plain, 1 lz4) | raw_len u32 | crc32 u32 (codec, raw_len, payload) | payload |
//! payload | entry ... | restart u32 ... | restarts u32 |
//! entry   | token i64 | key_len varint | value_len varint | key | value |
//! ```
//!
//! Every eighth entry is a restart: its offset is in the trailer, so a search halves the restarts and walks at most seven
//! entries.

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;
use helenus_core::Token;
use std::cmp::Ordering;
use std::ops::Range;

pub(super) const BLOCK_HEADER_BYTES: usize = 9;
const RESTART_EVERY: u32 = 8;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// A block claims at most this much when it is unpacked. One partition may fill a block, and partitions are bounded by
/// what the log takes.
const RAW_BYTES_MAX: usize = 1 << 31;

/// Collects entries.
#[derive(Debug, Default)]
pub(super) struct Builder {
    raw: Vec<u8>,
    restarts: Vec<u32>,
    entries: u32,
}

impl Builder {
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes so far, unpacked.
    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Appends an entry; they come in order.
    pub(super) fn add(&mut self, token: Token, key: &[u8], value: &[u8]) {
        if self.entries.is_multiple_of(RESTART_EVERY) {
            self.restarts.push(u32::try_from(self.raw.len()).unwrap_or(u32::MAX));
        }
        self.entries += 1;
        self.raw.put_i64_le(token.0);
        put_varint(&mut self.raw, key.len());
        put_varint(&mut self.raw, value.len());
        self.raw.put_slice(key);
        self.raw.put_slice(value);
    }

    /// Appends the block as it is stored to `out`, and starts anew.
    pub(super) fn seal(&mut self, compress: bool, out: &mut Vec<u8>) {
        for restart in &self.restarts {
            self.raw.put_u32_le(*restart);
        }
        self.raw.put_u32_le(u32::try_from(self.restarts.len()).unwrap_or(u32::MAX));
        let packed = compress.then(|| lz4_flex::block::compress(&self.raw));
        // Packing that saves less than a sixteenth is not worth unpacking at every read.
        let packed = packed.filter(|packed| packed.len() < self.raw.len() - self.raw.len() / 16);
        let (codec, payload) = match &packed {
            Some(packed) => (LZ4, packed),
            None => (PLAIN, &self.raw),
        };
        let raw_len = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        out.put_u8(codec);
        out.put_u32_le(raw_len);
        out.put_u32_le(checksum(codec, raw_len, payload));
        out.put_slice(payload);
        self.raw.clear();
        self.restarts.clear();
        self.entries = 0;
    }
}

fn checksum(codec: u8, raw_len: u32, payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&[codec]);
    hasher.update(&raw_len.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// A block, unpacked and checked. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Block {
    raw: Bytes,
    entries_end: usize,
    restarts: usize,
}

/// Where an entry's parts are in its block.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) token: Token,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Block {
    /// Checks and unpacks what is stored. An error says what does not hold.
    pub(super) fn open(stored: &Bytes) -> Result<Block, &'static str> {
        let mut header =
            stored.get(..BLOCK_HEADER_BYTES).ok_or("a block is shorter than its header")?;
        let codec = header.get_u8();
        let raw_len = header.get_u32_le();
        let payload = stored.slice(BLOCK_HEADER_BYTES..);
        if checksum(codec, raw_len, &payload) != header.get_u32_le() {
            return Err("a block does not match its checksum");
        }
        let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
        let raw = match codec {
            PLAIN => payload,
            LZ4 if raw_len <= RAW_BYTES_MAX => lz4_flex::block::decompress(&payload, raw_len)
                .map_err(|_| "a block does not unpack")?
                .into(),
            _ => return Err("a block of an unknown codec"),
        };
        Block::of(raw).ok_or("a block's trailer points outside of it")
    }

    fn of(raw: Bytes) -> Option<Block> {
        let (rest, restarts) = raw.split_last_chunk::<4>()?;
        let restarts = usize::try_from(u32::from_le_bytes(*restarts)).ok()?;
        let entries_end = rest.len().checked_sub(restarts.checked_mul(4)?)?;
        Some(Block { raw, entries_end, restarts })
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// The bytes of a part of an entry.
    pub(super) fn part(&self, range: &Range<usize>) -> &[u8] {
        self.raw.get(range.clone()).unwrap_or(&[])
    }

    /// The same, sharing the block.
    pub(super) fn share(&self, range: &Range<usize>) -> Bytes {
        self.raw.slice(range.clone())
    }

    /// The entry at `at`, and where the next one begins. `None` at the end, or if the bytes make no sense.
    pub(super) fn entry(&self, at: usize) -> Option<(Entry, usize)> {
        let all = self.raw.get(..self.entries_end)?;
        let mut rest = all.get(at..)?;
        let token = Token(rest.try_get_i64_le().ok()?);
        let key_len = varint(&mut rest)?;
        let value_len = varint(&mut rest)?;
        let key = all.len() - rest.len();
        let value = key.checked_add(key_len)?;
        let next = value.checked_add(value_len)?;
        (next <= all.len()).then_some((Entry { token, key: key..value, value: value..next }, next))
    }

    /// Whether `at` is behind the last entry.
    pub(super) fn is_end(&self, at: usize) -> bool {
        at >= self.entries_end
    }

    /// The first entry at or behind (token, key), and where it begins; `None` when all are before.
    pub(super) fn seek(&self, token: Token, key: &[u8]) -> Option<(Entry, usize, Ordering)> {
        let (mut low, mut high) = (0, self.restarts);
        // Invariant: the entries at restarts below `low` are before the one that is sought, or are it.
        while high - low > 1 {
            let middle = low.midpoint(high);
            match self.compare_restart(middle, token, key)? {
                Ordering::Greater => high = middle,
                Ordering::Less | Ordering::Equal => low = middle,
            }
        }
        let mut at = self.restart(low)?;
        loop {
            let (entry, next) = self.entry(at)?;
            match entry.token.cmp(&token).then_with(|| self.part(&entry.key).cmp(key)) {
                Ordering::Less => at = next,
                found => return Some((entry, at, found)),
            }
        }
    }

    fn compare_restart(&self, restart: usize, token: Token, key: &[u8]) -> Option<Ordering> {
        let (entry, _) = self.entry(self.restart(restart)?)?;
        Some(entry.token.cmp(&token).then_with(|| self.part(&entry.key).cmp(key)))
    }

    fn restart(&self, restart: usize) -> Option<usize> {
        let mut bytes = self.raw.get(self.entries_end + restart * 4..)?;
        usize::try_from(bytes.try_get_u32_le().ok()?).ok()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn put_varint(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.put_u8((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8((n & 0x7F) as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut n = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= usize::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(n: u32, compress: bool) -> Bytes {
        let mut builder = Builder::default();
        for i in 0..n {
            builder.add(Token(i64::from(i / 3) * 10), &i.to_be_bytes(), &[7; 300]);
        }
        let mut out = Vec::new();
        builder.seal(compress, &mut out);
        out.into()
    }

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        for compress in [false, true] {
            for n in [1, 7, 8, 9, 100] {
                let block = Block::open(&filled(n, compress)).unwrap();
                for i in 0..n {
                    let token = Token(i64::from(i / 3) * 10);
                    let (entry, _, order) = block.seek(token, &i.to_be_bytes()).unwrap();
                    assert_eq!(order, Ordering::Equal);
                    assert_eq!(block.part(&entry.key), i.to_be_bytes());
                    assert_eq!(block.part(&entry.value).len(), 300);
                    let missing = block.seek(Token(token.0 + 1), b"");
                    assert!(
                        missing.is_none_or(|(e, _, o)| o == Ordering::Greater && e.token > token)
                    );
                }
            }
        }
    }

    #[test]
    fn packing_makes_it_smaller() {
        assert!(filled(100, true).len() < filled(100, false).len() / 4);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for compress in [false, true] {
            let stored = filled(20, compress);
            for at in 0..stored.len() {
                let mut damaged = stored.to_vec();
                damaged[at] ^= 0x10;
                assert!(Block::open(&damaged.into()).is_err(), "byte {at}");
            }
            for len in 0..stored.len() {
                assert!(Block::open(&stored.slice(..len)).is_err());
            }
        }
    }

    #[test]
    fn varints_come_back() {
        for n in [0, 1, 127, 128, 300, usize::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            let mut rest = out.as_slice();
            assert_eq!(varint(&mut rest), Some(n));
            assert!(rest.is_empty());
        }
        assert_eq!(varint(&mut [0xFF; 30].as_slice()), None);
    }
}
