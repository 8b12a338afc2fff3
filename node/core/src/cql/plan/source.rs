//! Terms and selectables seen alike: most of what can stand in one can stand in the other.

use crate::cql::Constant;
use crate::cql::ast::{ArithmeticOp, Ident, QualifiedName, Selectable, StoredFact, Term, TypeName};
use std::fmt::Write as _;

/// An expression, wherever it stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Term(&'a Term),
    Selectable(&'a Selectable),
}

/// Several expressions, where they stand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sources<'a> {
    Terms(&'a [Term]),
    Selectables(&'a [Selectable]),
}

impl<'a> Sources<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Sources::Terms(of) => of.len(),
            Sources::Selectables(of) => of.len(),
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Source<'a>> {
        let (terms, selectables) = match self {
            Sources::Terms(of) => (of, Default::default()),
            Sources::Selectables(of) => (Default::default(), of),
        };
        terms.iter().map(Source::Term).chain(selectables.iter().map(Source::Selectable))
    }

    /// The only one.
    pub(super) fn only(self) -> Option<Source<'a>> {
        if self.len() == 1 { self.iter().next() } else { None }
    }
}

/// Pairs of expressions, where they stand: a map's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pairs<'a> {
    Terms(&'a [(Term, Term)]),
    Selectables(&'a [(Selectable, Selectable)]),
}

impl<'a> Pairs<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Pairs::Terms(of) => of.len(),
            Pairs::Selectables(of) => of.len(),
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (Source<'a>, Source<'a>)> {
        let (terms, selectables) = match self {
            Pairs::Terms(of) => (of, Default::default()),
            Pairs::Selectables(of) => (Default::default(), of),
        };
        let selectables =
            selectables.iter().map(|(k, v)| (Source::Selectable(k), Source::Selectable(v)));
        terms.iter().map(|(k, v)| (Source::Term(k), Source::Term(v))).chain(selectables)
    }
}

/// What an expression is at its top.
pub(super) enum Shape<'a> {
    Constant(&'a Constant),
    Marker(usize),
    Column(&'a Ident),
    CountRows,
    Function {
        name: &'a QualifiedName,
        args: Sources<'a>,
    },
    Stored {
        fact: StoredFact,
        of: Source<'a>,
    },
    Cast {
        of: Source<'a>,
        to: &'a TypeName,
    },
    TypeHint {
        to: &'a TypeName,
        of: Source<'a>,
    },
    List(Sources<'a>),
    Set(Sources<'a>),
    Map(Pairs<'a>),
    User(&'a [(Ident, Term)]),
    Tuple(Sources<'a>),
    Negative(Source<'a>),
    Arithmetic {
        op: ArithmeticOp,
        left: Source<'a>,
        right: Source<'a>,
    },
    Element {
        of: Source<'a>,
        key: Source<'a>,
    },
    Field {
        of: Source<'a>,
        field: &'a Ident,
    },
    /// A slice of a collection; an end that is not said is open.
    Slice {
        of: Source<'a>,
        from: Option<Source<'a>>,
        to: Option<Source<'a>>,
    },
}

impl<'a> Source<'a> {
    pub(super) fn shape(self) -> Shape<'a> {
        match self {
            Source::Term(term) => of_term(term),
            Source::Selectable(selectable) => of_selectable(selectable),
        }
    }

    /// Whether an aggregate is in it. It is not deeper than the parser allows.
    pub(super) fn has_aggregate(self) -> bool {
        match self.shape() {
            Shape::CountRows => true,
            Shape::Function { name, args } => {
                super::function::aggregate_kind(name).is_some()
                    || args.iter().any(Source::has_aggregate)
            }
            Shape::Cast { of, .. }
            | Shape::TypeHint { of, .. }
            | Shape::Negative(of)
            | Shape::Element { of, .. }
            | Shape::Field { of, .. } => of.has_aggregate(),
            Shape::List(of) | Shape::Set(of) | Shape::Tuple(of) => {
                of.iter().any(Source::has_aggregate)
            }
            Shape::Map(of) => of.iter().any(|(k, v)| k.has_aggregate() || v.has_aggregate()),
            Shape::Arithmetic { left, right, .. } => left.has_aggregate() || right.has_aggregate(),
            _ => false,
        }
    }
}

fn of_term(term: &Term) -> Shape<'_> {
    match term {
        Term::Constant(constant) => Shape::Constant(constant),
        Term::Marker(index) => Shape::Marker(*index),
        Term::List(of) => Shape::List(Sources::Terms(of)),
        Term::Set(of) => Shape::Set(Sources::Terms(of)),
        Term::Tuple(of) => Shape::Tuple(Sources::Terms(of)),
        Term::Map(of) => Shape::Map(Pairs::Terms(of)),
        Term::User(of) => Shape::User(of),
        Term::Function { name, args } => Shape::Function { name, args: Sources::Terms(args) },
        Term::TypeHint { of, term } => Shape::TypeHint { to: of, of: Source::Term(term) },
        Term::Cast { term, to } => Shape::Cast { of: Source::Term(term), to },
        Term::Negative(of) => Shape::Negative(Source::Term(of)),
        Term::Arithmetic { op, left, right } => {
            Shape::Arithmetic { op: *op, left: Source::Term(left), right: Source::Term(right) }
        }
    }
}

fn of_selectable(selectable: &Selectable) -> Shape<'_> {
    match selectable {
        Selectable::Column(name) => Shape::Column(name),
        Selectable::Term(term) => of_term(term),
        Selectable::CountRows => Shape::CountRows,
        Selectable::Function { name, args } => {
            Shape::Function { name, args: Sources::Selectables(args) }
        }
        Selectable::Stored { fact, of } => {
            Shape::Stored { fact: *fact, of: Source::Selectable(of) }
        }
        Selectable::Cast { of, to } => Shape::Cast { of: Source::Selectable(of), to },
        Selectable::TypeHint { to, of } => Shape::TypeHint { to, of: Source::Selectable(of) },
        Selectable::Element { of, key } => {
            Shape::Element { of: Source::Selectable(of), key: Source::Term(key) }
        }
        Selectable::Field { of, field } => Shape::Field { of: Source::Selectable(of), field },
        Selectable::Slice { of, from, to } => Shape::Slice {
            of: Source::Selectable(of),
            from: from.as_deref().map(Source::Term),
            to: to.as_deref().map(Source::Term),
        },
        Selectable::List(of) => Shape::List(Sources::Selectables(of)),
        Selectable::Set(of) => Shape::Set(Sources::Selectables(of)),
        Selectable::Map(of) => Shape::Map(Pairs::Selectables(of)),
        Selectable::Tuple(of) => Shape::Tuple(Sources::Selectables(of)),
        Selectable::Negative(of) => Shape::Negative(Source::Selectable(of)),
        Selectable::Arithmetic { op, left, right } => Shape::Arithmetic {
            op: *op,
            left: Source::Selectable(left),
            right: Source::Selectable(right),
        },
    }
}

/// The name of a column of the answer, as Cassandra makes it: `system.token(k)`, `writetime(v)`, `count`.
pub(super) fn name_of(source: Source<'_>) -> String {
    let mut out = String::new();
    write_name(&mut out, source);
    out
}

fn write_all<'a>(out: &mut String, open: &str, of: impl Iterator<Item = Source<'a>>, close: &str) {
    out.push_str(open);
    for (nth, of) in of.enumerate() {
        if nth > 0 {
            out.push_str(", ");
        }
        write_name(out, of);
    }
    out.push_str(close);
}

// Writing to a string cannot fail, so what `write!` gives is dropped.
fn write_name(out: &mut String, source: Source<'_>) {
    match source.shape() {
        Shape::Constant(constant) => {
            let _ = write!(out, "{constant}");
        }
        Shape::Marker(_) => out.push('?'),
        Shape::Column(name) => out.push_str(name.as_str()),
        Shape::CountRows => out.push_str("count"),
        Shape::Function { name, args } => {
            let keyspace = name.keyspace.as_ref().map_or("system", |keyspace| keyspace.as_str());
            let _ = write!(out, "{keyspace}.{}", name.name.as_str());
            write_all(out, "(", args.iter(), ")");
        }
        Shape::Stored { fact, of } => {
            out.push_str(match fact {
                StoredFact::Writetime => "writetime(",
                StoredFact::MaxWritetime => "maxwritetime(",
                StoredFact::Ttl => "ttl(",
            });
            write_name(out, of);
            out.push(')');
        }
        Shape::Cast { of, to } => {
            out.push_str("cast(");
            write_name(out, of);
            let _ = write!(out, " as {to})");
        }
        Shape::TypeHint { to, of } => {
            let _ = write!(out, "({to})");
            write_name(out, of);
        }
        Shape::List(of) => write_all(out, "[", of.iter(), "]"),
        Shape::Set(of) => write_all(out, "{", of.iter(), "}"),
        Shape::Tuple(of) => write_all(out, "(", of.iter(), ")"),
        Shape::Map(of) => write_pairs(out, of),
        Shape::User(of) => {
            out.push('{');
            for (nth, (field, value)) in of.iter().enumerate() {
                let _ = write!(out, "{}{field}: ", if nth > 0 { ", " } else { "" });
                write_name(out, Source::Term(value));
            }
            out.push('}');
        }
        Shape::Negative(of) => {
            out.push('-');
            write_name(out, of);
        }
        Shape::Arithmetic { op, left, right } => {
            write_name(out, left);
            let _ = write!(out, " {op} ");
            write_name(out, right);
        }
        Shape::Element { of, key } => {
            write_name(out, of);
            write_all(out, "[", std::iter::once(key), "]");
        }
        Shape::Field { of, field } => {
            write_name(out, of);
            let _ = write!(out, ".{field}");
        }
        Shape::Slice { of, from, to } => {
            write_name(out, of);
            write_all(out, "[", from.into_iter(), "..");
            write_all(out, "", to.into_iter(), "]");
        }
    }
}

fn write_pairs(out: &mut String, pairs: Pairs<'_>) {
    out.push('{');
    for (nth, (key, value)) in pairs.iter().enumerate() {
        if nth > 0 {
            out.push_str(", ");
        }
        write_name(out, key);
        out.push_str(": ");
        write_name(out, value);
    }
    out.push('}');
}
