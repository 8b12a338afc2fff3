//! Rows of the system's tables, written by the names of their columns.

use bytes::Bytes;
use helenus_core::cql::{CqlType, clustering, collection, partition_key};
use helenus_core::{
    Cell, ClusteringKey, ColumnId, Content, Expiry, Key, Liveness, Partition, Row, TableDef,
    TimestampMicros,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// When rows that are made up were written: always.
const WRITTEN: TimestampMicros = TimestampMicros(0);

/// Values of one row, by column.
#[derive(Debug, Default)]
pub(in crate::cql) struct Cells(BTreeMap<&'static str, Bytes>);

impl Cells {
    pub(in crate::cql) fn new() -> Cells {
        Cells::default()
    }

    fn with(mut self, name: &'static str, value: Bytes) -> Cells {
        self.0.insert(name, value);
        self
    }

    pub(in crate::cql) fn text(self, name: &'static str, value: &str) -> Cells {
        self.with(name, Bytes::copy_from_slice(value.as_bytes()))
    }

    pub(in crate::cql) fn blob(self, name: &'static str, value: &[u8]) -> Cells {
        self.with(name, Bytes::copy_from_slice(value))
    }

    pub(in crate::cql) fn int(self, name: &'static str, value: i32) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    pub(in crate::cql) fn bigint(self, name: &'static str, value: i64) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    /// A moment in milliseconds since 1970; null if it is not known.
    pub(in crate::cql) fn millis(self, name: &'static str, value: Option<u64>) -> Cells {
        match value {
            Some(value) => self.bigint(name, i64::try_from(value).unwrap_or(i64::MAX)),
            None => self,
        }
    }

    pub(in crate::cql) fn double(self, name: &'static str, value: f64) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    pub(in crate::cql) fn boolean(self, name: &'static str, value: bool) -> Cells {
        self.with(name, Bytes::copy_from_slice(&[u8::from(value)]))
    }

    pub(in crate::cql) fn timestamp(self, name: &'static str, value: TimestampMicros) -> Cells {
        let millis = value.0.div_euclid(1000);
        self.with(name, Bytes::copy_from_slice(&millis.to_be_bytes()))
    }

    pub(in crate::cql) fn uuid(self, name: &'static str, value: u128) -> Cells {
        self.with(name, Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    pub(in crate::cql) fn inet(self, name: &'static str, value: IpAddr) -> Cells {
        self.with(name, super::ip_bytes(value))
    }

    /// A list of texts, in this order.
    pub(in crate::cql) fn text_list(
        self,
        name: &'static str,
        values: impl Iterator<Item = String>,
    ) -> Cells {
        let list = collection::encode_list(&values.collect::<Vec<_>>());
        self.with(name, list.expect("texts as short as these make a list"))
    }

    /// A set of texts.
    pub(in crate::cql) fn texts(
        self,
        name: &'static str,
        values: impl Iterator<Item = String>,
    ) -> Cells {
        let set = collection::encode_set(&CqlType::Text, values.collect());
        self.with(name, set.expect("texts as short as these make a set"))
    }

    pub(in crate::cql) fn text_map(self, name: &'static str, pairs: &[(String, String)]) -> Cells {
        let map = collection::encode_map(&CqlType::Text, pairs.to_vec());
        self.with(name, map.expect("texts as short as these make a map"))
    }
}

/// The rows of a table while they are made.
pub(in crate::cql) struct Made<'a> {
    def: &'a TableDef,
    clustering: Vec<(CqlType, bool)>,
    written: Liveness,
    partitions: BTreeMap<Key, BTreeMap<ClusteringKey, Row>>,
}

impl<'a> Made<'a> {
    pub(in crate::cql) fn new(def: &'a TableDef) -> Made<'a> {
        let clustering = def.columns.clustering.iter();
        let clustering = clustering.map(|column| (column.ty.clone(), column.reversed)).collect();
        let written = Liveness { timestamp: WRITTEN, expiry: None };
        Made { def, clustering, written, partitions: BTreeMap::new() }
    }

    /// Rows that are written in earnest: then, and until then.
    pub(in crate::cql) fn written(
        mut self,
        timestamp: TimestampMicros,
        expiry: Option<Expiry>,
    ) -> Made<'a> {
        self.written = Liveness { timestamp, expiry };
        self
    }

    /// Adds a row. Panics if it has a column that the table has not, or lacks one of its key: that would be a bug in this
    /// module's parent.
    pub(in crate::cql) fn row(&mut self, cells: Cells) {
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
        let Liveness { timestamp, expiry } = self.written;
        let mut made = Row { liveness: Some(self.written), ..Row::default() };
        for column in &columns.cells {
            let Some(value) = values.remove(column.name.as_str()) else { continue };
            let content = Content::Value { value, expiry };
            made.cells.push((ColumnId(column.id.0), Cell { timestamp, content }));
        }
        assert!(values.is_empty(), "{} has no columns {:?}", self.def.name, values.keys());
        self.partitions.entry(partition).or_default().insert(row, made);
    }

    pub(in crate::cql) fn partitions(self) -> Vec<(Key, Partition)> {
        let partitions = self.partitions.into_iter().map(|(key, rows)| {
            (key, Partition { rows: rows.into_iter().collect(), ..Partition::default() })
        });
        partitions.collect()
    }
}
