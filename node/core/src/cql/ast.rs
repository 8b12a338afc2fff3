//! The syntax tree: a statement as it was written, before any name is looked up and any value has a type.
//!
//! Names are folded as CQL folds them (lower case unless quoted). Constants keep their digits. Bind markers are numbers, in
//! the order in which they stand in the text: the values of a request come in that order.
//!
//! Invariant: from a parser, no tree is deeper than [`Limits::depth`](super::Limits::depth) and a few levels, so that
//! functions that walk it may call themselves.

mod ddl;
mod describe;
mod display;
mod modify;
mod names;
mod select;
mod term;

pub use ddl::{
    AlterKeyspace, AlterTable, AlterType, ColumnDef, CreateKeyspace, CreateTable, CreateType,
    DropKeyspace, DropTable, DropType, FieldDef, PrimaryKey, Property, PropertyValue, TableChange,
    TypeChange,
};
pub use describe::{Describe, Described};
pub(crate) use display::name_of_a_type;
pub use modify::{
    Assignment, Batch, BatchKind, Condition, ConditionTest, Delete, Deletion, If, Insert,
    InsertValues, Modification, Place, Update, Using,
};
pub use names::{Ident, QualifiedName, is_reserved};
pub use select::{
    InValues, Operator, Order, Ordering, Relation, Select, Selectable, Selector, Selectors,
    StoredFact,
};
pub use term::{ArithmeticOp, IntValue, Marker, NATIVE_TYPES, Term, TypeName};

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT`.
    Select(Box<Select>),
    /// `INSERT`, `UPDATE` or `DELETE`.
    Modify(Modification),
    /// `BEGIN BATCH … APPLY BATCH`.
    Batch(Batch),
    /// `USE keyspace`.
    Use(Ident),
    /// `TRUNCATE table`.
    Truncate(QualifiedName),
    /// `CREATE KEYSPACE`.
    CreateKeyspace(CreateKeyspace),
    /// `ALTER KEYSPACE`.
    AlterKeyspace(AlterKeyspace),
    /// `DROP KEYSPACE`.
    DropKeyspace(DropKeyspace),
    /// `CREATE TABLE`.
    CreateTable(Box<CreateTable>),
    /// `ALTER TABLE`.
    AlterTable(AlterTable),
    /// `DROP TABLE`.
    DropTable(DropTable),
    /// `CREATE TYPE`.
    CreateType(CreateType),
    /// `ALTER TYPE`.
    AlterType(AlterType),
    /// `DROP TYPE`.
    DropType(DropType),
    /// `DESCRIBE`.
    Describe(Describe),
    /// A statement of Cassandra's that is known and not served. What follows its first words was not looked at.
    Unsupported {
        /// `CREATE`, `ALTER`, `DROP`, `LIST`, `GRANT`, `REVOKE` or `ADD`.
        verb: &'static str,
        /// What it is about.
        what: Unsupported,
    },
}

/// What Cassandra has and Helenus has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// Secondary indexes, custom ones too.
    Index,
    /// Materialised views.
    MaterializedView,
    /// User-defined functions.
    Function,
    /// User-defined aggregates.
    Aggregate,
    /// Triggers.
    Trigger,
    /// Roles.
    Role,
    /// Users.
    User,
    /// Permissions.
    Permission,
    /// Identities of roles.
    Identity,
}
