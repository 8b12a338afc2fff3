//! Statements cut up, and names and types of any shape: nothing panics, and what is displayed is read again.

use super::{WELL_FORMED, statement};
use crate::cql::ast::{Ident, QualifiedName, Selectable, Selectors, Statement, TypeName};
use crate::cql::parse;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Types of any shape, user-defined ones with any name.
fn type_name() -> impl Strategy<Value = TypeName> {
    let ident = || {
        prop_oneof![
            "[a-z][a-z0-9_]{0,6}",
            ".{1,6}",
            select(vec!["list".to_owned(), "int".to_owned(), "set".to_owned()])
        ]
    };
    let leaf = prop_oneof![
        select(crate::cql::ast::NATIVE_TYPES.to_vec()).prop_map(TypeName::Native),
        (proptest::option::of(ident()), ident()).prop_map(|(keyspace, name)| TypeName::User {
            keyspace: keyspace.map(Ident::quoted),
            name: Ident::quoted(name)
        }),
        ".{0,8}".prop_map(TypeName::Custom),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(TypeName::List),
            boxed.clone().prop_map(TypeName::Set),
            boxed.clone().prop_map(TypeName::Frozen),
            (boxed.clone(), boxed).prop_map(|(key, value)| TypeName::Map(key, value)),
            proptest::collection::vec(inner, 1..4).prop_map(TypeName::Tuple),
        ]
    })
}

/// Pieces that statements are made of, and some that they are not.
const PIECES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "AND",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "IF",
    "NOT",
    "EXISTS",
    "IN",
    "CONTAINS",
    "KEY",
    "TOKEN",
    "USING",
    "TTL",
    "TIMESTAMP",
    "BEGIN",
    "BATCH",
    "APPLY",
    "CREATE",
    "TABLE",
    "TYPE",
    "PRIMARY",
    "ALTER",
    "ADD",
    "DROP",
    "WITH",
    "DESCRIBE",
    "JSON",
    "DISTINCT",
    "CAST",
    "AS",
    "ORDER",
    "BY",
    "LIMIT",
    "count",
    "writetime",
    "list",
    "map",
    "frozen",
    "int",
    "a",
    "\"B\"",
    "t",
    "f(",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ",",
    ";",
    ":",
    ":x",
    "?",
    ".",
    "..",
    "=",
    "!=",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "+=",
    "-=",
    "1",
    "1.5",
    "-1",
    "'s'",
    "$$s$$",
    "0xca",
    "1h",
    "P1Y",
    "null",
    "true",
    "NaN",
    "123e4567-e89b-12d3-a456-426614174000",
    "'",
    "\"",
    "/*",
    "*/",
    "--",
    "\n",
    "é",
    "\0",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_soup_of_tokens_panics(pieces in proptest::collection::vec(select(PIECES), 0..80)) {
        let _ = parse(&pieces.join(" ")).map_err(|error| error.to_string());
        let _ = parse(&pieces.concat()).map_err(|error| error.to_string());
    }

    /// A statement that is cut, or whose pieces are doubled, swapped or replaced, is read or refused; an error points into it.
    #[test]
    fn no_mutation_of_a_statement_panics(
        text in select(WELL_FORMED),
        changes in proptest::collection::vec((any::<Index>(), any::<Index>(), 0..5_u8, select(PIECES)), 1..6),
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        for (one, two, kind, piece) in changes {
            if chars.is_empty() {
                break;
            }
            let (one, two) = (one.index(chars.len()), two.index(chars.len()));
            let (from, to) = (one.min(two), one.max(two));
            match kind {
                0 => drop(chars.drain(from..to)),
                1 => chars.splice(from..from, chars[from..to].to_vec()).for_each(drop),
                2 => chars.splice(from..=from, piece.chars()).for_each(drop),
                3 => chars.swap(from, to),
                _ => chars.truncate(to),
            }
        }
        let mutant: String = chars.into_iter().collect();
        if let Err(error) = parse(&mutant) {
            prop_assert!(error.to_string().starts_with("line "), "{}", error);
        }
    }

    #[test]
    fn a_displayed_type_is_read_again_as_the_same(of in type_name()) {
        let text = format!("CREATE TYPE t (f {of})");
        let Statement::CreateType(create) = statement(&text) else { panic!("{text}") };
        prop_assert_eq!(&create.fields[0].of, &of, "{}", text);
    }

    #[test]
    fn a_displayed_name_is_read_again_as_the_same(name in "[a-z\"A-Z_0-9]{1,3}|.{1,8}") {
        let name = Ident::quoted(name);
        let Statement::Select(read) = statement(&format!("SELECT {name} FROM {name}.{name}")) else {
            panic!("no SELECT")
        };
        prop_assert_eq!(&read.table, &QualifiedName { keyspace: Some(name.clone()), name: name.clone() });
        let Selectors::List(list) = read.selectors else { panic!("no selectors") };
        prop_assert_eq!(&list[0].of, &Selectable::Column(name));
    }
}
