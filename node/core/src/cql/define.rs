//! From `CREATE` and `ALTER` statements to definitions: names become columns with types, properties become options.
//!
//! What is refused, what is taken over and what is accepted without effect is decided here and nowhere else. A property
//! that Cassandra knows and Helenus has no use for is accepted, so that a schema that was dumped there can be created here;
//! there is a warning if somebody might count on it.
//!
//! **Absent on purpose:** whether the keyspace or the table exists, and whether their names are names
//! ([`check_name`](crate::schema::check_name)): only the schema's owner knows.
//!
//! Source: Cassandra 4.1, `CreateTableStatement`, `TableAttributes`, `CompactionParams`, `CompressionParams`,
//! `AbstractReplicationStrategy`.

mod alter;
mod error;
mod options;
mod replication;
#[cfg(test)]
mod tests;
mod types;
mod user_type;

pub use alter::alter_table;
pub use error::DefineError;
pub use options::options;
pub use replication::{KeyspaceParts, keyspace};
pub use types::{UserTypes, type_of};
pub use user_type::{alter_type, create_type};

use crate::cql::ast::{ColumnDef, CreateTable, Ident, Order, Property, PropertyValue};
use crate::cql::{Constant, CqlType};
use crate::data::ColumnId;
use crate::schema::{
    COLUMNS_MAX, CellColumn, ClusteringColumn, Columns, ColumnsError, KeyColumn, TableOptions,
};
use std::collections::BTreeMap;

/// What `CREATE TABLE` says, apart from the table's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableParts {
    /// Its columns, checked.
    pub columns: Columns,
    /// Its options, checked.
    pub options: TableOptions,
    /// What the client should hear of properties that have no effect, a sentence each.
    pub warnings: Vec<String>,
}

/// The table that a statement describes; `users`: the types of its keyspace. Columns that are not part of the key get their ids in the order in which they
/// are declared, from 0.
///
/// # Errors
/// A column or its type cannot be, the key does not fit the columns, or a property is unknown or cannot have its value.
pub fn table(create: &CreateTable, users: UserTypes<'_>) -> Result<TableParts, DefineError> {
    if create.compact_storage {
        return Err(DefineError::CompactStorage);
    }
    let columns = columns(create, users)?;
    let mut warnings = Vec::new();
    let options = options(TableOptions::default(), &create.properties, &mut warnings)?;
    check_expiry(&columns, &options)?;
    Ok(TableParts { columns, options, warnings })
}

/// Counters do not expire: a table of them has no TTL of its own.
fn check_expiry(columns: &Columns, options: &TableOptions) -> Result<(), DefineError> {
    if columns.has_counters() && options.default_time_to_live > 0 {
        return Err(DefineError::CountersExpire);
    }
    Ok(())
}

/// Columns that have been declared and not yet taken for the key.
type Declared<'a> = BTreeMap<&'a Ident, (&'a ColumnDef, CqlType)>;

fn columns(create: &CreateTable, users: UserTypes<'_>) -> Result<Columns, DefineError> {
    let mut declared = declared(create, users)?;
    let key = &create.primary_key;
    let mut partition_key = Vec::new();
    for name in &key.partition {
        let ty = key_type(create, name, &mut declared)?;
        partition_key.push(KeyColumn { name: name.as_str().to_owned(), ty });
    }
    let reversed = reversed(create)?;
    let mut clustering = Vec::new();
    for (nth, name) in key.clustering.iter().enumerate() {
        let ty = key_type(create, name, &mut declared)?;
        let reversed = reversed.get(nth).copied().unwrap_or(false);
        clustering.push(ClusteringColumn { name: name.as_str().to_owned(), ty, reversed });
    }
    let mut cells = Vec::new();
    let mut next_id = 0_u32;
    for column in &create.columns {
        // Those of the key are taken; what is left has cells.
        let Some((column, ty)) = declared.remove(&column.name) else { continue };
        let (id, name) = (ColumnId(next_id), column.name.as_str().to_owned());
        cells.push(CellColumn { id, name, ty, is_static: column.is_static });
        next_id = next_id.saturating_add(1);
    }
    let dropped = Vec::new();
    let columns = Columns { partition_key, clustering, cells, next_id, dropped };
    columns.check()?;
    Ok(columns)
}

/// All columns by name, with their types.
fn declared<'a>(
    create: &'a CreateTable,
    users: UserTypes<'_>,
) -> Result<Declared<'a>, DefineError> {
    let columns = create.columns.len();
    if columns > COLUMNS_MAX {
        return Err(ColumnsError::TooMany { columns }.into());
    }
    let mut declared = BTreeMap::new();
    for column in &create.columns {
        let ty = column_type(column, users)?;
        if declared.insert(&column.name, (column, ty)).is_some() {
            return Err(ColumnsError::NameTwice { name: column.name.as_str().to_owned() }.into());
        }
    }
    Ok(declared)
}

/// The type of a column.
fn column_type(column: &ColumnDef, users: UserTypes<'_>) -> Result<CqlType, DefineError> {
    let name = &column.name;
    type_of(&column.of, users)
        .map_err(|why| DefineError::Column { column: name.clone(), why: Box::new(why) })
}

/// Takes a column of the primary key out of those that were declared.
fn key_type(
    create: &CreateTable,
    name: &Ident,
    declared: &mut Declared<'_>,
) -> Result<CqlType, DefineError> {
    match declared.remove(name) {
        Some((column, _)) if column.is_static => {
            Err(DefineError::StaticKey { column: name.clone() })
        }
        Some((_, ty)) => Ok(ty),
        None if create.columns.iter().any(|column| column.name == *name) => {
            Err(DefineError::KeyTwice { column: name.clone() })
        }
        None => Err(DefineError::KeyUnknown { column: name.clone() }),
    }
}

/// Which clustering columns are sorted backwards, as far as `CLUSTERING ORDER BY` goes.
fn reversed(create: &CreateTable) -> Result<Vec<bool>, DefineError> {
    let mut key = create.primary_key.clustering.iter();
    let order = create.clustering_order.iter();
    order
        .map(|(column, order)| match key.next() {
            Some(wanted) if wanted == column => Ok(*order == Order::Desc),
            wanted => Err(DefineError::ClusteringOrder {
                column: column.clone(),
                wanted: wanted.cloned(),
            }),
        })
        .collect()
}

/// A constant as text, without quotes: Cassandra reads `3` and `'3'` alike where a property is concerned.
fn text_of(constant: &Constant) -> String {
    match constant {
        Constant::String(text) => text.to_string(),
        other => other.to_string(),
    }
}

/// What one property is set to, as text. A map is no option's value, and shown as what it is.
fn value_text(value: &PropertyValue) -> String {
    match value {
        PropertyValue::Constant(constant) => text_of(constant),
        PropertyValue::Word(word) => word.as_str().to_owned(),
        PropertyValue::Map(_) => "{…}".to_owned(),
    }
}

/// The entries of a property that is a map, as text.
fn entries(
    property: &Property,
    example: &'static str,
) -> Result<Vec<(String, String)>, DefineError> {
    match &property.value {
        PropertyValue::Map(entries) => {
            Ok(entries.iter().map(|(key, value)| (text_of(key), text_of(value))).collect())
        }
        other => Err(DefineError::Value {
            name: property.name.to_string(),
            value: shortened(&value_text(other)),
            expected: format!("a map, as in {example}"),
        }),
    }
}

/// The most letters of what somebody sent that an error gives back.
const SHOWN_CHARS_MAX: usize = 120;

/// As much of a text as an error should give back.
fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Comparing takes time and memory as the product of the lengths, and no long name is a slip of a short one.
    if name.len() > SHOWN_CHARS_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, &name), known))
        .min()
        // Half of the letters wrong is another word, not a slip.
        .filter(|(distance, _)| distance.saturating_mul(2) < name.len())
        .map(|(_, known)| known.to_owned())
}
