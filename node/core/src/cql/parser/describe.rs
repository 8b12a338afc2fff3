//! How `DESCRIBE` is read.

use super::{Outcome, Parser, Sign};
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
        let with_internals = self.eat_word("WITH")?;
        if with_internals {
            self.expect_word("INTERNALS")?;
        }
        Ok(Describe { what, with_internals })
    }

    /// What one word asks for, or two that name nothing.
    fn described_word(&mut self) -> Outcome<Option<Described>> {
        let words = [
            ("CLUSTER", Described::Cluster),
            ("KEYSPACES", Described::Keyspaces),
            ("TABLES", Described::Tables),
            ("COLUMNFAMILIES", Described::Tables),
            ("TYPES", Described::Types),
            ("FUNCTIONS", Described::Functions),
            ("AGGREGATES", Described::Aggregates),
        ];
        // A keyspace may be called like one of them.
        if !self.peek_is_sign(Sign::Point)
            && let Some((_, what)) = words.into_iter().find(|(word, _)| self.at_word(word))
        {
            self.advance()?;
            return Ok(Some(what));
        }
        if self.eat_word("SCHEMA")? {
            return Ok(Some(Described::Schema { full: false }));
        }
        if self.eat_word("FULL")? {
            self.expect_word("SCHEMA")?;
            return Ok(Some(Described::Schema { full: true }));
        }
        Ok(None)
    }

    /// What is asked for by its name.
    fn described_thing(&mut self) -> Outcome<Described> {
        let only = self.at_word("ONLY") && self.peek_is_word("KEYSPACE");
        if only {
            self.advance()?;
        }
        if self.eat_word("KEYSPACE")? {
            let named = self.at_ident();
            let keyspace = if named { Some(self.ident("the name of a keyspace")?) } else { None };
            return Ok(Described::Keyspace { keyspace, only });
        }
        if self.eat_table_word()? {
            return self.qualified_name("the name of a table").map(Described::Table);
        }
        if self.eat_word("INDEX")? {
            return self.qualified_name("the name of an index").map(Described::Index);
        }
        if self.eat_word("MATERIALIZED")? {
            self.expect_word("VIEW")?;
            return self.qualified_name("the name of a view").map(Described::MaterializedView);
        }
        let kinds: [(_, _, Thing); 3] = [
            ("TYPE", "the name of a type", Described::Type),
            ("FUNCTION", "the name of a function", Described::Function),
            ("AGGREGATE", "the name of an aggregate", Described::Aggregate),
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
        ahead.next().is_ok_and(|token| self.is_ident(token))
    }
}
