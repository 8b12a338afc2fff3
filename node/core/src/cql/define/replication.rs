//! The properties of keyspaces.

use super::{DefineError, entries, nearest, shortened, value_text};
use crate::cql::ast::Property;
use crate::hint::Overflow;
use crate::schema::Replication;
use crate::types::Dc;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// What `CREATE KEYSPACE` says, apart from the keyspace's name.
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

/// The keyspace that these properties describe.
///
/// # Errors
/// There is no replication, or a property is unknown or cannot have its value.
pub fn keyspace(properties: &[Property]) -> Result<KeyspaceParts, DefineError> {
    let mut replicated = None;
    let (mut hint_overflow, mut warnings) = (None, Vec::new());
    for property in properties {
        match property.name.as_str() {
            "replication" => replicated = Some(replication(property)?),
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

fn replication(property: &Property) -> Result<Replication, DefineError> {
    let mut entries = entries(property, EXAMPLE)?;
    let Some(at) = entries.iter().position(|(key, _)| key == "class") else {
        let (map, key) = ("replication", "class");
        return Err(DefineError::MissingKey { map, key, example: EXAMPLE });
    };
    let (_, class) = entries.remove(at);
    match class.strip_prefix("org.apache.cassandra.locator.").unwrap_or(&class) {
        "SimpleStrategy" => simple(&entries),
        "NetworkTopologyStrategy" => network_topology(entries),
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

fn network_topology(entries: Vec<(String, String)>) -> Result<Replication, DefineError> {
    let mut per_dc = BTreeMap::new();
    for (dc, value) in entries {
        // Which data centres there are, only the ring knows: the text of a statement must mean the same on every node.
        if dc == "replication_factor" {
            return Err(DefineError::AutoExpansion);
        }
        let rf = factor(&dc, &value)?;
        per_dc.insert(Dc::from(dc), rf);
    }
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
