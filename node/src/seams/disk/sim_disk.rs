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
//! page cache. Every creation, renaming and removal is a change of names that a crash forgets in order, as a journalling
//! file system would: never a later one without an earlier one.
//!
//! `faults` says what may go wrong; `platter` holds names, space and the crash; `image` the bytes of one file; here are
//! the seam's traits, which ask chance and then the platter.

mod faults;
mod image;
mod platter;

pub use faults::{Faults, Survives};

use super::{Disk, File, names};
use image::SECTOR_BYTES_U64;
use platter::{Directory, Inode, Node, Platter, ROOT, about};
use rand::Rng as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

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
    /// Calls that change something durable or about to be: all but reads, and opening what is there.
    pub changes: u64,
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
        let platter = Platter::new(seed, faults);
        SimDisk { platter: Arc::new(Mutex::new(platter)), boot: 0 }
    }

    /// The power fails: what was not synced is forgotten, or half remembered. Every handle and view from before is dead;
    /// [`SimDisk::reopen`] gives the next boot its own.
    pub fn crash(&self) {
        self.crash_with(Survives::Chance);
    }

    /// As [`SimDisk::crash`], saying what gets through.
    pub fn crash_with(&self, survives: Survives) {
        self.lock().crash(survives);
    }

    /// The power will fail after `changes` more changes, in place of the next one.
    pub fn crash_after(&self, changes: u64, survives: Survives) {
        let mut platter = self.lock();
        platter.strikes.crash = Some((platter.figures.changes + changes, Some(survives)));
    }

    /// The process will die after `changes` more changes, in place of the next one: every handle and view is dead then,
    /// but nothing is lost, and nothing has become durable.
    pub fn kill_after(&self, changes: u64) {
        let mut platter = self.lock();
        platter.strikes.crash = Some((platter.figures.changes + changes, None));
    }

    /// After `changes` more changes the next one will fail with EIO.
    pub fn fail_change_after(&self, changes: u64) {
        let mut platter = self.lock();
        platter.strikes.change = Some(platter.figures.changes + changes);
    }

    /// After `reads` more reads the next one will fail with EIO.
    pub fn fail_read_after(&self, reads: u64) {
        let mut platter = self.lock();
        platter.strikes.read = Some(platter.figures.reads + reads);
    }

    /// What was counted out beforehand will not happen.
    pub fn call_off(&self) {
        self.lock().strikes = faults::Strikes::default();
    }

    /// Whether this view is alive: neither has the power failed nor the process died since its boot.
    pub fn is_powered(&self) -> bool {
        self.lock().boot == self.boot
    }

    /// The disk as the next boot sees it.
    pub fn reopen(&self) -> SimDisk {
        let boot = self.lock().boot;
        SimDisk { platter: Arc::clone(&self.platter), boot }
    }

    /// Another disk with what a crash now would leave, its chance from `seed`: many ends of one history.
    pub fn fork(&self, seed: u64, survives: Survives) -> SimDisk {
        let mut platter = self.lock().clone();
        platter.reseed(seed);
        platter.crash(survives);
        let boot = platter.boot;
        SimDisk { platter: Arc::new(Mutex::new(platter)), boot }
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
        if platter.boot == self.boot { Ok(platter) } else { Err(platter::dead()) }
    }

    /// As [`SimDisk::powered`], for a call that changes names.
    fn renaming(&self, path: &Path) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.powered()?;
        if platter.strikes_change()? || platter.hits(path, |f| f.name_error) {
            let what = format!("{}: simulated error in a directory (EIO)", path.display());
            return Err(io::Error::other(what));
        }
        Ok(platter)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut platter = self.powered()?;
        let inode = match platter.resolve(path) {
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => {
                drop(platter);
                platter = self.renaming(path)?;
                platter.create_file(path)?
            }
            found => found?,
        };
        platter.file_mut(inode).map_err(|e| about(path, &e))?.handles += 1;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.renaming(to)?;
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
        let mut platter = self.renaming(to)?;
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
        let mut platter = self.renaming(path)?;
        let inode = platter.resolve(path)?;
        platter.file(inode).map_err(|e| about(path, &e))?;
        let (dir, name) = platter.parent(path)?;
        platter.change_names(vec![(dir, name, None)]);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.renaming(path)?;
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
        let mut platter = self.renaming(path)?;
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
        if platter.strikes_change()? || platter.hits(dir, |f| f.sync_dir_error) {
            let what = format!("{}: simulated sync error (EIO)", dir.display());
            return Err(io::Error::other(what));
        }
        if !platter.hits(dir, |f| f.sync_dir_lie) {
            platter.sync_names(inode);
        }
        Ok(())
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: Inode,
    /// As it was opened, for errors and for faults that concern some files only.
    path: PathBuf,
}

impl SimFile {
    fn error(&self, kind: io::ErrorKind, what: &str) -> io::Error {
        io::Error::new(kind, format!("{}: {what}", self.path.display()))
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.disk.powered()?;
        platter.figures.writes += 1;
        if platter.strikes_change()? || platter.hits(&self.path, |f| f.write_error) {
            return Err(self.error(io::ErrorKind::Other, "simulated write error (EIO)"));
        }
        let offset = if platter.hits(&self.path, |f| f.misdirected_write) {
            platter.astray(self.inode, offset)?
        } else {
            offset
        };
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
        if platter.strikes_read() || platter.hits(&self.path, |f| f.read_error) {
            return Err(self.error(io::ErrorKind::Other, "simulated read error (EIO)"));
        }
        let end = offset.saturating_add(buf.len() as u64).min(platter.file(self.inode)?.len);
        if offset < end && platter.hits(&self.path, |f| f.bit_rot) {
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
        let struck = platter.strikes_change()?;
        if struck || platter.fail_syncs > 0 || platter.hits(&self.path, |f| f.sync_error) {
            platter.fail_syncs = platter.fail_syncs.saturating_sub(1);
            platter.file_mut(self.inode)?.forget_dirty();
            return Err(self.error(io::ErrorKind::Other, "simulated sync error (EIO)"));
        }
        if !platter.hits(&self.path, |f| f.sync_lie) {
            platter.file_mut(self.inode)?.sync();
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.powered()?.file(self.inode)?.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.disk.powered()?;
        if platter.strikes_change()? {
            return Err(self.error(io::ErrorKind::Other, "simulated write error (EIO)"));
        }
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
