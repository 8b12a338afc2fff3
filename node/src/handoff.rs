//! The way of a hint from this node's store to its target: a page at a time on the bulk lane, acknowledged as one.

use crate::hints::{Deliver, DeliverError, Hint};
use crate::membership::Membership;
use crate::peers::Peers;
use crate::schema::SchemaStore;
use crate::seams::net::BoxFuture;
use helenus_core::{NodeId, TableId};
use helenus_proto::v1::message::Body;
use helenus_proto::{ids, v1};
use std::sync::Arc;
use std::time::Duration;

/// Delivers pages of hints to peers.
pub(crate) struct Handoff {
    pub(crate) peers: Arc<Peers>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) schema: Arc<SchemaStore>,
    /// How long a page may take (Cassandra: the write timeout).
    pub(crate) timeout: Duration,
}

impl Deliver for Handoff {
    fn alive(&self, target: NodeId) -> bool {
        // A target with another schema might not know a table yet, and would drop its hints for good.
        self.membership.is_alive(target)
            && self.membership.schema_version_of(target).as_deref()
                == Some(self.schema.current().version.as_str())
    }

    fn gc_grace_s(&self, table: TableId) -> Option<u32> {
        self.schema.current().table(table).map(|def| def.options.gc_grace_seconds)
    }

    fn deliver(
        &self,
        target: NodeId,
        hints: Vec<Hint>,
    ) -> BoxFuture<'static, Result<Duration, DeliverError>> {
        // Neighbours are mostly of one table: its id is made once for all of them.
        let mut table = (TableId(0), ids::table_to_wire(TableId(0)));
        let mutations = hints.into_iter().map(|hint| {
            if hint.table != table.0 {
                table = (hint.table, ids::table_to_wire(hint.table));
            }
            v1::ApplyMutation {
                table: table.1.clone(),
                key: hint.key.0,
                update: hint.update,
                path: v1::ApplyPath::Hint.into(),
                trace: false,
            }
        });
        let body = Body::HintPage(v1::HintPage { mutations: mutations.collect() });
        let mut inflight = self.peers.call(&[target], body, self.timeout);
        Box::pin(async move {
            let reason = match inflight.next().await {
                Some((_, Ok(Body::Ack(ack)))) => {
                    return Ok(Duration::from_micros(ack.next_after_us));
                }
                Some((_, Ok(Body::Failed(error)))) => error.message,
                Some((_, Ok(_))) => "the target answered something else".to_owned(),
                Some((_, Err(error))) => error.to_string(),
                None => "the target was not asked".to_owned(),
            };
            Err(DeliverError { reason })
        })
    }
}
