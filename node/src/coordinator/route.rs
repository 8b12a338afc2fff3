//! From a table's name to everything a request needs to know of it: definition, replication, placement.
//!
//! Computed once for each schema and ring, not once for each request.

use super::RequestError;
use crate::membership::Membership;
use crate::schema::builtin::{Builtin, TRACES, builtin};
use crate::schema::{SchemaStore, SchemaView};
use bytes::Bytes;
use helenus_core::hint::Overflow;
use helenus_core::pending::{Pending, WriteTargets};
use helenus_core::placement::Placement;
use helenus_core::ring::Ring;
use helenus_core::{KeyspaceDef, Replication, TableDef, TableId, Token};
use helenus_proto::ids;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A table, and where its partitions are.
#[derive(Debug)]
pub struct TableRoute {
    /// Its definition.
    pub def: TableDef,
    /// Whether the key-value API may use it.
    pub is_one_value: bool,
    /// Its keyspace's replication.
    pub replication: Replication,
    /// Its keyspace's policy for hints that there is no room for.
    pub hint_overflow: Option<Overflow>,
    /// Who holds what.
    pub placement: Arc<Placement>,
    /// Who is about to hold what, while somebody leaves the ring.
    pub pending: Option<Arc<Pending>>,
    /// Its id as it travels.
    pub wire_id: Bytes,
    /// Of a trace, as many copies are written and read as there are: a replica that misses it is owed no hint (whoever traces
    /// an outage wants to count the hints of what is traced), and whoever answers is enough for a read.
    pub best_effort: bool,
}

/// All tables' routes for one schema and one ring.
#[derive(Debug, Default)]
struct Snapshot {
    schema: Arc<SchemaView>,
    ring: Arc<Ring>,
    keyspaces: BTreeMap<String, BTreeMap<String, Arc<TableRoute>>>,
}

/// Of what shape a table is taken to be by whoever reads or writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value a key: the key-value API.
    OneValue,
    /// That of this very table: one of the same name that was made since has other columns.
    Of(TableId),
}

impl TableRoute {
    /// Where writes of this token go: to its replicas and, while somebody leaves the ring, to those that are about to be.
    pub(super) fn write_targets(&self, token: Token) -> WriteTargets<'_> {
        match &self.pending {
            None => WriteTargets { all: self.placement.replicas(token), pending: &[] },
            Some(pending) => pending.targets(token),
        }
    }

    /// Whether the table is of this shape, or a sentence that says why not.
    pub(super) fn check_shape(&self, shape: Shape) -> Result<(), RequestError> {
        match shape {
            Shape::OneValue => self.check_one_value(),
            Shape::Of(id) if id == self.def.id => Ok(()),
            Shape::Of(_) => Err(RequestError::Invalid(format!(
                "table `{}.{}` was dropped and made anew while the statement was carried out: send it again",
                self.def.keyspace, self.def.name
            ))),
        }
    }

    /// Whether the key-value API may write this, or a sentence that says why not.
    pub(super) fn check_put(&self, key: &[u8], value: &[u8]) -> Result<(), RequestError> {
        let columns = &self.def.columns;
        let (Some(key_column), Some(cell)) = (columns.partition_key.first(), columns.cells.first())
        else {
            return Ok(());
        };
        let checks = [(&key_column.name, &key_column.ty, key), (&cell.name, &cell.ty, value)];
        for (name, ty, bytes) in checks {
            ty.check(bytes).map_err(|error| {
                RequestError::Invalid(format!("column `{name}` of type {ty}: {error}"))
            })?;
        }
        Ok(())
    }

    /// Whether the key-value API may use the table, or a sentence that says why not.
    pub(super) fn check_one_value(&self) -> Result<(), RequestError> {
        if self.is_one_value {
            return Ok(());
        }
        Err(RequestError::Invalid(format!(
            "table `{}.{}` is no table of keys and values (its columns: {}): read and write it with CQL",
            self.def.keyspace,
            self.def.name,
            self.def.columns.names().collect::<Vec<_>>().join(", ")
        )))
    }
}

/// Finds routes.
#[derive(Debug)]
pub struct Routes {
    schema: Arc<SchemaStore>,
    membership: Arc<Membership>,
    snapshot: Mutex<Arc<Snapshot>>,
}

impl Routes {
    pub(crate) fn new(schema: Arc<SchemaStore>, membership: Arc<Membership>) -> Routes {
        Routes { schema, membership, snapshot: Mutex::new(Arc::default()) }
    }

    /// The route of a table, or a sentence that says what is not known.
    pub fn table(&self, keyspace: &str, table: &str) -> Result<Arc<TableRoute>, RequestError> {
        let snapshot = self.snapshot();
        let Some(tables) = snapshot.keyspaces.get(keyspace) else {
            return Err(unknown(
                "keyspace",
                keyspace,
                "",
                snapshot.keyspaces.keys(),
                "create-keyspace",
            ));
        };
        tables.get(table).cloned().ok_or_else(|| {
            unknown(
                "table",
                table,
                &format!(" in keyspace `{keyspace}`"),
                tables.keys(),
                "create-table",
            )
        })
    }

    /// A keyspace's placement, for operators. Every keyspace has one, even without tables.
    pub fn placement(&self, replication: &Replication) -> Placement {
        Placement::new(&self.membership.ring(), replication)
    }

    /// The policy of a table's keyspace for hints that there is no room for; `None`: it has none, or is not known.
    pub(crate) fn hint_overflow(&self, table: TableId) -> Option<Overflow> {
        let view = self.schema.current();
        let def = view.table(table)?;
        view.schema.keyspace(&def.keyspace)?.hint_overflow
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let (schema, ring) = (self.schema.current(), self.membership.ring());
        let mut held = self.snapshot.lock().expect("no holder of this lock panics");
        if !Arc::ptr_eq(&held.schema, &schema) || !Arc::ptr_eq(&held.ring, &ring) {
            *held = Arc::new(Snapshot::new(schema, ring));
        }
        Arc::clone(&held)
    }
}

impl Snapshot {
    fn new(schema: Arc<SchemaView>, ring: Arc<Ring>) -> Snapshot {
        let mut keyspaces = BTreeMap::new();
        // What a keyspace's replication is on so many nodes.
        type On<'r> = &'r dyn Fn(usize) -> Replication;
        let mut route = |keyspace: &KeyspaceDef, defs: Vec<&TableDef>, on: On<'_>| {
            let replication = on(ring.members().len());
            let placement = Arc::new(Placement::new(&ring, &replication));
            let place = |ring: &Ring| Placement::new(ring, &on(ring.members().len()));
            let pending = Pending::new(&ring, &placement, place).map(Arc::new);
            let tables = defs.into_iter().map(|def| {
                let route = TableRoute {
                    def: schema.schema.resolve(def),
                    is_one_value: def.columns.is_one_value(),
                    replication: replication.clone(),
                    hint_overflow: keyspace.hint_overflow,
                    placement: Arc::clone(&placement),
                    pending: pending.clone(),
                    wire_id: ids::table_to_wire(def.id),
                    best_effort: keyspace.name == TRACES,
                };
                (def.name.clone(), Arc::new(route))
            });
            keyspaces.insert(keyspace.name.clone(), tables.collect::<BTreeMap<_, _>>());
        };
        for keyspace in schema.schema.live_keyspaces() {
            let tables = schema.schema.live_tables().filter(|t| t.keyspace == keyspace.name);
            route(keyspace, tables.collect(), &|_| keyspace.replication.clone());
        }
        for keyspace in &builtin().keyspaces {
            let tables = builtin().tables.iter().filter(|table| table.keyspace == keyspace.name);
            let on = |nodes| Builtin::replication(keyspace, nodes);
            route(keyspace, tables.collect(), &on);
        }
        Snapshot { schema, ring, keyspaces }
    }
}

fn unknown<'a>(
    what: &str,
    name: &str,
    place: &str,
    known: impl Iterator<Item = &'a String>,
    verb: &str,
) -> RequestError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let hint = match crate::config::did_you_mean(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`helenusctl {verb}` makes one"),
    };
    RequestError::Invalid(format!("{what} `{name}` does not exist{place}; {hint}"))
}
