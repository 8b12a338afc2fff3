//! Building a block, entry by entry.

use super::{Form, HASHED, LZ4, PUTS, RESTART_EVERY, checksum, parse, shared_bytes};
use bytes::BufMut;
use helenus_core::codec::{self, Put};
use helenus_core::{TimestampMicros, Token, token, varint};

/// Collects entries.
#[derive(Default)]
pub(in super::super) struct Builder {
    /// Without tokens.
    raw: Vec<u8>,
    /// Of every entry, with where it begins in `raw`: written only if they cannot be left out.
    tokens: Vec<(Token, u32)>,
    /// Some token is not its key's Murmur3.
    foreign: bool,
    /// The first put's, while all entries are puts.
    since: Option<TimestampMicros>,
    last_key: Vec<u8>,
    entries: u32,
    packed: Vec<u8>,
    table: lz4_flex::block::CompressTable,
}

impl Builder {
    pub(in super::super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes so far, unpacked.
    pub(in super::super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Appends an entry; they come in order.
    pub(in super::super) fn add(&mut self, token: Token, key: &[u8], value: &[u8]) {
        let shared = if self.entries.is_multiple_of(RESTART_EVERY) {
            0
        } else {
            shared_bytes(&self.last_key, key)
        };
        let put = codec::peek_put(value).filter(|put| put.expiry.is_none());
        match put {
            Some(put) if self.entries == 0 => self.since = Some(put.timestamp),
            None if self.since.is_some() => self.spell_puts_out(),
            _ => {}
        }
        let at = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        self.tokens.push((token, at));
        self.foreign = self.foreign || token != token::of(key);
        self.entries += 1;
        let rest = key.get(shared..).unwrap_or(&[]);
        match (self.since, put) {
            (Some(since), Some(put)) => put_short(&mut self.raw, shared, rest, since, &put),
            _ => put_whole(&mut self.raw, shared, rest, value),
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
    }

    /// Appends the block as it is stored to `out`, and starts anew.
    pub(in super::super) fn seal(&mut self, compress: bool, out: &mut Vec<u8>) {
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
        if let Some(since) = self.since {
            self.raw.put_i64_le(since.0);
        }
        self.raw.put_u32_le(count);
        let hashed = if self.foreign { 0 } else { HASHED };
        let puts = if self.since.is_some() { PUTS } else { 0 };
        let is_packed = compress && self.pack();
        let (packed, payload) = if is_packed { (LZ4, &self.packed) } else { (0, &self.raw) };
        let kind = packed | hashed | puts;
        let raw_len = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        out.put_u8(kind);
        out.put_u32_le(raw_len);
        out.put_u32_le(checksum(kind, raw_len, payload));
        out.put_slice(payload);
        self.raw.clear();
        self.tokens.clear();
        self.foreign = false;
        self.since = None;
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

    /// Writes every value whole: an entry comes that is no put.
    fn spell_puts_out(&mut self) {
        let short = std::mem::take(&mut self.raw);
        let form = Form { hashed: true, since: self.since.take() };
        let mut value = Vec::new();
        for (_, at) in &mut self.tokens {
            let Some(entry) = parse(&short, *at as usize, form) else { continue };
            *at = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
            value.clear();
            entry.value_into(&short, &mut value);
            let rest = short.get(entry.rest).unwrap_or(&[]);
            put_whole(&mut self.raw, entry.shared, rest, &value);
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

fn put_whole(raw: &mut Vec<u8>, shared: usize, rest: &[u8], value: &[u8]) {
    varint::put(raw, shared as u64);
    varint::put(raw, rest.len() as u64);
    varint::put(raw, value.len() as u64);
    raw.put_slice(rest);
    raw.put_slice(value);
}

fn put_short(raw: &mut Vec<u8>, shared: usize, rest: &[u8], since: TimestampMicros, put: &Put<'_>) {
    let step = put.timestamp.0.wrapping_sub(since.0);
    varint::put(raw, shared as u64);
    varint::put(raw, rest.len() as u64);
    varint::put(raw, put.value.len() as u64);
    varint::put(raw, varint::zigzag(step));
    raw.put_slice(rest);
    raw.put_slice(put.value);
}
