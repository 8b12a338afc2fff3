//! Blocks of every form give back what was put in.

use super::*;
use helenus_core::{Expiry, GcSeconds};

fn name(i: u32) -> Vec<u8> {
    format!("name-{i:08}").into_bytes()
}

/// Entries in order: of tokens that are their keys' Murmur3, or of tokens that three keys share.
fn entries(n: u32, hashed: bool) -> Vec<(Token, Vec<u8>)> {
    let token = |i: u32| if hashed { token::of(&name(i)) } else { Token(i64::from(i / 3) * 10) };
    let mut all: Vec<_> = (0..n).map(|i| (token(i), name(i))).collect();
    all.sort();
    all
}

fn filled(n: u32, hashed: bool, compress: bool) -> Bytes {
    let mut builder = Builder::default();
    // What an earlier block left behind does not matter.
    builder.add(Token(1), b"before", b"x");
    builder.seal(compress, &mut Vec::new());
    for (token, key) in entries(n, hashed) {
        builder.add(token, &key, &[7; 300]);
    }
    let mut out = Vec::new();
    builder.seal(compress, &mut out);
    out.into()
}

#[test]
fn every_entry_is_found_and_nothing_else() {
    for (hashed, compress) in [(false, false), (false, true), (true, false), (true, true)] {
        for n in [1, 15, 16, 17, 33, 100] {
            let block = Block::open(&filled(n, hashed, compress)).unwrap();
            for (token, key) in entries(n, hashed) {
                let value = block.get(token, &key).unwrap();
                assert_eq!(value, [7; 300][..]);
                assert_eq!(block.get(token, b"other"), None);
                if !hashed {
                    assert_eq!(block.get(Token(token.0 + 1), &key), None);
                    assert_eq!(block.get(Token(token.0 - 1), &key), None);
                }
            }
        }
    }
}

#[test]
fn a_walk_gives_every_entry_in_order_from_anywhere() {
    for hashed in [false, true] {
        let all = entries(100, hashed);
        let block = Block::open(&filled(100, hashed, true)).unwrap();
        let mut walk = Walk::new(block.clone());
        for (token, key) in &all {
            assert!(walk.advance().unwrap());
            assert_eq!(walk.place(), (*token, key.as_slice()));
            assert_eq!(walk.value(), [7; 300]);
        }
        assert_eq!(walk.advance(), Ok(false));
        for (i, (token, key)) in all.iter().enumerate() {
            let mut walk = Walk::new(block.clone());
            assert!(walk.seek(*token, key).unwrap());
            assert_eq!(walk.place(), (*token, key.as_slice()));
            // Just behind it stands the next one.
            let behind = [key.as_slice(), b"!"].concat();
            let mut walk = Walk::new(block.clone());
            assert_eq!(walk.seek(*token, &behind).unwrap(), i + 1 < all.len());
            if let Some((token, key)) = all.get(i + 1) {
                assert_eq!(walk.place(), (*token, key.as_slice()));
            }
        }
    }
}

#[test]
fn packing_shared_beginnings_and_known_tokens_make_it_smaller() {
    assert!(filled(100, true, true).len() < filled(100, true, false).len() / 4);
    // The same entries, but for one token that is not its key's.
    let stored = |last: i64| {
        let mut builder = Builder::default();
        let all = entries(100, true);
        all.iter().for_each(|(token, key)| builder.add(*token, key, b""));
        builder.add(Token(last), b"last", b"");
        let mut out = Vec::new();
        builder.seal(false, &mut out);
        out.len()
    };
    assert_eq!(stored(i64::MAX) - stored(token::of(b"last").0), 101 * 8);
    let mut builder = Builder::default();
    for i in 0..16 {
        builder.add(Token(i64::from(i)), &name(i), b"");
    }
    // One whole key, and one to two bytes of every other.
    assert!(builder.len() < 13 + 16 * (3 + 2), "{}", builder.len());
}

/// Encodings of partitions, as `is_put` says each is.
fn encodings(is_put: &[bool]) -> Vec<(Token, Vec<u8>, Bytes)> {
    let places = entries(u32::try_from(is_put.len()).unwrap(), true);
    let encoding = |(i, is_put): (usize, &bool)| {
        // Times go forth and back, as far as they can.
        let time = match i % 5 {
            0 => i64::MAX - 1,
            1 => i64::MIN + 1,
            n => 1_800_000_000_000_000 - n as i64 * 1000,
        };
        let expiry = Expiry { ttl_s: 7, expires_at: GcSeconds(9) };
        let expiry = if *is_put { None } else { Some(expiry) };
        codec::encode_put(TimestampMicros(time), &vec![7; i], expiry)
    };
    let encodings = is_put.iter().enumerate().map(encoding);
    places.into_iter().zip(encodings).map(|((token, key), encoded)| (token, key, encoded)).collect()
}

#[test]
fn puts_come_back_whole_alone_and_among_others() {
    let mut forms = vec![vec![true; 50], vec![false; 50]];
    // The one that is no put comes at every place.
    forms.extend((0..50).map(|at| (0..50).map(|i| i != at).collect()));
    let mut builder = Builder::default();
    for (form, compress) in forms.iter().flat_map(|form| [(form, false), (form, true)]) {
        let all = encodings(form);
        all.iter().for_each(|(token, key, encoded)| builder.add(*token, key, encoded));
        let mut stored = Vec::new();
        builder.seal(compress, &mut stored);
        assert_eq!(stored[0] & PUTS != 0, form.iter().all(|is_put| *is_put));
        let block = Block::open(&stored.into()).unwrap();
        let mut walk = Walk::new(block.clone());
        for (token, key, encoded) in &all {
            assert_eq!(block.get(*token, key).as_ref(), Some(encoded));
            assert!(walk.advance().unwrap());
            assert_eq!((walk.value(), walk.share_value()), (encoded.as_ref(), encoded.clone()));
            let mut found = Walk::new(block.clone());
            assert!(found.seek(*token, key).unwrap());
            assert_eq!(found.value(), encoded);
        }
    }
}

#[test]
fn a_put_takes_its_value_and_a_few_bytes() {
    let mut builder = Builder::default();
    for i in 0..16 {
        let encoded = codec::encode_put(TimestampMicros(1_800_000_000_000_000 + i), &[7; 50], None);
        builder.add(Token(i), &i.to_be_bytes(), &encoded);
    }
    assert!(builder.len() <= 8 + 16 * (3 + 1 + 1 + 50), "{}", builder.len());
}

#[test]
fn every_flipped_bit_is_noticed() {
    for compress in [false, true] {
        let stored = filled(20, true, compress);
        for at in 0..stored.len() {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 0x10;
            assert!(Block::open(&damaged.into()).is_err(), "byte {at}");
        }
        for len in 0..stored.len() {
            assert!(Block::open(&stored.slice(..len)).is_err());
        }
    }
}

#[test]
fn bytes_that_make_no_sense_are_an_error_not_a_panic() {
    let stored = filled(40, false, false);
    let raw = stored.slice(BLOCK_HEADER_BYTES..);
    for at in 0..raw.len() {
        for value in [0, 0x7F, 0xFF] {
            let mut damaged = raw.to_vec();
            damaged[at] = value;
            let kind = [0, HASHED, PUTS, PUTS | HASHED][at % 4];
            let Some(block) = Block::of(damaged.into(), kind) else { continue };
            let _whatever = block.get(Token(50), &name(16));
            let mut walk = Walk::new(block);
            let _whatever = walk.seek(Token(50), &name(16));
            while walk.advance() == Ok(true) {}
        }
    }
}
