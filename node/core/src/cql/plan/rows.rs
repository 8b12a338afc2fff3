//! A partition becomes rows of an answer.

use super::column::At;
use super::error::invalid;
use super::expr::Env;
use super::select::{BoundSelect, Inner};
use super::{PlanError, Value};
use crate::cql::functions::{Aggregate, AggregateKind};
use crate::cql::types::CqlType;
use crate::cql::{clustering, elements, partition_key};
use crate::data::{Cell, ClusteringKey, ColumnId, Content, Expiry, Key, Partition, Row};
use crate::merge::{row_is_live, row_is_live_in};
use crate::read::RowFilter;
use crate::schema::TableDef;
use crate::types::GcSeconds;
use bytes::Bytes;

/// Rows of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionRows {
    /// The rows, each with a value for each column of the answer; of an aggregate without `GROUP BY`, what goes into it.
    pub rows: Vec<Vec<Option<Bytes>>>,
    /// With `ORDER BY`: the clustering key of each row, by which rows of several partitions are merged.
    pub keys: Vec<ClusteringKey>,
    /// The clustering key to go on after: of the last row that is in `rows`, or was counted in its last group. `None` if
    /// there is none, or if it is the row of a partition that has only static cells.
    pub last: Option<ClusteringKey>,
    /// Whether there are more rows after these.
    pub more: bool,
}

/// A part of a partition, as storage gave it.
#[derive(Debug, Clone, Copy)]
pub struct PartitionPart<'a> {
    /// What is in it.
    pub partition: &'a Partition,
    /// When it was read.
    pub now: GcSeconds,
    /// Whether no other follows.
    pub is_last: bool,
}

/// A row, and what belongs to all rows of its partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowView<'a> {
    table: &'a TableDef,
    partition_key: &'a [Bytes],
    clustering: &'a [Option<Bytes>],
    static_row: Option<&'a Row>,
    row: Option<&'a Row>,
    now: GcSeconds,
}

impl<'a> RowView<'a> {
    pub(super) fn new(
        table: &'a TableDef,
        partition_key: &'a [Bytes],
        clustering: &'a [Option<Bytes>],
        static_row: Option<&'a Row>,
        row: Option<&'a Row>,
        now: GcSeconds,
    ) -> RowView<'a> {
        RowView { table, partition_key, clustering, static_row, row, now }
    }

    /// A column's value, whatever it is kept as.
    pub(super) fn column(&self, at: At, ty: &CqlType) -> Result<Option<Bytes>, PlanError> {
        match at {
            At::Cell { id, is_static } if ty.is_complex() => self.elements(id, is_static, ty),
            at => Ok(self.value(at)),
        }
    }

    fn live(&self, id: ColumnId, is_static: bool) -> Option<(&'a Cell, &'a Bytes, Option<Expiry>)> {
        let row = if is_static { self.static_row } else { self.row }?;
        let at = row.cells.binary_search_by(|(column, _)| column.cmp(&id)).ok()?;
        let (_, cell) = row.cells.get(at)?;
        match &cell.content {
            Content::Value { value, expiry }
                if expiry.is_none_or(|expiry| expiry.expires_at > self.now) =>
            {
                Some((cell, value, *expiry))
            }
            _ => None,
        }
    }

    pub(super) fn value(&self, at: At) -> Option<Bytes> {
        match at {
            At::Partition(place) => self.partition_key.get(place).cloned(),
            At::Clustering(place) => self.clustering.get(place).cloned().flatten(),
            At::Cell { id, is_static } => {
                self.live(id, is_static).map(|(_, value, _)| value.clone())
            }
        }
    }

    /// A collection that is not frozen, or a counter.
    pub(super) fn elements(
        &self,
        id: ColumnId,
        is_static: bool,
        ty: &CqlType,
    ) -> Result<Option<Bytes>, PlanError> {
        let row = if is_static { self.static_row } else { self.row };
        let Some(complex) = row.and_then(|row| row.complex(id)) else { return Ok(None) };
        elements::value(ty, complex, self.now)
            .map_err(|error| corrupt(self.table, error.to_string()))
    }

    pub(super) fn writetime(&self, id: ColumnId, is_static: bool) -> Option<i64> {
        self.live(id, is_static).map(|(cell, _, _)| cell.timestamp.0)
    }

    pub(super) fn ttl(&self, id: ColumnId, is_static: bool) -> Option<i32> {
        let expiry = self.live(id, is_static)?.2?;
        let left = expiry.expires_at.0.saturating_sub(self.now.0);
        Some(i32::try_from(left).unwrap_or(i32::MAX))
    }
}

/// A group of rows in the making: aggregates, and values of its first row.
#[derive(Debug, Clone)]
pub struct Fold {
    slots: Vec<State>,
}

#[derive(Debug, Clone)]
enum State {
    Aggregate(Box<Aggregate>),
    First(Option<Option<Bytes>>),
}

impl Fold {
    fn new(plan: &Inner) -> Result<Fold, PlanError> {
        let state = |kind: Option<AggregateKind>, ty| match kind {
            Some(kind) => Ok::<_, PlanError>(State::Aggregate(Box::new(Aggregate::new(kind, ty)?))),
            None => Ok(State::First(None)),
        };
        let slots = plan.selection.slots.iter().map(|slot| state(slot.kind, &slot.of.ty));
        Ok(Fold { slots: slots.collect::<Result<_, _>>()? })
    }

    /// Takes the next row in: what [`BoundSelect::rows`] gave.
    ///
    /// # Errors
    /// A sum that grows too large.
    pub fn add(&mut self, row: Vec<Option<Bytes>>) -> Result<(), PlanError> {
        for (state, value) in self.slots.iter_mut().zip(row) {
            match state {
                State::Aggregate(aggregate) => aggregate.add(value.as_deref())?,
                State::First(first) => {
                    first.get_or_insert(value);
                }
            }
        }
        Ok(())
    }
}

/// What the rows of a partition that comes in parts carry from one part to the next.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    has_rows: bool,
    is_done: bool,
    group: Option<Group>,
}

impl Carried {
    /// Whether later parts give no more rows.
    pub fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The group that rows are added to.
#[derive(Debug, Clone)]
struct Group {
    prefix: Vec<Option<Bytes>>,
    fold: Fold,
    first: ClusteringKey,
    last: ClusteringKey,
}

impl BoundSelect {
    /// The rows of one partition after the row `after` (of an earlier page; `None`: from the start), at most `most` of them
    /// (of the groups, with `GROUP BY`). Whoever reads sees to the limits: `most` is what is left of the page and of them.
    ///
    /// A partition with static cells and no rows gives one row, if nothing was asked of its rows.
    ///
    /// # Errors
    /// A function that has no value for a row; keys that are not of this table's columns.
    pub fn rows(
        &self,
        key: &Key,
        partition: &Partition,
        now: GcSeconds,
        after: Option<&ClusteringKey>,
        most: usize,
    ) -> Result<PartitionRows, PlanError> {
        let part = PartitionPart { partition, now, is_last: true };
        self.part_rows(key, part, after, most, &mut Carried::default())
    }

    /// What storage is asked for to get the next `most` rows, from the cut `from` on (`None`: from the start): of a part at
    /// most `bytes`. `None`: there is nothing there to ask for.
    pub fn filter(&self, from: Option<&ClusteringKey>, most: u64, bytes: u32) -> Option<RowFilter> {
        let plan = &self.plan;
        let is_row_for_row =
            self.filters.is_empty() && plan.group_by.is_none() && !self.is_aggregate();
        let rows = if plan.distinct {
            1
        } else if is_row_for_row {
            // One more says whether there are more.
            u32::try_from(most.saturating_add(1)).unwrap_or(u32::MAX)
        } else {
            u32::MAX
        };
        let mut filter = RowFilter {
            slices: self.slices.clone(),
            reversed: self.reversed,
            static_row: plan.table.columns.cells.iter().any(|column| column.is_static),
            rows,
            bytes,
        };
        if let Some(from) = from {
            filter.slices = filter.rest(from);
        }
        (!filter.slices.is_empty()).then_some(filter)
    }

    /// As [`BoundSelect::rows`], of a partition that comes in parts: `carried` goes from one to the next. A group that may go
    /// on in the next part is not among the rows yet; whoever stops here comes back behind `last`, where it begins.
    ///
    /// # Errors
    /// As of [`BoundSelect::rows`].
    pub fn part_rows(
        &self,
        key: &Key,
        part: PartitionPart<'_>,
        after: Option<&ClusteringKey>,
        most: usize,
        carried: &mut Carried,
    ) -> Result<PartitionRows, PlanError> {
        let PartitionPart { partition, now, is_last } = part;
        let plan = &self.plan;
        let partition_key = partition_key::decode(key, plan.table.columns.partition_key.len())
            .map_err(|error| self.corrupt(error.to_string()))?;
        let static_row = partition.static_row.as_ref();
        let none = vec![None; plan.table.clustering().len()];
        // Of a partition without rows.
        let of_partition = RowView {
            table: &plan.table,
            partition_key: &partition_key,
            clustering: &none,
            static_row,
            row: None,
            now,
        };
        let static_is_live = static_row.is_some_and(|row| is_live(&plan.table, row, now));
        let group = carried.group.take();
        let mut sink = Sink { select: self, most, out: PartitionRows::default(), group };
        let mut live = self
            .stored(partition, after)
            .filter(|(_, row)| is_live(&plan.table, row, now))
            .peekable();
        carried.has_rows |= live.peek().is_some();
        let has_rows = carried.has_rows;
        if plan.distinct || !has_rows {
            let is_row = if plan.distinct {
                static_is_live || has_rows
            } else {
                static_is_live && !plan.restrictions.about_rows
            };
            // Of a partition in which nothing is known to be alive yet, the next part may say otherwise.
            let is_settled = is_last || (plan.distinct && is_row);
            if after.is_none() && is_settled && is_row && self.accepts(&of_partition)? {
                sink.row(&ClusteringKey::default(), &of_partition)?;
                sink.finish()?;
                sink.out.last = None;
            }
            carried.is_done = is_settled;
            return Ok(sink.out);
        }
        for (at, row) in live {
            let values = clustering::decode(plan.table.clustering(), at)
                .map_err(|error| self.corrupt(error.to_string()))?;
            let row = RowView { clustering: &values, row: Some(row), ..of_partition };
            if self.accepts(&row)? && !sink.row(at, &row)? {
                break;
            }
        }
        if is_last {
            sink.finish()?;
        }
        carried.group = sink.group.take();
        Ok(sink.out)
    }

    /// Whether rows are what goes into an aggregate: [`BoundSelect::aggregate`] makes the one row of the answer of all of
    /// them, of none too. With `GROUP BY` each group is a row, and this is `false`.
    pub fn is_aggregate(&self) -> bool {
        self.plan.group_by.is_none() && !self.plan.selection.slots.is_empty()
    }

    /// Whether rows of all partitions are put into the order of their clustering keys (`ORDER BY` with several keys), by
    /// [`PartitionRows::keys`]. Such an answer is not read in pages.
    pub fn merges_partitions(&self) -> bool {
        self.plan.ordered && matches!(&self.keys, super::Keys::Some(keys) if keys.len() > 1)
    }

    /// Begins an aggregate: rows are added as they come, and none are kept.
    ///
    /// # Errors
    /// None in a plan that was made: the types were checked then.
    pub fn fold(&self) -> Result<Fold, PlanError> {
        Fold::new(&self.plan)
    }

    /// The row that a fold comes to.
    ///
    /// # Errors
    /// A function that has no value for what was gathered.
    pub fn finish(&self, fold: Fold) -> Result<Vec<Option<Bytes>>, PlanError> {
        let mut slots = Vec::with_capacity(fold.slots.len());
        for state in fold.slots {
            slots.push(match state {
                State::Aggregate(aggregate) => aggregate.finish()?,
                State::First(first) => first.flatten(),
            });
        }
        let env = Env { values: &self.values, moment: self.moment, row: None, slots: &slots };
        self.plan.selection.exprs.iter().map(|expr| expr.eval(&env)).collect()
    }

    /// The one row that all of these come to.
    ///
    /// # Errors
    /// As of [`Fold::add`] and [`BoundSelect::finish`].
    pub fn aggregate(
        &self,
        rows: Vec<Vec<Option<Bytes>>>,
    ) -> Result<Vec<Option<Bytes>>, PlanError> {
        if !self.is_aggregate() {
            return invalid("this statement selects rows, not an aggregate of them");
        }
        let mut fold = self.fold()?;
        rows.into_iter().try_for_each(|row| fold.add(row))?;
        self.finish(fold)
    }

    fn accepts(&self, row: &RowView<'_>) -> Result<bool, PlanError> {
        for filter in &self.filters {
            if !filter.accepts(row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn corrupt(&self, what: String) -> PlanError {
        corrupt(&self.plan.table, what)
    }

    /// What is stored in the slices, in the order that is asked for, after `after`.
    fn stored<'a>(
        &'a self,
        partition: &'a Partition,
        after: Option<&'a ClusteringKey>,
    ) -> impl Iterator<Item = &'a (ClusteringKey, Row)> {
        let rows = partition.rows.as_slice();
        let before = |key: &ClusteringKey| rows.partition_point(|(k, _)| k < key);
        // The first row that is left, or the end of them, seen from the start of the partition.
        let (mut first, mut end) = (0, rows.len());
        match after {
            Some(key) if self.reversed => end = before(key),
            Some(key) => first = rows.partition_point(|(k, _)| k <= key),
            None => {}
        }
        let of_slice = move |slice: &super::Slice| {
            let from = rows.partition_point(|(k, _)| *k < slice.start).max(first);
            let until = rows.partition_point(|(k, _)| slice.is_before_end(k)).min(end);
            rows.get(from..until).unwrap_or_default()
        };
        let mut slices: Vec<&[(ClusteringKey, Row)]> = self.slices.iter().map(of_slice).collect();
        let reversed = self.reversed;
        if reversed {
            slices.reverse();
        }
        slices.into_iter().flat_map(move |rows| {
            let (forward, backward) = match reversed {
                false => (rows.iter(), [].iter()),
                true => ([].iter(), rows.iter()),
            };
            forward.chain(backward.rev())
        })
    }
}

/// Whether a reader sees anything in a row. Cells of a column that was dropped are nothing that anybody sees.
pub(super) fn is_live(table: &TableDef, row: &Row, now: GcSeconds) -> bool {
    let columns = &table.columns;
    if columns.dropped.is_empty() {
        return row_is_live(row, now);
    }
    row_is_live_in(row, now, |id| columns.cells.iter().any(|column| column.id == id))
}

pub(super) fn corrupt(table: &TableDef, what: String) -> PlanError {
    PlanError::Corrupt { table: format!("{}.{}", table.keyspace, table.name), what }
}

/// Where rows that were found go.
struct Sink<'a> {
    select: &'a BoundSelect,
    most: usize,
    out: PartitionRows,
    group: Option<Group>,
}

impl Sink<'_> {
    fn is_full(&self) -> bool {
        self.out.rows.len() >= self.most
    }

    /// Takes a row; `false`: it was one too many.
    fn row(&mut self, at: &ClusteringKey, row: &RowView<'_>) -> Result<bool, PlanError> {
        let plan = &self.select.plan;
        let (values, moment): (&[Value], _) = (&self.select.values, self.select.moment);
        let env = Env { values, moment, row: Some(row), slots: &[] };
        let inputs = || -> Result<Vec<_>, PlanError> {
            plan.selection.slots.iter().map(|slot| slot.of.expr.eval(&env)).collect()
        };
        if let Some(columns) = plan.group_by {
            let prefix = row.clustering.get(..columns).unwrap_or(row.clustering);
            if self.group.as_ref().is_some_and(|group| group.prefix != prefix) {
                self.finish()?;
            }
            if self.group.is_none() {
                if self.is_full() {
                    self.out.more = true;
                    return Ok(false);
                }
                let fold = Fold::new(plan)?;
                let (prefix, first, last) = (prefix.to_vec(), at.clone(), at.clone());
                self.group = Some(Group { prefix, fold, first, last });
            }
            if let Some(group) = &mut self.group {
                group.fold.add(inputs()?)?;
                group.last = at.clone();
            }
            return Ok(true);
        }
        if self.is_full() {
            self.out.more = true;
            return Ok(false);
        }
        let values = if self.select.is_aggregate() {
            inputs()?
        } else {
            let exprs = plan.selection.exprs.iter();
            exprs.map(|expr| expr.eval(&env)).collect::<Result<_, _>>()?
        };
        self.out.rows.push(values);
        self.out.last = Some(at.clone());
        if plan.ordered {
            self.out.keys.push(at.clone());
        }
        Ok(true)
    }

    /// The group that is open, if one is, becomes a row.
    fn finish(&mut self) -> Result<(), PlanError> {
        let Some(Group { fold, first, last, .. }) = self.group.take() else { return Ok(()) };
        self.out.rows.push(self.select.finish(fold)?);
        self.out.last = Some(last);
        if self.select.plan.ordered {
            self.out.keys.push(first);
        }
        Ok(())
    }
}
