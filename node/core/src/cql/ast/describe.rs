//! `DESCRIBE`, which `cqlsh` sends to the server as it was typed.

use super::{Ident, QualifiedName};

/// `DESCRIBE what [WITH INTERNALS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// What is asked for.
    pub what: Described,
    /// `WITH INTERNALS`: tables' ids and dropped columns too.
    pub with_internals: bool,
}

/// What `DESCRIBE` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// `CLUSTER`.
    Cluster,
    /// `SCHEMA`; `FULL SCHEMA` has the system's keyspaces too.
    Schema {
        /// Whether it is the full one.
        full: bool,
    },
    /// `KEYSPACES`: their names.
    Keyspaces,
    /// `KEYSPACE ks`; `ONLY KEYSPACE ks` leaves out what is in it.
    Keyspace {
        /// Which; without it the connection's own.
        keyspace: Option<Ident>,
        /// Whether what is in it is left out.
        only: bool,
    },
    /// `TABLES`: their names.
    Tables,
    /// `TABLE t`.
    Table(QualifiedName),
    /// `TYPES`: their names.
    Types,
    /// `TYPE t`.
    Type(QualifiedName),
    /// `FUNCTIONS`: their names.
    Functions,
    /// `FUNCTION f`.
    Function(QualifiedName),
    /// `AGGREGATES`: their names.
    Aggregates,
    /// `AGGREGATE a`.
    Aggregate(QualifiedName),
    /// `INDEX i`.
    Index(QualifiedName),
    /// `MATERIALIZED VIEW v`.
    MaterializedView(QualifiedName),
    /// A bare name: a keyspace, or else a table, an index or a view.
    Named(QualifiedName),
}
