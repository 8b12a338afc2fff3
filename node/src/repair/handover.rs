//! What a node that leaves the ring holds, handed to those who will hold it: each range that gets new owners is compared
//! with them, and sent where they lack something.
//!
//! A comparison costs hashing what is there already, and buys that it can be done again: after a crash it goes on where it
//! was, and a second one says whether the first was complete. What comes between the two is written to the new owners by the
//! coordinators themselves, to whom they are pending.

use super::job::NewJob;
use super::{Job, RepairError, Repairs, units};
use crate::schema::builtin::{Builtin, builtin};
use helenus_core::pending::moves;
use helenus_core::placement::Placement;
use helenus_core::ring::Ring;
use helenus_core::{Replication, TableDef};
use std::sync::Arc;

impl Repairs {
    /// Starts to hand over what this node holds, `after` being the ring without it.
    pub(crate) fn start_handover(
        self: &Arc<Self>,
        now: &Ring,
        after: &Ring,
    ) -> Result<Arc<Job>, RepairError> {
        let view = self.schema.current();
        let mut tables: Vec<TableDef> = view.schema.live_tables().cloned().collect();
        tables.extend(builtin().tables.iter().cloned());
        let mut units = Vec::new();
        for def in &tables {
            let placed = |ring: &Ring| {
                let replication = self.replication(def, ring)?;
                Some(Placement::new(ring, &replication))
            };
            let Some((now, after)) = placed(now).zip(placed(after)) else { continue };
            units.extend(units::of_moves(def.id, moves(&now, &after), self.id));
        }
        let what = "all keyspaces, to who holds them when this node has left".to_owned();
        self.begin(NewJob { what, units, ..self.new_job(&tables) })
    }

    /// How a table is replicated on the nodes of a ring; `None`: it was dropped.
    pub(super) fn replication(&self, def: &TableDef, ring: &Ring) -> Option<Replication> {
        match builtin().keyspace(&def.keyspace) {
            Some(known) => Some(Builtin::replication(known, ring.members().len())),
            None => {
                let view = self.schema.current();
                view.schema.keyspace(&def.keyspace).map(|keyspace| keyspace.replication.clone())
            }
        }
    }
}
