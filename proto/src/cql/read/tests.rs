//! Tests of `read`, with `write` as its other side.

use super::super::write::{EncodeError, Writer};
use super::*;
use bytes::BytesMut;
use proptest::prelude::*;
use std::fmt::Debug;

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut Writer::new(&mut out));
    out.freeze()
}

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

/// Reads what is written, leaves nothing, and refuses shorter pieces of it: all of them, if there are not too many.
fn there_and_back<T: PartialEq + Debug>(
    value: T,
    write: impl FnOnce(&mut Writer<'_>, &T),
    read: impl Fn(&mut Reader) -> Result<T, Malformed>,
) {
    let bytes = written(|to| write(to, &value));
    for end in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
        let cut = read(&mut Reader::new(bytes.slice(..end)));
        assert!(cut.is_err(), "{value:?} cut at {end} of {}: {cut:?}", bytes.len());
    }
    let mut from = Reader::new(bytes);
    assert_eq!(read(&mut from), Ok(value));
    assert_eq!(from.left(), 0);
}

#[test]
fn vints_are_the_specifications_bytes() {
    let vectors: [(u64, &[u8]); 8] = [
        (0, b"\x00"),
        (1, b"\x01"),
        (127, b"\x7f"),
        (128, b"\x80\x80"),
        (256_000, b"\xc3\xe8\x00"),
        (1 << 55, b"\xfe\x80\0\0\0\0\0\0"),
        (1 << 56, b"\xff\x01\0\0\0\0\0\0\0"),
        (u64::MAX, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ];
    for (number, bytes) in vectors {
        assert_eq!(written(|to| to.unsigned_vint(number)), bytes);
        assert_eq!(reader(bytes).unsigned_vint("n"), Ok(number));
    }
    // Zig-zag: 0 -1 1 -2 2 become 0 1 2 3 4.
    for (number, zigzag) in [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4), (i64::MIN, u64::MAX)] {
        assert_eq!(
            written(|to| to.vint(number)),
            written(|to| to.unsigned_vint(zigzag)),
            "{number}"
        );
    }
}

#[test]
fn null_and_unset_are_told_apart_in_a_value_only() {
    let value = |length: i32| reader(&length.to_be_bytes()).value("v");
    assert_eq!(value(-1), Ok(Value::Null));
    assert_eq!(value(-2), Ok(Value::Unset));
    assert_eq!(value(0), Ok(Value::Bytes(Bytes::new())));
    assert_eq!(value(-3).unwrap_err().problem, Problem::Length { length: -3 });
    for length in [-1, -2, -3, i32::MIN] {
        assert_eq!(reader(&i32::to_be_bytes(length)).bytes("b"), Ok(None));
    }
}

#[test]
fn a_count_that_the_bytes_left_cannot_bear_is_refused_before_it_is_allocated_for() {
    let refused = |result: Result<(), Malformed>| result.unwrap_err().problem;
    let mut from = reader(b"\xff\xff\0\0\0\0");
    let problem = Problem::Count { count: 65_535, left: 4 };
    assert_eq!(refused(from.string_list("l").map(drop)), problem);
    let mut from = reader(b"\x7f\xff\xff\xff\0\0\0\0");
    let problem = Problem::Count { count: i64::from(i32::MAX), left: 4 };
    assert_eq!(refused(from.int_count("rows", 4).map(drop)), problem);
    let mut from = reader(b"\xff\xff\xff\xff\0\0\0\0");
    assert_eq!(refused(from.int_count("rows", 4).map(drop)), Problem::Count { count: -1, left: 4 });
    let long = reader(b"\x7f\xff\xff\xff").long_string("s");
    assert_eq!(refused(long.map(drop)), Problem::Short { needed: 0x7fff_ffff, left: 0 });
    let negative = reader(b"\xff\xff\xff\xff").long_string("s");
    assert_eq!(refused(negative.map(drop)), Problem::Length { length: -1 });
}

#[test]
fn errors_say_what_and_where() {
    let mut from = reader(b"\0\x01a\0\x05abc");
    assert_eq!(from.string("the name").as_deref(), Ok("a"));
    assert_eq!(
        from.string("the value").unwrap_err().to_string(),
        "the value, at byte 5 of the body, needs 5 bytes, but 3 are left"
    );
    let text = reader(b"\0\x02\xff\xff").string("the name").unwrap_err().to_string();
    assert_eq!(text, "the name, at byte 0 of the body, is not UTF-8");
}

#[test]
fn addresses_have_four_or_sixteen_bytes_and_ports_two() {
    let four = |to: &mut Writer<'_>| to.inet(([127, 0, 0, 1], 9042).into());
    assert_eq!(written(four), &b"\x04\x7f\0\0\x01\0\0\x23\x52"[..]);
    assert!(reader(b"\x05\x01\x02\x03\x04\x05\0\0\0\0").inetaddr("node").is_err());
    assert!(reader(b"\x04\x7f\0\0\x01\0\x01\0\0").inet("node").is_err(), "port 65536");
    assert!(reader(b"\x04\x7f\0\0\x01\xff\xff\xff\xff").inet("node").is_err(), "port -1");
}

#[test]
fn a_message_that_is_too_long_is_cut_at_a_characters_end_and_a_name_is_refused() {
    let long = format!("{}é and more", "x".repeat(65_534));
    let cut = Reader::new(written(|to| to.message(&long))).string("m").unwrap();
    assert_eq!(cut, "x".repeat(65_534));
    let mut out = BytesMut::new();
    let refused = Writer::new(&mut out).string("a name", &long);
    let length = long.len();
    assert_eq!(refused, Err(EncodeError::TooLong { what: "a name", length, max: 65_535 }));
    let refused = Writer::new(&mut out).short_count("a list", 65_536);
    assert_eq!(refused, Err(EncodeError::TooMany { what: "a list", count: 65_536, max: 65_535 }));
}

fn value() -> impl Strategy<Value = Value> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![Just(Value::Null), Just(Value::Unset), bytes.prop_map(|b| Value::Bytes(b.into()))]
}

proptest! {
    #[test]
    fn vints_come_back(number: u64, signed: i64, shift in 0_u32..64) {
        for number in [number, number >> shift] {
            there_and_back(number, |to, n| to.unsigned_vint(*n), |from| from.unsigned_vint("n"));
        }
        let signed = signed >> shift;
        there_and_back(signed, |to, n| to.vint(*n), |from| from.vint("n"));
    }

    #[test]
    fn text_comes_back(text: String, list in prop::collection::vec(".*", 0..5)) {
        there_and_back(text.clone(), |to, s| to.string("s", s).unwrap(), |from| from.string("s"));
        there_and_back(text, |to, s| to.long_string("s", s).unwrap(), |from| from.long_string("s"));
        there_and_back(list, |to, l| to.string_list("l", l).unwrap(), |from| from.string_list("l"));
    }

    #[test]
    fn maps_come_back(
        strings in prop::collection::btree_map(".{0,9}", ".{0,9}", 0..5),
        lists in prop::collection::btree_map(".{0,9}", prop::collection::vec(".{0,9}", 0..4), 0..5),
        bytes in prop::collection::btree_map(".{0,9}", any::<Option<[u8; 3]>>(), 0..5),
    ) {
        there_and_back(strings, |to, m| to.string_map("m", m).unwrap(), |f| f.string_map("m"));
        there_and_back(lists, |to, m| to.string_multimap("m", m).unwrap(), |f| f.string_multimap("m"));
        let bytes: CustomPayload = bytes.into_iter().map(|(k, v)| (k, v.map(|v| Bytes::copy_from_slice(&v)))).collect();
        there_and_back(bytes, |to, m| to.bytes_map("m", m).unwrap(), |f| f.bytes_map("m"));
    }

    #[test]
    fn values_and_addresses_come_back(value in value(), ip: IpAddr, port: u16, uuid: u128) {
        there_and_back(value, |to, v| to.value("v", v).unwrap(), |from| from.value("v"));
        there_and_back(SocketAddr::new(ip, port), |to, n| to.inet(*n), |from| from.inet("n"));
        there_and_back(ip, |to, n| to.inetaddr(*n), |from| from.inetaddr("n"));
        there_and_back(uuid, |to, n| to.uuid(*n), |from| from.uuid("n"));
    }
}
