//! Hints: what is owed to a replica that could not be reached, under an exact bound.

/// Why a hint was refused or did not reach its target. Every one is counted; none is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Refused: the target has been down for longer than `max_hint_window`.
    WindowClosed,
    /// Refused: the node-wide bound `max_hints_size` is reached (`drop-newest`).
    NodeCapReached,
    /// Refused: the target's bound `max_hints_size_per_host` is reached (`drop-newest`).
    TargetCapReached,
    /// Refused: hinted handoff is disabled.
    Disabled,
    /// Evicted: the oldest made room for a newer one (`drop-oldest`).
    Evicted,
    /// Expired: older than the smaller gc_grace of then and now.
    Expired,
    /// Truncated by an operator.
    Truncated,
    /// Lost: its bytes could not be written, or could not be read back.
    Damaged,
}
