//! The keys against the order of values, and what is on disk against its picture.

use super::*;
use crate::cql::collection::{encode_list, encode_map, encode_tuple};
use crate::cql::decimal::Decimal;
use crate::cql::value::arbitrary::{SCALARS, key_type, value};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cmp::Ordering;

type Columns = Vec<(CqlType, bool)>;
type Values = Vec<Option<Vec<u8>>>;

fn borrowed(values: &[Option<Vec<u8>>]) -> Vec<Option<&[u8]>> {
    values.iter().map(Option::as_deref).collect()
}

fn key(columns: &[(CqlType, bool)], values: &[Option<Vec<u8>>]) -> ClusteringKey {
    encode(columns, &borrowed(values)).unwrap()
}

/// Columns and so many rows.
fn rows(count: usize) -> impl Strategy<Value = (Columns, Vec<Values>)> {
    vec((key_type(), any::<bool>()), 1..4).prop_flat_map(move |columns| {
        let row: Vec<_> = columns.iter().map(|(ty, _)| value(ty).prop_map(Some).boxed()).collect();
        (Just(columns), vec(row, count))
    })
}

/// What CQL says of two rows, or of the first so many columns of them.
fn by_columns(columns: &[(CqlType, bool)], a: &Values, b: &Values) -> Ordering {
    let each = columns.iter().zip(a.iter().zip(b));
    each.fold(Ordering::Equal, |so_far, ((ty, reversed), (x, y))| {
        so_far.then_with(|| {
            let order = ty.compare(x.as_ref().unwrap(), y.as_ref().unwrap());
            if *reversed { order.reverse() } else { order }
        })
    })
}

fn single(ty: CqlType, reversed: bool, bytes: &[u8]) -> Vec<u8> {
    encode(&[(ty, reversed)], &[Some(bytes)]).unwrap().0.to_vec()
}

/// These bytes are on disks: a change here loses rows.
#[test]
fn the_bytes_are_those_of_the_picture() {
    use CqlType::{Boolean, Date, Decimal as Dec, Float, Int, Text, Timeuuid, Uuid, Varint};
    assert_eq!(single(Int, false, &1_i32.to_be_bytes()), [0x30, 0x80, 0, 0, 1]);
    assert_eq!(single(Int, false, &(-1_i32).to_be_bytes()), [0x30, 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(single(Int, true, &1_i32.to_be_bytes()), [0xcf, 0x7f, 0xff, 0xff, 0xfe]);
    assert_eq!(single(Date, false, &[0x80, 0, 0, 1]), [0x30, 0x80, 0, 0, 1]);
    assert_eq!(single(Boolean, false, &[7]), [0x30, 1]);
    assert_eq!(single(Float, false, &1_f32.to_be_bytes()), [0x30, 0xbf, 0x80, 0, 0]);
    assert_eq!(single(Float, false, &(-1_f32).to_be_bytes()), [0x30, 0x40, 0x7f, 0xff, 0xff]);
    assert_eq!(single(Float, false, &(-f32::NAN).to_be_bytes()), [0x30, 0xff, 0xc0, 0, 0]);
    assert_eq!(single(Text, false, b"a\0b"), [0x30, b'a', 0, 0xff, b'b', 0, 1]);
    assert_eq!(single(Text, false, b""), [0x20]);
    assert_eq!(single(Text, true, b""), [0xdf]);
    assert_eq!(single(Varint, false, &[0]), [0x30, 0x80]);
    assert_eq!(single(Varint, false, &[0, 0, 200]), [0x30, 0x81, 200]);
    assert_eq!(single(Varint, false, &[0xff]), [0x30, 0x7e, 0xfe]);
    let mut long = vec![1; 200];
    assert_eq!(single(Varint, false, &long)[..6], [0x30, 0xf0, 0, 0, 0, 200]);
    long[0] = 0x80;
    assert_eq!(single(Varint, false, &long)[..6], [0x30, 0x0f, 0xff, 0xff, 0xff, 0x37]);
    let decimal = |text: &str| single(Dec, false, &Decimal::parse(text).unwrap().to_bytes());
    assert_eq!(decimal("0.00"), [0x30, 0x80]);
    assert_eq!(decimal("12.30"), [0x30, 0xc0, 0x81, 2, 13, 31, 0]);
    assert_eq!(decimal("-12.3"), [0x30, 0x40, 0x7e, 0xfd, !13, !31, 0xff]);
    let uuid: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).unwrap() * 0x11);
    let swapped = [0x66, 0x77, 0x44, 0x55, 0, 0x11, 0x22, 0x33];
    // Version 6: 0x6 moves to the front.
    let front = [0x60, 0x01, 0x12, 0x23, 0x34, 0x45, 0x56, 0x77];
    assert_eq!(single(Uuid, false, &uuid)[1..9], front);
    let mut timeuuid = uuid;
    timeuuid[6] = 0x16;
    assert_eq!(single(Uuid, false, &timeuuid)[2..9], swapped[1..]);
    assert_eq!(
        single(Timeuuid, false, &timeuuid)[1..10],
        [0x16, 0x77, 0x44, 0x55, 0, 0x11, 0x22, 0x33, 0x08]
    );
}

#[test]
fn collections_and_tuples_are_those_of_the_picture() {
    let one = 1_i32.to_be_bytes();
    let list = CqlType::list(CqlType::Int, true).unwrap();
    let bytes = encode_list(&[one, one]).unwrap();
    let int = [0x30, 0x80, 0, 0, 1];
    assert_eq!(single(list.clone(), false, &bytes), [&[0x30], &int[..], &int, &[0]].concat());
    assert_eq!(single(list, false, &[0; 4]), [0x30, 0]);
    let map = CqlType::map(CqlType::Int, CqlType::Text, true).unwrap();
    let bytes = encode_map(&CqlType::Int, vec![(one, "")]).unwrap();
    assert_eq!(single(map, false, &bytes), [&[0x30], &int[..], &[0x20, 0]].concat());
    let tuple = CqlType::Tuple([CqlType::Int, CqlType::Int, CqlType::Int].into());
    let bytes = encode_tuple(&[None, Some(one), None]).unwrap();
    assert_eq!(single(tuple.clone(), false, &bytes), [&[0x30, 0x10], &int[..], &[0]].concat());
    assert_eq!(single(tuple, true, &bytes)[..2], [0xcf, 0xef]);
}

#[test]
fn what_is_equal_is_one_key_and_reads_back_in_one_form() {
    let columns =
        [(CqlType::Decimal, false), (CqlType::Tuple([CqlType::Int, CqlType::Int].into()), true)];
    let bytes = |text: &str| Decimal::parse(text).unwrap().to_bytes();
    let (short, full) =
        (encode_tuple::<[u8; 4]>(&[]).unwrap(), encode_tuple::<[u8; 4]>(&[None, None]).unwrap());
    assert!(short.is_empty());
    let half = encode_tuple(&[Some([0, 0, 0, 9])]).unwrap();
    let whole = encode_tuple(&[Some([0, 0, 0, 9]), None]).unwrap();
    let a = encode(&columns, &[Some(&bytes("1.00")), Some(&half)]).unwrap();
    let b = encode(&columns, &[Some(&bytes("1")), Some(&whole)]).unwrap();
    assert_eq!(a, b);
    assert_eq!(decode(&columns, &a).unwrap(), [Some(bytes("1")), Some(whole)]);
    // A tuple of nulls is not the empty value.
    let nulls = encode(&columns, &[Some(&bytes("1")), Some(&full)]).unwrap();
    assert_ne!(nulls, encode(&columns, &[Some(&bytes("1")), Some(&short)]).unwrap());
    assert_eq!(decode(&columns, &nulls).unwrap()[1], Some(full));
}

/// A number whose zeros cannot move into a scale that is the smallest already.
#[test]
fn the_smallest_scale_reads_back() {
    let columns = [(CqlType::Decimal, false)];
    for text in ["100e2147483648", "-7000e2147483648", "1e-2147483647"] {
        let value = Decimal::parse(text).unwrap();
        let key = encode(&columns, &[Some(&value.to_bytes())]).unwrap();
        let back = decode(&columns, &key).unwrap();
        let back = Decimal::from_bytes(back[0].as_ref().unwrap()).unwrap();
        assert_eq!(back.compare(&value), Ordering::Equal, "{text}");
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let duration = [(CqlType::Duration, false)];
    assert!(matches!(encode(&duration, &[]), Ok(key) if key.0.is_empty()));
    assert!(matches!(
        encode(&duration, &[Some(&[0, 0, 0])]),
        Err(ClusteringError::NoOrder { column: 0, .. })
    ));
    let columns = [(CqlType::Int, false), (CqlType::Text, false)];
    let int = &[0, 0, 0, 1][..];
    assert!(matches!(
        encode(&columns, &[Some(&[1])]),
        Err(ClusteringError::Value { column: 0, .. })
    ));
    assert!(matches!(
        encode(&columns, &[Some(int), Some(b"a"), None]),
        Err(ClusteringError::TooMany { columns: 2, found: 3 })
    ));
    let long = vec![b'a'; VALUE_BYTES_MAX + 1];
    assert!(matches!(
        encode(&columns, &[Some(int), Some(&long)]),
        Err(ClusteringError::TooLong { column: 1, .. })
    ));
    // A prefix is not a row.
    let prefix = encode(&columns, &[Some(int)]).unwrap();
    assert!(matches!(
        decode(&columns, &prefix),
        Err(ClusteringError::Corrupt { column: 1, at: 5, .. })
    ));
    let long = ClusteringKey(Bytes::from_static(&[0x30, 0x80, 0, 0, 1, 0x20, 0x20]));
    assert!(matches!(
        decode(&columns, &long),
        Err(ClusteringError::Corrupt { column: 2, at: 6, .. })
    ));
}

/// Whether a key is between two bounds.
fn within(key: &ClusteringKey, (start, end): &(Bound, Bound)) -> bool {
    let after_start = match start {
        Bound::Open => true,
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
    };
    let before_end = match end {
        Bound::Open => true,
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
    };
    after_start && before_end
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn keys_sort_as_rows_do((columns, rows) in rows(2)) {
        let (a, b) = (key(&columns, &rows[0]), key(&columns, &rows[1]));
        prop_assert_eq!(a.0.cmp(&b.0), by_columns(&columns, &rows[0], &rows[1]));
    }

    #[test]
    fn keys_read_back((columns, rows) in rows(1)) {
        let first = key(&columns, &rows[0]);
        let back = decode(&columns, &first).unwrap();
        for ((ty, _), (was, is)) in columns.iter().zip(rows[0].iter().zip(&back)) {
            let (was, is) = (was.as_ref().unwrap(), is.as_ref().unwrap());
            prop_assert_eq!(ty.check(is), Ok(()));
            prop_assert_eq!(ty.compare(was, is), Ordering::Equal, "{}", ty);
        }
        let back: Vec<_> = back.iter().map(|value| value.as_deref()).collect();
        prop_assert_eq!(encode(&columns, &back).unwrap(), first);
    }

    #[test]
    fn values_with_one_form_read_back_exactly(
        (ty, reversed, bytes) in prop::sample::select(SCALARS.to_vec()).prop_filter("one form", |ty| {
            ty.has_order() && !matches!(ty, CqlType::Decimal | CqlType::Varint | CqlType::Boolean | CqlType::Float | CqlType::Double)
        }).prop_flat_map(|ty| { let v = value(&ty); (Just(ty), any::<bool>(), v) })
    ) {
        let columns = [(ty, reversed)];
        let key = encode(&columns, &[Some(&bytes)]).unwrap();
        prop_assert_eq!(decode(&columns, &key).unwrap(), [Some(Bytes::from(bytes))]);
    }

    #[test]
    fn prefixes_bound_the_rows_that_have_them((columns, rows) in rows(2), length in 0..3_usize) {
        let length = length.min(columns.len());
        let prefix = key(&columns, &rows[0][..length]);
        let row = key(&columns, &rows[1]);
        let order = by_columns(&columns[..length], &rows[1], &rows[0]);
        let range = (prefix_start(&prefix), prefix_end(&prefix));
        prop_assert_eq!(within(&row, &range), order.is_eq());
        if length > 0 {
            prop_assert_eq!(within(&row, &(Bound::Open, end_before(&prefix))), order.is_lt());
            prop_assert_eq!(within(&row, &(start_after(&prefix), Bound::Open)), order.is_gt());
        }
    }

    #[test]
    fn slices_have_what_is_between_their_limits(
        (columns, rows) in rows(3),
        limits in (any::<Option<bool>>(), any::<Option<bool>>()),
    ) {
        let last = columns.len() - 1;
        let (ty, _) = &columns[last];
        let row: Vec<_> = rows[0][..last].iter().chain([&rows[1][last]]).cloned().collect();
        let (low, high) = (rows[0][last].as_ref().unwrap(), rows[2][last].as_ref().unwrap());
        let low = limits.0.map(|inclusive| Limit { value: low, inclusive });
        let high = limits.1.map(|inclusive| Limit { value: high, inclusive });
        let range = slice(&columns, &borrowed(&rows[0][..last]), low, high).unwrap();
        let value = row[last].as_ref().unwrap();
        let above = low.is_none_or(|limit| {
            let order = ty.compare(value, limit.value);
            order.is_gt() || (limit.inclusive && order.is_eq())
        });
        let below = high.is_none_or(|limit| {
            let order = ty.compare(value, limit.value);
            order.is_lt() || (limit.inclusive && order.is_eq())
        });
        prop_assert_eq!(within(&key(&columns, &row), &range), above && below);
    }

    #[test]
    fn any_bytes_decode_without_panic(ty in key_type(), reversed in any::<bool>(), bytes in vec(any::<u8>(), 0..40)) {
        let _ = decode(&[(ty, reversed)], &ClusteringKey(Bytes::from(bytes)));
    }

    #[test]
    fn damaged_keys_decode_without_panic(
        (columns, rows) in rows(1),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = key(&columns, &rows[0]).0.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // Either it is refused, or what it says is made of values.
        if let Ok(values) = decode(&columns, &ClusteringKey(Bytes::from(bytes))) {
            for ((ty, _), value) in columns.iter().zip(values) {
                prop_assert!(value.is_none_or(|value| ty.check(&value).is_ok()));
            }
        }
    }
}
