//! Passwords, hashed by Argon2id (RFC 9106), and told right from wrong.
//!
//! A hash is a PHC string, `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`, and says how it was made: those of a build with other
//! parameters go on being understood.
//!
//! Everything here is slow on purpose, and runs in the background. What was right lately is recognised faster: by a hash of
//! the password that takes no time, under a key that never leaves this process and is of no use after it.
//!
//! CAVEAT: passwords are not wiped from memory.

use crate::seams::rng;
use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// OWASP's Password Storage Cheat Sheet: Argon2id with 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// The least that Argon2 can do: for what stays in this process's memory, beside its key.
const QUICK_KIB: u32 = 8;

/// Of no password: what a name is checked against that is no role's, so that it takes as long as one that is.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Passwords that are remembered as right. One more pushes the oldest out.
const REMEMBERED_MAX: usize = 1024;

/// A password could not be hashed: the system gives no random bytes, or no memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub(crate) struct Unhashed(String);

/// A keyed hash of a password and of its PHC string.
type Quick = [u8; 32];

/// Hashes, verifies, and remembers.
#[derive(Debug)]
pub(super) struct Hasher {
    /// How long what was right counts as right.
    validity: Duration,
    key: OnceLock<[u8; 32]>,
    /// What was right, and when.
    right: Mutex<BTreeMap<Quick, Duration>>,
}

impl Hasher {
    pub(super) fn new(validity: Duration) -> Hasher {
        Hasher { validity, key: OnceLock::new(), right: Mutex::default() }
    }

    /// The PHC string of a password, with a salt of its own.
    pub(super) fn hash(password: &str) -> Result<String, Unhashed> {
        let mut salt = [0; SALT_BYTES];
        rng::secret(&mut salt).map_err(|error| Unhashed(error.to_string()))?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
        let params = params.map_err(|error| Unhashed(error.to_string()))?;
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hashed: Result<PasswordHash, _> =
            hasher.hash_password_with_salt(password.as_bytes(), &salt);
        hashed.map(|hash| hash.to_string()).map_err(|error| Unhashed(error.to_string()))
    }

    /// Whether `password` is that of `stored`. Without one it is not, and that takes as long.
    pub(super) fn check(&self, stored: Option<&str>, password: &str, now: Duration) -> bool {
        let Some(stored) = stored else {
            verify(NOBODY, password);
            return false;
        };
        let quick = self.quick(stored, password);
        if quick.is_some_and(|quick| self.was_right(&quick, now)) {
            return true;
        }
        let right = verify(stored, password);
        if let Some(quick) = quick.filter(|_| right) {
            self.remember(quick, now);
        }
        right
    }

    /// `None`: nothing is remembered, or nothing can be.
    fn quick(&self, stored: &str, password: &str) -> Option<Quick> {
        if self.validity.is_zero() {
            return None;
        }
        let key = match self.key.get() {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                rng::secret(&mut key).ok()?;
                self.key.get_or_init(|| key)
            }
        };
        let params = Params::new(QUICK_KIB, 1, 1, None).ok()?;
        let hasher =
            Argon2::new_with_secret(key, Algorithm::Argon2id, Version::V0x13, params).ok()?;
        let mut quick = Quick::default();
        hasher.hash_password_into(password.as_bytes(), stored.as_bytes(), &mut quick).ok()?;
        Some(quick)
    }

    fn was_right(&self, quick: &Quick, now: Duration) -> bool {
        let right = self.right.lock().expect("nothing panics while it holds this");
        right.get(quick).is_some_and(|at| now.saturating_sub(*at) < self.validity)
    }

    fn remember(&self, quick: Quick, now: Duration) {
        let mut right = self.right.lock().expect("nothing panics while it holds this");
        right.retain(|_, at| now.saturating_sub(*at) < self.validity);
        if right.len() >= REMEMBERED_MAX {
            let oldest = right.iter().min_by_key(|(_, at)| **at).map(|(quick, _)| *quick);
            oldest.and_then(|oldest| right.remove(&oldest));
        }
        right.insert(quick, now);
    }
}

fn verify(stored: &str, password: &str) -> bool {
    match PasswordHash::new(stored) {
        Ok(hash) => Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(),
        Err(error) => {
            tracing::warn!(%error, "a role's salted_hash is no PHC string: nobody can log in as it; alter its password");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);

    #[test]
    fn a_password_is_that_of_its_hash_and_no_other() {
        let stored = Hasher::hash("Ilion").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(stored, Hasher::hash("Ilion").unwrap(), "each has its own salt");
        let hasher = Hasher::new(Duration::ZERO);
        assert!(hasher.check(Some(&stored), "Ilion", T0));
        assert!(!hasher.check(Some(&stored), "ilion", T0));
        assert!(!hasher.check(None, "Ilion", T0));
        assert!(!hasher.check(Some("Ilion"), "Ilion", T0), "a password is no hash");
    }

    #[test]
    fn nobody_is_checked_as_slowly_as_somebody() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let somebody = Hasher::hash("x").unwrap();
        let somebody = PasswordHash::new(&somebody).unwrap();
        let cost = |hash: &PasswordHash| {
            let params = Params::try_from(hash).unwrap();
            (hash.algorithm, hash.version, params.m_cost(), params.t_cost(), params.p_cost())
        };
        assert_eq!(cost(&nobody), cost(&somebody));
        assert_eq!(nobody.salt.unwrap().len(), somebody.salt.unwrap().len());
        assert_eq!(nobody.hash.unwrap().len(), somebody.hash.unwrap().len());
    }

    #[test]
    fn what_was_right_is_right_for_a_while_with_its_hash_only() {
        let hasher = Hasher::new(Duration::from_secs(2));
        let stored = Hasher::hash("Ilion").unwrap();
        assert!(hasher.check(Some(&stored), "Ilion", T0));
        let quick = hasher.quick(&stored, "Ilion").unwrap();
        assert!(hasher.was_right(&quick, T0 + Duration::from_millis(1999)));
        assert!(!hasher.was_right(&quick, T0 + Duration::from_secs(2)));
        // Another password, and the same one of a role that was altered.
        let other = Hasher::hash("Ilion").unwrap();
        for (stored, password) in [(&stored, "ilion"), (&other, "Ilion")] {
            assert!(!hasher.was_right(&hasher.quick(stored, password).unwrap(), T0));
        }
        assert!(!hasher.check(Some(&stored), "ilion", T0), "what is wrong is not remembered");
        assert_eq!(hasher.right.lock().unwrap().len(), 1);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let hasher = Hasher::new(Duration::from_secs(3600));
        for n in 0..u32::try_from(REMEMBERED_MAX).unwrap() + 10 {
            let mut quick = Quick::default();
            quick[..4].copy_from_slice(&n.to_be_bytes());
            hasher.remember(quick, T0 + Duration::from_millis(u64::from(n)));
        }
        assert_eq!(hasher.right.lock().unwrap().len(), REMEMBERED_MAX);
        assert!(!hasher.was_right(&Quick::default(), T0), "the oldest went");
    }
}
