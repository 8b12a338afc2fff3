//! A disk in memory that forgets, tears, rots, lies and fills up, all from one seed.
//!
//! Every file keeps its live bytes and, for each 4 KiB sector written since the last sync, what the platter still holds.
//! A sync forgets the latter; [`SimDisk::crash`] goes back to it, sector by sector, as chance decides:
//!
//! ```text
//!   live      | A | B'| C'| D |      written sectors: B', C', D (appended)
//!   unsynced      | B | C | - |      their durable selves
//!   crash     | A | B | C'| 0 |      C' got out in time, B' and D did not; the length may have grown all the same
//! ```
//!
//! Names are durable only after `sync_dir`; a crash keeps a prefix of the operations since. A handle from before a crash
//! is dead for ever: a task that outlives its node cannot write on the disk of its successor.
//!
//! Invariants: a synced byte survives any crash (unless a fault says otherwise); the cost of an append does not depend on
//! how much is unsynced; equal seeds and equal calls give equal outcomes. Chance is one stream for crashes and one for
//! faults, so that switching a fault on does not change which sectors a crash keeps.
//!
//! CAVEAT: writes of one call may reach the platter in any order and partly, reads see them at once and whole, as with a
//! page cache. Misdirected writes are not modelled.

use super::{Disk, File, names};
use crate::seams::rng::Rng;
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const SECTOR_BYTES: usize = 4096;
const SECTOR_BYTES_U64: u64 = 4096;

type Sector = Arc<[u8; SECTOR_BYTES]>;
type Inode = u64;

const ROOT: Inode = 0;

/// What may go wrong. Chances are per call, from 0 (never) to 1 (always); all may be changed while the node runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Writes past so many bytes fail with ENOSPC, after as much as fits was written. Files count in whole sectors.
    pub capacity_bytes: Option<u64>,
    /// A read fails with EIO.
    pub read_error: f64,
    /// A write fails with EIO; nothing of it was written.
    pub write_error: f64,
    /// A sync fails, and the pages count as clean afterwards: a second sync succeeds and writes nothing (fsyncgate).
    pub sync_error: f64,
    /// A sync reports success and does nothing: a drive with a volatile cache that lies.
    pub sync_lie: f64,
    /// A read flips one bit of what is stored where it reads, for good.
    pub bit_rot: f64,
    /// What a background job waits before its bytes move. Read by `SimBackground`.
    pub latency: Duration,
    /// How fast a background job's bytes move. Read by `SimBackground`; 0 counts as 1.
    pub bytes_per_s: u64,
}

impl Default for Faults {
    /// A healthy solid-state disk: 100 us, 500 MB/s, no bound.
    fn default() -> Self {
        Faults {
            capacity_bytes: None,
            read_error: 0.0,
            write_error: 0.0,
            sync_error: 0.0,
            sync_lie: 0.0,
            bit_rot: 0.0,
            latency: Duration::from_micros(100),
            bytes_per_s: 500_000_000,
        }
    }
}

/// What was asked of a disk so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct DiskFigures {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    pub crashes: u64,
}

/// The simulated disk. Clones are the same disk, as seen since the same boot.
#[derive(Debug, Clone)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    /// The number of crashes this view has seen. Once the platter's is higher, the view is dead.
    boot: u64,
}

impl SimDisk {
    /// An empty disk. All chance comes from `seed`.
    pub fn new(seed: u64, faults: Faults) -> SimDisk {
        let rng = Rng::from_seed(seed);
        let platter = Platter {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Directory::default()))]),
            unsynced_names: Vec::new(),
            next: ROOT + 1,
            used_sectors: 0,
            boot: 0,
            fail_syncs: 0,
            faults,
            crash_rng: rng.stream("disk.crash"),
            fault_rng: rng.stream("disk.fault"),
            figures: DiskFigures::default(),
        };
        SimDisk { platter: Arc::new(Mutex::new(platter)), boot: 0 }
    }

    /// The power fails: what was not synced is forgotten, or half remembered. Every handle and view from before is dead;
    /// [`SimDisk::reopen`] gives the next boot its own.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The disk as the next boot sees it.
    pub fn reopen(&self) -> SimDisk {
        let boot = self.lock().boot;
        SimDisk { platter: Arc::clone(&self.platter), boot }
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }

    /// Changes the faults in force.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// The next `count` syncs fail (fsyncgate), whatever the chance says.
    pub fn fail_next_syncs(&self, count: u32) {
        self.lock().fail_syncs = count;
    }

    /// Flips one bit of the file, for good; gives its byte offset, or `None` for an empty file.
    pub fn flip_bit(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut platter = self.lock();
        let inode = platter.resolve(path)?;
        let len = platter.file(inode)?.len;
        if len == 0 {
            return Ok(None);
        }
        let offset = platter.fault_rng.random_range(0..len);
        platter.flip(inode, offset)?;
        Ok(Some(offset))
    }

    /// Bytes taken by files that have a name or an open handle, in whole sectors: what `capacity_bytes` bounds.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_sectors * SECTOR_BYTES_U64
    }

    /// What was asked of it so far.
    pub fn figures(&self) -> DiskFigures {
        self.lock().figures
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("nothing panics while it holds the platter")
    }

    /// The platter, if this view's boot is still the current one.
    fn powered(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.lock();
        if platter.boot == self.boot {
            Ok(platter)
        } else {
            Err(io::Error::other("the simulated machine lost power: this handle is from before"))
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut platter = self.powered()?;
        let inode = match platter.resolve(path) {
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => platter.create_file(path)?,
            found => found?,
        };
        platter.file_mut(inode).map_err(|e| about(path, &e))?.handles += 1;
        let name = path.display().to_string();
        Ok(Arc::new(SimFile { disk: self.clone(), inode, name }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.powered()?;
        let inode = platter.resolve(from)?;
        let (from_dir, from_name) = platter.parent(from)?;
        let (to_dir, to_name) = platter.parent(to)?;
        if (from_dir, &from_name) == (to_dir, &to_name) {
            return Ok(());
        }
        if platter.resolve(to).is_ok_and(|old| platter.is_dir(old)) {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, to.display().to_string()));
        }
        platter.change_names(vec![(from_dir, from_name, None), (to_dir, to_name, Some(inode))]);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.powered()?;
        let inode = platter.resolve(from)?;
        platter.file(inode).map_err(|e| about(from, &e))?;
        let (dir, name) = platter.parent(to)?;
        if platter.resolve(to).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, to.display().to_string()));
        }
        platter.change_names(vec![(dir, name, Some(inode))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.powered()?;
        let inode = platter.resolve(path)?;
        platter.file(inode).map_err(|e| about(path, &e))?;
        let (dir, name) = platter.parent(path)?;
        platter.change_names(vec![(dir, name, None)]);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.powered()?;
        let mut here = ROOT;
        for name in names(path)? {
            here = match platter.dir(here)?.live.get(name) {
                Some(&inode) => inode,
                None => {
                    let inode = platter.insert(Node::Dir(Directory::default()));
                    platter.change_names(vec![(here, name.to_owned(), Some(inode))]);
                    inode
                }
            };
        }
        platter.dir(here).map(drop).map_err(|e| about(path, &e))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.powered()?;
        let inode = platter.resolve(path)?;
        if !platter.dir(inode).map_err(|e| about(path, &e))?.live.is_empty() {
            let kind = io::ErrorKind::DirectoryNotEmpty;
            return Err(io::Error::new(kind, format!("{}: not empty", path.display())));
        }
        let (dir, name) = platter.parent(path)?;
        platter.change_names(vec![(dir, name, None)]);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let platter = self.powered()?;
        let inode = platter.resolve(dir)?;
        let found = platter.dir(inode).map_err(|e| about(dir, &e))?;
        Ok(found.live.keys().cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut platter = self.powered()?;
        let inode = platter.resolve(dir)?;
        platter.dir(inode).map_err(|e| about(dir, &e))?;
        platter.figures.syncs += 1;
        platter.sync_names(inode);
        Ok(())
    }
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: Inode,
    /// As it was opened, for errors.
    name: String,
}

impl SimFile {
    fn error(&self, kind: io::ErrorKind, what: &str) -> io::Error {
        io::Error::new(kind, format!("{}: {what}", self.name))
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.disk.powered()?;
        platter.figures.writes += 1;
        if platter.happens(|f| f.write_error) {
            return Err(self.error(io::ErrorKind::Other, "simulated write error (EIO)"));
        }
        let fits = platter.room(self.inode, offset, data.len())?;
        let (written, refused) = data.split_at(fits);
        let grown = platter.file_mut(self.inode)?.write(offset, written);
        platter.used_sectors += grown;
        platter.figures.written_bytes += written.len() as u64;
        if refused.is_empty() {
            Ok(())
        } else {
            Err(self.error(io::ErrorKind::StorageFull, "the simulated disk is full (ENOSPC)"))
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut platter = self.disk.powered()?;
        platter.figures.reads += 1;
        if platter.happens(|f| f.read_error) {
            return Err(self.error(io::ErrorKind::Other, "simulated read error (EIO)"));
        }
        let end = offset.saturating_add(buf.len() as u64).min(platter.file(self.inode)?.len);
        if offset < end && platter.happens(|f| f.bit_rot) {
            let unlucky = platter.fault_rng.random_range(offset..end);
            platter.flip(self.inode, unlucky)?;
        }
        let read = platter.file(self.inode)?.read(offset, buf);
        platter.figures.read_bytes += read as u64;
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        let mut platter = self.disk.powered()?;
        platter.figures.syncs += 1;
        if platter.fail_syncs > 0 || platter.happens(|f| f.sync_error) {
            platter.fail_syncs = platter.fail_syncs.saturating_sub(1);
            platter.file_mut(self.inode)?.forget_dirty();
            return Err(self.error(io::ErrorKind::Other, "simulated sync error (EIO)"));
        }
        if !platter.happens(|f| f.sync_lie) {
            platter.file_mut(self.inode)?.sync();
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.powered()?.file(self.inode)?.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.disk.powered()?;
        let freed = platter.file_mut(self.inode)?.set_len(len);
        platter.used_sectors -= freed;
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut platter) = self.disk.powered()
            && let Ok(file) = platter.file_mut(self.inode)
        {
            file.handles -= 1;
            platter.release(self.inode);
        }
    }
}

/// One change of names that is atomic on a real file system: (directory, name, what it names from now on).
type NameChange = Vec<(Inode, String, Option<Inode>)>;

#[derive(Debug)]
enum Node {
    File(Image),
    Dir(Directory),
}

/// A directory's names, as a process sees them and as a crash would leave them.
#[derive(Debug, Default)]
struct Directory {
    live: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
}

#[derive(Debug)]
struct Platter {
    nodes: BTreeMap<Inode, Node>,
    /// Changes of names since their directory was synced, oldest first.
    unsynced_names: Vec<NameChange>,
    next: Inode,
    /// Invariant: the sum over files that have a live name or an open handle.
    used_sectors: u64,
    boot: u64,
    fail_syncs: u32,
    faults: Faults,
    crash_rng: SmallRng,
    fault_rng: SmallRng,
    figures: DiskFigures,
}

impl Platter {
    fn happens(&mut self, chance: impl Fn(&Faults) -> f64) -> bool {
        let chance = chance(&self.faults);
        // The stream moves only for a fault that is switched on.
        chance > 0.0 && self.fault_rng.random_bool(chance.min(1.0))
    }

    fn insert(&mut self, node: Node) -> Inode {
        let inode = self.next;
        self.next += 1;
        self.nodes.insert(inode, node);
        inode
    }

    fn dir(&self, inode: Inode) -> io::Result<&Directory> {
        match self.nodes.get(&inode) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory")),
        }
    }

    fn is_dir(&self, inode: Inode) -> bool {
        self.dir(inode).is_ok()
    }

    fn file(&self, inode: Inode) -> io::Result<&Image> {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::IsADirectory, "not a file")),
        }
    }

    fn file_mut(&mut self, inode: Inode) -> io::Result<&mut Image> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::IsADirectory, "not a file")),
        }
    }

    fn resolve(&self, path: &Path) -> io::Result<Inode> {
        let mut here = ROOT;
        for name in names(path)? {
            let dir = self.dir(here).map_err(|e| about(path, &e))?;
            here = *dir.live.get(name).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("{}: not there", path.display()))
            })?;
        }
        Ok(here)
    }

    /// The directory that holds `path`'s last name, and that name.
    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let Some((last, _)) = names(path)?.split_last().map(|(last, dirs)| (*last, dirs)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root has no name"));
        };
        let dir = self.resolve(path.parent().unwrap_or(Path::new("")))?;
        self.dir(dir).map_err(|e| about(path, &e))?;
        Ok((dir, last.to_owned()))
    }

    fn create_file(&mut self, path: &Path) -> io::Result<Inode> {
        let (dir, name) = self.parent(path)?;
        let inode = self.insert(Node::File(Image::default()));
        self.change_names(vec![(dir, name, Some(inode))]);
        Ok(inode)
    }

    /// Applies a change to the live names and remembers it until it is durable.
    fn change_names(&mut self, change: NameChange) {
        for (dir, name, to) in &change {
            if let Some(Node::File(file)) = to.and_then(|to| self.nodes.get_mut(&to)) {
                file.links += 1;
            }
            let Some(Node::Dir(found)) = self.nodes.get_mut(dir) else { continue };
            let old = match to {
                Some(to) => found.live.insert(name.clone(), *to),
                None => found.live.remove(name),
            };
            if let Some(Node::File(file)) = old.and_then(|old| self.nodes.get_mut(&old)) {
                file.links -= 1;
            }
            if let Some(old) = old {
                self.release(old);
            }
        }
        self.unsynced_names.push(change);
    }

    /// A file without a name and without a handle gives its space back. Its bytes stay while a crash could bring back
    /// its name.
    fn release(&mut self, inode: Inode) {
        if let Some(Node::File(file)) = self.nodes.get_mut(&inode)
            && file.links == 0
            && file.handles == 0
            && !file.released
        {
            file.released = true;
            self.used_sectors -= file.sectors.len() as u64;
        }
        self.forget_if_gone(inode);
    }

    /// Frees a file that not even a crash can bring back.
    fn forget_if_gone(&mut self, inode: Inode) {
        if !matches!(self.nodes.get(&inode), Some(Node::File(file)) if file.released) {
            return;
        }
        let durable = self.nodes.values().any(
            |node| matches!(node, Node::Dir(dir) if dir.durable.values().any(|i| *i == inode)),
        );
        let pending = self.unsynced_names.iter().flatten().any(|(_, _, to)| *to == Some(inode));
        if !durable && !pending {
            self.nodes.remove(&inode);
        }
    }

    /// Makes the changes that concern `dir` durable, and whatever came before one that also concerns another directory:
    /// a rename between directories is one change.
    fn sync_names(&mut self, dir: Inode) {
        let concerns = |change: &NameChange| change.iter().any(|(at, _, _)| *at == dir);
        let crosses = |change: &NameChange| change.iter().any(|(at, _, _)| *at != dir);
        let all_until = self.unsynced_names.iter().rposition(|c| concerns(c) && crosses(c));
        let mut kept = Vec::new();
        for (i, change) in std::mem::take(&mut self.unsynced_names).into_iter().enumerate() {
            if all_until.is_some_and(|until| i <= until) || concerns(&change) {
                self.make_durable(&change);
            } else {
                kept.push(change);
            }
        }
        self.unsynced_names = kept;
        let released: Vec<Inode> = self
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(file) if file.released))
            .map(|(inode, _)| *inode)
            .collect();
        for inode in released {
            self.forget_if_gone(inode);
        }
    }

    fn make_durable(&mut self, change: &NameChange) {
        for (dir, name, to) in change {
            let Some(Node::Dir(found)) = self.nodes.get_mut(dir) else { continue };
            match to {
                Some(to) => found.durable.insert(name.clone(), *to),
                None => found.durable.remove(name),
            };
        }
    }

    /// How much of a write fits under the capacity.
    fn room(&self, inode: Inode, offset: u64, len: usize) -> io::Result<usize> {
        let Some(capacity) = self.faults.capacity_bytes else { return Ok(len) };
        let mut free = (capacity / SECTOR_BYTES_U64).saturating_sub(self.used_sectors);
        let file = self.file(inode)?;
        let mut fits = 0;
        for (sector, _, take) in spans(offset, len) {
            if !file.sectors.contains_key(&sector) {
                if free == 0 {
                    break;
                }
                free -= 1;
            }
            fits += take;
        }
        Ok(fits)
    }

    fn flip(&mut self, inode: Inode, offset: u64) -> io::Result<()> {
        let bit = self.fault_rng.random_range(0..8);
        let (sector, within) = place(offset);
        // A hole has no bits to flip.
        if let Some(sector) = self.file_mut(inode)?.sectors.get_mut(&sector)
            && let Some(byte) = Arc::make_mut(sector).get_mut(within)
        {
            *byte ^= 1 << bit;
        }
        Ok(())
    }

    fn crash(&mut self) {
        self.boot += 1;
        self.figures.crashes += 1;
        self.fail_syncs = 0;
        let survived = self.crash_rng.random_range(0..=self.unsynced_names.len());
        for change in std::mem::take(&mut self.unsynced_names).into_iter().take(survived) {
            self.make_durable(&change);
        }
        let reachable = self.reachable();
        self.nodes.retain(|inode, _| reachable.contains(inode));
        self.used_sectors = 0;
        let mut links: BTreeMap<Inode, u64> = BTreeMap::new();
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => {
                    dir.live = dir.durable.clone();
                    for inode in dir.live.values() {
                        *links.entry(*inode).or_default() += 1;
                    }
                }
                Node::File(file) => {
                    file.crash(&mut self.crash_rng);
                    self.used_sectors += file.sectors.len() as u64;
                }
            }
        }
        for (inode, count) in links {
            if let Some(Node::File(file)) = self.nodes.get_mut(&inode) {
                file.links = count;
            }
        }
    }

    /// Everything that has a durable name, from the root down.
    fn reachable(&self) -> BTreeSet<Inode> {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(inode) = todo.pop() {
            if let Some(Node::Dir(dir)) = self.nodes.get(&inode) {
                todo.extend(dir.durable.values().filter(|inode| reached.insert(**inode)));
            }
        }
        reached
    }
}

/// A file's bytes. A sector that is absent reads as zeros.
#[derive(Debug, Default)]
struct Image {
    sectors: BTreeMap<u64, Sector>,
    len: u64,
    /// Sectors written since the last sync, with what the platter holds for each.
    dirty: BTreeMap<u64, Option<Sector>>,
    /// Sectors that a failed sync called clean: the platter holds these, and no later sync will write the new ones
    /// unless they are written again. Disjoint from `dirty`.
    lost: BTreeMap<u64, Option<Sector>>,
    durable_len: u64,
    handles: u64,
    links: u64,
    released: bool,
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
    fn write(&mut self, offset: u64, data: &[u8]) -> u64 {
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

    fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
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
    fn set_len(&mut self, len: u64) -> u64 {
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

    fn sync(&mut self) {
        self.dirty.clear();
        self.durable_len = self.len;
    }

    fn forget_dirty(&mut self) {
        self.lost.append(&mut self.dirty);
    }

    fn crash(&mut self, rng: &mut SmallRng) {
        // The three ways in which a file can be caught: before, amid and after its write-back.
        let keep = *[0.0, 0.5, 1.0].get(rng.random_range(0..3_usize)).unwrap_or(&0.0);
        for (sector, durable) in std::mem::take(&mut self.dirty) {
            if !rng.random_bool(keep) {
                self.set_sector(sector, durable);
            } else if rng.random_bool(0.25) {
                let torn_at = rng.random_range(0..SECTOR_BYTES);
                self.tear(sector, torn_at, durable);
            }
        }
        for (sector, durable) in std::mem::take(&mut self.lost) {
            if rng.random_bool(0.5) {
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
}

/// A byte's sector and its offset within.
fn place(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % SECTOR_BYTES_U64).expect("less than a sector");
    (offset / SECTOR_BYTES_U64, within)
}

/// `len` bytes from `offset` on, cut at sector boundaries: (sector, offset within, bytes).
fn spans(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (sector, within) = place(offset + done as u64);
        let take = (SECTOR_BYTES - within).min(len - done);
        done += take;
        (take > 0).then_some((sector, within, take))
    })
}
