//! `deadletters`: hints that there was no room for, set aside for an operator to read, replay or purge.

mod list;
mod read;
mod replay;
mod update;

use crate::context::{Context, Failure};
use clap::{Args, Subcommand};

/// Read, replay, export or purge dead letters: hints that there was no room for.
///
/// Where a keyspace's or a node's overflow policy is `dead-letter`, a hint that does not fit into max_hints_size goes to this
/// log, which has a bound of its own (max_dead_letters_size). Nothing in it is delivered until somebody says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl deadletters list
  helenusctl deadletters show --target 127.0.0.3:7000 --limit 5
  helenusctl deadletters replay
  helenusctl deadletters export letters.jsonl
  helenusctl deadletters purge --target 127.0.0.3:7000 --force")]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Show(read::Show),
    Replay(replay::Replay),
    Export(read::Export),
    Purge(list::Purge),
}

impl DeadLetters {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::List(verb) => verb.run(context).await,
            Verb::Show(verb) => verb.run(context).await,
            Verb::Replay(verb) => verb.run(context).await,
            Verb::Export(verb) => verb.run(context).await,
            Verb::Purge(verb) => verb.run(context).await,
        }
    }
}

/// How a node is called: its address, or its host id where that is not known.
fn name<'a>(addr: &'a str, host_id: &'a str) -> &'a str {
    if addr.is_empty() { host_id } else { addr }
}
