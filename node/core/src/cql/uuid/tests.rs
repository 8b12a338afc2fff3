use super::*;
use proptest::prelude::*;

#[test]
fn the_time_is_where_rfc_4122_has_it() {
    // The namespace for DNS of RFC 4122, appendix C: made at 1998-02-04T22:13:53.1511824Z.
    let dns = 0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8_u128.to_be_bytes();
    assert_eq!(version(dns), 1);
    assert_eq!(unix_100ns(dns), Some(8_866_304_331_511_824));
    let made = from_time(8_866_304_331_511_824, 0x00b4, [0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8]);
    assert_eq!(made, Some(dns));
    assert_eq!(format(dns), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    assert_eq!(unix_millis(0_u128.to_be_bytes()), None, "no version 1");
}

/// Cassandra's documentation of `minTimeuuid` and `maxTimeuuid` needs them to be around all of their millisecond.
#[test]
fn least_and_greatest_are_around_their_millisecond() {
    for millis in [0, 1, -1, 1_296_705_900_678] {
        let (least, greatest) = (min_of(millis).unwrap(), max_of(millis).unwrap());
        assert_eq!((unix_millis(least), unix_millis(greatest)), (Some(millis), Some(millis)));
        assert!(time_key(max_of(millis - 1).unwrap()) < time_key(least));
        for (time, seq, node) in [(0, 0, [0x80; 6]), (9_999, 0x3fff, [0x7f; 6]), (5, 1, [0; 6])] {
            let between = time_key(from_time(millis * 10_000 + time, seq, node).unwrap());
            assert!(time_key(least) <= between && between <= time_key(greatest));
        }
    }
    let zero = 0x1381_4000_1dd2_11b2_8080_8080_8080_8080_u128;
    assert_eq!(min_of(0), Some(zero.to_be_bytes()), "as a running Cassandra has it");
    assert_eq!(min_of(i64::MAX), None);
    assert_eq!(from_time(i64::MIN, 0, [0; 6]), None);
}

proptest! {
    #[test]
    fn times_come_back(time in -122_192_928_000_000_000_i64..1_030_728_576_606_846_975, seq: u16, node: [u8; 6]) {
        let uuid = from_time(time, seq, node).unwrap();
        prop_assert_eq!((version(uuid), unix_100ns(uuid)), (1, Some(time)));
        prop_assert_eq!(uuid[8] >> 6, 2, "RFC 4122's variant");
    }

    #[test]
    fn keys_come_back(uuid: [u8; 16]) {
        prop_assert_eq!(of_key(key(uuid)), uuid);
        let mut uuid = uuid;
        uuid[6] = 0x10 | (uuid[6] & 0xf);
        prop_assert_eq!(of_time_key(time_key(uuid)), uuid);
    }
}
