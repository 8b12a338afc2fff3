//! The bytes of one file: as processes see them, and as the platter would give them back.
//!
//! Only sectors that were written since the last sync, or whose sync failed, have two versions, so an append costs the
//! same however much is unsynced.
//!
//! Invariant: after [`Image::crash`] nothing is unsynced: what a crash left is what the next boot reads.

use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::sync::Arc;

const SECTOR_BYTES: usize = 4096;
pub(super) const SECTOR_BYTES_U64: u64 = 4096;
/// What a drive writes at once or not at all: less than a page of the system's cache.
const PIECE_BYTES: usize = 512;

type Sector = Arc<[u8; SECTOR_BYTES]>;

/// A file's bytes. A sector that is absent reads as zeros.
#[derive(Debug, Default, Clone)]
pub(super) struct Image {
    pub(super) sectors: BTreeMap<u64, Sector>,
    pub(super) len: u64,
    /// Sectors written since the last sync, with what the platter holds for each.
    dirty: BTreeMap<u64, Option<Sector>>,
    /// Sectors that a failed sync called clean: the platter holds these, and no later sync will write the new ones
    /// unless they are written again. Disjoint from `dirty`.
    lost: BTreeMap<u64, Option<Sector>>,
    durable_len: u64,
    pub(super) handles: u64,
    pub(super) links: u64,
    pub(super) released: bool,
}

impl Image {
    /// Notes that `sector` is about to change.
    fn touch(&mut self, sector: u64) {
        if !self.dirty.contains_key(&sector) {
            let durable = match self.lost.remove(&sector) {
                Some(durable) => durable,
                None => self.sectors.get(&sector).cloned(),
            };
            self.dirty.insert(sector, durable);
        }
    }

    /// Gives the number of sectors that were added.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> u64 {
        let mut grown = 0;
        let mut rest = data;
        for (sector, within, take) in spans(offset, data.len()) {
            let (now, later) = rest.split_at(take);
            rest = later;
            self.touch(sector);
            let bytes = self.sectors.entry(sector).or_insert_with(|| {
                grown += 1;
                Arc::new([0; SECTOR_BYTES])
            });
            // Copied only when the platter's version is this very one.
            if let Some(place) = Arc::make_mut(bytes).get_mut(within..within + take) {
                place.copy_from_slice(now);
            }
        }
        if !data.is_empty() {
            self.len = self.len.max(offset + data.len() as u64);
        }
        grown
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let there = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = there.min(buf.len());
        let mut rest = buf.split_at_mut(len).0;
        for (sector, within, take) in spans(offset, len) {
            let (now, later) = rest.split_at_mut(take);
            rest = later;
            match self.sectors.get(&sector).and_then(|bytes| bytes.get(within..within + take)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
        }
        len
    }

    /// Gives the number of sectors that were freed.
    pub(super) fn set_len(&mut self, len: u64) -> u64 {
        let before = self.sectors.len();
        let (last, within) = place(len);
        let first_gone = if within == 0 { last } else { last + 1 };
        let gone: Vec<u64> = self.sectors.range(first_gone..).map(|(sector, _)| *sector).collect();
        for sector in gone {
            self.touch(sector);
            self.sectors.remove(&sector);
        }
        if len < self.len && within > 0 && self.sectors.contains_key(&last) {
            self.touch(last);
            if let Some(tail) =
                self.sectors.get_mut(&last).and_then(|bytes| Arc::make_mut(bytes).get_mut(within..))
            {
                tail.fill(0);
            }
        }
        self.len = len;
        (before - self.sectors.len()) as u64
    }

    pub(super) fn sync(&mut self) {
        self.dirty.clear();
        self.durable_len = self.len;
    }

    pub(super) fn forget_dirty(&mut self) {
        self.lost.append(&mut self.dirty);
    }

    /// `survives`: whether what is unsynced got out; `None`: as chance decides.
    pub(super) fn crash(&mut self, rng: &mut SmallRng, survives: Option<bool>, shredded: f64) {
        // The three ways in which a file can be caught: before, amid and after its write-back.
        let keep = match survives {
            None => *[0.0, 0.5, 1.0].get(rng.random_range(0..3_usize)).unwrap_or(&0.0),
            Some(true) => 1.0,
            Some(false) => 0.0,
        };
        let whole = survives.is_some();
        for (sector, durable) in std::mem::take(&mut self.dirty) {
            if !whole && shredded > 0.0 && rng.random_bool(shredded.min(1.0)) {
                self.shred(sector, rng, durable);
            } else if !rng.random_bool(keep) {
                self.set_sector(sector, durable);
            } else if !whole && rng.random_bool(0.25) {
                let torn_at = rng.random_range(0..SECTOR_BYTES);
                self.tear(sector, torn_at, durable);
            }
        }
        for (sector, durable) in std::mem::take(&mut self.lost) {
            // A sync that failed wrote nothing, whatever else got out.
            if whole || rng.random_bool(0.5) {
                self.set_sector(sector, durable);
            }
        }
        let (short, long) = (self.len.min(self.durable_len), self.len.max(self.durable_len));
        let len = match keep {
            0.0 => self.durable_len,
            1.0 => self.len,
            _ => rng.random_range(short..=long),
        };
        // Sectors of either length are there now: cut behind the one that was chosen.
        self.len = long;
        self.set_len(len);
        self.sync();
        self.lost.clear();
        self.handles = 0;
        self.links = 0;
        self.released = false;
    }

    fn set_sector(&mut self, sector: u64, bytes: Option<Sector>) {
        match bytes {
            Some(bytes) => self.sectors.insert(sector, bytes),
            None => self.sectors.remove(&sector),
        };
    }

    /// The first `torn_at` bytes are new, the rest is as the platter had it.
    fn tear(&mut self, sector: u64, torn_at: usize, durable: Option<Sector>) {
        let mut mixed = durable.unwrap_or_else(|| Arc::new([0; SECTOR_BYTES]));
        if let Some(new) = self.sectors.get(&sector).and_then(|bytes| bytes.get(..torn_at))
            && let Some(head) = Arc::make_mut(&mut mixed).get_mut(..torn_at)
        {
            head.copy_from_slice(new);
        }
        self.sectors.insert(sector, mixed);
    }

    /// Of the pieces that a drive writes at once, each is new or as the platter had it.
    fn shred(&mut self, sector: u64, rng: &mut SmallRng, durable: Option<Sector>) {
        let mut mixed = durable.unwrap_or_else(|| Arc::new([0; SECTOR_BYTES]));
        if let Some(new) = self.sectors.get(&sector) {
            let old = Arc::make_mut(&mut mixed).chunks_exact_mut(PIECE_BYTES);
            for (old, new) in old.zip(new.chunks_exact(PIECE_BYTES)) {
                if rng.random_bool(0.5) {
                    old.copy_from_slice(new);
                }
            }
        }
        self.sectors.insert(sector, mixed);
    }
}

/// A byte's sector and its offset within.
pub(super) fn place(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % SECTOR_BYTES_U64).expect("less than a sector");
    (offset / SECTOR_BYTES_U64, within)
}

/// `len` bytes from `offset` on, cut at sector boundaries: (sector, offset within, bytes).
pub(super) fn spans(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (sector, within) = place(offset + done as u64);
        let take = (SECTOR_BYTES - within).min(len - done);
        done += take;
        (take > 0).then_some((sector, within, take))
    })
}
