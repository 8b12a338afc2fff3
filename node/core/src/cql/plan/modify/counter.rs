//! What statements do to counters: they add to them and take away from them, and delete them, and nothing else.
//!
//! An increment becomes an element of its column, under a path that no other increment of its request has, so a batch may
//! add to one counter twice. What becomes of it is its leader's affair: see [`crate::counter`].
//!
//! Source: Cassandra 4.1's `Constants.Adder`, `Constants.Substracter`, `ModificationStatement.validate`,
//! `BatchStatement.validate`.

use super::elements::Write;
use crate::cql::ast::{Assignment, BatchKind, Using};
use crate::cql::plan::column::Column;
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::Expr;
use crate::cql::plan::resolve::{Resolver, Wanted, whole};
use crate::cql::plan::source::Source;
use crate::cql::plan::{PlanError, Value};
use crate::data::{Cell, Complex, Content};
use crate::schema::TableDef;
use bytes::Bytes;

/// `c = c + value`, `c = c - value`.
#[derive(Debug)]
pub(super) struct Increment {
    column: Column,
    by: Expr,
    negative: bool,
}

impl Increment {
    pub(super) fn new(
        column: &Column,
        assignment: &Assignment,
        resolver: &mut Resolver<'_, '_>,
    ) -> Result<Increment, PlanError> {
        let name = &column.name;
        let (by, negative) = match assignment {
            Assignment::Add { value, .. } => (value, false),
            Assignment::Subtract { value, .. } => (value, true),
            Assignment::Set { .. } => {
                return invalid(format!(
                    "Cannot set the value of counter column {name} (counters can only be incremented/decremented, not set)"
                ));
            }
            Assignment::Prepend { .. } => {
                return invalid(format!(
                    "Invalid operation for non list column {name}: write {name} = {name} + …"
                ));
            }
            Assignment::SetElement { .. } | Assignment::SetField { .. } => {
                return invalid(format!("Invalid operation: counter {name} has no parts"));
            }
        };
        let by = resolver.value(Source::Term(by), Wanted::column(column))?;
        Ok(Increment { column: column.clone(), by, negative })
    }

    /// The increment as an element of its column. Unset: none.
    pub(super) fn bind(&self, write: &mut Write<'_>) -> Result<Complex, PlanError> {
        let value = self.by.value(&write.env)?;
        if value == Value::Unset {
            return Ok(Complex::default());
        }
        let Some(by) = whole(&value) else {
            return invalid(format!(
                "Invalid null value for counter increment of {}",
                self.column.name
            ));
        };
        let by = if self.negative {
            let Some(by) = by.checked_neg() else {
                return invalid(format!(
                    "The negation of {by} overflows supported counter precision (signed 8 bytes integer)"
                ));
            };
            by
        } else {
            by
        };
        let Some(path) = write.places.back(1).and_then(|mut places| places.pop()) else {
            return invalid(format!(
                "column {}: too many increments in one request",
                self.column.name
            ));
        };
        let value = Bytes::copy_from_slice(&by.to_be_bytes());
        let content = Content::Value { value, expiry: None };
        let cell = Cell { timestamp: write.stamp.timestamp, content };
        Ok(Complex { deletion: None, elements: vec![(path, cell)] })
    }
}

/// Whether a statement may say this of a table of counters: when they are written is their leaders' affair, and they last.
pub(super) fn check_using(
    table: &TableDef,
    using: Using,
    conditional: bool,
) -> Result<(), PlanError> {
    if !table.columns.has_counters() {
        return Ok(());
    }
    if using.timestamp.is_some() {
        return invalid("Cannot provide custom timestamp for counter updates");
    }
    if using.ttl.is_some() {
        return invalid("Cannot provide custom TTL for counter updates");
    }
    // A leader counts without asking anybody: nothing could be decided before.
    if conditional {
        return invalid("Conditional updates are not supported on counter tables");
    }
    Ok(())
}

/// Whether statements of these tables may stand in one batch. `kind`: what it was begun as; `timestamp`: whether it says
/// one.
///
/// # Errors
/// Counters in a logged batch, since carrying out one twice counts twice; counters and others in one batch; others in one of
/// counters; a timestamp for counters.
pub fn check_batch<'a>(
    kind: BatchKind,
    timestamp: bool,
    mut tables: impl Iterator<Item = &'a TableDef> + Clone,
) -> Result<(), PlanError> {
    let counters = tables.clone().any(|table| table.columns.has_counters());
    let others = tables.any(|table| !table.columns.has_counters());
    if timestamp && kind == BatchKind::Counter {
        return invalid("Cannot provide custom timestamp for counter BATCH");
    }
    if timestamp && counters {
        return invalid("Cannot provide custom timestamp for a BATCH containing counters");
    }
    if kind == BatchKind::Counter && others {
        return invalid("Cannot include non-counter statement in a counter batch");
    }
    if counters && others {
        return invalid("Counter and non-counter mutations cannot exist in the same batch");
    }
    if kind == BatchKind::Logged && counters {
        return invalid(
            "Cannot include a counter statement in a logged batch: use BEGIN COUNTER BATCH",
        );
    }
    Ok(())
}
