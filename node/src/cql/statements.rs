//! Prepared statements of this node: any connection may execute what another one has prepared.

use crate::schema::SchemaView;
use bytes::Bytes;
use helenus_core::cql::plan::Plan;
use helenus_core::cql::{Parsed, SyntaxError, parse};
use helenus_proto::cql::ColumnSpec;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use xxhash_rust::xxh3::xxh3_128;

/// Statements that are remembered.
pub(super) const STATEMENTS_MAX: usize = 10_000;
/// Bytes of their texts.
pub(super) const STATEMENTS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of one.
pub(super) const PREPARED_BYTES_MAX: usize = 1024 * 1024;

/// A statement that is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) text: String,
    /// Where its names without a keyspace belong.
    pub(super) keyspace: Option<Arc<str>>,
    pub(super) parsed: Parsed,
    /// What it meant when it was last asked for.
    pub(super) planned: Mutex<Option<Arc<Planned>>>,
    /// What it meant when it was prepared, and clients were told of it.
    pub(super) told: OnceLock<Arc<Planned>>,
}

impl Known {
    pub(super) fn new(text: String, keyspace: Option<Arc<str>>) -> Result<Known, SyntaxError> {
        let parsed = parse(&text)?;
        Ok(Known { text, keyspace, parsed, planned: Mutex::default(), told: OnceLock::new() })
    }
}

/// What a statement means by one schema.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) schema: Arc<SchemaView>,
    pub(super) plan: Plan,
    pub(super) markers: Arc<[Arc<ColumnSpec>]>,
    /// Of the result; none if it has no rows.
    pub(super) columns: Option<Arc<[Arc<ColumnSpec>]>>,
    /// Names `columns`, once somebody asks.
    metadata_id: OnceLock<Bytes>,
}

impl Planned {
    pub(super) fn new(schema: Arc<SchemaView>, plan: Plan) -> Planned {
        let markers = Arc::clone(plan.shared_markers());
        let columns = match &plan {
            Plan::Select(select) => Some(Arc::clone(select.shared_columns())),
            Plan::Modify(_) | Plan::Batch(_) => None,
        };
        Planned { schema, plan, markers, columns, metadata_id: OnceLock::new() }
    }

    /// The name of the result's columns: of v5, where clients say which description of them they hold. Whoever sends a
    /// statement's text holds none.
    pub(super) fn metadata_id(&self) -> &Bytes {
        self.metadata_id.get_or_init(|| {
            let described = format!("{:?}", self.columns);
            Bytes::copy_from_slice(&xxh3_128(described.as_bytes()).to_be_bytes())
        })
    }
}

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct Statements {
    known: BTreeMap<Bytes, (Arc<Known>, u64)>,
    /// Of their texts.
    bytes: usize,
    uses: u64,
}

/// The id of a statement: the same on every node, as drivers expect.
pub(super) fn id_of(keyspace: Option<&str>, text: &str) -> Bytes {
    let named = format!("{}\0{text}", keyspace.unwrap_or(""));
    Bytes::copy_from_slice(&xxh3_128(named.as_bytes()).to_be_bytes())
}

impl Statements {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The statement of this id.
    pub(super) fn find(&mut self, id: &Bytes) -> Option<Arc<Known>> {
        self.uses += 1;
        let (known, used) = self.known.get_mut(id)?;
        *used = self.uses;
        Some(Arc::clone(known))
    }

    /// Forgets a statement.
    pub(super) fn forget(&mut self, id: &Bytes) {
        if let Some((known, _)) = self.known.remove(id) {
            self.bytes -= known.text.len();
        }
    }

    /// Remembers a statement; gives how many others were forgotten for it. `Err`: another statement has this id.
    pub(super) fn remember(&mut self, id: &Bytes, known: Arc<Known>) -> Result<u64, ()> {
        self.uses += 1;
        if let Some((was, _)) = self.known.get(id)
            && (was.text != known.text || was.keyspace != known.keyspace)
        {
            return Err(());
        }
        self.forget(id);
        self.bytes += known.text.len();
        self.known.insert(id.clone(), (known, self.uses));
        let mut forgotten = 0;
        while self.known.len() > STATEMENTS_MAX || self.bytes > STATEMENTS_BYTES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { break };
            self.forget(&oldest);
            forgotten += 1;
        }
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A statement that says `text` in a comment.
    fn known(text: &str) -> Arc<Known> {
        Arc::new(Known::new(format!("USE ks /* {text} */"), None).unwrap())
    }

    #[test]
    fn the_statement_that_was_not_used_for_longest_is_forgotten() {
        let mut statements = Statements::default();
        let id = |nth: usize| id_of(None, &nth.to_string());
        for nth in 0..STATEMENTS_MAX {
            assert_eq!(statements.remember(&id(nth), known(&nth.to_string())), Ok(0));
        }
        assert!(statements.find(&id(0)).is_some());
        assert_eq!(statements.remember(&id(STATEMENTS_MAX), known("one more")), Ok(1));
        assert_eq!(statements.len(), STATEMENTS_MAX);
        assert!(statements.find(&id(0)).is_some(), "it was used");
        assert!(statements.find(&id(1)).is_none());
    }

    #[test]
    fn large_statements_are_fewer() {
        let mut statements = Statements::default();
        let large = "x".repeat(PREPARED_BYTES_MAX);
        let mut forgotten = 0;
        for nth in 0..40 {
            let text = format!("{nth}{large}");
            forgotten += statements.remember(&id_of(None, &text), known(&text)).unwrap();
        }
        assert!((30..=32).contains(&statements.len()), "{}", statements.len());
        assert_eq!(forgotten + statements.len() as u64, 40);
    }

    #[test]
    fn two_statements_of_one_id_are_kept_apart() {
        let mut statements = Statements::default();
        let id = id_of(Some("ks"), "SELECT");
        assert_ne!(id, id_of(None, "SELECT"));
        assert_eq!(statements.remember(&id, known("a")), Ok(0));
        assert_eq!(statements.remember(&id, known("a")), Ok(0));
        assert_eq!(statements.remember(&id, known("b")), Err(()));
    }
}
