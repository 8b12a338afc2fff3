//! Statements, carried out: parsed, planned, bound, and handed to the coordinator.
//!
//! The future of a request is moved into its place when it begins, and hundreds of them wait at a time. So each kind of
//! statement is boxed where it is carried out, and what few of a kind do (a scan, a condition, a round of Paxos) once more:
//! it takes no room in the others.

use super::Front;
use super::answer::{Asked, Unlogged, Work};
use super::audience::Audience;
use super::conditional::write_level;
use super::failure::{Refusal, invalid, syntax, unauthorized, unsupported};
use super::statements::{Known, PREPARED_BYTES_MAX, Planned, id_of};
use super::system::is_system;
use super::values::in_order;
use crate::coordinator::{BatchError, BatchRequest, BatchStep, Change, Trace, WriteRequest, room};
use crate::schema::SchemaView;
use crate::schema::builtin::AUTH;
use bytes::Bytes;
use helenus_core::cql::ast::{BatchKind as AstBatchKind, Statement as Parsed};
use helenus_core::cql::plan::{
    BatchLimits, BatchPlan, Catalog, Held, ModifyPlan, Moment, Plan, PlanError, Table, WriteAt,
    check_batch, plan,
};
use helenus_core::{GcSeconds, Key, Level, Partition, TableDef, TimestampMicros};
use helenus_proto::cql::{
    Batch, BatchKind, ErrorKind, ErrorResponse, Parameters, Prepared, Response, RowsMetadata,
    Statement, Version, WriteType,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The definitions of this moment.
struct View<'a> {
    front: &'a Front,
    schema: Arc<SchemaView>,
}

impl Catalog for View<'_> {
    fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>> {
        if is_system(keyspace) {
            return self.front.tables.table(keyspace, name);
        }
        self.schema.table_named(keyspace, name).cloned()
    }

    fn has_keyspace(&self, keyspace: &str) -> bool {
        is_system(keyspace) || self.schema.schema.keyspace(keyspace).is_some()
    }
}

pub(super) fn not_planned(error: &PlanError) -> Refusal {
    let kind = match error {
        PlanError::Syntax(_) => ErrorKind::Syntax,
        PlanError::Invalid(_) => ErrorKind::Invalid,
        PlanError::Corrupt { .. } => ErrorKind::Server,
    };
    Box::new(ErrorResponse::new(kind, error.to_string()))
}

/// How a statement is to be carried out.
pub(super) struct How<'a> {
    pub(super) version: Version,
    pub(super) parameters: Parameters,
    /// The id of the columns as the client knows them.
    pub(super) known_metadata: Option<Bytes>,
    pub(super) trace: Trace,
    warnings: &'a mut Vec<String>,
    unlogged: &'a mut Option<Unlogged>,
}

impl Front {
    /// Carries a request out. `unlogged` is set if the answer depends on this node's log.
    pub(super) async fn execute(
        self: &Arc<Self>,
        version: Version,
        work: Box<Work>,
        warnings: &mut Vec<String>,
        unlogged: &mut Option<Unlogged>,
    ) -> Result<Response, Refusal> {
        let Work { asked, keyspace, trace, audience } = *work;
        match asked {
            Asked::Query(text, parameters) => {
                let known = Known::new(text, keyspace).map_err(|e| syntax(&e))?;
                trace.tell_in(room::CQL, || "Parsed the statement".to_owned());
                let known_metadata = None;
                let how = How { version, parameters, known_metadata, trace, warnings, unlogged };
                let planned = self.planned(&known)?;
                self.carry_out(&known, planned, how, &audience).await
            }
            Asked::Prepare(text) => self.prepare(version, text, keyspace),
            Asked::Execute { id, result_metadata_id, parameters } => {
                let known = self.known(&id)?;
                let planned = self.planned_as_told(&id, &known, version)?;
                let known_metadata = result_metadata_id;
                trace.tell_in(room::CQL, || "Found the prepared statement".to_owned());
                let how = How { version, parameters, known_metadata, trace, warnings, unlogged };
                self.carry_out(&known, planned, how, &audience).await
            }
            Asked::Batch(batch) => {
                Box::pin(self.batch(batch, keyspace, &trace, warnings, unlogged)).await
            }
        }
    }

    fn known(&self, id: &Bytes) -> Result<Arc<Known>, Refusal> {
        let mut statements = self.statements.lock().expect("nothing panics while it holds this");
        statements.find(id).ok_or_else(|| unprepared(id))
    }

    /// What a prepared statement means now, if that is what clients were told. If its table was dropped and made anew with
    /// other columns, they have to ask again: what they bind would be taken for something else. In v5 they hear of other
    /// columns of the result with the result.
    fn planned_as_told(
        &self,
        id: &Bytes,
        known: &Known,
        version: Version,
    ) -> Result<Option<Arc<Planned>>, Refusal> {
        let planned = self.planned(known)?;
        let (Some(now), Some(told)) = (&planned, known.told.get()) else { return Ok(planned) };
        let same_columns = version >= Version::V5 || now.columns == told.columns;
        if Arc::ptr_eq(now, told) || (same_columns && now.markers == told.markers) {
            return Ok(planned);
        }
        self.statements.lock().expect("nothing panics while it holds this").forget(id);
        Err(unprepared(id))
    }

    /// What the statement means by the schema of this moment; `None`: it is none that reads or writes.
    fn planned(&self, known: &Known) -> Result<Option<Arc<Planned>>, Refusal> {
        let (statement, markers) = (&known.parsed.statement, &known.parsed.markers);
        if !matches!(statement, Parsed::Select(_) | Parsed::Modify(_) | Parsed::Batch(_)) {
            return Ok(None);
        }
        let view = View { front: self, schema: self.keeper.store.current() };
        let mut held = known.planned.lock().expect("nothing panics while it holds this");
        if let Some(planned) = &*held
            && Arc::ptr_eq(&planned.schema, &view.schema)
        {
            return Ok(Some(Arc::clone(planned)));
        }
        let made = plan(statement, markers, known.keyspace.as_deref(), &view);
        let made = made.map_err(|e| not_planned(&e))?;
        let made = Arc::new(Planned::new(view.schema, made));
        *held = Some(Arc::clone(&made));
        Ok(Some(made))
    }

    fn prepare(
        &self,
        version: Version,
        text: String,
        keyspace: Option<Arc<str>>,
    ) -> Result<Response, Refusal> {
        if text.len() > PREPARED_BYTES_MAX {
            return Err(invalid(format!(
                "the statement has {} bytes, and one that is prepared may have {PREPARED_BYTES_MAX}: bind its values",
                text.len()
            )));
        }
        let id = id_of(keyspace.as_deref(), &text);
        let known = Known::new(text, keyspace).map_err(|e| syntax(&e))?;
        let planned = self.planned(&known)?;
        let is_v5 = version >= Version::V5;
        let answer = match &planned {
            Some(planned) => Prepared {
                id: id.clone(),
                result_metadata_id: is_v5.then(|| planned.metadata_id().clone()),
                markers: Arc::clone(&planned.markers),
                pk_indexes: planned.plan.partition_key_markers(),
                result: planned.columns.clone().map_or(RowsMetadata::none(), RowsMetadata::new),
            },
            None => Prepared {
                id: id.clone(),
                result_metadata_id: is_v5.then(|| id.clone()),
                markers: Arc::from([]),
                pk_indexes: Vec::new(),
                result: RowsMetadata::none(),
            },
        };
        if let Some(planned) = planned {
            known.told.get_or_init(|| planned);
        }
        let mut statements = self.statements.lock().expect("nothing panics while it holds this");
        match statements.remember(&id, Arc::new(known)) {
            Ok(forgotten) => self.metrics.forgotten.inc_by(forgotten),
            Err(()) => {
                return Err(invalid("another statement has the id of this one: add a blank"));
            }
        };
        self.metrics.prepared.set(i64::try_from(statements.len()).unwrap_or(i64::MAX));
        Ok(Response::Prepared(answer))
    }

    async fn carry_out(
        self: &Arc<Self>,
        known: &Known,
        planned: Option<Arc<Planned>>,
        how: How<'_>,
        audience: &Audience,
    ) -> Result<Response, Refusal> {
        let keyspace = known.keyspace.as_deref();
        let Some(planned) = planned else {
            return match &known.parsed.statement {
                Parsed::Use(name) => self.use_keyspace(name.as_str()),
                Parsed::Describe(asked) => self.describe(asked, keyspace),
                Parsed::Unsupported { verb, what } => Err(unsupported(&format!("{verb} {what}"))),
                statement => Box::pin(self.define(statement, keyspace, how.warnings)).await,
            };
        };
        match &planned.plan {
            Plan::Select(select) if select.table().keyspace == AUTH => {
                Err(unauthorized(select.table()))
            }
            Plan::Select(select) => {
                let mut rows = Box::pin(self.select(&planned, select, how));
                audience.while_there(rows.as_mut()).await.unwrap_or_else(|| Err(unheard()))
            }
            Plan::Modify(modify) => Box::pin(self.modify(modify, how)).await,
            Plan::Batch(batch) => Box::pin(self.planned_batch(&planned, batch, how)).await,
        }
    }

    /// A batch that was said in one statement.
    async fn planned_batch(
        self: &Arc<Self>,
        planned: &Planned,
        batch: &BatchPlan,
        how: How<'_>,
    ) -> Result<Response, Refusal> {
        let How { parameters, trace, warnings, unlogged, .. } = how;
        let values = in_order(parameters.values, planned.plan.markers())?;
        let level = write_level(parameters.consistency, batch.is_conditional())?;
        if batch.is_conditional() {
            let bound = batch.conditional(&values, self.moment());
            let bound = bound.map_err(|e| not_planned(&e))?;
            let serial = parameters.serial_consistency;
            return self.decide(bound, serial, level, &trace, warnings, unlogged).await;
        }
        let at = self.write_at(parameters.timestamp, parameters.now_in_seconds);
        let moment = self.moment();
        let mut held = Held::new();
        let wanted = batch.reads(&values, moment).map_err(|e| not_planned(&e))?;
        self.read_before(&mut held, wanted, (level, &trace)).await?;
        let updates = batch.bind(&values, at, moment, &held).map_err(|e| not_planned(&e))?;
        let logged = batch.kind() == AstBatchKind::Logged;
        self.check_batch_size(&updates, logged, warnings)?;
        self.write_all(updates, logged, level, &trace, warnings, unlogged).await
    }

    fn use_keyspace(&self, keyspace: &str) -> Result<Response, Refusal> {
        let view = View { front: self, schema: self.keeper.store.current() };
        if view.has_keyspace(keyspace) {
            return Ok(Response::SetKeyspace { keyspace: keyspace.to_owned() });
        }
        Err(invalid(format!("keyspace '{keyspace}' does not exist")))
    }

    pub(super) fn moment(&self) -> Moment {
        let mut moments = self.moments.lock().expect("nothing panics while it holds this");
        moments.next(self.clock.wall_micros())
    }

    fn write_at(&self, timestamp: Option<TimestampMicros>, now: Option<i32>) -> WriteAt {
        let timestamp = timestamp.unwrap_or_else(|| self.coordinator.next_timestamp());
        WriteAt { timestamp, now: second(now).unwrap_or_else(|| self.coordinator.now_seconds()) }
    }

    async fn modify(
        self: &Arc<Self>,
        modify: &ModifyPlan,
        how: How<'_>,
    ) -> Result<Response, Refusal> {
        let How { parameters, trace, warnings, unlogged, .. } = how;
        let level = write_level(parameters.consistency, modify.is_conditional())?;
        let values = in_order(parameters.values, modify.markers())?;
        if modify.is_conditional() {
            let bound = modify.conditional(&values, self.moment()).map_err(|e| not_planned(&e))?;
            let serial = parameters.serial_consistency;
            let decided = self.decide(bound, serial, level, &trace, warnings, unlogged);
            return Box::pin(decided).await;
        }
        let at = self.write_at(parameters.timestamp, parameters.now_in_seconds);
        let (moment, mut held) = (self.moment(), Held::new());
        let wanted = modify.reads(&values, moment).map_err(|e| not_planned(&e))?;
        if !wanted.is_empty() {
            Box::pin(self.read_before(&mut held, wanted, (level, &trace))).await?;
        }
        let updates = modify.bind(&values, at, moment, &held).map_err(|e| not_planned(&e))?;
        let table = modify.table();
        let updates = updates.into_iter().map(|(key, update)| (Arc::clone(table), key, update));
        self.write_all(updates.collect(), false, level, &trace, warnings, unlogged).await
    }

    async fn batch(
        self: &Arc<Self>,
        batch: Batch,
        keyspace: Option<Arc<str>>,
        trace: &Trace,
        warnings: &mut Vec<String>,
        unlogged: &mut Option<Unlogged>,
    ) -> Result<Response, Refusal> {
        let mut statements = Vec::with_capacity(batch.statements.len());
        for statement in batch.statements {
            let planned = match statement.statement {
                Statement::Prepared(id) => {
                    let known = self.known(&id)?;
                    self.planned_as_told(&id, &known, Version::V5)?
                }
                Statement::Query(text) => {
                    let known = Known::new(text, keyspace.clone()).map_err(|e| syntax(&e))?;
                    self.planned(&known)?
                }
            };
            let modify = planned.as_ref().and_then(|planned| match &planned.plan {
                Plan::Modify(modify) => Some(modify),
                Plan::Select(_) | Plan::Batch(_) => None,
            });
            let Some(modify) = modify else {
                return Err(invalid("a batch takes INSERT, UPDATE and DELETE, and nothing else"));
            };
            let values = helenus_proto::cql::Values::Positional(statement.values);
            statements.push((modify.clone(), in_order(values, modify.markers())?));
        }
        let conditional = statements.iter().any(|(modify, _)| modify.is_conditional());
        let level = write_level(batch.consistency, conditional)?;
        if conditional {
            let bound = ModifyPlan::conditional_batch(statements, self.moment());
            let bound = bound.map_err(|e| not_planned(&e))?;
            let serial = batch.serial_consistency;
            return self.decide(bound, serial, level, trace, warnings, unlogged).await;
        }
        let kind = match batch.kind {
            BatchKind::Logged => AstBatchKind::Logged,
            BatchKind::Unlogged => AstBatchKind::Unlogged,
            BatchKind::Counter => AstBatchKind::Counter,
        };
        check_batch(kind, false, statements.iter().map(|(modify, _)| &**modify.table()))
            .map_err(|e| not_planned(&e))?;
        let at = self.write_at(batch.timestamp, batch.now_in_seconds);
        // One update for each partition, whatever statements it comes from.
        let mut merged: BTreeMap<(u128, Key), (Arc<TableDef>, Partition)> = BTreeMap::new();
        let mut held = Held::new();
        for (modify, values) in statements {
            let (table, moment) = (modify.table(), self.moment());
            let wanted = modify.reads(&values, moment).map_err(|e| not_planned(&e))?;
            self.read_before(&mut held, wanted, (level, trace)).await?;
            for (key, update) in
                modify.bind(&values, at, moment, &held).map_err(|e| not_planned(&e))?
            {
                let place = merged.entry((table.id.0, key));
                let (_, into) = place.or_insert_with(|| (Arc::clone(table), Partition::default()));
                helenus_core::merge::merge(into, update);
            }
        }
        let updates = merged.into_iter().map(|((_, key), (table, update))| (table, key, update));
        let updates: Vec<_> = updates.collect();
        let logged = batch.kind == BatchKind::Logged;
        self.check_batch_size(&updates, logged, warnings)?;
        self.write_all(updates, logged, level, trace, warnings, unlogged).await
    }

    /// Writes them all, and answers when every one of them has reached its level, or one cannot.
    async fn write_all(
        self: &Arc<Self>,
        updates: Vec<(Arc<TableDef>, Key, Partition)>,
        logged: bool,
        level: Level,
        trace: &Trace,
        warnings: &mut Vec<String>,
        unlogged: &mut Option<Unlogged>,
    ) -> Result<Response, Refusal> {
        if let Some((table, _, _)) = updates.iter().find(|(table, _, _)| is_system(&table.keyspace))
        {
            return Err(invalid(format!(
                "table {}.{} is the system's and cannot be written",
                table.keyspace, table.name
            )));
        }
        let counters = updates.iter().any(|(table, _, _)| table.columns.has_counters());
        let write_type = match (logged, updates.len()) {
            _ if counters => WriteType::Counter,
            (_, 0 | 1) => WriteType::Simple,
            (true, _) => WriteType::Batch,
            (false, _) => WriteType::UnloggedBatch,
        };
        let writes = updates.into_iter().map(|(table, key, update)| WriteRequest {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            key: key.0,
            change: Change::Update(table.id, update),
            level,
            timestamp: None,
            timeout: None,
            trace: trace.clone(),
        });
        let batch = BatchRequest { writes: writes.collect(), logged };
        match self.coordinator.write_batch(batch).await {
            Ok(written) => {
                *unlogged = written.unlogged.map(|it| Unlogged { it, write_type });
                warnings.extend(written.warnings);
                Ok(Response::Void)
            }
            Err(BatchError { step: BatchStep::Log, error }) => {
                Err(Box::new(self.failure_of(&error, WriteType::BatchLog)))
            }
            Err(BatchError { step: BatchStep::Writes, error }) => {
                Err(Box::new(self.failure_of(&error, write_type)))
            }
        }
    }

    /// How large a batch may be, and what its client is warned of.
    fn check_batch_size(
        &self,
        updates: &[(Arc<TableDef>, Key, Partition)],
        logged: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        let config = &self.coordinator.config;
        let limits = BatchLimits {
            size_warn: config.batch_size_warn_threshold,
            size_fail: config.batch_size_fail_threshold,
            unlogged_partitions_warn: config.unlogged_batch_across_partitions_warn_threshold,
        };
        warnings.extend(limits.check(updates, logged).map_err(|e| not_planned(&e))?);
        Ok(())
    }
}

/// The second that a client says it is (v5): by which its TTLs are counted, and what has expired.
pub(super) fn second(said: Option<i32>) -> Option<GcSeconds> {
    said.and_then(|said| u32::try_from(said).ok()).map(GcSeconds)
}

/// Of a read for a client that has gone: nobody gets it.
fn unheard() -> Refusal {
    Box::new(ErrorResponse::new(ErrorKind::Server, "the client has gone before it was answered"))
}

fn unprepared(id: &Bytes) -> Refusal {
    let kind = ErrorKind::Unprepared { id: id.clone() };
    Box::new(ErrorResponse::new(
        kind,
        "this node has no prepared statement of this id: it has restarted, or forgotten it for others, or the table was made \
         anew",
    ))
}
