//! `IF …`: its names are looked up and its markers get their types, so that drivers can prepare the statement. What it means
//! is nobody's affair yet: binding refuses it.

use crate::cql::ast::{ConditionTest, If, InValues, Place, Term};
use crate::cql::plan::PlanError;
use crate::cql::plan::column;
use crate::cql::plan::error::invalid;
use crate::cql::plan::resolve::{Resolver, Wanted};
use crate::cql::plan::source::Source;
use crate::cql::types::CqlType;
use std::sync::Arc;

/// Whether there is a condition, whose expressions are resolved.
pub(super) fn resolve(condition: &If, resolver: &mut Resolver<'_, '_>) -> Result<bool, PlanError> {
    let conditions = match condition {
        If::Always => return Ok(false),
        If::Exists => return Ok(true),
        If::All(conditions) => conditions,
    };
    for condition in conditions {
        let column = column::find(resolver.table, condition.column.as_str())?;
        let (name, ty) = match (&condition.place, &column.ty) {
            (Place::Whole, ty) => (column.name.clone(), ty.clone()),
            (Place::Element(key), CqlType::Map { key: key_ty, value, .. }) => {
                element(key, &format!("key({})", column.name), key_ty, resolver)?;
                (format!("value({})", column.name), CqlType::clone(value))
            }
            (Place::Element(key), CqlType::List { of, .. }) => {
                element(key, &format!("idx({})", column.name), &CqlType::Int, resolver)?;
                (format!("value({})", column.name), CqlType::clone(of))
            }
            (Place::Field(field), CqlType::User { of, .. }) => {
                match of.fields.iter().find(|(name, _)| name == field.as_str()) {
                    Some((_, ty)) => (format!("{}.{field}", column.name), ty.clone()),
                    None => {
                        return invalid(format!(
                            "{} of type {} has no field {field}",
                            column.name, column.ty
                        ));
                    }
                }
            }
            (_, ty) => {
                return invalid(format!("column {} of type {ty} has no such parts", column.name));
            }
        };
        match &condition.test {
            ConditionTest::Compare { value, .. } => element(value, &name, &ty, resolver)?,
            ConditionTest::In(InValues::List(values)) => {
                for value in values {
                    element(value, &name, &ty, resolver)?;
                }
            }
            ConditionTest::In(InValues::Marker(index)) => {
                let list = CqlType::List { of: Arc::new(ty), frozen: false };
                element(&Term::Marker(*index), &format!("in({name})"), &list, resolver)?;
            }
        }
    }
    Ok(true)
}

fn element(
    term: &Term,
    name: &str,
    ty: &CqlType,
    resolver: &mut Resolver<'_, '_>,
) -> Result<(), PlanError> {
    resolver.value(Source::Term(term), Wanted { name, ty }).map(drop)
}
