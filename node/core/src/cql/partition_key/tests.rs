use super::*;
use crate::token;
use crate::types::Token;
use proptest::prelude::*;

#[test]
fn one_column_is_its_bytes_and_several_are_a_composite() {
    assert_eq!(encode(&[b"ab"]), Ok(Key(Bytes::from_static(b"ab"))));
    let composite = encode(&[&b"ab"[..], b"", b"c"]).unwrap();
    assert_eq!(composite.0, &b"\0\x02ab\0\0\0\0\0\x01c\0"[..]);
    // Drivers hash these very bytes for `token('a', 1)`.
    let key = encode(&[&b"a"[..], &[0, 0, 0, 1]]).unwrap();
    assert_eq!(token::of(&key.0), token::of(b"\0\x01a\0\0\x04\0\0\0\x01\0"));
    assert_ne!(token::of(&key.0), Token::MIN);
}

#[test]
fn what_is_no_key_is_refused() {
    assert_eq!(encode(&[b""]), Err(PartitionKeyError::Empty));
    assert_eq!(encode::<&[u8]>(&[]), Err(PartitionKeyError::Empty));
    let long = vec![0; BYTES_MAX + 1];
    assert_eq!(encode(&[&long]), Err(PartitionKeyError::TooLong { found: 65_536 }));
    assert_eq!(encode(&[&long, &long]), Err(PartitionKeyError::TooLong { found: 65_536 }));
    let key = |bytes: &'static [u8]| Key(Bytes::from_static(bytes));
    let corrupt = |column| Err(PartitionKeyError::Corrupt { column, columns: 2 });
    assert_eq!(decode(&key(b"\0\x01a"), 2), corrupt(0));
    assert_eq!(decode(&key(b"\0\x01a\x01"), 2), corrupt(0));
    assert_eq!(decode(&key(b"\0\x01a\0"), 2), corrupt(1));
    assert_eq!(decode(&key(b"\0\x01a\0\0\0\0x"), 2), corrupt(2));
}

proptest! {
    #[test]
    fn values_come_back(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..6), 1..4)) {
        let key = encode(&values).unwrap();
        prop_assert_eq!(decode(&key, values.len()).unwrap(), values);
    }

    #[test]
    fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20), columns in 0..5_usize) {
        let _ = decode(&Key(Bytes::from(bytes)), columns);
    }
}
