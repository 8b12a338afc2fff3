//! `SELECT`: which keys are read, in which order, and how much of them.

use super::column::At;
use super::error::invalid;
use super::expr::{Env, Expr};
use super::filter::BoundFilter;
use super::markers::{Markers, check_count};
use super::resolve::{Resolver, Wanted, whole};
use super::restrict::{self, Partitions, Restrictions};
use super::selection::{self, Selection};
use super::slices::Slice;
use super::source::Source;
use super::table::Table;
use super::{ColumnSpec, Moment, PlanError, Value};
use crate::cql::ast::{IntValue, Order, Ordering, Select, Selectable, Term};
use crate::cql::types::CqlType;
use crate::data::Key;
use crate::schema::TableDef;
use crate::types::Token;
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

const FILTERING: &str = "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING";

/// A planned `SELECT`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SelectPlan {
    inner: Arc<Inner>,
}

/// What does not change from one execution to the next.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) table: Arc<Table>,
    markers: Arc<[Arc<ColumnSpec>]>,
    pub(super) selection: Arc<Selection>,
    pub(super) restrictions: Restrictions,
    pub(super) distinct: bool,
    /// `GROUP BY`: the partition and so many clustering columns.
    pub(super) group_by: Option<usize>,
    /// Whether rows of several partitions are to be put into one order.
    pub(super) ordered: bool,
    reversed: bool,
    limit: Option<Expr>,
    per_partition_limit: Option<Expr>,
}

/// Which partitions are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// These: distinct, in the order of their tokens.
    Some(Vec<Key>),
    /// All whose tokens are between these.
    Scan {
        /// From here.
        from: Bound<Token>,
        /// Until here.
        until: Bound<Token>,
    },
}

/// A `SELECT` with its values.
#[derive(Debug, Clone)]
pub struct BoundSelect {
    /// Which partitions are read.
    pub keys: Keys,
    /// At most so many rows in all. Of aggregates it counts results, not what goes in.
    pub limit: Option<u64>,
    /// At most so many rows (groups, with `GROUP BY`) of each partition.
    pub per_partition_limit: Option<u64>,
    /// Whether rows of a partition come in the opposite of their stored order.
    pub reversed: bool,
    /// Which rows of a partition are read: sorted, disjoint.
    pub slices: Vec<Slice>,
    pub(super) plan: Arc<Inner>,
    pub(super) filters: Vec<BoundFilter>,
    pub(super) values: Vec<Value>,
    pub(super) moment: Moment,
}

impl SelectPlan {
    pub(super) fn new(
        select: &Select,
        mut markers: Markers<'_>,
        table: Arc<Table>,
    ) -> Result<SelectPlan, PlanError> {
        if select.json {
            return invalid("SELECT JSON is not supported: select the columns, or toJson(column)");
        }
        let aggregate = selection::has_aggregate(&select.selectors);
        let grouped = aggregate || !select.group_by.is_empty();
        let mut resolver = Resolver::new(&table, &mut markers);
        resolver.named = select.distinct.then(Vec::new);
        let selection = selection::select(&select.selectors, grouped, &mut resolver)?;
        let named = resolver.named.take();
        let restrictions = restrict::gather(&select.relations, &mut resolver)?;
        let limit = number(&mut resolver, select.limit, "[limit]", &CqlType::Int)?;
        let per_partition_limit = number(
            &mut resolver,
            select.per_partition_limit,
            "[per_partition_limit]",
            &CqlType::Int,
        )?;
        if let Some(named) = named {
            check_distinct(select, &table, &restrictions, &named)?;
        }
        if per_partition_limit.is_some() && aggregate && select.group_by.is_empty() {
            return invalid("PER PARTITION LIMIT is not allowed with aggregate queries.");
        }
        if !select.allow_filtering {
            check_filtering(&table, &restrictions)?;
        }
        let reversed = reversed(&select.order_by, &table, &restrictions)?;
        let group_by = group_by(&select.group_by, &table, &restrictions)?;
        let inner = Inner {
            selection,
            restrictions,
            distinct: select.distinct,
            group_by,
            ordered: !select.order_by.is_empty(),
            reversed,
            limit,
            per_partition_limit,
            markers: markers.finish()?,
            table,
        };
        Ok(SelectPlan { inner: Arc::new(inner) })
    }

    /// The columns of the answer.
    pub fn columns(&self) -> &[Arc<ColumnSpec>] {
        self.shared_columns()
    }

    /// [`SelectPlan::columns`], to be kept.
    pub fn shared_columns(&self) -> &Arc<[Arc<ColumnSpec>]> {
        &self.inner.selection.columns
    }

    /// The table that is read.
    pub fn table(&self) -> &Arc<TableDef> {
        self.inner.table.def()
    }

    /// What each marker stands for.
    pub fn markers(&self) -> &[Arc<ColumnSpec>] {
        &self.inner.markers
    }

    pub(super) fn shared_markers(&self) -> &Arc<[Arc<ColumnSpec>]> {
        &self.inner.markers
    }

    /// See [`Plan::partition_key_markers`](super::Plan::partition_key_markers).
    pub fn partition_key_markers(&self) -> Vec<u16> {
        match &self.inner.restrictions.partitions {
            Partitions::Keys(choices) => {
                let markers: Option<Vec<u16>> = choices.iter().map(|c| c.marker()).collect();
                markers.unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Gives the markers their values.
    ///
    /// # Errors
    /// A value that its type does not have, a null or nothing where a key is wanted, a limit that is not positive.
    pub fn bind(&self, values: &[Value], moment: Moment) -> Result<BoundSelect, PlanError> {
        let plan = &self.inner;
        check_count(&plan.markers, values)?;
        let env = Env::bound(values, moment);
        let restrictions = &plan.restrictions;
        let slices = restrict::ranges(&restrictions.steps, plan.table.clustering(), &env)?;
        let mut keys = match &restrictions.partitions {
            Partitions::Keys(choices) => Keys::Some(restrict::keys(choices, &env)?),
            Partitions::Tokens { low, high } => {
                restrict::tokens(low.as_ref(), high.as_ref(), &env)?
            }
            Partitions::All => Keys::Scan { from: Bound::Unbounded, until: Bound::Unbounded },
        };
        // Of no rows nothing needs to be read.
        if slices.is_empty() {
            keys = Keys::Some(Vec::new());
        }
        let mut filters = Vec::with_capacity(restrictions.filters.len());
        for filter in &restrictions.filters {
            filters.push(filter.bind(&env)?);
        }
        Ok(BoundSelect {
            keys,
            limit: positive(plan.limit.as_ref(), "LIMIT", &env)?,
            per_partition_limit: positive(
                plan.per_partition_limit.as_ref(),
                "PER PARTITION LIMIT",
                &env,
            )?,
            reversed: plan.reversed,
            slices,
            plan: Arc::clone(plan),
            filters,
            values: values.to_vec(),
            moment,
        })
    }
}

/// A whole number or a marker for one.
pub(super) fn number(
    resolver: &mut Resolver<'_, '_>,
    value: Option<IntValue>,
    name: &str,
    ty: &CqlType,
) -> Result<Option<Expr>, PlanError> {
    Ok(match value {
        None => None,
        Some(IntValue::Integer(n)) => {
            Some(Expr::Constant(Some(Bytes::copy_from_slice(&n.to_be_bytes()))))
        }
        Some(IntValue::Marker(index)) => {
            Some(resolver.value(Source::Term(&Term::Marker(index)), Wanted::other(&name, ty))?)
        }
    })
}

fn positive(limit: Option<&Expr>, what: &str, env: &Env<'_>) -> Result<Option<u64>, PlanError> {
    let Some(limit) = limit else { return Ok(None) };
    let value = limit.value(env)?;
    if value == Value::Unset {
        return Ok(None);
    }
    let Some(n) = whole(&value) else {
        return invalid(format!("Invalid null value of {what}"));
    };
    match u64::try_from(n) {
        Ok(n) if n > 0 && n <= i32::MAX.unsigned_abs().into() => Ok(Some(n)),
        _ => invalid(format!("{what} must be strictly positive and fit an int, found {n}")),
    }
}

fn check_distinct(
    select: &Select,
    table: &Table,
    restrictions: &Restrictions,
    named: &[At],
) -> Result<(), PlanError> {
    if select.per_partition_limit.is_some() {
        return invalid("PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries");
    }
    let of_partition = |at: &At| matches!(at, At::Partition(_) | At::Cell { is_static: true, .. });
    let others = table.all_columns().iter().find(|c| named.contains(&c.at) && !of_partition(&c.at));
    if let Some(column) = others {
        return invalid(format!(
            "SELECT DISTINCT queries must only request partition key columns and/or static columns (not {})",
            column.name
        ));
    }
    if restrictions.about_rows {
        return invalid(
            "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.",
        );
    }
    if matches!(restrictions.partitions, Partitions::Keys(_)) {
        return Ok(());
    }
    let key = table.columns.partition_key.iter().enumerate();
    match key.into_iter().find(|(place, _)| !named.contains(&At::Partition(*place))) {
        None => Ok(()),
        Some((_, column)) => invalid(format!(
            "SELECT DISTINCT queries must request all the partition key columns (missing {})",
            column.name
        )),
    }
}

/// Without `ALLOW FILTERING` a key must say all.
fn check_filtering(table: &Table, restrictions: &Restrictions) -> Result<(), PlanError> {
    let by_key = matches!(restrictions.partitions, Partitions::Keys(_));
    let Some(filter) = restrictions.filters.first() else {
        return if by_key || restrictions.steps.is_empty() { Ok(()) } else { invalid(FILTERING) };
    };
    let only_clustering =
        restrictions.filters.iter().all(|f| matches!(f.column.at, At::Clustering(_)));
    let At::Clustering(place) = filter.column.at else { return invalid(FILTERING) };
    if !by_key || !only_clustering {
        return invalid(FILTERING);
    }
    missing_before(table, restrictions, place, &filter.column.name)
}

/// Why a clustering column cannot be restricted: of one before it nothing is said, or a slice.
pub(super) fn missing_before<T>(
    table: &Table,
    restrictions: &Restrictions,
    place: usize,
    name: &str,
) -> Result<T, PlanError> {
    let slice = matches!(restrictions.steps.last(), Some(restrict::Step::Slice { .. }));
    let before = table.columns.clustering.iter().take(place).next_back();
    let before = before.map_or("", |column| column.name.as_str());
    if slice {
        return invalid(format!(
            "Clustering column \"{name}\" cannot be restricted (preceding column \"{before}\" is restricted by a non-EQ relation)"
        ));
    }
    invalid(format!(
        "PRIMARY KEY column \"{name}\" cannot be restricted as preceding column \"{before}\" is not restricted"
    ))
}

/// Whether `ORDER BY` asks for the opposite of the stored order.
fn reversed(
    order_by: &[Ordering],
    table: &Table,
    restrictions: &Restrictions,
) -> Result<bool, PlanError> {
    if order_by.is_empty() {
        return Ok(false);
    }
    if !matches!(restrictions.partitions, Partitions::Keys(_)) {
        return invalid(
            "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
        );
    }
    let mut columns = table.columns.clustering.iter().enumerate();
    let mut reversed = None;
    for Ordering { column: name, order } in order_by {
        let column = table.column(name)?;
        let At::Clustering(wanted) = column.at else {
            return invalid(format!(
                "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got {name}"
            ));
        };
        // A column with one value has no order, so it may be left out.
        let next = columns
            .find(|(place, _)| *place == wanted || !restrictions.is_equal(At::Clustering(*place)));
        let Some((_, column)) = next.filter(|(place, _)| *place == wanted) else {
            return invalid(format!(
                "Order by currently only supports the ordering of columns following their declared order in the PRIMARY KEY, got {name}"
            ));
        };
        let opposite = (*order == Order::Desc) != column.reversed;
        if *reversed.get_or_insert(opposite) != opposite {
            return invalid(format!(
                "Unsupported order by relation: {name} goes the other way than the columns before it"
            ));
        }
    }
    Ok(reversed.unwrap_or(false))
}

/// How many clustering columns `GROUP BY` names, besides the partition key.
fn group_by(
    group_by: &[Selectable],
    table: &Table,
    restrictions: &Restrictions,
) -> Result<Option<usize>, PlanError> {
    if group_by.is_empty() {
        return Ok(None);
    }
    let partition = (0..table.columns.partition_key.len()).map(At::Partition);
    let mut key = partition.chain((0..table.columns.clustering.len()).map(At::Clustering));
    let mut last = At::Partition(0);
    for selectable in group_by {
        let Selectable::Column(name) = selectable else {
            return invalid(
                "GROUP BY a function is not supported: only columns of the PRIMARY KEY",
            );
        };
        let column = table.column(name)?;
        if matches!(column.at, At::Cell { .. }) {
            return invalid(format!(
                "Group by is currently only supported on the columns of the PRIMARY KEY, got {name}"
            ));
        }
        let next = key.find(|at| *at == column.at || !restrictions.is_equal(*at));
        if next != Some(column.at) {
            return invalid(format!(
                "Group by currently only support groups of columns following their declared order in the PRIMARY KEY, got {name}"
            ));
        }
        last = column.at;
    }
    match last {
        At::Clustering(place) => Ok(Some(place.saturating_add(1))),
        _ if key.any(|at| matches!(at, At::Partition(_)) && !restrictions.is_equal(at)) => {
            invalid("Group by is not supported on only a part of the partition key")
        }
        _ => Ok(Some(0)),
    }
}
