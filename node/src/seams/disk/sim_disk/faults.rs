//! What may go wrong with a simulated disk: by chance, or at a moment counted out beforehand.

use std::time::Duration;

/// What may go wrong. Chances are per call, from 0 (never) to 1 (always); all may be changed while the node runs. Chance
/// moves on only for a fault that is switched on and that concerns the file, so that the others stay where they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Writes past so many bytes fail with ENOSPC, after as much as fits was written. Files count in whole sectors.
    pub capacity_bytes: Option<u64>,
    /// A read fails with EIO.
    pub read_error: f64,
    /// A write fails with EIO; nothing of it was written.
    pub write_error: f64,
    /// A write goes to another place of its file, a whole sector or more away, and reports success.
    pub misdirected_write: f64,
    /// A sync fails, and the pages count as clean afterwards: a second sync succeeds and writes nothing (fsyncgate).
    pub sync_error: f64,
    /// A sync reports success and does nothing: a drive with a volatile cache that lies.
    pub sync_lie: f64,
    /// A sync of a directory fails with EIO; its names are as durable as they were.
    pub sync_dir_error: f64,
    /// A sync of a directory reports success and does nothing.
    pub sync_dir_lie: f64,
    /// A creation, renaming, linking or removal of a name fails with EIO; nothing has changed.
    pub name_error: f64,
    /// A read flips one bit of what is stored where it reads, for good.
    pub bit_rot: f64,
    /// In a crash, an unsynced page is cut in pieces of 512 bytes, each of which got out or did not. Otherwise a page is
    /// torn once at most.
    pub shredded_page: f64,
    /// The errors, lies, misdirections and rot concern only files, and directories, with this in their path. Empty: all.
    pub paths: String,
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
            misdirected_write: 0.0,
            sync_error: 0.0,
            sync_lie: 0.0,
            sync_dir_error: 0.0,
            sync_dir_lie: 0.0,
            name_error: 0.0,
            bit_rot: 0.0,
            shredded_page: 0.0,
            paths: String::new(),
            latency: Duration::from_micros(100),
            bytes_per_s: 500_000_000,
        }
    }
}

/// What of the unsynced gets through a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Survives {
    /// As the seed decides, file by file and sector by sector.
    #[default]
    Chance,
    /// What was synced, and no more.
    Nothing,
    /// All of it.
    Everything,
    /// Every name, but of the bytes only what was synced.
    Names,
    /// Every byte, but of the names only what was synced.
    Bytes,
}

impl Survives {
    /// Every way, for tests that try them all.
    pub const ALL: [Survives; 5] = [
        Survives::Chance,
        Survives::Nothing,
        Survives::Everything,
        Survives::Names,
        Survives::Bytes,
    ];

    /// Whether unsynced names survive; `None`: as chance decides.
    pub(super) fn names(self) -> Option<bool> {
        match self {
            Survives::Chance => None,
            Survives::Everything | Survives::Names => Some(true),
            Survives::Nothing | Survives::Bytes => Some(false),
        }
    }

    /// Whether unsynced bytes survive; `None`: as chance decides.
    pub(super) fn bytes(self) -> Option<bool> {
        match self {
            Survives::Chance => None,
            Survives::Everything | Survives::Bytes => Some(true),
            Survives::Nothing | Survives::Names => Some(false),
        }
    }
}

/// What strikes at a call that was counted out beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strikes {
    /// Instead of this change the power fails; `None`: only the process dies.
    pub(super) crash: Option<(u64, Option<Survives>)>,
    /// This change fails.
    pub(super) change: Option<u64>,
    /// This read fails.
    pub(super) read: Option<u64>,
}
