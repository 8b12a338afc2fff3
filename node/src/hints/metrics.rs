//! The store's metrics, read from its accounts at each scrape: there is one count of everything, and this shows it.

use super::{HintStore, PendingHints};
use helenus_core::NodeId;
use helenus_core::hint::{Account, Loss};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// Register it with `Registry::register_collector`. Labels are bounded: targets are members of the cluster, outcomes
/// and reasons are fixed.
#[derive(Debug, Clone)]
pub struct HintMetrics {
    store: HintStore,
}

impl HintMetrics {
    /// The metrics of `store`.
    pub fn new(store: HintStore) -> HintMetrics {
        HintMetrics { store }
    }
}

/// A column of the accounts.
type Column = (&'static str, fn(&Account) -> u64);
/// Those that only grow, under the names of the identity.
const OUTCOMES: [Column; 7] = [
    ("created", |a| a.created),
    ("delivered", |a| a.delivered),
    ("redirected", |a| a.redirected),
    ("expired", |a| a.expired),
    ("refused", |a| a.refused),
    ("evicted", |a| a.evicted),
    ("lost", |a| a.lost),
];

impl Collector for HintMetrics {
    #[expect(clippy::too_many_lines, reason = "one family after another")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.store.list();
        let accounts = self.store.accounts();
        let figures = self.store.figures();
        let now_ms = self.store.wall_ms();

        let help = "Hints by target and outcome; created is the sum of the others, pending and dead letters held";
        outcomes(&mut encoder, "hints", help, &rows)?;
        let help = "Hints that were not delivered, by reason";
        let mut family =
            encoder.encode_descriptor("hints_undelivered", help, None, MetricType::Counter)?;
        for loss in Loss::ALL {
            let count = ConstCounter::new(accounts.reason(loss));
            count.encode(family.encode_family(&[("reason", loss.as_str())])?)?;
        }

        let bytes = Some(&Unit::Bytes);
        let help =
            "Bytes of hints that their target has acknowledged: the rate is that of the replay";
        let mut family =
            encoder.encode_descriptor("hints_delivered", help, bytes, MetricType::Counter)?;
        for row in &rows {
            let count = ConstCounter::new(row.delivered_bytes);
            count.encode(family.encode_family(&[("target", text(row.target))])?)?;
        }
        let ledger = self.store.ledger();
        let help = "Hints in the loss ledger, by reason: lost in this run or an earlier one, and not repaired";
        let mut family =
            encoder.encode_descriptor("hints_unrepaired", help, None, MetricType::Gauge)?;
        for loss in Loss::ALL {
            let count = ConstGauge::new(float(ledger.outstanding(loss).count));
            count.encode(family.encode_family(&[("reason", loss.as_str())])?)?;
        }

        let mut gauge = |name, help, unit: Option<&Unit>, value: &dyn Fn(&PendingHints) -> f64| {
            gauges(&mut encoder, (name, help, unit), &rows, value)
        };
        gauge("hints_pending", "Hints owed now", None, &|row| float(row.account.pending))?;
        let bytes = Some(&Unit::Bytes);
        gauge("hints_stored", "Bytes that hints take of the bound", bytes, &|row| {
            float(row.bytes)
        })?;
        let help = "Age of the oldest hint that is owed";
        gauge("hints_oldest_age", help, Some(&Unit::Seconds), &|row| age(row, now_ms))?;

        let fill = float(figures.bytes) / float(figures.bytes_max.max(1));
        let mut single = |name, help, value: f64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        single("hints_fill_ratio", "Share of max_hints_size that is used", fill)?;
        let help = "Seconds until max_hints_size is reached at the pace of the last minute; +Inf: it does not fill";
        let until_full = figures.until_full.map_or(f64::INFINITY, |left| left.as_secs_f64());
        single("hints_until_full_seconds", help, until_full)?;
        let help = "max_hint_window: hints older than this close it";
        single("hints_window_seconds", help, figures.max_hint_window.as_secs_f64())?;
        single("hints_paused", "1 while replay is paused", f64::from(u8::from(figures.paused)))?;
        let help = "1 while the disk takes no hints";
        single("hints_unwritable", help, f64::from(u8::from(figures.unwritable)))?;
        let held = figures.held_back;
        let mut counter = |name, help, unit: Option<&Unit>, value: f64| {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)
        };
        let help = "Writes refused before anything was sent, as a hint would not have fitted";
        counter("hints_writes_refused", help, None, float(held.refused))?;
        let help = "Bytes that hints have taken of the bound";
        counter("hints_taken", help, Some(&Unit::Bytes), float(figures.stored_bytes))?;
        let help = "Writes that waited for room for a hint";
        counter("hints_writes_throttled", help, None, float(held.throttled))?;
        let help = "Of those, that found none in time";
        counter("hints_writes_throttled_in_vain", help, None, float(held.gave_up))?;
        let help = "Time that writes have waited for room for hints";
        let seconds = Some(&Unit::Seconds);
        counter("hints_writes_throttled_time", help, seconds, held.waited.as_secs_f64())?;
        let help = "Failed syncs of hint files";
        let failures =
            encoder.encode_descriptor("hints_sync_failures", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.sync_failures).encode(failures)?;
        self.encode_letters(&mut encoder, now_ms)
    }
}

impl HintMetrics {
    /// The dead-letter log, whose account is kept like that of hints: what is pending there is held.
    fn encode_letters(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        now_ms: u64,
    ) -> Result<(), fmt::Error> {
        let letters = self.store.dead_letters();
        let (rows, figures) = (letters.list(), letters.figures());
        let help =
            "Dead letters by target and outcome; created is the sum of the others and those held";
        outcomes(encoder, "dead_letters", help, &rows)?;
        let mut gauge = |name, help, unit: Option<&Unit>, value: &dyn Fn(&PendingHints) -> f64| {
            gauges(encoder, (name, help, unit), &rows, value)
        };
        let help = "Dead letters held now: hints that there was no room for";
        gauge("dead_letters_held", help, None, &|row| float(row.account.pending))?;
        let help = "Bytes that dead letters take of their bound";
        gauge("dead_letters_stored", help, Some(&Unit::Bytes), &|row| float(row.bytes))?;
        let help = "Age of the oldest dead letter";
        gauge("dead_letters_oldest_age", help, Some(&Unit::Seconds), &|row| age(row, now_ms))?;
        let fill = float(figures.bytes) / float(figures.bytes_max.max(1));
        let unwritable = f64::from(u8::from(figures.unwritable));
        let single = [
            (
                "dead_letters_max",
                "max_dead_letters_size",
                Some(&Unit::Bytes),
                float(figures.bytes_max),
            ),
            ("dead_letters_fill_ratio", "Share of max_dead_letters_size that is used", None, fill),
            ("dead_letters_unwritable", "1 while the disk takes no dead letters", None, unwritable),
        ];
        for (name, help, unit, value) in single {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// A counter for each target and outcome.
fn outcomes(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[PendingHints],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for row in rows {
        for (outcome, count) in OUTCOMES {
            let labels = [("target", text(row.target)), ("outcome", outcome.to_owned())];
            ConstCounter::new(count(&row.account)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// A gauge for each target.
fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    rows: &[PendingHints],
    value: &dyn Fn(&PendingHints) -> f64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for row in rows {
        let labels = [("target", text(row.target))];
        ConstGauge::new(value(row)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Of the oldest, in seconds.
fn age(row: &PendingHints, now_ms: u64) -> f64 {
    row.oldest_ms.map_or(0.0, |oldest| float(now_ms.saturating_sub(oldest)) / 1e3)
}

fn text(target: NodeId) -> String {
    target.to_string()
}

/// Exact up to 2^53: nine petabytes.
fn float(value: u64) -> f64 {
    value as f64
}
