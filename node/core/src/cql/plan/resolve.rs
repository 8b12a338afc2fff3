//! Names are looked up, and every part of an expression gets its type.

mod parts;

use super::column::{At, Column};
use super::error::invalid;
use super::expr::{Call, Expr, Typed};
use super::function::{self, Function, Takes};
use super::markers::Markers;
use super::source::{Pairs, Shape, Source, Sources, name_of};
use super::table::Table;
use super::{PlanError, Value};
use crate::cql::Constant;
use crate::cql::ast::{ArithmeticOp, Ident, QualifiedName, StoredFact, Term, TypeName};
use crate::cql::functions::{self, AggregateKind, Operator};
use crate::cql::types::CqlType;
use bytes::Bytes;
use std::fmt;

/// What is wanted of an expression.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// What it is for.
    pub(super) of: Purpose<'a>,
    /// Of which type it is to be.
    pub(super) ty: &'a CqlType,
}

/// What an expression is for: messages say it, and markers are called so. It is not written out before one of them asks.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// The value of a column.
    Column(&'a Column),
    /// A part of one, an argument, a limit.
    Other(&'a dyn fmt::Display),
}

impl fmt::Display for Purpose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::Column(column) => f.write_str(&column.name),
            Purpose::Other(name) => name.fmt(f),
        }
    }
}

impl<'a> Wanted<'a> {
    /// A value of this column.
    pub(super) fn column(column: &'a Column) -> Wanted<'a> {
        Wanted { of: Purpose::Column(column), ty: &column.ty }
    }

    /// A value of this type for something else.
    pub(super) fn other(name: &'a dyn fmt::Display, ty: &'a CqlType) -> Wanted<'a> {
        Wanted { of: Purpose::Other(name), ty }
    }
}

/// Where columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// There are none: values that are written or compared with.
    None,
    /// From the row.
    Row,
    /// From the row, for an aggregate.
    RowOfAggregate,
    /// From the first row of a group; aggregates may stand here.
    Group,
}

/// What is gathered over a group of rows: an aggregate, or the value of the first row.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) kind: Option<AggregateKind>,
    pub(super) of: Typed,
}

/// Resolves the expressions of one statement about one table.
pub(super) struct Resolver<'a, 'm> {
    pub(super) table: &'a Table,
    pub(super) markers: &'a mut Markers<'m>,
    pub(super) columns: Columns,
    pub(super) slots: Vec<Slot>,
    /// The columns that were named so far, each as often as it was, if anybody wants to know.
    pub(super) named: Option<Vec<At>>,
}

impl<'a, 'm> Resolver<'a, 'm> {
    pub(super) fn new(table: &'a Table, markers: &'a mut Markers<'m>) -> Resolver<'a, 'm> {
        Resolver { table, markers, columns: Columns::None, slots: Vec::new(), named: None }
    }

    /// The expression as a value of the wanted type.
    pub(super) fn value(
        &mut self,
        source: Source<'_>,
        wanted: Wanted<'_>,
    ) -> Result<Expr, PlanError> {
        match source.shape() {
            Shape::Constant(constant) => constant_of(constant, wanted),
            Shape::Marker(index) => self.marker(index, wanted),
            _ => Ok(self.resolve(source, Some(wanted))?.expr),
        }
    }

    /// The expression; of the wanted type, if one is.
    pub(super) fn resolve(
        &mut self,
        source: Source<'_>,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Typed, PlanError> {
        let typed = match source.shape() {
            Shape::Constant(constant) => return natural_constant(constant, wanted),
            Shape::Marker(index) => {
                let Some(wanted) = wanted else {
                    return invalid(
                        "Cannot infer type for term ? in selection clause (try using a cast to force a type)",
                    );
                };
                return Ok(Typed { ty: wanted.ty.clone(), expr: self.marker(index, wanted)? });
            }
            Shape::List(of) | Shape::Set(of) if wanted.is_some() => {
                return self.collection(source, of, wanted);
            }
            Shape::Map(of) if wanted.is_some() => return self.map(source, of, wanted),
            Shape::User(of) => return self.user(source, of, wanted),
            Shape::Tuple(of) => return self.tuple(source, of, wanted),
            Shape::List(_) | Shape::Set(_) | Shape::Map(_) => return unknown_type(source),
            Shape::Column(name) => self.column(name)?,
            Shape::CountRows => {
                let of = Typed { ty: CqlType::Blob, expr: Expr::Constant(Some(Bytes::new())) };
                self.slot(Some(AggregateKind::Count), of, CqlType::Bigint, "count")?
            }
            Shape::Function { name, args } => self.function(name, args)?,
            Shape::Stored { fact, of } => self.stored(fact, of)?,
            Shape::Cast { of, to } => self.cast(of, to)?,
            Shape::TypeHint { to, of } => {
                let ty = type_named(to)?;
                let expr = self.value(of, Wanted::other(&name_of(source), &ty))?;
                Typed { ty, expr }
            }
            Shape::Negative(of) => {
                let of = self.resolve(of, wanted)?;
                if !of.ty.is_numeric() {
                    return invalid(format!("the '-' of {} needs a number", name_of(source)));
                }
                let ty = of.ty.clone();
                self.call(Function::Negate, vec![of], ty)
            }
            Shape::Arithmetic { op, left, right } => self.arithmetic(op, left, right, wanted)?,
            Shape::Element { of, key } => self.element(of, key)?,
            Shape::Field { of, field } => self.field(of, field)?,
            Shape::Slice { of, from, to } => self.slice(of, from, to)?,
        };
        if let Some(wanted) = wanted
            && !wanted.ty.value_compatible_with(&typed.ty)
        {
            return invalid(format!(
                "Type error: cannot assign {} of type {} to {} of type {}",
                name_of(source),
                typed.ty,
                wanted.of,
                wanted.ty
            ));
        }
        Ok(typed)
    }

    fn marker(&mut self, index: usize, wanted: Wanted<'_>) -> Result<Expr, PlanError> {
        let of = self.markers.set(index, self.table, wanted)?;
        Ok(Expr::Marker { index, of })
    }

    /// A list or a set. `{}` may be an empty map.
    fn collection(
        &mut self,
        source: Source<'_>,
        of: Sources<'_>,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Typed, PlanError> {
        let Some(Wanted { of: name, ty }) = wanted else { return unknown_type(source) };
        let is_list = matches!(source.shape(), Shape::List(_));
        let inner = format_args!("value({name})");
        let expr = match ty {
            CqlType::List { of: element, .. } if is_list => {
                Expr::List(self.values(of, &inner, element)?)
            }
            CqlType::Set { of: element, .. } if !is_list => {
                let elements = self.values(of, &inner, element)?;
                Expr::Set { of: CqlType::clone(element), elements: elements.into() }
            }
            CqlType::Map { key, .. } if !is_list && of.len() == 0 => {
                Expr::Map { key: CqlType::clone(key), pairs: Box::default() }
            }
            // Of a user-defined type without any field said.
            CqlType::User { .. } if !is_list && of.len() == 0 => Expr::Tuple(Vec::new()),
            _ => {
                let what = if is_list { "list" } else { "set" };
                return invalid(format!("Invalid {what} literal for {name} of type {ty}"));
            }
        };
        Ok(Typed { ty: ty.clone(), expr })
    }

    fn values(
        &mut self,
        of: Sources<'_>,
        name: &dyn fmt::Display,
        ty: &CqlType,
    ) -> Result<Vec<Expr>, PlanError> {
        let mut values = Vec::with_capacity(of.len());
        for source in of.iter() {
            values.push(self.value(source, Wanted::other(name, ty))?);
        }
        Ok(values)
    }

    fn map(
        &mut self,
        source: Source<'_>,
        of: Pairs<'_>,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Typed, PlanError> {
        let Some(Wanted { of: name, ty }) = wanted else { return unknown_type(source) };
        let CqlType::Map { key, value, .. } = ty else {
            return invalid(format!("Invalid map literal for {name} of type {ty}"));
        };
        let (of_key, of_value) = (format_args!("key({name})"), format_args!("value({name})"));
        let mut pairs = Vec::with_capacity(of.len());
        for (k, v) in of.iter() {
            let k = self.value(k, Wanted::other(&of_key, key))?;
            pairs.push((k, self.value(v, Wanted::other(&of_value, value))?));
        }
        Ok(Typed {
            ty: ty.clone(),
            expr: Expr::Map { key: CqlType::clone(key), pairs: pairs.into() },
        })
    }

    fn user(
        &mut self,
        source: Source<'_>,
        fields: &[(Ident, Term)],
        wanted: Option<Wanted<'_>>,
    ) -> Result<Typed, PlanError> {
        let Some(Wanted { of: name, ty }) = wanted else { return unknown_type(source) };
        let CqlType::User { of, .. } = ty else {
            return invalid(format!(
                "Invalid user type literal for {name} of type {ty}: it has fields"
            ));
        };
        let known = |field: &Ident| of.fields.iter().any(|(own, _)| own == field.as_str());
        if let Some((field, _)) = fields.iter().find(|(field, _)| !known(field)) {
            return invalid(format!("Unknown field '{field}' in value of user-defined type {ty}"));
        }
        let mut parts = Vec::with_capacity(of.fields.len());
        for (field, ty) in &of.fields {
            let said = fields.iter().rfind(|(name, _)| name.as_str() == field);
            let name = format_args!("{name}.{field}");
            parts.push(match said {
                Some((_, value)) => self.value(Source::Term(value), Wanted::other(&name, ty))?,
                None => Expr::Constant(None),
            });
        }
        Ok(Typed { ty: ty.clone(), expr: Expr::Tuple(parts) })
    }

    fn tuple(
        &mut self,
        source: Source<'_>,
        of: Sources<'_>,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Typed, PlanError> {
        match (of.only(), wanted) {
            (_, Some(Wanted { of: name, ty: ty @ CqlType::Tuple(types) })) => {
                if of.len() > types.len() {
                    return invalid(format!(
                        "Invalid tuple literal for {name}: too many elements. Type {ty} expects {} but got {}",
                        types.len(),
                        of.len()
                    ));
                }
                let mut parts = Vec::with_capacity(of.len());
                for (place, (part, ty)) in of.iter().zip(types.iter()).enumerate() {
                    let name = format_args!("{name}[{place}]");
                    parts.push(self.value(part, Wanted::other(&name, ty))?);
                }
                Ok(Typed { ty: ty.clone(), expr: Expr::Tuple(parts) })
            }
            // Parentheses.
            (Some(only), wanted) => self.resolve(only, wanted),
            (_, Some(Wanted { of: name, ty })) => {
                invalid(format!("Invalid tuple literal for {name} of type {ty}"))
            }
            (_, None) => unknown_type(source),
        }
    }

    fn column(&mut self, name: &Ident) -> Result<Typed, PlanError> {
        self.of_row(self.table.column(name)?)
    }

    fn note(&mut self, at: At) {
        if let Some(named) = &mut self.named {
            named.push(at);
        }
    }

    /// The column's value in the row.
    pub(super) fn of_row(&mut self, column: &Column) -> Result<Typed, PlanError> {
        self.note(column.at);
        let typed = Typed { ty: column.ty.clone(), expr: Expr::of_row(column) };
        self.leaf(typed, &column.name)
    }

    /// What is read from a row.
    fn leaf(&mut self, typed: Typed, name: &str) -> Result<Typed, PlanError> {
        match self.columns {
            Columns::None => invalid(format!("column {name} cannot be part of a value")),
            Columns::Row | Columns::RowOfAggregate => Ok(typed),
            Columns::Group => {
                let ty = typed.ty.clone();
                self.slot(None, typed, ty, name)
            }
        }
    }

    fn slot(
        &mut self,
        kind: Option<AggregateKind>,
        of: Typed,
        gives: CqlType,
        name: &str,
    ) -> Result<Typed, PlanError> {
        if self.columns != Columns::Group {
            return invalid(format!(
                "aggregate functions cannot be used as arguments of aggregate functions, nor in a value: {name}"
            ));
        }
        let expr = Expr::Slot(self.slots.len());
        self.slots.push(Slot { kind, of });
        Ok(Typed { ty: gives, expr })
    }

    fn call(&mut self, function: Function, args: Vec<Typed>, gives: CqlType) -> Typed {
        let call = Call { function, args, number: self.markers.call() };
        Typed { ty: gives, expr: Expr::Call(Box::new(call)) }
    }

    fn function(&mut self, name: &QualifiedName, args: Sources<'_>) -> Result<Typed, PlanError> {
        if let Some(kind) = function::aggregate_kind(name) {
            return self.aggregate(kind, name, args);
        }
        let signature = function::find(name)?;
        let wanted = match signature.takes {
            Takes::These(types) => types,
            Takes::PartitionKey => {
                let key = &self.table.columns.partition_key;
                key.iter().map(|column| column.ty.clone()).collect()
            }
            Takes::OneOf(types) => {
                let Some(arg) = args.only() else {
                    return wrong_number(name, 1, args.len());
                };
                let arg = self.resolve(arg, None)?;
                if !types.is_empty() && !types.contains(&arg.ty) {
                    return invalid(format!(
                        "Invalid call to function {name}: it takes no {}",
                        arg.ty
                    ));
                }
                return Ok(self.call(signature.function, vec![arg], signature.gives));
            }
        };
        if wanted.len() != args.len() {
            return wrong_number(name, wanted.len(), args.len());
        }
        let mut given = Vec::with_capacity(args.len());
        for (place, (arg, ty)) in args.iter().zip(&wanted).enumerate() {
            let of = format_args!("arg{place}(system.{})", name.name.as_str());
            given.push(self.resolve(arg, Some(Wanted::other(&of, ty)))?);
        }
        Ok(self.call(signature.function, given, signature.gives))
    }

    fn aggregate(
        &mut self,
        kind: AggregateKind,
        name: &QualifiedName,
        args: Sources<'_>,
    ) -> Result<Typed, PlanError> {
        let Some(arg) = args.only() else { return wrong_number(name, 1, args.len()) };
        if self.columns != Columns::Group {
            return invalid(format!(
                "aggregate functions cannot be used as arguments of aggregate functions, nor in a value: {name}"
            ));
        }
        self.columns = Columns::RowOfAggregate;
        let of = self.resolve(arg, None);
        self.columns = Columns::Group;
        let of = of?;
        match functions::aggregate_type(kind, &of.ty) {
            Some(gives) => self.slot(Some(kind), of, gives, name.name.as_str()),
            None => invalid(format!("Invalid call to function {name}: it takes no {}", of.ty)),
        }
    }

    fn stored(&mut self, fact: StoredFact, of: Source<'_>) -> Result<Typed, PlanError> {
        let word = match fact {
            StoredFact::Writetime => "writetime",
            StoredFact::MaxWritetime => "maxwritetime",
            StoredFact::Ttl => "ttl",
        };
        let Shape::Column(name) = of.shape() else {
            return invalid(format!("{word} of a part of a column is not supported here"));
        };
        let column = self.table.column(name)?;
        let At::Cell { id, is_static } = column.at else {
            return invalid(format!(
                "Cannot use selection function {word} on PRIMARY KEY part {name}"
            ));
        };
        self.note(column.at);
        if column.ty.is_multicell() {
            return invalid(format!(
                "Cannot use selection function {word} on non-frozen {} {name}: its {} have one each",
                if column.ty.is_collection() { "collection" } else { "UDT" },
                if column.ty.is_collection() { "elements" } else { "fields" },
            ));
        }
        if column.ty.is_counter() {
            return invalid(format!(
                "Cannot use selection function {word} on counter {name}: each replica that counted has its own"
            ));
        }
        let typed = match fact {
            StoredFact::Ttl => Typed { ty: CqlType::Int, expr: Expr::Ttl { id, is_static } },
            StoredFact::Writetime | StoredFact::MaxWritetime => {
                Typed { ty: CqlType::Bigint, expr: Expr::Writetime { id, is_static } }
            }
        };
        self.leaf(typed, word)
    }

    fn cast(&mut self, of: Source<'_>, to: &TypeName) -> Result<Typed, PlanError> {
        let ty = type_named(to)?;
        let hint = Wanted::other(&"a cast", &ty);
        let wanted = matches!(of.shape(), Shape::Marker(_)).then_some(hint);
        let of = self.resolve(of, wanted)?;
        if !functions::can_cast(&of.ty, &ty) {
            return invalid(format!("{} cannot be cast to {ty}", of.ty));
        }
        Ok(Typed { ty: ty.clone(), expr: Expr::Cast { of: Box::new(of), to: ty } })
    }

    fn arithmetic(
        &mut self,
        op: ArithmeticOp,
        left: Source<'_>,
        right: Source<'_>,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Typed, PlanError> {
        let (a, b) = (self.operand(left, wanted)?, self.operand(right, wanted)?);
        // A marker that nothing else gives a type has that of the other operand.
        let (a, b) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (Some(a), None) => {
                let b = self.resolve(right, Some(Wanted::other(&"an operand", &a.ty)))?;
                (a, b)
            }
            (None, Some(b)) => (self.resolve(left, Some(Wanted::other(&"an operand", &b.ty)))?, b),
            (None, None) => return unknown_type(left),
        };
        let is_time = matches!(a.ty, CqlType::Timestamp | CqlType::Date);
        let negative = op == ArithmeticOp::Subtract;
        if is_time && b.ty == CqlType::Duration && (negative || op == ArithmeticOp::Add) {
            let ty = a.ty.clone();
            return Ok(self.call(Function::AddDuration { negative }, vec![a, b], ty));
        }
        let operator = match op {
            ArithmeticOp::Add => Operator::Add,
            ArithmeticOp::Subtract => Operator::Subtract,
            ArithmeticOp::Multiply => Operator::Multiply,
            ArithmeticOp::Divide => Operator::Divide,
            ArithmeticOp::Remainder => Operator::Remainder,
        };
        match functions::arithmetic_type(&a.ty, &b.ty) {
            Some(ty) => Ok(self.call(Function::Arithmetic(operator), vec![a, b], ty)),
            None => invalid(format!(
                "the '{}' operation is not supported between {} and {}",
                operator.symbol(),
                a.ty,
                b.ty
            )),
        }
    }

    /// An operand; a constant or a marker has the wanted type if that is a number. `None`: a marker without a type.
    fn operand(
        &mut self,
        source: Source<'_>,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Option<Typed>, PlanError> {
        let wanted = wanted.filter(|wanted| wanted.ty.is_numeric());
        match (source.shape(), wanted) {
            (Shape::Marker(_), None) => Ok(None),
            (Shape::Marker(_), wanted) => self.resolve(source, wanted).map(Some),
            (Shape::Constant(constant), Some(wanted)) if wanted.ty.constant(constant).is_ok() => {
                natural_constant(constant, Some(wanted)).map(Some)
            }
            (Shape::Arithmetic { op, left, right }, wanted) => {
                self.arithmetic(op, left, right, wanted).map(Some)
            }
            _ => self.resolve(source, None).map(Some),
        }
    }
}

fn constant_of(constant: &Constant, wanted: Wanted<'_>) -> Result<Expr, PlanError> {
    match wanted.ty.constant(constant) {
        Ok(value) => Ok(Expr::Constant(value)),
        Err(error) => invalid(error.for_column(&wanted.of.to_string())),
    }
}

/// A constant; if no type is wanted, of the one that it has by itself.
fn natural_constant(constant: &Constant, wanted: Option<Wanted<'_>>) -> Result<Typed, PlanError> {
    let Some(ty) =
        wanted.map(|wanted| wanted.ty.clone()).or_else(|| CqlType::of_constant(constant))
    else {
        return invalid(
            "Cannot infer type for term null in selection clause (try using a cast to force a type)",
        );
    };
    let wanted = wanted.unwrap_or(Wanted::other(&"a constant", &ty));
    let expr = constant_of(constant, wanted)?;
    Ok(Typed { ty, expr })
}

fn unknown_type<T>(source: Source<'_>) -> Result<T, PlanError> {
    invalid(format!(
        "Cannot infer type for term {} (try using a cast to force a type)",
        name_of(source)
    ))
}

fn wrong_number<T>(name: &QualifiedName, wanted: usize, found: usize) -> Result<T, PlanError> {
    invalid(format!(
        "Invalid number of arguments in call to function {}: {wanted} required but {found} provided",
        name.name.as_str()
    ))
}

/// The type of this name. User-defined types are known by their columns only.
pub(super) fn type_named(name: &TypeName) -> Result<CqlType, PlanError> {
    let made = |ty: Result<CqlType, crate::cql::TypeError>| {
        ty.map_err(|error| PlanError::Invalid(error.to_string()))
    };
    match name {
        TypeName::Native(word) => match CqlType::scalar(word) {
            Some(ty) => Ok(ty),
            None => invalid(format!("Unknown type {word}")),
        },
        TypeName::List(of) => made(CqlType::list(type_named(of)?, true)),
        TypeName::Set(of) => made(CqlType::set(type_named(of)?, true)),
        TypeName::Map(key, value) => made(CqlType::map(type_named(key)?, type_named(value)?, true)),
        TypeName::Tuple(of) => {
            let parts: Result<Vec<_>, _> = of.iter().map(type_named).collect();
            Ok(CqlType::Tuple(parts?.into()))
        }
        TypeName::Frozen(of) => Ok(type_named(of)?.freeze()),
        TypeName::User { .. } | TypeName::Custom(_) => {
            invalid(format!("{name} cannot be named here: only types that CQL has itself"))
        }
    }
}

/// A number of `LIMIT`, `TTL` and `TIMESTAMP`.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let Value::Bytes(bytes) = value else { return None };
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes.as_ref()).ok().map(|n| i64::from(i32::from_be_bytes(n))),
        _ => <[u8; 8]>::try_from(bytes.as_ref()).ok().map(i64::from_be_bytes),
    }
}
