//! Real files: positional IO below one root directory. Every error carries the path it is about.

use super::{Disk, File, names};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Locked while a process uses the directory. The file stays: to remove it would let two processes lock two files.
const LOCK: &str = "LOCK";

/// The files below a directory.
#[derive(Debug, Clone)]
pub struct StdDisk {
    root: PathBuf,
}

impl StdDisk {
    /// All paths are relative to `root`, which [`Disk::create_dir`] of the empty path creates.
    pub fn new(root: impl Into<PathBuf>) -> StdDisk {
        StdDisk { root: root.into() }
    }

    /// Takes the directory for this process until the lock is dropped or the process ends, however it ends: two nodes that
    /// write one commit log destroy it. The directory must exist.
    pub fn lock(&self) -> io::Result<DirLock> {
        let path = self.root.join(LOCK);
        let opened = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|e| at(&path, "open", &e))?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!(
                    "{} is in use by another running process, which holds {}: stop that one, or give this node a \
                     data_directory of its own",
                    self.root.display(),
                    path.display()
                ),
            )),
            Err(fs::TryLockError::Error(error)) => Err(at(&path, "lock", &error)),
        }
    }

    fn full(&self, path: &Path) -> io::Result<PathBuf> {
        let mut full = self.root.clone();
        full.extend(names(path)?);
        Ok(full)
    }
}

/// A directory that no other process uses as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct DirLock {
    _file: fs::File,
}

/// The same error, saying where. The kind stays, so callers can still tell a full disk from a missing file.
fn at(path: &Path, what: &str, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull => " (free space on this file system, then try again)",
        io::ErrorKind::PermissionDenied => " (the user that runs the node must own the directory)",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}{remedy}", path.display()))
}

impl Disk for StdDisk {
    fn real_root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let path = self.full(path)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(&path)
            .map_err(|e| at(&path, "open", &e))?;
        Ok(Arc::new(StdFile { file, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.full(from)?, self.full(to)?);
        fs::rename(&from, &to).map_err(|e| at(&from, "rename", &e))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.full(from)?, self.full(to)?);
        fs::hard_link(&from, &to).map_err(|e| at(&to, "create the link", &e))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path)?;
        fs::remove_file(&path).map_err(|e| at(&path, "remove", &e))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path)?;
        fs::create_dir_all(&path).map_err(|e| at(&path, "create the directory", &e))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path)?;
        fs::remove_dir(&path).map_err(|e| at(&path, "remove the directory", &e))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir = self.full(dir)?;
        let list = || -> io::Result<Vec<String>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&dir)? {
                // A name that is not UTF-8 is none of ours.
                if let Ok(name) = entry?.file_name().into_string() {
                    found.push(name);
                }
            }
            found.sort();
            Ok(found)
        };
        list().map_err(|e| at(&dir, "list", &e))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = self.full(dir)?;
        fs::File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| at(&dir, "sync", &e))
    }
}

#[derive(Debug)]
struct StdFile {
    file: fs::File,
    path: PathBuf,
}

impl File for StdFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset).map_err(|e| at(&self.path, "write to", &e))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(at(&self.path, "read", &e)),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync carries the length when it changed; access times are nobody's concern.
        self.file.sync_data().map_err(|e| at(&self.path, "sync", &e))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|m| m.len()).map_err(|e| at(&self.path, "stat", &e))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|e| at(&self.path, "resize", &e))
    }
}
