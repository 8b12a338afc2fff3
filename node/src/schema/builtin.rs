//! Tables that every node knows from the start: nobody creates them, nobody changes them, and they are replicated and
//! written like any other. Today these are `system_traces.sessions` and `.events` (ADR 15), and `system_auth.roles`
//! (ADR 19).
//!
//! They are in no [`Schema`](helenus_core::Schema): all nodes of a version have the same ones, so there is nothing to
//! agree on, and a node can hold a trace before anybody has defined anything. Their ids are hashes of their names.
//!
//! CAVEAT: a build that defines one of them otherwise must give it another name.

use helenus_core::cql::ast::Statement;
use helenus_core::cql::define::{self, UserTypes};
use helenus_core::cql::parse;
use helenus_core::{KeyspaceDef, Replication, TableDef, TableId, TimestampMicros};
use std::num::NonZeroU32;
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_128;

/// The keyspace of traces.
pub(crate) const TRACES: &str = "system_traces";
/// Copies of a trace, as in Cassandra: one may be lost with its node.
const TRACES_RF: NonZeroU32 = NonZeroU32::new(2).expect("2 is not 0");
/// The keyspace of roles.
pub(crate) const AUTH: &str = "system_auth";
/// Copies of a role, where there are as many nodes: a quorum of them outlives one node.
const AUTH_RF: NonZeroU32 = NonZeroU32::new(3).expect("3 is not 0");

const DEFINITIONS: &str = include_str!("builtin.cql");

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| Builtin {
    keyspaces: [(TRACES, TRACES_RF), (AUTH, AUTH_RF)].map(|(name, rf)| KeyspaceDef {
        name: name.to_owned(),
        replication: Replication::Simple { rf },
        hint_overflow: None,
        altered: TimestampMicros(0),
        dropped: false,
    }),
    tables: definitions(DEFINITIONS).collect(),
});

/// What every node knows.
#[derive(Debug)]
pub(crate) struct Builtin {
    /// The keyspaces.
    pub(crate) keyspaces: [KeyspaceDef; 2],
    /// Their tables.
    pub(crate) tables: Vec<TableDef>,
}

/// What this build knows.
pub(crate) fn builtin() -> &'static Builtin {
    &BUILTIN
}

impl Builtin {
    /// The keyspace of this name.
    pub(crate) fn keyspace(&self, name: &str) -> Option<&KeyspaceDef> {
        self.keyspaces.iter().find(|keyspace| keyspace.name == name)
    }

    /// How a keyspace is replicated on so many nodes. Roles have no more copies than there are nodes: a majority of three is
    /// not to be had of one node, and somebody must be able to log in there.
    pub(crate) fn replication(keyspace: &KeyspaceDef, nodes: usize) -> Replication {
        match &keyspace.replication {
            Replication::Simple { rf } if keyspace.name == AUTH => {
                let nodes = u32::try_from(nodes).ok().and_then(NonZeroU32::new);
                Replication::Simple { rf: nodes.map_or(NonZeroU32::MIN, |nodes| nodes.min(*rf)) }
            }
            replication => replication.clone(),
        }
    }

    /// The table with this id.
    pub(crate) fn by_id(&self, id: TableId) -> Option<&TableDef> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// The table of this name.
    pub(crate) fn table(&self, keyspace: &str, name: &str) -> Option<&TableDef> {
        self.tables.iter().find(|table| table.keyspace == keyspace && table.name == name)
    }
}

/// Tables as `text` creates them, with ids that follow from their names. Panics if that is not what `text` does: it is a
/// constant of this program.
pub(crate) fn definitions(text: &str) -> impl Iterator<Item = TableDef> {
    let statements = text.split(';').filter(|text| !text.trim().is_empty());
    statements.map(|text| {
        let parsed = parse(text).expect("the definitions are CQL");
        let Statement::CreateTable(create) = parsed.statement else {
            panic!("only tables are defined here: {text}");
        };
        let keyspace = create.table.keyspace.as_ref().expect("each says its keyspace").as_str();
        let parts = define::table(&create, UserTypes::NONE).expect("each defines a table");
        let name = create.table.name.as_str();
        TableDef {
            id: TableId(xxh3_128(format!("{keyspace}.{name}").as_bytes())),
            keyspace: keyspace.to_owned(),
            name: name.to_owned(),
            columns: parts.columns,
            options: parts.options,
            altered: TimestampMicros(0),
            dropped: false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_by_name_and_by_id_and_lives_for_a_day() {
        let known = builtin();
        assert_eq!(known.tables.len(), 3);
        for name in ["sessions", "events"] {
            let table = known.table(TRACES, name).unwrap();
            assert_eq!(known.by_id(table.id), Some(table));
            assert_eq!(table.options.default_time_to_live, 86_400);
        }
        assert_eq!(known.table("store", "sessions"), None);
        assert_eq!(known.by_id(TableId(7)), None);
    }

    #[test]
    fn a_role_has_as_many_copies_as_there_are_nodes_and_three_at_most() {
        let keyspace = builtin().keyspace(AUTH).unwrap();
        let copies = [0, 1, 2, 3, 9].map(|nodes| match Builtin::replication(keyspace, nodes) {
            Replication::Simple { rf } => rf.get(),
            other => panic!("{other:?}"),
        });
        assert_eq!(copies, [1, 1, 2, 3, 3]);
        let traces = builtin().keyspace(TRACES).unwrap();
        assert_eq!(Builtin::replication(traces, 1), traces.replication);
    }

    /// The ids are in data directories: a change of how they are made would lose what is in there.
    #[test]
    fn the_ids_stay() {
        let ids: Vec<String> = builtin().tables.iter().map(|table| table.id.to_string()).collect();
        let expected = [
            "4032167fff959e96acbd1918d09fdf8f",
            "9ff5f09b20b987102a35c54a4a38d3f8",
            "484f749099ea11ac5973034fae4b5a6b",
        ];
        assert_eq!(ids, expected);
    }
}
