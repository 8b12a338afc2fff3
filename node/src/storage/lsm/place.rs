//! Where a partition sorts: by its token, then by its key.

use helenus_core::Token;
use std::cmp::Ordering;

const INLINE_KEY_MAX: usize = 22;

/// A key's bytes, without an allocation when they are few.
#[derive(Debug, Clone)]
pub(super) enum SmallKey {
    Inline { len: u8, bytes: [u8; INLINE_KEY_MAX] },
    Heap(Box<[u8]>),
}

impl SmallKey {
    pub(super) fn new(key: &[u8]) -> SmallKey {
        let mut bytes = [0; INLINE_KEY_MAX];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(key);
                SmallKey::Inline { len, bytes }
            }
            _ => SmallKey::Heap(key.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            SmallKey::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            SmallKey::Heap(bytes) => bytes,
        }
    }
}

impl PartialEq for SmallKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SmallKey {}

impl PartialOrd for SmallKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SmallKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// Where a partition sorts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) token: Token,
    pub(super) key: SmallKey,
}

impl Place {
    pub(super) fn new(token: Token, key: &[u8]) -> Place {
        Place { token, key: SmallKey::new(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_small_and_sorts_by_bytes() {
        assert!(size_of::<Place>() <= 32);
        let long = [7_u8; 100];
        assert!(SmallKey::new(&long) > SmallKey::new(b"\x07"));
        assert_eq!(SmallKey::new(&long).as_slice(), long);
        assert!(Place::new(Token(-1), b"z") < Place::new(Token(1), b"a"));
    }
}
