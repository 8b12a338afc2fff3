//! What happens to the nodes. All of it follows from the seed, and all of it ends: a node that is cut off is let in again, one
//! that lost its power starts again.

use crate::scenario::{Action, Hosts};
use helenus_node::seams::rng::Rng;
use rand::Rng as _;
use rand::rngs::SmallRng;
use std::time::Duration;

/// The pause between two faults, at least and at most.
const PAUSE_MS: (u64, u64) = (1_000, 6_000);
/// How long one lasts: from less than a round of Paxos to more than a failure detector's patience.
const LASTS_MS: (u64, u64) = (100, 10_000);
/// How far a clock jumps, at most.
const JUMP_MICROS_MAX: i64 = 60_000_000;

/// Faults for so long, in the order of time.
pub(super) fn plan(rng: &Rng, nodes: &[String], length: Duration) -> Vec<(Duration, Action)> {
    let mut chance = rng.stream("faults");
    let mut plan = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += millis(&mut chance, PAUSE_MS);
        if at >= length || nodes.is_empty() {
            plan.sort_by_key(|(at, _)| *at);
            return plan;
        }
        let until = at + millis(&mut chance, LASTS_MS);
        let first = chance.random_range(0..nodes.len());
        let (first, second) = (name(nodes, first), name(nodes, first + 1));
        match chance.random_range(0..10) {
            // Alone, with everybody on the other side: all together is nobody's cut.
            0..=2 => cut(&mut plan, (at, until), &first, Hosts::All, false),
            3..=4 => cut(&mut plan, (at, until), &first, Hosts::Node(second), true),
            5 => {
                // One after the other: what the first forgets, the second must not.
                let later = at + millis(&mut chance, (10, 2_000));
                power_loss(&mut plan, (at, until), first);
                power_loss(&mut plan, (later, until), second);
            }
            6..=7 => power_loss(&mut plan, (at, until), first),
            _ => {
                let jump_micros = chance.random_range(-JUMP_MICROS_MAX..=JUMP_MICROS_MAX);
                plan.push((at, Action::Clock { node: first, jump_micros }));
            }
        }
    }
}

fn millis(chance: &mut SmallRng, (low, high): (u64, u64)) -> Duration {
    Duration::from_millis(chance.random_range(low..=high))
}

/// The names go round.
fn name(nodes: &[String], nth: usize) -> String {
    nodes.iter().cycle().nth(nth).cloned().unwrap_or_default()
}

fn cut(
    plan: &mut Vec<(Duration, Action)>,
    (at, until): (Duration, Duration),
    from: &str,
    to: Hosts,
    oneway: bool,
) {
    let (from, to) = (vec![Hosts::Node(from.to_owned())], vec![to]);
    plan.push((at, Action::Cut { from: from.clone(), to: to.clone(), oneway }));
    plan.push((until, Action::Heal { from, to }));
}

fn power_loss(plan: &mut Vec<(Duration, Action)>, (at, until): (Duration, Duration), node: String) {
    plan.push((at, Action::Crash { node: node.clone() }));
    plan.push((until, Action::Start { node }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_ends_and_there_are_all_kinds() {
        let nodes = ["a1", "b1", "c1"].map(str::to_owned);
        let plan = plan(&Rng::from_seed(7), &nodes, Duration::from_secs(600));
        assert!(plan.is_sorted_by_key(|(at, _)| *at));
        let count = |is: fn(&Action) -> bool| plan.iter().filter(|(_, action)| is(action)).count();
        let cuts = count(|action| matches!(action, Action::Cut { .. }));
        let losses = count(|action| matches!(action, Action::Crash { .. }));
        assert!(count(|action| matches!(action, Action::Cut { oneway: true, .. })) > 10);
        assert!(count(|action| matches!(action, Action::Cut { oneway: false, .. })) > 10);
        assert!(losses > 20 && count(|action| matches!(action, Action::Clock { .. })) > 10);
        assert_eq!(count(|action| matches!(action, Action::Heal { .. })), cuts);
        assert_eq!(count(|action| matches!(action, Action::Start { .. })), losses);
    }
}
