//! What a `SELECT` gives: columns, their parts, functions of them, and what may stand beside them.

use super::{Kind, Outcome, Parser, Sign, Token, Word, is_ident};
use crate::cql::ast::{ArithmeticOp, Selectable, StoredFact, Term};

const EXPECTED: &str = "a column, a function or a value";

impl Parser<'_> {
    /// One selectable with its operators.
    pub(super) fn selectable(&mut self) -> Outcome<Selectable> {
        self.enter()?;
        let mut left = self.selected_product()?;
        loop {
            let op = match self.token.kind {
                Kind::Sign(Sign::Plus) => ArithmeticOp::Add,
                Kind::Sign(Sign::Minus) => ArithmeticOp::Subtract,
                _ => break,
            };
            self.operator()?;
            self.step()?;
            let right = Box::new(self.selected_product()?);
            left = Selectable::Arithmetic { op, left: Box::new(left), right };
        }
        self.leave();
        Ok(left)
    }

    // Nearly every selectable is one column: it is not handed from function to function.
    #[inline(always)]
    fn selected_product(&mut self) -> Outcome<Selectable> {
        let mut left = self.selected_signed()?;
        while let Some(op) = self.product_op() {
            self.operator()?;
            self.step()?;
            let right = Box::new(self.selected_signed()?);
            left = Selectable::Arithmetic { op, left: Box::new(left), right };
        }
        Ok(left)
    }

    #[inline(always)]
    fn selected_signed(&mut self) -> Outcome<Selectable> {
        if let Some(constant) = self.constant()? {
            return Ok(Selectable::Term(Term::Constant(constant)));
        }
        if self.eat_sign(Sign::Minus)? {
            let of = self.deeper(Parser::selected_signed)?;
            return Ok(Selectable::Negative(Box::new(of)));
        }
        let of = self.selected_simple()?;
        if !matches!(self.token.kind, Kind::Sign(Sign::Point | Sign::BracketOpen)) {
            return Ok(of);
        }
        self.parts_of(of)
    }

    /// The elements, slices and fields behind a selectable.
    fn parts_of(&mut self, mut of: Selectable) -> Outcome<Selectable> {
        loop {
            if self.eat_sign(Sign::Point)? {
                self.operator()?;
                let field = self.ident("the name of a field")?;
                of = Selectable::Field { of: Box::new(of), field };
            } else if self.eat_sign(Sign::BracketOpen)? {
                self.operator()?;
                of = self.element_or_slice(Box::new(of))?;
            } else {
                return Ok(of);
            }
        }
    }

    /// `key]`, `from..to]`, `from..]` or `..to]`.
    fn element_or_slice(&mut self, of: Box<Selectable>) -> Outcome<Selectable> {
        if self.eat_sign(Sign::Range)? {
            let to = Some(Box::new(self.term()?));
            self.expect_sign(Sign::BracketClose)?;
            return Ok(Selectable::Slice { of, from: None, to });
        }
        let key = Box::new(self.term()?);
        if self.eat_sign(Sign::BracketClose)? {
            return Ok(Selectable::Element { of, key });
        }
        if !self.eat_sign(Sign::Range)? {
            return Err(self.unexpected("`]` or `..`"));
        }
        let to = if self.at_sign(Sign::BracketClose) { None } else { Some(self.term()?) };
        let to = to.map(Box::new);
        self.expect_sign(Sign::BracketClose)?;
        Ok(Selectable::Slice { of, from: Some(key), to })
    }

    fn selected_simple(&mut self) -> Outcome<Selectable> {
        match self.token.kind {
            Kind::Sign(Sign::Question | Sign::Colon) => {
                let marker = self.eat_marker()?;
                let marker = marker.ok_or_else(|| self.unexpected(EXPECTED))?;
                Ok(Selectable::Term(Term::Marker(marker)))
            }
            Kind::Sign(Sign::BracketOpen) => {
                self.advance()?;
                self.selected_to_close(Sign::BracketClose, "`,` or `]`").map(Selectable::List)
            }
            Kind::Sign(Sign::BraceOpen) => self.selected_braces(),
            Kind::Sign(Sign::ParenOpen) => self.selected_parens(),
            // Nearly always it is a column: what is called has a parenthesis or a point behind it.
            Kind::Word | Kind::QuotedName if !matches!(self.peek_byte(), Some(b'(' | b'.')) => {
                self.ident(EXPECTED).map(Selectable::Column)
            }
            Kind::Word if self.peek_is_sign(Sign::ParenOpen) => self.selected_call(),
            Kind::Word | Kind::QuotedName if self.at_call() => self.selected_function(),
            Kind::Word | Kind::QuotedName => self.ident(EXPECTED).map(Selectable::Column),
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    /// A call; of some functions only the parser knows what they take.
    fn selected_call(&mut self) -> Outcome<Selectable> {
        let fact = match self.token.word {
            Some(Word::Writetime) => Some(StoredFact::Writetime),
            Some(Word::Maxwritetime) => Some(StoredFact::MaxWritetime),
            Some(Word::Ttl) => Some(StoredFact::Ttl),
            _ => None,
        };
        if let Some(fact) = fact {
            self.advance()?;
            self.expect_sign(Sign::ParenOpen)?;
            let column = self.ident("a column")?;
            let of = Box::new(self.parts_of(Selectable::Column(column))?);
            self.expect_sign(Sign::ParenClose)?;
            return Ok(Selectable::Stored { fact, of });
        }
        if self.at_word(Word::Cast) {
            self.advance()?;
            self.expect_sign(Sign::ParenOpen)?;
            let of = Box::new(self.selectable()?);
            self.expect_word(Word::As)?;
            let to = Box::new(self.native_type()?);
            self.expect_sign(Sign::ParenClose)?;
            return Ok(Selectable::Cast { of, to });
        }
        if self.at_word(Word::Count) && self.peek_two().1 == Kind::Sign(Sign::Star) {
            self.advance()?;
            self.advance()?;
            self.advance()?;
            self.expect_sign(Sign::ParenClose)?;
            return Ok(Selectable::CountRows);
        }
        if !self.at_call() {
            return Err(self.unexpected(EXPECTED));
        }
        self.selected_function()
    }

    fn selected_function(&mut self) -> Outcome<Selectable> {
        let name = Box::new(self.function_name()?);
        self.expect_sign(Sign::ParenOpen)?;
        let args = self.selected_to_close(Sign::ParenClose, "`,` or `)`")?;
        Ok(Selectable::Function { name, args: args.into() })
    }

    /// Selectables to the sign that closes them, perhaps none; what opens them is behind.
    fn selected_to_close(
        &mut self,
        close: Sign,
        expected: &'static str,
    ) -> Outcome<Vec<Selectable>> {
        if self.eat_sign(close)? {
            return Ok(Vec::new());
        }
        let mut selected = vec![self.selectable()?];
        while self.goes_on(close, expected)? {
            selected.push(self.selectable()?);
        }
        Ok(selected)
    }

    fn selected_braces(&mut self) -> Outcome<Selectable> {
        self.advance()?;
        if self.eat_sign(Sign::BraceClose)? {
            return Ok(Selectable::Set(Vec::new()));
        }
        let first = self.selectable()?;
        if !self.eat_sign(Sign::Colon)? {
            let mut elements = vec![first];
            while self.goes_on(Sign::BraceClose, "`,`, `:` or `}`")? {
                elements.push(self.selectable()?);
            }
            return Ok(Selectable::Set(elements));
        }
        let mut entries = vec![(first, self.selectable()?)];
        while self.goes_on(Sign::BraceClose, "`,` or `}`")? {
            let key = self.selectable()?;
            self.expect_sign(Sign::Colon)?;
            entries.push((key, self.selectable()?));
        }
        Ok(Selectable::Map(entries))
    }

    /// `(type) a`, `(a, b)` or `(a + b)`.
    fn selected_parens(&mut self) -> Outcome<Selectable> {
        self.advance()?;
        if self.at_hinted_type() {
            let to = Box::new(self.type_name()?);
            self.expect_sign(Sign::ParenClose)?;
            let of = Box::new(self.deeper(Parser::selected_signed)?);
            return Ok(Selectable::TypeHint { to, of });
        }
        if self.at_sign(Sign::ParenClose) {
            return Err(self.unexpected(EXPECTED));
        }
        self.selected_to_close(Sign::ParenClose, "`,` or `)`").map(Selectable::Tuple)
    }

    /// Whether a type stands here; the parenthesis before it is behind. `<` is no operator of selectables, so it tells a
    /// type. A name alone in parentheses may be a column too: it is a type if something to have it follows.
    fn at_hinted_type(&self) -> bool {
        let mut ahead = self.lexer;
        let mut next = || ahead.next().ok();
        let Some(mut second) = next() else { return false };
        if self.token.kind == Kind::Word && second.kind == Kind::Sign(Sign::Lt) {
            return true;
        }
        if second.kind == Kind::Sign(Sign::Point) {
            let name = next();
            let Some(close) = name.and_then(|_| next()) else { return false };
            second = close;
        }
        self.at_ident()
            && second.kind == Kind::Sign(Sign::ParenClose)
            && next().is_some_and(can_be_hinted)
    }
}

/// Whether what begins with this token can have a type said of it that is one name.
fn can_be_hinted(token: Token) -> bool {
    match token.kind {
        Kind::Word => match token.word {
            Some(Word::As) => false,
            Some(
                Word::Null | Word::True | Word::False | Word::Nan | Word::Infinity | Word::Token,
            ) => true,
            _ => is_ident(token),
        },
        // `(a)[0]` is an element of a column: a list has no type that is one name.
        Kind::Sign(sign) => {
            matches!(sign, Sign::ParenOpen | Sign::BraceOpen | Sign::Question | Sign::Colon)
        }
        Kind::End => false,
        _ => true,
    }
}
