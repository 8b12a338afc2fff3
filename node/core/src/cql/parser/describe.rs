//! How `DESCRIBE` is read.

use super::{Outcome, Parser, Sign, Word, is_ident};
use crate::cql::ast::{Describe, Described, QualifiedName};

/// What a name is the name of.
type Thing = fn(QualifiedName) -> Described;

impl Parser<'_> {
    /// What stands behind `DESCRIBE`.
    pub(super) fn describe(&mut self) -> Outcome<Describe> {
        let what = match self.described_word()? {
            Some(what) => what,
            None => self.described_thing()?,
        };
        let with_internals = self.eat_word(Word::With)?;
        if with_internals {
            self.expect_word(Word::Internals)?;
        }
        Ok(Describe { what, with_internals })
    }

    /// What one word asks for, or two that name nothing.
    fn described_word(&mut self) -> Outcome<Option<Described>> {
        let words = [
            (Word::Cluster, Described::Cluster),
            (Word::Keyspaces, Described::Keyspaces),
            (Word::Tables, Described::Tables),
            (Word::Columnfamilies, Described::Tables),
            (Word::Types, Described::Types),
            (Word::Functions, Described::Functions),
            (Word::Aggregates, Described::Aggregates),
        ];
        // A keyspace may be called like one of them.
        if !self.peek_is_sign(Sign::Point)
            && let Some((_, what)) = words.into_iter().find(|(word, _)| self.at_word(*word))
        {
            self.advance()?;
            return Ok(Some(what));
        }
        if self.eat_word(Word::Schema)? {
            return Ok(Some(Described::Schema { full: false }));
        }
        if self.eat_word(Word::Full)? {
            self.expect_word(Word::Schema)?;
            return Ok(Some(Described::Schema { full: true }));
        }
        Ok(None)
    }

    /// What is asked for by its name.
    fn described_thing(&mut self) -> Outcome<Described> {
        let only = self.at_word(Word::Only) && self.peek_is_word(Word::Keyspace);
        if only {
            self.advance()?;
        }
        if self.eat_word(Word::Keyspace)? {
            let named = self.at_ident();
            let keyspace = if named { Some(self.ident("the name of a keyspace")?) } else { None };
            return Ok(Described::Keyspace { keyspace, only });
        }
        if self.eat_table_word()? {
            return self.qualified_name("the name of a table").map(Described::Table);
        }
        if self.eat_word(Word::Index)? {
            return self.qualified_name("the name of an index").map(Described::Index);
        }
        if self.eat_word(Word::Materialized)? {
            self.expect_word(Word::View)?;
            return self.qualified_name("the name of a view").map(Described::MaterializedView);
        }
        let kinds: [(_, _, Thing); 3] = [
            (Word::Type, "the name of a type", Described::Type),
            (Word::Function, "the name of a function", Described::Function),
            (Word::Aggregate, "the name of an aggregate", Described::Aggregate),
        ];
        for (word, expected, thing) in kinds {
            // A table may be called like one of them; then no name follows.
            if self.at_word(word) && self.name_follows() {
                self.advance()?;
                return self.qualified_name(expected).map(thing);
            }
        }
        self.qualified_name("what to describe (CLUSTER, KEYSPACES, TABLES, TABLE and a name, …)")
            .map(Described::Named)
    }

    fn name_follows(&self) -> bool {
        let mut ahead = self.lexer;
        ahead.next().is_ok_and(is_ident)
    }
}
