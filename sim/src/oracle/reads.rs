//! What one read is worth, given what had been acknowledged before it began.
//!
//! A write has to be seen by a read that *begins after* its acknowledgement; a write in flight may be seen or not. An
//! order that is placed in SQL but not acknowledged by the store is lag, whoever finds it annoying: it is counted apart
//! from stale reads, because no consistency level can return what was never written.

use crate::ledger::{Order, Projection, ReadVerdict, Refusal};
use std::time::Duration;

/// Judges a read of `order` that began at `invoked`. `answer` is what the store said: bytes, nothing, or a refusal;
/// `is_right` says whether the bytes are those that were written.
pub fn verdict(
    order: &Order,
    invoked: Duration,
    answer: Result<Option<&[u8]>, (Refusal, String)>,
    is_right: impl FnOnce(&[u8]) -> bool,
) -> ReadVerdict {
    match answer {
        Err((refusal, why)) => ReadVerdict::Refused(refusal, why),
        Ok(Some(bytes)) if is_right(bytes) => ReadVerdict::Fresh,
        Ok(Some(_)) => ReadVerdict::Wrong,
        Ok(None) => match &order.projection {
            Projection::Acked(ack) if ack.at <= invoked => ReadVerdict::Stale,
            // Acknowledged while the read ran, or not at all.
            _ => ReadVerdict::Missing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ack;
    use helenus_core::{Level, TimestampMicros};

    fn order(acked_at: Option<u64>) -> Order {
        let projection = acked_at.map_or(Projection::Pending, |at| {
            Projection::Acked(Ack {
                at: Duration::from_secs(at),
                took: Duration::ZERO,
                level: Level::Quorum,
                timestamp: TimestampMicros(1),
                coordinator: 0,
                replicas: vec![0, 1],
            })
        });
        Order { placed: Duration::ZERO, projection }
    }

    fn judged(acked_at: Option<u64>, invoked: u64, answer: Option<&[u8]>) -> ReadVerdict {
        let invoked = Duration::from_secs(invoked);
        verdict(&order(acked_at), invoked, Ok(answer), |bytes| bytes == b"right")
    }

    #[test]
    fn only_a_write_acknowledged_before_the_read_began_makes_it_stale() {
        assert_eq!(judged(Some(5), 6, None), ReadVerdict::Stale);
        assert_eq!(judged(Some(6), 6, None), ReadVerdict::Stale);
        assert_eq!(judged(Some(7), 6, None), ReadVerdict::Missing);
        assert_eq!(judged(None, 6, None), ReadVerdict::Missing);
    }

    #[test]
    fn a_value_is_fresh_or_wrong_whatever_was_acknowledged() {
        assert_eq!(judged(None, 6, Some(b"right")), ReadVerdict::Fresh);
        assert_eq!(judged(Some(5), 6, Some(b"left")), ReadVerdict::Wrong);
    }

    #[test]
    fn a_refusal_is_neither_stale_nor_missing() {
        let refused = Err((Refusal::Timeout, "1 of 2".to_owned()));
        let judged = verdict(&order(Some(5)), Duration::from_secs(6), refused, |_| true);
        assert_eq!(judged, ReadVerdict::Refused(Refusal::Timeout, "1 of 2".to_owned()));
    }
}
