//! What servers answer. (§4.2)

use super::envelope::{Envelope, Flags, Opcode};
use super::error::ErrorResponse;
use super::event::{Event, SchemaChange};
use super::read::{CustomPayload, Malformed, Problem, Reader};
use super::rows::{Prepared, Rows};
use super::version::Version;
use super::write::{EncodeError, Writer};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(crate) const VOID: i32 = 1;
pub(crate) const ROWS: i32 = 2;
pub(crate) const SET_KEYSPACE: i32 = 3;
pub(crate) const PREPARED: i32 = 4;
pub(crate) const SCHEMA_CHANGE: i32 = 5;

/// A response with what precedes it in its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What precedes it.
    pub extras: Extras,
    /// The response.
    pub response: Response,
}

/// What may precede a response in its body, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// Where the trace of the request is found, if it was traced.
    pub tracing_id: Option<u128>,
    /// For the people who wrote the client.
    pub warnings: Vec<String>,
    /// From a query handler.
    pub custom_payload: CustomPayload,
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// It cannot be done, or not be known to be done.
    Error(ErrorResponse),
    /// The connection is open.
    Ready,
    /// Who are you?
    Authenticate {
        /// The authenticator's class, by which a driver knows what to send.
        class: String,
    },
    /// The authenticator's next question.
    AuthChallenge {
        /// The question.
        token: Option<Bytes>,
    },
    /// The connection is open.
    AuthSuccess {
        /// The authenticator's last word.
        token: Option<Bytes>,
    },
    /// Answers OPTIONS.
    Supported {
        /// What is supported, by the options' names.
        options: BTreeMap<String, Vec<String>>,
    },
    /// The statement is done, and has nothing to say.
    Void,
    /// The rows of a query.
    Rows(Rows),
    /// USE was done.
    SetKeyspace {
        /// The keyspace in use.
        keyspace: String,
    },
    /// The statement is known.
    Prepared(Prepared),
    /// The statement changed the schema.
    SchemaChange(SchemaChange),
    /// Something happened. On stream -1.
    Event(Event),
}

impl Extras {
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = Flags::NONE;
        for (given, flag) in [
            (self.tracing_id.is_some(), Flags::TRACING),
            (!self.warnings.is_empty(), Flags::WARNINGS),
            (!self.custom_payload.is_empty(), Flags::CUSTOM_PAYLOAD),
        ] {
            flags = if given { flags | flag } else { flags };
        }
        flags
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        if let Some(id) = self.tracing_id {
            to.uuid(id);
        }
        if !self.warnings.is_empty() {
            to.short_count("the warnings", self.warnings.len())?;
            self.warnings.iter().for_each(|warning| to.message(warning));
        }
        if !self.custom_payload.is_empty() {
            to.bytes_map("the custom payload", &self.custom_payload)?;
        }
        Ok(())
    }

    fn read(from: &mut Reader, flags: Flags) -> Result<Extras, Malformed> {
        let mut extras = Extras::default();
        if flags.contains(Flags::TRACING) {
            extras.tracing_id = Some(from.uuid("the tracing id")?);
        }
        if flags.contains(Flags::WARNINGS) {
            extras.warnings = from.string_list("the warnings")?;
        }
        if flags.contains(Flags::CUSTOM_PAYLOAD) {
            extras.custom_payload = from.bytes_map("the custom payload")?;
        }
        Ok(extras)
    }
}

impl Reply {
    /// Reads a response. Bytes after it are ignored, as the specification says.
    pub fn decode(envelope: &Envelope) -> Result<Reply, Malformed> {
        let mut from = Reader::new(envelope.body.clone());
        let header = envelope.header;
        let extras = Extras::read(&mut from, header.flags)?;
        let response = Response::read(&mut from, header.version, header.opcode)?;
        Ok(Reply { extras, response })
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Reply {
        Reply { extras: Extras::default(), response }
    }
}

impl Response {
    /// The opcode of its envelope.
    pub const fn opcode(&self) -> Opcode {
        match self {
            Response::Error(_) => Opcode::Error,
            Response::Ready => Opcode::Ready,
            Response::Authenticate { .. } => Opcode::Authenticate,
            Response::AuthChallenge { .. } => Opcode::AuthChallenge,
            Response::AuthSuccess { .. } => Opcode::AuthSuccess,
            Response::Supported { .. } => Opcode::Supported,
            Response::Void
            | Response::Rows(_)
            | Response::SetKeyspace { .. }
            | Response::Prepared(_)
            | Response::SchemaChange(_) => Opcode::Result,
            Response::Event(_) => Opcode::Event,
        }
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        match self {
            Response::Error(error) => error.write(to, version)?,
            Response::Ready => {}
            Response::Authenticate { class } => to.string("the authenticator's class", class)?,
            Response::AuthChallenge { token } | Response::AuthSuccess { token } => {
                to.bytes("the token", token.as_deref())?;
            }
            Response::Supported { options } => to.string_multimap("the options", options)?,
            Response::Void => to.int(VOID),
            Response::Rows(rows) => {
                to.int(ROWS);
                rows.write(to, version)?;
            }
            Response::SetKeyspace { keyspace } => {
                to.int(SET_KEYSPACE);
                to.string("the keyspace", keyspace)?;
            }
            Response::Prepared(prepared) => {
                to.int(PREPARED);
                prepared.write(to, version)?;
            }
            Response::SchemaChange(change) => {
                to.int(SCHEMA_CHANGE);
                change.write(to)?;
            }
            Response::Event(event) => event.write(to)?,
        }
        Ok(())
    }

    fn read(from: &mut Reader, version: Version, opcode: Opcode) -> Result<Response, Malformed> {
        Ok(match opcode {
            Opcode::Error => Response::Error(ErrorResponse::read(from, version)?),
            Opcode::Ready => Response::Ready,
            Opcode::Authenticate => {
                Response::Authenticate { class: from.string("the authenticator's class")? }
            }
            Opcode::AuthChallenge => Response::AuthChallenge { token: from.bytes("the token")? },
            Opcode::AuthSuccess => Response::AuthSuccess { token: from.bytes("the token")? },
            Opcode::Supported => {
                Response::Supported { options: from.string_multimap("the options")? }
            }
            Opcode::Result => Response::read_result(from, version)?,
            Opcode::Event => Response::Event(Event::read(from)?),
            _ => {
                let why = "is a request, where a response is expected";
                return Err(from.wrong("the message", Problem::Refused { why }));
            }
        })
    }

    fn read_result(from: &mut Reader, version: Version) -> Result<Response, Malformed> {
        const WHAT: &str = "the result's kind";
        let at = from.at();
        Ok(match from.int(WHAT)? {
            VOID => Response::Void,
            ROWS => Response::Rows(Rows::read(from, version)?),
            SET_KEYSPACE => Response::SetKeyspace { keyspace: from.string("the keyspace")? },
            PREPARED => Response::Prepared(Prepared::read(from, version)?),
            SCHEMA_CHANGE => Response::SchemaChange(SchemaChange::read(from)?),
            kind => {
                let found = kind.to_string();
                let problem = Problem::Unknown { found, expected: "a kind from 1 to 5" };
                return Err(Malformed { what: WHAT, at, problem });
            }
        })
    }
}
