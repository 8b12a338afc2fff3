//! What acceptors and proposers do one step at a time; `schedules` lets them loose on each other.

mod schedules;

use super::*;
use crate::tally::Verdict;
use std::collections::VecDeque;

fn ballot(micros: i64, node: u128) -> Ballot {
    Ballot { micros: TimestampMicros(micros), node: NodeId(node), nonce: 7 }
}

fn proposal(micros: i64, update: &'static [u8]) -> Proposal {
    Proposal { ballot: ballot(micros, 1), update: Bytes::from_static(update) }
}

#[test]
fn of_two_ballots_of_one_moment_the_first_is_promised() {
    let mut state = State::default();
    let (first, second) = (ballot(5, 1), ballot(5, 2));
    assert!(matches!(state.prepare(first), Prepared::Promised { .. }));
    assert_eq!(state.prepare(second), Prepared::Refused { by: first });
    // The same message once more.
    assert!(matches!(state.prepare(first), Prepared::Promised { .. }));
    let late = Proposal { ballot: second, update: Bytes::new() };
    assert_eq!(state.accept(&late), Accepted::Refused { by: first });
}

#[test]
fn a_commit_ends_what_was_accepted_and_never_goes_back() {
    let mut state = State::default();
    assert_eq!(state.accept(&proposal(5, b"five")), Accepted::Yes);
    assert!(state.commit(&proposal(7, b"seven")));
    assert_eq!(state.accepted, None);
    assert!(!state.commit(&proposal(6, b"six")), "it is older");
    assert_eq!(state.committed, Some(proposal(7, b"seven")));
    // A promise may expire before a commit: that is remembered in its place.
    state.promised = None;
    assert_eq!(state.prepare(ballot(6, 2)), Prepared::Refused { by: ballot(7, 1) });
}

#[test]
fn what_was_begun_is_finished_before_anything_else_unless_it_is_empty() {
    let promise = |accepted: Option<Proposal>, committed: Option<Proposal>| Prepared::Promised {
        accepted,
        committed,
    };
    let next = |answers: [Prepared; 2]| {
        let mut promises = Promises::new(2, 3);
        let mut verdicts = VecDeque::new();
        for (node, answer) in (0..).map(NodeId).zip(answers) {
            verdicts.push_back(promises.record(node, answer));
        }
        assert_eq!(verdicts, [Verdict::Pending, Verdict::Met]);
        promises.next()
    };
    let (four, five, empty) = (proposal(4, b"four"), proposal(5, b"five"), proposal(6, b""));
    assert_eq!(next([promise(None, None), promise(None, None)]), Next::Free);
    let begun = promise(Some(five.clone()), Some(four.clone()));
    assert_eq!(next([begun.clone(), promise(None, None)]), Next::Finish(five.clone()));
    let done = promise(Some(five.clone()), Some(five.clone()));
    let taught = Next::Teach { commit: five.clone(), missing: vec![NodeId(0)] };
    assert_eq!(next([begun.clone(), done.clone()]), taught);
    assert_eq!(next([done.clone(), done]), Next::Free);
    let hidden = promise(Some(empty), Some(four));
    assert_eq!(
        next([begun, hidden]),
        Next::Free,
        "whoever proposed the empty one knew that nothing older was decided"
    );
}

#[test]
fn a_proposal_is_refused_only_if_nobody_can_have_taken_it() {
    let by = ballot(9, 2);
    let refused = Accepted::Refused { by };
    let end = |answers: &[Option<Accepted>]| {
        let mut accepts = Accepts::new(2, 3);
        let mut ends = answers.iter().map(|answer| match answer {
            Some(answer) => accepts.record(*answer),
            None => accepts.failed(),
        });
        ends.find_map(|end| end)
    };
    let yes = Some(Accepted::Yes);
    assert_eq!(end(&[yes, yes]), Some(Proposed::Accepted));
    assert_eq!(end(&[Some(refused), yes, yes]), Some(Proposed::Accepted));
    assert_eq!(end(&[Some(refused), Some(refused)]), None, "the third may have taken it");
    let all = [Some(refused), Some(refused), Some(refused)];
    assert_eq!(end(&all), Some(Proposed::Refused { by }));
    assert_eq!(end(&[Some(refused), Some(refused), None]), Some(Proposed::Unknown { accepted: 0 }));
    assert_eq!(end(&[Some(refused), yes, Some(refused)]), Some(Proposed::Unknown { accepted: 1 }));
    assert_eq!(end(&[None, None]), Some(Proposed::Unknown { accepted: 0 }));
}

#[test]
fn what_is_kept_is_read_back_and_nothing_else_is() {
    let kept = proposal(-5, b"update");
    assert_eq!(Proposal::decode(&kept.encode()), Some(kept.clone()));
    assert_eq!(Ballot::decode(&kept.ballot.encode()), Some(kept.ballot));
    let encoded = kept.encode();
    for len in 0..Ballot::BYTES {
        assert_eq!(Proposal::decode(&encoded.slice(..len)), None);
        assert_eq!(Ballot::decode(&encoded[..len]), None);
    }
    assert_eq!(Ballot::decode(&encoded), None, "too long");
}

#[test]
fn pauses_grow_to_a_tenth_of_a_second() {
    let most = |contentions| (0..2000).map(|n| backoff(contentions, n * 977)).max().unwrap();
    assert!(most(1) < std::time::Duration::from_millis(4));
    assert!(most(3) > most(1) && most(3) < std::time::Duration::from_millis(16));
    for contentions in [6, 7, 1000, u32::MAX] {
        let longest = most(contentions);
        assert!(longest <= std::time::Duration::from_millis(100), "{longest:?}");
        assert!(longest > std::time::Duration::from_millis(90), "{longest:?}");
    }
}
