//! What operators do to the schema, as values: a change and a schema give the definitions that are new.

use super::SchemaError;
use helenus_core::hint::Overflow;
use helenus_core::schema::check_name;
use helenus_core::{
    Columns, KeyspaceDef, NodeId, Replication, Schema, TableDef, TableId, TableOptions,
    TimestampMicros,
};

/// A change of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new keyspace.
    CreateKeyspace {
        /// Its name.
        name: String,
        /// Its replication.
        replication: Replication,
        /// Its policy for hints that there is no room for, if it has its own.
        hint_overflow: Option<Overflow>,
        /// If it exists, leave it as it is.
        if_not_exists: bool,
    },
    /// A keyspace and its tables are no more.
    DropKeyspace {
        /// Its name.
        name: String,
        /// If it does not exist, be content.
        if_exists: bool,
    },
    /// A new table.
    CreateTable {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        name: String,
        /// Its columns.
        columns: Columns,
        /// Its options.
        options: TableOptions,
        /// If it exists, leave it as it is.
        if_not_exists: bool,
    },
    /// A table is no more.
    DropTable {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        name: String,
        /// If it does not exist, be content.
        if_exists: bool,
    },
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// False: it was so already.
    pub changed: bool,
    /// The schema's version now.
    pub version: String,
    /// Live nodes that did not confirm in time; they will pull.
    pub pending: Vec<NodeId>,
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The name is none.
    #[error(transparent)]
    BadName(#[from] helenus_core::schema::BadName),
    /// The columns make no table.
    #[error(transparent)]
    Columns(#[from] helenus_core::schema::ColumnsError),
    /// It is there.
    #[error("{what} `{name}` exists already")]
    Exists {
        /// `keyspace` or `table`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It is not there.
    #[error("{what} `{name}` does not exist")]
    Missing {
        /// `keyspace` or `table`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It could not be kept.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl Change {
    /// The definitions that this change adds to `schema`; `None`: it is so already, and that is fine. `fresh_id` is the
    /// id of a table that is created.
    pub(super) fn delta(
        &self,
        schema: &Schema,
        wall: TimestampMicros,
        fresh_id: u128,
    ) -> Result<Option<Schema>, ChangeError> {
        let altered = schema.next_altered(wall);
        let mut delta = Schema::default();
        match self {
            Change::CreateKeyspace { name, replication, hint_overflow, if_not_exists } => {
                check_name(name)?;
                if schema.keyspace(name).is_some() {
                    return exists("keyspace", name, *if_not_exists);
                }
                let replication = replication.clone();
                let def = KeyspaceDef {
                    name: name.clone(),
                    replication,
                    hint_overflow: *hint_overflow,
                    altered,
                    dropped: false,
                };
                delta.keyspaces.insert(name.clone(), def);
            }
            Change::CreateTable { keyspace, name, columns, options, if_not_exists } => {
                check_name(name)?;
                columns.check()?;
                if schema.keyspace(keyspace).is_none() {
                    return Err(ChangeError::Missing { what: "keyspace", name: keyspace.clone() });
                }
                if schema.table(keyspace, name).is_some() {
                    return exists("table", &format!("{keyspace}.{name}"), *if_not_exists);
                }
                let def = TableDef {
                    id: TableId(fresh_id),
                    keyspace: keyspace.clone(),
                    name: name.clone(),
                    columns: columns.clone(),
                    options: options.clone(),
                    altered,
                    dropped: false,
                };
                delta.tables.insert((keyspace.clone(), name.clone()), def);
            }
            Change::DropKeyspace { name, if_exists } => {
                delta = schema.clone();
                if delta.drop_keyspace(name, altered).is_none() {
                    return missing("keyspace", name, *if_exists);
                }
            }
            Change::DropTable { keyspace, name, if_exists } => {
                delta = schema.clone();
                if delta.drop_table(keyspace, name, altered).is_none() {
                    return missing("table", &format!("{keyspace}.{name}"), *if_exists);
                }
            }
        }
        Ok(Some(delta))
    }
}

fn exists(what: &'static str, name: &str, fine: bool) -> Result<Option<Schema>, ChangeError> {
    if fine { Ok(None) } else { Err(ChangeError::Exists { what, name: name.to_owned() }) }
}

fn missing(what: &'static str, name: &str, fine: bool) -> Result<Option<Schema>, ChangeError> {
    if fine { Ok(None) } else { Err(ChangeError::Missing { what, name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    const NOW: TimestampMicros = TimestampMicros(1_000);

    fn keyspace(if_not_exists: bool) -> Change {
        let rf = NonZeroU32::new(3).unwrap();
        let replication = Replication::Simple { rf };
        Change::CreateKeyspace {
            name: "ks".to_owned(),
            replication,
            hint_overflow: None,
            if_not_exists,
        }
    }

    fn table() -> Change {
        Change::CreateTable {
            keyspace: "ks".to_owned(),
            name: "t".to_owned(),
            columns: Columns::key_value(),
            options: TableOptions::default(),
            if_not_exists: false,
        }
    }

    fn apply(schema: &mut Schema, change: &Change, id: u128) {
        let delta = change.delta(schema, NOW, id).unwrap().unwrap();
        assert!(schema.merge(delta));
    }

    #[test]
    fn what_exists_is_refused_or_left_as_it_is() {
        let mut schema = Schema::default();
        apply(&mut schema, &keyspace(false), 0);
        assert!(keyspace(true).delta(&schema, NOW, 0).unwrap().is_none());
        let refused = keyspace(false).delta(&schema, NOW, 0).unwrap_err();
        assert_eq!(refused.to_string(), "keyspace `ks` exists already");
    }

    #[test]
    fn a_table_created_again_is_another_table() {
        let mut schema = Schema::default();
        apply(&mut schema, &keyspace(false), 0);
        apply(&mut schema, &table(), 1);
        let drop =
            Change::DropTable { keyspace: "ks".to_owned(), name: "t".to_owned(), if_exists: false };
        // The wall clock stands still: each change is later than the one before all the same.
        apply(&mut schema, &drop, 0);
        assert!(schema.table("ks", "t").is_none());
        apply(&mut schema, &table(), 2);
        assert_eq!(schema.table("ks", "t").unwrap().id, TableId(2));
    }

    #[test]
    fn a_table_needs_its_keyspace_and_a_name_that_is_one() {
        let schema = Schema::default();
        let missing = table().delta(&schema, NOW, 1).unwrap_err();
        assert_eq!(missing.to_string(), "keyspace `ks` does not exist");
        let bad = Change::CreateKeyspace {
            name: "../etc".to_owned(),
            replication: Replication::Simple { rf: NonZeroU32::MIN },
            hint_overflow: None,
            if_not_exists: false,
        };
        assert!(matches!(bad.delta(&schema, NOW, 1), Err(ChangeError::BadName(_))));
    }
}
