//! Why a text is not a statement: where it goes wrong, what stands there, and what could stand there instead.

use std::fmt;
use thiserror::Error;

/// A place in a statement, as Cassandra counts: lines from 1, columns from 0, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The first line is 1.
    pub line: usize,
    /// The first character of a line is 0.
    pub column: usize,
}

impl Position {
    /// Where the byte at `offset` stands. Only errors ask, so that a statement without one never counts its lines.
    pub(super) fn of(text: &str, offset: usize) -> Position {
        let bytes = text.as_bytes();
        let before = bytes.get(..offset.min(bytes.len())).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A byte that continues a character of UTF-8 is no character of its own.
        let starts = before.iter().skip(last).filter(|byte| **byte & 0xc0 != 0x80);
        Position { line, column: starts.count() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}:{}", self.line, self.column)
    }
}

/// What stands where something else was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This text, cut if it is long.
    Text(String),
    /// Nothing more.
    End,
}

impl Found {
    /// Characters of the text that are told.
    const CHARS_MAX: usize = 40;

    /// The text as it is told.
    pub(super) fn text(text: &str) -> Found {
        let mut told: String = text.chars().take(Found::CHARS_MAX).collect();
        if told.len() < text.len() {
            told.push('…');
        }
        Found::Text(told)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Text(text) => write!(f, "`{text}`"),
            Found::End => f.write_str("the end of the statement"),
        }
    }
}

/// What every rule of the parser gives. The error is boxed, so that what is right, which is nearly all, stays small.
pub(super) type Outcome<T> = Result<T, Box<SyntaxError>>;

impl From<Box<SyntaxError>> for SyntaxError {
    fn from(boxed: Box<SyntaxError>) -> SyntaxError {
        *boxed
    }
}

/// Why a text is not a statement of CQL. Clients are told with the protocol's error 0x2000.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// Something else was expected here.
    #[error("{at} found {found}, expected {expected}")]
    Unexpected {
        /// Where.
        at: Position,
        /// What stands there.
        found: Found,
        /// What could stand there.
        expected: &'static str,
    },
    /// Nothing but blanks and comments.
    #[error("{at} there is no statement")]
    Empty {
        /// Where it ends.
        at: Position,
    },
    /// No statement begins like this.
    #[error(
        "{at} no statement begins with {found}{}; statements are: SELECT INSERT UPDATE DELETE BEGIN BATCH USE \
         TRUNCATE CREATE ALTER DROP DESCRIBE",
        nearest.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
    )]
    NoStatement {
        /// Where.
        at: Position,
        /// What stands there.
        found: Found,
        /// The word that was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// A string, a quoted name or a comment that begins and does not end.
    #[error("{at} {what} begins and never ends: close it with {until}")]
    Unterminated {
        /// Where it begins.
        at: Position,
        /// What begins.
        what: &'static str,
        /// What would end it.
        until: &'static str,
    },
    /// A character that no part of CQL begins with.
    #[error("{at} the character `{}` means nothing here; text belongs in '…'", found.escape_debug())]
    Character {
        /// Where.
        at: Position,
        /// The character.
        found: char,
    },
    /// Two hexadecimal digits are a byte; one is none.
    #[error(
        "{at} the blob {found} has an odd number of hexadecimal digits: write two for each byte"
    )]
    OddBlob {
        /// Where the blob begins.
        at: Position,
        /// The blob.
        found: Found,
    },
    /// A whole number that its place cannot hold.
    #[error("{at} {found} does not fit in 64 bits")]
    Integer {
        /// Where.
        at: Position,
        /// The number.
        found: Found,
    },
    /// Well-formed, but not allowed.
    #[error("{at} {why}")]
    Refused {
        /// Where.
        at: Position,
        /// The reason, a sentence without its point.
        why: String,
    },
    /// Collections, types, calls or parentheses within each other, or one expression's operators.
    #[error(
        "{at} nested too deeply: an expression or a type has at most {depth_max} levels and operators; \
         bind what is inside as a value"
    )]
    TooDeep {
        /// Where the limit was passed.
        at: Position,
        /// The limit.
        depth_max: usize,
    },
    /// More text than is read at all.
    #[error(
        "the statement has {bytes} bytes, at most {bytes_max} are read: bind values instead of writing them out"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More words and signs than are read at all.
    #[error(
        "{at} the statement has more than {tokens_max} words and signs: bind values, or send it in parts"
    )]
    TooManyTokens {
        /// Where the limit was passed.
        at: Position,
        /// The limit.
        tokens_max: usize,
    },
    /// More markers than the protocol can count.
    #[error("{at} a statement has at most {markers_max} bind markers")]
    TooManyMarkers {
        /// Where the limit was passed.
        at: Position,
        /// The limit.
        markers_max: usize,
    },
}
