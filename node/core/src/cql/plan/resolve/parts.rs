//! Parts of values in a selection: elements and slices of collections, fields.

use super::{Resolver, Wanted};
use crate::cql::ast::Ident;
use crate::cql::plan::PlanError;
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::Typed;
use crate::cql::plan::function::Function;
use crate::cql::plan::source::{Source, name_of};
use crate::cql::types::CqlType;

impl Resolver<'_, '_> {
    /// `m[key]`, `s[element]`. An element of a list has no place in a selection, as in Cassandra.
    pub(super) fn element(&mut self, of: Source<'_>, key: Source<'_>) -> Result<Typed, PlanError> {
        let of_name = name_of(of);
        let of = self.resolve(of, None)?;
        let (name, key_ty, gives) = match &of.ty {
            CqlType::Map { key, value, .. } => {
                (format!("key({of_name})"), CqlType::clone(key), CqlType::clone(value))
            }
            CqlType::Set { of: element, .. } => {
                (format!("value({of_name})"), CqlType::clone(element), CqlType::clone(element))
            }
            ty => {
                return invalid(format!(
                    "Invalid element selection: {of_name} is of type {ty}, not a map or a set"
                ));
            }
        };
        let key = self.resolve(key, Some(Wanted::other(&name, &key_ty)))?;
        Ok(self.call(Function::Element, vec![of, key], gives))
    }

    /// `m[from..to]`, `s[from..]`: both ends are in it.
    pub(super) fn slice(
        &mut self,
        of: Source<'_>,
        from: Option<Source<'_>>,
        to: Option<Source<'_>>,
    ) -> Result<Typed, PlanError> {
        let of_name = name_of(of);
        let of = self.resolve(of, None)?;
        let (name, key_ty) = match &of.ty {
            CqlType::Map { key, .. } => (format!("key({of_name})"), CqlType::clone(key)),
            CqlType::Set { of: element, .. } => {
                (format!("value({of_name})"), CqlType::clone(element))
            }
            ty => {
                return invalid(format!(
                    "Invalid slice selection: {of_name} is of type {ty}, not a map or a set"
                ));
            }
        };
        let function = Function::Slice { from: from.is_some(), to: to.is_some() };
        let gives = of.ty.clone();
        let mut args = vec![of];
        for end in from.into_iter().chain(to) {
            args.push(self.resolve(end, Some(Wanted::other(&name, &key_ty)))?);
        }
        Ok(self.call(function, args, gives))
    }

    /// `u.field`.
    pub(super) fn field(&mut self, of: Source<'_>, field: &Ident) -> Result<Typed, PlanError> {
        let of_name = name_of(of);
        let of = self.resolve(of, None)?;
        let CqlType::User { of: user, .. } = &of.ty else {
            return invalid(format!(
                "Invalid field selection: {of_name} of type {} is not a user type",
                of.ty
            ));
        };
        let found = user.fields.iter().enumerate().find(|(_, (name, _))| name == field.as_str());
        let Some((place, (_, ty))) = found else {
            return invalid(format!("{of_name} of type {} has no field {field}", of.ty));
        };
        let ty = ty.clone();
        Ok(self.call(Function::Field(place), vec![of], ty))
    }
}
