//! `tpstats`, `tablestats`, `compactionstats`, `compactionhistory`: what each host is busy with.

use crate::context::{Context, Failure};
use crate::out::{self, Out, cell};
use clap::Args;
use helenus_client::{TableFilter, v1};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct ThreadPools {
    host: String,
    pools: Vec<Pool>,
    dropped: Vec<Dropped>,
    links: Vec<Link>,
}

#[derive(Debug, Serialize)]
struct Pool {
    name: String,
    active: u64,
    pending: u64,
    completed: u64,
    rejected: u64,
}

#[derive(Debug, Serialize)]
struct Dropped {
    verb: String,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct Link {
    peer: String,
    lane: String,
    connected: bool,
    queued: u64,
    sent: u64,
    received: u64,
    dropped: u64,
}

impl ThreadPools {
    fn new(host: String, answer: v1::TpStatsResponse) -> ThreadPools {
        let pools = answer.pools.into_iter().map(|pool| Pool {
            name: pool.name,
            active: pool.active,
            pending: pool.pending,
            completed: pool.completed,
            rejected: pool.rejected,
        });
        let dropped =
            answer.dropped.into_iter().map(|it| Dropped { verb: it.verb, dropped: it.dropped });
        let links = answer.links.into_iter().map(|link| Link {
            peer: link.peer,
            lane: link.lane,
            connected: link.connected,
            queued: link.queued,
            sent: link.sent,
            received: link.received,
            dropped: link.dropped,
        });
        ThreadPools {
            host,
            pools: pools.collect(),
            dropped: dropped.collect(),
            links: links.collect(),
        }
    }

    fn text(&self, out: &Out) -> String {
        let mut pools = out.table(&["Pool", ">Active", ">Pending", ">Completed", ">Rejected"]);
        for pool in &self.pools {
            pools.add_row(vec![
                cell(&pool.name, false),
                cell(pool.active, false),
                cell(pool.pending, false),
                cell(pool.completed, false),
                cell(pool.rejected, pool.rejected > 0),
            ]);
        }
        let mut dropped = out.table(&["Message type", ">Dropped"]);
        for it in &self.dropped {
            dropped.add_row(vec![cell(&it.verb, false), cell(it.dropped, it.dropped > 0)]);
        }
        let columns = ["Peer", "Lane", "Link", ">Queued", ">Sent", ">Received", ">Dropped"];
        let mut links = out.table(&columns);
        for link in &self.links {
            links.add_row(vec![
                cell(&link.peer, false),
                cell(&link.lane, false),
                cell(if link.connected { "up" } else { "down" }, !link.connected),
                cell(link.queued, false),
                cell(link.sent, false),
                cell(link.received, false),
                cell(link.dropped, link.dropped > 0),
            ]);
        }
        let tables = [pools, dropped, links].map(|table| table.trim_fmt());
        format!("{}\n{}\n", self.host, tables.join("\n\n"))
    }
}

/// Work in progress, messages dropped because they came too late or too many, and links to peers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl tpstats
  helenusctl --host 127.0.0.1 --host 127.0.0.2 tpstats
  helenusctl --format json tpstats | jq '.[0].dropped[] | select(.dropped > 0)'")]
pub(crate) struct TpStats {}

impl TpStats {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.tp_stats().await).await;
        let stats: Vec<ThreadPools> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| ThreadPools::new(addr.to_string(), answer))
            .collect();
        context.out.show(&stats, |stats| {
            stats.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct Tables {
    host: String,
    tables: Vec<Table>,
}

#[derive(Debug, Serialize)]
struct Table {
    keyspace: String,
    table: String,
    sstables: u64,
    live_bytes: u64,
    memtable_bytes: u64,
    memtable_partitions: u64,
    reads: u64,
    writes: u64,
    flushes: u64,
    compactions: u64,
    bloom_false_positives: u64,
    pending_compactions: u64,
    levels: Vec<u64>,
    flushed_bytes: u64,
    compacted_bytes_read: u64,
    compacted_bytes_written: u64,
    raw_bytes: u64,
    live_raw_bytes: u64,
    droppable_tombstone_ratio: f64,
}

impl From<v1::TableStats> for Table {
    fn from(stats: v1::TableStats) -> Self {
        Table {
            keyspace: stats.keyspace,
            table: stats.table,
            sstables: stats.sstables,
            live_bytes: stats.live_bytes,
            memtable_bytes: stats.memtable_bytes,
            memtable_partitions: stats.memtable_partitions,
            reads: stats.reads,
            writes: stats.writes,
            flushes: stats.flushes,
            compactions: stats.compactions,
            bloom_false_positives: stats.bloom_false_positives,
            pending_compactions: stats.pending_compactions,
            levels: stats.levels,
            flushed_bytes: stats.flushed_bytes,
            compacted_bytes_read: stats.compacted_bytes_read,
            compacted_bytes_written: stats.compacted_bytes_written,
            raw_bytes: stats.raw_bytes,
            live_raw_bytes: stats.live_raw_bytes,
            droppable_tombstone_ratio: stats.droppable_tombstone_ratio,
        }
    }
}

/// How many times as much; `-` of nothing.
fn times(much: u64, of: u64) -> String {
    if of == 0 { "-".to_owned() } else { format!("{:.2}", much as f64 / of as f64) }
}

impl Table {
    fn levels_text(&self) -> String {
        let levels: Vec<String> = self.levels.iter().map(u64::to_string).collect();
        if levels.is_empty() { "-".to_owned() } else { levels.join(", ") }
    }

    /// Bytes written to SSTables for each byte that a flush wrote.
    fn write_amplification(&self) -> String {
        times(self.flushed_bytes.saturating_add(self.compacted_bytes_written), self.flushed_bytes)
    }

    fn text(&self) -> String {
        let rows = [
            ("SSTable count", self.sstables.to_string()),
            ("Space used (live)", out::bytes(self.live_bytes)),
            ("Memtable data size", out::bytes(self.memtable_bytes)),
            ("Memtable partitions", self.memtable_partitions.to_string()),
            ("Local read count", self.reads.to_string()),
            ("Local write count", self.writes.to_string()),
            ("Flushes", self.flushes.to_string()),
            ("Compactions", self.compactions.to_string()),
            ("Pending compactions", self.pending_compactions.to_string()),
            ("Bloom filter false positives", self.bloom_false_positives.to_string()),
            ("SSTables in each level", self.levels_text()),
            ("Write amplification", self.write_amplification()),
            ("Space amplification (estimate)", times(self.raw_bytes, self.live_raw_bytes)),
            ("Droppable tombstone ratio", format!("{:.5}", self.droppable_tombstone_ratio)),
        ];
        let rows = rows.map(|(name, value)| format!("    {name:<30}: {value}\n")).concat();
        format!("  {}.{}\n{rows}", self.keyspace, self.table)
    }
}

/// Which tables a verb is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// KEYSPACE or KEYSPACE.TABLE; without it, all.
    #[arg(value_name = "KEYSPACE[.TABLE]")]
    target: Option<String>,
}

impl Which {
    pub(crate) fn filter(&self) -> TableFilter {
        let target = self.target.as_deref().unwrap_or_default();
        let (keyspace, table) = target.split_once('.').unwrap_or((target, ""));
        TableFilter { keyspace: keyspace.to_owned(), table: table.to_owned() }
    }
}

/// Figures per table, on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl tablestats
  helenusctl tablestats demo.kv
  helenusctl --format json tablestats demo | jq .[0].tables[0].sstables")]
pub(crate) struct TableStats {
    #[command(flatten)]
    which: Which,
}

impl TableStats {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let mut each =
            context.ask_each(async |admin| admin.table_stats(filter.clone()).await).await;
        let stats: Vec<Tables> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Tables {
                host: addr.to_string(),
                tables: answer.tables.into_iter().map(Table::from).collect(),
            })
            .collect();
        context.out.show(&stats, |stats| {
            let host = |it: &Tables| {
                format!("{}\n{}", it.host, it.tables.iter().map(Table::text).collect::<String>())
            };
            stats.iter().map(host).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct Compactions {
    host: String,
    pending_tasks: u64,
    auto_compaction: bool,
    /// 0: no limit.
    throughput_bytes_per_s: u64,
    completed: u64,
    compactors: u32,
    running: Vec<Running>,
}

#[derive(Debug, Serialize)]
struct Running {
    id: u64,
    reason: String,
    level: u32,
    keyspace: String,
    table: String,
    done_bytes: u64,
    total_bytes: u64,
}

impl Compactions {
    fn new(host: String, answer: v1::CompactionStatsResponse) -> Compactions {
        let running = answer.running.into_iter().map(|it| Running {
            id: it.id,
            reason: it.reason,
            level: it.level,
            keyspace: it.keyspace,
            table: it.table,
            done_bytes: it.done_bytes,
            total_bytes: it.total_bytes,
        });
        Compactions {
            host,
            pending_tasks: answer.pending_tasks,
            auto_compaction: answer.auto_compaction,
            throughput_bytes_per_s: answer.throughput_bytes_per_s,
            completed: answer.completed,
            compactors: answer.compactors,
            running: running.collect(),
        }
    }

    fn text(&self, out: &Out) -> String {
        let auto = if self.auto_compaction { "enabled" } else { "DISABLED" };
        let limit = match self.throughput_bytes_per_s {
            0 => "unlimited".to_owned(),
            limit => format!("{}/s", out::bytes(limit)),
        };
        let mut text = format!(
            "{}\npending tasks: {}; completed: {}; compactors: {}; automatic: {auto}; throughput: {limit}\n",
            self.host, self.pending_tasks, self.completed, self.compactors
        );
        if !self.running.is_empty() {
            let mut table =
                out.table(&[">Id", "Table", "Reason", ">Level", ">Done", ">Total", ">Progress"]);
            for it in &self.running {
                // A compaction of nothing is done.
                let share = match it.total_bytes {
                    0 => 100,
                    total => u128::from(it.done_bytes) * 100 / u128::from(total),
                };
                table.add_row(vec![
                    cell(it.id, false),
                    cell(format!("{}.{}", it.keyspace, it.table), false),
                    cell(&it.reason, false),
                    cell(it.level, false),
                    cell(out::bytes(it.done_bytes), false),
                    cell(out::bytes(it.total_bytes), false),
                    cell(format!("{share}%"), false),
                ]);
            }
            text += &format!("{}\n", table.trim_fmt());
        }
        text
    }
}

/// Compactions that run and wait, on each host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl compactionstats
  watch helenusctl compactionstats
  helenusctl --format json compactionstats | jq .[0].pending_tasks")]
pub(crate) struct CompactionStats {}

impl CompactionStats {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.compaction_stats().await).await;
        let stats: Vec<Compactions> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Compactions::new(addr.to_string(), answer))
            .collect();
        context.out.show(&stats, |stats| {
            stats.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct History {
    host: String,
    compactions: Vec<Finished>,
}

#[derive(Debug, Serialize)]
struct Finished {
    id: u64,
    ended_us: i64,
    keyspace: String,
    table: String,
    reason: String,
    level: u64,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
    bytes_in: u64,
    bytes_out: u64,
    partitions_in: u64,
    partitions_out: u64,
}

impl From<v1::FinishedCompaction> for Finished {
    fn from(it: v1::FinishedCompaction) -> Self {
        Finished {
            id: it.id,
            ended_us: it.ended_us,
            keyspace: it.keyspace,
            table: it.table,
            reason: it.reason,
            level: it.level,
            inputs: it.inputs,
            outputs: it.outputs,
            bytes_in: it.bytes_in,
            bytes_out: it.bytes_out,
            partitions_in: it.partitions_in,
            partitions_out: it.partitions_out,
        }
    }
}

impl History {
    fn text(&self, out: &Out) -> String {
        let mut table = out.table(&[
            ">Id",
            "Ended",
            "Table",
            "Reason",
            ">Level",
            ">SSTables",
            ">Bytes in",
            ">Bytes out",
            ">Partitions in",
            ">Partitions out",
        ]);
        for it in &self.compactions {
            table.add_row(vec![
                cell(it.id, false),
                cell(out::moment(it.ended_us), false),
                cell(format!("{}.{}", it.keyspace, it.table), false),
                cell(&it.reason, false),
                cell(it.level, false),
                cell(format!("{} -> {}", it.inputs.len(), it.outputs.len()), false),
                cell(out::bytes(it.bytes_in), false),
                cell(out::bytes(it.bytes_out), false),
                cell(it.partitions_in, false),
                cell(it.partitions_out, false),
            ]);
        }
        format!("{}\n{}\n", self.host, table.trim_fmt())
    }
}

/// Compactions that ended on each host, the newest first: the last 4096 of the last seven days.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl compactionhistory
  helenusctl --format json compactionhistory | jq '.[0].compactions[0].bytes_out'")]
pub(crate) struct CompactionHistory {}

impl CompactionHistory {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.compaction_history().await).await;
        let history: Vec<History> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| History {
                host: addr.to_string(),
                compactions: answer.compactions.into_iter().map(Finished::from).collect(),
            })
            .collect();
        context.out.show(&history, |history| {
            history.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_everything_a_keyspace_or_a_table() {
        let filter = |target: Option<&str>| {
            let TableFilter { keyspace, table } =
                Which { target: target.map(str::to_owned) }.filter();
            (keyspace, table)
        };
        assert_eq!(filter(None), (String::new(), String::new()));
        assert_eq!(filter(Some("demo")), ("demo".into(), String::new()));
        assert_eq!(filter(Some("demo.kv")), ("demo".into(), "kv".into()));
    }

    #[test]
    fn progress_survives_nothing_and_too_much() {
        let running = |done_bytes, total_bytes| v1::RunningCompaction {
            done_bytes,
            total_bytes,
            ..Default::default()
        };
        let answer = v1::CompactionStatsResponse {
            running: vec![running(0, 0), running(u64::MAX, u64::MAX), running(1, 4)],
            ..Default::default()
        };
        let text = Compactions::new("h".into(), answer).text(&Out::new(out::Format::Json));
        assert_eq!((text.matches("100%").count(), text.matches(" 25%").count()), (2, 1), "{text}");
    }
}
