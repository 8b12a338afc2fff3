//! TLS around a listener: whoever is behind it sees streams of bytes, as without it.
//!
//! A port is encrypted or it is not: there is none that speaks both. Versions 1.2 and 1.3, ciphers of ring's. What is wrong
//! with the files is said at the start, with the key of the configuration, the file and what to do.
//!
//! Bounds: [`HANDSHAKES_MAX`] handshakes of a port at a time (one more is closed at once), [`HANDSHAKE_PATIENCE`] for each.
//! Those that fail are counted; accepting goes on meanwhile.
//!
//! CAVEAT: the files are read once, at the start: a new certificate takes a restart. Lists of revoked certificates are not
//! read. What nodes say to each other is not encrypted. The files are the operator's, not the node's, so they are not
//! behind the disk seam; a simulation has none.

use crate::config::TlsFiles;
use crate::seams::net::{BoxFuture, BoxIo, Listener};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, CertificateError, RootCertStore, ServerConfig};

/// Handshakes of one port that are under way.
const HANDSHAKES_MAX: usize = 512;
/// How long one may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// A port that can be encrypted, by the names of its keys in the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Port {
    certificate: &'static str,
    private_key: &'static str,
    client_ca: &'static str,
    /// What is spoken inside, for clients that ask (ALPN).
    protocol: Option<&'static [u8]>,
}

/// CQL.
pub(crate) const CQL: Port = Port {
    certificate: "native_transport_tls_certificate",
    private_key: "native_transport_tls_private_key",
    client_ca: "native_transport_tls_client_ca",
    protocol: None,
};

/// gRPC.
pub(crate) const RPC: Port = Port {
    certificate: "rpc_tls_certificate",
    private_key: "rpc_tls_private_key",
    client_ca: "rpc_tls_client_ca",
    protocol: Some(b"h2"),
};

/// Why a port cannot be encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {file}: {why}")]
pub struct TlsError {
    /// The configuration key.
    pub key: &'static str,
    /// Its file.
    pub file: String,
    /// What is wrong with it, and what to do.
    pub why: String,
}

impl TlsError {
    fn new(key: &'static str, file: &Path, why: impl Into<String>) -> TlsError {
        TlsError { key, file: file.display().to_string(), why: why.into() }
    }
}

impl Port {
    /// What `files` make of the port; `wall`: since 1970.
    pub(crate) fn acceptor(
        self,
        files: &TlsFiles,
        wall: Duration,
    ) -> Result<TlsAcceptor, TlsError> {
        let TlsFiles { certificate, private_key, client_ca } = files;
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(self.certificate, certificate)?;
        check_time(self.certificate, certificate, &chain, &provider, wall)?;
        let key = PrivateKeyDer::from_pem_file(private_key).map_err(|error| {
            TlsError::new(self.private_key, private_key, unreadable(&error, "PRIVATE KEY"))
        })?;
        let unusable = |error: &rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::new(
                self.private_key,
                private_key,
                format!(
                    "this is not the key of the certificate in {}: give the two that were made together, and the node's own \
                     certificate first in its file",
                    certificate.display()
                ),
            ),
            rustls::Error::General(_) => TlsError::new(
                self.private_key,
                private_key,
                format!(
                    "this key cannot be used: {error}; RSA (2048 bits or more), ECDSA and Ed25519 can"
                ),
            ),
            _ => TlsError::new(self.certificate, certificate, error.to_string()),
        };
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let asked = match client_ca {
            None => versions.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(self.roots(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let refused = |error| TlsError::new(self.client_ca, ca, format!("{error}"));
                versions.with_client_cert_verifier(verifier.map_err(refused)?)
            }
        };
        let config = asked.with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(&error))?;
        config.alpn_protocols = self.protocol.into_iter().map(<[u8]>::to_vec).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn roots(self, file: &Path) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(self.client_ca, file)? {
            let added = roots.add(certificate);
            added.map_err(|error| {
                let why = format!("{error}: this is no authority's certificate");
                TlsError::new(self.client_ca, file, why)
            })?;
        }
        Ok(roots)
    }
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |error: &PemError| TlsError::new(key, file, unreadable(error, "CERTIFICATE"));
    let read = CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))?;
    let chain = read.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    if chain.is_empty() {
        return Err(bad(&PemError::NoItemsFound));
    }
    Ok(chain)
}

fn unreadable(error: &PemError, what: &str) -> String {
    match error {
        PemError::Io(error) => format!(
            "{error}; give the path of a PEM file, from where the node is started or from the root, that it may read"
        ),
        PemError::NoItemsFound => {
            format!("there is no {what} in it; a PEM file has a line -----BEGIN {what}-----")
        }
        error => format!("this is no PEM file: {error}"),
    }
}

/// Whether the node's own certificate holds at this time: clients would refuse it otherwise, each with other words.
fn check_time(
    key: &'static str,
    file: &Path,
    chain: &[CertificateDer<'_>],
    provider: &CryptoProvider,
    wall: Duration,
) -> Result<(), TlsError> {
    let Some((own, between)) = chain.split_first() else { return Ok(()) };
    let parsed = ParsedCertificate::try_from(own);
    let parsed = parsed.map_err(|error| TlsError::new(key, file, error.to_string()))?;
    // By nobody's word, so it fails in any case: but first of all for the time, and that is what is asked.
    let judged = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        between,
        UnixTime::since_unix_epoch(wall),
        provider.signature_verification_algorithms.all,
    );
    let why = match judged {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "the certificate has expired: give one that has not",
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => {
            "the certificate does not hold yet: look at this machine's clock, or give one that does"
        }
        _ => return Ok(()),
    };
    Err(TlsError::new(key, file, why))
}

/// Handshakes that failed, by the port.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsMetrics {
    pub(crate) cql_failures: Counter,
    pub(crate) rpc_failures: Counter,
}

impl TlsMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "TLS handshakes that failed: of clients without a certificate, with another authority, or without TLS";
        registry.register("cql_tls_handshake_failures", help, self.cql_failures.clone());
        registry.register("rpc_tls_handshake_failures", help, self.rpc_failures.clone());
    }
}

type Handshake = BoxFuture<'static, (io::Result<BoxIo>, SocketAddr)>;

/// A listener whose streams have shaken hands.
pub(crate) struct TlsListener {
    inner: Box<dyn Listener>,
    acceptor: TlsAcceptor,
    under_way: FuturesUnordered<Handshake>,
    failures: Counter,
}

impl TlsListener {
    /// Encrypts what `inner` accepts, and counts what does not come to that.
    pub(crate) fn new(
        inner: Box<dyn Listener>,
        acceptor: TlsAcceptor,
        failures: Counter,
    ) -> TlsListener {
        TlsListener { inner, acceptor, under_way: FuturesUnordered::new(), failures }
    }

    fn begin(&self, io: BoxIo, from: SocketAddr) {
        if self.under_way.len() >= HANDSHAKES_MAX {
            self.failures.inc();
            tracing::warn!(%from, "a connection was refused: {HANDSHAKES_MAX} TLS handshakes are under way");
            return;
        }
        let shaken = self.acceptor.accept(io);
        self.under_way.push(Box::pin(async move {
            let shaken = match tokio::time::timeout(HANDSHAKE_PATIENCE, shaken).await {
                Ok(Ok(io)) => Ok(Box::new(io) as BoxIo),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no handshake within {HANDSHAKE_PATIENCE:?}"),
                )),
            };
            (shaken, from)
        }));
    }
}

impl Listener for TlsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    // Who is through first: they make room.
                    biased;
                    Some((shaken, from)) = self.under_way.next(), if !self.under_way.is_empty() => {
                        match shaken {
                            Ok(io) => return Ok((io, from)),
                            Err(error) => {
                                self.failures.inc();
                                tracing::debug!(%from, %error, "a TLS handshake failed");
                            }
                        }
                    }
                    accepted = self.inner.accept() => {
                        let (io, from) = accepted?;
                        self.begin(io, from);
                    }
                }
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsListener")
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}
