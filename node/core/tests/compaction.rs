//! Runs the golden scripts of the choice of what to compact (`testscripts/compaction`).

mod common;

use common::Outcome;
use helenus_core::compaction::{Candidate, Choice, SizeTiered, choose, pending_tasks};

/// Sizes are in MiB, ages in seconds.
#[derive(goldenscript::Command)]
enum Command {
    /// Changes options.
    Options {
        #[arg(key)]
        min: Option<u32>,
        #[arg(key)]
        max: Option<u32>,
        #[arg(key)]
        small: Option<u64>,
    },
    /// SSTables appear, one of each size; they are numbered from 0 on.
    Add {
        sizes: Vec<u64>,
        #[arg(key)]
        hotness: Option<f64>,
        #[arg(key)]
        droppable: Option<f64>,
        #[arg(key)]
        age: Option<u64>,
    },
    /// What would be compacted next.
    Choose,
    /// Compacts it. Nothing cancels out: the output is as large as the inputs together.
    Compact,
    /// All SSTables.
    Show,
}

#[derive(Default)]
struct Runner {
    sstables: Vec<Candidate>,
    options: SizeTiered,
    next_id: u64,
}

impl Runner {
    fn add(&mut self, bytes: u64) -> &mut Candidate {
        let id = self.next_id;
        self.next_id += 1;
        self.sstables.push(Candidate { id, bytes, droppable_ratio: 0.0, age_s: 0, hotness: 0.0 });
        self.sstables.last_mut().expect("one was just pushed")
    }

    fn describe(&self, choice: Option<&Choice>) -> String {
        let pending = pending_tasks(&self.sstables, &self.options);
        match choice {
            Some(Choice { inputs, bytes, reason }) => {
                format!("{reason:?} {inputs:?}, {} MiB; {pending} pending", bytes >> 20)
            }
            None => format!("nothing; {pending} pending"),
        }
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Outcome<String> {
        let mut output = String::new();
        match command {
            Command::Options { min, max, small } => {
                let options = &mut self.options;
                options.min_threshold = min.unwrap_or(options.min_threshold);
                options.max_threshold = max.unwrap_or(options.max_threshold);
                options.min_sstable_size = small.map_or(options.min_sstable_size, |s| s << 20);
            }
            Command::Add { sizes, hotness, droppable, age } => {
                for size in sizes {
                    let sstable = self.add(size << 20);
                    sstable.hotness = hotness.unwrap_or(0.0);
                    sstable.droppable_ratio = droppable.unwrap_or(0.0);
                    sstable.age_s = age.unwrap_or(0);
                }
            }
            Command::Choose => {
                output = self.describe(choose(&self.sstables, &self.options).as_ref());
            }
            Command::Compact => {
                let choice = choose(&self.sstables, &self.options);
                output = self.describe(choice.as_ref());
                if let Some(Choice { inputs, bytes, .. }) = choice {
                    self.sstables.retain(|sstable| !inputs.contains(&sstable.id));
                    self.add(bytes);
                }
            }
            Command::Show => {
                let each = self.sstables.iter().map(|s| format!("{}: {} MiB", s.id, s.bytes >> 20));
                output = each.collect::<Vec<_>>().join(", ");
            }
        }
        Ok(output)
    }
}

#[test]
fn scripts_hold() {
    common::scripts_hold("compaction", Runner::default);
}
