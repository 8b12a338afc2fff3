//! `helenusctl`: the operator's tool, with nodetool's verbs, and a key-value shell and a load generator beside them.
//!
//! Results go to stdout, everything else (warnings, errors, progress) to stderr. Exit codes: 0 it worked, 1 it did not,
//! 2 the command line makes no sense.

mod await_hints;
mod bench;
mod cluster;
mod context;
mod data;
mod dead_letters;
mod decommission;
mod faults;
mod hints;
mod input;
mod integrity;
mod ledger;
mod out;
mod repair;
mod roles;
mod schema;
mod snapshots;
mod stats;
mod storage;

use clap::{Parser, Subcommand};
use context::{Context, Failure};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

/// Read, write, watch and operate a Helenus cluster.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "\
Examples:
  helenusctl status
  helenusctl put demo.kv greeting 'hello, Troy' --level quorum
  helenusctl get demo.kv greeting --trace
  helenusctl --host 127.0.0.2 info
  helenusctl --format json listpendinghints | jq .

Exit codes: 0 it worked; 1 it failed, or the key is not there; 2 the command line makes no sense."
)]
struct Cli {
    /// A node to talk to, as HOST or HOST:PORT; may be given more than once.
    ///
    /// Reads, writes and the schema take the first that answers. Verbs about a node itself (info, flush, pausehandoff,
    /// ...) are done on every host given.
    #[arg(
        long,
        global = true,
        help_heading = "Options of every verb",
        value_name = "HOST",
        default_value = "127.0.0.1:9160"
    )]
    host: Vec<String>,

    /// Tables for people, or JSON for programs.
    #[arg(long, global = true, help_heading = "Options of every verb", value_enum, default_value_t = out::Format::Table)]
    format: out::Format,

    /// How long an operation may take, e.g. 500ms or 10s.
    #[arg(long, global = true, help_heading = "Options of every verb", value_name = "DURATION", value_parser = input::duration)]
    timeout: Option<Duration>,

    #[command(flatten)]
    tls: context::TlsArgs,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Put(data::Put),
    Get(data::Get),
    Delete(data::Delete),
    Scan(data::Scan),

    CreateKeyspace(schema::CreateKeyspace),
    DropKeyspace(schema::DropKeyspace),
    CreateTable(schema::CreateTable),
    DropTable(schema::DropTable),
    Describe(schema::Describe),

    Status(cluster::Status),
    Ring(cluster::Ring),
    Info(cluster::Info),
    #[command(name = "gossipinfo")]
    GossipInfo(cluster::GossipInfo),
    #[command(name = "getendpoints")]
    GetEndpoints(cluster::GetEndpoints),
    #[command(name = "tpstats")]
    TpStats(stats::TpStats),
    #[command(name = "tablestats")]
    TableStats(stats::TableStats),
    #[command(name = "compactionstats")]
    CompactionStats(stats::CompactionStats),
    #[command(name = "compactionhistory")]
    CompactionHistory(stats::CompactionHistory),

    #[command(name = "pausehandoff")]
    PauseHandoff(hints::PauseHandoff),
    #[command(name = "resumehandoff")]
    ResumeHandoff(hints::ResumeHandoff),
    #[command(name = "listpendinghints")]
    ListPendingHints(hints::ListPendingHints),
    #[command(name = "truncatehints")]
    TruncateHints(hints::TruncateHints),
    Hints(await_hints::Hints),
    #[command(name = "hintledger")]
    HintLedger(ledger::HintLedger),
    #[command(name = "deadletters")]
    DeadLetters(dead_letters::DeadLetters),

    Flush(storage::Flush),
    Compact(storage::Compact),
    #[command(name = "enableautocompaction")]
    EnableAutoCompaction(storage::EnableAutoCompaction),
    #[command(name = "disableautocompaction")]
    DisableAutoCompaction(storage::DisableAutoCompaction),
    #[command(name = "setcompactionthroughput")]
    SetCompactionThroughput(storage::SetCompactionThroughput),
    Verify(integrity::Verify),
    Scrub(integrity::Scrub),
    Snapshot(snapshots::Snapshot),
    #[command(name = "listsnapshots")]
    ListSnapshots(snapshots::ListSnapshots),
    #[command(name = "clearsnapshot")]
    ClearSnapshot(snapshots::ClearSnapshot),
    #[command(name = "setconcurrentcompactors")]
    SetConcurrentCompactors(storage::SetConcurrentCompactors),

    Repair(repair::Repair),
    Decommission(decommission::Decommission),

    Role(roles::Role),

    Faults(faults::Faults),

    Bench(bench::Bench),
}

impl Verb {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Verb::Put(verb) => verb.run(context).await,
            Verb::Get(verb) => verb.run(context).await,
            Verb::Delete(verb) => verb.run(context).await,
            Verb::Scan(verb) => verb.run(context).await,
            Verb::CreateKeyspace(verb) => verb.run(context).await,
            Verb::DropKeyspace(verb) => verb.run(context).await,
            Verb::CreateTable(verb) => verb.run(context).await,
            Verb::DropTable(verb) => verb.run(context).await,
            Verb::Describe(verb) => verb.run(context).await,
            Verb::Status(verb) => verb.run(context).await,
            Verb::Ring(verb) => verb.run(context).await,
            Verb::Info(verb) => verb.run(context).await,
            Verb::GossipInfo(verb) => verb.run(context).await,
            Verb::GetEndpoints(verb) => verb.run(context).await,
            Verb::TpStats(verb) => verb.run(context).await,
            Verb::TableStats(verb) => verb.run(context).await,
            Verb::CompactionStats(verb) => verb.run(context).await,
            Verb::CompactionHistory(verb) => verb.run(context).await,
            Verb::PauseHandoff(verb) => verb.run(context).await,
            Verb::ResumeHandoff(verb) => verb.run(context).await,
            Verb::ListPendingHints(verb) => verb.run(context).await,
            Verb::TruncateHints(verb) => verb.run(context).await,
            Verb::Hints(verb) => verb.run(context).await,
            Verb::HintLedger(verb) => verb.run(context).await,
            Verb::DeadLetters(verb) => verb.run(context).await,
            Verb::Flush(verb) => verb.run(context).await,
            Verb::Compact(verb) => verb.run(context).await,
            Verb::EnableAutoCompaction(verb) => verb.run(context).await,
            Verb::DisableAutoCompaction(verb) => verb.run(context).await,
            Verb::SetCompactionThroughput(verb) => verb.run(context).await,
            Verb::Verify(verb) => verb.run(context).await,
            Verb::Scrub(verb) => verb.run(context).await,
            Verb::Snapshot(verb) => verb.run(context).await,
            Verb::ListSnapshots(verb) => verb.run(context).await,
            Verb::ClearSnapshot(verb) => verb.run(context).await,
            Verb::SetConcurrentCompactors(verb) => verb.run(context).await,
            Verb::Repair(verb) => verb.run(context).await,
            Verb::Decommission(verb) => verb.run(context).await,
            Verb::Role(verb) => verb.run(context).await,
            Verb::Faults(verb) => verb.run(context).await,
            Verb::Bench(verb) => verb.run(context).await,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(repair::spell_out(std::env::args_os()));
    let out = out::Out::new(cli.format);
    let done = Context::new(&cli.host, cli.timeout, cli.tls, out.clone()).and_then(|context| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Here(format!("cannot start the runtime: {error}")))?;
        // Boxed, or each of the places where the runtime polls it gets a copy of all verbs: most of this program, to build.
        let done: Pin<Box<dyn Future<Output = _>>> = Box::pin(cli.verb.run(&context));
        runtime.block_on(done)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_says_what_it_does_and_shows_an_example() {
        for verb in Cli::command().get_subcommands() {
            let name = verb.get_name();
            assert!(verb.get_about().is_some(), "{name} says nothing");
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("helenusctl {name}")), "{name} shows no example");
        }
    }
}
