//! Terms: what stands where a value is wanted.

use super::{FEW, Kind, Lexer, Outcome, Parser, Sign, Token, Word, is_ident, undoubled};
use crate::cql::ast::{ArithmeticOp, QualifiedName, Term};
use crate::cql::{Constant, Written};

const EXPECTED: &str = "a term (a constant, a bind marker, a collection or a function call)";

impl<'a> Parser<'a> {
    /// A term with its operators.
    pub(super) fn term(&mut self) -> Outcome<Term> {
        self.sum(false)
    }

    /// A term of `SET c = term + c`: a plus before a column does not belong to it.
    pub(super) fn term_before_column(&mut self) -> Outcome<Term> {
        self.sum(true)
    }

    fn sum(&mut self, stop_before_column: bool) -> Outcome<Term> {
        self.enter()?;
        let mut left = self.product()?;
        loop {
            let op = match self.token.kind {
                Kind::Sign(Sign::Plus) if stop_before_column && self.column_follows() => break,
                Kind::Sign(Sign::Plus) => ArithmeticOp::Add,
                Kind::Sign(Sign::Minus) => ArithmeticOp::Subtract,
                _ => break,
            };
            self.operator()?;
            self.step()?;
            let right = Box::new(self.product()?);
            left = Term::Arithmetic { op, left: Box::new(left), right };
        }
        self.leave();
        Ok(left)
    }

    // Nearly every term is one constant or one marker: it is not handed from function to function.
    #[inline(always)]
    fn product(&mut self) -> Outcome<Term> {
        let mut left = self.signed()?;
        while let Some(op) = self.product_op() {
            self.operator()?;
            self.step()?;
            let right = Box::new(self.signed()?);
            left = Term::Arithmetic { op, left: Box::new(left), right };
        }
        Ok(left)
    }

    /// `*`, `/` or `%`, if one stands here.
    pub(super) fn product_op(&self) -> Option<ArithmeticOp> {
        match self.token.kind {
            Kind::Sign(Sign::Star) => Some(ArithmeticOp::Multiply),
            Kind::Sign(Sign::Slash) => Some(ArithmeticOp::Divide),
            Kind::Sign(Sign::Percent) => Some(ArithmeticOp::Remainder),
            _ => None,
        }
    }

    #[inline(always)]
    fn signed(&mut self) -> Outcome<Term> {
        if let Some(constant) = self.constant()? {
            return Ok(Term::Constant(constant));
        }
        if self.eat_sign(Sign::Minus)? {
            let term = self.deeper(Parser::signed)?;
            return Ok(Term::Negative(Box::new(term)));
        }
        self.simple()
    }

    /// A term that is no constant and has no operators but its own.
    fn simple(&mut self) -> Outcome<Term> {
        match self.token.kind {
            Kind::Sign(Sign::Question | Sign::Colon) => {
                let marker = self.eat_marker()?;
                marker.map(Term::Marker).ok_or_else(|| self.unexpected(EXPECTED))
            }
            Kind::Sign(Sign::BracketOpen) => {
                self.advance()?;
                self.terms_to_close(Sign::BracketClose, "`,` or `]`").map(Term::List)
            }
            Kind::Sign(Sign::BraceOpen) => self.braces(),
            Kind::Sign(Sign::ParenOpen) => self.parens(),
            Kind::Word if self.at_word(Word::Cast) && self.peek_is_sign(Sign::ParenOpen) => {
                self.advance()?;
                self.advance()?;
                let term = Box::new(self.term()?);
                self.expect_word(Word::As)?;
                let to = Box::new(self.native_type()?);
                self.expect_sign(Sign::ParenClose)?;
                Ok(Term::Cast { term, to })
            }
            Kind::Word | Kind::QuotedName if self.at_call() => {
                let name = Box::new(self.function_name()?);
                self.expect_sign(Sign::ParenOpen)?;
                let args = self.terms_to_close(Sign::ParenClose, "`,` or `)`")?;
                Ok(Term::Function { name, args: args.into() })
            }
            Kind::Word if self.at_ident() => {
                Err(self.unexpected("a value: text stands in single quotes, 'like this'"))
            }
            Kind::QuotedName => {
                Err(self.unexpected("a value: text stands in single quotes, not in double ones"))
            }
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    /// Terms to the sign that closes them, perhaps none; what opens them is behind.
    pub(super) fn terms_to_close(
        &mut self,
        close: Sign,
        expected: &'static str,
    ) -> Outcome<Vec<Term>> {
        if self.eat_sign(close)? {
            return Ok(Vec::new());
        }
        let mut terms = Vec::with_capacity(FEW);
        loop {
            terms.push(self.term()?);
            if !self.goes_on(close, expected)? {
                return Ok(terms);
            }
        }
    }

    /// `{…}`: a value of a user-defined type if a bare name stands first, else a set or a map.
    fn braces(&mut self) -> Outcome<Term> {
        self.advance()?;
        if self.at_ident() && self.peek_is_sign(Sign::Colon) {
            let mut fields = Vec::new();
            loop {
                let field = self.ident("the name of a field")?;
                self.expect_sign(Sign::Colon)?;
                fields.push((field, self.term()?));
                if !self.goes_on(Sign::BraceClose, "`,` or `}`")? {
                    return Ok(Term::User(fields));
                }
            }
        }
        if self.eat_sign(Sign::BraceClose)? {
            return Ok(Term::Set(Vec::new()));
        }
        let first = self.term()?;
        if !self.eat_sign(Sign::Colon)? {
            let mut elements = vec![first];
            while self.goes_on(Sign::BraceClose, "`,`, `:` or `}`")? {
                elements.push(self.term()?);
            }
            return Ok(Term::Set(elements));
        }
        let mut entries = vec![(first, self.term()?)];
        while self.goes_on(Sign::BraceClose, "`,` or `}`")? {
            let key = self.term()?;
            self.expect_sign(Sign::Colon)?;
            entries.push((key, self.term()?));
        }
        Ok(Term::Map(entries))
    }

    /// `(type) term` or `(a, b)`. No term is a bare name, so a name behind the parenthesis begins a type.
    fn parens(&mut self) -> Outcome<Term> {
        self.advance()?;
        let at_type = self.at_ident() || self.at_word(Word::Set);
        if at_type && !self.at_call() {
            let of = Box::new(self.type_name()?);
            self.expect_sign(Sign::ParenClose)?;
            let term = Box::new(self.deeper(Parser::signed)?);
            return Ok(Term::TypeHint { of, term });
        }
        if self.at_sign(Sign::ParenClose) {
            return Err(self.unexpected("a term: a tuple is not empty"));
        }
        self.terms_to_close(Sign::ParenClose, "`,` or `)`").map(Term::Tuple)
    }

    /// Whether a function's name and its parenthesis stand here: `f(`, `ks.f(`, `token(`.
    pub(super) fn at_call(&self) -> bool {
        is_call(self.token, self.lexer)
    }

    /// The name of a function, of which [`Parser::at_call`] is true.
    pub(super) fn function_name(&mut self) -> Outcome<QualifiedName> {
        let name = self.any_word()?;
        if !self.eat_sign(Sign::Point)? {
            return Ok(QualifiedName { keyspace: None, name });
        }
        let keyspace = Some(name);
        // The one reserved word that names a function.
        let name = match self.at_word(Word::Token) {
            true => self.any_word()?,
            false => self.ident("the name of a function")?,
        };
        Ok(QualifiedName { keyspace, name })
    }

    /// Whether a column stands behind the plus that is the current token.
    fn column_follows(&self) -> bool {
        let mut ahead = self.lexer;
        ahead.next().is_ok_and(|token| is_ident(token) && !is_call(token, ahead))
    }

    /// A constant, if one stands here; a minus before a number belongs to it.
    pub(super) fn constant(&mut self) -> Outcome<Option<Constant>> {
        let constant = match self.token.kind {
            Kind::String | Kind::DollarString => Constant::String(self.string()?),
            Kind::Integer => Constant::Integer(self.written()?),
            Kind::Float => Constant::Float(self.written()?),
            Kind::Duration => Constant::Duration(self.written()?),
            Kind::Uuid => Constant::Uuid(self.uuid()?),
            Kind::Blob => Constant::Blob(self.blob()?),
            Kind::Word => return self.constant_word(""),
            Kind::Sign(Sign::Minus) => return self.negative_constant(),
            _ => return Ok(None),
        };
        Ok(Some(constant))
    }

    fn written(&mut self) -> Outcome<Written> {
        let token = self.advance()?;
        Ok(self.lexer.text(token).into())
    }

    /// `null`, `true`, `false`, `NaN`, `Infinity`; of them the last two may have a minus, which is behind.
    fn constant_word(&mut self, minus: &str) -> Outcome<Option<Constant>> {
        let constant = match self.token.word {
            // A negative one is no other number.
            Some(Word::Nan) => Constant::Float("NaN".into()),
            Some(Word::Infinity) => Constant::Float(format!("{minus}Infinity").into()),
            _ if !minus.is_empty() => return Ok(None),
            Some(Word::Null) => Constant::Null,
            Some(Word::True) => Constant::Boolean(true),
            Some(Word::False) => Constant::Boolean(false),
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(constant))
    }

    /// `-1`, `-1.5`, `-2h`, `-Infinity`; nothing is read if something else is negative.
    fn negative_constant(&mut self) -> Outcome<Option<Constant>> {
        let numeric = match self.peek() {
            Kind::Integer | Kind::Float | Kind::Duration => true,
            Kind::Word => self.peek_is_word(Word::Nan) || self.peek_is_word(Word::Infinity),
            _ => false,
        };
        if !numeric {
            return Ok(None);
        }
        self.advance()?;
        let written = || Written::from(format!("-{}", self.text()));
        let constant = match self.token.kind {
            Kind::Integer => Constant::Integer(written()),
            Kind::Float => Constant::Float(written()),
            Kind::Duration => Constant::Duration(written()),
            _ => return self.constant_word("-"),
        };
        self.advance()?;
        Ok(Some(constant))
    }

    /// The text of the string that stands here, without quotes.
    pub(super) fn string(&mut self) -> Outcome<Written> {
        let token = self.advance()?;
        Ok(match token.kind {
            Kind::DollarString => self.inside(token, 2).into(),
            _ => undoubled(self.inside(token, 1), token, '\''),
        })
    }

    /// A token's text without so many bytes on both sides.
    fn inside(&self, token: Token, quotes: usize) -> &'a str {
        let text = self.lexer.text(token);
        text.get(quotes..text.len().saturating_sub(quotes)).unwrap_or_default()
    }

    fn uuid(&mut self) -> Outcome<u128> {
        let token = self.advance()?;
        let digits = self.lexer.text(token).bytes().filter(|byte| *byte != b'-');
        Ok(digits.fold(0, |id, digit| id << 4 | u128::from(hex(digit))))
    }

    fn blob(&mut self) -> Outcome<Vec<u8>> {
        let token = self.advance()?;
        let digits = self.lexer.text(token).as_bytes().get(2..).unwrap_or_default();
        Ok(digits
            .chunks_exact(2)
            .map(|two| two.iter().fold(0, |byte, digit| byte << 4 | hex(*digit)))
            .collect())
    }
}

/// Whether this token begins a call; the lexer stands behind it.
fn is_call(token: Token, mut ahead: Lexer<'_>) -> bool {
    if !(is_ident(token) || token.word == Some(Word::Token)) {
        return false;
    }
    match ahead.next_byte() {
        Some(b'(') => true,
        Some(b'.') => {
            let mut next = || ahead.next().map_or(Kind::End, |token| token.kind);
            next() == Kind::Sign(Sign::Point)
                && matches!(next(), Kind::Word | Kind::QuotedName)
                && next() == Kind::Sign(Sign::ParenOpen)
        }
        _ => false,
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}
