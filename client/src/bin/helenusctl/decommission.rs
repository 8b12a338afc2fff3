//! `decommission`: a node leaves the ring.

use crate::context::{Context, Failure};
use crate::out;
use clap::Args;
use helenus_client::{Admin, AdminError, v1};
use serde::Serialize;
use std::time::Duration;

/// How often a leave is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Looks between two lines of progress.
const LOOKS_PER_LINE: u32 = 10;

#[derive(Debug, Serialize)]
struct Report {
    host: String,
    stage: String,
    started_us: i64,
    ended_us: i64,
    failure: String,
    passes: u32,
    ranges: u64,
    ranges_done: u64,
    partitions_sent: u64,
    bytes_sent: u64,
    decrees_settled: u64,
    hints_delivered: u64,
    hints_handed_over: u64,
    warnings: Vec<String>,
}

impl Report {
    fn new(host: String, it: v1::DecommissionReport) -> Report {
        Report {
            host,
            stage: it.stage,
            started_us: it.started_us,
            ended_us: it.ended_us,
            failure: it.failure,
            passes: it.passes,
            ranges: it.ranges,
            ranges_done: it.ranges_done,
            partitions_sent: it.partitions_sent,
            bytes_sent: it.bytes_sent,
            decrees_settled: it.decrees_settled,
            hints_delivered: it.hints_delivered,
            hints_handed_over: it.hints_handed_over,
            warnings: it.warnings,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for warning in &self.warnings {
            text += &format!("  in spite of this: {warning}\n");
        }
        match self.stage.as_str() {
            "left" => {
                text += &format!("{}: has left the ring, and can be stopped\n", self.host);
                text += &format!(
                    "  {} partitions ({}) went to their new owners, {} hints to their targets, {} to others to keep\n",
                    self.partitions_sent,
                    out::bytes(self.bytes_sent),
                    self.hints_delivered,
                    self.hints_handed_over
                );
            }
            "failed" => text += &format!("{}: is a member as before\n", self.host),
            stage => text += &format!("{}: leaving ({stage})\n", self.host),
        }
        text
    }
}

/// A line of progress.
fn progress(host: &str, it: &v1::DecommissionReport) -> String {
    match it.stage.as_str() {
        "streaming" => format!(
            "{host}: streaming, pass {}: {} of {} ranges, {} sent",
            it.passes,
            it.ranges_done,
            it.ranges,
            out::bytes(it.bytes_sent)
        ),
        stage => format!("{host}: {stage}"),
    }
}

/// Take a node out of the ring, with all that it holds and owes given to others.
///
/// The host given leaves; exactly one is to be given. It goes on when this command is ended, and the same command shows how
/// far it is. What fails makes the node a member as before, with exit code 1 and the reason; begun anew, it sends only what
/// is missing. `helenusctl repair --cancel` calls it off while it streams. A node that has left refuses its clients; stop
/// it, and remove its data directory, take it out of the others' seeds, and it can join as a new node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl decommission --host 127.0.0.4
  helenusctl decommission --host 127.0.0.4 --no-wait
  helenusctl --host 127.0.0.4 --format json decommission | jq -r .stage")]
pub(crate) struct Decommission {
    /// Leave also if a keyspace would then have fewer copies than its replication says, while members are down, and with dead
    /// letters or losses that no repair has mended.
    #[arg(long)]
    force: bool,
    /// Do not wait until it has left.
    #[arg(long)]
    no_wait: bool,
}

impl Decommission {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut hosts = context.admins();
        let (Some((addr, admin)), None) = (hosts.next(), hosts.next()) else {
            let why = "one node leaves at a time: name it with one --host".to_owned();
            return Err(Failure::Usage(why));
        };
        let report = Report::new(addr.to_string(), self.follow(context, admin).await?);
        context.out.show(&report, Report::text)?;
        match report.stage.as_str() {
            "failed" => Err(Failure::Stays(format!("{}: {}", report.host, report.failure))),
            _ => Ok(()),
        }
    }

    async fn follow(
        &self,
        context: &Context,
        admin: Admin,
    ) -> Result<v1::DecommissionReport, AdminError> {
        let host = admin.addr().to_string();
        let mut report = admin.decommission(self.force).await?;
        let mut said = String::new();
        for look in 1_u32.. {
            if self.no_wait || report.ended_us != 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
            report = admin.decommission_status().await?;
            let line = progress(&host, &report);
            if !context.out.json() && look.is_multiple_of(LOOKS_PER_LINE) && line != said {
                context.out.remark(&line);
                said = line;
            }
        }
        Ok(report)
    }
}
