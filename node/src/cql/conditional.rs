//! Statements with `IF`, and the levels SERIAL and LOCAL_SERIAL.

use super::Front;
use super::answer::Unlogged;
use super::execute::not_planned;
use super::failure::{Refusal, invalid};
use super::system::is_system;
use crate::coordinator::{CasRequest, RequestError, Trace};
use helenus_core::cql::plan::{Conditional, Keys, PlanError};
use helenus_core::paxos::SerialLevel;
use helenus_core::{GcSeconds, Level, Partition, TableDef, TimestampMicros};
use helenus_proto::cql::{Consistency, Response, Rows, RowsMetadata, WriteType};
use std::sync::Arc;

/// The level of a write.
pub(super) fn write_level(consistency: Consistency, conditional: bool) -> Result<Level, Refusal> {
    match consistency {
        Consistency::Ordinary(level) => Ok(level),
        Consistency::Serial(serial) if conditional => Err(invalid(format!(
            "{} is not supported as conditional update commit consistency. Use ANY if you mean \"make sure it is accepted \
             but I don't care how many replicas commit it for non-SERIAL reads\"; among whom it is decided is said by the \
             serial consistency",
            serial.name()
        ))),
        Consistency::Serial(_) => {
            Err(invalid("You must use conditional updates for serializable writes"))
        }
    }
}

/// What a planner's error is when it comes up in the middle of a round.
fn undecidable(error: &PlanError) -> RequestError {
    RequestError::Invalid(error.to_string())
}

impl Front {
    /// Decides, writes if it is so decided, and answers with `[applied]`.
    pub(super) async fn decide(
        self: &Arc<Self>,
        conditional: Conditional,
        serial: Option<SerialLevel>,
        level: Level,
        trace: &Trace,
        warnings: &mut Vec<String>,
        unlogged: &mut Option<Unlogged>,
    ) -> Result<Response, Refusal> {
        let table = conditional.table();
        if is_system(&table.keyspace) {
            return Err(invalid("Conditional updates are not supported by virtual tables"));
        }
        let request = CasRequest {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            id: table.id,
            key: conditional.key().0.clone(),
            serial: serial.unwrap_or(SerialLevel::Serial),
            level,
            trace: trace.clone(),
        };
        let judge = |current: &Partition, now: GcSeconds, timestamp: TimestampMicros| {
            conditional.decide(current, now, timestamp).map_err(|error| undecidable(&error))
        };
        let outcome = self.coordinator.cas(request, &judge).await;
        // What times out behind the decision is the commit, a write like any other.
        let outcome =
            outcome.map_err(|error| Box::new(self.failure_of(&error, WriteType::Simple)))?;
        let write_type = WriteType::Simple;
        *unlogged = outcome.unlogged.map(|it| Unlogged { it, write_type });
        warnings.extend(outcome.warnings);
        let answer = if outcome.applied {
            conditional.applied()
        } else {
            let refused = conditional.refused(&outcome.current, outcome.at);
            refused.map_err(|error| not_planned(&error))?
        };
        // Its columns differ from answer to answer, so they are described in each, whatever the client asks for.
        let metadata = RowsMetadata::new(answer.columns.as_slice().into());
        Ok(Response::Rows(Rows { metadata, rows: answer.rows }))
    }

    /// The level at which rows are read. At a serial one, what conditional writes have begun on the partition is finished
    /// first: a read by the same quorum is serial then.
    pub(super) async fn read_level(
        self: &Arc<Self>,
        consistency: Consistency,
        table: &TableDef,
        keys: &Keys,
        trace: &Trace,
    ) -> Result<Level, Refusal> {
        let serial = match consistency {
            Consistency::Ordinary(level) => return Ok(level),
            Consistency::Serial(serial) => serial,
        };
        let [key] = (match keys {
            Keys::Some(keys) => keys.as_slice(),
            Keys::Scan { .. } => &[],
        }) else {
            return Err(invalid(
                "SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a time",
            ));
        };
        let of = (table.keyspace.as_str(), table.name.as_str(), table.id);
        match Box::pin(self.coordinator.settle(of, key, serial, trace)).await {
            Ok(()) => Ok(serial.quorum()),
            Err(error) => Err(Box::new(self.failure(&error))),
        }
    }
}
