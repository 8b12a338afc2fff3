//! What a `SELECT` gives of each row, or of each group of rows.

use super::column;
use super::error::invalid;
use super::expr::Expr;
use super::resolve::{Columns, Resolver, Slot};
use super::source::{Source, name_of};
use super::{ColumnSpec, PlanError};
use crate::cql::ast::Selectors;
use crate::cql::types::CqlType;
use crate::schema::TableDef;

/// What is selected.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// The columns of the answer.
    pub(super) columns: Vec<ColumnSpec>,
    /// One for each.
    pub(super) exprs: Vec<Expr>,
    /// What is gathered over rows; only of groups.
    pub(super) slots: Vec<Slot>,
}

/// Resolves what is selected. `grouped`: of groups of rows.
pub(super) fn select(
    selectors: &Selectors,
    grouped: bool,
    resolver: &mut Resolver<'_, '_>,
) -> Result<Selection, PlanError> {
    resolver.columns = if grouped { Columns::Group } else { Columns::Row };
    let table = resolver.table;
    let (mut columns, mut exprs) = (Vec::new(), Vec::new());
    match selectors {
        Selectors::All => {
            for column in column::all(table) {
                exprs.push(resolver.of_row(&column)?.expr);
                columns.push(spec(table, column.name, column.ty));
            }
        }
        Selectors::List(list) => {
            for selector in list {
                let source = Source::Selectable(&selector.of);
                let typed = resolver.resolve(source, None)?;
                let name = match &selector.alias {
                    Some(alias) => alias.as_str().to_owned(),
                    None => name_of(source),
                };
                columns.push(spec(table, name, typed.ty));
                exprs.push(typed.expr);
            }
        }
    }
    resolver.columns = Columns::None;
    if columns.len() > usize::from(u16::MAX) {
        return invalid(format!("{} columns are selected, 65535 are allowed", columns.len()));
    }
    Ok(Selection { columns, exprs, slots: std::mem::take(&mut resolver.slots) })
}

fn spec(table: &TableDef, name: String, ty: CqlType) -> ColumnSpec {
    ColumnSpec { keyspace: table.keyspace.clone(), table: table.name.clone(), name, ty }
}

/// Whether an aggregate is selected.
pub(super) fn has_aggregate(selectors: &Selectors) -> bool {
    match selectors {
        Selectors::All => false,
        Selectors::List(list) => {
            list.iter().any(|selector| Source::Selectable(&selector.of).has_aggregate())
        }
    }
}
