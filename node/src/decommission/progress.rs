//! How far a leave is.

use crate::repair::Job;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a node that leaves is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Until everybody knows, and what they sent before is over.
    Announcing,
    /// Logged batches that it keeps for others are finished.
    Batches,
    /// Conditional writes that it has accepted are decided.
    Decrees,
    /// What it holds goes to those who will hold it.
    Streaming,
    /// Hints that it owes are delivered, or given to another node.
    Hints,
    /// Clients are sent away; what is under way ends.
    Closing,
    /// It is no member any more.
    Left,
    /// It did not get away, and is a member as before.
    Failed,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stage::Announcing => "announcing",
            Stage::Batches => "batches",
            Stage::Decrees => "decrees",
            Stage::Streaming => "streaming",
            Stage::Hints => "hints",
            Stage::Closing => "closing",
            Stage::Left => "left",
            Stage::Failed => "failed",
        }
    }
}

/// A leave, as an operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) started_us: i64,
    pub(crate) ended_us: Option<i64>,
    pub(crate) failure: Option<String>,
    /// Of what goes to the new owners: one repair a pass.
    pub(crate) passes: Vec<Arc<Job>>,
    pub(crate) decrees_settled: u64,
    pub(crate) hints_delivered: u64,
    pub(crate) hints_handed_over: u64,
    pub(crate) warnings: Vec<String>,
}

/// A leave under way, or the last one.
#[derive(Debug)]
pub(crate) struct Leave {
    progress: Mutex<Progress>,
}

impl Leave {
    pub(super) fn new(started_us: i64, warnings: Vec<String>) -> Leave {
        let progress = Progress {
            stage: Stage::Announcing,
            started_us,
            ended_us: None,
            failure: None,
            passes: Vec::new(),
            decrees_settled: 0,
            hints_delivered: 0,
            hints_handed_over: 0,
            warnings,
        };
        Leave { progress: Mutex::new(progress) }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// Whether it is under way or has succeeded: another one has nothing to do.
    pub(super) fn holds(&self) -> bool {
        self.lock().stage != Stage::Failed
    }

    pub(super) fn enter(&self, stage: Stage) {
        tracing::info!(stage = stage.as_str(), "leaving the ring");
        self.lock().stage = stage;
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
    }

    pub(super) fn end(&self, failure: Option<String>, ended_us: i64) {
        let mut progress = self.lock();
        progress.stage = if failure.is_some() { Stage::Failed } else { Stage::Left };
        progress.failure = failure;
        progress.ended_us = Some(ended_us);
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics while it holds this lock")
    }
}
