//! `IF …`: its names are looked up, its markers get their types, and it is bound. What holds when is
//! `cql::condition`'s affair, and of which rows it is asked `plan::conditional`'s.
//!
//! A condition judges what a reader would be shown: of a collection or a user-defined type that is not frozen, the value that
//! its elements come to. So `l[1]` counts the elements that live, and nothing here knows how a value is kept.

use crate::cql::ast::{ConditionTest, Ident, If, InValues, Operator, Place, Term};
use crate::cql::collection::{Elements, Pairs, Parts};
use crate::cql::condition::Condition;
use crate::cql::plan::PlanError;
use crate::cql::plan::Value;
use crate::cql::plan::column::{At, Column};
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::{Env, Expr};
use crate::cql::plan::resolve::{Resolver, Wanted, whole};
use crate::cql::plan::rows::RowView;
use crate::cql::plan::source::Source;
use crate::cql::types::CqlType;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// On which condition a statement's change is made.
#[derive(Debug)]
pub(in crate::cql::plan) enum Guard {
    /// `IF NOT EXISTS`.
    NotExists,
    /// `IF EXISTS`.
    Exists,
    /// `IF a AND b`.
    Columns(Vec<ColumnTest>),
}

/// What must hold of a column, or of a part of it.
#[derive(Debug)]
pub(in crate::cql::plan) struct ColumnTest {
    pub(in crate::cql::plan) column: Column,
    part: Part,
    /// The part's.
    ty: CqlType,
    test: Test,
}

/// Which part of a value.
#[derive(Debug)]
enum Part {
    Whole,
    /// Of a map whose keys are of this type.
    Key(Expr, CqlType),
    Index(Expr),
    Field(usize),
}

/// What is compared, as messages call it.
enum Compared<'a> {
    Whole(&'a Column),
    Element(&'a Column),
    Field(&'a Column, &'a Ident),
}

impl fmt::Display for Compared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compared::Whole(column) => f.write_str(&column.name),
            Compared::Element(column) => write!(f, "value({})", column.name),
            Compared::Field(column, field) => write!(f, "{}.{field}", column.name),
        }
    }
}

/// The same, with what was bound.
#[derive(Debug)]
enum BoundPart {
    Whole,
    Key(Bytes, CqlType),
    Index(usize),
    Field(usize),
}

/// A test whose values are known.
#[derive(Debug)]
pub(in crate::cql::plan) struct BoundTest {
    pub(in crate::cql::plan) column: Column,
    part: BoundPart,
    ty: CqlType,
    condition: Condition<Bytes>,
}

#[derive(Debug)]
enum Test {
    Compare {
        op: Operator,
        value: Expr,
    },
    In(Vec<Expr>),
    /// One marker for the list.
    InAll(Expr),
}

impl Guard {
    /// Whether it asks for something of the row's own columns.
    pub(super) fn is_about_rows(&self) -> bool {
        match self {
            Guard::NotExists | Guard::Exists => false,
            Guard::Columns(tests) => tests.iter().any(|test| !test.column.is_static()),
        }
    }
}

impl ColumnTest {
    /// With the values that were bound.
    pub(in crate::cql::plan) fn bind(&self, env: &Env<'_>) -> Result<BoundTest, PlanError> {
        let condition = self.condition(env)?;
        if let Err(sentence) = condition.check(&self.ty) {
            return invalid(sentence);
        }
        let part = self.part.bind(env)?;
        Ok(BoundTest { column: self.column.clone(), part, ty: self.ty.clone(), condition })
    }

    fn condition(&self, env: &Env<'_>) -> Result<Condition<Bytes>, PlanError> {
        let name = &self.column.name;
        let value = |expr: &Expr| match expr.value(env)? {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Null => Ok(None),
            Value::Unset => invalid(format!("Invalid 'unset' value in condition for {name}")),
        };
        Ok(match &self.test {
            Test::Compare { op, value: wanted } => {
                Condition::Compare { op: *op, wanted: value(wanted)? }
            }
            Test::In(list) => {
                let mut wanted = Vec::with_capacity(list.len());
                for expr in list {
                    match expr.value(env)? {
                        Value::Bytes(bytes) => wanted.push(Some(bytes)),
                        Value::Null => wanted.push(None),
                        // One that is left unset is none of the values, as in Cassandra.
                        Value::Unset => {}
                    }
                }
                Condition::In(wanted)
            }
            Test::InAll(list) => {
                let Some(list) = value(list)? else {
                    return invalid(format!("Invalid null list in IN condition for {name}"));
                };
                let broken = |error: crate::cql::ValueError| PlanError::Invalid(error.to_string());
                let mut wanted = Vec::new();
                for element in Elements::new(&list, "list").map_err(broken)? {
                    wanted.push(Some(list.slice_ref(element.map_err(broken)?)));
                }
                Condition::In(wanted)
            }
        })
    }
}

impl Part {
    fn bind(&self, env: &Env<'_>) -> Result<BoundPart, PlanError> {
        let value = |expr: &Expr, what: &str| match expr.value(env)? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Null => invalid(format!("Invalid null value for {what} element access")),
            Value::Unset => invalid(format!("Invalid unset value for {what} element access")),
        };
        Ok(match self {
            Part::Whole => BoundPart::Whole,
            Part::Key(key, ty) => BoundPart::Key(value(key, "map")?, ty.clone()),
            Part::Index(index) => {
                let index = whole(&Value::Bytes(value(index, "list")?)).unwrap_or(-1);
                match usize::try_from(index) {
                    Ok(index) => BoundPart::Index(index),
                    Err(_) => return invalid(format!("Invalid negative list index {index}")),
                }
            }
            Part::Field(field) => BoundPart::Field(*field),
        })
    }
}

impl BoundPart {
    /// The part of a value; `None`: it has no such part.
    fn of(&self, value: &Bytes) -> Option<Bytes> {
        let part = match self {
            BoundPart::Whole => return Some(value.clone()),
            BoundPart::Key(key, ty) => {
                let mut pairs = Pairs::new(value).ok()?.flatten();
                pairs.find(|(k, _)| ty.compare(k, key).is_eq())?.1
            }
            BoundPart::Index(index) => Elements::new(value, "list").ok()?.nth(*index)?.ok()?,
            BoundPart::Field(field) => Parts::new(value, "user type").nth(*field)?.ok()??,
        };
        Some(value.slice_ref(part))
    }
}

impl BoundTest {
    /// Whether it holds of the row.
    ///
    /// # Errors
    /// Elements that are none of their type: what is stored is damaged.
    pub(in crate::cql::plan) fn holds(&self, row: &RowView<'_>) -> Result<bool, PlanError> {
        let found = row.column(self.column.at, &self.column.ty)?;
        let found = found.and_then(|value| self.part.of(&value));
        Ok(self.condition.holds(&self.ty, found.as_deref()))
    }
}

/// The condition, resolved; `None`: there is none.
pub(super) fn resolve(
    condition: &If,
    resolver: &mut Resolver<'_, '_>,
) -> Result<Option<Guard>, PlanError> {
    let conditions = match condition {
        If::Always => return Ok(None),
        If::Exists => return Ok(Some(Guard::Exists)),
        If::All(conditions) => conditions,
    };
    let mut tests = Vec::with_capacity(conditions.len());
    for condition in conditions {
        let column = resolver.table.column(&condition.column)?;
        if !matches!(column.at, At::Cell { .. }) {
            return invalid(format!(
                "PRIMARY KEY column '{}' cannot have IF conditions",
                column.name
            ));
        }
        let (part, name, ty) = part(&condition.place, column, resolver)?;
        let wanted = match &name {
            Compared::Whole(column) => Wanted::column(column),
            name => Wanted::other(name, &ty),
        };
        let mut value = |term: &Term| resolver.value(Source::Term(term), wanted);
        let test = match &condition.test {
            ConditionTest::Compare { op, value: wanted } => {
                Test::Compare { op: *op, value: value(wanted)? }
            }
            ConditionTest::In(InValues::List(values)) => {
                Test::In(values.iter().map(value).collect::<Result<_, _>>()?)
            }
            ConditionTest::In(InValues::Marker(index)) => {
                let list = CqlType::List { of: Arc::new(ty.clone()), frozen: false };
                let name = format_args!("in({name})");
                let wanted = Wanted::other(&name, &list);
                Test::InAll(resolver.value(Source::Term(&Term::Marker(*index)), wanted)?)
            }
        };
        tests.push(ColumnTest { column: column.clone(), part, ty, test });
    }
    Ok(Some(Guard::Columns(tests)))
}

/// Which part of the column is compared, what it is called, and its type.
fn part<'a>(
    place: &'a Place,
    column: &'a Column,
    resolver: &mut Resolver<'_, '_>,
) -> Result<(Part, Compared<'a>, CqlType), PlanError> {
    let (name, ty) = (&column.name, &column.ty);
    match (place, ty) {
        (Place::Whole, ty) => Ok((Part::Whole, Compared::Whole(column), ty.clone())),
        (Place::Element(key), CqlType::Map { key: key_ty, value, .. }) => {
            let name = format_args!("key({name})");
            let key = resolver.value(Source::Term(key), Wanted::other(&name, key_ty))?;
            let part = Part::Key(key, CqlType::clone(key_ty));
            Ok((part, Compared::Element(column), CqlType::clone(value)))
        }
        (Place::Element(index), CqlType::List { of, .. }) => {
            let name = format_args!("idx({name})");
            let index = resolver.value(Source::Term(index), Wanted::other(&name, &CqlType::Int))?;
            Ok((Part::Index(index), Compared::Element(column), CqlType::clone(of)))
        }
        (Place::Field(field), CqlType::User { of, .. }) => {
            let fields = (0..).zip(&of.fields);
            match fields.into_iter().find(|(_, (known, _))| known == field.as_str()) {
                // A field is one value, however its type was declared.
                Some((at, (_, ty))) => {
                    Ok((Part::Field(at), Compared::Field(column, field), ty.freeze()))
                }
                None => invalid(format!("Unknown field {field} for column {name}")),
            }
        }
        (Place::Element(_), CqlType::Set { .. }) => {
            invalid(format!("Invalid element access syntax for set column {name}"))
        }
        (Place::Element(_), _) => {
            invalid(format!("Invalid element access syntax for non-collection column {name}"))
        }
        (Place::Field(_), ty) => {
            invalid(format!("Invalid field access syntax for column {name} of type {ty}"))
        }
    }
}
