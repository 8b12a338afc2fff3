//! CQL's native protocol, versions 4 and 5: between a socket's bytes and messages that are values.
//!
//! **Idea.** Three layers, each a plain value that is fed bytes and never waits: segments (v5 only) carry envelopes,
//! an envelope carries a message, a message is written in the notations of the specification's §3.
//!
//! ```text
//! v5 segment:  | header 3 or 5 bytes | crc24 | payload ≤ 131,071: one or more envelopes, or a part of a long one | crc32 |
//! envelope:    | version u8 | flags u8 | stream i16 | opcode u8 | length i32 | body |
//! body:        | [tracing id] [warnings] [custom payload] | message |
//! ```
//!
//! A server holds an [`Inbound`] and an [`Outbound`] per connection:
//!
//! ```
//! use bytes::BytesMut;
//! use helenus_proto::cql::{self, Call, Extras, Request, Response, Side, Version};
//!
//! # let mut client = cql::Outbound::new();
//! # client.call(Version::V5, 0, &Request::Startup(Default::default()).into())?;
//! # let mut socket: BytesMut = client.take();
//! let mut inbound = cql::Inbound::new(Side::Server, cql::BODY_BYTES_MAX_DEFAULT);
//! let mut outbound = cql::Outbound::new();
//! while let Some(envelope) = inbound.decode(&mut socket)? {
//!     let cql::Header { version, stream, .. } = envelope.header;
//!     if let Request::Startup(startup) = Call::decode(&envelope)?.request {
//!         let compression = startup.compression(version)?;
//!         inbound.agree(version, compression);
//!         outbound.reply(version, stream, &Extras::default(), &Response::Ready)?;
//!         outbound.agree(version, compression);
//!     }
//! }
//! assert_eq!(outbound.take()[..], [0x85, 0, 0, 0, 0x02, 0, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants.** No bytes make it panic. A length or a count is believed only when the bytes that are left could bear
//! it, or when it is below a limit that the caller set. What is decoded shares its buffer, values are not copied; what is
//! encoded is written where it stays. Every [`Fault`] says what answer is owed and whether the connection goes on; what
//! is [`Malformed`] is a fault of one request, to be answered with [`ErrorKind::Protocol`] on its stream.
//!
//! **Absent on purpose:** sockets, timers, who may log in, and what a statement or a value means (`helenus_core::cql`).
//! Versions 1 to 3 are refused. Names in a BATCH are, as Cassandra reads no such thing either.
//!
//! Source: the native protocol specifications v4 and v5 (§2 framing, §3 notations, §4 messages, §5 compression, §9
//! errors), and Cassandra 4.1 where they leave a choice or contradict themselves, as they do on segments that are not
//! compressed.

// What a connection speaks.
mod version;
mod consistency;
// Notations, one side each.
mod read;
mod write;
// Layers, the outermost first.
mod connection;
mod segment;
mod compression;
mod envelope;
// Messages.
mod request;
mod parameters;
mod response;
mod error;
mod event;
mod rows;
mod types;
// What travels in AUTH_RESPONSE.
mod sasl;

pub use compression::BadBlock;
pub use connection::{Fault, Inbound, Outbound};
pub use consistency::{Consistency, SerialConsistency};
pub use envelope::{
    BODY_BYTES_MAX_DEFAULT, Envelope, EnvelopeDecoder, EnvelopeFault, Flags, HEADER_BYTES, Header,
    Opcode, Owed, Side, write_envelope,
};
pub use error::{ErrorKind, ErrorResponse, FailureReason, Failures, WriteType};
pub use event::{
    ChangeKind, EVENT_STREAM, Event, EventKind, SchemaChange, SchemaTarget, TopologyChange,
};
pub use parameters::{Parameters, Values};
pub use read::{CustomPayload, Malformed, Problem, Reader, Value};
pub use request::{Batch, BatchKind, BatchStatement, Call, Request, Startup, Statement};
pub use response::{Extras, Reply, Response};
pub use rows::{ColumnSpec, Columns, Prepared, Rows, RowsMetadata, RowsWriter};
pub use sasl::{BadToken, PASSWORD_AUTHENTICATOR, Plain, TOKEN_BYTES_MAX};
pub use segment::{PAYLOAD_BYTES_MAX, Segment, SegmentFault, SegmentFormat};
pub use types::TYPE_DEPTH_MAX;
pub use version::{Compression, CompressionRefused, Version};
pub use write::{EncodeError, Writer};

impl From<Malformed> for ErrorResponse {
    fn from(malformed: Malformed) -> ErrorResponse {
        ErrorResponse::new(ErrorKind::Protocol, malformed.to_string())
    }
}
