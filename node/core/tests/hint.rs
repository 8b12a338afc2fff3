//! Runs the golden scripts of the hint budget and accounts (`testscripts/hint`).

mod common;

use common::Outcome;
use helenus_core::NodeId;
use helenus_core::hint::{Accounts, Admission, Budget, Limits, Loss, Overflow};
use std::collections::VecDeque;

/// Targets are numbers, sizes are bytes.
#[derive(goldenscript::Command)]
enum Command {
    /// Starts over. `overflow` is `drop-newest` or `drop-oldest`; no `target`: no bound per target.
    New {
        #[arg(key)]
        node: u64,
        #[arg(key)]
        target: Option<u64>,
        #[arg(key)]
        overflow: String,
    },
    /// A replica missed a write: `append TARGET BYTES`.
    Append { target: u128, bytes: u64 },
    /// The target acknowledged its oldest hints: `deliver TARGET COUNT`.
    Deliver { target: u128, count: u64 },
    /// The target's oldest hint expired.
    Expire(u128),
    /// The target's oldest hint could not be read back.
    Damage(u128),
    /// The operator truncates all hints of the target.
    Truncate(u128),
    /// The accounts: of all targets, then of each.
    Show,
}

struct Runner {
    budget: Budget,
    accounts: Accounts,
    /// Stored hints, oldest first.
    stored: VecDeque<(NodeId, u64)>,
}

fn runner(limits: Limits) -> Runner {
    Runner { budget: Budget::new(limits), accounts: Accounts::new(), stored: VecDeque::new() }
}

impl Runner {
    /// Removes the oldest hint, of `from` or of all, and gives its target.
    fn pop(&mut self, from: Option<NodeId>) -> Option<NodeId> {
        let at = self.stored.iter().position(|(t, _)| from.is_none_or(|from| from == *t))?;
        let (target, bytes) = self.stored.remove(at)?;
        self.budget.release(target, bytes);
        Some(target)
    }

    fn lose(&mut self, target: u128, loss: Loss) -> String {
        match self.pop(Some(NodeId(target))) {
            Some(target) => {
                self.accounts.lost(target, loss, 1);
                format!("{} of {}: {:?}\n", loss.as_str(), target.0, loss.class())
            }
            None => "nothing is pending\n".to_owned(),
        }
    }

    fn append(&mut self, target: NodeId, bytes: u64) -> String {
        let mut output = String::new();
        loop {
            match self.budget.admit(target, bytes) {
                Admission::Store => {
                    self.budget.charge(target, bytes);
                    self.accounts.stored(target, 1);
                    self.stored.push_back((target, bytes));
                    return output + &format!("stored; {} bytes in all", self.budget.total());
                }
                Admission::Refuse(loss) => {
                    self.accounts.lost(target, loss, 1);
                    return output + &format!("refused: {}", loss.as_str());
                }
                Admission::EvictThen { from, bytes } => {
                    let whose = from.map_or("any".to_owned(), |from| from.0.to_string());
                    let evicted = self.pop(from).expect("a full store has something to evict");
                    self.accounts.lost(evicted, Loss::Evicted, 1);
                    output += &format!("{bytes} bytes short: evicted one of {} ", evicted.0);
                    output += &format!("(of {whose})\n");
                }
            }
        }
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        let mut output = String::new();
        match command {
            Command::New { node, target, overflow } => {
                let overflow = match overflow.as_str() {
                    "drop-newest" => Overflow::DropNewest,
                    "drop-oldest" => Overflow::DropOldest,
                    other => return Err(format!("no such policy: {other}").into()),
                };
                *self = runner(Limits { node_bytes: *node, target_bytes: *target, overflow });
            }
            Command::Append { target, bytes } => output = self.append(NodeId(*target), *bytes),
            Command::Deliver { target, count } => {
                for _ in 0..*count {
                    let target = self.pop(Some(NodeId(*target))).ok_or("nothing is pending")?;
                    self.accounts.delivered(target, 1);
                }
            }
            Command::Expire(target) => output = self.lose(*target, Loss::Expired),
            Command::Damage(target) => output = self.lose(*target, Loss::Damaged),
            Command::Truncate(target) => {
                while self.stored.iter().any(|(t, _)| t.0 == *target) {
                    output += &self.lose(*target, Loss::Truncated);
                }
            }
            Command::Show => {
                output += &format!("all: {:?}\n", self.accounts.total());
                for (target, account) in self.accounts.targets() {
                    output += &format!("{}: {:?}\n", target.0, account);
                }
                output = output.replace("Account ", "");
            }
        }
        Ok(output)
    }
}

#[test]
fn scripts_hold() {
    let nothing = Limits { node_bytes: 0, target_bytes: None, overflow: Overflow::DropNewest };
    common::scripts_hold("hint", || runner(nothing));
}
