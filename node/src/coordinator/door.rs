//! Whether this node takes requests, of clients and of other coordinators. It stops doing so when it leaves the ring.

use super::RequestError;
use std::sync::atomic::{AtomicU8, Ordering};

/// What clients are told of a node that is leaving, or has left.
pub(crate) const LEFT: &str = "this node has left the ring, or is about to: ask another one. (Wipe its data directory to let it join as a new node)";

/// Invariant: once it is shut for good it stays so.
#[derive(Debug, Default)]
pub(crate) struct Door(AtomicU8);

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const LOCKED: u8 = 2;

impl Door {
    /// Whether clients are let in, or a sentence why not.
    pub(super) fn check(&self) -> Result<(), RequestError> {
        match self.0.load(Ordering::Relaxed) {
            OPEN => Ok(()),
            _ => Err(RequestError::Overloaded(LEFT.to_owned())),
        }
    }

    /// Whether other coordinators find no replica here any more.
    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) == LOCKED
    }

    /// Lets clients in, or no further ones. Other coordinators find their replica here as before.
    pub(crate) fn set_open(&self, open: bool) {
        let (from, to) = if open { (CLOSED, OPEN) } else { (OPEN, CLOSED) };
        // One that is locked stays locked.
        self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    /// Nobody gets in any more.
    pub(crate) fn lock(&self) {
        self.0.store(LOCKED, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_is_locked_stays_locked() {
        let door = Door::default();
        assert!(door.check().is_ok());
        door.set_open(false);
        assert!(door.check().is_err() && !door.is_locked());
        door.set_open(true);
        assert!(door.check().is_ok());
        door.lock();
        door.set_open(true);
        let refused = door.check().unwrap_err().to_string();
        assert!(door.is_locked() && refused.contains("left the ring"), "{refused}");
    }
}
