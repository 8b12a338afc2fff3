//! Plans: the pure middle between the syntax tree and storage.
//!
//! ```text
//! Statement --plan()--> Plan --bind(values)--> keys to read            -> partitions -> rows()
//!                                              partitions to merge in  -> the coordinator
//!                                              what is asked of one    -> partition  -> decide(), refused()
//! ```
//!
//! [`plan`] looks names up, gives markers their types and refuses what has no meaning; it is done once for a prepared
//! statement. Binding checks values and makes keys of them. What is read becomes rows in [`BoundSelect::rows`].
//!
//! Clustering restrictions become ranges of clustering keys, sorted and disjoint, whatever was said (`=`, `IN`, slices over
//! one column or several, in either order): reading walks them, and a range deletion writes them down. What no range can
//! say is a filter, which is allowed only with `ALLOW FILTERING`.
//!
//! What changes a list by its places reads before it writes: whoever binds asks `reads()` first, and hands in what was
//! found ([`Held`]).
//!
//! **Not supported here**, and refused in so many words: user-defined types in `CAST` and type hints, `JSON`, `LIKE`.
//!
//! Source: Cassandra 4.1's CQL reference; sentences of refusals are Cassandra's in sense.

mod batch;
mod column;
mod table;
mod conditional;
mod error;
mod expr;
mod filter;
mod function;
mod markers;
mod modify;
mod resolve;
mod restrict;
mod rows;
mod select;
mod selection;
mod slices;
mod source;

pub use batch::{BatchLimits, BatchPlan};
pub use conditional::{Conditional, ConditionalAnswer};
pub use error::PlanError;
pub use modify::{ModifyPlan, check_batch};
pub use rows::{Carried, Fold, PartitionPart, PartitionRows};
pub use select::{BoundSelect, Keys, SelectPlan};
pub use slices::Slice;
pub use table::Table;

use super::ast::{Marker, QualifiedName, Statement};
use super::types::CqlType;
use crate::data::{Key, Partition};
use crate::schema::TableId;
use crate::types::{GcSeconds, TimestampMicros};
use bytes::Bytes;
use error::invalid;
use markers::Markers;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Finds tables. System tables are tables like others.
pub trait Catalog {
    /// The table of this name: made when the schema was, not when somebody asks.
    fn table(&self, keyspace: &str, name: &str) -> Option<Arc<Table>>;
    /// Whether there is such a keyspace: an unknown keyspace is told from an unknown table.
    fn has_keyspace(&self, keyspace: &str) -> bool;
}

/// A column of an answer, or what a marker stands for. Where it is a column of the table it is the table's own one, shared by
/// all plans that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The table's keyspace. Shared by all columns of a statement about one table, as the table's name is.
    pub keyspace: Arc<str>,
    /// The table.
    pub table: Arc<str>,
    /// The column, or what Cassandra calls the expression.
    pub name: String,
    /// Its type.
    pub ty: CqlType,
}

/// What a client bound to a marker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Null: what is written so is deleted.
    Null,
    /// Nothing: what is there stays.
    Unset,
    /// A value.
    Bytes(Bytes),
}

/// What functions without arguments (`now()`, `uuid()`) make their values of: the time, and chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The coordinator's wall clock.
    pub now: TimestampMicros,
    /// Drawn anew for each request.
    pub random: u128,
}

/// When a write happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteAt {
    /// The request's timestamp, or the coordinator's. `USING TIMESTAMP` overrides it.
    pub timestamp: TimestampMicros,
    /// The second that TTLs and `gc_grace` count from.
    pub now: GcSeconds,
}

/// What was read before a write that depends on it; of a partition that nobody knows, an empty one.
pub type Held = BTreeMap<(TableId, Key), Partition>;

/// A statement whose names and types are known.
#[derive(Debug, Clone)]
pub enum Plan {
    /// `SELECT`.
    Select(SelectPlan),
    /// `INSERT`, `UPDATE` or `DELETE`.
    Modify(ModifyPlan),
    /// `BEGIN BATCH`.
    Batch(BatchPlan),
}

impl Plan {
    /// What each marker stands for, in the order in which they are bound.
    pub fn markers(&self) -> &[Arc<ColumnSpec>] {
        self.shared_markers()
    }

    /// [`Plan::markers`], to be kept.
    pub fn shared_markers(&self) -> &Arc<[Arc<ColumnSpec>]> {
        match self {
            Plan::Select(plan) => plan.shared_markers(),
            Plan::Modify(plan) => plan.shared_markers(),
            Plan::Batch(plan) => plan.shared_markers(),
        }
    }

    /// The markers of the partition key's columns, in the key's order: drivers make the routing key of them. Empty unless
    /// each column is bound by exactly one marker.
    pub fn partition_key_markers(&self) -> Vec<u16> {
        match self {
            Plan::Select(plan) => plan.partition_key_markers(),
            Plan::Modify(plan) => plan.partition_key_markers(),
            Plan::Batch(plan) => plan.partition_key_markers(),
        }
    }
}

/// Plans a `SELECT`, an `INSERT`, an `UPDATE`, a `DELETE` or a batch. `keyspace` is the connection's own.
///
/// # Errors
/// A name that is not known, a type that does not fit, what the statement may not say, what is not supported.
pub fn plan(
    statement: &Statement,
    markers: &[Marker],
    keyspace: Option<&str>,
    catalog: &dyn Catalog,
) -> Result<Plan, PlanError> {
    let names = Names { keyspace, catalog };
    let markers = Markers::new(markers);
    match statement {
        Statement::Select(select) => {
            SelectPlan::new(select, markers, names.table(&select.table)?).map(Plan::Select)
        }
        Statement::Modify(modification) => {
            ModifyPlan::new(modification, markers, &names).map(Plan::Modify)
        }
        Statement::Batch(batch) => BatchPlan::new(batch, markers, &names).map(Plan::Batch),
        _ => invalid("only SELECT, INSERT, UPDATE, DELETE and BATCH are planned"),
    }
}

/// Where tables are found.
struct Names<'a> {
    keyspace: Option<&'a str>,
    catalog: &'a dyn Catalog,
}

impl Names<'_> {
    fn table(&self, name: &QualifiedName) -> Result<Arc<Table>, PlanError> {
        let own = name.keyspace.as_ref().map(|keyspace| keyspace.as_str());
        let Some(keyspace) = own.or(self.keyspace) else {
            return invalid(
                "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
            );
        };
        match self.catalog.table(keyspace, name.name.as_str()) {
            Some(table) => Ok(table),
            None if !self.catalog.has_keyspace(keyspace) => {
                invalid(format!("keyspace {keyspace} does not exist"))
            }
            None => invalid(format!("table {keyspace}.{} does not exist", name.name.as_str())),
        }
    }
}
