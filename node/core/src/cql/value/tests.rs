//! What is a value of a type and what is not.

use super::arbitrary::{any_type, user, value};
use super::*;
use proptest::prelude::*;
use std::sync::Arc;

fn ok(ty: &CqlType, bytes: &[u8]) {
    assert_eq!(ty.check(bytes), Ok(()), "{ty} {bytes:02x?}");
}

fn refused(ty: &CqlType, bytes: &[u8]) -> ValueError {
    ty.check(bytes).expect_err(&format!("{ty} {bytes:02x?}"))
}

#[test]
fn lengths_are_cassandras() {
    use CqlType::{
        Bigint, Boolean, Counter, Date, Decimal, Double, Float, Inet, Int, Smallint, Time,
        Timestamp, Timeuuid, Tinyint, Uuid,
    };
    let lengths: [(CqlType, &[usize]); 15] = [
        (Bigint, &[0, 8]),
        (Boolean, &[0, 1]),
        (Counter, &[0, 8]),
        (Date, &[4]),
        (Decimal, &[0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
        (Double, &[0, 8]),
        (Float, &[0, 4]),
        (Inet, &[0, 4, 16]),
        (Int, &[0, 4]),
        (Smallint, &[2]),
        (Time, &[8]),
        (Timestamp, &[0, 8]),
        (Timeuuid, &[0, 16]),
        (Tinyint, &[1]),
        (Uuid, &[0, 16]),
    ];
    // With 0x10 where a UUID has its version.
    let bytes = [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (ty, good) in lengths {
        for length in 0..=17 {
            assert_eq!(ty.check(&bytes[..length]).is_ok(), good.contains(&length), "{ty} {length}");
        }
    }
}

#[test]
fn text_is_text() {
    ok(&CqlType::Ascii, b"abc");
    assert_eq!(refused(&CqlType::Ascii, b"ab\xe9"), ValueError::Encoding { ty: "ascii", at: 2 });
    ok(&CqlType::Text, "é\0".as_bytes());
    assert_eq!(refused(&CqlType::Text, b"ab\xff"), ValueError::Encoding { ty: "text", at: 2 });
    ok(&CqlType::Blob, b"\xff");
}

#[test]
fn a_time_is_within_a_day() {
    ok(&CqlType::Time, &86_399_999_999_999_i64.to_be_bytes());
    refused(&CqlType::Time, &86_400_000_000_000_i64.to_be_bytes());
    refused(&CqlType::Time, &(-1_i64).to_be_bytes());
}

#[test]
fn a_timeuuid_has_version_1() {
    let mut uuid = [0; 16];
    uuid[6] = 0x4f;
    assert_eq!(refused(&CqlType::Timeuuid, &uuid), ValueError::Version { found: 4 });
    ok(&CqlType::Uuid, &uuid);
}

#[test]
fn collections_believe_no_count() {
    let list = CqlType::list(CqlType::Int, true).unwrap();
    ok(&list, &[]);
    ok(&list, &[0, 0, 0, 0]);
    ok(&list, &[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7]);
    assert_eq!(refused(&list, &[0x7f, 0xff, 0xff, 0xff]), ValueError::Truncated { ty: "list" });
    assert_eq!(refused(&list, &[0xff, 0xff, 0xff, 0xff]), ValueError::Truncated { ty: "list" });
    assert_eq!(refused(&list, &[0, 0, 0, 0, 9]), ValueError::Trailing { ty: "list", extra: 1 });
    let null = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refused(&list, &null), ValueError::NullElement { ty: "list" });
    assert!(matches!(
        refused(&list, &[0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 7]),
        ValueError::Length { found: 3, .. }
    ));
    let map = CqlType::map(CqlType::Text, CqlType::Int, true).unwrap();
    ok(&map, &[0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 0, 0, 4, 0, 0, 0, 7]);
    assert_eq!(refused(&map, &[0, 0, 0, 1, 0, 0, 0, 1, b'a']), ValueError::Truncated { ty: "map" });
}

#[test]
fn tuples_may_be_short_but_not_long() {
    let tuple = CqlType::Tuple(Arc::new([CqlType::Int, CqlType::Text]));
    ok(&tuple, &[]);
    ok(&tuple, &[0, 0, 0, 4, 0, 0, 0, 7]);
    ok(&tuple, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'a']);
    let long = [0xff_u8; 12];
    assert!(matches!(refused(&tuple, &long), ValueError::TooManyParts { wanted: 2, .. }));
    refused(&tuple, &[0, 0, 0, 4, 0, 0, 0]);
    let udt = CqlType::User { of: user("t", vec![CqlType::Int]), frozen: false };
    ok(&udt, &[0, 0, 0, 4, 0, 0, 0, 7]);
    refused(&udt, &long);
}

#[test]
fn messages_name_the_column() {
    let wrong = CqlType::Int.constant(&crate::cql::Constant::String("abc".into())).unwrap_err();
    let said = r#"Invalid STRING constant (abc) for "x" of type int"#;
    assert_eq!(wrong.for_column("x"), said);
}

proptest! {
    #[test]
    fn values_are_values((ty, bytes) in any_type().prop_flat_map(|ty| { let v = value(&ty); (Just(ty), v) })) {
        prop_assert_eq!(ty.check(&bytes), Ok(()));
    }

    #[test]
    fn any_bytes_are_judged_without_panic(ty in any_type(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = ty.check(&bytes);
    }

    /// Bytes that begin well go deeper than random ones.
    #[test]
    fn damaged_values_are_judged_without_panic(
        (ty, bytes) in any_type().prop_flat_map(|ty| { let v = value(&ty); (Just(ty), v) }),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = bytes;
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let _ = ty.check(&bytes);
        let _ = ty.compare(&bytes, &bytes);
    }
}
