//! How a client is set up.

use crate::channel::ChannelOptions;
use crate::client::Client;
use crate::connect::{Connect, Tcp};
use crate::error::ConnectError;
use crate::link::LinkOptions;
use crate::options::{Routing, TimestampSource};
use crate::retry::RetryPolicy;
use crate::timestamps::{WallClock, system_wall_clock};
use helenus_core::{Dc, Level};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long an operation without a timeout of its own waits: past the longest of the nodes' default timeouts (10 s for
/// scans), so that it is a node that says what happened.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);

/// What a client is made of, once checked.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) contact_points: Vec<SocketAddr>,
    pub(crate) level: Level,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: RetryPolicy,
    pub(crate) routing: Routing,
    pub(crate) timestamps: TimestampSource,
    pub(crate) local_dc: Option<Dc>,
    pub(crate) refresh_interval: Duration,
    pub(crate) admin_timeout: Duration,
    pub(crate) link: LinkOptions,
    pub(crate) seed: u64,
    pub(crate) wall_clock: WallClock,
}

/// Sets up a [`Client`]. Only the contact points are required.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use helenus_client::{Client, Level, Options};
///
/// let client = Client::builder()
///     .contact_points(["127.0.0.1:9160".parse()?, "127.0.0.2:9160".parse()?])
///     .level(Level::Quorum)
///     .connect()
///     .await?;
/// let orders = client.table("shop", "orders");
/// orders.put("order-1", "two books").await?;
/// let got = orders.get_with("order-1", &Options::new().level(Level::One).trace()).await?;
/// # let _ = got; Ok(())
/// # }
/// ```
#[must_use]
pub struct Builder {
    contact_points: Vec<SocketAddr>,
    connector: Arc<dyn Connect>,
    level: Level,
    timeout: Option<Duration>,
    retry: RetryPolicy,
    routing: Routing,
    timestamps: TimestampSource,
    local_dc: Option<Dc>,
    refresh_interval: Duration,
    admin_timeout: Duration,
    channel: ChannelOptions,
    in_flight_max: usize,
    backoff: (Duration, Duration),
    seed: Option<u64>,
    wall_clock: WallClock,
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            contact_points: Vec::new(),
            connector: Arc::new(Tcp),
            level: Level::Quorum,
            timeout: None,
            retry: RetryPolicy::STANDARD,
            routing: Routing::TokenAware,
            timestamps: TimestampSource::Client,
            local_dc: None,
            refresh_interval: Duration::from_secs(30),
            admin_timeout: Duration::from_secs(30),
            channel: ChannelOptions::default(),
            in_flight_max: 4096,
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            seed: None,
            wall_clock: system_wall_clock(),
        }
    }
}

impl Builder {
    /// Nodes to ask first, in this order. One that is up is enough: it names the others.
    pub fn contact_points(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Builder {
        self.contact_points = addrs.into_iter().collect();
        self
    }

    /// How to dial nodes. Default: TCP.
    pub fn connector(mut self, connector: Arc<dyn Connect>) -> Builder {
        self.connector = connector;
        self
    }

    /// The level of operations that name none. Default: QUORUM.
    pub fn level(mut self, level: Level) -> Builder {
        self.level = level;
        self
    }

    /// How long an operation that names no timeout may take, retries included; the coordinator is told. Default: the
    /// nodes' own timeouts apply, and the client waits 12 s for a node that says nothing at all.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = Some(timeout);
        self
    }

    /// When to try again. Default: [`RetryPolicy::STANDARD`].
    pub fn retry(mut self, retry: RetryPolicy) -> Builder {
        self.retry = retry;
        self
    }

    /// Who coordinates operations that do not say. Default: [`Routing::TokenAware`].
    pub fn routing(mut self, routing: Routing) -> Builder {
        self.routing = routing;
        self
    }

    /// Who chooses the timestamps of writes that name none. Default: this client.
    pub fn timestamps(mut self, source: TimestampSource) -> Builder {
        self.timestamps = source;
        self
    }

    /// The data centre whose nodes are asked first. Default: that of the contact point that answers.
    pub fn local_dc(mut self, dc: &str) -> Builder {
        self.local_dc = Some(Dc::from(dc));
        self
    }

    /// How often the topology and the schema are asked for anew. Errors ask sooner, at most once a second. Default: 30 s.
    pub fn refresh_interval(mut self, interval: Duration) -> Builder {
        self.refresh_interval = interval;
        self
    }

    /// How long a call of [`Client::admin`] may take. Default: 30 s.
    pub fn admin_timeout(mut self, timeout: Duration) -> Builder {
        self.admin_timeout = timeout;
        self
    }

    /// How long making a connection may take. Default: 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.channel.connect_timeout = timeout;
        self
    }

    /// Ping each connection so often, and take it for dead when a ping is not answered for `timeout`. Default: 5 s, 3 s.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Builder {
        self.channel.keepalive_interval = interval;
        self.channel.keepalive_timeout = timeout;
        self
    }

    /// How long to wait before connecting again after a failure: doubling from `min` to `max`, jittered. Default: 100 ms
    /// to 5 s.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Builder {
        self.backoff = (min, max.max(min));
        self
    }

    /// Requests in flight to one node; one more fails at once with
    /// [`KvError::TooMuchInFlight`](crate::KvError::TooMuchInFlight) and is counted. Default: 4096. At least 1.
    pub fn in_flight_max(mut self, requests: usize) -> Builder {
        self.in_flight_max = requests.max(1);
        self
    }

    /// Where the client's chance comes from: the jitter of its backoff, and which node takes the first turn. The same
    /// seed gives the same run. Default: different for each process and each moment.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// The clock behind write timestamps: microseconds since the Unix epoch. Default: the machine's.
    pub fn wall_clock(mut self, clock: WallClock) -> Builder {
        self.wall_clock = clock;
        self
    }

    /// Connects to the first contact point that answers, and learns the cluster from it.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let seed = self.seed.unwrap_or_else(|| {
            let moment = (self.wall_clock)().unsigned_abs();
            (moment ^ u64::from(std::process::id()) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        let link = LinkOptions {
            channel: self.channel,
            in_flight_max: self.in_flight_max,
            backoff_min: self.backoff.0,
            backoff_max: self.backoff.1,
            seed,
        };
        let settings = Settings {
            contact_points: self.contact_points,
            level: self.level,
            timeout: self.timeout,
            retry: self.retry,
            routing: self.routing,
            timestamps: self.timestamps,
            local_dc: self.local_dc,
            refresh_interval: self.refresh_interval,
            admin_timeout: self.admin_timeout,
            link,
            seed,
            wall_clock: self.wall_clock,
        };
        Client::start(settings, self.connector).await
    }
}
