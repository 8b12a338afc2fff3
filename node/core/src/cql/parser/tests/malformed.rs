//! Texts that are no statements: what is said of them, to the letter.

use super::error;

#[test]
fn malformed_statements_say_what_is_wrong() {
    for (text, message) in MALFORMED {
        assert_eq!(error(text), *message, "{text}");
    }
}

/// Texts that are no statements, and what is said of them.
const MALFORMED: &[(&str, &str)] = &[
    ("SELECT", "line 1:6 found the end of the statement, expected a column, a function or a value"),
    (
        "SELECT FROM t",
        "line 1:7 found `FROM`, which is a reserved word, expected a column, a function or a value: as a name write \"FROM\"",
    ),
    ("SELECT * t", "line 1:9 found `t`, expected `,`, AS, an operator or FROM"),
    (
        "SELECT a, FROM t",
        "line 1:10 found `FROM`, which is a reserved word, expected a column, a function or a value: as a name write \"FROM\"",
    ),
    ("SELECT () FROM t", "line 1:8 found `)`, expected a column, a function or a value"),
    (
        "SELECT s[] FROM t",
        "line 1:9 found `]`, expected a term (a constant, a bind marker, a collection or a function call)",
    ),
    (
        "SELECT * FROM a.b.c",
        "line 1:17 found `.`, expected the end of the statement (one statement is read at a time)",
    ),
    (
        "SELECT * FROM t LIMIT 'a'",
        "line 1:22 found `'a'`, expected a whole number or a bind marker",
    ),
    (
        "SELECT * FROM t LIMIT 1.5",
        "line 1:22 found `1.5`, expected a whole number or a bind marker",
    ),
    ("SELECT * FROM t ORDER a", "line 1:22 found `a`, expected BY"),
    (
        "SELECT * FROM t WHERE a IN 1",
        "line 1:27 found `1`, expected `(` and values, or a bind marker for all of them",
    ),
    ("SELECT * FROM t WHERE a IS NULL", "line 1:27 found `NULL`, expected NOT"),
    ("SELECT * FROM t WHERE token(a) IN (1)", "line 1:31 found `IN`, expected =, <, <=, > or >="),
    ("SELECT * FROM t WHERE a = ()", "line 1:27 found `)`, expected a term: a tuple is not empty"),
    (
        "SELECT * FROM t WHERE a = (int)",
        "line 1:31 found the end of the statement, expected a term (a constant, a bind marker, a collection or a function call)",
    ),
    ("SELECT * FROM t WHERE a = {1: 2, 3}", "line 1:34 found `}`, expected `:`"),
    ("SELECT * FROM t WHERE a = {1, 2: 3}", "line 1:31 found `:`, expected `,`, `:` or `}`"),
    ("SELECT * FROM t WHERE a = {f: 1, 2: 3}", "line 1:33 found `2`, expected the name of a field"),
    (
        "SELECT * FROM t WHERE a = [1",
        "line 1:28 found the end of the statement, expected `,` or `]`",
    ),
    ("SELECT * FROM t WHERE a = :1", "line 1:27 found `1`, expected the name of a bind marker"),
    (
        "SELECT cast(a AS list<int>) FROM t",
        "line 1:17 found `list`, expected a type that is neither a collection nor a user's",
    ),
    ("INSERT t", "line 1:7 found `t`, expected INTO"),
    ("INSERT INTO t (a) VALUE (1)", "line 1:18 found `VALUE`, expected VALUES"),
    ("INSERT INTO t JSON {}", "line 1:19 found `{`, expected a string of JSON or a bind marker"),
    ("INSERT INTO t JSON ? DEFAULT 1", "line 1:29 found `1`, expected NULL or UNSET"),
    ("INSERT INTO t (a) VALUES (1) USING TTL 1 AND TTL 2", "line 1:45 TTL is said twice"),
    ("INSERT INTO t (a) VALUES (1) USING x", "line 1:35 found `x`, expected TIMESTAMP or TTL"),
    ("UPDATE t SET a WHERE k = 1", "line 1:15 found `WHERE`, expected `=`, `+=`, `-=`, `[` or `.`"),
    ("UPDATE t SET a = 1", "line 1:18 found the end of the statement, expected `,` or WHERE"),
    ("DELETE a b FROM t", "line 1:9 found `b`, expected `,`, `[`, `.` or FROM"),
    ("DELETE FROM t", "line 1:13 found the end of the statement, expected WHERE"),
    (
        "BEGIN BATCH INSERT INTO t (a) VALUES (1)",
        "line 1:40 found the end of the statement, expected INSERT, UPDATE, DELETE or APPLY BATCH",
    ),
    ("CREATE x", "line 1:7 found `x`, expected KEYSPACE, TABLE or TYPE"),
    ("CREATE KEYSPACE ks", "line 1:18 found the end of the statement, expected WITH"),
    (
        "CREATE KEYSPACE ks WITH a = ?",
        "line 1:28 found `?`, expected a constant, a map of constants, or a word",
    ),
    (
        "CREATE KEYSPACE ks WITH a = null",
        "line 1:28 found `null`, expected a constant, a map of constants, or a word",
    ),
    (
        "CREATE KEYSPACE ks WITH a = {'b': :c}",
        "line 1:34 found `:`, expected a value, which is a constant",
    ),
    (
        "CREATE KEYSPACE ks WITH a = {'b': 1, 'b': 2}",
        "line 1:37 the key 'b' stands twice in the map",
    ),
    ("CREATE KEYSPACE ks WITH a = 1 AND A = 2", "line 1:34 the property a is set twice"),
    (
        "CREATE TABLE t (PRIMARY KEY ())",
        "line 1:29 found `)`, expected a column, or columns in parentheses",
    ),
    ("CREATE TABLE t (a int static primary)", "line 1:36 found `)`, expected KEY"),
    (
        "CREATE TABLE t (a int PRIMARY KEY) WITH CLUSTERING ORDER BY (b)",
        "line 1:62 found `)`, expected ASC or DESC",
    ),
    (
        "CREATE TABLE t (a interval PRIMARY KEY)",
        "line 1:18 `interval` is kept for types of later versions of CQL",
    ),
    (
        "CREATE TABLE t (a ks.int PRIMARY KEY)",
        "line 1:21 `int` is a type of CQL, not one of a keyspace",
    ),
    (
        "CREATE TABLE t (a array<int> PRIMARY KEY)",
        "line 1:18 `array` has no parameters: only list, set, map, tuple and frozen have",
    ),
    ("CREATE TABLE t (a map<int> PRIMARY KEY)", "line 1:25 found `>`, expected `,`"),
    ("CREATE TYPE t ()", "line 1:15 found `)`, expected the name of a field"),
    (
        "ALTER TABLE t",
        "line 1:13 found the end of the statement, expected ADD, DROP, RENAME, ALTER or WITH",
    ),
    ("ALTER TABLE t ADD (a int", "line 1:24 found the end of the statement, expected `,` or `)`"),
    ("ALTER TYPE t DROP a", "line 1:13 found `DROP`, expected ADD, RENAME or ALTER"),
    (
        "DESCRIBE",
        "line 1:8 found the end of the statement, expected what to describe (CLUSTER, KEYSPACES, TABLES, TABLE and a name, …)",
    ),
    ("DESCRIBE TABLE t WITH x", "line 1:22 found `x`, expected INTERNALS"),
    (
        "INSRT INTO t",
        "line 1:0 no statement begins with `INSRT` (did you mean INSERT?); statements are: SELECT INSERT UPDATE DELETE BEGIN BATCH USE TRUNCATE CREATE ALTER DROP DESCRIBE",
    ),
];
