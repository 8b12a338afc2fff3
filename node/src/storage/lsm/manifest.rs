//! Which SSTables make up a table: the one place where a flush or a compaction takes effect.
//!
//! The manifest is small and is replaced as a whole: written under another name, synced, renamed, its directory synced. So
//! a compaction that died half-way leaves no trace: either the old list counts or the new one, and files that the list
//! does not name are removed at the next start.
//!
//! ```text
//! | "HLNSMANI" | version u32 | table 16 | dropped u8 | flushed_to: segment u64, offset u64 | next_generation u64
//! | count u32 | generation u64, level u8 | ... | crc32 u32 |
//! ```
//!
//! Format 1 had no levels; all its SSTables are of level 0. It is still read, and replaced when it is next stored.
//!
//! Invariant: only jobs of the flush lane store manifests, so two writers never meet.

use super::log::Position;
use super::replay::read_all;
use super::{corrupt, io_error};
use crate::seams::disk::Disk;
use crate::storage::StorageError;
use bytes::{Buf, BufMut};
use helenus_core::TableId;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"HLNSMANI";
const VERSION: u32 = 2;
/// The last format without levels.
const WITHOUT_LEVELS: u32 = 1;
pub(super) const NAME: &str = "MANIFEST";
const NEXT_NAME: &str = "MANIFEST.next";
const REMEDY: &str = "Stop the node, restore the file from a copy, or remove the table's directory and repair the node from its replicas";

/// Why a manifest was not stored.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The old one still counts.
    Before(StorageError),
    /// Nobody knows which one counts, so the files of both must stay.
    Amid(StorageError),
}

impl From<StoreError> for StorageError {
    fn from(error: StoreError) -> StorageError {
        let (StoreError::Before(error) | StoreError::Amid(error)) = error;
        error
    }
}

/// A table's durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) table: TableId,
    /// The table was dropped at `flushed_to`: what the log holds of it before that is dead.
    pub(super) dropped: bool,
    /// The table's log records before this are in SSTables, or were purged: replay skips them.
    pub(super) flushed_to: Position,
    /// Larger than any generation ever used.
    pub(super) next_generation: u64,
    /// The SSTables, oldest first.
    pub(super) generations: Vec<u64>,
    /// Leveled compaction: the levels of those that are not in level 0. Of SSTables that are not listed it says nothing.
    pub(super) levels: BTreeMap<u64, u8>,
    /// Whether the file is there. A directory without it holds nothing.
    pub(super) stored: bool,
}

impl Manifest {
    /// Of a table that has nothing on disk.
    pub(super) fn new(table: TableId) -> Manifest {
        Manifest {
            table,
            dropped: false,
            flushed_to: Position::default(),
            next_generation: 1,
            generations: Vec::new(),
            levels: BTreeMap::new(),
            stored: false,
        }
    }

    /// Reads the manifest in `dir`; `None` when there is none.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, StorageError> {
        let path = dir.join(NAME);
        let bytes = match disk.open(&path, false).and_then(|file| read_all(file.as_ref())) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|e| io_error(&path, &e))?,
        };
        Manifest::decode(&bytes).map(Some).map_err(|what| corrupt(&path, 0, what, REMEDY))
    }

    /// Makes this the durable manifest of `dir`. The directory's other names become durable first.
    pub(super) fn store(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
        let generations = &self.generations;
        self.levels.retain(|generation, level| *level > 0 && generations.contains(generation));
        let next = dir.join(NEXT_NAME);
        let path = dir.join(NAME);
        let written = disk.open(&next, true).and_then(|file| {
            file.set_len(0)?;
            file.write_at(0, &self.encode())?;
            file.sync()?;
            disk.sync_dir(dir)
        });
        written.map_err(|e| StoreError::Before(io_error(&next, &e)))?;
        disk.rename(&next, &path).map_err(|e| StoreError::Amid(io_error(&path, &e)))?;
        disk.sync_dir(dir).map_err(|e| StoreError::Amid(io_error(dir, &e)))?;
        self.stored = true;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80 + self.generations.len() * 9);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u128_le(self.table.0);
        out.put_u8(u8::from(self.dropped));
        out.put_u64_le(self.flushed_to.segment);
        out.put_u64_le(self.flushed_to.offset);
        out.put_u64_le(self.next_generation);
        out.put_u32_le(u32::try_from(self.generations.len()).unwrap_or(u32::MAX));
        for generation in &self.generations {
            out.put_u64_le(*generation);
            out.put_u8(self.levels.get(generation).copied().unwrap_or(0));
        }
        let crc = crc32fast::hash(&out);
        out.put_u32_le(crc);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let (fields, crc) = bytes.split_last_chunk::<4>().ok_or("the manifest is empty")?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(fields) || !fields.starts_with(MAGIC) {
            return Err("the manifest does not match its checksum".to_owned());
        }
        let mut fields = fields.get(MAGIC.len()..).unwrap_or(&[]);
        match fields.try_get_u32_le() {
            Ok(version @ (WITHOUT_LEVELS | VERSION)) => {
                Manifest::decode_fields(fields, version != WITHOUT_LEVELS)
                    .ok_or_else(|| "the manifest is cut short".to_owned())
            }
            Ok(other) => Err(format!(
                "a manifest in format {other}; this build reads formats {WITHOUT_LEVELS} to {VERSION}"
            )),
            Err(_) => Err("the manifest is cut short".to_owned()),
        }
    }

    fn decode_fields(mut fields: &[u8], with_levels: bool) -> Option<Manifest> {
        let table = TableId(fields.try_get_u128_le().ok()?);
        let dropped = fields.try_get_u8().ok()? != 0;
        let segment = fields.try_get_u64_le().ok()?;
        let flushed_to = Position { segment, offset: fields.try_get_u64_le().ok()? };
        let next_generation = fields.try_get_u64_le().ok()?;
        let count = usize::try_from(fields.try_get_u32_le().ok()?).ok()?;
        if fields.len() != count.checked_mul(if with_levels { 9 } else { 8 })? {
            return None;
        }
        let (mut generations, mut levels) = (Vec::with_capacity(count), BTreeMap::new());
        for _ in 0..count {
            let generation = fields.try_get_u64_le().ok()?;
            let level = if with_levels { fields.try_get_u8().ok()? } else { 0 };
            generations.push(generation);
            if level > 0 {
                levels.insert(generation, level);
            }
        }
        let stored = true;
        Some(Manifest { table, dropped, flushed_to, next_generation, generations, levels, stored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::disk::{Faults, SimDisk};

    fn sample() -> Manifest {
        Manifest {
            dropped: false,
            flushed_to: Position { segment: 3, offset: 99 },
            next_generation: 8,
            generations: vec![2, 5, 7],
            levels: BTreeMap::from([(5, 1), (7, 8)]),
            ..Manifest::new(TableId(42))
        }
    }

    #[test]
    fn it_comes_back_and_every_flipped_byte_is_noticed() {
        let disk = SimDisk::new(1, Faults::default());
        let dir = Path::new("t");
        disk.create_dir(dir).unwrap();
        assert!(Manifest::load(&disk, dir).unwrap().is_none());
        let mut manifest = sample();
        manifest.store(&disk, dir).unwrap();
        assert_eq!(Manifest::load(&disk, dir).unwrap(), Some(manifest.clone()));
        let bytes = manifest.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Manifest::decode(&damaged).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_manifest_without_levels_is_still_read() {
        // As the first builds wrote it: 2, 5 and 7 of table 42, flushed to (3, 99).
        let mut first = b"HLNSMANI\x01\0\0\0\x2a".to_vec();
        first.resize(8 + 4 + 16, 0);
        first.push(0);
        for number in [3_u64, 99, 8] {
            first.extend(number.to_le_bytes());
        }
        first.extend(3_u32.to_le_bytes());
        for generation in [2_u64, 5, 7] {
            first.extend(generation.to_le_bytes());
        }
        let crc = crc32fast::hash(&first);
        first.extend(crc.to_le_bytes());
        let read = Manifest::decode(&first).unwrap();
        assert_eq!(read, Manifest { levels: BTreeMap::new(), stored: true, ..sample() });
        // What is stored next has levels.
        assert_eq!(Manifest::decode(&read.encode()), Ok(read.clone()));
        assert!(read.encode().starts_with(b"HLNSMANI\x02"));
        let future = [&b"HLNSMANI\x03\0\0\0"[..], &first[12..first.len() - 4]].concat();
        let future = [&future[..], &crc32fast::hash(&future).to_le_bytes()].concat();
        let error = Manifest::decode(&future).unwrap_err();
        assert_eq!(error, "a manifest in format 3; this build reads formats 1 to 2");
    }

    #[test]
    fn a_crash_leaves_the_old_one_or_the_new_one() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed, Faults::default());
            disk.create_dir(Path::new("t")).unwrap();
            disk.sync_dir(Path::new("")).unwrap();
            let mut old = sample();
            old.store(&disk, Path::new("t")).unwrap();
            let levels = BTreeMap::from([(9, 2)]);
            let mut new = Manifest { generations: vec![9], levels, ..old.clone() };
            // Everything but the directory's sync.
            let next = Path::new("t").join(NEXT_NAME);
            let file = disk.open(&next, true).unwrap();
            file.write_at(0, &new.encode()).unwrap();
            file.sync().unwrap();
            disk.rename(&next, &Path::new("t").join(NAME)).unwrap();
            disk.crash();
            let disk = disk.reopen();
            let found = Manifest::load(&disk, Path::new("t")).unwrap().unwrap();
            assert!(found == old || found == new, "seed {seed}");
            new.store(&disk, Path::new("t")).unwrap();
            disk.crash();
            let found = Manifest::load(&disk.reopen(), Path::new("t")).unwrap().unwrap();
            assert_eq!(found, new);
        }
    }
}
