//! How names of types and constants are written, so that they are read again as the same: `DESCRIBE` needs them.

use super::{ArithmeticOp, TypeName, Unsupported};
use crate::cql::Constant;
use std::fmt::{self, Write as _};

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeName::Native(name) => f.write_str(name),
            TypeName::List(of) => write!(f, "list<{of}>"),
            TypeName::Set(of) => write!(f, "set<{of}>"),
            TypeName::Map(key, value) => write!(f, "map<{key}, {value}>"),
            TypeName::Frozen(of) => write!(f, "frozen<{of}>"),
            TypeName::Tuple(of) => {
                f.write_str("tuple<")?;
                for (nth, of) in of.iter().enumerate() {
                    let comma = if nth == 0 { "" } else { ", " };
                    write!(f, "{comma}{of}")?;
                }
                f.write_char('>')
            }
            TypeName::User { keyspace, name } => {
                if let Some(keyspace) = keyspace {
                    write!(f, "{keyspace}.")?;
                }
                // Bare, these words would be types of another kind.
                if name_of_a_type(name.as_str()) {
                    return write!(f, "\"{}\"", name.as_str());
                }
                name.fmt(f)
            }
            TypeName::Custom(class) => string(class, f),
        }
    }
}

/// Whether a bare word that names a type would not be a user's.
pub(crate) fn name_of_a_type(word: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "list",
        "set",
        "map",
        "tuple",
        "frozen",
        "vector", // These read as types, and
        "byte",
        "complex",
        "enum",
        "interval",
        "macaddr",
        "bitstring", // these are kept for later.
    ];
    OTHERS.contains(&word) || super::NATIVE_TYPES.contains(&word)
}

fn string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "'{}'", text.replace('\'', "''"))
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constant::Null => f.write_str("null"),
            Constant::String(text) => string(text, f),
            Constant::Integer(text) | Constant::Float(text) | Constant::Duration(text) => {
                f.write_str(text)
            }
            Constant::Boolean(yes) => write!(f, "{yes}"),
            Constant::Uuid(id) => {
                // A UUID's five groups have 8, 4, 4, 4 and 12 digits.
                let group = |shift: u32, bits: u32| (id >> shift) & ((1_u128 << bits) - 1);
                let (a, b, c, d, e) =
                    (group(96, 32), group(80, 16), group(64, 16), group(48, 16), group(0, 48));
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
            }
            Constant::Blob(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for ArithmeticOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(match self {
            ArithmeticOp::Add => '+',
            ArithmeticOp::Subtract => '-',
            ArithmeticOp::Multiply => '*',
            ArithmeticOp::Divide => '/',
            ArithmeticOp::Remainder => '%',
        })
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsupported::Index => "INDEX",
            Unsupported::MaterializedView => "MATERIALIZED VIEW",
            Unsupported::Function => "FUNCTION",
            Unsupported::Aggregate => "AGGREGATE",
            Unsupported::Trigger => "TRIGGER",
            Unsupported::Role => "ROLE",
            Unsupported::User => "USER",
            Unsupported::Permission => "PERMISSION",
            Unsupported::Identity => "IDENTITY",
        })
    }
}
