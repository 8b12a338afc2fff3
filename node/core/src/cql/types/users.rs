//! User-defined types within types: referred to by name, resolved to their fields, and bounded.
//!
//! What a schema keeps are references: a name and no fields. [`Schema::resolve`](crate::schema::Schema::resolve) puts the
//! fields in where values are read and written.

use super::parse::ordered;
use super::{CqlType, TYPE_DEPTH_MAX, TypeError, UserType};
use std::sync::Arc;

/// The most types within a type, all fields of all user-defined types counted wherever they stand: what describes a column
/// to a client says them all.
pub const TYPE_PARTS_MAX: usize = 4096;

impl UserType {
    /// The type by its name alone, without fields.
    pub fn reference(keyspace: &str, name: &str) -> Arc<UserType> {
        let (keyspace, name) = (keyspace.to_owned(), name.to_owned());
        Arc::new(UserType { keyspace, name, fields: Vec::new() })
    }
}

impl CqlType {
    /// Calls `seen` for each user-defined type that it names; those in their fields are not looked for.
    pub fn each_user<'a>(&'a self, seen: &mut impl FnMut(&'a UserType)) {
        match self {
            CqlType::List { of, .. } | CqlType::Set { of, .. } => of.each_user(seen),
            CqlType::Map { key, value, .. } => {
                key.each_user(seen);
                value.each_user(seen);
            }
            CqlType::Tuple(parts) => parts.iter().for_each(|part| part.each_user(seen)),
            CqlType::User { of, .. } => seen(of),
            _ => {}
        }
    }

    /// Whether it names a user-defined type.
    pub fn has_users(&self) -> bool {
        let mut found = false;
        self.each_user(&mut |_| found = true);
        found
    }

    /// The same type with another definition in the place of each user-defined type that it names.
    #[must_use]
    pub fn with_users(&self, of: &mut impl FnMut(&UserType) -> Arc<UserType>) -> CqlType {
        match self {
            CqlType::List { of: element, frozen } => {
                CqlType::List { of: Arc::new(element.with_users(of)), frozen: *frozen }
            }
            CqlType::Set { of: element, frozen } => {
                CqlType::Set { of: Arc::new(element.with_users(of)), frozen: *frozen }
            }
            CqlType::Map { key, value, frozen } => CqlType::Map {
                key: Arc::new(key.with_users(of)),
                value: Arc::new(value.with_users(of)),
                frozen: *frozen,
            },
            CqlType::Tuple(parts) => {
                CqlType::Tuple(parts.iter().map(|part| part.with_users(of)).collect())
            }
            CqlType::User { of: user, frozen } => CqlType::User { of: of(user), frozen: *frozen },
            scalar => scalar.clone(),
        }
    }

    /// The same type with references to user-defined types: what a schema keeps.
    #[must_use]
    pub fn unresolved(&self) -> CqlType {
        self.with_users(&mut |user| UserType::reference(&user.keyspace, &user.name))
    }

    /// Whether columns may be of it, whose user-defined types are resolved. What is checked where a type is named depends on
    /// what is inside, and that may have been altered since.
    ///
    /// # Errors
    /// It is too deep or too large; a set or a key of a map has no order any more; a collection that is not frozen is a field
    /// of a type that is not frozen either.
    pub fn check_within(&self) -> Result<(), TypeError> {
        self.check_at(0, &mut 0)
    }

    fn check_at(&self, depth: usize, parts: &mut usize) -> Result<(), TypeError> {
        if depth >= TYPE_DEPTH_MAX {
            return Err(TypeError::TooDeep);
        }
        *parts += 1;
        if *parts > TYPE_PARTS_MAX {
            return Err(TypeError::TooLarge);
        }
        let mut inside = |ty: &CqlType| ty.check_at(depth + 1, parts);
        match self {
            CqlType::List { of, .. } => inside(of),
            CqlType::Set { of, .. } => {
                inside(of)?;
                ordered(of, "a set")
            }
            CqlType::Map { key, value, .. } => {
                inside(key)?;
                inside(value)?;
                ordered(key, "the keys of a map")
            }
            CqlType::Tuple(of) => of.iter().try_for_each(inside),
            CqlType::User { of, frozen } => of.fields.iter().try_for_each(|(_, ty)| {
                if !frozen && ty.is_multicell() {
                    let outer = "a user-defined type that is not frozen";
                    return Err(TypeError::NotFrozen { inner: ty.to_string(), outer });
                }
                inside(ty)
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, types: &[CqlType]) -> Arc<UserType> {
        let fields = types.iter().enumerate().map(|(n, ty)| (format!("f{n}"), ty.clone()));
        Arc::new(UserType { keyspace: "ks".into(), name: name.into(), fields: fields.collect() })
    }

    fn frozen(of: &Arc<UserType>) -> CqlType {
        CqlType::User { of: Arc::clone(of), frozen: true }
    }

    #[test]
    fn a_reference_says_the_name_and_nothing_else() {
        let inner = user("inner", &[CqlType::Int]);
        let outer = user("outer", &[frozen(&inner)]);
        let ty = CqlType::list(frozen(&outer), false).unwrap();
        assert_eq!(ty.unresolved().to_string(), ty.to_string());
        let mut named = Vec::new();
        ty.each_user(&mut |user| named.push(user.name.as_str()));
        assert_eq!(named, ["outer"]);
        assert_eq!(ty.unresolved().with_users(&mut |_| Arc::clone(&outer)), ty);
        assert!(ty.has_users() && !CqlType::Int.has_users());
    }

    #[test]
    fn types_are_bounded_however_they_are_put_together() {
        // Each holds the one before it twice: it is small to write down, and enormous to describe.
        let mut of = user("t", &[CqlType::Int]);
        for depth in 1..TYPE_DEPTH_MAX {
            let wide = frozen(&of).check_within();
            assert_eq!(wide.is_ok(), depth <= 11, "{depth}: {wide:?}");
            of = user("t", &[frozen(&of), frozen(&of)]);
        }
        let mut deep = user("t", &[CqlType::Int]);
        for depth in 1..40 {
            let checked = frozen(&deep).check_within();
            assert_eq!(checked == Err(TypeError::TooDeep), depth >= TYPE_DEPTH_MAX, "{depth}");
            deep = user("t", &[frozen(&deep)]);
        }
    }

    #[test]
    fn what_a_field_is_shows_in_what_holds_the_type() {
        let open = user("open", &[CqlType::list(CqlType::Int, false).unwrap()]);
        let ty = |frozen| CqlType::User { of: Arc::clone(&open), frozen };
        assert_eq!(ty(true).check_within(), Ok(()));
        assert!(matches!(ty(false).check_within(), Err(TypeError::NotFrozen { .. })));
        let timed = frozen(&user("timed", &[CqlType::Duration]));
        let set = CqlType::Set { of: Arc::new(timed.clone()), frozen: false };
        assert!(matches!(set.check_within(), Err(TypeError::NotAllowed { .. })));
        assert_eq!(CqlType::list(timed, false).unwrap().check_within(), Ok(()));
    }
}
