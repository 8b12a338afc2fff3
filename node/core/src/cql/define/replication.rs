//! The properties of keyspaces.

use super::{DefineError, entries, nearest, shortened, value_text};
use crate::cql::ast::Property;
use crate::hint::Overflow;
use crate::schema::{KeyspaceDef, Replication};
use crate::types::Dc;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// What `CREATE KEYSPACE` and `ALTER KEYSPACE` say, apart from the keyspace's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceParts {
    /// How often, and where.
    pub replication: Replication,
    /// `hint_overflow`, if it is set.
    pub hint_overflow: Option<Overflow>,
    /// What the client should hear of properties that have no effect, a sentence each.
    pub warnings: Vec<String>,
}

const PROPERTIES: [&str; 3] = ["replication", "durable_writes", "hint_overflow"];
const EXAMPLE: &str = "{'class': 'SimpleStrategy', 'replication_factor': 3}";

/// The keyspace that these properties describe; what they leave out is as it was in `before`, if there is one. `dcs` are
/// the data centres there are.
///
/// # Errors
/// There is no replication, or a property is unknown or cannot have its value.
pub fn keyspace(
    properties: &[Property],
    before: Option<&KeyspaceDef>,
    dcs: &BTreeSet<Dc>,
) -> Result<KeyspaceParts, DefineError> {
    let was = before.map(|before| &before.replication);
    let mut replicated = was.cloned();
    let mut hint_overflow = before.and_then(|before| before.hint_overflow);
    let mut warnings = Vec::new();
    for property in properties {
        match property.name.as_str() {
            "replication" => replicated = Some(replication(property, was, dcs)?),
            "durable_writes" => warnings.extend(durable_writes(property)?),
            "hint_overflow" => hint_overflow = Some(overflow(property)?),
            name => {
                let (name, nearest) = (shortened(name), nearest(name, PROPERTIES));
                return Err(DefineError::UnknownProperty { of: "keyspace", name, nearest });
            }
        }
    }
    let replication = replicated.ok_or(DefineError::NoReplication)?;
    Ok(KeyspaceParts { replication, hint_overflow, warnings })
}

fn replication(
    property: &Property,
    was: Option<&Replication>,
    dcs: &BTreeSet<Dc>,
) -> Result<Replication, DefineError> {
    let mut entries = entries(property, EXAMPLE)?;
    let Some(at) = entries.iter().position(|(key, _)| key == "class") else {
        let (map, key) = ("replication", "class");
        return Err(DefineError::MissingKey { map, key, example: EXAMPLE });
    };
    let (_, class) = entries.remove(at);
    match class.strip_prefix("org.apache.cassandra.locator.").unwrap_or(&class) {
        "SimpleStrategy" => simple(&entries),
        "NetworkTopologyStrategy" => network_topology(entries, was, dcs),
        _ => Err(DefineError::Value {
            name: "replication 'class'".to_owned(),
            value: shortened(&class),
            expected: "SimpleStrategy or NetworkTopologyStrategy".to_owned(),
        }),
    }
}

fn simple(entries: &[(String, String)]) -> Result<Replication, DefineError> {
    let mut rf = None;
    for (key, value) in entries {
        if key != "replication_factor" {
            return Err(DefineError::UnknownKey {
                map: "replication with SimpleStrategy",
                key: shortened(key),
                nearest: nearest(key, ["replication_factor"]),
            });
        }
        rf = Some(factor(key, value)?);
    }
    match rf {
        Some(rf) => Ok(Replication::Simple { rf }),
        None => {
            let (map, key) = ("replication with SimpleStrategy", "replication_factor");
            Err(DefineError::MissingKey { map, key, example: EXAMPLE })
        }
    }
}

/// `'replication_factor'` is for every data centre that has no factor of its own and had none before: which ones there are
/// is decided here, once, by the node that takes the statement (CASSANDRA-14303). 0 copies are none.
fn network_topology(
    entries: Vec<(String, String)>,
    was: Option<&Replication>,
    dcs: &BTreeSet<Dc>,
) -> Result<Replication, DefineError> {
    let mut everywhere = None;
    let mut per_dc: BTreeMap<Dc, Option<NonZeroU32>> = BTreeMap::new();
    for (dc, value) in entries {
        let copies = match value.trim() {
            "0" => None,
            _ => Some(factor(&dc, &value)?),
        };
        if dc == "replication_factor" {
            everywhere = Some(copies);
        } else if dcs.contains(&Dc::from(dc.as_str())) {
            per_dc.insert(Dc::from(dc), copies);
        } else {
            let known = dcs.iter().map(Dc::as_str).collect::<Vec<_>>().join(", ");
            return Err(DefineError::UnknownDc { dc: shortened(&dc), known });
        }
    }
    match was {
        // As many as there were, if nothing else is said.
        Some(Replication::Simple { rf }) if per_dc.is_empty() && everywhere.is_none() => {
            everywhere = Some(Some(*rf));
        }
        Some(Replication::NetworkTopology { per_dc: were }) if everywhere.is_some() => {
            for (dc, rf) in were {
                per_dc.entry(dc.clone()).or_insert(Some(*rf));
            }
        }
        _ => {}
    }
    if let Some(copies) = everywhere {
        for dc in dcs {
            per_dc.entry(dc.clone()).or_insert(copies);
        }
    }
    let per_dc = per_dc.into_iter().filter_map(|(dc, copies)| Some((dc, copies?)));
    let per_dc: BTreeMap<Dc, NonZeroU32> = per_dc.collect();
    if per_dc.is_empty() {
        return Err(DefineError::NoDataCentre);
    }
    Ok(Replication::NetworkTopology { per_dc })
}

fn factor(key: &str, value: &str) -> Result<NonZeroU32, DefineError> {
    value.trim().parse().map_err(|_| DefineError::Value {
        name: format!("the replication factor '{}'", shortened(key)),
        value: shortened(value),
        expected: format!("a whole number from 1 to {}", u32::MAX),
    })
}

/// A warning, if there is a reason for one: nothing is written without the commit log.
fn durable_writes(property: &Property) -> Result<Option<String>, DefineError> {
    let value = value_text(&property.value);
    if value.eq_ignore_ascii_case("true") {
        return Ok(None);
    }
    if value.eq_ignore_ascii_case("false") {
        let warning =
            "durable_writes = false has no effect: every write goes through the commit log";
        return Ok(Some(warning.to_owned()));
    }
    Err(DefineError::Value {
        name: "durable_writes".to_owned(),
        value: shortened(&value),
        expected: "true or false".to_owned(),
    })
}

fn overflow(property: &Property) -> Result<Overflow, DefineError> {
    let value = value_text(&property.value);
    Overflow::parse(&value).ok_or_else(|| DefineError::Value {
        name: "hint_overflow".to_owned(),
        value: shortened(&value),
        expected: Overflow::NAMES.map(|(name, _)| format!("'{name}'")).join(", "),
    })
}
