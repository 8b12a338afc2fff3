//! `pausehandoff`, `resumehandoff`, `listpendinghints`, `truncatehints`: what is owed to nodes that were away.

use crate::context::{Context, Failure};
use crate::out::{self, Out, cell};
use crate::storage::done_on_each;
use clap::Args;
use helenus_client::v1;
use serde::Serialize;

/// Stop delivering hints from each host. They go on being stored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl pausehandoff
  helenusctl --host 127.0.0.1 --host 127.0.0.2 --host 127.0.0.3 pausehandoff")]
pub(crate) struct PauseHandoff {}

impl PauseHandoff {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let each = context.ask_each(async |admin| admin.pause_handoff().await).await;
        done_on_each(context, each, "hints are no longer delivered, only stored")
    }
}

/// Deliver hints from each host again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl resumehandoff
  helenusctl --host 127.0.0.2 resumehandoff")]
pub(crate) struct ResumeHandoff {}

impl ResumeHandoff {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let each = context.ask_each(async |admin| admin.resume_handoff().await).await;
        done_on_each(context, each, "hints are delivered again")
    }
}

/// What became of hints. created = delivered + redirected + expired + refused + evicted + dead_lettered + lost + pending.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Outcomes {
    created: u64,
    delivered: u64,
    redirected: u64,
    expired: u64,
    refused: u64,
    evicted: u64,
    dead_lettered: u64,
    lost: u64,
    pending: u64,
}

impl From<Option<v1::HintOutcomes>> for Outcomes {
    fn from(outcomes: Option<v1::HintOutcomes>) -> Self {
        let it = outcomes.unwrap_or_default();
        Outcomes {
            created: it.created,
            delivered: it.delivered,
            redirected: it.redirected,
            expired: it.expired,
            refused: it.refused,
            evicted: it.evicted,
            dead_lettered: it.dead_lettered,
            lost: it.lost,
            pending: it.pending,
        }
    }
}

impl Outcomes {
    /// Hints that are unaccounted for. The node promises that there are none; an operator may check.
    fn missing(&self) -> i128 {
        let ends = [
            self.delivered,
            self.redirected,
            self.expired,
            self.refused,
            self.evicted,
            self.dead_lettered,
            self.lost,
            self.pending,
        ];
        i128::from(self.created) - ends.into_iter().map(i128::from).sum::<i128>()
    }

    fn text(&self) -> String {
        let mut text = format!(
            "created {} = delivered {} + redirected {} + expired {} + refused {} + evicted {} + dead-lettered {} + lost {} + pending {}",
            self.created,
            self.delivered,
            self.redirected,
            self.expired,
            self.refused,
            self.evicted,
            self.dead_lettered,
            self.lost,
            self.pending
        );
        if self.missing() != 0 {
            text += &format!("\nTHE ACCOUNT DOES NOT BALANCE: {} are missing", self.missing());
        }
        text
    }
}

#[derive(Debug, Serialize)]
struct Pending {
    host: String,
    paused: bool,
    bytes: u64,
    max_bytes: u64,
    max_bytes_per_host: u64,
    outcomes: Outcomes,
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
struct Target {
    host_id: String,
    addr: String,
    rack: String,
    dc: String,
    up: bool,
    files: u64,
    hints: u64,
    bytes: u64,
    oldest_us: i64,
    newest_us: i64,
    outcomes: Outcomes,
}

impl Pending {
    fn new(host: String, answer: v1::ListPendingHintsResponse) -> Pending {
        let targets = answer.targets.into_iter().map(|it| Target {
            host_id: it.node,
            addr: it.addr,
            rack: it.rack,
            dc: it.dc,
            up: it.up,
            files: it.files,
            hints: it.hints,
            bytes: it.bytes,
            oldest_us: it.oldest_us,
            newest_us: it.newest_us,
            outcomes: it.outcomes.into(),
        });
        Pending {
            host,
            paused: answer.paused,
            bytes: answer.bytes,
            max_bytes: answer.max_bytes,
            max_bytes_per_host: answer.max_bytes_per_host,
            outcomes: answer.outcomes.into(),
            targets: targets.collect(),
        }
    }

    fn text(&self, out: &Out) -> String {
        let bound = |bytes| match bytes {
            0 => "unbounded".to_owned(),
            bytes => out::bytes(bytes),
        };
        let mut text = format!(
            "{}: {} of {} used ({} per target){}\n",
            self.host,
            out::bytes(self.bytes),
            bound(self.max_bytes),
            bound(self.max_bytes_per_host),
            if self.paused { "; delivery is PAUSED" } else { "" }
        );
        text += &format!("{}\n", self.outcomes.text());
        if self.targets.is_empty() {
            return text + "nothing is owed to anyone\n";
        }
        // A node that has not looked into its files yet knows no times.
        let moment = |us| if us == 0 { "-".to_owned() } else { out::moment(us) };
        let columns = [
            "Host ID", "Address", "Rack", "DC", "Status", ">Files", ">Hints", ">Bytes", "Newest",
            "Oldest",
        ];
        let mut table = out.table(&columns);
        for it in &self.targets {
            table.add_row(vec![
                cell(&it.host_id, false),
                cell(&it.addr, false),
                cell(&it.rack, false),
                cell(&it.dc, false),
                cell(if it.up { "UP" } else { "DOWN" }, !it.up),
                cell(it.files, false),
                cell(it.hints, false),
                cell(out::bytes(it.bytes), false),
                cell(moment(it.newest_us), false),
                cell(moment(it.oldest_us), false),
            ]);
        }
        text + &format!("{}\n", table.trim_fmt())
    }
}

/// What each host owes to whom, and what became of all hints it ever made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl listpendinghints
  helenusctl --host 127.0.0.1 --host 127.0.0.2 listpendinghints
  helenusctl --format json listpendinghints | jq .[0].outcomes")]
pub(crate) struct ListPendingHints {}

impl ListPendingHints {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.list_pending_hints().await).await;
        let pending: Vec<Pending> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Pending::new(addr.to_string(), answer))
            .collect();
        context.out.show(&pending, |pending| {
            pending.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct Truncated {
    host: String,
    removed: u64,
}

/// Forget hints on each host.
///
/// What they would have repaired stays unrepaired until a read or a repair finds it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl truncatehints --all
  helenusctl truncatehints 127.0.0.3:7000
  helenusctl truncatehints 5f1c0c8e-3a5b-4e0e-8c39-0d1b6d1c9f42")]
pub(crate) struct TruncateHints {
    /// Only hints for this host id or internode address; or see --all.
    #[arg(required_unless_present = "all")]
    target: Option<String>,
    /// Hints for everyone.
    #[arg(long, conflicts_with = "target")]
    all: bool,
}

impl TruncateHints {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let target = self.target.unwrap_or_default();
        let mut each = context.ask_each(async |admin| admin.truncate_hints(&target).await).await;
        let removed: Vec<Truncated> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Truncated { host: addr.to_string(), removed: answer.removed })
            .collect();
        context.out.show(&removed, |removed| {
            let line = |it: &Truncated| format!("{}: {} hints forgotten\n", it.host, it.removed);
            removed.iter().map(line).collect()
        })?;
        each.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_does_not_balance_is_shouted() {
        let balanced = v1::HintOutcomes { created: 3, delivered: 2, lost: 1, ..Default::default() };
        assert!(!Outcomes::from(Some(balanced)).text().contains("BALANCE"));
        let off = v1::HintOutcomes { created: 3, delivered: 2, ..Default::default() };
        assert!(Outcomes::from(Some(off)).text().contains("1 are missing"));
        let over = v1::HintOutcomes { created: 0, lost: u64::MAX, ..Default::default() };
        assert!(Outcomes::from(Some(over)).text().contains("BALANCE"));
    }

    #[test]
    fn what_is_owed_is_listed_per_target() {
        let target = v1::PendingHints {
            node: "n3".into(),
            addr: "127.0.0.3:7000".into(),
            hints: 12,
            bytes: 4096,
            ..Default::default()
        };
        let answer = v1::ListPendingHintsResponse {
            targets: vec![target],
            bytes: 4096,
            max_bytes: 1 << 20,
            paused: true,
            ..Default::default()
        };
        let text = Pending::new("h".into(), answer).text(&Out::new(out::Format::Json));
        assert!(text.contains("4.0 KiB of 1.0 MiB used (unbounded per target)"), "{text}");
        assert!(text.contains("PAUSED") && text.contains("DOWN"), "{text}");
    }
}
