//! `flush`, `compact`, `enableautocompaction`, `disableautocompaction`, `setcompactionthroughput`,
//! `setconcurrentcompactors`.

use crate::context::{Context, Each, Failure};
use crate::input;
use crate::out;
use crate::stats::Which;
use clap::Args;
use helenus_client::v1;
use serde::Serialize;
use std::time::Duration;

/// A major compaction rewrites everything a node has, so it gets more patience than other calls.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize)]
struct Done {
    host: String,
    done: bool,
}

/// Says what each host did.
pub(crate) fn done_on_each(
    context: &Context,
    mut each: Each<v1::Done>,
    what: &str,
) -> Result<(), Failure> {
    let done: Vec<Done> = std::mem::take(&mut each.answers)
        .into_iter()
        .map(|(addr, v1::Done {})| Done { host: addr.to_string(), done: true })
        .collect();
    context
        .out
        .show(&done, |done| done.iter().map(|it| format!("{}: {what}\n", it.host)).collect())?;
    each.finish()
}

/// Write memtables to SSTables on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl flush
  helenusctl flush demo.kv
  helenusctl --host 127.0.0.1 --host 127.0.0.2 flush demo")]
pub(crate) struct Flush {
    #[command(flatten)]
    which: Which,
}

impl Flush {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let each = context.ask_each(async |admin| admin.flush(filter.clone()).await).await;
        done_on_each(context, each, "flushed")
    }
}

/// Compact everything now, on each host (a major compaction).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl compact
  helenusctl compact demo.kv
  helenusctl --timeout 2h compact demo")]
pub(crate) struct Compact {
    #[command(flatten)]
    which: Which,
}

impl Compact {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let timeout = context.timeout().unwrap_or(COMPACT_TIMEOUT);
        let each = context
            .ask_each(async |admin| admin.with_timeout(timeout).compact(filter.clone()).await)
            .await;
        done_on_each(context, each, "compacted")
    }
}

/// Compact in the background again, on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl enableautocompaction
  helenusctl enableautocompaction demo.kv")]
pub(crate) struct EnableAutoCompaction {
    #[command(flatten)]
    which: Which,
}

impl EnableAutoCompaction {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let each = context
            .ask_each(async |admin| admin.enable_auto_compaction(filter.clone()).await)
            .await;
        done_on_each(context, each, "automatic compaction enabled")
    }
}

/// Stop background compaction on each host. SSTables pile up, and reads get slower.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl disableautocompaction
  helenusctl disableautocompaction demo.kv")]
pub(crate) struct DisableAutoCompaction {
    #[command(flatten)]
    which: Which,
}

impl DisableAutoCompaction {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let each = context
            .ask_each(async |admin| admin.disable_auto_compaction(filter.clone()).await)
            .await;
        done_on_each(context, each, "automatic compaction disabled; SSTables will pile up")
    }
}

/// Bound what compaction writes per second, on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl setcompactionthroughput 64MiB/s
  helenusctl setcompactionthroughput 0    # no limit")]
pub(crate) struct SetCompactionThroughput {
    /// Bytes per second, e.g. 64MiB/s; 0 lifts the bound.
    #[arg(value_name = "RATE", value_parser = input::throughput)]
    bytes_per_s: u64,
}

impl SetCompactionThroughput {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let limit = self.bytes_per_s;
        let each =
            context.ask_each(async |admin| admin.set_compaction_throughput(limit).await).await;
        let what = match limit {
            0 => "compaction writes as fast as it can".to_owned(),
            limit => format!("compaction writes at most {}/s", out::bytes(limit)),
        };
        done_on_each(context, each, &what)
    }
}

/// Set how many compactions run at a time, on each host. Those under way run to their end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl setconcurrentcompactors 4")]
pub(crate) struct SetConcurrentCompactors {
    /// 1 to 8.
    #[arg(value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=8))]
    compactors: u32,
}

impl SetConcurrentCompactors {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let count = self.compactors;
        let each =
            context.ask_each(async |admin| admin.set_concurrent_compactors(count).await).await;
        done_on_each(context, each, &format!("at most {count} compactions at a time"))
    }
}
