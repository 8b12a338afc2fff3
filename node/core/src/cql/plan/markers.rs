//! Markers get their names and types, one after the other, as the statement is walked.

use super::error::invalid;
use super::resolve::{Purpose, Wanted};
use super::table::Table;
use super::{ColumnSpec, PlanError, Value};
use crate::cql::ast::Marker;
use std::sync::Arc;

/// The markers of a statement, and what is known of them so far.
pub(super) struct Markers<'a> {
    named: &'a [Marker],
    specs: Vec<Option<Arc<ColumnSpec>>>,
    /// How many calls of functions there are: each has a number, so that two `uuid()` differ.
    calls: u64,
}

impl<'a> Markers<'a> {
    pub(super) fn new(named: &'a [Marker]) -> Markers<'a> {
        Markers { named, specs: vec![None; named.len()], calls: 0 }
    }

    /// The marker stands for this. Clients are told its own name, if it has one; messages say what it is for.
    pub(super) fn set(
        &mut self,
        index: usize,
        table: &Table,
        wanted: Wanted<'_>,
    ) -> Result<Arc<ColumnSpec>, PlanError> {
        let (Some(spec), Some(marker)) = (self.specs.get_mut(index), self.named.get(index)) else {
            return invalid(format!("marker {index} of {} is none of the statement's", wanted.of));
        };
        let of = match wanted.of {
            Purpose::Column(column) => Arc::clone(&column.spec),
            Purpose::Other(name) => table.spec(name.to_string(), wanted.ty.clone()),
        };
        *spec = Some(match &marker.name {
            None => Arc::clone(&of),
            Some(own) => table.spec(own.as_str().to_owned(), wanted.ty.clone()),
        });
        Ok(of)
    }

    /// The number of the next call.
    pub(super) fn call(&mut self) -> u64 {
        self.calls = self.calls.saturating_add(1);
        self.calls
    }

    /// All of them; each has its type by now.
    pub(super) fn finish(self) -> Result<Arc<[Arc<ColumnSpec>]>, PlanError> {
        if self.specs.is_empty() {
            // The empty one is the same for all.
            return Ok(Arc::default());
        }
        let without = self.specs.iter().position(Option::is_none);
        match self.specs.into_iter().collect::<Option<Vec<_>>>() {
            Some(specs) => Ok(specs.into()),
            None => invalid(format!(
                "Cannot determine the type of bind marker {}",
                without.unwrap_or_default()
            )),
        }
    }
}

/// As many values as markers.
pub(super) fn check_count(specs: &[Arc<ColumnSpec>], values: &[Value]) -> Result<(), PlanError> {
    if specs.len() == values.len() {
        return Ok(());
    }
    invalid(format!(
        "Invalid amount of bind variables: expected {}, got {}",
        specs.len(),
        values.len()
    ))
}
