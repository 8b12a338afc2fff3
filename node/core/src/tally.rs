//! Counting replicas, not replies, until a level is met or out of reach.
