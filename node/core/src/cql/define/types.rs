//! Types, from the names that statements give them.

use super::DefineError;
use crate::cql::ast::TypeName;
use crate::cql::{CqlType, TYPE_DEPTH_MAX, TypeError, UserType};
use std::sync::Arc;

/// The user-defined types that a definition may be made of: those of its own keyspace, as in Cassandra.
#[derive(Clone, Copy)]
pub struct UserTypes<'a> {
    /// The keyspace.
    pub keyspace: &'a str,
    /// The type of this name, with its fields.
    pub find: &'a dyn Fn(&str) -> Option<Arc<UserType>>,
}

impl UserTypes<'_> {
    /// Where there are none.
    pub const NONE: UserTypes<'static> = UserTypes { keyspace: "", find: &|_| None };
}

impl std::fmt::Debug for UserTypes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserTypes").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

/// The type of this name. `varchar` is `text`; what is inside `frozen<…>` is frozen all through.
///
/// # Errors
/// There is no such type, or it cannot hold what it should hold.
pub fn type_of(name: &TypeName, users: UserTypes<'_>) -> Result<CqlType, DefineError> {
    let ty = at_depth(name, users, false, 0)?;
    ty.check_within()?;
    // Schemas are kept as text, in which a type may nest deeper than where it was written: every tuple says `frozen` there.
    // One that could not be read again would make its table unreadable.
    match CqlType::parse(&ty.to_string(), users.find)? {
        same if same == ty => Ok(ty),
        _ => Err(TypeError::Unknown { name: ty.to_string() }.into()),
    }
}

/// `frozen`: whether it is inside of something that is.
fn at_depth(
    name: &TypeName,
    users: UserTypes<'_>,
    frozen: bool,
    depth: usize,
) -> Result<CqlType, DefineError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(TypeError::TooDeep.into());
    }
    let part = |of: &TypeName| at_depth(of, users, frozen, depth + 1);
    Ok(match name {
        TypeName::Native(name) => scalar(name)?,
        TypeName::List(of) => CqlType::list(part(of)?, frozen)?,
        TypeName::Set(of) => CqlType::set(part(of)?, frozen)?,
        TypeName::Map(key, value) => CqlType::map(part(key)?, part(value)?, frozen)?,
        TypeName::Tuple(parts) => {
            let parts = parts.iter().map(|of| at_depth(of, users, true, depth + 1));
            tuple(parts.collect::<Result<_, _>>()?)?
        }
        TypeName::Frozen(of) => {
            let ty = at_depth(of, users, true, depth + 1)?;
            // A class name says for itself what is frozen.
            match ty.freeze() {
                collection if collection.is_collection() => collection,
                composite @ (CqlType::Tuple(_) | CqlType::User { .. }) => composite,
                scalar => return Err(TypeError::FrozenScalar { name: scalar.to_string() }.into()),
            }
        }
        TypeName::User { keyspace: Some(keyspace), name }
            if keyspace.as_str() != users.keyspace && !users.keyspace.is_empty() =>
        {
            let (name, own) = (name.clone(), users.keyspace.to_owned());
            return Err(DefineError::OtherKeyspace { name, keyspace: keyspace.clone(), own });
        }
        TypeName::User { name: own, .. } => match (users.find)(own.as_str()) {
            Some(of) => CqlType::User { of, frozen },
            None => return Err(TypeError::Unknown { name: name.to_string() }.into()),
        },
        TypeName::Custom(class) => CqlType::parse(&format!("'{class}'"), &|_| None)?,
    })
}

fn scalar(name: &str) -> Result<CqlType, TypeError> {
    CqlType::scalar(name).ok_or_else(|| TypeError::Unknown { name: name.to_owned() })
}

fn tuple(parts: Vec<CqlType>) -> Result<CqlType, TypeError> {
    match parts.iter().find(|part| part.is_counter()) {
        Some(part) => Err(TypeError::NotAllowed { inner: part.to_string(), outer: "a tuple" }),
        None => Ok(CqlType::Tuple(parts.into())),
    }
}
