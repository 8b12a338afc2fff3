//! Conditions on collections, frozen and not, against the order that Rust has for its own lists, sets and maps.

use crate::store::Store;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

const OPS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

fn holds(op: &str, order: Ordering) -> bool {
    match op {
        "=" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn joined(values: impl IntoIterator<Item = String>) -> String {
    values.into_iter().collect::<Vec<_>>().join(", ")
}

fn list(of: &[i32]) -> String {
    format!("[{}]", joined(of.iter().map(i32::to_string)))
}

fn set(of: &[i32]) -> String {
    format!("{{{}}}", joined(of.iter().map(i32::to_string)))
}

fn map(of: &[(i32, i32)]) -> String {
    format!("{{{}}}", joined(of.iter().map(|(k, v)| format!("{k}: {v}"))))
}

/// Whether a statement of this table's one row was applied.
fn applied(store: &mut Store, table: &str, condition: &str) -> bool {
    let (set, row) = match table {
        "colls" => ("t = (1, 'x')", "k = 1"),
        "open" => ("v = 1", "k = 1 AND c = 1"),
        _ => ("s = s + {}", "k = 1 AND c = 1"),
    };
    let text = format!("UPDATE {table} SET {set} WHERE {row} IF {condition}");
    let answer = store.run(&text, None).expect(&text);
    answer.starts_with("[applied]\n  true")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn collections_compare_as_rust_compares_them(
        (found, wanted) in (vec(-1..2_i32, 0..4), vec(-1..2_i32, 0..4)),
        (pairs, wanted_pairs) in (vec((-1..2_i32, 0..2_i32), 0..4), vec((-1..2_i32, 0..2_i32), 0..4)),
    ) {
        let mut store = Store::default();
        let sorted = |of: &[i32]| of.iter().copied().collect::<BTreeSet<i32>>();
        let paired = |of: &[(i32, i32)]| of.iter().copied().collect::<BTreeMap<i32, i32>>();
        for text in [
            format!("INSERT INTO colls (k, l) VALUES (1, {})", list(&found)),
            format!("UPDATE open SET l = {} WHERE k = 1 AND c = 1", list(&found)),
            format!("UPDATE numbers SET s = {}, m = {} WHERE k = 1 AND c = 1", set(&found), map(&pairs)),
        ] {
            store.run(&text, None).expect(&text);
        }
        for op in OPS {
            let lists = holds(op, found.cmp(&wanted));
            let sets = holds(op, sorted(&found).cmp(&sorted(&wanted)));
            let maps = holds(op, paired(&pairs).cmp(&paired(&wanted_pairs)));
            for (table, condition, expected) in [
                ("colls", format!("l {op} {}", list(&wanted)), lists),
                ("open", format!("l {op} {}", list(&wanted)), lists),
                ("numbers", format!("s {op} {}", set(&wanted)), sets),
                ("numbers", format!("m {op} {}", map(&wanted_pairs)), maps),
            ] {
                let found = applied(&mut store, table, &condition);
                prop_assert_eq!(found, expected, "{}: {}", table, condition);
            }
        }
        // Elements: what is not there is null.
        for place in 0..4_i32 {
            let nth = usize::try_from(place).ok().and_then(|nth| found.get(nth));
            let entry = paired(&pairs).get(&place).copied();
            for (table, condition, expected) in [
                ("colls", format!("l[{place}] = 1"), nth == Some(&1)),
                ("open", format!("l[{place}] = 1"), nth == Some(&1)),
                ("open", format!("l[{place}] < 1"), nth.is_some_and(|n| *n < 1)),
                ("open", format!("l[{place}] != 0"), nth != Some(&0)),
                ("open", format!("l[{place}] IN (null, -1)"), nth.is_none_or(|n| *n == -1)),
                ("numbers", format!("m[{place}] = null"), entry.is_none()),
                ("numbers", format!("m[{place}] >= 1"), entry.is_some_and(|v| v >= 1)),
                ("numbers", format!("m[{place}] IN (1, 2)"), entry == Some(1)),
            ] {
                let found = applied(&mut store, table, &condition);
                prop_assert_eq!(found, expected, "{}: {}", table, condition);
            }
        }
    }
}
