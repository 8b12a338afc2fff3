//! Who may log in over CQL, on real nodes: roles that operators make, and what clients hear who are none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use helenus_client::Level;
use helenus_proto::cql::{
    Compression, ErrorKind, ErrorResponse, EventKind, PASSWORD_AUTHENTICATOR, Request, Response,
    Version,
};
use helenus_tests::cql::{Cql, at};
use helenus_tests::{Cluster, Finished, NodeSpec, binary, run, run_fed};
use std::net::SocketAddr;
use tempfile::TempDir;

const WITH_PASSWORDS: &str = "authenticator = \"PasswordAuthenticator\"";

/// `helenusctl role …` at a node, with this in its standard input.
async fn role(node: SocketAddr, words: &[&str], input: &str) -> Finished {
    let host = node.to_string();
    let args = ["--host", &host, "role"].into_iter().chain(words.iter().copied());
    run_fed(&binary("helenusctl"), args, input).await
}

/// A connection that was asked who it is.
async fn asked(address: SocketAddr, version: Version, compression: Option<Compression>) -> Cql {
    let mut cql = Cql::dial(address, version).await;
    let class = PASSWORD_AUTHENTICATOR.to_owned();
    assert_eq!(cql.start(compression).await, Response::Authenticate { class });
    cql
}

fn refusal(response: Response) -> ErrorResponse {
    match response {
        Response::Error(error) => error,
        response => panic!("this was to be refused: {response:?}"),
    }
}

/// What somebody hears who is not let in.
async fn turned_away(address: SocketAddr, name: &str, password: &str) -> String {
    let mut cql = asked(address, Version::V5, None).await;
    let error = refusal(cql.log_in(name, password).await);
    assert_eq!(error.kind, ErrorKind::BadCredentials, "{error:?}");
    error.message
}

async fn let_in(address: SocketAddr, name: &str, password: &str) -> Cql {
    let mut cql = asked(address, Version::V5, None).await;
    assert_eq!(cql.log_in(name, password).await, Response::AuthSuccess { token: None });
    cql
}

fn wrong(name: &str) -> String {
    format!("Provided username {name} and/or password are incorrect")
}

#[tokio::test]
async fn a_role_logs_in_at_every_node_and_nobody_else_at_any() {
    let mut cluster = Cluster::start_cql_with(3, WITH_PASSWORDS).await;
    let create = ["create", "ada", "--password-stdin"];
    assert_eq!(role(cluster.rpc(0), &create, "Ilion\n").await.ok(), "role ada: created\n");
    role(cluster.rpc(0), &create, "Troy\n").await.failed(1, &["role `ada` exists already"]);

    for nth in 0..3 {
        let node = cluster.native(nth);
        for (version, compression) in [
            (Version::V4, None),
            (Version::V4, Some(Compression::Snappy)),
            (Version::V5, None),
            (Version::V5, Some(Compression::Lz4)),
        ] {
            let mut cql = asked(node, version, compression).await;
            assert_eq!(cql.log_in("ada", "Ilion").await, Response::AuthSuccess { token: None });
            let key = cql.rows("SELECT key FROM system.local").await;
            assert_eq!(key.len(), 1, "{version:?} {compression:?}");
        }
        for (name, password) in [("ada", "ilion"), ("hector", "Ilion"), ("Ada", "Ilion")] {
            assert_eq!(turned_away(node, name, password).await, wrong(name));
        }
    }

    // Whoever is in stays in; whoever comes finds the role as it is now, at every node.
    let mut inside = let_in(cluster.native(1), "ada", "Ilion").await;
    let alter = ["alter", "ada", "--password-stdin"];
    assert_eq!(role(cluster.rpc(1), &alter, "Priam").await.ok(), "role ada: altered\n");
    for nth in 0..3 {
        assert_eq!(turned_away(cluster.native(nth), "ada", "Ilion").await, wrong("ada"));
        let_in(cluster.native(nth), "ada", "Priam").await;
    }
    role(cluster.rpc(2), &["alter", "ada", "--login", "false"], "").await.ok();
    let words = turned_away(cluster.native(0), "ada", "Priam").await;
    assert_eq!(words, "ada is not permitted to log in");
    assert_eq!(turned_away(cluster.native(0), "ada", "Ilion").await, wrong("ada"));
    role(cluster.rpc(2), &["alter", "ada", "--login", "true"], "").await.ok();
    inside.rows("SELECT key FROM system.local").await;

    // Two of three copies are a quorum, and one is none.
    cluster.kill(2).await;
    cluster.all_see(2).await;
    let_in(cluster.native(0), "ada", "Priam").await;
    assert_eq!(turned_away(cluster.native(1), "ada", "Ilion").await, wrong("ada"));
    role(cluster.rpc(0), &["create", "eve", "--no-login", "--password-stdin"], "x").await.ok();
    cluster.kill(1).await;
    cluster.all_see(1).await;
    let words = turned_away(cluster.native(0), "ada", "Priam").await;
    assert!(words.starts_with("Unable to perform authentication: "), "{words}");
    assert!(words.contains("QUORUM"), "{words}");
    role(cluster.rpc(0), &["drop", "ada"], "").await.failed(1, &["QUORUM"]);

    // The node that was down when a role was made and another dropped knows of both.
    cluster.start_missing().await;
    role(cluster.rpc(2), &["drop", "ada"], "").await.ok();
    for nth in 0..3 {
        assert_eq!(turned_away(cluster.native(nth), "ada", "Priam").await, wrong("ada"));
        let words = turned_away(cluster.native(nth), "eve", "x").await;
        assert_eq!(words, "eve is not permitted to log in");
    }
    role(cluster.rpc(0), &["drop", "ada"], "").await.failed(1, &["role `ada` does not exist"]);
    inside.query_unheard("SELECT key FROM system.local", at(Level::One)).await;
}

#[tokio::test]
async fn nothing_is_answered_before_a_login_and_attempts_are_few() {
    let dir = TempDir::new().unwrap();
    let mut spec = NodeSpec::new(dir.path(), 1);
    let native = SocketAddr::new(spec.listen.ip(), helenus_tests::free_port(spec.listen.ip()));
    spec.native = Some(native);
    let mut process = spec.start().await;

    // The first role is made while everybody is let in, or later: operators need none.
    let open = Cql::connect(native, Version::V5, None).await;
    role(spec.rpc, &["create", "ada", "--password-stdin"], "Ilion").await.ok();
    drop(open);
    process.signal("TERM").await;
    process.ended().await;
    spec.extra = WITH_PASSWORDS.to_owned();
    let process = spec.start().await;

    let mut cql = asked(native, Version::V5, None).await;
    let query = || Request::Query {
        query: "SELECT key FROM system.local".to_owned(),
        parameters: at(Level::One),
    };
    let register = Request::Register { kinds: vec![EventKind::SchemaChange] };
    for (request, name) in
        [(query(), "QUERY"), (register, "REGISTER"), (Request::Options, "OPTIONS")]
    {
        let error = refusal(cql.ask(request).await.response);
        assert_eq!(error.kind, ErrorKind::Protocol);
        assert_eq!(error.message, format!("Unexpected message {name}, expecting SASL_RESPONSE"));
    }
    // That was no attempt, and the connection goes on.
    assert_eq!(refusal(cql.log_in("ada", "x").await).kind, ErrorKind::BadCredentials);
    let nobody = Request::AuthResponse { token: None };
    let error = refusal(cql.ask(nobody).await.response);
    assert_eq!(error.message, "Password must not be null");
    assert_eq!(cql.log_in("ada", "Ilion").await, Response::AuthSuccess { token: None });
    assert!(matches!(cql.ask(query()).await.response, Response::Rows(_)));
    let again = refusal(cql.log_in("ada", "Ilion").await);
    assert_eq!(again.kind, ErrorKind::Protocol);

    let mut cql = asked(native, Version::V4, None).await;
    for _ in 0..3 {
        assert_eq!(refusal(cql.log_in("ada", "x").await).kind, ErrorKind::BadCredentials);
    }
    assert!(cql.next().await.is_none(), "the third attempt was the last");

    assert!(spec.metric("helenus_cql_auth_success_total").await >= 1.0);
    assert!(spec.metric("helenus_cql_auth_failures_total").await >= 4.0);
    drop(process);
}

#[tokio::test]
async fn roles_are_for_operators_and_their_hashes_for_nobody() {
    let cluster = Cluster::start_cql(1).await;
    let ctl = binary("helenusctl");
    let host = cluster.rpc(0).to_string();
    role(cluster.rpc(0), &["create", "ada", "--password-stdin"], "Ilion\r\n").await.ok();
    role(cluster.rpc(0), &["create", "bo", "--no-login", "--password-stdin"], "x").await.ok();
    let listed = role(cluster.rpc(0), &["list"], "").await.ok();
    let lines: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [["Role", "Login", "Password"], ["ada", "yes", "yes"], ["bo", "no", "yes"]]);
    let json = run(&ctl, ["--host", &host, "--format", "json", "role", "list"]).await.ok();
    assert!(!json.contains("argon2"), "{json}");

    // No password among the arguments, and nobody who could type one.
    let bare = role(cluster.rpc(0), &["create", "carl"], "").await;
    bare.failed(2, &["--password-stdin"]);
    role(cluster.rpc(0), &["create", "carl", "Ilion"], "").await.failed(2, &["Ilion"]);
    role(cluster.rpc(0), &["create", "carl", "--password-stdin"], "\n").await.failed(2, &["empty"]);
    let long = "x".repeat(1025);
    let long = role(cluster.rpc(0), &["create", "carl", "--password-stdin"], &long).await;
    long.failed(1, &["1 to 1024 bytes"]);
    role(cluster.rpc(0), &["alter", "carl", "--login", "true"], "")
        .await
        .failed(1, &["role `carl` does not exist"]);
    role(cluster.rpc(0), &["alter", "ada"], "").await.failed(2, &["--password"]);

    let mut cql = Cql::connect(cluster.native(0), Version::V5, None).await;
    for text in [
        "SELECT * FROM system_auth.roles",
        "SELECT salted_hash FROM system_auth.roles WHERE role = 'ada'",
        "SELECT count(*) FROM system_auth.roles",
        "SELECT JSON * FROM system_auth.roles",
    ] {
        let kind = cql.refused(text).await.kind;
        let json = text.contains("JSON");
        assert_eq!(kind, if json { ErrorKind::Invalid } else { ErrorKind::Unauthorized }, "{text}");
    }
    let prepared = cql.prepare("SELECT * FROM system_auth.roles").await;
    let executed = cql.execute(&prepared, at(Level::One)).await;
    assert_eq!(refusal(executed).kind, ErrorKind::Unauthorized);
    for text in [
        "UPDATE system_auth.roles SET can_login = true WHERE role = 'bo'",
        "INSERT INTO system_auth.roles (role, can_login) VALUES ('eve', true) IF NOT EXISTS",
        "UPDATE system_auth.roles SET can_login = true WHERE role = 'bo' IF salted_hash > ''",
        "DELETE FROM system_auth.roles WHERE role = 'ada'",
        "BEGIN BATCH DELETE FROM system_auth.roles WHERE role = 'ada' APPLY BATCH",
        "TRUNCATE system_auth.roles",
        "DROP TABLE system_auth.roles",
        "DROP KEYSPACE system_auth",
        "CREATE TABLE system_auth.more (k int PRIMARY KEY)",
        "CREATE ROLE eve WITH PASSWORD = 'x' AND LOGIN = true",
    ] {
        assert_eq!(cql.refused(text).await.kind, ErrorKind::Invalid, "{text}");
    }
    let get = run(&ctl, ["--host", &host, "get", "system_auth.roles", "ada"]).await;
    get.failed(1, &["no table of keys and values"]);
    // Drivers see that it is there.
    let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system_auth'";
    assert_eq!(cql.rows(tables).await, [[helenus_tests::cql::text("roles")]]);

    // Where everybody is let in nobody is asked.
    let error = refusal(cql.log_in("ada", "Ilion").await);
    assert_eq!(error.kind, ErrorKind::Protocol);
}
