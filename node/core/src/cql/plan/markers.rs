//! Markers get their names and types, one after the other, as the statement is walked.

use super::error::invalid;
use super::{ColumnSpec, PlanError, Value};
use crate::cql::ast::Marker;
use crate::cql::types::CqlType;
use crate::schema::TableDef;

/// The markers of a statement, and what is known of them so far.
pub(super) struct Markers<'a> {
    named: &'a [Marker],
    specs: Vec<Option<ColumnSpec>>,
    /// How many calls of functions there are: each has a number, so that two `uuid()` differ.
    calls: u64,
}

impl<'a> Markers<'a> {
    pub(super) fn new(named: &'a [Marker]) -> Markers<'a> {
        Markers { named, specs: vec![None; named.len()], calls: 0 }
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
        let Some(spec) = self.specs.get_mut(index) else {
            return invalid(format!("marker {index} of {name} is none of the statement's"));
        };
        *spec = Some(ColumnSpec {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            name: own.map_or(name, |own| own.as_str()).to_owned(),
            ty: ty.clone(),
        });
        Ok(())
    }

    /// The number of the next call.
    pub(super) fn call(&mut self) -> u64 {
        self.calls = self.calls.saturating_add(1);
        self.calls
    }

    /// All of them; each has its type by now.
    pub(super) fn finish(self) -> Result<Vec<ColumnSpec>, PlanError> {
        let mut specs = Vec::with_capacity(self.specs.len());
        for (index, spec) in self.specs.into_iter().enumerate() {
            match spec {
                Some(spec) => specs.push(spec),
                None => {
                    return invalid(format!("Cannot determine the type of bind marker {index}"));
                }
            }
        }
        Ok(specs)
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
