//! The properties of tables.

use super::{DefineError, entries, nearest, shortened, value_text};
use crate::cql::ast::Property;
use crate::schema::TableOptions;

/// The properties that Cassandra knows and that change nothing here. With those that somebody may count on stands why they
/// change nothing, and the value that nobody counts on.
const WITHOUT_EFFECT: [(&str, Option<(&str, &str)>); 16] = [
    ("additional_write_policy", None),
    ("allow_auto_snapshot", None),
    ("caching", None),
    // Only `false` comes here.
    ("cdc", None),
    ("comment", Some(("", "comments are not kept"))),
    ("crc_check_chance", None),
    ("dclocal_read_repair_chance", None),
    ("extensions", None),
    ("id", Some(("", "every table that is created gets an id of its own"))),
    ("incremental_backups", None),
    ("max_index_interval", None),
    ("memtable", None),
    ("memtable_flush_period_in_ms", Some(("0", "memtables are not flushed by the clock"))),
    ("min_index_interval", None),
    ("read_repair_chance", None),
    ("speculative_retry", None),
];

/// Keys of `compaction` that change nothing here, as above.
const COMPACTION_WITHOUT_EFFECT: [(&str, Option<(&str, &str)>); 8] = [
    ("enabled", Some(("true", "compaction is not turned off for one table"))),
    ("expired_sstable_check_frequency_seconds", None),
    ("log_all", None),
    (
        "only_purge_repaired_tombstones",
        Some(("false", "tombstones are dropped after gc_grace_seconds, repaired or not")),
    ),
    ("provide_overlapping_tombstones", None),
    ("single_sstable_uplevel", None),
    ("timestamp_resolution", Some(("MICROSECONDS", "timestamps are microseconds"))),
    (
        "unsafe_aggressive_sstable_expiration",
        Some(("false", "SSTables that others overlap are not dropped for their age alone")),
    ),
];

/// Keys of `compression` that change nothing here: what a block is like is the engine's own.
const COMPRESSION_WITHOUT_EFFECT: [&str; 8] = [
    "chunk_length_in_kb",
    "chunk_length_kb",
    "compression_level",
    "crc_check_chance",
    "lz4_compressor_type",
    "lz4_high_compressor_level",
    "max_compressed_length",
    "min_compress_ratio",
];

const COMPACTION_EXAMPLE: &str = "{'class': 'SizeTieredCompactionStrategy'}";
const COMPRESSION_EXAMPLE: &str = "{'class': 'LZ4Compressor'}";

/// `from` with these properties set: `CREATE TABLE` starts from the defaults, `ALTER TABLE … WITH` from what there is. As in
/// Cassandra, `compaction` replaces all that was set of it before. Adds a warning for each property that has no effect and
/// that somebody may count on.
///
/// # Errors
/// A property is unknown or cannot have its value, or two contradict each other.
pub fn options(
    from: TableOptions,
    properties: &[Property],
    warnings: &mut Vec<String>,
) -> Result<TableOptions, DefineError> {
    let mut options = from;
    for property in properties {
        set(&mut options, property, warnings)?;
    }
    options.check()?;
    Ok(options)
}

fn set(
    options: &mut TableOptions,
    property: &Property,
    warnings: &mut Vec<String>,
) -> Result<(), DefineError> {
    let name = property.name.as_str();
    match name {
        "compaction" => return compaction(options, property, warnings),
        "compression" => return compression(options, property, warnings),
        _ => {}
    }
    let value = value_text(&property.value);
    if name == "cdc" && !value.eq_ignore_ascii_case("false") {
        return Err(DefineError::Cdc);
    }
    if let Some((name, counted_on)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name) {
        warnings.extend(warning(name, *counted_on, &value));
        return Ok(());
    }
    // Those with a point in their names are keys of `compaction`.
    let known = TableOptions::default().to_map();
    let own: Vec<&str> = known.keys().map(String::as_str).filter(|n| !n.contains('.')).collect();
    if own.contains(&name) {
        return Ok(options.set(name, &shortened(&value))?);
    }
    let known = own.into_iter().chain(["compaction"]);
    let nearest = nearest(name, known.chain(WITHOUT_EFFECT.map(|(name, _)| name)));
    Err(DefineError::UnknownProperty { of: "table", name: shortened(name), nearest })
}

/// That a property has no effect, if somebody may count on it.
fn warning(name: &str, counted_on: Option<(&str, &str)>, value: &str) -> Option<String> {
    let (harmless, why) = counted_on?;
    (!value.eq_ignore_ascii_case(harmless)).then(|| format!("{name} has no effect: {why}"))
}

fn compaction(
    options: &mut TableOptions,
    property: &Property,
    warnings: &mut Vec<String>,
) -> Result<(), DefineError> {
    let entries = entries(property, COMPACTION_EXAMPLE)?;
    if !entries.iter().any(|(key, _)| key == "class") {
        let (map, key) = ("compaction", "class");
        return Err(DefineError::MissingKey { map, key, example: COMPACTION_EXAMPLE });
    }
    forget_compaction(options)?;
    let known = options.to_map();
    let keys: Vec<&str> = known.keys().filter_map(|n| n.strip_prefix("compaction.")).collect();
    for (key, value) in &entries {
        if key == "sstable_size_in_mb" {
            options.set("compaction.sstable_size", &bytes_of_mb(value)?)?;
        } else if keys.contains(&key.as_str()) {
            options.set(&format!("compaction.{key}"), &shortened(value))?;
        } else if let Some((key, counted_on)) =
            COMPACTION_WITHOUT_EFFECT.iter().find(|(known, _)| known == key)
        {
            let name = format!("compaction '{key}'");
            warnings.extend(warning(&name, *counted_on, value));
        } else {
            let known = keys.iter().copied().chain(["sstable_size_in_mb"]);
            let nearest =
                nearest(key, known.chain(COMPACTION_WITHOUT_EFFECT.map(|(name, _)| name)));
            return Err(DefineError::UnknownKey {
                map: "compaction",
                key: shortened(key),
                nearest,
            });
        }
    }
    Ok(())
}

/// Everything of `compaction` as it is by default.
fn forget_compaction(options: &mut TableOptions) -> Result<(), DefineError> {
    for (name, value) in TableOptions::default().to_map() {
        if name.starts_with("compaction.") {
            options.set(&name, &value)?;
        }
    }
    Ok(())
}

fn bytes_of_mb(value: &str) -> Result<String, DefineError> {
    let mb = value.trim().parse().ok().filter(|mb: &u64| *mb > 0);
    match mb.and_then(|mb| mb.checked_mul(1 << 20)) {
        Some(bytes) => Ok(bytes.to_string()),
        None => Err(DefineError::Value {
            name: "compaction 'sstable_size_in_mb'".to_owned(),
            value: shortened(value),
            expected: "mebibytes, as a whole number, at least 1".to_owned(),
        }),
    }
}

/// Blocks are compressed by lz4, or not at all. As in Cassandra, `{}` is not at all: cassandra-stress says it so.
fn compression(
    options: &mut TableOptions,
    property: &Property,
    warnings: &mut Vec<String>,
) -> Result<(), DefineError> {
    let entries = entries(property, COMPRESSION_EXAMPLE)?;
    let (mut enabled, mut class) = (None, None);
    for (key, value) in &entries {
        match key.as_str() {
            "enabled" => enabled = Some(is_enabled(value)?),
            "class" | "sstable_compression" => class = Some(value.as_str()),
            key if COMPRESSION_WITHOUT_EFFECT.contains(&key) => {}
            key => {
                let known = ["class", "enabled", "sstable_compression"];
                let known = known.into_iter().chain(COMPRESSION_WITHOUT_EFFECT);
                let (map, nearest) = ("compression", nearest(key, known));
                return Err(DefineError::UnknownKey { map, key: shortened(key), nearest });
            }
        }
    }
    if enabled == Some(false) {
        if let Some((key, _)) = entries.iter().find(|(key, _)| key != "enabled") {
            return Err(DefineError::CompressionOff { key: key.clone() });
        }
        options.compression = false;
        return Ok(());
    }
    options.compression = match class {
        Some(class) => is_compressor(class, warnings)?,
        None if entries.is_empty() => false,
        None => {
            let (map, key) = ("compression", "class");
            return Err(DefineError::MissingKey { map, key, example: COMPRESSION_EXAMPLE });
        }
    };
    Ok(())
}

fn is_enabled(value: &str) -> Result<bool, DefineError> {
    value.to_ascii_lowercase().parse().map_err(|_| DefineError::Value {
        name: "compression 'enabled'".to_owned(),
        value: shortened(value),
        expected: "true or false".to_owned(),
    })
}

/// Whether a compressor of Cassandra's compresses.
fn is_compressor(class: &str, warnings: &mut Vec<String>) -> Result<bool, DefineError> {
    match class.strip_prefix("org.apache.cassandra.io.compress.").unwrap_or(class) {
        "" | "NoopCompressor" => Ok(false),
        "LZ4Compressor" => Ok(true),
        other @ ("SnappyCompressor" | "DeflateCompressor" | "ZstdCompressor") => {
            warnings.push(format!("{other} is not available: LZ4Compressor is used in its place"));
            Ok(true)
        }
        _ => Err(DefineError::Value {
            name: "compression 'class'".to_owned(),
            value: shortened(class),
            expected: "LZ4Compressor, or '' for none".to_owned(),
        }),
    }
}
