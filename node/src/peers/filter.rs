//! The message filter: faults on single messages, by rule. A lesson's schedule reads "drop the second MUTATION from n1 to
//! n3", and means the same in simulation and against real processes.
//!
//! [`Rules::decide`] is pure. [`Filter`] is the switch around it that the send and the receive path ask; disarmed, it
//! costs one atomic load a message.
//!
//! Invariant: a rule counts every message that it matches, also those that its `nth` lets pass.

use super::verb::Verb;
use helenus_core::NodeId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where on its way a message is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Before it enters the sender's queue.
    Send,
    /// After the receiver has decoded it, before it is handled.
    Receive,
}

/// Which of the messages that a rule matches it acts on, counted from 1 since it was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// All of them.
    Every,
    /// That one alone.
    Only(u64),
    /// That one and all behind it.
    From(u64),
    /// Each whose number is a multiple; 0 acts on none.
    Multiple(u64),
}

impl Nth {
    fn acts_on(self, number: u64) -> bool {
        match self {
            Nth::Every => true,
            Nth::Only(n) => number == n,
            Nth::From(n) => number >= n,
            Nth::Multiple(n) => n > 0 && number.is_multiple_of(n),
        }
    }
}

/// What a rule does to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It never was.
    Drop,
    /// It goes on later; others overtake it.
    Delay(Duration),
    /// It goes on twice.
    Duplicate,
}

/// A rule. What is absent matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it applies. A rule on both ends of a link would act twice.
    pub side: Side,
    /// The kind of message.
    pub verb: Option<Verb>,
    /// Who sent it.
    pub from: Option<NodeId>,
    /// Whom it is for.
    pub to: Option<NodeId>,
    /// Which of those.
    pub nth: Nth,
    /// What happens to them.
    pub action: Action,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No rule acts on it.
    Pass,
    /// A rule does.
    Act(Action),
}

/// Rules in order, each with the number of messages it has matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<(Rule, u64)>,
}

impl Rules {
    /// None has matched anything yet.
    pub fn new(rules: Vec<Rule>) -> Rules {
        Rules { rules: rules.into_iter().map(|rule| (rule, 0)).collect() }
    }

    /// Judges one message. The first rule that matches and acts decides; those before it that matched have counted it,
    /// those behind it have not seen it.
    pub fn decide(&mut self, side: Side, verb: Verb, from: NodeId, to: Option<NodeId>) -> Verdict {
        for (rule, matched) in &mut self.rules {
            let matches = rule.side == side
                && rule.verb.is_none_or(|v| v == verb)
                && rule.from.is_none_or(|n| n == from)
                && rule.to.is_none_or(|n| Some(n) == to);
            if !matches {
                continue;
            }
            *matched = matched.saturating_add(1);
            if rule.nth.acts_on(*matched) {
                return Verdict::Act(rule.action);
            }
        }
        Verdict::Pass
    }

    /// How many messages each rule has matched, in the order of the rules.
    pub fn matched(&self) -> Vec<u64> {
        self.rules.iter().map(|(_, matched)| *matched).collect()
    }
}

/// The filter of one node. Off until rules are armed.
#[derive(Debug, Default)]
pub struct Filter {
    armed: AtomicBool,
    rules: Mutex<Rules>,
}

impl Filter {
    /// Replaces all rules and their counts. None: off.
    pub fn arm(&self, rules: Vec<Rule>) {
        self.armed.store(!rules.is_empty(), Ordering::Release);
        *self.rules() = Rules::new(rules);
    }

    /// Off.
    pub fn disarm(&self) {
        self.arm(Vec::new());
    }

    /// How many messages each rule has matched since it was armed.
    pub fn matched(&self) -> Vec<u64> {
        self.rules().matched()
    }

    /// The rules in force, each with the number of messages it has matched.
    pub fn list(&self) -> Vec<(Rule, u64)> {
        self.rules().rules.clone()
    }

    /// Whether there are rules.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Judges one message.
    pub(crate) fn decide(
        &self,
        side: Side,
        verb: Verb,
        from: NodeId,
        to: Option<NodeId>,
    ) -> Verdict {
        if !self.is_armed() {
            return Verdict::Pass;
        }
        self.rules().decide(side, verb, from, to)
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N1: NodeId = NodeId(1);
    const N2: NodeId = NodeId(2);
    const N3: NodeId = NodeId(3);

    fn rule(action: Action) -> Rule {
        Rule { side: Side::Send, verb: None, from: None, to: None, nth: Nth::Every, action }
    }

    #[test]
    fn what_is_absent_matches_everything_and_what_is_there_must_agree() {
        let only =
            Rule { verb: Some(Verb::Mutation), to: Some(N3), from: Some(N1), ..rule(Action::Drop) };
        let mut rules = Rules::new(vec![only]);
        let drop = Verdict::Act(Action::Drop);
        assert_eq!(rules.decide(Side::Send, Verb::Mutation, N1, Some(N3)), drop);
        assert_eq!(rules.decide(Side::Send, Verb::Mutation, N1, Some(N2)), Verdict::Pass);
        assert_eq!(rules.decide(Side::Send, Verb::Mutation, N2, Some(N3)), Verdict::Pass);
        assert_eq!(rules.decide(Side::Send, Verb::Read, N1, Some(N3)), Verdict::Pass);
        assert_eq!(rules.decide(Side::Receive, Verb::Mutation, N1, Some(N3)), Verdict::Pass);
        assert_eq!(rules.decide(Side::Send, Verb::Mutation, N1, None), Verdict::Pass);
        assert_eq!(rules.matched(), [1]);
        let mut all = Rules::new(vec![rule(Action::Duplicate)]);
        let twice = Verdict::Act(Action::Duplicate);
        assert_eq!(all.decide(Side::Send, Verb::Gossip, N3, Some(N2)), twice);
    }

    #[test]
    fn nth_counts_what_the_rule_matched() {
        let acted = |nth| {
            let mut rules = Rules::new(vec![Rule { nth, ..rule(Action::Drop) }]);
            (1..=6)
                .filter(|_| rules.decide(Side::Send, Verb::Ack, N1, Some(N2)) != Verdict::Pass)
                .count()
        };
        assert_eq!(acted(Nth::Every), 6);
        assert_eq!(acted(Nth::Only(2)), 1);
        assert_eq!(acted(Nth::From(3)), 4);
        assert_eq!(acted(Nth::Multiple(2)), 3);
        assert_eq!(acted(Nth::Multiple(0)), 0);
    }

    #[test]
    fn the_first_rule_that_acts_decides() {
        let second = Rule { nth: Nth::Only(2), ..rule(Action::Drop) };
        let mut rules = Rules::new(vec![second, rule(Action::Delay(Duration::from_millis(5)))]);
        let late = Verdict::Act(Action::Delay(Duration::from_millis(5)));
        assert_eq!(rules.decide(Side::Send, Verb::Ack, N1, Some(N2)), late);
        assert_eq!(rules.decide(Side::Send, Verb::Ack, N1, Some(N2)), Verdict::Act(Action::Drop));
        assert_eq!(rules.decide(Side::Send, Verb::Ack, N1, Some(N2)), late);
        assert_eq!(rules.matched(), [3, 2]);
    }

    #[test]
    fn disarmed_it_counts_nothing() {
        let filter = Filter::default();
        assert_eq!(filter.decide(Side::Send, Verb::Ack, N1, Some(N2)), Verdict::Pass);
        filter.arm(vec![rule(Action::Drop)]);
        assert_eq!(filter.decide(Side::Send, Verb::Ack, N1, Some(N2)), Verdict::Act(Action::Drop));
        filter.disarm();
        assert_eq!(filter.decide(Side::Send, Verb::Ack, N1, Some(N2)), Verdict::Pass);
        assert_eq!(filter.matched(), Vec::<u64>::new());
    }
}
