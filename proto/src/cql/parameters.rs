//! What accompanies a statement: QUERY's and EXECUTE's parameters, and the tail of a BATCH. (§4.1.4, §4.1.7)
//!
//! ```text
//! | consistency u16 | flags: u8 in v4, i32 in v5 | [values] [page size] [paging state] [serial] [timestamp]
//!                                                 | v5: [keyspace] [now in seconds] |
//! ```

use super::consistency::{Consistency, SerialConsistency, read_serial};
use super::read::{Malformed, Problem, Reader, Value};
use super::version::Version;
use super::write::{EncodeError, Writer};
use bytes::Bytes;
use helenus_core::{Level, TimestampMicros};
use std::num::NonZeroU32;

const VALUES: u32 = 0x001;
const SKIP_METADATA: u32 = 0x002;
const PAGE_SIZE: u32 = 0x004;
const PAGING_STATE: u32 = 0x008;
const SERIAL: u32 = 0x010;
const TIMESTAMP: u32 = 0x020;
const NAMES: u32 = 0x040;
const KEYSPACE: u32 = 0x080;
const NOW: u32 = 0x100;

/// Values for a statement's markers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// One for each marker, in order. None at all is this, empty.
    Positional(Vec<Value>),
    /// By the markers' names, in the client's order.
    Named(Vec<(String, Value)>),
}

/// How one statement is to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// How many replicas must answer; serial for reads only.
    pub consistency: Consistency,
    /// What the markers stand for.
    pub values: Values,
    /// The client knows the result's columns from PREPARED.
    pub skip_metadata: bool,
    /// Rows of a page at most; `None` for all of them, which 0 and negative numbers on the wire mean too.
    pub page_size: Option<NonZeroU32>,
    /// Where the page begins, as the page before said.
    pub paging_state: Option<Bytes>,
    /// Among whom a condition is decided; `None` for all replicas.
    pub serial_consistency: Option<SerialConsistency>,
    /// The version of what is written, unless the statement says another; `None` for the coordinator's clock.
    pub timestamp: Option<TimestampMicros>,
    /// Where names without a keyspace belong; v5 only.
    pub keyspace: Option<String>,
    /// What the server is to take for the current second; v5 only, for tests.
    pub now_in_seconds: Option<i32>,
}

impl Values {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::Positional(values) => values.len(),
            Values::Named(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Values {
    fn default() -> Values {
        Values::Positional(Vec::new())
    }
}

impl Default for Parameters {
    /// No values, and what a server does on its own; at ONE.
    fn default() -> Parameters {
        Parameters {
            consistency: Consistency::Ordinary(Level::One),
            values: Values::default(),
            skip_metadata: false,
            page_size: None,
            paging_state: None,
            serial_consistency: None,
            timestamp: None,
            keyspace: None,
            now_in_seconds: None,
        }
    }
}

impl Parameters {
    pub(crate) fn read(from: &mut Reader, version: Version) -> Result<Parameters, Malformed> {
        let consistency = Consistency::read(from, "the consistency")?;
        let flags = read_flags(from, version)?;
        let values = match (flags & VALUES, flags & NAMES) {
            (0, _) => Values::default(),
            (_, 0) => Values::Positional(read_values(from)?),
            (_, _) => match read_named(from)? {
                none if none.is_empty() => Values::default(),
                named => Values::Named(named),
            },
        };
        let mut page_size = None;
        if flags & PAGE_SIZE != 0 {
            let given = u32::try_from(from.int("the page size")?).unwrap_or(0);
            page_size = NonZeroU32::new(given);
        }
        let mut paging_state = None;
        if flags & PAGING_STATE != 0 {
            paging_state = from.bytes("the paging state")?;
        }
        let Tail { serial_consistency, timestamp, keyspace, now_in_seconds } =
            Tail::read(from, flags)?;
        let skip_metadata = flags & SKIP_METADATA != 0;
        Ok(Parameters {
            consistency,
            values,
            skip_metadata,
            page_size,
            paging_state,
            serial_consistency,
            timestamp,
            keyspace,
            now_in_seconds,
        })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        let tail = Tail {
            serial_consistency: self.serial_consistency,
            timestamp: self.timestamp,
            keyspace: self.keyspace.clone(),
            now_in_seconds: self.now_in_seconds,
        };
        let mut flags = tail.flags();
        flags |= match &self.values {
            values if values.is_empty() => 0,
            Values::Positional(_) => VALUES,
            Values::Named(_) => VALUES | NAMES,
        };
        for (given, flag) in [
            (self.skip_metadata, SKIP_METADATA),
            (self.page_size.is_some(), PAGE_SIZE),
            (self.paging_state.is_some(), PAGING_STATE),
        ] {
            flags |= if given { flag } else { 0 };
        }
        to.short(self.consistency.code());
        write_flags(to, version, flags)?;
        match &self.values {
            values if values.is_empty() => {}
            Values::Positional(values) => write_values(to, values)?,
            Values::Named(values) => {
                to.short_count("the values", values.len())?;
                for (name, value) in values {
                    to.string("a value's name", name)?;
                    to.value("a value", value)?;
                }
            }
        }
        if let Some(page_size) = self.page_size {
            to.int(i32::try_from(page_size.get()).unwrap_or(i32::MAX));
        }
        if let Some(paging_state) = &self.paging_state {
            to.bytes("the paging state", Some(paging_state))?;
        }
        tail.write(to)
    }
}

/// What QUERY, EXECUTE and BATCH end with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    pub(crate) serial_consistency: Option<SerialConsistency>,
    pub(crate) timestamp: Option<TimestampMicros>,
    pub(crate) keyspace: Option<String>,
    pub(crate) now_in_seconds: Option<i32>,
}

impl Tail {
    fn read(from: &mut Reader, flags: u32) -> Result<Tail, Malformed> {
        let mut tail = Tail::default();
        if flags & SERIAL != 0 {
            tail.serial_consistency = Some(read_serial(from)?);
        }
        if flags & TIMESTAMP != 0 {
            const WHAT: &str = "the timestamp";
            let at = from.at();
            let micros = from.long(WHAT)?;
            // Cassandra keeps this one for "no timestamp".
            if micros == i64::MIN {
                let why = "is out of bounds: it must be -9223372036854775807 or later";
                return Err(Malformed { what: WHAT, at, problem: Problem::Refused { why } });
            }
            tail.timestamp = Some(TimestampMicros(micros));
        }
        if flags & KEYSPACE != 0 {
            tail.keyspace = Some(from.string("the keyspace")?);
        }
        if flags & NOW != 0 {
            tail.now_in_seconds = Some(from.int("the current second")?);
        }
        Ok(tail)
    }

    /// Reads BATCH's flags and what they announce.
    pub(crate) fn read_of_batch(from: &mut Reader, version: Version) -> Result<Tail, Malformed> {
        const WHAT: &str = "the batch's flags";
        let at = from.at();
        let flags = read_flags(from, version)?;
        // Names would change how the values before the flags are read: the specification says not to use them.
        if flags & (VALUES | NAMES | PAGE_SIZE | PAGING_STATE) != 0 {
            let why = "ask for values, names or pages, which a batch has not; \
                       bind the values of each statement by position";
            return Err(Malformed { what: WHAT, at, problem: Problem::Refused { why } });
        }
        Tail::read(from, flags)
    }

    /// Writes BATCH's flags and what they announce.
    pub(crate) fn write_of_batch(
        &self,
        to: &mut Writer<'_>,
        version: Version,
    ) -> Result<(), EncodeError> {
        write_flags(to, version, self.flags())?;
        self.write(to)
    }

    fn flags(&self) -> u32 {
        let mut flags = 0;
        for (given, flag) in [
            (self.serial_consistency.is_some(), SERIAL),
            (self.timestamp.is_some(), TIMESTAMP),
            (self.keyspace.is_some(), KEYSPACE),
            (self.now_in_seconds.is_some(), NOW),
        ] {
            flags |= if given { flag } else { 0 };
        }
        flags
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), EncodeError> {
        if let Some(serial) = self.serial_consistency {
            to.short(Consistency::Serial(serial).code());
        }
        if let Some(TimestampMicros(micros)) = self.timestamp {
            to.long(micros);
        }
        if let Some(keyspace) = &self.keyspace {
            to.string("the keyspace", keyspace)?;
        }
        if let Some(now) = self.now_in_seconds {
            to.int(now);
        }
        Ok(())
    }
}

/// Flags that this version knows; the others mean nothing. In v4 their byte has no room for `NOW`, and `KEYSPACE` is
/// nobody's.
fn read_flags(from: &mut Reader, version: Version) -> Result<u32, Malformed> {
    const WHAT: &str = "the parameters' flags";
    Ok(match version {
        Version::V4 => u32::from(from.byte(WHAT)?) & !(KEYSPACE | NOW),
        Version::V5 => from.int(WHAT)?.cast_unsigned(),
    })
}

fn write_flags(to: &mut Writer<'_>, version: Version, flags: u32) -> Result<(), EncodeError> {
    match version {
        Version::V5 => to.int(flags.cast_signed()),
        Version::V4 => match u8::try_from(flags) {
            Ok(byte) if flags & KEYSPACE == 0 => to.byte(byte),
            _ => {
                let what = "a keyspace, or the current second,";
                return Err(EncodeError::NotInVersion { what, version });
            }
        },
    }
    Ok(())
}

/// A `[short]` and as many `[value]`s.
pub(crate) fn read_values(from: &mut Reader) -> Result<Vec<Value>, Malformed> {
    let count = from.short_count("the values", 4)?;
    (0..count).map(|_| from.value("a value")).collect()
}

fn read_named(from: &mut Reader) -> Result<Vec<(String, Value)>, Malformed> {
    let count = from.short_count("the values", 6)?;
    (0..count).map(|_| Ok((from.string("a value's name")?, from.value("a value")?))).collect()
}

pub(crate) fn write_values(to: &mut Writer<'_>, values: &[Value]) -> Result<(), EncodeError> {
    to.short_count("the values", values.len())?;
    values.iter().try_for_each(|value| to.value("a value", value))
}
