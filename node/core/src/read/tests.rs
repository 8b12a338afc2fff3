use super::*;
use crate::data::{Cell, ColumnId, Content, Liveness};
use crate::merge::arbitrary as any;
use crate::types::TimestampMicros;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Cuts at, before, between and behind the keys of [`any::partition`].
const CUTS: [&str; 9] = ["", "a", "a\0", "b", "b\0", "bb", "bb\0", "c", "c\0"];

/// Of a moment at which some TTLs have run out, and no tombstone is old enough to be forgotten.
const NOW: AsOf = AsOf { now: GcSeconds(2), gc_grace_seconds: 10 };

fn key(text: &str) -> ClusteringKey {
    ClusteringKey(bytes::Bytes::copy_from_slice(text.as_bytes()))
}

fn cuts() -> impl Strategy<Value = Vec<ClusteringKey>> {
    btree_set(0..CUTS.len(), 0..6)
        .prop_map(|cuts| cuts.into_iter().map(|nth| key(CUTS[nth])).collect())
}

fn slices() -> impl Strategy<Value = Vec<Slice>> {
    (cuts(), any::<bool>()).prop_map(|(cuts, open)| {
        let mut slices: Vec<Slice> = Vec::new();
        for pair in cuts.chunks(2) {
            match pair {
                [start, end] => {
                    slices.push(Slice { start: start.clone(), end: Some(end.clone()) });
                }
                [start] if open => slices.push(Slice { start: start.clone(), end: None }),
                _ => {}
            }
        }
        if slices.is_empty() { vec![Slice::all()] } else { slices }
    })
}

fn filter() -> impl Strategy<Value = RowFilter> {
    (slices(), any::<bool>(), any::<bool>(), 1..4_u32, prop_oneof![Just(u32::MAX), 1..200_u32])
        .prop_map(|(slices, reversed, static_row, rows, bytes)| RowFilter {
            slices,
            reversed,
            static_row,
            rows,
            bytes,
        })
}

/// Windows that cover everything, in the direction of reading, each with the cut at which it ends.
fn windows(cuts: &[ClusteringKey], reversed: bool) -> Vec<(Slice, Option<ClusteringKey>)> {
    let mut edges: Vec<ClusteringKey> = vec![key("")];
    edges.extend(cuts.iter().filter(|cut| !cut.0.is_empty()).cloned());
    let mut windows: Vec<Slice> = Vec::new();
    for (nth, start) in edges.iter().enumerate() {
        windows.push(Slice { start: start.clone(), end: edges.get(nth + 1).cloned() });
    }
    if reversed {
        windows.reverse();
        let cut = |window: &Slice| Some(window.start.clone()).filter(|cut| !cut.0.is_empty());
        windows.into_iter().map(|window| (window.clone(), cut(&window))).collect()
    } else {
        windows.into_iter().map(|window| (window.clone(), window.end)).collect()
    }
}

fn live(partition: &Partition, reversed: bool) -> Vec<(ClusteringKey, Row)> {
    let is_live = |(_, row): &&(ClusteringKey, Row)| merge::row_is_live(row, NOW.now);
    let mut rows: Vec<_> = partition.rows.iter().filter(is_live).cloned().collect();
    if reversed {
        rows.reverse();
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_slice_of_the_merge_is_the_merge_of_the_slices(
        a in any::partition(), b in any::partition(), slices in slices(), static_row in any::<bool>()
    ) {
        let mut parts = clip(&a, &slices, static_row);
        merge::merge(&mut parts, clip(&b, &slices, static_row));
        let mut whole = a;
        merge::merge(&mut whole, b);
        let clipped = clip(&whole, &slices, static_row);
        prop_assert_eq!(&parts, &clipped);
        prop_assert_eq!(&clip_owned(whole.clone(), &slices, static_row), &clipped);
        let mut normal = clipped.clone();
        merge::normalise(&mut normal);
        prop_assert_eq!(&normal, &clipped);
        if slices == [Slice::all()] && static_row {
            prop_assert_eq!(clipped, whole);
        }
    }

    #[test]
    fn windows_come_to_what_the_whole_does(
        partition in any::partition(), filter in filter(), cuts in cuts()
    ) {
        let filter = RowFilter { bytes: u32::MAX, ..filter };
        let mut gather = Gather::new(&filter, NOW);
        for (window, end) in windows(&cuts, filter.reversed) {
            let slices: Vec<Slice> =
                filter.slices.iter().filter_map(|slice| slice.within(&window)).collect();
            if gather.add(clip(&partition, &slices, filter.static_row), end.as_ref()) {
                break;
            }
        }
        prop_assert_eq!(gather.finish(), select(partition, &filter, NOW));
    }

    #[test]
    fn a_part_is_what_its_slices_say_up_to_where_it_goes_on(
        partition in any::partition(), filter in filter()
    ) {
        let part = select(partition.clone(), &filter, NOW);
        let seen = merge::for_read(partition, NOW.now, NOW.gc_grace_seconds).unwrap_or_default();
        let covered = filter.covered(part.next.as_ref());
        prop_assert_eq!(&part.partition, &clip(&seen, &covered, filter.static_row));
        prop_assert!(live(&part.partition, false).len() <= filter.rows as usize);
        if let Some(next) = &part.next {
            prop_assert!(!covered.is_empty(), "it speaks for something");
            let rest = filter.rest(next);
            prop_assert!(!rest.is_empty(), "and not for all");
            let mut both: Vec<Slice> = covered.into_iter().chain(rest).collect();
            both.sort_by(|a, b| a.start.cmp(&b.start));
            let bound = |slices: &[Slice]| -> Vec<bool> {
                CUTS.iter().map(|cut| slices.iter().any(|slice| slice.contains(&key(cut)))).collect()
            };
            prop_assert_eq!(bound(&both), bound(&filter.slices));
        }
    }

    #[test]
    fn pages_of_replicas_that_differ_are_the_pages_of_their_merge(
        replicas in vec(any::partition(), 3), filter in filter(), limit in 1..5_usize, quorum in 1..4_usize
    ) {
        let seen = |held: &Partition| {
            merge::for_read(held.clone(), NOW.now, NOW.gc_grace_seconds).unwrap_or_default()
        };
        let mut reference = Partition::default();
        for held in replicas.iter().take(quorum) {
            merge::merge(&mut reference, seen(held));
        }
        let clipped = clip(&reference, &filter.slices, filter.static_row);
        let mut expected = live(&clipped, filter.reversed);
        expected.truncate(limit);
        let mut held: BTreeMap<NodeId, Partition> =
            (0..).map(NodeId).zip(replicas.iter().take(quorum).cloned()).collect();
        let (mut found, mut request, mut rounds) = (Vec::new(), filter.clone(), 0);
        loop {
            rounds += 1;
            prop_assert!(rounds < 50, "going on comes to an end");
            let answer = |held: &Partition| select(held.clone(), &request, NOW);
            let answers = held.iter().map(|(node, held)| (*node, answer(held)));
            let Reconciled { winner, stale } = reconcile(&request, answers.collect());
            for (node, lacks) in stale {
                let held = held.get_mut(&node).unwrap();
                let before = seen(held);
                let mut repaired = before.clone();
                merge::merge(&mut repaired, lacks.clone());
                // Of what it lacks, and of nothing beyond what was read.
                let covered = request.covered(winner.next.as_ref());
                prop_assert_eq!(&clip(&repaired, &covered, request.static_row), &winner.partition);
                prop_assert_eq!(&clip(&lacks, &covered, request.static_row), &lacks);
                let mut whole = repaired.clone();
                merge::merge(&mut whole, reference.clone());
                prop_assert_eq!(&whole, &reference);
                prop_assert!(repaired != before);
                merge::merge(held, lacks);
            }
            found.extend(live(&winner.partition, request.reversed));
            match winner.next {
                Some(next) if found.len() < limit => request.slices = request.rest(&next),
                _ => break,
            }
        }
        found.truncate(limit);
        prop_assert_eq!(found, expected);
    }
}

fn row(name: &str, timestamp: i64) -> (ClusteringKey, Row) {
    let liveness = Some(Liveness { timestamp: TimestampMicros(timestamp), expiry: None });
    (key(name), Row { liveness, ..Row::default() })
}

fn deleted(name: &str, timestamp: i64) -> (ClusteringKey, Row) {
    let deletion = Deletion { timestamp: TimestampMicros(timestamp), deleted_at: GcSeconds(1) };
    (key(name), Row { deletion: Some(deletion), ..Row::default() })
}

fn first(rows: u32) -> RowFilter {
    let slices = vec![Slice::all()];
    RowFilter { slices, reversed: false, static_row: true, rows, bytes: u32::MAX }
}

/// The list model's lesson: rows 1 to 3 are on all, 1 was deleted on A and C, 2 on B and C. A and B are asked for one row.
#[test]
fn a_row_that_was_deleted_elsewhere_does_not_stand_for_the_limit() {
    let rows = |rows: Vec<(ClusteringKey, Row)>| Partition { rows, ..Partition::default() };
    let a = rows(vec![deleted("1", 2), row("2", 1), row("3", 1)]);
    let b = rows(vec![row("1", 1), deleted("2", 2), row("3", 1)]);
    let ask = |filter: &RowFilter| {
        let answer = |held: &Partition| select(held.clone(), filter, NOW);
        vec![(NodeId(1), answer(&a)), (NodeId(2), answer(&b))]
    };
    let filter = first(1);
    let Reconciled { winner, stale } = reconcile(&filter, ask(&filter));
    // B ended with row 1: of row 2, which A has, it has said nothing yet.
    assert_eq!(winner.next, Some(key("1\0")));
    assert_eq!(live(&winner.partition, false), []);
    assert_eq!(stale, [(NodeId(2), rows(vec![deleted("1", 2)]))]);
    let filter = RowFilter { slices: filter.rest(&key("1\0")), ..filter };
    let Reconciled { winner, stale } = reconcile(&filter, ask(&filter));
    assert_eq!((winner.next, live(&winner.partition, false)), (Some(key("2\0")), vec![]));
    assert_eq!(stale, [(NodeId(1), rows(vec![deleted("2", 2)]))]);
    let filter = RowFilter { slices: filter.rest(&key("2\0")), ..filter };
    let Reconciled { winner, stale } = reconcile(&filter, ask(&filter));
    assert_eq!(live(&winner.partition, false), [row("3", 1)]);
    assert_eq!(stale, []);
}

#[test]
fn who_wants_no_rows_gets_the_first_that_lives() {
    let rows = vec![deleted("1", 2), row("2", 1), row("3", 1)];
    let partition = Partition { rows, ..Partition::default() };
    let part = select(partition.clone(), &first(0), NOW);
    assert_eq!((live(&part.partition, false), part.next), (vec![row("2", 1)], Some(key("2\0"))));
    assert_eq!(select(partition.clone(), &first(0), NOW), select(partition, &first(1), NOW));
}

#[test]
fn digests_tell_apart_who_ended_where() {
    let (short, long) = (vec![row("1", 1)], vec![row("1", 1), row("2", 1)]);
    let rows = |rows: Vec<(ClusteringKey, Row)>| Partition { rows, ..Partition::default() };
    let of = |held: Partition| {
        let part = select(held, &first(1), NOW);
        (part.partition.clone(), digest(&codec::encode(&part.partition), part.next.as_ref()))
    };
    let ((a, ends), (b, goes_on)) = (of(rows(Vec::new())), of(rows(short)));
    assert!(a != b && ends != goes_on);
    let again = of(rows(long));
    // The last row of all, or one with more behind it: who counts to one cannot tell, and says that it cannot.
    assert_eq!((b, goes_on), again);
    let encoded = codec::encode(&Partition::default());
    assert_eq!(digest(&encoded, None), codec::digest_encoded(&encoded));
    assert_ne!(digest(&encoded, None), digest(&encoded, Some(&key(""))));
}

#[test]
fn dead_rows_end_a_part_by_their_bytes() {
    let rows: Vec<_> = (b'a'..=b'z')
        .map(|name| {
            let content = Content::Tombstone { deleted_at: GcSeconds(1) };
            let cell = Cell { timestamp: TimestampMicros(1), content };
            let row = Row { cells: vec![(ColumnId(1), cell)], ..Row::default() };
            (ClusteringKey(bytes::Bytes::copy_from_slice(&[name])), row)
        })
        .collect();
    let partition = Partition { rows, ..Partition::default() };
    let filter = RowFilter { bytes: 100, ..first(10) };
    let part = select(partition.clone(), &filter, NOW);
    assert_eq!((part.partition.rows.len(), part.next), (4, Some(key("d\0"))));
    // No reader sees those that are past gc_grace: they are passed over, window by window, but not without end.
    let forgotten = AsOf { now: GcSeconds(100), gc_grace_seconds: 10 };
    let mut gather = Gather::new(&filter, forgotten);
    let mut passed = 0;
    for at in partition.rows.chunks(2) {
        passed += 1;
        let end = behind(&at.last().unwrap().0);
        let window = Partition { rows: at.to_vec(), ..Partition::default() };
        if gather.add(window, Some(&end)) {
            break;
        }
    }
    let part = gather.finish();
    assert_eq!((passed, part.partition.rows.len(), part.next), (7, 0, Some(key("n\0"))));
}
