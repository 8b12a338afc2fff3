//! A node on this machine: real clocks, files, threads and sockets, on a thread and a runtime of its own.
//!
//! `helenus --config` and `helenus dev` start nodes in this way and in no other. The simulation composes its nodes
//! itself, from the same `run`.

use crate::config::Config;
use crate::run::{Parts, Ready, StartError, run};
use crate::seams::background::ThreadBackground;
use crate::seams::clock::SystemClock;
use crate::seams::disk::{Disk, StdDisk};
use crate::seams::net::TcpNet;
use crate::seams::probe::Silent;
use crate::seams::rng::Rng;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a node did not start, or stopped without being told to.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The node says why.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system gave no thread or no runtime.
    #[error("the system gave no {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its words.
        source: io::Error,
    },
    /// A bug. The panic's message is in the log.
    #[error(
        "the node panicked; the log says where. What it acknowledged is in its commit log: start it again"
    )]
    Panicked,
}

/// A node that runs. Dropping it tells the node to stop, but does not wait.
#[derive(Debug)]
pub struct Node {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), LaunchError>>,
}

impl Node {
    /// Starts a node and waits until it takes requests. Its threads' names begin with `name`.
    pub async fn start(name: &str, config: Config) -> Result<(Node, Ready), LaunchError> {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopping) = oneshot::channel();
        let (end, mut ended) = oneshot::channel();
        let work = move || {
            let outcome = drive(config, ready, stopping);
            // Nobody may wait for the end any more.
            end.send(outcome).ok();
        };
        // Not through the background seam: this thread is what the seams of one node hang on.
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.map_err(|source| LaunchError::System { what: "thread", source })?;
        tokio::select! { biased;
            Ok(ready) = is_ready => Ok((Node { stop, ended }, ready)),
            outcome = &mut ended => Err(match outcome {
                Ok(Err(error)) => error,
                // It stopped without having been ready or told to.
                Ok(Ok(())) | Err(_) => LaunchError::Panicked,
            }),
        }
    }

    /// Resolves if the node stops by itself. It may be awaited again after being dropped.
    pub async fn ended(&mut self) -> Result<(), LaunchError> {
        (&mut self.ended).await.unwrap_or(Err(LaunchError::Panicked))
    }

    /// Tells the node to stop and waits until everything it acknowledged is on disk.
    pub async fn stop(self) -> Result<(), LaunchError> {
        // It may have ended by itself; then the outcome says why.
        self.stop.send(()).ok();
        self.ended.await.unwrap_or(Err(LaunchError::Panicked))
    }
}

/// The life of the node's thread.
fn drive(
    config: Config,
    ready: oneshot::Sender<Ready>,
    stopping: oneshot::Receiver<()>,
) -> Result<(), LaunchError> {
    // A panic is a bug, and what it was in the middle of is unknown: the node stops, as a process would, rather than going
    // on without one of its tasks. The simulation does the same.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .unhandled_panic(tokio::runtime::UnhandledPanic::ShutdownRuntime)
        .build();
    let runtime = runtime.map_err(|source| LaunchError::System { what: "runtime", source })?;
    let background = ThreadBackground::start();
    let background = background.map_err(|source| LaunchError::System { what: "thread", source })?;
    let disk = StdDisk::new(config.data_directory.clone());
    // The empty path is the disk's root: the data directory, which the first start has to make.
    let made = disk.create_dir(Path::new(""));
    let unusable = |error: io::Error| StartError::DataDirectory { message: error.to_string() };
    made.map_err(unusable)?;
    // Held until the node's thread ends.
    let _lock = disk.lock().map_err(unusable)?;
    let parts = Parts {
        clock: Arc::new(SystemClock::new()),
        rng: Rng::from_os(),
        disk: Arc::new(disk),
        background: Arc::new(background),
        net: Arc::new(TcpNet),
        probe: Arc::new(Silent),
        ready: Some(ready),
        config,
    };
    let shutdown = async {
        // A dropped sender is a handle that nobody holds any more: stop, too.
        stopping.await.ok();
    };
    Ok(runtime.block_on(run(parts, shutdown))?)
}
