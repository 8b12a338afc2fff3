//! Batches: several changes, one timestamp, one update a partition.

mod limits;

pub use limits::BatchLimits;

use super::error::invalid;
use super::expr::{Env, Expr};
use super::markers::{Markers, check_count};
use super::modify::{Change, check_batch, timestamp_of};
use super::resolve::{Resolver, Wanted};
use super::source::Source;
use super::{ColumnSpec, Conditional, Held, Moment, Names, PlanError, Value, WriteAt};
use crate::cql::ast::{Batch, BatchKind, IntValue, Term};
use crate::cql::elements::Places;
use crate::cql::types::CqlType;
use crate::data::{Key, Partition};
use crate::merge;
use crate::schema::{TableDef, TableId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A planned batch. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BatchPlan {
    kind: BatchKind,
    changes: Arc<[Arc<Change>]>,
    timestamp: Option<Expr>,
    markers: Arc<[Arc<ColumnSpec>]>,
}

impl BatchPlan {
    pub(super) fn new(
        batch: &Batch,
        mut markers: Markers<'_>,
        names: &Names<'_>,
    ) -> Result<BatchPlan, PlanError> {
        if batch.using.ttl.is_some() {
            return invalid("Global TTL on the BATCH statement is not supported.");
        }
        let mut changes = Vec::with_capacity(batch.statements.len());
        for statement in &batch.statements {
            changes.push(Arc::new(Change::new(statement, &mut markers, names)?));
        }
        if batch.using.timestamp.is_some() && changes.iter().any(|change| change.has_timestamp()) {
            return invalid("Timestamp must be set either on BATCH or individual statements");
        }
        let tables = changes.iter().map(|change: &Arc<Change>| &**change.table.def());
        check_batch(batch.kind, batch.using.timestamp.is_some(), tables)?;
        let timestamp = match (batch.using.timestamp, changes.first()) {
            (None, _) => None,
            (Some(IntValue::Integer(n)), _) => {
                Some(Expr::Constant(Some(Bytes::copy_from_slice(&n.to_be_bytes()))))
            }
            (Some(IntValue::Marker(index)), Some(change)) => {
                let mut resolver = Resolver::new(&change.table, &mut markers);
                let wanted = Wanted::other(&"[timestamp]", &CqlType::Bigint);
                Some(resolver.value(Source::Term(&Term::Marker(index)), wanted)?)
            }
            (Some(IntValue::Marker(_)), None) => {
                return invalid("a batch without statements has no use for a timestamp marker");
            }
        };
        let markers = markers.finish()?;
        Ok(BatchPlan { kind: batch.kind, changes: changes.into(), timestamp, markers })
    }

    /// With or without a log.
    pub fn kind(&self) -> BatchKind {
        self.kind
    }

    /// Whether one of its statements has a condition (`IF`). Then [`BatchPlan::conditional`] binds it, and
    /// [`BatchPlan::bind`] refuses.
    pub fn is_conditional(&self) -> bool {
        self.changes.iter().any(|change| change.guard.is_some())
    }

    /// Binds a batch with conditions.
    ///
    /// # Errors
    /// As of [`ModifyPlan::conditional_batch`](super::ModifyPlan::conditional_batch).
    pub fn conditional(&self, values: &[Value], moment: Moment) -> Result<Conditional, PlanError> {
        check_count(&self.markers, values)?;
        if self.timestamp.is_some() {
            return invalid("Cannot provide custom timestamp for conditional BATCH");
        }
        let values: Arc<[Value]> = values.into();
        let changes = self.changes.iter().map(|change| (Arc::clone(change), Arc::clone(&values)));
        Conditional::new(changes.collect(), moment, true)
    }

    /// The tables of its statements, one for each statement.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.changes.iter().map(|change| change.table.def())
    }

    /// What each marker stands for.
    pub fn markers(&self) -> &[Arc<ColumnSpec>] {
        &self.markers
    }

    pub(super) fn shared_markers(&self) -> &Arc<[Arc<ColumnSpec>]> {
        &self.markers
    }

    /// Those of the first statement, as in Cassandra, and none if there are several tables.
    pub fn partition_key_markers(&self) -> Vec<u16> {
        let Some(first) = self.changes.first() else { return Vec::new() };
        if self.changes.iter().any(|change| change.table.id != first.table.id) {
            return Vec::new();
        }
        first.partition_key_markers()
    }

    /// The partitions that must be read before it is bound: see [`ModifyPlan::reads`](super::ModifyPlan::reads).
    ///
    /// # Errors
    /// As of [`ModifyPlan::bind`](super::ModifyPlan::bind), where keys are concerned.
    pub fn reads(
        &self,
        values: &[Value],
        moment: Moment,
    ) -> Result<Vec<(Arc<TableDef>, Key)>, PlanError> {
        check_count(&self.markers, values)?;
        let mut wanted = Vec::new();
        for change in &*self.changes {
            let keys = change.reads(values, moment)?;
            wanted.extend(keys.into_iter().map(|key| (Arc::clone(change.table.def()), key)));
        }
        Ok(wanted)
    }

    /// What is written, in normal form, one update for each partition, in the order in which they are first named. `held`
    /// is what [`BatchPlan::reads`] asked for: no statement sees what another one of the batch writes.
    ///
    /// # Errors
    /// As of [`ModifyPlan::bind`](super::ModifyPlan::bind).
    pub fn bind(
        &self,
        values: &[Value],
        at: WriteAt,
        moment: Moment,
        held: &Held,
    ) -> Result<Vec<(Arc<TableDef>, Key, Partition)>, PlanError> {
        check_count(&self.markers, values)?;
        let mut at = at;
        if let Some(expr) = &self.timestamp {
            let own = timestamp_of(expr, &Env::bound(values, moment))?;
            at.timestamp = own.unwrap_or(at.timestamp);
        }
        let mut updates = Updates::default();
        let mut places = Places::new(moment.now, moment.random);
        for change in &*self.changes {
            for (key, partition) in change.bind(values, at, moment, held, &mut places)? {
                updates.add(change.table.def(), key, partition);
            }
        }
        Ok(updates.all)
    }
}

/// Updates, one for each partition.
#[derive(Default)]
struct Updates {
    all: Vec<(Arc<TableDef>, Key, Partition)>,
    places: BTreeMap<(TableId, Key), usize>,
}

impl Updates {
    fn add(&mut self, table: &Arc<TableDef>, key: Key, partition: Partition) {
        let place = *self.places.entry((table.id, key.clone())).or_insert(self.all.len());
        match self.all.get_mut(place) {
            Some((_, _, held)) => merge::merge(held, partition),
            None => self.all.push((Arc::clone(table), key, partition)),
        }
    }
}
