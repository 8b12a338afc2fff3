//! Markers get their names and types, one after the other, as the statement is walked.

use super::error::invalid;
use super::{ColumnSpec, PlanError, Value};
use crate::cql::ast::Marker;
use crate::cql::types::CqlType;
use crate::schema::TableDef;
use std::sync::Arc;

/// The markers of a statement, and what is known of them so far.
pub(super) struct Markers<'a> {
    named: &'a [Marker],
    specs: Vec<Option<ColumnSpec>>,
    /// The names of the table that was last asked for, as all its columns share them.
    names: Option<(Arc<str>, Arc<str>)>,
    /// How many calls of functions there are: each has a number, so that two `uuid()` differ.
    calls: u64,
}

impl<'a> Markers<'a> {
    pub(super) fn new(named: &'a [Marker]) -> Markers<'a> {
        Markers { named, specs: vec![None; named.len()], names: None, calls: 0 }
    }

    /// The marker stands for a value of this type; without a name of its own it is called `name`.
    pub(super) fn set(
        &mut self,
        index: usize,
        table: &TableDef,
        name: &str,
        ty: &CqlType,
    ) -> Result<(), PlanError> {
        let own = self.named.get(index).and_then(|marker| marker.name.as_ref());
        let called = own.map_or(name, |own| own.as_str()).to_owned();
        let (keyspace, of) = self.names(table);
        let Some(spec) = self.specs.get_mut(index) else {
            return invalid(format!("marker {index} of {name} is none of the statement's"));
        };
        *spec = Some(ColumnSpec { keyspace, table: of, name: called, ty: ty.clone() });
        Ok(())
    }

    /// The names of the keyspace and of the table: made once, if one table is asked for again and again.
    pub(super) fn names(&mut self, table: &TableDef) -> (Arc<str>, Arc<str>) {
        let made = || (Arc::from(table.keyspace.as_str()), Arc::from(table.name.as_str()));
        let (keyspace, name) = self.names.get_or_insert_with(made);
        if **keyspace != *table.keyspace || **name != *table.name {
            (*keyspace, *name) = made();
        }
        (Arc::clone(keyspace), Arc::clone(name))
    }

    /// The number of the next call.
    pub(super) fn call(&mut self) -> u64 {
        self.calls = self.calls.saturating_add(1);
        self.calls
    }

    /// All of them; each has its type by now.
    pub(super) fn finish(self) -> Result<Arc<[ColumnSpec]>, PlanError> {
        if let Some(index) = self.specs.iter().position(Option::is_none) {
            return invalid(format!("Cannot determine the type of bind marker {index}"));
        }
        if self.specs.is_empty() {
            // The empty one is the same for all.
            return Ok(Arc::default());
        }
        Ok(self.specs.into_iter().flatten().collect::<Vec<_>>().into())
    }
}

/// As many values as markers.
pub(super) fn check_count(specs: &[ColumnSpec], values: &[Value]) -> Result<(), PlanError> {
    if specs.len() == values.len() {
        return Ok(());
    }
    invalid(format!(
        "Invalid amount of bind variables: expected {}, got {}",
        specs.len(),
        values.len()
    ))
}
