//! Tokens become a syntax tree: a recursive descent, written by hand, a room for each family of statements.
//!
//! By hand because nearly every keyword of CQL is a name as well: `SELECT key, ttl, type FROM distinct`. The grammar decides
//! with the current token and at most a few more, never by trying one reading after another, so time is linear in the text.
//!
//! Invariants: no text panics or overflows the stack (nesting is bounded by [`Limits::depth`], and so is the tree); memory is
//! bounded by [`Limits::tokens`]; markers are numbered in the order of the text.

mod ddl;
mod describe;
mod modify;
mod select;
mod selectors;
mod terms;
mod types;

use super::ast::{Ident, IntValue, Marker, QualifiedName, Statement, Unsupported};
use super::error::{Found, Outcome, SyntaxError};
use super::lexer::{Kind, Lexer, Sign, Token};
use super::words::Word;
use super::written::Written;

/// Bind markers of a statement; the protocol counts values with 16 bits.
pub const MARKERS_MAX: usize = 65_535;

/// Columns, values and markers that there is room for when the first is read: of most statements no more come.
const FEW: usize = 8;

/// A statement and its bind markers.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub statement: Statement,
    /// Its markers; their numbers in the tree are their places here.
    pub markers: Vec<Marker>,
}

/// How much of a text is read. Whoever is allowed to send statements is trusted with no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the text.
    pub statement_bytes: usize,
    /// Words and signs. Each costs some hundred bytes at most.
    pub tokens: usize,
    /// Levels of nesting, together with the operators of one expression.
    pub depth: usize,
}

impl Limits {
    /// As much as a frame of the protocol carries by default, 64 levels, half a million words and signs.
    pub const DEFAULT: Limits = Limits { statement_bytes: 16 << 20, tokens: 1 << 19, depth: 64 };
}

/// Reads one statement within [`Limits::DEFAULT`].
///
/// # Errors
/// The text is not one statement of CQL; the error says where, what stands there and what was expected.
pub fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    parse_within(text, Limits::DEFAULT)
}

/// Reads one statement within these limits. Semicolons may follow it.
///
/// # Errors
/// The text is not one statement of CQL, or is more than the limits allow.
pub fn parse_within(text: &str, limits: Limits) -> Result<Parsed, SyntaxError> {
    if text.len() > limits.statement_bytes {
        return Err(SyntaxError::TooLong { bytes: text.len(), bytes_max: limits.statement_bytes });
    }
    let mut parser = Parser::new(text, limits)?;
    let statement = parser.statement()?;
    while parser.eat_sign(Sign::Semicolon)? {}
    if parser.token.kind != Kind::End {
        let error = parser.unexpected("the end of the statement (one statement is read at a time)");
        return Err(*error);
    }
    Ok(Parsed { statement, markers: parser.markers })
}

/// Where the parser is.
struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token to be read next; the lexer stands behind it.
    token: Token,
    markers: Vec<Marker>,
    limits: Limits,
    tokens: usize,
    /// Rules within rules.
    depth: usize,
    /// Operators since the depth was last 0. They make a tree deep on its left without nesting, so they count like levels.
    operators: usize,
}

/// The words that statements begin with.
const STATEMENTS: [&str; 18] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "USE", "TRUNCATE", "CREATE", "ALTER", "DROP",
    "DESCRIBE", "DESC", "LIST", "GRANT", "REVOKE", "ADD", "BATCH", "APPLY",
];

impl<'a> Parser<'a> {
    fn new(text: &'a str, limits: Limits) -> Outcome<Parser<'a>> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next()?;
        let (tokens, depth, operators) = (0, 0, 0);
        Ok(Parser { lexer, token, markers: Vec::new(), limits, tokens, depth, operators })
    }

    fn statement(&mut self) -> Outcome<Statement> {
        if self.at_word(Word::Select) {
            return Ok(Statement::Select(Box::new(self.select()?)));
        }
        if let Some(modification) = self.modification()? {
            return Ok(Statement::Modify(modification));
        }
        if self.eat_word(Word::Begin)? {
            return self.batch().map(Statement::Batch);
        }
        if self.eat_word(Word::Use)? {
            return self.ident("the name of a keyspace").map(Statement::Use);
        }
        if self.eat_word(Word::Truncate)? {
            let _ = self.eat_table_word()?;
            return self.qualified_name("the name of a table").map(Statement::Truncate);
        }
        if self.eat_word(Word::Create)? {
            return self.create();
        }
        if self.eat_word(Word::Alter)? {
            return self.alter();
        }
        if self.eat_word(Word::Drop)? {
            return self.drop();
        }
        if self.eat_word(Word::Describe)? || self.eat_word(Word::Desc)? {
            return self.describe().map(Statement::Describe);
        }
        self.of_roles()
    }

    /// `LIST`, `GRANT`, `REVOKE`, `ADD IDENTITY`; or no statement at all.
    fn of_roles(&mut self) -> Outcome<Statement> {
        if self.eat_word(Word::List)? {
            let what = match () {
                () if self.at_word(Word::Roles) || self.at_word(Word::Superusers) => {
                    Unsupported::Role
                }
                () if self.at_word(Word::Users) => Unsupported::User,
                () => Unsupported::Permission,
            };
            return self.unsupported("LIST", what);
        }
        for verb in [Word::Grant, Word::Revoke] {
            if self.eat_word(verb)? {
                return self.unsupported(verb.written(), Unsupported::Permission);
            }
        }
        if self.at_word(Word::Add) && self.peek_is_word(Word::Identity) {
            return self.unsupported("ADD", Unsupported::Identity);
        }
        let at = self.lexer.position(self.token.start);
        if self.token.kind == Kind::End {
            return Err(Box::new(SyntaxError::Empty { at }));
        }
        let nearest = nearest(&self.text().to_ascii_uppercase());
        Err(Box::new(SyntaxError::NoStatement { at, found: self.found(), nearest }))
    }

    /// A statement that is known and not served: what is left of it is passed over.
    fn unsupported(&mut self, verb: &'static str, what: Unsupported) -> Outcome<Statement> {
        while !matches!(self.token.kind, Kind::End | Kind::Sign(Sign::Semicolon)) {
            self.advance()?;
        }
        Ok(Statement::Unsupported { verb, what })
    }
}

/// The statement's word that a misspelt one is nearest to.
fn nearest(word: &str) -> Option<&'static str> {
    // A long string is no misspelt word, and comparing it would take long.
    if word.len() > 16 {
        return None;
    }
    let distances =
        STATEMENTS.iter().map(|known| (strsim::damerau_levenshtein(word, known), *known));
    distances.filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known)
}

// Tokens.
impl<'a> Parser<'a> {
    /// The text of the current token.
    fn text(&self) -> &'a str {
        self.lexer.text(self.token)
    }

    /// To the next token; gives the one that is left behind.
    fn advance(&mut self) -> Outcome<Token> {
        let token = self.token;
        self.step()?;
        Ok(token)
    }

    /// To the next token.
    #[inline]
    fn step(&mut self) -> Outcome<()> {
        self.tokens += 1;
        if self.tokens > self.limits.tokens {
            let (at, tokens_max) = (self.lexer.position(self.token.start), self.limits.tokens);
            return Err(Box::new(SyntaxError::TooManyTokens { at, tokens_max }));
        }
        self.token = self.lexer.next()?;
        Ok(())
    }

    /// The token behind the current one. What is wrong with it is told when it is reached.
    fn peek(&self) -> Kind {
        let mut ahead = self.lexer;
        ahead.next().map_or(Kind::End, |token| token.kind)
    }

    /// The two tokens behind the current one.
    fn peek_two(&self) -> (Kind, Kind) {
        let mut ahead = self.lexer;
        let first = ahead.next().map_or(Kind::End, |token| token.kind);
        (first, ahead.next().map_or(Kind::End, |token| token.kind))
    }

    /// What the token behind the current one begins with.
    fn peek_byte(&self) -> Option<u8> {
        let mut ahead = self.lexer;
        ahead.next_byte()
    }

    fn peek_is_sign(&self, sign: Sign) -> bool {
        let mut ahead = self.lexer;
        ahead.next_byte() == sign.first_byte()
            && ahead.next().is_ok_and(|token| token.kind == Kind::Sign(sign))
    }

    fn peek_is_word(&self, word: Word) -> bool {
        let mut ahead = self.lexer;
        ahead.next().is_ok_and(|token| token.word == Some(word))
    }

    #[inline]
    fn at_word(&self, word: Word) -> bool {
        self.token.word == Some(word)
    }

    #[inline]
    fn at_sign(&self, sign: Sign) -> bool {
        self.token.kind == Kind::Sign(sign)
    }

    #[inline]
    fn eat_word(&mut self, word: Word) -> Outcome<bool> {
        let there = self.at_word(word);
        if there {
            self.step()?;
        }
        Ok(there)
    }

    #[inline]
    fn eat_sign(&mut self, sign: Sign) -> Outcome<bool> {
        let there = self.at_sign(sign);
        if there {
            self.step()?;
        }
        Ok(there)
    }

    fn expect_word(&mut self, word: Word) -> Outcome<()> {
        if self.eat_word(word)? { Ok(()) } else { Err(self.unexpected(word.written())) }
    }

    fn expect_words(&mut self, words: &[Word]) -> Outcome<()> {
        words.iter().try_for_each(|word| self.expect_word(*word))
    }

    fn expect_sign(&mut self, sign: Sign) -> Outcome<()> {
        if self.eat_sign(sign)? { Ok(()) } else { Err(self.unexpected(sign.expected())) }
    }

    /// A comma, or the sign that closes a list: whether the list goes on.
    #[inline]
    fn goes_on(&mut self, close: Sign, expected: &'static str) -> Outcome<bool> {
        if self.eat_sign(Sign::Comma)? {
            return Ok(true);
        }
        if self.eat_sign(close)? { Ok(false) } else { Err(self.unexpected(expected)) }
    }

    fn found(&self) -> Found {
        match self.token.kind {
            Kind::End => Found::End,
            _ => Found::text(self.text()),
        }
    }

    fn unexpected(&self, expected: &'static str) -> Box<SyntaxError> {
        let at = self.lexer.position(self.token.start);
        Box::new(SyntaxError::Unexpected { at, found: self.found(), expected })
    }

    fn refused(&self, at: Token, why: impl Into<String>) -> Box<SyntaxError> {
        Box::new(SyntaxError::Refused { at: self.lexer.position(at.start), why: why.into() })
    }
}

// What many statements have.
impl Parser<'_> {
    /// Runs a rule one level deeper.
    #[inline]
    fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.enter()?;
        let outcome = rule(self)?;
        self.leave();
        Ok(outcome)
    }

    /// Begins a level; [`Parser::leave`] ends it, but for an error, which ends all.
    #[inline]
    fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        self.check_depth()
    }

    #[inline]
    fn leave(&mut self) {
        self.depth -= 1;
        if self.depth == 0 {
            self.operators = 0;
        }
    }

    /// Counts an operator, which puts what stands before it one level deeper.
    fn operator(&mut self) -> Outcome<()> {
        self.operators += 1;
        self.check_depth()
    }

    #[inline]
    fn check_depth(&self) -> Outcome<()> {
        if self.depth + self.operators <= self.limits.depth {
            return Ok(());
        }
        let (at, depth_max) = (self.lexer.position(self.token.start), self.limits.depth);
        Err(Box::new(SyntaxError::TooDeep { at, depth_max }))
    }

    /// Whether the current token is a name, quoted or not.
    #[inline]
    fn at_ident(&self) -> bool {
        is_ident(self.token)
    }

    /// A name. What it names is told if it is missing.
    fn ident(&mut self, expected: &'static str) -> Outcome<Ident> {
        if !self.at_ident() {
            if self.token.kind == Kind::Word {
                let why = format!(
                    "found `{0}`, which is a reserved word, expected {expected}: as a name write \"{0}\"",
                    self.text()
                );
                return Err(self.refused(self.token, why));
            }
            return Err(self.unexpected(expected));
        }
        self.any_word()
    }

    /// The current word or quoted name, reserved or not.
    fn any_word(&mut self) -> Outcome<Ident> {
        let token = self.advance()?;
        let text = self.lexer.text(token);
        if token.kind == Kind::QuotedName {
            let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
            return Ok(Ident::quoted(undoubled(inside, token, '"')));
        }
        Ok(if token.is_plain { Ident::quoted(text) } else { Ident::unquoted(text) })
    }

    /// `name` or `keyspace.name`.
    fn qualified_name(&mut self, expected: &'static str) -> Outcome<QualifiedName> {
        let name = self.ident(expected)?;
        if !self.eat_sign(Sign::Point)? {
            return Ok(QualifiedName { keyspace: None, name });
        }
        Ok(QualifiedName { keyspace: Some(name), name: self.ident(expected)? })
    }

    /// `(a, b)`, at least one; the parenthesis is open.
    fn idents_to_close(&mut self, expected: &'static str) -> Outcome<Vec<Ident>> {
        let mut idents = Vec::with_capacity(FEW);
        loop {
            idents.push(self.ident(expected)?);
            if !self.goes_on(Sign::ParenClose, "`,` or `)`")? {
                return Ok(idents);
            }
        }
    }

    fn if_not_exists(&mut self) -> Outcome<bool> {
        let there = self.eat_word(Word::If)?;
        if there {
            self.expect_words(&[Word::Not, Word::Exists])?;
        }
        Ok(there)
    }

    fn if_exists(&mut self) -> Outcome<bool> {
        let there = self.eat_word(Word::If)?;
        if there {
            self.expect_word(Word::Exists)?;
        }
        Ok(there)
    }

    /// `TABLE`, or `COLUMNFAMILY` as it was called once.
    fn eat_table_word(&mut self) -> Outcome<bool> {
        Ok(self.eat_word(Word::Table)? || self.eat_word(Word::Columnfamily)?)
    }

    /// `KEYSPACE`, or `SCHEMA`, which is the same word.
    fn eat_keyspace_word(&mut self) -> Outcome<bool> {
        Ok(self.eat_word(Word::Keyspace)? || self.eat_word(Word::Schema)?)
    }

    /// `?` or `:name`, if one stands here: its number.
    fn eat_marker(&mut self) -> Outcome<Option<usize>> {
        let name = if self.eat_sign(Sign::Question)? {
            None
        } else if self.eat_sign(Sign::Colon)? {
            Some(self.ident("the name of a bind marker")?)
        } else {
            return Ok(None);
        };
        let number = self.markers.len();
        if number == MARKERS_MAX {
            let (at, markers_max) = (self.lexer.position(self.token.start), MARKERS_MAX);
            return Err(Box::new(SyntaxError::TooManyMarkers { at, markers_max }));
        }
        if number == 0 {
            self.markers.reserve(FEW);
        }
        self.markers.push(Marker { name });
        Ok(Some(number))
    }

    /// A whole number or a marker for one.
    fn int_value(&mut self) -> Outcome<IntValue> {
        if let Some(marker) = self.eat_marker()? {
            return Ok(IntValue::Marker(marker));
        }
        self.integer("a whole number or a bind marker").map(IntValue::Integer)
    }

    /// A whole number of 64 bits.
    fn integer(&mut self, expected: &'static str) -> Outcome<i64> {
        let start = self.token.start;
        let minus = self.eat_sign(Sign::Minus)?;
        if self.token.kind != Kind::Integer {
            return Err(self.unexpected(expected));
        }
        let token = self.advance()?;
        let digits = self.lexer.text(token);
        let written = if minus { &format!("-{digits}") } else { digits };
        written.parse().map_err(|_| {
            let at = self.lexer.position(start);
            Box::new(SyntaxError::Integer { at, found: Found::text(written) })
        })
    }
}

/// Whether a token is a name, quoted or not. `true` and `false` are constants, although no keyword is reserved for them.
fn is_ident(token: Token) -> bool {
    let constant = |word| matches!(word, Word::True | Word::False);
    match token.kind {
        Kind::QuotedName => true,
        Kind::Word => !token.word.is_some_and(|word| word.is_reserved() || constant(word)),
        _ => false,
    }
}

/// The text between the two quotes of a token, where two of them stand for one.
fn undoubled(inside: &str, token: Token, quote: char) -> Written {
    if token.is_plain {
        return inside.into();
    }
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            chars.next();
        }
        text.push(c);
    }
    text.into()
}

#[cfg(test)]
mod tests;
