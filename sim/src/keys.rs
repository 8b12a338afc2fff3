//! The key under which an order is stored, and who placed it.
//!
//! ```text
//!   order-00000042             shoppers without names: an order's number is its key
//!   k-order-00000042           a shopper whose user ID begins with k; the key goes wherever its hash says
//!   k-order-00000042-7         first-letter sharding: the application put all of a-m on one set of nodes
//! ```
//!
//! Nodes hash keys (Murmur3) and know nothing of letters. A system that shards by the first letter has an
//! order-preserving partitioner, or hand-made shards of which each lives on its own replicas. Here it is the shop that
//! does so: it counts up the number at the end until the key's token lies in the arc of the ring that the shard's node
//! owns. What the store sees is the same: all of a shard's keys on one replica set, and nothing of it elsewhere.
//!
//! The letter follows from the seed and the order's number alone, so a run with hashed keys has the same shoppers
//! placing the same orders at the same moments.

use crate::ledger::OrderId;
use crate::scenario::{Actor, KeyStyle, Scenario, Shard};
use crate::world::tokens;
use helenus_core::Token;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// A key is tried so often; one try in as many as there are arcs succeeds, so this many fail for a broken ring only.
const TRIES_MAX: u32 = 1_000_000;

/// How a scenario's orders become keys.
#[derive(Debug, Clone)]
pub struct Keys {
    seed: u64,
    style: KeyStyle,
    shards: Vec<(Shard, Arc)>,
}

/// Part of the ring: the tokens after one, up to another and including it.
#[derive(Debug, Clone, Copy)]
struct Arc {
    after: i64,
    upto: i64,
}

impl Arc {
    fn holds(self, token: Token) -> bool {
        // Counted from the beginning, so that an arc over the end of the ring is like any other.
        let from = |t: i64| t.wrapping_sub(self.after).cast_unsigned().wrapping_sub(1);
        from(token.0) <= from(self.upto)
    }
}

impl Keys {
    /// Those of a scenario, with its seed.
    pub fn new(scenario: &Scenario) -> Keys {
        let shop = scenario.actors.values().find_map(|actor| match actor {
            Actor::Shop { keys, shards, .. } => Some((*keys, shards)),
            _ => None,
        });
        let (style, shards) = shop.map_or((KeyStyle::Hashed, &[][..]), |(k, s)| (k, s));
        let shards = shards.iter().map(|s| (s.clone(), arc(scenario, &s.on))).collect();
        Keys { seed: scenario.seed, style, shards }
    }

    /// An order's key.
    pub fn of(&self, order: OrderId) -> String {
        self.place(&format!("order-{order:08}"), self.shopper(0x0055_E215, order))
    }

    /// The key of a record from before the run; no order has one like it.
    pub fn of_history(&self, record: u32) -> String {
        self.place(&format!("history-{record:08}"), self.shopper(0x0415_7085, record))
    }

    fn place(&self, name: &str, shopper: Option<(char, Arc)>) -> String {
        let Some((letter, arc)) = shopper else { return name.to_owned() };
        let key = format!("{letter}-{name}");
        if self.style == KeyStyle::Hashed {
            return key;
        }
        let padded = (0..TRIES_MAX).map(|pad| format!("{key}-{pad}"));
        let mut there =
            padded.filter(|padded| arc.holds(helenus_core::token::of(padded.as_bytes())));
        there.next().unwrap_or(key)
    }

    /// The first letter of the shopper's user ID, and the arc of its shard.
    fn shopper(&self, purpose: u64, number: u32) -> Option<(char, Arc)> {
        let stream = self.seed ^ (u64::from(number) << 32) ^ purpose;
        let mut rng = SmallRng::seed_from_u64(stream);
        let mut share: f64 = rng.random_range(0.0..100.0);
        let of = self.shards.iter().find(|(shard, _)| {
            share -= shard.percent;
            share < 0.0
        });
        // Shares add up to 100 but for what rounding loses.
        let (shard, arc) = of.or(self.shards.last())?;
        let letter = rng.random_range(shard.letters.0..=shard.letters.1);
        Some((letter, *arc))
    }
}

/// The arc that a node owns, as the first of its replicas.
fn arc(scenario: &Scenario, node: &str) -> Arc {
    let nodes = scenario.cluster.nodes();
    let own = nodes.iter().position(|n| n.name == node).unwrap_or(0);
    let tokens = |index| tokens(scenario.cluster.num_tokens, nodes.len(), index);
    let upto = tokens(own).first().copied().unwrap_or(0);
    let all = (0..nodes.len()).flat_map(tokens).filter(|t| *t != upto);
    let distance = |t: &i64| upto.wrapping_sub(*t).cast_unsigned();
    Arc { after: all.min_by_key(distance).unwrap_or(upto), upto }
}

/// The order of a key; `None` for a key that is not an order's.
pub fn order_of(key: &[u8]) -> Option<OrderId> {
    let text = std::str::from_utf8(key).ok()?;
    let (before, number) = text.split_once("order-")?;
    let is_letter = |c: char| c.is_ascii_lowercase();
    if !before.is_empty() && !before.strip_suffix('-')?.strip_prefix(is_letter)?.is_empty() {
        return None;
    }
    number.split_once('-').map_or(number, |(number, _)| number).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Places;
    use crate::scenario::LIBRARY;
    use std::collections::{BTreeMap, BTreeSet};

    const SHARDS: &str = "shards = { a-m = { share = \"65%\", on = \"a1\" }, n-z = { share = \"35%\", on = \"a2\" } }";

    fn scenario(keys: &str) -> Scenario {
        let text = LIBRARY[0].text.replacen(
            "value = \"50KB\" }",
            &format!("value = \"50KB\"{keys} }}"),
            1,
        );
        let text = text.replacen("{ a = 3, b = 3, c = 3 }", "{ a = 2, b = 2, c = 2 }", 1);
        let text = text.replacen("memtable_heap_space", "num_tokens = 1\nmemtable_heap_space", 1);
        Scenario::parse("x.toml", &text).unwrap()
    }

    fn letter(key: &str) -> char {
        key.chars().next().unwrap()
    }

    #[test]
    fn keys_name_orders() {
        for (key, order) in [
            ("order-00000042", Some(42)),
            ("k-order-00000042", Some(42)),
            ("k-order-00000042-17", Some(42)),
            ("other", None),
            ("kk-order-00000042", None),
            ("korder-00000042", None),
            ("order-", None),
        ] {
            assert_eq!(order_of(key.as_bytes()), order, "{key}");
        }
        assert_eq!(order_of(&[0xff]), None);
        let plain = Keys::new(&scenario(""));
        assert_eq!(plain.of(42), "order-00000042");
        assert_eq!(order_of(plain.of_history(42).as_bytes()), None);
    }

    #[test]
    fn a_shard_lives_on_its_own_replicas_and_the_letters_share_out_as_told() {
        let sharded = scenario(&format!(", keys = \"first-letter\", {SHARDS}"));
        let (keys, places) = (Keys::new(&sharded), Places::new(&sharded));
        let mut early = 0;
        for order in 0..4000 {
            let key = keys.of(order);
            assert_eq!(order_of(key.as_bytes()), Some(order), "{key}");
            let replicas: BTreeSet<usize> = places.of(order).into_iter().collect();
            // a1, b1, c1 are the first three nodes, a2, b2, c2 the others.
            let expected = if letter(&key) <= 'm' { [0, 1, 2] } else { [3, 4, 5] };
            assert_eq!(replicas, BTreeSet::from(expected), "{key}");
            early += u32::from(letter(&key) <= 'm');
        }
        assert!((2500..2700).contains(&early), "{early} of 4000 are a-m, which should be 65 %");
    }

    #[test]
    fn hashed_keys_are_the_same_shoppers_on_all_nodes() {
        let sharded = Keys::new(&scenario(&format!(", keys = \"first-letter\", {SHARDS}")));
        let hashed = scenario(&format!(", keys = \"hashed\", {SHARDS}"));
        let (keys, places) = (Keys::new(&hashed), Places::new(&hashed));
        let mut copies: BTreeMap<usize, u32> = BTreeMap::new();
        for order in 0..3000 {
            let key = keys.of(order);
            assert!(sharded.of(order).starts_with(&key), "{key}");
            places.of(order).into_iter().for_each(|node| *copies.entry(node).or_default() += 1);
        }
        for (node, copies) in copies {
            assert!((1350..1650).contains(&copies), "node {node} has {copies} of 3000");
        }
    }

    #[test]
    fn an_arc_may_lie_over_the_end_of_the_ring() {
        let arc = Arc { after: i64::MAX - 10, upto: i64::MIN + 10 };
        for (token, inside) in [
            (i64::MAX, true),
            (i64::MIN + 10, true),
            (i64::MIN + 11, false),
            (i64::MAX - 10, false),
            (0, false),
        ] {
            assert_eq!(arc.holds(Token(token)), inside, "{token}");
        }
    }
}
