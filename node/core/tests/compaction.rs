//! Runs the golden scripts of the choice of what to compact (`testscripts/compaction`).

mod common;

use common::Outcome;
use helenus_core::compaction::{
    Action, Candidate, Choice, Rounds, Running, Strategy, Table, choose, choose_all, pending_tasks,
};
use helenus_core::{TableOptions, TimestampMicros, Token};

/// Sizes are in MiB, ages in seconds, timestamps in hours. Tokens are what a script says they are.
#[derive(goldenscript::Command)]
enum Command {
    /// Sets a table option, by its name without `compaction.`.
    Option { name: String, value: String },
    /// SSTables appear, one of each size; they are numbered from 0 on. Without more said they may hold anything.
    Add {
        sizes: Vec<u64>,
        #[arg(key)]
        hotness: Option<f64>,
        /// The share that overwrites what level 1 holds.
        #[arg(key)]
        overwrites: Option<f64>,
        #[arg(key)]
        droppable: Option<f64>,
        #[arg(key)]
        age: Option<u64>,
        #[arg(key)]
        level: Option<u32>,
        /// From this token on.
        #[arg(key)]
        from: Option<i64>,
        /// To this token.
        #[arg(key)]
        to: Option<i64>,
        /// The smallest timestamp.
        #[arg(key)]
        min: Option<i64>,
        /// The largest timestamp.
        #[arg(key)]
        max: Option<i64>,
        #[arg(key)]
        expired: Option<bool>,
    },
    /// What is in memtables begins with this timestamp.
    Memtable { hour: i64 },
    /// What would be compacted next.
    Choose,
    /// Begins to compact it.
    Start,
    /// All that was begun ends, in order.
    Finish,
    /// Begins and ends it. Nothing cancels out: the output is as large as the inputs together.
    Compact,
    /// What an operator's compaction would take.
    Major,
    /// All SSTables, by level.
    Show,
}

#[derive(Default)]
struct Runner {
    sstables: Vec<Candidate>,
    under_way: Vec<Choice>,
    running: Vec<Running>,
    rounds: Rounds,
    memtable: Option<TimestampMicros>,
    options: TableOptions,
    next_id: u64,
}

const HOUR_US: i64 = 3_600_000_000;

impl Runner {
    fn table(&self) -> Table<'_> {
        Table {
            sstables: &self.sstables,
            running: &self.running,
            memtable_min_timestamp: self.memtable,
            rounds: &self.rounds,
        }
    }

    fn choose(&self) -> Option<Choice> {
        choose(&self.table(), &Strategy::of(&self.options))
    }

    fn describe(&self, choice: Option<&Choice>) -> String {
        let pending = pending_tasks(&self.table(), &Strategy::of(&self.options));
        let Some(choice) = choice else { return format!("nothing; {pending} pending") };
        let Choice { inputs, bytes, reason, action, level, output_bytes_max, .. } = choice;
        let action = match action {
            Action::Merge => String::new(),
            other => format!(", {other:?}"),
        };
        let level = match level {
            0 => String::new(),
            level => format!(" to level {level}"),
        };
        let split = match output_bytes_max {
            &u64::MAX => String::new(),
            bytes => format!(" by {} MiB", bytes >> 20),
        };
        format!(
            "{reason:?} {inputs:?}{level}{split}{action}, {} MiB; {pending} pending",
            bytes >> 20
        )
    }

    fn start(&mut self) -> String {
        let choice = self.choose();
        let output = self.describe(choice.as_ref());
        if let Some(choice) = choice {
            self.rounds.advance(&choice);
            self.running.push(choice.running());
            self.under_way.push(choice);
        }
        output
    }

    fn finish(&mut self) {
        self.running.clear();
        for choice in std::mem::take(&mut self.under_way) {
            let mut inputs: Vec<Candidate> = Vec::new();
            self.sstables.retain(|s| {
                let stays = !choice.inputs.contains(&s.id);
                if !stays {
                    inputs.push(s.clone());
                }
                stays
            });
            match choice.action {
                Action::Drop => {}
                Action::Move => self
                    .sstables
                    .extend(inputs.into_iter().map(|s| Candidate { level: choice.level, ..s })),
                Action::Merge => self.merge(&choice, &inputs),
            }
        }
    }

    /// Outputs share the inputs' span evenly.
    fn merge(&mut self, choice: &Choice, inputs: &[Candidate]) {
        let first = inputs.iter().map(|s| s.first).min().expect("a choice has inputs").0;
        let last = inputs.iter().map(|s| s.last).max().expect("a choice has inputs").0;
        let count = choice.bytes.div_ceil(choice.output_bytes_max).max(1);
        let span = i128::from(last) - i128::from(first) + 1;
        let edge = |n: u64| -> i64 {
            let offset = span * i128::from(n) / i128::from(count);
            i64::try_from(i128::from(first) + offset).unwrap_or(i64::MAX)
        };
        for n in 0..count {
            let id = self.next_id;
            self.next_id += 1;
            self.sstables.push(Candidate {
                level: choice.level,
                first: Token(edge(n)),
                last: Token(if n + 1 == count { last } else { edge(n + 1) - 1 }),
                min_timestamp: inputs.iter().map(|s| s.min_timestamp).min().expect("as above"),
                max_timestamp: inputs.iter().map(|s| s.max_timestamp).max().expect("as above"),
                ..Candidate::new(id, choice.bytes / count)
            });
        }
    }

    fn show(&self) -> String {
        let mut sorted: Vec<&Candidate> = self.sstables.iter().collect();
        sorted.sort_by_key(|s| (s.level, s.first, s.id));
        let each = sorted.iter().map(|s| {
            let level = if s.level == 0 { String::new() } else { format!("L{} ", s.level) };
            let span = match (s.first, s.last) {
                (Token::MIN, Token::MAX) => String::new(),
                (first, last) => format!(" {first}..{last}"),
            };
            format!("{level}{}: {} MiB{span}", s.id, s.bytes >> 20)
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        Ok(match command {
            Command::Option { name, value } => {
                self.options.set(&format!("compaction.{name}"), value)?;
                String::new()
            }
            Command::Add {
                sizes,
                hotness,
                overwrites,
                droppable,
                age,
                level,
                from,
                to,
                min,
                max,
                expired,
            } => {
                for size in sizes {
                    let any = Candidate::new(self.next_id, size << 20);
                    self.next_id += 1;
                    let hours = |h: i64| TimestampMicros(h * HOUR_US);
                    self.sstables.push(Candidate {
                        level: level.unwrap_or(0),
                        first: from.map_or(any.first, Token),
                        last: to.map_or(any.last, Token),
                        min_timestamp: min.map_or(any.min_timestamp, hours),
                        max_timestamp: max.map_or(any.max_timestamp, hours),
                        droppable_ratio: droppable.unwrap_or(0.0),
                        expired: expired.unwrap_or(false),
                        age_s: age.unwrap_or(0),
                        hotness: hotness.unwrap_or(0.0),
                        overwrites: overwrites.unwrap_or(0.0),
                        ..any
                    });
                }
                String::new()
            }
            Command::Memtable { hour } => {
                self.memtable = Some(TimestampMicros(hour * HOUR_US));
                String::new()
            }
            Command::Choose => self.describe(self.choose().as_ref()),
            Command::Start => self.start(),
            Command::Finish => {
                self.finish();
                String::new()
            }
            Command::Compact => {
                let output = self.start();
                self.finish();
                output
            }
            Command::Major => {
                let all = choose_all(&self.table(), &Strategy::of(&self.options));
                self.describe(all.as_ref())
            }
            Command::Show => self.show(),
        })
    }
}

#[test]
fn scripts_hold() {
    common::scripts_hold("compaction", Runner::default);
}
