//! Terms, what stands where a value is wanted; and the names of types.

use super::{Ident, QualifiedName};
use crate::cql::Constant;

/// A bind marker. Its number is its place in [`Parsed::markers`](crate::cql::Parsed::markers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The name of `:name`; `?` has none. The same name may stand twice: then there are two markers of it.
    pub name: Option<Ident>,
}

/// What stands where a value is wanted. Nearly always it is a constant or a marker, so the others are kept small.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// `1`, `'text'`, `null`, …
    Constant(Constant),
    /// `?` or `:name`: the number of the marker.
    Marker(usize),
    /// `[a, b]`.
    List(Vec<Term>),
    /// `{a, b}`. Also `{}`, which may be an empty map.
    Set(Vec<Term>),
    /// `{k: v}`, not empty.
    Map(Vec<(Term, Term)>),
    /// `{field: value}`, not empty: a value of a user-defined type.
    User(Vec<(Ident, Term)>),
    /// `(a, b)`, not empty. `(a)` is a tuple of one, or a term in parentheses.
    Tuple(Vec<Term>),
    /// `f(a, b)`, `ks.f()`.
    Function {
        /// Its name.
        name: Box<QualifiedName>,
        /// Its arguments.
        args: Box<[Term]>,
    },
    /// `(type) term`: the term is said to have this type.
    TypeHint {
        /// The type.
        of: Box<TypeName>,
        /// The term.
        term: Box<Term>,
    },
    /// `CAST(term AS type)`: the value is made one of another type.
    Cast {
        /// The term.
        term: Box<Term>,
        /// The type.
        to: Box<TypeName>,
    },
    /// `-term`; a negative number is a constant.
    Negative(Box<Term>),
    /// `a + b`.
    Arithmetic {
        /// Which.
        op: ArithmeticOp,
        /// What stands before it.
        left: Box<Term>,
        /// What stands behind it.
        right: Box<Term>,
    },
}

const _: () = assert!(size_of::<Term>() == size_of::<Constant>());

/// What two numbers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArithmeticOp {
    /// `+`.
    Add,
    /// `-`.
    Subtract,
    /// `*`.
    Multiply,
    /// `/`.
    Divide,
    /// `%`.
    Remainder,
}

/// A whole number, or a marker for one: of `LIMIT`, `TTL`, `TIMESTAMP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntValue {
    /// Written out.
    Integer(i64),
    /// The number of the marker.
    Marker(usize),
}

/// The types that have a word of their own.
pub const NATIVE_TYPES: [&str; 21] = [
    "ascii",
    "bigint",
    "blob",
    "boolean",
    "counter",
    "date",
    "decimal",
    "double",
    "duration",
    "float",
    "inet",
    "int",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timeuuid",
    "tinyint",
    "uuid",
    "varchar",
    "varint",
];

/// A type as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeName {
    /// One of [`NATIVE_TYPES`].
    Native(&'static str),
    /// `list<of>`.
    List(Box<TypeName>),
    /// `set<of>`.
    Set(Box<TypeName>),
    /// `map<key, value>`.
    Map(Box<TypeName>, Box<TypeName>),
    /// `tuple<a, b>`, not empty.
    Tuple(Vec<TypeName>),
    /// `frozen<of>`.
    Frozen(Box<TypeName>),
    /// A user-defined type: `address`, `ks.address`.
    User {
        /// The keyspace, if it is said.
        keyspace: Option<Ident>,
        /// The type's name.
        name: Ident,
    },
    /// `'org.apache.cassandra.db.marshal.…'`: a class, whose name is in quotes.
    Custom(String),
}
