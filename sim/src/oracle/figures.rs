//! Every figure that a scenario may name, as a question asked of the ledger; and what physics predicts of it, computed
//! from the scenario's numbers and the size that a hint's record really has.

use super::replicas::{Places, is_overflow};
use crate::ledger::{
    Comparison, HintEvent, HintFate, Ledger, NodeIndex, NodeSample, Projection, Read, ReadVerdict,
    Repair, Sample,
};
use crate::scenario::units::TimeOfDay;
use crate::scenario::{Action, Actor, FigureRef, Kind, OnError, Scenario, Verb};
use helenus_node::config::Config;
use helenus_node::seams::probe::HintLoss;
use std::collections::BTreeMap;
use std::time::Duration;

/// A span of the run: its first moment belongs to it, its last does not.
pub type Span = (Duration, Duration);

/// What questions are asked with.
#[derive(Debug)]
pub struct Lens<'r> {
    /// What was run.
    pub scenario: &'r Scenario,
    /// What happened.
    pub ledger: &'r Ledger,
    /// Where orders belong.
    pub places: &'r Places,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts of a run are far below 2^53")]
fn number(n: u64) -> f64 {
    n as f64
}

fn within(at: Duration, span: Span) -> bool {
    span.0 <= at && at < span.1
}

impl Lens<'_> {
    /// The figure over a span: how many of a counter, the last value of a gauge, the value of the others. `None` when
    /// nothing measured it.
    pub fn value(&self, figure: &FigureRef, span: Span) -> Option<f64> {
        match figure.figure().kind {
            Kind::Counter => Some(self.counter(figure, span)),
            Kind::Gauge => self.series(figure, span).last().map(|(_, value)| *value),
            Kind::Span => self.over_span(figure, span),
            Kind::Compared => self.compared(figure, span.1),
        }
    }

    /// A gauge's values at the samples of a span.
    pub fn series(&self, figure: &FigureRef, span: Span) -> Vec<(Duration, f64)> {
        let samples = self.ledger.samples.iter().filter(|s| within(s.at, span));
        samples.filter_map(|s| Some((s.at, self.gauge(figure, s)?))).collect()
    }

    fn counter(&self, figure: &FigureRef, span: Span) -> f64 {
        let ledger = self.ledger;
        match figure.name.as_str() {
            "orders.placed" => {
                count(ledger.orders.iter().filter(|o| within(o.placed, span)).count())
            }
            "orders.acked" => count(self.ended_orders(span, true)),
            "orders.dropped" => count(self.ended_orders(span, false)),
            "writes.refused" => {
                let side = figure.label("side");
                let writes = ledger.failed_writes.iter().filter(|w| within(w.at, span));
                let writes = writes.filter(|w| self.places.is_in(w.coordinator, side));
                let kind = figure.label("kind");
                count(writes.filter(|w| kind.is_none_or(|k| k == w.refusal.name())).count())
            }
            "repairs.read" => {
                let repairs = ledger.read_repairs.iter().filter(|(at, ..)| within(*at, span));
                let rack = figure.label("rack");
                let of_rack = repairs.filter(|(_, _, replica)| match replica {
                    Some(replica) => self.places.is_in(*replica, rack),
                    None => rack.is_none(),
                });
                count(of_rack.count())
            }
            "repair.bytes" => number(self.repairs(figure, span).map(|r| r.bytes_sent).sum()),
            "repair.differing" => number(self.repairs(figure, span).map(|r| r.differing).sum()),
            "replica.applied" => self.applied(figure, span),
            "storage.flushes" => self.flushes(figure, span),
            name if name.starts_with("hints.") => {
                let hints = self.hints(figure).filter(|h| within(h.at, span));
                count(hints.filter(|h| is_counted(figure, h.fate)).count())
            }
            _ => count(self.reads(figure, span).filter(|r| is_of(figure, r)).count()),
        }
    }

    /// The repairs that began in a span.
    fn repairs<'s>(
        &'s self,
        figure: &'s FigureRef,
        span: Span,
    ) -> impl Iterator<Item = &'s Repair> {
        let repairs = self.ledger.repairs.iter().filter(move |repair| within(repair.began, span));
        let by = figure.label("by");
        repairs.filter(move |repair| by.is_none_or(|by| (by == "ledger") == repair.from_ledger))
    }

    fn ended_orders(&self, span: Span, acked: bool) -> usize {
        let ended = self.ledger.orders.iter().filter(|order| match &order.projection {
            Projection::Acked(ack) => acked && within(ack.at, span),
            Projection::Dropped { at, .. } => !acked && within(*at, span),
            Projection::Pending => false,
        });
        ended.count()
    }

    /// The reads of a span that the labels leave, whatever became of them.
    fn reads<'s>(&'s self, figure: &'s FigureRef, span: Span) -> impl Iterator<Item = &'s Read> {
        let (cl, side) = (figure.label("cl"), figure.label("side"));
        let reads = self.ledger.reads.iter().filter(move |r| within(r.ended, span));
        let reads = reads.filter(move |r| cl.is_none_or(|cl| cl == r.level.to_string()));
        let reads = reads.filter(move |r| self.places.is_in(r.coordinator, side));
        let replica = figure.label("replica");
        reads.filter(move |r| replica.is_none_or(|name| self.places.is_on(r.order, name)))
    }

    /// The hint events whose target the labels leave.
    fn hints<'s>(&'s self, figure: &'s FigureRef) -> impl Iterator<Item = &'s HintEvent> {
        let target = figure.label("target");
        self.ledger.hints.iter().filter(move |hint| match hint.target {
            Some(node) => self.places.is_in(node, target),
            None => target.is_none(),
        })
    }

    fn gauge(&self, figure: &FigureRef, sample: &Sample) -> Option<f64> {
        let target = figure.label("target");
        let answered =
            || sample.nodes.iter().enumerate().filter_map(|(i, n)| Some((i, n.as_ref()?)));
        let owed = |node: &NodeSample| -> (u64, u64) {
            let targets = node.by_target.iter().filter(|(t, _)| self.places.is_in(**t, target));
            targets.fold((0, 0), |(hints, bytes), (_, (h, b))| (hints + h, bytes + b))
        };
        Some(match figure.name.as_str() {
            "hints.bytes" if target.is_none() => {
                number(answered().map(|(_, node)| node.hint_bytes).sum())
            }
            "hints.bytes" => number(answered().map(|(_, node)| owed(node).1).sum()),
            "hints.pending" => number(answered().map(|(_, node)| owed(node).0).sum()),
            "hints.cap" => {
                let stores = self.places.outside(target);
                let stores = answered().filter(|(index, _)| stores.contains(index));
                number(stores.map(|(_, node)| node.hint_bytes_max).sum())
            }
            "hints.unaccounted" => number(
                answered().map(|(_, n)| n.outcomes.unaccounted() + n.unaccounted_by_target).sum(),
            ),
            "orders.lag" => {
                let orders = self.ledger.orders.iter().filter(|o| o.placed <= sample.at);
                count(orders.filter(|o| !ended_by(&o.projection, sample.at)).count())
            }
            "storage.sstables" => self.sstables(figure, sample.at),
            "storage.pending_compactions" => self.pending_compactions(figure, sample.at)?,
            _ => return None,
        })
    }

    fn over_span(&self, figure: &FigureRef, span: Span) -> Option<f64> {
        let answered = || {
            let reads = self.reads(figure, span);
            let answered = reads.filter(|r| !matches!(r.verdict, ReadVerdict::Refused(..)));
            answered.map(|r| r.ended.saturating_sub(r.invoked).as_secs_f64()).collect::<Vec<f64>>()
        };
        match figure.name.as_str() {
            "reads.refused_share" => {
                let all = self.reads(figure, span).count();
                let refused = self.reads(figure, span);
                let refused = refused.filter(|r| matches!(r.verdict, ReadVerdict::Refused(..)));
                (all > 0).then(|| 100.0 * count(refused.count()) / count(all))
            }
            "reads.latency_mean" => {
                let all = answered();
                (!all.is_empty()).then(|| all.iter().sum::<f64>() / count(all.len()))
            }
            "storage.read_amplification" => self.read_amplification(figure, span),
            "reads.latency_p99" => percentile(answered(), 0.99),
            "writes.latency_p99" => {
                let acks = self.ledger.orders.iter().filter_map(|order| match &order.projection {
                    Projection::Acked(ack) if within(ack.at, span) => Some(ack.took.as_secs_f64()),
                    _ => None,
                });
                percentile(acks.collect(), 0.99)
            }
            "hints.record_count" => {
                let stores = self.first_overflows(figure, span);
                let fitted = stores.iter().map(|(node, full)| {
                    let hints = self.hints(figure).filter(|h| h.node == *node && h.at <= *full);
                    hints.filter(|h| matches!(h.fate, HintFate::Stored(_))).count()
                });
                (!stores.is_empty()).then(|| count(fitted.sum()) / count(stores.len()))
            }
            "hints.overflowed_bytes" => {
                let overflowed = self.hints(figure).filter(|h| within(h.at, span));
                let overflowed = overflowed.filter(|h| is_overflow(h.fate)).count();
                Some(count(overflowed) * self.record(figure)?)
            }
            "hints.fill_time" => {
                let cut = self.cut(figure.label("target"))?;
                let stores = self.first_overflows(figure, span);
                let all = stores.len() == self.places.outside(figure.label("target")).len();
                let last = stores.values().max().filter(|_| all)?;
                Some(last.saturating_sub(cut).as_secs_f64())
            }
            "hints.replay_time" => {
                let began = self.resume()?;
                let delivered = self.hints(figure).filter(|h| h.fate == HintFate::Delivered);
                let last = delivered.map(|h| h.at).filter(|at| *at >= began).max()?;
                Some((last.saturating_sub(began)).as_secs_f64())
            }
            _ => None,
        }
    }

    /// When each store that may owe the target first had no room for a hint.
    fn first_overflows(&self, figure: &FigureRef, span: Span) -> BTreeMap<NodeIndex, Duration> {
        let mut first = BTreeMap::new();
        let no_room = |fate| is_overflow(fate) || matches!(fate, HintFate::DeadLettered(_));
        for hint in self.hints(figure).filter(|h| within(h.at, span) && no_room(h.fate)) {
            first.entry(hint.node).or_insert(hint.at);
        }
        first
    }

    /// When the target was first cut off.
    fn cut(&self, target: Option<&str>) -> Option<Duration> {
        let nodes = self.scenario.cluster.nodes();
        self.scenario.first(|action| match action {
            Action::Cut { from, to, .. } => nodes
                .iter()
                .filter(|n| target.is_none_or(|rack| n.rack == rack))
                .any(|n| from.iter().chain(to).any(|hosts| hosts.holds(n))),
            _ => false,
        })
    }

    /// When replay could begin: an operator resumed it, or the network came back.
    fn resume(&self) -> Option<Duration> {
        let resumed = |a: &Action| matches!(a, Action::Nodetool { verb: Verb::ResumeHandoff, .. });
        let healed = |a: &Action| matches!(a, Action::Heal { .. });
        self.scenario.first(resumed).or_else(|| self.scenario.first(healed))
    }

    /// The first comparison that began at `at` or later.
    fn comparison(&self, at: Duration) -> Option<&Comparison> {
        self.ledger.comparisons.iter().find(|c| c.began >= at)
    }

    fn compared(&self, figure: &FigureRef, at: Duration) -> Option<f64> {
        let (ledger, rack) = (self.ledger, figure.label("rack"));
        match figure.name.as_str() {
            "replica.missing" => {
                let seen = self.comparison(at)?;
                self.places.missing(ledger, seen, rack).map(|m| count(m.len()))
            }
            "replica.overflowed" => {
                let seen = self.comparison(at)?;
                Some(count(self.places.overflow_count(ledger, seen, rack)))
            }
            "replica.unexplained" => {
                let seen = self.comparison(at)?;
                self.places.unexplained(ledger, seen, rack).map(|m| count(m.len()))
            }
            "orders.lost" => ledger.audit.as_ref().map(|audit| count(audit.lost.len())),
            "audit.touched" => {
                let audit = ledger.audit.as_ref()?;
                let touched = audit.touched.iter().filter(|(_, n)| self.places.is_in(*n, rack));
                Some(count(touched.count()))
            }
            "audit.unrepaired" => {
                let audit = ledger.audit.as_ref()?;
                let after = audit.after.as_ref()?;
                let mut unrepaired = 0;
                for (order, node) in &audit.touched {
                    if self.places.is_in(*node, rack)
                        && !after.held.get(*node)?.as_ref()?.contains(order)
                    {
                        unrepaired += 1;
                    }
                }
                Some(count(unrepaired))
            }
            _ => None,
        }
    }

    /// What physics says of a figure, as a number and as the arithmetic behind it.
    pub fn predicted(&self, figure: &FigureRef, span: Span) -> Option<(f64, String)> {
        let target = figure.label("target");
        match figure.name.as_str() {
            "orders.placed" => {
                let placed = self.orders_in(span);
                Some((placed, format!("rate x {} min", (span.1 - span.0).as_secs() / 60)))
            }
            "hints.record_count" => {
                let (cap, record) = (self.cap(), self.record(figure)?);
                Some(((cap / record).floor(), format!("{cap:.0} B / {record:.0} B")))
            }
            "hints.fill_time" => self.predicted_fill(figure, target),
            "storage.flushes" => self.predicted_flushes(figure, span),
            "storage.read_amplification" => self.predicted_read_amplification(figure, span),
            "hints.replay_time" => {
                let resume = self.resume()?;
                let before = self.ledger.samples.iter().rfind(|s| s.at <= resume)?;
                let stores = before.nodes.iter().flatten().flat_map(|n| n.by_target.iter());
                let owed = stores.filter(|(node, _)| self.places.is_in(**node, target));
                let most = number(owed.map(|(_, (_, bytes))| *bytes).max()?);
                let hints = &self.scenario.cluster.hints;
                let throttle = number(self.scenario.scaled_bytes(hints.throttle));
                Some((most / throttle, format!("{most:.0} B / {throttle:.0} B/s per target")))
            }
            _ => None,
        }
    }

    /// The stores fill at the rate at which orders owe the target a hint. Until the failure detectors convict, writes
    /// that a coordinator on the target's side takes time out; a projector that drops them never makes a hint of them.
    fn predicted_fill(&self, figure: &FigureRef, target: Option<&str>) -> Option<(f64, String)> {
        let cut = self.cut(target)?;
        let (cap, record) = (self.cap(), self.record(figure)?);
        let stores = self.places.outside(target).len();
        let nodes = self.scenario.cluster.nodes().len();
        let rate = self.rate_at(cut) * self.copies(target);
        let sum = format!("{cap:.0} B x {stores} / ({rate:.2}/s x {record:.0} B)");
        let fill = cap * count(stores) / (rate * record);
        let drops = self
            .scenario
            .actors
            .values()
            .any(|actor| matches!(actor, Actor::Projector { on_error: OnError::Drop, .. }));
        if !drops {
            return Some((fill, sum));
        }
        // Phi grows by one each time silence lasts ln(10) mean intervals longer.
        let config = Config::default();
        let detection = config.phi_convict_threshold
            * std::f64::consts::LN_10
            * config.gossip_interval.as_secs_f64();
        let away = nodes - stores;
        let sum = format!("{sum} + {away}/{nodes} x {detection:.1} s until phi convicts");
        Some((fill + detection * count(away) / count(nodes), sum))
    }

    fn cap(&self) -> f64 {
        number(self.scenario.scaled_bytes(self.scenario.cluster.hints.cap))
    }

    /// The size that a hint's record really has.
    fn record(&self, figure: &FigureRef) -> Option<f64> {
        let stored =
            self.hints(figure).filter(|h| h.order.is_some()).filter_map(|h| match h.fate {
                HintFate::Stored(bytes) => Some(bytes),
                _ => None,
            });
        let (records, bytes) = stored.fold((0_u64, 0_u64), |(n, sum), b| (n + 1, sum + b));
        (records > 0).then(|| number(bytes) / number(records))
    }

    /// How many copies of an order the rack holds.
    fn copies(&self, rack: Option<&str>) -> f64 {
        // The orders' keys are spread by their hash, so the first thousand stand for all.
        let copies = (0..1000).flat_map(|order| self.places.of(order));
        count(copies.filter(|node| self.places.is_in(*node, rack)).count()) / 1000.0
    }

    /// The shop's rate, simulated, at a moment.
    pub fn rate_at(&self, at: Duration) -> f64 {
        self.rates().into_iter().rfind(|(from, _)| *from <= at).map_or(0.0, |(_, rate)| rate)
    }

    /// The shop's rates and when each begins.
    fn rates(&self) -> Vec<(Duration, f64)> {
        let shop = self.scenario.actors.values().find_map(|actor| match actor {
            Actor::Shop { rate, .. } => Some(*rate),
            _ => None,
        });
        let first = shop.map(|rate| (Duration::ZERO, self.scenario.scaled_rate(rate)));
        let later = self.scenario.events.iter().filter_map(|event| match &event.action {
            Action::Load { rate, .. } => Some((event.at, self.scenario.scaled_rate(*rate))),
            _ => None,
        });
        first.into_iter().chain(later).collect()
    }

    pub(super) fn orders_in(&self, span: Span) -> f64 {
        let rates = self.rates();
        let ends = rates.iter().skip(1).map(|(from, _)| *from).chain([Duration::MAX]);
        let parts = rates.iter().zip(ends).map(|((from, rate), until)| {
            let lasts = until.min(span.1).saturating_sub(span.0.max(*from));
            lasts.as_secs_f64() * rate
        });
        parts.sum()
    }

    /// A moment as the clock on the wall shows it.
    pub fn clock(&self, at: Duration) -> TimeOfDay {
        self.scenario.clock(at)
    }
}

fn ended_by(projection: &Projection, at: Duration) -> bool {
    match projection {
        Projection::Acked(ack) => ack.at <= at,
        Projection::Dropped { at: dropped, .. } => *dropped <= at,
        Projection::Pending => false,
    }
}

/// Whether a read is what the figure counts.
fn is_of(figure: &FigureRef, read: &Read) -> bool {
    match (figure.name.as_str(), &read.verdict) {
        ("reads.total", _)
        | ("reads.fresh", ReadVerdict::Fresh)
        | ("reads.stale", ReadVerdict::Stale)
        | ("reads.missing", ReadVerdict::Missing)
        | ("reads.wrong", ReadVerdict::Wrong) => true,
        ("reads.refused", ReadVerdict::Refused(refusal, _)) => {
            figure.label("kind").is_none_or(|kind| kind == refusal.name())
        }
        _ => false,
    }
}

/// Whether a hint's fate is what the figure counts.
fn is_counted(figure: &FigureRef, fate: HintFate) -> bool {
    match (figure.name.as_str(), fate) {
        ("hints.stored", HintFate::Stored(_)) | ("hints.delivered", HintFate::Delivered) => true,
        ("hints.overflowed", _) => is_overflow(fate),
        ("hints.dead_lettered", HintFate::DeadLettered(_)) => true,
        ("hints.lost", HintFate::Lost(loss)) => {
            figure.label("reason").is_none_or(|reason| reason == reason_of(loss))
        }
        _ => false,
    }
}

/// A loss as scenarios write it.
fn reason_of(loss: HintLoss) -> &'static str {
    match loss {
        HintLoss::NodeCapReached | HintLoss::TargetCapReached | HintLoss::DeadLettersFull => "cap",
        HintLoss::Evicted => "evicted",
        HintLoss::WindowClosed => "window",
        HintLoss::Disabled => "disabled",
        HintLoss::Expired => "expired",
        HintLoss::Truncated | HintLoss::Purged => "truncated",
        _ => "damaged",
    }
}

/// The nearest-rank percentile.
pub(crate) fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is within the length"
    )]
    let rank = (count(values.len()) * share).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests;
