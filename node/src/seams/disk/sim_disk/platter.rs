//! Everything on the disk: its directories, its files, its space, and what a crash leaves of them.
//!
//! A directory keeps its names twice, as processes see them and as a crash would. What lies between is a list of changes,
//! oldest first: a sync of a directory takes its own out of it, a crash makes a prefix of what is left durable.
//!
//! Invariants: a file's space is free once it has neither a name nor a handle, though its bytes stay while a crash could
//! bring back its name; after a crash only what has a durable name is there.

use super::DiskFigures;
use super::faults::{Faults, Strikes, Survives};
use super::image::{Image, SECTOR_BYTES_U64, place, spans};
use crate::seams::disk::names;
use crate::seams::rng::Rng;
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(super) type Inode = u64;

pub(super) const ROOT: Inode = 0;

/// One change of names that is atomic on a real file system: (directory, name, what it names from now on).
pub(super) type NameChange = Vec<(Inode, String, Option<Inode>)>;

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Image),
    Dir(Directory),
}

/// A directory's names, as a process sees them and as a crash would leave them.
#[derive(Debug, Default, Clone)]
pub(super) struct Directory {
    pub(super) live: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
}

#[derive(Debug, Clone)]
pub(super) struct Platter {
    nodes: BTreeMap<Inode, Node>,
    /// Changes of names since their directory was synced, oldest first.
    unsynced_names: Vec<NameChange>,
    next: Inode,
    /// Invariant: the sum over files that have a live name or an open handle.
    pub(super) used_sectors: u64,
    pub(super) boot: u64,
    pub(super) fail_syncs: u32,
    pub(super) faults: Faults,
    pub(super) strikes: Strikes,
    crash_rng: SmallRng,
    pub(super) fault_rng: SmallRng,
    pub(super) figures: DiskFigures,
}

impl Platter {
    pub(super) fn new(seed: u64, faults: Faults) -> Platter {
        let rng = Rng::from_seed(seed);
        Platter {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Directory::default()))]),
            unsynced_names: Vec::new(),
            next: ROOT + 1,
            used_sectors: 0,
            boot: 0,
            fail_syncs: 0,
            faults,
            strikes: Strikes::default(),
            crash_rng: rng.stream("disk.crash"),
            fault_rng: rng.stream("disk.fault"),
            figures: DiskFigures::default(),
        }
    }

    /// From now on chance comes from `seed`.
    pub(super) fn reseed(&mut self, seed: u64) {
        let rng = Rng::from_seed(seed);
        self.crash_rng = rng.stream("disk.crash");
        self.fault_rng = rng.stream("disk.fault");
    }

    /// Whether a fault strikes that concerns `path`.
    pub(super) fn hits(&mut self, path: &Path, chance: impl Fn(&Faults) -> f64) -> bool {
        let chance = chance(&self.faults);
        // The stream moves only for a fault that is switched on.
        chance > 0.0
            && (self.faults.paths.is_empty() || path.to_string_lossy().contains(&self.faults.paths))
            && self.fault_rng.random_bool(chance.min(1.0))
    }

    /// Counts a change. `true`: it is the one that fails. `Err`: the power failed instead.
    pub(super) fn strikes_change(&mut self) -> io::Result<bool> {
        let nth = self.figures.changes;
        self.figures.changes += 1;
        if let Some((at, survives)) = self.strikes.crash
            && at == nth
        {
            match survives {
                Some(survives) => self.crash(survives),
                None => self.kill(),
            }
            return Err(dead());
        }
        Ok(self.strikes.change == Some(nth))
    }

    /// Whether the read that was just counted is the one that fails.
    pub(super) fn strikes_read(&self) -> bool {
        self.strikes.read.is_some_and(|at| at + 1 == self.figures.reads)
    }

    /// Where a misdirected write to `offset` lands: as far into another sector that the file has, or the one behind.
    pub(super) fn astray(&mut self, inode: Inode, offset: u64) -> io::Result<u64> {
        let (sector, within) = place(offset);
        let behind = self.file(inode)?.len.div_ceil(SECTOR_BYTES_U64).max(sector + 1);
        let mut other = self.fault_rng.random_range(0..behind);
        if other >= sector {
            other += 1;
        }
        Ok(other * SECTOR_BYTES_U64 + within as u64)
    }

    pub(super) fn insert(&mut self, node: Node) -> Inode {
        let inode = self.next;
        self.next += 1;
        self.nodes.insert(inode, node);
        inode
    }

    pub(super) fn dir(&self, inode: Inode) -> io::Result<&Directory> {
        match self.nodes.get(&inode) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory")),
        }
    }

    pub(super) fn is_dir(&self, inode: Inode) -> bool {
        self.dir(inode).is_ok()
    }

    pub(super) fn file(&self, inode: Inode) -> io::Result<&Image> {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::IsADirectory, "not a file")),
        }
    }

    pub(super) fn file_mut(&mut self, inode: Inode) -> io::Result<&mut Image> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::IsADirectory, "not a file")),
        }
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<Inode> {
        self.walk(path, &names(path)?)
    }

    /// Where these names lead, of which `path` is made.
    fn walk(&self, path: &Path, names: &[&str]) -> io::Result<Inode> {
        let mut here = ROOT;
        for name in names {
            let dir = self.dir(here).map_err(|e| about(path, &e))?;
            here = *dir.live.get(*name).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("{}: not there", path.display()))
            })?;
        }
        Ok(here)
    }

    /// The directory that holds `path`'s last name, and that name.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let names = names(path)?;
        let Some((last, dirs)) = names.split_last() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root has no name"));
        };
        let dir = self.walk(path.parent().unwrap_or(path), dirs)?;
        self.dir(dir).map_err(|e| about(path, &e))?;
        Ok((dir, (*last).to_owned()))
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Inode> {
        let (dir, name) = self.parent(path)?;
        let inode = self.insert(Node::File(Image::default()));
        self.change_names(vec![(dir, name, Some(inode))]);
        Ok(inode)
    }

    /// Applies a change to the live names and remembers it until it is durable.
    pub(super) fn change_names(&mut self, change: NameChange) {
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
    pub(super) fn release(&mut self, inode: Inode) {
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
    pub(super) fn sync_names(&mut self, dir: Inode) {
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
    pub(super) fn room(&self, inode: Inode, offset: u64, len: usize) -> io::Result<usize> {
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

    pub(super) fn flip(&mut self, inode: Inode, offset: u64) -> io::Result<()> {
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

    /// The process dies: its handles are gone, and all that the system has, it has.
    pub(super) fn kill(&mut self) {
        self.boot += 1;
        self.strikes = Strikes::default();
        let mut open = Vec::new();
        for (inode, node) in &mut self.nodes {
            if let Node::File(file) = node
                && std::mem::take(&mut file.handles) > 0
            {
                open.push(*inode);
            }
        }
        open.into_iter().for_each(|inode| self.release(inode));
    }

    pub(super) fn crash(&mut self, survives: Survives) {
        self.boot += 1;
        self.figures.crashes += 1;
        self.fail_syncs = 0;
        self.strikes = Strikes::default();
        let survived = match survives.names() {
            None => self.crash_rng.random_range(0..=self.unsynced_names.len()),
            Some(true) => self.unsynced_names.len(),
            Some(false) => 0,
        };
        let shredded = self.faults.shredded_page;
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
                    file.crash(&mut self.crash_rng, survives.bytes(), shredded);
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

/// What every call gets that comes from before a crash.
pub(super) fn dead() -> io::Error {
    io::Error::other("the simulated machine lost power: this handle is from before")
}

pub(super) fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
