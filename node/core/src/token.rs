//! Keys become tokens: Cassandra's Murmur3, quirk included.
