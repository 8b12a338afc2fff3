//! `commitlog_sync = "batch"`: how close the engine comes to what the disk can do.
//!
//! Many writers each wait for their write to be durable before the next one; one sync serves all who wait. What the disk
//! can do is measured in the same run: append as many bytes as a group of the engine has, `fdatasync`, again, from one
//! thread that does nothing else, before and after the engine's part. The bound is then one group a raw sync.

use crate::meter::{self, Latency, histogram, now};
use crate::subject::{Settings, open_engine, write};
use crate::workload::{key, value};
use helenus_node::config::CommitlogSync;
use helenus_node::seams::disk::{Disk, File, StdDisk};
use helenus_node::storage::{Applied, Engine};
use helenus_node::tasks::Tasks;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

/// What one round of it showed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) writers: u64,
    pub(crate) writes_per_s: f64,
    pub(crate) syncs_per_s: f64,
    pub(crate) records_per_group: f64,
    pub(crate) bytes_per_group: f64,
    /// Most writes grew the engine's log files: the raw figure that counts is the one whose file grows too.
    pub(crate) grows: bool,
    pub(crate) raw_growing_per_s: f64,
    pub(crate) raw_preallocated_per_s: f64,
    pub(crate) cpu_us: f64,
    pub(crate) latency: Latency,
}

impl Batch {
    pub(crate) fn raw_per_s(&self) -> f64 {
        if self.grows { self.raw_growing_per_s } else { self.raw_preallocated_per_s }
    }

    /// Writes per second, over records a group times raw syncs per second.
    pub(crate) fn ratio(&self) -> f64 {
        self.writes_per_s / (self.records_per_group * self.raw_per_s())
    }
}

/// Bytes of a record of ours in the log: near enough for the raw measurement before the engine's.
const RECORD_BYTES: u64 = 170;

/// Runs for three times `time`: half the raw measurement, the engine, the other half.
pub(crate) fn run(dir: &Path, settings: &Settings, writers: u64, time: Duration) -> Batch {
    let both = |bytes: f64| (raw(dir, bytes, false, time / 2), raw(dir, bytes, true, time / 2));
    let before = both((RECORD_BYTES * writers) as f64);
    let mut batch = engine(dir, settings, writers, time);
    let after = both(batch.bytes_per_group);
    batch.raw_growing_per_s = f64::midpoint(before.0, after.0);
    batch.raw_preallocated_per_s = f64::midpoint(before.1, after.1);
    batch
}

fn engine(dir: &Path, settings: &Settings, writers: u64, time: Duration) -> Batch {
    // A node's runtime: the engine's tasks and the requests share one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the system gives a runtime");
    let counts = Arc::new(Counts::default());
    let disk = CountingDisk { inner: StdDisk::new(dir), counts: Arc::clone(&counts) };
    let tasks = Arc::new(Tasks::new());
    runtime.block_on(async move {
        let engine = open_engine(Arc::new(disk), settings, CommitlogSync::Batch, &tasks);
        counts.reset();
        let latencies = Arc::new(Mutex::new(histogram()));
        let (start, cpu) = (now(), meter::cpu());
        let mut running = JoinSet::new();
        for writer in 0..writers {
            let (engine, latencies) = (engine.clone(), Arc::clone(&latencies));
            running.spawn(async move {
                let mut bytes = [0; crate::subject::VALUE_BYTES];
                let mut n = 0;
                while now() - start < time {
                    let asked = now();
                    value(n, 0, &mut bytes);
                    let write = write(1_700_000_000_000_000, &key((writer << 32) + n), &bytes);
                    match engine.apply(write).expect("the engine takes writes") {
                        Applied::Now => panic!("batch acknowledges only what is synced"),
                        Applied::After(durable) => durable.await.expect("the log can be synced"),
                    }
                    let took = u64::try_from((now() - asked).as_nanos()).unwrap_or(u64::MAX);
                    latencies.lock().expect("no writer panics").saturating_record(took);
                    n += 1;
                }
                n
            });
        }
        let mut writes = 0;
        while let Some(ended) = running.join_next().await {
            writes += ended.expect("no writer panics");
        }
        let (wall, cpu) = ((now() - start).as_secs_f64(), meter::cpu() - cpu);
        let syncs = counts.syncs.load(Ordering::Relaxed) as f64;
        let batch = Batch {
            writers,
            writes_per_s: writes as f64 / wall,
            syncs_per_s: syncs / wall,
            records_per_group: writes as f64 / syncs,
            bytes_per_group: counts.bytes.load(Ordering::Relaxed) as f64 / syncs,
            grows: counts.growing.load(Ordering::Relaxed) * 2
                > counts.writes.load(Ordering::Relaxed),
            cpu_us: cpu.as_secs_f64() * 1e6 / writes as f64,
            latency: meter::latency(&latencies.lock().expect("no writer panics")),
            ..Batch::default()
        };
        engine.shutdown().await.expect("the engine stops");
        batch
    })
}

/// Appends of `bytes` with a sync each, per second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a group's bytes are a small positive number"
)]
fn raw(dir: &Path, bytes: f64, preallocated: bool, time: Duration) -> f64 {
    const PREALLOCATED_BYTES: usize = 32 << 20;
    let file = tempfile::tempfile_in(dir).expect("a file can be made");
    if preallocated {
        // Written, not only reserved: a reserved block's first write changes the file's extents, and a sync waits for it.
        file.write_all_at(&vec![0; PREALLOCATED_BYTES], 0).expect("the disk has room");
    }
    file.sync_all().expect("the disk syncs");
    let data = vec![0x5a; bytes.max(1.0) as usize];
    let (start, mut syncs, mut offset) = (now(), 0_u64, 0_u64);
    while now() - start < time {
        file.write_all_at(&data, offset).expect("the disk has room");
        file.sync_data().expect("the disk syncs");
        syncs += 1;
        offset += data.len() as u64;
        if preallocated && offset + data.len() as u64 > PREALLOCATED_BYTES as u64 {
            offset = 0;
        }
    }
    syncs as f64 / (now() - start).as_secs_f64()
}

/// What went to the commit log's files.
#[derive(Default)]
struct Counts {
    syncs: AtomicU64,
    bytes: AtomicU64,
    writes: AtomicU64,
    growing: AtomicU64,
}

impl Counts {
    fn reset(&self) {
        for count in [&self.syncs, &self.bytes, &self.writes, &self.growing] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// The real disk, counting what the commit log does.
struct CountingDisk {
    inner: StdDisk,
    counts: Arc<Counts>,
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, create)?;
        if !path.components().any(|part| part.as_os_str() == "commitlog") {
            return Ok(inner);
        }
        let len = AtomicU64::new(inner.len()?);
        Ok(Arc::new(CountingFile { inner, counts: Arc::clone(&self.counts), len }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
}

struct CountingFile {
    inner: Arc<dyn File>,
    counts: Arc<Counts>,
    /// As far as this handle knows.
    len: AtomicU64,
}

impl File for CountingFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        if self.len.fetch_max(end, Ordering::Relaxed) < end {
            self.counts.growing.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.inner.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.len.fetch_max(len, Ordering::Relaxed);
        self.inner.set_len(len)
    }
}
