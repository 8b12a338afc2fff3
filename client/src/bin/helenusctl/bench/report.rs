//! What was measured, for people and for programs.

use crate::bench::Bench;
use crate::bench::keys::Distribution;
use crate::bench::load::{Errors, Measured};
use crate::bench::target::Protocol;
use crate::out::{Out, cell};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies of one kind of operation, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    ops: u64,
    ops_per_s: f64,
    mean_us: f64,
    p50_us: f64,
    p95_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

#[derive(Debug, Serialize)]
struct ServerCpu {
    pid: u32,
    us_per_op: f64,
    cores: f64,
}

/// CPU time per operation that was begun, failed ones included.
#[derive(Debug, Serialize)]
struct Cpu {
    client_us_per_op: f64,
    servers: Vec<ServerCpu>,
    total_us_per_op: f64,
}

/// The whole result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    protocol: Protocol,
    table: String,
    /// `closed` or `open`.
    r#loop: &'static str,
    in_flight: usize,
    /// Open loop: operations per second that fell due.
    rate: Option<f64>,
    level: String,
    value_bytes: u64,
    read_share: f64,
    keys: u64,
    distribution: Distribution,
    seed: u64,
    elapsed_s: f64,
    /// Operations that succeeded.
    pub(crate) ops: u64,
    pub(crate) ops_per_s: f64,
    write: Option<Latency>,
    read: Option<Latency>,
    /// Reads that found nothing.
    absent: u64,
    /// By kind.
    pub(crate) errors: BTreeMap<&'static str, Errors>,
    /// Open loop: operations that fell due and were never started. They are in no percentile.
    unstarted: u64,
    cpu: Cpu,
    /// Ctrl-C ended it early.
    interrupted: bool,
}

/// Zero when there is nothing to divide by.
fn per(amount: f64, count: f64) -> f64 {
    if count > 0.0 { amount / count } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a bench are below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Latency {
    fn of(histogram: &Histogram<u64>, elapsed: Duration) -> Option<Latency> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1000.0;
        Some(Latency {
            ops: histogram.len(),
            ops_per_s: per(float(histogram.len()), elapsed.as_secs_f64()),
            mean_us: histogram.mean() / 1000.0,
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: float(histogram.max()) / 1000.0,
        })
    }
}

impl Report {
    pub(super) fn new(bench: &Bench, protocol: Protocol, measured: Measured) -> Report {
        let Measured { reads, writes, absent, errors, elapsed, unstarted, cpu, interrupted } =
            measured;
        let ops = reads.len() + writes.len();
        let all = float(ops + errors.values().map(|errors| errors.count).sum::<u64>());
        let seconds = elapsed.as_secs_f64();
        let servers: Vec<ServerCpu> = cpu
            .servers
            .iter()
            .map(|(pid, used)| ServerCpu {
                pid: *pid,
                us_per_op: per(used.as_secs_f64() * 1e6, all),
                cores: per(used.as_secs_f64(), seconds),
            })
            .collect();
        let client_us_per_op = per(cpu.own.as_secs_f64() * 1e6, all);
        let total_us_per_op =
            client_us_per_op + servers.iter().map(|server| server.us_per_op).sum::<f64>();
        Report {
            protocol,
            table: format!("{}.{}", bench.table.keyspace, bench.table.table),
            r#loop: if bench.rate.is_some() { "open" } else { "closed" },
            in_flight: bench.in_flight(),
            rate: bench.rate,
            level: bench.level.to_string(),
            value_bytes: bench.value_size,
            read_share: bench.read_share,
            keys: bench.keys,
            distribution: bench.distribution,
            seed: bench.seed,
            elapsed_s: seconds,
            ops,
            ops_per_s: per(float(ops), seconds),
            write: Latency::of(&writes, elapsed),
            read: Latency::of(&reads, elapsed),
            absent,
            errors,
            unstarted,
            cpu: Cpu { client_us_per_op, servers, total_us_per_op },
            interrupted,
        }
    }

    pub(crate) fn text(&self, out: &Out) -> String {
        let pace = match self.rate {
            Some(rate) => format!("open loop, {rate} per second due"),
            None => format!("closed loop, {} in flight", self.in_flight),
        };
        let mut text = format!(
            "{} of {} at {}: {pace}; values of {} bytes; {:.0} s{}\n\n",
            self.protocol,
            self.table,
            self.level,
            self.value_bytes,
            self.elapsed_s,
            if self.interrupted { " (interrupted)" } else { "" }
        );
        let columns = ["", ">ops", ">ops/s", ">p50", ">p95", ">p99", ">p99.9", ">max"];
        let mut table = out.table(&columns);
        for (name, latency) in [("write", &self.write), ("read", &self.read)] {
            let Some(it) = latency else { continue };
            let mut row = vec![cell(name, false), cell(it.ops, false)];
            row.push(cell(format!("{:.0}", it.ops_per_s), false));
            let quantiles = [it.p50_us, it.p95_us, it.p99_us, it.p999_us, it.max_us];
            row.extend(quantiles.map(|us| cell(time(us), false)));
            table.add_row(row);
        }
        if self.ops > 0 {
            text += &format!("{}\n", table.trim_fmt());
        }
        if self.absent > 0 {
            text +=
                &format!("\n{} reads found nothing; --load writes every key first\n", self.absent);
        }
        for (kind, errors) in &self.errors {
            text += &format!("\n{} errors: {kind} (the first: {})\n", errors.count, errors.first);
        }
        if self.unstarted > 0 {
            text += &format!(
                "\n{} operations fell due and were never started: the cluster cannot keep this rate, and the percentiles leave them out\n",
                self.unstarted
            );
        }
        text + &self.cpu()
    }

    fn cpu(&self) -> String {
        let mut text = format!("\nCPU per operation: client {:.1} us", self.cpu.client_us_per_op);
        for server in &self.cpu.servers {
            text += &format!(
                ", pid {} {:.1} us ({:.2} cores)",
                server.pid, server.us_per_op, server.cores
            );
        }
        if !self.cpu.servers.is_empty() {
            text += &format!(", together {:.1} us", self.cpu.total_us_per_op);
        }
        text + "\n"
    }
}

/// What one protocol's figures are, divided by those of the one that was named first.
#[derive(Debug, Serialize)]
struct Ratio {
    protocol: Protocol,
    to: Protocol,
    ops_per_s: f64,
    /// All processes that were counted.
    cpu_us_per_op: f64,
}

/// The runs of several protocols, side by side.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    runs: Vec<Report>,
    ratios: Vec<Ratio>,
}

impl Comparison {
    pub(super) fn of(runs: Vec<Report>) -> Comparison {
        let ratio = |run: &Report, first: &Report| Ratio {
            protocol: run.protocol,
            to: first.protocol,
            ops_per_s: per(run.ops_per_s, first.ops_per_s),
            cpu_us_per_op: per(run.cpu.total_us_per_op, first.cpu.total_us_per_op),
        };
        let ratios = match runs.split_first() {
            Some((first, others)) => others.iter().map(|run| ratio(run, first)).collect(),
            None => Vec::new(),
        };
        Comparison { runs, ratios }
    }

    pub(super) fn runs(&self) -> &[Report] {
        &self.runs
    }

    pub(super) fn text(&self, out: &Out) -> String {
        let mut text: Vec<String> = self.runs.iter().map(|run| run.text(out)).collect();
        text.extend(self.ratios.iter().map(|ratio| {
            format!(
                "{} compared with {}: {:.2} x the operations per second, {:.2} x the CPU per operation\n",
                ratio.protocol, ratio.to, ratio.ops_per_s, ratio.cpu_us_per_op
            )
        }));
        text.join("\n")
    }
}

/// `85 us`, `1.25 ms`, `2.5 s`.
fn time(us: f64) -> String {
    if us < 1000.0 {
        format!("{us:.0} us")
    } else if us < 1_000_000.0 {
        format!("{:.2} ms", us / 1000.0)
    } else {
        format!("{:.2} s", us / 1_000_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_histograms() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for us in 1..=1000u64 {
            histogram.record(us * 1000).unwrap();
        }
        let latency = Latency::of(&histogram, Duration::from_secs(2)).unwrap();
        let near = |seen: f64, expected: f64| (seen / expected - 1.0).abs() < 0.002;
        assert!(near(latency.p50_us, 500.0) && near(latency.p99_us, 990.0), "{latency:?}");
        assert!(near(latency.p999_us, 999.0) && near(latency.max_us, 1000.0), "{latency:?}");
        assert!(near(latency.ops_per_s, 500.0));
        histogram.reset();
        assert!(Latency::of(&histogram, Duration::ZERO).is_none());
    }

    #[test]
    fn times_have_units_that_fit() {
        assert_eq!([time(85.4), time(1250.0), time(2.5e6)], ["85 us", "1.25 ms", "2.50 s"]);
    }
}
