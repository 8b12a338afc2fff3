//! `system_views`: what this node is doing, as rows that are made up when they are read.
//!
//! Each table says what operators ask the other door for: `pending_hints` and `hint_accounts` are `listpendinghints`,
//! `hint_ledger` is `hintledger`, `thread_pools` is `tpstats`, `sstable_tasks` is `compactionstats`, `settings` is
//! `--print-config` with the values of this node; `clients` are the connections to this door. The figures come from the same
//! functions.
//!
//! Shapes are Cassandra 4.1's, with columns of our own where its have no place for what we know; `hint_accounts` and
//! `hint_ledger` are ours. What we have no value for is null.
//!
//! Bounds: a table is made whole for each page. The largest are `clients`, of as many rows as there may be connections, and
//! `hint_ledger`, of as many as the ledger may have ranges.

use super::super::Front;
use super::rows::{Cells, Made};
use crate::config::Authenticator;
use crate::own_tables;
use crate::peers::Lane;
use helenus_core::NodeId;
use std::collections::BTreeMap;

/// The keyspace.
pub(super) const KEYSPACE: &str = "system_views";

/// What Cassandra calls whatever has no name.
const NAMELESS: &str = "*";

fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn int(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A row of `thread_pools`. Nobody waits for a place in most of them: what there is no place for is refused.
struct Pool<'a> {
    name: &'a str,
    active: Option<u64>,
    limit: Option<u64>,
    pending: u64,
    completed: u64,
    refused: u64,
}

impl Front {
    /// The rows of a view.
    pub(super) fn view(&self, name: &str, made: &mut Made<'_>) {
        match name {
            "clients" => self.client_rows(made),
            "hint_accounts" => self.hint_accounts(made),
            "hint_ledger" => self.hint_ledger(made),
            "pending_hints" => self.pending_hints(made),
            "settings" => self.settings(made),
            "sstable_tasks" => self.sstable_tasks(made),
            "thread_pools" => self.thread_pools(made),
            _ => {}
        }
    }

    fn client_rows(&self, made: &mut Made<'_>) {
        let config = &self.coordinator.config;
        for client in self.connected() {
            let said = client.said();
            let is_in = config.authenticator == Authenticator::AllowAll || client.role().is_some();
            let option = |name: &str| said.options.iter().find(|(key, _)| key == name);
            let mut cells = Cells::new()
                .inet("address", client.address.ip())
                .int("port", i32::from(client.address.port()))
                // Names are not looked up.
                .text("hostname", &client.address.ip().to_string())
                .text("username", client.role().unwrap_or("anonymous"))
                .bigint("request_count", bigint(client.requests()))
                .boolean("ssl_enabled", config.native_transport_tls.is_some());
            cells = match said.version {
                None => cells.text("connection_stage", "established"),
                Some(version) => cells
                    .text("connection_stage", if is_in { "ready" } else { "authenticating" })
                    .int("protocol_version", i32::from(version.code()))
                    .text_map("client_options", &said.options),
            };
            if let Some((_, name)) = option("DRIVER_NAME") {
                cells = cells.text("driver_name", name);
            }
            if let Some((_, version)) = option("DRIVER_VERSION") {
                cells = cells.text("driver_version", version);
            }
            made.row(cells);
        }
    }

    fn hint_accounts(&self, made: &mut Made<'_>) {
        for owed in self.coordinator.hints.list() {
            let account = owed.account;
            made.row(
                Cells::new()
                    .uuid("host_id", owed.target.0)
                    .bigint("created", bigint(account.created))
                    .bigint("delivered", bigint(account.delivered))
                    .bigint("redirected", bigint(account.redirected))
                    .bigint("expired", bigint(account.expired))
                    .bigint("refused", bigint(account.refused))
                    .bigint("evicted", bigint(account.evicted))
                    .bigint("dead_lettered", bigint(account.dead_lettered))
                    .bigint("lost", bigint(account.lost))
                    .bigint("pending", bigint(account.pending)),
            );
        }
    }

    /// Of whom something is owed now, as in Cassandra.
    fn pending_hints(&self, made: &mut Made<'_>) {
        let members = self.membership.known();
        let hints = self.coordinator.hints.list();
        for owed in hints.iter().filter(|owed| owed.account.pending > 0) {
            let member = members.iter().find(|member| member.node == owed.target);
            let (status, dc, rack) = member.map_or(("Unknown", "Unknown", "Unknown"), |member| {
                (if member.up { "UP" } else { "DOWN" }, member.dc.as_str(), member.rack.as_str())
            });
            let cells = Cells::new()
                .uuid("host_id", owed.target.0)
                .text("status", status)
                .text("dc", dc)
                .text("rack", rack)
                .int("files", int(owed.files))
                .bigint("hints", bigint(owed.account.pending))
                .bigint("total_size", bigint(owed.bytes))
                .millis("newest", owed.newest_ms)
                .millis("oldest", owed.oldest_ms);
            made.row(match member.and_then(|member| member.internode) {
                None => cells,
                Some(address) => {
                    cells.inet("address", address.ip()).int("port", i32::from(address.port()))
                }
            });
        }
    }

    /// A loss that may be of any node is of host id 0, one of a table that is not known of the table without a name: a key
    /// has no nulls.
    fn hint_ledger(&self, made: &mut Made<'_>) {
        let schema = self.keeper.store.current();
        let ledger = self.coordinator.hints.ledger();
        for (scope, reason, ranges) in ledger.rows() {
            let named = scope.table.map(|table| own_tables::name_of(&schema, table));
            let (keyspace, table) = named.unwrap_or_default();
            for range in ranges {
                made.row(
                    Cells::new()
                        .uuid("host_id", scope.target.unwrap_or(NodeId(0)).0)
                        .text("keyspace_name", &keyspace)
                        .text("table_name", &table)
                        .text("reason", reason.as_str())
                        .bigint("first_token", range.tokens.first.0)
                        .bigint("last_token", range.tokens.last.0)
                        .bigint("hints", bigint(range.count))
                        .bigint("bytes", bigint(range.bytes))
                        .millis("first_lost", Some(range.first_ms))
                        .millis("last_lost", Some(range.last_ms)),
                );
            }
        }
    }

    fn settings(&self, made: &mut Made<'_>) {
        for (name, value) in self.coordinator.config.settings() {
            let cells = Cells::new().text("name", name);
            made.row(match value {
                Some(value) => cells.text("value", &value),
                None => cells,
            });
        }
    }

    fn thread_pools(&self, made: &mut Made<'_>) {
        let limit = self.coordinator.config.max_concurrent_requests as u64;
        let pools = self.coordinator.pools();
        let mut all: Vec<Pool<'_>> = pools
            .iter()
            .map(|pool| Pool {
                name: pool.name,
                active: pool.active,
                // The limit is of all kinds together.
                limit: pool.active.map(|_| limit),
                pending: 0,
                completed: pool.completed,
                refused: pool.rejected,
            })
            .collect();
        let compaction = self.coordinator.replica.engine.compaction_figures();
        all.push(Pool {
            name: "compaction",
            active: Some(compaction.running.len() as u64),
            limit: Some(u64::from(compaction.compactors)),
            pending: compaction.pending_tasks,
            completed: compaction.completed,
            refused: 0,
        });
        let mut lanes: BTreeMap<Lane, (u64, u64, u64)> = BTreeMap::new();
        for link in self.coordinator.peers.link_stats() {
            let (queued, sent, dropped) = lanes.entry(link.lane).or_default();
            (*queued, *sent, *dropped) =
                (*queued + link.queued, *sent + link.sent, *dropped + link.dropped);
        }
        let names: Vec<String> =
            lanes.keys().map(|lane| format!("internode-{}", lane.as_str())).collect();
        all.extend(names.iter().zip(lanes.values()).map(|(name, (queued, sent, dropped))| Pool {
            name,
            active: None,
            limit: None,
            pending: *queued,
            completed: *sent,
            refused: *dropped,
        }));
        all.iter().for_each(|pool| made.row(pool.row()));
    }

    fn sstable_tasks(&self, made: &mut Made<'_>) {
        let schema = self.keeper.store.current();
        for task in self.coordinator.replica.engine.compaction_figures().running {
            let (keyspace, table) = own_tables::name_of(&schema, task.table);
            let keyspace = if keyspace.is_empty() { NAMELESS } else { &keyspace };
            let share = match task.total_bytes {
                0 => 1.0,
                total => task.done_bytes as f64 / total as f64,
            };
            made.row(
                Cells::new()
                    .text("keyspace_name", keyspace)
                    .text("table_name", &table)
                    // Its number, as the history has it.
                    .uuid("task_id", u128::from(task.id))
                    .double("completion_ratio", share)
                    .text("kind", &task.kind.to_lowercase())
                    .bigint("progress", bigint(task.done_bytes))
                    .bigint("total", bigint(task.total_bytes))
                    .text("unit", "bytes"),
            );
        }
    }
}

impl Pool<'_> {
    fn row(&self) -> Cells {
        let mut cells = Cells::new()
            .text("name", self.name)
            .int("pending_tasks", int(self.pending))
            .bigint("completed_tasks", bigint(self.completed))
            .bigint("blocked_tasks", 0)
            .bigint("blocked_tasks_all_time", bigint(self.refused));
        if let Some(active) = self.active {
            cells = cells.int("active_tasks", int(active));
        }
        if let Some(limit) = self.limit {
            cells = cells.int("active_tasks_limit", int(limit));
        }
        cells
    }
}
