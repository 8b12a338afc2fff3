//! Why a statement defines nothing.

use crate::cql::TypeError;
use crate::cql::ast::Ident;
use crate::schema::{ColumnsError, FieldsError, OptionError};
use thiserror::Error;

/// Why a statement defines nothing. [`DefineError::is_config`] says under which code a client hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DefineError {
    /// Of a column.
    #[error("column {column}: {why}")]
    Column {
        /// Which.
        column: Ident,
        /// What is wrong with it.
        #[source]
        why: Box<DefineError>,
    },
    /// No such type, or one that cannot hold what it should hold.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A type of another keyspace.
    #[error(
        "type {keyspace}.{name} cannot be used in keyspace {own}: user-defined types are for the keyspace that they are \
         defined in"
    )]
    OtherKeyspace {
        /// The type.
        name: Ident,
        /// Its keyspace.
        keyspace: Ident,
        /// That of the definition.
        own: String,
    },
    /// A field of a type.
    #[error("field {field}: {why}")]
    Field {
        /// Which.
        field: Ident,
        /// What is wrong with it.
        #[source]
        why: Box<DefineError>,
    },
    /// Fields that make no type.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// A field that should be added.
    #[error("Cannot add field {field} to type {ty}: a field with name {field} already exists")]
    FieldExists {
        /// Which.
        field: Ident,
        /// Where.
        ty: String,
    },
    /// A field that should be renamed.
    #[error("Unknown field {field} in user type {ty}")]
    FieldMissing {
        /// Which.
        field: Ident,
        /// Where.
        ty: String,
    },
    /// A field that should get another type.
    #[error(
        "field {field} keeps its type: altering field types is not supported (CASSANDRA-12443); add a field of the new type"
    )]
    AlterField {
        /// Which.
        field: Ident,
    },
    /// Counters that would go by themselves.
    #[error("Cannot set default_time_to_live on a table with counters")]
    CountersExpire,
    /// `COMPACT STORAGE`.
    #[error("COMPACT STORAGE is not supported: leave it out (Cassandra made it obsolete in 4.0)")]
    CompactStorage,
    /// A name of the key that is none of a column.
    #[error(
        "unknown column {column} in the PRIMARY KEY: declare it with its type, as in `{column} int`"
    )]
    KeyUnknown {
        /// The name.
        column: Ident,
    },
    /// A column of the key that is there twice.
    #[error("column {column} is in the PRIMARY KEY twice: name it once")]
    KeyTwice {
        /// The column.
        column: Ident,
    },
    /// A column of the key that is static.
    #[error("static column {column} cannot be part of the PRIMARY KEY: leave STATIC out")]
    StaticKey {
        /// The column.
        column: Ident,
    },
    /// `CLUSTERING ORDER BY` does not follow the key.
    #[error("CLUSTERING ORDER BY names {column}, {}", match wanted {
        Some(wanted) => format!("where it wants {wanted}: it goes by the clustering columns in the order of the PRIMARY KEY"),
        None => "and the PRIMARY KEY has no clustering column left for it".to_owned(),
    })]
    ClusteringOrder {
        /// What it names.
        column: Ident,
        /// The clustering column whose turn it is, if there is one.
        wanted: Option<Ident>,
    },
    /// A column that should be added.
    #[error("column {column} exists already: drop it first, or give the new one another name")]
    ColumnExists {
        /// Which.
        column: Ident,
    },
    /// A column that should be changed.
    #[error("column {column} was not found in table {table}")]
    ColumnMissing {
        /// Which.
        column: Ident,
        /// Where.
        table: String,
    },
    /// A column of the key that should be dropped.
    #[error("column {column} is part of the PRIMARY KEY and cannot be dropped")]
    DropKey {
        /// Which.
        column: Ident,
    },
    /// `DROP … USING TIMESTAMP`.
    #[error(
        "DROP … USING TIMESTAMP is not supported: a column is dropped with all its cells, whatever their timestamps; leave \
         USING TIMESTAMP out"
    )]
    DropTimestamp,
    /// A column that should be renamed.
    #[error(
        "column {column} is not part of the PRIMARY KEY, and only columns of the key are renamed: add a column of the new \
         name, and write to both"
    )]
    RenameCell {
        /// Which.
        column: Ident,
    },
    /// A column that should be renamed.
    #[error("column {column} cannot be renamed to {to}: there is a column {to} already")]
    RenameToExisting {
        /// Which.
        column: Ident,
        /// To what.
        to: Ident,
    },
    /// A column that should get another type.
    #[error(
        "column {column} keeps its type: altering column types is not supported (CASSANDRA-12443); add a column of \
         the new type"
    )]
    AlterType {
        /// Which.
        column: Ident,
    },
    /// The ids of columns are used up.
    #[error(
        "columns were added to this table so often that there is no id for another one: make a new table"
    )]
    NoMoreIds,
    /// The columns do not make a table.
    #[error(transparent)]
    Columns(#[from] ColumnsError),

    /// An option that cannot have its value, or options that do not fit together.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// No such property.
    #[error("unknown property {name} of a {of}{}", did_you_mean(nearest.as_deref()))]
    UnknownProperty {
        /// `table` or `keyspace`.
        of: &'static str,
        /// What was given.
        name: String,
        /// The one that is spelled most like it, if one is.
        nearest: Option<String>,
    },
    /// No such key of a property that is a map.
    #[error("unknown key '{key}' of {map}{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The property.
        map: &'static str,
        /// What was given.
        key: String,
        /// The one that is spelled most like it, if one is.
        nearest: Option<String>,
    },
    /// A property that is a map lacks a key.
    #[error("{map} lacks the key '{key}': {example}")]
    MissingKey {
        /// The property.
        map: &'static str,
        /// The key.
        key: &'static str,
        /// How it looks with it.
        example: &'static str,
    },
    /// A value that a property cannot have.
    #[error("{name} cannot be '{value}': it takes {expected}")]
    Value {
        /// The property, or the key of one.
        name: String,
        /// What was given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Keys that exclude each other.
    #[error("compression with 'enabled': false takes no other key than that: leave '{key}' out")]
    CompressionOff {
        /// The other key.
        key: String,
    },
    /// Change data capture.
    #[error(
        "cdc = true is not supported: there is no change data capture; leave it out or set it to false"
    )]
    Cdc,
    /// A keyspace of no copies.
    #[error(
        "a keyspace needs a replication: WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}}"
    )]
    NoReplication,
    /// NetworkTopologyStrategy without data centres.
    #[error(
        "NetworkTopologyStrategy needs a replication factor for at least one data centre: {{'class': \
         'NetworkTopologyStrategy', 'dc1': 3}}"
    )]
    NoDataCentre,
    /// NetworkTopologyStrategy with a data centre that there is not.
    #[error(
        "Unrecognized strategy option {{{dc}}} passed to NetworkTopologyStrategy: it is no data centre of this cluster (there \
         are: {known})"
    )]
    UnknownDc {
        /// What was given.
        dc: String,
        /// Those that there are.
        known: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(": did you mean {nearest}?")).unwrap_or_default()
}

impl DefineError {
    /// Whether it is about properties (Cassandra's `CONFIG_ERROR`, 0x2300). Else it is about columns and types
    /// (`INVALID`, 0x2200).
    pub fn is_config(&self) -> bool {
        match self {
            DefineError::Column { .. }
            | DefineError::Type(_)
            | DefineError::OtherKeyspace { .. }
            | DefineError::Field { .. }
            | DefineError::Fields(_)
            | DefineError::FieldExists { .. }
            | DefineError::FieldMissing { .. }
            | DefineError::AlterField { .. }
            | DefineError::CountersExpire
            | DefineError::CompactStorage
            | DefineError::KeyUnknown { .. }
            | DefineError::KeyTwice { .. }
            | DefineError::StaticKey { .. }
            | DefineError::ClusteringOrder { .. }
            | DefineError::ColumnExists { .. }
            | DefineError::ColumnMissing { .. }
            | DefineError::DropKey { .. }
            | DefineError::DropTimestamp
            | DefineError::RenameCell { .. }
            | DefineError::RenameToExisting { .. }
            | DefineError::AlterType { .. }
            | DefineError::NoMoreIds
            | DefineError::Columns(_) => false,
            DefineError::Option(_)
            | DefineError::UnknownProperty { .. }
            | DefineError::UnknownKey { .. }
            | DefineError::MissingKey { .. }
            | DefineError::Value { .. }
            | DefineError::CompressionOff { .. }
            | DefineError::Cdc
            | DefineError::NoReplication
            | DefineError::NoDataCentre
            | DefineError::UnknownDc { .. } => true,
        }
    }
}
