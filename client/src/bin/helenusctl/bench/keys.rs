//! Which keys are asked for, and what is written to them.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;

/// How often each key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    /// All alike.
    Uniform,
    /// A few very often, most hardly ever (YCSB's zipfian, theta 0.99, scattered over the key space).
    Zipfian,
    /// One after the other, and round again.
    Sequential,
}

/// YCSB's constant.
const THETA: f64 = 0.99;

/// Chooses keys.
pub(crate) struct Keys {
    count: u64,
    distribution: Distribution,
    zipf: Option<Zipf>,
    next: u64,
}

impl Keys {
    /// `count` is at least 1.
    pub(crate) fn new(count: u64, distribution: Distribution) -> Keys {
        let zipf = (distribution == Distribution::Zipfian).then(|| Zipf::new(count));
        Keys { count, distribution, zipf, next: 0 }
    }

    /// The next key to ask for.
    pub(crate) fn pick(&mut self, rng: &mut SmallRng) -> Bytes {
        let index = match (self.distribution, &self.zipf) {
            (Distribution::Zipfian, Some(zipf)) => {
                // The popular keys are scattered, or one node would own them all.
                scatter(zipf.rank(rng.random::<f64>())) % self.count
            }
            (Distribution::Sequential, _) => {
                let index = self.next % self.count;
                self.next = self.next.wrapping_add(1);
                index
            }
            _ => rng.random_range(0..self.count),
        };
        Keys::key(index)
    }

    /// The key with this number: 16 bytes.
    pub(crate) fn key(index: u64) -> Bytes {
        format!("key-{index:012}").into()
    }
}

/// Mixes the bits of a rank (Steele, Lea, Flood: SplitMix64's finisher).
fn scatter(rank: u64) -> u64 {
    let mixed = (rank ^ (rank >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Zipf-distributed ranks in constant time. Source: Gray et al., "Quickly Generating Billion-Record Synthetic
/// Databases" (SIGMOD 1994), as in YCSB.
struct Zipf {
    count: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Zipf {
        let zeta: f64 = (1..=count).map(|rank| 1.0 / float(rank).powf(THETA)).sum();
        let zeta_2 = 1.0 + 0.5_f64.powf(THETA);
        let eta = (1.0 - (2.0 / float(count)).powf(1.0 - THETA)) / (1.0 - zeta_2 / zeta);
        Zipf { count: float(count), alpha: 1.0 / (1.0 - THETA), zeta, eta }
    }

    /// `chance` is uniform in 0..1; rank 0 is the most popular.
    fn rank(&self, chance: f64) -> u64 {
        let scaled = chance * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1.min(whole(self.count) - 1);
        }
        whole(self.count * (self.eta * chance - self.eta + 1.0).powf(self.alpha))
            .min(whole(self.count) - 1)
    }
}

#[expect(clippy::cast_precision_loss, reason = "key counts are far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and ranks are not negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Values to write: slices of one pool, so that making them costs nothing and the bytes differ.
#[derive(Clone)]
pub(crate) struct Values {
    pool: Bytes,
    size: usize,
}

impl Values {
    pub(crate) fn new(size: u64, mut rng: SmallRng) -> Result<Values, String> {
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= 256 << 20) else {
            return Err(format!("--value-size {size}: no node takes values of that size"));
        };
        let mut pool = vec![0u8; size.saturating_mul(2).max(1 << 20)];
        // Half of it is noise and half is zeros, in pieces smaller than any compression block.
        for piece in pool.chunks_mut(16) {
            let half = piece.len() / 2;
            if let Some(noise) = piece.get_mut(..half) {
                rng.fill(noise);
            }
        }
        Ok(Values { pool: pool.into(), size })
    }

    pub(crate) fn pick(&self, rng: &mut SmallRng) -> Bytes {
        let start = rng.random_range(0..=self.pool.len() - self.size);
        self.pool.slice(start..start + self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeMap;

    fn counts(distribution: Distribution, keys: u64, picks: u32) -> BTreeMap<Bytes, u32> {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut keys = Keys::new(keys, distribution);
        let mut counts = BTreeMap::new();
        for _ in 0..picks {
            *counts.entry(keys.pick(&mut rng)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn sequential_touches_all_alike_and_uniform_nearly_so() {
        let sequential = counts(Distribution::Sequential, 10, 100);
        assert_eq!(sequential.into_values().collect::<Vec<_>>(), [10; 10]);
        let uniform = counts(Distribution::Uniform, 10, 10_000);
        assert!(uniform.len() == 10 && uniform.values().all(|n| (850..1150).contains(n)));
    }

    #[test]
    fn zipfian_shares_are_zipfs() {
        // With n = 1000 and theta = 0.99 the k-th key's share is k^-0.99 / zeta.
        let zipf = Zipf::new(1000);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut ranks = [0u32; 1000];
        for _ in 0..100_000 {
            ranks[usize::try_from(zipf.rank(rng.random::<f64>())).unwrap()] += 1;
        }
        for rank in [0, 1] {
            let expected = 100_000.0 / float(rank + 1).powf(THETA) / zipf.zeta;
            let seen = f64::from(ranks[usize::try_from(rank).unwrap()]);
            assert!((seen / expected - 1.0).abs() < 0.05, "rank {rank}: {seen}, not {expected}");
        }
        assert!(ranks[500..].iter().sum::<u32>() > 5_000, "the tail is long");
    }

    #[test]
    fn few_keys_are_no_trouble() {
        for distribution in [Distribution::Uniform, Distribution::Zipfian, Distribution::Sequential]
        {
            for keys in [1, 2, 3] {
                let counts = counts(distribution, keys, 100);
                assert!(counts.len() <= usize::try_from(keys).unwrap(), "{distribution:?}");
            }
        }
    }

    #[test]
    fn values_have_their_size_and_half_compresses() {
        let mut rng = SmallRng::seed_from_u64(1);
        for size in [0, 1, 100, 3 << 20] {
            let values = Values::new(size, rng.clone()).unwrap();
            let value = values.pick(&mut rng);
            assert_eq!(value.len() as u64, size);
            if size >= 100 {
                let zeros = value.iter().filter(|byte| **byte == 0).count() as u64;
                assert!((size * 4 / 10..=size * 6 / 10).contains(&zeros), "{zeros} of {size}");
            }
        }
        assert!(Values::new(u64::MAX, rng).is_err());
    }
}
