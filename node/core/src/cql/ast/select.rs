//! `SELECT`, and the relations of a `WHERE`, which `UPDATE` and `DELETE` have too.

use super::{ArithmeticOp, Ident, IntValue, QualifiedName, Term, TypeName};

/// `SELECT … FROM … WHERE …`.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// `SELECT DISTINCT`.
    pub distinct: bool,
    /// `SELECT JSON`.
    pub json: bool,
    /// What is wanted of each row.
    pub selectors: Selectors,
    /// The table.
    pub table: QualifiedName,
    /// `WHERE`: all of them must hold.
    pub relations: Vec<Relation>,
    /// `GROUP BY`.
    pub group_by: Vec<Selectable>,
    /// `ORDER BY`.
    pub order_by: Vec<Ordering>,
    /// `PER PARTITION LIMIT`.
    pub per_partition_limit: Option<IntValue>,
    /// `LIMIT`.
    pub limit: Option<IntValue>,
    /// `ALLOW FILTERING`.
    pub allow_filtering: bool,
}

/// What is wanted of each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Selectors {
    /// `*`.
    All,
    /// These, at least one.
    List(Vec<Selector>),
}

/// One column of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// What it holds.
    pub of: Selectable,
    /// `AS alias`.
    pub alias: Option<Ident>,
}

/// What can be selected. Nearly always it is a column, so the others are kept small.
#[derive(Debug, Clone, PartialEq)]
pub enum Selectable {
    /// A column.
    Column(Ident),
    /// A constant or a marker.
    Term(Term),
    /// `count(*)`.
    CountRows,
    /// `f(a, b)`, `ks.f()`; `token(a)` and `count(a)` too, and `count(1)`, which means the same as `count(*)`.
    Function {
        /// Its name.
        name: Box<QualifiedName>,
        /// Its arguments.
        args: Box<[Selectable]>,
    },
    /// `writetime(c)`, `maxwritetime(c)`, `ttl(c)`; `c` may be an element or a field.
    Stored {
        /// Which of them.
        fact: StoredFact,
        /// Of a column, or of a part of it.
        of: Box<Selectable>,
    },
    /// `CAST(a AS type)`.
    Cast {
        /// What is cast.
        of: Box<Selectable>,
        /// To which type.
        to: Box<TypeName>,
    },
    /// `(type) a`.
    TypeHint {
        /// The type.
        to: Box<TypeName>,
        /// What has it.
        of: Box<Selectable>,
    },
    /// `c[key]`.
    Element {
        /// The collection.
        of: Box<Selectable>,
        /// Which element.
        key: Box<Term>,
    },
    /// `c[from..to]`; at least one of the two is said.
    Slice {
        /// The collection.
        of: Box<Selectable>,
        /// The first element, or from the beginning.
        from: Option<Box<Term>>,
        /// The last element, or to the end.
        to: Option<Box<Term>>,
    },
    /// `c.field`.
    Field {
        /// The value of a user-defined type.
        of: Box<Selectable>,
        /// Which field.
        field: Ident,
    },
    /// `[a, b]`.
    List(Vec<Selectable>),
    /// `{a, b}`. Also `{}`, which may be an empty map.
    Set(Vec<Selectable>),
    /// `{a: b}`, not empty. If all keys are columns it may be a user-defined type's value, whose fields they name.
    Map(Vec<(Selectable, Selectable)>),
    /// `(a, b)`, not empty. `(a)` is a tuple of one, or `a` in parentheses.
    Tuple(Vec<Selectable>),
    /// `-a`; a negative number is a constant.
    Negative(Box<Selectable>),
    /// `a + b`.
    Arithmetic {
        /// Which.
        op: ArithmeticOp,
        /// What stands before it.
        left: Box<Selectable>,
        /// What stands behind it.
        right: Box<Selectable>,
    },
}

/// What is stored beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredFact {
    /// When it was written.
    Writetime,
    /// When the newest element was written.
    MaxWritetime,
    /// How long it has to live.
    Ttl,
}

/// `ORDER BY column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordering {
    /// The column.
    pub column: Ident,
    /// The way.
    pub order: Order,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The least first.
    Asc,
    /// The greatest first.
    Desc,
}

/// What must hold of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Relation {
    /// `column op value`.
    Column {
        /// The column.
        column: Ident,
        /// How the two compare.
        op: Operator,
        /// The value.
        value: Term,
    },
    /// `column IN (…)`.
    In {
        /// The column.
        column: Ident,
        /// The values.
        values: InValues,
    },
    /// `column IS NOT NULL`.
    IsNotNull {
        /// The column.
        column: Ident,
    },
    /// `column[key] op value`.
    Entry {
        /// The map.
        column: Ident,
        /// The key of an entry.
        key: Box<Term>,
        /// How the entry's value compares.
        op: Operator,
        /// The value.
        value: Term,
    },
    /// `(a, b) op (1, 2)`.
    Tuple {
        /// The columns.
        columns: Vec<Ident>,
        /// How the two compare.
        op: Operator,
        /// A tuple or a marker.
        value: Term,
    },
    /// `(a, b) IN ((1, 2), (3, 4))`.
    TupleIn {
        /// The columns.
        columns: Vec<Ident>,
        /// Tuples, or markers of tuples.
        values: InValues,
    },
    /// `token(a, b) op value`.
    Token {
        /// The columns of the partition key.
        columns: Vec<Ident>,
        /// How the two compare.
        op: Operator,
        /// The value.
        value: Term,
    },
}

/// How a column and a value compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`.
    Eq,
    /// `!=`.
    NotEq,
    /// `<`.
    Lt,
    /// `<=`.
    LtEq,
    /// `>`.
    Gt,
    /// `>=`.
    GtEq,
    /// `CONTAINS`: the collection has the value. Of a column only.
    Contains,
    /// `CONTAINS KEY`: the map has the key. Of a column only.
    ContainsKey,
    /// `LIKE`: the text has this form. Of a column only.
    Like,
}

impl Operator {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Operator::Eq => "=",
            Operator::NotEq => "!=",
            Operator::Lt => "<",
            Operator::LtEq => "<=",
            Operator::Gt => ">",
            Operator::GtEq => ">=",
            Operator::Contains => "CONTAINS",
            Operator::ContainsKey => "CONTAINS KEY",
            Operator::Like => "LIKE",
        }
    }

    /// Whether it holds of two values that are in this order. `CONTAINS` and its like are asked otherwise.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Operator::Eq => order.is_eq(),
            Operator::NotEq => order.is_ne(),
            Operator::Lt => order.is_lt(),
            Operator::LtEq => order.is_le(),
            Operator::Gt => order.is_gt(),
            Operator::GtEq => order.is_ge(),
            Operator::Contains | Operator::ContainsKey | Operator::Like => false,
        }
    }
}

/// What stands behind `IN`.
#[derive(Debug, Clone, PartialEq)]
pub enum InValues {
    /// `(a, b)`, perhaps none.
    List(Vec<Term>),
    /// `?`: one marker for the whole list, by its number.
    Marker(usize),
}
