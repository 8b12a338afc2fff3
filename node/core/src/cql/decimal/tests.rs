use super::*;
use crate::cql::value::arbitrary::decimal;
use proptest::prelude::*;

/// The specification's examples for varint (§6.23).
#[test]
fn varints_have_no_superfluous_bytes() {
    let vectors: [(i32, &[u8]); 7] = [
        (0, &[0x00]),
        (1, &[0x01]),
        (127, &[0x7f]),
        (128, &[0x00, 0x80]),
        (-1, &[0xff]),
        (-128, &[0x80]),
        (-129, &[0xff, 0x7f]),
    ];
    for (n, bytes) in vectors {
        assert_eq!(BigInt::from(n).to_signed_bytes_be(), bytes, "{n}");
    }
    assert_eq!(trim_sign(&[0, 0, 0x80]), [0, 0x80]);
    assert_eq!(trim_sign(&[0xff, 0xff, 0x7f]), [0xff, 0x7f]);
    assert_eq!(trim_sign(&[0xff, 0xff]), [0xff]);
    assert!(trim_sign(&[0, 0]).is_empty());
}

#[test]
fn texts_are_javas() {
    let vectors = [
        ("12.50", 1250, 2, "12.50"),
        ("-0.001", -1, 3, "-0.001"),
        ("0.000001", 1, 6, "0.000001"),
        ("0.0000001", 1, 7, "1E-7"),
        ("123e-10", 123, 10, "1.23E-8"),
        ("1e3", 1, -3, "1E+3"),
        ("12E3", 12, -3, "1.2E+4"),
        ("+5", 5, 0, "5"),
        (".5", 5, 1, "0.5"),
        ("5.", 5, 0, "5"),
        ("0.00", 0, 2, "0.00"),
        ("1.5e+1", 15, 0, "15"),
    ];
    for (text, unscaled, scale, shown) in vectors {
        let decimal = Decimal { unscaled: BigInt::from(unscaled), scale };
        assert_eq!(Decimal::parse(text), Ok(decimal.clone()), "{text}");
        assert_eq!(decimal.to_string(), shown);
    }
    for text in [
        "",
        ".",
        "-",
        "1e",
        "e1",
        "1.-5",
        "1..2",
        "1_0",
        "0x1",
        "1e99999999999",
        "NaN",
        " 1",
        "1e-2147483648",
    ] {
        assert!(Decimal::parse(text).is_err(), "{text}");
    }
    assert!(Decimal::parse(&"1".repeat(DIGITS_MAX + 1)).is_err());
}

/// Scales at both ends: nothing here may take 2^31 digits.
#[test]
fn scales_at_both_ends_cost_nothing() {
    let of = |n: i32, scale| Decimal { unscaled: BigInt::from(n), scale };
    assert_eq!(of(1, i32::MIN).compare(&of(1, i32::MAX)), Ordering::Greater);
    assert_eq!(of(-1, i32::MIN).compare(&of(-1, i32::MAX)), Ordering::Less);
    assert_eq!(of(10, i32::MIN + 1).compare(&of(1, i32::MIN)), Ordering::Equal);
    assert_eq!(of(1, i32::MIN).to_string(), "1E+2147483648");
    let large = Scientific { negative: false, exponent: i64::MAX, digits: vec![1] };
    assert_eq!(Decimal::from_scientific(large), None);
}

proptest! {
    #[test]
    fn decimals_come_back(n in decimal()) {
        prop_assert_eq!(Decimal::from_bytes(&n.to_bytes()), Some(n.clone()));
        let stripped = n.stripped();
        prop_assert_eq!(stripped.compare(&n), Ordering::Equal);
        if n.scale > i32::MIN + 100 {
            prop_assert_eq!(Decimal::parse(&n.to_string()), Ok(n));
        }
    }

    #[test]
    fn varints_compare_as_numbers_do(a in any::<i128>(), b in any::<i64>(), shift in 0..127_u32) {
        let (a, b) = (a >> shift, i128::from(b));
        prop_assert_eq!(compare_varints(&a.to_be_bytes(), &b.to_be_bytes()), a.cmp(&b));
    }
}
