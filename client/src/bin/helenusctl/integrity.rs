//! `verify`, `scrub`: whether what is on the disk is what was written, and what to do when it is not.

use crate::context::{Context, Failure};
use crate::out;
use crate::stats::Which;
use clap::Args;
use helenus_client::v1;
use serde::Serialize;
use std::time::Duration;

/// Both read everything a node has, under the compaction throttle.
const TIMEOUT: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Serialize)]
struct Verified {
    host: String,
    tables: u64,
    sstables: u64,
    partitions: u64,
    bytes: u64,
    log_segments: u64,
    log_bytes: u64,
    problems: Vec<Problem>,
    problems_left_out: u64,
}

#[derive(Debug, Serialize)]
struct Problem {
    keyspace: String,
    table: String,
    path: String,
    offset: u64,
    what: String,
    remedy: String,
}

impl Verified {
    fn new(host: String, answer: v1::VerifyResponse) -> Verified {
        let problems = answer.problems.into_iter().map(|it| Problem {
            keyspace: it.keyspace,
            table: it.table,
            path: it.path,
            offset: it.offset,
            what: it.what,
            remedy: it.remedy,
        });
        Verified {
            host,
            tables: answer.tables,
            sstables: answer.sstables,
            partitions: answer.partitions,
            bytes: answer.bytes,
            log_segments: answer.log_segments,
            log_bytes: answer.log_bytes,
            problems: problems.collect(),
            problems_left_out: answer.problems_left_out,
        }
    }

    fn count(&self) -> u64 {
        self.problems.len() as u64 + self.problems_left_out
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} tables, {} SSTables, {} partitions in {}",
            self.host,
            self.tables,
            self.sstables,
            self.partitions,
            out::bytes(self.bytes)
        );
        if self.log_segments > 0 {
            let log = out::bytes(self.log_bytes);
            text += &format!(", {} log segments ({log})", self.log_segments);
        }
        if self.count() == 0 {
            return text + ": sound\n";
        }
        text += &format!(": {} PROBLEMS\n", self.count());
        for it in &self.problems {
            let of = match it.table.as_str() {
                "" => "the commit log".to_owned(),
                table => format!("{}.{table}", it.keyspace),
            };
            text += &format!("  {of}: {} at byte {}: {}\n", it.path, it.offset, it.what);
            text += &format!("    {}.\n", it.remedy);
        }
        if self.problems_left_out > 0 {
            text += &format!("  and {} more\n", self.problems_left_out);
        }
        text
    }
}

/// Read everything on each host's disk, and report what does not hold. Exit code 1 if anything does not.
///
/// Checksums, order, filters, statistics and manifests of all SSTables, and without a target the commit log. It goes no
/// faster than compaction may; `compactionstats` shows how far it is. Nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl verify
  helenusctl verify demo.kv
  helenusctl verify --quick        # footers and manifests only
  helenusctl --format json verify | jq '.[].problems[].path'")]
pub(crate) struct Verify {
    #[command(flatten)]
    which: Which,
    /// Check files, footers and manifests only; read no data.
    #[arg(short, long)]
    quick: bool,
}

impl Verify {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let timeout = context.timeout().unwrap_or(TIMEOUT);
        let verify = async |admin: helenus_client::Admin| {
            admin.with_timeout(timeout).verify(filter.clone(), self.quick).await
        };
        let mut each = context.ask_each(verify).await;
        let verified: Vec<Verified> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Verified::new(addr.to_string(), answer))
            .collect();
        context.out.show(&verified, |verified| verified.iter().map(Verified::text).collect())?;
        each.finish()?;
        match verified.iter().map(Verified::count).sum() {
            0 => Ok(()),
            problems => Err(Failure::Unsound { problems }),
        }
    }
}

#[derive(Debug, Serialize)]
struct Scrubbed {
    host: String,
    sstables: u64,
    rewritten: u64,
    overtaken: u64,
    partitions_kept: u64,
    partitions_lost: u64,
    reordered: u64,
    manifests: u64,
    snapshot: String,
    lost: Vec<Lost>,
    lost_left_out: u64,
}

#[derive(Debug, Serialize)]
struct Lost {
    keyspace: String,
    table: String,
    path: String,
    offset: u64,
    what: String,
    from_token: i64,
    until_token: i64,
}

impl Scrubbed {
    fn new(host: String, answer: v1::ScrubResponse) -> Scrubbed {
        let lost = answer.lost.into_iter().map(|it| Lost {
            keyspace: it.keyspace,
            table: it.table,
            path: it.path,
            offset: it.offset,
            what: it.what,
            from_token: it.from_token,
            until_token: it.until_token,
        });
        Scrubbed {
            host,
            sstables: answer.sstables,
            rewritten: answer.rewritten,
            overtaken: answer.overtaken,
            partitions_kept: answer.partitions_kept,
            partitions_lost: answer.partitions_lost,
            reordered: answer.reordered,
            manifests: answer.manifests,
            snapshot: answer.snapshot,
            lost: lost.collect(),
            lost_left_out: answer.lost_left_out,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} SSTables, {} rewritten; {} partitions kept, {} lost, {} put in order\n",
            self.host,
            self.sstables,
            self.rewritten,
            self.partitions_kept,
            self.partitions_lost,
            self.reordered
        );
        if self.overtaken > 0 {
            text += &format!("  {} SSTables were compacted meanwhile\n", self.overtaken);
        }
        if self.manifests > 0 {
            text += &format!("  {} manifests were damaged and are stored anew\n", self.manifests);
        }
        for it in &self.lost {
            text += &format!(
                "  {}.{}: lost between token {} and {}: {}\n",
                it.keyspace, it.table, it.from_token, it.until_token, it.what
            );
        }
        if self.lost_left_out > 0 {
            text += &format!("  and {} more\n", self.lost_left_out);
        }
        if !self.lost.is_empty() {
            text += "  Read the table at ALL: that brings back what other replicas have, e.g.\n";
            text += "    helenusctl scan KEYSPACE.TABLE --limit 0 --keys --level ALL > /dev/null\n";
        }
        if !self.snapshot.is_empty() {
            text += &format!("  the files as they were: snapshot `{}`\n", self.snapshot);
        }
        text
    }
}

/// Write damaged SSTables anew on each host, with all that can still be read.
///
/// What cannot be read is left out, and reported with its file and the tokens it lay at. The files as they were stay in
/// a snapshot, `pre-scrub-...`, until that is cleared.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl scrub demo.kv
  helenusctl scrub --all demo.kv     # sound SSTables too, e.g. to write them in a newer format
  helenusctl --format json scrub demo | jq .[0].lost")]
pub(crate) struct Scrub {
    #[command(flatten)]
    which: Which,
    /// Rewrite SSTables without problems too.
    #[arg(short, long)]
    all: bool,
    /// Keep no snapshot of the files as they were.
    #[arg(long, visible_alias = "ns")]
    no_snapshot: bool,
}

impl Scrub {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = self.which.filter();
        let timeout = context.timeout().unwrap_or(TIMEOUT);
        let scrub = async |admin: helenus_client::Admin| {
            admin.with_timeout(timeout).scrub(filter.clone(), self.all, self.no_snapshot).await
        };
        let mut each = context.ask_each(scrub).await;
        let scrubbed: Vec<Scrubbed> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Scrubbed::new(addr.to_string(), answer))
            .collect();
        context.out.show(&scrubbed, |scrubbed| scrubbed.iter().map(Scrubbed::text).collect())?;
        each.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_file_place_and_remedy() {
        let sound = v1::VerifyResponse { tables: 1, sstables: 2, ..Default::default() };
        assert!(Verified::new("h".into(), sound).text().ends_with(": sound\n"));
        let problem = v1::StorageProblem {
            keyspace: "shop".into(),
            table: "orders".into(),
            path: "data/x.sst".into(),
            offset: 7,
            what: "rot".into(),
            remedy: "scrub it".into(),
        };
        let log = v1::StorageProblem { path: "c.log".into(), ..Default::default() };
        let answer = v1::VerifyResponse {
            problems: vec![problem, log],
            problems_left_out: 3,
            ..Default::default()
        };
        let text = Verified::new("h".into(), answer).text();
        for words in [
            "5 PROBLEMS",
            "shop.orders: data/x.sst at byte 7: rot",
            "scrub it.",
            "the commit log: c.log",
            "and 3 more",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_loss_is_shown_with_its_tokens_and_what_brings_it_back() {
        let lost = v1::LostRange {
            keyspace: "shop".into(),
            table: "orders".into(),
            from_token: -5,
            until_token: 9,
            ..Default::default()
        };
        let answer = v1::ScrubResponse {
            lost: vec![lost],
            snapshot: "pre-scrub-1".into(),
            ..Default::default()
        };
        let text = Scrubbed::new("h".into(), answer).text();
        for words in ["between token -5 and 9", "--level ALL", "snapshot `pre-scrub-1`"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
