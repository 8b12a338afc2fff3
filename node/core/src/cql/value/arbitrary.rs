//! Types, and values of them that collide as often as they differ.

use crate::cql::collection::{encode_list, encode_map, encode_set, encode_tuple};
use crate::cql::decimal::Decimal;
use crate::cql::duration::Duration;
use crate::cql::types::{CqlType, UserType};
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// Every scalar type.
pub(crate) const SCALARS: [CqlType; 20] = [
    CqlType::Ascii,
    CqlType::Bigint,
    CqlType::Blob,
    CqlType::Boolean,
    CqlType::Counter,
    CqlType::Date,
    CqlType::Decimal,
    CqlType::Double,
    CqlType::Duration,
    CqlType::Float,
    CqlType::Inet,
    CqlType::Int,
    CqlType::Smallint,
    CqlType::Text,
    CqlType::Time,
    CqlType::Timestamp,
    CqlType::Timeuuid,
    CqlType::Tinyint,
    CqlType::Uuid,
    CqlType::Varint,
];

/// A type that may be in a key, scalar or not.
pub(crate) fn key_type() -> impl Strategy<Value = CqlType> {
    nested(SCALARS.into_iter().filter(CqlType::is_key_type).collect())
}

/// Any type, frozen if it can be.
pub(crate) fn any_type() -> impl Strategy<Value = CqlType> {
    nested(SCALARS.to_vec())
}

fn nested(scalars: Vec<CqlType>) -> impl Strategy<Value = CqlType> {
    select(scalars).prop_recursive(3, 8, 3, |inner| {
        let of = inner.clone().prop_map(Arc::new);
        prop_oneof![
            of.clone().prop_map(|of| CqlType::List { of, frozen: true }),
            of.clone().prop_map(|of| CqlType::Set { of, frozen: true }),
            (of.clone(), of).prop_map(|(key, value)| CqlType::Map { key, value, frozen: true }),
            vec(inner.clone(), 1..4).prop_map(|parts| CqlType::Tuple(parts.into())),
            vec(inner, 1..4)
                .prop_map(|types| CqlType::User { of: user("a_type", types), frozen: true }),
        ]
    })
}

/// A user-defined type with fields of these types.
pub(crate) fn user(name: &str, types: Vec<CqlType>) -> Arc<UserType> {
    let named = types.into_iter().enumerate().map(|(n, ty)| (format!("f{n}"), ty));
    Arc::new(UserType { keyspace: "ks".into(), name: name.into(), fields: named.collect() })
}

/// The bytes of a value of `ty`.
#[expect(clippy::too_many_lines, reason = "a line or two for each type")]
pub(crate) fn value(ty: &CqlType) -> BoxedStrategy<Vec<u8>> {
    let full = match ty {
        CqlType::Ascii => {
            select(vec!["a", "ab", "b", "\0", "\0\0", "a\0", "a\0b", "a\u{1}", "\x7f"])
                .prop_map(|text| text.as_bytes().to_vec())
                .boxed()
        }
        CqlType::Text => prop_oneof!["[\\x00\\x01a\u{7f}é\u{ffff}😀]{1,4}", any::<String>()]
            .prop_map(String::into_bytes)
            .boxed(),
        CqlType::Blob => prop_oneof![
            vec(select(vec![0, 1, 0x7f, 0x80, 0xfe, 0xff]), 1..5),
            vec(any::<u8>(), 0..20)
        ]
        .boxed(),
        CqlType::Boolean => select(vec![vec![0], vec![1], vec![0xff]]).boxed(),
        CqlType::Tinyint => vec(any::<u8>(), 1).boxed(),
        CqlType::Smallint => vec(edge_byte(), 2).boxed(),
        CqlType::Date | CqlType::Int => vec(edge_byte(), 4).boxed(),
        CqlType::Bigint | CqlType::Counter | CqlType::Timestamp => vec(edge_byte(), 8).boxed(),
        CqlType::Float => prop_oneof![
            any::<f32>(),
            select(vec![0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0])
        ]
        .prop_map(|n| n.to_be_bytes().to_vec())
        .boxed(),
        CqlType::Double => prop_oneof![
            any::<f64>(),
            select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0])
        ]
        .prop_map(|n| n.to_be_bytes().to_vec())
        .boxed(),
        CqlType::Inet => prop_oneof![vec(edge_byte(), 4), vec(edge_byte(), 16)].boxed(),
        CqlType::Time => (0..86_400_000_000_000_i64).prop_map(|n| n.to_be_bytes().to_vec()).boxed(),
        CqlType::Uuid => vec(edge_byte(), 16).boxed(),
        CqlType::Timeuuid => vec(edge_byte(), 16)
            .prop_map(|mut bytes| {
                bytes[6] = (bytes[6] & 0x0f) | 0x10;
                bytes
            })
            .boxed(),
        CqlType::Varint => prop_oneof![
            vec(edge_byte(), 1..6),
            any::<i128>().prop_map(|n| BigInt::from(n).to_signed_bytes_be()),
            (any::<bool>(), 100_usize..300).prop_map(|(negative, bits)| {
                let n = BigInt::from(1) << (bits * 8);
                (if negative { -n } else { n }).to_signed_bytes_be()
            }),
        ]
        .boxed(),
        CqlType::Decimal => decimal().prop_map(|n| n.to_bytes().to_vec()).boxed(),
        CqlType::Duration => (any::<bool>(), any::<u16>(), any::<u16>(), any::<u32>())
            .prop_map(|(negative, months, days, nanos)| {
                let sign = if negative { -1 } else { 1 };
                Duration {
                    months: sign * i32::from(months),
                    days: sign * i32::from(days),
                    nanoseconds: i64::from(sign) * i64::from(nanos),
                }
                .to_bytes()
                .to_vec()
            })
            .boxed(),
        CqlType::List { of, .. } => {
            vec(value(of), 0..4).prop_map(|all| encode_list(&all).unwrap().to_vec()).boxed()
        }
        CqlType::Set { of, .. } => {
            let of = Arc::clone(of);
            vec(value(&of), 0..4)
                .prop_map(move |all| encode_set(&of, all).unwrap().to_vec())
                .boxed()
        }
        CqlType::Map { key, value: of, .. } => {
            let key = Arc::clone(key);
            vec((value(&key), value(of)), 0..4)
                .prop_map(move |all| encode_map(&key, all).unwrap().to_vec())
                .boxed()
        }
        CqlType::Tuple(types) => parts(types.iter()),
        CqlType::User { of, .. } => parts(of.fields.iter().map(|(_, ty)| ty)),
    };
    let ty = ty.clone();
    // One in eight has no bytes, where that is a value.
    (full, 0..8_u8)
        .prop_map(
            move |(bytes, n)| if n == 0 && ty.check(&[]).is_ok() { Vec::new() } else { bytes },
        )
        .boxed()
}

/// Any decimal whose digits and scale collide.
pub(crate) fn decimal() -> impl Strategy<Value = Decimal> {
    let unscaled = prop_oneof![
        (-20..20_i128).prop_map(|n| n * 50),
        any::<i128>(),
        any::<i64>().prop_map(i128::from)
    ];
    let scale = prop_oneof![-4..8, any::<i32>(), select(vec![i32::MIN, i32::MAX])];
    (unscaled, scale).prop_map(|(n, scale)| Decimal { unscaled: BigInt::from(n), scale })
}

/// Bytes at which signs turn, and others.
fn edge_byte() -> impl Strategy<Value = u8> {
    prop_oneof![select(vec![0, 1, 0x7f, 0x80, 0xff]), any::<u8>()]
}

fn parts<'a>(types: impl Iterator<Item = &'a CqlType>) -> BoxedStrategy<Vec<u8>> {
    let all: Vec<_> = types.map(|ty| option::weighted(0.7, value(ty))).collect();
    let count = all.len();
    // Perhaps without some at the end.
    (all, 0..=count).prop_map(|(all, kept)| encode_tuple(&all[..kept]).unwrap().to_vec()).boxed()
}
