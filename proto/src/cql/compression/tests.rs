//! Tests of `compression`: bodies that come back, and claims that are not believed.

use super::*;
use proptest::prelude::*;

fn compressed(by: Compression, body: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::from(&b"head"[..]);
    out.put_slice(body);
    let changed = compress_tail(by, &mut out, 4);
    assert_eq!(&out[..4], b"head");
    changed.then(|| out.freeze().slice(4..))
}

#[test]
fn a_size_comes_before_lz4_and_within_snappy() {
    let body = [b'x'; 1000];
    let lz4 = compressed(Compression::Lz4, &body).unwrap();
    assert_eq!(&lz4[..4], b"\0\0\x03\xe8");
    assert_eq!(&lz4[4..], lz4_flex::block::compress(&body));
    let snappy = compressed(Compression::Snappy, &body).unwrap();
    assert_eq!(&snappy[..2], b"\xe8\x07", "a varint of 1000");
}

#[test]
fn what_does_not_become_shorter_is_left_as_it_is() {
    for by in Compression::EVERY {
        assert_eq!(compressed(by, &[b'x'; BODY_BYTES_MIN - 1]), None);
        let noise: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_mul(167)).collect();
        assert_eq!(compressed(by, &noise), None);
    }
}

#[test]
fn an_empty_body_is_empty_whatever_its_flag_says() {
    for by in Compression::EVERY {
        assert_eq!(decompress_body(by, &Bytes::new(), 10), Ok(Bytes::new()));
    }
}

#[test]
fn a_claim_is_checked_before_memory_is_set_aside() {
    let four_gigabytes = Bytes::from_static(b"\xff\xff\xff\xff\0");
    let lz4 = |max| decompress_body(Compression::Lz4, &four_gigabytes, max);
    let claimed = 0xffff_ffff;
    assert_eq!(lz4(1000), Err(BadBlock::TooLong { claimed, max: 1000 }));
    assert!(matches!(lz4(usize::MAX), Err(BadBlock::Incredible { length: 1, .. })));
    let snappy = Bytes::from_static(b"\xff\xff\xff\xff\x0f\0");
    let snappy = decompress_body(Compression::Snappy, &snappy, usize::MAX);
    assert!(matches!(snappy, Err(BadBlock::Incredible { .. })), "{snappy:?}");
    let short = decompress_body(Compression::Lz4, &Bytes::from_static(b"\0\0\0"), 1000);
    assert_eq!(short, Err(BadBlock::NoSize { length: 3 }));
}

#[test]
fn a_size_that_is_not_reached_or_is_passed_is_refused() {
    for by in Compression::EVERY {
        let body = vec![b'x'; 1000];
        let block = compressed(by, &body).unwrap();
        let back = decompress_body(by, &block, 1000);
        assert_eq!(back.as_deref(), Ok(&body[..]));
        for wrong in [999, 1001] {
            let mut lie = block.to_vec();
            match by {
                Compression::Lz4 => lie[..4].copy_from_slice(&u32::to_be_bytes(wrong)),
                Compression::Snappy => lie[0] = if wrong == 999 { 0xe7 } else { 0xe9 },
            }
            let refused = decompress_body(by, &lie.into(), 2000);
            assert!(matches!(refused, Err(BadBlock::Broken { .. })), "{by} {wrong}: {refused:?}");
        }
    }
}

proptest! {
    #[test]
    fn bodies_come_back(body in prop::collection::vec(0_u8..3, 0..5000)) {
        for by in Compression::EVERY {
            if let Some(block) = compressed(by, &body) {
                prop_assert!(block.len() < body.len());
                let back = decompress_body(by, &block, body.len());
                prop_assert_eq!(back.as_deref(), Ok(&body[..]));
            }
        }
    }

    #[test]
    fn no_bytes_panic(block in prop::collection::vec(any::<u8>(), 0..300)) {
        let block = Bytes::from(block);
        for by in Compression::EVERY {
            let _: Result<_, _> = decompress_body(by, &block, 1 << 20);
        }
    }
}
