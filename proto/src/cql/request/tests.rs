//! Tests of `request` and `parameters`: bodies byte by byte, and what is refused in them.

use super::super::{Flags, Header, Values};
use super::*;
use bytes::BytesMut;
use helenus_core::Level;
use std::num::NonZeroU32;

fn read(version: Version, opcode: Opcode, body: &[u8]) -> Result<Request, Malformed> {
    let header = Header { version, flags: Flags::NONE, stream: 0, opcode };
    let body = Bytes::copy_from_slice(body);
    Ok(Call::decode(&Envelope { header, body })?.request)
}

fn written(version: Version, request: Request) -> BytesMut {
    let mut out = BytesMut::new();
    Call::from(request).write(&mut Writer::new(&mut out), version).unwrap();
    out
}

fn refused(version: Version, opcode: Opcode, body: &[u8]) -> String {
    read(version, opcode, body).expect_err("this is no request").to_string()
}

fn query(parameters: Parameters) -> Request {
    Request::Query { query: "Q".to_owned(), parameters }
}

#[test]
fn a_query_has_flags_of_a_byte_in_v4_and_of_an_int_in_v5() {
    let parameters = Parameters {
        consistency: Level::Quorum.into(),
        values: Values::Positional(vec![Value::Bytes(Bytes::from_static(b"v")), Value::Null]),
        page_size: NonZeroU32::new(100),
        timestamp: Some(TimestampMicros(-2)),
        serial_consistency: Some(SerialConsistency::Serial),
        ..Parameters::default()
    };
    let values = b"\0\x02\0\0\0\x01v\xff\xff\xff\xff";
    let tail = b"\0\0\0\x64\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe";
    let v4 = [&b"\0\0\0\x01Q\0\x04\x35"[..], values, tail].concat();
    let v5 = [&b"\0\0\0\x01Q\0\x04\0\0\0\x35"[..], values, tail].concat();
    for (version, bytes) in [(Version::V4, v4), (Version::V5, v5)] {
        assert_eq!(written(version, query(parameters.clone())), bytes);
        assert_eq!(read(version, Opcode::Query, &bytes), Ok(query(parameters.clone())));
    }
}

#[test]
fn v5_ends_with_a_keyspace_and_the_current_second() {
    let parameters = Parameters {
        keyspace: Some("ks".to_owned()),
        now_in_seconds: Some(7),
        ..Parameters::default()
    };
    let bytes = b"\0\0\0\x01Q\0\x01\0\0\x01\x80\0\x02ks\0\0\0\x07";
    assert_eq!(written(Version::V5, query(parameters.clone())), &bytes[..]);
    assert_eq!(read(Version::V5, Opcode::Query, bytes), Ok(query(parameters)));
    // v4 has no such flag, so nothing follows it.
    let v4 = read(Version::V4, Opcode::Query, b"\0\0\0\x01Q\0\x01\x80");
    assert_eq!(v4, Ok(query(Parameters::default())));
}

#[test]
fn names_precede_their_values() {
    let named = vec![("n".to_owned(), Value::Unset)];
    let parameters = Parameters { values: Values::Named(named), ..Parameters::default() };
    let bytes = b"\0\0\0\x01Q\0\x01\x41\0\x01\0\x01n\xff\xff\xff\xfe";
    assert_eq!(written(Version::V4, query(parameters.clone())), &bytes[..]);
    assert_eq!(read(Version::V4, Opcode::Query, bytes), Ok(query(parameters)));
    let none = read(Version::V4, Opcode::Query, b"\0\0\0\x01Q\0\x01\x41\0\0");
    assert_eq!(none, Ok(query(Parameters::default())));
}

#[test]
fn a_page_of_nothing_or_less_is_everything() {
    for page in [0, -1, i32::MIN] {
        let body = [&b"\0\0\0\x01Q\0\x01\x04"[..], &i32::to_be_bytes(page)].concat();
        assert_eq!(read(Version::V4, Opcode::Query, &body), Ok(query(Parameters::default())));
    }
}

#[test]
fn what_parameters_cannot_mean_is_refused() {
    let query =
        |tail: &[u8]| refused(Version::V4, Opcode::Query, &[&b"\0\0\0\x01Q"[..], tail].concat());
    assert_eq!(
        query(b"\0\x0b\0"),
        "the consistency, at byte 5 of the body, is 11; expected a code from 0 to 10"
    );
    assert_eq!(
        query(b"\0\x01\x10\0\x04"),
        "the serial consistency, at byte 8 of the body, is QUORUM; expected SERIAL (8) or LOCAL_SERIAL (9)"
    );
    assert!(query(b"\0\x01\x20\x80\0\0\0\0\0\0\0").contains("the timestamp, at byte 8"));
    assert!(query(b"\0\x01\x01\0\x01\xff\xff\xff\xfd").contains("has the length -3"));
    assert!(query(b"\0\x01\x01\xff\xff\0\0\0\0").contains("has 65535 elements"));
}

#[test]
fn a_batch_has_its_flags_at_the_end_and_no_values_there() {
    let batch = Batch {
        kind: BatchKind::Unlogged,
        statements: vec![
            BatchStatement { statement: Statement::Query("Q".to_owned()), values: Vec::new() },
            BatchStatement {
                statement: Statement::Prepared(Bytes::from_static(b"ID")),
                values: vec![Value::Null],
            },
        ],
        consistency: Level::LocalOne.into(),
        serial_consistency: None,
        timestamp: Some(TimestampMicros(1)),
        keyspace: None,
        now_in_seconds: None,
    };
    let head = b"\x01\0\x02\0\0\0\0\x01Q\0\0\x01\0\x02ID\0\x01\xff\xff\xff\xff\0\x0a";
    let v4 = [&head[..], b"\x20\0\0\0\0\0\0\0\x01"].concat();
    let v5 = [&head[..], b"\0\0\0\x20\0\0\0\0\0\0\0\x01"].concat();
    for (version, bytes) in [(Version::V4, v4), (Version::V5, v5)] {
        assert_eq!(written(version, Request::Batch(batch.clone())), bytes);
        assert_eq!(read(version, Opcode::Batch, &bytes), Ok(Request::Batch(batch.clone())));
    }
    for flag in [0x01, 0x04, 0x08, 0x40] {
        let named = [&head[..], &[flag]].concat();
        assert!(refused(Version::V4, Opcode::Batch, &named).contains("the batch's flags"));
    }
    let text = refused(Version::V4, Opcode::Batch, b"\x03\0\0\0\x01\0");
    assert_eq!(text, "the batch's type, at byte 0 of the body, is 3; expected 0, 1 or 2");
    let text = refused(Version::V4, Opcode::Batch, b"\0\0\x01\x02\0\0\0\0");
    assert_eq!(text, "the statement's kind, at byte 3 of the body, is 2; expected 0 or 1");
}

#[test]
fn v5_prepares_with_flags_and_executes_with_the_results_id() {
    let prepare = |keyspace| Request::Prepare { query: "Q".to_owned(), keyspace };
    let with = prepare(Some("ks".to_owned()));
    assert_eq!(written(Version::V4, prepare(None)), &b"\0\0\0\x01Q"[..]);
    assert_eq!(written(Version::V5, prepare(None)), &b"\0\0\0\x01Q\0\0\0\0"[..]);
    assert_eq!(written(Version::V5, with.clone()), &b"\0\0\0\x01Q\0\0\0\x01\0\x02ks"[..]);
    assert_eq!(read(Version::V5, Opcode::Prepare, b"\0\0\0\x01Q\0\0\0\x01\0\x02ks"), Ok(with));
    let execute = Request::Execute {
        id: Bytes::from_static(b"ID"),
        result_metadata_id: Some(Bytes::from_static(b"R")),
        parameters: Parameters::default(),
    };
    assert_eq!(written(Version::V4, execute.clone()), &b"\0\x02ID\0\x01\0"[..]);
    assert_eq!(written(Version::V5, execute), &b"\0\x02ID\0\x01R\0\x01\0\0\0\0"[..]);
}

#[test]
fn options_of_startup_are_read_in_any_case_and_unknown_ones_are_kept() {
    let body = b"\0\x02\0\x0bcql_version\0\x053.0.0\0\x0bDRIVER_NAME\0\x01x";
    let Ok(Request::Startup(startup)) = read(Version::V4, Opcode::Startup, body) else {
        panic!("STARTUP became something else")
    };
    assert_eq!(startup.cql_version(), Some("3.0.0"));
    assert_eq!(startup.options.get("DRIVER_NAME").map(String::as_str), Some("x"));
    assert_eq!(startup.compression(Version::V4), Ok(None));
}

#[test]
fn events_that_nobody_sends_cannot_be_registered_for() {
    assert_eq!(
        refused(Version::V4, Opcode::Register, b"\0\x01\0\x05WHAT?"),
        "the event's type, at byte 2 of the body, is WHAT?; \
         expected TOPOLOGY_CHANGE, STATUS_CHANGE or SCHEMA_CHANGE"
    );
    assert!(refused(Version::V4, Opcode::Ready, b"").contains("is a response"));
}
