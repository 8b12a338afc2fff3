//! Types, from the names that statements give them.

use super::DefineError;
use crate::cql::ast::TypeName;
use crate::cql::{CqlType, TYPE_DEPTH_MAX, TypeError};

/// The type of this name. `varchar` is `text`; what is inside `frozen<…>` is frozen all through.
///
/// # Errors
/// There is no such type, or it cannot hold what it should hold. User-defined types are refused for now.
pub fn type_of(name: &TypeName) -> Result<CqlType, DefineError> {
    let ty = at_depth(name, false, 0)?;
    // Schemas are kept as text, in which a type may nest deeper than where it was written: every tuple says `frozen` there.
    // One that could not be read again would make its table unreadable.
    match CqlType::parse(&ty.to_string(), &|_| None)? {
        same if same == ty => Ok(ty),
        _ => Err(TypeError::Unknown { name: ty.to_string() }.into()),
    }
}

/// `frozen`: whether it is inside of something that is.
fn at_depth(name: &TypeName, frozen: bool, depth: usize) -> Result<CqlType, DefineError> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(TypeError::TooDeep.into());
    }
    let part = |of: &TypeName| at_depth(of, frozen, depth + 1);
    Ok(match name {
        TypeName::Native(name) => scalar(name)?,
        TypeName::List(of) => CqlType::list(part(of)?, frozen)?,
        TypeName::Set(of) => CqlType::set(part(of)?, frozen)?,
        TypeName::Map(key, value) => CqlType::map(part(key)?, part(value)?, frozen)?,
        TypeName::Tuple(parts) => {
            let parts = parts.iter().map(|of| at_depth(of, true, depth + 1));
            tuple(parts.collect::<Result<_, _>>()?)?
        }
        TypeName::Frozen(of) => {
            let ty = at_depth(of, true, depth + 1)?;
            // A class name says for itself what is frozen.
            match ty.freeze() {
                frozen if frozen.is_collection() || matches!(frozen, CqlType::Tuple(_)) => frozen,
                scalar => return Err(TypeError::FrozenScalar { name: scalar.to_string() }.into()),
            }
        }
        TypeName::User { .. } => return Err(DefineError::UserType { name: name.to_string() }),
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
