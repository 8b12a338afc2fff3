//! What a node does as a coordinator: plan, send, tally, hint, answer.
