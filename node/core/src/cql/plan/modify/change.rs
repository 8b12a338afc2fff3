//! One statement's change, alone or in a batch.

mod cells;
mod guarded;

use super::condition::{self, Guard};
use super::counter::{self, Increment};
use super::elements::{Elements, Write};
use crate::cql::ast::{
    Assignment, Delete, Ident, If, Insert, InsertValues, Modification, Place, Relation, Update,
    Using,
};
use crate::cql::clustering;
use crate::cql::elements::Places;
use crate::cql::plan::column::{At, Column};
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::{Env, Expr};
use crate::cql::plan::markers::Markers;
use crate::cql::plan::resolve::{Resolver, Wanted, whole};
use crate::cql::plan::restrict::{
    self, COMBINATIONS_MAX, Choice, Of, Partitions, Restrictions, Step, Subject, Tuple,
};
use crate::cql::plan::select::{missing_before, number};
use crate::cql::plan::source::Source;
use crate::cql::plan::table::Table;
use crate::cql::plan::{Held, Moment, Names, PlanError, Value, WriteAt};
use crate::cql::types::CqlType;
use crate::data::{
    Cell, ClusteringKey, Content, Deletion, Expiry, Key, Partition, RangeTombstone, Row,
};
use crate::merge;
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use cells::{Target, What};
use guarded::{check_no_timestamp, check_whole_key};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest TTL: twenty years, as in Cassandra.
const TTL_S_MAX: i64 = 20 * 365 * 24 * 60 * 60;

/// What a statement changes.
#[derive(Debug)]
pub(in crate::cql::plan) struct Change {
    pub(in crate::cql::plan) table: Arc<Table>,
    pub(in crate::cql::plan) guard: Option<Guard>,
    /// A choice for each column of the partition key.
    partitions: Vec<Choice>,
    /// What is said of clustering columns.
    steps: Vec<Step>,
    timestamp: Option<Expr>,
    ttl: Option<Expr>,
    kind: Kind,
    /// What is written into cells; null deletes.
    cells: Vec<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    /// Also a `DELETE` of columns: they are set to null.
    Update,
    Delete,
}

/// When, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) timestamp: TimestampMicros,
    pub(super) now: GcSeconds,
    expiry: Option<Expiry>,
}

impl Stamp {
    pub(super) fn deletion(self) -> Deletion {
        Deletion { timestamp: self.timestamp, deleted_at: self.now }
    }

    pub(super) fn cell(self, value: Option<Bytes>) -> Cell {
        let content = match value {
            Some(value) => Content::Value { value, expiry: self.expiry },
            None => Content::Tombstone { deleted_at: self.now },
        };
        Cell { timestamp: self.timestamp, content }
    }
}

impl Change {
    pub(in crate::cql::plan) fn new(
        modification: &Modification,
        markers: &mut Markers<'_>,
        names: &Names<'_>,
    ) -> Result<Change, PlanError> {
        match modification {
            Modification::Insert(insert) => {
                Change::insert(insert, markers, names.table(&insert.table)?)
            }
            Modification::Update(update) => {
                Change::update(update, markers, names.table(&update.table)?)
            }
            Modification::Delete(delete) => {
                Change::delete(delete, markers, names.table(&delete.table)?)
            }
        }
    }

    fn insert(
        insert: &Insert,
        markers: &mut Markers<'_>,
        table: Arc<Table>,
    ) -> Result<Change, PlanError> {
        if table.columns.has_counters() {
            return invalid(
                "INSERT statements are not allowed on counter tables, use UPDATE instead",
            );
        }
        let InsertValues::Columns { columns, values } = &insert.values else {
            return invalid("INSERT JSON is not supported: name the columns and their values");
        };
        if columns.len() != values.len() {
            return invalid(format!(
                "Unmatched column names/values: {} names and {} values",
                columns.len(),
                values.len()
            ));
        }
        let mut resolver = Resolver::new(&table, markers);
        let partition_columns = table.columns.partition_key.len();
        let of_key = partition_columns.saturating_add(table.clustering().len());
        let mut keys = Vec::with_capacity(of_key.min(columns.len()));
        let mut cells = Vec::with_capacity(columns.len().saturating_sub(of_key));
        let mut seen = Vec::with_capacity(columns.len());
        for (name, value) in columns.iter().zip(values) {
            let (place, column) = table.placed(name)?;
            seen.push((place, true));
            let value = resolver.value(Source::Term(value), Wanted::column(column))?;
            match column.at {
                At::Cell { id, is_static } => {
                    cells.push(Target { id, is_static, what: What::value(column, value) });
                }
                At::Partition(_) | At::Clustering(_) => {
                    let columns = Subject::One(column.clone());
                    keys.push(Choice { columns, of: Of::One(Tuple::One(value)) });
                }
            }
        }
        check_unique(&table, seen)?;
        let (timestamp, ttl) = using(&mut resolver, insert.using)?;
        // In the order of the key: first the columns that choose the partition.
        keys.sort_unstable_by_key(Choice::at);
        let of_partition = |choice: &Choice| matches!(choice.at(), Some(At::Partition(_)));
        let of_rows = keys.split_off(keys.partition_point(of_partition));
        let partitions = keys;
        let static_only = !cells.is_empty() && cells.iter().all(|cell| cell.is_static);
        let key = table.all_columns().iter();
        let (key, rows) = (key.clone().take(partition_columns), key.skip(partition_columns));
        check_present(key, &partitions, "partition key parts")?;
        if !(of_rows.is_empty() && static_only) {
            check_present(rows.take(table.clustering().len()), &of_rows, "clustering keys")?;
        }
        let steps = of_rows.into_iter().map(Step::Choice).collect();
        let kind = Kind::Insert;
        let guard = insert.if_not_exists.then_some(Guard::NotExists);
        check_no_timestamp(guard.as_ref(), timestamp.as_ref())?;
        Ok(Change { table, guard, partitions, steps, timestamp, ttl, kind, cells })
    }

    fn update(
        update: &Update,
        markers: &mut Markers<'_>,
        table: Arc<Table>,
    ) -> Result<Change, PlanError> {
        counter::check_using(&table, update.using, update.condition != If::Always)?;
        let mut resolver = Resolver::new(&table, markers);
        let (timestamp, ttl) = using(&mut resolver, update.using)?;
        let mut cells = Vec::with_capacity(update.assignments.len());
        let mut seen = Vec::with_capacity(update.assignments.len());
        let mut fields = BTreeSet::new();
        for assignment in &update.assignments {
            let (Assignment::Set { column: name, .. }
            | Assignment::Add { column: name, .. }
            | Assignment::Prepend { column: name, .. }
            | Assignment::Subtract { column: name, .. }
            | Assignment::SetElement { column: name, .. }
            | Assignment::SetField { column: name, .. }) = assignment;
            let (place, column) = table.placed(name)?;
            let alone = column.ty.is_counter() || matches!(assignment, Assignment::Set { .. });
            seen.push((place, alone));
            if let Assignment::SetField { field, .. } = assignment
                && !fields.insert((name, field))
            {
                return invalid(format!("Multiple definitions found for field {name}.{field}"));
            }
            let At::Cell { id, is_static } = column.at else {
                return invalid(format!("PRIMARY KEY part {name} found in SET part"));
            };
            let what = match assignment {
                counted if column.ty.is_counter() => {
                    What::Counter(Increment::new(column, counted, &mut resolver)?)
                }
                Assignment::Set { value, .. } => {
                    let wanted = Wanted::column(column);
                    What::value(column, resolver.value(Source::Term(value), wanted)?)
                }
                other => What::Elements(Elements::change(column, other, &mut resolver)?),
            };
            cells.push(Target { id, is_static, what });
        }
        check_unique(&table, seen)?;
        let restrictions = restrictions(&update.relations, &mut resolver, "UPDATE")?;
        let guard = condition::resolve(&update.condition, &mut resolver)?;
        check_no_timestamp(guard.as_ref(), timestamp.as_ref())?;
        check_rows(&table, &restrictions, &cells, guard.as_ref(), "UPDATE")?;
        let partitions = keys_of(restrictions.partitions, &table)?;
        Ok(Change {
            table,
            guard,
            partitions,
            steps: restrictions.steps,
            timestamp,
            ttl,
            kind: Kind::Update,
            cells,
        })
    }

    fn delete(
        delete: &Delete,
        markers: &mut Markers<'_>,
        table: Arc<Table>,
    ) -> Result<Change, PlanError> {
        counter::check_using(&table, delete.using, delete.condition != If::Always)?;
        let mut resolver = Resolver::new(&table, markers);
        let (timestamp, ttl) = using(&mut resolver, delete.using)?;
        let mut cells = Vec::with_capacity(delete.deletions.len());
        for deletion in &delete.deletions {
            let name = &deletion.column;
            let column = table.column(name)?;
            let At::Cell { id, is_static } = column.at else {
                return invalid(format!(
                    "Invalid identifier {name} for deletion (should not be a PRIMARY KEY part)"
                ));
            };
            let what = if deletion.place == Place::Whole && !column.ty.is_complex() {
                What::Cell(Expr::Constant(None))
            } else {
                let elements = Elements::delete(column, &deletion.place, &mut resolver)?;
                What::Elements(elements)
            };
            cells.push(Target { id, is_static, what });
        }
        let restrictions = restrictions(&delete.relations, &mut resolver, "DELETE")?;
        let guard = condition::resolve(&delete.condition, &mut resolver)?;
        check_no_timestamp(guard.as_ref(), timestamp.as_ref())?;
        let kind = if cells.is_empty() { Kind::Delete } else { Kind::Update };
        if kind == Kind::Update {
            check_rows(&table, &restrictions, &cells, guard.as_ref(), "DELETE")?;
        }
        if let Some(guard) = &guard {
            check_whole_key(&table, &restrictions, &cells, guard)?;
        }
        let partitions = keys_of(restrictions.partitions, &table)?;
        Ok(Change {
            table,
            guard,
            partitions,
            steps: restrictions.steps,
            timestamp,
            ttl,
            kind,
            cells,
        })
    }

    pub(in crate::cql::plan) fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    pub(in crate::cql::plan) fn partition_key_markers(&self) -> Vec<u16> {
        let markers: Option<Vec<u16>> = self.partitions.iter().map(Choice::marker).collect();
        markers.unwrap_or_default()
    }

    /// The partitions that must be read before it is bound: where it changes a list by its places, all that it writes.
    pub(in crate::cql::plan) fn reads(
        &self,
        values: &[Value],
        moment: Moment,
    ) -> Result<Vec<Key>, PlanError> {
        if self.reads_rows() {
            restrict::keys(&self.partitions, &Env::bound(values, moment))
        } else {
            Ok(Vec::new())
        }
    }

    pub(in crate::cql::plan) fn reads_rows(&self) -> bool {
        let reads = |target: &Target| match &target.what {
            What::Cell(_) | What::Counter(_) => false,
            What::Elements(elements) => elements.reads(),
        };
        self.cells.iter().any(reads)
    }

    /// See [`ModifyPlan::bind`](super::ModifyPlan::bind). `held`: what [`Change::reads`] asked for; `places`: where the
    /// request puts new elements of lists.
    pub(in crate::cql::plan) fn bind(
        &self,
        values: &[Value],
        at: WriteAt,
        moment: Moment,
        held: &Held,
        places: &mut Places,
    ) -> Result<Vec<(Key, Partition)>, PlanError> {
        if self.guard.is_some() {
            return invalid(
                "a statement with IF is decided before it is written: it has no update yet",
            );
        }
        self.writes(values, at, moment, held, places)
    }

    /// What it writes where its condition holds.
    pub(in crate::cql::plan) fn writes(
        &self,
        values: &[Value],
        at: WriteAt,
        moment: Moment,
        held: &Held,
        places: &mut Places,
    ) -> Result<Vec<(Key, Partition)>, PlanError> {
        let env = Env::bound(values, moment);
        let stamp = self.stamp(at, &env)?;
        let keys = restrict::keys(&self.partitions, &env)?;
        let mut write = Write { stamp, env, places };
        if self.reads_rows() {
            return self.bind_each(keys, &mut write, held);
        }
        let mut partition = match self.kind {
            Kind::Delete => self.deletion(stamp, &env)?,
            Kind::Insert | Kind::Update => self.cells(&mut write, None)?,
        };
        let written = partition.rows.len().max(partition.ranges.len());
        if keys.len().saturating_mul(written) > COMBINATIONS_MAX {
            return Err(too_many(keys.len(), written));
        }
        merge::normalise(&mut partition);
        if merge::is_empty(&partition) {
            return Ok(Vec::new());
        }
        // The last one is moved: of most statements it is the only one.
        let count = keys.len();
        Ok(keys.into_iter().zip(std::iter::repeat_n(partition, count)).collect())
    }

    fn stamp(&self, at: WriteAt, env: &Env<'_>) -> Result<Stamp, PlanError> {
        let mut timestamp = at.timestamp;
        if let Some(expr) = &self.timestamp {
            timestamp = timestamp_of(expr, env)?.unwrap_or(timestamp);
        }
        let default = i64::from(self.table.options.default_time_to_live);
        let ttl = match self.ttl.as_ref().map(|ttl| ttl.value(env)).transpose()? {
            None | Some(Value::Unset) => default,
            // As Cassandra: no TTL, whatever the table's is.
            Some(Value::Null) => 0,
            Some(value) => match whole(&value) {
                Some(ttl) => ttl,
                None => return invalid("Invalid TTL: it has no bytes"),
            },
        };
        if ttl < 0 {
            return invalid(format!("A TTL must be greater or equal to 0, but was {ttl}"));
        }
        let ttl_s = match u32::try_from(ttl) {
            Ok(seconds) if ttl <= TTL_S_MAX => seconds,
            _ => {
                return invalid(format!(
                    "ttl is too large. requested ({ttl}) maximum ({TTL_S_MAX})"
                ));
            }
        };
        let expires_at = GcSeconds(at.now.0.saturating_add(ttl_s));
        let expiry = (ttl_s > 0).then_some(Expiry { ttl_s, expires_at });
        Ok(Stamp { timestamp, now: at.now, expiry })
    }

    /// What a `DELETE` of rows deletes.
    fn deletion(&self, stamp: Stamp, env: &Env<'_>) -> Result<Partition, PlanError> {
        let mut partition = Partition::default();
        let deletion = Some(stamp.deletion());
        if self.steps.is_empty() {
            partition.deletion = deletion;
            return Ok(partition);
        }
        let is_slice = matches!(self.steps.last(), Some(Step::Slice { .. }));
        if !is_slice && columns_said(&self.steps) == self.table.clustering().len() {
            let keys = self.clustering_keys(env)?;
            let row = Row { deletion, ..Row::default() };
            partition.rows = keys.into_iter().map(|key| (key, row.clone())).collect();
            return Ok(partition);
        }
        for slice in restrict::ranges(&self.steps, self.table.clustering(), env)? {
            let (start, end) = slice.bounds();
            partition.ranges.push(RangeTombstone { start, end, deletion: stamp.deletion() });
        }
        Ok(partition)
    }

    /// The rows that the steps say, each once.
    fn clustering_keys(&self, env: &Env<'_>) -> Result<Vec<ClusteringKey>, PlanError> {
        let mut keys = Vec::new();
        for values in restrict::prefixes(&self.steps, env)? {
            let values: Vec<Option<&[u8]>> =
                values.iter().map(|value| Some(value.as_ref())).collect();
            keys.push(clustering::encode(self.table.clustering(), &values)?);
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }
}

fn too_many(partitions: usize, written: usize) -> PlanError {
    PlanError::Invalid(format!(
        "the IN restrictions come to {partitions} partitions of {written} rows or ranges; {COMBINATIONS_MAX} are allowed in all"
    ))
}

/// `USING TIMESTAMP`; `None`: unset.
pub(in crate::cql::plan) fn timestamp_of(
    expr: &Expr,
    env: &Env<'_>,
) -> Result<Option<TimestampMicros>, PlanError> {
    let value = expr.value(env)?;
    if value == Value::Unset {
        return Ok(None);
    }
    match whole(&value) {
        // Nothing is older than the least one, so a deletion of it would delete nothing.
        Some(i64::MIN) => invalid(format!("Invalid timestamp value: {}", i64::MIN)),
        Some(micros) => Ok(Some(TimestampMicros(micros))),
        None => invalid("Invalid null value of timestamp"),
    }
}

fn using(
    resolver: &mut Resolver<'_, '_>,
    using: Using,
) -> Result<(Option<Expr>, Option<Expr>), PlanError> {
    let timestamp = number(resolver, using.timestamp, "[timestamp]", &CqlType::Bigint)?;
    Ok((timestamp, number(resolver, using.ttl, "[ttl]", &CqlType::Int)?))
}

/// No column, by its place, is said twice, but for several elements of one: `true` is a column as a whole.
fn check_unique(table: &Table, mut seen: Vec<(usize, bool)>) -> Result<(), PlanError> {
    seen.sort_unstable();
    let twice = seen.windows(2).find_map(|pair| match pair {
        [(a, x), (b, y)] if a == b && (*x || *y) => table.all_columns().get(*a),
        _ => None,
    });
    match twice {
        Some(column) => {
            let name = Ident::quoted(column.name.as_str());
            invalid(format!("Multiple definitions found for column {name}"))
        }
        None => Ok(()),
    }
}

fn missing(columns: &[&str], what: &str) -> PlanError {
    PlanError::Invalid(format!("Some {what} are missing: {}", columns.join(", ")))
}

/// Of each of these columns of the key something is said. `said` is in their order.
fn check_present<'a>(
    columns: impl Iterator<Item = &'a Column>,
    said: &[Choice],
    what: &str,
) -> Result<(), PlanError> {
    let mut said = said.iter().peekable();
    let mut absent = Vec::new();
    for column in columns {
        if said.next_if(|choice| choice.at() == Some(column.at)).is_none() {
            absent.push(column.name.as_str());
        }
    }
    if absent.is_empty() { Ok(()) } else { Err(missing(&absent, what)) }
}

/// The restrictions of a statement that writes: of the key only, and none that needs rows to be read.
fn restrictions(
    relations: &[Relation],
    resolver: &mut Resolver<'_, '_>,
    statement: &str,
) -> Result<Restrictions, PlanError> {
    let restrictions = restrict::gather(relations, resolver)?;
    if let Partitions::Tokens { .. } = restrictions.partitions {
        return invalid(format!(
            "The token function cannot be used in WHERE clauses for {statement} statements"
        ));
    }
    let Some(filter) = restrictions.filters.first() else { return Ok(restrictions) };
    match filter.column.at {
        At::Partition(_) if filter.is_choice() => Ok(restrictions),
        At::Partition(_) => invalid(format!(
            "Only EQ and IN relation are supported on the partition key (unless you use the token() function) for {statement} statements, not that of {}",
            filter.column.name
        )),
        At::Clustering(place) if matches!(restrictions.partitions, Partitions::Keys(_)) => {
            missing_before(resolver.table, &restrictions, place, &filter.column.name)
        }
        At::Clustering(_) => Ok(restrictions),
        At::Cell { .. } => invalid(format!(
            "Non PRIMARY KEY columns found in where clause: {}",
            filter.column.name
        )),
    }
}

fn keys_of(partitions: Partitions, table: &Table) -> Result<Vec<Choice>, PlanError> {
    match partitions {
        Partitions::Keys(choices) => Ok(choices),
        _ => {
            let key = table.columns.partition_key.iter();
            let names: Vec<&str> = key.map(|column| column.name.as_str()).collect();
            let names = names.join(", ");
            invalid(format!(
                "Some partition key parts are missing: all of {names} must be given with = or IN"
            ))
        }
    }
}

/// How many clustering columns have a value.
fn columns_said(steps: &[Step]) -> usize {
    let columns = steps.iter().map(|step| match step {
        Step::Choice(choice) => choice.columns.len(),
        Step::Slice { .. } => 0,
    });
    columns.sum()
}

/// Cells are written to rows that are known by their whole keys, static cells to the partition.
fn check_rows(
    table: &Table,
    restrictions: &Restrictions,
    cells: &[Target],
    guard: Option<&Guard>,
    statement: &str,
) -> Result<(), PlanError> {
    let columns = &table.columns.clustering;
    let static_only =
        cells.iter().all(|cell| cell.is_static) && !guard.is_some_and(Guard::is_about_rows);
    if static_only && !columns.is_empty() {
        if restrictions.steps.is_empty() {
            return Ok(());
        }
        return invalid(format!(
            "Invalid restrictions on clustering columns since the {statement} statement modifies only static columns"
        ));
    }
    let said = columns_said(&restrictions.steps);
    if matches!(restrictions.steps.last(), Some(Step::Slice { .. })) {
        let name = columns.get(said).map_or("", |column| column.name.as_str());
        return invalid(if statement == "DELETE" {
            format!("Range deletions are not supported for specific columns: {name} has a range")
        } else {
            format!(
                "Slice restrictions are not supported on the clustering columns in {statement} statements: {name}"
            )
        });
    }
    let absent: Vec<&str> = columns.iter().skip(said).map(|column| column.name.as_str()).collect();
    if absent.is_empty() { Ok(()) } else { Err(missing(&absent, "clustering keys")) }
}
