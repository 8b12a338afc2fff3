//! What a `SELECT` gives of each row, or of each group of rows.

use super::error::invalid;
use super::expr::Expr;
use super::resolve::{Columns, Resolver, Slot};
use super::source::{Source, name_of};
use super::{ColumnSpec, PlanError};
use crate::cql::ast::{Selectable, Selectors};
use std::sync::Arc;

/// What is selected.
#[derive(Debug)]
pub(super) struct Selection {
    /// The columns of the answer.
    pub(super) columns: Arc<[Arc<ColumnSpec>]>,
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
) -> Result<Arc<Selection>, PlanError> {
    let table = resolver.table;
    // Nobody asks what it is made of: then it is the table's own.
    if matches!(selectors, Selectors::All) && !grouped && resolver.named.is_none() {
        return Ok(Arc::clone(table.all()));
    }
    resolver.columns = if grouped { Columns::Group } else { Columns::Row };
    let count = match selectors {
        Selectors::All => table.all_columns().len(),
        Selectors::List(list) => list.len(),
    };
    if count > usize::from(u16::MAX) {
        return invalid(format!("{count} columns are selected, 65535 are allowed"));
    }
    let (mut columns, mut exprs) = (Vec::with_capacity(count), Vec::with_capacity(count));
    match selectors {
        Selectors::All => {
            for column in table.all_columns() {
                columns.push(Arc::clone(&column.spec));
                exprs.push(resolver.of_row(column)?.expr);
            }
        }
        Selectors::List(list) => {
            for selector in list {
                if let (Selectable::Column(name), None) = (&selector.of, &selector.alias) {
                    let column = table.column(name)?;
                    columns.push(Arc::clone(&column.spec));
                    exprs.push(resolver.of_row(column)?.expr);
                    continue;
                }
                let source = Source::Selectable(&selector.of);
                let typed = resolver.resolve(source, None)?;
                let name = match &selector.alias {
                    Some(alias) => alias.as_str().to_owned(),
                    None => name_of(source),
                };
                columns.push(table.spec(name, typed.ty));
                exprs.push(typed.expr);
            }
        }
    }
    resolver.columns = Columns::None;
    let (columns, slots) = (columns.into(), std::mem::take(&mut resolver.slots));
    Ok(Arc::new(Selection { columns, exprs, slots }))
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
