//! Types of columns: `[option]`, a number and what it needs. (§4.2.5.2)
//!
//! `frozen` has no place on the wire. What is read counts as frozen within another type, where it must be, and not
//! at the top, where nobody can know.

use super::read::{Malformed, Problem, Reader};
use super::version::Version;
use super::write::{EncodeError, Writer};
use helenus_core::cql::{CqlType, UserType};
use std::sync::Arc;

/// Types within types that are followed; each is a call on the stack.
pub const TYPE_DEPTH_MAX: usize = 64;

const CUSTOM: u16 = 0x0000;
const DURATION: u16 = 0x0015;
const LIST: u16 = 0x0020;
const MAP: u16 = 0x0021;
const SET: u16 = 0x0022;
const USER: u16 = 0x0030;
const TUPLE: u16 = 0x0031;

/// v4 knows no durations; Cassandra sends them as this class there, and drivers know it.
const DURATION_CLASS: &str = "org.apache.cassandra.db.marshal.DurationType";

/// The types that are a number and nothing else.
static PLAIN: [(u16, CqlType); 19] = [
    (0x0001, CqlType::Ascii),
    (0x0002, CqlType::Bigint),
    (0x0003, CqlType::Blob),
    (0x0004, CqlType::Boolean),
    (0x0005, CqlType::Counter),
    (0x0006, CqlType::Decimal),
    (0x0007, CqlType::Double),
    (0x0008, CqlType::Float),
    (0x0009, CqlType::Int),
    (0x000B, CqlType::Timestamp),
    (0x000C, CqlType::Uuid),
    (0x000D, CqlType::Text),
    (0x000E, CqlType::Varint),
    (0x000F, CqlType::Timeuuid),
    (0x0010, CqlType::Inet),
    (0x0011, CqlType::Date),
    (0x0012, CqlType::Time),
    (0x0013, CqlType::Smallint),
    (0x0014, CqlType::Tinyint),
];

const WHAT: &str = "a column's type";

/// Writes a type.
pub(crate) fn write_type(
    to: &mut Writer<'_>,
    version: Version,
    ty: &CqlType,
) -> Result<(), EncodeError> {
    write_at(to, version, ty, 0)
}

fn write_at(
    to: &mut Writer<'_>,
    version: Version,
    ty: &CqlType,
    depth: usize,
) -> Result<(), EncodeError> {
    if depth > TYPE_DEPTH_MAX {
        return Err(EncodeError::TooDeep { limit: TYPE_DEPTH_MAX });
    }
    let inner = depth + 1;
    match ty {
        CqlType::List { of, .. } => {
            to.short(LIST);
            write_at(to, version, of, inner)
        }
        CqlType::Set { of, .. } => {
            to.short(SET);
            write_at(to, version, of, inner)
        }
        CqlType::Map { key, value, .. } => {
            to.short(MAP);
            write_at(to, version, key, inner)?;
            write_at(to, version, value, inner)
        }
        CqlType::Tuple(of) => {
            to.short(TUPLE);
            to.short_count("a tuple", of.len())?;
            of.iter().try_for_each(|ty| write_at(to, version, ty, inner))
        }
        CqlType::User { of, .. } => {
            to.short(USER);
            to.string("a keyspace's name", &of.keyspace)?;
            to.string("a type's name", &of.name)?;
            to.short_count("a type's fields", of.fields.len())?;
            of.fields.iter().try_for_each(|(name, ty)| {
                to.string("a field's name", name)?;
                write_at(to, version, ty, inner)
            })
        }
        CqlType::Duration if version >= Version::V5 => {
            to.short(DURATION);
            Ok(())
        }
        CqlType::Duration => {
            to.short(CUSTOM);
            to.string("a type's class", DURATION_CLASS)
        }
        plain => {
            let code = PLAIN.iter().find(|(_, known)| known == plain).map(|(code, _)| *code);
            debug_assert!(code.is_some(), "{plain:?} has no code: is it new?");
            to.short(code.unwrap_or(CUSTOM));
            Ok(())
        }
    }
}

/// Reads a type.
pub(crate) fn read_type(from: &mut Reader) -> Result<CqlType, Malformed> {
    read_at(from, 0)
}

fn read_at(from: &mut Reader, depth: usize) -> Result<CqlType, Malformed> {
    if depth > TYPE_DEPTH_MAX {
        return Err(from.wrong(WHAT, Problem::TooDeep { limit: TYPE_DEPTH_MAX }));
    }
    let at = from.at();
    let inner = depth + 1;
    // A type within a type is one value with it.
    let frozen = depth > 0;
    match from.short(WHAT)? {
        LIST => Ok(CqlType::List { of: Arc::new(read_at(from, inner)?), frozen }),
        SET => Ok(CqlType::Set { of: Arc::new(read_at(from, inner)?), frozen }),
        MAP => {
            let key = Arc::new(read_at(from, inner)?);
            let value = Arc::new(read_at(from, inner)?);
            Ok(CqlType::Map { key, value, frozen })
        }
        TUPLE => {
            let count = from.short_count("a tuple", 2)?;
            let of: Result<Vec<_>, _> = (0..count).map(|_| read_at(from, inner)).collect();
            Ok(CqlType::Tuple(of?.into()))
        }
        USER => {
            let keyspace = from.string("a type's keyspace")?;
            let name = from.string("a type's name")?;
            let count = from.short_count("a type's fields", 4)?;
            let field =
                |from: &mut Reader| Ok((from.string("a field's name")?, read_at(from, inner)?));
            let fields = (0..count).map(|_| field(from)).collect::<Result<_, Malformed>>()?;
            Ok(CqlType::User { of: Arc::new(UserType { keyspace, name, fields }), frozen })
        }
        DURATION => Ok(CqlType::Duration),
        CUSTOM => match from.string("a type's class")? {
            class if class == DURATION_CLASS => Ok(CqlType::Duration),
            class => Err(unknown(at, class)),
        },
        code => PLAIN
            .iter()
            .find_map(|(known, ty)| (*known == code).then(|| ty.clone()))
            .ok_or_else(|| unknown(at, format!("code {code:#06x}"))),
    }
}

fn unknown(at: usize, found: String) -> Malformed {
    let problem = Problem::Unknown { found, expected: "a type of CQL" };
    Malformed { what: WHAT, at, problem }
}

#[cfg(test)]
mod tests;
