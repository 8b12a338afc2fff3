//! The two logs that are kept alike, and how they differ: hints and dead letters.

use crate::config::{HintsConfig, Overflow};
use crate::seams::probe::HintLoss;
use helenus_core::hint::Limits;
use std::time::Duration;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// What is owed, and replayed when its target is back.
    Hints,
    /// Hints that there was no room for. They wait for an operator.
    DeadLetters,
}

/// Why a log did not take a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// It is lost, and counted.
    Refused(HintLoss),
    /// There was no room, and its policy is `dead-letter`. Nothing is counted yet.
    DeadLetter,
}

impl From<HintLoss> for NotTaken {
    fn from(loss: HintLoss) -> NotTaken {
        NotTaken::Refused(loss)
    }
}

impl Log {
    /// Its bounds. Dead letters have one of their own for all targets, and never make room for each other.
    pub(super) fn limits(self, config: &HintsConfig) -> Limits {
        let per_host = config.max_hints_size_per_host;
        match self {
            Log::Hints => Limits {
                node_bytes: config.max_hints_size,
                target_bytes: (per_host > 0).then_some(per_host),
                overflow: config.overflow,
            },
            Log::DeadLetters => Limits {
                node_bytes: config.max_dead_letters_size,
                target_bytes: None,
                overflow: Overflow::DropNewest,
            },
        }
    }

    /// Small enough that evicting one loses little, and that reading its keys back holds up nobody. Any keyspace may ask
    /// for `drop-oldest`, so all segments are.
    pub(super) fn segment_bytes(self, config: &HintsConfig) -> u64 {
        const EVICTED_BYTES_MAX: u64 = 4 << 20;
        let limits = self.limits(config);
        let bound = limits.target_bytes.unwrap_or(u64::MAX).min(limits.node_bytes);
        config.max_hints_file_size.min(EVICTED_BYTES_MAX).min(bound / 32).max(1024)
    }

    /// Whether it takes hints at all, and for how long for a target that is down. Both were asked before a hint becomes a
    /// dead letter, and old letters do not keep new ones out.
    pub(super) fn open_for(self, config: &HintsConfig) -> (bool, Duration) {
        match self {
            Log::Hints => (config.enabled, config.max_hint_window),
            Log::DeadLetters => (true, Duration::MAX),
        }
    }

    /// The reason for a refusal when this bound is reached.
    pub(super) fn full(self, bound: HintLoss) -> HintLoss {
        match self {
            Log::Hints => bound,
            Log::DeadLetters => HintLoss::DeadLettersFull,
        }
    }

    /// The reason when an operator empties it.
    pub(super) fn emptied(self) -> HintLoss {
        match self {
            Log::Hints => HintLoss::Truncated,
            Log::DeadLetters => HintLoss::Purged,
        }
    }
}
