//! The `scylla` driver against three real nodes: its view of the cluster, prepared statements, pages, batches, conditions,
//! counters, collections, tables that change, traces, and a killed node.
//!
//! The nodes run already; EXT_DIR and EXT_HELENUS say where, EXT_NODES is the script that kills and starts them.

#![allow(clippy::disallowed_methods, reason = "it waits for real processes by the real clock")]

mod cluster;
mod data;
mod errors;
mod failure;
mod features;
mod suite;

use std::process::ExitCode;
use suite::{Suite, connect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut suite = Suite::default();
    if suite.run("set up", suite::set_up()).await {
        match connect().await {
            Ok(session) => {
                let on = &session;
                suite.run("topology", cluster::topology(on)).await;
                suite.run("token-aware writes reach an owner", cluster::token_aware(on)).await;
                suite.run("schema agreement within a second", cluster::schema_agreement(on)).await;
                suite.run("the driver's model of the schema", cluster::metadata(on)).await;
                suite.run("compression", data::compression(on)).await;
                suite.run("values of all kinds", data::kinds(on)).await;
                suite.run("elements of collections", features::collections(on)).await;
                suite.run("conditional statements", features::conditions(on)).await;
                suite.run("counters", features::counters(on)).await;
                suite.run("batches", data::batches(on)).await;
                suite.run("a logged batch over partitions", features::logged_batch(on)).await;
                suite.run("pages", data::pages(on)).await;
                suite.run("many requests", data::many_requests(on)).await;
                suite.run("a table that changes", features::altered(on)).await;
                suite.run("traces", features::tracing(on)).await;
                suite.run("mistakes", errors::mistakes(on)).await;
                suite.run("killed node", failure::killed_node(on)).await;
            }
            Err(error) => suite.failed("session", &error.to_string()),
        }
    }
    suite.end()
}
