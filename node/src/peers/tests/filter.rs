//! The message filter: faults by rule.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_filter_drops_the_message_that_a_rule_names_and_no_other() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    one.peers.filter().arm(vec![rule(Side::Send, Verb::Mutation, Nth::Only(2), Action::Drop)]);
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(dropped(&one, Verb::Mutation, DropReason::Filtered), 1);
    // The request arrives and is acted on; only its answer is lost.
    one.peers.filter().arm(vec![rule(Side::Receive, Verb::Ack, Nth::Every, Action::Drop)]);
    let before = two.desk.seen.lock().unwrap().len();
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    assert_eq!(two.desk.seen.lock().unwrap().len(), before + 1);
    one.peers.filter().disarm();
    two.peers.filter().arm(vec![rule(Side::Send, Verb::Ack, Nth::Only(1), Action::Drop)]);
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    assert_eq!(answer(&one).await, Ok(ack()));
}

#[tokio::test(start_paused = true)]
async fn the_filter_doubles_requests_and_answers_and_the_second_answer_is_late() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    one.peers.filter().arm(vec![rule(Side::Send, Verb::Mutation, Nth::Every, Action::Duplicate)]);
    let before = two.desk.seen.lock().unwrap().len();
    assert_eq!(answer(&one).await, Ok(ack()));
    tokio::time::sleep(ms(10)).await;
    assert_eq!(two.desk.seen.lock().unwrap().len(), before + 2);
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 1);
    one.peers.filter().arm(vec![rule(Side::Receive, Verb::Ack, Nth::Every, Action::Duplicate)]);
    assert_eq!(answer(&one).await, Ok(ack()));
    assert_eq!(dropped(&one, Verb::Ack, DropReason::Late), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_overtaken_and_one_delayed_for_too_long_is_not_handled() {
    let net = Pipes::default();
    let (one, two) = pair(&net).await;
    let late = Action::Delay(ms(300));
    two.peers.filter().arm(vec![rule(Side::Receive, Verb::Mutation, Nth::Only(1), late)]);
    two.desk.seen.lock().unwrap().clear();
    let mut first = one.peers.call(&[N2], mutation(1), ms(1000));
    let mut second = one.peers.call(&[N2], mutation(2), ms(1000));
    assert_eq!(second.next().await, Some((N2, Ok(ack()))));
    assert_eq!(first.waiting(), [N2]);
    assert_eq!(first.next().await, Some((N2, Ok(ack()))));
    assert_eq!(*two.desk.seen.lock().unwrap(), [(N1, mutation(2)), (N1, mutation(1))]);

    let too_late = Action::Delay(ms(2000));
    two.peers.filter().arm(vec![rule(Side::Receive, Verb::Mutation, Nth::Every, too_late)]);
    assert_eq!(answer(&one).await, Err(PeerError::Expired));
    tokio::time::sleep(ms(3000)).await;
    assert_eq!(two.desk.seen.lock().unwrap().len(), 2);
    assert_eq!(dropped(&two, Verb::Mutation, DropReason::ExpiredBeforeHandling), 1);
}
