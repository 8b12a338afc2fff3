//! Chance, as one stream per purpose: taking one event away does not reshuffle the rest.
//!
//! CAVEAT: a stream can be told from its seed of 64 bits, which is no secret. Salts and keys are [`secret`]s.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::io;

/// Where a node's random numbers come from: one seed, and a stream for each purpose.
#[derive(Debug, Clone)]
pub struct Rng {
    seed: u64,
}

impl Rng {
    /// Every stream follows from `seed`; a simulation gives each node its own.
    pub fn from_seed(seed: u64) -> Rng {
        Rng { seed }
    }

    /// Seeded by the operating system.
    pub fn from_os() -> Rng {
        use std::hash::{BuildHasher, Hasher};
        // `RandomState` is the standard library's door to the operating system's randomness.
        Rng { seed: std::hash::RandomState::new().build_hasher().finish() }
    }

    /// The stream for `purpose`, from its beginning.
    pub fn stream(&self, purpose: &str) -> SmallRng {
        SmallRng::seed_from_u64(xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), self.seed))
    }
}

/// Fills `into` with what nobody can guess: straight from the operating system, and from no seed. For salts and keys only;
/// a simulation makes none, for its runs would differ.
pub fn secret(into: &mut [u8]) -> io::Result<()> {
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let filled = provider.secure_random.fill(into);
    filled.map_err(|_| io::Error::other("the operating system gives no random bytes"))
}
