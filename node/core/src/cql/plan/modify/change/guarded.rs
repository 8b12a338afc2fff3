//! What a statement with `IF` may be, and what its condition has to know of it.

use super::{Change, Kind, Target, columns_said};
use crate::cql::plan::PlanError;
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::{Env, Expr};
use crate::cql::plan::modify::Guard;
use crate::cql::plan::restrict::{self, Choice, Restrictions, Step};
use crate::cql::plan::table::Table;
use crate::data::{ClusteringKey, Key};

impl Change {
    pub(in crate::cql::plan) fn is_delete(&self) -> bool {
        self.kind == Kind::Delete
    }

    pub(in crate::cql::plan) fn has_partition_in(&self) -> bool {
        !self.partitions.iter().all(Choice::is_one)
    }

    pub(in crate::cql::plan) fn has_clustering_in(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Choice(choice) if !choice.is_one()))
    }

    pub(in crate::cql::plan) fn writes_static(&self) -> bool {
        self.cells.iter().any(|cell| cell.is_static)
    }

    /// Whether it is about rows, and not about the partition and its static columns.
    pub(in crate::cql::plan) fn is_about_rows(&self) -> bool {
        self.table.clustering().is_empty() || !self.steps.is_empty()
    }

    pub(in crate::cql::plan) fn keys(&self, env: &Env<'_>) -> Result<Vec<Key>, PlanError> {
        restrict::keys(&self.partitions, env)
    }

    /// The row that it is about; `None`: none, but static columns.
    pub(in crate::cql::plan) fn target(
        &self,
        env: &Env<'_>,
    ) -> Result<Option<ClusteringKey>, PlanError> {
        if !self.is_about_rows() {
            return Ok(None);
        }
        Ok(self.clustering_keys(env)?.pop())
    }
}

/// What is decided has the timestamp of the decision.
pub(super) fn check_no_timestamp(
    guard: Option<&Guard>,
    timestamp: Option<&Expr>,
) -> Result<(), PlanError> {
    if guard.is_some() && timestamp.is_some() {
        return invalid("Cannot provide custom timestamp for conditional updates");
    }
    Ok(())
}

/// A conditional `DELETE` is of one row, or of static columns.
pub(super) fn check_whole_key(
    table: &Table,
    restrictions: &Restrictions,
    cells: &[Target],
    guard: &Guard,
) -> Result<(), PlanError> {
    const WHOLE: &str = "DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to";
    let is_slice = matches!(restrictions.steps.last(), Some(Step::Slice { .. }));
    if !is_slice && columns_said(&restrictions.steps) == table.columns.clustering.len() {
        return Ok(());
    }
    if cells.is_empty() || cells.iter().any(|cell| !cell.is_static) {
        return invalid(format!("{WHOLE} delete non static columns"));
    }
    if guard.is_about_rows() {
        return invalid(format!("{WHOLE} use IF condition on non static columns"));
    }
    Ok(())
}
