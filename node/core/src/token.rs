//! Keys become tokens: Cassandra's Murmur3, quirk included.
//!
//! The token of a key is the first half (`h1`) of Murmur3 x64 128 with seed 0, read as a signed integer. Cassandra's
//! version differs from the reference in one place: the bytes of the tail (what is left after the last full block of
//! 16) are sign-extended before they are mixed in. Keys of plain ASCII never notice; a key that ends in a byte above
//! 0x7f does. Drivers route by the same function, so the quirk is part of the protocol.
//!
//! Invariants: the empty key, and no other, has [`Token::MIN`]; a hash of `i64::MIN` becomes [`Token::MAX`].
//!
//! Source: `org.apache.cassandra.utils.MurmurHash.hash3_x64_128` and `Murmur3Partitioner.getToken`.

use crate::types::Token;

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;
const BLOCK: usize = 16;

/// Where `key` lives on the ring.
pub fn of(key: &[u8]) -> Token {
    if key.is_empty() {
        return Token::MIN;
    }
    match murmur3_h1(key).cast_signed() {
        // `Token::MIN` sorts before every key, so no key but the empty one may have it.
        i64::MIN => Token::MAX,
        hash => Token(hash),
    }
}

fn murmur3_h1(data: &[u8]) -> u64 {
    let (blocks, tail) = data.as_chunks::<BLOCK>();
    let (mut h1, mut h2) = (0_u64, 0_u64);
    for block in blocks {
        let both = u128::from_le_bytes(*block);
        #[expect(clippy::cast_possible_truncation, reason = "the low and the high half")]
        let (k1, k2) = (both as u64, (both >> 64) as u64);
        h1 = (h1 ^ scramble_1(k1)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ scramble_2(k2)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    // Scrambling 0 gives 0, so an absent half of the tail changes nothing.
    let (low, high) = tail.split_at(tail.len().min(BLOCK / 2));
    h2 ^= scramble_2(sign_extended(high));
    h1 ^= scramble_1(sign_extended(low));

    let len = data.len() as u64;
    h1 ^= len;
    h2 ^= len;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    // The caller wants h1 only, which is mixed_h1 + mixed_h2; h2 would take one more addition.
    finish(h1).wrapping_add(finish(h2))
}

/// Up to eight bytes, little-endian, each widened *with its sign*: that is the quirk.
fn sign_extended(bytes: &[u8]) -> u64 {
    let widened = bytes.iter().map(|byte| i64::from(byte.cast_signed()).cast_unsigned());
    widened.zip((0..u64::BITS).step_by(8)).fold(0, |k, (byte, shift)| k ^ (byte << shift))
}

fn scramble_1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn scramble_2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut k: u64) -> u64 {
    k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, token: a running Cassandra 4.1's `token()` and the DataStax Python driver's own tests.
    #[test]
    fn tokens_equal_cassandras() {
        let vectors: [(&[u8], i64); 11] = [
            (b"a", -8839064797231613815),
            (&[0, 0, 0, 1], -4069959284402364209),
            (&[0x80; 16], -3634615257541804556),
            (&[0xff], -4442228696663692417),
            (&[0xff; 4], 7297452126230313552),
            (&[0xc3, 0xa9], 5461403030378599040),
            (&[0x80; 17], -7492040465024918340),
            (b"123", -7468325962851647638),
            (&[0xfe; 8], -8927430733708461935),
            (&[0x10; 8], 1446172840243228796),
            (b"9223372036854775807", 7162290910810015547),
        ];
        for (key, token) in vectors {
            assert_eq!(of(key), Token(token), "key {key:02x?}");
        }
    }

    #[test]
    fn a_long_key_with_high_bytes_in_its_tail_equals_the_drivers() {
        assert_eq!(of(&[0x00, 0xff, 0x10, 0xfa, 0x99].repeat(10)), Token(5837342703291459765));
    }

    /// The values that the reference implementation gives where the tail has high bytes: we must differ there.
    #[test]
    fn the_tail_is_sign_extended_unlike_the_reference() {
        let reference: [(&[u8], i64); 4] = [
            (&[0xff], 5177511712917721324),
            (&[0xff; 4], 4889297221962843713),
            (&[0xc3, 0xa9], -3956277427552623640),
            (&[0x80; 17], 3725244684645580658),
        ];
        for (key, token) in reference {
            assert_ne!(of(key), Token(token), "key {key:02x?}");
        }
    }

    #[test]
    fn only_the_empty_key_is_at_the_very_start() {
        assert_eq!(of(b""), Token::MIN);
        for byte in 0..=u8::MAX {
            assert!(of(&[byte]) > Token::MIN);
        }
    }
}
