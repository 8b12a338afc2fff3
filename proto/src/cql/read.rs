//! Reading the notations of the specification's §3 from a body, with every length checked before it is believed.
//!
//! A [`Reader`] takes values off the front of a body. Values are slices of the body and share its buffer; text is
//! copied, because it must be proved to be UTF-8 anyway. No read panics, and no count is allocated for before the
//! bytes left could hold as many.

use bytes::{Buf, Bytes};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A body does not say what its opcode promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of the body, {problem}")]
pub struct Malformed {
    /// Which part, in words that begin a sentence.
    pub what: &'static str,
    /// Where it begins, counted from the body's first byte.
    pub at: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a part of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The body ends within it.
    #[error("needs {needed} bytes, but {left} are left")]
    Short {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// It has a length that no value has.
    #[error("has the length {length}")]
    Length {
        /// The length.
        length: i32,
    },
    /// It is absent where something is required.
    #[error("is null, but must not be")]
    Null,
    /// It claims more parts than the bytes that are left could hold.
    #[error("has {count} elements, for which {left} bytes are too few")]
    Count {
        /// How many it claims.
        count: i64,
        /// Bytes that are left.
        left: usize,
    },
    /// It is not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// It holds a code or a word that is not known.
    #[error("is {found}; expected {expected}")]
    Unknown {
        /// What was found.
        found: String,
        /// What could have been.
        expected: &'static str,
    },
    /// It nests deeper than is read.
    #[error("nests deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// It cannot be meant.
    #[error("{why}")]
    Refused {
        /// Why, reading on from the part's name.
        why: &'static str,
    },
}

/// A value bound to a marker, `[value]`: the planner's own.
pub use helenus_core::cql::plan::Value;

/// Names and opaque bytes for a query handler: `[bytes map]`.
pub type CustomPayload = BTreeMap<String, Option<Bytes>>;

/// Takes notations off the front of a body.
#[derive(Debug, Clone)]
pub struct Reader {
    rest: Bytes,
    whole: usize,
}

impl Reader {
    /// A reader at the body's first byte.
    pub fn new(body: Bytes) -> Reader {
        Reader { whole: body.len(), rest: body }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Bytes that were read.
    pub fn at(&self) -> usize {
        self.whole - self.rest.len()
    }

    /// `length` bytes as they are.
    pub fn take(&mut self, what: &'static str, length: usize) -> Result<Bytes, Malformed> {
        let left = self.rest.len();
        if length > left {
            return Err(self.wrong(what, Problem::Short { needed: length, left }));
        }
        Ok(self.rest.split_to(length))
    }

    /// `[byte]`.
    pub fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.rest.try_get_u8().map_err(|_| self.short_of(what, 1))
    }

    /// `[short]`.
    pub fn short(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.rest.try_get_u16().map_err(|_| self.short_of(what, 2))
    }

    /// `[int]`.
    pub fn int(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.rest.try_get_i32().map_err(|_| self.short_of(what, 4))
    }

    /// `[long]`.
    pub fn long(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.rest.try_get_i64().map_err(|_| self.short_of(what, 8))
    }

    /// `[uuid]`.
    pub fn uuid(&mut self, what: &'static str) -> Result<u128, Malformed> {
        self.rest.try_get_u128().map_err(|_| self.short_of(what, 16))
    }

    /// `[string]`.
    pub fn string(&mut self, what: &'static str) -> Result<String, Malformed> {
        let at = self.at();
        let bytes = self.short_bytes(what)?;
        utf8(what, at, &bytes)
    }

    /// `[long string]`.
    pub fn long_string(&mut self, what: &'static str) -> Result<String, Malformed> {
        let at = self.at();
        let length = self.int(what)?;
        let length = usize::try_from(length).map_err(|_| Malformed {
            what,
            at,
            problem: Problem::Length { length },
        })?;
        let bytes = self.take(what, length)?;
        utf8(what, at, &bytes)
    }

    /// `[short bytes]`.
    pub fn short_bytes(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        let length = self.short(what)?;
        self.take(what, usize::from(length))
    }

    /// `[bytes]`; `None` is `null`.
    pub fn bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, Malformed> {
        let length = self.int(what)?;
        // Every negative length is null here, unlike in [value].
        usize::try_from(length).ok().map(|length| self.take(what, length)).transpose()
    }

    /// `[value]`.
    pub fn value(&mut self, what: &'static str) -> Result<Value, Malformed> {
        let at = self.at();
        match self.int(what)? {
            -1 => Ok(Value::Null),
            -2 => Ok(Value::Unset),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Value::Bytes(self.take(what, length)?)),
                Err(_) => Err(Malformed { what, at, problem: Problem::Length { length } }),
            },
        }
    }

    /// A `[short]` count of parts of `each` bytes or more.
    pub fn short_count(&mut self, what: &'static str, each: usize) -> Result<usize, Malformed> {
        let at = self.at();
        let count = self.short(what)?;
        self.fits(what, at, i64::from(count), each)
    }

    /// An `[int]` count of parts of `each` bytes or more.
    pub fn int_count(&mut self, what: &'static str, each: usize) -> Result<usize, Malformed> {
        let at = self.at();
        let count = self.int(what)?;
        self.fits(what, at, i64::from(count), each)
    }

    /// `[string list]`.
    pub fn string_list(&mut self, what: &'static str) -> Result<Vec<String>, Malformed> {
        let count = self.short_count(what, 2)?;
        (0..count).map(|_| self.string(what)).collect()
    }

    /// `[string map]`. Of two values with one name the last stays.
    pub fn string_map(
        &mut self,
        what: &'static str,
    ) -> Result<BTreeMap<String, String>, Malformed> {
        let count = self.short_count(what, 4)?;
        (0..count).map(|_| Ok((self.string(what)?, self.string(what)?))).collect()
    }

    /// `[string multimap]`.
    pub fn string_multimap(
        &mut self,
        what: &'static str,
    ) -> Result<BTreeMap<String, Vec<String>>, Malformed> {
        let count = self.short_count(what, 4)?;
        (0..count).map(|_| Ok((self.string(what)?, self.string_list(what)?))).collect()
    }

    /// `[bytes map]`.
    pub fn bytes_map(&mut self, what: &'static str) -> Result<CustomPayload, Malformed> {
        let count = self.short_count(what, 6)?;
        (0..count).map(|_| Ok((self.string(what)?, self.bytes(what)?))).collect()
    }

    /// `[inetaddr]`.
    pub fn inetaddr(&mut self, what: &'static str) -> Result<IpAddr, Malformed> {
        let at = self.at();
        match self.byte(what)? {
            4 => {
                let four = self.rest.try_get_u32().map_err(|_| self.short_of(what, 4))?;
                Ok(IpAddr::V4(four.into()))
            }
            16 => Ok(IpAddr::V6(self.uuid(what)?.into())),
            size => Err(Malformed {
                what,
                at,
                problem: Problem::Unknown {
                    found: format!("an address of {size} bytes"),
                    expected: "one of 4 or 16",
                },
            }),
        }
    }

    /// `[inet]`.
    pub fn inet(&mut self, what: &'static str) -> Result<SocketAddr, Malformed> {
        let address = self.inetaddr(what)?;
        let at = self.at();
        let port = self.int(what)?;
        let port = u16::try_from(port).map_err(|_| Malformed {
            what,
            at,
            problem: Problem::Unknown {
                found: format!("port {port}"),
                expected: "one from 0 to 65535",
            },
        })?;
        Ok(SocketAddr::new(address, port))
    }

    /// `[unsigned vint]`: as many ones lead the first byte as bytes follow it.
    pub fn unsigned_vint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let first = self.byte(what)?;
        let more = first.leading_ones();
        // Of eight leading ones nothing is left; a shift by eight would be an overflow.
        let top = u64::from(first & 0xff_u8.checked_shr(more).unwrap_or(0));
        let more = usize::try_from(more).unwrap_or(8);
        let bytes = self.take(what, more)?;
        Ok(bytes.iter().fold(top, |so_far, byte| (so_far << 8) | u64::from(*byte)))
    }

    /// `[vint]`: zig-zag, so that small negative numbers are short.
    pub fn vint(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let zigzag = self.unsigned_vint(what)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// An error about the part that would begin here.
    pub(crate) fn wrong(&self, what: &'static str, problem: Problem) -> Malformed {
        Malformed { what, at: self.at(), problem }
    }

    fn short_of(&self, what: &'static str, needed: usize) -> Malformed {
        self.wrong(what, Problem::Short { needed, left: self.left() })
    }

    fn fits(
        &self,
        what: &'static str,
        at: usize,
        count: i64,
        each: usize,
    ) -> Result<usize, Malformed> {
        let left = self.left();
        let fitting = usize::try_from(count)
            .ok()
            .filter(|count| count.checked_mul(each).is_some_and(|needed| needed <= left));
        fitting.ok_or(Malformed { what, at, problem: Problem::Count { count, left } })
    }
}

fn utf8(what: &'static str, at: usize, bytes: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Malformed { what, at, problem: Problem::NotUtf8 })
}

#[cfg(test)]
mod tests;
