//! What is wrong with a message, and where in it.

use std::borrow::Cow;
use std::fmt;

/// A field of a message does not hold a domain value. The message is refused as a whole: half of it would mean
/// something that nobody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    field: Cow<'static, str>,
    problem: String,
}

impl WireError {
    /// `field` is the path to it in the .proto file (`tables.id`), `problem` reads on from it ("has 3 bytes, ...").
    pub fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> WireError {
        WireError { field: field.into(), problem: problem.into() }
    }

    /// The path of the field.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Puts the name of the enclosing field before the path.
    #[must_use]
    pub fn inside(self, outer: &str) -> WireError {
        WireError { field: Cow::Owned(format!("{outer}.{}", self.field)), problem: self.problem }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field `{}` {}", self.field, self.problem)
    }
}

impl std::error::Error for WireError {}
