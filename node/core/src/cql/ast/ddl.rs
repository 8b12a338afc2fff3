//! Statements that change the schema.

use super::{Ident, Order, QualifiedName, TypeName};
use crate::cql::Constant;

/// `name = value` of a `WITH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: Ident,
    /// Its value.
    pub value: PropertyValue,
}

/// What a property is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// `0.1`, `'text'`, `true`; never null.
    Constant(Constant),
    /// A bare word.
    Word(Ident),
    /// `{'class': 'SimpleStrategy', 'replication_factor': 3}`, in the order written; a key stands once.
    Map(Vec<(Constant, Constant)>),
}

/// `CREATE KEYSPACE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateKeyspace {
    /// Its name.
    pub keyspace: Ident,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `WITH …`; a name stands once.
    pub properties: Vec<Property>,
}

/// `ALTER KEYSPACE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterKeyspace {
    /// Its name.
    pub keyspace: Ident,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// `WITH …`; a name stands once.
    pub properties: Vec<Property>,
}

/// `DROP KEYSPACE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropKeyspace {
    /// Its name.
    pub keyspace: Ident,
    /// `IF EXISTS`.
    pub if_exists: bool,
}

/// `CREATE TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// Its name.
    pub table: QualifiedName,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Its columns in the order written.
    pub columns: Vec<ColumnDef>,
    /// Its primary key.
    pub primary_key: PrimaryKey,
    /// `CLUSTERING ORDER BY (…)`.
    pub clustering_order: Vec<(Ident, Order)>,
    /// `COMPACT STORAGE`.
    pub compact_storage: bool,
    /// What else stands behind `WITH`; a name stands once.
    pub properties: Vec<Property>,
}

/// A column and its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub of: TypeName,
    /// `STATIC`.
    pub is_static: bool,
}

/// `PRIMARY KEY ((a, b), c, d)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// The columns that choose the partition, at least one.
    pub partition: Vec<Ident>,
    /// The columns that order its rows.
    pub clustering: Vec<Ident>,
}

/// `ALTER TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable {
    /// The table.
    pub table: QualifiedName,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// What changes.
    pub change: TableChange,
}

/// What changes of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// `ADD c type`, `ADD (c type, d type)`.
    Add {
        /// `IF NOT EXISTS`: columns that are there are passed over.
        if_not_exists: bool,
        /// At least one.
        columns: Vec<ColumnDef>,
    },
    /// `DROP c`, `DROP (c, d)`.
    Drop {
        /// `IF EXISTS`: columns that are not there are passed over.
        if_exists: bool,
        /// At least one.
        columns: Vec<Ident>,
        /// `USING TIMESTAMP …`: what was written later stays.
        timestamp: Option<i64>,
    },
    /// `RENAME a TO b AND c TO d`.
    Rename {
        /// `IF EXISTS`: columns that are not there are passed over.
        if_exists: bool,
        /// From and to, at least one.
        renames: Vec<(Ident, Ident)>,
    },
    /// `ALTER c TYPE type`, which Cassandra no longer does.
    AlterType {
        /// The column.
        column: Ident,
        /// The type it should get.
        to: TypeName,
    },
    /// `DROP COMPACT STORAGE`.
    DropCompactStorage,
    /// `WITH …`; a name stands once.
    With(Vec<Property>),
}

/// `DROP TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropTable {
    /// The table.
    pub table: QualifiedName,
    /// `IF EXISTS`.
    pub if_exists: bool,
}

/// A field of a user-defined type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDef {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub of: TypeName,
}

/// `CREATE TYPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateType {
    /// Its name.
    pub name: QualifiedName,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Its fields in order, at least one.
    pub fields: Vec<FieldDef>,
}

/// `ALTER TYPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterType {
    /// The type.
    pub name: QualifiedName,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// What changes.
    pub change: TypeChange,
}

/// What changes of a user-defined type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeChange {
    /// `ADD field type`.
    Add {
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// The field.
        field: FieldDef,
    },
    /// `RENAME a TO b AND c TO d`.
    Rename {
        /// `IF EXISTS`: fields that are not there are passed over.
        if_exists: bool,
        /// From and to, at least one.
        renames: Vec<(Ident, Ident)>,
    },
    /// `ALTER field TYPE type`, which Cassandra no longer does.
    AlterType {
        /// The field.
        field: Ident,
        /// The type it should get.
        to: TypeName,
    },
}

/// `DROP TYPE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropType {
    /// The type.
    pub name: QualifiedName,
    /// `IF EXISTS`.
    pub if_exists: bool,
}
