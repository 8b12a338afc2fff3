//! What reading a disk costs a node.
//!
//! A node has one thread, and a read of a block holds it up. Simulated time cannot pass inside a call, so the time that
//! reads would have taken is added up here, and the node's outgoing bytes are held back until it would have been done:
//! whoever asked hears late, and so does everyone whose answer stands behind it. Reads of background jobs hold up nobody;
//! their time is the job's (`SimBackground`).
//!
//! CAVEAT: one simulated order stands for many, so a disk here is asked far less often than the one it stands for. A read
//! takes its full time all the same: latencies are those of a disk without a queue in front of it.

use super::clock::Now;
use helenus_node::seams::background::{Background, Completion, Job, Lane, SimBackground};
use helenus_node::seams::disk::{Disk, File, SimDisk};
use helenus_node::seams::net::{BoxFuture, BoxIo, Listener, Net};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a read takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCost {
    /// Before its bytes move.
    pub latency: Duration,
    /// How fast they then move. Never 0.
    pub bytes_per_s: u64,
}

/// How long one node's thread is held up by reads.
#[derive(Debug)]
pub struct Busy {
    now: Arc<Now>,
    cost: ReadCost,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Reads cost their time. They do not before the scenario's clock starts, nor when it has stopped.
    charged: bool,
    /// Jobs under way: what they read is not the node's to wait for.
    jobs: u32,
    /// The thread has nothing more to wait for from then on, by the simulation's time.
    until: Duration,
}

impl Busy {
    /// For a node whose reads cost this.
    pub fn new(now: Arc<Now>, cost: ReadCost) -> Busy {
        Busy { now, cost, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    /// From here on reads cost their time, or none any more.
    pub fn charge(&self, charged: bool) {
        let mut inner = self.lock();
        (inner.charged, inner.until) = (charged, Duration::ZERO);
    }

    fn note_read(&self, bytes: usize) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.cost.bytes_per_s.max(1));
        let moving = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.now.elapsed();
        let mut inner = self.lock();
        if inner.charged && inner.jobs == 0 {
            inner.until = inner.until.max(now) + self.cost.latency + moving;
        }
    }

    /// How long the thread still is held up.
    fn left(&self) -> Duration {
        let now = self.now.elapsed();
        self.lock().until.saturating_sub(now)
    }
}

/// A node's disk, whose reads hold up its thread.
#[derive(Debug, Clone)]
pub struct BusyDisk {
    /// The disk.
    pub disk: SimDisk,
    /// Whom its reads hold up.
    pub busy: Arc<Busy>,
}

impl Disk for BusyDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, create)?;
        Ok(Arc::new(BusyFile { file, busy: Arc::clone(&self.busy) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
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

struct BusyFile {
    file: Arc<dyn File>,
    busy: Arc<Busy>,
}

impl File for BusyFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(offset, buf)?;
        self.busy.note_read(read);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// A node's background, whose jobs' reads hold up nobody.
#[derive(Debug)]
pub struct BusyBackground {
    /// The background.
    pub background: SimBackground,
    /// Whom the jobs' reads would hold up.
    pub busy: Arc<Busy>,
}

impl Background for BusyBackground {
    fn submit(&self, lane: Lane, cost_bytes: u64, job: Job) -> Completion {
        let busy = Arc::clone(&self.busy);
        let job = move || {
            busy.lock().jobs += 1;
            job();
            busy.lock().jobs -= 1;
        };
        self.background.submit(lane, cost_bytes, Box::new(job))
    }
}

/// A node's network, whose outgoing bytes wait for its thread.
#[derive(Debug, Clone)]
pub struct BusyNet<N> {
    /// The network.
    pub net: N,
    /// Whom its bytes wait for.
    pub busy: Arc<Busy>,
}

impl<N: Net> Net for BusyNet<N> {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        let (connecting, busy) = (self.net.connect(addr), Arc::clone(&self.busy));
        Box::pin(async move { Ok(held(connecting.await?, busy)) })
    }

    fn listen(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (listening, busy) = (self.net.listen(addr), Arc::clone(&self.busy));
        Box::pin(async move {
            let listener = listening.await?;
            Ok(Box::new(BusyListener { listener, busy }) as Box<dyn Listener>)
        })
    }
}

struct BusyListener {
    listener: Box<dyn Listener>,
    busy: Arc<Busy>,
}

impl Listener for BusyListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async move {
            let (io, from) = self.listener.accept().await?;
            Ok((held(io, Arc::clone(&self.busy)), from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream whose writes wait until the node's thread is free.
struct Held {
    io: BoxIo,
    busy: Arc<Busy>,
    /// A write that waits. It waits for what was read before it, not for what is read meanwhile.
    waits: Option<Pin<Box<Sleep>>>,
}

fn held(io: BoxIo, busy: Arc<Busy>) -> BoxIo {
    Box::new(Held { io, busy, waits: None })
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waits.is_none() {
            let left = self.busy.left();
            if left > Duration::ZERO {
                self.waits = Some(Box::pin(tokio::time::sleep(left)));
            }
        }
        if let Some(waits) = &mut self.waits {
            ready!(waits.as_mut().poll(cx));
            self.waits = None;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use helenus_node::seams::disk::Faults;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    /// Reads take 3 ms and a millisecond more per thousand bytes.
    fn busy(now: &Arc<Now>) -> Arc<Busy> {
        let cost = ReadCost { latency: Duration::from_millis(3), bytes_per_s: 1_000_000 };
        let busy = Busy::new(Arc::clone(now), cost);
        busy.charge(true);
        Arc::new(busy)
    }

    fn file(busy: &Arc<Busy>) -> Arc<dyn File> {
        let disk = SimDisk::new(1, Faults::default());
        let disk = BusyDisk { disk, busy: Arc::clone(busy) };
        let file = disk.open(Path::new("x"), true).unwrap();
        file.write_at(0, &[7; 5000]).unwrap();
        file
    }

    #[test]
    fn reads_add_up_and_time_takes_off() {
        let now = Arc::new(Now::default());
        let busy = busy(&now);
        let file = file(&busy);
        assert_eq!(busy.left(), Duration::ZERO, "writes hold up nobody");
        file.read_at(0, &mut [0; 2000]).unwrap();
        file.read_at(0, &mut [0; 9000]).unwrap();
        assert_eq!(busy.left(), Duration::from_millis(5 + 8));
        now.advance(Duration::from_millis(10));
        assert_eq!(busy.left(), Duration::from_millis(3));
        now.advance(Duration::from_secs(1));
        file.read_at(0, &mut [0; 1000]).unwrap();
        assert_eq!(busy.left(), Duration::from_millis(4), "idle time is no credit");
        busy.charge(false);
        file.read_at(0, &mut [0; 1000]).unwrap();
        assert_eq!(busy.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_background_job_reads_on_its_own_time() {
        let now = Arc::new(Now::default());
        let busy = busy(&now);
        let file = file(&busy);
        let background = SimBackground::new(SimDisk::new(2, Faults::default()));
        let background = BusyBackground { background, busy: Arc::clone(&busy) };
        let job = move || drop(file.read_at(0, &mut [0; 2000]));
        background.submit(Lane::Compaction, 0, Box::new(job)).await.unwrap();
        assert_eq!(busy.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_wait_for_what_was_read_before_them() {
        let now = Arc::new(Now::default());
        let busy = busy(&now);
        let file = file(&busy);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = held(Box::new(ours), Arc::clone(&busy));
        let began = Instant::now();
        file.read_at(0, &mut [0; 2000]).unwrap();
        let writing = ours.write_all(b"late");
        let reading = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            // What is read while it waits does not hold it up again.
            file.read_at(0, &mut [0; 5000]).unwrap();
            let mut word = [0; 4];
            theirs.read_exact(&mut word).await.unwrap();
            (word, began.elapsed().as_millis())
        };
        let (written, read) = tokio::join!(writing, reading);
        written.unwrap();
        assert_eq!(read, (*b"late", 5));
    }
}
