//! CQL's codec from outside: what is sent arrives, in every version and compression, whole or in pieces, and what is
//! cut off is an error or waits for more.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says where"
)]

mod samples;

use bytes::{Bytes, BytesMut};
use helenus_proto::cql::*;
use samples::*;

fn envelopes(mut inbound: Inbound, mut socket: BytesMut) -> Vec<Envelope> {
    let mut envelopes = Vec::new();
    while let Some(envelope) = inbound.decode(&mut socket).expect("what was sent can be read") {
        envelopes.push(envelope);
    }
    assert!(socket.is_empty(), "{} bytes were left", socket.len());
    envelopes
}

#[test]
fn every_request_arrives_as_it_was_sent() {
    for (version, compression) in AGREEMENTS {
        let bytes = client_bytes(version, compression);
        let arrived = envelopes(inbound(Side::Server, version, compression), bytes);
        let sent = calls(version);
        assert_eq!(arrived.len(), sent.len());
        for ((envelope, call), stream) in arrived.iter().zip(&sent).zip(0..) {
            assert_eq!(envelope.header.stream, stream);
            assert_eq!(Call::decode(envelope).as_ref(), Ok(call), "{version} {compression:?}");
        }
    }
}

#[test]
fn every_response_arrives_as_it_was_sent() {
    for (version, compression) in AGREEMENTS {
        let bytes = server_bytes(version, compression);
        let arrived = envelopes(inbound(Side::Client, version, compression), bytes);
        let sent = replies(version);
        assert_eq!(arrived.len(), sent.len());
        for ((envelope, reply), stream) in arrived.iter().zip(&sent).zip(0..) {
            assert_eq!(envelope.header.stream, stream);
            assert_eq!(Reply::decode(envelope).as_ref(), Ok(reply), "{version} {compression:?}");
        }
    }
}

#[test]
fn what_arrives_byte_by_byte_is_the_same() {
    for (version, compression) in AGREEMENTS {
        let bytes = client_bytes(version, compression);
        let whole = envelopes(inbound(Side::Server, version, compression), bytes.clone());
        let mut inbound = inbound(Side::Server, version, compression);
        let (mut socket, mut pieces) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            socket.extend_from_slice(&[byte]);
            while let Some(envelope) = inbound.decode(&mut socket).expect("nothing is wrong yet") {
                pieces.push(envelope);
            }
        }
        assert_eq!(pieces, whole, "{version} {compression:?}");
    }
}

#[test]
fn a_stream_that_ends_anywhere_gives_what_came_before_and_no_fault() {
    for (version, compression) in AGREEMENTS {
        let bytes = client_bytes(version, compression);
        let whole = envelopes(inbound(Side::Server, version, compression), bytes.clone());
        // Every byte of the first kilobytes; the samples are all within.
        for end in 0..bytes.len().min(4000) {
            let mut inbound = inbound(Side::Server, version, compression);
            let mut socket = BytesMut::from(&bytes[..end]);
            let mut came = 0;
            while let Some(envelope) = inbound.decode(&mut socket).expect("a cut is no fault") {
                assert_eq!(envelope, whole[came], "{version} {compression:?} cut at {end}");
                came += 1;
            }
            assert!(came < whole.len());
        }
    }
}

/// Cuts the body everywhere. A cut message is refused, but where the end of it is optional.
fn cut_bodies(envelopes: &[Envelope], decodes: impl Fn(&Envelope) -> bool) {
    for envelope in envelopes {
        assert!(decodes(envelope));
        for end in 0..envelope.body.len().min(2000) {
            let body = envelope.body.slice(..end);
            let cut = Envelope { body, ..envelope.clone() };
            let opcode = envelope.header.opcode;
            assert!(!decodes(&cut), "{opcode:?} of {} bytes cut at {end}", envelope.body.len());
        }
    }
}

#[test]
fn a_body_that_ends_too_early_is_refused_wherever_it_ends() {
    for version in Version::EVERY {
        let requests = envelopes(inbound(Side::Server, version, None), client_bytes(version, None));
        cut_bodies(&requests, |envelope| Call::decode(envelope).is_ok());
        let responses =
            envelopes(inbound(Side::Client, version, None), server_bytes(version, None));
        cut_bodies(&responses, |envelope| Reply::decode(envelope).is_ok());
    }
}

#[test]
fn bytes_after_a_message_are_ignored() {
    for version in Version::EVERY {
        let requests = envelopes(inbound(Side::Server, version, None), client_bytes(version, None));
        for envelope in requests {
            let body = Bytes::from([&envelope.body[..], b"more"].concat());
            let longer = Envelope { body, ..envelope.clone() };
            assert_eq!(Call::decode(&longer), Call::decode(&envelope));
        }
    }
}

#[test]
fn a_long_envelope_is_spread_over_segments_between_short_ones() {
    for compression in [None, Some(Compression::Lz4)] {
        let version = Version::V5;
        let mut server = Outbound::new();
        server.agree(version, compression);
        let long = Rows {
            metadata: RowsMetadata {
                columns: Columns::Counted(1),
                paging_state: None,
                new_metadata_id: None,
            },
            rows: vec![
                vec![Some(Bytes::from(noise(400_000)))],
                vec![Some(Bytes::from(vec![0; 300_000]))],
            ],
        };
        let sent = [
            Response::Void,
            Response::Rows(long.clone()),
            Response::Ready,
            Response::Void,
            Response::Rows(long),
        ];
        for (response, stream) in sent.iter().zip(0..) {
            server.reply(version, stream, &Extras::default(), response).unwrap();
        }
        let mut bytes = server.take();
        assert!(server.is_empty());
        // Cassandra's rule: a segment that is not self-contained holds a part of one envelope only.
        let format = SegmentFormat::of(compression);
        let mut segments = bytes.clone();
        let mut kinds = Vec::new();
        while let Some(segment) = format.decode(&mut segments).unwrap() {
            assert!(segment.payload.len() <= PAYLOAD_BYTES_MAX);
            kinds.push(segment.self_contained);
        }
        let parts = vec![false; 6];
        let expected = [vec![true], parts.clone(), vec![true], parts].concat();
        assert_eq!(kinds, expected);
        let mut inbound = inbound(Side::Client, version, compression);
        for (response, stream) in sent.iter().zip(0..) {
            let envelope = inbound.decode(&mut bytes).unwrap().expect("as many as were sent");
            assert_eq!(envelope.header.stream, stream);
            assert_eq!(Reply::decode(&envelope).unwrap().response, *response);
        }
        assert_eq!(inbound.decode(&mut bytes), Ok(None));
    }
}

#[test]
fn many_short_answers_travel_as_one_segment() {
    let mut server = Outbound::new();
    server.agree(Version::V5, None);
    for stream in 0..100 {
        server.reply(Version::V5, stream, &Extras::default(), &Response::Void).unwrap();
    }
    let mut bytes = server.take();
    assert_eq!(bytes.len(), 6 + 100 * (HEADER_BYTES + 4) + 4);
    let segment = SegmentFormat::Plain.decode(&mut bytes).unwrap().unwrap();
    assert!(segment.self_contained && bytes.is_empty());
}

#[test]
fn rows_written_cell_by_cell_are_rows_written_at_once() {
    for (version, compression) in AGREEMENTS {
        let Rows { metadata, rows } = rows();
        let mut cells = Outbound::new();
        cells.agree(version, compression);
        let written = cells.rows(version, 9, &Extras::default(), &metadata, |writer| {
            rows.iter().flatten().try_for_each(|cell| writer.cell(cell.as_deref()))
        });
        written.unwrap();
        let mut once = Outbound::new();
        once.agree(version, compression);
        let rows = Response::Rows(Rows { metadata, rows });
        once.reply(version, 9, &Extras::default(), &rows).unwrap();
        assert_eq!(cells.take(), once.take());
    }
}

#[test]
fn what_cannot_be_sent_leaves_nothing_behind() {
    let Rows { metadata, .. } = rows();
    for (version, compression) in AGREEMENTS {
        let mut out = Outbound::new();
        out.agree(version, compression);
        out.reply(version, 1, &Extras::default(), &Response::Void).unwrap();
        let before = out.len();
        let columns = metadata.columns.count();
        let ragged =
            out.rows(version, 2, &Extras::default(), &metadata, |row| row.cell(Some(b"one")));
        assert_eq!(ragged, Err(EncodeError::RaggedRow { cells: 1, columns }));
        let keyspace = "k".repeat(70_000);
        let too_long =
            out.reply(version, 2, &Extras::default(), &Response::SetKeyspace { keyspace });
        let what = "the keyspace";
        assert_eq!(too_long, Err(EncodeError::TooLong { what, length: 70_000, max: 65_535 }));
        assert_eq!(out.len(), before);
    }
}

#[test]
fn what_only_v5_can_say_is_not_said_in_v4() {
    let mut out = Outbound::new();
    let refused = |result| matches!(result, Err(EncodeError::NotInVersion { .. }));
    let parameters = [
        Parameters { keyspace: Some("ks".to_owned()), ..Parameters::default() },
        Parameters { now_in_seconds: Some(1), ..Parameters::default() },
    ];
    for parameters in parameters {
        let query = Request::Query { query: "SELECT 1".to_owned(), parameters };
        assert!(refused(out.call(Version::V4, 0, &query.into())));
    }
    let prepare = Request::Prepare { query: "x".to_owned(), keyspace: Some("ks".to_owned()) };
    assert!(refused(out.call(Version::V4, 0, &prepare.into())));
    let batch = Request::Batch(Batch {
        keyspace: Some("ks".to_owned()),
        ..batch(Version::V4, BatchKind::Logged)
    });
    assert!(refused(out.call(Version::V4, 0, &batch.into())));
    assert!(out.is_empty());
}

#[test]
fn a_token_does_not_come_into_a_log() {
    let request = Request::AuthResponse { token: Some(bytes("\0user\0secret")) };
    let shown = format!("{request:?} {:?}", Call::from(request.clone()));
    assert!(!shown.contains("secret"), "{shown}");
}
