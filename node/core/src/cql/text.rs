//! Values as text: JSON (`toJson`), literals of CQL (`DESCRIBE`, messages) and plain text (`CAST`).
//!
//! Source: the `toJSONString` and `toCQLLiteral` of Cassandra 4.1's types and serializers; numbers as Java shows them.

#[cfg(test)]
mod tests;

use super::ast::Ident;
use super::calendar::{self, EPOCH_DATE};
use super::collection::{Elements, Pairs, Parts};
use super::decimal::{DIGITS_MAX, Decimal, is_printable};
use super::duration::Duration;
use super::order::is_true;
use super::types::CqlType;
use super::uuid;
use super::value::{ValueError, array};
use num_bigint::BigInt;
use std::fmt::Write;
use std::net::IpAddr;

impl CqlType {
    /// `value` in JSON; a null is `null`. A number without bytes is `""`, and NaN and the infinities are `null`, as in
    /// Cassandra.
    pub fn to_json(&self, value: Option<&[u8]>) -> Result<String, ValueError> {
        let mut out = String::new();
        Writer { out: &mut out, json: true }.value(self, value)?;
        Ok(out)
    }

    /// `value` as a literal of CQL that says the same; a null, and a value without bytes that has no literal, is `null`.
    pub fn to_literal(&self, value: Option<&[u8]>) -> Result<String, ValueError> {
        let mut out = String::new();
        Writer { out: &mut out, json: false }.value(self, value)?;
        Ok(out)
    }

    /// A scalar as plain text, without quotes; `None`: it has no bytes, or is not a scalar.
    pub(super) fn to_plain(&self, bytes: &[u8]) -> Result<Option<String>, ValueError> {
        self.check(bytes)?;
        let text = match self {
            CqlType::Ascii | CqlType::Text => Some(String::from_utf8_lossy(bytes).into_owned()),
            CqlType::Blob => Some(hex(bytes)),
            _ if bytes.is_empty() => None,
            CqlType::Boolean => Some(is_true(bytes).to_string()),
            CqlType::Tinyint => array(bytes).map(|n| i8::from_be_bytes(n).to_string()),
            CqlType::Smallint => array(bytes).map(|n| i16::from_be_bytes(n).to_string()),
            CqlType::Int => array(bytes).map(|n| i32::from_be_bytes(n).to_string()),
            CqlType::Bigint | CqlType::Counter => {
                array(bytes).map(|n| i64::from_be_bytes(n).to_string())
            }
            CqlType::Float => array(bytes).map(|n| java_float(f32::from_be_bytes(n))),
            CqlType::Double => array(bytes).map(|n| java_double(f64::from_be_bytes(n))),
            CqlType::Varint | CqlType::Decimal if !is_printable(bytes) => {
                return Err(ValueError::OutOfRange {
                    ty: "text",
                    value: format!("a number of more than {DIGITS_MAX} digits"),
                });
            }
            CqlType::Varint => Some(BigInt::from_signed_bytes_be(bytes).to_string()),
            CqlType::Decimal => Decimal::from_bytes(bytes).map(|n| n.to_string()),
            CqlType::Date => {
                let days = array(bytes).map(|n| i64::from(u32::from_be_bytes(n)) - EPOCH_DATE);
                days.map(calendar::format_date)
            }
            CqlType::Time => array(bytes).map(|n| calendar::format_time(i64::from_be_bytes(n))),
            CqlType::Timestamp => {
                array(bytes).map(|n| calendar::format_timestamp(i64::from_be_bytes(n), 'T'))
            }
            CqlType::Duration => Some(Duration::from_bytes(bytes)?.to_string()),
            CqlType::Uuid | CqlType::Timeuuid => array(bytes).map(uuid::format),
            CqlType::Inet => address(bytes).map(|address| address.to_string()),
            CqlType::List { .. }
            | CqlType::Set { .. }
            | CqlType::Map { .. }
            | CqlType::Tuple(_)
            | CqlType::User { .. } => None,
        };
        Ok(text)
    }
}

struct Writer<'a> {
    out: &'a mut String,
    /// JSON, or else CQL.
    json: bool,
}

impl Writer<'_> {
    fn value(&mut self, ty: &CqlType, value: Option<&[u8]>) -> Result<(), ValueError> {
        let Some(bytes) = value else {
            self.out.push_str("null");
            return Ok(());
        };
        let (list, set) = if self.json { ("[]", "[]") } else { ("[]", "{}") };
        match ty {
            CqlType::List { of, .. } => self.elements(of, Elements::new(bytes, "list")?, list),
            CqlType::Set { of, .. } => self.elements(of, Elements::new(bytes, "set")?, set),
            CqlType::Map { key, value, .. } => self.map(key, value, bytes),
            CqlType::Tuple(types) => self.tuple(types, bytes),
            CqlType::User { of, .. } => {
                let mut parts = Parts::new(bytes, "user-defined type");
                self.out.push('{');
                for (n, (name, ty)) in of.fields.iter().enumerate() {
                    self.separator(n);
                    self.field_name(name);
                    let part = parts.next().transpose()?;
                    self.value(ty, part.flatten())?;
                }
                self.out.push('}');
                no_more(ty, of.fields.len(), parts)
            }
            scalar => self.scalar(scalar, bytes),
        }
    }

    fn separator(&mut self, n: usize) {
        if n > 0 {
            self.out.push_str(", ");
        }
    }

    fn elements(
        &mut self,
        of: &CqlType,
        all: Elements<'_>,
        around: &str,
    ) -> Result<(), ValueError> {
        let (open, close) = around.split_at_checked(1).unwrap_or_default();
        self.out.push_str(open);
        for (n, element) in all.enumerate() {
            self.separator(n);
            self.value(of, Some(element?))?;
        }
        self.out.push_str(close);
        Ok(())
    }

    fn map(&mut self, key: &CqlType, value: &CqlType, bytes: &[u8]) -> Result<(), ValueError> {
        self.out.push('{');
        for (n, pair) in Pairs::new(bytes)?.enumerate() {
            let (k, v) = pair?;
            self.separator(n);
            if self.json {
                // Keys of objects are texts, whatever they are in CQL.
                let text = key.to_json(Some(k))?;
                if text.starts_with('"') {
                    self.out.push_str(&text)
                } else {
                    json_string(self.out, &text)
                }
            } else {
                self.value(key, Some(k))?;
            }
            self.out.push_str(": ");
            self.value(value, Some(v))?;
        }
        self.out.push('}');
        Ok(())
    }

    fn tuple(&mut self, types: &[CqlType], bytes: &[u8]) -> Result<(), ValueError> {
        let mut parts = Parts::new(bytes, "tuple");
        self.out.push(if self.json { '[' } else { '(' });
        for (n, ty) in types.iter().enumerate() {
            self.separator(n);
            let part = parts.next().transpose()?;
            self.value(ty, part.flatten())?;
        }
        self.out.push(if self.json { ']' } else { ')' });
        no_more(&CqlType::Tuple(types.into()), types.len(), parts)
    }

    /// In JSON a name that is not in lower case has the quotes of CQL within those of JSON, as in Cassandra.
    fn field_name(&mut self, name: &str) {
        match self.json {
            true if name.chars().any(char::is_uppercase) => {
                json_string(self.out, &format!("\"{name}\""));
            }
            true => json_string(self.out, name),
            false => {
                let _ = write!(self.out, "{}", Ident::quoted(name));
            }
        }
        self.out.push_str(": ");
    }

    fn scalar(&mut self, ty: &CqlType, bytes: &[u8]) -> Result<(), ValueError> {
        let plain = ty.to_plain(bytes)?;
        let Some(text) = plain else {
            self.out.push_str(if self.json { "\"\"" } else { "null" });
            return Ok(());
        };
        let number = matches!(ty, CqlType::Boolean) || ty.is_numeric();
        match (self.json, ty) {
            // JSON has no such numbers.
            (true, CqlType::Float | CqlType::Double) if text.ends_with(['N', 'y']) => {
                self.out.push_str("null");
            }
            (true, CqlType::Timestamp) => json_string(self.out, &text.replacen('T', " ", 1)),
            (true, CqlType::Inet) => {
                // Java does not shorten an IPv6 address.
                let address = address(bytes).map_or(text, |address| match address {
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => {
                        address.segments().map(|group| format!("{group:x}")).join(":")
                    }
                });
                json_string(self.out, &address);
            }
            (_, _) if number => self.out.push_str(&text),
            (true, _) => json_string(self.out, &text),
            (false, CqlType::Blob | CqlType::Uuid | CqlType::Timeuuid | CqlType::Duration) => {
                self.out.push_str(&text);
            }
            (false, _) => {
                let _ = write!(self.out, "'{}'", text.replace('\'', "''"));
            }
        }
        Ok(())
    }
}

fn no_more(ty: &CqlType, wanted: usize, mut parts: Parts<'_>) -> Result<(), ValueError> {
    match parts.next() {
        None => Ok(()),
        Some(_) => Err(ValueError::TooManyParts { ty: ty.to_string(), wanted }),
    }
}

/// Appends `text` in quotes, escaped as RFC 8259 wants it.
fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a string cannot fail.
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("0x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    array::<4>(bytes).map(IpAddr::from).or_else(|| array::<16>(bytes).map(IpAddr::from))
}

/// As Java's `Float.toString`.
pub(super) fn java_float(n: f32) -> String {
    java(f64::from(n), n.to_string(), &format!("{n:e}"))
}

/// As Java's `Double.toString`.
pub(super) fn java_double(n: f64) -> String {
    java(n, n.to_string(), &format!("{n:e}"))
}

/// From 10^-3 to below 10^7 as it is, else with an exponent; always with a digit behind the point.
fn java(n: f64, plain: String, scientific: &str) -> String {
    let with_point = |text: String| if text.contains('.') { text } else { text + ".0" };
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if n == 0.0 || (1e-3..1e7).contains(&n.abs()) {
        return with_point(plain);
    }
    match scientific.split_once('e') {
        Some((mantissa, exponent)) => with_point(mantissa.to_owned()) + "E" + exponent,
        None => plain,
    }
}
