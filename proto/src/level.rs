//! Consistency levels on the wire. The numbers of the .proto file are not CQL's: proto3 keeps 0 for "not said", and CQL
//! says ANY with it.

use crate::{WireError, v1};
use helenus_core::Level;

/// A level as it travels.
pub fn to_wire(level: Level) -> v1::Level {
    match level {
        Level::Any => v1::Level::Any,
        Level::One => v1::Level::One,
        Level::Two => v1::Level::Two,
        Level::Three => v1::Level::Three,
        Level::Quorum => v1::Level::Quorum,
        Level::All => v1::Level::All,
        Level::LocalOne => v1::Level::LocalOne,
        Level::LocalQuorum => v1::Level::LocalQuorum,
        Level::EachQuorum => v1::Level::EachQuorum,
    }
}

/// A level from the `level` field of a message. A missing level is an error: a default here would decide for the
/// caller how much to trust the answer.
pub fn from_wire(level: i32) -> Result<Level, WireError> {
    match v1::Level::try_from(level) {
        Ok(v1::Level::Any) => Ok(Level::Any),
        Ok(v1::Level::One) => Ok(Level::One),
        Ok(v1::Level::Two) => Ok(Level::Two),
        Ok(v1::Level::Three) => Ok(Level::Three),
        Ok(v1::Level::Quorum) => Ok(Level::Quorum),
        Ok(v1::Level::All) => Ok(Level::All),
        Ok(v1::Level::LocalOne) => Ok(Level::LocalOne),
        Ok(v1::Level::LocalQuorum) => Ok(Level::LocalQuorum),
        Ok(v1::Level::EachQuorum) => Ok(Level::EachQuorum),
        Ok(v1::Level::Unspecified) => {
            Err(WireError::new("level", "is missing: say at which consistency level"))
        }
        Err(_) => Err(WireError::new("level", format!("is {level}, which no level has"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_comes_back_as_it_went() {
        let mut seen = std::collections::BTreeSet::new();
        for level in [
            Level::Any,
            Level::One,
            Level::Two,
            Level::Three,
            Level::Quorum,
            Level::All,
            Level::LocalOne,
            Level::LocalQuorum,
            Level::EachQuorum,
        ] {
            let wire = to_wire(level) as i32;
            assert!(seen.insert(wire), "{level:?} shares its number with another level");
            assert_eq!(from_wire(wire), Ok(level));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    }

    #[test]
    fn a_missing_or_unknown_level_is_refused() {
        assert_eq!(
            from_wire(0).unwrap_err().to_string(),
            "field `level` is missing: say at which consistency level"
        );
        for wire in [-1, 10, i32::MAX, i32::MIN] {
            assert!(from_wire(wire).is_err());
        }
    }
}
