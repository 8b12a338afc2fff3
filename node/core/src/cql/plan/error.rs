//! Why a statement cannot be planned or bound.

use crate::cql::clustering::ClusteringError;
use crate::cql::functions::FunctionError;
use crate::cql::partition_key::PartitionKeyError;
use thiserror::Error;

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The statement or a value cannot be (0x2200). The sentence names what is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The text cannot be read so (0x2000).
    #[error("{0}")]
    Syntax(String),
    /// Stored bytes are not what the table's columns say (0x0000): not the client's fault.
    #[error("table {table}: {what}")]
    Corrupt {
        /// The table.
        table: String,
        /// What is wrong, and where.
        what: String,
    },
}

/// A refusal.
pub(super) fn invalid<T>(sentence: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::Invalid(sentence.into()))
}

impl From<FunctionError> for PlanError {
    fn from(error: FunctionError) -> PlanError {
        PlanError::Invalid(error.to_string())
    }
}

impl From<PartitionKeyError> for PlanError {
    fn from(error: PartitionKeyError) -> PlanError {
        PlanError::Invalid(error.to_string())
    }
}

/// Of bound values; keys that were read are [`PlanError::Corrupt`].
impl From<ClusteringError> for PlanError {
    fn from(error: ClusteringError) -> PlanError {
        PlanError::Invalid(error.to_string())
    }
}
