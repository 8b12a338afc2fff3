//! The order against what Cassandra says, and against itself.

use super::*;
use crate::cql::value::arbitrary::{any_type, decimal, value};
use num_bigint::BigInt;
use proptest::prelude::*;

/// Every value is less than the next one.
fn ascending(ty: &CqlType, values: &[Vec<u8>]) {
    for (n, a) in values.iter().enumerate() {
        for (m, b) in values.iter().enumerate() {
            assert_eq!(ty.compare(a, b), n.cmp(&m), "{ty} {a:02x?} {b:02x?}");
        }
    }
}

fn bytes<const N: usize, T>(values: &[T], of: impl Fn(&T) -> [u8; N]) -> Vec<Vec<u8>> {
    let empty = std::iter::once(Vec::new());
    empty.chain(values.iter().map(|value| of(value).to_vec())).collect()
}

#[test]
fn integers_sort_by_sign_and_the_empty_one_first() {
    ascending(&CqlType::Int, &bytes(&[i32::MIN, -1, 0, 1, i32::MAX], |n| n.to_be_bytes()));
    ascending(&CqlType::Bigint, &bytes(&[i64::MIN, -1, 0, 1, i64::MAX], |n| n.to_be_bytes()));
    ascending(&CqlType::Timestamp, &bytes(&[i64::MIN, -1, 0, 1], |n| n.to_be_bytes()));
    ascending(&CqlType::Tinyint, &bytes(&[i8::MIN, -1, 0, 1, i8::MAX], |n| n.to_be_bytes()));
    ascending(&CqlType::Smallint, &bytes(&[i16::MIN, -1, 0, 1, i16::MAX], |n| n.to_be_bytes()));
    // Days count from -2^31 as an unsigned number.
    ascending(&CqlType::Date, &bytes(&[0_u32, 1 << 31, u32::MAX], |n| n.to_be_bytes()));
}

#[test]
fn floats_sort_as_java_compares_them() {
    let all = [f32::NEG_INFINITY, -1.5, -0.0, 0.0, f32::MIN_POSITIVE, 1.5, f32::INFINITY, f32::NAN];
    ascending(&CqlType::Float, &bytes(&all, |n| n.to_be_bytes()));
    ascending(&CqlType::Double, &bytes(&all, |n| f64::from(*n).to_be_bytes()));
    let (nan, other) = (f32::NAN.to_be_bytes(), (-f32::NAN).to_be_bytes());
    assert_eq!(CqlType::Float.compare(&nan, &other), Ordering::Equal);
}

#[test]
fn varints_sort_by_value_however_long() {
    let values = [-300, -256, -255, -129, -128, -1, 0, 1, 127, 128, 255, 256, 300]
        .map(|n| BigInt::from(n).to_signed_bytes_be());
    ascending(&CqlType::Varint, &values);
    assert_eq!(CqlType::Varint.compare(&[0, 0, 5], &[5]), Ordering::Equal);
    assert_eq!(CqlType::Varint.compare(&[0xff, 0xff, 0x85], &[0x85]), Ordering::Equal);
    assert_eq!(CqlType::Varint.compare(&[0xff, 5], &[0xfe]), Ordering::Less);
}

#[test]
fn decimals_sort_by_value() {
    let texts = [
        "-1e9",
        "-10",
        "-1.5",
        "-1e-9",
        "0",
        "1e-2147483647",
        "1e-9",
        "0.9",
        "1.5",
        "1.6",
        "15",
        "1e2147483646",
    ];
    let values = texts.map(|text| Decimal::parse(text).unwrap().to_bytes().to_vec());
    ascending(&CqlType::Decimal, &values);
    let [a, b, c] = ["100", "1e2", "100.000"].map(|text| Decimal::parse(text).unwrap().to_bytes());
    assert_eq!(CqlType::Decimal.compare(&a, &b), Ordering::Equal);
    assert_eq!(CqlType::Decimal.compare(&b, &c), Ordering::Equal);
}

#[test]
fn timeuuids_sort_by_time_and_then_by_signed_bytes() {
    let with = |time, tail: u8| {
        let mut uuid = uuid::from_time(time, 0, [0; 6]).unwrap();
        uuid[15] = tail;
        uuid
    };
    // The low bits of the time are in front of the UUID's bytes, so bytes alone would sort otherwise.
    let values =
        [with(0, 0), with(1, 0x80), with(1, 0xff), with(1, 0), with(1, 0x7f), with(1 << 33, 0)];
    ascending(&CqlType::Timeuuid, &bytes(&values, |uuid| *uuid));
}

#[test]
fn uuids_sort_by_version_first() {
    let with = |first: u8, version: u8, last: u8| {
        let mut uuid = [0; 16];
        (uuid[0], uuid[6], uuid[15]) = (first, version << 4, last);
        uuid
    };
    let values = [
        with(0, 0, 0),
        with(0xff, 1, 0),
        with(0xff, 1, 0x7f),
        with(0xff, 1, 0x80),
        with(0, 4, 0),
        with(1, 4, 0),
        with(0x80, 4, 0),
        with(0, 5, 0),
    ];
    ascending(&CqlType::Uuid, &bytes(&values, |uuid| *uuid));
}

#[test]
fn bytes_sort_unsigned_and_the_shorter_one_first() {
    let values = [&b""[..], b"\0", b"\0\0", b"a", b"a\0", b"aa", b"\x7f", b"\x80", b"\xff"];
    ascending(&CqlType::Blob, &values.map(<[u8]>::to_vec));
    let values = [vec![], vec![0], vec![1]];
    ascending(&CqlType::Boolean, &values);
    assert_eq!(CqlType::Boolean.compare(&[1], &[0xff]), Ordering::Equal);
}

#[test]
fn collections_sort_element_by_element() {
    use crate::cql::collection::{encode_list, encode_map};
    let int = |n: i32| n.to_be_bytes().to_vec();
    let list = |all: &[i32]| {
        encode_list(&all.iter().map(|n| int(*n)).collect::<Vec<_>>()).unwrap().to_vec()
    };
    let ty = CqlType::list(CqlType::Int, true).unwrap();
    ascending(
        &ty,
        &[vec![], list(&[]), list(&[-1]), list(&[-1, 5]), list(&[0]), list(&[0, 0]), list(&[1])],
    );
    let map = |all: &[(i32, i32)]| {
        encode_map(&CqlType::Int, all.iter().map(|(k, v)| (int(*k), int(*v))).collect())
            .unwrap()
            .to_vec()
    };
    let ty = CqlType::map(CqlType::Int, CqlType::Int, true).unwrap();
    ascending(
        &ty,
        &[map(&[]), map(&[(1, 1)]), map(&[(1, 1), (2, 0)]), map(&[(1, 2)]), map(&[(2, 0)])],
    );
}

#[test]
fn tuples_sort_nulls_first_and_missing_parts_are_null() {
    use crate::cql::collection::encode_tuple;
    let ty = CqlType::Tuple([CqlType::Int, CqlType::Text].into());
    let tuple = |n: Option<i32>, text: Option<&str>| {
        let parts =
            [n.map(|n| n.to_be_bytes().to_vec()), text.map(|text| text.as_bytes().to_vec())];
        encode_tuple(&parts).unwrap().to_vec()
    };
    let one = encode_tuple(&[Some(1_i32.to_be_bytes())]).unwrap();
    ascending(
        &ty,
        &[
            vec![],
            tuple(None, None),
            tuple(None, Some("a")),
            tuple(Some(1), None),
            tuple(Some(1), Some("")),
            tuple(Some(1), Some("a")),
            tuple(Some(2), None),
        ],
    );
    assert_eq!(ty.compare(&one, &tuple(Some(1), None)), Ordering::Equal);
}

proptest! {
    #[test]
    fn it_is_a_total_preorder(
        (ty, a, b, c) in any_type().prop_flat_map(|ty| {
            let (a, b, c) = (value(&ty), value(&ty), value(&ty));
            (Just(ty), a, b, c)
        })
    ) {
        prop_assert_eq!(ty.compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(ty.compare(&a, &b), ty.compare(&b, &a).reverse());
        let mut all = [&a, &b, &c];
        all.sort_by(|x, y| ty.compare(x, y));
        prop_assert_ne!(ty.compare(all[0], all[2]), Ordering::Greater);
        if ty.compare(all[0], all[1]).is_eq() {
            prop_assert_eq!(ty.compare(all[0], all[2]), ty.compare(all[1], all[2]));
        }
    }

    #[test]
    fn any_bytes_compare_without_panic(
        ty in any_type(),
        a in proptest::collection::vec(any::<u8>(), 0..40),
        b in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assert_eq!(ty.compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(ty.compare(&a, &b), ty.compare(&b, &a).reverse());
    }

    /// By a second route: through digits and exponent.
    #[test]
    fn decimals_compare_as_their_digits_do(a in decimal(), b in decimal()) {
        let rank = |n: &Decimal| {
            let n = n.to_scientific();
            match (n.digits.is_empty(), n.negative) {
                (true, _) => (0, 0, vec![]),
                (_, false) => (1, n.exponent, n.digits.iter().map(|d| i16::from(*d)).collect()),
                // A digit less is more, so the end is more than a digit.
                (_, true) => (-1, -n.exponent, n.digits.iter().map(|d| -i16::from(*d)).chain([1]).collect::<Vec<_>>()),
            }
        };
        prop_assert_eq!(a.compare(&b), rank(&a).cmp(&rank(&b)), "{:?} {:?}", a, b);
    }
}
