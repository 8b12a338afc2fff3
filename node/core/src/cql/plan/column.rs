//! A column of a table, as statements see it.

use super::ColumnSpec;
use crate::data::ColumnId;
use std::ops::Deref;
use std::sync::Arc;

/// Where a column's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// In the partition key, at this place.
    Partition(usize),
    /// In the clustering key, at this place.
    Clustering(usize),
    /// In a cell.
    Cell { id: ColumnId, is_static: bool },
}

/// A column. Cheap to clone: its name and its type are its table's, and whoever keeps the column shares them.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) at: At,
    pub(super) spec: Arc<ColumnSpec>,
}

impl Column {
    pub(super) fn is_static(&self) -> bool {
        matches!(self.at, At::Cell { is_static: true, .. })
    }
}

impl Deref for Column {
    type Target = ColumnSpec;

    fn deref(&self) -> &ColumnSpec {
        &self.spec
    }
}

/// The names of several columns, as messages tell them.
pub(super) fn listed(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.join(", ")
}
