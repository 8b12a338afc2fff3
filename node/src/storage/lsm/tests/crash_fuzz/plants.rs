//! Bugs that the fuzz must see, each of a kind that an engine might really have.

use super::life::Subject;
use super::run;
use crate::seams::disk::{Disk, Faults, File, SimDisk};
use crate::storage::lsm::place::Place;
use crate::storage::lsm::state::Table;
use crate::storage::lsm::{LsmEngine, LsmParts};
use helenus_core::TimestampMicros;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A disk that does something other than it was told. What it is made to do is what an engine that forgot to ask, or
/// asked in the wrong order, would have.
struct Odd {
    disk: SimDisk,
    bug: Bug,
}

#[derive(Clone, Copy, PartialEq)]
enum Bug {
    /// The manifest's new version is written, and never put in the old one's place.
    RenameForgotten,
    /// What nobody needs any more stays.
    RemoveForgotten,
    /// A log segment is removed when a new one begins, whatever is in it.
    LogFreedEarly,
    /// The manifest is written in place.
    ManifestInPlace,
}

impl Disk for Odd {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let dir = path.parent().unwrap_or(Path::new(""));
        if self.bug == Bug::ManifestInPlace && path.ends_with("MANIFEST.next") {
            return self.disk.open(&dir.join("MANIFEST"), create);
        }
        let is_new = create && self.disk.open(path, false).is_err();
        if self.bug == Bug::LogFreedEarly && is_new && dir.ends_with("commitlog") {
            let names = self.disk.list(dir)?;
            if let [oldest, _, ..] = names.as_slice() {
                self.disk.remove(&dir.join(oldest))?;
            }
        }
        self.disk.open(path, create)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.bug {
            Bug::RenameForgotten | Bug::ManifestInPlace => Ok(()),
            _ => self.disk.rename(from, to),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let forgotten =
            self.bug == Bug::RemoveForgotten && path.extension() == Some("sst".as_ref());
        if forgotten { Ok(()) } else { self.disk.remove(path) }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

/// In how many of `lives` lives, at most, a bug is seen once.
fn lives_until_seen(subject: &Subject<'_>, lives: u64) -> Option<u64> {
    (1..=lives).find(|nth| {
        let seed = nth + 1_000_000;
        run::life(seed, &run::SMALL, subject).is_err() && {
            // It is the bug that was seen, and not something that was there anyway.
            run::life(seed, &run::SMALL, &Subject::honest()).unwrap();
            true
        }
    })
}

/// A bug must be seen within so many lives: a small part of what runs by default.
const LIVES: u64 = 600;

fn seen(name: &str, subject: &Subject<'_>) {
    match lives_until_seen(subject, LIVES) {
        Some(nth) => println!("{name}: seen in life {nth}"),
        None => panic!("{name}: not seen in {LIVES} lives"),
    }
}

fn lying(faults: Faults) -> Subject<'static> {
    Subject { faults, ..Subject::honest() }
}

#[test]
fn a_skipped_sync_is_seen() {
    for (name, share, paths) in [
        ("no file is ever synced", 1.0, ""),
        ("one sync in ten is skipped", 0.1, ""),
        ("the log is never synced", 1.0, "commitlog"),
        ("one sync of the log in ten is skipped", 0.1, "commitlog"),
        ("SSTables are never synced", 1.0, ".sst"),
        ("one sync of an SSTable in five is skipped", 0.2, ".sst"),
        ("manifests are never synced", 1.0, "MANIFEST"),
    ] {
        seen(name, &lying(Faults { sync_lie: share, paths: paths.into(), ..Faults::default() }));
    }
}

#[test]
fn a_skipped_directory_sync_is_seen() {
    for (name, share, paths) in [
        ("no directory is ever synced", 1.0, ""),
        ("one directory sync in five is skipped", 0.2, ""),
        ("the log's directory is never synced", 1.0, "commitlog"),
        ("tables' directories are never synced", 1.0, "tables"),
    ] {
        seen(
            name,
            &lying(Faults { sync_dir_lie: share, paths: paths.into(), ..Faults::default() }),
        );
    }
}

#[test]
fn a_wrong_purge_is_seen() {
    fn nobody(_: &Table, _: &[u64], _: &Place) -> TimestampMicros {
        TimestampMicros(i64::MAX)
    }
    let open = |parts: LsmParts| LsmEngine::open_with(parts, nobody);
    seen("a purge that asks nobody", &Subject { open: &open, ..Subject::honest() });
}

#[test]
fn a_forgotten_or_hasty_step_is_seen() {
    for (name, bug) in [
        ("a manifest that is not renamed", Bug::RenameForgotten),
        ("SSTables that are not removed", Bug::RemoveForgotten),
        ("a log segment that goes too early", Bug::LogFreedEarly),
        ("a manifest written in place", Bug::ManifestInPlace),
    ] {
        let disk = move |disk: &SimDisk| Arc::new(Odd { disk: disk.clone(), bug }) as Arc<dyn Disk>;
        seen(name, &Subject { disk: &disk, ..Subject::honest() });
    }
}
