//! Relations are gathered by column, and then put in the order of the key.

use super::{Called, Choice, Limit, Of, Partitions, Restrictions, Rule, Step, Tuple};
use crate::cql::ast::{Ident, InValues, Operator, Relation, Term};
use crate::cql::plan::PlanError;
use crate::cql::plan::column::{self, At, Named};
use crate::cql::plan::error::invalid;
use crate::cql::plan::expr::Expr;
use crate::cql::plan::filter::{Filter, Test};
use crate::cql::plan::resolve::{Resolver, Wanted};
use crate::cql::plan::source::{Shape, Source};
use crate::cql::types::CqlType;
use crate::schema::TableDef;
use std::borrow::Cow;
use std::sync::Arc;

/// What is said of several clustering columns together.
struct Multi<'a> {
    columns: Vec<Named<'a>>,
    choice: Option<Choice>,
    low: Option<Limit>,
    high: Option<Limit>,
}

struct Gather<'r, 'a, 'm> {
    resolver: &'r mut Resolver<'a, 'm>,
    /// Of key columns, one for each: they are few.
    rules: Vec<Rule<'a>>,
    multis: Vec<Multi<'a>>,
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
        rules: Vec::new(),
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

    fn find(&mut self, name: &Ident) -> Result<Named<'a>, PlanError> {
        let column = column::named(self.resolver.table, name.as_str())?;
        self.about_rows |=
            matches!(column.at, At::Clustering(_) | At::Cell { is_static: false, .. });
        Ok(column)
    }

    fn column(&mut self, name: &Ident, op: Operator, value: &Term) -> Result<(), PlanError> {
        let column = self.find(name)?;
        let ty = column.ty;
        let element = match (op, ty) {
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
        let inner = match op {
            Operator::Contains => Cow::Owned(format!("value({})", name.as_str())),
            Operator::ContainsKey => Cow::Owned(format!("key({})", name.as_str())),
            _ => Cow::Borrowed(name.as_str()),
        };
        let wanted = Wanted { name: &inner, ty: element.unwrap_or(ty) };
        let value = self.resolver.value(Source::Term(value), wanted)?;
        if element.is_some() || matches!(column.at, At::Cell { .. }) {
            self.filters.push(Filter { column: column.kept(), test: Test::Compare { op, value } });
            return Ok(());
        }
        let names = Called::One(column.name.to_owned());
        let tuple = Tuple::One(value);
        match limit_of(op) {
            None => self.choose(column, Choice { names, of: Of::One(tuple) }),
            Some((upper, inclusive)) => {
                self.limit(column, upper, Limit { names, tuple, inclusive })
            }
        }
    }

    /// What is gathered of the column here, if anything is.
    fn rule(&self, at: At) -> Option<&Rule<'a>> {
        self.rules.iter().find(|rule| rule.column.at == at)
    }

    fn take_rule(&mut self, at: At) -> Option<Rule<'a>> {
        let place = self.rules.iter().position(|rule| rule.column.at == at)?;
        Some(self.rules.swap_remove(place))
    }

    /// The same; nothing is, if it is the first that is said of it.
    fn rule_of(&mut self, column: Named<'a>) -> Option<&mut Rule<'a>> {
        let found = self.rules.iter().position(|rule| rule.column.at == column.at);
        let place = found.unwrap_or(self.rules.len());
        if found.is_none() {
            self.rules.push(Rule { column, choice: None, low: None, high: None });
        }
        self.rules.get_mut(place)
    }

    fn choose(&mut self, column: Named<'a>, choice: Choice) -> Result<(), PlanError> {
        let name = column.name;
        let Some(rule) = self.rule_of(column) else { return Ok(()) };
        if rule.choice.is_some() || rule.low.is_some() || rule.high.is_some() {
            let what = if choice.is_one() { "an Equal" } else { "a IN" };
            return invalid(format!(
                "{name} cannot be restricted by more than one relation if it includes {what}"
            ));
        }
        rule.choice = Some(choice);
        Ok(())
    }

    fn limit(&mut self, column: Named<'a>, upper: bool, limit: Limit) -> Result<(), PlanError> {
        let name = column.name;
        let Some(rule) = self.rule_of(column) else { return Ok(()) };
        if rule.choice.is_some() {
            return invalid(format!(
                "{name} cannot be restricted by more than one relation if it includes an Equal"
            ));
        }
        let end = if upper { &mut rule.high } else { &mut rule.low };
        set_once(end, limit, upper, name)
    }

    fn is_in(&mut self, name: &Ident, values: &InValues) -> Result<(), PlanError> {
        let column = self.find(name)?;
        if let ty @ CqlType::User { frozen: false, .. } = column.ty {
            return not_restricted(name, ty);
        }
        if column.ty.is_multicell() {
            let ty = column.ty;
            return invalid(format!(
                "Collection column '{name}' ({ty}) cannot be restricted by a 'IN' relation"
            ));
        }
        let of = match values {
            InValues::List(terms) => {
                let wanted = Wanted { name: name.as_str(), ty: column.ty };
                let mut each = Vec::with_capacity(terms.len());
                for term in terms {
                    let value = self.resolver.value(Source::Term(term), wanted)?;
                    each.push(Tuple::One(value));
                }
                Of::Each(each)
            }
            InValues::Marker(index) => {
                let list = self.list_marker(*index, name.as_str(), column.ty.clone())?;
                Of::All { list, tuples: false }
            }
        };
        let choice = Choice { names: Called::One(column.name.to_owned()), of };
        if matches!(column.at, At::Cell { .. }) {
            self.filters.push(Filter { column: column.kept(), test: Test::In(choice) });
            return Ok(());
        }
        self.choose(column, choice)
    }

    /// The marker of `IN ?`.
    fn list_marker(&mut self, index: usize, name: &str, of: CqlType) -> Result<Expr, PlanError> {
        let name = format!("in({name})");
        let ty = CqlType::List { of: Arc::new(of), frozen: false };
        self.resolver.value(Source::Term(&Term::Marker(index)), Wanted { name: &name, ty: &ty })
    }

    fn entry(
        &mut self,
        name: &Ident,
        key: &Term,
        op: Operator,
        value: &Term,
    ) -> Result<(), PlanError> {
        let column = self.find(name)?;
        let CqlType::Map { key: key_ty, value: value_ty, .. } = column.ty else {
            return invalid(format!("Column {name} cannot be used as a map"));
        };
        if op != Operator::Eq {
            return invalid(format!(
                "Only EQ relations are supported on map entries: {name}[…] {} …",
                op.as_str()
            ));
        }
        let (of_key, of_value) =
            (format!("key({})", name.as_str()), format!("value({})", name.as_str()));
        let key = self.resolver.value(Source::Term(key), Wanted { name: &of_key, ty: key_ty })?;
        let value =
            self.resolver.value(Source::Term(value), Wanted { name: &of_value, ty: value_ty })?;
        self.filters.push(Filter { column: column.kept(), test: Test::Entry { key, op, value } });
        Ok(())
    }

    /// The columns of a relation of several: clustering columns that follow one another.
    fn together(&mut self, names: &[Ident]) -> Result<Vec<Named<'a>>, PlanError> {
        let mut columns: Vec<Named<'a>> = Vec::with_capacity(names.len());
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
            columns.push(column);
        }
        Ok(columns)
    }

    /// A tuple for these columns: written out, or one marker.
    fn tuple_of(&mut self, columns: &[Named<'a>], value: &Term) -> Result<Tuple, PlanError> {
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
                let wanted = Wanted { name: column.name, ty: column.ty };
                exprs.push(self.resolver.value(part, wanted)?);
            }
            return Ok(Tuple::Parts(exprs));
        }
        let (name, ty) = tuple_type(columns);
        let whole = self.resolver.value(Source::Term(value), Wanted { name: &name, ty: &ty })?;
        Ok(Tuple::Whole(whole))
    }

    fn tuple(&mut self, names: &[Ident], op: Operator, value: &Term) -> Result<(), PlanError> {
        let columns = self.together(names)?;
        let tuple = self.tuple_of(&columns, value)?;
        let names = called(&columns);
        match (op, limit_of(op)) {
            (Operator::Eq, _) => {
                let choice = Choice { names, of: Of::One(tuple) };
                self.multis.push(Multi { columns, choice: Some(choice), low: None, high: None });
                Ok(())
            }
            (_, Some((upper, inclusive))) => {
                let limit = Limit { names, tuple, inclusive };
                let (mut low, mut high) = (None, None);
                *(if upper { &mut high } else { &mut low }) = Some(limit);
                self.multis.push(Multi { columns, choice: None, low, high });
                Ok(())
            }
            _ => invalid(format!(
                "Unsupported \"{}\" relation on columns ({})",
                op.as_str(),
                names.join(", ")
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
        let names = called(&columns);
        let choice = Choice { names, of };
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
        let wanted = Wanted { name: "partition key token", ty: &CqlType::Bigint };
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
        let equal = self.equal();
        let partitions = self.partitions(table)?;
        let steps = self.steps(table)?;
        // What no key says is a filter.
        let mut left = std::mem::take(&mut self.rules);
        left.sort_unstable_by_key(|rule| rule.column.at);
        for rule in left {
            self.filters.extend(filters_of(rule));
        }
        let (filters, about_rows) = (self.filters, self.about_rows);
        Ok(Restrictions { partitions, steps, filters, equal, about_rows })
    }

    fn equal(&self) -> Vec<At> {
        let is_one = |choice: &Option<Choice>| choice.as_ref().is_some_and(Choice::is_one);
        let single = self.rules.iter().filter(|rule| is_one(&rule.choice)).map(|r| r.column.at);
        let several = self.multis.iter().filter(|multi| is_one(&multi.choice));
        single.chain(several.flat_map(|multi| multi.columns.iter().map(|c| c.at))).collect()
    }

    fn partitions(&mut self, table: &TableDef) -> Result<Partitions, PlanError> {
        let places = 0..table.columns.partition_key.len();
        let restricted = |place: &usize| self.rule(At::Partition(*place)).is_some();
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
        let whole = places
            .clone()
            .all(|place| self.rule(At::Partition(place)).is_some_and(|rule| rule.choice.is_some()));
        if !whole {
            return Ok(Partitions::All);
        }
        let mut choices = Vec::with_capacity(places.len());
        for place in places {
            choices.extend(self.take_rule(At::Partition(place)).and_then(|rule| rule.choice));
        }
        Ok(Partitions::Keys(choices))
    }

    /// As many clustering columns as have a value, then a slice.
    fn steps(&mut self, table: &TableDef) -> Result<Vec<Step>, PlanError> {
        let columns = &table.columns.clustering;
        let mut steps = Vec::new();
        let mut place = 0;
        while place < columns.len() {
            let at = At::Clustering(place);
            if let Some(found) =
                self.multis.iter().position(|m| m.choice.is_some() && starts(m, at))
            {
                let Multi { columns, choice, .. } = self.multis.remove(found);
                steps.extend(choice.map(Step::Choice));
                place += columns.len();
            } else if self.rule(at).is_some_and(|rule| rule.choice.is_some()) {
                let rule = self.take_rule(at);
                steps.extend(rule.and_then(|rule| rule.choice).map(Step::Choice));
                place += 1;
            } else {
                steps.extend(self.slice(at)?);
                break;
            }
        }
        // What is said of several columns together has no other place.
        if let Some(left) = self.multis.first() {
            let names: Vec<_> = left.columns.iter().map(|column| column.name).collect();
            return invalid(format!(
                "Columns ({}) cannot be restricted together: they, or columns before them, are restricted otherwise or not at all",
                names.join(", ")
            ));
        }
        Ok(steps)
    }

    fn slice(&mut self, at: At) -> Result<Option<Step>, PlanError> {
        let (mut low, mut high) = (None, None);
        if let Some(rule) = self.take_rule(at) {
            (low, high) = (rule.low, rule.high);
        }
        let multis = std::mem::take(&mut self.multis);
        for multi in multis {
            if multi.choice.is_some() || !starts(&multi, at) {
                self.multis.push(multi);
                continue;
            }
            for (end, limit, upper) in [(&mut low, multi.low, false), (&mut high, multi.high, true)]
            {
                if let Some(limit) = limit {
                    let names = limit.names.join(", ");
                    set_once(end, limit, upper, &names)?;
                }
            }
        }
        Ok((low.is_some() || high.is_some()).then_some(Step::Slice { low, high }))
    }
}

fn starts(multi: &Multi<'_>, at: At) -> bool {
    multi.columns.first().is_some_and(|column| column.at == at)
}

fn set_once(
    end: &mut Option<Limit>,
    limit: Limit,
    upper: bool,
    name: &str,
) -> Result<(), PlanError> {
    if end.replace(limit).is_some() {
        let which = if upper { "end" } else { "start" };
        return invalid(format!(
            "More than one restriction was found for the {which} bound on {name}"
        ));
    }
    Ok(())
}

fn called(columns: &[Named<'_>]) -> Called {
    Called::Several(columns.iter().map(|column| column.name.to_owned()).collect())
}

/// The name and the type of a marker that stands for several columns.
fn tuple_type(columns: &[Named<'_>]) -> (String, CqlType) {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let types = columns.iter().map(|column| column.ty.clone()).collect();
    (format!("({})", names.join(",")), CqlType::Tuple(types))
}

fn filters_of(rule: Rule<'_>) -> Vec<Filter> {
    let Rule { column, choice, low, high } = rule;
    let mut filters = Vec::new();
    if let Some(choice) = choice {
        filters.push(Filter { column: column.kept(), test: Test::In(choice) });
    }
    for (limit, open, closed) in
        [(low, Operator::Gt, Operator::GtEq), (high, Operator::Lt, Operator::LtEq)]
    {
        if let Some(Limit { tuple: Tuple::One(value), inclusive, .. }) = limit {
            let op = if inclusive { closed } else { open };
            filters.push(Filter { column: column.kept(), test: Test::Compare { op, value } });
        }
    }
    filters
}

/// It is no single value that could be compared.
fn not_restricted<T>(name: &Ident, ty: &CqlType) -> Result<T, PlanError> {
    invalid(format!(
        "Non-frozen UDT column '{name}' ({ty}) cannot be restricted by any relation: freeze it"
    ))
}
