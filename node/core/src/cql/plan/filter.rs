//! What a row must be like where no range of keys says it: `ALLOW FILTERING`.
//!
//! A null is neither equal to anything nor more or less.

use super::column::{At, Column};
use super::error::invalid;
use super::expr::{Env, Expr};
use super::restrict::Choice;
use super::rows::RowView;
use super::{PlanError, Value};
use crate::cql::ast::Operator;
use crate::cql::collection::{Elements, Pairs};
use crate::cql::types::CqlType;
use bytes::Bytes;
use std::cmp::Ordering;

/// What must hold of a column.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub(super) column: Column,
    pub(super) test: Test,
}

#[derive(Debug, Clone)]
pub(super) enum Test {
    /// One of the five that compare, `CONTAINS` or `CONTAINS KEY`.
    Compare {
        op: Operator,
        value: Expr,
    },
    In(Choice),
    Entry {
        key: Expr,
        op: Operator,
        value: Expr,
    },
}

/// A filter whose values are known.
#[derive(Debug, Clone)]
pub(super) struct BoundFilter {
    at: At,
    ty: CqlType,
    test: BoundTest,
}

#[derive(Debug, Clone)]
enum BoundTest {
    Compare { op: Operator, value: Bytes },
    In(Vec<Bytes>),
    Entry { key: Bytes, op: Operator, value: Bytes },
}

impl Filter {
    /// Whether it is `=` or `IN` of a key column.
    pub(super) fn is_choice(&self) -> bool {
        matches!(self.test, Test::In(_))
    }

    pub(super) fn bind(&self, env: &Env<'_>) -> Result<BoundFilter, PlanError> {
        let name = &self.column.name;
        let value = |expr: &Expr| match expr.value(env)? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Null => invalid(format!("Unsupported null value for column {name}")),
            Value::Unset => invalid(format!("Unsupported unset value for column {name}")),
        };
        let test = match &self.test {
            Test::Compare { op, value: expr } => {
                BoundTest::Compare { op: *op, value: value(expr)? }
            }
            Test::In(choice) => BoundTest::In(choice.bind(env)?.into_iter().flatten().collect()),
            Test::Entry { key, op, value: expr } => {
                BoundTest::Entry { key: value(key)?, op: *op, value: value(expr)? }
            }
        };
        Ok(BoundFilter { at: self.column.at, ty: self.column.ty.clone(), test })
    }
}

impl BoundFilter {
    pub(super) fn accepts(&self, row: &RowView<'_>) -> Result<bool, PlanError> {
        let found = row.column(self.at, &self.ty)?;
        Ok(found.is_some_and(|found| self.holds(&found)))
    }

    fn holds(&self, found: &[u8]) -> bool {
        match &self.test {
            BoundTest::Compare { op: Operator::Contains, value } => {
                contains(&self.ty, found, value)
            }
            BoundTest::Compare { op: Operator::ContainsKey, value } => {
                contains_key(&self.ty, found, value)
            }
            BoundTest::Compare { op, value } => op.holds(self.ty.compare(found, value)),
            BoundTest::In(values) => {
                values.iter().any(|value| self.ty.compare(found, value) == Ordering::Equal)
            }
            BoundTest::Entry { key, op, value } => {
                let CqlType::Map { key: key_ty, value: value_ty, .. } = &self.ty else {
                    return false;
                };
                let Ok(pairs) = Pairs::new(found) else { return false };
                pairs.flatten().any(|(k, v)| {
                    key_ty.compare(k, key) == Ordering::Equal
                        && op.holds(value_ty.compare(v, value))
                })
            }
        }
    }
}

fn contains(ty: &CqlType, found: &[u8], wanted: &[u8]) -> bool {
    match ty {
        CqlType::List { of, .. } | CqlType::Set { of, .. } => Elements::new(found, "collection")
            .is_ok_and(|mut all| {
                all.any(|one| one.is_ok_and(|one| of.compare(one, wanted) == Ordering::Equal))
            }),
        CqlType::Map { value, .. } => Pairs::new(found).is_ok_and(|mut all| {
            all.any(|pair| pair.is_ok_and(|(_, v)| value.compare(v, wanted) == Ordering::Equal))
        }),
        _ => false,
    }
}

fn contains_key(ty: &CqlType, found: &[u8], wanted: &[u8]) -> bool {
    let CqlType::Map { key, .. } = ty else { return false };
    Pairs::new(found).is_ok_and(|mut all| {
        all.any(|pair| pair.is_ok_and(|(k, _)| key.compare(k, wanted) == Ordering::Equal))
    })
}
