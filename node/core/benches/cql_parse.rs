//! What it costs to read a statement, to plan it, and to drop what came of both. Prepared statements are read and planned
//! once; this is for the others.
//!
//! ```text
//! cargo bench -p helenus-core --bench cql_parse                          all statements
//! cargo bench -p helenus-core --bench cql_parse -- delete                those with this in their names
//! cargo bench -p helenus-core --bench cql_parse -- 'delete row' plan 100 one part, so often, without a clock
//! ```
//!
//! The last form is for callgrind and dhat: what 1100 rounds cost more than 100, divided by 1000, is what one costs, in
//! instructions and in allocations, and no other process on the machine is in it.
//!
//! Budget: reading and planning takes at most 5 µs, of any statement that reads or writes rows. What defines tables has no
//! plan of that kind, and is rare; it is read here for comparison.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use helenus_core::cql::plan::{Catalog, Table, plan};
use helenus_core::cql::{self, Parsed, ast, define};
use helenus_core::{TableDef, TableId, TimestampMicros};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Where names without a keyspace belong.
const KEYSPACE: &str = "shop";

const TABLES: [&str; 4] = [
    "CREATE TABLE system.local (key text PRIMARY KEY, bootstrapped text, broadcast_address inet, broadcast_port int, \
     cluster_name text, cql_version text, data_center text, gossip_generation int, host_id uuid, listen_address inet, \
     listen_port int, native_protocol_version text, partitioner text, rack text, release_version text, \
     rpc_address inet, rpc_port int, schema_version uuid, tokens set<text>)",
    "CREATE TABLE metrics.readings (sensor text, day date, at timestamp, value double, unit text, \
     PRIMARY KEY ((sensor, day), at))",
    "CREATE TABLE shop.standard1 (key blob PRIMARY KEY, \"C0\" blob, \"C1\" blob, \"C2\" blob, \"C3\" blob, \"C4\" blob)",
    "CREATE TABLE shop.orders (id uuid PRIMARY KEY, customer text, at timestamp, total decimal, paid boolean, \
     version int, counts map<text, int>, tags set<text>, stops list<text>)",
];

const STATEMENTS: [(&str, &str); 11] = [
    ("select by key", "SELECT * FROM system.local WHERE key='local'"),
    ("select columns", "SELECT customer, total, paid FROM orders WHERE id = ?"),
    (
        "select slice",
        "SELECT sensor, at, value, writetime(value) FROM metrics.readings \
         WHERE sensor = ? AND day IN (?, ?, ?) AND at >= ? AND at < '2024-05-01T00:00:00Z' \
         ORDER BY at DESC PER PARTITION LIMIT 10 LIMIT 100",
    ),
    (
        "select in",
        "SELECT \"C0\" FROM standard1 WHERE key IN (0xcafe01, 0xcafe02, 0xcafe03, 0xcafe04, 0xcafe05)",
    ),
    (
        "insert markers",
        "INSERT INTO standard1 (key, \"C0\", \"C1\", \"C2\", \"C3\", \"C4\") VALUES (?, ?, ?, ?, ?, ?)",
    ),
    (
        "insert constants",
        "INSERT INTO shop.orders (id, customer, at, total, paid) VALUES \
         (123e4567-e89b-12d3-a456-426614174000, 'o''neill', 1700000000000, 12.50, true) \
         USING TIMESTAMP 1700000000000000 AND TTL 86400",
    ),
    (
        "insert collection",
        "INSERT INTO orders (id, tags, counts) VALUES \
         (123e4567-e89b-12d3-a456-426614174000, {'new', 'post'}, {'a': 1, 'b': 2})",
    ),
    (
        "update",
        "UPDATE orders SET customer = ?, counts['a'] = 1, tags = tags + ? WHERE id = ? IF version = 3",
    ),
    (
        "delete row",
        "DELETE FROM metrics.readings WHERE sensor = 's1' AND day = '2024-05-01' AND at = ?",
    ),
    (
        "batch of three",
        "BEGIN BATCH INSERT INTO orders (id, customer) VALUES (?, 'paris'); \
         UPDATE orders SET paid = true WHERE id = ?; DELETE total FROM orders WHERE id = ?; APPLY BATCH",
    ),
    (
        "create table",
        "CREATE TABLE IF NOT EXISTS metrics.readings (sensor text, day date, at timestamp, value double, \
         tags map<text, frozen<set<text>>>, PRIMARY KEY ((sensor, day), at)) WITH CLUSTERING ORDER BY (at DESC) \
         AND compaction = {'class': 'TimeWindowCompactionStrategy'} AND gc_grace_seconds = 3600",
    ),
];

/// How long one round of one part of one statement takes, and how many there are.
const ROUND: Duration = Duration::from_millis(30);
const ROUNDS: usize = 9;
/// Runs between two looks at the clock.
const RUNS: u32 = 1000;

/// The tables, as a node keeps them.
struct Tables(BTreeMap<String, BTreeMap<String, Arc<Table>>>);

impl Catalog for Tables {
    fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>> {
        self.0.get(keyspace)?.get(name).cloned()
    }

    fn has_keyspace(&self, keyspace: &str) -> bool {
        self.0.contains_key(keyspace)
    }
}

impl Tables {
    fn new() -> Tables {
        let mut tables = Tables(BTreeMap::new());
        for (id, text) in (0..).map(TableId).zip(TABLES) {
            let Ok(Parsed { statement: ast::Statement::CreateTable(create), .. }) =
                cql::parse(text)
            else {
                panic!("it creates a table: {text}");
            };
            let parts = define::table(&create, define::UserTypes::NONE).expect("the table can be");
            let keyspace = create.table.keyspace.expect("it is said").into_string();
            let name = create.table.name.into_string();
            let def = TableDef {
                id,
                keyspace: keyspace.clone(),
                name: name.clone(),
                columns: parts.columns,
                options: parts.options,
                altered: TimestampMicros(0),
                dropped: false,
            };
            tables.0.entry(keyspace).or_default().insert(name, Arc::new(Table::new(def)));
        }
        tables
    }

    fn plan(&self, parsed: &Parsed) {
        let planned = plan(&parsed.statement, &parsed.markers, Some(KEYSPACE), self);
        black_box(planned.expect("the statement has a meaning"));
    }
}

fn read(text: &str) -> Parsed {
    cql::parse(black_box(text)).expect("the statement is well-formed")
}

/// What is measured of a statement.
#[derive(Clone, Copy)]
enum Part {
    Parse,
    Plan,
    Both,
}

impl Part {
    fn named(name: &str) -> Part {
        match name {
            "parse" => Part::Parse,
            "plan" => Part::Plan,
            "both" => Part::Both,
            other => panic!("`{other}` is none of parse, plan, both"),
        }
    }

    fn run(self, text: &str, parsed: &Parsed, tables: &Tables) {
        match self {
            Part::Parse => drop(black_box(read(text))),
            Part::Plan => tables.plan(black_box(parsed)),
            Part::Both => tables.plan(&black_box(read(text))),
        }
    }

    /// Nanoseconds: the least round's, and that in the middle.
    fn measure(self, text: &str, tables: &Tables) -> (f64, f64) {
        let parsed = read(text);
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let (mut runs, start) = (0_u32, now());
                while start.elapsed() < ROUND {
                    for _ in 0..RUNS {
                        self.run(text, &parsed, tables);
                    }
                    runs += RUNS;
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let of = |place: usize| rounds.get(place).copied().expect("there are so many rounds");
        (of(0), of(ROUNDS / 2))
    }
}

fn main() {
    let tables = Tables::new();
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let wanted = args.first().map_or("", String::as_str);
    let statements = STATEMENTS.into_iter().filter(|(name, _)| name.contains(wanted));
    if let [_, part, rounds] = args.as_slice() {
        let rounds: u32 = rounds.parse().expect("a number of rounds");
        for (_, text) in statements {
            let parsed = read(text);
            (0..rounds).for_each(|_| Part::named(part).run(text, &parsed, &tables));
        }
        return;
    }
    println!(
        "{:<17} {:>5} {:>15} {:>15} {:>15}",
        "ns: least, median", "bytes", "parse", "plan", "both"
    );
    for (name, text) in statements {
        let cell = |part: Part| {
            let (least, median) = part.measure(text, &tables);
            format!("{least:.0} {median:>7.0}")
        };
        let planned = !matches!(read(text).statement, ast::Statement::CreateTable(_));
        let (plan, both) =
            if planned { (cell(Part::Plan), cell(Part::Both)) } else { Default::default() };
        println!("{name:<17} {:>5} {:>15} {plan:>15} {both:>15}", text.len(), cell(Part::Parse));
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
