//! Tests of `error`: bodies byte by byte, where v4 and v5 differ.

use super::*;
use bytes::BytesMut;
use helenus_core::Level;

const QUORUM: Consistency = Consistency::Ordinary(Level::Quorum);

fn body(version: Version, kind: ErrorKind) -> Bytes {
    let mut out = BytesMut::new();
    ErrorResponse::new(kind, "m").write(&mut Writer::new(&mut out), version).unwrap();
    out.freeze()
}

fn kind(version: Version, body: Bytes) -> ErrorKind {
    ErrorResponse::read(&mut Reader::new(body), version).unwrap().kind
}

fn write_timeout(write_type: WriteType, contentions: u16) -> ErrorKind {
    ErrorKind::WriteTimeout {
        consistency: QUORUM,
        received: 1,
        block_for: 2,
        write_type,
        contentions,
    }
}

#[test]
fn unavailable_is_a_level_and_two_numbers() {
    let unavailable = ErrorKind::Unavailable { consistency: QUORUM, required: 3, alive: 2 };
    for version in Version::EVERY {
        let expected = b"\0\0\x10\0\0\x01m\0\x04\0\0\0\x03\0\0\0\x02";
        assert_eq!(body(version, unavailable.clone()), &expected[..]);
    }
}

#[test]
fn contentions_follow_a_cas_in_v5_only() {
    let head = b"\0\0\x11\0\0\x01m\0\x04\0\0\0\x01\0\0\0\x02";
    let expected = |tail: &[u8]| Bytes::from([&head[..], tail].concat());
    let cas = write_timeout(WriteType::Cas, 7);
    assert_eq!(body(Version::V4, cas.clone()), expected(b"\0\x03CAS"));
    assert_eq!(body(Version::V5, cas), expected(b"\0\x03CAS\0\x07"));
    assert_eq!(body(Version::V5, write_timeout(WriteType::Simple, 7)), expected(b"\0\x06SIMPLE"));
    let batch_log = write_timeout(WriteType::BatchLog, 0);
    assert_eq!(body(Version::V4, batch_log.clone()), expected(b"\0\x09BATCH_LOG"));
    assert_eq!(kind(Version::V5, body(Version::V5, batch_log.clone())), batch_log);
}

#[test]
fn a_cas_of_unknown_outcome_is_a_cas_timeout_to_v4() {
    let (consistency, received, block_for) = (QUORUM, 1, 2);
    let unknown = ErrorKind::CasWriteUnknown { consistency, received, block_for };
    assert_eq!(
        body(Version::V4, unknown.clone()),
        body(Version::V4, write_timeout(WriteType::Cas, 0))
    );
    assert_eq!(body(Version::V5, unknown), &b"\0\0\x17\0\0\x01m\0\x04\0\0\0\x01\0\0\0\x02"[..]);
}

#[test]
fn failed_replicas_are_counted_in_v4_and_named_in_v5() {
    let reasons = [([127, 0, 0, 1].into(), FailureReason::READ_TOO_MANY_TOMBSTONES)];
    let failures = Failures::new(reasons.into());
    let failure = ErrorKind::ReadFailure {
        consistency: QUORUM,
        received: 1,
        block_for: 2,
        failures,
        data_present: true,
    };
    let head = b"\0\0\x13\0\0\x01m\0\x04\0\0\0\x01\0\0\0\x02\0\0\0\x01";
    let v4 = body(Version::V4, failure.clone());
    assert_eq!(v4, [&head[..], b"\x01"].concat());
    let v5 = body(Version::V5, failure.clone());
    assert_eq!(v5, [&head[..], b"\x04\x7f\0\0\x01\0\x01\x01"].concat());
    assert_eq!(kind(Version::V5, v5), failure);
    let ErrorKind::ReadFailure { failures, .. } = kind(Version::V4, v4) else {
        panic!("a read failure became something else")
    };
    assert_eq!((failures.count(), failures.reasons().len()), (1, 0));
}

#[test]
fn an_unknown_code_or_type_is_refused_and_named() {
    let read = |bytes: &'static [u8]| {
        let read = ErrorResponse::read(&mut Reader::new(Bytes::from_static(bytes)), Version::V4);
        read.unwrap_err().to_string()
    };
    assert!(read(b"\0\0\x99\x99\0\0").contains("is 0x9999"));
    assert!(read(b"\0\0\x11\0\0\0\0\x04\0\0\0\x01\0\0\0\x02\0\x02NO").contains("is NO"));
    assert!(read(b"\0\0\x10\0\0\0\0\x04\xff\xff\xff\xff\0\0\0\x02").contains("length -1"));
    assert!(read(b"\0\0\x10\0\0\0\0\x0b\0\0\0\x01\0\0\0\x02").contains("is 11"));
}
