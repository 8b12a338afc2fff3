//! Short texts, kept where they are.
//!
//! A statement is made of names and numbers of a few letters. To ask for memory for each, and to give it back, takes longer
//! than to read it; so a text that is short enough lies in the value itself.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Bytes that lie in the value: as many as make it no larger than a `String`.
const HERE_MAX: usize = 22;

/// A text as it was written.
#[derive(Clone)]
pub struct Written(Kept);

#[derive(Clone)]
enum Kept {
    /// Invariant: `bytes[..len]` is UTF-8, and the rest is 0.
    Here {
        len: u8,
        bytes: [u8; HERE_MAX],
    },
    There(Box<str>),
}

const _: () = assert!(size_of::<Written>() == size_of::<String>());

impl Written {
    /// The text in small letters, as far as they are ASCII's.
    pub(super) fn lowered(text: &str) -> Written {
        let mut lowered = Written::from(text);
        match &mut lowered.0 {
            Kept::Here { bytes, .. } => bytes.make_ascii_lowercase(),
            Kept::There(text) => text.make_ascii_lowercase(),
        }
        lowered
    }

    /// A number that few other texts have: to look for one among many.
    pub(super) fn number(&self) -> u64 {
        let bytes = match &self.0 {
            Kept::Here { bytes, .. } => bytes.as_slice(),
            Kept::There(text) => text.as_bytes(),
        };
        let part = |at: usize| {
            let part = bytes.get(at..).and_then(<[u8]>::first_chunk);
            part.copied().map_or(0, u64::from_le_bytes)
        };
        part(0) ^ part(8).rotate_left(21) ^ part(bytes.len().saturating_sub(8)).rotate_left(42)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Here { .. } => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Kept::There(text) => text,
        }
    }

    /// Its bytes: quicker than the text, where they will do.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Here { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Kept::There(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Written {
    fn from(text: &str) -> Written {
        let mut bytes = [0; HERE_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(here), Ok(len)) => {
                here.copy_from_slice(text.as_bytes());
                Written(Kept::Here { len, bytes })
            }
            _ => Written(Kept::There(text.into())),
        }
    }
}

impl From<String> for Written {
    fn from(text: String) -> Written {
        Written::from(text.as_str())
    }
}

impl Deref for Written {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Written {
    fn eq(&self, other: &Written) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Written {}

impl PartialOrd for Written {
    fn partial_cmp(&self, other: &Written) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Written {
    fn cmp(&self, other: &Written) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// As the text hashes: an [`Ident`](super::ast::Ident) is looked for by one.
impl Hash for Written {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn a_text_is_itself_short_or_long() {
        let hasher = RandomState::new();
        for length in [0, 1, HERE_MAX - 1, HERE_MAX, HERE_MAX + 1, 300] {
            // Letters of two bytes are not torn apart, whatever the length.
            for letter in ["x", "é"] {
                let text = letter.repeat(length);
                let written = Written::from(text.as_str());
                assert_eq!((written.as_str(), written.as_bytes()), (&*text, text.as_bytes()));
                assert_eq!(written.to_string(), text);
                assert_eq!(written, Written::from(text.clone()));
                assert_eq!(written.number(), Written::from(text.clone()).number());
                assert_eq!(hasher.hash_one(&written), hasher.hash_one(&*text));
            }
        }
    }

    #[test]
    fn only_letters_of_ascii_are_made_small() {
        assert_eq!(Written::lowered("ÄbC_1").as_str(), "Äbc_1");
        let long = "ÄbC_".repeat(20);
        assert_eq!(Written::lowered(&long).as_str(), long.to_ascii_lowercase());
    }

    #[test]
    fn texts_sort_as_texts_do() {
        let long = "b".repeat(40);
        let mut texts = [Written::from("b"), Written::from(&*long), Written::from("a")];
        texts.sort();
        assert_eq!(texts.map(|text| text.to_string()), ["a", "b", &long]);
    }
}
