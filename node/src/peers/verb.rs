//! What a message is about, and which lane it takes.

use helenus_proto::v1::ApplyPath;
use helenus_proto::v1::message::Body;
use std::fmt;

/// One of the three streams to a peer. They are separate connections, so a page of hints never stands in front of a
/// heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Gossip, schema and who leaves: little, and never late.
    Urgent,
    /// Reads and writes of single partitions.
    Small,
    /// Hints in pages, range reads and repair.
    Bulk,
}

impl Lane {
    /// Every lane, in order.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Small, Lane::Bulk];

    /// The lane's name, on the wire and in `tpstats`.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Small => "small",
            Lane::Bulk => "bulk",
        }
    }

    /// The lane of that name.
    pub fn from_name(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.as_str() == name)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of a message: what drops are counted by and what the message filter matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the body of that name in internode.proto")]
pub enum Verb {
    Mutation,
    ReadRepair,
    Hint,
    Read,
    Range,
    Gossip,
    PullSchema,
    SchemaPush,
    HintPage,
    RepairHash,
    RepairSend,
    RepairPage,
    BatchStore,
    BatchRemove,
    CounterMutation,
    PaxosPrepare,
    PaxosPropose,
    PaxosCommit,
    LeaveNotice,
    HintHandover,
    Ack,
    Failed,
    Partition,
    RangeAnswer,
    Schema,
    RepairHashes,
    RepairSent,
    CounterAnswer,
    PaxosPromise,
    PaxosAccepted,
    /// A body that this version does not know.
    Unknown,
}

impl Verb {
    /// Every verb, in order: `Verb::ALL[verb as usize] == verb`.
    pub const ALL: [Verb; 31] = [
        Verb::Mutation,
        Verb::ReadRepair,
        Verb::Hint,
        Verb::Read,
        Verb::Range,
        Verb::Gossip,
        Verb::PullSchema,
        Verb::SchemaPush,
        Verb::HintPage,
        Verb::RepairHash,
        Verb::RepairSend,
        Verb::RepairPage,
        Verb::BatchStore,
        Verb::BatchRemove,
        Verb::CounterMutation,
        Verb::PaxosPrepare,
        Verb::PaxosPropose,
        Verb::PaxosCommit,
        Verb::LeaveNotice,
        Verb::HintHandover,
        Verb::Ack,
        Verb::Failed,
        Verb::Partition,
        Verb::RangeAnswer,
        Verb::Schema,
        Verb::RepairHashes,
        Verb::RepairSent,
        Verb::CounterAnswer,
        Verb::PaxosPromise,
        Verb::PaxosAccepted,
        Verb::Unknown,
    ];

    /// The kind of `body`.
    pub fn of(body: &Body) -> Verb {
        match body {
            Body::Mutation(apply) => match ApplyPath::try_from(apply.path) {
                Ok(ApplyPath::Hint) => Verb::Hint,
                Ok(ApplyPath::ReadRepair) => Verb::ReadRepair,
                Ok(ApplyPath::Write) | Err(_) => Verb::Mutation,
            },
            Body::Read(_) => Verb::Read,
            Body::Range(_) => Verb::Range,
            Body::Gossip(_) => Verb::Gossip,
            Body::PullSchema(_) => Verb::PullSchema,
            Body::SchemaPush(_) => Verb::SchemaPush,
            Body::HintPage(_) => Verb::HintPage,
            Body::Ack(_) => Verb::Ack,
            Body::Failed(_) => Verb::Failed,
            Body::Partition(_) => Verb::Partition,
            Body::RangeAnswer(_) => Verb::RangeAnswer,
            Body::Schema(_) => Verb::Schema,
            Body::RepairHash(_) => Verb::RepairHash,
            Body::RepairSend(_) => Verb::RepairSend,
            Body::RepairPage(_) => Verb::RepairPage,
            Body::BatchStore(_) => Verb::BatchStore,
            Body::BatchRemove(_) => Verb::BatchRemove,
            Body::RepairHashes(_) => Verb::RepairHashes,
            Body::RepairSent(_) => Verb::RepairSent,
            Body::CounterMutation(_) => Verb::CounterMutation,
            Body::CounterAnswer(_) => Verb::CounterAnswer,
            Body::PaxosPrepare(_) => Verb::PaxosPrepare,
            Body::PaxosPropose(_) => Verb::PaxosPropose,
            Body::PaxosCommit(_) => Verb::PaxosCommit,
            Body::LeaveNotice(_) => Verb::LeaveNotice,
            Body::HintHandover(_) => Verb::HintHandover,
            Body::PaxosPromise(_) => Verb::PaxosPromise,
            Body::PaxosAccepted(_) => Verb::PaxosAccepted,
        }
    }

    /// The kind of `body`, where there may be none that this version knows.
    pub fn of_option(body: Option<&Body>) -> Verb {
        body.map_or(Verb::Unknown, Verb::of)
    }

    /// Whether it answers a request.
    pub fn is_answer(self) -> bool {
        matches!(
            self,
            Verb::Ack
                | Verb::Failed
                | Verb::Partition
                | Verb::RangeAnswer
                | Verb::Schema
                | Verb::RepairHashes
                | Verb::RepairSent
                | Verb::CounterAnswer
                | Verb::PaxosPromise
                | Verb::PaxosAccepted
        )
    }

    /// The lane a request of this kind takes. Answers go back on the stream their request came by.
    pub fn lane(self) -> Lane {
        match self {
            Verb::Gossip
            | Verb::PullSchema
            | Verb::SchemaPush
            | Verb::Schema
            | Verb::LeaveNotice => Lane::Urgent,
            Verb::HintPage
            | Verb::HintHandover
            | Verb::Hint
            | Verb::Range
            | Verb::RangeAnswer
            | Verb::RepairHash
            | Verb::RepairSend
            | Verb::RepairPage
            | Verb::RepairHashes
            | Verb::RepairSent => Lane::Bulk,
            Verb::Mutation
            | Verb::ReadRepair
            | Verb::Read
            | Verb::BatchStore
            | Verb::BatchRemove
            | Verb::Ack
            | Verb::Failed
            | Verb::Partition
            | Verb::CounterMutation
            | Verb::CounterAnswer
            | Verb::PaxosPrepare
            | Verb::PaxosPropose
            | Verb::PaxosCommit
            | Verb::PaxosPromise
            | Verb::PaxosAccepted
            | Verb::Unknown => Lane::Small,
        }
    }

    /// The verb's name, in metrics, `tpstats` and filter rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Mutation => "MUTATION",
            Verb::ReadRepair => "READ_REPAIR",
            Verb::Hint => "HINT",
            Verb::Read => "READ",
            Verb::Range => "RANGE",
            Verb::Gossip => "GOSSIP",
            Verb::PullSchema => "SCHEMA_PULL",
            Verb::SchemaPush => "SCHEMA_PUSH",
            Verb::HintPage => "HINT_PAGE",
            Verb::Ack => "ACK",
            Verb::Failed => "FAILED",
            Verb::Partition => "PARTITION",
            Verb::RangeAnswer => "RANGE_ANSWER",
            Verb::Schema => "SCHEMA",
            Verb::RepairHash => "REPAIR_HASH",
            Verb::RepairSend => "REPAIR_SEND",
            Verb::RepairPage => "REPAIR_PAGE",
            Verb::BatchStore => "BATCH_STORE",
            Verb::BatchRemove => "BATCH_REMOVE",
            Verb::RepairHashes => "REPAIR_HASHES",
            Verb::RepairSent => "REPAIR_SENT",
            Verb::CounterMutation => "COUNTER_MUTATION",
            Verb::CounterAnswer => "COUNTER_ANSWER",
            Verb::PaxosPrepare => "PAXOS_PREPARE",
            Verb::PaxosPropose => "PAXOS_PROPOSE",
            Verb::PaxosCommit => "PAXOS_COMMIT",
            Verb::LeaveNotice => "LEAVE_NOTICE",
            Verb::HintHandover => "HINT_HANDOVER",
            Verb::PaxosPromise => "PAXOS_PROMISE",
            Verb::PaxosAccepted => "PAXOS_ACCEPTED",
            Verb::Unknown => "UNKNOWN",
        }
    }

    /// The verb of that name.
    pub fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.as_str() == name)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_positions_round_trip() {
        for (at, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, at);
            assert_eq!(Verb::from_name(verb.as_str()), Some(verb));
        }
        for lane in Lane::ALL {
            assert_eq!(Lane::from_name(lane.as_str()), Some(lane));
        }
        assert_eq!(Verb::from_name("mutation"), None);
    }
}
