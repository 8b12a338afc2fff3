//! The first of each kind of trouble, opened up: who asked whom, who answered, and one sentence why.

use super::figures::Lens;
use super::replicas::is_overflow;
use crate::ledger::{
    FailedWrite, HintEvent, NodeIndex, OrderId, Projection, Read, ReadVerdict, Refusal,
};
use crate::scenario::Action;
use std::collections::BTreeMap;
use std::time::Duration;

/// One operation that stands for all of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The kind: "stale read at ONE".
    pub kind: String,
    /// How many of them there were.
    pub count: usize,
    /// When the first was.
    pub at: Duration,
    /// Its key.
    pub key: String,
    /// At which level; empty where there is none.
    pub level: String,
    /// Who coordinated it.
    pub coordinator: String,
    /// The replicas that answered, in order.
    pub replicas: Vec<String>,
    /// One sentence why.
    pub why: String,
}

/// The first of each kind, in order of time.
pub fn firsts(lens: &Lens<'_>) -> Vec<First> {
    let story = Story { lens, names: names(lens) };
    let mut kinds: BTreeMap<String, First> = BTreeMap::new();
    let mut note = |kind: String, make: &dyn Fn() -> First| match kinds.get_mut(&kind) {
        Some(first) => first.count += 1,
        None => {
            let first = First { kind: kind.clone(), ..make() };
            kinds.insert(kind, first);
        }
    };
    for read in &lens.ledger.reads {
        if let Some(kind) = story.kind_of_read(read) {
            note(kind, &|| story.read(read));
        }
    }
    for write in &lens.ledger.failed_writes {
        let kind = format!(
            "write refused ({}) by rack {}",
            write.refusal.name(),
            lens.places.rack(write.coordinator)
        );
        note(kind, &|| story.write(write));
    }
    for (number, order) in lens.ledger.orders.iter().enumerate() {
        if let (Projection::Dropped { at, why }, Ok(id)) =
            (&order.projection, OrderId::try_from(number))
        {
            note("order given up by the projector".to_owned(), &|| story.dropped(id, *at, why));
        }
    }
    for hint in lens.ledger.hints.iter().filter(|h| is_overflow(h.fate)) {
        note("hint overflowed".to_owned(), &|| story.overflow(hint));
    }
    for (order, why) in lens.ledger.audit.iter().flat_map(|audit| &audit.lost) {
        note("acknowledged order lost".to_owned(), &|| story.lost(*order, why));
    }
    let mut all: Vec<First> = kinds.into_values().collect();
    all.sort_by(|a, b| (a.at, &a.kind).cmp(&(b.at, &b.kind)));
    all
}

fn names(lens: &Lens<'_>) -> Vec<String> {
    lens.scenario.cluster.nodes().into_iter().map(|n| n.name).collect()
}

struct Story<'r> {
    lens: &'r Lens<'r>,
    names: Vec<String>,
}

impl Story<'_> {
    fn name(&self, node: NodeIndex) -> String {
        self.names.get(node).cloned().unwrap_or_else(|| format!("node {node}"))
    }

    fn list(&self, nodes: &[NodeIndex]) -> String {
        if nodes.is_empty() {
            return "nobody".to_owned();
        }
        nodes.iter().map(|n| self.name(*n)).collect::<Vec<_>>().join(" and ")
    }

    fn kind_of_read(&self, read: &Read) -> Option<String> {
        Some(match &read.verdict {
            ReadVerdict::Fresh => return None,
            ReadVerdict::Stale => format!("stale read at {}", read.level),
            ReadVerdict::Missing => format!("order not yet projected, read at {}", read.level),
            ReadVerdict::Wrong => format!("wrong bytes read at {}", read.level),
            ReadVerdict::Refused(refusal, _) => {
                let rack = self.lens.places.rack(read.coordinator);
                format!("read refused ({}) by rack {rack} at {}", refusal.name(), read.level)
            }
        })
    }

    fn read(&self, read: &Read) -> First {
        First {
            kind: String::new(),
            count: 1,
            at: read.ended,
            key: self.lens.places.key(read.order),
            level: read.level.to_string(),
            coordinator: self.name(read.coordinator),
            replicas: read.replicas.iter().map(|n| self.name(*n)).collect(),
            why: self.why_read(read),
        }
    }

    fn why_read(&self, read: &Read) -> String {
        let index = usize::try_from(read.order).unwrap_or(usize::MAX);
        let order = self.lens.ledger.orders.get(index);
        match (&read.verdict, order.map(|o| &o.projection)) {
            (ReadVerdict::Stale, Some(Projection::Acked(ack))) => {
                let answered = self.list(&read.replicas);
                let lacks: Vec<String> =
                    read.replicas.iter().map(|n| self.why_lacking(*n, read)).collect();
                format!(
                    "{} acknowledged it at {} ({}); the read was answered by {answered} alone: {}",
                    self.list(&ack.replicas),
                    self.lens.clock(ack.at),
                    ack.level,
                    lacks.join("; ")
                )
            }
            (ReadVerdict::Missing, Some(Projection::Dropped { at, why })) if *at <= read.ended => {
                format!(
                    "SQL has it, but the projector gave it up at {}: {why}",
                    self.lens.clock(*at)
                )
            }
            (ReadVerdict::Missing, Some(Projection::Acked(ack))) => format!(
                "SQL has it; its write was acknowledged only at {}, after this read had begun: lag, not a stale read",
                self.lens.clock(ack.at)
            ),
            (ReadVerdict::Missing, _) => {
                "SQL has it; its write was never acknowledged: lag, not a stale read".to_owned()
            }
            (ReadVerdict::Refused(refusal, why), _) => {
                self.why_refused(*refusal, read.coordinator, read.ended, why)
            }
            _ => "the bytes are not those that were written under this key".to_owned(),
        }
    }

    /// Why a replica did not have an acknowledged order when it was read.
    fn why_lacking(&self, node: NodeIndex, read: &Read) -> String {
        let name = self.name(node);
        let ledger = self.lens.ledger;
        let overflow = ledger
            .hints
            .iter()
            .find(|h| h.target == Some(node) && h.order == Some(read.order) && is_overflow(h.fate));
        if let Some(hint) = overflow.filter(|h| h.at <= read.ended) {
            return format!(
                "{name} was out of reach and {} had no room for its hint at {}",
                self.name(hint.node),
                self.lens.clock(hint.at)
            );
        }
        let owed =
            ledger.hints.iter().find(|h| h.target == Some(node) && h.order == Some(read.order));
        if let Some(hint) = owed {
            return format!(
                "{name} was out of reach and {} still owes it a hint",
                self.name(hint.node)
            );
        }
        match ledger.applied.get(node).and_then(|n| n.get(&read.order)) {
            Some(applied) if applied.at > read.invoked => {
                format!("{name} got it only at {}", self.lens.clock(applied.at))
            }
            Some(_) => format!("{name} had it and did not say so"),
            None => format!("{name} never got it"),
        }
    }

    fn why_refused(
        &self,
        refusal: Refusal,
        coordinator: NodeIndex,
        at: Duration,
        why: &str,
    ) -> String {
        let name = self.name(coordinator);
        let before = self.lens.scenario.events.iter().filter(|event| event.at <= at);
        let mut faults =
            before.filter(|e| matches!(e.action, Action::Cut { .. } | Action::Crash { .. }));
        let cut = faults.next_back().map(|event| event.at);
        let since = cut.map_or_else(String::new, |at| {
            format!(" (the last fault was at {})", self.lens.clock(at))
        });
        match refusal {
            Refusal::Unavailable => {
                format!(
                    "{name}'s failure detector sees too few replicas alive{since}, so it sent nothing: {why}"
                )
            }
            Refusal::Timeout => {
                format!("{name} asked, and too few replicas answered in time{since}: {why}")
            }
            Refusal::Failure => format!("{name} or its replicas refused: {why}"),
        }
    }

    fn write(&self, write: &FailedWrite) -> First {
        First {
            kind: String::new(),
            count: 1,
            at: write.at,
            key: self.lens.places.key(write.order),
            level: write.level.to_string(),
            coordinator: self.name(write.coordinator),
            replicas: Vec::new(),
            why: self.why_refused(write.refusal, write.coordinator, write.at, &write.why),
        }
    }

    fn dropped(&self, order: OrderId, at: Duration, why: &str) -> First {
        let ledger = self.lens.ledger;
        let last = ledger.failed_writes.iter().rfind(|w| w.order == order);
        First {
            kind: String::new(),
            count: 1,
            at,
            key: self.lens.places.key(order),
            level: last.map_or_else(String::new, |w| w.level.to_string()),
            coordinator: last.map_or_else(String::new, |w| self.name(w.coordinator)),
            replicas: Vec::new(),
            why: format!("nobody keeps what the projector gives up: {why}"),
        }
    }

    fn overflow(&self, hint: &HintEvent) -> First {
        let target = hint.target.map_or_else(|| "a node".to_owned(), |n| self.name(n));
        First {
            kind: String::new(),
            count: 1,
            at: hint.at,
            key: hint.order.map_or_else(String::new, |order| self.lens.places.key(order)),
            level: String::new(),
            coordinator: self.name(hint.node),
            replicas: Vec::new(),
            why: format!(
                "{}'s hint store is full; {target} will lack this order until a read or a repair brings it",
                self.name(hint.node)
            ),
        }
    }

    fn lost(&self, order: OrderId, why: &str) -> First {
        First {
            kind: String::new(),
            count: 1,
            at: self.lens.scenario.length(),
            key: self.lens.places.key(order),
            level: "QUORUM".to_owned(),
            coordinator: String::new(),
            replicas: Vec::new(),
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ack, HintFate, Ledger, Order};
    use crate::oracle::Places;
    use crate::scenario::{LIBRARY, Scenario};
    use helenus_core::{Level, TimestampMicros};
    use helenus_node::seams::probe::HintLoss;

    #[test]
    fn a_stale_read_is_explained_by_the_hint_that_had_no_room() {
        let scenario = Scenario::parse("az-partition.toml", LIBRARY[0].text).unwrap();
        let places = Places::new(&scenario);
        let secs = Duration::from_secs;
        let ack = Ack {
            at: secs(1500),
            took: Duration::ZERO,
            level: Level::LocalQuorum,
            timestamp: TimestampMicros(1),
            coordinator: 1,
            replicas: vec![1, 2],
        };
        let read = |at| Read {
            invoked: secs(at),
            ended: secs(at),
            order: 0,
            level: Level::One,
            coordinator: 3,
            replicas: vec![0],
            verdict: ReadVerdict::Stale,
        };
        let ledger = Ledger {
            orders: vec![Order { placed: secs(1499), projection: Projection::Acked(ack) }],
            hints: vec![HintEvent {
                at: secs(1500),
                node: 1,
                target: Some(0),
                order: Some(0),
                fate: HintFate::Lost(HintLoss::NodeCapReached),
            }],
            reads: vec![read(1620), read(1630)],
            ..Ledger::default()
        };
        let lens = Lens { scenario: &scenario, ledger: &ledger, places: &places };
        let all = firsts(&lens);
        let stale = all.iter().find(|f| f.kind == "stale read at ONE").unwrap();
        assert_eq!((stale.count, stale.key.as_str()), (2, "order-00000000"));
        assert_eq!(
            (stale.coordinator.as_str(), stale.replicas.clone()),
            ("a2", vec!["a1".to_owned()])
        );
        assert_eq!(
            stale.why,
            "b1 and c1 acknowledged it at 14:25 (LOCAL_QUORUM); the read was answered by a1 alone: \
             a1 was out of reach and b1 had no room for its hint at 14:25"
        );
        assert!(all.iter().any(|f| f.kind == "hint overflowed" && f.coordinator == "b1"));
    }
}
