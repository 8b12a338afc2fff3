//! `faults arm`, `faults list`, `faults disarm`: loses, delays or doubles messages between nodes, by rule. For lessons and
//! experiments; a cluster that holds anything dear has no use for it.

use crate::context::{Context, Failure};
use crate::input;
use crate::out::{Out, cell};
use crate::storage::done_on_each;
use clap::{Args, Subcommand, ValueEnum};
use helenus_client::v1;
use helenus_client::v1::filter_rule::Nth;
use serde::Serialize;
use std::time::Duration;

/// Lose, delay or double messages between nodes on purpose: arm, list or disarm rules on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl faults arm --verb READ_REPAIR --to 127.0.0.2:7000 --action drop
  helenusctl faults list
  helenusctl faults disarm")]
pub(crate) struct Faults {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Arm(Arm),
    List(List),
    Disarm(Disarm),
}

impl Faults {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Arm(verb) => verb.run(context).await,
            Verb::List(verb) => verb.run(context).await,
            Verb::Disarm(verb) => verb.run(context).await,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Lose the message.
    Drop,
    /// Hold it back for as long as --delay says.
    Delay,
    /// Let it through twice.
    Duplicate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// Before the message enters the sender's queue: arm the sender.
    Send,
    /// Before the receiver handles it: arm the receiver.
    Receive,
}

/// Arm one rule on each host, beside those that are armed.
///
/// What is not said matches everything. The rules that were armed stay, and count anew from here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl faults arm --verb READ_REPAIR --to 127.0.0.2:7000 --action drop
  helenusctl faults arm --verb MUTATION --to 127.0.0.3:7000 --action drop --nth 3
  helenusctl faults arm --verb ACK --action delay --delay 200ms --every 2 --side receive
  helenusctl faults arm --action drop --to 127.0.0.2:7000 --only    # instead of what is armed")]
struct Arm {
    /// What becomes of the message.
    #[arg(long, value_enum)]
    action: Action,
    /// Only messages of this kind, as in tpstats: MUTATION, READ_REPAIR, HINT_PAGE, READ, ...
    #[arg(long)]
    verb: Option<String>,
    /// Only messages that this node sent: its host id or internode address.
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Only messages for this node: its host id or internode address.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Act on the Nth message that matches, and on no other.
    #[arg(long, value_name = "N", group = "which", value_parser = clap::value_parser!(u64).range(1..))]
    nth: Option<u64>,
    /// Act on the Nth message that matches and on all after it.
    #[arg(long, value_name = "N", group = "which", value_parser = clap::value_parser!(u64).range(1..))]
    from_nth: Option<u64>,
    /// Act on every Nth message that matches.
    #[arg(long, value_name = "N", group = "which", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    /// How long to hold a message back, e.g. 200ms; for --action delay.
    #[arg(long, value_name = "DURATION", value_parser = input::duration, required_if_eq("action", "delay"))]
    delay: Option<Duration>,
    /// At which end of the link.
    #[arg(long, value_enum, default_value_t = Side::Send)]
    side: Side,
    /// Disarm the other rules.
    #[arg(long)]
    only: bool,
}

impl Arm {
    fn rule(&self) -> Result<v1::FilterRule, Failure> {
        let nth = match (self.nth, self.from_nth, self.every) {
            (Some(n), ..) => Some(Nth::Only(n)),
            (_, Some(n), _) => Some(Nth::StartingWith(n)),
            (.., Some(n)) => Some(Nth::EveryMultipleOf(n)),
            _ => None,
        };
        if self.delay.is_some() && self.action != Action::Delay {
            return Err(Failure::Usage("--delay is for --action delay".to_owned()));
        }
        let delay_ms = self.delay.unwrap_or_default().as_millis();
        let delay_ms = u32::try_from(delay_ms).map_err(|_| {
            Failure::Usage("--delay: messages are held back for 49 days at most".to_owned())
        })?;
        let action = match self.action {
            Action::Drop => v1::FilterAction::Drop,
            Action::Delay => v1::FilterAction::Delay,
            Action::Duplicate => v1::FilterAction::Duplicate,
        };
        let side = match self.side {
            Side::Send => v1::FilterSide::Send,
            Side::Receive => v1::FilterSide::Receive,
        };
        Ok(v1::FilterRule {
            side: side.into(),
            verb: self.verb.clone().unwrap_or_default(),
            from: self.from.clone().unwrap_or_default(),
            to: self.to.clone().unwrap_or_default(),
            nth,
            action: action.into(),
            delay_ms,
        })
    }

    async fn run(self, context: &Context) -> Result<(), Failure> {
        let rule = self.rule()?;
        let what = format!(
            "armed: {}",
            Shown::new(v1::ArmedRule { rule: Some(rule.clone()), matched: 0 }).text()
        );
        let only = self.only;
        let each = context
            .ask_each(async |admin| {
                // A node takes its rules all at once, so those that are to stay are said again.
                let mut rules: Vec<v1::FilterRule> = match only {
                    true => Vec::new(),
                    false => {
                        let armed = admin.list_filter().await?.rules;
                        armed.into_iter().filter_map(|armed| armed.rule).collect()
                    }
                };
                rules.push(rule.clone());
                admin.arm_filter(rules).await
            })
            .await;
        done_on_each(context, each, &what)
    }
}

/// Show the rules that are armed on each host, and how many messages each has matched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl faults list
  helenusctl --host 127.0.0.1 --host 127.0.0.2 --format json faults list")]
struct List {}

impl List {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.list_filter().await).await;
        let armed: Vec<Armed> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Armed {
                host: addr.to_string(),
                rules: answer.rules.into_iter().map(Shown::new).collect(),
            })
            .collect();
        context.out.show(&armed, |armed| {
            armed.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

/// Disarm all rules on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl faults disarm
  helenusctl --host 127.0.0.1 --host 127.0.0.2 faults disarm")]
struct Disarm {}

impl Disarm {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let each = context.ask_each(async |admin| admin.disarm_filter().await).await;
        done_on_each(context, each, "disarmed: no message is lost, delayed or doubled by rule")
    }
}

#[derive(Debug, Serialize)]
struct Armed {
    host: String,
    rules: Vec<Shown>,
}

impl Armed {
    fn text(&self, out: &Out) -> String {
        if self.rules.is_empty() {
            return format!("{}: no rule is armed\n", self.host);
        }
        let mut table = out.table(&["action", "verb", "from", "to", "side", "on", ">matched"]);
        for rule in &self.rules {
            let any = |name: &Option<String>| cell(name.as_deref().unwrap_or("any"), false);
            table.add_row(vec![
                cell(rule.action(), false),
                any(&rule.verb),
                any(&rule.from),
                any(&rule.to),
                cell(rule.side, false),
                cell(rule.on(), false),
                cell(rule.matched, false),
            ]);
        }
        format!("{}\n{}\n", self.host, table.trim_fmt())
    }
}

/// A rule as it is shown. Absent is: any, or every one.
#[derive(Debug, Serialize)]
struct Shown {
    action: &'static str,
    delay_ms: Option<u32>,
    verb: Option<String>,
    from: Option<String>,
    to: Option<String>,
    side: &'static str,
    nth: Option<u64>,
    from_nth: Option<u64>,
    every: Option<u64>,
    matched: u64,
}

impl Shown {
    fn new(armed: v1::ArmedRule) -> Shown {
        let v1::ArmedRule { rule, matched } = armed;
        let rule = rule.unwrap_or_default();
        let given = |name: String| (!name.is_empty()).then_some(name);
        let delays = rule.action() == v1::FilterAction::Delay;
        let (mut nth, mut from_nth, mut every) = (None, None, None);
        match rule.nth {
            Some(Nth::Only(n)) => nth = Some(n),
            Some(Nth::StartingWith(n)) => from_nth = Some(n),
            Some(Nth::EveryMultipleOf(n)) => every = Some(n),
            None => {}
        }
        Shown {
            action: match rule.action() {
                v1::FilterAction::Drop => "drop",
                v1::FilterAction::Delay => "delay",
                v1::FilterAction::Duplicate => "duplicate",
                v1::FilterAction::Unspecified => "unknown",
            },
            delay_ms: delays.then_some(rule.delay_ms),
            side: match rule.side() {
                v1::FilterSide::Send => "send",
                v1::FilterSide::Receive => "receive",
            },
            verb: given(rule.verb),
            from: given(rule.from),
            to: given(rule.to),
            nth,
            from_nth,
            every,
            matched,
        }
    }

    fn action(&self) -> String {
        match self.delay_ms {
            Some(delay_ms) => format!("delay {delay_ms} ms"),
            None => self.action.to_owned(),
        }
    }

    fn on(&self) -> String {
        match (self.nth, self.from_nth, self.every) {
            (Some(n), ..) => format!("number {n} only"),
            (_, Some(n), _) => format!("number {n} and later"),
            (.., Some(n)) => format!("every multiple of {n}"),
            _ => "all".to_owned(),
        }
    }

    /// In a line, e.g. `drop READ_REPAIR from any to 127.0.0.2:7000, at the send side, on all`.
    fn text(&self) -> String {
        let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "any".to_owned());
        format!(
            "{} {} from {} to {}, at the {} side, on {}",
            self.action(),
            self.verb.as_deref().unwrap_or("any message"),
            any(&self.from),
            any(&self.to),
            self.side,
            self.on()
        )
    }
}
