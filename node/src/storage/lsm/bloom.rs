//! Which SSTables cannot hold a token: a blocked bloom filter.
//!
//! All bits of one token lie in one 64-byte line, so a look-up costs one cache miss. A partition's token is a 64-bit
//! Murmur3 hash already; it is mixed once more, because an SSTable holds a slice of the ring and the top bits alone would
//! pick the block. (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007.)
//!
//! It is ours because its bits are on disk: a library that changed how it spreads them would turn every old filter into
//! one that denies what is there, and reads would lose data without an error.

use helenus_core::Token;

const BLOCK_BYTES: usize = 64;
const PROBES_MAX: u32 = 16;
/// Blocks fill unevenly, which costs accuracy; this much more space buys it back (measured at 1 %).
const BLOCKED_EXTRA: f64 = 1.18;

/// A set of tokens with false positives and without false negatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bloom {
    /// Whole blocks. Empty: everything may be there.
    bits: Vec<u8>,
    probes: u32,
}

impl Bloom {
    /// For `tokens` tokens and a false-positive chance of `ppm` in a million; a million and above: no filter.
    pub(super) fn new(tokens: u64, ppm: u32) -> Bloom {
        if ppm >= 1_000_000 {
            return Bloom { bits: Vec::new(), probes: 0 };
        }
        let chance = f64::from(ppm.max(1)) / 1e6;
        let bits_per_token = -chance.ln() / (std::f64::consts::LN_2 * std::f64::consts::LN_2);
        let bits = tokens.max(1) as f64 * bits_per_token * BLOCKED_EXTRA;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and small"
        )]
        let (blocks, probes) = (
            (bits / (BLOCK_BYTES as f64 * 8.0)).ceil() as usize,
            (bits_per_token * std::f64::consts::LN_2).round() as u32,
        );
        Bloom { bits: vec![0; blocks.max(1) * BLOCK_BYTES], probes: probes.clamp(1, PROBES_MAX) }
    }

    /// Puts a token in.
    pub(super) fn insert(&mut self, token: Token) {
        let Some((block, mut hash, step)) = self.place(token) else { return };
        let probes = self.probes;
        let Some(block) = self.bits.get_mut(block..block + BLOCK_BYTES) else { return };
        for _ in 0..probes {
            let bit = (hash >> 23) as usize;
            if let Some(byte) = block.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
            hash = hash.wrapping_add(step);
        }
    }

    /// Whether it may be in. `false` is certain.
    pub(super) fn may_contain(&self, token: Token) -> bool {
        let Some((block, mut hash, step)) = self.place(token) else { return true };
        let Some(block) = self.bits.get(block..block + BLOCK_BYTES) else { return true };
        // All of them, though the first often says no: what a processor cannot guess it waits for, and a reader asks several
        // filters, whose cache lines may come at the same time.
        (0..self.probes).fold(true, |all, _| {
            let bit = (hash >> 23) as usize;
            hash = hash.wrapping_add(step);
            all & block.get(bit / 8).is_none_or(|byte| byte & (1 << (bit % 8)) != 0)
        })
    }

    /// As stored: the number of probes, then the bits.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.bits.len());
        out.extend_from_slice(&self.probes.to_le_bytes());
        out.extend_from_slice(&self.bits);
        out
    }

    /// `None`: not what `encode` wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Bloom> {
        let (probes, bits) = bytes.split_first_chunk::<4>()?;
        let probes = u32::from_le_bytes(*probes);
        let valid = probes <= PROBES_MAX && bits.len() % BLOCK_BYTES == 0;
        valid.then(|| Bloom { bits: bits.to_vec(), probes })
    }

    /// The token's block (its first byte), its first bit (top nine bits of 32) and the step to the next.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "halves of a 64-bit hash; the block is below their number"
    )]
    fn place(&self, token: Token) -> Option<(usize, u32, u32)> {
        let blocks = self.bits.len() / BLOCK_BYTES;
        if blocks == 0 {
            return None;
        }
        let hash = mix(token.0.cast_unsigned());
        let block = ((u128::from(hash) * blocks as u128) >> 64) as usize;
        let second = mix(hash);
        Some((block * BLOCK_BYTES, second as u32, (second >> 32) as u32 | 1))
    }
}

/// The finaliser of splitmix64: every bit of the input changes half of the output.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(i: u64) -> Token {
        Token(mix(i).cast_signed())
    }

    #[test]
    fn what_was_put_in_is_in_and_little_else() {
        for ppm in [100_000, 10_000, 1_000] {
            let n = 50_000;
            let mut bloom = Bloom::new(n, ppm);
            (0..n).for_each(|i| bloom.insert(token(i)));
            assert!((0..n).all(|i| bloom.may_contain(token(i))));
            let false_positives = (n..3 * n).filter(|i| bloom.may_contain(token(*i))).count();
            let measured = false_positives as f64 / (2 * n) as f64 * 1e6;
            assert!(measured < f64::from(ppm) * 1.5, "{measured} ppm, wanted {ppm}");
        }
    }

    #[test]
    fn a_slice_of_the_ring_fills_all_blocks() {
        let mut bloom = Bloom::new(10_000, 10_000);
        (0..10_000).for_each(|i| bloom.insert(Token(i)));
        let false_positives = (10_000..30_000).filter(|i| bloom.may_contain(Token(*i))).count();
        assert!(false_positives < 400, "{false_positives} of 20000");
    }

    #[test]
    fn it_survives_its_bytes() {
        let mut bloom = Bloom::new(100, 10_000);
        bloom.insert(token(1));
        assert_eq!(Bloom::decode(&bloom.encode()), Some(bloom));
        assert_eq!(Bloom::decode(&[1, 2, 3]), None);
        assert_eq!(Bloom::decode(&[255; 68]), None);
        assert!(Bloom::new(5, 1_000_000).may_contain(token(9)));
    }
}
