//! What a phase cost this process: time, CPU of all its threads, latencies, bytes written, memory, disk.
//!
//! CPU is `CLOCK_PROCESS_CPUTIME_ID`: user and system time of every thread, also of those that have ended. Written bytes
//! come in two kinds, from `/proc/self/io`:
//! - `write_bytes` counts a page of a file when it turns dirty. A log that is appended to in small pieces counts once for
//!   each time the kernel has written a page back in between, as the device sees it, and memory maps count. It is the
//!   honest one for write amplification, and the headline; it is 0 on tmpfs.
//! - `wchar` counts what went through `write` calls: what the engine itself asked for, whatever the kernel's timing.
//!
//! Each figure is 0 where the system does not give it.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The one clock of the benchmark.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine, not a simulation")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What one phase cost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) phase: String,
    pub(crate) ops: u64,
    /// Until the last operation had returned.
    pub(crate) wall_s: f64,
    /// From then until the engine had nothing left to do in the background.
    pub(crate) settle_s: f64,
    /// All threads, settling included.
    pub(crate) cpu_s: f64,
    /// Of it, what the workload itself took: keys, values, clocks, histograms.
    pub(crate) harness_cpu_s: f64,
    pub(crate) latency: Latency,
    pub(crate) write_bytes: u64,
    pub(crate) wchar: u64,
    /// Highest resident memory during the phase.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) disk_bytes: u64,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Figures {
    /// Operations per second, settling included.
    pub(crate) fn rate(&self) -> f64 {
        self.ops as f64 / (self.wall_s + self.settle_s)
    }

    /// Operations per second as the client saw it.
    pub(crate) fn client_rate(&self) -> f64 {
        self.ops as f64 / self.wall_s
    }

    /// CPU microseconds an operation, without the workload's own.
    pub(crate) fn cpu_us(&self) -> f64 {
        (self.cpu_s - self.harness_cpu_s).max(0.0) * 1e6 / self.ops as f64
    }
}

/// Latencies in nanoseconds, up to a minute; three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("the bounds and three digits are valid")
}

pub(crate) fn latency(of: &Histogram<u64>) -> Latency {
    let at = |quantile| of.value_at_quantile(quantile) as f64 / 1e3;
    Latency { p50: at(0.5), p99: at(0.99), p99_9: at(0.999), max: of.max() as f64 / 1e3 }
}

/// A phase under way.
pub(crate) struct Meter {
    start: Instant,
    cpu: Duration,
    io: Io,
    worked: Option<Instant>,
}

impl Meter {
    pub(crate) fn start() -> Meter {
        reset_peak_rss();
        Meter { io: Io::read(), cpu: cpu(), start: now(), worked: None }
    }

    /// The last operation has returned; the engine may still have work in the background.
    pub(crate) fn worked(&mut self) {
        self.worked = Some(now());
    }

    pub(crate) fn end(self, phase: &str, ops: u64, latencies: &Histogram<u64>) -> Figures {
        let end = now();
        let worked = self.worked.unwrap_or(end);
        let io = Io::read();
        Figures {
            phase: phase.to_owned(),
            ops,
            wall_s: (worked - self.start).as_secs_f64(),
            settle_s: (end - worked).as_secs_f64(),
            cpu_s: cpu().saturating_sub(self.cpu).as_secs_f64(),
            harness_cpu_s: 0.0,
            latency: latency(latencies),
            write_bytes: io.write_bytes.saturating_sub(self.io.write_bytes),
            wchar: io.wchar.saturating_sub(self.io.wchar),
            peak_rss_bytes: status_kib("VmHWM:") << 10,
            disk_bytes: 0,
        }
    }
}

/// User and system time of all threads of this process.
pub(crate) fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(spent.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or_default(), nanos)
}

/// What one reading of the clock costs, in nanoseconds.
pub(crate) fn clock_ns() -> f64 {
    const READINGS: u32 = 1_000_000;
    let start = now();
    for _ in 0..READINGS {
        std::hint::black_box(now());
    }
    start.elapsed().as_nanos() as f64 / f64::from(READINGS)
}

#[derive(Debug, Clone, Copy, Default)]
struct Io {
    write_bytes: u64,
    wchar: u64,
}

impl Io {
    fn read() -> Io {
        let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        Io { write_bytes: field(&text, "write_bytes:"), wchar: field(&text, "wchar:") }
    }
}

fn status_kib(name: &str) -> u64 {
    field(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), name)
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// From here on the peak is this phase's own. Where it is not allowed, peaks are those since the start.
fn reset_peak_rss() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// [`disk_bytes`] once they have stopped changing: engines remove what they no longer need a little after they need it no
/// more. Not waited for without end: what then is still there is there.
pub(crate) fn disk_bytes_at_rest(dir: &Path) -> u64 {
    const STEP: Duration = Duration::from_millis(50);
    const SAME_STEPS: u32 = 6;
    let (mut bytes, mut same) = (disk_bytes(dir), 0);
    for _ in 0..100 {
        std::thread::sleep(STEP);
        let before = std::mem::replace(&mut bytes, disk_bytes(dir));
        same = if before == bytes { same + 1 } else { 0 };
        if same == SAME_STEPS {
            break;
        }
    }
    bytes
}

/// Bytes that a directory takes on its disk: blocks, not lengths, so preallocation counts and holes do not.
fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
