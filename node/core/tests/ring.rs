//! Runs the golden scripts of the ring and of placement: `testscripts/ring/<claim>`.

mod common;

use common::Outcome;
use goldenscript::{Argument, Command, Context, Runner};
use helenus_core::placement::{Placement, Replica};
use helenus_core::ring::Ring;
use helenus_core::{Dc, Endpoint, NodeId, Rack, Replication, Token, token};
use std::fmt::Write as _;
use std::num::NonZeroU32;

/// Nodes are written `n1`, `n2`; their host ids are 1, 2.
#[derive(Default)]
struct Script {
    members: Vec<(Endpoint, Vec<Token>)>,
    placement: Placement,
}

impl Script {
    fn ring(&self) -> Ring {
        Ring::new(self.members.clone())
    }

    /// `node n1 0 100 dc=dc1 rack=r1`: a member with its tokens.
    fn node(&mut self, command: &Command) -> Outcome<String> {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("which node?")?;
        let tokens = std::iter::from_fn(|| args.next_pos()).map(|t| t.parse().map(Token));
        let tokens = tokens.collect::<Result<_, _>>()?;
        let endpoint = Endpoint {
            node: NodeId(name.trim_start_matches('n').parse()?),
            internode: "127.0.0.1:7000".parse()?,
            dc: Dc::from(args.take_key("dc").unwrap_or("dc1")),
            rack: Rack::from(args.take_key("rack").unwrap_or("r1")),
        };
        args.reject_next()?;
        self.members.push((endpoint, tokens));
        Ok(String::new())
    }

    /// `place rf=3` or `place dc1=3 dc2=2`: who holds which range, and what the ring cannot give.
    fn place(&mut self, command: &Command) -> Outcome<String> {
        let replication = match command.args.as_slice() {
            [Argument::KeyValue(key, rf)] if key == "rf" => Replication::Simple { rf: rf.parse()? },
            args => {
                let per_dc = args.iter().map(|arg| match arg {
                    Argument::KeyValue(dc, rf) => Ok((Dc::from(dc.as_str()), rf.parse()?)),
                    other => Err(format!("`{other}` has no copies").into()),
                });
                Replication::NetworkTopology {
                    per_dc: per_dc
                        .collect::<Outcome<Vec<(Dc, NonZeroU32)>>>()?
                        .into_iter()
                        .collect(),
                }
            }
        };
        self.placement = Placement::new(&self.ring(), &replication);
        let mut out = String::new();
        for (range, replicas) in self.placement.ranges() {
            writeln!(out, "({}, {}] {}", range.after, range.until, names(replicas))?;
        }
        for warning in self.placement.warnings() {
            writeln!(out, "warning: {warning}")?;
        }
        Ok(out)
    }

    /// `owns`: each member's share of the ring in the last placement.
    fn owns(&self) -> Outcome<String> {
        let mut out = String::new();
        for member in self.ring().members() {
            let share = self.placement.ownership(member.node) * 100.0;
            writeln!(out, "n{} {share:.1}%", member.node.0)?;
        }
        Ok(out)
    }

    /// `ring`: ranges, owners, conflicts.
    fn show(&self) -> Outcome<String> {
        let ring = self.ring();
        let mut out = String::new();
        for (range, owner) in ring.ranges() {
            writeln!(out, "({}, {}] n{}", range.after, range.until, owner.node.0)?;
        }
        for conflict in ring.conflicts() {
            let (token, kept, lost) = (conflict.token, conflict.kept.0, conflict.lost.0);
            writeln!(out, "conflict: {token} stays with n{kept}, not n{lost}")?;
        }
        Ok(out)
    }

    /// `owner 5 -7`, `replicas 5 -7`, `locate KEY`: look tokens and keys up.
    fn look_up(&self, command: &Command) -> Outcome<String> {
        let mut out = String::new();
        let mut args = command.consume_args();
        while let Some(what) = args.next_pos() {
            match command.name.as_str() {
                "owner" => {
                    let ring = self.ring();
                    let owner = ring.owner(Token(what.parse()?)).ok_or("the ring is empty")?;
                    writeln!(out, "{what}: n{}", owner.node.0)?;
                }
                "replicas" => {
                    let replicas = self.placement.replicas(Token(what.parse()?));
                    writeln!(out, "{what}: {}", names(replicas))?;
                }
                _ => {
                    let token = token::of(what.as_bytes());
                    writeln!(out, "{what} at {token}: {}", names(self.placement.replicas(token)))?;
                }
            }
        }
        args.reject_next()?;
        Ok(out)
    }
}

fn names(replicas: &[Replica]) -> String {
    let names = replicas.iter().map(|replica| format!("n{}", replica.node.0));
    names.collect::<Vec<_>>().join(" ")
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        match command.name.as_str() {
            "node" => self.node(command),
            "ring" => self.show(),
            "place" => self.place(command),
            "owns" => self.owns(),
            "owner" | "replicas" | "locate" => self.look_up(command),
            other => Err(format!("no such command: {other}").into()),
        }
    }
}

#[test]
fn every_claim_holds() {
    common::scripts_hold("ring", Script::default);
}
