//! Statements against tables in memory: golden scripts (`testscripts/plan/<claim>`), and a comparison with a naive model.

mod common;
#[path = "plan/conditions.rs"]
mod conditions;
#[path = "plan/elements.rs"]
mod elements;
#[path = "plan/hostile.rs"]
mod hostile;
#[path = "plan/model.rs"]
mod model;
#[path = "plan/store.rs"]
mod store;
#[path = "plan/tables.rs"]
mod tables;

use common::Outcome;
use goldenscript::{Command, Context, Runner};
use std::fmt::Write as _;
use store::Store;

#[derive(Default)]
struct Script {
    store: Store,
}

impl Runner for Script {
    type Command = Command;

    /// `run "…" "…"`: what each statement answers with. `ts=` is the timestamp of writes, `now=` the second, `bind=` the
    /// values of markers.
    ///
    /// `plan "…"`: the markers, and which of them make the partition key. `written "…"`: the partitions of a write.
    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        let mut args = command.consume_args();
        let mut out = String::new();
        self.store.timestamp = match args.take_key("ts") {
            Some(ts) => ts.parse()?,
            None => self.store.timestamp + 1,
        };
        if let Some(now) = args.take_key("now") {
            self.store.now = now.parse()?;
        }
        let bound = args.take_key("bind");
        while let Some(text) = args.next_pos() {
            let answer = match command.name.as_str() {
                "run" => self.store.run(text, bound),
                "plan" => self.store.markers(text),
                "written" => self.store.written(text, bound),
                other => return Err(format!("no such command: {other}").into()),
            };
            match answer {
                Ok(answer) => out.push_str(&answer),
                Err(error) => writeln!(out, "error: {error}")?,
            }
        }
        args.reject_next()?;
        Ok(out)
    }
}

#[test]
fn every_claim_holds() {
    common::scripts_hold("plan", Script::default);
}
