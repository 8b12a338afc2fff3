//! `INSERT`, `UPDATE`, `DELETE`, and batches of them.

use super::{Ident, InValues, IntValue, Operator, QualifiedName, Relation, Term};

/// A statement that may stand in a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Modification {
    /// `INSERT`.
    Insert(Insert),
    /// `UPDATE`.
    Update(Update),
    /// `DELETE`.
    Delete(Delete),
}

/// `USING TIMESTAMP … AND TTL …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Using {
    /// Microseconds since the Unix epoch.
    pub timestamp: Option<IntValue>,
    /// Seconds.
    pub ttl: Option<IntValue>,
}

/// `INSERT INTO …`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: QualifiedName,
    /// What is inserted.
    pub values: InsertValues,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `USING …`.
    pub using: Using,
}

/// What is inserted.
#[derive(Debug, Clone, PartialEq)]
pub enum InsertValues {
    /// `(columns) VALUES (values)`. Their numbers may differ: that is for the planner to refuse.
    Columns {
        /// At least one.
        columns: Vec<Ident>,
        /// At least one.
        values: Vec<Term>,
    },
    /// `JSON '…'`.
    Json {
        /// A string or a marker.
        value: Term,
        /// `DEFAULT UNSET`: columns that are not in it stay as they are. Without it they become null.
        default_unset: bool,
    },
}

/// `UPDATE … SET …`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The table.
    pub table: QualifiedName,
    /// `USING …`.
    pub using: Using,
    /// `SET`, at least one.
    pub assignments: Vec<Assignment>,
    /// `WHERE`, at least one.
    pub relations: Vec<Relation>,
    /// `IF …`.
    pub condition: If,
}

/// What an update does to a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Assignment {
    /// `c = value`.
    Set {
        /// The column.
        column: Ident,
        /// Its value from now on.
        value: Term,
    },
    /// `c = c + value`, `c += value`.
    Add {
        /// A collection or a counter.
        column: Ident,
        /// What is added, at the end of a list.
        value: Term,
    },
    /// `c = value + c`.
    Prepend {
        /// A list; a counter or another collection may be written so as well.
        column: Ident,
        /// What is added, at the beginning of a list.
        value: Term,
    },
    /// `c = c - value`, `c -= value`.
    Subtract {
        /// A collection or a counter.
        column: Ident,
        /// What is taken away.
        value: Term,
    },
    /// `c[key] = value`.
    SetElement {
        /// A map or a list.
        column: Ident,
        /// A key, or a place in the list.
        key: Term,
        /// Its value from now on.
        value: Term,
    },
    /// `c.field = value`.
    SetField {
        /// A column of a user-defined type.
        column: Ident,
        /// The field.
        field: Ident,
        /// Its value from now on.
        value: Term,
    },
}

/// `DELETE … FROM …`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// What is deleted of each row; none: the row itself.
    pub deletions: Vec<Deletion>,
    /// The table.
    pub table: QualifiedName,
    /// `USING TIMESTAMP …`; never a TTL.
    pub using: Using,
    /// `WHERE`, at least one.
    pub relations: Vec<Relation>,
    /// `IF …`.
    pub condition: If,
}

/// What is deleted of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletion {
    /// The column.
    pub column: Ident,
    /// Which part of it.
    pub place: Place,
}

/// A column, or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// All of it.
    Whole,
    /// `c[key]`.
    Element(Term),
    /// `c.field`.
    Field(Ident),
}

/// On which condition a row is changed.
#[derive(Debug, Clone, PartialEq)]
pub enum If {
    /// On none.
    Always,
    /// `IF EXISTS`.
    Exists,
    /// `IF a AND b`, at least one.
    All(Vec<Condition>),
}

/// What must hold of the row before it is changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The column.
    pub column: Ident,
    /// Which part of it.
    pub place: Place,
    /// What must hold.
    pub test: ConditionTest,
}

/// What must hold of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum ConditionTest {
    /// `op value`; one of the six that compare.
    Compare {
        /// How.
        op: Operator,
        /// With what.
        value: Term,
    },
    /// `IN (…)`.
    In(InValues),
}

/// `BEGIN BATCH … APPLY BATCH`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// With or without a log, or of counters.
    pub kind: BatchKind,
    /// `USING TIMESTAMP …`. A TTL may be written and is for the planner to refuse.
    pub using: Using,
    /// The statements, perhaps none.
    pub statements: Vec<Modification>,
}

/// What a batch promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// All or nothing, in the end.
    Logged,
    /// `UNLOGGED`: no more than its statements alone.
    Unlogged,
    /// `COUNTER`: statements that change counters.
    Counter,
}
