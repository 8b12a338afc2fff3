//! Components become values again. Bytes come from a disk or a peer, so nothing is taken for granted.

use super::{
    ClusteringError, END, ESCAPE, ESCAPED_END, ESCAPED_ZERO, LONG, NEGATIVE, POSITIVE, ZERO, tag,
};
use crate::cql::collection::{encode_list, encode_tuple};
use crate::cql::decimal::{Decimal, Scientific};
use crate::cql::order::{double_of_key, float_of_key};
use crate::cql::types::CqlType;
use crate::cql::uuid;
use crate::cql::value::array;
use bytes::Bytes;
use num_bigint::{BigInt, Sign};

/// What was expected and is not there.
type Read<T> = Result<T, &'static str>;

/// Reads a key. `mask` is what every byte is xored with: 0xff inside `DESC`, and once more inside negative numbers.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn corrupt(&self, column: usize, expected: &'static str) -> ClusteringError {
        ClusteringError::Corrupt { column, at: self.at, expected }
    }

    fn peek(&self, mask: u8) -> Read<u8> {
        self.bytes.get(self.at).map(|byte| byte ^ mask).ok_or("another byte")
    }

    fn byte(&mut self, mask: u8) -> Read<u8> {
        let byte = self.peek(mask)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, n: usize, mask: u8) -> Read<Vec<u8>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (taken, _) = rest.split_at_checked(n).ok_or("more bytes")?;
        self.at += n;
        Ok(taken.iter().map(|byte| byte ^ mask).collect())
    }

    fn fixed<const N: usize>(&mut self, mask: u8) -> Read<[u8; N]> {
        array(&self.take(N, mask)?).ok_or("more bytes")
    }

    pub(super) fn component(&mut self, ty: &CqlType, mask: u8) -> Read<Option<Bytes>> {
        match self.byte(mask)? {
            tag::NULL => Ok(None),
            tag::EMPTY => Ok(Some(Bytes::new())),
            tag::VALUE => self.payload(ty, mask).map(Some),
            _ => Err("a null, an empty value or a value"),
        }
    }

    fn payload(&mut self, ty: &CqlType, mask: u8) -> Read<Bytes> {
        let value = match ty {
            CqlType::Tinyint => self.signed(1, mask)?,
            CqlType::Smallint => self.signed(2, mask)?,
            CqlType::Int => self.signed(4, mask)?,
            CqlType::Bigint | CqlType::Counter | CqlType::Timestamp => self.signed(8, mask)?,
            CqlType::Date => self.take(4, mask)?,
            CqlType::Time => self.take(8, mask)?,
            CqlType::Boolean => self.take(1, mask)?,
            CqlType::Float => float_of_key(u32::from_be_bytes(self.fixed(mask)?)).to_vec(),
            CqlType::Double => double_of_key(u64::from_be_bytes(self.fixed(mask)?)).to_vec(),
            CqlType::Timeuuid => uuid::of_time_key(u128::from_be_bytes(self.fixed(mask)?)).to_vec(),
            CqlType::Uuid => uuid::of_key(u128::from_be_bytes(self.fixed(mask)?)).to_vec(),
            CqlType::Ascii | CqlType::Text | CqlType::Blob | CqlType::Inet | CqlType::Duration => {
                self.escaped(mask)?
            }
            CqlType::Varint => self.varint(mask)?.to_signed_bytes_be(),
            CqlType::Decimal => return self.decimal(mask),
            CqlType::List { of, .. } | CqlType::Set { of, .. } => {
                let elements = self.until_end(mask, |reader| reader.element(of, mask))?;
                return encode_list(&elements).map_err(|_| "a shorter list");
            }
            CqlType::Map { key, value, .. } => {
                let pairs = self.until_end(mask, |reader| {
                    Ok((reader.element(key, mask)?, reader.element(value, mask)?))
                })?;
                return flat_map(&pairs);
            }
            CqlType::Tuple(types) => return self.parts(types.iter(), mask),
            CqlType::User { of, .. } => {
                return self.parts(of.fields.iter().map(|(_, ty)| ty), mask);
            }
        };
        // What was not written here may still have been damaged: a reader relies on text being text.
        match ty.check(&value) {
            Ok(()) => Ok(Bytes::from(value)),
            Err(_) => Err("a value of the column's type"),
        }
    }

    fn signed(&mut self, n: usize, mask: u8) -> Read<Vec<u8>> {
        let mut value = self.take(n, mask)?;
        if let Some(first) = value.first_mut() {
            *first ^= 0x80;
        }
        Ok(value)
    }

    fn escaped(&mut self, mask: u8) -> Read<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            match self.byte(mask)? {
                ESCAPE => match self.byte(mask)? {
                    ESCAPED_ZERO => value.push(0),
                    ESCAPED_END => return Ok(value),
                    _ => return Err("an escaped zero or the end of a text"),
                },
                byte => value.push(byte),
            }
        }
    }

    fn varint(&mut self, mask: u8) -> Read<BigInt> {
        let negative = self.peek(mask)? < ZERO;
        let (sign, mask) = if negative { (Sign::Minus, !mask) } else { (Sign::Plus, mask) };
        let short = self.byte(mask)? - ZERO;
        let length = match short {
            LONG => {
                usize::try_from(u32::from_be_bytes(self.fixed(mask)?)).map_err(|_| "a length")?
            }
            short if short < LONG => usize::from(short),
            _ => return Err("a length"),
        };
        Ok(BigInt::from_bytes_be(sign, &self.take(length, mask)?))
    }

    fn decimal(&mut self, mask: u8) -> Read<Bytes> {
        let (negative, mask) = match self.byte(mask)? {
            ZERO => (None, mask),
            POSITIVE => (Some(false), mask),
            NEGATIVE => (Some(true), !mask),
            _ => return Err("the sign of a decimal"),
        };
        let mut number = Scientific { negative: false, exponent: 0, digits: Vec::new() };
        if let Some(negative) = negative {
            number.negative = negative;
            number.exponent =
                i64::try_from(self.varint(mask)?).map_err(|_| "a smaller exponent")?;
            loop {
                match self.byte(mask)? {
                    END => break,
                    pair @ 1..=100 => number.digits.extend([(pair - 1) / 10, (pair - 1) % 10]),
                    _ => return Err("two digits"),
                }
            }
            while number.digits.last() == Some(&0) {
                number.digits.pop();
            }
        }
        Decimal::from_scientific(number).map(|d| d.to_bytes()).ok_or("a smaller exponent")
    }

    fn until_end<T>(
        &mut self,
        mask: u8,
        mut next: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        let mut all = Vec::new();
        while self.peek(mask)? != END {
            all.push(next(self)?);
        }
        self.at += 1;
        Ok(all)
    }

    fn element(&mut self, ty: &CqlType, mask: u8) -> Read<Bytes> {
        self.component(ty, mask)?.ok_or("an element that is not null")
    }

    /// With a null for each part that is missing.
    fn parts<'t>(&mut self, types: impl Iterator<Item = &'t CqlType>, mask: u8) -> Read<Bytes> {
        let mut parts = Vec::new();
        for ty in types {
            let ended = self.peek(mask)? == END;
            parts.push(if ended { None } else { self.component(ty, mask)? });
        }
        match self.byte(mask)? {
            END => encode_tuple(&parts).map_err(|_| "a shorter tuple"),
            _ => Err("the end of a tuple"),
        }
    }
}

/// A map of pairs that are sorted already.
fn flat_map(pairs: &[(Bytes, Bytes)]) -> Read<Bytes> {
    let count = i32::try_from(pairs.len()).map_err(|_| "a shorter map")?;
    let both: Vec<Option<&Bytes>> = pairs.iter().flat_map(|(k, v)| [Some(k), Some(v)]).collect();
    let body = encode_tuple(&both).map_err(|_| "a shorter map")?;
    Ok(Bytes::from([count.to_be_bytes().as_slice(), &body].concat()))
}
