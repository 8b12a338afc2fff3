//! Sets and maps that are not frozen, against a model that keeps every write and looks at all of them.

use crate::store::Store;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a statement does to the columns `s set<int>` and `m map<int, int>`.
#[derive(Debug, Clone)]
enum Operation {
    Add(Vec<i32>, Vec<(i32, i32)>),
    Remove(Vec<i32>, Vec<i32>),
    Assign(Vec<i32>, Vec<(i32, i32)>),
    SetEntry(i32, Option<i32>),
    DeleteEntry(i32, i32),
    DeleteAll,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (number, numbers) = (|| 0..4_i32, || vec(0..4_i32, 0..4));
    let pairs = || vec((0..4_i32, 0..3_i32), 0..3);
    prop_oneof![
        4 => (numbers(), pairs()).prop_map(|(s, m)| Operation::Add(s, m)),
        3 => (numbers(), numbers()).prop_map(|(s, m)| Operation::Remove(s, m)),
        2 => (numbers(), pairs()).prop_map(|(s, m)| Operation::Assign(s, m)),
        2 => (number(), prop::option::of(number())).prop_map(|(k, v)| Operation::SetEntry(k, v)),
        2 => (number(), number()).prop_map(|(s, m)| Operation::DeleteEntry(s, m)),
        1 => Just(Operation::DeleteAll),
    ]
}

fn set(numbers: &[i32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    format!("{{{}}}", numbers.join(", "))
}

fn map(pairs: &[(i32, i32)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

impl Operation {
    fn statement(&self) -> String {
        let key = "WHERE k = 1 AND c = 1";
        match self {
            Operation::Add(s, m) => {
                format!("UPDATE numbers SET s = s + {}, m = m + {} {key}", set(s), map(m))
            }
            Operation::Remove(s, m) => {
                format!("UPDATE numbers SET s = s - {}, m = m - {} {key}", set(s), set(m))
            }
            Operation::Assign(s, m) => {
                format!("UPDATE numbers SET s = {}, m = {} {key}", set(s), map(m))
            }
            Operation::SetEntry(k, Some(v)) => format!("UPDATE numbers SET m[{k}] = {v} {key}"),
            Operation::SetEntry(k, None) => format!("UPDATE numbers SET m[{k}] = null {key}"),
            Operation::DeleteEntry(s, m) => format!("DELETE s[{s}], m[{m}] FROM numbers {key}"),
            Operation::DeleteAll => format!("DELETE s, m FROM numbers {key}"),
        }
    }
}

/// All that was ever written to one collection.
#[derive(Default)]
struct Written {
    /// Of each key, by the time of the write; `None` takes it away, and wins over a value of its own time.
    entries: Vec<(i32, i64, Option<i32>)>,
    deleted: Vec<i64>,
}

impl Written {
    fn all(&mut self, time: i64, entries: impl IntoIterator<Item = (i32, Option<i32>)>) {
        self.entries.extend(entries.into_iter().map(|(key, value)| (key, time, value)));
    }

    fn live(&self) -> BTreeMap<i32, i32> {
        let deleted = self.deleted.iter().max().copied().unwrap_or(i64::MIN);
        let keys: BTreeSet<i32> = self.entries.iter().map(|(key, _, _)| *key).collect();
        let newest = |key: i32| {
            let of_key = self.entries.iter().filter(|(k, time, _)| *k == key && *time > deleted);
            let rank =
                |(_, time, value): &(i32, i64, Option<i32>)| (*time, value.is_none(), *value);
            of_key.map(rank).max().and_then(|(_, _, value)| value)
        };
        keys.into_iter().filter_map(|key| Some((key, newest(key)?))).collect()
    }
}

fn expected(writes: &[(i64, Operation)]) -> String {
    let (mut s, mut m) = (Written::default(), Written::default());
    let values = |numbers: &[i32]| numbers.iter().map(|n| (*n, Some(0))).collect::<Vec<_>>();
    // Of a key that a literal has twice the last value counts.
    let pairs = |pairs: &[(i32, i32)]| {
        let last: BTreeMap<i32, i32> = pairs.iter().copied().collect();
        last.into_iter().map(|(key, value)| (key, Some(value))).collect::<Vec<_>>()
    };
    for (time, operation) in writes {
        let time = *time;
        match operation {
            Operation::Add(to_s, to_m) => {
                s.all(time, values(to_s));
                m.all(time, pairs(to_m));
            }
            Operation::Remove(of_s, of_m) => {
                s.all(time, of_s.iter().map(|n| (*n, None)));
                m.all(time, of_m.iter().map(|n| (*n, None)));
            }
            Operation::Assign(to_s, to_m) => {
                s.deleted.push(time - 1);
                m.deleted.push(time - 1);
                s.all(time, values(to_s));
                m.all(time, pairs(to_m));
            }
            Operation::SetEntry(key, value) => m.all(time, [(*key, *value)]),
            Operation::DeleteEntry(of_s, of_m) => {
                s.all(time, [(*of_s, None)]);
                m.all(time, [(*of_m, None)]);
            }
            Operation::DeleteAll => {
                s.deleted.push(time);
                m.deleted.push(time);
            }
        }
    }
    let (s, m) = (s.live(), m.live());
    let mut out = "s | m\n".to_owned();
    if !s.is_empty() || !m.is_empty() {
        let s: Vec<i32> = s.into_keys().collect();
        let m: Vec<(i32, i32)> = m.into_iter().collect();
        let null = |text: String| if text == "{}" { "null".to_owned() } else { text };
        writeln!(out, "  {} | {}", null(set(&s)), null(map(&m))).expect("a string takes it");
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_read_is_what_a_look_at_every_write_finds(
        writes in vec((10..16_i64, operation()), 0..12),
        order in any::<prop::sample::Index>(),
    ) {
        let mut store = Store::default();
        // The times are said; the order in which the writes come is another one.
        let from = if writes.is_empty() { 0 } else { order.index(writes.len()) };
        for (time, operation) in writes.iter().cycle().skip(from).take(writes.len()) {
            store.timestamp = *time;
            store.run(&operation.statement(), None).unwrap();
        }
        let found = store.run("SELECT s, m FROM numbers WHERE k = 1", None).unwrap();
        prop_assert_eq!(found, expected(&writes));
    }
}
