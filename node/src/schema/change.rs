//! What operators do to the schema, as values: a change and a schema give the definitions that are new.

use super::SchemaError;
use super::builtin::builtin;
use helenus_core::cql::ast::{CreateType, Property, TableChange, TypeChange};
use helenus_core::cql::define::{self, DefineError, UserTypes};
use helenus_core::hint::Overflow;
use helenus_core::schema::{TypesError, check_name};
use helenus_core::{
    Columns, Dc, KeyspaceDef, NodeId, Replication, Schema, TableDef, TableId, TableOptions,
    TimestampMicros, TypeDef,
};
use std::collections::BTreeSet;

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
    /// A keyspace is replicated otherwise.
    AlterKeyspace {
        /// Its name.
        name: String,
        /// What is set. They are judged in the turn of this change: what they leave alone may have changed since they were
        /// written.
        properties: Vec<Property>,
        /// The data centres that a replication may name.
        dcs: BTreeSet<Dc>,
        /// If it does not exist, be content.
        if_exists: bool,
    },
    /// A keyspace with its tables and types is no more.
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
    /// A table has other columns or options.
    AlterTable {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        name: String,
        /// What changes.
        change: TableChange,
        /// If it does not exist, be content.
        if_exists: bool,
    },
    /// A table is empty: another incarnation of it begins. [`Keeper::truncate`](super::Keeper::truncate) sees that no node is
    /// left out.
    Truncate {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        name: String,
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
    /// A new user-defined type.
    CreateType {
        /// Its keyspace.
        keyspace: String,
        /// What it is.
        create: CreateType,
    },
    /// A user-defined type has more fields, or other names for them.
    AlterType {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        name: String,
        /// What changes.
        change: TypeChange,
        /// If it does not exist, be content.
        if_exists: bool,
    },
    /// A user-defined type is no more.
    DropType {
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
    /// What has no effect, a sentence each.
    pub warnings: Vec<String>,
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// This node has left the ring, and decides nothing any more.
    #[error("this node has left the ring: change the schema on another one")]
    Left,
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
    /// It cannot be so.
    #[error(transparent)]
    Define(#[from] DefineError),
    /// Types and what is made of them would not fit together.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// A type that something is made of.
    #[error("Cannot drop user type '{name}' as it is still used by {users}")]
    TypeInUse {
        /// Its name.
        name: String,
        /// By what.
        users: String,
    },
    /// A type that partition keys are made of.
    #[error(
        "Cannot add a field to user type {name} as the type is being used in partition key by the following tables: {tables}"
    )]
    TypeInKeys {
        /// Its name.
        name: String,
        /// Of which.
        tables: String,
    },
    /// Two nodes changed the same in the same moment.
    #[error(
        "another node changed {what} in the same moment, and its change counts: nothing of this one is left. Look at what \
         there is now, and repeat it"
    )]
    Overruled {
        /// What.
        what: String,
    },
    /// A table is emptied on all nodes or on none.
    #[error(
        "Cannot achieve consistency level ALL: {alive} of {all} nodes are up, and TRUNCATE takes all; {down} is down: nothing \
         was done"
    )]
    NotAllUp {
        /// How many are up.
        alive: usize,
        /// How many there are.
        all: usize,
        /// One that is not.
        down: String,
    },
    /// A table was emptied, but not on every node.
    #[error(
        "Truncate timed out: {} did not confirm it in time; the table is empty on the others, and on these as soon as they have \
         heard of it. Until then requests to this table may fail",
        nodes.join(", ")
    )]
    NotConfirmed {
        /// The nodes that did not.
        nodes: Vec<String>,
    },
    /// Its identities are used up.
    #[error("table `{name}` was truncated 2^32 times: make a new one")]
    TruncatedTooOften {
        /// Its name.
        name: String,
    },
    /// It could not be kept.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl Change {
    /// What it is about, for people.
    fn what(&self) -> String {
        match self {
            Change::CreateKeyspace { name, .. }
            | Change::AlterKeyspace { name, .. }
            | Change::DropKeyspace { name, .. } => format!("keyspace `{name}`"),
            Change::CreateTable { keyspace, name, .. }
            | Change::AlterTable { keyspace, name, .. }
            | Change::Truncate { keyspace, name }
            | Change::DropTable { keyspace, name, .. } => format!("table `{keyspace}.{name}`"),
            Change::CreateType { keyspace, create } => {
                format!("type `{keyspace}.{}`", create.name.name.as_str())
            }
            Change::AlterType { keyspace, name, .. } | Change::DropType { keyspace, name, .. } => {
                format!("type `{keyspace}.{name}`")
            }
        }
    }

    /// What to say when another node's change won over this one, whose definitions were `delta`. `Ok(true)`: what counts does
    /// what this one should have done; `Ok(false)`: it was so already, and that is fine.
    pub(super) fn overruled(&self, delta: &Schema, schema: &Schema) -> Result<bool, ChangeError> {
        // What was overruled was sent along: a type that this change only refers to.
        if schema.holds(delta) {
            return Ok(true);
        }
        let table = |keyspace: &String, name: &String| {
            let ours = delta.tables.get(&(keyspace.clone(), name.clone()));
            (ours.map(|def| def.id), schema.table(keyspace, name).map(|def| def.id))
        };
        match self {
            Change::CreateKeyspace { name, if_not_exists, .. }
                if schema.keyspace(name).is_some() =>
            {
                exists("keyspace", name, *if_not_exists).map(|_| false)
            }
            Change::CreateTable { keyspace, name, if_not_exists, .. } => {
                match table(keyspace, name) {
                    (Some(ours), Some(theirs)) if ours == theirs => Ok(true),
                    (_, Some(_)) => exists("table", &format!("{keyspace}.{name}"), *if_not_exists)
                        .map(|_| false),
                    (_, None) => Err(ChangeError::Overruled { what: self.what() }),
                }
            }
            Change::Truncate { keyspace, name } => match table(keyspace, name) {
                // Ids of one lineage grow with each TRUNCATE.
                (Some(ours), Some(theirs)) if ours <= theirs => Ok(true),
                _ => Err(ChangeError::Overruled { what: self.what() }),
            },
            _ => Err(ChangeError::Overruled { what: self.what() }),
        }
    }

    /// The definitions that this change adds to `schema`; `None`: it is so already, and that is fine.
    #[expect(clippy::too_many_lines, reason = "an arm for each change")]
    pub(super) fn delta(
        &self,
        schema: &Schema,
        wall: TimestampMicros,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Schema>, ChangeError> {
        let altered = schema.next_altered(wall);
        let mut delta = Schema::default();
        match self {
            Change::CreateKeyspace { name, replication, hint_overflow, if_not_exists } => {
                check_name(name)?;
                if schema.keyspace(name).is_some() || builtin().keyspace(name).is_some() {
                    return exists("keyspace", name, *if_not_exists);
                }
                let def = KeyspaceDef {
                    name: name.clone(),
                    replication: replication.clone(),
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
                    return missing("keyspace", keyspace, false);
                }
                if schema.table(keyspace, name).is_some() {
                    return exists("table", &format!("{keyspace}.{name}"), *if_not_exists);
                }
                // What the schema keeps; the fields are where the types are.
                let columns = &columns.unresolved();
                let named = (keyspace.as_str(), name.as_str());
                let before = schema.tables.get(&(keyspace.clone(), name.clone()));
                let def = TableDef {
                    id: TableId::created(named, columns, before, wall),
                    keyspace: keyspace.clone(),
                    name: name.clone(),
                    columns: columns.clone(),
                    options: options.clone(),
                    altered,
                    dropped: false,
                };
                delta.tables.insert((keyspace.clone(), name.clone()), def);
            }
            Change::AlterKeyspace { name, properties, dcs, if_exists } => {
                let Some(was) = schema.keyspace(name) else {
                    return missing("keyspace", name, *if_exists);
                };
                let parts = define::keyspace(properties, Some(was), dcs)?;
                warnings.extend(parts.warnings);
                let (replication, hint_overflow) = (parts.replication, parts.hint_overflow);
                let mut def = KeyspaceDef { replication, hint_overflow, ..was.clone() };
                if def == *was {
                    return Ok(None);
                }
                def.altered = altered;
                delta.keyspaces.insert(name.clone(), def);
            }
            Change::AlterTable { keyspace, name, change, if_exists } => {
                let Some(was) = schema.table(keyspace, name) else {
                    return missing("table", &format!("{keyspace}.{name}"), *if_exists);
                };
                let find = |name: &str| schema.user_type(keyspace, name);
                let users = UserTypes { keyspace, find: &find };
                let mut def = define::alter_table(was, change, wall, users, warnings)?;
                def.columns = def.columns.unresolved();
                if def == *was {
                    return Ok(None);
                }
                def.altered = altered;
                delta.tables.insert((keyspace.clone(), name.clone()), def);
            }
            Change::Truncate { keyspace, name } => {
                let Some(was) = schema.table(keyspace, name) else {
                    return missing("table", &format!("{keyspace}.{name}"), false);
                };
                let id = was.id.truncated();
                let id = id.ok_or_else(|| ChangeError::TruncatedTooOften { name: name.clone() })?;
                let def = TableDef { id, altered, ..was.clone() };
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
            Change::CreateType { .. } | Change::AlterType { .. } | Change::DropType { .. } => {
                return self.type_delta(schema, altered);
            }
        }
        if let Change::CreateTable { .. } | Change::AlterTable { .. } = self {
            delta.tables.values().try_for_each(|def| schema.check_table(def))?;
        }
        Ok(Some(delta.without(schema)))
    }

    /// As [`Change::delta`], of a user-defined type.
    fn type_delta(
        &self,
        schema: &Schema,
        altered: TimestampMicros,
    ) -> Result<Option<Schema>, ChangeError> {
        let mut delta = Schema::default();
        match self {
            Change::CreateType { keyspace, create } => {
                let name = create.name.name.as_str();
                if schema.keyspace(keyspace).is_none() {
                    return Err(ChangeError::Missing { what: "keyspace", name: keyspace.clone() });
                }
                if schema.type_def(keyspace, name).is_some() {
                    return exists("type", &format!("{keyspace}.{name}"), create.if_not_exists);
                }
                let find = |name: &str| schema.user_type(keyspace, name);
                let users = UserTypes { keyspace, find: &find };
                let def = define::create_type(create, altered, users)?;
                delta.types.insert((keyspace.clone(), name.to_owned()), def);
                check_types(schema, &delta, keyspace)?;
            }
            Change::AlterType { keyspace, name, change, if_exists } => {
                let Some(was) = schema.type_def(keyspace, name) else {
                    return missing("type", &format!("{keyspace}.{name}"), *if_exists);
                };
                let find = |name: &str| schema.user_type(keyspace, name);
                let users = UserTypes { keyspace, find: &find };
                let mut def = define::alter_type(was, change, users)?;
                if def == *was {
                    return Ok(None);
                }
                if def.fields.len() > was.fields.len() {
                    // A partition is found by the bytes of its key, and those of one value would be others.
                    let tables = schema.partition_keys_of(keyspace, name).join(", ");
                    if !tables.is_empty() {
                        return Err(ChangeError::TypeInKeys { name: name.clone(), tables });
                    }
                }
                def.altered = altered;
                delta.types.insert((keyspace.clone(), name.clone()), def);
                check_types(schema, &delta, keyspace)?;
            }
            Change::DropType { keyspace, name, if_exists } => {
                let full_name = format!("{keyspace}.{name}");
                let Some(was) = schema.type_def(keyspace, name) else {
                    return missing("type", &full_name, *if_exists);
                };
                let users = match schema.users_of(keyspace, name) {
                    (types, _) if !types.is_empty() => format!("user types {}", types.join(", ")),
                    (_, tables) if !tables.is_empty() => format!("tables {}", tables.join(", ")),
                    _ => String::new(),
                };
                if !users.is_empty() {
                    return Err(ChangeError::TypeInUse { name: full_name, users });
                }
                let def = TypeDef { altered, dropped: true, ..was.clone() };
                delta.types.insert((keyspace.clone(), name.clone()), def);
            }
            _ => {}
        }
        Ok(Some(delta))
    }
}

/// Whether types, and what is made of them, fit together with `delta`.
fn check_types(schema: &Schema, delta: &Schema, keyspace: &str) -> Result<(), TypesError> {
    let mut after = schema.clone();
    after.merge(delta.clone());
    after.check_types(keyspace)
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

    fn apply(schema: &mut Schema, change: &Change) {
        let delta = change.delta(schema, NOW, &mut Vec::new()).unwrap().unwrap();
        assert!(schema.merge(delta));
    }

    fn delta(schema: &Schema, change: &Change) -> Result<Option<Schema>, ChangeError> {
        change.delta(schema, NOW, &mut Vec::new())
    }

    fn names() -> (String, String) {
        ("ks".to_owned(), "t".to_owned())
    }

    fn alter(text: &str) -> Change {
        let parsed = helenus_core::cql::parse(&format!("ALTER TABLE ks.t {text}")).unwrap();
        let helenus_core::cql::ast::Statement::AlterTable(alter) = parsed.statement else {
            panic!("{text}")
        };
        let (keyspace, name) = names();
        Change::AlterTable { keyspace, name, change: alter.change, if_exists: alter.if_exists }
    }

    fn truncate() -> Change {
        let (keyspace, name) = names();
        Change::Truncate { keyspace, name }
    }

    /// A keyspace and a table.
    fn shop() -> Schema {
        let mut schema = Schema::default();
        apply(&mut schema, &keyspace(false));
        apply(&mut schema, &table());
        schema
    }

    #[test]
    fn what_exists_is_refused_or_left_as_it_is() {
        let mut schema = Schema::default();
        apply(&mut schema, &keyspace(false));
        assert!(delta(&schema, &keyspace(true)).unwrap().is_none());
        let refused = delta(&schema, &keyspace(false)).unwrap_err();
        assert_eq!(refused.to_string(), "keyspace `ks` exists already");
    }

    #[test]
    fn a_table_created_again_is_another_table() {
        let mut schema = shop();
        let first = schema.table("ks", "t").unwrap().id;
        let (keyspace, name) = names();
        let drop = Change::DropTable { keyspace, name, if_exists: false };
        // The wall clock stands still: each change is later than the one before all the same.
        apply(&mut schema, &drop);
        assert!(schema.table("ks", "t").is_none());
        apply(&mut schema, &table());
        let second = schema.table("ks", "t").unwrap().id;
        assert_ne!(second, first);
        apply(&mut schema, &drop);
        apply(&mut schema, &table());
        let third = schema.table("ks", "t").unwrap().id;
        assert!(third != second && third != first);
    }

    #[test]
    fn a_table_needs_its_keyspace_and_a_name_that_is_one() {
        let schema = Schema::default();
        for change in [table(), alter("ADD a int"), truncate()] {
            let missing = delta(&schema, &change).unwrap_err();
            assert!(missing.to_string().ends_with("does not exist"), "{missing}");
        }
        let bad = Change::CreateKeyspace {
            name: "../etc".to_owned(),
            replication: Replication::Simple { rf: NonZeroU32::MIN },
            hint_overflow: None,
            if_not_exists: false,
        };
        assert!(matches!(delta(&schema, &bad), Err(ChangeError::BadName(_))));
    }

    #[test]
    fn a_change_is_of_what_changes_and_of_nothing_if_nothing_does() {
        let mut schema = shop();
        let before = schema.table("ks", "t").unwrap().clone();
        assert!(delta(&schema, &alter("ADD IF NOT EXISTS value int")).unwrap().is_none());
        assert!(delta(&schema, &alter("WITH comment = ''")).unwrap().is_none());
        apply(&mut schema, &alter("ADD a int"));
        let after = schema.table("ks", "t").unwrap();
        assert!(after.altered > before.altered && after.id == before.id);
        assert!(after.columns.cell("a").is_some() && !after.columns.is_one_value());
        let refused = delta(&schema, &alter("ADD a int")).unwrap_err();
        assert!(matches!(refused, ChangeError::Define(DefineError::ColumnExists { .. })));
    }

    #[test]
    fn a_keyspace_is_altered_in_what_is_said_and_in_nothing_else() {
        let mut schema = shop();
        let alter = |name: &str, text: &str| {
            let parsed = helenus_core::cql::parse(&format!("ALTER KEYSPACE {name} WITH {text}"));
            let helenus_core::cql::ast::Statement::AlterKeyspace(alter) = parsed.unwrap().statement
            else {
                panic!("{text}")
            };
            Change::AlterKeyspace {
                name: alter.keyspace.as_str().to_owned(),
                properties: alter.properties,
                dcs: BTreeSet::new(),
                if_exists: alter.if_exists,
            }
        };
        let copies =
            |rf| format!("replication = {{'class': 'SimpleStrategy', 'replication_factor': {rf}}}");
        assert!(delta(&schema, &alter("ks", &copies(3))).unwrap().is_none(), "it is so already");
        // Its properties are of no interest where there is nothing to set them of.
        assert!(delta(&schema, &alter("IF EXISTS nowhere", "no_such = 1")).unwrap().is_none());
        let missing = delta(&schema, &alter("nowhere", "no_such = 1")).unwrap_err();
        assert_eq!(missing.to_string(), "keyspace `nowhere` does not exist");
        let refused = delta(&schema, &alter("ks", "no_such = 1")).unwrap_err();
        assert!(matches!(refused, ChangeError::Define(DefineError::UnknownProperty { .. })));
        // Two that were written in the same moment, of which neither knew what the other would set.
        let both = [alter("ks", &copies(2)), alter("ks", "hint_overflow = 'fail-write'")];
        for change in &both {
            apply(&mut schema, change);
        }
        let after = schema.keyspace("ks").unwrap();
        assert_eq!(after.replication, Replication::Simple { rf: NonZeroU32::new(2).unwrap() });
        assert_eq!(after.hint_overflow, Some(Overflow::FailWrite));
    }

    #[test]
    fn a_truncated_table_is_the_same_but_for_its_incarnation() {
        let mut schema = shop();
        let before = schema.table("ks", "t").unwrap().clone();
        apply(&mut schema, &truncate());
        let after = schema.table("ks", "t").unwrap().clone();
        assert_eq!(after.id.lineage(), before.id);
        assert_ne!(after.id, before.id);
        let TableDef { id, altered, .. } = before.clone();
        assert_eq!(TableDef { id, altered, ..after }, before);
    }

    #[test]
    fn of_two_changes_at_once_the_one_that_lost_says_so_or_was_made_all_the_same() {
        let schema = shop();
        let lost = delta(&schema, &alter("ADD a int")).unwrap().unwrap();
        let mut won = schema.clone();
        apply(&mut won, &alter("ADD b text"));
        let overruled = alter("ADD a int").overruled(&lost, &won).unwrap_err();
        assert!(overruled.to_string().starts_with("another node changed table `ks.t`"));
        // Two that empty it have both emptied it; one that altered it has not.
        let lost = delta(&schema, &truncate()).unwrap().unwrap();
        assert!(truncate().overruled(&lost, &won).is_err());
        let mut emptied = schema.clone();
        apply(&mut emptied, &truncate());
        assert!(truncate().overruled(&lost, &emptied).unwrap());
        apply(&mut emptied, &truncate());
        assert!(truncate().overruled(&lost, &emptied).unwrap(), "twice");
        // Two that create one table have both created it.
        let mut empty = Schema::default();
        apply(&mut empty, &keyspace(false));
        let lost = delta(&empty, &table()).unwrap().unwrap();
        assert!(table().overruled(&lost, &schema).unwrap());
        let mut others = schema.clone();
        others.tables.values_mut().for_each(|def| def.id = TableId(9 << 32));
        let exists = table().overruled(&lost, &others).unwrap_err();
        assert_eq!(exists.to_string(), "table `ks.t` exists already");
        let overruled = table().overruled(&lost, &empty).unwrap_err();
        assert!(matches!(overruled, ChangeError::Overruled { .. }), "it was dropped");
    }

    fn of_type(text: &str) -> Change {
        use helenus_core::cql::ast::Statement;
        let keyspace = "ks".to_owned();
        let name = |name: helenus_core::cql::ast::QualifiedName| name.name.as_str().to_owned();
        match helenus_core::cql::parse(text).unwrap().statement {
            Statement::CreateType(create) => Change::CreateType { keyspace, create },
            Statement::AlterType(alter) => Change::AlterType {
                keyspace,
                name: name(alter.name),
                change: alter.change,
                if_exists: alter.if_exists,
            },
            Statement::DropType(drop) => {
                Change::DropType { keyspace, name: name(drop.name), if_exists: drop.if_exists }
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_type_is_changed_where_what_is_made_of_it_can_bear_it() {
        let mut schema = shop();
        apply(&mut schema, &of_type("CREATE TYPE ks.phone (prefix int)"));
        apply(&mut schema, &of_type("CREATE TYPE ks.address (phone frozen<phone>)"));
        apply(&mut schema, &alter("ADD home frozen<address>"));
        let kept = schema.table("ks", "t").unwrap().clone();
        assert_eq!(kept.columns, kept.columns.unresolved(), "the fields are where the types are");
        for (text, said) in [
            ("CREATE TYPE ks.phone (a int)", "type `ks.phone` exists already"),
            ("ALTER TYPE ks.phone ADD a frozen<address>", "type `address` would be part of itself"),
            ("DROP TYPE ks.phone", "as it is still used by user types address"),
            ("DROP TYPE ks.address", "as it is still used by tables t"),
            ("DROP TYPE ks.other", "type `ks.other` does not exist"),
        ] {
            let error = delta(&schema, &of_type(text)).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        for text in [
            "CREATE TYPE IF NOT EXISTS ks.phone (a int)",
            "ALTER TYPE ks.phone ADD IF NOT EXISTS prefix int",
            "ALTER TYPE IF EXISTS ks.other ADD a int",
            "DROP TYPE IF EXISTS ks.other",
        ] {
            assert!(delta(&schema, &of_type(text)).unwrap().is_none(), "{text}");
        }
        let change = of_type("ALTER TYPE ks.phone ADD number text");
        let lost = delta(&schema, &change).unwrap().unwrap();
        assert!(lost.tables.is_empty(), "tables stay what they are");
        apply(&mut schema, &change);
        assert_eq!(schema.table("ks", "t"), Some(&kept));
        // A table that came in the same moment, with a type as it was: it counts, whatever became of the type.
        let mut others = schema.clone();
        apply(&mut others, &of_type("ALTER TYPE ks.phone ADD kind int"));
        let change = alter("ADD more frozen<phone>");
        let table = delta(&schema, &change).unwrap().unwrap();
        others.merge(table.clone());
        let sent = table.clone().with_types_of(&schema);
        assert!(!others.holds(&sent) && change.overruled(&table, &others).unwrap());
        let error = of_type("ALTER TYPE ks.phone ADD other int");
        assert!(error.overruled(&sent, &others).is_err());
        apply(&mut schema, &alter("DROP home"));
        apply(&mut schema, &of_type("DROP TYPE ks.address"));
        apply(&mut schema, &of_type("CREATE TYPE ks.address (a int)"));
    }
}
