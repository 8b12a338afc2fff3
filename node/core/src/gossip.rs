//! Scuttlebutt gossip as a step machine.
