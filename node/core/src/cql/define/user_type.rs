//! From `CREATE TYPE` and `ALTER TYPE` to the fields of a type.
//!
//! **Absent on purpose:** what else is made of the type, and whether that can be so then: only the schema's owner knows
//! ([`Schema::check_types`](crate::schema::Schema::check_types)). Fields are not dropped, as in Cassandra: values know them
//! by their places.
//!
//! Source: Cassandra 4.1, `CreateTypeStatement`, `AlterTypeStatement`.

use super::{DefineError, UserTypes, type_of};
use crate::cql::CqlType;
use crate::cql::ast::{CreateType, FieldDef, Ident, TypeChange};
use crate::schema::{FIELDS_MAX, FieldsError, TypeDef};
use crate::types::TimestampMicros;

type Fields = Vec<(String, CqlType)>;

/// The type that a statement describes, as a schema keeps it; `users` are the other types of its keyspace.
///
/// # Errors
/// A field or its type cannot be.
pub fn create_type(
    create: &CreateType,
    altered: TimestampMicros,
    users: UserTypes<'_>,
) -> Result<TypeDef, DefineError> {
    if create.fields.len() > FIELDS_MAX {
        return Err(FieldsError::Number { fields: create.fields.len() }.into());
    }
    let fields: Fields =
        create.fields.iter().map(|it| field(it, users)).collect::<Result<_, _>>()?;
    let def = TypeDef {
        keyspace: users.keyspace.to_owned(),
        name: create.name.name.as_str().to_owned(),
        fields,
        altered,
        dropped: false,
    };
    def.check()?;
    Ok(def)
}

/// The type as `change` makes it; the same if there is nothing to change.
///
/// # Errors
/// What should be changed is not there, or is there already, or cannot be so.
pub fn alter_type(
    def: &TypeDef,
    change: &TypeChange,
    users: UserTypes<'_>,
) -> Result<TypeDef, DefineError> {
    let mut altered = def.clone();
    let ty = || def.name.clone();
    match change {
        TypeChange::Add { if_not_exists, field: new } => {
            let FieldDef { name, .. } = new;
            if place(&def.fields, name).is_none() {
                altered.fields.push(field(new, users)?);
            } else if !if_not_exists {
                return Err(DefineError::FieldExists { field: name.clone(), ty: ty() });
            }
        }
        TypeChange::Rename { if_exists, renames } => {
            for (from, to) in renames {
                // By the names there were, so that two may change theirs.
                let found = place(&def.fields, from).and_then(|at| altered.fields.get_mut(at));
                match found {
                    Some((name, _)) => to.as_str().clone_into(name),
                    None if *if_exists => {}
                    None => {
                        return Err(DefineError::FieldMissing { field: from.clone(), ty: ty() });
                    }
                }
            }
        }
        TypeChange::AlterType { field, .. } => {
            return Err(DefineError::AlterField { field: field.clone() });
        }
    }
    altered.check()?;
    Ok(altered)
}

fn place(fields: &Fields, name: &Ident) -> Option<usize> {
    fields.iter().position(|(field, _)| *name == field.as_str())
}

fn field(field: &FieldDef, users: UserTypes<'_>) -> Result<(String, CqlType), DefineError> {
    let FieldDef { name, of } = field;
    match type_of(of, users) {
        Ok(ty) => Ok((name.as_str().to_owned(), ty.unresolved())),
        Err(why) => Err(DefineError::Field { field: name.clone(), why: Box::new(why) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cql::ast::Statement;
    use crate::cql::{UserType, parse};
    use std::sync::Arc;

    /// One type that is there already.
    fn users<T>(run: impl FnOnce(UserTypes<'_>) -> T) -> T {
        let fields = vec![("n".to_owned(), CqlType::Int)];
        let inner = UserType { keyspace: "ks".into(), name: "inner".into(), fields };
        let inner = Arc::new(inner);
        let find = |name: &str| (name == "inner").then(|| Arc::clone(&inner));
        run(UserTypes { keyspace: "ks", find: &find })
    }

    fn created(text: &str) -> Result<TypeDef, DefineError> {
        let Statement::CreateType(create) =
            parse(&format!("CREATE TYPE {text}")).unwrap().statement
        else {
            panic!("{text}")
        };
        users(|users| create_type(&create, TimestampMicros(1), users))
    }

    fn altered(def: &TypeDef, change: &str) -> Result<TypeDef, DefineError> {
        let text = format!("ALTER TYPE ks.t {change}");
        let Statement::AlterType(alter) = parse(&text).unwrap().statement else { panic!("{text}") };
        users(|users| alter_type(def, &alter.change, users))
    }

    fn shown(def: &TypeDef) -> Vec<String> {
        def.fields.iter().map(|(name, ty)| format!("{name} {ty}")).collect()
    }

    #[test]
    fn fields_are_added_at_the_end_and_renamed_where_they_are() {
        let first =
            created("ks.t (a int, \"B c\" frozen<inner>, l list<frozen<ks.inner>>)").unwrap();
        assert_eq!(shown(&first), ["a int", "B c frozen<inner>", "l list<frozen<inner>>"]);
        assert!(
            first.fields.iter().all(|(_, ty)| *ty == ty.unresolved()),
            "what is inside is kept once, where it is defined"
        );
        let more = altered(&first, "ADD d text").unwrap();
        assert_eq!(shown(&more).last().unwrap(), "d text");
        let swapped = altered(&more, "RENAME a TO d AND d TO a").unwrap();
        assert_eq!(
            shown(&swapped),
            ["d int", "B c frozen<inner>", "l list<frozen<inner>>", "a text"]
        );
        for nothing in ["ADD IF NOT EXISTS a text", "RENAME IF EXISTS z TO a"] {
            assert_eq!(altered(&first, nothing).unwrap(), first, "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let t = created("ks.t (a int, b int)").unwrap();
        for (text, said) in [
            ("t (a int, a text)", "Duplicate field name a in type t"),
            (
                "t (a counter)",
                "field a of type t: counter is not allowed inside a user-defined type",
            ),
            ("t (a inner)", "field a of type t: non-frozen inner is not allowed inside a user-def"),
            ("t (a list<inner>)", "field a: non-frozen inner is not allowed inside a list"),
            ("t (a frozen<nothing>)", "field a: Unknown type nothing"),
            (
                "t (a frozen<other.inner>)",
                "field a: type other.inner cannot be used in keyspace ks",
            ),
            ("\"int\" (a int)", "`int` cannot be the name of a type"),
            ("\"frozen\" (a int)", "`frozen` cannot be the name of a type"),
        ] {
            let error = created(text).unwrap_err();
            assert!(error.to_string().contains(said), "{text}: {error}");
            assert!(!error.is_config());
        }
        for (change, said) in [
            ("ADD a text", "Cannot add field a to type t: a field with name a already exists"),
            ("ADD c counter", "counter is not allowed"),
            ("ADD c inner", "non-frozen inner is not allowed"),
            ("RENAME z TO y", "Unknown field z in user type t"),
            ("RENAME a TO b", "Duplicate field name b in type t"),
            ("ALTER a TYPE text", "field a keeps its type"),
        ] {
            let error = altered(&t, change).unwrap_err();
            assert!(error.to_string().contains(said), "{change}: {error}");
        }
        let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("f{n} int")).collect();
        let error = created(&format!("t ({})", many.join(", "))).unwrap_err();
        assert!(error.to_string().starts_with("a type has 1 to 1024 fields"), "{error}");
    }
}
