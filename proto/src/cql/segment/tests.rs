//! Tests of `segment`: bytes as another implementation computed them, and damage anywhere.

use super::*;
use proptest::prelude::*;

/// OPTIONS of v5 on stream 1.
const OPTIONS: &[u8] = b"\x05\0\0\x01\x05\0\0\0\0";

const FORMATS: [SegmentFormat; 2] = [SegmentFormat::Plain, SegmentFormat::Lz4];

fn encoded(format: SegmentFormat, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    format.encode(payload, &mut out);
    out
}

#[test]
fn a_segment_is_written_byte_for_byte() {
    // Checksums by a script that shares nothing with this code.
    let plain = [b"\x09\x00\x02\xa4\xc8\xc1", OPTIONS, b"\xb5\x55\x74\x86"].concat();
    assert_eq!(encoded(SegmentFormat::Plain, OPTIONS), plain);
    // Too short to compress: the length is 0, and the payload as it is.
    let lz4 = [b"\x09\x00\x00\x00\x04\xc2\xb8\x95", OPTIONS, b"\xb5\x55\x74\x86"].concat();
    assert_eq!(encoded(SegmentFormat::Lz4, OPTIONS), lz4);
    for (format, bytes) in [(SegmentFormat::Plain, plain), (SegmentFormat::Lz4, lz4)] {
        let mut input = BytesMut::from(&bytes[..]);
        let segment = format.decode(&mut input).unwrap().unwrap();
        assert_eq!(segment, Segment { self_contained: true, payload: BytesMut::from(OPTIONS) });
        assert!(input.is_empty());
    }
}

#[test]
fn a_segment_that_has_not_come_wholly_is_waited_for() {
    for format in FORMATS {
        let bytes = encoded(format, &[7; 500]);
        for end in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..end]);
            assert_eq!(format.decode(&mut input), Ok(None), "{format:?} cut at {end}");
            assert_eq!(input.len(), end, "and nothing of it is taken");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_found() {
    for format in FORMATS {
        let payload: Vec<u8> = (0..60).collect();
        let bytes = encoded(format, &payload);
        for bit in 0..bytes.len() * 8 {
            let mut input = bytes.clone();
            input[bit / 8] ^= 1 << (bit % 8);
            let fault = format.decode(&mut input).expect_err("a bit was flipped");
            assert!(matches!(
                fault,
                SegmentFault::HeaderChecksum { .. } | SegmentFault::PayloadChecksum { .. }
            ));
        }
    }
}

#[test]
fn a_payload_that_just_fits_is_one_segment_and_a_byte_more_is_two_parts() {
    for format in FORMATS {
        let mut one = encoded(format, &vec![1; PAYLOAD_BYTES_MAX]);
        let segment = format.decode(&mut one).unwrap().unwrap();
        assert!(segment.self_contained && one.is_empty());
        assert_eq!(segment.payload.len(), PAYLOAD_BYTES_MAX);
        let mut two = encoded(format, &vec![1; PAYLOAD_BYTES_MAX + 1]);
        for length in [PAYLOAD_BYTES_MAX, 1] {
            let part = format.decode(&mut two).unwrap().unwrap();
            assert_eq!((part.self_contained, part.payload.len()), (false, length));
        }
        assert!(two.is_empty());
    }
    assert!(encoded(SegmentFormat::Plain, b"").is_empty());
}

#[test]
fn a_length_that_lz4_cannot_reach_is_refused() {
    // A header that is right but for what it promises: one byte to become 131,071.
    let header = 1 | (LENGTH_MASK << LENGTH_BITS) | (1 << (2 * LENGTH_BITS));
    let mut input = BytesMut::new();
    input.put_uint_le(header, 5);
    input.put_uint_le(u64::from(crc24_of(header, 5)), 3);
    input.put_u8(0);
    input.put_u32_le(crc32_of(&[0]));
    let fault = SegmentFormat::Lz4.decode(&mut input).unwrap_err();
    assert!(
        matches!(fault, SegmentFault::Payload(compression::BadBlock::Incredible { .. })),
        "{fault}"
    );
}

proptest! {
    #[test]
    fn payloads_come_back(
        payloads in prop::collection::vec(prop::collection::vec(0_u8..4, 1..2000), 1..5),
        lz4: bool,
    ) {
        let format = FORMATS[usize::from(lz4)];
        let mut socket = BytesMut::new();
        payloads.iter().for_each(|payload| format.encode(payload, &mut socket));
        for payload in &payloads {
            let segment = format.decode(&mut socket).unwrap().unwrap();
            prop_assert_eq!(&segment.payload[..], &payload[..]);
        }
        prop_assert!(socket.is_empty());
    }
}
