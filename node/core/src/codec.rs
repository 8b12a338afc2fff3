//! The canonical bytes of a partition: what travels, what is logged, what is hinted, what is digested.
//!
//! One partition has one encoding, so replicas compare 16 bytes of digest instead of data. Invariants:
//! `decode(encode(p)) == p` for every `p` in normal form (see `merge`), and equal partitions encode to equal bytes.
//! Decoding never panics, reads nothing twice and allocates in proportion to what came; the first byte says how to read
//! the rest, so a later format can live beside this one.
//!
//! ```text
//! | version u8 = 1 | flags u8 | then, as flags say: |
//!
//! PLAIN (a key-value put, 11 bytes and the value):
//! | time | [expiry] | bytes value |
//!
//! else, in this order:
//! DELETION | deletion |
//! STATIC   | row |
//! RANGES   | count, then each: kinds u8 (start + 3 * end: 0 open, 1 included, 2 excluded) | [bytes start] | [bytes end] | deletion |
//! ROWS     | count, then each: bytes clustering_key | row |
//!
//! row      | flags u8 | LIVENESS time [EXPIRING expiry] | DELETION deletion | CELLS count, cells | COMPLEX count, columns |
//! cell     | kind u8 (0 value, 1 expiring, 2 tombstone) | column varint | time | [expiry] | bytes value, or second |
//! complex  | column varint | flags u8 (1 deletion, 2 elements) | [deletion] | [count, elements] |
//! element  | kind u8 | bytes path | time | [expiry] | bytes value, or second |
//! deletion | time | second |
//! expiry   | ttl_s varint | second |
//! bytes    | length varint | so many bytes |
//! time     | zigzag varint: microseconds since the time before it in this encoding, at first since 0 |
//! second   | zigzag varint: seconds since the second before it, at first since 0 |
//! count    | varint, never 0 |
//! ```
//!
//! Varints are LEB128, shortest form only. Times are differences because the times of one write are alike: the first
//! takes 8 bytes, the others 1.
//!
//! CAVEAT: [`decode`] does not copy: every value is a slice of the input, and one that is kept keeps the whole input
//! alive. Whoever keeps a small part of a large input copies it.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{CodecError, Put, decode, peek_put};
pub use write::{encode, encode_into, encode_put, encode_put_into};

use crate::data::Partition;

/// The format that is written. The only one there has been.
pub const VERSION: u8 = 1;

/// Flags of a partition.
mod flag {
    pub(super) const PLAIN: u8 = 1;
    pub(super) const PLAIN_EXPIRING: u8 = 2;
    pub(super) const DELETION: u8 = 4;
    pub(super) const STATIC: u8 = 8;
    pub(super) const RANGES: u8 = 16;
    pub(super) const ROWS: u8 = 32;
}

/// Flags of a row.
mod row_flag {
    pub(super) const LIVENESS: u8 = 1;
    pub(super) const EXPIRING: u8 = 2;
    pub(super) const DELETION: u8 = 4;
    pub(super) const CELLS: u8 = 8;
    pub(super) const COMPLEX: u8 = 16;
}

/// Flags of a complex column.
mod complex_flag {
    pub(super) const DELETION: u8 = 1;
    pub(super) const ELEMENTS: u8 = 2;
}

/// What a cell's first byte says.
mod kind {
    pub(super) const VALUE: u8 = 0;
    pub(super) const EXPIRING: u8 = 1;
    pub(super) const TOMBSTONE: u8 = 2;
}

/// 16 bytes that differ when two replicas hold different versions: xxh3_128 of the canonical encoding. A replica digests
/// what it would answer with (`merge::for_read`); one that knows nothing digests the empty partition.
pub fn digest(partition: &Partition) -> [u8; 16] {
    digest_encoded(&encode(partition))
}

/// [`digest`] of a partition whose canonical encoding is at hand.
pub fn digest_encoded(encoded: &[u8]) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(encoded).to_be_bytes()
}
