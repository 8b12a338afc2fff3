//! Statements with `IF`, bound: what they ask of the partition, what they write if it is so, and what their client is
//! told.
//!
//! All statements of a batch are about one partition, and either all of them are done or none: every condition must hold.
//! The answer begins with `[applied]`. If that is false, there follows of each row that conditions are about what it looks
//! like: the columns that are named in conditions (in a batch behind those of the key, which tell the rows apart), or all
//! of them where `IF EXISTS` or `IF NOT EXISTS` is among the conditions. A row that does not exist has no line; if none
//! does, `[applied]` stands alone.
//!
//! Where only static columns are asked about, the first row that lives is shown, as in Cassandra.
//!
//! Source: Cassandra 4.1's behaviour (`CQL3CasRequest`, `ModificationStatement.buildCasResultSet`).

use super::column::{At, Column};
use super::error::invalid;
use super::expr::Env;
use super::modify::{BoundTest, Change, Guard};
use super::rows::{self, RowView};
use super::table::Table;
use super::{ColumnSpec, Held, Moment, PlanError, Value, WriteAt};
use crate::cql::elements::Places;
use crate::cql::types::CqlType;
use crate::cql::{clustering, partition_key};
use crate::data::{ClusteringKey, Key, Partition, Row};
use crate::merge;
use crate::schema::TableDef;
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A statement or a batch with conditions, bound.
#[derive(Debug)]
pub struct Conditional {
    table: Arc<Table>,
    key: Key,
    parts: Vec<Part>,
    moment: Moment,
    is_batch: bool,
}

/// The answer to a conditional statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionalAnswer {
    /// `[applied]`, and perhaps others.
    pub columns: Vec<Arc<ColumnSpec>>,
    /// At least one.
    pub rows: Vec<Vec<Option<Bytes>>>,
}

/// One statement.
#[derive(Debug)]
struct Part {
    change: Arc<Change>,
    values: Arc<[Value]>,
    guard: Option<BoundGuard>,
}

/// A row that is asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Static,
    Row(ClusteringKey),
}

#[derive(Debug)]
enum BoundGuard {
    NotExists(Target),
    Exists(Target),
    /// Those of static columns are about the static row, whatever row it is.
    Columns(Target, Vec<BoundTest>),
}

/// What of a row is asked about, so that contradictions are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    NotExists,
    Exists,
    Columns,
}

impl Conditional {
    /// # Errors
    /// More than one partition or table, `IN`, a timestamp, conditions that contradict each other, values that cannot be.
    pub(super) fn new(
        changes: Vec<(Arc<Change>, Arc<[Value]>)>,
        moment: Moment,
        is_batch: bool,
    ) -> Result<Conditional, PlanError> {
        let mut place: Option<(Arc<Table>, Key)> = None;
        let mut parts = Vec::with_capacity(changes.len());
        for (change, values) in changes {
            let env = Env::bound(&values, moment);
            let key = one_partition(&change, &env)?;
            match &place {
                Some((table, _)) if table.id != change.table.id => {
                    return invalid("Batch with conditions cannot span multiple tables");
                }
                Some((_, other)) if *other != key => {
                    return invalid("Batch with conditions cannot span multiple partitions");
                }
                Some(_) => {}
                None => place = Some((Arc::clone(&change.table), key)),
            }
            if change.has_timestamp() {
                return invalid("Cannot provide custom timestamp for conditional updates");
            }
            if change.has_clustering_in() {
                return invalid(format!(
                    "IN on the clustering key columns is not supported with conditional {}",
                    if change.is_delete() { "deletions" } else { "updates" }
                ));
            }
            let guard =
                change.guard.as_ref().map(|guard| bind(guard, &change, &env)).transpose()?;
            parts.push(Part { change, values, guard });
        }
        let Some((table, key)) = place else {
            return invalid("a batch without statements has no condition");
        };
        let conditional = Conditional { table, key, parts, moment, is_batch };
        conditional.check_contradictions()?;
        Ok(conditional)
    }

    /// The table.
    pub fn table(&self) -> &Arc<TableDef> {
        self.table.def()
    }

    /// The partition.
    pub fn key(&self) -> &Key {
        &self.key
    }

    fn guards(&self) -> impl Iterator<Item = &BoundGuard> {
        self.parts.iter().filter_map(|part| part.guard.as_ref())
    }

    fn check_contradictions(&self) -> Result<(), PlanError> {
        let mut asked: BTreeMap<&Target, Asks> = BTreeMap::new();
        let of_static = Target::Static;
        for guard in self.guards() {
            let mut asks = Vec::new();
            match guard {
                BoundGuard::NotExists(target) => asks.push((target, Asks::NotExists)),
                BoundGuard::Exists(target) => asks.push((target, Asks::Exists)),
                BoundGuard::Columns(target, tests) => {
                    let about =
                        |is_static| tests.iter().any(|test| is_static == test.column.is_static());
                    asks.extend(about(false).then_some((target, Asks::Columns)));
                    asks.extend(about(true).then_some((&of_static, Asks::Columns)));
                }
            }
            for (target, asks) in asks {
                let before = *asked.entry(target).or_insert(asks);
                let mixed = match (before, asks) {
                    (a, b) if a == b => continue,
                    (Asks::NotExists, Asks::Exists) | (Asks::Exists, Asks::NotExists) => {
                        "Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row"
                    }
                    (Asks::NotExists, _) | (_, Asks::NotExists) => {
                        "Cannot mix IF conditions and IF NOT EXISTS for the same row"
                    }
                    _ => "Cannot mix IF conditions and IF EXISTS for the same row",
                };
                return invalid(mixed);
            }
        }
        Ok(())
    }

    /// What is to be merged in, in normal form and with this timestamp, if the conditions hold of the partition as it is
    /// `now`; otherwise `None`. It may be nothing that is merged in, if all that is set is unset.
    ///
    /// # Errors
    /// As of [`ModifyPlan::bind`](super::ModifyPlan::bind); also damage in what is asked about.
    pub fn decide(
        &self,
        current: &Partition,
        now: GcSeconds,
        timestamp: TimestampMicros,
    ) -> Result<Option<Partition>, PlanError> {
        for guard in self.guards() {
            if !guard.holds(&self.table, current, now)? {
                return Ok(None);
            }
        }
        let at = WriteAt { timestamp, now };
        // Of lists whose elements are told by their places, no more is known than what the condition was judged by.
        let mut held = Held::new();
        if self.parts.iter().any(|part| part.change.reads_rows()) {
            held.insert((self.table.id, self.key.clone()), current.clone());
        }
        let mut places = Places::new(self.moment.now, self.moment.random);
        let mut update = Partition::default();
        for part in &self.parts {
            let written = part.change.writes(&part.values, at, self.moment, &held, &mut places)?;
            for (_, written) in written {
                merge::merge(&mut update, written);
            }
        }
        Ok(Some(update))
    }

    /// The answer when it was applied.
    pub fn applied(&self) -> ConditionalAnswer {
        ConditionalAnswer { columns: vec![self.applied_column()], rows: vec![vec![boolean(true)]] }
    }

    /// The answer when it was not, the partition being as it was judged by.
    ///
    /// # Errors
    /// Keys that are not of this table's columns.
    pub fn refused(
        &self,
        current: &Partition,
        now: GcSeconds,
    ) -> Result<ConditionalAnswer, PlanError> {
        let shown = self.shown_columns();
        let key = partition_key::decode(&self.key, self.table.columns.partition_key.len())
            .map_err(|error| rows::corrupt(&self.table, error.to_string()))?;
        let types = self.table.clustering();
        let none = vec![None; types.len()];
        let static_row = current.static_row.as_ref();
        let mut rows = Vec::new();
        for (at, row) in self.shown_rows(current, now) {
            let clustering = clustering::decode(types, at)
                .map_err(|error| rows::corrupt(&self.table, error.to_string()))?;
            let view = RowView::new(&self.table, &key, &clustering, static_row, Some(row), now);
            rows.push(line(&shown, &view)?);
        }
        if rows.is_empty() {
            let view = RowView::new(&self.table, &key, &none, static_row, None, now);
            let values = line(&shown, &view)?;
            // The first is `[applied]`.
            let mut columns = shown.iter().zip(values.iter().skip(1));
            if columns.any(|((column, _), value)| column.is_static() && value.is_some()) {
                rows.push(values);
            }
        }
        if rows.is_empty() {
            return Ok(ConditionalAnswer {
                columns: vec![self.applied_column()],
                rows: vec![vec![boolean(false)]],
            });
        }
        let mut columns = vec![self.applied_column()];
        columns.extend(shown.into_iter().map(|(column, _)| column.spec));
        Ok(ConditionalAnswer { columns, rows })
    }

    fn applied_column(&self) -> Arc<ColumnSpec> {
        self.table.spec("[applied]".to_owned(), CqlType::Boolean)
    }

    /// The columns behind `[applied]`, and whether their values are shown or only their names.
    fn shown_columns(&self) -> Vec<(Column, bool)> {
        let about_existence = |guard: &BoundGuard| !matches!(guard, BoundGuard::Columns(..));
        if self.guards().any(about_existence) {
            // Existence is judged by what would be written: of statics if static columns are, of rows if rows are.
            let statics = self.parts.iter().any(|part| part.change.writes_static());
            let rows = self.parts.iter().any(|part| part.change.is_about_rows());
            let all = self.table.all_columns().iter();
            return all
                .map(|column| {
                    let is_shown = match column.at {
                        At::Cell { is_static: true, .. } => statics,
                        At::Cell { .. } => rows,
                        At::Partition(_) | At::Clustering(_) => true,
                    };
                    (column.clone(), is_shown)
                })
                .collect();
        }
        let mut named: Vec<Column> = Vec::new();
        if self.is_batch {
            let is_key = |column: &Column| !matches!(column.at, At::Cell { .. });
            named.extend(self.table.all_columns().iter().filter(|column| is_key(column)).cloned());
        }
        for guard in self.guards() {
            let BoundGuard::Columns(_, tests) = guard else { continue };
            for is_static in [false, true] {
                let of_kind = tests.iter().filter(|test| test.column.is_static() == is_static);
                named.extend(of_kind.map(|test| test.column.clone()));
            }
        }
        let mut seen = BTreeSet::new();
        named.retain(|column| seen.insert(column.at));
        named.into_iter().map(|column| (column, true)).collect()
    }

    /// The rows that conditions are about and that live; if they are only about static columns, the first that does.
    fn shown_rows<'p>(
        &self,
        current: &'p Partition,
        now: GcSeconds,
    ) -> Vec<&'p (ClusteringKey, Row)> {
        let about: BTreeSet<&ClusteringKey> = self.guards().filter_map(BoundGuard::row).collect();
        let is_live = |row: &Row| rows::is_live(&self.table, row, now);
        let mut live = current.rows.iter().filter(|(_, row)| is_live(row));
        if about.is_empty() {
            return live.next().into_iter().collect();
        }
        live.filter(|(key, _)| about.contains(key)).collect()
    }
}

impl BoundGuard {
    /// The row that it is about, if it is about one.
    fn row(&self) -> Option<&ClusteringKey> {
        match self {
            BoundGuard::NotExists(Target::Row(key)) | BoundGuard::Exists(Target::Row(key)) => {
                Some(key)
            }
            BoundGuard::Columns(Target::Row(key), tests) => {
                tests.iter().any(|test| !test.column.is_static()).then_some(key)
            }
            _ => None,
        }
    }

    fn holds(
        &self,
        table: &TableDef,
        current: &Partition,
        now: GcSeconds,
    ) -> Result<bool, PlanError> {
        let is_live = |row: &Row| rows::is_live(table, row, now);
        let exists = |target: &Target| target.find(current).is_some_and(is_live);
        match self {
            BoundGuard::NotExists(target) => Ok(!exists(target)),
            BoundGuard::Exists(target) => Ok(exists(target)),
            BoundGuard::Columns(target, tests) => {
                let static_row = current.static_row.as_ref();
                let view = RowView::new(table, &[], &[], static_row, target.find(current), now);
                for test in tests {
                    if !test.holds(&view)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

impl Target {
    fn find<'p>(&self, current: &'p Partition) -> Option<&'p Row> {
        match self {
            Target::Static => current.static_row.as_ref(),
            Target::Row(key) => merge::find(&current.rows, key),
        }
    }
}

/// The one partition of a statement.
fn one_partition(change: &Change, env: &Env<'_>) -> Result<Key, PlanError> {
    if change.has_partition_in() {
        return invalid(if change.is_delete() {
            "IN on the partition key is not supported with conditional deletions"
        } else {
            "IN on the partition key is not supported with conditional updates"
        });
    }
    match change.keys(env)?.pop() {
        Some(key) => Ok(key),
        None => invalid("the statement is about no partition"),
    }
}

fn bind(guard: &Guard, change: &Change, env: &Env<'_>) -> Result<BoundGuard, PlanError> {
    let target = match change.target(env)? {
        Some(row) => Target::Row(row),
        None => Target::Static,
    };
    Ok(match guard {
        Guard::NotExists => BoundGuard::NotExists(target),
        Guard::Exists => BoundGuard::Exists(target),
        Guard::Columns(tests) => {
            let bound = tests.iter().map(|test| test.bind(env));
            BoundGuard::Columns(target, bound.collect::<Result<_, _>>()?)
        }
    })
}

fn boolean(value: bool) -> Option<Bytes> {
    Some(Bytes::from_static(if value { &[1] } else { &[0] }))
}

fn line(shown: &[(Column, bool)], view: &RowView<'_>) -> Result<Vec<Option<Bytes>>, PlanError> {
    let value = |(column, is_shown): &(Column, bool)| match is_shown {
        true => view.column(column.at, &column.ty),
        false => Ok(None),
    };
    [Ok(boolean(false))].into_iter().chain(shown.iter().map(value)).collect()
}
