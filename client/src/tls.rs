//! TLS over TCP: a [`Connect`] for nodes that have `rpc_tls_certificate`.
//!
//! A node must show a certificate of one of the authorities that are given, for the address that is dialled (an `IP` among
//! its names) or for the domain that is given instead. **Absent:** the system's authorities: a cluster has its own.

use crate::connect::{BoxFuture, BoxIo, Connect, Tcp};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What a client has to know: paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// Authorities whose certificates are believed.
    pub ca: PathBuf,
    /// Our certificate and its key, for nodes that want one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that nodes' certificates have; absent: the address that is dialled.
    pub domain: Option<String>,
}

/// A file or a name is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct TlsError {
    what: String,
    why: String,
}

/// Dials, and shakes hands.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    domain: Option<ServerName<'static>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    pub fn new(options: &TlsOptions) -> Result<Tls, TlsError> {
        let TlsOptions { ca, identity, domain } = options;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| bad(ca, &error))?;
        }
        let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(ca, &error))?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => versions.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable(key, &error, "PRIVATE KEY"))?;
                versions
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| bad(certificate, &error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let domain = domain.clone().map(|name| {
            ServerName::try_from(name.clone()).map_err(|error| TlsError {
                what: name,
                why: format!(
                    "{error}; a domain is a name such as node1.example.org, or an address"
                ),
            })
        });
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Tls { connector, domain: domain.transpose()? })
    }
}

impl Connect for Tls {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, io::Result<BoxIo>> {
        let connector = self.connector.clone();
        let domain = self.domain.clone().unwrap_or_else(|| ServerName::IpAddress(addr.ip().into()));
        Box::pin(async move {
            let stream = Tcp.connect(addr).await?;
            Ok(Box::new(connector.connect(domain, stream).await?) as BoxIo)
        })
    }
}

fn bad(file: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError { what: file.display().to_string(), why: error.to_string() }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: &PemError| unreadable(file, error, "CERTIFICATE");
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if read.is_empty() {
        return Err(wrong(&PemError::NoItemsFound));
    }
    Ok(read)
}

fn unreadable(file: &Path, error: &PemError, what: &str) -> TlsError {
    match error {
        PemError::Io(error) => bad(file, error),
        PemError::NoItemsFound => bad(
            file,
            &format!("there is no {what} in it; a PEM file has a line -----BEGIN {what}-----"),
        ),
        error => bad(file, &format!("this is no PEM file: {error}")),
    }
}
