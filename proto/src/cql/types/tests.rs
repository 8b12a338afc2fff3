//! Tests of `types`: codes as in the specification, and depths that are too great.

use super::*;
use bytes::{Bytes, BytesMut};

fn written(version: Version, ty: &CqlType) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    write_type(&mut Writer::new(&mut out), version, ty)?;
    Ok(out.freeze())
}

fn list_of(of: CqlType) -> CqlType {
    CqlType::List { of: Arc::new(of), frozen: true }
}

#[test]
fn plain_types_have_the_specifications_codes() {
    for (code, ty) in &PLAIN {
        for version in Version::EVERY {
            let bytes = written(version, ty).unwrap();
            assert_eq!(bytes, code.to_be_bytes()[..]);
            assert_eq!(read_type(&mut Reader::new(bytes)), Ok(ty.clone()));
        }
    }
    let codes: std::collections::BTreeSet<u16> = PLAIN.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes.len(), PLAIN.len(), "two types have one code");
}

#[test]
fn a_map_of_lists_is_written_from_the_outside_in() {
    let (key, value) = (Arc::new(CqlType::Text), Arc::new(list_of(CqlType::Int)));
    let map = CqlType::Map { key, value, frozen: false };
    let bytes = written(Version::V4, &map).unwrap();
    assert_eq!(bytes, &b"\0\x21\0\x0d\0\x20\0\x09"[..]);
    assert_eq!(read_type(&mut Reader::new(bytes)), Ok(map));
}

#[test]
fn a_duration_is_a_class_in_v4_and_a_code_in_v5() {
    assert_eq!(written(Version::V5, &CqlType::Duration).unwrap(), &b"\0\x15"[..]);
    let class = written(Version::V4, &CqlType::Duration).unwrap();
    assert_eq!(class, &b"\0\0\0\x2corg.apache.cassandra.db.marshal.DurationType"[..]);
    assert_eq!(read_type(&mut Reader::new(class)), Ok(CqlType::Duration));
}

#[test]
fn types_within_types_are_followed_so_far_and_no_further() {
    let nested = |depth| (0..depth).fold(CqlType::Int, |of, _| list_of(of));
    let deepest = written(Version::V5, &nested(TYPE_DEPTH_MAX)).unwrap();
    assert!(read_type(&mut Reader::new(deepest.clone())).is_ok());
    let too_deep = written(Version::V5, &nested(TYPE_DEPTH_MAX + 1));
    assert_eq!(too_deep, Err(EncodeError::TooDeep { limit: TYPE_DEPTH_MAX }));
    for code in [&b"\0\x20"[..], b"\0\x22", b"\0\x21", b"\0\x31\0\x01", b"\0\x30\0\0\0\0\0\x01\0\0"]
    {
        let bomb = Bytes::from(code.repeat(100_000));
        let problem = read_type(&mut Reader::new(bomb)).unwrap_err().problem;
        assert_eq!(problem, Problem::TooDeep { limit: TYPE_DEPTH_MAX });
    }
}

#[test]
fn unknown_types_are_named() {
    let error = read_type(&mut Reader::new(Bytes::from_static(b"\0\x0a"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a column's type, at byte 0 of the body, is code 0x000a; expected a type of CQL"
    );
    let custom = Bytes::from_static(b"\0\0\0\x05a.b.C");
    let error = read_type(&mut Reader::new(custom)).unwrap_err();
    assert!(error.to_string().contains("is a.b.C"), "{error}");
}
