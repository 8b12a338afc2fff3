//! Columns by their names.

use super::PlanError;
use super::error::invalid;
use crate::cql::types::CqlType;
use crate::data::ColumnId;
use crate::schema::{CellColumn, ClusteringColumn, KeyColumn, TableDef};

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

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) ty: CqlType,
}

impl Column {
    pub(super) fn is_static(&self) -> bool {
        matches!(self.at, At::Cell { is_static: true, .. })
    }
}

/// A column of a table that is at hand: nothing of it is copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) at: At,
    pub(super) name: &'a str,
    pub(super) ty: &'a CqlType,
}

impl Named<'_> {
    pub(super) fn is_static(&self) -> bool {
        matches!(self.at, At::Cell { is_static: true, .. })
    }

    /// The column, for longer than its table is at hand.
    pub(super) fn kept(&self) -> Column {
        Column { at: self.at, name: self.name.to_owned(), ty: self.ty.clone() }
    }
}

/// All columns in the order of `SELECT *`: the partition key, the clustering key, then static ones and the rest, both by
/// their names.
pub(super) fn each(table: &TableDef) -> Vec<Named<'_>> {
    let columns = &table.columns;
    let keys = columns.partition_key.len().saturating_add(columns.clustering.len());
    let mut all = Vec::with_capacity(keys.saturating_add(columns.cells.len()));
    all.extend(columns.partition_key.iter().enumerate().map(of_partition_key));
    all.extend(columns.clustering.iter().enumerate().map(of_clustering));
    all.extend(columns.cells.iter().map(of_cells));
    if let Some(cells) = all.get_mut(keys..) {
        cells.sort_unstable_by_key(|cell| (!cell.is_static(), cell.name));
    }
    all
}

/// [`each`], to be kept.
pub(super) fn all(table: &TableDef) -> Vec<Column> {
    each(table).iter().map(Named::kept).collect()
}

fn of_partition_key((place, key): (usize, &KeyColumn)) -> Named<'_> {
    Named { at: At::Partition(place), name: &key.name, ty: &key.ty }
}

fn of_clustering((place, key): (usize, &ClusteringColumn)) -> Named<'_> {
    Named { at: At::Clustering(place), name: &key.name, ty: &key.ty }
}

fn of_cells(cell: &CellColumn) -> Named<'_> {
    let at = At::Cell { id: cell.id, is_static: cell.is_static };
    Named { at, name: &cell.name, ty: &cell.ty }
}

/// The column of this name.
pub(super) fn named<'a>(table: &'a TableDef, name: &str) -> Result<Named<'a>, PlanError> {
    let columns = &table.columns;
    let mut of_key = columns.partition_key.iter().enumerate();
    if let Some(found) = of_key.find(|(_, key)| key.name == name) {
        return Ok(of_partition_key(found));
    }
    let mut of_rows = columns.clustering.iter().enumerate();
    if let Some(found) = of_rows.find(|(_, key)| key.name == name) {
        return Ok(of_clustering(found));
    }
    match columns.cell(name) {
        Some(cell) => Ok(of_cells(cell)),
        None => invalid(format!(
            "Undefined column name {name} in table {}.{}",
            table.keyspace, table.name
        )),
    }
}

/// The column of this name, to be kept.
pub(super) fn find(table: &TableDef, name: &str) -> Result<Column, PlanError> {
    named(table, name).map(|column| column.kept())
}

/// The types of the clustering columns, with `true` for `DESC`.
pub(super) fn clustering_types(table: &TableDef) -> Vec<(CqlType, bool)> {
    table.columns.clustering.iter().map(|column| (column.ty.clone(), column.reversed)).collect()
}
