//! What it costs to read a statement, and to drop its tree. Prepared statements are read once; this is for the others.
//!
//! `cargo bench -p helenus-core --bench cql_parse`. Budget: at most 5 µs for an `INSERT` or a `SELECT` of a common size.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use helenus_core::cql;
use std::hint::black_box;
use std::time::Duration;

const STATEMENTS: [(&str, &str); 6] = [
    ("select by key", "SELECT * FROM system.local WHERE key='local'"),
    (
        "select slice",
        "SELECT sensor, at, value, writetime(value) FROM metrics.readings \
         WHERE sensor = ? AND day IN (?, ?, ?) AND at >= ? AND at < '2024-05-01T00:00:00Z' \
         ORDER BY at DESC PER PARTITION LIMIT 10 LIMIT 100",
    ),
    (
        "insert markers",
        "INSERT INTO standard1 (key, \"C0\", \"C1\", \"C2\", \"C3\", \"C4\") VALUES (?, ?, ?, ?, ?, ?)",
    ),
    (
        "insert constants",
        "INSERT INTO shop.orders (id, customer, at, total, paid, tags) VALUES \
         (123e4567-e89b-12d3-a456-426614174000, 'o''neill', 1700000000000, 12.50, true, {'new', 'post'}) \
         USING TIMESTAMP 1700000000000000 AND TTL 86400",
    ),
    (
        "update",
        "UPDATE standard1 SET \"C0\" = ?, counts['a'] = 1, total = total + ? WHERE KEY=? IF version = 3",
    ),
    (
        "create table",
        "CREATE TABLE IF NOT EXISTS metrics.readings (sensor text, day date, at timestamp, value double, \
         tags map<text, frozen<set<text>>>, PRIMARY KEY ((sensor, day), at)) WITH CLUSTERING ORDER BY (at DESC) \
         AND compaction = {'class': 'TimeWindowCompactionStrategy'} AND gc_grace_seconds = 3600",
    ),
];

/// How long each statement is measured.
const MEASURED: Duration = Duration::from_millis(500);

fn main() {
    println!("{:<18} {:>6} {:>10} {:>8}", "statement", "bytes", "µs/parse", "MB/s");
    for (name, text) in STATEMENTS {
        let mut parses = 0_u32;
        let start = now();
        while start.elapsed() < MEASURED {
            for _ in 0..1000 {
                black_box(cql::parse(black_box(text)).expect("the statement is well-formed"));
            }
            parses += 1000;
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(parses);
        let length = u32::try_from(text.len()).expect("the statement is short");
        println!("{name:<18} {length:>6} {micros:>10.2} {:>8.0}", f64::from(length) / micros);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
