//! What a `SELECT` gives of each row, or of each group of rows.

use super::column;
use super::error::invalid;
use super::expr::{Expr, Typed};
use super::resolve::{Columns, Resolver, Slot};
use super::source::{Source, name_of};
use super::{ColumnSpec, PlanError};
use crate::cql::ast::Selectors;
use std::sync::Arc;

/// What is selected.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// The columns of the answer.
    pub(super) columns: Arc<[ColumnSpec]>,
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
    let (of_keyspace, of_table) = resolver.markers.names(table);
    let spec = |name, ty| ColumnSpec {
        keyspace: Arc::clone(&of_keyspace),
        table: Arc::clone(&of_table),
        name,
        ty,
    };
    match selectors {
        Selectors::All => {
            let all = column::each(table);
            columns.reserve_exact(all.len());
            exprs.reserve_exact(all.len());
            for column in all {
                let Typed { ty, expr } = resolver.of_row(column)?;
                columns.push(spec(column.name.to_owned(), ty));
                exprs.push(expr);
            }
        }
        Selectors::List(list) => {
            columns.reserve_exact(list.len());
            exprs.reserve_exact(list.len());
            for selector in list {
                let source = Source::Selectable(&selector.of);
                let typed = resolver.resolve(source, None)?;
                let name = match &selector.alias {
                    Some(alias) => alias.as_str().to_owned(),
                    None => name_of(source),
                };
                columns.push(spec(name, typed.ty));
                exprs.push(typed.expr);
            }
        }
    }
    resolver.columns = Columns::None;
    if columns.len() > usize::from(u16::MAX) {
        return invalid(format!("{} columns are selected, 65535 are allowed", columns.len()));
    }
    Ok(Selection { columns: columns.into(), exprs, slots: std::mem::take(&mut resolver.slots) })
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
