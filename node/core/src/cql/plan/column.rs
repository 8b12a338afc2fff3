//! Columns by their names.

use super::PlanError;
use super::error::invalid;
use crate::cql::types::CqlType;
use crate::data::ColumnId;
use crate::schema::TableDef;

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

/// All columns in the order of `SELECT *`: the partition key, the clustering key, then static ones and the rest, both by
/// their names.
pub(super) fn all(table: &TableDef) -> Vec<Column> {
    let columns = &table.columns;
    let mut all = Vec::new();
    for (place, key) in columns.partition_key.iter().enumerate() {
        let (at, name, ty) = (At::Partition(place), key.name.clone(), key.ty.clone());
        all.push(Column { at, name, ty });
    }
    for (place, key) in columns.clustering.iter().enumerate() {
        let (at, name, ty) = (At::Clustering(place), key.name.clone(), key.ty.clone());
        all.push(Column { at, name, ty });
    }
    let mut cells: Vec<_> = columns.cells.iter().collect();
    cells.sort_by_key(|cell| (!cell.is_static, &cell.name));
    all.extend(cells.into_iter().map(|cell| Column {
        at: At::Cell { id: cell.id, is_static: cell.is_static },
        name: cell.name.clone(),
        ty: cell.ty.clone(),
    }));
    all
}

/// The column of this name.
pub(super) fn find(table: &TableDef, name: &str) -> Result<Column, PlanError> {
    let columns = &table.columns;
    let column = |at, ty: &CqlType| Ok(Column { at, name: name.to_owned(), ty: ty.clone() });
    if let Some((place, key)) =
        columns.partition_key.iter().enumerate().find(|(_, key)| key.name == name)
    {
        return column(At::Partition(place), &key.ty);
    }
    if let Some((place, key)) =
        columns.clustering.iter().enumerate().find(|(_, key)| key.name == name)
    {
        return column(At::Clustering(place), &key.ty);
    }
    match columns.cell(name) {
        Some(cell) => column(At::Cell { id: cell.id, is_static: cell.is_static }, &cell.ty),
        None => invalid(format!(
            "Undefined column name {name} in table {}.{}",
            table.keyspace, table.name
        )),
    }
}

/// The types of the clustering columns, with `true` for `DESC`.
pub(super) fn clustering_types(table: &TableDef) -> Vec<(CqlType, bool)> {
    table.columns.clustering.iter().map(|column| (column.ty.clone(), column.reversed)).collect()
}
