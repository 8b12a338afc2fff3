//! Relations are gathered by column, and then put in the order of the key.

use super::{Choice, Limit, Of, Partitions, Restrictions, Step, Subject, Tuple};
use crate::cql::ast::{Ident, InValues, Operator, Relation, Term};
use crate::cql::plan::PlanError;
use crate::cql::plan::column::{At, Column, listed};
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::Expr;
use crate::cql::plan::filter::{Filter, Test};
use crate::cql::plan::resolve::{Resolver, Wanted};
use crate::cql::plan::source::{Shape, Source};
use crate::cql::plan::table::Table;
use crate::cql::types::CqlType;
use std::sync::Arc;

/// What one relation says of one column of the key.
struct Said<'a> {
    column: &'a Column,
    what: What,
}

enum What {
    Choice(Of),
    Limit { upper: bool, inclusive: bool, value: Expr },
}

/// What is said of several clustering columns together.
struct Multi {
    columns: Vec<Column>,
    choice: Option<Choice>,
    low: Option<Limit>,
    high: Option<Limit>,
}

struct Gather<'r, 'a, 'm> {
    resolver: &'r mut Resolver<'a, 'm>,
    /// At most a choice, or a lower and an upper limit, of each column.
    said: Vec<Said<'a>>,
    multis: Vec<Multi>,
    low_token: Option<(Expr, bool)>,
    high_token: Option<(Expr, bool)>,
    filters: Vec<Filter>,
    about_rows: bool,
}

/// Makes restrictions of relations.
pub(in crate::cql::plan) fn gather(
    relations: &[Relation],
    resolver: &mut Resolver<'_, '_>,
) -> Result<Restrictions, PlanError> {
    let mut gather = Gather {
        resolver,
        said: Vec::with_capacity(relations.len()),
        multis: Vec::new(),
        low_token: None,
        high_token: None,
        filters: Vec::new(),
        about_rows: false,
    };
    for relation in relations {
        gather.relation(relation)?;
    }
    gather.finish()
}

/// Of `<`, `<=`, `>`, `>=`: whether it is an upper end, and whether it is included.
fn limit_of(op: Operator) -> Option<(bool, bool)> {
    match op {
        Operator::Lt => Some((true, false)),
        Operator::LtEq => Some((true, true)),
        Operator::Gt => Some((false, false)),
        Operator::GtEq => Some((false, true)),
        _ => None,
    }
}

impl<'a> Gather<'_, 'a, '_> {
    fn relation(&mut self, relation: &Relation) -> Result<(), PlanError> {
        match relation {
            Relation::Column { column, op, value } => self.column(column, *op, value),
            Relation::In { column, values } => self.is_in(column, values),
            Relation::IsNotNull { column } => invalid(format!(
                "Unsupported restriction: {column} IS NOT NULL (it is for materialized views, which are not supported)"
            )),
            Relation::Entry { column, key, op, value } => self.entry(column, key, *op, value),
            Relation::Tuple { columns, op, value } => self.tuple(columns, *op, value),
            Relation::TupleIn { columns, values } => self.tuple_in(columns, values),
            Relation::Token { columns, op, value } => self.token(columns, *op, value),
        }
    }

    fn find(&mut self, name: &Ident) -> Result<&'a Column, PlanError> {
        let column = self.resolver.table.column(name)?;
        self.about_rows |=
            matches!(column.at, At::Clustering(_) | At::Cell { is_static: false, .. });
        Ok(column)
    }

    fn column(&mut self, name: &Ident, op: Operator, value: &Term) -> Result<(), PlanError> {
        let column = self.find(name)?;
        let element = match (op, &column.ty) {
            (Operator::NotEq | Operator::Like, _) => {
                return invalid(format!(
                    "Unsupported \"{}\" relation on column {name}",
                    op.as_str()
                ));
            }
            (
                Operator::Contains,
                CqlType::List { of, .. } | CqlType::Set { of, .. } | CqlType::Map { value: of, .. },
            )
            | (Operator::ContainsKey, CqlType::Map { key: of, .. }) => Some(&**of),
            (Operator::Contains, _) => {
                return invalid(format!("Cannot use CONTAINS on non-collection column {name}"));
            }
            (Operator::ContainsKey, _) => {
                return invalid(format!("Cannot use CONTAINS KEY on non-map column {name}"));
            }
            (_, ty @ CqlType::User { frozen: false, .. }) => return not_restricted(name, ty),
            (_, ty) if ty.is_multicell() => {
                return invalid(format!(
                    "Collection column '{name}' ({ty}) cannot be restricted by a '{}' relation",
                    op.as_str()
                ));
            }
            (_, CqlType::Duration) if limit_of(op).is_some() => {
                return invalid(format!(
                    "Slice restrictions are not supported on duration columns: {name}"
                ));
            }
            _ => None,
        };
        let word = if op == Operator::ContainsKey { "key" } else { "value" };
        let part = format_args!("{word}({})", column.name);
        let wanted = element.map(|ty| Wanted::other(&part, ty));
        let wanted = wanted.unwrap_or(Wanted::column(column));
        let value = self.resolver.value(Source::Term(value), wanted)?;
        if element.is_some() || matches!(column.at, At::Cell { .. }) {
            self.filters.push(Filter { column: column.clone(), test: Test::Compare { op, value } });
            return Ok(());
        }
        match limit_of(op) {
            None => self.choose(column, Of::One(Tuple::One(value))),
            Some((upper, inclusive)) => {
                self.limit(column, What::Limit { upper, inclusive, value }, upper)
            }
        }
    }

    /// Whether a choice was said of the column here.
    fn has_choice(&self, at: At) -> bool {
        self.of(at).any(|said| matches!(said.what, What::Choice(_)))
    }

    /// What was said of the column here.
    fn of(&self, at: At) -> impl Iterator<Item = &Said<'a>> {
        self.said.iter().filter(move |said| said.column.at == at)
    }

    /// The choice that was said of the column here, if one was.
    fn take_choice(&mut self, at: At) -> Option<Choice> {
        let is_it = |said: &Said<'_>| said.column.at == at && matches!(said.what, What::Choice(_));
        let place = self.said.iter().position(is_it)?;
        let Said { column, what: What::Choice(of) } = self.said.swap_remove(place) else {
            return None;
        };
        Some(Choice { columns: Subject::One(column.clone()), of })
    }

    /// The limits that were said of the column here: the lower and the upper one.
    fn take_limits(&mut self, at: At) -> (Option<Limit>, Option<Limit>) {
        let (mut low, mut high) = (None, None);
        let is_it =
            |said: &mut Said<'_>| said.column.at == at && matches!(said.what, What::Limit { .. });
        for Said { column, what } in self.said.extract_if(.., is_it) {
            if let What::Limit { upper, inclusive, value } = what {
                let columns = Subject::One(column.clone());
                let limit = Limit { columns, tuple: Tuple::One(value), inclusive };
                *(if upper { &mut high } else { &mut low }) = Some(limit);
            }
        }
        (low, high)
    }

    fn choose(&mut self, column: &'a Column, of: Of) -> Result<(), PlanError> {
        if self.of(column.at).next().is_some() {
            let what = if matches!(of, Of::One(_)) { "an Equal" } else { "a IN" };
            return invalid(format!(
                "{} cannot be restricted by more than one relation if it includes {what}",
                column.name
            ));
        }
        self.said.push(Said { column, what: What::Choice(of) });
        Ok(())
    }

    fn limit(&mut self, column: &'a Column, limit: What, upper: bool) -> Result<(), PlanError> {
        if self.has_choice(column.at) {
            return invalid(format!(
                "{} cannot be restricted by more than one relation if it includes an Equal",
                column.name
            ));
        }
        let same_end =
            |said: &Said<'_>| matches!(&said.what, What::Limit { upper: end, .. } if *end == upper);
        if self.of(column.at).any(same_end) {
            return limited_twice(upper, &column.name);
        }
        self.said.push(Said { column, what: limit });
        Ok(())
    }

    fn is_in(&mut self, name: &Ident, values: &InValues) -> Result<(), PlanError> {
        let column = self.find(name)?;
        if let ty @ CqlType::User { frozen: false, .. } = &column.ty {
            return not_restricted(name, ty);
        }
        if column.ty.is_multicell() {
            let ty = &column.ty;
            return invalid(format!(
                "Collection column '{name}' ({ty}) cannot be restricted by a 'IN' relation"
            ));
        }
        let of = match values {
            InValues::List(terms) => {
                let wanted = Wanted::column(column);
                let mut each = Vec::with_capacity(terms.len());
                for term in terms {
                    let value = self.resolver.value(Source::Term(term), wanted)?;
                    each.push(Tuple::One(value));
                }
                Of::Each(each)
            }
            InValues::Marker(index) => {
                let list = self.list_marker(*index, &column.name, column.ty.clone())?;
                Of::All { list, tuples: false }
            }
        };
        if matches!(column.at, At::Cell { .. }) {
            self.filters.push(filter_of(column, of));
            return Ok(());
        }
        self.choose(column, of)
    }

    /// The marker of `IN ?`.
    fn list_marker(&mut self, index: usize, name: &str, of: CqlType) -> Result<Expr, PlanError> {
        let name = format_args!("in({name})");
        let ty = CqlType::List { of: Arc::new(of), frozen: false };
        self.resolver.value(Source::Term(&Term::Marker(index)), Wanted::other(&name, &ty))
    }

    fn entry(
        &mut self,
        name: &Ident,
        key: &Term,
        op: Operator,
        value: &Term,
    ) -> Result<(), PlanError> {
        let column = self.find(name)?;
        let CqlType::Map { key: key_ty, value: value_ty, .. } = &column.ty else {
            return invalid(format!("Column {name} cannot be used as a map"));
        };
        if op != Operator::Eq {
            return invalid(format!(
                "Only EQ relations are supported on map entries: {name}[…] {} …",
                op.as_str()
            ));
        }
        let of_key = format_args!("key({})", column.name);
        let key = self.resolver.value(Source::Term(key), Wanted::other(&of_key, key_ty))?;
        let of_value = format_args!("value({})", column.name);
        let value = self.resolver.value(Source::Term(value), Wanted::other(&of_value, value_ty))?;
        self.filters.push(Filter { column: column.clone(), test: Test::Entry { key, op, value } });
        Ok(())
    }

    /// The columns of a relation of several: clustering columns that follow one another.
    fn together(&mut self, names: &[Ident]) -> Result<Vec<Column>, PlanError> {
        let mut columns: Vec<Column> = Vec::with_capacity(names.len());
        for name in names {
            let column = self.find(name)?;
            let At::Clustering(place) = column.at else {
                return invalid(format!(
                    "Multi-column relations can only be applied to clustering columns but was applied to: {name}"
                ));
            };
            let follows = columns.last().is_none_or(
                |last| matches!(last.at, At::Clustering(before) if before.checked_add(1) == Some(place)),
            );
            if !follows {
                let said: Vec<_> = names.iter().map(Ident::as_str).collect();
                return invalid(format!(
                    "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: ({})",
                    said.join(", ")
                ));
            }
            columns.push(column.clone());
        }
        Ok(columns)
    }

    /// A tuple for these columns: written out, or one marker.
    fn tuple_of(&mut self, columns: &[Column], value: &Term) -> Result<Tuple, PlanError> {
        if let Shape::Tuple(parts) = Source::Term(value).shape() {
            if parts.len() != columns.len() {
                return invalid(format!(
                    "Expected {} elements in value tuple, but got {}",
                    columns.len(),
                    parts.len()
                ));
            }
            let mut exprs = Vec::with_capacity(parts.len());
            for (part, column) in parts.iter().zip(columns) {
                exprs.push(self.resolver.value(part, Wanted::column(column))?);
            }
            return Ok(Tuple::Parts(exprs));
        }
        let (name, ty) = tuple_type(columns);
        let whole = self.resolver.value(Source::Term(value), Wanted::other(&name, &ty))?;
        Ok(Tuple::Whole(whole))
    }

    fn tuple(&mut self, names: &[Ident], op: Operator, value: &Term) -> Result<(), PlanError> {
        let together = self.together(names)?;
        let tuple = self.tuple_of(&together, value)?;
        let columns = Subject::Several(together.clone());
        match (op, limit_of(op)) {
            (Operator::Eq, _) => {
                let choice = Choice { columns, of: Of::One(tuple) };
                let choice = Some(choice);
                self.multis.push(Multi { columns: together, choice, low: None, high: None });
                Ok(())
            }
            (_, Some((upper, inclusive))) => {
                let limit = Limit { columns, tuple, inclusive };
                let (mut low, mut high) = (None, None);
                *(if upper { &mut high } else { &mut low }) = Some(limit);
                self.multis.push(Multi { columns: together, choice: None, low, high });
                Ok(())
            }
            _ => invalid(format!(
                "Unsupported \"{}\" relation on columns ({})",
                op.as_str(),
                listed(&columns)
            )),
        }
    }

    fn tuple_in(&mut self, names: &[Ident], values: &InValues) -> Result<(), PlanError> {
        let columns = self.together(names)?;
        let of = match values {
            InValues::List(terms) => {
                let tuples: Result<Vec<_>, _> =
                    terms.iter().map(|term| self.tuple_of(&columns, term)).collect();
                Of::Each(tuples?)
            }
            InValues::Marker(index) => {
                let (name, ty) = tuple_type(&columns);
                // Cassandra's name: in(a,b).
                let name = name.trim_start_matches('(').trim_end_matches(')').to_owned();
                Of::All { list: self.list_marker(*index, &name, ty)?, tuples: true }
            }
        };
        let choice = Choice { columns: Subject::Several(columns.clone()), of };
        self.multis.push(Multi { columns, choice: Some(choice), low: None, high: None });
        Ok(())
    }

    fn token(&mut self, names: &[Ident], op: Operator, value: &Term) -> Result<(), PlanError> {
        let key = &self.resolver.table.columns.partition_key;
        let said: Vec<&str> = names.iter().map(Ident::as_str).collect();
        let own: Vec<&str> = key.iter().map(|column| column.name.as_str()).collect();
        if said != own {
            return invalid(format!(
                "The token() function must be applied to all partition key components in their order: token({})",
                own.join(", ")
            ));
        }
        let wanted = Wanted::other(&"partition key token", &CqlType::Bigint);
        let value = self.resolver.value(Source::Term(value), wanted)?;
        let twice = |end: &str| {
            invalid(format!(
                "More than one restriction was found for the {end} bound on token({})",
                own.join(", ")
            ))
        };
        let (low, high) = match (op, limit_of(op)) {
            (Operator::Eq, _) => (Some((value.clone(), true)), Some((value, true))),
            (_, Some((true, inclusive))) => (None, Some((value, inclusive))),
            (_, Some((false, inclusive))) => (Some((value, inclusive)), None),
            _ => return invalid(format!("Unsupported \"{}\" relation on token()", op.as_str())),
        };
        if low.is_some() && self.low_token.is_some() {
            return twice("start");
        }
        if high.is_some() && self.high_token.is_some() {
            return twice("end");
        }
        self.low_token = self.low_token.take().or(low);
        self.high_token = self.high_token.take().or(high);
        Ok(())
    }

    fn finish(mut self) -> Result<Restrictions, PlanError> {
        let table = self.resolver.table;
        let partitions = self.partitions(table)?;
        let steps = self.steps(table)?;
        // What no key says is a filter.
        let mut left = std::mem::take(&mut self.said);
        left.sort_by_key(|said| {
            (said.column.at, matches!(said.what, What::Limit { upper: true, .. }))
        });
        for Said { column, what } in left {
            self.filters.push(match what {
                What::Choice(of) => filter_of(column, of),
                What::Limit { upper, inclusive, value } => {
                    let op = match (upper, inclusive) {
                        (false, false) => Operator::Gt,
                        (false, true) => Operator::GtEq,
                        (true, false) => Operator::Lt,
                        (true, true) => Operator::LtEq,
                    };
                    Filter { column: column.clone(), test: Test::Compare { op, value } }
                }
            });
        }
        let (filters, about_rows) = (self.filters, self.about_rows);
        Ok(Restrictions { partitions, steps, filters, about_rows })
    }

    fn partitions(&mut self, table: &Table) -> Result<Partitions, PlanError> {
        let places = 0..table.columns.partition_key.len();
        let restricted = |place: &usize| self.of(At::Partition(*place)).next().is_some();
        if self.low_token.is_some() || self.high_token.is_some() {
            if let Some(key) = places
                .clone()
                .find(restricted)
                .and_then(|place| table.columns.partition_key.get(place))
            {
                return invalid(format!(
                    "Columns \"{}\" cannot be restricted by both a normal relation and a token relation",
                    key.name
                ));
            }
            let (low, high) = (self.low_token.take(), self.high_token.take());
            return Ok(Partitions::Tokens { low, high });
        }
        if !places.clone().all(|place| self.has_choice(At::Partition(place))) {
            return Ok(Partitions::All);
        }
        let mut choices = Vec::with_capacity(places.len());
        for place in places {
            choices.extend(self.take_choice(At::Partition(place)));
        }
        Ok(Partitions::Keys(choices))
    }

    /// As many clustering columns as have a value, then a slice.
    fn steps(&mut self, table: &Table) -> Result<Vec<Step>, PlanError> {
        let columns = &table.columns.clustering;
        // Each takes what one relation said, or two of them.
        let mut steps = Vec::with_capacity(self.said.len() + self.multis.len());
        let mut place = 0;
        while place < columns.len() {
            let at = At::Clustering(place);
            if let Some(found) =
                self.multis.iter().position(|m| m.choice.is_some() && starts(m, at))
            {
                let Multi { columns, choice, .. } = self.multis.remove(found);
                steps.extend(choice.map(Step::Choice));
                place += columns.len();
            } else if let Some(choice) = self.take_choice(at) {
                steps.push(Step::Choice(choice));
                place += 1;
            } else {
                steps.extend(self.slice(at)?);
                break;
            }
        }
        // What is said of several columns together has no other place.
        if let Some(left) = self.multis.first() {
            return invalid(format!(
                "Columns ({}) cannot be restricted together: they, or columns before them, are restricted otherwise or not at all",
                listed(&left.columns)
            ));
        }
        Ok(steps)
    }

    fn slice(&mut self, at: At) -> Result<Option<Step>, PlanError> {
        let (mut low, mut high) = self.take_limits(at);
        let multis = std::mem::take(&mut self.multis);
        for multi in multis {
            if multi.choice.is_some() || !starts(&multi, at) {
                self.multis.push(multi);
                continue;
            }
            for (end, limit, upper) in [(&mut low, multi.low, false), (&mut high, multi.high, true)]
            {
                let Some(limit) = limit else { continue };
                if end.is_some() {
                    return limited_twice(upper, &listed(&limit.columns));
                }
                *end = Some(limit);
            }
        }
        Ok((low.is_some() || high.is_some()).then_some(Step::Slice { low, high }))
    }
}

fn starts(multi: &Multi, at: At) -> bool {
    multi.columns.first().is_some_and(|column| column.at == at)
}

fn limited_twice<T>(upper: bool, name: &str) -> Result<T, PlanError> {
    let which = if upper { "end" } else { "start" };
    invalid(format!("More than one restriction was found for the {which} bound on {name}"))
}

/// The name and the type of a marker that stands for several columns.
fn tuple_type(columns: &[Column]) -> (String, CqlType) {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let types = columns.iter().map(|column| column.ty.clone()).collect();
    (format!("({})", names.join(",")), CqlType::Tuple(types))
}

fn filter_of(column: &Column, of: Of) -> Filter {
    let choice = Choice { columns: Subject::One(column.clone()), of };
    Filter { column: column.clone(), test: Test::In(choice) }
}

/// It is no single value that could be compared.
fn not_restricted<T>(name: &Ident, ty: &CqlType) -> Result<T, PlanError> {
    invalid(format!(
        "Non-frozen UDT column '{name}' ({ty}) cannot be restricted by any relation: freeze it"
    ))
}
