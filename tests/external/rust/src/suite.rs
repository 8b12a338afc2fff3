//! What the tests share: sessions, checks, patience with a limit, and the nodes.

use scylla::client::Compression;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileBuilder};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::{
    LoadBalancingPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy,
};
use scylla::statement::Consistency;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Command;

pub(crate) const KEYSPACE: &str = "rust_suite";
/// With one copy of each row.
pub(crate) const KEYSPACE_ONE: &str = "rust_suite_one";
pub(crate) const NODES: [IpAddr; 3] = [node(1), node(2), node(3)];

/// The longest that a test may take.
const PATIENCE: Duration = Duration::from_secs(90);
const EVENTUALLY: Duration = Duration::from_secs(20);

pub(crate) type Checked<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const fn node(nth: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 9, nth))
}

/// Counts tests.
#[derive(Default)]
pub(crate) struct Suite {
    tests: usize,
    passed: usize,
}

impl Suite {
    /// Runs a test, says how it went, and whether well.
    pub(crate) async fn run(&mut self, name: &str, test: impl Future<Output = Checked>) -> bool {
        let began = Instant::now();
        let ended = tokio::time::timeout(PATIENCE, test).await;
        let failure = match ended {
            Ok(Ok(())) => {
                self.tests += 1;
                self.passed += 1;
                println!("ok   {name} ({:.1} s)", began.elapsed().as_secs_f64());
                return true;
            }
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("not within {} s", PATIENCE.as_secs()),
        };
        self.failed(name, &failure);
        false
    }

    pub(crate) fn failed(&mut self, name: &str, failure: &str) {
        self.tests += 1;
        println!("FAIL {name}: {failure}");
    }

    pub(crate) fn end(self) -> ExitCode {
        println!("{} of {} passed", self.passed, self.tests);
        if self.passed == self.tests { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// An error that says `what`, unless `right`.
pub(crate) fn check(right: bool, what: impl Display) -> Checked {
    if right { Ok(()) } else { Err(what.to_string().into()) }
}

pub(crate) fn equal<T: PartialEq + Debug>(found: T, wanted: T, what: impl Display) -> Checked {
    check(found == wanted, format_args!("{what}: found {found:?}, wanted {wanted:?}"))
}

/// Asks until the answer is yes. An error is an answer that is not yes.
pub(crate) async fn eventually(what: &str, mut is: impl AsyncFnMut() -> Checked<bool>) -> Checked {
    let deadline = Instant::now() + EVENTUALLY;
    loop {
        let last = is().await;
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let last = last.err().map(|error| error.to_string()).unwrap_or_default();
            return Err(format!("{what}: not within {} s {last}", EVENTUALLY.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// QUORUM, and patience for a machine that is busy.
pub(crate) fn profile() -> ExecutionProfileBuilder {
    ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .request_timeout(Some(Duration::from_secs(20)))
}

pub(crate) async fn connect() -> Checked<Session> {
    connect_with(profile().build(), None).await
}

pub(crate) async fn connect_with(
    profile: ExecutionProfile,
    compression: Option<Compression>,
) -> Checked<Session> {
    let session = SessionBuilder::new()
        .known_nodes_addr(NODES.map(|ip| SocketAddr::new(ip, 9042)))
        .default_execution_profile_handle(profile.into_handle())
        .compression(compression);
    Ok(session.build().await?)
}

/// Sends requests to this node alone.
pub(crate) fn only(on: &Session, ip: IpAddr) -> Checked<Arc<dyn LoadBalancingPolicy>> {
    let state = on.get_cluster_state();
    let node = state.get_nodes_info().iter().find(|node| node.address.ip() == ip);
    let node = node.ok_or_else(|| format!("{ip} is not known"))?;
    Ok(SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None))
}

/// Executes a statement whose rows nobody wants.
pub(crate) async fn run(on: &Session, text: impl AsRef<str>) -> Checked {
    let text = text.as_ref();
    match on.query_unpaged(text, ()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{text}: {error}").into()),
    }
}

pub(crate) async fn set_up() -> Checked {
    let on = connect().await?;
    for (keyspace, copies) in [(KEYSPACE, 3), (KEYSPACE_ONE, 1)] {
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'dc1': {copies}}}");
        run(&on, format!("DROP KEYSPACE IF EXISTS {keyspace}")).await?;
        run(&on, format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}")).await?;
    }
    on.await_schema_agreement().await?;
    Ok(())
}

/// `kill` or `start`.
pub(crate) async fn nodes(verb: &str, number: usize) -> Checked {
    let script = std::env::var("EXT_NODES")?;
    let done = Command::new(script).args([verb, &number.to_string()]).output().await?;
    let said = String::from_utf8_lossy(&done.stderr);
    check(done.status.success(), format_args!("{verb} node {number}: {} {said}", done.status))
}
