//! What a client bound to a statement's markers.

use super::failure::{Refusal, invalid};
use helenus_core::cql::plan::ColumnSpec;
use helenus_proto::cql::{Value, Values};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One value for each marker, in the order of the markers.
pub(super) fn in_order(values: Values, markers: &[Arc<ColumnSpec>]) -> Result<Vec<Value>, Refusal> {
    match values {
        Values::Positional(values) if values.len() == markers.len() => Ok(values),
        Values::Positional(values) => Err(invalid(format!(
            "there were {} markers(?) in CQL but {} bound variables",
            markers.len(),
            values.len()
        ))),
        Values::Named(named) => {
            // Of two of one name the first counts.
            let named: BTreeMap<String, Value> = named.into_iter().rev().collect();
            let find = |marker: &Arc<ColumnSpec>| {
                let value = named.get(&marker.name).cloned();
                value.ok_or_else(|| invalid(format!("no value was bound to `{}`", marker.name)))
            };
            markers.iter().map(find).collect()
        }
    }
}
