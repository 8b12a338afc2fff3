//! A point as a scenario: three nodes in three racks hold all of every order, one of them is cut off, and operators heal.
//!
//! ```text
//! 00:00   writes and reads at the rate; nothing is wrong
//! 00:01   a1 is cut off from b1 and c1; they keep its hints
//! healed  the same writes and reads go on, while hints are replayed or replicas repaired
//! ```
//!
//! **Scale.** One simulated order stands for so many that a run has about `WRITES`. Sizes are divided as well, and exactly:
//! a value gives way so far that the hint's record, header and all, is its whole size divided by `value_scale`.

use super::predict::{Prediction, Terms};
use super::sweep::Point;
use crate::actors::Command;
use crate::scenario::units::{TimeOfDay, number};
use crate::scenario::{Scenario, Verb};
use helenus_core::TimestampMicros;
use helenus_core::codec;
use helenus_node::config::{Config, RepairConfig};
use std::time::Duration;

/// About so many writes a simulated run has.
const WRITES: f64 = 20_000.0;
/// About what a simulated hint takes.
const RECORD_BYTES: f64 = 1500.0;
/// A store that holds fewer hints shows nothing but its rounding.
const FIT_MIN: u64 = 10;
/// Dead letters find room for ever: what is measured is that they all arrive.
const DEAD_LETTERS: u64 = 1 << 44;
/// A longer run is refused.
const RUN_MAX: Duration = Duration::from_secs(12 * 3600);

/// Before the cut.
const LEAD: Duration = Duration::from_secs(60);
/// From the heal until an operator begins: by then everybody sees the target again.
const READY: Duration = Duration::from_secs(15);
/// The same on real processes.
const READY_REAL: Duration = Duration::from_secs(5);
/// Beyond what is predicted, for whatever takes longer.
const SLACK: Duration = Duration::from_secs(600);

/// A hint's header (24 bytes) and its table's id, as `node/src/hints/record.rs` draws them.
const RECORD_HEADER: u64 = 40;
/// A segment's header.
const SEGMENT_HEADER: u64 = 48;
/// Shards of the log, so that many writes are in flight.
const SHARDS: f64 = 4.0;
/// Nodes that keep hints for the target.
const STORES: usize = 2;
/// Memtables at their simulated size: large enough that flushing is not what is measured.
const MEMTABLE: u64 = 4 << 20;

/// The target's place in the cluster.
pub const TARGET: usize = 0;
/// Its rack, of which it is the only node.
pub const TARGET_RACK: &str = "a";
/// The nodes that keep its hints.
pub const KEEPERS: std::ops::RangeInclusive<usize> = 1..=STORES;

/// How replicas are made equal again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Hints are replayed, and what was lost is repaired from the ledgers then.
    ReplayThenLedger,
    /// Replay is paused, and one repair compares everything.
    FullRepair,
}

/// A point, ready to be run.
#[derive(Debug, Clone)]
pub struct Story {
    /// What is measured.
    pub point: Point,
    /// Where all chance comes from.
    pub seed: u64,
    /// One simulated order stands for so many.
    pub scale: u64,
    /// Sizes are divided by this.
    pub value_scale: u64,
    /// A value's simulated size.
    pub value: u64,
    /// Its terms, as simulated.
    pub terms: Terms,
    /// What follows from them, as simulated.
    pub predicted: Prediction,
}

/// What a hint of a value of so many bytes takes.
pub fn record_bytes(value: u64) -> u64 {
    // Every order's key is as long as this, and every timestamp of this century takes as many bytes.
    let key = "order-00000000".len() as u64;
    let empty = codec::encode_put(TimestampMicros(1_700_000_000_000_000), &[], None).len() as u64;
    // The value's length is told in front of it, in as many bytes as it needs.
    let length = 1 + u64::from(value.max(1).ilog2() / 7);
    RECORD_HEADER + key + empty - 1 + length + value
}

fn fits(point: &Point) -> Result<(), String> {
    let record = record_bytes(point.value);
    let complain = || {
        format!(
            "{point}: fewer than {FIT_MIN} hints of {record} bytes fit: raise --cap, or lower --value"
        )
    };
    (record.saturating_mul(FIT_MIN) <= point.cap).then_some(()).ok_or_else(complain)
}

/// A segment as `node/src/hints` makes it under a bound.
fn segment_bytes(cap: u64, file: u64) -> u64 {
    file.min(4 << 20).min(cap / 32).max(1024)
}

/// A record and its share of a segment's header.
fn with_share_of_header(record: u64, segment: u64) -> f64 {
    let records = (segment.saturating_sub(SEGMENT_HEADER) / record).max(1);
    number(record) + number(SEGMENT_HEADER) / number(records)
}

impl Story {
    /// Plans a point. An error is for people: it would take too long.
    pub fn new(point: Point, seed: u64) -> Result<Story, String> {
        fits(&point)?;
        let full_size = full_size_terms(&point);
        let expected = full_size.predict();
        let after = expected.by_ledger.max(expected.by_full);
        let writes = point.rate.per_second * (LEAD.as_secs_f64() + full_size.outage + after);
        let scale = whole(writes / WRITES).max(1);
        let record = record_bytes(point.value);
        let value_scale = whole(number(record) / RECORD_BYTES).max(1);
        let value = if value_scale == 1 { point.value } else { shrunk(record / value_scale) };

        let mut story =
            Story { point, seed, scale, value_scale, value, terms: full_size, predicted: expected };
        let length = story.length();
        if length > RUN_MAX {
            return Err(format!(
                "{point}: healing takes about {:.1} h, and at most {} h are simulated: raise --throttle, or lower --cap, \
                 --rate or --outage",
                length.as_secs_f64() / 3600.0,
                RUN_MAX.as_secs() / 3600
            ));
        }
        let scenario = story.scenario(Way::ReplayThenLedger)?;
        let cap = scenario.scaled_bytes(point.cap);
        let stream = RepairConfig::default().stream_throughput_outbound;
        let simulated = record_bytes(value);
        // What the world gives a node.
        let segment = segment_bytes(cap, (cap / 4).max(4096));
        story.terms = Terms {
            cap: number(cap),
            record: with_share_of_header(simulated, segment),
            sent: number(simulated),
            page: page(scenario.scaled_bytes(point.throttle), simulated),
            payload: number(simulated - RECORD_HEADER),
            rate: scenario.scaled_rate(point.rate),
            throttle: number(scenario.scaled_bytes(point.throttle)),
            stream: number(scenario.scaled_throughput(stream)),
            session: session(scenario.tick),
            segment: number(segment),
            ..full_size
        };
        story.predicted = story.terms.predict();
        // How old orders are read follows from how long healing takes.
        story.terms.look_back = story.look_back().as_secs_f64();
        story.predicted = story.terms.predict();
        if story.terms.fit() < number(FIT_MIN) {
            return Err(format!(
                "{point}: at a scale at which this can be simulated a store holds {:.0} hints, and {FIT_MIN} are the least: \
                 raise --cap, or lower --rate or --outage",
                story.terms.fit()
            ));
        }
        Ok(story)
    }

    /// A point at its own size, where a kill is noticed at once: for real processes.
    pub fn full_size(point: Point, seed: u64) -> Result<Story, String> {
        fits(&point)?;
        let terms =
            Terms { blind: 0.0, ready: READY_REAL.as_secs_f64(), ..full_size_terms(&point) };
        let (scale, value_scale, value, predicted) = (1, 1, point.value, terms.predict());
        let mut story = Story { point, seed, scale, value_scale, value, terms, predicted };
        story.terms.look_back = story.look_back().as_secs_f64();
        story.predicted = story.terms.predict();
        Ok(story)
    }

    /// From the heal until an operator begins.
    pub fn ready(&self) -> Duration {
        Duration::from_secs_f64(self.terms.ready)
    }

    /// When the target is cut off.
    pub fn cut(&self) -> Duration {
        LEAD
    }

    /// When it is back.
    pub fn heal(&self) -> Duration {
        LEAD + self.point.outage
    }

    /// What one simulated byte stands for.
    pub fn bytes_scale(&self) -> f64 {
        number(self.scale) * number(self.value_scale)
    }

    /// How long healing takes by the slower way.
    pub fn healing(&self) -> Duration {
        let seconds = self.predicted.by_ledger.max(self.predicted.by_full);
        Duration::from_secs(whole(seconds.min(1e9)))
    }

    /// Reads go to orders that are at most so old: then each second after the heal sees orders of the whole outage alike.
    pub fn look_back(&self) -> Duration {
        self.point.outage + self.healing() + SLACK
    }

    fn length(&self) -> Duration {
        self.heal() + self.healing().mul_f64(1.3) + SLACK
    }

    /// The scenario, checked like any other.
    pub fn scenario(&self, way: Way) -> Result<Scenario, String> {
        let name = "the benchmark's scenario";
        Scenario::parse(name, &self.text(way)).map_err(|problems| problems.to_string())
    }

    fn text(&self, way: Way) -> String {
        let Point { cap, outage, rate, policy, throttle, .. } = self.point;
        let Story { seed, scale, value_scale, .. } = self;
        let at = |time: Duration| clock(TimeOfDay(0).plus(time));
        // Longer runs are refused, and not made into text that cannot be read.
        let end = at(self.length().min(RUN_MAX));
        let rate_s = rate.per_second / number(*scale);
        // In flight: two seconds of writes, because that is how long one waits that a cut coordinator took.
        let concurrency = whole((2.0 * rate_s + SHARDS) / SHARDS).max(1);
        let value = self.value * value_scale;
        let memtable = MEMTABLE.saturating_mul(*scale).saturating_mul(*value_scale);
        let paused = way == Way::FullRepair;
        let (policy, rate) = (policy.as_str(), rate.per_second);
        let (cut, heal, look_back) = (at(LEAD), at(LEAD + outage), self.look_back().as_secs());
        format!(
            r#"format = 1
id = "bench-hints"
title = "{point}"
source = "the hint benchmark"
seed = {seed}
scale = {scale}
value_scale = {value_scale}
clock = {{ start = "00:00", end = "{end}", tick = "20ms", latency_min = "1ms", latency_max = "5ms" }}

[cluster]
dcs = {{ dc1 = {{ a = 1, b = 1, c = 1 }} }}
keyspace.orders = {{ rf = {{ dc1 = 3 }} }}
hints = {{ cap = "{cap}B", overflow = "{policy}", dead_letters = "{DEAD_LETTERS}B", throttle = "{throttle}B/s", paused = {paused} }}
memtable_heap_space = "{memtable}B"

[actors]
pg     = {{ kind = "sql", table = "orders" }}
stream = {{ kind = "log", from = "pg", shards = {shards} }}
writer = {{ kind = "projector", from = "stream", into = "orders", write_cl = "QUORUM", on_error = "retry", concurrency = {concurrency} }}
shop   = {{ kind = "open-loop", into = "pg", rate = "{rate}/s", value = "{value}B" }}
reader = {{ kind = "reader", from = "orders", cl = "ONE", read = "own-last-order", after_min = "100ms", after_max = "{look_back}s" }}

[[at]]
t = "{cut}"
do = "cut"
from = "rack:{TARGET_RACK}"
to = ["rack:b", "rack:c"]
until = "{heal}"
"#,
            point = self.point,
            shards = whole(SHARDS),
        )
    }

    /// What operators do after the heal.
    pub fn commands(&self, way: Way) -> Vec<(Duration, Command)> {
        let patience = self.healing() + SLACK / 2;
        let all = (0..=STORES).collect();
        let commands = match way {
            Way::ReplayThenLedger => vec![
                Command::AwaitHints(TARGET, patience),
                // There are some only under the policy that keeps them.
                Command::Nodetool(Verb::ReplayDeadLetters, KEEPERS.collect()),
                Command::Compare,
                Command::Nodetool(Verb::RepairFromLedger, all),
                Command::Compare,
            ],
            Way::FullRepair => {
                vec![Command::Nodetool(Verb::Repair, vec![*KEEPERS.start()]), Command::Compare]
            }
        };
        commands.into_iter().map(|command| (self.heal() + READY, command)).collect()
    }
}

/// A point's terms as they are, nothing divided.
pub fn full_size_terms(point: &Point) -> Terms {
    let Point { cap, outage, rate, value, policy, throttle } = *point;
    let segment = segment_bytes(cap, Config::default().hints.max_hints_file_size);
    let record = record_bytes(value);
    Terms {
        cap: number(cap),
        stores: number(STORES as u64),
        record: with_share_of_header(record, segment),
        sent: number(record),
        page: page(throttle, record),
        payload: number(record - RECORD_HEADER),
        rate: rate.per_second,
        outage: outage.as_secs_f64(),
        throttle: number(throttle),
        stream: number(RepairConfig::default().stream_throughput_outbound),
        // A few milliseconds, on a network whose messages do not wait for a tick.
        session: 0.0,
        segment: number(segment),
        overflow: policy,
        blind: blind(),
        ready: READY.as_secs_f64(),
        settle: Config::default().write_request_timeout.as_secs_f64(),
        look_back: outage.as_secs_f64().max(1.0),
        target_share: 1.0 / number(STORES as u64 + 1),
    }
}

/// What a replay sends at once: an eighth of a second's worth, or one hint that is more than that, or half a MiB.
fn page(throttle: u64, record: u64) -> f64 {
    number((throttle / 8).min(512 << 10).max(record))
}

/// A range is asked for and then sent: two round trips, each with a tick there, one for the work and one back; and so many
/// ranges are under way at a time.
fn session(tick: Duration) -> f64 {
    let at_once = f64::from(RepairConfig::default().concurrent_repair_sessions.max(1));
    2.0 * 3.0 * tick.as_secs_f64() / at_once
}

/// Phi grows by one each time silence lasts ln(10) mean intervals longer.
fn blind() -> f64 {
    let config = Config::default();
    config.phi_convict_threshold * std::f64::consts::LN_10 * config.gossip_interval.as_secs_f64()
}

/// The value whose record takes so many bytes.
fn shrunk(record: u64) -> u64 {
    let guess = record.saturating_sub(record_bytes(0)).max(16);
    // A longer length in front of it makes it one byte shorter, or two.
    (16..=guess).rev().find(|value| record_bytes(*value) <= record).unwrap_or(16)
}

fn clock(time: TimeOfDay) -> String {
    let (h, m, s) = (time.0 / 3600, time.0 / 60 % 60, time.0 % 60);
    format!("{h:02}:{m:02}:{s:02}")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded below, and a cast saturates above"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sweep::{Lists, Preset};
    use bytes::Bytes;

    fn encoded(value: u64) -> u64 {
        let value = vec![0; usize::try_from(value).unwrap()];
        let bytes: Bytes = codec::encode_put(TimestampMicros(1_795_000_000_000_000), &value, None);
        bytes.len() as u64
    }

    #[test]
    fn a_record_is_what_the_codec_makes_and_its_header() {
        for value in [1, 100, 127, 128, 16_383, 16_384, 50_000, 1 << 21] {
            assert_eq!(record_bytes(value), 40 + 14 + encoded(value), "{value}");
        }
    }

    #[test]
    fn sizes_are_divided_to_the_byte() {
        let point = Preset::BlackFriday.points().unwrap()[0];
        let story = Story::new(point, 1).unwrap();
        assert!(story.value_scale > 10 && story.scale > 10, "{story:?}");
        let of = record_bytes(point.value) / story.value_scale;
        assert_eq!(record_bytes(story.value), of);
    }

    #[test]
    fn every_preset_becomes_scenarios() {
        for (_, preset) in Preset::NAMES {
            for point in preset.points().unwrap() {
                let story = Story::new(point, 7).unwrap();
                for way in [Way::ReplayThenLedger, Way::FullRepair] {
                    let scenario = story.scenario(way).unwrap();
                    assert_eq!(scenario.cluster.hints.cap, point.cap);
                    assert_eq!(scenario.cluster.hints.overflow, point.policy);
                    let last = story.commands(way).last().unwrap().0;
                    assert!(last < scenario.length());
                }
            }
        }
    }

    #[test]
    fn a_replay_of_days_is_refused_with_what_to_change() {
        let lists = Lists {
            cap: vec!["100GB".to_owned()],
            outage: vec!["1h".to_owned()],
            rate: vec!["1000/s".to_owned()],
            throttle: vec!["64KiB/s".to_owned()],
            ..Lists::default()
        };
        let point = lists.points().unwrap()[0];
        let refused = Story::new(point, 1).unwrap_err();
        assert!(refused.contains("raise --throttle"), "{refused}");
    }
}
