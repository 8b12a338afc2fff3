//! `WHERE`: which partitions, which ranges of their rows, and what filters say of the rest.
//!
//! Relations are gathered by column first, since several may say something of one. Then the key is walked in its order: the
//! partition key is given whole or not at all, and of the clustering columns as many as have a value, then one slice. What is
//! left over is a filter.

mod gather;

pub(super) use gather::gather;

use super::column::{At, Column, listed};
use super::error::invalid;
use super::expr::{Env, Expr};
use super::filter::{Filter, Test};
use super::slices::{self, Side, Slice};
use super::{Keys, PlanError, Value};
use crate::cql::clustering::VALUE_BYTES_MAX;
use crate::cql::collection::{Elements, Parts};
use crate::cql::partition_key;
use crate::cql::types::CqlType;
use crate::data::Key;
use crate::token;
use crate::types::Token;
use bytes::Bytes;
use std::ops::{Bound, Deref};

/// How many keys the `IN`s of one statement may come to.
pub(super) const COMBINATIONS_MAX: usize = 1 << 16;

/// A value, or one for each of several columns.
#[derive(Debug, Clone)]
pub(super) enum Tuple {
    One(Expr),
    Parts(Vec<Expr>),
    /// One marker for all.
    Whole(Expr),
}

/// Columns that something is said of: nearly always it is one.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    One(Column),
    Several(Vec<Column>),
}

impl Deref for Subject {
    type Target = [Column];

    fn deref(&self) -> &[Column] {
        match self {
            Subject::One(column) => std::slice::from_ref(column),
            Subject::Several(columns) => columns,
        }
    }
}

/// What columns may be equal to.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) columns: Subject,
    pub(super) of: Of,
}

#[derive(Debug, Clone)]
pub(super) enum Of {
    /// `=`.
    One(Tuple),
    /// `IN (…)`.
    Each(Vec<Tuple>),
    /// `IN ?`; of tuples, or of values of one column.
    All { list: Expr, tuples: bool },
}

/// An end of a slice.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) columns: Subject,
    pub(super) tuple: Tuple,
    pub(super) inclusive: bool,
}

/// What is said of the next clustering columns.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Choice(Choice),
    /// The last step.
    Slice {
        low: Option<Limit>,
        high: Option<Limit>,
    },
}

/// Which partitions.
#[derive(Debug, Clone)]
pub(super) enum Partitions {
    /// A choice for each column of the key.
    Keys(Vec<Choice>),
    /// Between two tokens; `true` for `>=` and `<=`.
    Tokens {
        low: Option<(Expr, bool)>,
        high: Option<(Expr, bool)>,
    },
    All,
}

/// What `WHERE` says.
#[derive(Debug, Clone)]
pub(super) struct Restrictions {
    pub(super) partitions: Partitions,
    pub(super) steps: Vec<Step>,
    pub(super) filters: Vec<Filter>,
    /// Whether anything is said of clustering columns, or of cells of rows: then rows are asked for, and a partition without
    /// rows gives none.
    pub(super) about_rows: bool,
}

impl Restrictions {
    /// Whether the column has one value.
    pub(super) fn is_equal(&self, at: At) -> bool {
        let of_key = match &self.partitions {
            Partitions::Keys(choices) => choices.as_slice(),
            Partitions::Tokens { .. } | Partitions::All => &[],
        };
        let of_rows = self.steps.iter().filter_map(|step| match step {
            Step::Choice(choice) => Some(choice),
            Step::Slice { .. } => None,
        });
        let left_over = self.filters.iter().filter_map(|filter| match &filter.test {
            Test::In(choice) => Some(choice),
            _ => None,
        });
        let mut choices = of_key.iter().chain(of_rows).chain(left_over);
        choices.any(|choice| choice.is_one() && choice.columns.iter().any(|c| c.at == at))
    }
}

impl Tuple {
    /// The values, one for each column.
    fn bind(&self, env: &Env<'_>, columns: &[Column]) -> Result<Vec<Bytes>, PlanError> {
        match self {
            Tuple::One(value) => {
                let value = value.value(env)?;
                columns.iter().take(1).map(|of| not_null(value.clone(), &of.name)).collect()
            }
            Tuple::Parts(parts) => {
                let parts = parts.iter().zip(columns);
                parts.map(|(part, of)| not_null(part.value(env)?, &of.name)).collect()
            }
            Tuple::Whole(tuple) => split(&not_null(tuple.value(env)?, &listed(columns))?, columns),
        }
    }
}

fn not_null(value: Value, name: &str) -> Result<Bytes, PlanError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Null => invalid(format!("Invalid null value in condition for column {name}")),
        Value::Unset => invalid(format!("Invalid unset value for column {name}")),
    }
}

/// The parts of a tuple, none of which may be null.
fn split(tuple: &Bytes, columns: &[Column]) -> Result<Vec<Bytes>, PlanError> {
    let mut parts = Parts::new(tuple, "tuple");
    let mut values = Vec::with_capacity(columns.len());
    for Column { spec, .. } in columns {
        let name = &spec.name;
        let part = parts.next().transpose();
        match part.map_err(|error| PlanError::Invalid(error.to_string()))?.flatten() {
            Some(part) => values.push(tuple.slice_ref(part)),
            None => return invalid(format!("Invalid null value in condition for column {name}")),
        }
    }
    Ok(values)
}

impl Choice {
    /// Whether it is one value.
    pub(super) fn is_one(&self) -> bool {
        matches!(self.of, Of::One(_))
    }

    /// Where its first column is: its place in the order of the key.
    pub(super) fn at(&self) -> Option<At> {
        self.columns.first().map(|column| column.at)
    }

    /// The marker that alone says the value.
    pub(super) fn marker(&self) -> Option<u16> {
        match &self.of {
            Of::One(Tuple::One(Expr::Marker { index, .. })) => u16::try_from(*index).ok(),
            _ => None,
        }
    }

    /// The tuples of values.
    pub(super) fn bind(&self, env: &Env<'_>) -> Result<Vec<Vec<Bytes>>, PlanError> {
        match &self.of {
            Of::One(tuple) => Ok(vec![tuple.bind(env, &self.columns)?]),
            Of::Each(tuples) => tuples.iter().map(|tuple| tuple.bind(env, &self.columns)).collect(),
            Of::All { list, tuples } => {
                let list = not_null(list.value(env)?, &listed(&self.columns))?;
                let elements = Elements::new(&list, "list");
                let elements = elements.map_err(|error| PlanError::Invalid(error.to_string()))?;
                let mut all = Vec::with_capacity(elements.left());
                for element in elements {
                    let element = element.map_err(|error| PlanError::Invalid(error.to_string()))?;
                    let element = list.slice_ref(element);
                    all.push(if *tuples { split(&element, &self.columns)? } else { vec![element] });
                }
                Ok(all)
            }
        }
    }
}

/// Each of the first with each of the second.
fn product(first: Vec<Vec<Bytes>>, second: &[Vec<Bytes>]) -> Result<Vec<Vec<Bytes>>, PlanError> {
    if let [only] = second {
        return Ok(first.into_iter().map(|tuple| [tuple.as_slice(), only].concat()).collect());
    }
    let combinations = first.len().saturating_mul(second.len());
    if combinations > COMBINATIONS_MAX {
        return invalid(format!(
            "the IN restrictions come to {combinations} combinations of values; {COMBINATIONS_MAX} are allowed"
        ));
    }
    let each = |tuple: &Vec<Bytes>| -> Vec<Vec<Bytes>> {
        second.iter().map(|next| [tuple.as_slice(), next].concat()).collect()
    };
    Ok(first.iter().flat_map(each).collect())
}

/// The keys of these choices: distinct, sorted by their tokens.
pub(super) fn keys(choices: &[Choice], env: &Env<'_>) -> Result<Vec<Key>, PlanError> {
    let mut values = vec![Vec::new()];
    for choice in choices {
        values = product(values, &choice.bind(env)?)?;
    }
    let keys = values.iter().map(|values| partition_key::encode(values));
    let mut keys = keys.collect::<Result<Vec<Key>, _>>()?;
    keys.sort_by_cached_key(|key| (token::of(&key.0), key.0.clone()));
    keys.dedup();
    Ok(keys)
}

/// The values of the clustering columns that the steps before a slice say.
pub(super) fn prefixes(steps: &[Step], env: &Env<'_>) -> Result<Vec<Vec<Bytes>>, PlanError> {
    let mut values = vec![Vec::new()];
    for step in steps {
        if let Step::Choice(choice) = step {
            let next = choice.bind(env)?;
            next.iter().try_for_each(|tuple| check_lengths(tuple, &choice.columns))?;
            values = product(values, &next)?;
        }
    }
    Ok(values)
}

/// Values of clustering columns are parts of keys, so they have a longest length.
fn check_lengths(values: &[Bytes], columns: &[Column]) -> Result<(), PlanError> {
    let too_long = values.iter().zip(columns).find(|(value, _)| value.len() > VALUE_BYTES_MAX);
    match too_long {
        None => Ok(()),
        Some((value, column)) => invalid(format!(
            "Key length of {} is longer than maximum of {VALUE_BYTES_MAX} (for \"{}\")",
            value.len(),
            column.name
        )),
    }
}

/// The ranges of rows that the steps say.
pub(super) fn ranges(
    steps: &[Step],
    types: &[(CqlType, bool)],
    env: &Env<'_>,
) -> Result<Vec<Slice>, PlanError> {
    let prefixes = prefixes(steps, env)?;
    let (mut low_values, mut high_values) = (None, None);
    if let Some(Step::Slice { low, high }) = steps.last() {
        let bind = |limit: &Option<Limit>| match limit {
            None => Ok(None),
            Some(limit) => {
                let tuple = limit.tuple.bind(env, &limit.columns)?;
                check_lengths(&tuple, &limit.columns)?;
                Ok::<_, PlanError>(Some((tuple, limit.inclusive)))
            }
        };
        (low_values, high_values) = (bind(low)?, bind(high)?);
    }
    let mut out = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        let values: Vec<Option<&[u8]>> = prefix.iter().map(|value| Some(value.as_ref())).collect();
        let mut of_prefix =
            vec![Slice::of_prefix(&crate::cql::clustering::encode(types, &values)?)];
        for (limit, side) in [(&low_values, Side::Low), (&high_values, Side::High)] {
            if let Some((tuple, inclusive)) = limit {
                let beyond = slices::beyond(types, &prefix, tuple, *inclusive, side)?;
                of_prefix = slices::intersect(&of_prefix, &beyond);
            }
        }
        out.extend(of_prefix);
    }
    Ok(slices::normalise(out))
}

/// The keys of a range of tokens; none, if nothing is in it.
pub(super) fn tokens(
    low: Option<&(Expr, bool)>,
    high: Option<&(Expr, bool)>,
    env: &Env<'_>,
) -> Result<Keys, PlanError> {
    let bind = |limit: Option<&(Expr, bool)>| match limit {
        None => Ok(None),
        Some((expr, inclusive)) => {
            let bytes = not_null(expr.value(env)?, "partition key token")?;
            match <[u8; 8]>::try_from(bytes.as_ref()) {
                Ok(token) => Ok(Some((Token(i64::from_be_bytes(token)), *inclusive))),
                Err(_) => invalid("a token has 8 bytes"),
            }
        }
    };
    // The least token is no key's: as an end it is where the ring closes, so drivers write the last range (Cassandra does
    // the same).
    let bound = |limit: Option<(Token, bool)>| match limit {
        None | Some((Token::MIN, _)) => Bound::Unbounded,
        Some((token, true)) => Bound::Included(token),
        Some((token, false)) => Bound::Excluded(token),
    };
    let (low, high) = (bound(bind(low)?), bound(bind(high)?));
    let is_empty = match (&low, &high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
        _ => false,
    };
    Ok(if is_empty { Keys::Some(Vec::new()) } else { Keys::Scan { from: low, until: high } })
}
