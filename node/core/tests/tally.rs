//! Runs the golden scripts of levels and tallies: `testscripts/tally/<claim>`.

mod common;

use common::Outcome;
use goldenscript::{Argument, Command, Context, Runner};
use helenus_core::level::Op;
use helenus_core::placement::Replica;
use helenus_core::tally::{Answer, Tally};
use helenus_core::{Dc, Level, NodeId, Replication};
use std::collections::{BTreeMap, BTreeSet};

/// Replicas are written `n1` or, outside dc1, `n4@dc2`; dc1 is the coordinator's data centre.
struct Script {
    replication: Replication,
    replicas: Vec<Replica>,
    pending: Vec<Replica>,
    dead: BTreeSet<NodeId>,
    tally: Option<Tally>,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            replication: Replication::NetworkTopology { per_dc: BTreeMap::new() },
            replicas: Vec::new(),
            pending: Vec::new(),
            dead: BTreeSet::new(),
            tally: None,
        }
    }
}

impl Script {
    /// `keyspace rf=3` or `keyspace dc1=3 dc2=3`.
    fn keyspace(&mut self, command: &Command) -> Outcome<String> {
        let mut per_dc = BTreeMap::new();
        for arg in &command.args {
            let Argument::KeyValue(key, rf) = arg else {
                return Err(format!("`{arg}` has no copies").into());
            };
            if key == "rf" {
                self.replication = Replication::Simple { rf: rf.parse()? };
                return Ok(String::new());
            }
            per_dc.insert(Dc::from(key.as_str()), rf.parse()?);
        }
        self.replication = Replication::NetworkTopology { per_dc };
        Ok(String::new())
    }

    /// `write QUORUM` or `read QUORUM`: is it refused, and if not, where does it stand with nobody having answered? A
    /// write goes to all live replicas, a read to as many as it needs.
    fn begin(&mut self, command: &Command) -> Outcome<String> {
        let level: Level = positional(command, 0)?.parse()?;
        let op = if command.name == "read" { Op::Read } else { Op::Write };
        let dc1 = Dc::from("dc1");
        let needs = level.requirement(op, &self.replication, &dc1, &self.pending)?;
        let alive = |node: NodeId| !self.dead.contains(&node);
        let contacted: Vec<&Replica> = match op {
            Op::Read => needs.contacts(&self.replicas, alive)?,
            Op::Write => {
                let candidates = self.replicas.iter().chain(&self.pending);
                needs.check(candidates.clone(), alive)?;
                candidates.filter(|replica| alive(replica.node)).collect()
            }
        };
        let names: Vec<String> = contacted.iter().map(|r| format!("n{}", r.node.0)).collect();
        let tally = self.tally.insert(Tally::new(needs, contacted));
        Ok(format!("{command} [{}]: {}", names.join(" "), standing(tally)))
    }

    fn tally(&mut self) -> Outcome<&mut Tally> {
        self.tally.as_mut().ok_or_else(|| "nothing was sent yet".into())
    }
}

fn standing(tally: &Tally) -> String {
    format!("{:?}, {} of {}", tally.verdict(), tally.received(), tally.block_for())
}

fn positional(command: &Command, place: usize) -> Outcome<&str> {
    let mut args = command.consume_args();
    let positional = std::iter::from_fn(|| args.next_pos()).nth(place);
    positional.ok_or_else(|| format!("`{command}` needs more").into())
}

fn node(name: &str) -> Outcome<NodeId> {
    Ok(NodeId(name.trim_start_matches('n').parse()?))
}

fn replicas(command: &Command) -> Outcome<Vec<Replica>> {
    let mut args = command.consume_args();
    std::iter::from_fn(|| args.next_pos())
        .map(|text| {
            let (name, dc) = text.split_once('@').unwrap_or((text, "dc1"));
            Ok(Replica { node: node(name)?, dc: Dc::from(dc) })
        })
        .collect()
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        match command.name.as_str() {
            "keyspace" => return self.keyspace(command),
            "replicas" => self.replicas = replicas(command)?,
            "pending" => self.pending = replicas(command)?,
            "dead" => self.dead = replicas(command)?.into_iter().map(|r| r.node).collect(),
            "write" | "read" => return self.begin(command),
            "ack" | "fail" => {
                let from = node(positional(command, 0)?)?;
                let answer = match command.name.as_str() {
                    "ack" => Answer::Ack,
                    _ => Answer::Failed(positional(command, 1)?.parse()?),
                };
                let tally = self.tally()?;
                assert_eq!(tally.record(from, answer), tally.verdict());
                return Ok(format!("{command}: {}", standing(tally)));
            }
            "hint" => {
                self.tally()?.hint_kept();
                return Ok(format!("hint: {}", standing(self.tally()?)));
            }
            "failures" => {
                let failures = self.tally()?.failures();
                let lines =
                    failures.map(|(node, reason)| format!("n{} failed: {reason}\n", node.0));
                return Ok(lines.collect());
            }
            other => return Err(format!("no such command: {other}").into()),
        }
        Ok(String::new())
    }
}

#[test]
fn every_claim_holds() {
    common::scripts_hold("tally", Script::default);
}
