mod malformed;
mod random;

use super::*;
use crate::cql::Constant;
use crate::cql::ast::{
    Described, If, InsertValues, Modification, Order, PropertyValue, Selectors, TableChange, Term,
    TypeChange,
};

/// Statements of every shape, among them what drivers and benchmarks send.
const WELL_FORMED: &[&str] = &[
    // What drivers ask of a server they connect to.
    "SELECT * FROM system.peers_v2",
    "SELECT * FROM system.local WHERE key='local'",
    "select cluster_name from system.local where key = 'local'",
    "SELECT schema_version FROM system.local WHERE key='local'",
    "SELECT cluster_name FROM system.local",
    "select host_id, rpc_address, data_center, rack, tokens from system.peers",
    "SELECT * FROM system_schema.keyspaces where keyspace_name in ?",
    "SELECT * FROM system_schema.tables WHERE keyspace_name = 'ks' AND table_name = 't'",
    "SELECT * FROM system.peers_v2 WHERE peer = :address and peer_port = :port",
    "select keyspace_name, table_name, column_name, kind, position, type from system_schema.columns",
    "SELECT durable_writes, replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
    "SELECT column_name, clustering_order, type, kind, position FROM system_schema.columns WHERE keyspace_name = ?",
    "SELECT * FROM system_virtual_schema.tables",
    "USE ks",
    "USE \"Keyspace1\";",
    "BEGIN BATCH APPLY BATCH",
    // What benchmarks send.
    "CREATE KEYSPACE IF NOT EXISTS \"keyspace1\" WITH replication = {'class': \
     'org.apache.cassandra.locator.SimpleStrategy', 'replication_factor' : '3'} AND durable_writes = true;",
    "CREATE TABLE IF NOT EXISTS \"standard1\" (key blob PRIMARY KEY , \"C0\" blob) WITH COMPACT STORAGE AND compression = {};",
    "CREATE TABLE IF NOT EXISTS \"counter1\" (key blob,column1 text,\"C0\" counter static, PRIMARY KEY(key, column1))",
    "UPDATE \"standard1\" SET \"C0\" = ?,\"C1\" = ? WHERE KEY=?",
    "INSERT INTO standard1 (key, \"C0\") VALUES (?, 0xcafe)",
    "SELECT * FROM usertable WHERE token(y_id) >= token(?) LIMIT ?",
    "INSERT INTO usertable (y_id,field0) VALUES (?,?)",
    "UPDATE counter1 SET \"C0\"=\"C0\"+? WHERE key=?",
    "CREATE TABLE basic (id bigint PRIMARY KEY, data BLOB)",
    "INSERT INTO basic(id, data) VALUES (:id, :data)",
    "TRUNCATE TABLE ks.t",
    "TRUNCATE t",
    "truncate columnfamily t",
    // Rows that are many.
    "SELECT DISTINCT a, b FROM t PER PARTITION LIMIT 1",
    "SELECT a, max(b) AS most FROM t WHERE a IN (1, 2) GROUP BY a, floor(b, 1h) ORDER BY c ASC, d DESC LIMIT 3 ALLOW FILTERING",
    "SELECT a.b.c, m['k'].f[3], f(g(h())), (frozen<list<int>>) [1, 2], {'a': b}, {a: 1}, {}, [], {1, 2}, (a, b) FROM t",
    "SELECT -a, - - 3, a * -1, 5 / (2 + b) % 2, ks.f(:x), system.token(a), (text) null, (int) (a), 1h30m FROM t",
    "SELECT as as as FROM t WHERE as = 1",
    "SELECT json, distinct FROM json",
    "SELECT JSON (a) FROM t",
    "SELECT key FROM key WHERE key CONTAINS KEY 'key' AND in_ = 1",
    "SELECT * FROM t WHERE a = 1AND b=2",
    "SELECT * FROM t WHERE (((a = 1))) AND (a, b, c) <= (1, :b, ?) AND (d) IN ?",
    "SELECT * FROM t WHERE a = -1 AND b = - 1 AND c = 3 - -1 AND d = NaN AND e = -Infinity AND f = -2h AND g = -NaN",
    "SELECT * FROM t WHERE a = (list<int>) [1] AND b = cast(1 AS text) AND c = (1) AND d = [1, [2]] AND e = {f: 1, \"G\": {}}",
    "SELECT * FROM t WHERE a = $$it's$$ AND b = P1Y2M AND c = true -- and so on",
    "SELECT /* all */ * FROM t // of them",
    "SELECT * FROM t;;",
    // Modifications.
    "INSERT INTO t (a, b) VALUES (1, {k: 'v'}) IF NOT EXISTS USING TTL 3 AND TIMESTAMP -5",
    "INSERT INTO t JSON '{}' DEFAULT UNSET IF NOT EXISTS",
    "INSERT INTO t JSON ? DEFAULT NULL USING TTL ?",
    "INSERT INTO t JSON :json",
    "UPDATE t USING TTL ? SET a = 1, a[0] = 2, a.b = 3, c = [1] + c, d = d - {1}, e -= 1 WHERE k = 1 IF a = 1 AND b[2] != 3 AND c.d IN ?",
    "UPDATE t SET a = f(1) + a WHERE k = 1 IF exists IN (1)",
    "UPDATE t SET a = a - 1 + 2 WHERE k = 1",
    "DELETE a, b[1], c.d FROM ks.t USING TIMESTAMP ? WHERE k = 1 AND c >= 2 IF EXISTS",
    "DELETE FROM t WHERE k IN (1, 2) AND (c, d) < (3, 4) IF a > 1",
    "BEGIN UNLOGGED BATCH USING TIMESTAMP 3 INSERT INTO t (a) VALUES (1) UPDATE t SET a = 1 WHERE k = 1; DELETE FROM t WHERE k = 1 IF EXISTS; APPLY BATCH;",
    "BEGIN COUNTER BATCH UPDATE t SET c += 1 WHERE k = ? APPLY BATCH",
    "BEGIN LOGGED BATCH APPLY BATCH",
    // The schema.
    "CREATE SCHEMA ks WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
    "ALTER KEYSPACE IF EXISTS ks WITH durable_writes = false",
    "DROP KEYSPACE IF EXISTS ks",
    "CREATE COLUMNFAMILY t (a int, b frozen<map<text, tuple<int, ks.udt>>>, PRIMARY KEY (a),)",
    "CREATE TABLE t (a 'org.apache.cassandra.db.marshal.UTF8Type' PRIMARY KEY) WITH id = 123e4567-e89b-12d3-a456-426614174000",
    "CREATE TABLE t (key text, type int, PRIMARY KEY ((key, type))) WITH gc_grace_seconds = -1 AND compact = 1 AND clustering = 2",
    "ALTER TABLE t ADD a int",
    "ALTER TABLE IF EXISTS ks.t ADD IF NOT EXISTS (a int STATIC, b set<text>)",
    "ALTER TABLE t ADD a int, b int",
    "ALTER TABLE t DROP a",
    "ALTER TABLE t DROP IF EXISTS (a, b) USING TIMESTAMP 12",
    "ALTER TABLE t DROP COMPACT STORAGE",
    "ALTER TABLE t RENAME a TO b AND c TO d",
    "ALTER TABLE t ALTER a TYPE bigint",
    "ALTER TABLE t WITH comment = 'x' AND gc_grace_seconds = 1",
    "DROP TABLE IF EXISTS ks.t",
    "CREATE TYPE IF NOT EXISTS ks.address (street text, zip frozen<zip>, key int)",
    "ALTER TYPE address ADD city text",
    "ALTER TYPE IF EXISTS address RENAME IF EXISTS a TO b",
    "ALTER TYPE address ALTER a TYPE int",
    "DROP TYPE IF EXISTS ks.address",
    // Descriptions.
    "DESCRIBE CLUSTER",
    "DESC SCHEMA",
    "DESCRIBE FULL SCHEMA WITH INTERNALS",
    "DESCRIBE KEYSPACE",
    "DESCRIBE ONLY KEYSPACE ks",
    "DESCRIBE KEYSPACES; ",
    "DESC TABLES",
    "DESCRIBE TABLE ks.t WITH INTERNALS",
    "DESCRIBE TYPES",
    "DESCRIBE TYPE ks.address",
    "DESCRIBE FUNCTIONS",
    "DESCRIBE FUNCTION f",
    "DESCRIBE AGGREGATES",
    "DESCRIBE AGGREGATE ks.a",
    "DESCRIBE INDEX i",
    "DESCRIBE MATERIALIZED VIEW v",
    "DESCRIBE ks",
    "DESCRIBE types.type",
    "DESCRIBE type",
    // What is not served.
    "CREATE INDEX IF NOT EXISTS i ON t (keys(m))",
    "CREATE TRIGGER x ON t USING 'y'",
    "CREATE AGGREGATE a(int) SFUNC f STYPE int",
    "DROP MATERIALIZED VIEW v",
    "CREATE ROLE r WITH PASSWORD = 'x' AND LOGIN = true",
    "CREATE USER u",
    "LIST USERS",
    "REVOKE ALL ON ALL KEYSPACES FROM r;",
];

fn statement(text: &str) -> Statement {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}")).statement
}

fn error(text: &str) -> String {
    match parse(text) {
        Ok(parsed) => panic!("{text} is read as {parsed:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn well_formed_statements_are_read() {
    for text in WELL_FORMED {
        statement(text);
    }
}

#[test]
fn case_and_blanks_mean_nothing_outside_quotes() {
    let quotes_or_comments = ["\"", "'", "$", "//", "/*", "--"];
    let plain = |text: &&&str| !quotes_or_comments.iter().any(|begin| text.contains(begin));
    for text in WELL_FORMED.iter().filter(plain) {
        // Durations by ISO 8601 have capitals; everything else may have any.
        if !text.contains("P1Y") {
            assert_eq!(parse(text), parse(&text.to_lowercase()), "{text}");
        }
        let spread = text.replace(' ', " \n\t/* */ ");
        assert_eq!(parse(text), parse(&spread), "{text}");
    }
}

#[test]
fn constants_keep_what_was_written() {
    let constant = |text: &str| match statement(&format!("INSERT INTO t (a) VALUES ({text})")) {
        Statement::Modify(Modification::Insert(insert)) => match insert.values {
            InsertValues::Columns { values, .. } => match values.as_slice() {
                [Term::Constant(constant)] => constant.clone(),
                other => panic!("{text} is read as {other:?}"),
            },
            InsertValues::Json { .. } => panic!("{text} is JSON"),
        },
        other => panic!("{other:?}"),
    };
    let own = |text: &str| Written::from(text);
    let table = [
        ("null", Constant::Null),
        ("NULL", Constant::Null),
        ("'it''s'", Constant::String(own("it's"))),
        ("$$it''s$$", Constant::String(own("it''s"))),
        ("''", Constant::String(own(""))),
        ("-007", Constant::Integer(own("-007"))),
        ("99999999999999999999", Constant::Integer(own("99999999999999999999"))),
        ("-1.50e3", Constant::Float(own("-1.50e3"))),
        ("nan", Constant::Float(own("NaN"))),
        ("-NAN", Constant::Float(own("NaN"))),
        ("infinity", Constant::Float(own("Infinity"))),
        ("- Infinity", Constant::Float(own("-Infinity"))),
        ("TRUE", Constant::Boolean(true)),
        ("False", Constant::Boolean(false)),
        ("0x00FFc0", Constant::Blob(vec![0, 0xff, 0xc0])),
        ("0x", Constant::Blob(Vec::new())),
        ("-1y2mo", Constant::Duration(own("-1y2mo"))),
        ("P0001-02-03T04:05:06", Constant::Duration(own("P0001-02-03T04:05:06"))),
        (
            "123E4567-e89b-12d3-a456-426614174000",
            Constant::Uuid(0x123e4567_e89b_12d3_a456_426614174000),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(constant(text), expected, "{text}");
        // What is displayed is read again as the same.
        assert_eq!(constant(&expected.to_string()), expected, "{text}");
    }
}

#[test]
fn what_is_not_said_is_not_there() {
    let Statement::Select(select) = statement("SELECT * FROM t") else { panic!("no SELECT") };
    assert_eq!(select.selectors, Selectors::All);
    assert!(select.relations.is_empty() && select.order_by.is_empty() && select.limit.is_none());
    assert!(!select.distinct && !select.json && !select.allow_filtering);
    let Statement::Modify(Modification::Delete(delete)) = statement("DELETE FROM t WHERE a = 1")
    else {
        panic!("no DELETE")
    };
    assert_eq!((delete.deletions, delete.condition), (vec![], If::Always));
}

#[test]
fn the_schema_changes_as_it_is_told() {
    let change = |text: &str| match statement(text) {
        Statement::AlterTable(alter) => alter.change,
        other => panic!("{other:?}"),
    };
    let name = Ident::unquoted;
    assert_eq!(
        change("ALTER TABLE t DROP IF EXISTS (a, b) USING TIMESTAMP 12"),
        TableChange::Drop {
            if_exists: true,
            columns: vec![name("a"), name("b")],
            timestamp: Some(12)
        }
    );
    assert_eq!(
        change("ALTER TABLE t RENAME a TO b AND c TO d"),
        TableChange::Rename {
            if_exists: false,
            renames: vec![(name("a"), name("b")), (name("c"), name("d"))]
        }
    );
    // A column may be called so.
    assert_eq!(
        change("ALTER TABLE t DROP compact"),
        TableChange::Drop { if_exists: false, columns: vec![name("compact")], timestamp: None }
    );
    let TableChange::With(properties) = change("ALTER TABLE t WITH a = {1: 'b'} AND c = -1") else {
        panic!("no WITH")
    };
    let values: Vec<_> = properties.into_iter().map(|property| property.value).collect();
    let (one, b) = (Constant::Integer("1".into()), Constant::String("b".into()));
    let minus = PropertyValue::Constant(Constant::Integer("-1".into()));
    assert_eq!(values, [PropertyValue::Map(vec![(one, b)]), minus]);
    let Statement::AlterType(alter) = statement("ALTER TYPE ks.t ADD IF NOT EXISTS a int") else {
        panic!("no ALTER TYPE")
    };
    assert!(matches!(alter.change, TypeChange::Add { if_not_exists: true, .. }));
    let Statement::CreateTable(table) = statement(
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)) WITH CLUSTERING ORDER BY (b DESC)",
    ) else {
        panic!("no CREATE TABLE")
    };
    assert_eq!(table.clustering_order, [(name("b"), Order::Desc)]);
}

#[test]
fn names_of_what_is_described_are_told_from_its_kinds() {
    let described = |text: &str| match statement(text) {
        Statement::Describe(describe) => describe.what,
        other => panic!("{other:?}"),
    };
    let name = |name: &str| QualifiedName { keyspace: None, name: Ident::unquoted(name) };
    assert_eq!(described("DESCRIBE types"), Described::Types);
    assert_eq!(described("DESCRIBE columnfamilies"), Described::Tables);
    assert_eq!(described("DESC type type"), Described::Type(name("type")));
    assert_eq!(described("DESC type"), Described::Named(name("type")));
    assert_eq!(described("DESC only"), Described::Named(name("only")));
    assert_eq!(
        described("DESC tables.t"),
        Described::Named(QualifiedName { keyspace: Some(Ident::unquoted("tables")), ..name("t") })
    );
    assert_eq!(
        described("DESC KEYSPACE WITH INTERNALS"),
        Described::Keyspace { keyspace: None, only: false }
    );
}

/// Sorted, as the list of Cassandra 4.1 is; `true` and `false` are no keywords, and yet no names.
const RESERVED: &str = "add allow alter and apply asc authorize batch begin by columnfamily create delete desc describe \
    drop entries execute from full grant if in index infinity insert into is keyspace limit materialized modify nan \
    norecursive not null of on or order primary rename revoke schema select set table to token truncate unlogged \
    update use using view where with true false";

#[test]
fn reserved_words_are_names_only_in_quotes() {
    for word in RESERVED.split_whitespace() {
        assert!(parse(&format!("USE {word}")).is_err(), "{word}");
        assert!(parse(&format!("USE {}", word.to_uppercase())).is_err(), "{word}");
        let name = Ident::unquoted(word);
        assert_eq!(name.to_string(), format!("\"{word}\""));
        assert_eq!(statement(&format!("USE {name}")), Statement::Use(name));
    }
    let others = "aggregate all as ascii bigint blob boolean called cast clustering compact contains count counter custom \
        date decimal default distinct double duration exists filtering finalfunc float frozen function functions group \
        inet initcond input int internals json key keys keyspaces language like list login map maxwritetime mbean mbeans \
        nologin nosuperuser only options partition password per permission permissions replace returns role roles \
        sfunc smallint static storage stype superuser tables text time timestamp timeuuid tinyint trigger ttl tuple \
        type types unset user users uuid values varchar varint writetime";
    for word in others.split_whitespace() {
        let name = Ident::unquoted(word);
        assert_eq!(name.to_string(), word);
        assert_eq!(statement(&format!("USE {word}")), Statement::Use(name));
        // And as a column, wherever one may stand.
        statement(&format!(
            "SELECT {word}, a AS {word} FROM {word}.{word} WHERE {word} = :{word} AND ({word}, b) > (1, 2) ORDER BY {word}"
        ));
        statement(&format!(
            "UPDATE t SET {word} = {word} + 1, {word} = [1] + {word} WHERE k = 1 IF {word} = 2"
        ));
        statement(&format!("CREATE TABLE {word} ({word} int PRIMARY KEY) WITH {word} = {word}"));
    }
}

#[test]
fn nesting_is_bounded_and_so_are_chains() {
    let nested = |open: &str, levels: usize, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    let many = 100_000;
    let too_deep = [
        format!("SELECT * FROM t WHERE a = {}", nested("[", many, "1", "]")),
        format!("SELECT * FROM t WHERE a = {}", nested("(", many, "1", ")")),
        format!("SELECT * FROM t WHERE a = {}", nested("{", many, "1", "}")),
        format!("SELECT * FROM t WHERE a = {}", nested("f(", many, "1", ")")),
        format!("SELECT * FROM t WHERE a = {}", nested("(int) ", many, "1", "")),
        format!("SELECT * FROM t WHERE a = {}", nested("cast(", many, "1", " AS int)")),
        format!("SELECT * FROM t WHERE a = {}", nested("- ", many, "f()", "")),
        format!("SELECT * FROM t WHERE a = {}", nested("1 + ", many, "1", "")),
        format!("SELECT * FROM t WHERE a = {}", nested("1 * ", many, "1", "")),
        format!("SELECT * FROM t WHERE {}", nested("(", many, "a = 1", ")")),
        format!("SELECT {} FROM t", nested("[", many, "1", "]")),
        format!("SELECT {} FROM t", nested("(", many, "a", ")")),
        format!("SELECT {} FROM t", nested("(int) ", many, "a", "")),
        format!("SELECT {} FROM t", nested("f(", many, "a", ")")),
        format!("SELECT {} FROM t", nested("- ", many, "a", "")),
        format!("SELECT {} FROM t", nested("a + ", many, "a", "")),
        format!("SELECT a{} FROM t", nested(".a", many, "", "")),
        format!("SELECT a{} FROM t", nested("[1]", many, "", "")),
        format!("CREATE TABLE t (a {})", nested("list<", many, "int", ">")),
        // Operators of an expression within another's count as well: otherwise the tree would be as deep as their product.
        format!("SELECT {} FROM t", nested("(1 + ", 40, "1", ")")),
    ];
    for text in too_deep {
        let told = error(&text);
        assert!(told.contains("nested too deeply"), "{told}");
    }
    for (open, inner, close) in [("[", "1", "]"), ("f(", "1", ")"), ("1 + ", "1", "")] {
        let within = nested(open, 60, inner, close);
        statement(&format!("SELECT {within} FROM t WHERE a = {within}"));
    }
    // A list is as long as it likes, and so is a WHERE.
    statement(&format!("SELECT {} a FROM t", "a + 1, ".repeat(1000)));
    statement(&format!("DELETE FROM t WHERE a = 1 {}", "AND a = -1 + 2 ".repeat(1000)));
}

#[test]
fn a_text_is_read_only_within_its_limits() {
    let text = "SELECT a, b FROM t WHERE c = f(1)";
    let limits = Limits { statement_bytes: text.len(), tokens: 13, depth: 2 };
    assert!(parse_within(text, limits).is_ok());
    let told = |limits| parse_within(text, limits).unwrap_err();
    let shorter = Limits { statement_bytes: text.len() - 1, ..limits };
    assert_eq!(
        told(shorter),
        SyntaxError::TooLong { bytes: text.len(), bytes_max: text.len() - 1 }
    );
    assert!(matches!(
        told(Limits { tokens: 12, ..limits }),
        SyntaxError::TooManyTokens { tokens_max: 12, .. }
    ));
    assert!(matches!(
        told(Limits { depth: 1, ..limits }),
        SyntaxError::TooDeep { depth_max: 1, .. }
    ));
    let markers =
        |count: usize| format!("SELECT * FROM t WHERE a IN ({}?)", "?,".repeat(count - 1));
    assert_eq!(parse(&markers(MARKERS_MAX)).unwrap().markers.len(), MARKERS_MAX);
    assert!(matches!(parse(&markers(MARKERS_MAX + 1)), Err(SyntaxError::TooManyMarkers { .. })));
}
