//! Runs the golden scripts of the hint budget and accounts (`testscripts/hint`).

mod common;

use common::Outcome;
use helenus_core::NodeId;
use helenus_core::hint::{Accounts, Admission, Budget, Limits, Loss, Overflow};
use std::collections::VecDeque;

/// Targets are numbers, sizes are bytes.
#[derive(goldenscript::Command)]
enum Command {
    /// Starts over. `overflow` is `drop-newest`, `drop-oldest` or `dead-letter`; no `target`: no bound per target; no
    /// `letters`: no room for dead letters.
    New {
        #[arg(key)]
        node: u64,
        #[arg(key)]
        target: Option<u64>,
        #[arg(key)]
        letters: Option<u64>,
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
    /// The target's oldest dead letters were replayed: `replay TARGET COUNT`.
    Replay { target: u128, count: u64 },
    /// The operator purges the target's oldest dead letter.
    Purge(u128),
    /// The accounts: of all targets, then of each.
    Show,
}

/// Hints or dead letters: the same books.
struct Log {
    budget: Budget,
    accounts: Accounts,
    /// Stored hints, oldest first.
    stored: VecDeque<(NodeId, u64)>,
}

struct Runner {
    hints: Log,
    letters: Log,
}

fn log(limits: Limits) -> Log {
    Log { budget: Budget::new(limits), accounts: Accounts::new(), stored: VecDeque::new() }
}

fn runner(limits: Limits, letters: u64) -> Runner {
    let overflow = Overflow::DropNewest;
    let letters = log(Limits { node_bytes: letters, target_bytes: None, overflow });
    Runner { hints: log(limits), letters }
}

impl Log {
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

    fn deliver(&mut self, target: u128, count: u64) -> Outcome<()> {
        for _ in 0..count {
            let target = self.pop(Some(NodeId(target))).ok_or("nothing is pending")?;
            self.accounts.delivered(target, 1);
        }
        Ok(())
    }

    /// Charges and keeps what was admitted.
    fn store(&mut self, target: NodeId, bytes: u64) -> u64 {
        self.budget.charge(target, bytes);
        self.accounts.stored(target, 1);
        self.stored.push_back((target, bytes));
        self.budget.total()
    }
}

impl Runner {
    fn append(&mut self, target: NodeId, bytes: u64) -> String {
        let mut output = String::new();
        let Runner { hints, letters } = self;
        loop {
            match hints.budget.admit(target, bytes) {
                Admission::Store => {
                    return output
                        + &format!("stored; {} bytes in all", hints.store(target, bytes));
                }
                Admission::Refuse(loss) => {
                    hints.accounts.lost(target, loss, 1);
                    return output + &format!("refused: {}", loss.as_str());
                }
                Admission::DeadLetter
                    if letters.budget.admit(target, bytes) == Admission::Store =>
                {
                    let total = letters.store(target, bytes);
                    return output + &format!("set aside; {total} bytes of dead letters in all");
                }
                Admission::DeadLetter => {
                    letters.accounts.lost(target, Loss::DeadLettersFull, 1);
                    return output + &format!("refused: {}", Loss::DeadLettersFull.as_str());
                }
                Admission::EvictThen { from, bytes } => {
                    let whose = from.map_or("any".to_owned(), |from| from.0.to_string());
                    let evicted = hints.pop(from).expect("a full store has something to evict");
                    hints.accounts.lost(evicted, Loss::Evicted, 1);
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
            Command::New { node, target, letters, overflow } => {
                let overflow = match overflow.as_str() {
                    "drop-newest" => Overflow::DropNewest,
                    "drop-oldest" => Overflow::DropOldest,
                    "dead-letter" => Overflow::DeadLetter,
                    other => return Err(format!("no such policy: {other}").into()),
                };
                let limits = Limits { node_bytes: *node, target_bytes: *target, overflow };
                *self = runner(limits, letters.unwrap_or(0));
            }
            Command::Append { target, bytes } => output = self.append(NodeId(*target), *bytes),
            Command::Deliver { target, count } => self.hints.deliver(*target, *count)?,
            Command::Expire(target) => output = self.hints.lose(*target, Loss::Expired),
            Command::Damage(target) => output = self.hints.lose(*target, Loss::Damaged),
            Command::Truncate(target) => {
                while self.hints.stored.iter().any(|(t, _)| t.0 == *target) {
                    output += &self.hints.lose(*target, Loss::Truncated);
                }
            }
            Command::Replay { target, count } => self.letters.deliver(*target, *count)?,
            Command::Purge(target) => output = self.letters.lose(*target, Loss::Purged),
            Command::Show => {
                let accounts = self.hints.accounts.clone();
                let accounts = accounts.with_dead_letters(&self.letters.accounts);
                output += &format!("all: {:?}\n", accounts.total());
                for (target, account) in accounts.targets() {
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
    common::scripts_hold("hint", || runner(nothing, 0));
}
