//! Random writes and reads of a table with two clustering columns, one of them `DESC`, against a list of rows.

use crate::store::Store;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;

/// `INSERT`s of (k, a, b) -> v, and deletions of what a restriction says.
#[derive(Debug, Clone)]
enum Write {
    Put { key: (i32, i32, i32), v: i32 },
    Delete { k: i32, rows: Rows },
}

/// What is said of `a` and `b`.
#[derive(Debug, Clone)]
enum Rows {
    All,
    A(Slice),
    AThenB(Vec<i32>, Option<Slice>),
    Both { low: Option<(i32, i32, bool)>, high: Option<(i32, i32, bool)> },
    Each(Vec<(i32, i32)>),
}

/// Ends, and whether they are included.
#[derive(Debug, Clone)]
struct Slice {
    low: Option<(i32, bool)>,
    high: Option<(i32, bool)>,
}

fn above<T: PartialOrd>(value: &T, low: &T, inclusive: bool) -> bool {
    value > low || (inclusive && value == low)
}

impl Slice {
    fn has(&self, n: i32) -> bool {
        self.low.is_none_or(|(low, inclusive)| above(&n, &low, inclusive))
            && self.high.is_none_or(|(high, inclusive)| above(&high, &n, inclusive))
    }

    fn cql(&self, column: &str) -> String {
        let mut out = String::new();
        if let Some((low, inclusive)) = self.low {
            out += &format!(" AND {column} >{} {low}", if inclusive { "=" } else { "" });
        }
        if let Some((high, inclusive)) = self.high {
            out += &format!(" AND {column} <{} {high}", if inclusive { "=" } else { "" });
        }
        out
    }
}

impl Rows {
    fn has(&self, a: i32, b: i32) -> bool {
        match self {
            Rows::All => true,
            Rows::A(slice) => slice.has(a),
            Rows::AThenB(each, slice) => {
                each.contains(&a) && slice.as_ref().is_none_or(|slice| slice.has(b))
            }
            Rows::Both { low, high } => {
                low.is_none_or(|(x, y, inclusive)| above(&(a, b), &(x, y), inclusive))
                    && high.is_none_or(|(x, y, inclusive)| above(&(x, y), &(a, b), inclusive))
            }
            Rows::Each(each) => each.contains(&(a, b)),
        }
    }

    fn cql(&self) -> String {
        match self {
            Rows::All => String::new(),
            Rows::A(slice) => slice.cql("a"),
            Rows::AThenB(each, slice) => {
                let each: Vec<String> = each.iter().map(i32::to_string).collect();
                let slice = slice.as_ref().map_or(String::new(), |slice| slice.cql("b"));
                format!(" AND a IN ({}){slice}", each.join(", "))
            }
            Rows::Both { low, high } => {
                let mut out = String::new();
                if let Some((a, b, inclusive)) = low {
                    out +=
                        &format!(" AND (a, b) >{} ({a}, {b})", if *inclusive { "=" } else { "" });
                }
                if let Some((a, b, inclusive)) = high {
                    out +=
                        &format!(" AND (a, b) <{} ({a}, {b})", if *inclusive { "=" } else { "" });
                }
                out
            }
            Rows::Each(each) => {
                let each: Vec<String> = each.iter().map(|(a, b)| format!("({a}, {b})")).collect();
                format!(" AND (a, b) IN ({})", each.join(", "))
            }
        }
    }
}

fn number() -> impl Strategy<Value = i32> {
    -2..3_i32
}

fn slice() -> impl Strategy<Value = Slice> {
    let end = || option::of((number(), any::<bool>()));
    (end(), end()).prop_map(|(low, high)| Slice { low, high })
}

fn rows() -> impl Strategy<Value = Rows> {
    let end = || option::of((number(), number(), any::<bool>()));
    prop_oneof![
        Just(Rows::All),
        slice().prop_map(Rows::A),
        (vec(number(), 0..3), option::of(slice())).prop_map(|(each, b)| Rows::AThenB(each, b)),
        (end(), end()).prop_map(|(low, high)| Rows::Both { low, high }),
        vec((number(), number()), 0..4).prop_map(Rows::Each),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let key = || (0..2_i32, number(), number());
    prop_oneof![
        8 => (key(), number()).prop_map(|(key, v)| Write::Put { key, v }),
        1 => (0..2_i32, rows()).prop_map(|(k, rows)| Write::Delete { k, rows }),
    ]
}

#[derive(Debug, Clone)]
struct Read {
    k: i32,
    rows: Rows,
    order: &'static str,
    limit: Option<usize>,
    /// A filter on `v`.
    v: Option<Slice>,
}

fn read() -> impl Strategy<Value = Read> {
    let order =
        select(vec!["", "ORDER BY a ASC, b DESC", "ORDER BY a DESC, b ASC", "ORDER BY a DESC"]);
    (0..2_i32, rows(), order, option::of(1..6_usize), option::of(slice()))
        .prop_map(|(k, rows, order, limit, v)| Read { k, rows, order, limit, v })
}

fn check(writes: Vec<Write>, reads: Vec<Read>) {
    let mut store = Store::default();
    let mut model: BTreeMap<(i32, i32, i32), i32> = BTreeMap::new();
    for write in writes {
        store.timestamp += 1;
        let text = match &write {
            Write::Put { key: (k, a, b), v } => {
                model.insert((*k, *a, *b), *v);
                format!("INSERT INTO wide (k, a, b, v) VALUES ({k}, {a}, {b}, {v})")
            }
            Write::Delete { k, rows } => {
                model.retain(|(key, a, b), _| key != k || !rows.has(*a, *b));
                format!("DELETE FROM wide WHERE k = {k}{}", rows.cql())
            }
        };
        store.run(&text, None).expect(&text);
    }
    for read in reads {
        let mut wanted: Vec<(i32, i32, i32)> = model
            .iter()
            .filter(|((k, a, b), v)| {
                *k == read.k
                    && read.rows.has(*a, *b)
                    && read.v.as_ref().is_none_or(|slice| slice.has(**v))
            })
            .map(|((_, a, b), v)| (*a, *b, *v))
            .collect();
        wanted.sort_by_key(|(a, b, _)| (*a, -b));
        if read.order.starts_with("ORDER BY a DESC") {
            wanted.reverse();
        }
        wanted.truncate(read.limit.unwrap_or(usize::MAX));
        let text = format!(
            "SELECT a, b, v FROM wide WHERE k = {}{}{} {} {} {}",
            read.k,
            read.rows.cql(),
            read.v.as_ref().map_or(String::new(), |slice| slice.cql("v")),
            read.order,
            read.limit.map_or(String::new(), |limit| format!("LIMIT {limit}")),
            if read.v.is_some() { "ALLOW FILTERING" } else { "" },
        );
        let mut expected = "a | b | v\n".to_owned();
        for (a, b, v) in wanted {
            expected += &format!("  {a} | {b} | {v}\n");
        }
        assert_eq!(store.run(&text, None).expect(&text), expected, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn reads_equal_those_of_a_list_of_rows(
        writes in vec(write(), 0..40),
        reads in vec(read(), 1..8),
    ) {
        check(writes, reads);
    }
}
