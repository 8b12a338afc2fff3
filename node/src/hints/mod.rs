//! The hint store: segment files under an exact byte bound.
