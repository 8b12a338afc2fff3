use super::*;
use proptest::prelude::*;

fn of(months: i32, days: i32, nanoseconds: i64) -> Duration {
    Duration { months, days, nanoseconds }
}

/// The specification's own example, and vints at the ends of their lengths.
#[test]
fn bytes_are_those_of_the_specification() {
    assert_eq!(of(1, 2, 3).to_bytes(), [2, 4, 6].as_slice());
    assert_eq!(of(0, -1, -64).to_bytes(), [0, 1, 0x7f].as_slice());
    assert_eq!(of(0, 0, 64).to_bytes(), [0, 0, 0x80, 0x80].as_slice());
    // 256000 -> 512000 by zigzag -> two bytes follow.
    assert_eq!(of(0, 0, 256_000).to_bytes(), [0, 0, 0xc7, 0xd0, 0x00].as_slice());
    let least = [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(of(0, 0, i64::MIN).to_bytes(), least.as_slice());
}

#[test]
fn wrong_bytes_are_refused() {
    assert!(matches!(Duration::from_bytes(&[]), Err(ValueError::Truncated { .. })));
    assert!(matches!(Duration::from_bytes(&[2, 4]), Err(ValueError::Truncated { .. })));
    assert!(matches!(Duration::from_bytes(&[2, 4, 6, 0]), Err(ValueError::Trailing { .. })));
    assert!(matches!(Duration::from_bytes(&[1, 4, 6]), Err(ValueError::DurationSigns { .. })));
    let months = [0xf8, 0xff, 0xff, 0xff, 0xfe, 0, 0];
    assert!(Duration::from_bytes(&months).is_err());
}

#[test]
fn all_three_syntaxes_are_read() {
    let day = 24 * 3600 * 1_000_000_000_i64;
    let hms = (5 * 3600 + 6 * 60 + 7) * 1_000_000_000_i64;
    let good = [
        ("1y2mo3w4d5h6m7s", of(14, 25, hms)),
        ("1Y2MO4D5H6M7S", of(14, 4, hms)),
        ("-1h", of(0, 0, -3_600_000_000_000)),
        ("8ms9us10ns", of(0, 0, 8_009_010)),
        ("9µs", of(0, 0, 9000)),
        ("24h", of(0, 0, day)),
        ("P1Y2M4DT5H6M7S", of(14, 4, hms)),
        ("PT5H6M7S", of(0, 0, hms)),
        ("P3W", of(0, 21, 0)),
        ("-P2M", of(-2, 0, 0)),
        ("P0001-02-04T05:06:07", of(14, 4, hms)),
        ("0s", of(0, 0, 0)),
    ];
    for (text, wanted) in good {
        assert_eq!(Duration::parse(text), Ok(wanted), "{text}");
    }
    let bad = [
        "",
        "-",
        "1",
        "h",
        "1x",
        "1d1y",
        "1h1h",
        "P1W2D",
        "P1D2Y",
        "P1H",
        "PT1Y",
        "P1-2-3T1:2:3",
        "P0001-02-03",
        "P0001-02-03T04:05:06Z",
        "99999999999999999999h",
        "9999999999y",
        "1h 2m",
    ];
    for text in bad {
        assert!(Duration::parse(text).is_err(), "{text}");
    }
}

#[test]
fn texts_have_no_zeros() {
    assert_eq!(of(14, 4, 3_600_000_000_001).to_string(), "1y2mo4d1h1ns");
    assert_eq!(of(-12, 0, -61_002_003_000).to_string(), "-1y1m1s2ms3us");
    assert_eq!(of(0, 0, 0).to_string(), "0s");
}

proptest! {
    #[test]
    fn durations_come_back(negative: bool, months in 0..i32::MAX, days in 0..i32::MAX, nanos in 0..i64::MAX, bits in 0..63_u32) {
        let sign = if negative { -1 } else { 1 };
        let duration = of(sign * (months >> (bits % 31)), sign * (days >> (bits % 31)), i64::from(sign) * (nanos >> bits));
        prop_assert_eq!(Duration::from_bytes(&duration.to_bytes()), Ok(duration));
        prop_assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
    }

    #[test]
    fn any_text_is_read_without_panic(text in "-?P?[0-9a-zT:µ-]{0,20}") {
        let _ = Duration::parse(&text);
    }
}
