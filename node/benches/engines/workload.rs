//! The work: what every engine is asked to do, in the same order, with the same bytes.
//!
//! Keys are 16 random bytes; values are 100 bytes, half of them random. The clock is read once an operation, and an
//! operation's latency is the time between two readings: it holds the making of the next key and value as well (some
//! tens of nanoseconds). What that takes is measured on its own and taken off the CPU figures, not off the latencies.

use crate::meter::{Figures, Meter, clock_ns, cpu, disk_bytes_at_rest, histogram, now};
use crate::subject::{self, Key, Settings, Subject, VALUE_BYTES, Value};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// How much work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) keys: u64,
    pub(crate) reads: u64,
    pub(crate) overwrites: u64,
    pub(crate) threads: u64,
    /// Puts that one wake of a node brings.
    pub(crate) wake: u64,
}

/// What a child process reports of one engine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) engine: String,
    pub(crate) settings: String,
    pub(crate) remarks: Vec<String>,
    pub(crate) clock_ns: f64,
    pub(crate) phases: Vec<Figures>,
}

/// Load, gets, misses, scan, overwrites, gets, close, reopen.
pub(crate) fn run(engine: &str, dir: &Path, settings: &Settings, work: &Work) -> Round {
    let subject = subject::open(engine, dir, settings);
    let mut round = Round {
        engine: engine.to_owned(),
        settings: subject.describe(),
        clock_ns: clock_ns(),
        ..Round::default()
    };
    let own = Harness::measure();
    let mut note = |mut figures: Figures, own_ns: f64| {
        figures.harness_cpu_s = own_ns * figures.ops as f64 / 1e9;
        // What writes leaves something to remove; between closing and reopening nothing should wait.
        figures.disk_bytes = if figures.settle_s > 0.0 { disk_bytes_at_rest(dir) } else { 0 };
        round.phases.push(figures);
    };
    note(puts(subject.as_ref(), "load", work, work.keys, 0), own.put_ns);
    let loaded = subject.remarks();
    note(gets(subject.as_ref(), "get", work, 0), own.get_ns);
    note(misses(subject.as_ref(), work), own.miss_ns);
    note(scan(subject.as_ref(), work), own.scan_ns);
    note(puts(subject.as_ref(), "overwrite", work, work.overwrites, 1), own.put_ns);
    note(gets(subject.as_ref(), "get again", work, work.overwrites), own.get_ns);
    let churned = subject.remarks();
    let meter = Meter::start();
    subject.close();
    note(meter.end("close", 1, &histogram()), 0.0);
    let meter = Meter::start();
    let subject = subject::open(engine, dir, settings);
    let there = subject.get(&key(0), &mut |_| {});
    note(meter.end("reopen", 1, &histogram()), 0.0);
    assert!(there, "{engine} lost a key over a restart");
    subject.close();
    round.remarks = [("loaded", loaded), ("overwritten", churned)]
        .into_iter()
        .filter(|(_, remark)| !remark.is_empty())
        .map(|(when, remark)| format!("{when}: {remark}"))
        .collect();
    round
}

/// Writes `keys` and hands them to the system; the caller then ends the process without closing the engine.
pub(crate) fn write_log(engine: &str, dir: &Path, settings: &Settings, keys: u64) {
    let subject = subject::open(engine, dir, settings);
    let mut bytes = [0; VALUE_BYTES];
    for n in 0..keys {
        value(n, 0, &mut bytes);
        subject.put(&key(n), &bytes);
    }
    subject.wake();
    // Not closed: that would flush, and leave no log.
    std::mem::forget(subject);
}

/// Opens what [`write_log`] left.
pub(crate) fn replay(engine: &str, dir: &Path, settings: &Settings, keys: u64) -> Round {
    let mut round = Round { engine: engine.to_owned(), ..Round::default() };
    let meter = Meter::start();
    let subject = subject::open(engine, dir, settings);
    assert!(subject.get(&key(0), &mut |_| {}), "{engine} lost its first record");
    let figures = meter.end("replay", keys, &histogram());
    let found = (0..keys).filter(|n| subject.get(&key(*n), &mut |_| {})).count() as u64;
    assert_eq!(found, keys, "{engine} lost records that it had handed to the system");
    round.phases.push(figures);
    round.remarks.push(format!("replayed: {}", subject.remarks()));
    subject.close();
    round
}

/// Puts `version` of the first `count` keys, in random order, and waits for what they set off.
fn puts(subject: &dyn Subject, name: &str, work: &Work, count: u64, version: u64) -> Figures {
    let mut meter = Meter::start();
    let latencies = in_threads(work.threads, count, |shift, latencies| {
        let mut bytes = [0; VALUE_BYTES];
        let mut last = now();
        for i in (shift..count).step_by(step(work.threads)) {
            value(i, version, &mut bytes);
            subject.put(&key(i), &bytes);
            if (i / work.threads) % work.wake == work.wake - 1 {
                subject.wake();
            }
            let end = now();
            latencies.saturating_record(nanos(end - last));
            last = end;
        }
        subject.wake();
    });
    meter.worked();
    subject.settle();
    meter.end(name, count, &latencies)
}

/// Gets of keys that are there, in random order. The first `overwritten` keys must have their second version.
fn gets(subject: &dyn Subject, name: &str, work: &Work, overwritten: u64) -> Figures {
    let wrong = AtomicU64::new(0);
    let meter = Meter::start();
    let latencies = in_threads(work.threads, work.reads, |shift, latencies| {
        let mut failures = 0;
        let mut last = now();
        for i in (shift..work.reads).step_by(step(work.threads)) {
            let n = scatter(i, work.keys);
            let expected = stamp(n, u64::from(n < overwritten));
            let mut right = false;
            let found = subject.get(&key(n), &mut |value| right = value.starts_with(&expected));
            failures += u64::from(!found || !right);
            let end = now();
            latencies.saturating_record(nanos(end - last));
            last = end;
        }
        wrong.fetch_add(failures, Ordering::Relaxed);
    });
    let figures = meter.end(name, work.reads, &latencies);
    let wrong = wrong.into_inner();
    assert_eq!(wrong, 0, "{wrong} keys had no value, or another one than was written last");
    figures
}

/// Gets of keys that nobody wrote.
fn misses(subject: &dyn Subject, work: &Work) -> Figures {
    let hits = AtomicU64::new(0);
    let meter = Meter::start();
    let latencies = in_threads(work.threads, work.reads, |shift, latencies| {
        let mut found = 0;
        let mut last = now();
        for i in (shift..work.reads).step_by(step(work.threads)) {
            found += u64::from(subject.get(&key(work.keys + i), &mut |_| {}));
            let end = now();
            latencies.saturating_record(nanos(end - last));
            last = end;
        }
        hits.fetch_add(found, Ordering::Relaxed);
    });
    let figures = meter.end("miss", work.reads, &latencies);
    assert_eq!(hits.into_inner(), 0, "a key that was never written was found");
    figures
}

/// Everything, in the engine's order. Every value is hashed, so none can be skipped.
fn scan(subject: &dyn Subject, work: &Work) -> Figures {
    let (mut entries, mut sum) = (0, 0_u64);
    let meter = Meter::start();
    subject.scan(&mut |key, value| {
        entries += 1;
        sum = sum.wrapping_add(digest(key, value));
    });
    let figures = meter.end("scan", work.keys, &histogram());
    assert_eq!(entries, work.keys, "the scan gave another number of entries than there are keys");
    let mut bytes = [0; VALUE_BYTES];
    let expected = (0..work.keys).fold(0_u64, |sum, n| {
        value(n, 0, &mut bytes);
        sum.wrapping_add(digest(&key(n), &bytes))
    });
    assert_eq!(sum, expected, "the scan gave other bytes than were written");
    figures
}

/// What the workload itself costs an operation, in nanoseconds of CPU.
struct Harness {
    put_ns: f64,
    get_ns: f64,
    miss_ns: f64,
    scan_ns: f64,
}

impl Harness {
    fn measure() -> Harness {
        use std::hint::black_box;
        let mut bytes = [0; VALUE_BYTES];
        let put_ns = per_op_ns(true, |i| {
            value(i, 0, &mut bytes);
            black_box((key(i), &bytes));
        });
        let get_ns = per_op_ns(true, |i| {
            black_box((key(scatter(i, OWN_OPS)), stamp(i, 0)));
        });
        let miss_ns = per_op_ns(true, |i| {
            black_box(key(i));
        });
        let (entry, filled) = (key(1), [7; VALUE_BYTES]);
        let scan_ns = per_op_ns(false, |_| {
            black_box(digest(&entry, black_box(&filled)));
        });
        Harness { put_ns, get_ns, miss_ns, scan_ns }
    }
}

const OWN_OPS: u64 = 500_000;

fn per_op_ns(with_clock: bool, mut op: impl FnMut(u64)) -> f64 {
    let mut latencies = histogram();
    let start = cpu();
    let mut last = now();
    for i in 0..OWN_OPS {
        op(i);
        if with_clock {
            let end = now();
            latencies.saturating_record(nanos(end - last));
            last = end;
        }
    }
    (cpu() - start).as_nanos() as f64 / OWN_OPS as f64
}

/// Runs `work` once a thread, with the thread's number; gives all their latencies.
fn in_threads(
    threads: u64,
    ops: u64,
    work: impl Fn(u64, &mut Histogram<u64>) + Sync,
) -> Histogram<u64> {
    let mut all = histogram();
    if threads == 1 {
        work(0, &mut all);
        return all;
    }
    let work = &work;
    std::thread::scope(|scope| {
        let run = |shift| {
            scope.spawn(move || {
                let mut latencies = histogram();
                work(shift, &mut latencies);
                latencies
            })
        };
        let running: Vec<_> = (0..threads.min(ops)).map(run).collect();
        for thread in running {
            all.add(thread.join().expect("the workload does not panic"))
                .expect("all have one precision");
        }
    });
    all
}

fn step(threads: u64) -> usize {
    usize::try_from(threads).unwrap_or(1)
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Key number `n`: 16 bytes without an order.
pub(crate) fn key(n: u64) -> Key {
    let mut key = [0; 16];
    let (front, back) = key.split_at_mut(8);
    front.copy_from_slice(&mix(n).to_be_bytes());
    back.copy_from_slice(&mix(n ^ 0x5bd1_e995_9e37_79b9).to_be_bytes());
    key
}

/// The first bytes of a value say whose it is, and which version.
fn stamp(n: u64, version: u64) -> [u8; 8] {
    mix(n ^ ((version + 1) << 48)).to_le_bytes()
}

/// Half of it cannot be packed.
pub(crate) fn value(n: u64, version: u64, into: &mut Value) {
    into.fill(b'v');
    let mut noise = u64::from_le_bytes(stamp(n, version));
    for chunk in into.chunks_mut(8).take(VALUE_BYTES / 16) {
        chunk.copy_from_slice(&noise.to_le_bytes());
        noise = mix(noise);
    }
}

/// splitmix64's finaliser.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The `i`th of `keys` numbers, each once, in an order that jumps about.
fn scatter(i: u64, keys: u64) -> u64 {
    // A prime, so coprime to every number of keys below it.
    (i.wrapping_mul(2_654_435_761) + 12_345) % keys
}

fn digest(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64(value).wrapping_add(key.first_chunk().map_or(0, |key| u64::from_le_bytes(*key)))
}
