//! `SELECT`, and the relations of a `WHERE`.

use super::{Kind, Outcome, Parser, Sign, Word};
use crate::cql::ast::{
    Ident, InValues, Operator, Order, Ordering, Relation, Select, Selector, Selectors, Term,
};

const OPERATORS: &str = "=, !=, <, <=, >, >=, IN, CONTAINS, LIKE or IS NOT NULL";

impl Parser<'_> {
    pub(super) fn select(&mut self) -> Outcome<Select> {
        self.expect_word(Word::Select)?;
        let json = self.eat_flag(Word::Json)?;
        let distinct = self.eat_flag(Word::Distinct)?;
        let selectors = self.selectors()?;
        if !self.eat_word(Word::From)? {
            return Err(self.unexpected("`,`, AS, an operator or FROM"));
        }
        let table = self.qualified_name("the name of a table")?;
        let relations = if self.eat_word(Word::Where)? { self.relations()? } else { Vec::new() };
        let mut group_by = Vec::new();
        if self.eat_word(Word::Group)? {
            self.expect_word(Word::By)?;
            group_by.push(self.selectable()?);
            while self.eat_sign(Sign::Comma)? {
                group_by.push(self.selectable()?);
            }
        }
        let order_by = self.order_by()?;
        let mut per_partition_limit = None;
        if self.eat_word(Word::Per)? {
            self.expect_words(&[Word::Partition, Word::Limit])?;
            per_partition_limit = Some(self.int_value()?);
        }
        let limit = if self.eat_word(Word::Limit)? { Some(self.int_value()?) } else { None };
        let allow_filtering = self.eat_word(Word::Allow)?;
        if allow_filtering {
            self.expect_word(Word::Filtering)?;
        }

        Ok(Select {
            distinct,
            json,
            selectors,
            table,
            relations,
            group_by,
            order_by,
            per_partition_limit,
            limit,
            allow_filtering,
        })
    }

    /// `JSON` or `DISTINCT`, which are columns' names too: they are meant as words if something to select follows.
    fn eat_flag(&mut self, word: Word) -> Outcome<bool> {
        if !self.at_word(word) {
            return Ok(false);
        }
        let flag = match self.peek() {
            Kind::Word => !self.peek_is_word(Word::From) && !self.peek_is_word(Word::As),
            Kind::Sign(sign) => matches!(
                sign,
                Sign::Star | Sign::ParenOpen | Sign::BraceOpen | Sign::Question | Sign::Colon
            ),
            Kind::End => false,
            _ => true,
        };
        if flag {
            self.advance()?;
        }
        Ok(flag)
    }

    fn selectors(&mut self) -> Outcome<Selectors> {
        if self.eat_sign(Sign::Star)? {
            return Ok(Selectors::All);
        }
        let mut list = Vec::new();
        loop {
            list.push(self.selector()?);
            if !self.eat_sign(Sign::Comma)? {
                return Ok(Selectors::List(list));
            }
        }
    }

    fn selector(&mut self) -> Outcome<Selector> {
        let of = self.selectable()?;
        let alias = if self.eat_word(Word::As)? { Some(self.ident("an alias")?) } else { None };
        Ok(Selector { of, alias })
    }

    fn order_by(&mut self) -> Outcome<Vec<Ordering>> {
        let mut order_by = Vec::new();
        if !self.eat_word(Word::Order)? {
            return Ok(order_by);
        }
        self.expect_word(Word::By)?;
        loop {
            let column = self.ident("a column")?;
            let order = self.eat_order()?.unwrap_or(Order::Asc);
            order_by.push(Ordering { column, order });
            if !self.eat_sign(Sign::Comma)? {
                return Ok(order_by);
            }
        }
    }

    /// `ASC` or `DESC`, if one stands here.
    pub(super) fn eat_order(&mut self) -> Outcome<Option<Order>> {
        if self.eat_word(Word::Asc)? {
            return Ok(Some(Order::Asc));
        }
        Ok(if self.eat_word(Word::Desc)? { Some(Order::Desc) } else { None })
    }

    /// What stands behind `WHERE`.
    pub(super) fn relations(&mut self) -> Outcome<Vec<Relation>> {
        let mut relations = Vec::new();
        loop {
            relations.push(self.relation()?);
            if !self.eat_word(Word::And)? {
                return Ok(relations);
            }
        }
    }

    fn relation(&mut self) -> Outcome<Relation> {
        if self.at_word(Word::Token) && self.peek_is_sign(Sign::ParenOpen) {
            self.advance()?;
            self.advance()?;
            let columns = self.idents_to_close("a column")?;
            let op = self.comparison("=, <, <=, > or >=")?;
            return Ok(Relation::Token { columns, op, value: self.term()? });
        }
        if self.at_sign(Sign::ParenOpen) {
            let tuple = matches!(
                self.peek_two(),
                (Kind::Word | Kind::QuotedName, Kind::Sign(Sign::Comma | Sign::ParenClose))
            );
            self.advance()?;
            if tuple {
                return self.tuple_relation();
            }
            // Parentheses around a relation mean nothing.
            let relation = self.deeper(Parser::relation)?;
            self.expect_sign(Sign::ParenClose)?;
            return Ok(relation);
        }
        let column = self.ident("a column, `token(…)` or columns in parentheses")?;
        self.relation_of(column)
    }

    fn relation_of(&mut self, column: Ident) -> Outcome<Relation> {
        if self.eat_sign(Sign::BracketOpen)? {
            let key = Box::new(self.term()?);
            self.expect_sign(Sign::BracketClose)?;
            let op = self.comparison("=, !=, <, <=, > or >=")?;
            return Ok(Relation::Entry { column, key, op, value: self.term()? });
        }
        if self.eat_word(Word::In)? {
            return Ok(Relation::In { column, values: self.in_values()? });
        }
        if self.eat_word(Word::Is)? {
            self.expect_words(&[Word::Not, Word::Null])?;
            return Ok(Relation::IsNotNull { column });
        }
        let op = if self.eat_word(Word::Contains)? {
            if self.eat_word(Word::Key)? { Operator::ContainsKey } else { Operator::Contains }
        } else if self.eat_word(Word::Like)? {
            Operator::Like
        } else {
            self.comparison(OPERATORS)?
        };
        Ok(Relation::Column { column, op, value: self.term()? })
    }

    /// `a, b) op (1, 2)`, `a, b) IN (…)`; the parenthesis is open.
    fn tuple_relation(&mut self) -> Outcome<Relation> {
        let columns = self.idents_to_close("a column")?;
        let at = self.token;
        let is_tuple = |term: &Term| matches!(term, Term::Tuple(_) | Term::Marker(_));
        if self.eat_word(Word::In)? {
            let values = self.in_values()?;
            return match &values {
                InValues::List(terms) if !terms.iter().all(is_tuple) => Err(self.refused(
                    at,
                    "columns in parentheses are IN a list of tuples, as in (a, b) IN ((1, 2), (3, 4))",
                )),
                _ => Ok(Relation::TupleIn { columns, values }),
            };
        }
        let op = self.comparison("=, <, <=, >, >= or IN")?;
        let value = self.term()?;
        if !is_tuple(&value) {
            let why = "columns in parentheses are compared with a tuple, as in (a, b) > (1, 2)";
            return Err(self.refused(at, why));
        }
        Ok(Relation::Tuple { columns, op, value })
    }

    /// What stands behind `IN`.
    pub(super) fn in_values(&mut self) -> Outcome<InValues> {
        if let Some(marker) = self.eat_marker()? {
            return Ok(InValues::Marker(marker));
        }
        if !self.eat_sign(Sign::ParenOpen)? {
            return Err(self.unexpected("`(` and values, or a bind marker for all of them"));
        }
        self.terms_to_close(Sign::ParenClose, "`,` or `)`").map(InValues::List)
    }

    /// One of the six signs that compare.
    pub(super) fn comparison(&mut self, expected: &'static str) -> Outcome<Operator> {
        let op = match self.token.kind {
            Kind::Sign(Sign::Eq) => Operator::Eq,
            Kind::Sign(Sign::NotEq) => Operator::NotEq,
            Kind::Sign(Sign::Lt) => Operator::Lt,
            Kind::Sign(Sign::LtEq) => Operator::LtEq,
            Kind::Sign(Sign::Gt) => Operator::Gt,
            Kind::Sign(Sign::GtEq) => Operator::GtEq,
            _ => return Err(self.unexpected(expected)),
        };
        self.advance()?;
        Ok(op)
    }
}
