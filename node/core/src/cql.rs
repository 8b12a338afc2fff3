//! CQL, the language: what a statement says, and what the bytes of a value mean.
//!
//! Pure: text becomes a syntax tree, constants become bytes of a type, bytes of clustering columns become one key that
//! sorts as CQL orders its rows. Frames and sockets are elsewhere (`helenus_proto::cql`, the front end in `node`).
//!
//! Source: Cassandra 4.1's CQL reference, and the native protocol specification v5, §6 (values).

// What a statement says.
pub mod ast;
mod words;
mod lexer;
mod parser;
mod error;
// What a value is.
mod written;
mod constant;
mod literal;
mod text;
mod types;
mod value;
// The types that take more than a line.
pub mod calendar;
pub mod collection;
pub mod decimal;
pub mod duration;
pub mod uuid;
// How values sort, and what they are keys of.
mod order;
pub mod clustering;
pub mod partition_key;
pub mod condition;
// Where the elements of a collection lie that is not frozen.
pub mod elements;
// What is made of them.
pub mod functions;
// What a statement does: keys to read, partitions to write, rows to answer with.
pub mod plan;
// How tables and keyspaces are made, and shown.
pub mod define;
pub mod describe;

pub use constant::Constant;
pub use error::{Found, Position, SyntaxError};
pub use parser::{Limits, MARKERS_MAX, Parsed, parse, parse_within};
pub use types::{CqlType, TYPE_DEPTH_MAX, TYPE_PARTS_MAX, TypeError, UserType};
pub use value::ValueError;
pub use written::Written;
