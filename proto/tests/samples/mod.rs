//! One message of every kind, for the tests of CQL's codec: with everything in it that the version can say.

#![allow(dead_code, reason = "each test crate uses a part")]

use bytes::{Bytes, BytesMut};
use helenus_core::cql::{CqlType, UserType};
use helenus_core::{Level, TimestampMicros};
use helenus_proto::cql::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

pub(crate) mod feed;

/// How a connection may be: all that two ends can agree on.
pub(crate) const AGREEMENTS: [(Version, Option<Compression>); 5] = [
    (Version::V4, None),
    (Version::V4, Some(Compression::Lz4)),
    (Version::V4, Some(Compression::Snappy)),
    (Version::V5, None),
    (Version::V5, Some(Compression::Lz4)),
];

pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn v5<T>(version: Version, value: T) -> Option<T> {
    (version == Version::V5).then_some(value)
}

/// Text that no compressor can leave as it is.
pub(crate) fn long_text(bytes: usize) -> String {
    "INSERT INTO ks.t (pk, ck, v) VALUES (?, ?, ?); ".chars().cycle().take(bytes).collect()
}

/// Bytes that no compressor can make shorter.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn parameters(version: Version) -> Parameters {
    Parameters {
        consistency: Level::LocalQuorum.into(),
        values: Values::Positional(vec![
            Value::Bytes(bytes("abc")),
            Value::Null,
            Value::Unset,
            Value::Bytes(Bytes::new()),
        ]),
        skip_metadata: true,
        page_size: NonZeroU32::new(5000),
        paging_state: Some(bytes("where we were")),
        serial_consistency: Some(SerialConsistency::LocalSerial),
        timestamp: Some(TimestampMicros(1_700_000_000_000_001)),
        keyspace: v5(version, "ks".to_owned()),
        now_in_seconds: v5(version, 1_700_000_000),
    }
}

pub(crate) fn named() -> Parameters {
    Parameters {
        consistency: SerialConsistency::Serial.into(),
        values: Values::Named(vec![
            ("peer".to_owned(), Value::Bytes(bytes("\u{1}\u{2}"))),
            ("port".to_owned(), Value::Null),
        ]),
        ..Parameters::default()
    }
}

pub(crate) fn batch(version: Version, kind: BatchKind) -> Batch {
    let statements = vec![
        BatchStatement {
            statement: Statement::Query("DELETE FROM t WHERE k = ?".to_owned()),
            values: vec![Value::Bytes(bytes("k"))],
        },
        BatchStatement {
            statement: Statement::Prepared(bytes("0123456789abcdef")),
            values: vec![Value::Unset, Value::Null, Value::Bytes(bytes("v"))],
        },
        BatchStatement {
            statement: Statement::Query("INSERT INTO t (k) VALUES (1)".to_owned()),
            values: Vec::new(),
        },
    ];
    Batch {
        kind,
        statements,
        consistency: Level::EachQuorum.into(),
        serial_consistency: Some(SerialConsistency::Serial),
        timestamp: Some(TimestampMicros(-5)),
        keyspace: v5(version, "ks".to_owned()),
        now_in_seconds: v5(version, -1),
    }
}

pub(crate) fn startup(compression: Option<Compression>) -> Request {
    let mut options = BTreeMap::from([("CQL_VERSION".to_owned(), "3.0.0".to_owned())]);
    if let Some(compression) = compression {
        options.insert("COMPRESSION".to_owned(), compression.name().to_owned());
    }
    Request::Startup(Startup { options })
}

/// Every request, plain and with all that may accompany it.
pub(crate) fn calls(version: Version) -> Vec<Call> {
    let id = bytes("0123456789abcdef");
    let result_metadata_id = v5(version, bytes("fedcba9876543210"));
    let requests = [
        startup(None),
        Request::Options,
        Request::AuthResponse { token: Some(bytes("\0user\0pass")) },
        Request::AuthResponse { token: None },
        Request::Query { query: "SELECT 'é'".to_owned(), parameters: Parameters::default() },
        Request::Query { query: "SELECT ?".to_owned(), parameters: parameters(version) },
        Request::Query { query: "SELECT :peer".to_owned(), parameters: named() },
        Request::Query { query: long_text(3000), parameters: parameters(version) },
        Request::Prepare { query: "SELECT 1".to_owned(), keyspace: None },
        Request::Prepare { query: "SELECT 1".to_owned(), keyspace: v5(version, "ks".to_owned()) },
        Request::Execute {
            id: id.clone(),
            result_metadata_id: result_metadata_id.clone(),
            parameters: parameters(version),
        },
        Request::Execute { id, result_metadata_id, parameters: Parameters::default() },
        Request::Batch(batch(version, BatchKind::Logged)),
        Request::Batch(Batch {
            statements: Vec::new(),
            serial_consistency: None,
            timestamp: None,
            keyspace: None,
            now_in_seconds: None,
            ..batch(version, BatchKind::Unlogged)
        }),
        Request::Batch(batch(version, BatchKind::Counter)),
        Request::Register { kinds: EventKind::EVERY.to_vec() },
    ];
    let mut calls: Vec<Call> = requests.into_iter().map(Call::from).collect();
    let custom_payload =
        BTreeMap::from([("a".to_owned(), Some(bytes("b"))), ("n".to_owned(), None)]);
    calls.push(Call {
        tracing: true,
        custom_payload,
        request: Request::Query { query: "SELECT 1".to_owned(), parameters: named() },
    });
    calls
}

/// Every type, as it is read back: what is nested is frozen, what is not is not.
pub(crate) fn types() -> Vec<CqlType> {
    let int = || Arc::new(CqlType::Int);
    let user = UserType {
        keyspace: "ks".to_owned(),
        name: "address".to_owned(),
        fields: vec![
            ("street".to_owned(), CqlType::Text),
            ("phones".to_owned(), CqlType::Set { of: Arc::new(CqlType::Text), frozen: true }),
        ],
    };
    let user = |frozen| CqlType::User { of: Arc::new(user.clone()), frozen };
    let deep = CqlType::Tuple(
        [
            CqlType::List {
                of: Arc::new(CqlType::Tuple([CqlType::Duration].into())),
                frozen: true,
            },
            user(true),
            CqlType::Boolean,
        ]
        .into(),
    );
    let mut types = vec![
        CqlType::Ascii,
        CqlType::Bigint,
        CqlType::Blob,
        CqlType::Boolean,
        CqlType::Counter,
        CqlType::Date,
        CqlType::Decimal,
        CqlType::Double,
        CqlType::Duration,
        CqlType::Float,
        CqlType::Inet,
        CqlType::Int,
        CqlType::Smallint,
        CqlType::Text,
        CqlType::Time,
        CqlType::Timestamp,
        CqlType::Timeuuid,
        CqlType::Tinyint,
        CqlType::Uuid,
        CqlType::Varint,
    ];
    types.push(CqlType::List { of: int(), frozen: false });
    types.push(CqlType::Set { of: int(), frozen: false });
    types.push(CqlType::Map { key: int(), value: Arc::new(deep.clone()), frozen: false });
    types.push(user(false));
    types.push(deep);
    types
}

pub(crate) fn specs(tables: &[&str]) -> Arc<[Arc<ColumnSpec>]> {
    let types = types().into_iter().enumerate();
    let spec = |(nth, ty): (usize, CqlType)| {
        let (keyspace, table) = ("ks".into(), tables[nth % tables.len()].into());
        Arc::new(ColumnSpec { keyspace, table, name: format!("c{nth}"), ty })
    };
    types.map(spec).collect()
}

pub(crate) fn rows() -> Rows {
    let specs = specs(&["t"]);
    let row = |seed: usize| {
        let cell = |nth: usize| match (seed + nth) % 3 {
            0 => None,
            1 => Some(Bytes::new()),
            _ => Some(Bytes::from(noise(nth + 1))),
        };
        (0..specs.len()).map(cell).collect()
    };
    Rows { metadata: RowsMetadata::new(Arc::clone(&specs)), rows: (0..7).map(row).collect() }
}

fn failures(version: Version) -> Failures {
    let four: IpAddr = [127, 0, 0, 1].into();
    let six: IpAddr = [1_u16, 2, 3, 4, 5, 6, 7, 8].into();
    let reasons = [(four, FailureReason::READ_TOO_MANY_TOMBSTONES), (six, FailureReason::UNKNOWN)];
    match version {
        Version::V5 => Failures::new(reasons.into()),
        // In v4 only the number comes back; the codec's own tests compare that.
        Version::V4 => Failures::default(),
    }
}

/// Every error.
pub(crate) fn errors(version: Version) -> Vec<ErrorResponse> {
    let consistency: Consistency = Level::Quorum.into();
    let mut kinds = vec![
        ErrorKind::Server,
        ErrorKind::Protocol,
        ErrorKind::BadCredentials,
        ErrorKind::Unavailable { consistency, required: 3, alive: 2 },
        ErrorKind::Overloaded,
        ErrorKind::IsBootstrapping,
        ErrorKind::Truncate,
        ErrorKind::ReadTimeout { consistency, received: 1, block_for: 2, data_present: true },
        ErrorKind::ReadFailure {
            consistency,
            received: 1,
            block_for: 2,
            failures: failures(version),
            data_present: false,
        },
        ErrorKind::FunctionFailure {
            keyspace: "ks".to_owned(),
            function: "f".to_owned(),
            argument_types: vec!["int".to_owned(), "text".to_owned()],
        },
        ErrorKind::WriteFailure {
            consistency,
            received: 0,
            block_for: 2,
            failures: failures(version),
            write_type: WriteType::BatchLog,
        },
        ErrorKind::CdcWriteFailure,
        ErrorKind::Syntax,
        ErrorKind::Unauthorized,
        ErrorKind::Invalid,
        ErrorKind::Config,
        ErrorKind::AlreadyExists { keyspace: "ks".to_owned(), table: "t".to_owned() },
        ErrorKind::Unprepared { id: bytes("0123456789abcdef") },
    ];
    for write_type in WriteType::EVERY {
        let told = version == Version::V5 && write_type == WriteType::Cas;
        let contentions = if told { 3 } else { 0 };
        kinds.push(ErrorKind::WriteTimeout {
            consistency,
            received: 1,
            block_for: 2,
            write_type,
            contentions,
        });
    }
    if version == Version::V5 {
        kinds.push(ErrorKind::CasWriteUnknown { consistency, received: 1, block_for: 2 });
    }
    kinds.into_iter().map(|kind| ErrorResponse::new(kind, "what went wrong: é")).collect()
}

pub(crate) fn schema_changes() -> Vec<SchemaChange> {
    let argument_types = vec!["int".to_owned(), "list<text>".to_owned()];
    let targets = [
        (ChangeKind::Created, SchemaTarget::Keyspace),
        (ChangeKind::Updated, SchemaTarget::Table("t".to_owned())),
        (ChangeKind::Dropped, SchemaTarget::Type("address".to_owned())),
        (
            ChangeKind::Created,
            SchemaTarget::Function { name: "f".to_owned(), argument_types: argument_types.clone() },
        ),
        (ChangeKind::Dropped, SchemaTarget::Aggregate { name: "a".to_owned(), argument_types }),
    ];
    let change = |(kind, target)| SchemaChange { kind, keyspace: "ks".to_owned(), target };
    targets.into_iter().map(change).collect()
}

pub(crate) fn prepared(version: Version) -> Vec<Prepared> {
    let result_metadata_id = v5(version, bytes("fedcba9876543210"));
    let id = bytes("0123456789abcdef");
    vec![
        Prepared {
            id: id.clone(),
            result_metadata_id: result_metadata_id.clone(),
            markers: specs(&["t"]),
            pk_indexes: vec![2, 0],
            result: RowsMetadata::new(specs(&["t", "u"])),
        },
        Prepared {
            id,
            result_metadata_id,
            markers: Arc::default(),
            pk_indexes: Vec::new(),
            result: RowsMetadata::none(),
        },
    ]
}

/// Every response, plain and with all that may accompany it.
pub(crate) fn replies(version: Version) -> Vec<Reply> {
    let mut responses = vec![
        Response::Ready,
        Response::Authenticate { class: "org.apache.cassandra.auth.PasswordAuthenticator".into() },
        Response::AuthChallenge { token: Some(bytes("who?")) },
        Response::AuthSuccess { token: None },
        Response::Supported {
            options: BTreeMap::from([
                ("CQL_VERSION".to_owned(), vec!["3.4.6".to_owned()]),
                ("COMPRESSION".to_owned(), vec!["lz4".to_owned(), "snappy".to_owned()]),
                ("PROTOCOL_VERSIONS".to_owned(), Vec::new()),
            ]),
        },
        Response::Void,
        Response::Rows(rows()),
        Response::Rows(Rows {
            metadata: RowsMetadata {
                columns: Columns::Described(specs(&["t", "u"])),
                paging_state: Some(bytes("next")),
                new_metadata_id: v5(version, bytes("new")),
            },
            rows: Vec::new(),
        }),
        Response::Rows(Rows {
            metadata: RowsMetadata {
                columns: Columns::Counted(2),
                paging_state: None,
                new_metadata_id: None,
            },
            rows: vec![vec![Some(bytes("k")), None], vec![None, Some(Bytes::from(noise(3000)))]],
        }),
        Response::SetKeyspace { keyspace: "ks".to_owned() },
    ];
    responses.extend(prepared(version).into_iter().map(Response::Prepared));
    responses.extend(schema_changes().into_iter().map(Response::SchemaChange));
    responses.extend(errors(version).into_iter().map(Response::Error));
    let node = ([10, 0, 0, 7], 9042).into();
    for change in [TopologyChange::NewNode, TopologyChange::RemovedNode, TopologyChange::MovedNode]
    {
        responses.push(Response::Event(Event::Topology { change, node }));
    }
    let node = ([0_u16, 0, 0, 0, 0, 0, 0, 1], 19042).into();
    responses.push(Response::Event(Event::Status { up: true, node }));
    responses.push(Response::Event(Event::Status { up: false, node }));
    responses.extend(schema_changes().into_iter().map(|to| Response::Event(Event::Schema(to))));
    let mut replies: Vec<Reply> = responses.into_iter().map(Reply::from).collect();
    let custom_payload = BTreeMap::from([("a".to_owned(), Some(bytes("b")))]);
    let extras = Extras {
        tracing_id: Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        warnings: vec!["Aggregation query used without partition key".to_owned()],
        custom_payload,
    };
    replies.push(Reply { extras, response: Response::Rows(rows()) });
    replies
}

/// The bytes of a client's connection from after its handshake, all calls on streams 0, 1, 2...
pub(crate) fn client_bytes(version: Version, compression: Option<Compression>) -> BytesMut {
    let mut client = Outbound::new();
    client.agree(version, compression);
    for (call, stream) in calls(version).iter().zip(0..) {
        client.call(version, stream, call).expect("a sample fits");
    }
    client.take()
}

/// The bytes of a server's connection from after its handshake.
pub(crate) fn server_bytes(version: Version, compression: Option<Compression>) -> BytesMut {
    let mut server = Outbound::new();
    server.agree(version, compression);
    for (reply, stream) in replies(version).iter().zip(0..) {
        server.reply(version, stream, &reply.extras, &reply.response).expect("a sample fits");
    }
    server.take()
}

/// An end that agreed on this already.
pub(crate) fn inbound(
    receiver: Side,
    version: Version,
    compression: Option<Compression>,
) -> Inbound {
    let mut inbound = Inbound::new(receiver, BODY_BYTES_MAX_DEFAULT);
    inbound.agree(version, compression);
    inbound
}
