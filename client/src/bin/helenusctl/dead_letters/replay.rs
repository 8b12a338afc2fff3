//! `deadletters replay`: a slice at a time, so that it can be watched, and stopped without harm.

use super::name;
use crate::context::{Context, Failure};
use crate::out::{Out, cell};
use clap::Args;
use helenus_client::{Admin, AdminError, v1};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// A node is asked to go on for so long at a time.
const SLICE: Duration = Duration::from_secs(5);
/// What an answer may take besides: a large page under a slow throttle.
const ON_THE_WAY: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Replayed {
    host: String,
    /// Whether nothing is left of what it was asked to deliver.
    done: bool,
    targets: Vec<Target>,
}

#[derive(Debug, Default, Serialize)]
struct Target {
    host_id: String,
    addr: String,
    delivered: u64,
    expired: u64,
    lost: u64,
    left: u64,
    /// `done`, `time_up`, `target_down`, `paused` or `failed`.
    stopped: String,
    /// In words, if it failed.
    reason: String,
}

impl Target {
    /// Another slice went by.
    fn add(&mut self, it: v1::DeadLettersReplayed) {
        self.host_id = it.node;
        self.addr = it.addr;
        self.delivered = self.delivered.saturating_add(it.delivered);
        self.expired = self.expired.saturating_add(it.expired);
        self.lost = self.lost.saturating_add(it.lost);
        (self.left, self.stopped, self.reason) = (it.left, it.stopped, it.reason);
    }

    /// Why it ended, for people.
    fn why(&self) -> String {
        match self.stopped.as_str() {
            "done" => "all delivered".to_owned(),
            "time_up" => "the time was up".to_owned(),
            "target_down" => "the target is down, or has another schema".to_owned(),
            "paused" => "handoff is paused: `helenusctl resumehandoff`".to_owned(),
            _ => self.reason.clone(),
        }
    }
}

impl Replayed {
    fn left(&self) -> u64 {
        self.targets.iter().map(|it| it.left).fold(0, u64::saturating_add)
    }

    fn text(&self, out: &Out) -> String {
        if self.targets.is_empty() {
            return format!("{}: no dead letters\n", self.host);
        }
        let columns = ["Target", ">Delivered", ">Expired", ">Lost", ">Left", "Why it ended"];
        let mut table = out.table(&columns);
        for it in &self.targets {
            table.add_row(vec![
                cell(name(&it.addr, &it.host_id), false),
                cell(it.delivered, false),
                cell(it.expired, it.expired > 0),
                cell(it.lost, it.lost > 0),
                cell(it.left, it.left > 0),
                cell(it.why(), it.left > 0),
            ]);
        }
        format!("{}:\n{}\n", self.host, table.trim_fmt())
    }
}

/// Deliver dead letters from each host, now.
///
/// They go as hints do: in pages, at the pace of hinted_handoff_throttle for each target, beside the replay of hints. Letters
/// older than their table's gc_grace_seconds are not applied but counted as expired. It ends when none is left, --timeout is
/// over or it cannot go on, and fails if any is left. It may be stopped and repeated at any time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  helenusctl deadletters replay
  helenusctl deadletters replay --target 127.0.0.3:7000 --timeout 10m
  helenusctl --host 127.0.0.1 --host 127.0.0.2 deadletters replay --format json")]
pub(super) struct Replay {
    /// Only letters for this host id or internode address.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
}

impl Replay {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let deadline = context.timeout().map(|timeout| Instant::now() + timeout);
        let target = self.target.as_deref().unwrap_or_default();
        let mut each = context
            .ask_each(async |admin| replay(&admin, target, deadline, &context.out).await)
            .await;
        let replayed = std::mem::take(&mut each.answers).into_iter().map(|(_, answer)| answer);
        let replayed: Vec<Replayed> = replayed.collect();
        context.out.show(&replayed, |replayed| {
            replayed.iter().map(|it| it.text(&context.out)).collect::<Vec<_>>().join("\n")
        })?;
        each.finish()?;
        match replayed.iter().map(Replayed::left).fold(0, u64::saturating_add) {
            0 => Ok(()),
            left => Err(Failure::LettersLeft { left }),
        }
    }
}

async fn replay(
    admin: &Admin,
    target: &str,
    deadline: Option<Instant>,
    out: &Out,
) -> Result<Replayed, AdminError> {
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    let host = admin.addr().to_string();
    loop {
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let slice = left.map_or(SLICE, |left| left.min(SLICE));
        let slice_ms = u32::try_from(slice.as_millis()).unwrap_or(u32::MAX);
        let patient = admin.clone().with_timeout(slice + ON_THE_WAY);
        let answer = patient.replay_dead_letters(target, slice_ms).await?;
        let mut goes_on = false;
        for it in answer.targets {
            goes_on |= it.stopped == "time_up";
            targets.entry(it.node.clone()).or_default().add(it);
        }
        let over = left.is_some_and(|left| left <= slice);
        if !goes_on || over {
            break;
        }
        if out.watched() {
            let delivered: u64 = targets.values().map(|it| it.delivered).sum();
            let left: u64 = targets.values().map(|it| it.left).sum();
            out.remark(format_args!("{host}: {delivered} delivered, {left} left"));
        }
    }
    let targets: Vec<Target> = targets.into_values().collect();
    Ok(Replayed { host, done: targets.iter().all(|it| it.left == 0), targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_and_the_last_one_says_how_it_ended() {
        let slice = |delivered, left, stopped: &str| v1::DeadLettersReplayed {
            node: "n3".into(),
            delivered,
            expired: 1,
            left,
            stopped: stopped.into(),
            ..Default::default()
        };
        let mut target = Target::default();
        target.add(slice(7, 9, "time_up"));
        target.add(slice(2, 6, "target_down"));
        assert_eq!((target.delivered, target.expired, target.left), (9, 2, 6));
        let replayed = Replayed { host: "h".into(), done: false, targets: vec![target] };
        let text = replayed.text(&Out::new(crate::out::Format::Table));
        assert!(text.contains("the target is down") && text.contains("n3"), "{text}");
        assert_eq!(replayed.left(), 6);
    }
}
