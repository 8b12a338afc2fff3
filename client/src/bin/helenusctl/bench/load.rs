//! Asking, and noting what came of it.

use crate::bench::cpu::Usage;
use crate::bench::keys::{Keys, Values};
use crate::bench::target::{Failed, Target};
use crate::context::Failure;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Operations that fell due and wait for a place. When it is full the schedule is late by that much, which latency
/// shows, since it counts from when an operation was due.
const BACKLOG: usize = 1 << 16;
/// Latencies beyond this are recorded as this.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// When operations start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each after the answer to the one before, `in_flight` side by side.
    Closed { in_flight: usize },
    /// On a schedule, `in_flight` at most side by side.
    Open { rate: f64, in_flight: usize },
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    Ops(u64),
}

/// A load, ready to run.
pub(crate) struct Load {
    pub(crate) target: Target,
    pub(crate) pace: Pace,
    pub(crate) warm_up: Duration,
    pub(crate) until: Until,
    pub(crate) read_share: f64,
    pub(crate) keys: Keys,
    pub(crate) values: Values,
    pub(crate) seed: u64,
    /// Set from outside to end the run early.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    /// The first of them, in full.
    pub(crate) first: String,
}

/// What was measured.
pub(crate) struct Measured {
    /// Latencies in nanoseconds.
    pub(crate) reads: Histogram<u64>,
    pub(crate) writes: Histogram<u64>,
    /// Reads that found nothing.
    pub(crate) absent: u64,
    pub(crate) errors: BTreeMap<&'static str, Errors>,
    pub(crate) elapsed: Duration,
    /// Open loop: operations that fell due while measuring and were never started.
    pub(crate) unstarted: u64,
    pub(crate) cpu: Usage,
    pub(crate) interrupted: bool,
}

impl Measured {
    /// What was measured in another round joins what was measured before.
    pub(crate) fn add(&mut self, other: Measured) -> Result<(), Failure> {
        let Measured { reads, writes, absent, errors, elapsed, unstarted, cpu, interrupted } =
            other;
        for (sum, more) in [(&mut self.reads, reads), (&mut self.writes, writes)] {
            sum.add(more).map_err(|error| {
                Failure::Here(format!("cannot add one round's latencies to another's: {error}"))
            })?;
        }
        self.absent += absent;
        for (kind, more) in errors {
            match self.errors.get_mut(kind) {
                Some(errors) => errors.count += more.count,
                None => drop(self.errors.insert(kind, more)),
            }
        }
        self.elapsed += elapsed;
        self.unstarted += unstarted;
        self.cpu.add(&cpu);
        self.interrupted |= interrupted;
        Ok(())
    }
}

/// Everything that the operations under way share. One thread, so a cell will do.
struct Shared {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    absent: u64,
    errors: BTreeMap<&'static str, Errors>,
    /// Operations begun that count.
    begun: u64,
    rng: SmallRng,
    keys: Keys,
}

/// Whether to go on, decided in one place for both loops.
struct Gate {
    measure_from: Instant,
    until: Until,
    stop: Arc<AtomicBool>,
}

impl Gate {
    fn end(&self) -> Option<Instant> {
        match self.until {
            Until::Elapsed(duration) => Some(self.measure_from + duration),
            Until::Ops(_) => None,
        }
    }

    fn open(&self, now: Instant, begun: u64) -> bool {
        let wanted = match self.until {
            Until::Elapsed(duration) => now < self.measure_from + duration,
            Until::Ops(ops) => begun < ops,
        };
        wanted && !self.stop.load(Ordering::Relaxed)
    }
}

impl Load {
    /// Runs the load and returns what was measured after the warm-up.
    pub(crate) async fn run(self, pids: &[u32], bar: &ProgressBar) -> Result<Measured, Failure> {
        let Load { target, pace, warm_up, until, read_share, keys, values, seed, stop } = self;
        let start = Instant::now();
        let gate = Gate { measure_from: start + warm_up, until, stop: Arc::clone(&stop) };
        let shared = RefCell::new(Shared {
            reads: histogram()?,
            writes: histogram()?,
            absent: 0,
            errors: BTreeMap::new(),
            begun: 0,
            rng: SmallRng::seed_from_u64(seed),
            keys,
        });
        let asker = Asker { target, read_share, values, shared: &shared, gate: &gate };
        let mut before = None;
        let due = {
            let work = async {
                match pace {
                    Pace::Closed { in_flight } => asker.closed(in_flight).await,
                    Pace::Open { rate, in_flight } => asker.open(rate, in_flight).await,
                }
            };
            let watch = watch(start, &gate, &shared, bar, pids, &mut before);
            tokio::select! {
                biased;
                due = work => due?,
                failed = watch => return Err(failed),
            }
        };
        let now = Instant::now();
        let after = Usage::read(pids)?;
        let before = before.unwrap_or_else(|| after.clone());
        let Shared { reads, writes, absent, errors, begun, .. } = shared.into_inner();
        Ok(Measured {
            reads,
            writes,
            absent,
            errors,
            elapsed: now.saturating_duration_since(gate.measure_from),
            unstarted: due.saturating_sub(begun),
            cpu: after.since(&before),
            interrupted: stop.load(Ordering::Relaxed),
        })
    }
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
        .map_err(|error| Failure::Here(format!("cannot make a histogram: {error}")))
}

/// Reads the CPU when measuring begins, moves the bar, and listens for Ctrl-C. Ends only by an error.
async fn watch(
    start: Instant,
    gate: &Gate,
    shared: &RefCell<Shared>,
    bar: &ProgressBar,
    pids: &[u32],
    before: &mut Option<Usage>,
) -> Failure {
    let tick = async {
        bar.set_message("warming up");
        let mut next = start;
        loop {
            let now = Instant::now();
            if now >= gate.measure_from && before.is_none() {
                bar.set_message("measuring");
                match Usage::read(pids) {
                    Ok(usage) => *before = Some(usage),
                    Err(failure) => return failure,
                }
            }
            let position = match gate.until {
                Until::Ops(_) => shared.borrow().begun,
                Until::Elapsed(_) => {
                    u64::try_from(now.duration_since(start).as_millis()).unwrap_or(u64::MAX)
                }
            };
            bar.set_position(position);
            next += Duration::from_millis(200);
            let wake = if before.is_none() { next.min(gate.measure_from) } else { next };
            sleep_until(wake).await;
        }
    };
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without the signal there is nothing to listen for; the run ends by itself.
            std::future::pending::<()>().await;
        }
        gate.stop.store(true, Ordering::Relaxed);
        std::future::pending::<Failure>().await
    };
    tokio::select! {
        biased;
        failure = tick => failure,
        failure = interrupt => failure,
    }
}

struct Asker<'a> {
    target: Target,
    read_share: f64,
    values: Values,
    shared: &'a RefCell<Shared>,
    gate: &'a Gate,
}

impl Asker<'_> {
    /// Returns how many operations that count fell due: in a closed loop, as many as were begun.
    async fn closed(&self, in_flight: usize) -> Result<u64, Failure> {
        let client = async || {
            loop {
                let now = Instant::now();
                if !self.gate.open(now, self.shared.borrow().begun) {
                    return;
                }
                self.one(now).await;
                // An error that needs no waiting (no connection, say) must not spin the loop.
                if Instant::now() == now {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        join_all((0..in_flight).map(|_| client())).await;
        Ok(self.shared.borrow().begun)
    }

    async fn open(&self, rate: f64, in_flight: usize) -> Result<u64, Failure> {
        let (sender, mut due) = mpsc::channel::<Instant>(BACKLOG);
        let schedule = Schedule { start: Instant::now(), rate, end: self.gate.end() };
        let pacer = schedule.run(sender, Arc::clone(&self.gate.stop))?;
        let mut under_way = FuturesUnordered::new();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        while self.gate.open(Instant::now(), self.shared.borrow().begun) {
            let room = under_way.len() < in_flight;
            tokio::select! {
                biased;
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                next = due.recv(), if room => match next {
                    Some(intended) => under_way.push(self.one(intended)),
                    None => break,
                },
                // Ctrl-C and the end are noticed even when nothing falls due.
                _ = tick.tick() => {}
            }
        }
        // The pacer stops when nobody listens; what is under way is waited for, because it counts.
        drop(due);
        while under_way.next().await.is_some() {}
        let begun = self.shared.borrow().begun;
        pacer.join().map_err(|_| Failure::Here("the pacer's thread panicked".to_owned()))?;
        match (self.gate.until, self.gate.stop.load(Ordering::Relaxed)) {
            (Until::Elapsed(duration), false) => Ok(whole(rate * duration.as_secs_f64())),
            _ => Ok(begun),
        }
    }

    /// One operation that was to start at `intended`.
    async fn one(&self, intended: Instant) {
        let counts = intended >= self.gate.measure_from;
        let (read, key, value) = {
            let shared = &mut *self.shared.borrow_mut();
            shared.begun += u64::from(counts);
            let read = self.read_share > 0.0 && shared.rng.random::<f64>() < self.read_share;
            let key = shared.keys.pick(&mut shared.rng);
            let value = (!read).then(|| self.values.pick(&mut shared.rng));
            (read, key, value)
        };
        let done: Result<bool, Failed> = match value {
            Some(value) => self.target.put(key, value).await.map(|()| false),
            None => self.target.get(key).await.map(|found| !found),
        };
        if !counts {
            return;
        }
        let latency_ns = u64::try_from(intended.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let shared = &mut *self.shared.borrow_mut();
        match done {
            Ok(absent) => {
                let histogram = if read { &mut shared.reads } else { &mut shared.writes };
                histogram.saturating_record(latency_ns.max(1));
                shared.absent += u64::from(absent);
            }
            Err(error) => {
                let kind = shared
                    .errors
                    .entry(error.kind())
                    .or_insert_with(|| Errors { count: 0, first: error.to_string() });
                kind.count += 1;
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and neither rates nor durations are negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// When operations of an open loop fall due.
struct Schedule {
    start: Instant,
    rate: f64,
    end: Option<Instant>,
}

impl Schedule {
    /// Says each operation's moment when it has come, from a thread of its own: tokio's timers round to milliseconds,
    /// which is longer than most operations take.
    fn run(
        self,
        due: mpsc::Sender<Instant>,
        stop: Arc<AtomicBool>,
    ) -> Result<std::thread::JoinHandle<()>, Failure> {
        let pace = move || {
            for index in 0u32.. {
                let intended = self.start + Duration::from_secs_f64(f64::from(index) / self.rate);
                if self.end.is_some_and(|end| intended >= end) {
                    return;
                }
                loop {
                    let early = intended.saturating_duration_since(Instant::now());
                    if early.is_zero() {
                        break;
                    }
                    if stop.load(Ordering::Relaxed) || due.is_closed() {
                        return;
                    }
                    // In steps, so that a slow schedule still hears that it is over.
                    std::thread::sleep(early.min(Duration::from_millis(100)));
                }
                if due.blocking_send(intended).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(pace)
            .map_err(|error| Failure::Here(format!("cannot start the pacer's thread: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_schedule_does_not_wait_for_answers() {
        let start = Instant::now();
        let schedule =
            Schedule { start, rate: 1000.0, end: Some(start + Duration::from_millis(50)) };
        let (sender, mut due) = mpsc::channel(BACKLOG);
        let pacer = schedule.run(sender, Arc::default()).unwrap();
        // Nobody takes anything until the schedule is over.
        pacer.join().unwrap();
        let mut moments = Vec::new();
        while let Some(intended) = due.recv().await {
            moments.push(intended.duration_since(start).as_millis());
        }
        assert_eq!(moments, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_slow_schedule_hears_that_it_is_over() {
        let schedule = Schedule { start: Instant::now(), rate: 0.001, end: None };
        let (sender, due) = mpsc::channel(BACKLOG);
        let pacer = schedule.run(sender, Arc::default()).unwrap();
        drop(due);
        pacer.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_closes_by_time_by_count_and_by_hand() {
        let measure_from = Instant::now();
        let gate = |until| Gate { measure_from, until, stop: Arc::default() };
        let timed = gate(Until::Elapsed(Duration::from_secs(1)));
        assert!(timed.open(measure_from, 1_000_000));
        assert!(!timed.open(measure_from + Duration::from_secs(1), 0));
        let counted = gate(Until::Ops(5));
        assert!(counted.open(measure_from + Duration::from_secs(99), 4));
        assert!(!counted.open(measure_from, 5));
        counted.stop.store(true, Ordering::Relaxed);
        assert!(!counted.open(measure_from, 0));
    }
}
