//! Text becomes tokens, one when it is asked for: no list of them is kept, so a long statement costs no more than its tree.
//!
//! Keywords are words like others, because nearly all of them are names too; the parser knows which it wants where. A minus
//! is a token of its own, so that `c = c -1` is read as it is meant; the parser joins it with the number behind it.
//!
//! Source: the lexical rules of CQL 3.4.6.

use super::error::{Found, Outcome, Position, SyntaxError};
use super::words::Word;

/// A piece of the text: `text[start..end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Of a [`Kind::Word`]: which one of CQL's it is, if it is one.
    pub(super) word: Option<Word>,
    /// Whether it means what stands there, letter for letter: a word without capitals, or what is in quotes if there are no
    /// two of them for one.
    pub(super) is_plain: bool,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a keyword, as written.
    Word,
    /// `"…"`, quotes included and not yet undone; not empty.
    QuotedName,
    /// `'…'`, quotes included and not yet undone.
    String,
    /// `$$…$$`, dollars included.
    DollarString,
    /// Decimal digits.
    Integer,
    /// Digits with a point or an exponent.
    Float,
    /// `1h30m`, `PT1H30M`.
    Duration,
    /// 36 characters.
    Uuid,
    /// `0x…`, an even number of digits.
    Blob,
    /// A sign: `(`, `<=`, `?`.
    Sign(Sign),
    /// Behind the last token; empty.
    End,
}

macro_rules! signs {
    ($($name:ident $written:literal)*) => {
        /// A sign.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Sign { $($name,)* }

        impl Sign {
            /// The sign between backticks, as it is told when it is expected.
            pub(super) fn expected(self) -> &'static str {
                match self { $(Sign::$name => concat!("`", $written, "`"),)* }
            }

            /// What it begins with.
            pub(super) fn first_byte(self) -> Option<u8> {
                match self { $(Sign::$name => $written.as_bytes().first().copied(),)* }
            }
        }
    };
}

signs! {
    ParenOpen "(" ParenClose ")" BracketOpen "[" BracketClose "]" BraceOpen "{" BraceClose "}"
    Comma "," Semicolon ";" Colon ":" Question "?" Point "." Range ".."
    Eq "=" NotEq "!=" Lt "<" LtEq "<=" Gt ">" GtEq ">="
    Plus "+" PlusEq "+=" Minus "-" MinusEq "-=" Star "*" Slash "/" Percent "%"
}

/// Where the lexer is. A copy of it looks ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    /// The text of a token.
    pub(super) fn text(&self, token: Token) -> &'a str {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        Position::of(self.text, offset)
    }

    /// What the next token begins with. Quicker than to read it, if that is enough to know that it is not the one.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        self.skip_blanks().ok()?;
        self.byte(0)
    }

    /// The next token; at the end, [`Kind::End`] again and again.
    pub(super) fn next(&mut self) -> Outcome<Token> {
        self.skip_blanks()?;
        let start = self.at;
        let (mut word, mut is_plain) = (None, true);
        let Some(first) = self.byte(0) else {
            return Ok(Token { kind: Kind::End, word, is_plain, start, end: start });
        };
        let kind = match Start::of(first) {
            Start::Sign(sign) => {
                self.at += 1;
                Kind::Sign(sign)
            }
            Start::HexLetter | Start::Digit if self.at_uuid() => {
                self.at += UUID.len();
                Kind::Uuid
            }
            Start::HexLetter | Start::Letter => self.word(first, &mut word, &mut is_plain),
            Start::Digit => self.number(first)?,
            Start::Quote => {
                is_plain = self.quoted(first, "the string", "'")?;
                Kind::String
            }
            Start::DoubleQuote => {
                is_plain = self.quoted(first, "the quoted name", "\"")?;
                if self.at == start + 2 {
                    let (at, why) = (self.position(start), "a name cannot be empty".to_owned());
                    return Err(Box::new(SyntaxError::Refused { at, why }));
                }
                Kind::QuotedName
            }
            Start::Other if first == b'$' && self.byte(1) == Some(b'$') => self.dollar_string()?,
            Start::Other => Kind::Sign(self.sign(first)?),
        };
        Ok(Token { kind, word, is_plain, start, end: self.at })
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// The text from here, `ahead` bytes on.
    fn rest(&self, ahead: usize) -> &'a [u8] {
        self.text.as_bytes().get(self.at + ahead..).unwrap_or_default()
    }

    fn at_uuid(&self) -> bool {
        // Most words and numbers have no hyphen there.
        self.byte(8) == Some(b'-') && has_form(self.rest(0), UUID)
    }

    /// Past blanks and comments.
    #[inline]
    fn skip_blanks(&mut self) -> Outcome<()> {
        let bytes = self.text.as_bytes();
        loop {
            let mut at = self.at;
            while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
                at += 1;
            }
            self.at = at;
            if !matches!(bytes.get(at), Some(b'-' | b'/')) || !self.skip_comment()? {
                return Ok(());
            }
        }
    }

    /// Past a comment, if one begins here.
    fn skip_comment(&mut self) -> Outcome<bool> {
        match (self.byte(0), self.byte(1)) {
            (Some(b'-'), Some(b'-')) | (Some(b'/'), Some(b'/')) => {
                let rest = self.rest(0);
                let line = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                self.at += line.unwrap_or(rest.len());
                Ok(true)
            }
            (Some(b'/'), Some(b'*')) => {
                let inside = self.rest(2);
                let Some(length) = inside.windows(2).position(|two| two == b"*/") else {
                    return Err(self.unterminated("the comment", "*/"));
                };
                self.at += length + 4;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn unterminated(&self, what: &'static str, until: &'static str) -> Box<SyntaxError> {
        Box::new(SyntaxError::Unterminated { at: self.position(self.at), what, until })
    }

    fn word(&mut self, first: u8, word: &mut Option<Word>, is_plain: &mut bool) -> Kind {
        let rest = self.rest(0);
        if first == b'P' && has_form(rest, DURATION) {
            self.at += DURATION.len();
            return Kind::Duration;
        }
        let (mut length, mut capitals) = (0, 0);
        for byte in rest {
            let class = class_in_word(*byte);
            if class == NO_WORD {
                break;
            }
            capitals |= class & CAPITAL;
            length += 1;
        }
        self.at += length;
        *is_plain = capitals == 0;
        let written = rest.get(..length).unwrap_or_default();
        if first == b'P' && is_iso_duration(written) {
            return Kind::Duration;
        }
        *word = Word::of(written);
        Kind::Word
    }

    fn number(&mut self, first: u8) -> Outcome<Kind> {
        if first == b'0' && matches!(self.byte(1), Some(b'x' | b'X')) {
            return self.blob();
        }
        let digits = count_digits(self.rest(0));
        if let Some(length) = duration_length(self.rest(digits)) {
            self.at += digits + length;
            return Ok(Kind::Duration);
        }
        self.at += digits;
        let mut kind = Kind::Integer;
        // `1..2` is a range of two integers; `1...2` is a range that begins with `1.`.
        let range = self.byte(1) == Some(b'.') && self.byte(2) != Some(b'.');
        if self.byte(0) == Some(b'.') && !range {
            self.at += 1 + count_digits(self.rest(1));
            kind = Kind::Float;
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(1), Some(b'+' | b'-')));
            let digits = count_digits(self.rest(1 + sign));
            if digits > 0 {
                self.at += 1 + sign + digits;
                kind = Kind::Float;
            }
        }
        Ok(kind)
    }

    fn blob(&mut self) -> Outcome<Kind> {
        let start = self.at;
        let digits = self.rest(2);
        let length = digits.iter().position(|byte| !byte.is_ascii_hexdigit());
        let length = length.unwrap_or(digits.len());
        self.at += 2 + length;
        if length % 2 == 0 {
            return Ok(Kind::Blob);
        }
        let found = Found::text(self.text.get(start..self.at).unwrap_or_default());
        Err(Box::new(SyntaxError::OddBlob { at: self.position(start), found }))
    }

    /// Text between two quotes; two quotes within it stand for one. Gives whether there are none of those.
    fn quoted(&mut self, quote: u8, what: &'static str, until: &'static str) -> Outcome<bool> {
        let (mut inside, mut is_plain) = (1, true);
        loop {
            let Some(length) = self.rest(inside).iter().position(|byte| *byte == quote) else {
                return Err(self.unterminated(what, until));
            };
            inside += length + 1;
            if self.byte(inside) != Some(quote) {
                break;
            }
            inside += 1;
            is_plain = false;
        }
        self.at += inside;
        Ok(is_plain)
    }

    fn dollar_string(&mut self) -> Outcome<Kind> {
        let Some(length) = self.rest(2).windows(2).position(|two| two == b"$$") else {
            return Err(self.unterminated("the string", "$$"));
        };
        self.at += length + 4;
        Ok(Kind::DollarString)
    }

    /// A sign that may be another one with what follows it; no other token begins so.
    fn sign(&mut self, first: u8) -> Outcome<Sign> {
        let equals = self.byte(1) == Some(b'=');
        let (sign, length) = match first {
            b'.' if self.byte(1) == Some(b'.') => (Sign::Range, 2),
            b'.' => (Sign::Point, 1),
            b'!' if equals => (Sign::NotEq, 2),
            b'<' if equals => (Sign::LtEq, 2),
            b'<' => (Sign::Lt, 1),
            b'>' if equals => (Sign::GtEq, 2),
            b'>' => (Sign::Gt, 1),
            b'+' if equals => (Sign::PlusEq, 2),
            b'+' => (Sign::Plus, 1),
            b'-' if equals => (Sign::MinusEq, 2),
            b'-' => (Sign::Minus, 1),
            b'/' => (Sign::Slash, 1),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let found = rest.chars().next().unwrap_or_default();
                return Err(Box::new(SyntaxError::Character { at: self.position(self.at), found }));
            }
        };
        self.at += length;
        Ok(sign)
    }
}

/// What a token is that begins with a byte.
#[derive(Clone, Copy)]
enum Start {
    /// A word.
    Letter,
    /// A word, or a UUID.
    HexLetter,
    /// A number, a UUID, a blob or a duration.
    Digit,
    Quote,
    DoubleQuote,
    /// This sign, whatever follows.
    Sign(Sign),
    Other,
}

impl Start {
    /// Looked up, so that it takes as long for the last kind as for the first.
    fn of(first: u8) -> Start {
        const STARTS: [Start; 256] = {
            let mut starts = [Start::Other; 256];
            let (mut byte, mut left): (u8, &mut [Start]) = (0, &mut starts);
            while let [start, others @ ..] = left {
                *start = Start::begun_by(byte);
                (byte, left) = (byte.wrapping_add(1), others);
            }
            starts
        };
        STARTS.get(usize::from(first)).copied().unwrap_or(Start::Other)
    }

    const fn begun_by(first: u8) -> Start {
        match first {
            b'a'..=b'f' | b'A'..=b'F' => Start::HexLetter,
            b'a'..=b'z' | b'A'..=b'Z' => Start::Letter,
            b'0'..=b'9' => Start::Digit,
            b'\'' => Start::Quote,
            b'"' => Start::DoubleQuote,
            b'(' => Start::Sign(Sign::ParenOpen),
            b')' => Start::Sign(Sign::ParenClose),
            b'[' => Start::Sign(Sign::BracketOpen),
            b']' => Start::Sign(Sign::BracketClose),
            b'{' => Start::Sign(Sign::BraceOpen),
            b'}' => Start::Sign(Sign::BraceClose),
            b',' => Start::Sign(Sign::Comma),
            b';' => Start::Sign(Sign::Semicolon),
            b':' => Start::Sign(Sign::Colon),
            b'?' => Start::Sign(Sign::Question),
            b'=' => Start::Sign(Sign::Eq),
            b'*' => Start::Sign(Sign::Star),
            b'%' => Start::Sign(Sign::Percent),
            _ => Start::Other,
        }
    }
}

/// What a byte is in a word.
const NO_WORD: u8 = 0;
const SMALL: u8 = 1;
const CAPITAL: u8 = 2;

/// Looked up, since more bytes are in words than in anything else.
fn class_in_word(byte: u8) -> u8 {
    const CLASSES: [u8; 256] = {
        let mut classes = [NO_WORD; 256];
        let (mut byte, mut left): (u8, &mut [u8]) = (0, &mut classes);
        while let [class, others @ ..] = left {
            *class = match byte {
                b'A'..=b'Z' => CAPITAL,
                b'a'..=b'z' | b'0'..=b'9' | b'_' => SMALL,
                _ => NO_WORD,
            };
            (byte, left) = (byte.wrapping_add(1), others);
        }
        classes
    };
    CLASSES.get(usize::from(byte)).copied().unwrap_or(NO_WORD)
}

/// `0` is a hexadecimal digit, other characters are themselves.
const UUID: &[u8] = b"00000000-0000-0000-0000-000000000000";

/// `0` is a decimal digit, other characters are themselves.
const DURATION: &[u8] = b"P0000-00-00T00:00:00";

/// Whether the text begins with this form. A form with a `P` has decimal digits, one without has hexadecimal ones.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    let decimal = form.first() == Some(&b'P');
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' if decimal => byte.is_ascii_digit(),
        b'0' => byte.is_ascii_hexdigit(),
        _ => byte == form,
    };
    text.len() >= form.len() && text.iter().zip(form).all(fits)
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
}

/// How long the duration is whose first digits stand before this text, if a unit begins it: `h30m`.
fn duration_length(text: &[u8]) -> Option<usize> {
    let mut length = unit_length(text)?;
    loop {
        let more = text.get(length..).unwrap_or_default();
        let digits = count_digits(more);
        let unit = unit_length(more.get(digits..).unwrap_or_default());
        match unit {
            Some(unit) if digits > 0 => length += digits + unit,
            _ => return Some(length),
        }
    }
}

/// The longest unit of time that begins this text.
fn unit_length(text: &[u8]) -> Option<usize> {
    // The micro sign is two bytes of UTF-8.
    if text.starts_with("µs".as_bytes()) || text.starts_with("µS".as_bytes()) {
        return Some(3);
    }
    let lower = |at: usize| text.get(at).map(u8::to_ascii_lowercase);
    match (lower(0)?, lower(1)) {
        (b'm', Some(b'o' | b's')) | (b'u' | b'n', Some(b's')) => Some(2),
        (b'y' | b'w' | b'd' | b'h' | b'm' | b's', _) => Some(1),
        _ => None,
    }
}

/// `P1Y2M3D`, `P1DT2H`, `PT3M4S`, `P5W`: capitals, in this order, at least one, and one behind a `T`.
fn is_iso_duration(word: &[u8]) -> bool {
    let Some(word) = word.strip_prefix(b"P") else { return false };
    if let Some(weeks) = word.strip_suffix(b"W") {
        return !weeks.is_empty() && count_digits(weeks) == weeks.len();
    }
    let mut halves = word.splitn(2, |byte| *byte == b'T');
    let date = halves.next().and_then(|date| count_designated(date, b"YMD"));
    let time = halves.next().map(|time| count_designated(time, b"HMS"));
    match (date, time) {
        (Some(date), None) => date > 0,
        (Some(_), Some(Some(time))) => time > 0,
        _ => false,
    }
}

/// How many numbers with a designator behind them the text is made of, if they are in order.
fn count_designated(mut text: &[u8], mut designators: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !text.is_empty() {
        let digits = count_digits(text);
        let designator = text.get(digits)?;
        let nth = designators.iter().position(|known| known == designator)?;
        if digits == 0 {
            return None;
        }
        designators = designators.get(nth + 1..)?;
        text = text.get(digits + 1..)?;
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests;
