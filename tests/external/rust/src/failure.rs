//! A node is killed under load and comes back. This is the last test: it leaves a node that was restarted.

use crate::errors::said;
use crate::suite::{
    Checked, KEYSPACE, NODES, check, connect_with, equal, eventually, nodes, only, profile, run,
};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::client::session::Session;
use scylla::errors::DbError;
use scylla::policies::retry::{
    FallthroughRetryPolicy, RequestInfo, RetryDecision, RetryPolicy, RetrySession,
};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, Statement};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

const VICTIM: usize = 1;
const WRITERS: i32 = 4;

/// Asks another node, up to five times, whatever failed: the statements of this test are idempotent.
#[derive(Debug)]
struct FewRetries;

struct Retries(u32);

impl RetryPolicy for FewRetries {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Retries(0))
    }
}

impl RetrySession for Retries {
    fn decide_should_retry(&mut self, info: RequestInfo) -> RetryDecision {
        self.0 += 1;
        match self.0 <= 5 && info.is_idempotent {
            true => RetryDecision::RetryNextTarget(None),
            false => RetryDecision::DontRetry,
        }
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Writers that write a key, read it back and remember what was acknowledged, until they are stopped.
struct Load<'a> {
    on: &'a Session,
    insert: PreparedStatement,
    select: PreparedStatement,
    acknowledged: RefCell<BTreeSet<i32>>,
    stopped: Cell<bool>,
}

impl Load<'_> {
    async fn write(&self, number: i32) -> Checked {
        for key in (number..).step_by(WRITERS as usize) {
            if self.stopped.get() {
                break;
            }
            let value = format!("value {key}");
            let written = self.on.execute_unpaged(&self.insert, (key, &value)).await;
            written.map_err(|error| format!("write of {key}: {error}"))?;
            self.acknowledged.borrow_mut().insert(key);
            self.read(key).await?;
        }
        Ok(())
    }

    async fn read(&self, key: i32) -> Checked {
        let row = self.on.execute_unpaged(&self.select, (key,)).await;
        let row = row.map_err(|error| format!("read of {key}: {error}"))?.into_rows_result()?;
        let found = row.maybe_first_row::<(String,)>()?.map(|(value,)| value);
        equal(found, Some(format!("value {key}")), format_args!("acknowledged key {key}"))
    }

    /// Waits until this many further writes were acknowledged.
    async fn more(&self, count: usize) -> Checked {
        let goal = self.acknowledged.borrow().len() + count;
        eventually("more writes", async || Ok(self.acknowledged.borrow().len() >= goal)).await
    }
}

/// SIGKILL under load: no error at QUORUM with retries, Unavailable at ALL, and a return without loss.
pub(crate) async fn killed_node(watch: &Session) -> Checked {
    run(watch, format!("CREATE TABLE {KEYSPACE}.load (k int PRIMARY KEY, v text)")).await?;
    let on = connect_with(profile().retry_policy(Arc::new(FewRetries)).build(), None).await?;
    let mut insert =
        on.prepare(format!("INSERT INTO {KEYSPACE}.load (k, v) VALUES (?, ?)")).await?;
    let mut select = on.prepare(format!("SELECT v FROM {KEYSPACE}.load WHERE k = ?")).await?;
    insert.set_is_idempotent(true);
    select.set_is_idempotent(true);
    let (acknowledged, stopped) = (RefCell::default(), Cell::new(false));
    let load = Load { on: &on, insert, select, acknowledged, stopped };
    let writers = join_all((0..WRITERS).map(|number| load.write(number)));
    let story = async {
        let told = kill_and_start(watch, &load).await;
        load.stopped.set(true);
        told
    };
    let (told, written) = tokio::join!(story, writers);
    told?;
    written.into_iter().collect::<Checked<Vec<()>>>()?;

    // The restarted node knows no prepared statement: the driver is told so, prepares again and repeats.
    let mut there = load.select.clone();
    there.set_load_balancing_policy(Some(only(&on, NODES[VICTIM])?));
    eventually("the driver has connected to it again", async || {
        Ok(on.execute_unpaged(&there, (0,)).await?.request_coordinator().node().address.ip()
            == NODES[VICTIM])
    })
    .await?;
    let keys: Vec<i32> = load.acknowledged.borrow().iter().copied().collect();
    check(keys.len() >= 600, format_args!("{} writes were acknowledged", keys.len()))?;
    let reads = stream::iter(keys).map(|key| load.read(key)).buffer_unordered(16);
    reads.try_collect::<()>().await
}

async fn kill_and_start(watch: &Session, load: &Load<'_>) -> Checked {
    let at_all = |text: String| -> Checked<Statement> {
        let mut statement = Statement::new(text);
        statement.set_consistency(Consistency::All);
        statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
        statement.set_load_balancing_policy(Some(only(watch, NODES[0])?));
        Ok(statement)
    };
    let write = at_all(format!("INSERT INTO {KEYSPACE}.load (k, v) VALUES (-1, 'all')"))?;
    let read = at_all(format!("SELECT v FROM {KEYSPACE}.load WHERE k = 0"))?;
    load.more(100).await?;
    nodes("kill", VICTIM + 1).await?;
    load.more(300).await?;
    let unavailable = DbError::Unavailable { consistency: Consistency::All, required: 3, alive: 2 };
    for statement in [write.clone(), read] {
        eventually("Unavailable at ALL", async || {
            Ok(said(watch.query_unpaged(statement.clone(), ()).await)? == unavailable)
        })
        .await?;
    }
    nodes("start", VICTIM + 1).await?;
    eventually("ALL again", async || Ok(watch.query_unpaged(write.clone(), ()).await.is_ok()))
        .await?;
    load.more(200).await
}
