//! The faults besides the cut: power loss and return, a clock that jumps, a link that is cut one way.

#![allow(clippy::unwrap_used, reason = "a test may")]

use crate::common;
use helenus_sim::scenario::LIBRARY;

#[test]
fn a_node_forgets_and_the_store_does_not() {
    let text = LIBRARY.iter().find(|e| e.id == "power-loss").unwrap().text;
    let run = common::run(text);
    let broken: Vec<&str> = run.judged.iter().filter(|j| !j.holds).map(|j| j.id.as_str()).collect();
    assert_eq!(broken, Vec::<&str>::new());
    assert_eq!(run.ledger.operator_errors, Vec::<String>::new());
}

#[test]
fn a_power_loss_after_every_sync_forgets_nothing() {
    // The same night, but the shop had closed a minute before: all was synced.
    let text = LIBRARY.iter().find(|e| e.id == "power-loss").unwrap().text;
    let closed = "[[at]]\nt = \"12:01\"\ndo = \"load\"\nactor = \"shop\"\nrate = \"0/min\"\n\n[[at]]\nt = \"12:02\"";
    let text = text.replacen("[[at]]\nt = \"12:02\"", closed, 1);
    let run = common::run(&text);
    let forgets = run.judged.iter().find(|j| j.id == "b-forgets").unwrap();
    assert_eq!(forgets.measured, Some(0.0));
}
