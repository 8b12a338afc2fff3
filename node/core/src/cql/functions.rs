//! Functions on values: arithmetic, casts, aggregates, time. Pure; what time it is, is an argument.
//!
//! Each takes and gives the bytes of values, `None` being null; a value without bytes counts as null, for it is no
//! number and no time. Which function a name means, and whether its arguments fit, is the statement's affair: the
//! result's type is asked for beforehand (`arithmetic_type`, `can_cast`, `aggregate_type`).
//!
//! Source: `OperationFcts`, `CastFcts`, `AggregateFcts` and `TimeFcts` of Cassandra 4.1. Differences are said where they
//! are; all of them refuse what would take more memory than a value may have.

mod aggregate;
mod arithmetic;
mod cast;
mod number;
#[cfg(test)]
mod tests;
mod time;

pub use aggregate::{Aggregate, AggregateKind, aggregate_type};
pub use arithmetic::{Operator, arithmetic, arithmetic_type, negate};
pub use cast::{can_cast, cast};
pub use time::{
    add_duration, max_timeuuid, min_timeuuid, now, to_date, to_timestamp, to_unix_timestamp,
};

use super::types::CqlType;
use super::value::ValueError;
use bytes::Bytes;
use thiserror::Error;

/// Why a function has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FunctionError {
    /// An argument that is not a value of its type.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Types for which there is no such function.
    #[error("{function} is not supported for {types}")]
    Unsupported {
        /// The function.
        function: &'static str,
        /// The arguments' types.
        types: String,
    },
    /// A division of integers or decimals by 0.
    #[error("the operation '{left} {operator} {right}' failed: / by zero")]
    DivisionByZero {
        /// The type of the dividend.
        left: String,
        /// `/` or `%`.
        operator: char,
        /// The type of the divisor.
        right: String,
    },
    /// The result, or something on the way to it, is too large.
    #[error("{function} failed: the result is out of range or has too many digits")]
    TooLarge {
        /// The function.
        function: &'static str,
    },
    /// NaN and the infinities are not decimals.
    #[error("{value} cannot be converted into a decimal")]
    NotDecimal {
        /// The number.
        value: String,
    },
    /// A duration which is finer than what it is added to.
    #[error("The duration must have a {wanted} precision. Was: {found}")]
    Precision {
        /// `day` or `millisecond`.
        wanted: &'static str,
        /// The duration.
        found: String,
    },
}

/// `blobAsInt(blob)` and the like: the same bytes, if they are a value of `ty`. The other way, `intAsBlob(value)`, there
/// is nothing to do.
pub fn blob_as(ty: &CqlType, blob: Option<&[u8]>) -> Result<Option<Bytes>, FunctionError> {
    let Some(bytes) = blob else {
        return Ok(None);
    };
    ty.check(bytes)?;
    Ok(Some(Bytes::copy_from_slice(bytes)))
}

fn unsupported(function: &'static str, types: &[&CqlType]) -> FunctionError {
    let types: Vec<_> = types.iter().map(|ty| ty.to_string()).collect();
    FunctionError::Unsupported { function, types: types.join(", ") }
}
