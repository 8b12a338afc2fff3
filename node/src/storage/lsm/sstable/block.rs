//! A block of an SSTable: sorted entries, found by halving.
//!
//! ```text
//! stored  | kind u8 (bit 0: lz4, bit 1: tokens left out, bit 2: puts) | raw_len u32 | crc32 u32 (kind, raw_len, payload) | payload |
//! payload | entry ... | restart: token i64, offset u32 ... | [since i64] | restarts u32 |
//! entry   | [token i64] | shared varint | key_len varint | value_len varint | [time] | key (without its first `shared` bytes) | value |
//! time    | zigzag varint: microseconds since `since` |
//! ```
//!
//! A key begins where it differs from the one before it. Every sixteenth entry is a restart: its key is whole, and the
//! trailer has its token and offset, so a search halves tokens that lie side by side and then walks at most fifteen
//! entries, comparing keys only.
//!
//! A token takes eight bytes that no packing makes smaller, and nearly always it is the Murmur3 of the key. A block in
//! which that is true of every entry leaves the tokens out, and whoever walks it computes them again (8 ns).
//!
//! In a block of puts, which is what most are, a value is the put's and not its encoding: of that only the timestamp
//! says anything, and the difference to the first entry's takes a few bytes instead of eight. Whoever asks gets the
//! encoding, put together again.
//!
//! Invariant: entries are in (token, key) order; the first is a restart.

mod build;

pub(super) use build::Builder;

use bytes::{Buf, Bytes};
use crc32fast::Hasher;
use helenus_core::{TimestampMicros, Token, codec, token, varint};
use std::ops::Range;

pub(super) const BLOCK_HEADER_BYTES: usize = 9;
const RESTART_EVERY: u32 = 16;
const RESTART_BYTES: usize = 8 + 4;
const LZ4: u8 = 1;
const HASHED: u8 = 2;
const PUTS: u8 = 4;
/// A block claims at most this much when it is unpacked. One partition may fill a block, and partitions are bounded by
/// what the log takes.
const RAW_BYTES_MAX: usize = 1 << 31;

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
    form: Form,
}

/// What a block's entries leave out.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Tokens.
    hashed: bool,
    /// All but the value and the timestamp of puts, which is relative to this.
    since: Option<TimestampMicros>,
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
        let raw = match kind & !(HASHED | PUTS) {
            0 => payload,
            LZ4 if raw_len <= RAW_BYTES_MAX => lz4_flex::block::decompress(&payload, raw_len)
                .map_err(|_| "a block does not unpack")?
                .into(),
            _ => return Err("a block of an unknown kind"),
        };
        Block::of(raw, kind).ok_or("a block's trailer points outside of it")
    }

    fn of(raw: Bytes, kind: u8) -> Option<Block> {
        let (mut rest, restarts) = raw.split_last_chunk::<4>()?;
        let restarts = usize::try_from(u32::from_le_bytes(*restarts)).ok()?;
        let mut since = None;
        if kind & PUTS != 0 {
            let (before, first) = rest.split_last_chunk::<8>()?;
            since = Some(TimestampMicros(i64::from_le_bytes(*first)));
            rest = before;
        }
        let entries_end = rest.len().checked_sub(restarts.checked_mul(RESTART_BYTES)?)?;
        let form = Form { hashed: kind & HASHED != 0, since };
        Some(Block { raw, entries_end, restarts, form })
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// The bytes of a part of an entry.
    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.raw.get(range.clone()).unwrap_or(&[])
    }

    /// The encoding that (token, key) has here.
    pub(super) fn get(&self, token: Token, key: &[u8]) -> Option<Bytes> {
        let entry = self.find(token, key)?;
        Some(match entry.timestamp {
            Some(timestamp) => codec::encode_put(timestamp, self.part(&entry.value), None),
            None => self.raw.slice(entry.value),
        })
    }

    /// The first encoding here.
    pub(super) fn first(&self) -> Option<Bytes> {
        let entry = self.entry(0)?;
        Some(match entry.timestamp {
            Some(timestamp) => codec::encode_put(timestamp, self.part(&entry.value), None),
            None => self.raw.slice(entry.value),
        })
    }

    fn find(&self, token: Token, key: &[u8]) -> Option<Entry> {
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
                        return Some(entry);
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
        parse(self.raw.get(..self.entries_end)?, at, self.form)
    }
}

/// The entry at `at` of `all` entries.
fn parse(all: &[u8], at: usize, form: Form) -> Option<Entry> {
    let mut rest = all.get(at..)?;
    let token = if form.hashed { None } else { Some(Token(rest.try_get_i64_le().ok()?)) };
    let mut len = || usize::try_from(varint::take(&mut rest)?).ok();
    let (shared, key_len, value_len) = (len()?, len()?, len()?);
    let timestamp = match form.since {
        Some(since) => {
            let step = varint::unzigzag(varint::take(&mut rest)?);
            Some(TimestampMicros(since.0.wrapping_add(step)))
        }
        None => None,
    };
    let key = all.len() - rest.len();
    let value = key.checked_add(key_len)?;
    let next = value.checked_add(value_len)?;
    let fits = next <= all.len();
    fits.then_some(Entry { token, shared, timestamp, rest: key..value, value: value..next, next })
}

/// An entry's parts, as offsets into its block.
struct Entry {
    /// `None`: it is the key's Murmur3.
    token: Option<Token>,
    shared: usize,
    /// `Some`: the value is a put's, without the rest of its encoding.
    timestamp: Option<TimestampMicros>,
    rest: Range<usize>,
    value: Range<usize>,
    next: usize,
}

impl Entry {
    /// Appends the encoding that it stands for.
    fn value_into(&self, all: &[u8], out: &mut Vec<u8>) {
        let value = all.get(self.value.clone()).unwrap_or(&[]);
        match self.timestamp {
            Some(timestamp) => codec::encode_put_into(timestamp, value, None, out),
            None => out.extend_from_slice(value),
        }
    }
}

/// Walks a block from an entry on.
#[derive(Debug)]
pub(super) struct Walk {
    block: Block,
    next: usize,
    token: Token,
    key: Vec<u8>,
    value: Range<usize>,
    /// The encoding it stands on, where the block has only a part of it.
    spelled: Vec<u8>,
}

/// An entry's bytes make no sense, although the block's checksum holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadEntry;

impl Walk {
    /// Before the first entry.
    pub(super) fn new(block: Block) -> Walk {
        Walk {
            block,
            next: 0,
            token: Token::MIN,
            key: Vec::new(),
            value: 0..0,
            spelled: Vec::new(),
        }
    }

    /// At the first entry at or behind (token, key); `false`: all are before.
    pub(super) fn seek(&mut self, token: Token, key: &[u8]) -> Result<bool, BadEntry> {
        let restart = self.block.restart_before(token);
        (_, self.next) = self.block.restart(restart).ok_or(BadEntry)?;
        while let Some(entry) = self.step()? {
            if (self.token, self.key.as_slice()) >= (token, key) {
                self.stand_on(entry);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// To the next entry. `false`: there is none, and it stands where it stood.
    pub(super) fn advance(&mut self) -> Result<bool, BadEntry> {
        let Some(entry) = self.step()? else { return Ok(false) };
        self.stand_on(entry);
        Ok(true)
    }

    /// The key of the next entry, without its value.
    fn step(&mut self) -> Result<Option<Entry>, BadEntry> {
        if self.next >= self.block.entries_end {
            return Ok(None);
        }
        let entry = self.block.entry(self.next).ok_or(BadEntry)?;
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(self.block.part(&entry.rest));
        self.token = entry.token.unwrap_or_else(|| token::of(&self.key));
        self.next = entry.next;
        Ok(Some(entry))
    }

    fn stand_on(&mut self, entry: Entry) {
        if entry.timestamp.is_some() {
            self.spelled.clear();
            entry.value_into(&self.block.raw, &mut self.spelled);
        }
        self.value = entry.value;
    }

    /// Whether no entry follows in this block.
    pub(super) fn is_last(&self) -> bool {
        self.next >= self.block.entries_end
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
        match self.block.form.since {
            Some(_) => &self.spelled,
            None => self.block.part(&self.value),
        }
    }

    /// The same, sharing the block where that has all of it.
    pub(super) fn share_value(&self) -> Bytes {
        match self.block.form.since {
            Some(_) => Bytes::copy_from_slice(&self.spelled),
            None => self.block.raw.slice(self.value.clone()),
        }
    }
}

/// How many bytes two keys begin with alike.
fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
