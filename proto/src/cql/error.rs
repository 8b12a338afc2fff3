//! ERROR: a code, a message for a person, and what the driver needs for deciding whether to try again. (§9)
//!
//! Newer errors are sent to v4 clients as Cassandra does: a CAS write of unknown outcome as a write timeout of type CAS,
//! contentions not at all, and failed replicas as their number.

use super::consistency::Consistency;
use super::read::{Malformed, Problem, Reader};
use super::version::Version;
use super::write::{EncodeError, Writer};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The body of an ERROR.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorResponse {
    /// For the driver.
    pub kind: ErrorKind,
    /// For a person. Longer than 65,535 bytes, it is cut.
    pub message: String,
}

/// What went wrong, with what a driver decides by.
#[derive(Debug, Clone, PartialEq)]
pub enum ErrorKind {
    /// 0x0000: a fault of the server's own.
    Server,
    /// 0x000A: the client broke the protocol.
    Protocol,
    /// 0x0100: no such user, or another password.
    BadCredentials,
    /// 0x1000: too few replicas are alive; nothing was tried.
    Unavailable {
        /// Asked for.
        consistency: Consistency,
        /// Live replicas that it needs.
        required: u32,
        /// Live replicas.
        alive: u32,
    },
    /// 0x1001: the coordinator has too much to do.
    Overloaded,
    /// 0x1002: the coordinator is joining the ring.
    IsBootstrapping,
    /// 0x1003: a TRUNCATE failed.
    Truncate,
    /// 0x1100: too few replicas confirmed the write in time; it may be applied.
    WriteTimeout {
        /// Asked for.
        consistency: Consistency,
        /// Replicas that confirmed.
        received: u32,
        /// Replicas that must.
        block_for: u32,
        /// What kind of write; drivers retry by it.
        write_type: WriteType,
        /// How often another proposal was in the way. Sent in v5 only, and only if `write_type` is CAS; otherwise 0.
        contentions: u16,
    },
    /// 0x1200: too few replicas answered in time.
    ReadTimeout {
        /// Asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: u32,
        /// Replicas that must.
        block_for: u32,
        /// Whether the replica that was asked for the rows answered.
        data_present: bool,
    },
    /// 0x1300: replicas refused or failed to read.
    ReadFailure {
        /// Asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: u32,
        /// Replicas that must.
        block_for: u32,
        /// Replicas that failed.
        failures: Failures,
        /// Whether the replica that was asked for the rows answered.
        data_present: bool,
    },
    /// 0x1400: a user-defined function failed.
    FunctionFailure {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        function: String,
        /// The types of its arguments.
        argument_types: Vec<String>,
    },
    /// 0x1500: replicas refused or failed to write.
    WriteFailure {
        /// Asked for.
        consistency: Consistency,
        /// Replicas that confirmed.
        received: u32,
        /// Replicas that must.
        block_for: u32,
        /// Replicas that failed.
        failures: Failures,
        /// What kind of write.
        write_type: WriteType,
    },
    /// 0x1600: no space for change data capture.
    CdcWriteFailure,
    /// 0x1700: a conditional write may or may not be decided. v4 clients get a write timeout of type CAS.
    CasWriteUnknown {
        /// Asked for.
        consistency: Consistency,
        /// Replicas that accepted.
        received: u32,
        /// Replicas that must.
        block_for: u32,
    },
    /// 0x2000: the statement is no CQL.
    Syntax,
    /// 0x2100: the user may not do this.
    Unauthorized,
    /// 0x2200: the statement is CQL, but cannot be done.
    Invalid,
    /// 0x2300: as Invalid, for options of keyspaces and tables.
    Config,
    /// 0x2400: there is such a keyspace or table already.
    AlreadyExists {
        /// Its keyspace.
        keyspace: String,
        /// Its name; empty for a keyspace.
        table: String,
    },
    /// 0x2500: this node has no such prepared statement; the client prepares it again.
    Unprepared {
        /// The id that it does not know.
        id: Bytes,
    },
}

/// Which kind of write timed out or failed.
#[expect(missing_docs, reason = "Cassandra's words")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteType {
    Simple,
    Batch,
    UnloggedBatch,
    Counter,
    BatchLog,
    Cas,
    View,
    Cdc,
}

/// Why a replica failed, by Cassandra's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureReason(pub u16);

/// The replicas that failed. v5 sends each with its reason, v4 their number alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failures {
    count: u32,
    /// Invariant: empty, or `count` of them.
    reasons: BTreeMap<IpAddr, FailureReason>,
}

impl FailureReason {
    /// None of the others.
    pub const UNKNOWN: FailureReason = FailureReason(0);
    /// The read met too many tombstones.
    pub const READ_TOO_MANY_TOMBSTONES: FailureReason = FailureReason(1);
    /// The replica gave up by its own clock.
    pub const TIMEOUT: FailureReason = FailureReason(2);
    /// The replica knows another schema.
    pub const INCOMPATIBLE_SCHEMA: FailureReason = FailureReason(3);
    /// The read would be too large.
    pub const READ_SIZE: FailureReason = FailureReason(4);
    /// The replica went down.
    pub const NODE_DOWN: FailureReason = FailureReason(5);
}

impl Failures {
    /// What v5 needs: each replica with its reason.
    pub fn new(reasons: BTreeMap<IpAddr, FailureReason>) -> Failures {
        // No cluster has 2^32 nodes.
        Failures { count: u32::try_from(reasons.len()).unwrap_or(u32::MAX), reasons }
    }

    /// How many failed.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Each with its reason; empty when read from v4.
    pub fn reasons(&self) -> &BTreeMap<IpAddr, FailureReason> {
        &self.reasons
    }

    fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        if version < Version::V5 {
            number(to, self.count);
            return Ok(());
        }
        to.int_count("the failed replicas", self.reasons.len())?;
        for (replica, reason) in &self.reasons {
            to.inetaddr(*replica);
            to.short(reason.0);
        }
        Ok(())
    }

    fn read(from: &mut Reader, version: Version) -> Result<Failures, Malformed> {
        const WHAT: &str = "the failed replicas";
        if version < Version::V5 {
            return Ok(Failures { count: read_number(from, WHAT)?, reasons: BTreeMap::new() });
        }
        let count = from.int_count(WHAT, 7)?;
        let reason =
            |from: &mut Reader| Ok((from.inetaddr(WHAT)?, FailureReason(from.short(WHAT)?)));
        Ok(Failures::new((0..count).map(|_| reason(from)).collect::<Result<_, Malformed>>()?))
    }
}

impl WriteType {
    /// All of them.
    pub const EVERY: [WriteType; 8] = [
        WriteType::Simple,
        WriteType::Batch,
        WriteType::UnloggedBatch,
        WriteType::Counter,
        WriteType::BatchLog,
        WriteType::Cas,
        WriteType::View,
        WriteType::Cdc,
    ];

    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            WriteType::Simple => "SIMPLE",
            WriteType::Batch => "BATCH",
            WriteType::UnloggedBatch => "UNLOGGED_BATCH",
            WriteType::Counter => "COUNTER",
            WriteType::BatchLog => "BATCH_LOG",
            WriteType::Cas => "CAS",
            WriteType::View => "VIEW",
            WriteType::Cdc => "CDC",
        }
    }

    fn read(from: &mut Reader) -> Result<WriteType, Malformed> {
        const WHAT: &str = "the write's type";
        let at = from.at();
        let found = from.string(WHAT)?;
        let known = WriteType::EVERY.into_iter().find(|known| known.name() == found);
        known.ok_or(Malformed {
            what: WHAT,
            at,
            problem: Problem::Unknown { found, expected: "one as SIMPLE or BATCH_LOG" },
        })
    }
}

impl ErrorKind {
    /// The code that an ERROR of this kind begins with, in v5.
    pub const fn code(&self) -> u16 {
        match self {
            ErrorKind::Server => 0x0000,
            ErrorKind::Protocol => 0x000A,
            ErrorKind::BadCredentials => 0x0100,
            ErrorKind::Unavailable { .. } => 0x1000,
            ErrorKind::Overloaded => 0x1001,
            ErrorKind::IsBootstrapping => 0x1002,
            ErrorKind::Truncate => 0x1003,
            ErrorKind::WriteTimeout { .. } => 0x1100,
            ErrorKind::ReadTimeout { .. } => 0x1200,
            ErrorKind::ReadFailure { .. } => 0x1300,
            ErrorKind::FunctionFailure { .. } => 0x1400,
            ErrorKind::WriteFailure { .. } => 0x1500,
            ErrorKind::CdcWriteFailure => 0x1600,
            ErrorKind::CasWriteUnknown { .. } => 0x1700,
            ErrorKind::Syntax => 0x2000,
            ErrorKind::Unauthorized => 0x2100,
            ErrorKind::Invalid => 0x2200,
            ErrorKind::Config => 0x2300,
            ErrorKind::AlreadyExists { .. } => 0x2400,
            ErrorKind::Unprepared { .. } => 0x2500,
        }
    }

    /// The kind that a client of `version` understands.
    fn as_known_in(&self, version: Version) -> Option<ErrorKind> {
        match *self {
            ErrorKind::CasWriteUnknown { consistency, received, block_for }
                if version < Version::V5 =>
            {
                let write_type = WriteType::Cas;
                Some(ErrorKind::WriteTimeout {
                    consistency,
                    received,
                    block_for,
                    write_type,
                    contentions: 0,
                })
            }
            _ => None,
        }
    }
}

impl ErrorResponse {
    /// An error that is a code and a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ErrorResponse {
        ErrorResponse { kind, message: message.into() }
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        let substitute = self.kind.as_known_in(version);
        let kind = substitute.as_ref().unwrap_or(&self.kind);
        to.int(i32::from(kind.code()));
        to.message(&self.message);
        match kind {
            ErrorKind::Unavailable { consistency, required, alive } => {
                counts(to, *consistency, *required, *alive);
            }
            ErrorKind::WriteTimeout {
                consistency,
                received,
                block_for,
                write_type,
                contentions,
            } => {
                counts(to, *consistency, *received, *block_for);
                to.string("the write's type", write_type.name())?;
                if version >= Version::V5 && *write_type == WriteType::Cas {
                    to.short(*contentions);
                }
            }
            ErrorKind::ReadTimeout { consistency, received, block_for, data_present } => {
                counts(to, *consistency, *received, *block_for);
                to.byte(u8::from(*data_present));
            }
            ErrorKind::ReadFailure { consistency, received, block_for, failures, data_present } => {
                counts(to, *consistency, *received, *block_for);
                failures.write(to, version)?;
                to.byte(u8::from(*data_present));
            }
            ErrorKind::WriteFailure { consistency, received, block_for, failures, write_type } => {
                counts(to, *consistency, *received, *block_for);
                failures.write(to, version)?;
                to.string("the write's type", write_type.name())?;
            }
            ErrorKind::CasWriteUnknown { consistency, received, block_for } => {
                counts(to, *consistency, *received, *block_for);
            }
            ErrorKind::FunctionFailure { keyspace, function, argument_types } => {
                to.string("a keyspace's name", keyspace)?;
                to.string("a function's name", function)?;
                to.string_list("a function's argument types", argument_types)?;
            }
            ErrorKind::AlreadyExists { keyspace, table } => {
                to.string("a keyspace's name", keyspace)?;
                to.string("a table's name", table)?;
            }
            ErrorKind::Unprepared { id } => to.short_bytes("a statement's id", id)?,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader, version: Version) -> Result<ErrorResponse, Malformed> {
        let at = from.at();
        let code = from.int("the error's code")?;
        let message = from.string("the error's message")?;
        let kind = match code {
            0x0000 => ErrorKind::Server,
            0x000A => ErrorKind::Protocol,
            0x0100 => ErrorKind::BadCredentials,
            0x1001 => ErrorKind::Overloaded,
            0x1002 => ErrorKind::IsBootstrapping,
            0x1003 => ErrorKind::Truncate,
            0x1600 => ErrorKind::CdcWriteFailure,
            0x2000 => ErrorKind::Syntax,
            0x2100 => ErrorKind::Unauthorized,
            0x2200 => ErrorKind::Invalid,
            0x2300 => ErrorKind::Config,
            0x1000 | 0x1100 | 0x1200 | 0x1300 | 0x1500 | 0x1700 => {
                read_counted(code, from, version)?
            }
            0x1400 => ErrorKind::FunctionFailure {
                keyspace: from.string("the function's keyspace")?,
                function: from.string("the function's name")?,
                argument_types: from.string_list("the function's argument types")?,
            },
            0x2400 => ErrorKind::AlreadyExists {
                keyspace: from.string("the keyspace's name")?,
                table: from.string("the table's name")?,
            },
            0x2500 => ErrorKind::Unprepared { id: from.short_bytes("the statement's id")? },
            code => {
                let found = format!("{code:#06x}");
                let problem = Problem::Unknown { found, expected: "a code of §9" };
                return Err(Malformed { what: "the error's code", at, problem });
            }
        };
        Ok(ErrorResponse { kind, message })
    }
}

/// The errors that begin with a consistency and two numbers.
fn read_counted(code: i32, from: &mut Reader, version: Version) -> Result<ErrorKind, Malformed> {
    let consistency = Consistency::read(from, "the error's consistency")?;
    let received = read_number(from, "the replicas that answered")?;
    let block_for = read_number(from, "the replicas that must answer")?;
    let is_present = |from: &mut Reader| Ok(from.byte("whether the data is present")? != 0);
    Ok(match code {
        0x1000 => ErrorKind::Unavailable { consistency, required: received, alive: block_for },
        0x1100 => {
            let write_type = WriteType::read(from)?;
            let told = version >= Version::V5 && write_type == WriteType::Cas;
            let contentions = if told { from.short("the contentions")? } else { 0 };
            ErrorKind::WriteTimeout { consistency, received, block_for, write_type, contentions }
        }
        0x1200 => {
            let data_present = is_present(from)?;
            ErrorKind::ReadTimeout { consistency, received, block_for, data_present }
        }
        0x1300 => {
            let failures = Failures::read(from, version)?;
            let data_present = is_present(from)?;
            ErrorKind::ReadFailure { consistency, received, block_for, failures, data_present }
        }
        0x1500 => {
            let failures = Failures::read(from, version)?;
            let write_type = WriteType::read(from)?;
            ErrorKind::WriteFailure { consistency, received, block_for, failures, write_type }
        }
        _ => ErrorKind::CasWriteUnknown { consistency, received, block_for },
    })
}

fn counts(to: &mut Writer<'_>, consistency: Consistency, first: u32, second: u32) {
    to.short(consistency.code());
    number(to, first);
    number(to, second);
}

/// A number of replicas as an `[int]`. None is near the limit.
fn number(to: &mut Writer<'_>, number: u32) {
    to.int(i32::try_from(number).unwrap_or(i32::MAX));
}

fn read_number(from: &mut Reader, what: &'static str) -> Result<u32, Malformed> {
    let at = from.at();
    let length = from.int(what)?;
    u32::try_from(length).map_err(|_| Malformed { what, at, problem: Problem::Length { length } })
}

#[cfg(test)]
mod tests;
