//! A table as statements see it.
//!
//! What planning asks of a table, and no statement changes, is made once, when the schema is: columns by their names, what
//! `SELECT *` gives, how rows are sorted. A plan holds the table and shares these with all other plans about it.
//!
//! Invariant: whoever changes a table makes another [`TableDef`], and of that another [`Table`], so nothing here is ever out
//! of date; plans that hold the old one are made anew when the schema is another.

use super::column::{At, Column};
use super::error::invalid;
use super::expr::Expr;
use super::selection::Selection;
use super::{ColumnSpec, PlanError};
use crate::cql::ast::Ident;
use crate::cql::types::CqlType;
use crate::schema::TableDef;
use std::ops::Deref;
use std::sync::Arc;

/// A table, and what is made of its definition for the statements about it.
#[derive(Debug)]
pub struct Table {
    def: Arc<TableDef>,
    keyspace: Arc<str>,
    name: Arc<str>,
    /// In the order of `SELECT *`.
    columns: Vec<Column>,
    /// The places of all columns in `columns`, by the [numbers](Ident::number) of their names.
    places: Vec<(u64, usize)>,
    clustering: Vec<(CqlType, bool)>,
    all: Arc<Selection>,
}

impl Table {
    /// Of a definition with its user-defined types resolved.
    pub fn new(def: impl Into<Arc<TableDef>>) -> Table {
        let def: Arc<TableDef> = def.into();
        let (keyspace, name) = (Arc::from(def.keyspace.as_str()), Arc::from(def.name.as_str()));
        let column = |(at, of, ty): (At, &String, &CqlType)| {
            let (keyspace, table) = (Arc::clone(&keyspace), Arc::clone(&name));
            let spec = ColumnSpec { keyspace, table, name: of.clone(), ty: ty.clone() };
            Column { at, spec: Arc::new(spec) }
        };
        let key = def.columns.partition_key.iter().enumerate();
        let key = key.map(|(place, key)| (At::Partition(place), &key.name, &key.ty));
        let rows = def.columns.clustering.iter().enumerate();
        let rows = rows.map(|(place, key)| (At::Clustering(place), &key.name, &key.ty));
        let cells = def.columns.cells.iter().map(|cell| {
            (At::Cell { id: cell.id, is_static: cell.is_static }, &cell.name, &cell.ty)
        });
        let mut cells: Vec<Column> = cells.map(column).collect();
        cells.sort_by(|a, b| (!a.is_static(), &a.name).cmp(&(!b.is_static(), &b.name)));
        let columns: Vec<Column> = key.chain(rows).map(column).chain(cells).collect();

        let named = columns.iter().zip(0..);
        let mut places: Vec<(u64, usize)> = named
            .map(|(column, place)| (Ident::quoted(column.name.as_str()).number(), place))
            .collect();
        places.sort_unstable();
        let clustering = def.columns.clustering.iter();
        let clustering = clustering.map(|column| (column.ty.clone(), column.reversed)).collect();
        let all = Selection {
            columns: columns.iter().map(|column| Arc::clone(&column.spec)).collect(),
            exprs: columns.iter().map(Expr::of_row).collect(),
            slots: Vec::new(),
        };
        Table { keyspace, name, columns, places, clustering, all: Arc::new(all), def }
    }

    /// Its definition.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// All columns in the order of `SELECT *`: the partition key, the clustering key, then static ones and the rest, both by
    /// their names.
    pub(super) fn all_columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column of this name, and its place among all.
    pub(super) fn placed(&self, name: &Ident) -> Result<(usize, &Column), PlanError> {
        let wanted = name.number();
        let first = self.places.partition_point(|(number, _)| *number < wanted);
        for (number, place) in self.places.iter().skip(first) {
            match self.columns.get(*place) {
                Some(column) if *number == wanted && *name == column.name.as_str() => {
                    return Ok((*place, column));
                }
                Some(_) if *number == wanted => {}
                _ => break,
            }
        }
        let (keyspace, table) = (&self.keyspace, &self.name);
        invalid(format!("Undefined column name {} in table {keyspace}.{table}", name.as_str()))
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &Ident) -> Result<&Column, PlanError> {
        self.placed(name).map(|(_, column)| column)
    }

    /// The types of the clustering columns, with `true` for `DESC`.
    pub(super) fn clustering(&self) -> &[(CqlType, bool)] {
        &self.clustering
    }

    /// What `SELECT *` gives.
    pub(super) fn all(&self) -> &Arc<Selection> {
        &self.all
    }

    /// What is no column of this table, but told as if it were.
    pub(super) fn spec(&self, name: String, ty: CqlType) -> Arc<ColumnSpec> {
        let (keyspace, table) = (Arc::clone(&self.keyspace), Arc::clone(&self.name));
        Arc::new(ColumnSpec { keyspace, table, name, ty })
    }
}

impl Deref for Table {
    type Target = TableDef;

    fn deref(&self) -> &TableDef {
        &self.def
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{CellColumn, Columns, TableId, TableOptions};
    use crate::types::TimestampMicros;

    #[test]
    fn columns_are_found_by_their_names_whatever_these_have_in_common() {
        let middle = |nth: usize| format!("the_same_before_{nth:04}_and_the_same_behind");
        let mut names: Vec<String> = (0..200).map(|nth| format!("column_{nth}")).collect();
        // The numbers of these are one, for they are made of both ends.
        names.extend((0..200).map(middle));
        let cells = (0..).zip(&names).map(|(id, name)| {
            let (id, name, ty) = (crate::data::ColumnId(id), name.clone(), CqlType::Int);
            CellColumn { id, name, ty, is_static: false }
        });
        let columns = Columns { cells: cells.collect(), next_id: 400, ..Columns::key_value() };
        let table = Table::new(TableDef {
            id: TableId(1),
            keyspace: "ks".to_owned(),
            name: "t".to_owned(),
            columns,
            options: TableOptions::default(),
            altered: TimestampMicros(0),
            dropped: false,
        });
        for name in names.iter().map(String::as_str).chain(["key"]) {
            let (place, column) = table.placed(&Ident::quoted(name)).unwrap();
            assert_eq!(column.name, name);
            assert_eq!(table.all_columns()[place].at, column.at);
        }
        for other in ["", "column_200", "Column_1", &middle(200)] {
            let error = table.column(&Ident::quoted(other)).unwrap_err().to_string();
            assert_eq!(error, format!("Undefined column name {other} in table ks.t"));
        }
    }
}
