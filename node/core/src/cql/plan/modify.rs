//! `INSERT`, `UPDATE` and `DELETE` become partitions to merge in.
//!
//! An `INSERT` says that its row exists (liveness), an `UPDATE` does not. A null deletes a cell, an unset value leaves it as
//! it is. Deletions are as small as they can be said: a cell, a row, a range of rows, the partition.

mod change;
mod condition;

pub(super) use change::{Change, timestamp_of};

use super::markers::{Markers, check_count};
use super::{ColumnSpec, Moment, Names, PlanError, Value, WriteAt};
use crate::cql::ast::Modification;
use crate::data::{Key, Partition};
use crate::schema::TableDef;
use std::sync::Arc;

/// A planned `INSERT`, `UPDATE` or `DELETE`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModifyPlan {
    change: Arc<Change>,
    markers: Arc<[ColumnSpec]>,
}

impl ModifyPlan {
    pub(super) fn new(
        modification: &Modification,
        mut markers: Markers<'_>,
        names: &Names<'_>,
    ) -> Result<ModifyPlan, PlanError> {
        let change = Change::new(modification, &mut markers, names)?;
        Ok(ModifyPlan { change: Arc::new(change), markers: markers.finish()?.into() })
    }

    /// The table that is written.
    pub fn table(&self) -> &Arc<TableDef> {
        &self.change.table
    }

    /// Whether it has a condition (`IF`). [`ModifyPlan::bind`] refuses such a statement.
    pub fn is_conditional(&self) -> bool {
        self.change.conditional
    }

    /// What each marker stands for.
    pub fn markers(&self) -> &[ColumnSpec] {
        &self.markers
    }

    /// See [`Plan::partition_key_markers`](super::Plan::partition_key_markers).
    pub fn partition_key_markers(&self) -> Vec<u16> {
        self.change.partition_key_markers()
    }

    /// What is written, in normal form: distinct keys, in the order of their tokens. Perhaps nothing, if all that an `UPDATE`
    /// sets is unset.
    ///
    /// # Errors
    /// A value that its type does not have, a null in a key, a key that is too long, a TTL or a timestamp that cannot be, a
    /// condition.
    pub fn bind(
        &self,
        values: &[Value],
        at: WriteAt,
        moment: Moment,
    ) -> Result<Vec<(Key, Partition)>, PlanError> {
        check_count(&self.markers, values)?;
        self.change.bind(values, at, moment)
    }
}
