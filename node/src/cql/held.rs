//! What a write reads first: lists whose elements are changed by their places.
//!
//! The read is at the write's own level, so that what was acknowledged before at a quorum is seen at a quorum (Cassandra's
//! `readRequiredLists`). At most [`PARTITIONS_MAX`] partitions a request; one with more is refused.
//!
//! CAVEAT: reading and writing are not one step. Who needs that uses a map, whose keys are their own places.

use super::Front;
use super::failure::{Refusal, invalid};
use super::system::is_system;
use crate::coordinator::{ReadRequest, Shape, Trace};
use helenus_core::cql::plan::Held;
use helenus_core::{Key, Level, Partition, TableDef};
use std::sync::Arc;

/// Partitions that one request may read before it writes: all of them are held at once.
const PARTITIONS_MAX: usize = 100;

impl Front {
    /// Reads what is wanted and not held yet.
    pub(super) async fn read_before(
        self: &Arc<Self>,
        held: &mut Held,
        wanted: Vec<(Arc<TableDef>, Key)>,
        at: (Level, &Trace),
    ) -> Result<(), Refusal> {
        for (table, key) in wanted {
            let place = (table.id, key);
            if held.contains_key(&place) {
                continue;
            }
            if at.0 == Level::Any {
                return Err(invalid(
                    "Write operation require a read but consistency ANY is not supported on reads",
                ));
            }
            if held.len() >= PARTITIONS_MAX {
                return Err(invalid(format!(
                    "the request changes lists by their places, which takes a read before, in more than {PARTITIONS_MAX} partitions"
                )));
            }
            // Nobody writes to the system's tables, so nobody has to read them first.
            let partition = if is_system(&table.keyspace) {
                Default::default()
            } else {
                self.read_one(&table, &place.1, at).await?
            };
            held.insert(place, partition);
        }
        Ok(())
    }

    /// All of a partition.
    async fn read_one(
        &self,
        table: &TableDef,
        key: &Key,
        (level, trace): (Level, &Trace),
    ) -> Result<Partition, Refusal> {
        let request = ReadRequest {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            key: key.0.clone(),
            level,
            timeout: None,
            shape: Shape::Of(table.id),
            trace: trace.clone(),
        };
        let found = self.coordinator.read(request).await;
        let found = found.map_err(|error| Box::new(self.failure(&error)))?;
        Ok(found.partition)
    }
}
