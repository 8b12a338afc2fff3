//! What a statement does to a collection, or to a user-defined type, whose elements are cells of their own.
//!
//! | statement | what is written |
//! |---|---|
//! | `c = value`, `INSERT` | a deletion of all elements, a microsecond older than the rest, and the new ones |
//! | `c = c + value`, `l = value + l`, `m[key] = value` | the new ones |
//! | `s = s - value`, `m = m - keys`, `DELETE m[key]` | a tombstone for each |
//! | `u.field = value`, `DELETE u.field` | the new value, a tombstone |
//! | `DELETE c` | a deletion of all elements |
//! | `l[i] = value`, `DELETE l[i]`, `l = l - values` | the same for places in a list, which must be **read before** |
//!
//! CAVEAT: reading before writing is not atomic, here as in Cassandra. Of two clients who set `l[0]` at once one wins; who
//! removes what another one is just appending may miss it.
//!
//! Source: Cassandra 4.1's Operation, Lists, Sets, Maps and UserTypes.

use super::change::Stamp;
use crate::cql::ast::{Assignment, Ident, Place};
use crate::cql::clustering::ClusteringError;
use crate::cql::collection::{Elements as Taken, Pairs, Parts};
use crate::cql::elements::{self, Places};
use crate::cql::plan::column::Column;
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::{Env, Expr};
use crate::cql::plan::resolve::{Resolver, Wanted, whole};
use crate::cql::plan::source::Source;
use crate::cql::plan::{ColumnSpec, PlanError, Value};
use crate::cql::types::CqlType;
use crate::data::{Cell, Complex, Deletion};
use crate::types::TimestampMicros;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is done to a collection, or to a user-defined type.
#[derive(Debug)]
pub(super) struct Elements {
    column: Column,
    operation: Operation,
}

#[derive(Debug)]
enum Operation {
    Assign(Expr),
    Append(Expr),
    Prepend(Expr),
    Remove(Expr),
    SetElement {
        key: Box<Expr>,
        value: Expr,
    },
    RemoveElement(Expr),
    /// Of a field, by its path; null removes it.
    SetField {
        path: Bytes,
        value: Box<Expr>,
    },
    Delete,
}

/// What all operations of a statement are bound with.
pub(super) struct Write<'a> {
    pub(super) stamp: Stamp,
    pub(super) env: Env<'a>,
    pub(super) places: &'a mut Places,
}

impl Elements {
    fn of(column: &Column, operation: Operation) -> Elements {
        Elements { column: column.clone(), operation }
    }

    /// `c = value`.
    pub(super) fn assign(column: &Column, value: Expr) -> Elements {
        Elements::of(column, Operation::Assign(value))
    }

    /// Every other assignment.
    pub(super) fn change(
        column: &Column,
        assignment: &Assignment,
        resolver: &mut Resolver<'_, '_>,
    ) -> Result<Elements, PlanError> {
        let ColumnSpec { name, ty, .. } = &**column;
        if let Assignment::SetField { field, value, .. } = assignment {
            let (path, of) = field_of(column, field, "operation")?;
            let name = format_args!("{name}.{field}");
            let value = resolver.value(Source::Term(value), Wanted::other(&name, of))?;
            return Ok(Elements::of(column, Operation::SetField { path, value: Box::new(value) }));
        }
        check(column, "operation")?;
        let mut value = |value, wanted: Wanted<'_>| resolver.value(Source::Term(value), wanted);
        let whole = Wanted::column(column);
        let operation = match assignment {
            Assignment::Set { value: term, .. } => Operation::Assign(value(term, whole)?),
            Assignment::Add { value: term, .. } => Operation::Append(value(term, whole)?),
            Assignment::Prepend { value: term, .. } => match ty {
                CqlType::List { .. } => Operation::Prepend(value(term, whole)?),
                _ => {
                    return invalid(format!(
                        "Invalid operation for non list column {name}: it has no beginning, write {name} = {name} + …"
                    ));
                }
            },
            Assignment::Subtract { value: term, .. } => match ty {
                // Keys are taken away, not pairs.
                CqlType::Map { key, .. } => {
                    let keys = CqlType::Set { of: Arc::clone(key), frozen: false };
                    Operation::Remove(value(term, Wanted::other(name, &keys))?)
                }
                _ => Operation::Remove(value(term, whole)?),
            },
            Assignment::SetElement { key, value: term, .. } => {
                let (word, of_key, of) = match ty {
                    CqlType::List { of, .. } => ("idx", &CqlType::Int, of),
                    CqlType::Map { key, value, .. } => ("key", &**key, value),
                    _ => {
                        return invalid(format!(
                            "Invalid operation for set column {name}: its elements have no values, write {name} = {name} + {{…}}"
                        ));
                    }
                };
                let key = value(key, Wanted::other(&format_args!("{word}({name})"), of_key))?;
                let value = value(term, Wanted::other(&format_args!("value({name})"), of))?;
                Operation::SetElement { key: Box::new(key), value }
            }
            Assignment::SetField { .. } => {
                return invalid(format!("Invalid operation: {name} of type {ty} has no fields"));
            }
        };
        Ok(Elements::of(column, operation))
    }

    /// `DELETE c`, `DELETE c[key]`, `DELETE u.field`.
    pub(super) fn delete(
        column: &Column,
        place: &Place,
        resolver: &mut Resolver<'_, '_>,
    ) -> Result<Elements, PlanError> {
        let ColumnSpec { name, ty, .. } = &**column;
        let key = match place {
            Place::Whole => return Ok(Elements::of(column, Operation::Delete)),
            Place::Element(key) => key,
            Place::Field(field) => {
                let (path, _) = field_of(column, field, "deletion operation")?;
                let value = Expr::Constant(None);
                return Ok(Elements::of(
                    column,
                    Operation::SetField { path, value: Box::new(value) },
                ));
            }
        };
        check(column, "deletion operation")?;
        let (word, of) = match ty {
            CqlType::Set { of, .. } => ("value", &**of),
            CqlType::Map { key, .. } => ("key", &**key),
            _ => ("idx", &CqlType::Int),
        };
        let name = format_args!("{word}({name})");
        let key = resolver.value(Source::Term(key), Wanted::other(&name, of))?;
        Ok(Elements::of(column, Operation::RemoveElement(key)))
    }

    /// Whether the collection must be read before: where the elements of a list lie is known to its replicas only.
    pub(super) fn reads(&self) -> bool {
        let by_place = matches!(
            self.operation,
            Operation::Remove(_) | Operation::SetElement { .. } | Operation::RemoveElement(_)
        );
        by_place && matches!(self.column.ty, CqlType::List { .. })
    }

    /// What is written. `held`: what was read before, if that was necessary and there is any.
    pub(super) fn bind(
        &self,
        write: &mut Write<'_>,
        held: Option<&Complex>,
    ) -> Result<Complex, PlanError> {
        let (stamp, env) = (write.stamp, write.env);
        let nothing = Complex::default();
        Ok(match &self.operation {
            Operation::Assign(expr) => {
                let deletion = Some(before(stamp));
                match expr.value(&env)? {
                    Value::Unset => nothing,
                    Value::Null => Complex { deletion, ..nothing },
                    Value::Bytes(value) => {
                        let elements = self.added(write, &value, Places::back)?;
                        Complex { deletion, elements }
                    }
                }
            }
            Operation::Append(expr) | Operation::Prepend(expr) => {
                let Value::Bytes(value) = expr.value(&env)? else { return Ok(nothing) };
                let places = match &self.operation {
                    Operation::Prepend(_) => Places::front,
                    _ => Places::back,
                };
                only(self.added(write, &value, places)?)
            }
            Operation::Remove(expr) => {
                let Value::Bytes(values) = expr.value(&env)? else { return Ok(nothing) };
                let gone = self.removed(&values, held, stamp)?;
                only(gone.into_iter().map(|path| (path, stamp.cell(None))).collect())
            }
            Operation::SetElement { key, value } => {
                let key = self.key(key, &env)?;
                let value = match value.value(&env)? {
                    Value::Unset => return Ok(nothing),
                    Value::Null => None,
                    Value::Bytes(value) => Some(value),
                };
                let path = self.place(&key, held, stamp, "set")?;
                only(vec![(path, stamp.cell(value))])
            }
            Operation::SetField { path, value } => {
                let value = match value.value(&env)? {
                    Value::Unset => return Ok(nothing),
                    Value::Null => None,
                    Value::Bytes(value) => Some(value),
                };
                only(vec![(path.clone(), stamp.cell(value))])
            }
            Operation::RemoveElement(key) => {
                let key = self.key(key, &env)?;
                let path = self.place(&key, held, stamp, "delete")?;
                only(vec![(path, stamp.cell(None))])
            }
            Operation::Delete => Complex { deletion: Some(stamp.deletion()), ..nothing },
        })
    }

    /// Where the elements lie that are taken away: those of a list by their bytes, wherever they are.
    fn removed(
        &self,
        values: &Bytes,
        held: Option<&Complex>,
        stamp: Stamp,
    ) -> Result<Vec<Bytes>, PlanError> {
        let damaged = |error| self.damaged(&error);
        let values = Taken::new(values, "collection").map_err(damaged)?;
        match &self.column.ty {
            CqlType::Set { of: key, .. } | CqlType::Map { key, .. } => {
                values.map(|value| self.path(key, value.map_err(damaged)?)).collect()
            }
            _ => {
                // A set, because both may be many.
                let values: BTreeSet<&[u8]> = values.collect::<Result<_, _>>().map_err(damaged)?;
                let held = held.into_iter().flat_map(|held| elements::live(held, stamp.now));
                let gone = held.filter(|(_, value)| values.contains(value.as_ref()));
                Ok(gone.map(|(path, _)| path.clone()).collect())
            }
        }
    }

    /// The cells of new elements.
    fn added(
        &self,
        write: &mut Write<'_>,
        value: &Bytes,
        places: fn(&mut Places, usize) -> Option<Vec<Bytes>>,
    ) -> Result<Vec<(Bytes, Cell)>, PlanError> {
        let mut added = Vec::new();
        let stamp = write.stamp;
        let damaged = |error| self.damaged(&error);
        match &self.column.ty {
            CqlType::Map { key, .. } => {
                for pair in Pairs::new(value).map_err(damaged)? {
                    let (k, v) = pair.map_err(damaged)?;
                    added.push((self.path(key, k)?, stamp.cell(Some(value.slice_ref(v)))));
                }
                // Of a key that is there twice the last value counts, which by their versions alone nobody could tell.
                added.reverse();
                added.sort_by(|(a, _), (b, _)| a.cmp(b));
                added.dedup_by(|(a, _), (b, _)| a == b);
            }
            // Null fields are those that the deletion before leaves.
            CqlType::User { .. } => {
                for (place, part) in Parts::new(value, "user-defined type").enumerate() {
                    let part = part.map_err(damaged)?;
                    if let (Some(part), Some(path)) = (part, elements::field_path(place)) {
                        added.push((path, stamp.cell(Some(value.slice_ref(part)))));
                    }
                }
            }
            CqlType::Set { of, .. } => {
                for element in Taken::new(value, "set").map_err(damaged)? {
                    let path = self.path(of, element.map_err(damaged)?)?;
                    added.push((path, stamp.cell(Some(Bytes::new()))));
                }
            }
            _ => {
                let taken = Taken::new(value, "list").map_err(damaged)?;
                let Some(places) = places(write.places, taken.left()) else {
                    return invalid(format!(
                        "column {}: too many elements in one request",
                        self.column.name
                    ));
                };
                for (element, path) in taken.zip(places) {
                    let element = value.slice_ref(element.map_err(damaged)?);
                    added.push((path, stamp.cell(Some(element))));
                }
            }
        }
        Ok(added)
    }

    fn path(&self, of: &CqlType, value: &[u8]) -> Result<Bytes, PlanError> {
        elements::path(of, value).map_err(|error| {
            let what =
                if matches!(self.column.ty, CqlType::Map { .. }) { "key" } else { "element" };
            PlanError::Invalid(match error {
                ClusteringError::TooLong { found, .. } => format!(
                    "the {what} of column {} is {found} bytes long, more than the maximum of {}",
                    self.column.name,
                    crate::cql::clustering::VALUE_BYTES_MAX
                ),
                ClusteringError::Value { source, .. } => source.for_column(&self.column.name),
                other => format!("column {}: {other}", self.column.name),
            })
        })
    }

    /// What stands between the brackets.
    fn key(&self, key: &Expr, env: &Env<'_>) -> Result<Bytes, PlanError> {
        let what = match &self.column.ty {
            CqlType::Map { .. } => "map key",
            CqlType::Set { .. } => "set element",
            _ => "list index",
        };
        match key.value(env)? {
            Value::Bytes(key) => Ok(key),
            Value::Null => {
                invalid(format!("Invalid null value for {what} of column {}", self.column.name))
            }
            Value::Unset => {
                invalid(format!("Invalid unset value for {what} of column {}", self.column.name))
            }
        }
    }

    /// Where the element of this key, or with this index, lies.
    fn place(
        &self,
        key: &Bytes,
        held: Option<&Complex>,
        stamp: Stamp,
        verb: &str,
    ) -> Result<Bytes, PlanError> {
        let of = match &self.column.ty {
            CqlType::Map { key, .. } => key,
            CqlType::Set { of, .. } => of,
            _ => return self.nth(key, held, stamp, verb),
        };
        self.path(of, key)
    }

    /// Where the element of a list with this index lies.
    fn nth(
        &self,
        index: &Bytes,
        held: Option<&Complex>,
        stamp: Stamp,
        verb: &str,
    ) -> Result<Bytes, PlanError> {
        let name = &self.column.name;
        let live = || held.into_iter().flat_map(|held| elements::live(held, stamp.now));
        let Some(index) = whole(&Value::Bytes(index.clone())) else {
            return invalid(format!("Invalid empty value for list index of column {name}"));
        };
        let found = usize::try_from(index).ok().and_then(|index| live().nth(index));
        if let Some((path, _)) = found {
            return Ok(path.clone());
        }
        match live().count() {
            0 => invalid(format!("Attempted to {verb} an element of list {name}, which is null")),
            size => {
                invalid(format!("List index {index} out of bound, list {name} has size {size}"))
            }
        }
    }

    /// Bytes that were checked and are not what they were said to be.
    fn damaged(&self, error: &crate::cql::ValueError) -> PlanError {
        PlanError::Invalid(error.for_column(&self.column.name))
    }
}

fn only(elements: Vec<(Bytes, Cell)>) -> Complex {
    Complex { deletion: None, elements }
}

/// The deletion that a whole new value begins with: older than its elements, or it would cover them.
fn before(stamp: Stamp) -> Deletion {
    let TimestampMicros(timestamp) = stamp.timestamp;
    Deletion { timestamp: TimestampMicros(timestamp.saturating_sub(1)), ..stamp.deletion() }
}

/// Where a field of the column lies, and its type.
fn field_of<'a>(
    column: &'a Column,
    field: &Ident,
    what: &str,
) -> Result<(Bytes, &'a CqlType), PlanError> {
    let ColumnSpec { name, ty, .. } = &**column;
    let CqlType::User { of, frozen } = ty else {
        return invalid(format!(
            "Invalid {what} for non-UDT column {name}: {name} of type {ty} has no field {field}"
        ));
    };
    if *frozen {
        return invalid(format!(
            "Invalid {what} for frozen UDT column {name}: it is written as a whole, with ="
        ));
    }
    let mut fields = of.fields.iter().enumerate();
    let found = fields.find(|(_, (known, _))| known == field.as_str());
    match found.and_then(|(place, (_, ty))| Some((elements::field_path(place)?, ty))) {
        Some(found) => Ok(found),
        None => invalid(format!("UDT column {name} does not have a field named {field}")),
    }
}

/// Whether elements of the column can be written one by one.
fn check(column: &Column, what: &str) -> Result<(), PlanError> {
    let ColumnSpec { name, ty, .. } = &**column;
    if !ty.is_collection() {
        return invalid(format!("Invalid {what} for non collection column {name} of type {ty}"));
    }
    if !ty.is_multicell() {
        return invalid(format!(
            "Invalid {what} for frozen collection column {name}: it is written as a whole, with ="
        ));
    }
    Ok(())
}
