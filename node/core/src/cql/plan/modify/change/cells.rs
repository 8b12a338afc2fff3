//! The cells that a statement writes into its rows.

use super::{Change, Kind, too_many};
use crate::cql::plan::column::Column;
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::Expr;
use crate::cql::plan::modify::counter::Increment;
use crate::cql::plan::modify::elements::{Elements, Write};
use crate::cql::plan::restrict::COMBINATIONS_MAX;
use crate::cql::plan::{Held, PlanError, Value};
use crate::data::{ColumnId, Key, Liveness, Partition, Row};
use crate::merge;

/// A column that is written.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: ColumnId,
    pub(super) is_static: bool,
    pub(super) what: What,
}

/// What is written into a column.
#[derive(Debug)]
pub(super) enum What {
    /// Its one cell.
    Cell(Expr),
    /// Cells of its elements.
    Elements(Elements),
    /// One more element: an increment.
    Counter(Increment),
}

impl What {
    /// The column gets this value.
    pub(super) fn value(column: &Column, value: Expr) -> What {
        if column.ty.is_multicell() {
            What::Elements(Elements::assign(column, value))
        } else {
            What::Cell(value)
        }
    }
}

impl Change {
    /// What is written depends on what is held, so each partition is written in its own way.
    pub(super) fn bind_each(
        &self,
        keys: Vec<Key>,
        write: &mut Write<'_>,
        held: &Held,
    ) -> Result<Vec<(Key, Partition)>, PlanError> {
        let (partitions, mut written) = (keys.len(), 0_usize);
        let mut updates = Vec::with_capacity(partitions);
        for key in keys {
            let Some(found) = held.get(&(self.table.id, key.clone())) else {
                return invalid(format!(
                    "a list of table {} is changed by its places, which takes a read before: this cannot be done here",
                    self.table.name
                ));
            };
            let mut partition = self.cells(write, Some(found))?;
            written = written.saturating_add(partition.rows.len());
            if written > COMBINATIONS_MAX {
                return Err(too_many(partitions, partition.rows.len()));
            }
            merge::normalise(&mut partition);
            if !merge::is_empty(&partition) {
                updates.push((key, partition));
            }
        }
        Ok(updates)
    }

    /// What is written into a row, or into the static one.
    fn row(
        &self,
        is_static: bool,
        write: &mut Write<'_>,
        held: Option<&Row>,
    ) -> Result<Row, PlanError> {
        let mut row = Row::default();
        for target in self.cells.iter().filter(|target| target.is_static == is_static) {
            let complex = match &target.what {
                What::Cell(value) => {
                    let value = match value.value(&write.env)? {
                        Value::Unset => continue,
                        Value::Null => None,
                        Value::Bytes(bytes) => Some(bytes),
                    };
                    row.cells.push((target.id, write.stamp.cell(value)));
                    continue;
                }
                What::Counter(increment) => increment.bind(write)?,
                What::Elements(elements) => {
                    elements.bind(write, held.and_then(|row| row.complex(target.id)))?
                }
            };
            if !complex.is_empty() {
                row.complex.push((target.id, complex));
            }
        }
        row.cells.sort_by_key(|(column, _)| *column);
        Ok(row)
    }

    /// Rows and static cells that are written. `held`: what was read before, if that was necessary.
    pub(super) fn cells(
        &self,
        write: &mut Write<'_>,
        held: Option<&Partition>,
    ) -> Result<Partition, PlanError> {
        let mut partition = Partition::default();
        let of_static =
            self.row(true, write, held.and_then(|partition| partition.static_row.as_ref()))?;
        if of_static != Row::default() {
            partition.static_row = Some(of_static);
        }
        // Without clustering columns' values only static cells are meant.
        if self.steps.is_empty() && !self.table.clustering().is_empty() {
            return Ok(partition);
        }
        let stamp = write.stamp;
        let liveness = (self.kind == Kind::Insert)
            .then_some(Liveness { timestamp: stamp.timestamp, expiry: stamp.expiry });
        let Some(held) = held else {
            let row = Row { liveness, ..self.row(false, write, None)? };
            if row == Row::default() {
                return Ok(partition);
            }
            let keys = self.clustering_keys(&write.env)?;
            let count = keys.len();
            // The last one is moved: of most statements it is the only one.
            partition.rows = keys.into_iter().zip(std::iter::repeat_n(row, count)).collect();
            return Ok(partition);
        };
        for key in self.clustering_keys(&write.env)? {
            let found = merge::find(&held.rows, &key);
            let row = Row { liveness, ..self.row(false, write, found)? };
            if row != Row::default() {
                partition.rows.push((key, row));
            }
        }
        Ok(partition)
    }
}
