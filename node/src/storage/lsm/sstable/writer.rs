//! Writing an SSTable, front to back.

use super::block::Builder;
use super::wide::{self, WIDE_BYTES};
use super::{BlockCache, Content, IndexEntry, Section, SsTable};
use super::{encode_content, encode_footer, encode_index};
use crate::seams::disk::{Disk, File};
use crate::storage::StorageError;
use crate::storage::lsm::bloom::Bloom;
use crate::storage::lsm::io_error;
use crate::storage::lsm::place::Place;
use bytes::Bytes;
use helenus_core::merge::Statistics;
use helenus_core::{ClusteringKey, GcSeconds, Partition, TableOptions, Token, codec};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A block is closed when it has grown to this.
const BLOCK_BYTES: usize = 16 << 10;
/// So many tokens go to the filter at once.
const TOKENS_MAX: usize = 64;
/// The file is written in pieces of about this.
const WRITE_BYTES: usize = 1 << 20;

/// An SSTable that is being written. Until a manifest lists it, it is nothing: a crash leaves a file that the next start
/// removes.
pub(in crate::storage::lsm) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    generation: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    compression: bool,
    /// Blocks that are not yet in the file.
    pending: Vec<u8>,
    written: u64,
    block: Builder,
    index: Vec<IndexEntry>,
    /// The first entry of the open block.
    first: Option<Place>,
    /// The key from which it goes on with a partition in pieces.
    part: Option<ClusteringKey>,
    last_token: Token,
    last_key: Vec<u8>,
    bloom: Bloom,
    /// Not yet in the filter.
    tokens: Vec<Token>,
    content: Content,
}

impl Writer {
    /// `partitions_max` sizes the filter: more may come, but then it lets more through.
    pub(in crate::storage::lsm) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        generation: u64,
        options: &TableOptions,
        partitions_max: u64,
    ) -> Result<Writer, StorageError> {
        let path = dir.join(SsTable::name(generation));
        let file = disk
            .open(&path, true)
            .and_then(|file| {
                // What a crash left under this name is not ours.
                file.set_len(0)?;
                Ok(file)
            })
            .map_err(|e| io_error(&path, &e))?;
        Ok(Writer {
            disk,
            dir: dir.to_path_buf(),
            generation,
            path,
            file,
            compression: options.compression,
            pending: Vec::new(),
            written: 0,
            block: Builder::default(),
            index: Vec::new(),
            first: None,
            part: None,
            last_token: Token::MIN,
            last_key: Vec::new(),
            bloom: Bloom::new(partitions_max, options.bloom_filter_fp_ppm),
            tokens: Vec::with_capacity(TOKENS_MAX),
            content: Content::default(),
        })
    }

    /// Appends a partition. They come in (token, key) order, each once.
    pub(in crate::storage::lsm) fn add(
        &mut self,
        token: Token,
        key: &[u8],
        encoded: &[u8],
    ) -> Result<(), StorageError> {
        self.count(token, key, encoded);
        if encoded.len() > WIDE_BYTES
            && codec::peek_put(encoded).is_none()
            && let Ok(partition) = codec::decode(Bytes::copy_from_slice(encoded))
        {
            let pieces = wide::pieces(&partition);
            if pieces.len() > 1 {
                return self.add_pieces(token, key, pieces);
            }
        }
        if self.first.is_none() {
            self.first = Some(Place::new(token, key));
        }
        self.block.add(token, key, encoded);
        if self.block.len() >= BLOCK_BYTES { self.seal_block() } else { Ok(()) }
    }

    /// Each in a block of its own.
    fn add_pieces(
        &mut self,
        token: Token,
        key: &[u8],
        pieces: Vec<(Option<ClusteringKey>, Partition)>,
    ) -> Result<(), StorageError> {
        self.seal_block()?;
        for (part, piece) in pieces {
            (self.first, self.part) = (Some(Place::new(token, key)), part);
            self.block.add(token, key, &codec::encode(&piece));
            self.seal_block()?;
        }
        Ok(())
    }

    fn count(&mut self, token: Token, key: &[u8], encoded: &[u8]) {
        self.tokens.push(token);
        if self.tokens.len() == TOKENS_MAX {
            self.fill_filter();
        }
        self.content.partitions += 1;
        self.content.raw_bytes += (key.len() + encoded.len()) as u64;
        self.last_token = token;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    /// Each goes to another cache line, and in a row a processor waits for several at once.
    fn fill_filter(&mut self) {
        self.tokens.drain(..).for_each(|token| self.bloom.insert(token));
    }

    /// Bytes of the file so far.
    pub(in crate::storage::lsm) fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Partitions so far.
    pub(in crate::storage::lsm) fn partitions(&self) -> u64 {
        self.content.partitions
    }

    pub(in crate::storage::lsm) fn is_empty(&self) -> bool {
        self.content.partitions == 0
    }

    pub(in crate::storage::lsm) fn generation(&self) -> u64 {
        self.generation
    }

    /// Writes the rest, syncs, and opens it for reading.
    pub(in crate::storage::lsm) fn finish(
        mut self,
        statistics: Statistics,
        written_at: GcSeconds,
        cache: &Arc<BlockCache>,
    ) -> Result<SsTable, StorageError> {
        self.seal_block()?;
        self.fill_filter();
        self.content.statistics = statistics;
        self.content.written_at = written_at.0;
        let index = encode_index(&self.index, &Place::new(self.last_token, &self.last_key));
        let sections = [
            self.section(&index),
            self.section(&self.bloom.encode()),
            self.section(&encode_content(&self.content)),
        ];
        self.pending.extend_from_slice(&encode_footer(&sections));
        self.write_pending()?;
        self.file.sync().map_err(|e| io_error(&self.path, &e))?;
        SsTable::open(self.disk.as_ref(), &self.dir, self.generation, cache)
    }

    /// Gives up, and removes what was written.
    pub(in crate::storage::lsm) fn abandon(self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the next start will remove it");
        }
    }

    fn section(&mut self, bytes: &[u8]) -> Section {
        let at = self.bytes();
        self.pending.extend_from_slice(bytes);
        (at, bytes.len() as u64, crc32fast::hash(bytes))
    }

    fn seal_block(&mut self) -> Result<(), StorageError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let before = self.bytes();
        self.block.seal(self.compression, &mut self.pending);
        let len = u32::try_from(self.bytes() - before).map_err(|_| StorageError::TooLarge {
            bytes: self.bytes() - before,
            limit: u64::from(u32::MAX),
        })?;
        if let Some(first) = self.first.take() {
            self.index.push(IndexEntry { first, part: self.part.take(), offset: before, len });
        }
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> Result<(), StorageError> {
        self.file.write_at(self.written, &self.pending).map_err(|e| io_error(&self.path, &e))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}
