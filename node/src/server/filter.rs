//! Rules of the message filter, as operators and lessons say them.

use crate::peers::{Action, Nth, Rule, Side, Verb};
use helenus_core::NodeId;
use helenus_proto::v1;
use helenus_proto::v1::filter_rule::Nth as WireNth;
use std::time::Duration;
use tonic::Status;

/// Every message of an armed node is held against each rule, so there are not more than a schedule needs.
const RULES_MAX: usize = 256;

/// Checks what came over the wire. All or nothing: a schedule that lacks one rule is another schedule.
pub(super) fn rules_from_wire(
    rules: Vec<v1::FilterRule>,
    node_named: impl Fn(&str) -> Result<NodeId, Status>,
) -> Result<Vec<Rule>, Status> {
    if rules.len() > RULES_MAX {
        return Err(Status::invalid_argument(format!(
            "{} rules are too many for the message filter: {RULES_MAX} are the most",
            rules.len()
        )));
    }
    let numbered = rules.into_iter().zip(1..);
    let checked = numbered.map(|(rule, number)| {
        rule_from_wire(&rule, &node_named).map_err(|status| {
            Status::new(status.code(), format!("filter rule {number}: {}", status.message()))
        })
    });
    checked.collect()
}

fn rule_from_wire(
    rule: &v1::FilterRule,
    node_named: impl Fn(&str) -> Result<NodeId, Status>,
) -> Result<Rule, Status> {
    let node = |name: &str| (!name.is_empty()).then(|| node_named(name)).transpose();
    let side = match v1::FilterSide::try_from(rule.side) {
        Ok(v1::FilterSide::Send) => Side::Send,
        Ok(v1::FilterSide::Receive) => Side::Receive,
        Err(_) => return Err(Status::invalid_argument("the side is neither SEND nor RECEIVE")),
    };
    let action = match v1::FilterAction::try_from(rule.action) {
        Ok(v1::FilterAction::Drop) => Action::Drop,
        Ok(v1::FilterAction::Delay) => {
            Action::Delay(Duration::from_millis(u64::from(rule.delay_ms)))
        }
        Ok(v1::FilterAction::Duplicate) => Action::Duplicate,
        Ok(v1::FilterAction::Unspecified) | Err(_) => {
            return Err(Status::invalid_argument("it does nothing: give DROP, DELAY or DUPLICATE"));
        }
    };
    let nth = match rule.nth {
        None => Nth::Every,
        Some(WireNth::Only(0) | WireNth::EveryMultipleOf(0)) => {
            return Err(Status::invalid_argument("messages are counted from 1: 0 acts on none"));
        }
        Some(WireNth::Only(n)) => Nth::Only(n),
        Some(WireNth::StartingWith(n)) => Nth::From(n),
        Some(WireNth::EveryMultipleOf(n)) => Nth::Multiple(n),
    };
    Ok(Rule {
        side,
        verb: verb(&rule.verb)?,
        from: node(&rule.from)?,
        to: node(&rule.to)?,
        nth,
        action,
    })
}

fn verb(name: &str) -> Result<Option<Verb>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Some(verb) = Verb::from_name(name) {
        return Ok(Some(verb));
    }
    let known = Verb::ALL.map(Verb::as_str);
    let hint = match crate::config::did_you_mean(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("verbs are: {}", known.join(" ")),
    };
    Err(Status::invalid_argument(format!("`{name}` is no verb; {hint}")))
}

/// A rule as it is shown. Nodes are told by host id, whatever they were given by.
pub(super) fn rule_to_wire(rule: &Rule) -> v1::FilterRule {
    let node = |node: Option<NodeId>| node.map(|n| n.to_string()).unwrap_or_default();
    let side = match rule.side {
        Side::Send => v1::FilterSide::Send,
        Side::Receive => v1::FilterSide::Receive,
    };
    let (action, delay) = match rule.action {
        Action::Drop => (v1::FilterAction::Drop, Duration::ZERO),
        Action::Delay(delay) => (v1::FilterAction::Delay, delay),
        Action::Duplicate => (v1::FilterAction::Duplicate, Duration::ZERO),
    };
    v1::FilterRule {
        side: side.into(),
        verb: rule.verb.map_or("", Verb::as_str).to_owned(),
        from: node(rule.from),
        to: node(rule.to),
        nth: match rule.nth {
            Nth::Every => None,
            Nth::Only(n) => Some(WireNth::Only(n)),
            Nth::From(n) => Some(WireNth::StartingWith(n)),
            Nth::Multiple(n) => Some(WireNth::EveryMultipleOf(n)),
        },
        action: action.into(),
        delay_ms: u32::try_from(delay.as_millis()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N7: NodeId = NodeId(7);

    fn named(name: &str) -> Result<NodeId, Status> {
        let known = name == "10.0.0.7:7000" || name == N7.to_string();
        known.then_some(N7).ok_or_else(|| Status::invalid_argument(format!("`{name}` is nobody")))
    }

    fn drop_all() -> v1::FilterRule {
        v1::FilterRule { action: v1::FilterAction::Drop.into(), ..v1::FilterRule::default() }
    }

    fn refusal(rule: v1::FilterRule) -> String {
        let refused = rules_from_wire(vec![drop_all(), rule], named).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        refused.message().to_owned()
    }

    #[test]
    fn what_was_armed_is_what_is_listed() {
        let nths = [None, Some(WireNth::Only(2)), Some(WireNth::StartingWith(3))];
        let delays = [(v1::FilterAction::Drop, 0), (v1::FilterAction::Delay, 5)];
        for (nth, (action, delay_ms)) in nths.into_iter().zip(delays.into_iter().cycle()) {
            let rule = v1::FilterRule {
                side: v1::FilterSide::Receive.into(),
                verb: "READ_REPAIR".to_owned(),
                from: N7.to_string(),
                to: String::new(),
                nth,
                action: action.into(),
                delay_ms,
            };
            let armed = rules_from_wire(vec![rule.clone()], named).unwrap();
            assert_eq!(rule_to_wire(&armed[0]), rule);
        }
        let by_address = v1::FilterRule { to: "10.0.0.7:7000".to_owned(), ..drop_all() };
        assert_eq!(rules_from_wire(vec![by_address], named).unwrap()[0].to, Some(N7));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_named_and_none_is_armed() {
        let verb = refusal(v1::FilterRule { verb: "MUTATON".to_owned(), ..drop_all() });
        assert_eq!(verb, "filter rule 2: `MUTATON` is no verb; did you mean `MUTATION`?");
        let nobody = refusal(v1::FilterRule { from: "n9".to_owned(), ..drop_all() });
        assert_eq!(nobody, "filter rule 2: `n9` is nobody");
        assert!(refusal(v1::FilterRule::default()).contains("it does nothing"));
        let zeroth = refusal(v1::FilterRule { nth: Some(WireNth::Only(0)), ..drop_all() });
        assert!(zeroth.contains("counted from 1"));
        let many = rules_from_wire(vec![drop_all(); RULES_MAX + 1], named).unwrap_err();
        assert!(many.message().contains("257 rules are too many"));
    }
}
