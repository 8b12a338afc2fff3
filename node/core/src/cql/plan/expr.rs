//! Expressions whose names and types are known, and what they come to.

use super::column::{At, Column};
use super::error::invalid;
use super::function::Function;
use super::rows::RowView;
use super::{ColumnSpec, Moment, PlanError, Value, function};
use crate::cql::collection;
use crate::cql::functions;
use crate::cql::types::CqlType;
use crate::data::ColumnId;
use bytes::Bytes;
use std::sync::Arc;

/// An expression and the type of what it comes to.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) ty: CqlType,
    pub(super) expr: Expr,
}

/// An expression.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    /// `None` is null.
    Constant(Option<Bytes>),
    Marker {
        index: usize,
        /// What it is for: messages say it, even if the marker has a name of its own.
        of: Arc<ColumnSpec>,
    },
    List(Vec<Expr>),
    Set {
        of: CqlType,
        elements: Box<[Expr]>,
    },
    Map {
        key: CqlType,
        pairs: Box<[(Expr, Expr)]>,
    },
    /// A user-defined type's value too.
    Tuple(Vec<Expr>),
    Call(Box<Call>),
    Cast {
        of: Box<Typed>,
        to: CqlType,
    },
    Column(At),
    /// A collection that is not frozen, or a counter: what its elements come to.
    Elements {
        id: ColumnId,
        is_static: bool,
        ty: CqlType,
    },
    Writetime {
        id: ColumnId,
        is_static: bool,
    },
    Ttl {
        id: ColumnId,
        is_static: bool,
    },
    /// What a group of rows came to: an aggregate, or a value of its first row.
    Slot(usize),
}

/// A call of a function.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) args: Vec<Typed>,
    /// Which call of the statement.
    pub(super) number: u64,
}

/// What expressions are evaluated against.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) values: &'a [Value],
    pub(super) moment: Moment,
    pub(super) row: Option<&'a RowView<'a>>,
    pub(super) slots: &'a [Option<Bytes>],
}

impl<'a> Env<'a> {
    /// Without a row: what is bound, and what stands in the statement.
    pub(super) fn bound(values: &'a [Value], moment: Moment) -> Env<'a> {
        Env { values, moment, row: None, slots: &[] }
    }
}

impl Expr {
    /// The column's value in the row.
    pub(super) fn of_row(column: &Column) -> Expr {
        match column.at {
            At::Cell { id, is_static } if column.ty.is_complex() => {
                Expr::Elements { id, is_static, ty: column.ty.clone() }
            }
            at => Expr::Column(at),
        }
    }

    /// What it comes to; only a marker that stands alone may be unset.
    pub(super) fn value(&self, env: &Env<'_>) -> Result<Value, PlanError> {
        let Expr::Marker { index, of } = self else {
            return Ok(self.eval(env)?.map_or(Value::Null, Value::Bytes));
        };
        let ColumnSpec { name, ty, .. } = &**of;
        match env.values.get(*index) {
            None => invalid(format!("no value was bound for {name}")),
            Some(Value::Bytes(bytes)) => {
                match ty.check(bytes).and_then(|()| collection::sorted(ty, bytes)) {
                    Ok(bytes) => Ok(Value::Bytes(bytes)),
                    Err(error) => invalid(error.for_column(name)),
                }
            }
            Some(other) => Ok(other.clone()),
        }
    }

    /// What it comes to where nothing may be unset; `None` is null.
    pub(super) fn eval(&self, env: &Env<'_>) -> Result<Option<Bytes>, PlanError> {
        match self {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Marker { of, .. } => match self.value(env)? {
                Value::Null => Ok(None),
                Value::Bytes(bytes) => Ok(Some(bytes)),
                Value::Unset => invalid(format!("Invalid unset value for {}", of.name)),
            },
            Expr::List(elements) => made(collection::encode_list(&present(elements, env, "list")?)),
            Expr::Set { of, elements } => {
                made(collection::encode_set(of, present(elements, env, "set")?))
            }
            Expr::Map { key, pairs } => {
                let mut present_pairs = Vec::with_capacity(pairs.len());
                for (k, v) in pairs {
                    present_pairs.push((element(k, env, "map")?, element(v, env, "map")?));
                }
                made(collection::encode_map(key, present_pairs))
            }
            Expr::Tuple(parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| part.eval(env)).collect();
                made(collection::encode_tuple(&parts?))
            }
            Expr::Call(call) => {
                let Call { function, args, number } = &**call;
                let mut given = Vec::with_capacity(args.len());
                for arg in args {
                    given.push((&arg.ty, arg.expr.eval(env)?));
                }
                function::call(function, &given, env.moment, *number)
            }
            Expr::Cast { of, to } => {
                Ok(functions::cast(&of.ty, to, of.expr.eval(env)?.as_deref())?)
            }
            Expr::Column(at) => Ok(env.row.and_then(|row| row.value(*at))),
            Expr::Elements { id, is_static, ty } => match env.row {
                Some(row) => row.elements(*id, *is_static, ty),
                None => Ok(None),
            },
            Expr::Writetime { id, is_static } => {
                let written = env.row.and_then(|row| row.writetime(*id, *is_static));
                Ok(written.map(|micros| Bytes::copy_from_slice(&micros.to_be_bytes())))
            }
            Expr::Ttl { id, is_static } => {
                let left = env.row.and_then(|row| row.ttl(*id, *is_static));
                Ok(left.map(|seconds| Bytes::copy_from_slice(&seconds.to_be_bytes())))
            }
            Expr::Slot(slot) => Ok(env.slots.get(*slot).cloned().flatten()),
        }
    }
}

fn made(value: Result<Bytes, crate::cql::ValueError>) -> Result<Option<Bytes>, PlanError> {
    value.map(Some).map_err(|error| PlanError::Invalid(error.to_string()))
}

fn present(of: &[Expr], env: &Env<'_>, what: &str) -> Result<Vec<Bytes>, PlanError> {
    of.iter().map(|expr| element(expr, env, what)).collect()
}

fn element(expr: &Expr, env: &Env<'_>, what: &str) -> Result<Bytes, PlanError> {
    match expr.eval(env)? {
        Some(bytes) => Ok(bytes),
        None => invalid(format!("null is not supported inside collections, found one in a {what}")),
    }
}
