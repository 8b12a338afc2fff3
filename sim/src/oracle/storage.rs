//! The figures of storage: SSTables, flushes, and what a read costs; and the arithmetic that predicts them.

use super::figures::{Lens, Span};
use crate::ledger::{NodeIndex, NodeTable, TableSample};
use crate::scenario::units::number;
use crate::scenario::{Actor, FigureRef};
use helenus_node::config::StorageConfig;
use std::collections::BTreeMap;
use std::time::Duration;

/// A bloom filter's bits come in lines of so many, and a key's bits all lie in one.
const LINE_BITS: f64 = 512.0;
/// Lines fill unevenly, so the store gives a filter this much more space.
const LINES_EXTRA: f64 = 1.18;

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

impl Lens<'_> {
    /// Whether the figure's labels leave a node.
    fn is_asked(&self, figure: &FigureRef, node: NodeIndex) -> bool {
        let named = figure.label("node").is_none_or(|name| self.places.is_node(node, name));
        named && self.places.is_in(node, figure.label("rack"))
    }

    /// Of the nodes that the labels leave, SSTables of one table on the one that has the most.
    pub(super) fn sstables(&self, figure: &FigureRef, at: Duration) -> f64 {
        let mut last = BTreeMap::new();
        for (_, node, table, sstables) in self.ledger.sstables.iter().filter(|s| s.0 <= at) {
            if self.is_asked(figure, *node) {
                last.insert((*node, *table), *sstables);
            }
        }
        count(last.values().copied().max().unwrap_or(0))
    }

    /// Flushes of a span: of one table on one node, the one with the most.
    pub(super) fn flushes(&self, figure: &FigureRef, span: Span) -> f64 {
        let mut of = BTreeMap::new();
        for (at, node, table) in &self.ledger.flushes {
            if span.0 <= *at && *at < span.1 && self.is_asked(figure, *node) {
                *of.entry((*node, *table)).or_insert(0) += 1;
            }
        }
        count(of.values().copied().max().unwrap_or(0))
    }

    /// Copies of orders that reached their replicas in a span.
    pub(super) fn applied(&self, figure: &FigureRef, span: Span) -> f64 {
        let nodes = self.ledger.applied.iter().enumerate();
        let nodes = nodes.filter(|(node, _)| self.is_asked(figure, *node));
        let copies = nodes.flat_map(|(_, applied)| applied.values());
        count(copies.filter(|a| span.0 <= a.at && a.at < span.1).count())
    }

    /// The most compactions that wait on any node that the labels leave.
    pub(super) fn pending_compactions(&self, figure: &FigureRef, at: Duration) -> Option<f64> {
        let sample = self.ledger.tables.iter().rfind(|s| s.at <= at)?;
        self.tables(figure, sample).map(|table| number(table.pending_compactions)).reduce(f64::max)
    }

    /// SSTables that a read opened, on average over the reads of a span.
    pub(super) fn read_amplification(&self, figure: &FigureRef, span: Span) -> Option<f64> {
        let total = |at: Duration| {
            let sample = self.ledger.tables.iter().rfind(|s| s.at <= at);
            let tables = sample.into_iter().flat_map(|s| self.tables(figure, s));
            tables.fold((0, 0), |(reads, sstables), table| {
                (reads + table.reads, sstables + table.sstables_read)
            })
        };
        let (before, after) = (total(span.0), total(span.1));
        // A node that was restarted counts from 0 again.
        let reads = after.0.checked_sub(before.0).filter(|reads| *reads > 0)?;
        Some(number(after.1.checked_sub(before.1)?) / number(reads))
    }

    fn tables<'s>(
        &'s self,
        figure: &'s FigureRef,
        sample: &'s TableSample,
    ) -> impl Iterator<Item = &'s NodeTable> {
        let nodes = sample.nodes.iter().enumerate();
        nodes.filter(|(node, _)| self.is_asked(figure, *node)).filter_map(|(_, n)| n.as_ref())
    }

    /// Orders over time, the node's share of them, and a memtable full of values.
    pub(super) fn predicted_flushes(
        &self,
        figure: &FigureRef,
        span: Span,
    ) -> Option<(f64, String)> {
        let (orders, value) = (self.orders_in(span), self.value_bytes()?);
        let memtable = self.memtable_bytes();
        let share = self.share(figure);
        let sum =
            format!("{orders:.0} orders x {:.1} % x {value:.0} B / {memtable:.0} B", share * 100.0);
        Some((orders * share * value / memtable, sum))
    }

    /// What becomes an SSTable.
    fn memtable_bytes(&self) -> f64 {
        let memtable_heap_space = self.scenario.scaled_bytes(self.scenario.cluster.memtable);
        let config = StorageConfig { memtable_heap_space, ..StorageConfig::default() };
        number(config.memtable_active_space())
    }

    /// A read finds its order in one SSTable, after it has asked every one that is newer: reads go from the newest back, and
    /// stop at what is older than what they have. One that is asked is opened if the key lies between its first and its last
    /// and its filter errs. Holds while nothing is compacted.
    pub(super) fn predicted_read_amplification(
        &self,
        figure: &FigureRef,
        span: Span,
    ) -> Option<(f64, String)> {
        let (mut newer, mut reads) = (0, 0_usize);
        for read in self.ledger.reads.iter().filter(|r| span.0 <= r.ended && r.ended < span.1) {
            for node in &read.replicas {
                let applied = self.ledger.applied.get(*node).and_then(|n| n.get(&read.order));
                let Some(applied) = applied.filter(|_| self.is_asked(figure, *node)) else {
                    continue;
                };
                let flushed =
                    self.ledger.flushes.iter().filter(|(at, by, _)| {
                        by == node && applied.at <= *at && *at <= read.invoked
                    });
                // The first of them is the one that holds the order.
                newer += flushed.count().saturating_sub(1);
                reads += 1;
            }
        }
        let newer = (reads > 0).then(|| count(newer) / count(reads))?;
        let memtable = self.memtable_bytes();
        let keys = memtable / self.value_bytes()?;
        let errs = self.false_positive_chance(keys)?;
        // Of so many keys and one more, the one more is neither the first nor the last.
        let between = (keys - 1.0).max(0.0) / (keys + 1.0);
        let sum = format!(
            "1 + {newer:.0} newer SSTables x {:.0} % in range x {:.2} % that the filter errs",
            between * 100.0,
            errs * 100.0
        );
        Some((1.0 + newer * between * errs, sum))
    }

    /// That a filter over so many keys admits one that it does not hold.
    fn false_positive_chance(&self, keys: f64) -> Option<f64> {
        /// Cassandra's default, and the store's.
        const DEFAULT: f64 = 0.01;
        let table = self.scenario.cluster.keyspaces.values().next()?;
        let wanted = table.options.get("bloom_filter_fp_chance");
        let wanted: f64 = wanted.map_or(Some(DEFAULT), |text| text.parse().ok())?;
        let bits_per_key = -wanted.ln() / std::f64::consts::LN_2.powi(2);
        let lines = (keys * bits_per_key * LINES_EXTRA / LINE_BITS).ceil().max(1.0);
        let probes = (bits_per_key * std::f64::consts::LN_2).round().clamp(1.0, 16.0);
        let set = 1.0 - (1.0 - 1.0 / LINE_BITS).powf(keys / lines * probes);
        Some(set.powf(probes))
    }

    fn value_bytes(&self) -> Option<f64> {
        self.scenario.actors.values().find_map(|actor| match actor {
            Actor::Shop { value, .. } => Some(number(self.scenario.scaled_value(*value))),
            _ => None,
        })
    }

    /// The share of all orders of which the node holds a copy; of several nodes the largest.
    fn share(&self, figure: &FigureRef) -> f64 {
        const ORDERS: u32 = 2000;
        let mut copies: BTreeMap<NodeIndex, u32> = BTreeMap::new();
        for order in 0..ORDERS {
            for node in self.places.of(order).into_iter().filter(|n| self.is_asked(figure, *n)) {
                *copies.entry(node).or_default() += 1;
            }
        }
        f64::from(copies.values().copied().max().unwrap_or(0)) / f64::from(ORDERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Applied, Ledger, Order, Projection, Read, ReadVerdict};
    use crate::oracle::Places;
    use crate::scenario::{LIBRARY, Scenario};
    use helenus_core::{Level, TableId};
    use helenus_node::seams::probe::ApplyPath;

    const ALL: Span = (Duration::ZERO, Duration::from_secs(4200));

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn scenario() -> Scenario {
        let embedded = LIBRARY.iter().find(|e| e.id == "hot-partition").unwrap();
        Scenario::parse(embedded.file, embedded.text).unwrap()
    }

    fn ask<T>(ledger: &Ledger, text: &str, question: impl Fn(&Lens<'_>, &FigureRef) -> T) -> T {
        let scenario = scenario();
        let figure = FigureRef::parse(text, &scenario.cluster.host_names()).unwrap();
        let places = Places::new(&scenario);
        question(&Lens { scenario: &scenario, ledger, places: &places }, &figure)
    }

    fn value(ledger: &Ledger, text: &str, span: Span) -> Option<f64> {
        ask(ledger, text, |lens, figure| lens.value(figure, span))
    }

    #[test]
    fn a_node_is_told_from_the_others_and_the_busiest_speaks_for_a_rack() {
        let (one, other) = (TableId(1), TableId(2));
        let ledger = Ledger {
            sstables: vec![(secs(1), 0, one, 9), (secs(1), 0, other, 2), (secs(2), 3, one, 20)],
            flushes: vec![
                (secs(1), 0, one),
                (secs(2), 0, one),
                (secs(2), 0, other),
                (secs(9), 3, one),
            ],
            ..Ledger::default()
        };
        let at = |at, text| ask(&ledger, text, |lens, figure| lens.sstables(figure, secs(at)));
        // a1 is node 0, a2 is node 3.
        assert_eq!(at(5, "storage.sstables{node=a1}"), 9.0);
        assert_eq!(at(5, "storage.sstables{rack=a}"), 20.0);
        assert_eq!(at(1, "storage.sstables{rack=a}"), 9.0);
        assert_eq!(at(5, "storage.sstables{rack=b}"), 0.0);
        assert_eq!(value(&ledger, "storage.flushes{node=a1}", ALL), Some(2.0));
        assert_eq!(value(&ledger, "storage.flushes{node=a1}", (secs(2), secs(9))), Some(1.0));
    }

    #[test]
    fn amplification_is_what_was_opened_over_what_was_read() {
        let table =
            |reads, sstables_read| NodeTable { reads, sstables_read, ..NodeTable::default() };
        let sample = |at, a1, a2| TableSample {
            at: secs(at),
            nodes: vec![Some(a1), None, None, Some(a2), None, None],
        };
        let ledger = Ledger {
            tables: vec![
                sample(10, table(10, 10), table(0, 0)),
                sample(20, table(20, 50), table(10, 10)),
                sample(30, table(5, 5), table(10, 10)),
            ],
            ..Ledger::default()
        };
        let over = |from, to, text| value(&ledger, text, (secs(from), secs(to)));
        assert_eq!(over(10, 20, "storage.read_amplification{node=a1}"), Some(4.0));
        assert_eq!(over(10, 20, "storage.read_amplification{rack=a}"), Some(2.5));
        assert_eq!(over(0, 20, "storage.read_amplification{node=a1}"), Some(2.5));
        // It was restarted, or nobody read, or did not answer.
        assert_eq!(over(20, 30, "storage.read_amplification{node=a1}"), None);
        assert_eq!(over(20, 30, "storage.read_amplification{node=a2}"), None);
        assert_eq!(over(10, 20, "storage.read_amplification{node=b1}"), None);
    }

    #[test]
    fn newer_sstables_are_counted_from_the_one_that_holds_the_order() {
        let table = TableId(1);
        let applied = Applied { at: secs(10), by: ApplyPath::Write };
        let read = |at| Read {
            invoked: secs(at),
            ended: secs(at),
            order: 0,
            level: Level::Quorum,
            coordinator: 1,
            replicas: vec![0, 1],
            verdict: ReadVerdict::Fresh,
        };
        let mut ledger = Ledger {
            orders: vec![Order { placed: secs(9), projection: Projection::Pending }],
            // Before it, with it, and a hundred after it.
            flushes: (9..112).map(|at| (secs(at), 0, table)).collect(),
            reads: vec![read(111)],
            ..Ledger::default()
        };
        ledger.applied = vec![[(0, applied)].into(), Default::default()];
        let text = "storage.read_amplification{node=a1}";
        let predicted = |ledger: &Ledger| {
            ask(ledger, text, |lens, figure| lens.predicted_read_amplification(figure, ALL))
        };
        let (amplification, sum) = predicted(&ledger).unwrap();
        assert!(sum.starts_with("1 + 101 newer SSTables x 71 % in range x 1.1"), "{sum}");
        assert!((1.8..1.9).contains(&amplification), "{amplification}");
        ledger.reads.clear();
        assert_eq!(predicted(&ledger), None);
    }
}
