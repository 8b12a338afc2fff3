//! A disk that says what it is asked to change: what one wants to see of a life that went wrong.

use super::node::seams::disk::{Disk, File, SimDisk};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Passes everything on, and prints it with the number of the change.
pub(super) struct Loud(pub(super) SimDisk);

struct LoudFile {
    file: Arc<dyn File>,
    path: PathBuf,
    disk: SimDisk,
}

fn say(disk: &SimDisk, what: &str, path: &Path) {
    println!("{:6} {what} {}", disk.figures().changes, path.display());
}

impl Disk for Loud {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        say(&self.0, if create { "create" } else { "open" }, path);
        let file = self.0.open(path, create)?;
        Ok(Arc::new(LoudFile { file, path: path.to_path_buf(), disk: self.0.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        say(&self.0, &format!("rename {} to", from.display()), to);
        self.0.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        say(&self.0, &format!("link {} to", from.display()), to);
        self.0.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        say(&self.0, "remove", path);
        self.0.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        say(&self.0, "create directory", path);
        self.0.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        say(&self.0, "remove directory", path);
        self.0.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = self.0.list(dir);
        say(&self.0, &format!("list {names:?} in"), dir);
        names
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        say(&self.0, "sync directory", dir);
        self.0.sync_dir(dir)
    }
}

impl File for LoudFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        say(&self.disk, &format!("write {} at {offset} to", data.len()), &self.path);
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn sync(&self) -> io::Result<()> {
        say(&self.disk, "sync", &self.path);
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        say(&self.disk, &format!("set length {len} of"), &self.path);
        self.file.set_len(len)
    }
}
