//! The schema on this node: changed, pushed, pulled, persisted.
