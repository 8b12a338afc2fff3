//! The closed forms: what an outage costs, from its terms alone. Pure.
//!
//! ```text
//! hints owed     = rate x outage                      every write has one copy on the target
//! time to full   = cap x stores / (rate x record)     a hint is kept by the write's coordinator
//! hints kept     = floor(cap / record) x stores       drop-oldest: half a segment less, because segments go as a whole;
//!                                                     dead-letter: all, as the letters are replayed after the hints
//! replay         = kept / stores x record / throttle  each store sends at its own pace; its last page is not waited for
//! repair         = missing x payload / stream         one replica sends; and a moment for each range
//! ```
//!
//! What the target itself coordinates until its failure detector convicts the others is refused to the client and is on the
//! target all the same. So the first few orders of an outage are owed, and not missing.
//!
//! CAVEAT: they leave out what takes a second or two: until it is seen that the target is back, and a message's way. Outages
//! that are not much longer than that are predicted badly.

use crate::scenario::units::number;
use helenus_core::hint::Overflow;
use helenus_core::hint::ledger::RANGES_MAX;

/// What an outage is made of, in bytes, seconds and hints a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// `max_hints_size` of one store.
    pub cap: f64,
    /// Stores that keep hints for the target.
    pub stores: f64,
    /// What a hint takes in a store, with its share of a segment's header.
    pub record: f64,
    /// What a replay sends of it.
    pub sent: f64,
    /// What a replay sends at once.
    pub page: f64,
    /// Key and update: what a repair sends of it.
    pub payload: f64,
    /// Hints that writes owe the target, a second.
    pub rate: f64,
    /// How long the target is away.
    pub outage: f64,
    /// `hinted_handoff_throttle`, of one store for one target.
    pub throttle: f64,
    /// `stream_throughput_outbound` of the node that repairs.
    pub stream: f64,
    /// What a repair takes for one range besides streaming, with others under way beside it.
    pub session: f64,
    /// What is evicted at a time.
    pub segment: f64,
    /// What gives way.
    pub overflow: Overflow,
    /// How long the target goes on coordinating: until its failure detector convicts the others.
    pub blind: f64,
    /// From the heal until an operator begins.
    pub ready: f64,
    /// What a repair from the ledger waits for writes to end before it compares.
    pub settle: f64,
    /// Reads go to orders that are at most so old, evenly.
    pub look_back: f64,
    /// The share of reads and writes that the target coordinates.
    pub target_share: f64,
}

/// What follows. `None` of a time: it never comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// From the cut until every store is full.
    pub full_after: Option<f64>,
    /// Hints that came to be owed.
    pub owed: f64,
    /// Of these, delivered in the end.
    pub kept: f64,
    /// Refused or evicted.
    pub lost: f64,
    /// Of the lost ones, those that the target lacks after the replay.
    pub missing: f64,
    /// Writes that were refused, again and again, until the target was back.
    pub held_back: f64,
    /// From the heal until the last hint is delivered.
    pub replay: f64,
    /// From the heal until nothing is missing, by replay alone.
    pub by_replay: Option<f64>,
    /// By replay and a repair from the ledger after it.
    pub by_ledger: f64,
    /// By a full repair without any replay.
    pub by_full: f64,
    /// Bytes that the repair from the ledger sends.
    pub ledger_bytes: f64,
    /// Stale reads at ONE from the heal until replay ends.
    pub stale_replay: f64,
    /// The same until the full repair ends.
    pub stale_full: f64,
}

/// Whether a full store refuses the write itself instead of its hint.
fn refuses_writes(overflow: Overflow) -> bool {
    matches!(overflow, Overflow::FailWrite)
}

impl Terms {
    /// When a store would be full; `None`: the outage ends before.
    pub fn full_after(&self) -> Option<f64> {
        let full = self.cap * self.stores / (self.rate * self.record);
        (full < self.outage).then_some(full)
    }

    /// Hints that fit into one store.
    pub fn fit(&self) -> f64 {
        (self.cap / self.record).floor()
    }

    /// Everything.
    pub fn predict(&self) -> Prediction {
        let written = self.rate * self.outage;
        let full_after = self.full_after();
        let room = match self.overflow {
            Overflow::DropOldest => self.fit() - self.segment / self.record / 2.0,
            _ => self.fit(),
        };
        let kept = match full_after {
            // The rest is set aside and replayed after them, at the same pace.
            Some(_) if self.overflow != Overflow::DeadLetter => (room * self.stores).min(written),
            _ => written,
        };
        let over = written - kept;
        let (lost, held_back) =
            if refuses_writes(self.overflow) { (0.0, over) } else { (over, 0.0) };
        let owed = written - held_back;

        let taken = self.rate * self.blind * self.target_share;
        // They are the first orders of the outage: the very ones that are evicted, or else are kept.
        let (missing, late) = match self.overflow {
            Overflow::DropOldest if lost > 0.0 => ((lost - taken).max(0.0), kept),
            _ => (lost, (kept - taken).max(0.0)),
        };

        let replay = ((kept / self.stores * self.sent - self.page) / self.throttle).max(0.0);
        let ledger_bytes = missing * self.payload;
        // Each coordinator's ledger names so many ranges at most, and each is compared by itself.
        let ranges = self.stores * (lost / self.stores).min(number(RANGES_MAX as u64));
        let repairs = if lost > 0.0 { self.settle * self.stores } else { 0.0 };
        let repairs = repairs + ranges * self.session;
        let by_ledger = match lost > 0.0 {
            true => replay.max(self.ready) + repairs + ledger_bytes / self.stream,
            false => replay,
        };
        let by_full = self.ready + (missing + late) * self.payload / self.stream;

        // An order of the outage is looked at in any second with the same chance, wherever that second lies.
        let looks = self.target_share / self.look_back;
        // What is kept comes back evenly over the replay; what is lost does not.
        let stale_replay = looks * (late * replay / 2.0 + missing * replay);
        let stale_full = looks * (missing + late) * (self.ready + (by_full - self.ready) / 2.0);
        Prediction {
            full_after,
            owed,
            kept,
            lost,
            missing,
            held_back,
            replay,
            by_replay: (lost == 0.0).then_some(replay),
            by_ledger,
            by_full,
            ledger_bytes,
            stale_replay,
            stale_full,
        }
    }
}

/// By how much a measured figure differs from what it should be, as a share of that. `None`: nothing was to be expected.
pub fn relative_error(measured: f64, predicted: f64) -> Option<f64> {
    (predicted != 0.0).then(|| (measured - predicted) / predicted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source's own numbers, with two coordinators left of three.
    fn sale() -> Terms {
        Terms {
            cap: 500e6,
            stores: 2.0,
            record: 50_000.0,
            sent: 50_000.0,
            page: 50_000.0,
            payload: 49_960.0,
            rate: 250.0,
            outage: 960.0,
            throttle: 524_288.0,
            stream: 24.0 * 1_048_576.0,
            session: 0.0,
            segment: 4e6,
            overflow: Overflow::DropNewest,
            blind: 0.0,
            ready: 15.0,
            settle: 2.0,
            look_back: 4000.0,
            target_share: 1.0 / 3.0,
        }
    }

    #[test]
    fn two_stores_take_twice_as_long_as_one() {
        assert_eq!(sale().full_after(), Some(80.0));
        assert_eq!(Terms { stores: 1.0, ..sale() }.full_after(), Some(40.0));
        assert_eq!(Terms { outage: 79.0, ..sale() }.full_after(), None);
    }

    #[test]
    fn a_full_store_keeps_what_fits_and_loses_the_rest() {
        let said = sale().predict();
        assert_eq!((said.owed, said.kept, said.lost), (240_000.0, 20_000.0, 220_000.0));
        assert_eq!(said.held_back, 0.0);
        assert!((said.replay - (500e6 - 50_000.0) / 524_288.0).abs() < 1e-6);
        assert_eq!(said.by_replay, None, "what was refused is not replayed");
        assert!(said.by_ledger > said.replay);
        assert_eq!(said.ledger_bytes, 220_000.0 * 49_960.0);
    }

    #[test]
    fn evicting_whole_segments_keeps_half_a_segment_less() {
        let said = Terms { overflow: Overflow::DropOldest, ..sale() }.predict();
        assert_eq!(said.kept, 20_000.0 - 2.0 * 40.0);
        assert_eq!(said.owed, said.kept + said.lost);
    }

    #[test]
    fn what_the_target_took_itself_is_owed_and_not_missing() {
        let newest = Terms { blind: 18.0, ..sale() }.predict();
        assert_eq!((newest.lost, newest.missing), (220_000.0, 220_000.0));
        let oldest = Terms { blind: 18.0, overflow: Overflow::DropOldest, ..sale() }.predict();
        assert_eq!(oldest.missing, oldest.lost - 1500.0);
        assert!(newest.by_full < sale().predict().by_full);
    }

    #[test]
    fn a_refused_write_owes_nothing() {
        let said = Terms { overflow: Overflow::FailWrite, ..sale() }.predict();
        assert_eq!((said.owed, said.lost, said.held_back), (20_000.0, 0.0, 220_000.0));
        assert_eq!(said.by_replay, Some(said.replay));
        assert_eq!(said.by_ledger, said.replay);
    }

    #[test]
    fn a_store_that_is_large_enough_loses_nothing_whatever_its_policy() {
        for (_, overflow) in Overflow::NAMES {
            let said = Terms { cap: 1e12, overflow, ..sale() }.predict();
            assert_eq!((said.full_after, said.lost, said.held_back), (None, 0.0, 0.0));
            assert_eq!(said.kept, 240_000.0);
            assert_eq!(said.by_replay, Some(said.replay));
        }
    }

    #[test]
    fn an_error_is_a_share_of_what_was_predicted() {
        assert_eq!(relative_error(110.0, 100.0), Some(0.1));
        assert_eq!(relative_error(50.0, 100.0), Some(-0.5));
        assert_eq!(relative_error(1.0, 0.0), None);
    }
}
