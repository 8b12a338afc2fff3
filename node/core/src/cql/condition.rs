//! What an `IF` says of a column's value: the comparison alone, without rows and names.
//!
//! Null is a value here, unlike in `WHERE`: it is equal to null and to nothing else, different from everything else, and
//! neither more nor less than anything.
//!
//! A collection that is not frozen has no value of its own, only elements. Where there are none it is null, and to whatever
//! is not null it compares as an empty one: `= null`, `= []` and `< [1]` all hold of it. A user-defined type without fields
//! is null and no more.
//!
//! Source: the conditions of Cassandra 4.1's CQL, section *Conditional updates*; `ColumnCondition`, CASSANDRA-6839.

use super::ast::Operator;
use super::types::CqlType;

/// A collection without elements: their count, and nothing behind it.
const NO_ELEMENTS: &[u8] = &[0; 4];

/// A comparison whose other side is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition<V> {
    /// `=`, `!=`, `<`, `<=`, `>`, `>=`.
    Compare {
        /// How.
        op: Operator,
        /// With what; `None` is null.
        wanted: Option<V>,
    },
    /// `IN`: equal to one of them.
    In(Vec<Option<V>>),
}

impl<V: AsRef<[u8]>> Condition<V> {
    /// Whether it can be asked at all, or a sentence that says why not.
    ///
    /// # Errors
    /// Whether something is more than null has no answer; nor has it for durations, which have no order.
    pub fn check(&self, ty: &CqlType) -> Result<(), String> {
        let Condition::Compare { op, wanted } = self else { return Ok(()) };
        match op {
            Operator::Eq | Operator::NotEq => Ok(()),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => match wanted {
                None => {
                    Err(format!("Invalid comparison with null for operator \"{}\"", op.as_str()))
                }
                Some(_) if !ty.has_order() => Err(no_order(*op, ty)),
                Some(_) => Ok(()),
            },
            Operator::Contains | Operator::ContainsKey | Operator::Like => {
                Err(format!("{} is no condition: =, !=, <, <=, >, >= and IN are", op.as_str()))
            }
        }
    }

    /// Whether it holds of what is there; `None` is null.
    pub fn holds(&self, ty: &CqlType, found: Option<&[u8]>) -> bool {
        match self {
            Condition::Compare { op, wanted } => {
                compare(*op, ty, found, wanted.as_ref().map(AsRef::as_ref))
            }
            Condition::In(wanted) => wanted
                .iter()
                .any(|wanted| compare(Operator::Eq, ty, found, wanted.as_ref().map(AsRef::as_ref))),
        }
    }
}

fn no_order(op: Operator, ty: &CqlType) -> String {
    let on = match ty {
        CqlType::List { .. } | CqlType::Set { .. } | CqlType::Map { .. } => "collections",
        CqlType::Tuple(_) => "tuples",
        CqlType::User { .. } => "UDTs",
        _ => {
            return format!("Slice conditions ( {} ) are not supported on durations", op.as_str());
        }
    };
    format!("Slice conditions are not supported on {on} containing durations")
}

fn compare(op: Operator, ty: &CqlType, found: Option<&[u8]>, wanted: Option<&[u8]>) -> bool {
    let (found, wanted) = match (found, wanted) {
        (Some(found), Some(wanted)) => (found, wanted),
        (None, Some(wanted)) if ty.is_collection() && ty.is_multicell() => {
            // Clients may write an empty one without bytes.
            (NO_ELEMENTS, if wanted.is_empty() { NO_ELEMENTS } else { wanted })
        }
        (None, None) => return op == Operator::Eq,
        _ => return op == Operator::NotEq,
    };
    op.holds(ty.compare(found, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [Operator; 6] =
        [Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq];

    fn holds(op: Operator, found: Option<i32>, wanted: Option<i32>) -> bool {
        let wanted = wanted.map(i32::to_be_bytes);
        let found = found.map(i32::to_be_bytes);
        let condition = Condition::Compare { op, wanted };
        condition.holds(&CqlType::Int, found.as_ref().map(|bytes| &bytes[..]))
    }

    #[test]
    fn values_compare_as_their_type_says_and_not_as_bytes() {
        for (a, b) in [(-1, 1), (1, 1), (2, 1), (i32::MIN, i32::MAX)] {
            let expected = [a == b, a != b, a < b, a <= b, a > b, a >= b];
            assert_eq!(OPS.map(|op| holds(op, Some(a), Some(b))), expected, "{a} and {b}");
        }
    }

    #[test]
    fn null_is_equal_to_null_and_different_from_all_else() {
        let of = |found, wanted| OPS.map(|op| holds(op, found, wanted));
        assert_eq!(of(None, None), [true, false, false, false, false, false]);
        assert_eq!(of(None, Some(0)), [false, true, false, false, false, false]);
        assert_eq!(of(Some(0), None), [false, true, false, false, false, false]);
    }

    #[test]
    fn in_finds_null_only_where_it_is_named() {
        let one = 1_i32.to_be_bytes();
        let with_null = Condition::In(vec![Some(one), None]);
        let without = Condition::In(vec![Some(one)]);
        let int = CqlType::Int;
        assert!(with_null.holds(&int, None) && with_null.holds(&int, Some(&one)));
        assert!(!without.holds(&int, None) && without.holds(&int, Some(&one)));
        assert!(!Condition::<Vec<u8>>::In(Vec::new()).holds(&int, None));
    }

    #[test]
    fn what_has_no_elements_is_null_and_empty_if_it_is_not_frozen() {
        let list = |frozen| CqlType::list(CqlType::Int, frozen).expect("a list");
        let one = [&[0, 0, 0, 1][..], &[0, 0, 0, 4], &[0, 0, 0, 7]].concat();
        let of = |ty: &CqlType, wanted: Option<&[u8]>| {
            OPS.map(|op| Condition::Compare { op, wanted }.holds(ty, None))
        };
        let null_only = [true, false, false, false, false, false];
        let different = [false, true, false, false, false, false];
        assert_eq!(of(&list(false), None), null_only);
        // Either way in which a client may write an empty list.
        for empty in [&[][..], &[0; 4]] {
            assert_eq!(of(&list(false), Some(empty)), [true, false, false, true, false, true]);
            assert_eq!(of(&list(true), Some(empty)), different);
        }
        assert_eq!(of(&list(false), Some(&one)), [false, true, true, true, false, false]);
        assert_eq!(of(&list(true), Some(&one)), different);
        let any = Condition::In(vec![Some(one.clone()), None]);
        let some = Condition::In(vec![Some(one)]);
        assert!(any.holds(&list(false), None) && !some.holds(&list(false), None));
    }

    #[test]
    fn there_is_no_more_and_no_less_than_null_nor_among_durations() {
        for op in OPS {
            let null = Condition::<Vec<u8>>::Compare { op, wanted: None };
            assert_eq!(null.check(&CqlType::Int).is_ok(), OPS[..2].contains(&op), "{op:?}");
            let month = Condition::Compare { op, wanted: Some([2, 0, 0]) };
            assert_eq!(month.check(&CqlType::Duration).is_ok(), OPS[..2].contains(&op), "{op:?}");
            let months = CqlType::list(CqlType::Duration, false).expect("a list");
            assert_eq!(month.check(&months).is_ok(), OPS[..2].contains(&op), "{op:?}");
        }
    }
}
