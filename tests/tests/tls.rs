//! Ports that are encrypted, on real nodes: who is let in, what others see, and what a node says whose files are no good.
//! The certificates are made here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use bytes::Bytes;
use helenus_client::{BoxFuture, BoxIo, Client, Connect, Level, Tcp, Tls, TlsOptions};
use helenus_proto::cql::{Compression, Response, Version};
use helenus_tests::cql::{Cql, at, bound};
use helenus_tests::{
    Finished, NodeSpec, PATIENCE, Process, binary, free_port, run, run_fed, until,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// An authority, and the directory in which its files are.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

fn named(name: &str, alternatives: &[&str]) -> CertificateParams {
    let alternatives: Vec<String> = alternatives.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(alternatives).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Authority {
        let dir = dir.join(name);
        fs::create_dir(&dir).unwrap();
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { dir, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes `NAME.crt` and `NAME.key`.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = named(name, &["127.0.0.1", "node.example"]);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Those who believe this authority, and show this certificate.
    fn believer(&self, identity: Option<&str>) -> Tls {
        let file = |name: &str, ending: &str| self.file(&format!("{name}.{ending}"));
        let identity = identity.map(|name| (file(name, "crt"), file(name, "key")));
        Tls::new(&TlsOptions { ca: self.file("ca.crt"), identity, domain: None }).unwrap()
    }

    /// Lines of a node's configuration that encrypt a port.
    fn lines(&self, port: &str, name: &str, client_ca: Option<&Authority>) -> String {
        let line =
            |key: &str, file: PathBuf| format!("{port}_tls_{key} = \"{}\"\n", file.display());
        let certificate = line("certificate", self.file(&format!("{name}.crt")));
        let key = line("private_key", self.file(&format!("{name}.key")));
        let ca = client_ca.map(|ca| line("client_ca", ca.file("ca.crt"))).unwrap_or_default();
        certificate + &key + &ca
    }
}

struct Scene {
    _dir: TempDir,
    ours: Authority,
    theirs: Authority,
    spec: NodeSpec,
    native: SocketAddr,
}

impl Scene {
    fn new() -> Scene {
        let dir = TempDir::new().unwrap();
        let ours = Authority::new(dir.path(), "ours");
        let theirs = Authority::new(dir.path(), "theirs");
        ours.issue("node", |_| {});
        ours.issue("client", |params| params.subject_alt_names.clear());
        theirs.issue("node", |_| {});
        theirs.issue("client", |_| {});
        let mut spec = NodeSpec::new(dir.path(), 1);
        let native = SocketAddr::new(spec.listen.ip(), free_port(spec.listen.ip()));
        spec.native = Some(native);
        Scene { _dir: dir, ours, theirs, spec, native }
    }

    async fn start(&mut self, lines: &[String]) -> Process {
        self.spec.extra = lines.concat();
        self.spec.start().await
    }

    async fn ctl(&self, args: &[&str], verb: &[&str], input: &str) -> Finished {
        let host = self.spec.rpc.to_string();
        let args = ["--host", &host].into_iter().chain(args.iter().copied());
        run_fed(&binary("helenusctl"), args.chain(verb.iter().copied()), input).await
    }
}

/// TLS of one version only.
struct Only(TlsConnector);

impl Only {
    fn new(version: &'static SupportedProtocolVersion, ca: &Path) -> Only {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Only(TlsConnector::from(Arc::new(config)))
    }
}

impl Connect for Only {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'static, std::io::Result<BoxIo>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let stream = Tcp.connect(addr).await?;
            let name = ServerName::IpAddress(addr.ip().into());
            Ok(Box::new(connector.connect(name, stream).await?) as BoxIo)
        })
    }
}

/// OPTIONS in version 4, by hand: whether it is answered.
async fn answers(way: &dyn Connect, native: SocketAddr) -> bool {
    let Ok(mut cql) = Cql::dial_through(way, native, Version::V4).await else { return false };
    cql.send_raw(&[4, 0, 0, 1, 5, 0, 0, 0, 0]).await;
    cql.next().await.is_some()
}

/// What a client hears that says OPTIONS in the clear, until the node closes the connection.
async fn told_in_the_clear(native: SocketAddr) -> Vec<u8> {
    let mut socket = Tcp.connect(native).await.unwrap();
    socket.write_all(&[4, 0, 0, 1, 5, 0, 0, 0, 0]).await.unwrap();
    let mut told = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut told)).await;
    read.expect("the node closes it").ok();
    told
}

#[tokio::test]
async fn cql_goes_through_tls_and_nothing_goes_beside_it() {
    let mut scene = Scene::new();
    let lines = [scene.ours.lines("native_transport", "node", None)];
    let process = scene.start(&lines).await;
    let native = scene.native;
    let believer = scene.ours.believer(None);

    let mut cql = Cql::dial_through(&believer, native, Version::V5).await.unwrap();
    assert_eq!(cql.start(Some(Compression::Lz4)).await, Response::Ready);
    cql.run(
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .await;
    cql.run("CREATE TABLE k.t (k int PRIMARY KEY, v blob)").await;
    // Larger than what a socket takes at a time, in both directions, and not to be compressed.
    let mut seed = 1_u32;
    let noise = |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    let value = Bytes::from((0..6_000_000).map(noise).collect::<Vec<u8>>());
    let insert = cql.prepare("INSERT INTO k.t (k, v) VALUES (?, ?)").await;
    let one = 1_i32.to_be_bytes();
    assert_eq!(cql.execute(&insert, bound(&[&one, &value])).await, Response::Void);
    assert_eq!(cql.rows("SELECT v FROM k.t WHERE k = 1").await, [[Some(value)]]);

    for version in [&TLS12, &TLS13] {
        assert!(answers(&Only::new(version, &scene.ours.file("ca.crt")), native).await);
    }
    let failures = || scene.spec.metric("helenus_cql_tls_handshake_failures_total");
    let before = failures().await;
    assert!(!answers(&scene.theirs.believer(None), native).await, "another authority");
    // An alert, if anything (RFC 8446, §6).
    assert!(told_in_the_clear(native).await.first().is_none_or(|kind| *kind == 21));
    until(
        || "both are counted".to_owned(),
        async || (failures().await >= before + 2.0).then_some(()),
    )
    .await;
    // Whoever says nothing keeps nobody from coming in.
    let silent = Tcp.connect(native).await.unwrap();
    assert!(answers(&believer, native).await);
    drop(silent);
    // The other doors are as they were.
    scene.ctl(&[], &["status"], "").await.ok();
    drop(process);
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_says_its_password() {
    let mut scene = Scene::new();
    let lines = [
        scene.ours.lines("native_transport", "node", Some(&scene.ours)),
        "authenticator = \"PasswordAuthenticator\"\n".to_owned(),
    ];
    let process = scene.start(&lines).await;
    let native = scene.native;
    scene.ctl(&[], &["role", "create", "ada", "--password-stdin"], "Ilion").await.ok();

    assert!(!answers(&scene.ours.believer(None), native).await, "no certificate");
    let (ca, theirs) = (scene.ours.file("ca.crt"), &scene.theirs);
    let identity = Some((theirs.file("client.crt"), theirs.file("client.key")));
    let stranger = Tls::new(&TlsOptions { ca, identity, domain: None }).unwrap();
    assert!(!answers(&stranger, native).await, "of another authority");

    let way = scene.ours.believer(Some("client"));
    let mut cql = Cql::dial_through(&way, native, Version::V5).await.unwrap();
    assert!(matches!(cql.start(None).await, Response::Authenticate { .. }));
    assert_eq!(cql.log_in("ada", "Ilion").await, Response::AuthSuccess { token: None });
    let key = cql.query("SELECT key FROM system.local", at(Level::One)).await;
    assert!(matches!(key, Response::Rows(_)), "{key:?}");
    drop(process);
}

#[tokio::test]
async fn operators_and_clients_of_grpc_go_through_tls() {
    let mut scene = Scene::new();
    let lines = [scene.ours.lines("rpc", "node", Some(&scene.ours))];
    let process = scene.start(&lines).await;
    let path = |authority: &Authority, name: &str| authority.file(name).display().to_string();
    let ca = path(&scene.ours, "ca.crt");
    let (certificate, key) = (path(&scene.ours, "client.crt"), path(&scene.ours, "client.key"));
    let identity = ["--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key];

    scene.ctl(&identity, &["status"], "").await.ok();
    let domain = [&identity[..], &["--tls-domain", "node.example"]].concat();
    scene.ctl(&domain, &["create-keyspace", "demo", "--rf", "1"], "").await.ok();
    scene.ctl(&identity, &["create-table", "demo.kv"], "").await.ok();
    scene.ctl(&identity, &["put", "demo.kv", "greeting", "hello"], "").await.ok();
    let got = scene.ctl(&identity, &["get", "demo.kv", "greeting"], "").await.ok();
    assert_eq!(got.trim(), "hello");
    let way = Arc::new(scene.ours.believer(Some("client")));
    let client = Client::builder().contact_points([scene.spec.rpc]).connector(way).connect().await;
    let got = client.unwrap().table("demo", "kv").get("greeting").await.unwrap();
    assert_eq!(got.value.unwrap().value, "hello");

    let theirs = path(&scene.theirs, "ca.crt");
    for (args, said) in [
        (vec![], "--tls-ca FILE"),
        (vec!["--tls-ca", &theirs, "--tls-cert", &certificate, "--tls-key", &key], "UnknownIssuer"),
        ([&identity[..], &["--tls-domain", "other.example"]].concat(), "other.example"),
    ] {
        scene.ctl(&args, &["status"], "").await.failed(1, &[said]);
    }
    // In TLS 1.3 a client hears only afterwards that its certificate is missed.
    scene.ctl(&["--tls-ca", &ca], &["status"], "").await.failed(1, &[]);
    for (args, said) in [
        (vec!["--tls-cert", &certificate], "--tls-ca"),
        (vec!["--tls-ca", &ca, "--tls-key", &key], "go together"),
        (vec!["--tls-ca", "nowhere.crt"], "nowhere.crt"),
        (vec!["--tls-ca", &key], "there is no CERTIFICATE in it"),
    ] {
        scene.ctl(&args, &["status"], "").await.failed(2, &[said]);
    }
    until(
        || "failed handshakes are counted".to_owned(),
        async || {
            let counted = scene.spec.metric("helenus_rpc_tls_handshake_failures_total").await;
            (counted >= 4.0).then_some(())
        },
    )
    .await;
    drop(process);
}

#[tokio::test]
async fn a_node_says_what_is_wrong_with_its_files() {
    let mut scene = Scene::new();
    let ours = &scene.ours;
    ours.issue("old", |params| params.not_after = date_time_ymd(2020, 1, 1));
    ours.issue("early", |params| params.not_before = date_time_ymd(2400, 1, 1));
    fs::write(ours.file("text.crt"), "Arma virumque cano").unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(ours.file("broken.crt"), broken).unwrap();
    let lines = |certificate: &str, key: &str, client_ca: Option<&str>| {
        let line = |name: &str, file: &str| {
            format!("native_transport_tls_{name} = \"{}\"\n", ours.file(file).display())
        };
        let ca = client_ca.map(|file| line("client_ca", file)).unwrap_or_default();
        line("certificate", certificate) + &line("private_key", key) + &ca
    };
    let cases = [
        (lines("none.crt", "node.key", None), ["tls_certificate: ", "none.crt", "No such file"]),
        (lines("text.crt", "node.key", None), ["tls_certificate: ", "text.crt", "no CERTIFICATE"]),
        (lines("broken.crt", "node.key", None), ["tls_certificate: ", "broken.crt", ""]),
        (lines("old.crt", "old.key", None), ["tls_certificate: ", "old.crt", "has expired"]),
        (lines("early.crt", "early.key", None), ["tls_certificate: ", "early.crt", "not hold yet"]),
        (lines("node.crt", "none.key", None), ["tls_private_key: ", "none.key", "No such file"]),
        (lines("node.crt", "node.crt", None), ["tls_private_key: ", "node.crt", "no PRIVATE KEY"]),
        (lines("node.crt", "old.key", None), ["tls_private_key: ", "old.key", "not the key of"]),
        (
            lines("node.crt", "node.key", Some("none.crt")),
            ["tls_client_ca: ", "none.crt", "No such file"],
        ),
        (
            lines("node.crt", "node.key", Some("broken.crt")),
            ["tls_client_ca: ", "broken.crt", "no authority"],
        ),
    ];
    for (extra, said) in cases {
        scene.spec.extra = extra;
        scene.spec.refused().await.failed(1, &said);
    }
    // Half of what it takes is found while the file is read.
    scene.spec.extra = "rpc_tls_certificate = \"node.crt\"".to_owned();
    scene.spec.refused().await.failed(2, &["means nothing without `rpc_tls_private_key`"]);
    let printed = run(&binary("helenus"), ["--print-config"]).await.ok();
    assert!(printed.contains("# rpc_tls_certificate = "), "{printed}");
}
