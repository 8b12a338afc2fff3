use super::*;
use crate::data::{Bound, Expiry};
use crate::merge::arbitrary as any;
use crate::types::GcSeconds;
use bytes::Bytes;
use proptest::prelude::*;

fn merged(parts: impl IntoIterator<Item = Partition>) -> Partition {
    parts.into_iter().fold(Partition::default(), |mut into, part| {
        merge(&mut into, part);
        into
    })
}

/// The newest of the deletions that lie over a row, found by looking at each.
fn naive_floor(parts: &[Partition], key: Option<&ClusteringKey>) -> Option<TimestampMicros> {
    let covers = |range: &RangeTombstone, key: &ClusteringKey| {
        (match &range.start {
            Bound::Open => true,
            Bound::Included(start) => start <= key,
            Bound::Excluded(start) => start < key,
        }) && (match &range.end {
            Bound::Open => true,
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
        })
    };
    let mut floor = None;
    for part in parts {
        floor = floor.max(part.deletion.map(|d| d.timestamp));
        for range in &part.ranges {
            if key.is_some_and(|key| covers(range, key)) {
                floor = floor.max(Some(range.deletion.timestamp));
            }
        }
        let rows = part.rows.iter().filter(|(k, _)| Some(k) == key).map(|(_, row)| row);
        for row in rows.chain(part.static_row.iter().filter(|_| key.is_none())) {
            floor = floor.max(row.deletion.map(|d| d.timestamp));
        }
    }
    floor
}

/// A row's winning cells, found by looking at every version there is.
fn naive_cells(parts: &[Partition], key: Option<&ClusteringKey>) -> Vec<(ColumnId, Cell)> {
    let floor = naive_floor(parts, key);
    let mut winners: std::collections::BTreeMap<ColumnId, Cell> = Default::default();
    for part in parts {
        let rows = part.rows.iter().filter(|(k, _)| Some(k) == key).map(|(_, row)| row);
        for row in rows.chain(part.static_row.iter().filter(|_| key.is_none())) {
            for (column, cell) in &row.cells {
                if Some(cell.timestamp) <= floor {
                    continue;
                }
                let best = winners.entry(*column).or_insert_with(|| cell.clone());
                if compare(best, cell) == Ordering::Less {
                    *best = cell.clone();
                }
            }
        }
    }
    winners.into_iter().collect()
}

/// The winners among one column's elements, found by looking at every version there is.
fn naive_elements(
    parts: &[Partition],
    key: &ClusteringKey,
    column: ColumnId,
) -> Vec<(Bytes, Cell)> {
    let complex = || {
        let rows = parts.iter().flat_map(|part| &part.rows).filter(|(k, _)| k == key);
        rows.flat_map(|(_, row)| &row.complex).filter(|(c, _)| *c == column).map(|(_, it)| it)
    };
    let deletions = complex().filter_map(|it| it.deletion).map(|d| d.timestamp);
    let floor = naive_floor(parts, Some(key)).max(deletions.max());
    let mut winners: std::collections::BTreeMap<Bytes, Cell> = Default::default();
    for (path, cell) in complex().flat_map(|it| &it.elements) {
        if Some(cell.timestamp) > floor {
            let best = winners.entry(path.clone()).or_insert_with(|| cell.clone());
            if compare(best, cell) == Ordering::Less {
                *best = cell.clone();
            }
        }
    }
    winners.into_iter().collect()
}

fn elements_at(partition: &Partition, key: &ClusteringKey, column: ColumnId) -> Vec<(Bytes, Cell)> {
    let rows = partition.rows.iter().filter(|(k, _)| k == key).flat_map(|(_, row)| &row.complex);
    rows.filter(|(c, _)| *c == column).flat_map(|(_, it)| it.elements.clone()).collect()
}

fn cells_at(partition: &Partition, key: Option<&ClusteringKey>) -> Vec<(ColumnId, Cell)> {
    let rows = partition.rows.iter().filter(|(k, _)| Some(k) == key).map(|(_, row)| row);
    rows.chain(partition.static_row.iter().filter(|_| key.is_none()))
        .flat_map(|row| row.cells.clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn merge_is_commutative(a in any::partition(), b in any::partition()) {
        prop_assert_eq!(merged([a.clone(), b.clone()]), merged([b, a]));
    }

    #[test]
    fn merge_is_associative(a in any::partition(), b in any::partition(), c in any::partition()) {
        let left = merged([merged([a.clone(), b.clone()]), c.clone()]);
        let right = merged([a, merged([b, c])]);
        prop_assert_eq!(left, right);
    }

    #[test]
    fn merge_is_idempotent(a in any::partition(), b in any::partition()) {
        prop_assert_eq!(merged([a.clone(), a.clone()]), a.clone());
        let both = merged([a.clone(), b]);
        prop_assert_eq!(merged([both.clone(), a]), both);
    }

    #[test]
    fn what_merging_makes_is_normal(a in any::partition(), b in any::partition()) {
        let both = merged([a, b]);
        let mut again = both.clone();
        normalise(&mut again);
        prop_assert_eq!(again, both);
    }

    #[test]
    fn normalising_first_or_last_is_the_same(a in any::rough_partition(), b in any::rough_partition()) {
        // All writes in one rough heap, against each normalised and then merged.
        let mut heap = Partition {
            deletion: a.deletion.max(b.deletion),
            static_row: None,
            ranges: [a.ranges.clone(), b.ranges.clone()].concat(),
            rows: [a.rows.clone(), b.rows.clone()].concat(),
        };
        let (mut a, mut b) = (a, b);
        a.static_row = None;
        b.static_row = None;
        for part in [&mut heap, &mut a, &mut b] {
            normalise(part);
        }
        prop_assert_eq!(merged([a, b]), heap);
    }

    #[test]
    fn cells_are_those_that_a_search_through_all_versions_finds(
        parts in prop::collection::vec(any::rough_partition(), 1..4)
    ) {
        let normal = parts.iter().cloned().map(|mut part| { normalise(&mut part); part });
        let all = merged(normal);
        prop_assert_eq!(cells_at(&all, None), naive_cells(&parts, None));
        for key in ["", "a", "b", "bb", "c"] {
            let key = ClusteringKey(Bytes::from_static(key.as_bytes()));
            prop_assert_eq!(cells_at(&all, Some(&key)), naive_cells(&parts, Some(&key)));
            for column in [3, 4].map(ColumnId) {
                let naive = naive_elements(&parts, &key, column);
                prop_assert_eq!(elements_at(&all, &key, column), naive);
            }
        }
    }

    #[test]
    fn what_cannot_change_a_partition_does_not_change_it(
        found in any::partition(),
        others in prop::collection::vec(prop_oneof![any::key_value(), any::partition()], 0..3),
    ) {
        let mut statistics = Statistics::default();
        others.iter().for_each(|other| statistics.add(other));
        if statistics.cannot_change(&found) {
            let all = merged([found.clone()].into_iter().chain(others));
            prop_assert_eq!(all, found);
        }
    }

    #[test]
    fn a_difference_is_what_is_missing(a in any::partition(), b in any::partition()) {
        let both = merged([a.clone(), b]);
        let missing = difference(&both, &a);
        prop_assert_eq!(is_empty(&missing), both == a);
        prop_assert_eq!(merged([a, missing.clone()]), both.clone());
        prop_assert_eq!(is_empty(&difference(&both, &both)), true);
        prop_assert_eq!(merged([both.clone(), missing]), both);
    }

    #[test]
    fn compare_is_a_total_order(a in any::cell(), b in any::cell(), c in any::cell()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
    }

    #[test]
    fn expiring_never_changes_what_is_live(a in any::partition(), now in any::second()) {
        let mut expired = a.clone();
        expire(&mut expired, now);
        prop_assert_eq!(live_value(&expired, now), live_value(&a, now));
        let mut again = expired.clone();
        normalise(&mut again);
        prop_assert_eq!(&again, &expired);
        // A replica that has compacted and one that has not hold the same after they have merged.
        let mut late = merged([expired.clone(), a]);
        expire(&mut late, now);
        prop_assert_eq!(late, expired);
    }

    #[test]
    fn purging_all_that_was_merged_never_changes_what_is_live(a in any::partition(), now in any::second()) {
        let answer = for_read(a.clone(), now, 0);
        let live = answer.as_ref().and_then(|a| live_value(a, now));
        prop_assert_eq!(live, live_value(&a, now));
    }
}

fn put(timestamp: i64, value: &'static str) -> Partition {
    Partition::put(TimestampMicros(timestamp), Bytes::from_static(value.as_bytes()), None)
}

fn put_ttl(timestamp: i64, value: &'static str, ttl_s: u32, expires_at: u32) -> Partition {
    let expiry = Some(Expiry { ttl_s, expires_at: GcSeconds(expires_at) });
    Partition::put(TimestampMicros(timestamp), Bytes::from_static(value.as_bytes()), expiry)
}

#[test]
fn of_equal_timestamps_a_value_with_a_ttl_wins_even_before_it_expires() {
    // CASSANDRA-14592: by value alone "z" would win until "a" expires, and lose from then on.
    let both = merged([put(5, "z"), put_ttl(5, "a", 10, 100)]);
    assert_eq!(live_value(&both, GcSeconds(50)).unwrap().0, "a");
    assert_eq!(live_value(&both, GcSeconds(100)), None);
}

#[test]
fn an_expired_ttl_counts_towards_gc_grace() {
    let mut partition = put_ttl(5, "a", 60, 1060);
    expire(&mut partition, GcSeconds(1060));
    let cell = &partition.rows[0].1.cells[0].1;
    assert_eq!(cell.content, Content::Tombstone { deleted_at: GcSeconds(1000) });
    assert_eq!(cell.timestamp, TimestampMicros(5));
}

#[test]
fn a_tombstone_stays_while_another_sstable_may_hold_what_it_covers() {
    let tombstone = Partition::delete(TimestampMicros(50), GcSeconds(100));
    let mut kept = tombstone.clone();
    purge(&mut kept, GcSeconds(200), TimestampMicros(50));
    assert_eq!(kept, tombstone);
    purge(&mut kept, GcSeconds(100), TimestampMicros(51));
    assert_eq!(kept, tombstone);
    purge(&mut kept, GcSeconds(101), TimestampMicros(51));
    assert!(is_empty(&kept));
}

#[test]
fn many_rows_merge_as_one_by_one() {
    let row = |n: u32, ts: i64| {
        let mut partition = put(ts, "v");
        partition.rows[0].0 = ClusteringKey(Bytes::copy_from_slice(&n.to_be_bytes()));
        partition
    };
    let evens = merged((0..100).map(|n| row(2 * n, 1)));
    let thirds = merged((0..60).map(|n| row(3 * n, 2)));
    let both = merged([evens, thirds]);
    let one_by_one = merged((0..60).map(|n| row(3 * n, 2)).chain((0..100).map(|n| row(2 * n, 1))));
    assert_eq!(both, one_by_one);
    assert_eq!(both.rows.len(), 100 + 60 - 30);
}

#[test]
fn an_older_put_cannot_change_a_newer_one_but_an_older_delete_can() {
    let of = |partition: Partition| {
        let mut statistics = Statistics::default();
        statistics.add(&partition);
        statistics
    };
    let newer = put(5, "v");
    assert!(of(put(4, "w")).cannot_change(&newer));
    assert!(of(put_ttl(4, "w", 5, 20)).cannot_change(&newer));
    assert!(!of(put(5, "w")).cannot_change(&newer));
    // It stays beside the value, in what a digest is taken of.
    let delete = Partition::delete(TimestampMicros(4), GcSeconds(1));
    assert!(!of(delete.clone()).cannot_change(&newer));
    assert!(of(put(3, "w")).cannot_change(&delete));
    let mut other_row = put(4, "w");
    other_row.rows[0].0 = ClusteringKey(Bytes::from_static(b"row"));
    assert!(!of(other_row).cannot_change(&newer));
    assert!(Statistics::default().cannot_change(&Partition::default()));
}

#[test]
fn a_put_counts_alike_decoded_and_not() {
    let (mut decoded, mut encoded) = (Statistics::default(), Statistics::default());
    let expiries = [None, Some(Expiry { ttl_s: 5, expires_at: GcSeconds(20) })];
    for (time, expiry) in [(7, 0), (3, 1), (9, 1), (8, 0)] {
        let (timestamp, expiry) = (TimestampMicros(time), expiries[expiry]);
        decoded.add(&Partition::put(timestamp, Bytes::from_static(b"v"), expiry));
        encoded.add_put(timestamp, expiry);
        assert_eq!(encoded, decoded);
    }
}

#[test]
fn statistics_count_every_kind_of_tombstone() {
    let mut partition = merged([put_ttl(7, "v", 5, 20), put(3, "covered")]);
    merge(&mut partition, Partition::delete(TimestampMicros(4), GcSeconds(9)));
    let mut statistics = Statistics::default();
    statistics.add(&partition);
    let expected = Statistics {
        min_timestamp: Some(TimestampMicros(4)),
        max_timestamp: Some(TimestampMicros(7)),
        rows: 1,
        cells: 1,
        tombstones: 1,
        expiring: 1,
        min_deleted_at: Some(GcSeconds(9)),
        beyond_value: false,
        lasting: 0,
        max_deleted_at: Some(GcSeconds(20)),
    };
    assert_eq!(statistics, expected);
    assert_eq!(version(&partition), Some(TimestampMicros(7)));
    assert_eq!(tombstones(&partition), 1);
}

#[test]
fn figures_are_expired_when_the_last_of_what_they_count_is() {
    let second = GcSeconds;
    let value = || Bytes::from_static(b"v");
    let expires = |at: u32| Some(Expiry { ttl_s: 1, expires_at: second(at) });
    let mut statistics = Statistics::default();
    assert!(!statistics.is_expired(second(9)), "nothing is not expired");
    statistics.add(&Partition::delete(TimestampMicros(1), second(10)));
    statistics.add(&Partition::put(TimestampMicros(1), value(), expires(20)));
    assert!(!statistics.is_expired(second(20)));
    assert!(statistics.is_expired(second(21)));
    let mut with_another = statistics;
    with_another.add(&Partition::put(TimestampMicros(1), value(), None));
    assert!(!with_another.is_expired(second(u32::MAX)), "a value without a TTL never goes");
    // A row whose cells are all gone may live on by itself.
    let mut row = Partition::put(TimestampMicros(1), value(), None);
    row.rows[0].1.cells.clear();
    statistics.add(&row);
    assert!(!statistics.is_expired(second(u32::MAX)));
}
