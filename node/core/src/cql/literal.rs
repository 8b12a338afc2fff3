//! Constants become bytes, once it is known which type is wanted.
//!
//! Source: `Constants.Literal` and the `fromString` of the types of Cassandra 4.1: which kind of constant fits which
//! type, and what its text may be.

#[cfg(test)]
mod tests;

use super::calendar;
use super::constant::Constant;
use super::decimal::{Decimal, parse_integer};
use super::duration::Duration;
use super::types::CqlType;
use super::uuid;
use super::value::{ValueError, shortened};
use bytes::Bytes;
use std::net::IpAddr;

impl Constant {
    /// Cassandra's word for its kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Constant::Null => "NULL",
            Constant::String(_) => "STRING",
            Constant::Integer(_) => "INTEGER",
            Constant::Float(_) => "FLOAT",
            Constant::Boolean(_) => "BOOLEAN",
            Constant::Uuid(_) => "UUID",
            Constant::Blob(_) => "HEX",
            Constant::Duration(_) => "DURATION",
        }
    }

    /// Its text, for messages: a long one is cut.
    pub fn text(&self) -> String {
        match self {
            Constant::Null => "null".to_owned(),
            Constant::String(text)
            | Constant::Integer(text)
            | Constant::Float(text)
            | Constant::Duration(text) => shortened(text),
            Constant::Boolean(value) => value.to_string(),
            Constant::Uuid(value) => uuid::format(value.to_be_bytes()),
            Constant::Blob(bytes) => {
                let shown = bytes.iter().take(256);
                shortened(&shown.fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}")))
            }
        }
    }
}

impl CqlType {
    /// The type that a constant has where nothing says which is wanted: as an argument of an overloaded function, or
    /// in the selection. `None`: any (it is null).
    pub fn of_constant(constant: &Constant) -> Option<CqlType> {
        Some(match constant {
            Constant::Null => return None,
            Constant::String(text) if text.is_ascii() => CqlType::Ascii,
            Constant::String(_) => CqlType::Text,
            Constant::Integer(text) if text.parse::<i32>().is_ok() => CqlType::Int,
            Constant::Integer(text) if text.parse::<i64>().is_ok() => CqlType::Bigint,
            Constant::Integer(_) => CqlType::Varint,
            Constant::Float(_) => CqlType::Double,
            Constant::Boolean(_) => CqlType::Boolean,
            Constant::Uuid(value) if uuid::version(value.to_be_bytes()) == 1 => CqlType::Timeuuid,
            Constant::Uuid(_) => CqlType::Uuid,
            Constant::Blob(_) => CqlType::Blob,
            Constant::Duration(_) => CqlType::Duration,
        })
    }

    /// The bytes of `constant` as a value of this type; `None` is null.
    pub fn constant(&self, constant: &Constant) -> Result<Option<Bytes>, ValueError> {
        let bytes = match (self, constant) {
            // Whether a counter may be set to null is the statement's affair.
            (_, Constant::Null) => return Ok(None),
            (CqlType::Ascii, Constant::String(text)) => {
                self.check(text.as_bytes())?;
                Bytes::copy_from_slice(text.as_bytes())
            }
            (CqlType::Text, Constant::String(text)) => Bytes::copy_from_slice(text.as_bytes()),
            (CqlType::Inet, Constant::String(text)) => inet(text)?,
            (CqlType::Date, Constant::String(text) | Constant::Integer(text)) => {
                fixed(calendar::parse_date(text)?.to_be_bytes())
            }
            (CqlType::Time, Constant::String(text) | Constant::Integer(text)) => {
                fixed(calendar::parse_time(text)?.to_be_bytes())
            }
            // An empty text is an empty value, as Cassandra has it.
            (CqlType::Timestamp, Constant::String(text)) if text.is_empty() => Bytes::new(),
            (CqlType::Timestamp, Constant::String(text) | Constant::Integer(text)) => {
                fixed(calendar::parse_timestamp(text)?.to_be_bytes())
            }
            (CqlType::Duration, Constant::Integer(text) | Constant::Duration(text)) => {
                Duration::parse(text)?.to_bytes()
            }
            (CqlType::Boolean, Constant::Boolean(value)) => fixed([u8::from(*value)]),
            (CqlType::Uuid, Constant::Uuid(value)) => fixed(value.to_be_bytes()),
            (CqlType::Timeuuid, Constant::Uuid(value)) => {
                let bytes = value.to_be_bytes();
                self.check(&bytes)?;
                fixed(bytes)
            }
            (CqlType::Blob, Constant::Blob(bytes)) => Bytes::copy_from_slice(bytes),
            (_, constant) => self.number(constant)?,
        };
        Ok(Some(bytes))
    }

    /// The bytes of a constant which can only be a number.
    fn number(&self, constant: &Constant) -> Result<Bytes, ValueError> {
        Ok(match (self, constant) {
            (CqlType::Tinyint, Constant::Integer(text)) => {
                fixed(integer::<i8>("tinyint", text)?.to_be_bytes())
            }
            (CqlType::Smallint, Constant::Integer(text)) => {
                fixed(integer::<i16>("smallint", text)?.to_be_bytes())
            }
            (CqlType::Int, Constant::Integer(text)) => {
                fixed(integer::<i32>("int", text)?.to_be_bytes())
            }
            (CqlType::Bigint, Constant::Integer(text)) => {
                fixed(integer::<i64>("bigint", text)?.to_be_bytes())
            }
            (CqlType::Counter, Constant::Integer(text)) => {
                fixed(integer::<i64>("counter", text)?.to_be_bytes())
            }
            (CqlType::Varint, Constant::Integer(text)) => {
                let why = "expected digits, and not too many";
                let number = parse_integer(text)
                    .ok_or_else(|| ValueError::unreadable("varint", text, why))?;
                Bytes::from(number.to_signed_bytes_be())
            }
            (CqlType::Decimal, Constant::Integer(text) | Constant::Float(text)) => {
                Decimal::parse(text)?.to_bytes()
            }
            (CqlType::Float, Constant::Integer(text) | Constant::Float(text)) => {
                fixed(float(text, "float", f32::NAN)?.to_be_bytes())
            }
            (CqlType::Double, Constant::Integer(text) | Constant::Float(text)) => {
                fixed(float(text, "double", f64::NAN)?.to_be_bytes())
            }
            (_, constant) => {
                return Err(ValueError::NotAssignable {
                    kind: constant.kind(),
                    text: constant.text(),
                    ty: self.to_string(),
                });
            }
        })
    }
}

fn fixed<const N: usize>(bytes: [u8; N]) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

fn integer<N: std::str::FromStr>(ty: &'static str, text: &str) -> Result<N, ValueError> {
    let out =
        || ValueError::unreadable(ty, text, "not an integer, or one that the type has no room for");
    text.parse().map_err(|_| out())
}

/// A float, as Java reads one: what is too large is infinite. There is no minus in front of NaN, but it may be written.
fn float<F: std::str::FromStr>(text: &str, ty: &'static str, nan: F) -> Result<F, ValueError> {
    let (sign, word) = match text.strip_prefix('-') {
        Some(word) => ("-", word),
        None => ("", text),
    };
    let unreadable = || ValueError::unreadable(ty, text, "not a number");
    if word.eq_ignore_ascii_case("nan") {
        return Ok(nan);
    }
    if word.eq_ignore_ascii_case("infinity") {
        return format!("{sign}inf").parse().map_err(|_| unreadable());
    }
    // Rust reads more words than CQL has.
    if !word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(unreadable());
    }
    text.parse().map_err(|_| unreadable())
}

/// An address. Names are not looked up, as Cassandra would; an IPv4 address in the clothes of IPv6 becomes IPv4, as in
/// Java.
fn inet(text: &str) -> Result<Bytes, ValueError> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => Ok(fixed(address.octets())),
        Ok(IpAddr::V6(address)) => Ok(fixed(address.octets())),
        Err(_) => Err(ValueError::unreadable("inet", text, "expected an IPv4 or IPv6 address")),
    }
}
