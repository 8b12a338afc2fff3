//! Writing the notations of the specification's §3 to the end of a buffer.
//!
//! What does not fit its notation is an error and not cut, but for a message that a person reads: see
//! [`Writer::message`].

use super::read::{CustomPayload, Value};
use super::version::Version;
use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A value has no form on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It is longer than its notation can say.
    #[error("{what} has {length} bytes, {max} at most can be sent")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its bytes.
        length: usize,
        /// Bytes that could be said.
        max: usize,
    },
    /// It has more elements than its notation can say.
    #[error("{what} has {count} elements, {max} at most can be sent")]
    TooMany {
        /// Which part.
        what: &'static str,
        /// Its elements.
        count: usize,
        /// Elements that could be said.
        max: usize,
    },
    /// A type nests deeper than any reader follows.
    #[error("a type nests deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The cells that were written are no whole number of rows.
    #[error("{cells} cells were written, which are no whole rows of {columns} columns")]
    RaggedRow {
        /// Cells that were written.
        cells: u64,
        /// Columns of a row.
        columns: usize,
    },
    /// This version of the protocol has no place for it.
    #[error("{what} cannot be sent in protocol {version}")]
    NotInVersion {
        /// Which part.
        what: &'static str,
        /// The connection's version.
        version: Version,
    },
}

const SHORT_MAX: usize = u16::MAX as usize;
const INT_MAX: usize = i32::MAX as usize;

/// Appends notations to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// A writer at the buffer's end.
    pub fn new(out: &'a mut BytesMut) -> Writer<'a> {
        Writer { out }
    }

    /// The bytes so far, with whatever was in the buffer before.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.out
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// `[byte]`.
    pub fn byte(&mut self, byte: u8) {
        self.out.put_u8(byte);
    }

    /// `[short]`.
    pub fn short(&mut self, short: u16) {
        self.out.put_u16(short);
    }

    /// `[int]`.
    pub fn int(&mut self, int: i32) {
        self.out.put_i32(int);
    }

    /// `[long]`.
    pub fn long(&mut self, long: i64) {
        self.out.put_i64(long);
    }

    /// `[uuid]`.
    pub fn uuid(&mut self, uuid: u128) {
        self.out.put_u128(uuid);
    }

    /// `[string]`.
    pub fn string(&mut self, what: &'static str, text: &str) -> Result<(), EncodeError> {
        self.short_bytes(what, text.as_bytes())
    }

    /// `[string]` for a person: cut at a character's end, should it be longer than a `[string]` can be. A cut message
    /// says more than no message.
    pub fn message(&mut self, text: &str) {
        let longest = text.len().min(SHORT_MAX);
        let cut = (0..=longest).rev().find_map(|end| text.get(..end)).unwrap_or_default();
        // Cannot be too long any more.
        self.short(u16::try_from(cut.len()).unwrap_or(u16::MAX));
        self.raw(cut.as_bytes());
    }

    /// `[long string]`.
    pub fn long_string(&mut self, what: &'static str, text: &str) -> Result<(), EncodeError> {
        self.int_length(what, text.len())?;
        self.raw(text.as_bytes());
        Ok(())
    }

    /// `[short bytes]`.
    pub fn short_bytes(&mut self, what: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        let too_long = |_| EncodeError::TooLong { what, length: bytes.len(), max: SHORT_MAX };
        self.short(u16::try_from(bytes.len()).map_err(too_long)?);
        self.raw(bytes);
        Ok(())
    }

    /// `[bytes]`; `None` is `null`.
    pub fn bytes(&mut self, what: &'static str, bytes: Option<&[u8]>) -> Result<(), EncodeError> {
        match bytes {
            None => self.int(-1),
            Some(bytes) => {
                self.int_length(what, bytes.len())?;
                self.raw(bytes);
            }
        }
        Ok(())
    }

    /// `[value]`.
    pub fn value(&mut self, what: &'static str, value: &Value) -> Result<(), EncodeError> {
        match value {
            Value::Null => self.int(-1),
            Value::Unset => self.int(-2),
            Value::Bytes(bytes) => self.bytes(what, Some(bytes))?,
        }
        Ok(())
    }

    /// A `[short]` count.
    pub fn short_count(&mut self, what: &'static str, count: usize) -> Result<(), EncodeError> {
        let too_many = |_| EncodeError::TooMany { what, count, max: SHORT_MAX };
        self.short(u16::try_from(count).map_err(too_many)?);
        Ok(())
    }

    /// An `[int]` count.
    pub fn int_count(&mut self, what: &'static str, count: usize) -> Result<(), EncodeError> {
        let too_many = |_| EncodeError::TooMany { what, count, max: INT_MAX };
        self.int(i32::try_from(count).map_err(too_many)?);
        Ok(())
    }

    /// `[string list]`.
    pub fn string_list<S: AsRef<str>>(
        &mut self,
        what: &'static str,
        list: &[S],
    ) -> Result<(), EncodeError> {
        self.short_count(what, list.len())?;
        list.iter().try_for_each(|text| self.string(what, text.as_ref()))
    }

    /// `[string map]`.
    pub fn string_map(
        &mut self,
        what: &'static str,
        map: &BTreeMap<String, String>,
    ) -> Result<(), EncodeError> {
        self.short_count(what, map.len())?;
        for (name, value) in map {
            self.string(what, name)?;
            self.string(what, value)?;
        }
        Ok(())
    }

    /// `[string multimap]`.
    pub fn string_multimap(
        &mut self,
        what: &'static str,
        map: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), EncodeError> {
        self.short_count(what, map.len())?;
        for (name, values) in map {
            self.string(what, name)?;
            self.string_list(what, values)?;
        }
        Ok(())
    }

    /// `[bytes map]`.
    pub fn bytes_map(
        &mut self,
        what: &'static str,
        map: &CustomPayload,
    ) -> Result<(), EncodeError> {
        self.short_count(what, map.len())?;
        for (name, value) in map {
            self.string(what, name)?;
            self.bytes(what, value.as_deref())?;
        }
        Ok(())
    }

    /// `[inetaddr]`.
    pub fn inetaddr(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(four) => {
                self.byte(4);
                self.raw(&four.octets());
            }
            IpAddr::V6(six) => {
                self.byte(16);
                self.raw(&six.octets());
            }
        }
    }

    /// `[inet]`.
    pub fn inet(&mut self, node: SocketAddr) {
        self.inetaddr(node.ip());
        self.int(i32::from(node.port()));
    }

    /// `[unsigned vint]`.
    pub fn unsigned_vint(&mut self, number: u64) {
        // Seven bits for each byte; the ninth byte has room for eight, its first being all ones.
        let bits = 64 - number.leading_zeros().min(63);
        let more = bits.saturating_sub(1) / 7;
        let bytes = number.to_be_bytes();
        if more >= 8 {
            self.byte(0xff);
            self.raw(&bytes);
            return;
        }
        let ones = !(0xff_u8 >> more);
        let used = bytes.iter().rev().take(more as usize + 1).rev();
        for (nth, byte) in used.enumerate() {
            self.byte(if nth == 0 { ones | byte } else { *byte });
        }
    }

    /// `[vint]`.
    pub fn vint(&mut self, number: i64) {
        self.unsigned_vint(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    fn int_length(&mut self, what: &'static str, length: usize) -> Result<(), EncodeError> {
        let too_long = |_| EncodeError::TooLong { what, length, max: INT_MAX };
        self.int(i32::try_from(length).map_err(too_long)?);
        Ok(())
    }
}
