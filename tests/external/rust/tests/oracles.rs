//! CQL's codec against two others, which drivers use: what they make of our bytes, and what we make of theirs.
//!
//! The strongest form is a round trip through them: our bytes, read by the other codec, written by it again, and read by
//! ours must be the message that was sent. Where another codec is known to be wrong, or does not know something, the test
//! says so.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says where"
)]

#[path = "../../../../proto/tests/samples/mod.rs"]
mod samples;

use bytes::{Bytes, BytesMut};
use cassandra_protocol::compression::Compression as TheirCompression;
use cassandra_protocol::frame::frame_decoder::{
    FrameDecoder, Lz4FrameDecoder, UncompressedFrameDecoder,
};
use cassandra_protocol::frame::frame_encoder::{
    FrameEncoder, Lz4FrameEncoder, UncompressedFrameEncoder,
};
use cassandra_protocol::frame::message_response::ResponseBody;
use cassandra_protocol::frame::{Envelope as TheirEnvelope, Serialize, Version as TheirVersion};
use helenus_proto::cql::*;
use samples::*;
use scylla_cql::frame::protocol_features::ProtocolFeatures;
use scylla_cql::frame::request as scylla;
use scylla_cql::frame::request::SerializableRequest;
use scylla_cql::frame::response as scylla_response;

fn theirs(version: Version) -> TheirVersion {
    match version {
        Version::V4 => TheirVersion::V4,
        Version::V5 => TheirVersion::V5,
    }
}

/// What the other codec makes of a socket's bytes.
fn their_envelopes(
    version: Version,
    compression: Option<Compression>,
    socket: &BytesMut,
) -> Vec<TheirEnvelope> {
    let mut socket = socket.to_vec();
    let by = match compression {
        None => TheirCompression::None,
        Some(Compression::Lz4) => TheirCompression::Lz4,
        Some(Compression::Snappy) => TheirCompression::Snappy,
    };
    match (version, compression) {
        (Version::V5, None) => UncompressedFrameDecoder::default().consume(&mut socket, by),
        (Version::V5, Some(_)) => Lz4FrameDecoder::default().consume(&mut socket, by),
        (Version::V4, _) => {
            let mut envelopes = Vec::new();
            let mut rest = &socket[..];
            while !rest.is_empty() {
                let parsed = TheirEnvelope::from_buffer(rest, by).expect("they read our envelope");
                rest = &rest[parsed.envelope_len..];
                envelopes.push(parsed.envelope);
            }
            Ok(envelopes)
        }
    }
    .expect("they read our segments")
}

fn ours(version: Version, opcode: Opcode, body: Vec<u8>) -> Envelope {
    let header = Header { version, flags: Flags::NONE, stream: 0, opcode };
    Envelope { header, body: Bytes::from(body) }
}

/// As it is when the other codec has lost what it does not keep.
fn without_what_they_drop(mut call: Call) -> Call {
    call.tracing = false;
    if let Request::Query { parameters, .. } | Request::Execute { parameters, .. } =
        &mut call.request
    {
        parameters.skip_metadata = false;
        if let Values::Named(values) = &mut parameters.values {
            values.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
    }
    call
}

fn send(version: Version, compression: Option<Compression>, calls: &[Call]) -> BytesMut {
    let mut client = Outbound::new();
    client.agree(version, compression);
    for (call, stream) in calls.iter().zip(0..) {
        client.call(version, stream, call).unwrap();
    }
    client.take()
}

/// Requests without a custom payload, which the other codec leaves in the body.
fn plain_calls(version: Version) -> Vec<Call> {
    calls(version).into_iter().filter(|call| call.custom_payload.is_empty()).collect()
}

#[test]
fn requests_survive_cassandra_protocol_in_every_version_and_compression() {
    for (version, compression) in AGREEMENTS {
        let calls = plain_calls(version);
        let socket = send(version, compression, &calls);
        let envelopes = their_envelopes(version, compression, &socket);
        assert_eq!(envelopes.len(), calls.len());
        for ((envelope, call), stream) in envelopes.iter().zip(calls).zip(0..) {
            assert_eq!(envelope.stream_id, stream);
            let read = envelope.request_body().expect("they read our request");
            let written = read.serialize_to_vec(theirs(version));
            let back = Call::decode(&ours(version, call.request.opcode(), written)).unwrap();
            let back = without_what_they_drop(back);
            assert_eq!(back, without_what_they_drop(call), "{version} {compression:?}");
        }
    }
}

/// An event of Cassandra's that the specifications do not name, and drivers do not know.
fn is_moved_node(reply: &Reply) -> bool {
    let change = TopologyChange::MovedNode;
    matches!(&reply.response, Response::Event(Event::Topology { change: it, .. }) if *it == change)
}

/// Whether the other codec can read this response.
fn known_to_them(version: Version, reply: &Reply) -> bool {
    if is_moved_node(reply) {
        return false;
    }
    let Response::Error(error) = &reply.response else {
        // It takes a tracing id for a time UUID, and leaves a custom payload in the body.
        return reply.extras == Extras::default();
    };
    match &error.kind {
        // Not known at all.
        ErrorKind::CdcWriteFailure | ErrorKind::CasWriteUnknown { .. } => false,
        // It reads contentions in v4 too, where there are none.
        ErrorKind::WriteTimeout { write_type: WriteType::Cas, .. } => version == Version::V5,
        // It reads a port with each failed replica, which the specification has not.
        ErrorKind::ReadFailure { .. } | ErrorKind::WriteFailure { .. } => version == Version::V4,
        _ => true,
    }
}

fn written_by_them(body: &ResponseBody, version: TheirVersion) -> Vec<u8> {
    match body {
        ResponseBody::Error(body) => body.serialize_to_vec(version),
        ResponseBody::Authenticate(body) => body.serialize_to_vec(version),
        ResponseBody::Supported(body) => body.serialize_to_vec(version),
        ResponseBody::Result(body) => body.serialize_to_vec(version),
        ResponseBody::Event(body) => body.serialize_to_vec(version),
        ResponseBody::AuthChallenge(body) => body.serialize_to_vec(version),
        ResponseBody::AuthSuccess(body) => body.serialize_to_vec(version),
        _ => Vec::new(),
    }
}

#[test]
fn responses_survive_cassandra_protocol_in_every_version_and_compression() {
    for (version, compression) in AGREEMENTS {
        let known: Vec<Reply> =
            replies(version).into_iter().filter(|reply| known_to_them(version, reply)).collect();
        assert!(known.len() > 40, "only {} of the samples are compared", known.len());
        let mut server = Outbound::new();
        server.agree(version, compression);
        for (reply, stream) in known.iter().zip(0..) {
            server.reply(version, stream, &reply.extras, &reply.response).unwrap();
        }
        let envelopes = their_envelopes(version, compression, &server.take());
        assert_eq!(envelopes.len(), known.len());
        for (envelope, reply) in envelopes.iter().zip(known) {
            let opcode = reply.response.opcode();
            let read = envelope.response_body();
            let read = read.unwrap_or_else(|error| panic!("{error} in {reply:?}"));
            let written = written_by_them(&read, theirs(version));
            let back = Reply::decode(&ours(version, opcode, written));
            assert_eq!(back, Ok(reply), "{version} {compression:?}");
        }
    }
}

#[test]
fn their_segments_are_read_here() {
    let version = Version::V5;
    let calls = plain_calls(version);
    let envelopes: Vec<BytesMut> = calls
        .iter()
        .map(|call| {
            let mut client = Outbound::new();
            client.call(version, 3, call).unwrap();
            client.take()
        })
        .collect();
    let query = long_text(300_000);
    let long = Call::from(Request::Query { query, parameters: Parameters::default() });
    let mut client = Outbound::new();
    client.call(version, 4, &long).unwrap();
    let long_bytes = client.take();
    let encoders: [(Option<Compression>, Box<dyn FrameEncoder>); 2] = [
        (None, Box::new(UncompressedFrameEncoder::default())),
        (Some(Compression::Lz4), Box::new(Lz4FrameEncoder::default())),
    ];
    for (compression, mut encoder) in encoders {
        let mut socket = BytesMut::new();
        envelopes.iter().for_each(|envelope| encoder.add_envelope(envelope.to_vec()));
        socket.extend_from_slice(encoder.finalize_self_contained());
        let mut rest = &long_bytes[..];
        while !rest.is_empty() {
            encoder.reset();
            let (taken, segment) = encoder.finalize_non_self_contained(rest);
            socket.extend_from_slice(segment);
            rest = &rest[taken..];
        }
        let mut inbound = inbound(Side::Server, version, compression);
        for call in calls.iter().chain([&long]) {
            let envelope = inbound.decode(&mut socket).unwrap().expect("as many as were sent");
            assert_eq!(Call::decode(&envelope).as_ref(), Ok(call));
        }
        assert!(socket.is_empty());
    }
}

#[test]
fn requests_survive_scylla_cql_byte_for_byte() {
    let features = ProtocolFeatures::default();
    let mut compared = 0;
    for call in plain_calls(Version::V4) {
        let opcode = match &call.request {
            // It does not read named values.
            Request::Query { parameters, .. } if matches!(parameters.values, Values::Named(_)) => {
                continue;
            }
            Request::Query { .. } => scylla::RequestOpcode::Query,
            Request::Execute { .. } => scylla::RequestOpcode::Execute,
            Request::Batch(_) => scylla::RequestOpcode::Batch,
            _ => continue,
        };
        let mut socket = send(Version::V4, None, std::slice::from_ref(&call));
        let body = socket.split_off(HEADER_BYTES);
        let mut rest = &body[..];
        let read = scylla::RequestV2::deserialize(&mut rest, opcode, &features)
            .unwrap_or_else(|error| panic!("{error} in {call:?}"));
        assert!(rest.is_empty());
        let written = match &read {
            scylla::RequestV2::Query(query) => query.to_bytes(),
            scylla::RequestV2::Execute(execute) => execute.to_bytes(),
            scylla::RequestV2::Batch(batch) => batch.to_bytes(),
            _ => continue,
        };
        assert_eq!(written.unwrap(), body, "{call:?}");
        compared += 1;
    }
    assert!(compared >= 8, "only {compared} of the samples are compared");
}

#[test]
fn frames_of_scylla_cql_are_read_here_compressed_or_not() {
    use scylla_cql::frame::{Compression as Theirs, SerializedRequest};
    let query = long_text(2000);
    let options = [("CQL_VERSION", "4.0.0"), ("DRIVER_NAME", "x")];
    let options = options.map(|(name, value)| (name.into(), value.into()));
    for (by, ours) in [
        (None, None),
        (Some(Theirs::Lz4), Some(Compression::Lz4)),
        (Some(Theirs::Snappy), Some(Compression::Snappy)),
    ] {
        let frames = [
            SerializedRequest::make(
                &scylla::Startup { options: options.clone().into() },
                by,
                false,
            ),
            SerializedRequest::make(&scylla::Options, by, false),
            SerializedRequest::make(&scylla::Prepare { query: &query }, by, true),
            SerializedRequest::make(
                &scylla::AuthResponse { response: Some(b"\0u\0p".to_vec()) },
                by,
                false,
            ),
        ];
        let mut socket = BytesMut::new();
        for frame in frames {
            socket.extend_from_slice(frame.unwrap().get_data());
        }
        let mut inbound = inbound(Side::Server, Version::V4, ours);
        let mut next = || {
            let envelope = inbound.decode(&mut socket).unwrap().expect("as many as were sent");
            Call::decode(&envelope).unwrap()
        };
        let Request::Startup(startup) = next().request else { panic!("no STARTUP") };
        assert_eq!(startup.cql_version(), Some("4.0.0"));
        assert_eq!(next().request, Request::Options);
        let prepare = next();
        assert!(prepare.tracing);
        assert_eq!(prepare.request, Request::Prepare { query: query.clone(), keyspace: None });
        assert_eq!(next().request, Request::AuthResponse { token: Some(bytes("\0u\0p")) });
    }
}

/// Our body as scylla-cql reads it, extras and all.
fn read_by_scylla(reply: &Reply) -> scylla_response::ResponseWithDeserializedMetadata {
    let mut server = Outbound::new();
    server.reply(Version::V4, 0, &reply.extras, &reply.response).unwrap();
    let mut socket = server.take();
    let body = socket.split_off(HEADER_BYTES).freeze();
    let parsed = scylla_cql::frame::parse_response_body_extensions(socket[1], None, body);
    let parsed = parsed.expect("they read our extras");
    assert_eq!(parsed.trace_id.map(|id| id.as_u128()), reply.extras.tracing_id);
    assert_eq!(parsed.warnings, reply.extras.warnings);
    let payload = parsed.custom_payload.unwrap_or_default();
    assert_eq!(payload.len(), reply.extras.custom_payload.len());
    let opcode = scylla_response::ResponseOpcode::try_from(socket[4]).unwrap();
    let features = ProtocolFeatures::default();
    let read = scylla_response::Response::deserialize(&features, opcode, parsed.body, None);
    let read = read.unwrap_or_else(|error| panic!("{error} in {reply:?}"));
    read.deserialize_metadata().expect("they read our metadata")
}

#[test]
fn responses_are_read_by_scylla_cql() {
    use scylla_response::ResponseWithDeserializedMetadata as Read;
    use scylla_response::result::ResultWithDeserializedMetadata as ReadResult;
    for reply in replies(Version::V4).into_iter().filter(|reply| !is_moved_node(reply)) {
        match (read_by_scylla(&reply), &reply.response) {
            (Read::Error(read), Response::Error(sent)) => {
                assert_eq!(read.reason, sent.message);
                let code = read.error.code(&ProtocolFeatures::default());
                assert_eq!(code, i32::from(sent.kind.code()), "{sent:?}");
            }
            (Read::Result(ReadResult::Rows((read, _))), Response::Rows(sent)) => {
                assert_eq!(read.rows_count(), sent.rows.len());
                if let Columns::Described(specs) = &sent.metadata.columns {
                    let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
                    let read: Vec<_> =
                        read.metadata().col_specs().iter().map(|spec| spec.name()).collect();
                    assert_eq!(read, names);
                }
            }
            (Read::Result(ReadResult::Prepared(read)), Response::Prepared(sent)) => {
                assert_eq!(read.id, sent.id);
                let mut key = read.prepared_metadata.pk_indexes.clone();
                key.sort_by_key(|index| index.sequence);
                let key: Vec<_> = key.iter().map(|index| index.index).collect();
                assert_eq!(key, sent.pk_indexes);
                assert_eq!(read.prepared_metadata.col_specs.len(), sent.markers.len());
                assert_eq!(read.result_metadata.col_count(), sent.result.columns.count());
            }
            (Read::Error(_), _) | (_, Response::Error(_) | Response::Prepared(_)) => {
                panic!("{reply:?} became something else")
            }
            _ => {}
        }
    }
}
