//! A type from its text: what `system_schema` shows, and Cassandra's class names in single quotes.

use super::{CqlType, TYPE_DEPTH_MAX, TYPE_PARTS_MAX, UserType};
use std::sync::Arc;
use thiserror::Error;

/// Why a text is not a type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TypeError {
    /// A character where it makes no sense, or the text ended.
    #[error("cannot read the type \"{text}\" past byte {at}: expected {expected}")]
    Syntax {
        /// The whole text.
        text: String,
        /// Where in it, in bytes.
        at: usize,
        /// What would have made sense.
        expected: &'static str,
    },
    /// Neither a type of CQL nor one that a user made.
    #[error("Unknown type {name}: neither a type of CQL nor a user-defined type of this keyspace")]
    Unknown {
        /// The name.
        name: String,
    },
    /// `list<int, text>`.
    #[error("{name} takes {wanted} types between < and >, not {given}")]
    Parameters {
        /// The type that takes them.
        name: String,
        /// How many it takes.
        wanted: &'static str,
        /// How many there are.
        given: usize,
    },
    /// `list<list<int>>`.
    #[error("non-frozen {inner} is not allowed inside {outer}: write frozen<{inner}>")]
    NotFrozen {
        /// What is inside.
        inner: String,
        /// What it is in.
        outer: &'static str,
    },
    /// A key of a set or a map that has no order, or a counter in anything.
    #[error("{inner} is not allowed inside {outer}")]
    NotAllowed {
        /// What is inside.
        inner: String,
        /// What it is in.
        outer: &'static str,
    },
    /// `frozen<int>`.
    #[error("frozen<> is for collections, tuples and user-defined types, not for {name}")]
    FrozenScalar {
        /// What cannot be frozen.
        name: String,
    },
    /// Deeper than [`TYPE_DEPTH_MAX`].
    #[error("the type nests deeper than {TYPE_DEPTH_MAX} levels")]
    TooDeep,
    /// More than [`TYPE_PARTS_MAX`] parts.
    #[error(
        "the type has more than {TYPE_PARTS_MAX} parts, those of user-defined types counted wherever they stand"
    )]
    TooLarge,
}

impl CqlType {
    /// Reads a type as [`Display`](std::fmt::Display) writes it, or the name of Cassandra's class for it in single
    /// quotes (`'org.apache.cassandra.db.marshal.Int32Type'`). `users` finds a user-defined type by its exact name.
    pub fn parse(
        text: &str,
        users: &dyn Fn(&str) -> Option<Arc<UserType>>,
    ) -> Result<CqlType, TypeError> {
        let mut reader = Reader { text, at: 0, users };
        let quoted = text.trim().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let ty = match quoted {
            Some(class) => {
                reader = Reader { text: class, at: 0, users };
                reader.class(0)?
            }
            None => reader.ty(0)?,
        };
        reader.skip_spaces();
        if reader.rest().is_empty() { Ok(ty) } else { Err(reader.expected("the end")) }
    }

    /// `list<of>`, if a list may hold these.
    pub fn list(of: CqlType, frozen: bool) -> Result<CqlType, TypeError> {
        Ok(CqlType::List { of: Arc::new(part(of, frozen, "a list")?), frozen })
    }

    /// `set<of>`, if a set may hold these.
    pub fn set(of: CqlType, frozen: bool) -> Result<CqlType, TypeError> {
        Ok(CqlType::Set {
            of: Arc::new(ordered_part(part(of, frozen, "a set")?, "a set")?),
            frozen,
        })
    }

    /// `map<key, value>`, if a map may hold these.
    pub fn map(key: CqlType, value: CqlType, frozen: bool) -> Result<CqlType, TypeError> {
        let key = ordered_part(part(key, frozen, "a map")?, "the keys of a map")?;
        let value = part(value, frozen, "a map")?;
        Ok(CqlType::Map { key: Arc::new(key), value: Arc::new(value), frozen })
    }
}

/// `ty` as a part of a collection: frozen along with it, or already.
fn part(ty: CqlType, frozen: bool, outer: &'static str) -> Result<CqlType, TypeError> {
    if ty.is_counter() {
        return Err(TypeError::NotAllowed { inner: ty.to_string(), outer });
    }
    match (frozen, ty.is_multicell()) {
        (true, _) => Ok(ty.freeze()),
        (false, false) => Ok(ty),
        (false, true) => Err(TypeError::NotFrozen { inner: ty.to_string(), outer }),
    }
}

fn ordered_part(ty: CqlType, outer: &'static str) -> Result<CqlType, TypeError> {
    ordered(&ty, outer)?;
    Ok(ty)
}

pub(super) fn ordered(ty: &CqlType, outer: &'static str) -> Result<(), TypeError> {
    if ty.has_order() {
        Ok(())
    } else {
        Err(TypeError::NotAllowed { inner: ty.to_string(), outer })
    }
}

/// A collection whose parts are not yet known to fit: freezing what is around it decides.
fn build(name: &str, parts: Vec<CqlType>, frozen: bool) -> Result<CqlType, TypeError> {
    let given = parts.len();
    let wanted = |wanted| TypeError::Parameters { name: name.to_owned(), wanted, given };
    let mut parts = parts.into_iter();
    match (name, parts.next(), parts.next(), parts.next()) {
        ("list", Some(of), None, None) => CqlType::list(of, frozen),
        ("set", Some(of), None, None) => CqlType::set(of, frozen),
        ("map", Some(key), Some(value), None) => CqlType::map(key, value, frozen),
        ("map", ..) => Err(wanted("two")),
        _ => Err(wanted("one")),
    }
}

fn tuple(parts: &[CqlType]) -> Result<CqlType, TypeError> {
    match parts.iter().find(|part| part.is_counter()) {
        Some(part) => Err(TypeError::NotAllowed { inner: part.to_string(), outer: "a tuple" }),
        None => Ok(CqlType::Tuple(parts.iter().map(CqlType::freeze).collect())),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    users: &'a dyn Fn(&str) -> Option<Arc<UserType>>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn expected(&self, expected: &'static str) -> TypeError {
        TypeError::Syntax { text: self.text.to_owned(), at: self.at, expected }
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    /// The letters, digits and whatever `also` is, from here.
    fn word(&mut self, also: &[char]) -> Result<&'a str, TypeError> {
        self.skip_spaces();
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || also.contains(&c)))
            .unwrap_or(rest.len());
        match rest.get(..end) {
            Some(word) if !word.is_empty() => {
                self.at += end;
                Ok(word)
            }
            _ => Err(self.expected("the name of a type")),
        }
    }

    /// `"it""s"` from here, if there is one.
    fn quoted(&mut self) -> Result<Option<String>, TypeError> {
        if !self.take('"') {
            return Ok(None);
        }
        let mut name = String::new();
        let mut chars = self.rest().char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                self.at += offset + 1;
                return Ok(Some(name));
            }
        }
        Err(self.expected("a closing double quote"))
    }

    fn ty(&mut self, depth: usize) -> Result<CqlType, TypeError> {
        if depth >= TYPE_DEPTH_MAX {
            return Err(TypeError::TooDeep);
        }
        if let Some(name) = self.quoted()? {
            return self.user(name);
        }
        let word = self.word(&['_'])?.to_ascii_lowercase();
        if let Some(scalar) = CqlType::scalar(&word) {
            return Ok(scalar);
        }
        match word.as_str() {
            "frozen" => {
                self.open()?;
                let inner = self.frozen(depth + 1, false)?;
                if !self.take('>') {
                    return Err(self.expected("\">\""));
                }
                Ok(inner)
            }
            "list" | "set" | "map" => build(&word, self.parts(depth)?, false),
            "tuple" => tuple(&self.parts(depth)?),
            _ => self.user(word),
        }
    }

    /// What is inside `frozen<>`: a collection there may hold collections that do not say `frozen` themselves.
    /// `scalars`: whether a type that cannot be frozen will do, as it does for the parts of a collection.
    fn frozen(&mut self, depth: usize, scalars: bool) -> Result<CqlType, TypeError> {
        if depth >= TYPE_DEPTH_MAX {
            return Err(TypeError::TooDeep);
        }
        let before = self.at;
        if self.quoted()?.is_none() {
            let word = self.word(&['_'])?.to_ascii_lowercase();
            if matches!(word.as_str(), "list" | "set" | "map") {
                self.open()?;
                let mut parts = vec![self.frozen(depth + 1, true)?];
                while self.take(',') {
                    parts.push(self.frozen(depth + 1, true)?);
                }
                if !self.take('>') {
                    return Err(self.expected("\",\" or \">\""));
                }
                return build(&word, parts, true);
            }
        }
        self.at = before;
        let ty = self.ty(depth)?;
        let composite =
            ty.is_collection() || matches!(ty, CqlType::Tuple(_) | CqlType::User { .. });
        if composite || scalars {
            Ok(ty.freeze())
        } else {
            Err(TypeError::FrozenScalar { name: ty.to_string() })
        }
    }

    fn open(&mut self) -> Result<(), TypeError> {
        if self.take('<') { Ok(()) } else { Err(self.expected("\"<\"")) }
    }

    fn parts(&mut self, depth: usize) -> Result<Vec<CqlType>, TypeError> {
        self.open()?;
        let mut parts = vec![self.ty(depth + 1)?];
        while self.take(',') {
            parts.push(self.ty(depth + 1)?);
        }
        if self.take('>') { Ok(parts) } else { Err(self.expected("\",\" or \">\"")) }
    }

    fn user(&self, name: String) -> Result<CqlType, TypeError> {
        match (self.users)(&name) {
            Some(of) => Ok(CqlType::User { of, frozen: false }),
            None => Err(TypeError::Unknown { name }),
        }
    }

    /// A class of Cassandra's, with or without its package.
    fn class(&mut self, depth: usize) -> Result<CqlType, TypeError> {
        if depth >= TYPE_DEPTH_MAX {
            return Err(TypeError::TooDeep);
        }
        let path = self.word(&['.', '_', '$'])?;
        let class = path.strip_prefix("org.apache.cassandra.db.marshal.").unwrap_or(path);
        if let Some(scalar) = scalar_class(class) {
            return Ok(scalar);
        }
        let mut parts = Vec::new();
        if self.take('(') {
            loop {
                parts.push(self.class(depth + 1)?);
                if self.take(')') {
                    break;
                }
                if !self.take(',') {
                    return Err(self.expected("\",\" or \")\""));
                }
            }
        }
        match (class, parts.as_slice()) {
            ("ListType", _) => build("list", parts, false),
            ("SetType", _) => build("set", parts, false),
            ("MapType", _) => build("map", parts, false),
            ("TupleType", [_, ..]) => tuple(&parts),
            ("FrozenType", [inner]) => Ok(inner.freeze()),
            // The order of a clustering column is the table's affair, not the type's.
            ("ReversedType", [inner]) => Ok(inner.clone()),
            _ => Err(TypeError::Unknown { name: path.to_owned() }),
        }
    }
}

/// The type that a class of Cassandra's without parameters stands for.
fn scalar_class(class: &str) -> Option<CqlType> {
    Some(match class {
        "AsciiType" => CqlType::Ascii,
        "LongType" => CqlType::Bigint,
        "BytesType" => CqlType::Blob,
        "BooleanType" => CqlType::Boolean,
        "CounterColumnType" => CqlType::Counter,
        "SimpleDateType" => CqlType::Date,
        "DecimalType" => CqlType::Decimal,
        "DoubleType" => CqlType::Double,
        "DurationType" => CqlType::Duration,
        "FloatType" => CqlType::Float,
        "InetAddressType" => CqlType::Inet,
        "Int32Type" => CqlType::Int,
        "ShortType" => CqlType::Smallint,
        "UTF8Type" => CqlType::Text,
        "TimeType" => CqlType::Time,
        "TimestampType" | "DateType" => CqlType::Timestamp,
        "TimeUUIDType" => CqlType::Timeuuid,
        "ByteType" => CqlType::Tinyint,
        "UUIDType" => CqlType::Uuid,
        "IntegerType" => CqlType::Varint,
        _ => return None,
    })
}
