//! Sorted partitions in a file that never changes.
//!
//! ```text
//! | block ... | index | bloom | statistics | footer |
//! index      | count u32 | first entry's token i64, key_len u32, key; part u8, [length u32, clustering key]; block's offset u64, length u32 | ... |
//!            | last entry's token i64, key_len u32, key |
//! bloom      | probes u32 | bits |
//! statistics | partitions u64 | raw_bytes u64 | written_at u32 | then merge::Statistics, fields in order; options as u8 and value (the last two
//!            | may be missing) |
//! footer     | (offset u64, length u64, crc32 u32) of index, bloom, statistics | version u32 | crc32 u32 | "HLNSSTBL" |
//! ```
//!
//! `part` is 1 where a block goes on with the partition of the block before it, from that clustering key on (`wide`). Format 2,
//! which has no `part`, is read as well.
//!
//! A reader keeps index and filter in memory (about one byte a partition and 1.5 at 1 %), so a look-up reads at most one
//! block, or, of a partition in pieces, all of its blocks; who wants some rows reads theirs (`Pieces`). Blocks are
//! checked when they are read, the rest when the file is opened.
//!
//! Invariant: a file that a manifest lists is complete and was synced before it was listed.

mod block;
mod check;
mod cursor;
mod wide;
mod writer;

pub(super) use check::{Blocks, Check, Findings, Flaw, Seen};
pub(super) use cursor::Cursor;
pub(super) use wide::Pieces;
pub(super) use writer::Writer;

use super::bloom::Bloom;
use super::place::{Place, SmallKey};
use super::replay::read_all_at;
use super::{corrupt, io_error};
use crate::seams::disk::{Disk, File};
use crate::storage::StorageError;
use block::Block;
use bytes::{Buf, BufMut, Bytes};
use foldhash::fast::FixedState;
use helenus_core::merge::Statistics;
use helenus_core::{ClusteringKey, GcSeconds, Partition, TimestampMicros, Token};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

const MAGIC: &[u8; 8] = b"HLNSSTBL";
const VERSION: u32 = 3;
/// Without pieces.
const VERSION_WHOLE: u32 = 2;
const SECTION_BYTES: usize = 8 + 8 + 4;
const FOOTER_BYTES: usize = 3 * SECTION_BYTES + 4 + 4 + 8;
const REMEDY: &str = "Stop the node, move this SSTable aside with its table's MANIFEST, and repair the node from its \
                      replicas";

/// Blocks in memory, the least useful go first.
pub(super) struct BlockCache {
    /// By reader and block. The hasher has no seed that differs from run to run: what is evicted would.
    blocks: quick_cache::sync::Cache<(u64, u32), Block, Weight, FixedState>,
    next_reader: AtomicU64,
}

#[derive(Debug, Clone)]
struct Weight;

impl quick_cache::Weighter<(u64, u32), Block> for Weight {
    fn weight(&self, _: &(u64, u32), block: &Block) -> u64 {
        // The entry itself is not free either.
        block.bytes() as u64 + 64
    }
}

impl BlockCache {
    /// Holds up to `bytes`; 0: nothing.
    pub(super) fn new(bytes: u64) -> BlockCache {
        let blocks = usize::try_from(bytes / (16 << 10)).unwrap_or(usize::MAX).max(16);
        // One shard: with several, what is evicted would depend on the machine's cores, and so would a simulation's reads.
        let options = quick_cache::OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(blocks)
            .weight_capacity(bytes)
            .build()
            .expect("both capacities are given");
        let blocks = quick_cache::sync::Cache::with_options(
            options,
            Weight,
            FixedState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        BlockCache { blocks, next_reader: AtomicU64::new(0) }
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache").field("bytes", &self.blocks.weight()).finish_non_exhaustive()
    }
}

/// What is known of an SSTable's content without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Content {
    pub(super) partitions: u64,
    /// Bytes of keys and values, unpacked.
    pub(super) raw_bytes: u64,
    /// When it was written, by the wall clock.
    pub(super) written_at: u32,
    pub(super) statistics: Statistics,
}

/// Where a block begins and what is first in it.
#[derive(Debug)]
struct IndexEntry {
    first: Place,
    /// It goes on with the partition of the block before it, from this key on, and has nothing else.
    part: Option<ClusteringKey>,
    offset: u64,
    len: u32,
}

/// An open SSTable.
pub(super) struct SsTable {
    pub(super) generation: u64,
    pub(super) path: PathBuf,
    /// The file's length.
    pub(super) bytes: u64,
    pub(super) content: Content,
    /// Sorted; never empty.
    index: Vec<IndexEntry>,
    /// The tokens of `index` by themselves: what a search halves lies in few cache lines.
    first_tokens: Vec<Token>,
    /// The first of them.
    first: Token,
    /// Some partition is in pieces.
    has_pieces: bool,
    last: Place,
    bloom: Bloom,
    file: Arc<dyn File>,
    /// Names this reader's blocks in the cache.
    reader: u64,
    cache: Arc<BlockCache>,
}

/// What a look-up found.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Every block begins behind it; nothing was read.
    Excluded,
    /// A block was read and it is not there.
    FalsePositive,
    /// The partition's encoding.
    Found(Bytes),
    /// A partition that lay in pieces, and in how many.
    Pieces(Partition, u64),
}

impl SsTable {
    /// The name of a generation's file.
    pub(super) fn name(generation: u64) -> String {
        format!("{generation:016x}.sst")
    }

    /// The generation in a file name.
    pub(super) fn generation_of(name: &str) -> Option<u64> {
        let hex = name.strip_suffix(".sst")?;
        if hex.len() == 16 { u64::from_str_radix(hex, 16).ok() } else { None }
    }

    /// Opens and checks all but the blocks.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        generation: u64,
        cache: &Arc<BlockCache>,
    ) -> Result<SsTable, StorageError> {
        let path = dir.join(SsTable::name(generation));
        let file = disk.open(&path, false).map_err(|e| io_error(&path, &e))?;
        let bytes = file.len().map_err(|e| io_error(&path, &e))?;
        let footer_at = bytes.checked_sub(FOOTER_BYTES as u64);
        let bad = |at: u64, what: &str| corrupt(&path, at, what.to_owned(), REMEDY);
        let footer_at = footer_at.ok_or_else(|| bad(0, "the file is shorter than a footer"))?;
        let read = |at: u64, len: usize| -> Result<Vec<u8>, StorageError> {
            read_all_at(file.as_ref(), at, len).map_err(|e| io_error(&path, &e))
        };
        let footer = read(footer_at, FOOTER_BYTES)?;
        let (sections, version) = parse_footer(&footer).map_err(|what| bad(footer_at, &what))?;
        let section = |n: usize, what: &str| -> Result<(u64, Vec<u8>), StorageError> {
            let (at, len, crc) = sections.get(n).copied().unwrap_or_default();
            // Checked before it is allocated.
            if at.checked_add(len).is_none_or(|end| end > footer_at) {
                return Err(bad(footer_at, "the footer points outside of the file"));
            }
            let found = read(at, usize::try_from(len).unwrap_or(usize::MAX))?;
            if crc32fast::hash(&found) != crc {
                return Err(bad(at, &format!("the {what} does not match its checksum")));
            }
            Ok((at, found))
        };
        let (index_at, index) = section(0, "index")?;
        let (index, last) = parse_index(&index, index_at, version)
            .ok_or_else(|| bad(index_at, "the index makes no sense"))?;
        let (bloom_at, bloom) = section(1, "bloom filter")?;
        let bloom = Bloom::decode(&bloom)
            .ok_or_else(|| bad(bloom_at, "the bloom filter makes no sense"))?;
        let (content_at, content) = section(2, "statistics")?;
        let content = parse_content(&content)
            .ok_or_else(|| bad(content_at, "the statistics make no sense"))?;
        let reader = cache.next_reader.fetch_add(1, Atomic::Relaxed);
        let cache = Arc::clone(cache);
        let has_pieces = index.iter().any(|entry| entry.part.is_some());
        let first_tokens: Vec<Token> = index.iter().map(|entry| entry.first.token).collect();
        let first = first_tokens.first().copied().unwrap_or(Token::MAX);
        Ok(SsTable {
            generation,
            path,
            bytes,
            content,
            index,
            first_tokens,
            first,
            has_pieces,
            last,
            bloom,
            file,
            reader,
            cache,
        })
    }

    /// Looks a partition up that [`SsTable::may_contain`] did not rule out.
    pub(super) fn get(&self, token: Token, key: &[u8]) -> Result<Lookup, StorageError> {
        let Some(number) = self.block_of(token, key) else { return Ok(Lookup::Excluded) };
        if let Some(run) = self.run(number).filter(|_| self.is_first(number, token, key)) {
            let count = run.len() as u64;
            return Ok(Lookup::Pieces(self.whole(run)?, count));
        }
        let block = self.block(number)?;
        Ok(match block.get(token, key) {
            Some(encoded) => Lookup::Found(encoded),
            None => Lookup::FalsePositive,
        })
    }

    /// Whether a partition with this token may be here. `false` is certain.
    pub(super) fn may_contain(&self, token: Token) -> bool {
        self.first <= token && token <= self.last.token && self.bloom.may_contain(token)
    }

    /// Up to `count` tokens of partitions that are here, from all over its span.
    pub(super) fn sample(&self, count: usize) -> impl Iterator<Item = Token> + '_ {
        let step = self.index.len().div_ceil(count.max(1)).max(1);
        self.index.iter().step_by(step).map(|entry| entry.first.token)
    }

    /// Whether anything from `from` to `until` may be here.
    pub(super) fn overlaps(&self, from: Token, until: Token) -> bool {
        self.first_token() <= until && from <= self.last.token
    }

    /// The token of the first partition.
    pub(super) fn first_token(&self) -> Token {
        self.first
    }

    /// The token of the last partition.
    pub(super) fn last_token(&self) -> Token {
        self.last.token
    }

    /// The last block that begins at or before (token, key), of a partition in pieces the first: the only one that may hold
    /// it or its beginning.
    fn block_of(&self, token: Token, key: &[u8]) -> Option<usize> {
        let mut behind = self.first_tokens.partition_point(|first| *first < token);
        // Of keys with one token, which are few, several may begin a block.
        let is_before = |entry: &&IndexEntry| {
            let first = (entry.first.token, entry.first.key.as_slice());
            first < (token, key) || (first == (token, key) && entry.part.is_none())
        };
        while self.index.get(behind).filter(is_before).is_some() {
            behind += 1;
        }
        behind.checked_sub(1)
    }

    /// A block, from the cache if it is there.
    fn block(&self, number: usize) -> Result<Block, StorageError> {
        let Ok(id) = u32::try_from(number) else { return self.read_block(number) };
        if let Some(block) = self.cache.blocks.get(&(self.reader, id)) {
            return Ok(block);
        }
        let block = self.read_block(number)?;
        self.cache.blocks.insert((self.reader, id), block.clone());
        Ok(block)
    }

    fn read_block(&self, number: usize) -> Result<Block, StorageError> {
        let Some(entry) = self.index.get(number) else {
            return Err(corrupt(&self.path, 0, "a block that the index does not know", REMEDY));
        };
        let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
        let stored = read_all_at(self.file.as_ref(), entry.offset, len)
            .map_err(|e| io_error(&self.path, &e))?;
        self.check_block(entry.offset, &stored.into())
    }

    fn check_block(&self, offset: u64, stored: &Bytes) -> Result<Block, StorageError> {
        Block::open(stored).map_err(|what| corrupt(&self.path, offset, what, REMEDY))
    }

    /// An entry that does not parse although its block's checksum holds.
    fn bad_entry(&self, number: usize) -> StorageError {
        let offset = self.index.get(number).map_or(0, |entry| entry.offset);
        corrupt(&self.path, offset, "a block's entries make no sense", REMEDY)
    }

    /// What to say when a partition in here does not decode.
    pub(super) fn undecodable(&self, error: &helenus_core::codec::CodecError) -> StorageError {
        corrupt(&self.path, 0, error.to_string(), REMEDY)
    }
}

impl std::fmt::Debug for SsTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SsTable")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .field("partitions", &self.content.partitions)
            .finish_non_exhaustive()
    }
}

type Section = (u64, u64, u32);

fn encode_footer(sections: &[Section; 3]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FOOTER_BYTES);
    for (offset, len, crc) in sections {
        out.put_u64_le(*offset);
        out.put_u64_le(*len);
        out.put_u32_le(*crc);
    }
    out.put_u32_le(VERSION);
    let crc = crc32fast::hash(&out);
    out.put_u32_le(crc);
    out.put_slice(MAGIC);
    out
}

fn parse_footer(footer: &[u8]) -> Result<([Section; 3], u32), String> {
    let short = || "the footer is cut short".to_owned();
    let (fields, mut tail) = footer.split_at_checked(FOOTER_BYTES - 12).ok_or_else(short)?;
    let crc = tail.try_get_u32_le().map_err(|_| short())?;
    if tail != MAGIC {
        return Err("it does not end as an SSTable does".to_owned());
    }
    if crc != crc32fast::hash(fields) {
        return Err("the footer does not match its checksum".to_owned());
    }
    let mut fields = fields;
    let mut sections = [(0, 0, 0); 3];
    for section in &mut sections {
        *section = (fields.get_u64_le(), fields.get_u64_le(), fields.get_u32_le());
    }
    match fields.get_u32_le() {
        version @ (VERSION | VERSION_WHOLE) => Ok((sections, version)),
        other => Err(format!(
            "an SSTable in format {other}; this build reads formats {VERSION_WHOLE} and {VERSION}"
        )),
    }
}

fn put_place(out: &mut Vec<u8>, place: &Place) {
    out.put_i64_le(place.token.0);
    let key = place.key.as_slice();
    out.put_u32_le(u32::try_from(key.len()).unwrap_or(u32::MAX));
    out.put_slice(key);
}

fn take_place(bytes: &mut &[u8]) -> Option<Place> {
    let token = Token(bytes.try_get_i64_le().ok()?);
    let len = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
    let (key, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(Place { token, key: SmallKey::new(key) })
}

/// `None`: it makes no sense.
fn take_part(bytes: &mut &[u8]) -> Option<Option<ClusteringKey>> {
    match bytes.try_get_u8().ok()? {
        0 => Some(None),
        1 => {
            let len = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
            let (key, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Some(Some(ClusteringKey(Bytes::copy_from_slice(key))))
        }
        _ => None,
    }
}

fn encode_index(index: &[IndexEntry], last: &Place) -> Vec<u8> {
    let mut out = Vec::with_capacity(index.len() * 40);
    out.put_u32_le(u32::try_from(index.len()).unwrap_or(u32::MAX));
    for entry in index {
        put_place(&mut out, &entry.first);
        out.put_u8(u8::from(entry.part.is_some()));
        if let Some(part) = &entry.part {
            out.put_u32_le(u32::try_from(part.0.len()).unwrap_or(u32::MAX));
            out.put_slice(&part.0);
        }
        out.put_u64_le(entry.offset);
        out.put_u32_le(entry.len);
    }
    put_place(&mut out, last);
    out
}

/// `end` is where the blocks end.
fn parse_index(mut bytes: &[u8], end: u64, version: u32) -> Option<(Vec<IndexEntry>, Place)> {
    let count = bytes.try_get_u32_le().ok()?;
    // Each entry takes at least 24 bytes: a count that the section cannot hold is not believed.
    let count = usize::try_from(count).ok().filter(|n| *n > 0 && *n <= bytes.len() / 24)?;
    let mut index = Vec::with_capacity(count);
    for _ in 0..count {
        let first = take_place(&mut bytes)?;
        let part = if version == VERSION_WHOLE { None } else { take_part(&mut bytes)? };
        // What goes on has something to go on with.
        if part.is_some() && index.last().is_none_or(|before: &IndexEntry| before.first != first) {
            return None;
        }
        let offset = bytes.try_get_u64_le().ok()?;
        let len = bytes.try_get_u32_le().ok()?;
        if offset.checked_add(u64::from(len))? > end {
            return None;
        }
        index.push(IndexEntry { first, part, offset, len });
    }
    let last = take_place(&mut bytes)?;
    let sorted = index.is_sorted_by(|a, b| (&a.first, &a.part) < (&b.first, &b.part));
    (sorted && bytes.is_empty()).then_some((index, last))
}

fn encode_content(content: &Content) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64_le(content.partitions);
    out.put_u64_le(content.raw_bytes);
    out.put_u32_le(content.written_at);
    let s = &content.statistics;
    for timestamp in [s.min_timestamp, s.max_timestamp] {
        out.put_u8(u8::from(timestamp.is_some()));
        out.put_i64_le(timestamp.map_or(0, |t| t.0));
    }
    for count in [s.rows, s.cells, s.tombstones, s.expiring] {
        out.put_u64_le(count);
    }
    out.put_u8(u8::from(s.min_deleted_at.is_some()));
    out.put_u32_le(s.min_deleted_at.map_or(0, |second| second.0));
    out.put_u8(u8::from(s.beyond_value));
    out.put_u64_le(s.lasting);
    out.put_u8(u8::from(s.max_deleted_at.is_some()));
    out.put_u32_le(s.max_deleted_at.map_or(0, |second| second.0));
    out
}

fn parse_content(mut bytes: &[u8]) -> Option<Content> {
    let partitions = bytes.try_get_u64_le().ok()?;
    let raw_bytes = bytes.try_get_u64_le().ok()?;
    let written_at = bytes.try_get_u32_le().ok()?;
    let mut timestamp = || -> Option<Option<TimestampMicros>> {
        let there = bytes.try_get_u8().ok()? != 0;
        let micros = bytes.try_get_i64_le().ok()?;
        Some(there.then_some(TimestampMicros(micros)))
    };
    let (min_timestamp, max_timestamp) = (timestamp()?, timestamp()?);
    let mut count = || bytes.try_get_u64_le().ok();
    let (rows, cells, tombstones, expiring) = (count()?, count()?, count()?, count()?);
    let there = bytes.try_get_u8().ok()? != 0;
    let second = GcSeconds(bytes.try_get_u32_le().ok()?);
    let min_deleted_at = there.then_some(second);
    let beyond_value = bytes.try_get_u8().ok()? != 0;
    let lasting = bytes.try_get_u64_le().ok()?;
    let there = bytes.try_get_u8().ok()? != 0;
    let second = GcSeconds(bytes.try_get_u32_le().ok()?);
    let max_deleted_at = there.then_some(second);
    let statistics = Statistics {
        min_timestamp,
        max_timestamp,
        rows,
        cells,
        tombstones,
        expiring,
        min_deleted_at,
        beyond_value,
        lasting,
        max_deleted_at,
    };
    bytes.is_empty().then_some(Content { partitions, raw_bytes, written_at, statistics })
}
