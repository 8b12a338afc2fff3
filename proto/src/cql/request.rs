//! What clients ask. (§4.1)

use super::consistency::{Consistency, SerialConsistency};
use super::envelope::{Envelope, Flags, Opcode};
use super::event::EventKind;
use super::parameters::{Parameters, Tail, read_values, write_values};
use super::read::{CustomPayload, Malformed, Problem, Reader, Value};
use super::version::{Compression, CompressionRefused, Version};
use super::write::{EncodeError, Writer};
use bytes::Bytes;
use helenus_core::TimestampMicros;
use std::collections::BTreeMap;
use std::fmt;

/// A request as it came, with what its envelope said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whether the client wants the request traced.
    pub tracing: bool,
    /// For a query handler; ordinary ones ignore it.
    pub custom_payload: CustomPayload,
    /// The request.
    pub request: Request,
}

/// A message of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Opens the connection.
    Startup(Startup),
    /// What does the server support?
    Options,
    /// An answer to AUTHENTICATE or AUTH_CHALLENGE.
    AuthResponse {
        /// What the authenticator asked for.
        token: Option<Bytes>,
    },
    /// Executes a statement.
    Query {
        /// The statement.
        query: String,
        /// How.
        parameters: Parameters,
    },
    /// Makes a statement known.
    Prepare {
        /// The statement.
        query: String,
        /// Where names without a keyspace belong; v5 only.
        keyspace: Option<String>,
    },
    /// Executes a statement that is known.
    Execute {
        /// PREPARED's id of the statement.
        id: Bytes,
        /// PREPARED's id of the result's metadata. In v5 always, in v4 never.
        result_metadata_id: Option<Bytes>,
        /// How.
        parameters: Parameters,
    },
    /// Executes statements together.
    Batch(Batch),
    /// Asks for events.
    Register {
        /// Of which kinds.
        kinds: Vec<EventKind>,
    },
}

/// What STARTUP says. Keys that nobody knows are not an error: drivers send their name and version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Startup {
    /// By name, in capital letters.
    pub options: BTreeMap<String, String>,
}

/// Statements that are executed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What "together" means.
    pub kind: BatchKind,
    /// The statements, in order.
    pub statements: Vec<BatchStatement>,
    /// How many replicas must answer.
    pub consistency: Consistency,
    /// Among whom conditions are decided; `None` for all replicas.
    pub serial_consistency: Option<SerialConsistency>,
    /// The version of what is written, unless a statement says another; `None` for the coordinator's clock.
    pub timestamp: Option<TimestampMicros>,
    /// Where names without a keyspace belong; v5 only.
    pub keyspace: Option<String>,
    /// What the server is to take for the current second; v5 only, for tests.
    pub now_in_seconds: Option<i32>,
}

/// What executing together means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BatchKind {
    /// All of it, sooner or later.
    Logged,
    /// In one request.
    Unlogged,
    /// In one request, of counters.
    Counter,
}

/// One statement of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStatement {
    /// Which.
    pub statement: Statement,
    /// One for each of its markers.
    pub values: Vec<Value>,
}

/// A statement, told or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Its text.
    Query(String),
    /// PREPARED's id of it.
    Prepared(Bytes),
}

impl BatchKind {
    const fn code(self) -> u8 {
        match self {
            BatchKind::Logged => 0,
            BatchKind::Unlogged => 1,
            BatchKind::Counter => 2,
        }
    }
}

impl Startup {
    /// The version of CQL that the client writes.
    pub fn cql_version(&self) -> Option<&str> {
        self.options.get("CQL_VERSION").map(String::as_str)
    }

    /// The compression that the client asks for.
    pub fn compression(&self, version: Version) -> Result<Option<Compression>, CompressionRefused> {
        let given = self.options.get("COMPRESSION").filter(|given| !given.is_empty());
        given.map(|given| Compression::from_startup(version, given)).transpose()
    }

    fn read(from: &mut Reader) -> Result<Startup, Malformed> {
        let options = from.string_map("the options")?;
        // Cassandra takes any case.
        let upper = |(name, value): (String, String)| (name.to_ascii_uppercase(), value);
        Ok(Startup { options: options.into_iter().map(upper).collect() })
    }
}

impl Call {
    /// Reads a request. Bytes after it are ignored, as the specification says.
    pub fn decode(envelope: &Envelope) -> Result<Call, Malformed> {
        let mut from = Reader::new(envelope.body.clone());
        let flags = envelope.header.flags;
        let mut custom_payload = CustomPayload::new();
        if flags.contains(Flags::CUSTOM_PAYLOAD) {
            custom_payload = from.bytes_map("the custom payload")?;
        }
        let request = Request::read(&mut from, envelope.header.version, envelope.header.opcode)?;
        Ok(Call { tracing: flags.contains(Flags::TRACING), custom_payload, request })
    }

    pub(crate) fn flags(&self) -> Flags {
        let payload = !self.custom_payload.is_empty();
        let payload = if payload { Flags::CUSTOM_PAYLOAD } else { Flags::NONE };
        payload | if self.tracing { Flags::TRACING } else { Flags::NONE }
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        if !self.custom_payload.is_empty() {
            to.bytes_map("the custom payload", &self.custom_payload)?;
        }
        self.request.write(to, version)
    }
}

impl From<Request> for Call {
    fn from(request: Request) -> Call {
        Call { tracing: false, custom_payload: CustomPayload::new(), request }
    }
}

impl Request {
    /// The opcode of its envelope.
    pub const fn opcode(&self) -> Opcode {
        match self {
            Request::Startup(_) => Opcode::Startup,
            Request::Options => Opcode::Options,
            Request::AuthResponse { .. } => Opcode::AuthResponse,
            Request::Query { .. } => Opcode::Query,
            Request::Prepare { .. } => Opcode::Prepare,
            Request::Execute { .. } => Opcode::Execute,
            Request::Batch(_) => Opcode::Batch,
            Request::Register { .. } => Opcode::Register,
        }
    }

    fn read(from: &mut Reader, version: Version, opcode: Opcode) -> Result<Request, Malformed> {
        Ok(match opcode {
            Opcode::Startup => Request::Startup(Startup::read(from)?),
            Opcode::Options => Request::Options,
            Opcode::AuthResponse => Request::AuthResponse { token: from.bytes("the token")? },
            Opcode::Query => {
                let query = from.long_string("the statement")?;
                Request::Query { query, parameters: Parameters::read(from, version)? }
            }
            Opcode::Prepare => {
                let query = from.long_string("the statement")?;
                Request::Prepare { query, keyspace: read_prepare_keyspace(from, version)? }
            }
            Opcode::Execute => {
                let id = from.short_bytes("the statement's id")?;
                let result_metadata_id = match version {
                    Version::V4 => None,
                    Version::V5 => Some(from.short_bytes("the result's metadata id")?),
                };
                let parameters = Parameters::read(from, version)?;
                Request::Execute { id, result_metadata_id, parameters }
            }
            Opcode::Batch => Request::Batch(Batch::read(from, version)?),
            Opcode::Register => {
                let count = from.short_count("the events", 2)?;
                let kinds = (0..count).map(|_| EventKind::read(from)).collect::<Result<_, _>>()?;
                Request::Register { kinds }
            }
            _ => {
                let why = "is a response, where a request is expected";
                return Err(from.wrong("the message", Problem::Refused { why }));
            }
        })
    }

    fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        match self {
            Request::Startup(startup) => to.string_map("the options", &startup.options),
            Request::Options => Ok(()),
            Request::AuthResponse { token } => to.bytes("the token", token.as_deref()),
            Request::Query { query, parameters } => {
                to.long_string("the statement", query)?;
                parameters.write(to, version)
            }
            Request::Prepare { query, keyspace } => {
                to.long_string("the statement", query)?;
                write_prepare_keyspace(to, version, keyspace.as_deref())
            }
            Request::Execute { id, result_metadata_id, parameters } => {
                to.short_bytes("the statement's id", id)?;
                if version >= Version::V5 {
                    let id = result_metadata_id.as_deref().unwrap_or_default();
                    to.short_bytes("the result's metadata id", id)?;
                }
                parameters.write(to, version)
            }
            Request::Batch(batch) => batch.write(to, version),
            Request::Register { kinds } => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                to.string_list("the events", &names)
            }
        }
    }
}

impl fmt::Debug for Request {
    /// Without the token of AUTH_RESPONSE, which may be a password and must not come into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Startup(startup) => f.debug_tuple("Startup").field(startup).finish(),
            Request::Options => f.write_str("Options"),
            Request::AuthResponse { .. } => f.debug_struct("AuthResponse").finish_non_exhaustive(),
            Request::Query { query, parameters } => f
                .debug_struct("Query")
                .field("query", query)
                .field("parameters", parameters)
                .finish(),
            Request::Prepare { query, keyspace } => {
                f.debug_struct("Prepare").field("query", query).field("keyspace", keyspace).finish()
            }
            Request::Execute { id, result_metadata_id, parameters } => f
                .debug_struct("Execute")
                .field("id", id)
                .field("result_metadata_id", result_metadata_id)
                .field("parameters", parameters)
                .finish(),
            Request::Batch(batch) => f.debug_tuple("Batch").field(batch).finish(),
            Request::Register { kinds } => {
                f.debug_struct("Register").field("kinds", kinds).finish()
            }
        }
    }
}

/// v5's PREPARE has flags, of which one is known.
const PREPARE_KEYSPACE: i32 = 0x01;

fn read_prepare_keyspace(from: &mut Reader, version: Version) -> Result<Option<String>, Malformed> {
    if version < Version::V5 {
        return Ok(None);
    }
    let flags = from.int("PREPARE's flags")?;
    (flags & PREPARE_KEYSPACE != 0).then(|| from.string("the keyspace")).transpose()
}

fn write_prepare_keyspace(
    to: &mut Writer<'_>,
    version: Version,
    keyspace: Option<&str>,
) -> Result<(), EncodeError> {
    match (version, keyspace) {
        (Version::V4, None) => Ok(()),
        (Version::V4, Some(_)) => {
            Err(EncodeError::NotInVersion { what: "PREPARE's keyspace", version })
        }
        (Version::V5, None) => {
            to.int(0);
            Ok(())
        }
        (Version::V5, Some(keyspace)) => {
            to.int(PREPARE_KEYSPACE);
            to.string("the keyspace", keyspace)
        }
    }
}

impl Batch {
    fn read(from: &mut Reader, version: Version) -> Result<Batch, Malformed> {
        let kind = match from.byte("the batch's type")? {
            0 => BatchKind::Logged,
            1 => BatchKind::Unlogged,
            2 => BatchKind::Counter,
            code => return Err(unknown(from, "the batch's type", code, "0, 1 or 2")),
        };
        // The shortest is an id of no bytes, and no values.
        let count = from.short_count("the batch's statements", 5)?;
        let statements =
            (0..count).map(|_| BatchStatement::read(from)).collect::<Result<_, _>>()?;
        let consistency = Consistency::read(from, "the consistency")?;
        let Tail { serial_consistency, timestamp, keyspace, now_in_seconds } =
            Tail::read_of_batch(from, version)?;
        Ok(Batch {
            kind,
            statements,
            consistency,
            serial_consistency,
            timestamp,
            keyspace,
            now_in_seconds,
        })
    }

    fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        to.byte(self.kind.code());
        to.short_count("the batch's statements", self.statements.len())?;
        for BatchStatement { statement, values } in &self.statements {
            match statement {
                Statement::Query(query) => {
                    to.byte(0);
                    to.long_string("the statement", query)?;
                }
                Statement::Prepared(id) => {
                    to.byte(1);
                    to.short_bytes("the statement's id", id)?;
                }
            }
            write_values(to, values)?;
        }
        to.short(self.consistency.code());
        let tail = Tail {
            serial_consistency: self.serial_consistency,
            timestamp: self.timestamp,
            keyspace: self.keyspace.clone(),
            now_in_seconds: self.now_in_seconds,
        };
        tail.write_of_batch(to, version)
    }
}

impl BatchStatement {
    fn read(from: &mut Reader) -> Result<BatchStatement, Malformed> {
        let statement = match from.byte("the statement's kind")? {
            0 => Statement::Query(from.long_string("the statement")?),
            1 => Statement::Prepared(from.short_bytes("the statement's id")?),
            code => return Err(unknown(from, "the statement's kind", code, "0 or 1")),
        };
        Ok(BatchStatement { statement, values: read_values(from)? })
    }
}

/// The byte that was just read is none of those expected.
fn unknown(from: &Reader, what: &'static str, code: u8, expected: &'static str) -> Malformed {
    let problem = Problem::Unknown { found: code.to_string(), expected };
    Malformed { what, at: from.at() - 1, problem }
}

#[cfg(test)]
mod tests;
