//! Names: of keyspaces, tables, columns, types, fields.

use crate::cql::words::Word;
use crate::cql::written::Written;
use std::borrow::Borrow;
use std::fmt;

/// A name. Shown as CQL writes it: quoted if it would otherwise be read as another name, or as none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(Written);

impl Ident {
    /// This very name, as if it had been quoted.
    pub fn quoted(name: impl Into<Written>) -> Ident {
        Ident(name.into())
    }

    /// The name that these letters give without quotes: folded to lower case.
    pub fn unquoted(name: &str) -> Ident {
        Ident(Written::lowered(name))
    }

    /// The name without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A number that few other names have: to look for one among many.
    pub(crate) fn number(&self) -> u64 {
        self.0.number()
    }

    /// The name without quotes.
    pub fn into_string(self) -> String {
        self.0.to_string()
    }

    /// Whether CQL reads the name only in quotes.
    fn needs_quotes(&self) -> bool {
        let name = self.as_str();
        let mut chars = name.chars();
        let plain = chars.next().is_some_and(|first| first.is_ascii_lowercase())
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        !plain || is_reserved(name) || matches!(name, "true" | "false")
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.needs_quotes() {
            return f.write_str(&self.0);
        }
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// As it is displayed: a tree is read by people when a test of it fails.
impl fmt::Debug for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AsRef<str> for Ident {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Ident {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Ident {
    fn eq(&self, other: &str) -> bool {
        self.0.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Ident {
    fn eq(&self, other: &&str) -> bool {
        self.0.as_bytes() == other.as_bytes()
    }
}

/// A name that may say its keyspace: `ks.t`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// The keyspace; without it the connection's own is meant.
    pub keyspace: Option<Ident>,
    /// The name within the keyspace.
    pub name: Ident,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keyspace {
            Some(keyspace) => write!(f, "{keyspace}.{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// Whether this word, in capitals or not, is a name only in quotes.
pub fn is_reserved(word: &str) -> bool {
    Word::of(word.as_bytes()).is_some_and(Word::is_reserved)
}
