//! What the bytes of a value may be: checked where they come in, so that whoever reads them later may rely on it.
//!
//! Source: native protocol v5, §6, and the `validate` of Cassandra 4.1's serializers. Where the two leave room for
//! bytes that mean nothing we are the stricter ones: a `time` past midnight, a `decimal` without digits, a `duration`
//! with something after it and a null inside a collection are refused.

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;

use super::collection::{Elements, Pairs, Parts};
use super::duration::Duration;
use super::types::CqlType;
use thiserror::Error;

/// Why bytes or a text are not a value of a type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// A constant of a kind that the type does not take: text for an `int`. [`ValueError::for_column`] words it with
    /// the column that it was for.
    #[error("Invalid {kind} constant ({text}) of type {ty}")]
    NotAssignable {
        /// Cassandra's word for the kind of constant: `STRING`, `INTEGER`...
        kind: &'static str,
        /// The constant.
        text: String,
        /// The type it was for.
        ty: String,
    },
    /// A text of the right kind which says nothing to this type.
    #[error("Unable to make {ty} from '{text}': {why}")]
    Unreadable {
        /// The type.
        ty: &'static str,
        /// The text.
        text: String,
        /// What is wrong, or what would have been right.
        why: &'static str,
    },
    /// Too few bytes, or too many.
    #[error("Expected {wanted} bytes for a value of type {ty}, found {found}")]
    Length {
        /// The type.
        ty: String,
        /// How many it may have.
        wanted: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Bytes that are not text.
    #[error("Invalid byte for {ty} at offset {at}")]
    Encoding {
        /// The type.
        ty: &'static str,
        /// The offset of the first byte that is wrong.
        at: usize,
    },
    /// A number that the type has no room or no meaning for.
    #[error("{value} is out of range for type {ty}")]
    OutOfRange {
        /// The type.
        ty: &'static str,
        /// The number.
        value: String,
    },
    /// A `timeuuid` which is not one.
    #[error("Invalid version {found} for timeuuid: only version 1 has a time")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A duration whose parts have different signs.
    #[error(
        "The months, days and nanoseconds of a duration must all be of the same sign, found {found}"
    )]
    DurationSigns {
        /// The three.
        found: String,
    },
    /// The bytes end before the value does.
    #[error("Not enough bytes to read a {ty}")]
    Truncated {
        /// What was being read: `list`, `map`...
        ty: &'static str,
    },
    /// There are bytes after the value's end.
    #[error("Unexpected {extra} bytes after the end of a {ty}")]
    Trailing {
        /// What was being read.
        ty: &'static str,
        /// How many bytes are left over.
        extra: usize,
    },
    /// A null where there can be none.
    #[error("null is not supported inside collections, found one in a {ty}")]
    NullElement {
        /// The collection.
        ty: &'static str,
    },
    /// More parts than the type has.
    #[error("Expected {wanted} values for {ty}, but got more")]
    TooManyParts {
        /// The type.
        ty: String,
        /// How many it has.
        wanted: usize,
    },
    /// More than a length of the protocol can say.
    #[error("a {ty} of {found} bytes or elements is more than the protocol can say")]
    TooLarge {
        /// The collection.
        ty: &'static str,
        /// How many there are.
        found: usize,
    },
}

impl ValueError {
    /// A text that says nothing to `ty`. A long one is cut: it came from a client and goes back in a message.
    pub(super) fn unreadable(ty: &'static str, text: &str, why: &'static str) -> ValueError {
        ValueError::Unreadable { ty, text: shortened(text), why }
    }

    /// The message for the client, which knows the value by its column.
    pub fn for_column(&self, column: &str) -> String {
        match self {
            ValueError::NotAssignable { kind, text, ty } => {
                format!("Invalid {kind} constant ({text}) for \"{column}\" of type {ty}")
            }
            other => format!("{other} (for \"{column}\")"),
        }
    }
}

impl CqlType {
    /// Whether `bytes` are a value of this type, as Cassandra validates what it is given.
    ///
    /// No bytes at all are a value of most types, and of none of `tinyint`, `smallint`, `date`, `time` and `duration`.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ValueError> {
        match self {
            CqlType::Ascii => match bytes.iter().position(|byte| !byte.is_ascii()) {
                None => Ok(()),
                Some(at) => Err(ValueError::Encoding { ty: "ascii", at }),
            },
            CqlType::Text => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(()),
                Err(e) => Err(ValueError::Encoding { ty: "text", at: e.valid_up_to() }),
            },
            CqlType::Blob | CqlType::Varint => Ok(()),
            CqlType::Bigint | CqlType::Counter | CqlType::Double | CqlType::Timestamp => {
                self.one_of(bytes, &[0, 8], "8 or 0")
            }
            CqlType::Int | CqlType::Float => self.one_of(bytes, &[0, 4], "4 or 0"),
            CqlType::Boolean => self.one_of(bytes, &[0, 1], "1 or 0"),
            CqlType::Uuid => self.one_of(bytes, &[0, 16], "16 or 0"),
            CqlType::Inet => self.one_of(bytes, &[0, 4, 16], "4, 16 or 0"),
            CqlType::Smallint => self.one_of(bytes, &[2], "2"),
            CqlType::Tinyint => self.one_of(bytes, &[1], "1"),
            CqlType::Date => self.one_of(bytes, &[4], "4"),
            CqlType::Timeuuid => {
                self.one_of(bytes, &[0, 16], "16 or 0")?;
                match bytes.get(6).map(|byte| byte >> 4) {
                    None | Some(1) => Ok(()),
                    Some(found) => Err(ValueError::Version { found }),
                }
            }
            CqlType::Time => {
                self.one_of(bytes, &[8], "8")?;
                let nanos = array(bytes).map_or(-1, i64::from_be_bytes);
                if (0..super::calendar::NANOS_PER_DAY).contains(&nanos) {
                    Ok(())
                } else {
                    Err(ValueError::OutOfRange { ty: "time", value: nanos.to_string() })
                }
            }
            CqlType::Decimal if bytes.is_empty() || bytes.len() > 4 => Ok(()),
            CqlType::Decimal => Err(self.length(bytes, "5 or more, or 0")),
            CqlType::Duration => Duration::from_bytes(bytes).map(drop),
            CqlType::List { of, .. } => check_elements("list", of, bytes),
            CqlType::Set { of, .. } => check_elements("set", of, bytes),
            CqlType::Map { key, value, .. } => Pairs::new(bytes)?.try_for_each(|pair| {
                let (k, v) = pair?;
                key.check(k)?;
                value.check(v)
            }),
            CqlType::Tuple(parts) => self.check_parts(bytes, "tuple", parts.iter()),
            CqlType::User { of, .. } => {
                self.check_parts(bytes, "user-defined type", of.fields.iter().map(|(_, ty)| ty))
            }
        }
    }

    fn one_of(
        &self,
        bytes: &[u8],
        lengths: &[usize],
        wanted: &'static str,
    ) -> Result<(), ValueError> {
        if lengths.contains(&bytes.len()) { Ok(()) } else { Err(self.length(bytes, wanted)) }
    }

    fn length(&self, bytes: &[u8], wanted: &'static str) -> ValueError {
        ValueError::Length { ty: self.to_string(), wanted, found: bytes.len() }
    }

    /// Fewer parts than the type has are fine: the missing ones are null.
    fn check_parts<'a>(
        &self,
        bytes: &[u8],
        what: &'static str,
        types: impl ExactSizeIterator<Item = &'a CqlType>,
    ) -> Result<(), ValueError> {
        let wanted = types.len();
        let mut parts = Parts::new(bytes, what);
        for ty in types {
            match parts.next().transpose()? {
                None => return Ok(()),
                Some(None) => {}
                Some(Some(part)) => ty.check(part)?,
            }
        }
        match parts.next() {
            None => Ok(()),
            Some(_) => Err(ValueError::TooManyParts { ty: self.to_string(), wanted }),
        }
    }
}

/// The beginning of `text`, which is all of it unless it is long.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 256;
    match text.char_indices().nth(SHOWN).and_then(|(end, _)| text.get(..end)) {
        Some(cut) => format!("{cut}..."),
        None => text.to_owned(),
    }
}

/// Exactly so many bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn check_elements(what: &'static str, of: &CqlType, bytes: &[u8]) -> Result<(), ValueError> {
    Elements::new(bytes, what)?.try_for_each(|element| of.check(element?))
}
