//! Files: a small synchronous trait. Production is positional IO on real files (`StdDisk`); the simulation
//! (`SimDisk`) keeps a live and a durable image and forgets what was not synced.
//!
//! The rules a caller must follow are POSIX's worst case: written bytes are durable only after `File::sync`, a created,
//! renamed or removed *name* only after `sync_dir` of its directory, and after a failed `sync` nothing is known of the
//! bytes written since the last good one (fsyncgate).
//!
//! Calls block. Whoever must not block runs them through the background seam.

mod std_disk;
mod sim_disk;
#[cfg(test)]
mod tests;

pub use sim_disk::{DiskFigures, Faults, SimDisk, Survives};
pub use std_disk::{DirLock, StdDisk};

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

/// A directory tree. Paths are relative to the disk's root; `/` separates.
pub trait Disk: Send + Sync {
    /// Opens for reading and writing; creates it, empty, when `create` says so and it is not there.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file `from` a second name (snapshots).
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents. Each is a name in its parent, durable after `sync_dir` of that one.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted. A directory that is not there is `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Where this disk's root is among the machine's real files, if it is there: for what opens files by itself (sled).
    fn real_root(&self) -> Option<&Path> {
        None
    }
}

/// An open file.
pub trait File: Send + Sync {
    /// Writes all of `data` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Makes all written bytes and the length durable.
    fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or grows (with zeros) to `len`.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// The names along a path below a disk's root. A path that would leave it (`..`, or one that begins at `/`) is refused:
/// names come from directory listings and configuration, and neither may reach another node's files.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let refuse =
        |why| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()));
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or_else(|| refuse("the path is not UTF-8"))?);
            }
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refuse("the path must stay below the data directory"));
            }
        }
    }
    Ok(names)
}
