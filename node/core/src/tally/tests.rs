use super::*;
use crate::level::Op;
use crate::schema::Replication;
use crate::types::Dc;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

const EAST: &str = "east";

fn replica(node: u128, dc: &str) -> Replica {
    Replica { node: NodeId(node), dc: Dc::from(dc) }
}

fn simple(rf: u32) -> Replication {
    Replication::Simple { rf: NonZeroU32::new(rf).unwrap() }
}

fn tally(level: Level, replication: &Replication, contacted: &[Replica]) -> Tally {
    let needs = level.requirement(Op::Write, replication, &Dc::from(EAST), &[]).unwrap();
    Tally::new(needs, contacted)
}

/// The rule of each level in plain words, over the first answer of each replica: the second route.
/// `None`: no answer yet. Replicas are (data centre, answer).
fn model(level: Level, rf: &BTreeMap<&str, usize>, answers: &[(&str, Option<bool>)]) -> Verdict {
    let total: usize = rf.values().sum();
    let local = rf.get(EAST).copied().unwrap_or(0);
    let majority = |copies: usize| (copies + 2) / 2;
    let judge = |need: usize, dc: Option<&str>| {
        let (mut yes, mut no, mut open) = (0, 0, 0);
        for (_, answer) in answers.iter().filter(|(here, _)| dc.is_none_or(|dc| dc == *here)) {
            match answer {
                Some(true) => yes += 1,
                Some(false) => no += 1,
                None => open += 1,
            }
        }
        let contacted = yes + no + open;
        match () {
            () if yes >= need => Verdict::Met,
            () if contacted < need || no > contacted - need => Verdict::Lost,
            () => Verdict::Pending,
        }
    };
    match level {
        Level::Any if judge(1, None) == Verdict::Met => Verdict::Met,
        Level::Any => Verdict::Pending,
        Level::One => judge(1, None),
        Level::Two => judge(2, None),
        Level::Three => judge(3, None),
        Level::Quorum => judge(majority(total), None),
        Level::All => judge(total, None),
        Level::LocalOne => judge(1, Some(EAST)),
        Level::LocalQuorum => judge(majority(local), Some(EAST)),
        Level::EachQuorum => {
            let each: Vec<_> = rf.iter().map(|(dc, rf)| judge(majority(*rf), Some(dc))).collect();
            if each.contains(&Verdict::Lost) {
                Verdict::Lost
            } else if each.contains(&Verdict::Pending) {
                Verdict::Pending
            } else {
                Verdict::Met
            }
        }
    }
}

/// Tells the tally every order of answers that `depth` more replies can come in, duplicates and contradictions among
/// them, and compares after each. Gives back how many states it saw.
fn explore(
    tally: &Tally,
    rf: &BTreeMap<&str, usize>,
    answers: &mut Vec<(&'static str, Option<bool>)>,
    duplicates_left: usize,
) -> usize {
    let level = tally.level();
    let verdict = tally.verdict();
    assert_eq!(verdict, model(level, rf, answers), "{level} after {answers:?}");
    let met = tally.received() == tally.block_for();
    assert_eq!(met, verdict == Verdict::Met, "{level} after {answers:?}");
    let failed = answers.iter().filter(|(_, answer)| *answer == Some(false)).count();
    assert_eq!(tally.failures().count(), failed);
    let acked = answers.iter().filter(|(_, answer)| *answer == Some(true)).count();
    assert_eq!(tally.acked().count(), acked);
    assert_eq!(tally.open().count(), answers.len() - failed - acked);

    let mut seen = 1;
    for place in 0..answers.len() {
        for ack in [true, false] {
            let mut next = tally.clone();
            let answer = if ack { Answer::Ack } else { Answer::Failed(FailureReason::Unknown) };
            let after = next.record(NodeId(place as u128), answer);
            let first = answers[place].1.is_none();
            if !first {
                // A duplicate: the very same tally as before. It leads to the same states, so it is not followed far.
                assert_eq!(&next, tally);
                if duplicates_left > 0 {
                    seen += explore(&next, rf, answers, duplicates_left - 1);
                }
                continue;
            }
            assert!(verdict == Verdict::Pending || after == verdict, "{level}: a verdict is final");
            answers[place].1 = Some(ack);
            seen += explore(&next, rf, answers, duplicates_left);
            answers[place].1 = None;
        }
    }
    seen
}

#[test]
fn every_reply_pattern_up_to_five_replicas_equals_the_naive_model() {
    for rf in 1..=5_u32 {
        for contacted in 0..=rf {
            let replicas: Vec<Replica> =
                (0..contacted).map(|node| replica(u128::from(node), EAST)).collect();
            let rf_by_dc = BTreeMap::from([(EAST, rf as usize)]);
            for level in Level::EVERY {
                let tally = tally(level, &simple(rf), &replicas);
                let mut answers = vec![(EAST, None); replicas.len()];
                let duplicates = usize::from(contacted <= 4);
                let seen = explore(&tally, &rf_by_dc, &mut answers, duplicates);
                assert!(seen >= 3_usize.pow(contacted), "{seen} states");
            }
        }
    }
}

#[test]
fn every_reply_pattern_over_two_data_centres_equals_the_naive_model() {
    type Copies = (&'static str, usize);
    let cases: [(&[Copies], &[&'static str]); 5] = [
        (&[("east", 3), ("west", 2)], &["west", "east", "east", "west", "east"]),
        (&[("east", 2), ("west", 2)], &["east", "east", "west", "west"]),
        (&[("east", 1), ("west", 3)], &["west", "west", "west", "east"]),
        (&[("east", 3), ("west", 3)], &["east", "east", "west", "west"]),
        (&[("west", 3)], &["west", "west", "west"]),
    ];
    for (per_dc, contacted) in cases {
        let rf: BTreeMap<&str, usize> = per_dc.iter().copied().collect();
        let copies = |rf: usize| NonZeroU32::new(u32::try_from(rf).unwrap()).unwrap();
        let replication = Replication::NetworkTopology {
            per_dc: per_dc.iter().map(|(dc, rf)| (Dc::from(*dc), copies(*rf))).collect(),
        };
        let replicas: Vec<Replica> =
            contacted.iter().zip(0..).map(|(dc, node)| replica(node, dc)).collect();
        for level in Level::EVERY {
            let tally = tally(level, &replication, &replicas);
            let mut answers: Vec<_> = contacted.iter().map(|dc| (*dc, None)).collect();
            explore(&tally, &rf, &mut answers, 0);
        }
    }
}

#[test]
fn a_hint_satisfies_any_and_nothing_else() {
    for level in Level::EVERY {
        let mut tally = tally(level, &simple(3), &[replica(1, EAST), replica(2, EAST)]);
        let before = tally.verdict();
        let after = tally.hint_kept();
        assert_eq!(after, if level == Level::Any { Verdict::Met } else { before }, "{level}");
        assert_eq!(tally.received(), 0, "a hint is not an acknowledgement");
    }
}

#[test]
#[should_panic(expected = "outside the replicas that were contacted")]
fn an_answer_from_a_stranger_is_a_bug() {
    tally(Level::One, &simple(1), &[replica(1, EAST)]).record(NodeId(2), Answer::Ack);
}

#[test]
#[should_panic(expected = "contacted twice")]
fn contacting_a_replica_twice_is_a_bug() {
    tally(Level::Two, &simple(3), &[replica(1, EAST), replica(1, EAST)]);
}

#[test]
fn reasons_keep_their_names_between_nodes() {
    for reason in FailureReason::EVERY {
        assert_eq!(reason.name().parse(), Ok(reason));
    }
    assert_eq!("SOMETHING_NEWER".parse(), Ok(FailureReason::Unknown));
    let codes = FailureReason::EVERY.map(FailureReason::cql_code);
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 0, 0]);
}
