//! `deadletters list` and `deadletters purge`.

use super::name;
use crate::context::{Context, Failure};
use crate::input;
use crate::out::{self, Out, cell};
use clap::Args;
use helenus_client::v1;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Log {
    host: String,
    letters: u64,
    bytes: u64,
    max_bytes: u64,
    unwritable: bool,
    now_us: i64,
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
struct Target {
    host_id: String,
    addr: String,
    up: bool,
    letters: u64,
    bytes: u64,
    oldest_us: i64,
    newest_us: i64,
    delivered: u64,
    expired: u64,
    refused: u64,
    evicted: u64,
    lost: u64,
}

impl Log {
    fn new(host: String, answer: v1::ListDeadLettersResponse) -> Log {
        let targets = answer.targets.into_iter().map(|it| Target {
            host_id: it.node,
            addr: it.addr,
            up: it.up,
            letters: it.letters,
            bytes: it.bytes,
            oldest_us: it.oldest_us,
            newest_us: it.newest_us,
            delivered: it.delivered,
            expired: it.expired,
            refused: it.refused,
            evicted: it.evicted,
            lost: it.lost,
        });
        let targets: Vec<Target> = targets.collect();
        Log {
            host,
            letters: targets.iter().map(|it| it.letters).fold(0, u64::saturating_add),
            bytes: answer.bytes,
            max_bytes: answer.max_bytes,
            unwritable: answer.unwritable,
            now_us: answer.now_us,
            targets,
        }
    }

    fn text(&self, out: &Out) -> String {
        let fill = match self.max_bytes {
            0 => String::new(),
            max => format!(" ({})", out::percent(self.bytes as f64 / max as f64)),
        };
        let mut text = format!(
            "{}: {} dead letters, {} of {} used{fill}{}\n",
            self.host,
            self.letters,
            out::bytes(self.bytes),
            out::bytes(self.max_bytes),
            if self.unwritable { "; the disk TAKES NONE" } else { "" }
        );
        if self.targets.is_empty() {
            return text;
        }
        let columns = [
            "Target",
            "Status",
            ">Letters",
            ">Bytes",
            "Oldest",
            "Newest",
            ">Delivered",
            ">Expired",
            ">Refused",
            ">Purged",
            ">Lost",
        ];
        let mut table = out.table(&columns);
        for it in &self.targets {
            let moment = |us| if us == 0 { "-".to_owned() } else { out::moment(us) };
            table.add_row(vec![
                cell(name(&it.addr, &it.host_id), false),
                cell(if it.up { "UP" } else { "DOWN" }, !it.up),
                cell(it.letters, it.letters > 0),
                cell(out::bytes(it.bytes), false),
                cell(moment(it.oldest_us), false),
                cell(moment(it.newest_us), false),
                cell(it.delivered, false),
                cell(it.expired, it.expired > 0),
                cell(it.refused, it.refused > 0),
                cell(it.evicted, false),
                cell(it.lost, it.lost > 0),
            ]);
        }
        text += &format!("{}\n", table.trim_fmt());
        text
    }
}

/// How many dead letters each host holds for whom, and how full the log is.
///
/// The counts on the right are of this run: what was replayed, was too old for it, found no room, was purged, could not be
/// read back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl deadletters list
  helenusctl --host 127.0.0.1 --host 127.0.0.2 deadletters list
  helenusctl --format json deadletters list | jq .[].letters")]
pub(super) struct List {}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut each = context.ask_each(async |admin| admin.list_dead_letters().await).await;
        let logs: Vec<Log> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Log::new(addr.to_string(), answer))
            .collect();
        context.out.show(&logs, |logs| {
            logs.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()
    }
}

#[derive(Debug, Serialize)]
struct Purged {
    host: String,
    removed: u64,
}

/// Remove dead letters on each host, for good.
///
/// They are counted as purged, and the loss ledger says where they belonged: `helenusctl repair --from-ledger` mends that.
/// Export them before if somebody may want to see them again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl deadletters purge --all --force
  helenusctl deadletters purge --target 127.0.0.3:7000 --force
  helenusctl deadletters purge --all --before 2026-01-02T03:04:05Z --force
  helenusctl deadletters purge --target 5f1c0c8e-3a5b-4e0e-8c39-0d1b6d1c9f42 --force")]
pub(super) struct Purge {
    /// Only letters for this host id or internode address; or see --all.
    #[arg(long, required_unless_present = "all")]
    target: Option<String>,
    /// Letters for everyone.
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Only letters older than this: of each target, those before the first that is younger.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    before: Option<i64>,
    /// Yes, remove them.
    #[arg(long)]
    force: bool,
}

impl Purge {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        if !self.force {
            return Err(Failure::Usage(
                "purged letters do not come back: say --force if that is meant".to_owned(),
            ));
        }
        let target = self.target.unwrap_or_default();
        let before = self.before.unwrap_or(0);
        let mut each =
            context.ask_each(async |admin| admin.purge_dead_letters(&target, before).await).await;
        let purged: Vec<Purged> = std::mem::take(&mut each.answers)
            .into_iter()
            .map(|(addr, answer)| Purged { host: addr.to_string(), removed: answer.removed })
            .collect();
        context.out.show(&purged, |purged| {
            let line = |it: &Purged| format!("{}: {} dead letters purged\n", it.host, it.removed);
            purged.iter().map(line).collect()
        })?;
        each.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_listed_per_target() {
        let target = v1::DeadLettersOf {
            node: "n3".into(),
            letters: 12,
            bytes: 4096,
            refused: 7,
            ..Default::default()
        };
        let answer = v1::ListDeadLettersResponse {
            targets: vec![target],
            bytes: 4096,
            max_bytes: 8192,
            unwritable: true,
            ..Default::default()
        };
        let log = Log::new("h".into(), answer);
        assert_eq!(log.letters, 12);
        let text = log.text(&Out::new(out::Format::Table));
        assert!(text.contains("12 dead letters, 4.0 KiB of 8.0 KiB used (50.0%)"), "{text}");
        assert!(text.contains("NONE") && text.contains("n3") && text.contains("DOWN"), "{text}");
        let none = Log::new("h".into(), v1::ListDeadLettersResponse::default());
        assert!(
            none.text(&Out::new(out::Format::Table)).contains("0 dead letters, 0 B of 0 B used\n")
        );
    }
}
