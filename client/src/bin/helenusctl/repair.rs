//! `repair`: compare what replicas hold, and make them equal; `repair --cancel`, `repair --history`.

use crate::context::{Context, Failure};
use crate::out::{self, Out, cell};
use clap::Args;
use helenus_client::{Admin, AdminError, v1};
use serde::Serialize;
use std::ffi::OsString;
use std::time::Duration;

/// How often a repair is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Looks between two lines of progress.
const LOOKS_PER_LINE: u32 = 10;

/// nodetool's short options of several letters, which no other verb has.
const NODETOOL: [(&str, &str); 3] =
    [("-pr", "--primary-range"), ("-st", "--start-token"), ("-et", "--end-token")];

/// The arguments with nodetool's short options of `repair` spelt out.
pub(crate) fn spell_out(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_repair = false;
    let spelt = args.map(|arg| {
        is_repair |= arg == "repair";
        let long = NODETOOL.iter().find(|(short, _)| is_repair && arg == *short);
        long.map_or(arg, |(_, long)| OsString::from(long))
    });
    spelt.collect()
}

#[derive(Debug, Serialize)]
struct Report {
    host: String,
    id: u64,
    started_us: i64,
    ended_us: i64,
    outcome: String,
    primary_range: bool,
    preview: bool,
    tables: Vec<Table>,
    failures: Vec<Failed>,
    failures_left_out: u64,
    transfers: Vec<Transfer>,
}

#[derive(Debug, Serialize)]
struct Table {
    keyspace: String,
    table: String,
    ranges: u64,
    compared: u64,
    failed: u64,
    differing: u64,
    partitions_hashed: u64,
    partitions_sent: u64,
    bytes_sent: u64,
}

#[derive(Debug, Serialize)]
struct Failed {
    keyspace: String,
    table: String,
    after_token: Option<i64>,
    until_token: i64,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Transfer {
    keyspace: String,
    table: String,
    from: String,
    to: String,
    ranges: u64,
    partitions: u64,
    bytes: u64,
}

impl Report {
    fn new(host: String, answer: v1::RepairReport) -> Report {
        let tables = answer.tables.into_iter().map(|it| Table {
            keyspace: it.keyspace,
            table: it.table,
            ranges: it.ranges,
            compared: it.compared,
            failed: it.failed,
            differing: it.differing,
            partitions_hashed: it.partitions_hashed,
            partitions_sent: it.partitions_sent,
            bytes_sent: it.bytes_sent,
        });
        let failures = answer.failures.into_iter().map(|it| Failed {
            keyspace: it.keyspace,
            table: it.table,
            after_token: it.after_token,
            until_token: it.until_token,
            reason: it.reason,
        });
        let transfers = answer.transfers.into_iter().map(|it| Transfer {
            keyspace: it.keyspace,
            table: it.table,
            from: it.from,
            to: it.to,
            ranges: it.ranges,
            partitions: it.partitions,
            bytes: it.bytes,
        });
        Report {
            host,
            id: answer.id,
            started_us: answer.started_us,
            ended_us: answer.ended_us,
            outcome: answer.outcome,
            primary_range: answer.primary_range,
            preview: answer.preview,
            tables: tables.collect(),
            failures: failures.collect(),
            failures_left_out: answer.failures_left_out,
            transfers: transfers.collect(),
        }
    }

    fn text(&self, out: &Out) -> String {
        let (id, kind) = (self.id, if self.preview { "preview" } else { "repair" });
        let mut text = format!("{}: {kind} {id} {}\n", self.host, self.outcome);
        if self.tables.iter().all(|table| table.ranges == 0) {
            let why = "no table has a second copy of what is here, or nothing was lost";
            return text + &format!("  nothing to compare: {why}\n");
        }
        let mut rows = out.table(&[
            "table",
            ">ranges",
            ">compared",
            ">failed",
            ">differing",
            ">partitions sent",
            ">sent",
        ]);
        for it in &self.tables {
            rows.add_row(vec![
                cell(format!("{}.{}", it.keyspace, it.table), false),
                cell(it.ranges, false),
                cell(it.compared, it.compared < it.ranges),
                cell(it.failed, it.failed > 0),
                cell(it.differing, false),
                cell(it.partitions_sent, false),
                cell(out::bytes(it.bytes_sent), false),
            ]);
        }
        text += &format!("{}\n", rows.trim_fmt());
        if self.preview {
            for it in &self.transfers {
                text += &format!(
                    "  {}.{}: {} would send {} token ranges to {}\n",
                    it.keyspace, it.table, it.from, it.ranges, it.to
                );
            }
        }
        for it in &self.failures {
            let after = it.after_token.map_or_else(|| "the first".to_owned(), |t| t.to_string());
            text += &format!(
                "  {}.{}, tokens {after} to {}: {}\n",
                it.keyspace, it.table, it.until_token, it.reason
            );
        }
        if self.failures_left_out > 0 {
            text += &format!("  and {} more\n", self.failures_left_out);
        }
        text
    }

    /// Why it is no success; `None`: it is one.
    fn fault(&self) -> Option<String> {
        let of = |count: fn(&Table) -> u64| self.tables.iter().map(count).sum::<u64>();
        match self.outcome.as_str() {
            "completed" => None,
            "failed" => Some(format!(
                "{}: {} of {} ranges were not repaired",
                self.host,
                of(|table| table.failed),
                of(|table| table.ranges)
            )),
            other => Some(format!("{}: the repair was {other}", self.host)),
        }
    }
}

/// A line of progress.
fn progress(host: &str, report: &v1::RepairReport) -> String {
    let of = |count: fn(&v1::RepairedTable) -> u64| report.tables.iter().map(count).sum::<u64>();
    format!(
        "{host}: repair {}: {} of {} ranges, {} failed, {} differing, {} hashed, {} sent",
        report.id,
        of(|t| t.compared + t.failed),
        of(|t| t.ranges),
        of(|t| t.failed),
        of(|t| t.differing),
        of(|t| t.partitions_hashed),
        out::bytes(of(|t| t.bytes_sent))
    )
}

#[derive(Debug, Serialize)]
struct History {
    host: String,
    repairs: Vec<Past>,
}

#[derive(Debug, Serialize)]
struct Past {
    id: u64,
    started_us: i64,
    ended_us: i64,
    outcome: String,
    primary_range: bool,
    preview: bool,
    what: String,
    ranges: u64,
    failed: u64,
    differing: u64,
    partitions_sent: u64,
    bytes_sent: u64,
    reason: String,
}

impl From<v1::PastRepair> for Past {
    fn from(it: v1::PastRepair) -> Past {
        Past {
            id: it.id,
            started_us: it.started_us,
            ended_us: it.ended_us,
            outcome: it.outcome,
            primary_range: it.primary_range,
            preview: it.preview,
            what: it.what,
            ranges: it.ranges,
            failed: it.failed,
            differing: it.differing,
            partitions_sent: it.partitions_sent,
            bytes_sent: it.bytes_sent,
            reason: it.reason,
        }
    }
}

impl History {
    fn text(&self, out: &Out) -> String {
        let mut rows = out.table(&[
            ">id",
            "started",
            "ended",
            "outcome",
            "what",
            ">ranges",
            ">failed",
            ">differing",
            ">sent",
            "reason",
        ]);
        for it in &self.repairs {
            let mut what = it.what.clone();
            what += if it.primary_range { " -pr" } else { "" };
            what += if it.preview { " --preview" } else { "" };
            let ended = if it.ended_us == 0 { "-".to_owned() } else { out::moment(it.ended_us) };
            let is_well = ["completed", "running"].contains(&it.outcome.as_str());
            rows.add_row(vec![
                cell(it.id, false),
                cell(out::moment(it.started_us), false),
                cell(ended, false),
                cell(&it.outcome, !is_well),
                cell(what, false),
                cell(it.ranges, false),
                cell(it.failed, it.failed > 0),
                cell(it.differing, false),
                cell(out::bytes(it.bytes_sent), false),
                cell(&it.reason, false),
            ]);
        }
        format!("{}\n{}\n", self.host, rows.trim_fmt())
    }
}

/// Compare what replicas hold, and have them send each other what they lack.
///
/// Each host given repairs the ranges that it holds copies of, one host after the other. It goes on when this command is
/// ended; `repair --cancel` ends it. Exit code 1 if any range was not repaired: a replica that is down fails the ranges
/// that it holds copies of, and the others go on. Repair every table within its gc_grace_seconds, or deletions may be undone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl repair                      # all keyspaces, everything this host holds copies of
  helenusctl repair --primary-range demo # -pr: then run it on every host of the cluster
  helenusctl repair --preview demo kv
  helenusctl repair --from-ledger        # just what hints were lost for, on every coordinator
  helenusctl repair --cancel
  helenusctl --format json repair --history | jq '.[0].repairs[0].outcome'")]
pub(crate) struct Repair {
    /// Only this keyspace; KEYSPACE.TABLE is one table.
    keyspace: Option<String>,
    /// Only these tables of it.
    #[arg(value_name = "TABLE", requires = "keyspace")]
    tables: Vec<String>,
    /// Only ranges of which the host is the first replica (also -pr): what to run on every host in turn.
    #[arg(long, visible_alias = "partitioner-range")]
    primary_range: bool,
    /// Accepted for nodetool's sake: every repair is a full one.
    #[arg(long)]
    full: bool,
    /// Compare, and say what would be sent; send nothing.
    #[arg(long)]
    preview: bool,
    /// Only tokens behind this one (also -st), whether the host holds copies of them or not.
    #[arg(
        long,
        value_name = "TOKEN",
        requires = "end_token",
        conflicts_with = "primary_range",
        allow_negative_numbers = true
    )]
    start_token: Option<i64>,
    /// Only tokens up to this one (also -et).
    #[arg(long, value_name = "TOKEN", requires = "start_token", allow_negative_numbers = true)]
    end_token: Option<i64>,
    /// Only what replicas were not hinted, by the loss ledger (`hintledger`) of each coordinator: asks every member of the
    /// cluster, one after the other. What is repaired leaves the ledger.
    #[arg(long, conflicts_with_all = ["primary_range", "full", "start_token"])]
    from_ledger: bool,
    /// End the repair that runs on each host.
    #[arg(long, conflicts_with_all = ["keyspace", "primary_range", "full", "preview", "start_token", "history", "from_ledger"])]
    cancel: bool,
    /// Show the repairs that each host remembers, the newest first.
    #[arg(long, conflicts_with_all = ["keyspace", "primary_range", "full", "preview", "start_token", "from_ledger"])]
    history: bool,
}

impl Repair {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.history {
            return history(context).await;
        }
        let request = self.request()?;
        let repair = async |admin: Admin| match self.cancel {
            true => admin.cancel_repair().await,
            false => repaired(context, admin, request.clone()).await,
        };
        let mut each = match self.from_ledger {
            true => context.ask_members(repair).await?,
            false => context.ask_each(repair).await,
        };
        let reports: Vec<Report> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Report::new(addr.to_string(), answer))
            .collect();
        if self.cancel {
            context.out.show(&reports, |reports| {
                let line = |it: &Report| format!("{}: ends repair {}\n", it.host, it.id);
                reports.iter().map(line).collect()
            })?;
            return each.finish();
        }
        context.out.show(&reports, |reports| {
            reports.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()?;
        let faults: Vec<String> = reports.iter().filter_map(Report::fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(Failure::Unrepaired(faults.join("; "))) }
    }

    fn request(&self) -> Result<v1::StartRepairRequest, Failure> {
        let mut tables = self.tables.clone();
        let mut keyspace = self.keyspace.clone().unwrap_or_default();
        if let Some((before, table)) = keyspace.split_once('.') {
            if !tables.is_empty() {
                let why = format!("`{keyspace}` is a table already: repair KEYSPACE TABLE ...");
                return Err(Failure::Usage(why));
            }
            tables.push(table.to_owned());
            keyspace = before.to_owned();
        }
        let range = self.start_token.zip(self.end_token);
        let range =
            range.map(|(after_token, until_token)| v1::TokenRange { after_token, until_token });
        let (primary_range, preview) = (self.primary_range, self.preview);
        let from_ledger = self.from_ledger;
        Ok(v1::StartRepairRequest { keyspace, tables, primary_range, preview, range, from_ledger })
    }
}

/// Starts a repair, and says how far it is until it has ended.
async fn repaired(
    context: &Context,
    admin: Admin,
    request: v1::StartRepairRequest,
) -> Result<v1::RepairReport, AdminError> {
    let host = admin.addr().to_string();
    let mut report = admin.start_repair(request).await?;
    let mut said = String::new();
    for look in 1_u32.. {
        if report.outcome != "running" {
            break;
        }
        tokio::time::sleep(LOOK).await;
        report = admin.repair_status(report.id).await?;
        let line = progress(&host, &report);
        if !context.out.json() && look.is_multiple_of(LOOKS_PER_LINE) && line != said {
            context.out.remark(&line);
            said = line;
        }
    }
    Ok(report)
}

async fn history(context: &Context) -> Result<(), Failure> {
    let mut each = context.ask_each(async |admin| admin.repair_history().await).await;
    let history: Vec<History> = std::mem::take(&mut each.answers)
        .into_iter()
        .map(|(addr, answer)| History {
            host: addr.to_string(),
            repairs: answer.repairs.into_iter().map(Past::from).collect(),
        })
        .collect();
    context.out.show(&history, |history| {
        history.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
    })?;
    each.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodetools_short_options_are_understood_after_the_verb_only() {
        let spelt = |args: &[&str]| spell_out(args.iter().map(OsString::from));
        let long: Vec<OsString> =
            ["ctl", "-pr", "repair", "--primary-range", "--start-token", "-5"]
                .map(Into::into)
                .into();
        assert_eq!(spelt(&["ctl", "-pr", "repair", "-pr", "-st", "-5"]), long);
    }

    #[test]
    fn a_range_that_was_not_repaired_is_shown_with_its_reason_and_is_a_fault() {
        let failure = v1::RepairFailure {
            keyspace: "shop".into(),
            table: "orders".into(),
            after_token: None,
            until_token: 7,
            reason: "n3 is down".into(),
        };
        let table = v1::RepairedTable {
            keyspace: "shop".into(),
            table: "orders".into(),
            ranges: 2,
            compared: 1,
            failed: 1,
            ..Default::default()
        };
        let answer = v1::RepairReport {
            id: 3,
            outcome: "failed".into(),
            tables: vec![table],
            failures: vec![failure],
            failures_left_out: 4,
            ..Default::default()
        };
        let line = progress("h", &answer);
        assert!(line.starts_with("h: repair 3: 2 of 2 ranges, 1 failed"), "{line}");
        let report = Report::new("h".into(), answer);
        let text = report.text(&Out::new(out::Format::Table));
        for words in ["repair 3 failed", "shop.orders", "the first to 7: n3 is down", "and 4 more"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(report.fault().as_deref(), Some("h: 1 of 2 ranges were not repaired"));
    }
}
