//! Consistency levels by CQL's codes, which are also [`Level`]'s numbers.

use super::read::{Malformed, Problem, Reader};
use helenus_core::Level;
use std::fmt;

/// Among whom a conditional write, or a serial read, is decided: the planner of rounds' own. Codes 8 and 9.
pub use helenus_core::paxos::SerialLevel as SerialConsistency;

/// What a request asks for, or an error speaks of: an ordinary level, or (reads only) a serial one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consistency {
    /// So many replicas.
    Ordinary(Level),
    /// A read that finishes what conditional writes began.
    Serial(SerialConsistency),
}

pub(crate) fn read_serial(from: &mut Reader) -> Result<SerialConsistency, Malformed> {
    let at = from.at();
    match Consistency::read(from, "the serial consistency")? {
        Consistency::Serial(serial) => Ok(serial),
        Consistency::Ordinary(level) => Err(Malformed {
            what: "the serial consistency",
            at,
            problem: Problem::Unknown {
                found: level.name().to_owned(),
                expected: "SERIAL (8) or LOCAL_SERIAL (9)",
            },
        }),
    }
}

impl Consistency {
    /// The code on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Consistency::Ordinary(level) => level.cql_code(),
            Consistency::Serial(SerialConsistency::Serial) => 8,
            Consistency::Serial(SerialConsistency::LocalSerial) => 9,
        }
    }

    /// The consistency with this code. NODE_LOCAL (11) is not for clients.
    pub fn from_code(code: u16) -> Option<Consistency> {
        match code {
            8 => Some(Consistency::Serial(SerialConsistency::Serial)),
            9 => Some(Consistency::Serial(SerialConsistency::LocalSerial)),
            _ => Level::from_cql_code(code).map(Consistency::Ordinary),
        }
    }

    pub(crate) fn read(from: &mut Reader, what: &'static str) -> Result<Consistency, Malformed> {
        let at = from.at();
        let code = from.short(what)?;
        Consistency::from_code(code).ok_or_else(|| Malformed {
            what,
            at,
            problem: Problem::Unknown { found: code.to_string(), expected: "a code from 0 to 10" },
        })
    }
}

impl From<Level> for Consistency {
    fn from(level: Level) -> Consistency {
        Consistency::Ordinary(level)
    }
}

impl From<SerialConsistency> for Consistency {
    fn from(serial: SerialConsistency) -> Consistency {
        Consistency::Serial(serial)
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consistency::Ordinary(level) => level.fmt(f),
            Consistency::Serial(serial) => serial.fmt(f),
        }
    }
}
