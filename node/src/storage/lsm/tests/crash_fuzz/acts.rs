//! The acts of a life: what the engine is told to do, and what the model then expects of it.

use super::super::model::{Owed, TableModel};
use super::super::node::config::CommitlogSync;
use super::super::node::storage::{Applied, Engine, Upkeep, Write};
use super::super::writes::{self, Made};
use super::{Act, World, Wrong, is_simulated};
use helenus_core::{Partition, TableId, TimestampMicros};
use rand::Rng as _;
use std::time::Duration;

impl World<'_> {
    pub(in super::super) async fn perform(&mut self, act: &Act) -> Result<(), Wrong> {
        self.say(|| format!("{act:?}"));
        match act {
            Act::Write { table, count, wait } => self.write(*table, *count, *wait).await,
            Act::Flush { wait } => {
                let Some(boot) = &self.boot else { return Ok(()) };
                let flush = boot.engine.flush(None);
                if *wait && let Some(Ok(())) = self.drive(flush).await? {
                    self.all_durable(Owed::Live);
                }
                Ok(())
            }
            Act::Compact { wait } => {
                let Some(boot) = &self.boot else { return Ok(()) };
                let compaction = boot.engine.compact(None);
                if *wait
                    && let Some(Err(error)) = self.drive(compaction).await?
                    && self.disk.is_powered()
                    && !(self.failing && is_simulated(&error))
                {
                    return Err(format!("a compaction failed: {error}"));
                }
                Ok(())
            }
            Act::Jobs(count) => self.jobs(*count).await,
            Act::Settle => self.settle().await,
            Act::Haunt(table) => self.haunt(*table).await,
            Act::Pass(seconds) => {
                self.clock.go_on(*seconds);
                Ok(())
            }
            Act::Drop(table) => self.drop_table(*table),
            Act::Create(table) => self.create_table(*table),
            Act::Look => self.look_again(),
            Act::Restart { clean } => self.restart(*clean).await,
        }
    }

    pub(super) fn all_durable(&mut self, owed: Owed) {
        self.tables.iter_mut().filter(|t| t.open).for_each(|table| table.all_durable(owed));
    }

    async fn jobs(&mut self, count: u32) -> Result<(), Wrong> {
        for _ in 0..count {
            let Some(boot) = &self.boot else { return Ok(()) };
            boot.steps.run_one(&mut self.rng);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn write(&mut self, table: usize, count: usize, wait: bool) -> Result<(), Wrong> {
        if !self.tables.get(table).is_some_and(|model| model.open) {
            return Ok(());
        }
        let mut made = Vec::with_capacity(count);
        for _ in 0..count {
            made.push(self.make(table));
        }
        self.apply(table, made, wait).await
    }

    async fn haunt(&mut self, table: usize) -> Result<(), Wrong> {
        if !self.tables.get(table).is_some_and(|model| model.open) {
            return Ok(());
        }
        let (now, key) = (self.now(table), self.rng.random_range(0..self.plan.keys));
        self.next_timestamp += 2;
        // What is covered is younger than all that was ever forgotten, and older than its tombstone.
        let covered = writes::timestamp_of(self.next_timestamp - 1);
        let tombstone = writes::timestamp_of(self.next_timestamp);
        let deletion = Partition::delete(tombstone, now.second);
        let deletion = self.tried(table, Made::tombstone(key, deletion, now.second), tombstone);
        self.apply(table, vec![deletion], true).await?;
        Box::pin(self.perform(&Act::Flush { wait: true })).await?;
        let ghost = self.tried(table, Made::value(key, covered, b"ghost"), covered);
        self.apply(table, vec![ghost], true).await?;
        self.clock.go_on(i64::from(now.gc_grace_s) + 2);
        Box::pin(self.perform(&Act::Compact { wait: true })).await
    }

    /// Applies what was made up, commits it, and perhaps waits for its acknowledgement.
    async fn apply(&mut self, table: usize, made: Vec<Made>, wait: bool) -> Result<(), Wrong> {
        let Some(boot) = &self.boot else { return Ok(()) };
        let Some(model) = self.tables.get_mut(table) else { return Ok(()) };
        let id = self.plan.tables.get(table).map_or(TableId(0), |def| def.id);
        let write = |made: &Made| {
            let (token, key) = writes::key(made.key);
            Write::of(id, key, token, made.update.clone())
        };
        let mut waiting = Vec::new();
        if self.rng.random_bool(0.3) {
            if let Ok(applied) = boot.engine.apply_all(made.iter().map(write).collect()) {
                made.iter().for_each(|made| model.taken(made.key, &made.update));
                waiting.push((made, applied));
            }
        } else {
            for made in made {
                // Refused when flushes do not keep up, or the log is poisoned: not taken, that is all.
                if let Ok(applied) = boot.engine.apply(write(&made)) {
                    model.taken(made.key, &made.update);
                    waiting.push((vec![made], applied));
                }
            }
        }
        if boot.engine.commit().is_ok() {
            self.tables.iter_mut().for_each(TableModel::committed);
        }
        let synced = !matches!(self.plan.config.commitlog_sync, CommitlogSync::Periodic(_));
        for (made, applied) in waiting {
            if let (true, Applied::After(durable)) = (wait, applied)
                && let Some(Ok(())) = self.drive(durable).await?
                && let Some(model) = self.tables.get_mut(table)
            {
                made.iter().for_each(|made| model.acked(made.key, &made.update, synced));
            }
        }
        Ok(())
    }

    /// Makes up a write, and notes that it is tried.
    fn make(&mut self, table: usize) -> Made {
        let now = self.now(table);
        let key = self.rng.random_range(0..self.plan.keys);
        self.next_timestamp += 1;
        let floor = self.tables.get(table).map_or(0, |model| model.floor(key, now));
        let timestamp = writes::timestamp(&mut self.rng, self.next_timestamp, floor);
        let (bytes, second) = (self.plan.value_bytes_max, now.second);
        let made = writes::make(&mut self.rng, key, timestamp, second, bytes);
        self.say(|| format!("table {table}, {made:?}"));
        self.tried(table, made, timestamp)
    }

    fn tried(&mut self, table: usize, made: Made, timestamp: TimestampMicros) -> Made {
        if let Some(model) = self.tables.get_mut(table) {
            model.trying(made.key, timestamp.0, &made.value, &made.update, made.dies_at);
        }
        made
    }

    /// Everything in the background, and the log's sync: what was committed before is durable then.
    async fn settle(&mut self) -> Result<(), Wrong> {
        for _ in 0..3 {
            // Longer than any period of the log's, so that there is always one whole period in it.
            self.drive(tokio::time::sleep(Duration::from_millis(30))).await?;
            loop {
                let Some(boot) = &self.boot else { return Ok(()) };
                if !boot.steps.run_one(&mut self.rng) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let Some(boot) = self.boot.as_ref().filter(|_| self.disk.is_powered()) else {
            return Ok(());
        };
        if boot.engine.poisoned().is_none() {
            self.all_durable(Owed::Committed);
        }
        if !self.failing {
            self.tables.iter_mut().for_each(TableModel::drops_are_durable);
        }
        Ok(())
    }

    fn drop_table(&mut self, table: usize) -> Result<(), Wrong> {
        let (id, failing) = (self.id(table), self.failing);
        let Some(boot) = &self.boot else { return Ok(()) };
        let Some(model) = self.tables.get_mut(table) else { return Ok(()) };
        // More doubts than this cost time and tell nothing.
        if model.open && model.doubts() < 3 {
            boot.engine.drop_table(id).map_err(|error| format!("a drop failed: {error}"))?;
            model.drop_table(failing);
        }
        Ok(())
    }

    fn create_table(&mut self, table: usize) -> Result<(), Wrong> {
        let Some(boot) = &self.boot else { return Ok(()) };
        let Some(model) = self.tables.get_mut(table) else { return Ok(()) };
        let (false, Some(def)) = (model.open, self.plan.tables.get(table)) else { return Ok(()) };
        boot.engine.open_table(def).map_err(|error| format!("a table stays shut: {error}"))?;
        model.open = true;
        let known = model.known;
        if known || self.failing || !self.disk.is_powered() {
            // Nobody can say what it holds while reads fail: the next start will.
            return Ok(());
        }
        self.settle_table(table)
    }

    /// A few keys, in the middle of it all.
    fn look_again(&mut self) -> Result<(), Wrong> {
        let table = self.rng.random_range(0..self.tables.len());
        let key = self.rng.random_range(0..self.plan.keys);
        let (id, now) = (self.id(table), self.now(table));
        let (Some(boot), Some(model)) = (&self.boot, self.tables.get(table)) else {
            return Ok(());
        };
        if !model.open || !model.known {
            return Ok(());
        }
        let (token, name) = writes::key(key);
        match boot.engine.read(id, token, &name) {
            Ok(found) => match model.fault_of(key, &found.unwrap_or_default(), now) {
                None => Ok(()),
                Some(what) => Err(format!("table {table}, while it ran: {what}")),
            },
            Err(_) if !self.disk.is_powered() => Ok(()),
            Err(error) if self.failing && is_simulated(&error) => Ok(()),
            Err(error) => Err(format!("a read failed: {error}")),
        }
    }
}
