//! Values that are none, keys that are too long, and statements put together by chance: refused, in words.

use crate::store::Store;
use bytes::Bytes;
use helenus_core::cql::collection;
use helenus_core::cql::plan::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

fn refusal(text: &str, values: &[Value]) -> String {
    let mut values = values.iter().cloned();
    let mut store = Store::default();
    let answer = store.run_with(text, || values.next().unwrap_or(Value::Null));
    answer.expect_err(text).to_string()
}

#[test]
fn values_are_checked_against_their_types() {
    let many = 1 << 17;
    let list = |count: i32| {
        let all: Vec<[u8; 4]> = (0..count).map(i32::to_be_bytes).collect();
        Value::Bytes(collection::encode_list(&all).expect("a list"))
    };
    let long = list(many);
    let one = bytes(&[0, 0, 0, 1]);
    let refused: [(&str, Vec<Value>, &str); 17] = [
        (
            "SELECT * FROM texts WHERE k = 1 AND c > ?",
            vec![bytes(&vec![b'a'; 65_536])],
            "65535 (for \"c\")",
        ),
        ("SELECT * FROM wide WHERE k = ?", vec![bytes(&[1])], "Expected 4 or 0 bytes"),
        ("INSERT INTO kv (k, v) VALUES ('a', ?)", vec![bytes(&[1])], "(for \"v\")"),
        ("INSERT INTO kv (k) VALUES (?)", vec![bytes(&[0xff])], "Invalid byte for text"),
        ("INSERT INTO kv (k) VALUES (?)", vec![bytes(&vec![b'a'; 65_536])], "longer than maximum"),
        ("INSERT INTO kv (k) VALUES (?)", vec![bytes(b"")], "Key may not be empty"),
        ("INSERT INTO pair (x, y, c) VALUES (1, ?, 1)", vec![bytes(&vec![b'a'; 70_000])], "longer"),
        ("SELECT * FROM wide WHERE k IN ?", vec![bytes(&[0, 0, 0, 9])], "Not enough bytes"),
        ("SELECT * FROM wide WHERE k IN ?", vec![long.clone()], "131072 combinations"),
        ("UPDATE wide SET v = 1 WHERE k = 1 AND a IN ? AND b = 1", vec![long], "combinations"),
        (
            "UPDATE open SET v = 1 WHERE k IN (1, 2) AND c IN ?",
            vec![list(40_000)],
            "2 partitions of 40000 rows",
        ),
        // Lists are read before, each partition by itself.
        (
            "UPDATE open SET l = l - [1], v = 1 WHERE k IN (1, 2) AND c IN ?",
            vec![list(40_000)],
            "2 partitions of 40000 rows",
        ),
        ("SELECT * FROM wide WHERE k = 1 AND (a, b) > ?", vec![bytes(&[])], "null value"),
        ("INSERT INTO colls (k, l) VALUES (1, [?])", vec![Value::Null], "inside collections"),
        (
            "INSERT INTO colls (k, l) VALUES (1, [?])",
            vec![Value::Unset],
            "unset value for value(l)",
        ),
        ("SELECT * FROM wide LIMIT ?", vec![bytes(&[0xff; 4])], "strictly positive"),
        (
            "INSERT INTO wide (k, a, b) VALUES (?, ?, ?)",
            vec![one.clone(), one, Value::Unset],
            "column b",
        ),
    ];
    for (text, values, said) in refused {
        let error = refusal(text, &values);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn each_call_of_uuid_and_now_gives_another_value() {
    let mut store = Store::default();
    let text = "INSERT INTO times (k, id) VALUES (now(), uuid())";
    store.run(text, None).unwrap();
    let answer = store.run("SELECT uuid(), uuid(), now(), now() FROM times", None).unwrap();
    let row = answer.lines().nth(1).unwrap();
    let mut values: Vec<&str> = row.trim().split(" | ").collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 4, "{row}");
}

/// Of every shape, and words to put into them.
const STATEMENTS: &[&str] = &[
    "SELECT * FROM kv WHERE k = ?",
    "SELECT k , count(*) , max(v) FROM wide WHERE k = 1 AND a IN ? GROUP BY k , a LIMIT ?",
    "SELECT DISTINCT k , s FROM stat WHERE token(k) > ? AND token(k) <= ?",
    "SELECT * FROM wide WHERE k IN ? AND (a, b) > ? AND (a, b) <= (1, ?) ORDER BY a DESC , b ASC",
    "SELECT v + ? , CAST(v AS text) , ttl(v) , writetime(v) , toJson(w) FROM kv WHERE v > ? ALLOW FILTERING",
    "SELECT k FROM colls WHERE l CONTAINS ? AND m CONTAINS KEY ? AND m[?] = ? AND t = ? ALLOW FILTERING",
    "SELECT toTimestamp(k) , blobAsInt(b) , d + 1mo , avg(f) FROM times WHERE ts > ? ALLOW FILTERING",
    "INSERT INTO kv (k, v, w) VALUES (?, ?, ?) USING TTL ? AND TIMESTAMP ?",
    "INSERT INTO wide (k, a, b, v) VALUES (1, 1, ?, 2)",
    "INSERT INTO stat (k, c, s) VALUES (1, ?, 'x')",
    "INSERT INTO colls (k, l, s, m, t) VALUES (1, [?, 2], {?}, {?: 1}, (?, 'x'))",
    "INSERT INTO times (k, ts, b) VALUES (minTimeuuid(?), toTimestamp(now()), intAsBlob(?))",
    "UPDATE wide SET v = ? , w = 'x' WHERE k IN (1, 2) AND a = ? AND b IN ?",
    "UPDATE stat SET s = ? WHERE k = 1",
    "UPDATE stat SET v = ? WHERE k = 1 AND c = ? IF s = ? AND v IN ( ? , 2 )",
    "UPDATE colls SET l = ? WHERE k = 1 IF m[?] >= ? AND l[?] != 2 AND u.n < ? AND t = ?",
    "BEGIN BATCH INSERT INTO stat (k, s) VALUES (1, ?) IF NOT EXISTS DELETE FROM stat WHERE k = ? AND c = 1 IF EXISTS UPDATE stat SET v = 2 WHERE k = 1 AND c = ? IF v > ? APPLY BATCH",
    "DELETE FROM wide WHERE k = 1 AND a > ? AND a < ?",
    "DELETE v FROM wide WHERE k = 1 AND (a, b) IN ?",
    "SELECT s[? .. ?] , m[?] , m[.. ?] , l , toJson(m) FROM open WHERE s CONTAINS ? AND m CONTAINS KEY ? AND m[?] = ? ALLOW FILTERING",
    "INSERT INTO open (k, c, s, m, l) VALUES (1, ?, {?}, {'a': ?}, ?)",
    "UPDATE open SET s = s + ? , m = m - ? , l = ? + l , l[?] = ? , m[?] = ? WHERE k = 1 AND c = ?",
    "UPDATE open SET l = l - ? , ss = ? , sl[?] = 1 WHERE k IN (1, 2) AND c IN (1, 2)",
    "DELETE l[?] , m[?] , s[?] , ss FROM open WHERE k = 1 AND c = 1",
    "INSERT INTO people (k, c, u, s) VALUES (1, ?, {n: ? , names: ?}, ?)",
    "UPDATE people SET u.n = ? , u.names = ? , s = ? , v = 1 WHERE k = 1 AND c = ?",
    "DELETE u.n , u , s.names FROM people WHERE k = 1 AND c = ?",
    "SELECT u , u.n , toJson(s) , max(v) FROM people WHERE k = ? AND c > ? GROUP BY k",
    "INSERT INTO homes (k, c, all, m, t) VALUES (?, {n: ?}, {{n: ?}}, ?, (?, ?))",
    "SELECT * FROM owned WHERE k IN ({n: ?} , ?)",
    "SELECT c , m[?] , t FROM homes WHERE k = ? AND c >= ? AND all CONTAINS ? ALLOW FILTERING",
    "BEGIN BATCH INSERT INTO kv (k) VALUES (?) UPDATE kv SET v = ? WHERE k = 'a' DELETE FROM wide WHERE k = 1 AND a = ? APPLY BATCH",
];

/// A statement, perhaps with words of others in it.
fn statement() -> impl Strategy<Value = String> {
    let words: Vec<&str> = STATEMENTS.iter().flat_map(|text| text.split(' ')).collect();
    let change = (any::<prop::sample::Index>(), select(words));
    (select(STATEMENTS), vec(change, 0..3)).prop_map(|(text, changes)| {
        let mut words: Vec<&str> = text.split(' ').collect();
        for (place, word) in changes {
            let place = place.index(words.len());
            if let Some(old) = words.get_mut(place) {
                *old = word;
            }
        }
        words.join(" ")
    })
}

fn value() -> impl Strategy<Value = Value> {
    let numbers = [0, 1, 2, i32::MIN, i32::MAX];
    prop_oneof![
        1 => Just(Value::Null),
        1 => Just(Value::Unset),
        6 => select(numbers.to_vec()).prop_map(|n| bytes(&n.to_be_bytes())),
        2 => any::<i64>().prop_map(|n| bytes(&n.to_be_bytes())),
        2 => vec(select(numbers.to_vec()), 0..3).prop_map(|all| {
            let all: Vec<[u8; 4]> = all.into_iter().map(i32::to_be_bytes).collect();
            Value::Bytes(collection::encode_list(&all).expect("a list"))
        }),
        2 => vec(select(numbers.to_vec()), 0..3).prop_map(|all| {
            let all: Vec<Option<[u8; 4]>> = all.into_iter().map(|n| Some(n.to_be_bytes())).collect();
            Value::Bytes(collection::encode_tuple(&all).expect("a tuple"))
        }),
        2 => vec(any::<u8>(), 0..20).prop_map(|all| bytes(&all)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is bound, a statement is run or refused; pages of any size give the same rows.
    #[test]
    fn nothing_panics(runs in vec((statement(), vec(value(), 8)), 1..12)) {
        let mut store = Store::default();
        for (text, values) in runs {
            store.timestamp += 1;
            let mut values = values.into_iter().cycle();
            let _ = store.run_with(&text, || values.next().unwrap());
        }
    }
}

#[test]
fn a_set_is_the_same_in_whatever_order_a_client_writes_it() {
    let set = |values: [&str; 3]| Value::Bytes(collection::encode_list(&values).expect("a set"));
    let mut store = Store::default();
    let mut bound = |text: &str, values| store.run_with(text, || set(values)).expect("a statement");
    bound("INSERT INTO colls (k, s) VALUES (1, ?)", ["b", "a", "b"]);
    assert_eq!(bound("SELECT k FROM colls WHERE s = ? ALLOW FILTERING", ["a", "b", "a"]), 1);
    bound("UPDATE colls SET l = [1] WHERE k = 1 IF s = ?", ["b", "b", "a"]);
    let kept = store.run("SELECT s, l FROM colls", None).expect("a row");
    assert_eq!(kept, "s | l\n  {'a', 'b'} | [1]\n");
}
