//! Names of types.

use super::{Kind, Outcome, Parser, Sign, Word};
use crate::cql::ast::{NATIVE_TYPES, TypeName, name_of_a_type};

const EXPECTED: &str = "a type";

impl Parser<'_> {
    /// `int`, `map<text, frozen<list<int>>>`, `ks.address`, `'org.example.Type'`.
    pub(super) fn type_name(&mut self) -> Outcome<TypeName> {
        self.deeper(Parser::type_at_depth)
    }

    /// A type that has a word of its own, as `CAST` wants it.
    pub(super) fn native_type(&mut self) -> Outcome<TypeName> {
        let Some(native) = self.at_native_type() else {
            return Err(self.unexpected("a type that is neither a collection nor a user's"));
        };
        self.advance()?;
        Ok(TypeName::Native(native))
    }

    fn at_native_type(&self) -> Option<&'static str> {
        if self.token.kind != Kind::Word {
            return None;
        }
        NATIVE_TYPES.into_iter().find(|known| self.text().eq_ignore_ascii_case(known))
    }

    fn type_at_depth(&mut self) -> Outcome<TypeName> {
        match self.token.kind {
            Kind::String | Kind::DollarString => {
                let class = self.string()?;
                return Ok(TypeName::Custom(class.to_string()));
            }
            Kind::Word if self.peek_is_sign(Sign::Lt) => return self.generic_type(),
            Kind::Word if !self.peek_is_sign(Sign::Point) => {
                if let Some(native) = self.at_native_type() {
                    self.advance()?;
                    return Ok(TypeName::Native(native));
                }
            }
            _ => {}
        }
        let (start, quoted) = (self.token, self.token.kind == Kind::QuotedName);
        if let Some(wants) = self.lacks_parameters() {
            return Err(self.refused(start, wants));
        }
        let first = self.ident(EXPECTED)?;
        if !self.eat_sign(Sign::Point)? {
            if !quoted && name_of_a_type(first.as_str()) {
                let why = format!("`{first}` is kept for types of later versions of CQL");
                return Err(self.refused(start, why));
            }
            return Ok(TypeName::User { keyspace: None, name: first });
        }
        let (at, quoted) = (self.token, self.token.kind == Kind::QuotedName);
        let name = self.ident(EXPECTED)?;
        if !quoted && name_of_a_type(name.as_str()) {
            return Err(
                self.refused(at, format!("`{name}` is a type of CQL, not one of a keyspace"))
            );
        }
        Ok(TypeName::User { keyspace: Some(first), name })
    }

    /// `list` alone: what it should be.
    fn lacks_parameters(&self) -> Option<String> {
        let (name, example) = match self.token.word? {
            Word::List => ("list", "list<int>"),
            Word::Set => ("set", "set<int>"),
            Word::Map => ("map", "map<text, int>"),
            Word::Tuple => ("tuple", "tuple<text, int>"),
            Word::Frozen => ("frozen", "frozen<list<int>>"),
            _ => return None,
        };
        if self.peek_is_sign(Sign::Point) {
            return None;
        }
        Some(format!("the type {name} wants the types of what is in it, as in {example}"))
    }

    /// `list<…>` and the others; the current token is the word, behind it stands `<`.
    fn generic_type(&mut self) -> Outcome<TypeName> {
        let word = self.advance()?;
        let written = self.lexer.text(word);
        self.expect_sign(Sign::Lt)?;
        let of = match word.word {
            Some(Word::Map) => {
                let key = Box::new(self.type_name()?);
                self.expect_sign(Sign::Comma)?;
                TypeName::Map(key, Box::new(self.type_name()?))
            }
            Some(Word::Tuple) => {
                let mut of = vec![self.type_name()?];
                while self.eat_sign(Sign::Comma)? {
                    of.push(self.type_name()?);
                }
                TypeName::Tuple(of)
            }
            Some(Word::List) => TypeName::List(Box::new(self.type_name()?)),
            Some(Word::Set) => TypeName::Set(Box::new(self.type_name()?)),
            Some(Word::Frozen) => TypeName::Frozen(Box::new(self.type_name()?)),
            Some(Word::Vector) => {
                return Err(self.refused(
                    word,
                    "vectors are of CQL 5.0 and are not supported: use frozen<list<float>>",
                ));
            }
            _ => {
                let why = format!(
                    "`{written}` has no parameters: only list, set, map, tuple and frozen have"
                );
                return Err(self.refused(word, why));
            }
        };
        self.expect_sign(Sign::Gt)?;
        Ok(of)
    }
}
