//! What is wrong with a scenario, and where: file, line, column, and the nearest known word.

use helenus_node::config::did_you_mean;
use std::fmt;
use std::ops::Range;

/// One thing that is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// Everything that is wrong with one scenario file. Never empty when it is returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The name of the file as the user gave it.
    pub file: String,
    /// In the order of the text.
    pub all: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.all.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            let Problem { line, column, message } = problem;
            write!(f, "{}:{line}:{column}: {message}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Gathers problems while a text is read, so that one run names them all.
pub(super) struct Collector<'t> {
    file: &'t str,
    text: &'t str,
    found: Vec<(usize, String)>,
}

impl<'t> Collector<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Collector<'t> {
        Collector { file, text, found: Vec::new() }
    }

    /// Notes that the text at `span` is wrong.
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.found.push((span.start, message.into()));
    }

    pub(super) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_problems(mut self) -> Problems {
        self.found.sort();
        self.found.dedup();
        let all = self
            .found
            .into_iter()
            .map(|(offset, message)| {
                let (line, column) = position(self.text, offset);
                Problem { line, column, message }
            })
            .collect();
        Problems { file: self.file.to_owned(), all }
    }
}

/// The line and the column of a byte offset, both counted from 1. An offset past the end, or inside a character, is
/// taken as the nearest place before it.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

/// "unknown `what` `word`" with the nearest known word, or all of them when none is near.
pub(super) fn unknown<'k>(
    what: &str,
    word: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> String {
    match did_you_mean(word, known.clone()) {
        Some(near) => format!("unknown {what} `{word}`; did you mean `{near}`?"),
        None => {
            let words: Vec<String> = known.into_iter().map(|k| format!("`{k}`")).collect();
            format!("unknown {what} `{word}`; known: {}", words.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "ab\nc\u{e9}d\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 3), (2, 1));
        assert_eq!(position(text, 6), (2, 3));
        // Inside the two bytes of the accented letter.
        assert_eq!(position(text, 5), (2, 2));
        assert_eq!(position(text, 999), (3, 1));
    }

    #[test]
    fn the_nearest_word_is_named_only_when_it_is_near() {
        let told = |word| unknown("key", word, ["because", "claimed"]);
        assert_eq!(told("becuase"), "unknown key `becuase`; did you mean `because`?");
        assert_eq!(told("xyz"), "unknown key `xyz`; known: `because`, `claimed`");
    }
}
