//! Numbers in as few bytes as they need: LEB128, in the shortest form only, so that equal numbers are equal bytes.

use bytes::BufMut;

/// Appends `n`: seven bits a byte, the lowest first.
pub fn put(out: &mut impl BufMut, mut n: u64) {
    loop {
        let [low, ..] = n.to_le_bytes();
        n >>= 7;
        if n == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

/// Takes a number off the front; `None`: there is none, or not in its shortest form, or it has more than 64 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits || (*byte == 0 && shift > 0) {
            return None;
        }
        n |= bits << shift;
        if *byte < 0x80 {
            return Some(n);
        }
    }
    None
}

/// Small numbers of either sign as small ones without: 0, -1, 1, -2, ...
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

/// What [`zigzag`] was given.
pub fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_only_in_their_shortest_form() {
        for n in [0, 1, 127, 128, 300, 1 << 35, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, n);
            let mut rest = out.as_slice();
            assert_eq!(take(&mut rest), Some(n));
            assert!(rest.is_empty());
            assert_eq!(take(&mut &out[..out.len() - 1]), None, "it ends early");
        }
        assert_eq!(take(&mut [0x80, 0].as_slice()), None, "longer than it needs to be");
        assert_eq!(take(&mut [0xff; 30].as_slice()), None, "more than 64 bits");
        let tenth = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(take(&mut tenth.as_slice()), None, "the 65th bit");
    }

    #[test]
    fn signs_come_back_and_small_stays_small() {
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
        for n in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(n)), n);
        }
    }
}
