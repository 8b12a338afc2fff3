//! The functions that a statement may call: their names, what they take, what they give.

use super::error::invalid;
use super::{Moment, PlanError};
use crate::cql::ast::QualifiedName;
use crate::cql::collection::{self, Elements, Pairs, Parts};
use crate::cql::functions::{self, AggregateKind, Operator};
use crate::cql::partition_key;
use crate::cql::types::CqlType;
use crate::token;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A function of values.
#[derive(Debug, Clone)]
pub(super) enum Function {
    Now,
    Uuid,
    CurrentTimestamp,
    CurrentDate,
    CurrentTime,
    ToTimestamp,
    ToDate,
    ToUnixTimestamp,
    MinTimeuuid,
    MaxTimeuuid,
    BlobAs(CqlType),
    AsBlob,
    ToJson,
    Token,
    Arithmetic(Operator),
    AddDuration {
        negative: bool,
    },
    Negate,
    /// `m[key]`, `s[element]`.
    Element,
    /// `m[from..to]`, and which of the two ends are said.
    Slice {
        from: bool,
        to: bool,
    },
    /// A field of a user-defined type, by its place.
    Field(usize),
}

/// What a function takes.
pub(super) enum Takes {
    /// Exactly these.
    These(Vec<CqlType>),
    /// One argument of one of these types; of any, if there are none.
    OneOf(&'static [CqlType]),
    /// A value for each column of the partition key.
    PartitionKey,
}

/// A function as its name says it.
pub(super) struct Signature {
    pub(super) function: Function,
    pub(super) takes: Takes,
    pub(super) gives: CqlType,
}

/// The aggregate of this name.
pub(super) fn aggregate_kind(name: &QualifiedName) -> Option<AggregateKind> {
    if !is_native(name) {
        return None;
    }
    Some(match name.name.as_str() {
        "count" => AggregateKind::Count,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        "sum" => AggregateKind::Sum,
        "avg" => AggregateKind::Avg,
        _ => return None,
    })
}

fn is_native(name: &QualifiedName) -> bool {
    name.keyspace.as_ref().is_none_or(|keyspace| keyspace.as_str() == "system")
}

/// The function of this name.
pub(super) fn find(name: &QualifiedName) -> Result<Signature, PlanError> {
    use CqlType::{Bigint, Blob, Date, Text, Time, Timestamp, Timeuuid, Uuid};
    let word = name.name.as_str();
    let (function, takes, gives) = match word {
        _ if !is_native(name) => return invalid(format!("Unknown function {name} called")),
        "now" | "currenttimeuuid" => (Function::Now, Takes::These(Vec::new()), Timeuuid),
        "uuid" => (Function::Uuid, Takes::These(Vec::new()), Uuid),
        "currenttimestamp" => (Function::CurrentTimestamp, Takes::These(Vec::new()), Timestamp),
        "currentdate" => (Function::CurrentDate, Takes::These(Vec::new()), Date),
        "currenttime" => (Function::CurrentTime, Takes::These(Vec::new()), Time),
        "totimestamp" => (Function::ToTimestamp, Takes::OneOf(&[Timeuuid, Date]), Timestamp),
        "todate" => (Function::ToDate, Takes::OneOf(&[Timeuuid, Timestamp]), Date),
        "tounixtimestamp" => {
            (Function::ToUnixTimestamp, Takes::OneOf(&[Timeuuid, Timestamp, Date]), Bigint)
        }
        "dateof" => (Function::ToTimestamp, Takes::These(vec![Timeuuid]), Timestamp),
        "unixtimestampof" => (Function::ToUnixTimestamp, Takes::These(vec![Timeuuid]), Bigint),
        "mintimeuuid" => (Function::MinTimeuuid, Takes::These(vec![Timestamp]), Timeuuid),
        "maxtimeuuid" => (Function::MaxTimeuuid, Takes::These(vec![Timestamp]), Timeuuid),
        "tojson" => (Function::ToJson, Takes::OneOf(&[]), Text),
        "token" => (Function::Token, Takes::PartitionKey, Bigint),
        _ => {
            if let Some(ty) = word.strip_prefix("blobas").and_then(CqlType::scalar) {
                (Function::BlobAs(ty.clone()), Takes::These(vec![Blob]), ty)
            } else if let Some(ty) = word.strip_suffix("asblob").and_then(CqlType::scalar) {
                (Function::AsBlob, Takes::These(vec![ty]), Blob)
            } else {
                return invalid(format!("Unknown function {name} called"));
            }
        }
    };
    Ok(Signature { function, takes, gives })
}

/// What a call comes to. `number` tells the calls of one statement apart.
pub(super) fn call(
    function: &Function,
    args: &[(&CqlType, Option<Bytes>)],
    moment: Moment,
    number: u64,
) -> Result<Option<Bytes>, PlanError> {
    let blob = &CqlType::Blob;
    let arg =
        |place: usize| args.get(place).map_or((blob, None), |(ty, value)| (*ty, value.as_deref()));
    let (ty, value) = arg(0);
    Ok(match function {
        Function::Now => Some(now(moment, number)?),
        Function::Uuid => {
            // Version 4, and the variant of RFC 4122.
            let bits = chance(moment, number) & !(0xf << 76) & !(0x3 << 62);
            let bits = bits | (0x4 << 76) | (0x2 << 62);
            Some(Bytes::copy_from_slice(&bits.to_be_bytes()))
        }
        Function::CurrentTimestamp => {
            functions::to_timestamp(&CqlType::Timeuuid, Some(&now(moment, number)?))?
        }
        Function::CurrentDate => {
            functions::to_date(&CqlType::Timeuuid, Some(&now(moment, number)?))?
        }
        Function::CurrentTime => {
            const MICROS_PER_DAY: i64 = 86_400_000_000;
            // To the millisecond, as Cassandra's.
            let micros = moment.now.0.rem_euclid(MICROS_PER_DAY) / 1_000 * 1_000;
            Some(Bytes::copy_from_slice(&(micros * 1_000).to_be_bytes()))
        }
        Function::ToTimestamp => functions::to_timestamp(ty, value)?,
        Function::ToDate => functions::to_date(ty, value)?,
        Function::ToUnixTimestamp => functions::to_unix_timestamp(ty, value)?,
        Function::MinTimeuuid => functions::min_timeuuid(value)?,
        Function::MaxTimeuuid => functions::max_timeuuid(value)?,
        Function::BlobAs(to) => functions::blob_as(to, value)?,
        Function::AsBlob => value.map(Bytes::copy_from_slice),
        Function::ToJson => match ty.to_json(value) {
            Ok(json) => Some(Bytes::from(json.into_bytes())),
            Err(error) => return invalid(error.to_string()),
        },
        Function::Token => {
            let mut parts = Vec::with_capacity(args.len());
            for (_, part) in args {
                match part {
                    Some(part) => parts.push(part.clone()),
                    None => return invalid("Invalid null value for an argument of token()"),
                }
            }
            let key = partition_key::encode(&parts)?;
            Some(Bytes::copy_from_slice(&token::of(&key.0).0.to_be_bytes()))
        }
        Function::Arithmetic(operator) => functions::arithmetic(*operator, arg(0), arg(1))?,
        Function::AddDuration { negative } => {
            functions::add_duration(ty, value, arg(1).1, *negative)?
        }
        Function::Negate => functions::negate(ty, value)?,
        Function::Element => {
            let (Some(all), Some(key)) = (value, arg(1).1) else { return Ok(None) };
            element(ty, all, key).map(Bytes::copy_from_slice)
        }
        Function::Slice { from, to } => {
            let Some(all) = value else { return Ok(None) };
            let (second, third) = (arg(1).1, arg(2).1);
            let first = from.then_some(second);
            let last = to.then_some(if *from { third } else { second });
            slice(ty, all, first, last)?
        }
        Function::Field(place) => {
            let part = value.and_then(|all| Parts::new(all, "user-defined type").nth(*place));
            part.and_then(Result::ok).flatten().map(Bytes::copy_from_slice)
        }
    })
}

/// The value of a key of a map, or the element of a set that is equal to it.
fn element<'a>(ty: &CqlType, all: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    match ty {
        CqlType::Map { key, .. } => {
            let mut pairs = Pairs::new(all).ok()?.flatten();
            pairs.find(|(k, _)| key.compare(k, wanted).is_eq()).map(|(_, value)| value)
        }
        CqlType::Set { of, .. } => {
            let mut elements = Elements::new(all, "set").ok()?.flatten();
            elements.find(|element| of.compare(element, wanted).is_eq())
        }
        _ => None,
    }
}

/// What of a set or a map lies between two ends, both included; `None`: that end is open. Nothing is null, as it is of a
/// column whose elements are cells; of one that is frozen it is an empty value.
fn slice(
    ty: &CqlType,
    all: &[u8],
    first: Option<Option<&[u8]>>,
    last: Option<Option<&[u8]>>,
) -> Result<Option<Bytes>, PlanError> {
    fn said(end: Option<Option<&[u8]>>) -> Result<Option<&[u8]>, PlanError> {
        match end {
            Some(None) => invalid("Invalid null value for an end of a slice of a collection"),
            end => Ok(end.flatten()),
        }
    }
    let (first, last) = (said(first)?, said(last)?);
    let within = |of: &CqlType, key: &[u8]| {
        first.is_none_or(|first| of.compare(first, key).is_le())
            && last.is_none_or(|last| of.compare(key, last).is_le())
    };
    let (count, found) = match ty {
        CqlType::Map { key, .. } => {
            let pairs = Pairs::new(all).into_iter().flatten().flatten();
            let found: Vec<_> = pairs.filter(|(k, _)| within(key, k)).collect();
            (found.len(), collection::encode_map(key, found))
        }
        CqlType::Set { of, .. } => {
            let elements = Elements::new(all, "set").into_iter().flatten().flatten();
            let found: Vec<_> = elements.filter(|element| within(of, element)).collect();
            (found.len(), collection::encode_set(of, found))
        }
        _ => return Ok(None),
    };
    match found {
        Ok(_) if count == 0 && ty.is_multicell() => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) => invalid(error.to_string()),
    }
}

/// 128 bits that differ from call to call.
fn chance(moment: Moment, number: u64) -> u128 {
    xxh3_128_with_seed(&moment.random.to_be_bytes(), number)
}

fn now(moment: Moment, number: u64) -> Result<Bytes, PlanError> {
    let [c0, c1, n0, n1, n2, n3, n4, n5, ..] = chance(moment, number).to_be_bytes();
    // The bit of multicast addresses: no network card has such a one (RFC 4122, §4.5).
    let node = [n0 | 1, n1, n2, n3, n4, n5];
    Ok(functions::now(moment.now, 0, u16::from_be_bytes([c0, c1]), node)?)
}
