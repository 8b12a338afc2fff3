//! Prometheus metrics: one registry a node, and the port that shows it.
//!
//! Components register their families when they are made; names get the prefix `helenus_` and carry base units
//! (`_seconds`, `_bytes`). The registry is complete before the port opens, so no lock is needed to read it.
//!
//! Invariants: one task serves the port, connections included, and ends with the node; at most
//! `CONNECTIONS_MAX` callers are served at a time (more wait in the system's backlog), each for at most
//! `CONNECTION_TIME_MAX`, so a caller that never speaks cannot keep others out.

use crate::seams::net::{BoxIo, Listener, Net};
use crate::tasks::Tasks;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// Callers served at a time.
const CONNECTIONS_MAX: usize = 16;
/// How long a caller may take for its request and our answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait when the system gives no connection (it is out of file descriptors, say) before asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry for one node, with what is known before anything runs.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("helenus");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that runs", build);
    registry
}

/// Shows `registry` at `http://address/metrics` until the node's tasks end. Gives back the address that was really
/// taken; the error says what to do about a port that is in use.
pub async fn serve(
    registry: Arc<Registry>,
    net: &dyn Net,
    address: SocketAddr,
    tasks: &Tasks,
) -> io::Result<SocketAddr> {
    let listener = net.listen(address).await?;
    let taken = listener.local_addr()?;
    tasks.spawn(answer(listener, pages(registry)));
    Ok(taken)
}

fn pages(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/", get(|| async { "This is a Helenus node. Its metrics are at /metrics.\n" }))
        .route("/metrics", get(show))
        .with_state(registry)
}

async fn show(State(registry): State<Arc<Registry>>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], body).into_response(),
        Err(error) => {
            warn!(%error, "metrics could not be written out");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn answer(mut listener: Box<dyn Listener>, pages: Router) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! { biased;
            // Callers that are here go before new ones.
            Some(()) = open.next(), if !open.is_empty() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                Ok((io, caller)) => open.push(converse(io, caller, pages.clone())),
                Err(error) => {
                    warn!(%error, "no connection for metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One request, one answer: scrapes are far apart, so nothing is gained by keeping the connection.
async fn converse(io: BoxIo, caller: SocketAddr, pages: Router) {
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    http.http1().keep_alive(false);
    let conversation = http.serve_connection(TokioIo::new(io), TowerToHyperService::new(pages));
    match tokio::time::timeout(CONNECTION_TIME_MAX, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%caller, error, "a caller of the metrics port went away"),
        Err(_) => debug!(%caller, "a caller of the metrics port took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::net::TcpNet;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const ANY_PORT: &str = "127.0.0.1:0";

    struct Port {
        address: SocketAddr,
        // Dropping them ends the port.
        _tasks: Tasks,
    }

    async fn port(registry: Registry) -> Port {
        let tasks = Tasks::new();
        let any = ANY_PORT.parse().unwrap();
        let address = serve(Arc::new(registry), &TcpNet, any, &tasks).await.unwrap();
        Port { address, _tasks: tasks }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut io = TcpNet.connect(address).await.unwrap();
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: helenus\r\n\r\n")).await
    }

    #[tokio::test]
    async fn registered_families_are_shown_with_the_prefix() {
        let mut registry = registry();
        let counter: Counter = Counter::default();
        registry.register("hints_created", "Hints stored", counter.clone());
        let port = port(registry).await;
        counter.inc_by(41);
        counter.inc();
        let answer = get(port.address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(OPENMETRICS), "{answer}");
        assert!(answer.contains("\nhelenus_hints_created_total 42\n"), "{answer}");
        assert!(answer.contains("helenus_build_info{version="), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn other_paths_and_noise_are_refused_and_the_port_lives_on() {
        let port = port(registry()).await;
        assert!(get(port.address, "/").await.contains("/metrics"));
        assert!(get(port.address, "/favicon.ico").await.starts_with("HTTP/1.1 404"));
        assert!(ask(port.address, "\0\0noise\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert!(get(port.address, "/metrics").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_caller_beyond_the_bound_is_served_when_another_leaves() {
        let port = port(registry()).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpNet.connect(port.address).await.unwrap());
        }
        let leave = async { drop(silent.pop()) };
        let (answer, ()) = tokio::join!(get(port.address, "/metrics"), leave);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_says_nothing_is_let_go_in_time() {
        let (_theirs, ours) = tokio::io::duplex(64);
        let begun = tokio::time::Instant::now();
        converse(Box::new(ours), ANY_PORT.parse().unwrap(), pages(Arc::new(registry()))).await;
        assert_eq!(begun.elapsed().as_secs(), CONNECTION_TIME_MAX.as_secs());
    }

    #[tokio::test]
    async fn a_used_port_is_an_error_that_says_so() {
        let port = port(registry()).await;
        let tasks = Tasks::new();
        let again = serve(Arc::new(registry()), &TcpNet, port.address, &tasks).await;
        let error = again.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&port.address.to_string()), "{error}");
    }
}
