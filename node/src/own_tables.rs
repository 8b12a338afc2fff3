//! The node's own tables: those that are in no schema. They are not gossiped, not replicated and not seen by clients; here
//! they are opened and named.

use crate::schema::SchemaView;
use crate::storage::history;
use crate::{batchlog, paxos, repair};
use helenus_core::{TableDef, TableId};

/// Their definitions.
pub(crate) fn all() -> [TableDef; 4] {
    [history::table(), repair::history::table(), batchlog::table(), paxos::table()]
}

/// A table's keyspace and name, be it a client's or the node's own; of one that is gone, nothing and its id.
pub(crate) fn name_of(schema: &SchemaView, id: TableId) -> (String, String) {
    if let Some(def) = schema.table(id) {
        return (def.keyspace.clone(), def.name.clone());
    }
    let own = all().into_iter().find(|def| def.id == id);
    own.map_or_else(|| (String::new(), id.to_string()), |def| (def.keyspace, def.name))
}
