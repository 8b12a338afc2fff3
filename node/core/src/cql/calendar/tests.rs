use super::*;
use proptest::prelude::*;

#[test]
fn timestamps_are_read_in_every_form() {
    let midnight = 1_296_691_200_000; // 2011-02-03T00:00Z
    let minute = midnight + (4 * 60 + 5) * 60_000;
    let good = [
        ("0", 0),
        ("-1", -1),
        ("2011-02-03", midnight),
        ("2011-2-3", midnight),
        ("2011-02-03Z", midnight),
        ("2011-02-03+0000", midnight),
        ("2011-02-03 GMT", midnight),
        ("2011-02-03 04:05", minute),
        ("2011-02-03T04:05", minute),
        ("2011-02-03 04:05Z", minute),
        ("2011-02-03 04:05 UTC", minute),
        ("2011-02-03 04:05+0000", minute),
        ("2011-02-03 04:05:00", minute),
        ("2011-02-03 04:05:06.678+0000", minute + 6678),
        ("2011-02-03T04:05:06.678Z", minute + 6678),
        ("2011-02-03T04:05:06.7Z", minute + 6007),
        ("2011-02-03 04:05+01", minute - 3_600_000),
        ("2011-02-03 04:05:00+01:30", minute - 5_400_000),
        ("2011-02-03 04:05-0130", minute + 5_400_000),
        ("2011-02-03 04:05 GMT+01:00", minute - 3_600_000),
        ("2011-02-03 04:05 gmt-1:30", minute + 5_400_000),
        ("2011-02-03 04:05:00 +0100", minute - 3_600_000),
        ("2011-02-03 +0000", midnight),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2012-02-29", 1_330_473_600_000),
    ];
    for (text, millis) in good {
        assert_eq!(parse_timestamp(text), Ok(millis), "{text}");
    }
    let bad = [
        "",
        "x",
        "now",
        "2011-02",
        "2011-02-30",
        "2011-13-01",
        "2011-02-03T",
        "2011-02-03 24:00",
        "2011-02-03 04:60",
        "2011-02-03 04:05:60",
        "2011-02-03 04:05:06.1000",
        "2011-02-03 04:05 PST",
        "2011-02-03 04:05+25",
        "2011-02-03 04:05+1",
        "2011-02-03 04:05:06,5",
        " 2011-02-03",
        "2011-02-03 ",
        "2011-02-03 Z",
        "2011-02-03 04:05UTC",
        "2011-02-03 04:05 +01",
        "2011-02-03 04:05+1:00",
        "2011-02-03 04:05 +01:00",
        "2011-02-03 04:05 GMT+01",
        "99999999999999999999",
        "999999999-01-01",
        "9999999999999999-01-01",
    ];
    for text in bad {
        assert!(parse_timestamp(text).is_err(), "{text}");
    }
}

#[test]
fn dates_are_read() {
    let epoch = 1 << 31;
    let good = [
        ("1970-01-01", epoch),
        ("1970-01-02", epoch + 1),
        ("1969-12-31", epoch - 1),
        ("2147483648", epoch),
        ("0", 0),
        ("-5877641-06-23", 0),
        ("+5881580-07-11", u32::MAX),
    ];
    for (text, days) in good {
        assert_eq!(parse_date(text), Ok(days), "{text}");
    }
    assert_eq!(format_date(-EPOCH_DATE), "-5877641-06-23");
    assert_eq!(format_date(EPOCH_DATE - 1), "+5881580-07-11");
    let bad = [
        "",
        "1970-1-1",
        "1970-02-29",
        "-1",
        "4294967296",
        "+5881580-07-12",
        "-5877641-06-22",
        "1970-01-01T00:00",
        "10000-01-01",
    ];
    for text in bad {
        assert!(parse_date(text).is_err(), "{text}");
    }
}

#[test]
fn times_are_read() {
    assert_eq!(parse_time("08:12:54.123456789"), Ok(29_574_123_456_789));
    assert_eq!(parse_time("08:12:54.1"), Ok(29_574_100_000_000));
    assert_eq!(parse_time("8:2:4"), Ok((8 * 3600 + 2 * 60 + 4) * 1_000_000_000));
    assert_eq!(parse_time("86399999999999"), Ok(NANOS_PER_DAY - 1));
    let bad = [
        "",
        "08:12",
        "24:00:00",
        "08:60:00",
        "08:12:60",
        "08:12:54.",
        "08:12:54.1234567890",
        "86400000000000",
        "-1",
        "08:12:+4",
    ];
    for text in bad {
        assert!(parse_time(text).is_err(), "{text}");
    }
}

#[test]
fn texts_are_cassandras() {
    assert_eq!(format_timestamp(1_296_705_900_678, ' '), "2011-02-03 04:05:00.678Z");
    assert_eq!(format_timestamp(-1, 'T'), "1969-12-31T23:59:59.999Z");
    assert_eq!(format_time(29_574_123_456_789), "08:12:54.123456789");
    assert_eq!(format_date(0), "1970-01-01");
}

#[test]
fn a_month_later_is_never_past_the_month() {
    let day = |text| i64::from(parse_date(text).unwrap()) - EPOCH_DATE;
    assert_eq!(add_months(day("2012-01-31"), 1), Some(day("2012-02-29")));
    assert_eq!(add_months(day("2012-02-29"), 12), Some(day("2013-02-28")));
    assert_eq!(add_months(day("2012-03-31"), -1), Some(day("2012-02-29")));
    assert_eq!(add_months(day("2012-01-15"), -1), Some(day("2011-12-15")));
}

proptest! {
    #[test]
    fn days_are_dates_and_back(days in any::<i32>()) {
        let (year, month, day) = civil_from_days(days.into());
        prop_assert_eq!(days_from_civil(year, month, day), Some(days.into()));
        let date = u32::try_from(i64::from(days) + EPOCH_DATE).unwrap();
        prop_assert_eq!(parse_date(&format_date(days.into())), Ok(date));
    }

    #[test]
    fn the_next_day_is_the_next_date(days in -1_000_000..1_000_000_i64) {
        prop_assert!(civil_from_days(days) < civil_from_days(days + 1));
    }

    #[test]
    fn timestamps_and_times_come_back(millis in 0..253_402_300_799_999_i64, nanos in 0..NANOS_PER_DAY) {
        prop_assert_eq!(parse_timestamp(&format_timestamp(millis, ' ')), Ok(millis));
        prop_assert_eq!(parse_timestamp(&format_timestamp(millis, 'T')), Ok(millis));
        prop_assert_eq!(parse_time(&format_time(nanos)), Ok(nanos));
    }

    #[test]
    fn any_text_is_read_without_panic(text in "[0-9TZ:. +GMT-]{0,30}", days in any::<i64>()) {
        let _ = (parse_timestamp(&text), parse_date(&text), parse_time(&text), add_months(days, days));
        let _ = (format_timestamp(days, ' '), format_date(days), format_time(days));
    }
}
