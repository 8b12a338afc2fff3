//! Where the schema is kept: one small file, written, synced and renamed before a change is confirmed to anyone.
//!
//! It is a file and not a table of the engine because the engine is opened *with* the schema.

use super::builtin::builtin;
use crate::seams::background::{self, Background, Lane};
use crate::seams::disk::Disk;
use crate::storage::{Engine, StorageError};
use helenus_core::cql::plan::Table;
use helenus_core::{Schema, TableDef, TableId};
use helenus_proto::{schema as wire, v1};
use prost::Message as _;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The file's first bytes.
const MAGIC: &[u8; 8] = b"HLNSCHM1";
/// A schema file larger than this is not one of ours.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The schema could not be kept or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SchemaError {
    /// The disk said no.
    #[error("{path}: {message}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        message: String,
    },
    /// The file is not what was written.
    #[error(
        "{path}: damaged ({what}); restore it from another node's copy, or remove it and this node will pull the schema \
         from a live peer"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What does not hold.
        what: String,
    },
    /// The engine would not follow.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// The schema, by value and by table id, at one version.
#[derive(Debug, Default)]
pub struct SchemaView {
    /// The definitions, dropped ones included.
    pub schema: Schema,
    /// Its content's hash: equal on nodes that agree.
    pub version: String,
    by_id: BTreeMap<TableId, (String, String)>,
    /// By keyspace and name, with what their types are made of. Made here, once, and not for each statement about them.
    by_name: BTreeMap<String, BTreeMap<String, Arc<Table>>>,
}

impl SchemaView {
    fn new(schema: Schema) -> SchemaView {
        let by_id = schema.live_tables().map(|t| (t.id, (t.keyspace.clone(), t.name.clone())));
        let mut by_name: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for table in schema.live_tables() {
            let of_keyspace = by_name.entry(table.keyspace.clone()).or_default();
            let resolved = Table::new(schema.resolve(table));
            of_keyspace.insert(table.name.clone(), Arc::new(resolved));
        }
        let (version, by_id) = (schema.version().to_string(), by_id.collect());
        SchemaView { version, by_id, by_name, schema }
    }

    /// The table of this name, with its user-defined types resolved, unless it or its keyspace was dropped.
    pub fn table_named(&self, keyspace: &str, name: &str) -> Option<&Arc<Table>> {
        self.by_name.get(keyspace)?.get(name)
    }

    /// The table with this id, unless it was dropped; also one that every node knows from the start.
    pub fn table(&self, id: TableId) -> Option<&TableDef> {
        let defined = self.by_id.get(&id).and_then(|name| self.schema.tables.get(name));
        defined.or_else(|| builtin().by_id(id))
    }
}

/// Where the schema is kept.
pub struct SchemaStore {
    disk: Arc<dyn Disk>,
    background: Arc<dyn Background>,
    path: PathBuf,
    view: Mutex<Arc<SchemaView>>,
    /// One change at a time: a change is read, merge, persist, swap.
    changing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for SchemaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaStore")
            .field("version", &self.current().version)
            .finish_non_exhaustive()
    }
}

impl SchemaStore {
    /// Reads the file, or starts with nothing defined.
    pub fn open(
        disk: Arc<dyn Disk>,
        background: Arc<dyn Background>,
    ) -> Result<SchemaStore, SchemaError> {
        let path = PathBuf::from("schema.bin");
        let schema = match disk.open(&path, false) {
            Ok(file) => {
                let len = file.len().map_err(|e| io_error(&path, &e))?;
                if len > MAX_BYTES {
                    return Err(damaged(&path, "it is larger than any schema"));
                }
                let len = usize::try_from(len).map_err(|_| damaged(&path, "its length"))?;
                let mut bytes = vec![0; len];
                let read = file.read_at(0, &mut bytes).map_err(|e| io_error(&path, &e))?;
                bytes.truncate(read);
                decode(&path, &bytes)?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Schema::default(),
            Err(e) => return Err(io_error(&path, &e)),
        };
        let view = Mutex::new(Arc::new(SchemaView::new(schema)));
        Ok(SchemaStore { disk, background, path, view, changing: tokio::sync::Mutex::new(()) })
    }

    /// The schema as it stands.
    pub fn current(&self) -> Arc<SchemaView> {
        Arc::clone(&self.view.lock().expect("no holder of this lock panics"))
    }

    /// Merges `incoming` in: persisted, then opened in the engine, then visible. `None`: it brought nothing new.
    pub async fn adopt(
        &self,
        incoming: Schema,
        engine: &dyn Engine,
    ) -> Result<Option<Arc<SchemaView>>, SchemaError> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.current();
        let mut merged = before.schema.clone();
        if !merged.merge(incoming) {
            return Ok(None);
        }
        let after = Arc::new(SchemaView::new(merged));
        self.persist(&after.schema).await?;
        for table in after.schema.live_tables() {
            engine.open_table(table)?;
        }
        for gone in before.by_id.keys().filter(|id| !after.by_id.contains_key(id)) {
            engine.drop_table(*gone)?;
        }
        *self.view.lock().expect("no holder of this lock panics") = Arc::clone(&after);
        Ok(Some(after))
    }

    async fn persist(&self, schema: &Schema) -> Result<(), SchemaError> {
        let bytes = encode(schema);
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        let cost = bytes.len() as u64;
        background::run(&*self.background, Lane::Log, cost, move || write(&*disk, &path, &bytes))
            .await
            .map_err(|_| SchemaError::Stopped)?
            .map_err(|e| io_error(&self.path, &e))
    }
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    let file = disk.open(&tmp, true)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&tmp, path)?;
    disk.sync_dir(Path::new(""))
}

/// `| magic 8 | crc32 u32 LE of what follows | SchemaPush, protobuf |`
fn encode(schema: &Schema) -> Vec<u8> {
    let body = wire::to_wire(schema).encode_to_vec();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Schema, SchemaError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged(path, "it is not a schema file"))?;
    let (crc, body) = rest.split_first_chunk::<4>().ok_or_else(|| damaged(path, "cut short"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged(path, "its checksum does not hold"));
    }
    let push = v1::SchemaPush::decode(body).map_err(|e| damaged(path, &e.to_string()))?;
    wire::from_wire(push).map_err(|e| damaged(path, &e.to_string()))
}

fn io_error(path: &Path, error: &io::Error) -> SchemaError {
    SchemaError::Io { path: path.display().to_string(), message: error.to_string() }
}

fn damaged(path: &Path, what: &str) -> SchemaError {
    SchemaError::Damaged { path: path.display().to_string(), what: what.to_owned() }
}
