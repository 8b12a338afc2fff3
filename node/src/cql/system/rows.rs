//! Rows of the system's tables, written by the names of their columns.

use bytes::Bytes;
use helenus_core::cql::{CqlType, clustering, collection, partition_key};
use helenus_core::{
    Cell, ClusteringKey, ColumnId, Content, Key, Liveness, Partition, Row, TableDef,
    TimestampMicros,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// When the system's rows were written: they are made up, so always.
const WRITTEN: TimestampMicros = TimestampMicros(0);

/// Values of one row, by column.
#[derive(Debug, Default)]
pub(super) struct Cells(BTreeMap<&'static str, Bytes>);

impl Cells {
    pub(super) fn new() -> Cells {
        Cells::default()
    }

    fn with(mut self, name: &'static str, value: Bytes) -> Cells {
        self.0.insert(name, value);
        self
    }

    pub(super) fn text(self, name: &'static str, value: &str) -> Cells {
        self.with(name, Bytes::copy_from_slice(value.as_bytes()))
    }

    pub(super) fn blob(self, name: &'static str, value: &[u8]) -> Cells {
        self.with(name, Bytes::copy_from_slice(value))
    }

    pub(super) fn int(self, name: &'static str, value: i32) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    pub(super) fn double(self, name: &'static str, value: f64) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    pub(super) fn boolean(self, name: &'static str, value: bool) -> Cells {
        self.with(name, Bytes::copy_from_slice(&[u8::from(value)]))
    }

    pub(super) fn uuid(self, name: &'static str, value: u128) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    /// In milliseconds, as CQL counts.
    pub(super) fn timestamp(self, name: &'static str, at: TimestampMicros) -> Cells {
        let millis = at.0.div_euclid(1000);
        self.with(name, Bytes::copy_from_slice(&millis.to_be_bytes()))
    }

    pub(super) fn inet(self, name: &'static str, value: IpAddr) -> Cells {
        self.with(name, super::ip_bytes(value))
    }

    /// A set of texts.
    pub(super) fn texts(self, name: &'static str, values: impl Iterator<Item = String>) -> Cells {
        let set = collection::encode_set(&CqlType::Text, values.collect());
        self.with(name, set.expect("texts as short as these make a set"))
    }

    pub(super) fn text_map(self, name: &'static str, pairs: &[(String, String)]) -> Cells {
        let map = collection::encode_map(&CqlType::Text, pairs.to_vec());
        self.with(name, map.expect("texts as short as these make a map"))
    }
}

/// The rows of a table while they are made.
pub(super) struct Made<'a> {
    def: &'a TableDef,
    clustering: Vec<(CqlType, bool)>,
    partitions: BTreeMap<Key, BTreeMap<ClusteringKey, Row>>,
}

impl<'a> Made<'a> {
    pub(super) fn new(def: &'a TableDef) -> Made<'a> {
        let clustering = def.columns.clustering.iter();
        let clustering = clustering.map(|column| (column.ty.clone(), column.reversed)).collect();
        Made { def, clustering, partitions: BTreeMap::new() }
    }

    /// Adds a row. Panics if it has a column that the table has not, or lacks one of its key: that would be a bug in this
    /// module's parent.
    pub(super) fn row(&mut self, cells: Cells) {
        let columns = &self.def.columns;
        let mut values = cells.0;
        let mut key = |name: &str| {
            values.remove(name).unwrap_or_else(|| panic!("a row of {} lacks {name}", self.def.name))
        };
        let partition: Vec<Bytes> = columns.partition_key.iter().map(|c| key(&c.name)).collect();
        let row: Vec<Bytes> = columns.clustering.iter().map(|c| key(&c.name)).collect();
        let partition = partition_key::encode(&partition).expect("the names are short");
        let row: Vec<Option<&[u8]>> = row.iter().map(|value| Some(&value[..])).collect();
        let row = clustering::encode(&self.clustering, &row).expect("each value is of its type");
        let liveness = Some(Liveness { timestamp: WRITTEN, expiry: None });
        let mut made = Row { liveness, ..Row::default() };
        for column in &columns.cells {
            let Some(value) = values.remove(column.name.as_str()) else { continue };
            let content = Content::Value { value, expiry: None };
            made.cells.push((ColumnId(column.id.0), Cell { timestamp: WRITTEN, content }));
        }
        assert!(values.is_empty(), "{} has no columns {:?}", self.def.name, values.keys());
        self.partitions.entry(partition).or_default().insert(row, made);
    }

    pub(super) fn partitions(self) -> Vec<(Key, Partition)> {
        let partitions = self.partitions.into_iter().map(|(key, rows)| {
            (key, Partition { rows: rows.into_iter().collect(), ..Partition::default() })
        });
        partitions.collect()
    }
}
