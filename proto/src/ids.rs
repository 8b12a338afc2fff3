//! Identities on the wire: sixteen bytes, the most significant first.

use crate::WireError;
use bytes::Bytes;
use helenus_core::{NodeId, TableId};

/// A host id as it travels.
pub fn node_to_wire(node: NodeId) -> Bytes {
    Bytes::copy_from_slice(&node.0.to_be_bytes())
}

/// A host id from the `field` of a message.
pub fn node_from_wire(field: &'static str, bytes: &[u8]) -> Result<NodeId, WireError> {
    sixteen(field, bytes).map(NodeId)
}

/// A table's id as it travels.
pub fn table_to_wire(table: TableId) -> Bytes {
    Bytes::copy_from_slice(&table.0.to_be_bytes())
}

/// A table's id from the `field` of a message.
pub fn table_from_wire(field: &'static str, bytes: &[u8]) -> Result<TableId, WireError> {
    sixteen(field, bytes).map(TableId)
}

fn sixteen(field: &'static str, bytes: &[u8]) -> Result<u128, WireError> {
    <[u8; 16]>::try_from(bytes)
        .map(u128::from_be_bytes)
        .map_err(|_| WireError::new(field, format!("has {} bytes where an id has 16", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_come_back_as_they_went(id: u128) {
            prop_assert_eq!(node_from_wire("node", &node_to_wire(NodeId(id))), Ok(NodeId(id)));
            prop_assert_eq!(table_from_wire("table", &table_to_wire(TableId(id))), Ok(TableId(id)));
        }

        #[test]
        fn only_sixteen_bytes_are_an_id(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(node_from_wire("node", &bytes).is_ok(), bytes.len() == 16);
        }
    }

    #[test]
    fn an_error_names_the_field_and_the_length() {
        let err = node_from_wire("node", b"abc").unwrap_err();
        assert_eq!(err.to_string(), "field `node` has 3 bytes where an id has 16");
        assert_eq!(
            err.inside("digests").to_string(),
            "field `digests.node` has 3 bytes where an id has 16"
        );
    }

    #[test]
    fn the_most_significant_byte_comes_first() {
        assert_eq!(node_to_wire(NodeId(1)).last(), Some(&1));
    }
}
