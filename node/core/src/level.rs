//! Consistency levels: how many replicas must answer before the coordinator does.

/// How many replicas must answer an operation (Cassandra's `ConsistencyLevel`; the numbers are CQL's wire codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// A write may be satisfied by a durable hint alone. Writes only.
    Any = 0,
    /// One replica.
    One = 1,
    /// Two replicas.
    Two = 2,
    /// Three replicas.
    Three = 3,
    /// A majority of all replicas in all data centres.
    Quorum = 4,
    /// Every replica.
    All = 5,
    /// A majority of the replicas in the coordinator's data centre.
    LocalQuorum = 6,
    /// A majority in each data centre.
    EachQuorum = 7,
    /// One replica in the coordinator's data centre.
    LocalOne = 10,
}
