//! `hints await`: whether a node has got all that it was owed.

use crate::context::{Context, Failure};
use crate::out::{Out, cell};
use clap::{Args, Subcommand};
use futures_util::future::join_all;
use helenus_client::{Admin, v1};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long to wait unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What an answer may take on its way, besides.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// Wait for hints.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl hints await --target 127.0.0.3:7000 --timeout 10m")]
pub(crate) struct Hints {
    #[command(subcommand)]
    verb: HintsVerb,
}

#[derive(Debug, Subcommand)]
enum HintsVerb {
    Await(Await),
}

impl Hints {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            HintsVerb::Await(verb) => verb.run(context).await,
        }
    }
}

/// Wait until every hint for a node, on every coordinator, is delivered or will never be.
///
/// Hints that were made before the call are waited for, later ones are not. It succeeds when none of them is pending, and
/// says which were not delivered and why. A coordinator that cannot be asked may owe something, so then it fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl hints await --target 127.0.0.3:7000 --timeout 10m
  helenusctl hints await --target 5f1c0c8e-3a5b-4e0e-8c39-0d1b6d1c9f42 --format json")]
struct Await {
    /// A host id or internode address.
    #[arg(long)]
    target: String,
}

#[derive(Debug, Serialize)]
struct Awaited {
    /// Whether nothing is left to wait for, anywhere.
    delivered_or_counted: bool,
    coordinators: Vec<Coordinator>,
}

#[derive(Debug, Serialize)]
struct Coordinator {
    host: String,
    /// Why it could not be asked.
    error: Option<String>,
    owed: u64,
    delivered: u64,
    undelivered: BTreeMap<String, u64>,
    pending: u64,
    /// Set aside for the target; not waited for.
    dead_lettered: u64,
}

impl Awaited {
    fn new(coordinators: Vec<Coordinator>) -> Awaited {
        let reached = coordinators.iter().all(|it| it.error.is_none() && it.pending == 0);
        Awaited { delivered_or_counted: reached, coordinators }
    }

    fn text(&self, out: &Out) -> String {
        let columns = [">Owed", ">Delivered", ">Pending", "Not delivered", "Coordinator"];
        let mut table = out.table(&columns);
        for it in &self.coordinators {
            let lost: Vec<String> =
                it.undelivered.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let lost = it.error.clone().unwrap_or_else(|| lost.join(", "));
            table.add_row(vec![
                cell(it.owed, false),
                cell(it.delivered, false),
                cell(it.pending, it.pending > 0),
                cell(if lost.is_empty() { "-" } else { &lost }, !lost.is_empty()),
                cell(&it.host, false),
            ]);
        }
        let end = match self.delivered_or_counted {
            true => "every hint that was owed is delivered or counted as not deliverable",
            false => "NOT ALL of what was owed is settled",
        };
        let letters = match self.coordinators.iter().map(|it| it.dead_lettered).sum::<u64>() {
            0 => String::new(),
            held => {
                format!("{held} dead letters are held for it: `helenusctl deadletters replay`\n")
            }
        };
        format!("{}\n{end}\n{letters}", table.trim_fmt())
    }
}

impl Await {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let timeout = context.timeout().unwrap_or(TIMEOUT);
        let members = context.members().await?;
        let target = &self.target;
        let each =
            members.iter().map(async |member| ask(&member.client_addr, target, timeout).await);
        let awaited = Awaited::new(join_all(each).await);
        context.out.show(&awaited, |awaited| awaited.text(&context.out))?;
        if awaited.delivered_or_counted {
            return Ok(());
        }
        let count =
            |is: fn(&Coordinator) -> bool| awaited.coordinators.iter().filter(|it| is(it)).count();
        Err(Failure::HintsPending {
            pending: awaited.coordinators.iter().map(|it| it.pending).sum(),
            not_asked: count(|it| it.error.is_some()),
        })
    }
}

async fn ask(addr: &str, target: &str, timeout: Duration) -> Coordinator {
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let answer = match addr.parse::<SocketAddr>() {
        Ok(addr) => {
            let admin = Admin::to(addr, timeout.saturating_add(ON_THE_WAY));
            admin.await_hints(target, timeout_ms).await.map_err(|error| error.to_string())
        }
        Err(_) => Err("it is not known where clients reach it".to_owned()),
    };
    let (error, answer) = match answer {
        Ok(answer) => (None, answer),
        Err(error) => (Some(error), v1::AwaitHintsResponse::default()),
    };
    Coordinator {
        host: addr.to_owned(),
        error,
        owed: answer.owed,
        delivered: answer.delivered,
        undelivered: answer.undelivered.into_iter().collect(),
        pending: answer.pending,
        dead_lettered: answer.dead_lettered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coordinator(pending: u64, error: Option<&str>) -> Coordinator {
        Coordinator {
            host: "h".to_owned(),
            error: error.map(str::to_owned),
            owed: 3,
            delivered: 3 - pending,
            undelivered: BTreeMap::new(),
            pending,
            dead_lettered: 5,
        }
    }

    #[test]
    fn it_is_true_only_if_every_coordinator_says_so() {
        assert!(
            Awaited::new(vec![coordinator(0, None), coordinator(0, None)]).delivered_or_counted
        );
        assert!(
            !Awaited::new(vec![coordinator(0, None), coordinator(1, None)]).delivered_or_counted
        );
        let silent = Awaited::new(vec![coordinator(0, None), coordinator(0, Some("no route"))]);
        assert!(!silent.delivered_or_counted);
        let text = silent.text(&Out::new(crate::out::Format::Table));
        assert!(text.contains("no route") && text.contains("10 dead letters are held"), "{text}");
    }
}
