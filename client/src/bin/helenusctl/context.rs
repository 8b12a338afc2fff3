//! What every verb has: whom to ask, how long to wait, where to print; and how a verb fails.

use crate::input;
use crate::out::Out;
use helenus_client::{
    Admin, AdminError, Builder, Client, Connect, ConnectError, OpError, Tcp, Tls, TlsOptions, v1,
};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long an operator's call may take unless `--timeout` says otherwise.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine.
    #[error("{0}")]
    Here(String),
    /// The key is not there.
    #[error("{0}")]
    NotFound(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Boxed: it is much larger than the others.
    #[error(transparent)]
    Operation(Box<OpError>),
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Some hosts did it and some did not.
    #[error("{} of {hosts} hosts failed: {}", failed.len(), failed.join("; "))]
    Some { hosts: usize, failed: Vec<String> },
    /// Verify found something; what it was has been shown.
    #[error("{problems} problems were found")]
    Unsound { problems: u64 },
    /// A repair left something unrepaired; what it was has been shown.
    #[error("{0}")]
    Unrepaired(String),
    /// A node that was to leave the ring did not; what it did has been shown.
    #[error("{0}")]
    Stays(String),
    /// What a sync point waits for is not settled; what is left has been shown.
    #[error("{pending} hints are still pending{}", if *.not_asked > 0 { format!("; coordinators that could not be asked: {}", .not_asked) } else { String::new() })]
    HintsPending { pending: u64, not_asked: usize },
    /// A replay did not get to the end; what it did has been shown.
    #[error("{left} dead letters are left")]
    LettersLeft { left: u64 },
    /// The reader of our output went away, which is no failure of ours (`helenusctl scan | head`).
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::OutputClosed => 0,
            _ => 1,
        }
    }

    /// One stable word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Failure::Usage(_) => "usage",
            Failure::Here(_) => "local",
            Failure::NotFound(_) => "not-found",
            Failure::Connect(_) | Failure::Admin(AdminError::NotConnected { .. }) => {
                "not-connected"
            }
            Failure::Operation(error) => error.kind(),
            Failure::Admin(_) => "refused",
            Failure::Some { .. } => "some-failed",
            Failure::Unsound { .. } => "unsound",
            Failure::Unrepaired(_) => "unrepaired",
            Failure::Stays(_) => "stays",
            Failure::HintsPending { .. } => "hints-pending",
            Failure::LettersLeft { .. } => "dead-letters-left",
            Failure::OutputClosed => "output-closed",
        }
    }

    /// What the user could do about it, where that is not obvious.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Failure::Connect(ConnectError::NoneAnswered { .. })
            | Failure::Admin(AdminError::NotConnected { .. }) => {
                Some("start one with `helenus dev`, or name another with --host HOST:PORT")
            }
            Failure::Admin(AdminError::ConnectionLost { .. }) => Some(
                "a node that speaks TLS (rpc_tls_certificate) closes what does not: --tls-ca FILE",
            ),
            Failure::Operation(error) if error.may_have_applied() => {
                Some("the write may have been applied, or may be later; writing it again is safe")
            }
            _ => None,
        }
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Failure::Operation(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Here(error.to_string()),
        }
    }
}

/// How nodes are talked to that have `rpc_tls_certificate`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// Talk TLS, and believe certificates of the authorities in this PEM file.
    #[arg(long, global = true, help_heading = "Options of every verb", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our own certificate, for nodes that want one (rpc_tls_client_ca).
    #[arg(long, global = true, help_heading = "Options of every verb", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, global = true, help_heading = "Options of every verb", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The name that the nodes' certificates have, if it is not the address that is dialled.
    #[arg(long, global = true, help_heading = "Options of every verb", value_name = "NAME")]
    tls_domain: Option<String>,
}

impl TlsArgs {
    fn connector(self) -> Result<Arc<dyn Connect>, Failure> {
        let TlsArgs { tls_ca, tls_cert, tls_key, tls_domain } = self;
        let usage = |why: &str| Err(Failure::Usage(why.to_owned()));
        let Some(ca) = tls_ca else {
            if tls_cert.is_some() || tls_key.is_some() || tls_domain.is_some() {
                return usage(
                    "--tls-cert, --tls-key and --tls-domain mean something with --tls-ca only",
                );
            }
            return Ok(Arc::new(Tcp));
        };
        let identity = match (tls_cert, tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return usage("--tls-cert and --tls-key go together"),
        };
        let options = TlsOptions { ca, identity, domain: tls_domain };
        let tls = Tls::new(&options).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Arc::new(tls))
    }
}

/// What every verb has.
pub(crate) struct Context {
    hosts: Vec<SocketAddr>,
    connector: Arc<dyn Connect>,
    timeout: Option<Duration>,
    pub(crate) out: Out,
}

impl Context {
    pub(crate) fn new(
        hosts: &[String],
        timeout: Option<Duration>,
        tls: TlsArgs,
        out: Out,
    ) -> Result<Context, Failure> {
        let hosts: Vec<SocketAddr> =
            hosts.iter().map(|host| input::host(host)).collect::<Result<_, _>>()?;
        Ok(Context { hosts, connector: tls.connector()?, timeout, out })
    }

    /// What `--timeout` said.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn builder(&self) -> Builder {
        let builder = Client::builder()
            .contact_points(self.hosts.iter().copied())
            .connector(Arc::clone(&self.connector));
        match self.timeout {
            Some(timeout) => builder.timeout(timeout).admin_timeout(timeout),
            None => builder,
        }
    }

    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(self.builder().connect().await?)
    }

    fn admin(&self, addr: SocketAddr) -> Admin {
        let timeout = self.timeout.unwrap_or(ADMIN_TIMEOUT);
        Admin::through(addr, timeout, Arc::clone(&self.connector))
    }

    /// The doors of all hosts.
    pub(crate) fn admins(&self) -> impl Iterator<Item = (SocketAddr, Admin)> + '_ {
        self.hosts.iter().map(|addr| (*addr, self.admin(*addr)))
    }

    /// Asks the first host that can be reached. A host that answers "no" has answered.
    pub(crate) async fn ask<T>(
        &self,
        call: impl AsyncFn(Admin) -> Result<T, AdminError>,
    ) -> Result<T, Failure> {
        let mut tried = Vec::new();
        for &addr in &self.hosts {
            match call(self.admin(addr)).await {
                Err(error @ AdminError::NotConnected { .. }) => tried.push((addr, error)),
                answered => return Ok(answered?),
            }
        }
        match <[_; 1]>::try_from(tried) {
            Ok([(_, error)]) => Err(error.into()),
            Err(tried) => Err(ConnectError::NoneAnswered { tried }.into()),
        }
    }

    /// Asks every host. `answers` holds those that did as they were told; one that did not makes the verb fail, after
    /// the others were shown.
    pub(crate) async fn ask_each<T>(
        &self,
        call: impl AsyncFn(Admin) -> Result<T, AdminError>,
    ) -> Each<T> {
        self.ask_all(&self.hosts, call).await
    }

    /// The members of the cluster that the hosts are of.
    pub(crate) async fn members(&self) -> Result<Vec<v1::Member>, Failure> {
        let mut topology = self.ask(async |admin| admin.topology().await).await?;
        topology.members.retain(|member| member.status != "LEFT");
        Ok(topology.members)
    }

    /// As [`Context::ask_each`], but every member of the cluster that the hosts are of.
    pub(crate) async fn ask_members<T>(
        &self,
        call: impl AsyncFn(Admin) -> Result<T, AdminError>,
    ) -> Result<Each<T>, Failure> {
        let mut members = Vec::new();
        for member in self.members().await? {
            members.push(member.client_addr.parse().map_err(|_| {
                let addr = &member.internode_addr;
                Failure::Here(format!("it is not known where clients reach the member {addr}"))
            })?);
        }
        Ok(self.ask_all(&members, call).await)
    }

    async fn ask_all<T>(
        &self,
        hosts: &[SocketAddr],
        call: impl AsyncFn(Admin) -> Result<T, AdminError>,
    ) -> Each<T> {
        let mut each = Each { hosts: hosts.len(), answers: Vec::new(), errors: Vec::new() };
        for &addr in hosts {
            match call(self.admin(addr)).await {
                Ok(answer) => each.answers.push((addr, answer)),
                Err(error) => each.errors.push(error),
            }
        }
        each
    }
}

/// What several hosts answered.
pub(crate) struct Each<T> {
    hosts: usize,
    pub(crate) answers: Vec<(SocketAddr, T)>,
    errors: Vec<AdminError>,
}

impl<T> Each<T> {
    /// The verb's end: an error if any host did not do it.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        match (self.hosts, self.errors.pop()) {
            (_, None) => Ok(()),
            (1, Some(error)) => Err(error.into()),
            (hosts, Some(error)) => {
                self.errors.push(error);
                let failed = self.errors.iter().map(ToString::to_string).collect();
                Err(Failure::Some { hosts, failed })
            }
        }
    }
}
