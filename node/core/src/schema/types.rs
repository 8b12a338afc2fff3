//! User-defined types as definitions: what the schema keeps of them, and how tables find their fields.
//!
//! A definition refers to other types by their names, in the columns of a table as in the fields of a type. So each is
//! kept once, a change of one type is one definition that travels, and tables that are made of it have the same bytes as
//! before. [`Schema::resolve`] puts the fields in, for whoever reads and writes values.
//!
//! Invariant: fields are added behind the others and never go, for values know them by their places.
//!
//! CAVEAT: a type is one definition, of which the later counts as a whole. Of two nodes that add a field to one type in the
//! same moment one is told that its field is gone; values that were written with it meanwhile are read with the other's.
//! If nodes define meanwhile what no single one would accept (a type within itself), the innermost has no fields.
//!
//! Source: Cassandra 4.1, `Types`, `CreateTypeStatement`, `AlterTypeStatement`, `DropTypeStatement`.

use super::{Columns, Schema, TableDef};
use crate::cql::ast::name_of_a_type;
use crate::cql::{CqlType, TYPE_DEPTH_MAX, TYPE_PARTS_MAX, TypeError, UserType};
use crate::types::TimestampMicros;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A type has at most so many fields.
pub const FIELDS_MAX: usize = 1024;
/// The name of a type, or of a field, has at most so many bytes.
const NAME_BYTES_MAX: usize = 1024;

/// A user-defined type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeDef {
    /// The keyspace it belongs to.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Its fields, by whose places values know them. Types that they name are references.
    pub fields: Vec<(String, CqlType)>,
    /// When it was last altered; the later definition wins.
    pub altered: TimestampMicros,
    /// Dropped types stay as tombstones. Their fields stay too, for a table that another node made in the same moment.
    pub dropped: bool,
}

/// Why these cannot be the fields of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// The name of the type says something else.
    #[error(
        "`{name}` cannot be the name of a type: it has 1 to {NAME_BYTES_MAX} bytes, and is no word for a type of CQL"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// None, or more than [`FIELDS_MAX`].
    #[error("a type has 1 to {FIELDS_MAX} fields, not {fields}")]
    Number {
        /// How many.
        fields: usize,
    },
    /// The name of a field.
    #[error("a field's name has 1 to {NAME_BYTES_MAX} bytes, and `{name}` has {}", name.len())]
    FieldName {
        /// What was given.
        name: String,
    },
    /// Two of one name.
    #[error("Duplicate field name {name} in type {ty}")]
    FieldTwice {
        /// The type.
        ty: String,
        /// The name.
        name: String,
    },
    /// A counter, or a type that is not frozen.
    #[error("field {field} of type {ty}: {why}")]
    Field {
        /// The type.
        ty: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        why: TypeError,
    },
}

/// Why definitions do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypesError {
    /// A type that is not there.
    #[error("{of} is made of type `{name}`, which does not exist")]
    Missing {
        /// What refers to it.
        of: String,
        /// Which.
        name: String,
    },
    /// A type within itself.
    #[error("type `{name}` would be part of itself, which would create a circular reference")]
    Circular {
        /// Which.
        name: String,
    },
    /// What it is part of cannot be so.
    #[error("{of}: {why}")]
    Part {
        /// Which table or type.
        of: String,
        /// What is wrong with it.
        why: TypeError,
    },
    /// A table could not keep its columns.
    #[error("table `{table}`: {why}")]
    Columns {
        /// Which.
        table: String,
        /// What is wrong with it.
        why: super::ColumnsError,
    },
}

impl TypeDef {
    /// Whether this can be a type.
    ///
    /// # Errors
    /// Its name or those of its fields cannot be, or a field cannot be part of a type.
    pub fn check(&self) -> Result<(), FieldsError> {
        let TypeDef { keyspace, name, fields, .. } = self;
        let reference = CqlType::User { of: UserType::reference(keyspace, name), frozen: true };
        // It is kept as text wherever it is referred to.
        let find = |found: &str| Some(UserType::reference(keyspace, found));
        let again = CqlType::parse(&reference.to_string(), &find);
        let is_word = name_of_a_type(name) || again.as_ref() != Ok(&reference);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || is_word {
            return Err(FieldsError::Name { name: name.clone() });
        }
        if fields.is_empty() || fields.len() > FIELDS_MAX {
            return Err(FieldsError::Number { fields: fields.len() });
        }
        let mut names = BTreeSet::new();
        for (field, ty) in fields {
            if field.is_empty() || field.len() > NAME_BYTES_MAX {
                return Err(FieldsError::FieldName { name: field.clone() });
            }
            if !names.insert(field) {
                return Err(FieldsError::FieldTwice { ty: name.clone(), name: field.clone() });
            }
            let (inner, outer) = (ty.to_string(), "a user-defined type");
            let why = match ty {
                CqlType::Counter => TypeError::NotAllowed { inner, outer },
                CqlType::User { frozen: false, .. } => TypeError::NotFrozen { inner, outer },
                _ => continue,
            };
            return Err(FieldsError::Field { ty: name.clone(), field: field.clone(), why });
        }
        Ok(())
    }

    /// The names of the types that its fields name.
    fn parts(&self) -> BTreeSet<&str> {
        let mut parts = BTreeSet::new();
        for (_, ty) in &self.fields {
            ty.each_user(&mut |user| {
                parts.insert(user.name.as_str());
            });
        }
        parts
    }
}

impl Columns {
    /// The types of all columns, dropped ones included.
    fn types(&self) -> impl Iterator<Item = &CqlType> {
        self.live_types().chain(self.dropped.iter().map(|column| &column.ty))
    }

    fn live_types(&self) -> impl Iterator<Item = &CqlType> {
        let keys = self.partition_key.iter().map(|column| &column.ty);
        let clustering = self.clustering.iter().map(|column| &column.ty);
        keys.chain(clustering).chain(self.cells.iter().map(|column| &column.ty))
    }

    /// The same columns with other types.
    #[must_use]
    fn with_types(&self, mut of: impl FnMut(&CqlType) -> CqlType) -> Columns {
        let mut columns = self.clone();
        columns.partition_key.iter_mut().for_each(|column| column.ty = of(&column.ty));
        columns.clustering.iter_mut().for_each(|column| column.ty = of(&column.ty));
        columns.cells.iter_mut().for_each(|column| column.ty = of(&column.ty));
        columns.dropped.iter_mut().for_each(|column| column.ty = of(&column.ty));
        columns
    }

    /// The same columns with references to user-defined types: what a schema keeps.
    #[must_use]
    pub fn unresolved(&self) -> Columns {
        self.with_types(CqlType::unresolved)
    }

    /// Whether a column of these is made of this type directly.
    fn name_type(&self, name: &str) -> bool {
        let mut found = false;
        self.live_types().for_each(|ty| ty.each_user(&mut |user| found |= user.name == name));
        found
    }
}

/// Puts fields in.
struct Resolver<'a> {
    schema: &'a Schema,
    keyspace: &'a str,
    /// With how many parts each has.
    known: BTreeMap<String, (Arc<UserType>, usize)>,
    /// Those whose fields are being resolved, from the outermost on.
    open: Vec<String>,
}

impl<'a> Resolver<'a> {
    fn new(schema: &'a Schema, keyspace: &'a str) -> Resolver<'a> {
        Resolver { schema, keyspace, known: BTreeMap::new(), open: Vec::new() }
    }

    fn ty(&mut self, ty: &CqlType) -> CqlType {
        self.counted(ty, &mut 0)
    }

    /// Adds to `parts` how many types are in it.
    fn counted(&mut self, ty: &CqlType, parts: &mut usize) -> CqlType {
        *parts = parts.saturating_add(1);
        ty.with_users(&mut |user| {
            let (of, within) = self.user(&user.name);
            *parts = parts.saturating_add(within);
            of
        })
    }

    /// What has no end, or is larger than it could have been made, stays a reference.
    fn user(&mut self, name: &str) -> (Arc<UserType>, usize) {
        if let Some((known, parts)) = self.known.get(name) {
            return (Arc::clone(known), *parts);
        }
        let reference = || (UserType::reference(self.keyspace, name), 1);
        let key = (self.keyspace.to_owned(), name.to_owned());
        let Some(def) = self.schema.types.get(&key) else { return reference() };
        if self.open.len() >= TYPE_DEPTH_MAX || self.open.iter().any(|open| open == name) {
            return reference();
        }
        self.open.push(name.to_owned());
        let mut parts = 0;
        let fields = def.fields.iter();
        let fields = fields.map(|(name, ty)| (name.clone(), self.counted(ty, &mut parts)));
        let fields: Vec<_> = fields.collect();
        self.open.pop();
        let resolved = if parts > TYPE_PARTS_MAX {
            (UserType::reference(self.keyspace, name), 1)
        } else {
            let (keyspace, name) = (self.keyspace.to_owned(), name.to_owned());
            (Arc::new(UserType { keyspace, name, fields }), parts)
        };
        self.known.insert(name.to_owned(), resolved.clone());
        resolved
    }
}

impl Schema {
    /// A type that was not dropped, nor its keyspace.
    pub fn type_def(&self, keyspace: &str, name: &str) -> Option<&TypeDef> {
        self.keyspace(keyspace)?;
        let key = (keyspace.to_owned(), name.to_owned());
        self.types.get(&key).filter(|def| !def.dropped)
    }

    /// The types that were not dropped, nor their keyspaces, by keyspace and name.
    pub fn live_types(&self) -> impl Iterator<Item = &TypeDef> {
        self.types.values().filter(|def| !def.dropped && self.keyspace(&def.keyspace).is_some())
    }

    /// The types of a keyspace, each behind those that it is made of: so they can be created one after the other.
    pub fn types_in_order(&self, keyspace: &str) -> Vec<&TypeDef> {
        let mut left: Vec<&TypeDef> =
            self.live_types().filter(|def| def.keyspace == keyspace).collect();
        let mut sorted = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let waiting: BTreeSet<&str> = left.iter().map(|def| def.name.as_str()).collect();
            let (ready, later): (Vec<_>, Vec<_>) =
                left.iter().partition(|def| def.parts().is_disjoint(&waiting));
            // A circle has no order; see the CAVEAT.
            if ready.is_empty() {
                sorted.extend(later);
                break;
            }
            sorted.extend(ready);
            left = later;
        }
        sorted
    }

    /// A type with its fields, and theirs.
    pub fn user_type(&self, keyspace: &str, name: &str) -> Option<Arc<UserType>> {
        self.type_def(keyspace, name)?;
        Some(Resolver::new(self, keyspace).user(name).0)
    }

    /// The table with the fields of the types that it is made of.
    #[must_use]
    pub fn resolve(&self, def: &TableDef) -> TableDef {
        if !def.columns.types().any(CqlType::has_users) {
            return def.clone();
        }
        let mut resolver = Resolver::new(self, &def.keyspace);
        TableDef { columns: def.columns.with_types(|ty| resolver.ty(ty)), ..def.clone() }
    }

    /// Who is made of a type, directly: types and tables, by name.
    pub fn users_of(&self, keyspace: &str, name: &str) -> (Vec<&str>, Vec<&str>) {
        let types = self.live_types().filter(|def| def.keyspace == keyspace);
        let types = types.filter(|def| def.parts().contains(name)).map(|def| def.name.as_str());
        let tables = self.live_tables().filter(|def| def.keyspace == keyspace);
        let tables = tables.filter(|def| def.columns.name_type(name)).map(|def| def.name.as_str());
        (types.collect(), tables.collect())
    }

    /// Whether the type is in the partition key of a table, however deep: by name, the tables.
    pub fn partition_keys_of(&self, keyspace: &str, name: &str) -> Vec<&str> {
        fn holds(ty: &CqlType, name: &str) -> bool {
            let mut found = false;
            ty.each_user(&mut |user| {
                found |= user.name == name || user.fields.iter().any(|(_, ty)| holds(ty, name));
            });
            found
        }
        let mut resolver = Resolver::new(self, keyspace);
        let tables = self.live_tables().filter(|def| def.keyspace == keyspace);
        let tables = tables.filter(|def| {
            let mut key = def.columns.partition_key.iter();
            key.any(|column| holds(&resolver.ty(&column.ty), name))
        });
        tables.map(|def| def.name.as_str()).collect()
    }

    /// Whether all types and tables of a keyspace still are what can be, after one of its types has come or changed.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check_types(&self, keyspace: &str) -> Result<(), TypesError> {
        let mut resolver = Resolver::new(self, keyspace);
        let types = || self.live_types().filter(|def| def.keyspace == keyspace);
        types().try_for_each(|def| self.check_parts(def))?;
        for def in types() {
            let ty = CqlType::User { of: UserType::reference(keyspace, &def.name), frozen: true };
            let checked = resolver.ty(&ty).check_within();
            let of = format!("type `{keyspace}.{}`", def.name);
            checked.map_err(|why| TypesError::Part { of, why })?;
        }
        let mut tables = self.live_tables().filter(|def| def.keyspace == keyspace);
        tables.try_for_each(|def| self.check_columns(def, &mut resolver))
    }

    /// Whether the types that a table is made of are there, and fit into it.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_table(&self, def: &TableDef) -> Result<(), TypesError> {
        self.check_columns(def, &mut Resolver::new(self, &def.keyspace))
    }

    fn check_columns(&self, def: &TableDef, resolver: &mut Resolver<'_>) -> Result<(), TypesError> {
        let table = format!("{}.{}", def.keyspace, def.name);
        let of = || format!("table `{table}`");
        self.check_there(&def.keyspace, def.columns.live_types(), &of)?;
        let columns = def.columns.with_types(|ty| resolver.ty(ty));
        let mut types = columns.live_types();
        let checked = types.try_for_each(CqlType::check_within);
        checked.map_err(|why| TypesError::Part { of: of(), why })?;
        columns.check().map_err(|why| TypesError::Columns { table: table.clone(), why })
    }

    /// What the type is made of is there, and is not the type itself.
    fn check_parts(&self, def: &TypeDef) -> Result<(), TypesError> {
        let of = || format!("type `{}.{}`", def.keyspace, def.name);
        self.check_there(&def.keyspace, def.fields.iter().map(|(_, ty)| ty), &of)?;
        let (mut seen, mut next) = (BTreeSet::new(), def.parts());
        while let Some(part) = next.pop_first() {
            if part == def.name {
                return Err(TypesError::Circular { name: def.name.clone() });
            }
            if seen.insert(part) {
                let key = (def.keyspace.clone(), part.to_owned());
                next.extend(self.types.get(&key).into_iter().flat_map(TypeDef::parts));
            }
        }
        Ok(())
    }

    fn check_there<'a>(
        &self,
        keyspace: &str,
        mut types: impl Iterator<Item = &'a CqlType>,
        of: &dyn Fn() -> String,
    ) -> Result<(), TypesError> {
        types.try_for_each(|ty| {
            let mut missing = None;
            ty.each_user(&mut |user| {
                if self.type_def(keyspace, &user.name).is_none() {
                    missing = Some(user.name.clone());
                }
            });
            match missing {
                Some(name) => Err(TypesError::Missing { of: of(), name }),
                None => Ok(()),
            }
        })
    }

    /// Adds what the tables and types in it are made of, from `all`: so whoever gets it can read it.
    #[must_use]
    pub fn with_types_of(mut self, all: &Schema) -> Schema {
        let mut wanted = BTreeSet::new();
        for def in self.tables.values() {
            let types = def.columns.types();
            types.for_each(|ty| ty.each_user(&mut |user| want(&mut wanted, &def.keyspace, user)));
        }
        for def in self.types.values() {
            let types = def.fields.iter().map(|(_, ty)| ty);
            types.for_each(|ty| ty.each_user(&mut |user| want(&mut wanted, &def.keyspace, user)));
        }
        while let Some(key) = wanted.pop_first() {
            if self.types.contains_key(&key) {
                continue;
            }
            let Some(def) = all.types.get(&key) else { continue };
            let types = def.fields.iter().map(|(_, ty)| ty);
            types.for_each(|ty| ty.each_user(&mut |user| want(&mut wanted, &def.keyspace, user)));
            self.types.insert(key, def.clone());
        }
        self
    }
}

fn want(wanted: &mut BTreeSet<(String, String)>, keyspace: &str, user: &UserType) {
    wanted.insert((keyspace.to_owned(), user.name.clone()));
}

#[cfg(test)]
mod tests;
