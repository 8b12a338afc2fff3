//! What is written into tables in memory, and how statements are run against them.

use crate::tables::{schema, tables};
use bytes::Bytes;
use helenus_core::counter::{self, Shard};
use helenus_core::cql::ast::{AlterTable, AlterType, InsertValues, Modification, Statement, Term};
use helenus_core::cql::plan::{
    self, BoundSelect, Carried, Catalog, Conditional, ConditionalAnswer, Held, Keys, Moment,
    PartitionPart, PartitionRows, Plan, SelectPlan, Table, Value, WriteAt,
};
use helenus_core::cql::{self, CqlType, collection, define};
use helenus_core::read::{AsOf, behind, select};
use helenus_core::{
    ClusteringKey, GcSeconds, Generation, Key, NodeId, Partition, Schema, TableDef, TableId,
    TimestampMicros, Token, merge, token,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeBounds as _;
use std::sync::Arc;

pub(crate) type Answer<T> = Result<T, Box<dyn std::error::Error>>;
type Row = Vec<Option<Bytes>>;

/// The keyspace `ks`, and all that was written.
pub(crate) struct Store {
    schema: Schema,
    tables: Vec<Arc<Table>>,
    written: BTreeMap<(TableId, Token, Key), Partition>,
    pub(crate) timestamp: i64,
    pub(crate) now: u32,
    moments: Cell<i64>,
}

impl Catalog for Store {
    fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>> {
        let found = self.tables.iter().find(|t| t.keyspace == keyspace && t.name == name);
        found.cloned()
    }

    fn has_keyspace(&self, keyspace: &str) -> bool {
        keyspace == "ks"
    }
}

impl Default for Store {
    fn default() -> Store {
        Store {
            schema: schema(),
            tables: tables().into_iter().map(|def| Arc::new(Table::new(def))).collect(),
            written: BTreeMap::new(),
            timestamp: 0,
            now: 1000,
            moments: Cell::new(0),
        }
    }
}

/// A term of `bind=`, which is bytes once the marker's type is known.
fn value_of(term: &Term, ty: &CqlType) -> Answer<Value> {
    Ok(match (term, ty) {
        (Term::Constant(constant), ty) => ty.constant(constant)?.map_or(Value::Null, Value::Bytes),
        (Term::List(terms), CqlType::List { of, .. }) => {
            Value::Bytes(collection::encode_list(&parts(terms, std::iter::repeat(&**of))?)?)
        }
        (Term::Tuple(terms), CqlType::Tuple(types)) => {
            let parts: Vec<_> = parts(terms, types.iter())?.into_iter().map(Some).collect();
            Value::Bytes(collection::encode_tuple(&parts)?)
        }
        (Term::Set(terms), CqlType::Set { of, .. }) => {
            Value::Bytes(collection::encode_set(of, parts(terms, std::iter::repeat(&**of))?)?)
        }
        (Term::User(fields), CqlType::User { of, .. }) => {
            // In the order in which they are said, which may be of fewer fields than there are, or of more.
            let types = of.fields.iter().map(|(_, ty)| ty).chain(std::iter::repeat(&CqlType::Int));
            let parts = fields.iter().zip(types).map(|((_, term), ty)| value_of(term, ty));
            let parts: Answer<Vec<Value>> = parts.collect();
            let bytes = |part: Value| match part {
                Value::Bytes(bytes) => Some(bytes),
                Value::Null | Value::Unset => None,
            };
            let parts: Vec<Option<Bytes>> = parts?.into_iter().map(bytes).collect();
            Value::Bytes(collection::encode_tuple(&parts)?)
        }
        (Term::Function { name, .. }, _) if name.name.as_str() == "unset" => Value::Unset,
        (term, ty) => return Err(format!("cannot bind {term:?} as {ty}").into()),
    })
}

fn parts<'a>(terms: &[Term], types: impl Iterator<Item = &'a CqlType>) -> Answer<Vec<Bytes>> {
    let values = terms.iter().zip(types).map(|(term, ty)| match value_of(term, ty)? {
        Value::Bytes(bytes) => Ok(bytes),
        other => Err(format!("{other:?} in a collection").into()),
    });
    values.collect()
}

impl Store {
    fn plan(&self, text: &str, bound: Option<&str>) -> Answer<(Plan, Vec<Value>)> {
        let parsed = cql::parse(text)?;
        let plan = plan::plan(&parsed.statement, &parsed.markers, Some("ks"), self)?;
        let mut values = Vec::new();
        if let Some(bound) = bound {
            let columns: Vec<String> = (0..plan.markers().len()).map(|n| format!("c{n}")).collect();
            let text = format!("INSERT INTO t ({}) VALUES ({bound})", columns.join(", "));
            let Statement::Modify(Modification::Insert(insert)) = cql::parse(&text)?.statement
            else {
                return Err("no values".into());
            };
            let InsertValues::Columns { values: terms, .. } = insert.values else {
                return Err("no values".into());
            };
            // One too few, or too many, is for the plan to refuse.
            let types =
                plan.markers().iter().map(|spec| &spec.ty).chain(std::iter::repeat(&CqlType::Int));
            let pairs: Answer<Vec<Value>> =
                terms.iter().zip(types).map(|(term, ty)| value_of(term, ty)).collect();
            values = pairs?;
        }
        Ok((plan, values))
    }

    fn moment(&self) -> Moment {
        // No two statements have the same one.
        let now = i64::from(self.now) * 1_000_000 + self.moments.get();
        self.moments.set(self.moments.get() + 1);
        Moment { now: TimestampMicros(now), random: 7 }
    }

    /// What a statement wants to be read before.
    fn held(&self, wanted: Vec<(Arc<TableDef>, Key)>) -> Held {
        let found = |table: TableId, key: &Key| {
            self.written.get(&(table, token::of(&key.0), key.clone())).cloned().unwrap_or_default()
        };
        wanted
            .into_iter()
            .map(|(table, key)| ((table.id, key.clone()), found(table.id, &key)))
            .collect()
    }

    fn changes(&self, text: &str, bound: Option<&str>) -> Answer<Vec<(TableId, Key, Partition)>> {
        let at = WriteAt { timestamp: TimestampMicros(self.timestamp), now: GcSeconds(self.now) };
        let (plan, values) = self.plan(text, bound)?;
        Ok(match plan {
            Plan::Modify(plan) => {
                let held = self.held(plan.reads(&values, self.moment())?);
                let changes = plan.bind(&values, at, self.moment(), &held)?;
                changes.into_iter().map(|(key, update)| (plan.table().id, key, update)).collect()
            }
            Plan::Batch(plan) => {
                let held = self.held(plan.reads(&values, self.moment())?);
                let changes = plan.bind(&values, at, self.moment(), &held)?;
                changes.into_iter().map(|(table, key, update)| (table.id, key, update)).collect()
            }
            Plan::Select(_) => return Err("not a write".into()),
        })
    }

    pub(crate) fn markers(&self, text: &str) -> Answer<String> {
        let (plan, _) = self.plan(text, None)?;
        let mut out = String::new();
        for spec in plan.markers() {
            writeln!(out, "{}.{}: {} {}", spec.keyspace, spec.table, spec.name, spec.ty)?;
        }
        writeln!(out, "partition key: {:?}", plan.partition_key_markers())?;
        if let Plan::Select(plan) = &plan {
            let columns = plan.columns().iter().map(|spec| format!("{} {}", spec.name, spec.ty));
            writeln!(out, "columns: {}", columns.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(out)
    }

    pub(crate) fn written(&self, text: &str, bound: Option<&str>) -> Answer<String> {
        let mut out = String::new();
        for (_, key, update) in self.changes(text, bound)? {
            let mut normal = update.clone();
            merge::normalise(&mut normal);
            assert_eq!(normal, update, "an update is in normal form");
            writeln!(out, "{:?}", key.0)?;
            if let Some(deletion) = &update.deletion {
                writeln!(out, "  {deletion:?}")?;
            }
            if let Some(row) = &update.static_row {
                writeln!(out, "  static {row:?}")?;
            }
            for range in &update.ranges {
                writeln!(out, "  {range:?}")?;
            }
            for (at, row) in &update.rows {
                writeln!(out, "  {:02x?} {row:?}", &at.0[..])?;
            }
        }
        Ok(out)
    }

    /// Runs a statement with these values, one for each marker. Refusals of bytes are told from those of the plan.
    pub(crate) fn run_with(&mut self, text: &str, value: impl FnMut() -> Value) -> Answer<usize> {
        let at = WriteAt { timestamp: TimestampMicros(self.timestamp), now: GcSeconds(self.now) };
        let (plan, _) = self.plan(text, None)?;
        let values: Vec<Value> = std::iter::repeat_with(value).take(plan.markers().len()).collect();
        if let Some(conditional) = self.conditional(&plan, &values)? {
            return Ok(self.decide(&conditional)?.rows.len());
        }
        Ok(match plan {
            Plan::Select(plan) => self.read(&plan, &values)?.len(),
            Plan::Modify(plan) => {
                let held = self.held(plan.reads(&values, self.moment())?);
                let changes = plan.bind(&values, at, self.moment(), &held)?;
                let count = changes.len();
                for (key, update) in changes {
                    self.merge(plan.table().id, key, update);
                }
                count
            }
            Plan::Batch(plan) => {
                let held = self.held(plan.reads(&values, self.moment())?);
                let changes = plan.bind(&values, at, self.moment(), &held)?;
                let count = changes.len();
                for (table, key, update) in changes {
                    self.merge(table.id, key, update);
                }
                count
            }
        })
    }

    fn alter(&mut self, alter: &AlterTable) -> Answer<()> {
        let now = TimestampMicros(i64::from(self.now) * 1_000_000);
        let name = alter.table.name.as_str();
        let table = self.tables.iter_mut().find(|table| table.name == name).ok_or("no table")?;
        let users =
            define::UserTypes { keyspace: "ks", find: &|name| self.schema.user_type("ks", name) };
        let altered = define::alter_table(table, &alter.change, now, users, &mut Vec::new())?;
        *table = Arc::new(Table::new(altered));
        Ok(())
    }

    /// All tables that are made of the type know it as it is now.
    fn alter_type(&mut self, alter: &AlterType) -> Answer<()> {
        let name = alter.name.name.as_str();
        let was = self.schema.type_def("ks", name).ok_or("no type")?;
        let users =
            define::UserTypes { keyspace: "ks", find: &|name| self.schema.user_type("ks", name) };
        let def = define::alter_type(was, &alter.change, users)?;
        self.schema.types.insert(("ks".to_owned(), name.to_owned()), def);
        for table in &mut self.tables {
            *table = Arc::new(Table::new(self.schema.resolve(table)));
        }
        Ok(())
    }

    fn conditional(&self, plan: &Plan, values: &[Value]) -> Answer<Option<Conditional>> {
        Ok(match plan {
            Plan::Modify(plan) if plan.is_conditional() => {
                Some(plan.conditional(values, self.moment())?)
            }
            Plan::Batch(plan) if plan.is_conditional() => {
                Some(plan.conditional(values, self.moment())?)
            }
            _ => None,
        })
    }

    /// Writes if the conditions hold.
    fn decide(&mut self, conditional: &Conditional) -> Answer<ConditionalAnswer> {
        let (now, timestamp) = (GcSeconds(self.now), TimestampMicros(self.timestamp));
        let (table, key) = (conditional.table().id, conditional.key().clone());
        let held = (table, token::of(&key.0), key.clone());
        let current = self.written.get(&held).cloned().unwrap_or_default();
        let Some(update) = conditional.decide(&current, now, timestamp)? else {
            return Ok(conditional.refused(&current, now)?);
        };
        let mut normal = update.clone();
        merge::normalise(&mut normal);
        assert_eq!(normal, update, "an update is in normal form");
        self.merge(table, key, update);
        Ok(conditional.applied())
    }

    fn merge(&mut self, table: TableId, key: Key, mut update: Partition) {
        let held = self.written.entry((table, token::of(&key.0), key)).or_default();
        if self.tables.iter().any(|def| def.id == table && def.columns.has_counters()) {
            let shard = Shard { node: NodeId(1), generation: Generation(1) };
            let at = counter::next_timestamp(held, TimestampMicros(self.timestamp));
            counter::count(&mut update, held, shard, at).expect("increments");
        }
        merge::merge(held, update);
    }

    /// Runs a statement; of a `SELECT` the rows, as CQL writes their values.
    pub(crate) fn run(&mut self, text: &str, bound: Option<&str>) -> Answer<String> {
        let mut out = String::new();
        if let Statement::AlterTable(alter) = cql::parse(text)?.statement {
            self.alter(&alter)?;
            return Ok(out);
        }
        if let Statement::AlterType(alter) = cql::parse(text)?.statement {
            self.alter_type(&alter)?;
            return Ok(out);
        }
        let (plan, values) = self.plan(text, bound)?;
        if let Some(conditional) = self.conditional(&plan, &values)? {
            let ConditionalAnswer { columns, rows } = self.decide(&conditional)?;
            let names: Vec<&str> = columns.iter().map(|spec| spec.name.as_str()).collect();
            writeln!(out, "{}", names.join(" | "))?;
            for row in rows {
                let values = row.iter().zip(&columns);
                let values: Result<Vec<_>, _> =
                    values.map(|(value, spec)| spec.ty.to_literal(value.as_deref())).collect();
                writeln!(out, "  {}", values?.join(" | "))?;
            }
            return Ok(out);
        }
        let Plan::Select(plan) = plan else {
            for (table, key, update) in self.changes(text, bound)? {
                self.merge(table, key, update);
            }
            return Ok(out);
        };
        let rows = self.read(&plan, &values)?;
        let names: Vec<&str> = plan.columns().iter().map(|spec| spec.name.as_str()).collect();
        writeln!(out, "{}", names.join(" | "))?;
        for row in rows {
            let values = row.iter().zip(plan.columns());
            let values: Result<Vec<_>, _> =
                values.map(|(value, spec)| spec.ty.to_literal(value.as_deref())).collect();
            writeln!(out, "  {}", values?.join(" | "))?;
        }
        Ok(out)
    }

    /// The rows, which are the same however short the pages are, and the parts in which storage gives them.
    pub(crate) fn read(&self, plan: &SelectPlan, values: &[Value]) -> Answer<Vec<Row>> {
        let bound = plan.bind(values, self.moment())?;
        let whole = self.pages(&bound, plan, usize::MAX, None)?;
        for page in [1, 2, 3, usize::MAX] {
            for bytes in [None, Some(1), Some(60), Some(u32::MAX)] {
                let found = self.pages(&bound, plan, page, bytes)?;
                assert_eq!(found, whole, "in pages of {page}, and parts of {bytes:?} bytes");
            }
        }
        Ok(whole)
    }

    /// As [`BoundSelect::rows`], asking storage for no more than the statement needs, and for parts of about `bytes`.
    fn in_parts(
        &self,
        bound: &BoundSelect,
        (key, partition): (&Key, &Partition),
        after: Option<&ClusteringKey>,
        most: usize,
        bytes: u32,
    ) -> Answer<PartitionRows> {
        let now = GcSeconds(self.now);
        let as_of = AsOf { now, gc_grace_seconds: u32::MAX };
        let (mut carried, mut out) = (Carried::default(), PartitionRows::default());
        let mut cut = after.map(|at| if bound.reversed { at.clone() } else { behind(at) });
        out.last = after.cloned();
        loop {
            let wanted = most - out.rows.len();
            let Some(filter) = bound.filter(cut.as_ref(), wanted as u64, bytes) else { break };
            let part = select(partition.clone(), &filter, as_of);
            let is_last = part.next.is_none();
            let of = PartitionPart { partition: &part.partition, now, is_last };
            let found = bound.part_rows(key, of, out.last.as_ref(), wanted, &mut carried)?;
            out.rows.extend(found.rows);
            out.keys.extend(found.keys);
            out.last = found.last.or(out.last);
            let is_done = is_last || carried.is_done();
            out.more = found.more || !is_done;
            if is_done || found.more || out.rows.len() >= most {
                break;
            }
            cut = part.next;
        }
        Ok(out)
    }

    fn pages(
        &self,
        bound: &BoundSelect,
        plan: &SelectPlan,
        page: usize,
        bytes: Option<u32>,
    ) -> Answer<Vec<Row>> {
        let now = GcSeconds(self.now);
        let mut rows: Vec<(Option<ClusteringKey>, Row)> = Vec::new();
        for ((table, token, key), partition) in &self.written {
            let wanted = match &bound.keys {
                Keys::Some(keys) => keys.contains(key),
                Keys::Scan { from, until } => (*from, *until).contains(token),
            };
            if !wanted || *table != plan.table().id {
                continue;
            }
            let mut left = bound
                .per_partition_limit
                .map_or(usize::MAX, |n| usize::try_from(n).expect("a limit"));
            let mut after = None;
            loop {
                let most = page.min(left);
                let found = match bytes {
                    None => bound.rows(key, partition, now, after.as_ref(), most)?,
                    Some(bytes) => {
                        self.in_parts(bound, (key, partition), after.as_ref(), most, bytes)?
                    }
                };
                let PartitionRows { rows: found, keys, last, more } = found;
                assert!(found.len() <= most && (!more || found.len() == most));
                left -= found.len();
                let mut keys = keys.into_iter().map(Some).chain(std::iter::repeat(None));
                rows.extend(found.into_iter().map(|row| (keys.next().flatten(), row)));
                if !more || left == 0 {
                    break;
                }
                // Or it would go on for ever.
                assert_ne!(last, after, "a page goes on where the one before it ended");
                after = last;
            }
        }
        if bound.merges_partitions() {
            rows.sort_by(|(a, _), (b, _)| if bound.reversed { b.cmp(a) } else { a.cmp(b) });
        }
        let mut rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        if bound.is_aggregate() {
            rows = vec![bound.aggregate(rows)?];
        }
        rows.truncate(bound.limit.map_or(usize::MAX, |n| usize::try_from(n).expect("a limit")));
        Ok(rows)
    }
}
