//! What a node does as a replica: apply, read, digest.
