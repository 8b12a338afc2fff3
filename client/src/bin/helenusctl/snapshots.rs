//! `snapshot`, `listsnapshots`, `clearsnapshot`: tables as they were at one moment.

use crate::context::{Context, Failure};
use crate::input;
use crate::out::{self, Out, cell};
use crate::stats::Which;
use crate::storage::done_on_each;
use clap::Args;
use helenus_client::v1;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A snapshot flushes first, and one that is cleared may be large.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Keep tables as they are now on each host, by hard links, under a name.
///
/// Memtables are flushed first. It takes no space until compaction replaces what it holds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl snapshot
  helenusctl snapshot --tag before-upgrade
  helenusctl snapshot --tag monday demo.kv
  helenusctl --host 127.0.0.1 --host 127.0.0.2 --host 127.0.0.3 snapshot --tag monday")]
pub(crate) struct Snapshot {
    #[command(flatten)]
    which: Which,
    /// Its name: letters, digits, dots, underscores and hyphens. Without it, the time in milliseconds.
    #[arg(short, long)]
    tag: Option<String>,
}

impl Snapshot {
    #[expect(clippy::disallowed_methods, reason = "a tool of people has their clock")]
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let timeout = context.timeout().unwrap_or(TIMEOUT);
        let tag = self.tag.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_millis().to_string()
        });
        let each = context
            .ask_each(async |admin| {
                admin.with_timeout(timeout).take_snapshot(&tag, filter.clone()).await
            })
            .await;
        done_on_each(context, each, &format!("took snapshot `{tag}`"))
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    host: String,
    snapshots: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    tag: String,
    keyspace: String,
    table: String,
    table_id: String,
    created_us: i64,
    sstables: u64,
    bytes_on_disk: u64,
    true_bytes: u64,
    complete: bool,
}

impl Listed {
    fn new(host: String, answer: v1::ListSnapshotsResponse) -> Listed {
        let snapshots = answer.snapshots.into_iter().map(|it| Entry {
            tag: it.tag,
            keyspace: it.keyspace,
            table: it.table,
            table_id: input::hex(&it.table_id),
            created_us: it.created_ms.saturating_mul(1000),
            sstables: it.sstables,
            bytes_on_disk: it.bytes_on_disk,
            true_bytes: it.true_bytes,
            complete: it.complete,
        });
        Listed { host, snapshots: snapshots.collect() }
    }

    fn text(&self, out: &Out) -> String {
        if self.snapshots.is_empty() {
            return format!("{}: there are no snapshots\n", self.host);
        }
        let columns = [
            "Snapshot",
            "Keyspace",
            "Table",
            "Created",
            ">SSTables",
            ">True size",
            ">Size on disk",
        ];
        let mut table = out.table(&columns);
        for it in &self.snapshots {
            let incomplete = if it.complete { "" } else { " (INCOMPLETE)" };
            table.add_row(vec![
                cell(format!("{}{incomplete}", it.tag), !it.complete),
                cell(&it.keyspace, false),
                cell(&it.table, false),
                cell(out::moment(it.created_us), false),
                cell(it.sstables, false),
                cell(out::bytes(it.true_bytes), false),
                cell(out::bytes(it.bytes_on_disk), false),
            ]);
        }
        let freed = self.snapshots.iter().map(|it| it.true_bytes).sum();
        let freed = out::bytes(freed);
        format!(
            "{}\n{}\n  clearing all of them frees at least {freed}\n",
            self.host,
            table.trim_fmt()
        )
    }
}

/// The snapshots of each host, and what they take. The true size is what the tables no longer share.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl listsnapshots
  helenusctl --format json listsnapshots | jq '.[0].snapshots[] | select(.true_bytes > 1000000)'")]
pub(crate) struct ListSnapshots {}

impl ListSnapshots {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.list_snapshots().await).await;
        let listed: Vec<Listed> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Listed::new(addr.to_string(), answer))
            .collect();
        context.out.show(&listed, |listed| {
            listed.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct Cleared {
    host: String,
    cleared: u64,
}

/// Remove a snapshot, or all of them, on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl clearsnapshot --tag monday
  helenusctl clearsnapshot --tag monday demo.kv
  helenusctl clearsnapshot --all")]
pub(crate) struct ClearSnapshot {
    #[command(flatten)]
    which: Which,
    /// Its name; or see --all.
    #[arg(short, long, required_unless_present = "all")]
    tag: Option<String>,
    /// Every snapshot.
    #[arg(long, conflicts_with = "tag")]
    all: bool,
}

impl ClearSnapshot {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let timeout = context.timeout().unwrap_or(TIMEOUT);
        let tag = self.tag.as_deref();
        let mut each = context
            .ask_each(async |admin| {
                admin.with_timeout(timeout).clear_snapshot(tag, filter.clone()).await
            })
            .await;
        let cleared: Vec<Cleared> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Cleared { host: addr.to_string(), cleared: answer.cleared })
            .collect();
        context.out.show(&cleared, |cleared| {
            let line = |it: &Cleared| format!("{}: cleared {} tables\n", it.host, it.cleared);
            cleared.iter().map(line).collect()
        })?;
        each.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_listed_with_both_sizes() {
        let whole = v1::Snapshot {
            tag: "monday".into(),
            keyspace: "shop".into(),
            table: "orders".into(),
            created_ms: 1_767_323_045_123,
            bytes_on_disk: 4096,
            true_bytes: 1024,
            complete: true,
            ..Default::default()
        };
        let cut = v1::Snapshot { tag: "cut".into(), true_bytes: 1024, ..Default::default() };
        let answer = v1::ListSnapshotsResponse { snapshots: vec![whole, cut] };
        let text = Listed::new("h".into(), answer).text(&Out::new(out::Format::Json));
        for words in ["monday", "2026-01-02T03:04:05", "1.0 KiB", "4.0 KiB", "cut (INCOMPLETE)"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.contains("frees at least 2.0 KiB"), "{text}");
    }
}
