//! Who may log in over CQL: roles and their passwords.
//!
//! `roles` keeps them, in `system_auth.roles`; `hash` tells right passwords from wrong ones, in the background. The CQL front
//! end asks [`Auth::login`]; operators make, alter and drop roles through the gRPC front end, whatever the `authenticator`
//! is, for the first role must be made by somebody.
//!
//! A name that is no role's costs what a wrong password costs, and gets the same words.
//!
//! Bounds: [`AT_WORK_MAX`] passwords that are read for or hashed at a time; one more is refused, and counted. Hashing takes
//! one thread and 19 MiB, whoever asks.
//!
//! **Absent:** permissions. Whoever has logged in may do everything that CQL can.

mod hash;
mod roles;

pub(crate) use roles::Role;

use crate::coordinator::{Coordinator, RequestError};
use crate::seams::background::{self, Background, Lane, Stopped};
use hash::{Hasher, Unhashed};
use helenus_proto::cql::{ErrorKind, ErrorResponse, Plain};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use roles::Columns;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Passwords that are worked on: at some tens of milliseconds for each, the last one waits for a few seconds.
const AT_WORK_MAX: usize = 128;
/// The longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The longest password, in bytes. With a name it fits the token that a client sends.
const PASSWORD_BYTES_MAX: usize = 1024;

/// What became of those who wanted in.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuthMetrics {
    success: Counter,
    failures: Counter,
    refused: Counter,
}

impl AuthMetrics {
    pub(crate) fn register(registry: &mut Registry) -> AuthMetrics {
        let metrics = AuthMetrics::default();
        let AuthMetrics { success, failures, refused } = metrics.clone();
        registry.register("cql_auth_success", "Logins of CQL clients", success);
        let help = "Logins that failed: a wrong name or password, a role that may not, roles that cannot be read";
        registry.register("cql_auth_failures", help, failures);
        let help = "Logins answered with OVERLOADED because too many passwords were being checked";
        registry.register("cql_auth_refused", help, refused);
        metrics
    }
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLogin {
    /// There is no such role, or it has another password: nobody is told which.
    #[error("Provided username {0} and/or password are incorrect")]
    Wrong(String),
    /// The password is right.
    #[error("{0} is not permitted to log in")]
    NotPermitted(String),
    /// Nobody knows.
    #[error("Unable to perform authentication: {0}")]
    Unreadable(RequestError),
    /// Too many passwords are being checked.
    #[error("{AT_WORK_MAX} passwords are being checked on this node: try again, or another node")]
    Overloaded,
    /// The node is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a role was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    /// A name or a password that cannot be one.
    #[error("{0}")]
    Invalid(String),
    /// It is there.
    #[error("role `{0}` exists already; `helenusctl role alter` changes it")]
    Exists(String),
    /// It is not there.
    #[error("role `{0}` does not exist; `helenusctl role list` shows those that do")]
    Missing(String),
    /// It cannot be read or written.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// No hash.
    #[error(transparent)]
    Unhashed(#[from] Unhashed),
    /// Too many passwords are being hashed.
    #[error("{AT_WORK_MAX} passwords are being hashed on this node: try again, or another node")]
    Overloaded,
    /// The node is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Knows who may log in.
pub(crate) struct Auth {
    coordinator: Arc<Coordinator>,
    background: Arc<dyn Background>,
    hasher: Arc<Hasher>,
    at_work: Arc<AtomicUsize>,
    metrics: AuthMetrics,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("at_work", &self.at_work).finish_non_exhaustive()
    }
}

/// A place among the passwords that are worked on, given back when dropped.
struct AtWork(Arc<AtomicUsize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Auth {
    pub(crate) fn new(
        coordinator: Arc<Coordinator>,
        background: Arc<dyn Background>,
        metrics: AuthMetrics,
    ) -> Auth {
        let hasher = Arc::new(Hasher::new(coordinator.config.credentials_validity));
        Auth { coordinator, background, hasher, at_work: Arc::default(), metrics }
    }

    fn place(&self) -> Option<AtWork> {
        let at_work = Arc::clone(&self.at_work);
        let place = (at_work.fetch_add(1, Ordering::Relaxed), AtWork(at_work));
        (place.0 < AT_WORK_MAX).then_some(place.1)
    }

    /// Whether this is somebody who may log in.
    pub(crate) async fn login(&self, who: Plain) -> Result<(), NoLogin> {
        let outcome = self.judge(who).await;
        match &outcome {
            Ok(()) => self.metrics.success.inc(),
            Err(NoLogin::Overloaded) => self.metrics.refused.inc(),
            Err(_) => self.metrics.failures.inc(),
        };
        outcome
    }

    /// Counts what names nobody, if that is what the error says.
    pub(crate) fn count_malformed(&self, error: &ErrorResponse) {
        if error.kind == ErrorKind::BadCredentials {
            self.metrics.failures.inc();
        }
    }

    async fn judge(&self, who: Plain) -> Result<(), NoLogin> {
        let place = self.place().ok_or(NoLogin::Overloaded)?;
        let Plain { username, password } = who;
        let role = self.role(&username).await.map_err(NoLogin::Unreadable)?;
        let stored = role.as_ref().and_then(|role| role.salted_hash.clone());
        let (hasher, now) = (Arc::clone(&self.hasher), self.coordinator.clock.now());
        // With the job and not with the client: one that goes away does not make room for another's work.
        let check = move || {
            let right = hasher.check(stored.as_deref(), &password, now);
            drop(place);
            right
        };
        let right = background::run(&*self.background, Lane::Auth, 0, check).await?;
        match role {
            Some(role) if right && role.can_login => Ok(()),
            Some(_) if right => Err(NoLogin::NotPermitted(username)),
            _ => Err(NoLogin::Wrong(username)),
        }
    }

    /// What is kept of a password, if one is given.
    async fn hash(&self, password: Option<String>) -> Result<Option<String>, RoleError> {
        let Some(password) = password else { return Ok(None) };
        let place = self.place().ok_or(RoleError::Overloaded)?;
        let hash = move || {
            let hashed = Hasher::hash(&password);
            drop(place);
            hashed
        };
        Ok(Some(background::run(&*self.background, Lane::Auth, 0, hash).await??))
    }

    /// Makes a role. Without a password nobody can log in as it.
    pub(crate) async fn create(
        &self,
        name: &str,
        password: Option<String>,
        can_login: bool,
    ) -> Result<(), RoleError> {
        check_name(name)?;
        check_password(password.as_deref())?;
        if self.role(name).await?.is_some() {
            return Err(RoleError::Exists(name.to_owned()));
        }
        let salted_hash = self.hash(password).await?;
        let (can_login, is_superuser) = (Some(can_login), Some(false));
        let columns = Columns { can_login, is_superuser, salted_hash };
        Ok(self.write_role(name, &columns, true).await?)
    }

    /// Changes what is given.
    pub(crate) async fn alter(
        &self,
        name: &str,
        password: Option<String>,
        can_login: Option<bool>,
    ) -> Result<(), RoleError> {
        check_password(password.as_deref())?;
        self.must_exist(name).await?;
        let salted_hash = self.hash(password).await?;
        let columns = Columns { can_login, salted_hash, ..Columns::default() };
        Ok(self.write_role(name, &columns, false).await?)
    }

    /// Ends a role. Those who have logged in as it stay until they go.
    pub(crate) async fn drop(&self, name: &str) -> Result<(), RoleError> {
        self.must_exist(name).await?;
        Ok(self.delete_role(name).await?)
    }

    /// All roles, by their names.
    pub(crate) async fn list(&self) -> Result<Vec<Role>, RoleError> {
        Ok(self.all_roles().await?)
    }

    async fn must_exist(&self, name: &str) -> Result<(), RoleError> {
        check_name(name)?;
        match self.role(name).await? {
            Some(_) => Ok(()),
            None => Err(RoleError::Missing(name.to_owned())),
        }
    }
}

fn check_name(name: &str) -> Result<(), RoleError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(RoleError::Invalid(format!(
            "a role's name has 1 to {NAME_BYTES_MAX} bytes, and no NUL among them"
        )));
    }
    Ok(())
}

fn check_password(password: Option<&str>) -> Result<(), RoleError> {
    let fits = |password: &str| {
        !password.is_empty() && password.len() <= PASSWORD_BYTES_MAX && !password.contains('\0')
    };
    if password.is_some_and(|password| !fits(password)) {
        return Err(RoleError::Invalid(format!(
            "a password has 1 to {PASSWORD_BYTES_MAX} bytes, and no NUL among them"
        )));
    }
    Ok(())
}
