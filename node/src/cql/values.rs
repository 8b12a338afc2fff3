//! What a client bound to a statement's markers.

use super::failure::{Refusal, invalid};
use helenus_core::cql::plan::{self, ColumnSpec};
use helenus_proto::cql::{Value, Values};

fn of(value: Value) -> plan::Value {
    match value {
        Value::Null => plan::Value::Null,
        Value::Unset => plan::Value::Unset,
        Value::Bytes(bytes) => plan::Value::Bytes(bytes),
    }
}

/// One value for each marker, in the order of the markers.
pub(super) fn in_order(
    values: Values,
    markers: &[ColumnSpec],
) -> Result<Vec<plan::Value>, Refusal> {
    let wrong = |given: usize| {
        invalid(format!(
            "there were {} markers(?) in CQL but {given} bound variables",
            markers.len()
        ))
    };
    match values {
        Values::Positional(values) if values.len() == markers.len() => {
            Ok(values.into_iter().map(of).collect())
        }
        Values::Positional(values) => Err(wrong(values.len())),
        Values::Named(named) => {
            let find = |marker: &ColumnSpec| {
                let found = named.iter().find(|(name, _)| *name == marker.name);
                let found = found.map(|(_, value)| of(value.clone()));
                found.ok_or_else(|| invalid(format!("no value was bound to `{}`", marker.name)))
            };
            markers.iter().map(find).collect()
        }
    }
}
