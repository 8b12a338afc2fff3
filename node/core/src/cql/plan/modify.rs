//! `INSERT`, `UPDATE` and `DELETE` become partitions to merge in.
//!
//! An `INSERT` says that its row exists (liveness), an `UPDATE` does not. A null deletes a cell, an unset value leaves it as
//! it is. Deletions are as small as they can be said: a cell, the elements of a collection, a row, a range of rows, the
//! partition.

mod change;
mod condition;
mod counter;
mod elements;

pub(super) use change::{Change, timestamp_of};
pub(super) use condition::{BoundTest, Guard};
pub use counter::check_batch;

use super::markers::{Markers, check_count};
use super::{ColumnSpec, Conditional, Held, Moment, Names, PlanError, Value, WriteAt};
use crate::cql::ast::Modification;
use crate::cql::elements::Places;
use crate::data::{Key, Partition};
use crate::schema::TableDef;
use std::sync::Arc;

/// A planned `INSERT`, `UPDATE` or `DELETE`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModifyPlan {
    change: Arc<Change>,
    markers: Arc<[Arc<ColumnSpec>]>,
}

impl ModifyPlan {
    pub(super) fn new(
        modification: &Modification,
        mut markers: Markers<'_>,
        names: &Names<'_>,
    ) -> Result<ModifyPlan, PlanError> {
        let change = Change::new(modification, &mut markers, names)?;
        Ok(ModifyPlan { change: Arc::new(change), markers: markers.finish()? })
    }

    /// The table that is written.
    pub fn table(&self) -> &Arc<TableDef> {
        self.change.table.def()
    }

    /// Whether it has a condition (`IF`). Then [`ModifyPlan::conditional`] binds it, and [`ModifyPlan::bind`] refuses.
    pub fn is_conditional(&self) -> bool {
        self.change.guard.is_some()
    }

    /// Binds a statement with a condition.
    ///
    /// # Errors
    /// As of [`ModifyPlan::bind`]; also what a condition does not go with.
    pub fn conditional(&self, values: &[Value], moment: Moment) -> Result<Conditional, PlanError> {
        check_count(&self.markers, values)?;
        Conditional::new(vec![(Arc::clone(&self.change), values.into())], moment, false)
    }

    /// Binds statements of which at least one has a condition, as a batch: all are done, or none.
    ///
    /// # Errors
    /// As of [`ModifyPlan::conditional`]; also several partitions.
    pub fn conditional_batch(
        statements: Vec<(ModifyPlan, Vec<Value>)>,
        moment: Moment,
    ) -> Result<Conditional, PlanError> {
        let mut changes = Vec::with_capacity(statements.len());
        for (plan, values) in statements {
            check_count(&plan.markers, &values)?;
            changes.push((plan.change, values.into()));
        }
        Conditional::new(changes, moment, true)
    }

    /// What each marker stands for.
    pub fn markers(&self) -> &[Arc<ColumnSpec>] {
        &self.markers
    }

    pub(super) fn shared_markers(&self) -> &Arc<[Arc<ColumnSpec>]> {
        &self.markers
    }

    /// See [`Plan::partition_key_markers`](super::Plan::partition_key_markers).
    pub fn partition_key_markers(&self) -> Vec<u16> {
        self.change.partition_key_markers()
    }

    /// The partitions that must be read before it is bound, because it changes a list by its places. Mostly none.
    ///
    /// # Errors
    /// As of [`ModifyPlan::bind`], where keys are concerned.
    pub fn reads(
        &self,
        values: &[Value],
        moment: Moment,
    ) -> Result<Vec<(Arc<TableDef>, Key)>, PlanError> {
        check_count(&self.markers, values)?;
        let keys = self.change.reads(values, moment)?;
        Ok(keys.into_iter().map(|key| (Arc::clone(self.table()), key)).collect())
    }

    /// What is written, in normal form: distinct keys, in the order of their tokens. Perhaps nothing, if all that an `UPDATE`
    /// sets is unset. `held` is what [`ModifyPlan::reads`] asked for.
    ///
    /// # Errors
    /// A value that its type does not have, a null in a key, a key that is too long, a TTL or a timestamp that cannot be, a
    /// condition.
    pub fn bind(
        &self,
        values: &[Value],
        at: WriteAt,
        moment: Moment,
        held: &Held,
    ) -> Result<Vec<(Key, Partition)>, PlanError> {
        check_count(&self.markers, values)?;
        let mut places = Places::new(moment.now, moment.random);
        self.change.bind(values, at, moment, held, &mut places)
    }
}
