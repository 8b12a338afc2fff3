use super::*;
use crate::data::{Cell, ClusteringKey, ColumnId, Complex, Content, Deletion, Expiry, Row};
use crate::merge::arbitrary as any;
use crate::merge::normalise;
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_encoded_is_decoded(partition in any::partition()) {
        prop_assert_eq!(decode(encode(&partition)), Ok(partition));
    }

    #[test]
    fn equal_encodings_are_equal_partitions(a in any::partition(), b in any::partition()) {
        prop_assert_eq!(encode(&a) == encode(&b), a == b);
        prop_assert_eq!(digest(&a) == digest(&b), a == b);
    }

    #[test]
    fn extreme_numbers_survive(time: i64, ttl_s in 1..u32::MAX, second: u32, value: Vec<u8>) {
        let expiry = Some(Expiry { ttl_s, expires_at: GcSeconds(second) });
        let mut partition =
            crate::data::Partition::put(TimestampMicros(time), Bytes::from(value), expiry);
        prop_assert_eq!(decode(encode(&partition)), Ok(partition.clone()));
        partition.rows[0].1.cells[0].1.timestamp = TimestampMicros(time.wrapping_mul(31));
        partition.deletion = Some(crate::data::Deletion {
            timestamp: TimestampMicros(i64::MIN),
            deleted_at: GcSeconds(!second),
        });
        normalise(&mut partition);
        prop_assert_eq!(decode(encode(&partition)), Ok(partition));
    }

    #[test]
    fn what_is_rough_when_it_comes_is_normal_when_it_is_read(rough in any::rough_partition()) {
        // A row that says nothing is the one thing an encoder cannot say.
        let mut rough = rough;
        rough.rows.retain(|(_, row)| !crate::merge::is_row_empty(row));
        rough.static_row = rough.static_row.filter(|row| !crate::merge::is_row_empty(row));
        let read = decode(encode(&rough));
        normalise(&mut rough);
        prop_assert_eq!(read, Ok(rough));
    }

    #[test]
    fn a_peek_says_what_decoding_says(
        time: i64,
        ttl_s in 1..u32::MAX,
        second: u32,
        expires: bool,
        value: Vec<u8>,
        damage in prop::collection::vec((proptest::prelude::any::<prop::sample::Index>(), 0..=255_u8), 0..3),
        cut in 0..3_usize,
    ) {
        let expiry = expires.then_some(Expiry { ttl_s, expires_at: GcSeconds(second) });
        let mut bytes = encode_put(TimestampMicros(time), &value, expiry).to_vec();
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let is_put = bytes.get(1).is_some_and(|flags| flags & 1 != 0);
        let decoded = decode(Bytes::from(bytes.clone())).ok().filter(|_| is_put);
        let peeked = peek_put(&bytes).map(|put| {
            let value = Bytes::copy_from_slice(put.value);
            crate::data::Partition::put(put.timestamp, value, put.expiry)
        });
        prop_assert_eq!(peeked, decoded);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_but_never_panic(
        partition in any::partition(),
        damage in prop::collection::vec((proptest::prelude::any::<prop::sample::Index>(), 0..=255_u8), 1..4),
        cut in proptest::prelude::any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&partition).to_vec();
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Ok(read) = decode(Bytes::from(bytes.clone())) {
            let mut normal = read.clone();
            normalise(&mut normal);
            prop_assert_eq!(&normal, &read);
            prop_assert_eq!(decode(encode(&read)), Ok(read));
        }
        bytes.truncate(cut.index(bytes.len()));
        drop(decode(Bytes::from(bytes)));
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(0..=255_u8, 0..64)) {
        drop(decode(Bytes::from(noise.clone())));
        drop(decode(Bytes::from([vec![VERSION], noise].concat())));
    }
}

#[test]
fn every_prefix_of_an_encoding_is_truncated() {
    let put = Partition::put(TimestampMicros(1_700_000_000_000_000), Bytes::from("value"), None);
    let mut other = Partition::delete(TimestampMicros(3), GcSeconds(7));
    crate::merge::merge(&mut other, put.clone());
    for partition in [put, other, whole_set()] {
        let bytes = encode(&partition);
        for len in 0..bytes.len() {
            let error = decode(bytes.slice(..len)).unwrap_err();
            assert!(matches!(error, CodecError::Truncated { .. }), "{len}: {error}");
        }
    }
}

#[test]
fn a_put_of_100_bytes_costs_11_more() {
    let now = TimestampMicros(1_790_000_000_000_000);
    let put = Partition::put(now, Bytes::from(vec![7; 100]), None);
    assert_eq!(encode(&put).len(), 111);
    let delete = Partition::delete(now, GcSeconds(1_790_000_000));
    assert_eq!(encode(&delete).len(), 15);
}

#[test]
fn a_put_is_encoded_alike_with_and_without_a_partition() {
    for expiry in [None, Some(Expiry { ttl_s: 60, expires_at: GcSeconds(1_790_000_060) })] {
        let value = Bytes::from("value");
        let timestamp = TimestampMicros(-5);
        let put = Partition::put(timestamp, value.clone(), expiry);
        assert_eq!(encode_put(timestamp, &value, expiry), encode(&put));
    }
}

#[test]
fn values_are_slices_of_the_input() {
    let put = Partition::put(TimestampMicros(1), Bytes::from(vec![7; 100]), None);
    let bytes = encode(&put);
    let read = decode(bytes.clone()).unwrap();
    let (value, _) = crate::merge::live_value(&read, GcSeconds(0)).unwrap();
    assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let error = decode(Bytes::from_static(&[9, 1, 2])).unwrap_err();
    assert_eq!(error, CodecError::UnknownVersion { version: 9 });
    assert!(error.to_string().contains("format 9"));
}

#[test]
fn a_count_is_only_a_claim() {
    // 2^60 rows in a few bytes: refused before room is made for them.
    let bytes = [VERSION, flag::ROWS, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 1];
    let error = decode(Bytes::copy_from_slice(&bytes)).unwrap_err();
    assert!(matches!(error, CodecError::Truncated { .. }), "{error}");
}

/// A row whose column 3 is a set, written as a whole: {"tea"}.
fn whole_set() -> Partition {
    let deletion = Some(Deletion { timestamp: TimestampMicros(6), deleted_at: GcSeconds(9) });
    let content = Content::Value { value: Bytes::new(), expiry: None };
    let element = Cell { timestamp: TimestampMicros(7), content };
    let complex = Complex { deletion, elements: vec![(Bytes::from_static(b"tea"), element)] };
    let row = Row { complex: vec![(ColumnId(3), complex)], ..Row::default() };
    Partition { rows: vec![(ClusteringKey::default(), row)], ..Partition::default() }
}

#[test]
fn elements_have_these_bytes() {
    // Stored, and compared between nodes of different builds: if this changes, so must the version byte.
    let partition = [VERSION, flag::ROWS, 1, 0];
    let column = [row_flag::COMPLEX, 1, 3, complex_flag::DELETION | complex_flag::ELEMENTS];
    let element = [1, kind::VALUE, 3, b't', b'e', b'a', 2, 0];
    let expected = [&partition[..], &column, &[12, 18], &element].concat();
    assert_eq!(encode(&whole_set()), expected);
    assert_eq!(decode(Bytes::from(expected)), Ok(whole_set()));
}

#[test]
fn a_complex_column_that_says_nothing_is_refused() {
    let start = [VERSION, flag::ROWS, 1, 0, row_flag::COMPLEX, 1, 3];
    for (flags, rest) in [(0, &[0, 0][..]), (4, &[0, 0]), (complex_flag::ELEMENTS, &[0, 0])] {
        let bytes = [&start[..], &[flags], rest].concat();
        let error = decode(Bytes::from(bytes)).unwrap_err();
        assert!(matches!(error, CodecError::Invalid { .. }), "{flags}: {error}");
    }
}

#[test]
fn a_digest_is_stable_across_builds() {
    // It is compared between nodes of different builds: if this changes, so must the version byte.
    let put = Partition::put(TimestampMicros(1), Bytes::from("value"), None);
    let hex: String = digest(&put).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "5e7f71c87889d4e5d6a1d9cec9dd8dd4");
    assert_eq!(digest(&put), digest_encoded(&encode(&put)));
}
