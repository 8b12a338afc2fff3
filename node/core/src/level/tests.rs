use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

fn simple(rf: u32) -> Replication {
    Replication::Simple { rf: NonZeroU32::new(rf).unwrap() }
}

fn nts(per_dc: &[(&str, u32)]) -> Replication {
    let per_dc = per_dc.iter().map(|(dc, rf)| (Dc::from(*dc), NonZeroU32::new(*rf).unwrap()));
    Replication::NetworkTopology { per_dc: per_dc.collect::<BTreeMap<_, _>>() }
}

fn replica(node: u128, dc: &str) -> Replica {
    Replica { node: NodeId(node), dc: Dc::from(dc) }
}

fn block_for(level: Level, op: Op, replication: &Replication, pending: &[Replica]) -> usize {
    level.requirement(op, replication, &Dc::from("east"), pending).unwrap().block_for()
}

#[test]
fn names_are_read_in_any_case_and_written_as_cassandra_writes_them() {
    for level in Level::EVERY {
        let name = level.to_string();
        assert_eq!(name.parse(), Ok(level));
        assert_eq!(name.to_lowercase().replace('_', "-").parse(), Ok(level));
        assert_eq!(Level::from_cql_code(level.cql_code()), Some(level));
    }
    let codes: BTreeSet<u16> = Level::EVERY.map(Level::cql_code).into();
    assert_eq!(codes, BTreeSet::from([0, 1, 2, 3, 4, 5, 6, 7, 10]));
    for foreign in [8, 9, 11, 12, u16::MAX] {
        assert_eq!(Level::from_cql_code(foreign), None);
    }
}

#[test]
fn a_misspelt_level_is_told_its_nearest_name() {
    let nearest = |text: &str| text.parse::<Level>().unwrap_err().nearest;
    assert_eq!(nearest("quorom"), Some(Level::Quorum));
    assert_eq!(nearest("LOCALQUORUM"), Some(Level::LocalQuorum));
    assert_eq!(nearest("thre"), Some(Level::Three));
    assert_eq!(nearest("strong"), None);
    assert_eq!(nearest(""), None);
    assert_eq!(
        "quorom".parse::<Level>().unwrap_err().to_string(),
        "`quorom` is not a consistency level (did you mean QUORUM?); levels are: \
         ANY ONE TWO THREE QUORUM ALL LOCAL_QUORUM EACH_QUORUM LOCAL_ONE"
    );
}

#[test]
fn only_reads_at_any_are_refused() {
    for level in Level::EVERY {
        for op in [Op::Read, Op::Write] {
            let refused = level.requirement(op, &simple(3), &Dc::from("east"), &[]).is_err();
            assert_eq!(refused, level == Level::Any && op == Op::Read, "{op} at {level}");
        }
    }
}

/// The table of Cassandra's `blockFor`: one data centre, RF 1 to 6.
#[test]
fn simple_strategy_needs_what_cassandra_needs() {
    for (rf, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)] {
        for (level, needed) in [
            (Level::Any, 1),
            (Level::One, 1),
            (Level::LocalOne, 1),
            (Level::Two, 2),
            (Level::Three, 3),
            (Level::Quorum, majority),
            (Level::LocalQuorum, majority),
            (Level::EachQuorum, majority),
            (Level::All, rf as usize),
        ] {
            assert_eq!(block_for(level, Op::Write, &simple(rf), &[]), needed, "{level} at RF {rf}");
        }
    }
}

#[test]
fn several_data_centres_need_what_cassandra_needs() {
    let replication = nts(&[("east", 3), ("west", 2), ("asia", 1)]);
    for (level, needed) in [
        (Level::Quorum, 4),      // of 6
        (Level::LocalQuorum, 2), // of 3
        (Level::EachQuorum, 5),  // 2 + 2 + 1
        (Level::LocalOne, 1),
        (Level::All, 6),
    ] {
        assert_eq!(block_for(level, Op::Read, &replication, &[]), needed, "{level}");
    }
    // A data centre without copies: 0 / 2 + 1, which nobody can give.
    let elsewhere = Dc::from("mars");
    let needs = Level::LocalQuorum.requirement(Op::Read, &replication, &elsewhere, &[]).unwrap();
    assert_eq!(needs.block_for(), 1);
    assert_eq!(
        needs.check(&[replica(1, "east")], |_| true).unwrap_err(),
        Unavailable { level: Level::LocalQuorum, required: 1, alive: 0, dc: Some(elsewhere) }
    );
}

#[test]
fn pending_replicas_are_added_to_writes_only() {
    let replication = nts(&[("east", 3), ("west", 3)]);
    let pending = [replica(7, "east"), replica(8, "west"), replica(9, "west")];
    for (level, without, added) in [
        (Level::Any, 1, 0),
        (Level::One, 1, 3),
        (Level::Two, 2, 3),
        (Level::Three, 3, 3),
        (Level::Quorum, 4, 3),
        (Level::All, 6, 3),
        (Level::EachQuorum, 4, 3),
        (Level::LocalOne, 1, 1),
        (Level::LocalQuorum, 2, 1),
    ] {
        assert_eq!(block_for(level, Op::Write, &replication, &pending), without + added, "{level}");
        if level.allows(Op::Read) {
            assert_eq!(block_for(level, Op::Read, &replication, &pending), without, "{level}");
        }
    }
}

#[test]
fn copies_that_could_not_be_placed_still_count() {
    let two = [replica(1, "east"), replica(2, "east")];
    let check = |level: Level, dead: u128| {
        let needs = level.requirement(Op::Write, &simple(3), &Dc::from("east"), &[]).unwrap();
        needs.check(&two, |node| node != NodeId(dead)).map_err(|e| (e.required, e.alive))
    };
    assert_eq!(check(Level::Quorum, 0), Ok(()));
    assert_eq!(check(Level::Quorum, 2), Err((2, 1)));
    assert_eq!(check(Level::All, 0), Err((3, 2)));
    assert_eq!(check(Level::Any, 0), Ok(()));
}

#[test]
fn a_keyspace_without_copies_is_never_satisfied() {
    for level in Level::EVERY {
        assert!(block_for(level, Op::Write, &nts(&[]), &[]) > 0, "{level}");
    }
}

#[test]
fn local_levels_see_no_one_else() {
    let replication = nts(&[("east", 3), ("west", 3)]);
    let replicas: Vec<Replica> =
        (1..=6).map(|node| replica(node, if node <= 3 { "west" } else { "east" })).collect();
    let needs =
        Level::LocalQuorum.requirement(Op::Read, &replication, &Dc::from("east"), &[]).unwrap();
    let only_4 = |node: NodeId| node.0 <= 4;
    assert_eq!(
        needs.check(&replicas, only_4).unwrap_err(),
        Unavailable {
            level: Level::LocalQuorum,
            required: 2,
            alive: 1,
            dc: Some(Dc::from("east"))
        }
    );
    assert_eq!(needs.contacts(&replicas, only_4), needs.check(&replicas, only_4).map(|()| vec![]));
    let chosen = needs.contacts(&replicas, |node| node != NodeId(5)).unwrap();
    assert_eq!(chosen, [&replicas[3], &replicas[5]]);
}

#[test]
fn any_is_never_unavailable() {
    let needs = Level::Any.requirement(Op::Write, &simple(3), &Dc::from("east"), &[]).unwrap();
    assert_eq!(needs.check(&[replica(1, "east")], |_| false), Ok(()));
    assert_eq!(needs.check(&[], |_| false), Ok(()));
}

/// Every set of live nodes, for every level, over two data centres of 3 and 2: `check` agrees with counting by hand,
/// and `contacts` succeeds exactly when it does, with exactly the live replicas the level needs, nearest first.
#[test]
fn check_and_contacts_agree_with_counting_by_hand() {
    let replication = nts(&[("east", 3), ("west", 2)]);
    let replicas = [(1, "west"), (2, "east"), (3, "east"), (4, "west"), (5, "east")]
        .map(|(node, dc)| replica(node, dc));
    for live in 0..1_u32 << replicas.len() {
        let alive = |node: NodeId| live & (1 << (node.0 - 1)) != 0;
        let count =
            |dc: &str| replicas.iter().filter(|r| r.dc.as_str() == dc && alive(r.node)).count();
        let (east, west) = (count("east"), count("west"));
        for level in Level::EVERY {
            let needs = level.requirement(Op::Write, &replication, &Dc::from("east"), &[]).unwrap();
            let expected = match level {
                Level::Any => true,
                Level::One => east + west >= 1,
                Level::Two => east + west >= 2,
                Level::Three | Level::Quorum => east + west >= 3,
                Level::All => east + west >= 5,
                Level::LocalOne => east >= 1,
                Level::LocalQuorum => east >= 2,
                Level::EachQuorum => east >= 2 && west >= 2,
            };
            let checked = needs.check(&replicas, alive);
            assert_eq!(checked.is_ok(), expected, "{level}, live {live:05b}");
            if level == Level::Any {
                continue;
            }
            match needs.contacts(&replicas, alive) {
                Err(error) => assert_eq!(Err(error), checked),
                Ok(chosen) => {
                    assert!(expected);
                    assert_eq!(chosen.len(), needs.block_for());
                    assert!(chosen.iter().all(|replica| alive(replica.node)));
                    let local = matches!(level, Level::LocalOne | Level::LocalQuorum);
                    let nearest: Vec<_> = replicas
                        .iter()
                        .filter(|r| alive(r.node) && (!local || r.dc.as_str() == "east"))
                        .take(needs.block_for())
                        .collect();
                    if level != Level::EachQuorum {
                        assert_eq!(chosen, nearest);
                    }
                }
            }
        }
    }
}

#[test]
fn each_quorum_names_the_first_data_centre_that_falls_short() {
    let replication = nts(&[("east", 3), ("west", 3)]);
    let replicas: Vec<Replica> =
        (1..=6).map(|node| replica(node, if node <= 3 { "west" } else { "east" })).collect();
    let needs =
        Level::EachQuorum.requirement(Op::Write, &replication, &Dc::from("east"), &[]).unwrap();
    let error = needs.check(&replicas, |node| node.0 > 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "EACH_QUORUM needs 2 live replicas in data centre west; alive: 1"
    );
    let error = needs.check(&replicas, |_| false).unwrap_err();
    assert_eq!((error.required, error.alive, error.dc), (2, 0, Some(Dc::from("east"))));
}
