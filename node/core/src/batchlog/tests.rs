use super::*;
use crate::types::Dc;
use std::collections::BTreeSet;

fn id(micros: i64) -> BatchId {
    BatchId::new(TimestampMicros(micros), 7, [1, 2, 3, 4, 5, 6]).unwrap()
}

fn mutation(table: u128, key: &'static [u8], update: &'static [u8]) -> Logged {
    Logged {
        table: TableId(table),
        key: Key(Bytes::from_static(key)),
        update: Bytes::from_static(update),
    }
}

#[test]
fn an_id_says_when_it_was_written_and_comes_back() {
    for micros in [0, 1, 1_800_000_000_123_456, -5] {
        let id = id(micros);
        assert_eq!(id.written(), TimestampMicros(micros));
        assert_eq!(BatchId::from_bytes(id.as_bytes()), Some(id));
    }
    assert_eq!(BatchId::from_bytes(&[0; 15]), None);
    assert_eq!(BatchId::from_bytes(&[0xff; 16]), None, "no timeuuid");
    assert_eq!(BatchId::new(TimestampMicros(i64::MAX), 0, [0; 6]), None);
}

#[test]
fn a_batch_comes_back_and_nothing_that_is_cut_or_longer_does() {
    let batch = vec![mutation(1, b"k", b"update"), mutation(u128::MAX, &[0; 300], b"")];
    let bytes = encode(&batch);
    assert_eq!(decode(&bytes).as_ref(), Ok(&batch));
    assert_eq!(decode(&encode(&[])), Ok(Vec::new()));
    for len in 0..bytes.len() {
        assert_eq!(decode(&bytes.slice(..len)), Err(BatchError::Short), "{len}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(decode(&longer.into()), Err(BatchError::Trailing(1)));
    let mut later = bytes.to_vec();
    later[0] = 2;
    assert_eq!(decode(&later.into()), Err(BatchError::Version(2)));
    // A count that nothing backs costs no memory.
    let hostile = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(decode(&hostile), Err(BatchError::Short));
}

/// `dc/rack` of each, numbered from 1; the first is the coordinator.
fn nodes(places: &[&str]) -> Vec<Endpoint> {
    let endpoint = |(nth, place): (usize, &&str)| {
        let (dc, rack) = place.split_once('/').unwrap();
        Endpoint {
            node: NodeId(nth as u128 + 1),
            internode: "127.0.0.1:7000".parse().unwrap(),
            dc: Dc::from(dc),
            rack: Rack::from(rack),
        }
    };
    places.iter().enumerate().map(endpoint).collect()
}

/// All choices there are, over every way to draw.
fn choices(nodes: &[Endpoint], level: Level, down: &[u128]) -> BTreeSet<Vec<u128>> {
    let mut found = BTreeSet::new();
    for way in 0..4_usize.pow(4) {
        let mut way = way;
        let draw = |below: usize| {
            let drawn = way % 4 % below;
            way /= 4;
            drawn
        };
        let alive = |node: NodeId| !down.contains(&node.0);
        let chosen = keepers(&nodes[0], nodes, level, alive, draw).unwrap();
        let mut chosen: Vec<u128> = chosen.into_iter().map(|node| node.0).collect();
        chosen.sort_unstable();
        found.insert(chosen);
    }
    found
}

fn sets<const N: usize>(sets: [&[u128]; N]) -> BTreeSet<Vec<u128>> {
    sets.into_iter().map(<[u128]>::to_vec).collect()
}

#[test]
fn two_others_keep_it_in_two_other_racks_if_there_are_two() {
    let three = nodes(&["a/1", "a/2", "a/3", "b/1"]);
    assert_eq!(choices(&three, Level::One, &[]), sets([&[2, 3]]));
    let more = nodes(&["a/1", "a/2", "a/2", "a/3", "a/1"]);
    assert_eq!(choices(&more, Level::One, &[]), sets([&[2, 4], &[3, 4]]));
    let four = nodes(&["a/1", "a/2", "a/3", "a/4"]);
    assert_eq!(choices(&four, Level::One, &[]), sets([&[2, 3], &[2, 4], &[3, 4]]));
}

#[test]
fn the_own_rack_is_taken_as_far_as_there_are_not_enough_elsewhere() {
    let own = nodes(&["a/1", "a/1", "a/1", "a/1"]);
    assert_eq!(choices(&own, Level::One, &[]), sets([&[2, 3], &[2, 4], &[3, 4]]));
    let one_elsewhere = nodes(&["a/1", "a/1", "a/1", "a/2"]);
    assert_eq!(choices(&one_elsewhere, Level::One, &[]), sets([&[2, 4], &[3, 4]]));
    let one_rack = nodes(&["a/1", "a/1", "a/2", "a/2", "a/2"]);
    assert_eq!(choices(&one_rack, Level::One, &[]), sets([&[3, 4], &[3, 5], &[4, 5]]));
}

#[test]
fn who_is_down_or_in_another_data_centre_keeps_nothing() {
    let three = nodes(&["a/1", "a/2", "a/3", "b/2", "b/3"]);
    assert_eq!(choices(&three, Level::Any, &[2]), sets([&[3]]), "one is enough if there is one");
    assert_eq!(choices(&three, Level::Any, &[2, 3]), sets([&[1]]), "at ANY the coordinator");
    let refused = keepers(&three[0], &three, Level::One, |node| node.0 > 3, |_| 0).unwrap_err();
    let dc = Some(Dc::from("a"));
    assert_eq!(refused, Unavailable { level: Level::Two, required: 2, alive: 0, dc });
    let alone = nodes(&["a/1", "b/1", "b/2"]);
    assert_eq!(choices(&alone, Level::All, &[]), sets([&[1]]), "alone, it keeps its own");
}

#[test]
fn it_is_finished_after_twice_the_timeout_and_not_after_gc_grace() {
    let s = Duration::from_secs;
    assert_eq!(due_at(s(100), s(2)), s(104));
    assert_eq!(due_at(Duration::MAX, s(2)), Duration::MAX);
    let written = TimestampMicros(1_000_000_000);
    assert!(!is_expired(written, 10, GcSeconds(1009)));
    assert!(is_expired(written, 10, GcSeconds(1010)));
    assert!(is_expired(written, 0, GcSeconds(1000)), "no grace, no replay: as in Cassandra");
    assert!(!is_expired(TimestampMicros(i64::MAX), u32::MAX, GcSeconds(u32::MAX)));
}
