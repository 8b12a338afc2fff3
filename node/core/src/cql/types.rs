//! The types of columns: what they are called, and where they may stand.

mod parse;
#[cfg(test)]
mod tests;
mod users;

pub use parse::TypeError;
pub use users::TYPE_PARTS_MAX;

use super::ast::Ident;
use std::fmt;
use std::sync::Arc;

/// How deep types may nest, so that whatever walks a type along with a value cannot exhaust the stack.
pub const TYPE_DEPTH_MAX: usize = 32;

/// A type of CQL. Two types are equal if they are the same type to a reader of the schema: `frozen` counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CqlType {
    /// US-ASCII text.
    Ascii,
    /// 64 bits, signed.
    Bigint,
    /// Any bytes.
    Blob,
    /// One byte, 0 or not.
    Boolean,
    /// A distributed counter of 64 bits.
    Counter,
    /// Days, 2^31 being 1970-01-01.
    Date,
    /// A scale of 32 bits and a varint.
    Decimal,
    /// IEEE 754, 64 bits.
    Double,
    /// Months, days and nanoseconds.
    Duration,
    /// IEEE 754, 32 bits.
    Float,
    /// An IP address of 4 or 16 bytes.
    Inet,
    /// 32 bits, signed.
    Int,
    /// 16 bits, signed.
    Smallint,
    /// UTF-8 text; `varchar` is another name of it.
    Text,
    /// Nanoseconds since midnight.
    Time,
    /// Milliseconds since the Unix epoch.
    Timestamp,
    /// A UUID of version 1, ordered by its time.
    Timeuuid,
    /// 8 bits, signed.
    Tinyint,
    /// A UUID.
    Uuid,
    /// An integer of any size.
    Varint,
    /// Elements in an order of their own.
    List {
        /// The elements' type.
        of: Arc<CqlType>,
        /// Whether the whole list is one value.
        frozen: bool,
    },
    /// Distinct elements, sorted.
    Set {
        /// The elements' type.
        of: Arc<CqlType>,
        /// Whether the whole set is one value.
        frozen: bool,
    },
    /// Distinct keys, sorted, with a value each.
    Map {
        /// The keys' type.
        key: Arc<CqlType>,
        /// The values' type.
        value: Arc<CqlType>,
        /// Whether the whole map is one value.
        frozen: bool,
    },
    /// So many values of these types; always frozen.
    Tuple(Arc<[CqlType]>),
    /// A type that a user made.
    User {
        /// Its definition.
        of: Arc<UserType>,
        /// Whether the whole is one value.
        frozen: bool,
    },
}

/// A user-defined type: named fields. Without any it is a reference to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserType {
    /// The keyspace it belongs to.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Its fields in order.
    pub fields: Vec<(String, CqlType)>,
}

/// The types that need no parameters, and their names in CQL.
const SCALARS: [(CqlType, &str); 20] = [
    (CqlType::Ascii, "ascii"),
    (CqlType::Bigint, "bigint"),
    (CqlType::Blob, "blob"),
    (CqlType::Boolean, "boolean"),
    (CqlType::Counter, "counter"),
    (CqlType::Date, "date"),
    (CqlType::Decimal, "decimal"),
    (CqlType::Double, "double"),
    (CqlType::Duration, "duration"),
    (CqlType::Float, "float"),
    (CqlType::Inet, "inet"),
    (CqlType::Int, "int"),
    (CqlType::Smallint, "smallint"),
    (CqlType::Text, "text"),
    (CqlType::Time, "time"),
    (CqlType::Timestamp, "timestamp"),
    (CqlType::Timeuuid, "timeuuid"),
    (CqlType::Tinyint, "tinyint"),
    (CqlType::Uuid, "uuid"),
    (CqlType::Varint, "varint"),
];

impl CqlType {
    /// The type of this name that needs no parameters: `int`, `varchar`. Case does not matter.
    pub fn scalar(name: &str) -> Option<CqlType> {
        if name.eq_ignore_ascii_case("varchar") {
            return Some(CqlType::Text);
        }
        SCALARS.iter().find(|(_, known)| name.eq_ignore_ascii_case(known)).map(|(ty, _)| ty.clone())
    }

    /// Whether it is a list, a set or a map, frozen or not.
    pub fn is_collection(&self) -> bool {
        matches!(self, CqlType::List { .. } | CqlType::Set { .. } | CqlType::Map { .. })
    }

    /// Whether its parts are cells of their own: a collection or a user-defined type that is not frozen.
    pub fn is_multicell(&self) -> bool {
        match self {
            CqlType::List { frozen, .. }
            | CqlType::Set { frozen, .. }
            | CqlType::Map { frozen, .. }
            | CqlType::User { frozen, .. } => !frozen,
            _ => false,
        }
    }

    /// Whether a column of it is kept in several cells: its elements', or a counter's shards.
    pub fn is_complex(&self) -> bool {
        self.is_multicell() || self.is_counter()
    }

    /// Whether it is a counter.
    pub fn is_counter(&self) -> bool {
        matches!(self, CqlType::Counter)
    }

    /// Whether it counts: what `sum` takes and arithmetic works on.
    pub fn is_numeric(&self) -> bool {
        use CqlType::{Bigint, Counter, Decimal, Double, Float, Int, Smallint, Tinyint, Varint};
        matches!(
            self,
            Bigint | Counter | Decimal | Double | Float | Int | Smallint | Tinyint | Varint
        )
    }

    /// Whether a column of this type may be part of a primary key. A counter may not, a duration may not (two have no
    /// order, for a month has no length), nor what holds one of these, nor what is kept in several cells.
    pub fn is_key_type(&self) -> bool {
        !self.is_multicell() && self.has_order()
    }

    /// Whether two values of it can be said to be less and greater: nowhere in it is a counter or a duration.
    pub fn has_order(&self) -> bool {
        match self {
            CqlType::Counter | CqlType::Duration => false,
            CqlType::List { of, .. } | CqlType::Set { of, .. } => of.has_order(),
            CqlType::Map { key, value, .. } => key.has_order() && value.has_order(),
            CqlType::Tuple(parts) => parts.iter().all(CqlType::has_order),
            CqlType::User { of, .. } => of.fields.iter().all(|(_, ty)| ty.has_order()),
            _ => true,
        }
    }

    /// The same type as one value: `frozen<...>`, and so is all within. Scalars and tuples are frozen anyhow.
    pub fn freeze(&self) -> CqlType {
        match self {
            CqlType::List { of, .. } => CqlType::List { of: Arc::new(of.freeze()), frozen: true },
            CqlType::Set { of, .. } => CqlType::Set { of: Arc::new(of.freeze()), frozen: true },
            CqlType::Map { key, value, .. } => CqlType::Map {
                key: Arc::new(key.freeze()),
                value: Arc::new(value.freeze()),
                frozen: true,
            },
            CqlType::Tuple(parts) => CqlType::Tuple(parts.iter().map(CqlType::freeze).collect()),
            // The fields stay as they were declared: how they are kept follows from this flag.
            CqlType::User { of, .. } => CqlType::User { of: Arc::clone(of), frozen: true },
            scalar => scalar.clone(),
        }
    }

    /// Whether the bytes of any value of `other` are bytes of a value of this type, and mean the same to a reader of
    /// it (Cassandra's `isValueCompatibleWith`): a `text` holds every `ascii`, a `blob` holds everything. So may a
    /// value of `other` be given where this type is wanted, and so may a column's type be widened.
    pub fn value_compatible_with(&self, other: &CqlType) -> bool {
        use CqlType::{
            Ascii, Bigint, Blob, Date, Int, Text, Time, Timestamp, Timeuuid, Uuid, Varint,
        };
        match (self, other) {
            (Blob, other) => !other.is_multicell(),
            (Text, Ascii)
            | (Uuid, Timeuuid)
            | (Varint, Int | Bigint | Timestamp)
            | (Bigint, Timestamp)
            | (Timestamp | Time, Bigint)
            | (Date, Int) => true,
            (CqlType::List { of, frozen }, CqlType::List { of: theirs, frozen: f })
            | (CqlType::Set { of, frozen }, CqlType::Set { of: theirs, frozen: f }) => {
                frozen == f && of.value_compatible_with(theirs)
            }
            (
                CqlType::Map { key, value, frozen },
                CqlType::Map { key: their_key, value: their_value, frozen: f },
            ) => {
                frozen == f
                    && key.value_compatible_with(their_key)
                    && value.value_compatible_with(their_value)
            }
            // More parts are fine: the missing ones are null.
            (CqlType::Tuple(mine), CqlType::Tuple(theirs)) => {
                mine.len() >= theirs.len()
                    && mine.iter().zip(theirs.iter()).all(|(a, b)| a.value_compatible_with(b))
            }
            (mine, theirs) => mine == theirs,
        }
    }
}

/// As `system_schema.columns.type` shows it, and as [`CqlType::parse`] reads it: `map<text, frozen<list<int>>>`.
impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = SCALARS.iter().find(|(ty, _)| ty == self) {
            return f.write_str(name);
        }
        // A tuple is frozen whatever was written, and Cassandra says so.
        let frozen = !self.is_multicell();
        if frozen {
            f.write_str("frozen<")?;
        }
        match self {
            CqlType::List { of, .. } => write!(f, "list<{of}>")?,
            CqlType::Set { of, .. } => write!(f, "set<{of}>")?,
            CqlType::Map { key, value, .. } => write!(f, "map<{key}, {value}>")?,
            CqlType::Tuple(parts) => {
                f.write_str("tuple<")?;
                for (n, part) in parts.iter().enumerate() {
                    let separator = if n == 0 { "" } else { ", " };
                    write!(f, "{separator}{part}")?;
                }
                f.write_str(">")?;
            }
            CqlType::User { of, .. } => write!(f, "{}", Ident::quoted(of.name.as_str()))?,
            // Every other one is in `SCALARS`, which a test makes sure of.
            _ => {}
        }
        if frozen { f.write_str(">") } else { Ok(()) }
    }
}
