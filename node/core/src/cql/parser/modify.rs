//! `INSERT`, `UPDATE`, `DELETE`, and batches of them.

use super::{Kind, Outcome, Parser, Sign, Word};
use crate::cql::Constant;
use crate::cql::ast::{
    Assignment, Batch, BatchKind, Condition, ConditionTest, Delete, Deletion, Ident, If, Insert,
    InsertValues, Modification, Place, Term, Update, Using,
};

impl Parser<'_> {
    /// `INSERT`, `UPDATE` or `DELETE`, if one begins here.
    pub(super) fn modification(&mut self) -> Outcome<Option<Modification>> {
        let modification = if self.eat_word(Word::Insert)? {
            Modification::Insert(self.insert()?)
        } else if self.eat_word(Word::Update)? {
            Modification::Update(self.update()?)
        } else if self.eat_word(Word::Delete)? {
            Modification::Delete(self.delete()?)
        } else {
            return Ok(None);
        };
        Ok(Some(modification))
    }

    fn insert(&mut self) -> Outcome<Insert> {
        self.expect_word(Word::Into)?;
        let table = self.qualified_name("the name of a table")?;
        let values = if self.eat_word(Word::Json)? {
            self.insert_json()?
        } else if self.eat_sign(Sign::ParenOpen)? {
            let columns = self.idents_to_close("a column")?;
            self.expect_word(Word::Values)?;
            self.expect_sign(Sign::ParenOpen)?;
            if self.at_sign(Sign::ParenClose) {
                return Err(self.unexpected("a value for each column"));
            }
            let mut values = Vec::with_capacity(columns.len());
            loop {
                values.push(self.term()?);
                if !self.goes_on(Sign::ParenClose, "`,` or `)`")? {
                    break;
                }
            }
            InsertValues::Columns { columns, values }
        } else {
            return Err(self.unexpected("`(` and the names of columns, or JSON"));
        };
        let if_not_exists = self.if_not_exists()?;
        Ok(Insert { table, values, if_not_exists, using: self.using(true)? })
    }

    fn insert_json(&mut self) -> Outcome<InsertValues> {
        let value = match (self.eat_marker()?, self.token.kind) {
            (Some(marker), _) => Term::Marker(marker),
            (None, Kind::String | Kind::DollarString) => {
                Term::Constant(Constant::String(self.string()?))
            }
            _ => return Err(self.unexpected("a string of JSON or a bind marker")),
        };
        let mut default_unset = false;
        if self.eat_word(Word::Default)? {
            default_unset = self.eat_word(Word::Unset)?;
            if !default_unset && !self.eat_word(Word::Null)? {
                return Err(self.unexpected("NULL or UNSET"));
            }
        }
        Ok(InsertValues::Json { value, default_unset })
    }

    /// `USING TIMESTAMP … AND TTL …` in either order, or nothing.
    fn using(&mut self, ttl_too: bool) -> Outcome<Using> {
        let mut using = Using::default();
        if !self.eat_word(Word::Using)? {
            return Ok(using);
        }
        loop {
            let at = self.token;
            let twice = if self.eat_word(Word::Timestamp)? {
                using.timestamp.replace(self.int_value()?).is_some()
            } else if ttl_too && self.eat_word(Word::Ttl)? {
                using.ttl.replace(self.int_value()?).is_some()
            } else if ttl_too {
                return Err(self.unexpected("TIMESTAMP or TTL"));
            } else {
                return Err(self.unexpected("TIMESTAMP"));
            };
            if twice {
                return Err(self.refused(at, format!("{} is said twice", self.lexer.text(at))));
            }
            if !self.eat_word(Word::And)? {
                return Ok(using);
            }
        }
    }

    fn update(&mut self) -> Outcome<Update> {
        let table = self.qualified_name("the name of a table")?;
        let using = self.using(true)?;
        self.expect_word(Word::Set)?;
        let mut assignments = Vec::new();
        loop {
            assignments.push(self.assignment()?);
            if !self.eat_sign(Sign::Comma)? {
                break;
            }
        }
        if !self.eat_word(Word::Where)? {
            return Err(self.unexpected("`,` or WHERE"));
        }
        let relations = self.relations()?;
        Ok(Update { table, using, assignments, relations, condition: self.condition()? })
    }

    fn assignment(&mut self) -> Outcome<Assignment> {
        let column = self.ident("a column")?;
        match self.token.kind {
            Kind::Sign(Sign::Eq) => {
                self.advance()?;
                self.assigned(column)
            }
            Kind::Sign(Sign::PlusEq) => {
                self.advance()?;
                Ok(Assignment::Add { column, value: self.term()? })
            }
            Kind::Sign(Sign::MinusEq) => {
                self.advance()?;
                Ok(Assignment::Subtract { column, value: self.term()? })
            }
            Kind::Sign(Sign::BracketOpen) => {
                self.advance()?;
                let key = self.term()?;
                self.expect_sign(Sign::BracketClose)?;
                self.expect_sign(Sign::Eq)?;
                Ok(Assignment::SetElement { column, key, value: self.term()? })
            }
            Kind::Sign(Sign::Point) => {
                self.advance()?;
                let field = self.ident("the name of a field")?;
                self.expect_sign(Sign::Eq)?;
                Ok(Assignment::SetField { column, field, value: self.term()? })
            }
            _ => Err(self.unexpected("`=`, `+=`, `-=`, `[` or `.`")),
        }
    }

    /// What stands behind `column =`: a value, or the column itself and what is added to it or taken away.
    fn assigned(&mut self, column: Ident) -> Outcome<Assignment> {
        if !self.at_ident() || self.at_call() {
            let value = self.term_before_column()?;
            if !self.eat_sign(Sign::Plus)? {
                return Ok(Assignment::Set { column, value });
            }
            self.same_column(&column)?;
            return Ok(Assignment::Prepend { column, value });
        }
        if !matches!(self.peek(), Kind::Sign(Sign::Plus | Sign::Minus)) {
            // A bare word is no value: the rule for terms says what is.
            return Ok(Assignment::Set { column, value: self.term()? });
        }
        self.same_column(&column)?;
        if self.eat_sign(Sign::Plus)? {
            return Ok(Assignment::Add { column, value: self.term()? });
        }
        self.expect_sign(Sign::Minus)?;
        Ok(Assignment::Subtract { column, value: self.term()? })
    }

    /// The column that is assigned to, within its own assignment.
    fn same_column(&mut self, column: &Ident) -> Outcome<()> {
        let at = self.token;
        let operand = self.ident("the same column")?;
        if operand == *column {
            return Ok(());
        }
        let why = format!(
            "a column is set from values and from itself, not from another: \
             {column} = {column} + …, not {column} = {operand} + …"
        );
        Err(self.refused(at, why))
    }

    fn delete(&mut self) -> Outcome<Delete> {
        let mut deletions = Vec::new();
        if !self.at_word(Word::From) {
            loop {
                let column = self.ident("a column or FROM")?;
                deletions.push(Deletion { column, place: self.place()? });
                if !self.eat_sign(Sign::Comma)? {
                    break;
                }
            }
        }
        if !self.eat_word(Word::From)? {
            return Err(self.unexpected("`,`, `[`, `.` or FROM"));
        }
        let table = self.qualified_name("the name of a table")?;
        let using = self.using(false)?;
        self.expect_word(Word::Where)?;
        let relations = self.relations()?;
        Ok(Delete { deletions, table, using, relations, condition: self.condition()? })
    }

    /// Which part of a column is meant: what stands behind its name.
    fn place(&mut self) -> Outcome<Place> {
        if self.eat_sign(Sign::BracketOpen)? {
            let key = self.term()?;
            self.expect_sign(Sign::BracketClose)?;
            return Ok(Place::Element(key));
        }
        if self.eat_sign(Sign::Point)? {
            return self.ident("the name of a field").map(Place::Field);
        }
        Ok(Place::Whole)
    }

    /// `IF …`, or nothing.
    fn condition(&mut self) -> Outcome<If> {
        if !self.eat_word(Word::If)? {
            return Ok(If::Always);
        }
        // A column may be called `exists`; then something to compare it with follows.
        let compared = match self.peek() {
            Kind::Sign(sign) => sign != Sign::Semicolon,
            Kind::Word => self.peek_is_word(Word::In),
            _ => false,
        };
        if self.at_word(Word::Exists) && !compared {
            self.advance()?;
            return Ok(If::Exists);
        }
        let mut conditions = vec![self.one_condition()?];
        while self.eat_word(Word::And)? {
            conditions.push(self.one_condition()?);
        }
        Ok(If::All(conditions))
    }

    fn one_condition(&mut self) -> Outcome<Condition> {
        let column = self.ident("EXISTS or a column")?;
        let place = self.place()?;
        if self.eat_word(Word::In)? {
            let test = ConditionTest::In(self.in_values()?);
            return Ok(Condition { column, place, test });
        }
        let op = self.comparison("=, !=, <, <=, >, >= or IN")?;
        let test = ConditionTest::Compare { op, value: self.term()? };
        Ok(Condition { column, place, test })
    }

    /// What stands behind `BEGIN`.
    pub(super) fn batch(&mut self) -> Outcome<Batch> {
        let kind = if self.eat_word(Word::Unlogged)? {
            BatchKind::Unlogged
        } else if self.eat_word(Word::Counter)? {
            BatchKind::Counter
        } else {
            // Not in the grammar of Cassandra, but what the documentation of batches calls the default.
            let _ = self.eat_word(Word::Logged)?;
            BatchKind::Logged
        };
        self.expect_word(Word::Batch)?;
        let using = self.using(true)?;
        let mut statements = Vec::new();
        while !self.eat_word(Word::Apply)? {
            let Some(statement) = self.modification()? else {
                return Err(self.unexpected("INSERT, UPDATE, DELETE or APPLY BATCH"));
            };
            statements.push(statement);
            while self.eat_sign(Sign::Semicolon)? {}
        }
        self.expect_word(Word::Batch)?;
        Ok(Batch { kind, using, statements })
    }
}
