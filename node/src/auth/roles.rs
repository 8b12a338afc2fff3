//! Roles as rows of `system_auth.roles`, read and written through the coordinator like any others.
//!
//! Both at QUORUM: what an operator changed counts at every node from the moment it is confirmed, and one node of three may
//! be down.

use super::Auth;
use crate::coordinator::{
    Change, ReadRequest, RequestError, ScanRequest, Shape, Trace, WriteRequest,
};
use crate::schema::builtin::{AUTH, builtin};
use bytes::Bytes;
use helenus_core::cql::partition_key;
use helenus_core::{
    Cell, ClusteringKey, Content, GcSeconds, Key, Level, Liveness, Partition, Row, TableDef,
    TimestampMicros, Token, merge,
};

const ROLES: &str = "roles";
/// At which roles are read and written.
const LEVEL: Level = Level::Quorum;
/// Roles that are read at a time when all are.
const PAGE: usize = 1000;

/// What is known of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Role {
    /// Its name.
    pub(crate) name: String,
    /// Whether anybody may log in as it.
    pub(crate) can_login: bool,
    /// A PHC string; `None`: it has no password.
    pub(crate) salted_hash: Option<String>,
}

/// What is written of a role; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Columns {
    pub(super) can_login: Option<bool>,
    pub(super) is_superuser: Option<bool>,
    pub(super) salted_hash: Option<String>,
}

fn table() -> &'static TableDef {
    builtin().table(AUTH, ROLES).expect("it is defined in builtin.cql")
}

fn key(name: &str) -> Result<Key, RequestError> {
    partition_key::encode(&[name]).map_err(|error| RequestError::Invalid(error.to_string()))
}

impl Role {
    /// What a partition says; `None`: there is no such role.
    fn read(key: &Key, partition: &Partition, now: GcSeconds) -> Option<Role> {
        let (_, row) = partition.rows.first().filter(|(_, row)| merge::row_is_live(row, now))?;
        let value = |name: &str| {
            let column = table().columns.cells.iter().find(|column| column.name == name)?;
            let cell = row.cells.iter().find(|(id, _)| id.0 == column.id.0);
            cell.and_then(|(_, cell)| merge::value_at(cell, now))
        };
        let hash = value("salted_hash").map(|hash| String::from_utf8_lossy(hash).into_owned());
        Some(Role {
            name: String::from_utf8_lossy(&key.0).into_owned(),
            can_login: value("can_login").is_some_and(|flag| flag[..] == [1]),
            salted_hash: hash,
        })
    }
}

impl Columns {
    /// A role with these columns. `is_new`: it is there even without any.
    fn to_partition(&self, timestamp: TimestampMicros, is_new: bool) -> Partition {
        let flag = |flag: Option<bool>| flag.map(|flag| Bytes::copy_from_slice(&[u8::from(flag)]));
        let value = |name: &str| match name {
            "can_login" => flag(self.can_login),
            "is_superuser" => flag(self.is_superuser),
            "salted_hash" => self.salted_hash.clone().map(Bytes::from),
            _ => None,
        };
        let cells = table().columns.cells.iter().filter_map(|column| {
            let content = Content::Value { value: value(&column.name)?, expiry: None };
            Some((column.id, Cell { timestamp, content }))
        });
        let liveness = is_new.then_some(Liveness { timestamp, expiry: None });
        let row = Row { liveness, cells: cells.collect(), ..Row::default() };
        Partition { rows: vec![(ClusteringKey::default(), row)], ..Partition::default() }
    }
}

impl Auth {
    /// The role of this name.
    pub(super) async fn role(&self, name: &str) -> Result<Option<Role>, RequestError> {
        let (table, key) = (table(), key(name)?);
        let request = ReadRequest {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            key: key.0.clone(),
            level: LEVEL,
            timeout: None,
            shape: Shape::Of(table.id),
            trace: Trace::default(),
        };
        let found = self.coordinator.read_own(request).await?;
        Ok(Role::read(&key, &found.partition, found.at))
    }

    /// All roles.
    pub(super) async fn all_roles(&self) -> Result<Vec<Role>, RequestError> {
        let table = table();
        let (mut roles, mut page) = (Vec::new(), Bytes::new());
        loop {
            let request = ScanRequest {
                keyspace: table.keyspace.clone(),
                table: table.name.clone(),
                level: LEVEL,
                limit: PAGE,
                page,
                node_local: false,
                shape: Shape::Of(table.id),
                until: Token(i64::MAX),
                trace: Trace::default(),
            };
            let found = self.coordinator.scan(request).await?;
            let read = found.partitions.iter();
            roles.extend(read.filter_map(|(key, part)| Role::read(key, &part.partition, found.at)));
            if found.next_page.is_empty() {
                break;
            }
            page = found.next_page;
        }
        roles.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(roles)
    }

    /// Writes what is given of a role.
    pub(super) async fn write_role(
        &self,
        name: &str,
        columns: &Columns,
        is_new: bool,
    ) -> Result<(), RequestError> {
        let timestamp = self.coordinator.next_timestamp();
        self.write_update(name, columns.to_partition(timestamp, is_new)).await
    }

    /// Deletes a role.
    pub(super) async fn delete_role(&self, name: &str) -> Result<(), RequestError> {
        let (timestamp, now) = (self.coordinator.next_timestamp(), self.coordinator.now_seconds());
        self.write_update(name, Partition::delete(timestamp, now)).await
    }

    async fn write_update(&self, name: &str, update: Partition) -> Result<(), RequestError> {
        let table = table();
        let request = WriteRequest {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            key: key(name)?.0,
            change: Change::Update(table.id, update),
            level: LEVEL,
            timestamp: None,
            timeout: None,
            trace: Trace::default(),
        };
        let written = self.coordinator.write_own(request).await?;
        // What is confirmed is in the log.
        let (engine, id) = (&self.coordinator.replica.engine, self.coordinator.id);
        match (engine.commit(), written.unlogged(id, LEVEL)) {
            (Err(error), Some(unlogged)) => {
                tracing::error!(%error, "the log could not be written");
                Err(unlogged.failure(id))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: GcSeconds = GcSeconds(1_000);

    #[test]
    fn a_role_is_read_as_it_was_written_and_altered() {
        let key = key("ada").unwrap();
        let columns = Columns {
            can_login: Some(true),
            is_superuser: Some(false),
            salted_hash: Some("$argon2id$1".to_owned()),
        };
        let mut partition = columns.to_partition(TimestampMicros(1), true);
        let role = |can_login, hash: Option<&str>| Role {
            name: "ada".to_owned(),
            can_login,
            salted_hash: hash.map(str::to_owned),
        };
        assert_eq!(Role::read(&key, &partition, NOW), Some(role(true, Some("$argon2id$1"))));

        let altered = Columns { can_login: Some(false), ..Columns::default() };
        merge::merge(&mut partition, altered.to_partition(TimestampMicros(2), false));
        assert_eq!(Role::read(&key, &partition, NOW), Some(role(false, Some("$argon2id$1"))));

        merge::merge(&mut partition, Partition::delete(TimestampMicros(3), NOW));
        assert_eq!(Role::read(&key, &partition, NOW), None);

        let bare = Columns::default().to_partition(TimestampMicros(4), true);
        merge::merge(&mut partition, bare);
        assert_eq!(Role::read(&key, &partition, NOW), Some(role(false, None)));
    }
}
