//! A block of an SSTable: sorted entries, found by halving.
//!
//! ```text
//! stored  | kind u8 (bit 0: lz4, bit 1: tokens left out) | raw_len u32 | crc32 u32 (kind, raw_len, payload) | payload |
//! payload | entry ... | restart: token i64, offset u32 ... | restarts u32 |
//! entry   | [token i64] | shared varint | key_len varint | value_len varint | key (without its first `shared` bytes) | value |
//! ```
//!
//! A key begins where it differs from the one before it. Every sixteenth entry is a restart: its key is whole, and the
//! trailer has its token and offset, so a search halves tokens that lie side by side and then walks at most fifteen
//! entries, comparing keys only.
//!
//! A token takes eight bytes that no packing makes smaller, and nearly always it is the Murmur3 of the key. A block in
//! which that is true of every entry leaves the tokens out, and whoever walks it computes them again (8 ns).
//!
//! Invariant: entries are in (token, key) order; the first is a restart.

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;
use helenus_core::{Token, token};
use std::ops::Range;

pub(super) const BLOCK_HEADER_BYTES: usize = 9;
const RESTART_EVERY: u32 = 16;
const RESTART_BYTES: usize = 8 + 4;
const LZ4: u8 = 1;
const HASHED: u8 = 2;
/// A block claims at most this much when it is unpacked. One partition may fill a block, and partitions are bounded by
/// what the log takes.
const RAW_BYTES_MAX: usize = 1 << 31;

/// Collects entries.
#[derive(Default)]
pub(super) struct Builder {
    /// Without tokens.
    raw: Vec<u8>,
    /// Of every entry, with where it begins in `raw`: written only if they cannot be left out.
    tokens: Vec<(Token, u32)>,
    /// Some token is not its key's Murmur3.
    foreign: bool,
    last_key: Vec<u8>,
    entries: u32,
    packed: Vec<u8>,
    table: lz4_flex::block::CompressTable,
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
        let shared = if self.entries.is_multiple_of(RESTART_EVERY) {
            0
        } else {
            shared_bytes(&self.last_key, key)
        };
        let at = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        self.tokens.push((token, at));
        self.foreign = self.foreign || token != token::of(key);
        self.entries += 1;
        let rest = key.get(shared..).unwrap_or(&[]);
        put_varint(&mut self.raw, shared);
        put_varint(&mut self.raw, rest.len());
        put_varint(&mut self.raw, value.len());
        self.raw.put_slice(rest);
        self.raw.put_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
    }

    /// Appends the block as it is stored to `out`, and starts anew.
    pub(super) fn seal(&mut self, compress: bool, out: &mut Vec<u8>) {
        if self.foreign {
            self.put_tokens_in();
        }
        let restarts = self.tokens.iter().step_by(RESTART_EVERY as usize);
        let mut count = 0_u32;
        for (token, offset) in restarts {
            self.raw.put_i64_le(token.0);
            self.raw.put_u32_le(*offset);
            count += 1;
        }
        self.raw.put_u32_le(count);
        let hashed = if self.foreign { 0 } else { HASHED };
        let is_packed = compress && self.pack();
        let (kind, payload) =
            if is_packed { (hashed | LZ4, &self.packed) } else { (hashed, &self.raw) };
        let raw_len = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        out.put_u8(kind);
        out.put_u32_le(raw_len);
        out.put_u32_le(checksum(kind, raw_len, payload));
        out.put_slice(payload);
        self.raw.clear();
        self.tokens.clear();
        self.foreign = false;
        self.entries = 0;
    }

    /// Packs `raw`. Says whether that was worth it: saving less than a sixteenth is not worth unpacking at every read.
    fn pack(&mut self) -> bool {
        self.packed.resize(lz4_flex::block::get_maximum_output_size(self.raw.len()), 0);
        let packed =
            lz4_flex::block::compress_into_with_table(&self.raw, &mut self.packed, &mut self.table);
        match packed {
            Ok(len) => {
                self.packed.truncate(len);
                len < self.raw.len() - self.raw.len() / 16
            }
            Err(_) => false,
        }
    }

    /// Writes every entry's token in front of it.
    fn put_tokens_in(&mut self) {
        let without = std::mem::take(&mut self.raw);
        self.raw.reserve(without.len() + self.tokens.len() * 8);
        let ends: Vec<usize> =
            self.tokens.iter().skip(1).map(|(_, at)| *at as usize).chain([without.len()]).collect();
        for ((token, at), end) in self.tokens.iter_mut().zip(ends) {
            let entry = without.get(*at as usize..end).unwrap_or(&[]);
            *at = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
            self.raw.put_i64_le(token.0);
            self.raw.put_slice(entry);
        }
    }
}

fn checksum(kind: u8, raw_len: u32, payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&[kind]);
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
    hashed: bool,
}

impl Block {
    /// Checks and unpacks what is stored. An error says what does not hold.
    pub(super) fn open(stored: &Bytes) -> Result<Block, &'static str> {
        let mut header =
            stored.get(..BLOCK_HEADER_BYTES).ok_or("a block is shorter than its header")?;
        let kind = header.get_u8();
        let raw_len = header.get_u32_le();
        let payload = stored.slice(BLOCK_HEADER_BYTES..);
        if checksum(kind, raw_len, &payload) != header.get_u32_le() {
            return Err("a block does not match its checksum");
        }
        let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
        let raw = match kind & !HASHED {
            0 => payload,
            LZ4 if raw_len <= RAW_BYTES_MAX => lz4_flex::block::decompress(&payload, raw_len)
                .map_err(|_| "a block does not unpack")?
                .into(),
            _ => return Err("a block of an unknown kind"),
        };
        Block::of(raw, kind & HASHED != 0).ok_or("a block's trailer points outside of it")
    }

    fn of(raw: Bytes, hashed: bool) -> Option<Block> {
        let (rest, restarts) = raw.split_last_chunk::<4>()?;
        let restarts = usize::try_from(u32::from_le_bytes(*restarts)).ok()?;
        let entries_end = rest.len().checked_sub(restarts.checked_mul(RESTART_BYTES)?)?;
        Some(Block { raw, entries_end, restarts, hashed })
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

    /// Where the value of (token, key) is, if it is here.
    pub(super) fn get(&self, token: Token, key: &[u8]) -> Option<Range<usize>> {
        let mut restart = self.restart_before(token);
        // How much of `key` the key of the entry before begins with.
        let mut alike = 0;
        loop {
            let (first, mut at) = self.restart(restart)?;
            if first > token {
                return None;
            }
            restart += 1;
            let end = self.restart(restart).map_or(self.entries_end, |(_, at)| at);
            while at < end {
                let entry = self.entry(at)?;
                // Where it shares more with that key than `key` does, it differs from `key` at the same place.
                if entry.shared <= alike {
                    let (rest, wanted) = (self.part(&entry.rest), key.get(entry.shared..)?);
                    alike = entry.shared + shared_bytes(rest, wanted);
                    let is_whole = alike == key.len() && rest.len() == wanted.len();
                    // Keys that are equal have equal tokens, unless the tokens were somebody else's idea.
                    if is_whole && entry.token.is_none_or(|t| t == token) {
                        return Some(entry.value);
                    }
                }
                at = entry.next;
            }
        }
    }

    /// The last restart whose token is smaller, or the first: what has `token` is not before it.
    fn restart_before(&self, token: Token) -> usize {
        let (mut low, mut high) = (0, self.restarts);
        while high - low > 1 {
            let middle = low.midpoint(high);
            match self.restart(middle) {
                Some((first, _)) if first < token => low = middle,
                _ => high = middle,
            }
        }
        low
    }

    /// A restart's token, and where it begins.
    fn restart(&self, restart: usize) -> Option<(Token, usize)> {
        if restart >= self.restarts {
            return None;
        }
        let mut bytes = self.raw.get(self.entries_end + restart * RESTART_BYTES..)?;
        let token = Token(bytes.try_get_i64_le().ok()?);
        Some((token, usize::try_from(bytes.try_get_u32_le().ok()?).ok()?))
    }

    /// The entry at `at`; `None` if the bytes make no sense.
    fn entry(&self, at: usize) -> Option<Entry> {
        let all = self.raw.get(..self.entries_end)?;
        let mut rest = all.get(at..)?;
        let token = if self.hashed { None } else { Some(Token(rest.try_get_i64_le().ok()?)) };
        let shared = varint(&mut rest)?;
        let key_len = varint(&mut rest)?;
        let value_len = varint(&mut rest)?;
        let key = all.len() - rest.len();
        let value = key.checked_add(key_len)?;
        let next = value.checked_add(value_len)?;
        let fits = next <= all.len();
        fits.then_some(Entry { token, shared, rest: key..value, value: value..next, next })
    }
}

/// An entry's parts, as offsets into its block.
struct Entry {
    /// `None`: it is the key's Murmur3.
    token: Option<Token>,
    shared: usize,
    rest: Range<usize>,
    value: Range<usize>,
    next: usize,
}

/// Walks a block from an entry on.
#[derive(Debug)]
pub(super) struct Walk {
    block: Block,
    next: usize,
    token: Token,
    key: Vec<u8>,
    value: Range<usize>,
}

/// An entry's bytes make no sense, although the block's checksum holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadEntry;

impl Walk {
    /// Before the first entry.
    pub(super) fn new(block: Block) -> Walk {
        Walk { block, next: 0, token: Token::MIN, key: Vec::new(), value: 0..0 }
    }

    /// At the first entry at or behind (token, key); `false`: all are before.
    pub(super) fn seek(&mut self, token: Token, key: &[u8]) -> Result<bool, BadEntry> {
        let restart = self.block.restart_before(token);
        (_, self.next) = self.block.restart(restart).ok_or(BadEntry)?;
        while self.advance()? {
            if (self.token, self.key.as_slice()) >= (token, key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// To the next entry. `false`: there is none, and it stands where it stood.
    pub(super) fn advance(&mut self) -> Result<bool, BadEntry> {
        if self.next >= self.block.entries_end {
            return Ok(false);
        }
        let entry = self.block.entry(self.next).ok_or(BadEntry)?;
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(self.block.part(&entry.rest));
        self.token = entry.token.unwrap_or_else(|| token::of(&self.key));
        self.value = entry.value;
        self.next = entry.next;
        Ok(true)
    }

    /// In another block, before its first entry.
    pub(super) fn enter(&mut self, block: Block) {
        self.block = block;
        self.next = 0;
    }

    pub(super) fn place(&self) -> (Token, &[u8]) {
        (self.token, &self.key)
    }

    pub(super) fn value(&self) -> &[u8] {
        self.block.part(&self.value)
    }

    /// The same, sharing the block.
    pub(super) fn share_value(&self) -> Bytes {
        self.block.share(&self.value)
    }
}

/// How many bytes two keys begin with alike.
fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
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

    fn name(i: u32) -> Vec<u8> {
        format!("name-{i:08}").into_bytes()
    }

    /// Entries in order: of tokens that are their keys' Murmur3, or of tokens that three keys share.
    fn entries(n: u32, hashed: bool) -> Vec<(Token, Vec<u8>)> {
        let token =
            |i: u32| if hashed { token::of(&name(i)) } else { Token(i64::from(i / 3) * 10) };
        let mut all: Vec<_> = (0..n).map(|i| (token(i), name(i))).collect();
        all.sort();
        all
    }

    fn filled(n: u32, hashed: bool, compress: bool) -> Bytes {
        let mut builder = Builder::default();
        // What an earlier block left behind does not matter.
        builder.add(Token(1), b"before", b"x");
        builder.seal(compress, &mut Vec::new());
        for (token, key) in entries(n, hashed) {
            builder.add(token, &key, &[7; 300]);
        }
        let mut out = Vec::new();
        builder.seal(compress, &mut out);
        out.into()
    }

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        for (hashed, compress) in [(false, false), (false, true), (true, false), (true, true)] {
            for n in [1, 15, 16, 17, 33, 100] {
                let block = Block::open(&filled(n, hashed, compress)).unwrap();
                for (token, key) in entries(n, hashed) {
                    let value = block.get(token, &key).unwrap();
                    assert_eq!(block.part(&value).len(), 300);
                    assert_eq!(block.get(token, b"other"), None);
                    if !hashed {
                        assert_eq!(block.get(Token(token.0 + 1), &key), None);
                        assert_eq!(block.get(Token(token.0 - 1), &key), None);
                    }
                }
            }
        }
    }

    #[test]
    fn a_walk_gives_every_entry_in_order_from_anywhere() {
        for hashed in [false, true] {
            let all = entries(100, hashed);
            let block = Block::open(&filled(100, hashed, true)).unwrap();
            let mut walk = Walk::new(block.clone());
            for (token, key) in &all {
                assert!(walk.advance().unwrap());
                assert_eq!(walk.place(), (*token, key.as_slice()));
                assert_eq!(walk.value(), [7; 300]);
            }
            assert_eq!(walk.advance(), Ok(false));
            for (i, (token, key)) in all.iter().enumerate() {
                let mut walk = Walk::new(block.clone());
                assert!(walk.seek(*token, key).unwrap());
                assert_eq!(walk.place(), (*token, key.as_slice()));
                // Just behind it stands the next one.
                let behind = [key.as_slice(), b"!"].concat();
                let mut walk = Walk::new(block.clone());
                assert_eq!(walk.seek(*token, &behind).unwrap(), i + 1 < all.len());
                if let Some((token, key)) = all.get(i + 1) {
                    assert_eq!(walk.place(), (*token, key.as_slice()));
                }
            }
        }
    }

    #[test]
    fn packing_shared_beginnings_and_known_tokens_make_it_smaller() {
        assert!(filled(100, true, true).len() < filled(100, true, false).len() / 4);
        // The same entries, but for one token that is not its key's.
        let stored = |last: i64| {
            let mut builder = Builder::default();
            let all = entries(100, true);
            all.iter().for_each(|(token, key)| builder.add(*token, key, b""));
            builder.add(Token(last), b"last", b"");
            let mut out = Vec::new();
            builder.seal(false, &mut out);
            out.len()
        };
        assert_eq!(stored(i64::MAX) - stored(token::of(b"last").0), 101 * 8);
        let mut builder = Builder::default();
        for i in 0..16 {
            builder.add(Token(i64::from(i)), &name(i), b"");
        }
        // One whole key, and one to two bytes of every other.
        assert!(builder.len() < 13 + 16 * (3 + 2), "{}", builder.len());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for compress in [false, true] {
            let stored = filled(20, true, compress);
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
    fn bytes_that_make_no_sense_are_an_error_not_a_panic() {
        let stored = filled(40, false, false);
        let raw = stored.slice(BLOCK_HEADER_BYTES..);
        for at in 0..raw.len() {
            for value in [0, 0x7F, 0xFF] {
                let mut damaged = raw.to_vec();
                damaged[at] = value;
                let Some(block) = Block::of(damaged.into(), at % 2 == 0) else { continue };
                let _whatever = block.get(Token(50), &name(16));
                let mut walk = Walk::new(block);
                let _whatever = walk.seek(Token(50), &name(16));
                while walk.advance() == Ok(true) {}
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
