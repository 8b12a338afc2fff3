//! A node from start to stop.

use crate::config::Config;
use crate::seams::background::Background;
use crate::seams::clock::Clock;
use crate::seams::disk::Disk;
use crate::seams::net::Net;
use crate::seams::probe::Probe;
use crate::seams::rng::Rng;
use crate::storage::StorageError;
use helenus_core::NodeId;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Everything a node is made of that differs between production and simulation.
pub struct Parts {
    /// What it was told.
    pub config: Config,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// Its chance.
    pub rng: Rng,
    /// Its disk; the root is the data directory.
    pub disk: Arc<dyn Disk>,
    /// Where slow work runs.
    pub background: Arc<dyn Background>,
    /// Its network.
    pub net: Arc<dyn Net>,
    /// Who watches it.
    pub probe: Arc<dyn Probe>,
    /// Told when the node takes requests.
    pub ready: Option<oneshot::Sender<Ready>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a node says when it takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its host id.
    pub node: NodeId,
    /// Where clients reach it, with the port that was really taken.
    pub rpc: SocketAddr,
    /// Where peers reach it.
    pub internode: SocketAddr,
    /// Where its metrics are, if they are shown.
    pub metrics: Option<SocketAddr>,
}

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address} ({key}): {message}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's words and what to do.
        message: String,
    },
    /// The data directory is not this cluster's, or cannot be used.
    #[error("data directory: {message}")]
    DataDirectory {
        /// What is wrong and what to do.
        message: String,
    },
    /// Storage did not open or did not close.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// The hint store did not open.
    #[error("hints: {message}")]
    Hints {
        /// What is wrong and what to do.
        message: String,
    },
}
