//! Reading and writing one table.

use crate::client::{Client, Operation};
use crate::error::OpError;
use crate::options::{Got, Options, Scan, ScanPage, Written};
use bytes::Bytes;
use helenus_proto::v1;
use helenus_proto::v1::kv_request::Op;
use std::sync::Arc;
use std::time::Duration;

/// A key-value table of the cluster. Cheap to clone.
///
/// Every operation comes twice: the short form takes the defaults, the one that ends in `_with` takes [`Options`].
#[derive(Clone)]
pub struct Table {
    client: Client,
    keyspace: Arc<str>,
    name: Arc<str>,
}

impl Table {
    pub(crate) fn new(client: Client, keyspace: &str, name: &str) -> Table {
        Table { client, keyspace: Arc::from(keyspace), name: Arc::from(name) }
    }

    /// The keyspace it lives in.
    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a value.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Written, OpError> {
        self.put_with(key, value, &Options::default()).await
    }

    /// Writes a value.
    pub async fn put_with(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: &Options,
    ) -> Result<Written, OpError> {
        let put = v1::Put {
            key: key.into(),
            value: value.into(),
            timestamp_us: None,
            ttl_s: options.ttl.map_or(0, whole_seconds),
        };
        let operation = self.operation(Op::Put(put), options);
        self.client.run(operation, |asked, answer| asked.written(answer)).await
    }

    /// Deletes a value: writes a tombstone that hides everything up to its timestamp.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Written, OpError> {
        self.delete_with(key, &Options::default()).await
    }

    /// Deletes a value: writes a tombstone that hides everything up to its timestamp.
    pub async fn delete_with(
        &self,
        key: impl Into<Bytes>,
        options: &Options,
    ) -> Result<Written, OpError> {
        let delete = v1::Delete { key: key.into(), timestamp_us: None };
        let operation = self.operation(Op::Delete(delete), options);
        self.client.run(operation, |asked, answer| asked.written(answer)).await
    }

    /// Reads a value.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Got, OpError> {
        self.get_with(key, &Options::default()).await
    }

    /// Reads a value.
    pub async fn get_with(&self, key: impl Into<Bytes>, options: &Options) -> Result<Got, OpError> {
        let operation = self.operation(Op::Get(v1::Get { key: key.into() }), options);
        self.client.run(operation, |asked, answer| asked.got(answer)).await
    }

    /// Reads one page of the table, in token order. [`ScanPage::next`] is where the next one starts.
    pub async fn scan(&self, scan: &Scan) -> Result<ScanPage, OpError> {
        self.scan_with(scan, &Options::default()).await
    }

    /// Reads one page of the table, in token order. [`ScanPage::next`] is where the next one starts.
    pub async fn scan_with(&self, scan: &Scan, options: &Options) -> Result<ScanPage, OpError> {
        let page = scan.from.as_ref().map_or_else(Bytes::new, |position| position.0.clone());
        let scan = v1::Scan { limit: scan.limit, page, node_local: scan.node_local };
        let operation = self.operation(Op::Scan(scan), options);
        self.client.run(operation, |asked, answer| asked.page(answer)).await
    }

    fn operation<'a>(&'a self, op: Op, options: &'a Options) -> Operation<'a> {
        Operation { keyspace: &self.keyspace, table: &self.name, op, options }
    }
}

/// A fraction counts as a whole second: a value must not vanish before it was told to.
fn whole_seconds(ttl: Duration) -> u32 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    // 0 would mean "the table's default".
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_never_shortened_and_never_becomes_the_default() {
        for (ttl_ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(ttl_ms)), seconds);
        }
    }
}
