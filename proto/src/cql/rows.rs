//! Rows, and what describes them: the metadata of rows and of prepared statements. (§4.2.5.2, §4.2.5.4)
//!
//! ```text
//! rows:     | flags i32 | columns i32 | [paging state bytes] | [new id short bytes] | [specs] | rows i32 | cells |
//! prepared: | flags i32 | columns i32 | pk i32 | pk indexes u16... | [specs] |
//! specs:    | [keyspace, table] | per column: [keyspace, table] name option |
//! cell:     | length i32 (-1: null) | bytes |
//! ```
//!
//! A server writes cells with [`RowsWriter`] straight into the buffer that goes to the socket, and counts rows
//! as it goes; [`Rows`] is the same thing held in memory, for clients and for tables that are made up on the spot.

use super::read::{Malformed, Problem, Reader};
use super::types::{read_type, write_type};
use super::version::Version;
use super::write::{EncodeError, Writer};
use bytes::{BufMut, Bytes};
use std::sync::Arc;

pub use helenus_core::cql::plan::ColumnSpec;

const GLOBAL_TABLES_SPEC: i32 = 0x0001;
const HAS_MORE_PAGES: i32 = 0x0002;
const NO_METADATA: i32 = 0x0004;
const METADATA_CHANGED: i32 = 0x0008;

const SPECS: &str = "the columns";

/// The columns of a result: described, or only counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    /// Each with name and type.
    Described(Arc<[Arc<ColumnSpec>]>),
    /// So many. To clients that know them from PREPARED and said so (`skip_metadata`), and for results without rows.
    Counted(u32),
}

/// What precedes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsMetadata {
    /// The columns.
    pub columns: Columns,
    /// Where the next page begins; `None` if this is the last one.
    pub paging_state: Option<Bytes>,
    /// The new id of the columns' description, if it is not the one that EXECUTE named. v5 only.
    pub new_metadata_id: Option<Bytes>,
}

/// A result's rows, all of them in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// What precedes them.
    pub metadata: RowsMetadata,
    /// Invariant: each has as many cells as there are columns.
    pub rows: Vec<Vec<Option<Bytes>>>,
}

/// The answer to PREPARE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What EXECUTE will name.
    pub id: Bytes,
    /// What EXECUTE will name of the result. v5 only; `None` reads as and is written as no bytes.
    pub result_metadata_id: Option<Bytes>,
    /// Each marker of the statement.
    pub markers: Arc<[Arc<ColumnSpec>]>,
    /// Which markers are the partition key's columns, in the key's order; empty if not all of them are bound.
    pub pk_indexes: Vec<u16>,
    /// The columns of its result.
    pub result: RowsMetadata,
}

impl Columns {
    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Columns::Described(specs) => specs.len(),
            Columns::Counted(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        }
    }
}

impl RowsMetadata {
    /// Described columns of a last page.
    pub fn new(columns: Arc<[Arc<ColumnSpec>]>) -> RowsMetadata {
        let columns = Columns::Described(columns);
        RowsMetadata { columns, paging_state: None, new_metadata_id: None }
    }

    /// Of a statement that returns no rows.
    pub fn none() -> RowsMetadata {
        RowsMetadata { columns: Columns::Counted(0), paging_state: None, new_metadata_id: None }
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        let mut flags = 0;
        if self.paging_state.is_some() {
            flags |= HAS_MORE_PAGES;
        }
        if self.new_metadata_id.is_some() {
            if version < Version::V5 {
                let what = "a new metadata id";
                return Err(EncodeError::NotInVersion { what, version });
            }
            flags |= METADATA_CHANGED;
        }
        let global = match &self.columns {
            Columns::Described(specs) => one_table(specs),
            Columns::Counted(_) => None,
        };
        flags |= match (&self.columns, global) {
            (Columns::Counted(_), _) => NO_METADATA,
            (Columns::Described(_), Some(_)) => GLOBAL_TABLES_SPEC,
            (Columns::Described(_), None) => 0,
        };
        to.int(flags);
        to.int_count(SPECS, self.columns.count())?;
        if let Some(paging_state) = &self.paging_state {
            to.bytes("the paging state", Some(paging_state))?;
        }
        if let Some(id) = &self.new_metadata_id {
            to.short_bytes("the new metadata id", id)?;
        }
        match &self.columns {
            Columns::Described(specs) => write_specs(to, version, specs, global),
            Columns::Counted(_) => Ok(()),
        }
    }

    pub(crate) fn read(from: &mut Reader, version: Version) -> Result<RowsMetadata, Malformed> {
        let mut flags = from.int("the result's flags")?;
        if version < Version::V5 {
            flags &= !METADATA_CHANGED;
        }
        let at = from.at();
        let length = from.int(SPECS)?;
        let count = u32::try_from(length).map_err(|_| Malformed {
            what: SPECS,
            at,
            problem: Problem::Length { length },
        })?;
        let paging_state = match flags & HAS_MORE_PAGES {
            0 => None,
            _ => from.bytes("the paging state")?,
        };
        let new_metadata_id = match flags & METADATA_CHANGED {
            0 => None,
            _ => Some(from.short_bytes("the new metadata id")?),
        };
        let columns = match flags & NO_METADATA {
            0 => Columns::Described(read_specs(from, count, flags)?),
            _ => Columns::Counted(count),
        };
        Ok(RowsMetadata { columns, paging_state, new_metadata_id })
    }
}

impl Rows {
    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        let mut rows = RowsWriter::begin(to, version, &self.metadata)?;
        for cell in self.rows.iter().flatten() {
            rows.cell(cell.as_deref())?;
        }
        rows.finish()
    }

    pub(crate) fn read(from: &mut Reader, version: Version) -> Result<Rows, Malformed> {
        let metadata = RowsMetadata::read(from, version)?;
        let columns = metadata.columns.count();
        let at = from.at();
        // Rows of no columns take no bytes, so that any number of them would be believed.
        let each = columns.saturating_mul(4).max(1);
        let count = from.int_count("the rows", each)?;
        if count > 0 && columns == 0 {
            let problem = Problem::Refused { why: "have no columns" };
            return Err(Malformed { what: "the rows", at, problem });
        }
        let row = |from: &mut Reader| (0..columns).map(|_| from.bytes("a cell")).collect();
        let rows = (0..count).map(|_| row(from)).collect::<Result<_, Malformed>>()?;
        Ok(Rows { metadata, rows })
    }
}

impl Prepared {
    pub(crate) fn write(&self, to: &mut Writer<'_>, version: Version) -> Result<(), EncodeError> {
        to.short_bytes("a statement's id", &self.id)?;
        if version >= Version::V5 {
            let id = self.result_metadata_id.as_deref().unwrap_or_default();
            to.short_bytes("a result's metadata id", id)?;
        }
        let global = one_table(&self.markers);
        to.int(if global.is_some() { GLOBAL_TABLES_SPEC } else { 0 });
        to.int_count(SPECS, self.markers.len())?;
        to.int_count("the partition key's columns", self.pk_indexes.len())?;
        self.pk_indexes.iter().for_each(|index| to.short(*index));
        write_specs(to, version, &self.markers, global)?;
        self.result.write(to, version)
    }

    pub(crate) fn read(from: &mut Reader, version: Version) -> Result<Prepared, Malformed> {
        let id = from.short_bytes("the statement's id")?;
        let result_metadata_id = match version {
            Version::V4 => None,
            Version::V5 => Some(from.short_bytes("the result's metadata id")?),
        };
        let result_metadata_id = result_metadata_id.filter(|id| !id.is_empty());
        let flags = from.int("the statement's flags")?;
        let at = from.at();
        let length = from.int(SPECS)?;
        let count = u32::try_from(length).map_err(|_| Malformed {
            what: SPECS,
            at,
            problem: Problem::Length { length },
        })?;
        const KEY: &str = "the partition key's columns";
        let key = from.int_count(KEY, 2)?;
        let pk_indexes = (0..key).map(|_| from.short(KEY)).collect::<Result<_, _>>()?;
        let markers = match flags & NO_METADATA {
            0 => read_specs(from, count, flags)?,
            _ => Arc::default(),
        };
        let result = RowsMetadata::read(from, version)?;
        Ok(Prepared { id, result_metadata_id, markers, pk_indexes, result })
    }
}

/// Keyspace and table, if all columns are of one table.
fn one_table(specs: &[Arc<ColumnSpec>]) -> Option<(&str, &str)> {
    let (first, others) = specs.split_first()?;
    let same =
        |spec: &Arc<ColumnSpec>| spec.keyspace == first.keyspace && spec.table == first.table;
    others.iter().all(same).then_some((&*first.keyspace, &*first.table))
}

fn write_specs(
    to: &mut Writer<'_>,
    version: Version,
    specs: &[Arc<ColumnSpec>],
    global: Option<(&str, &str)>,
) -> Result<(), EncodeError> {
    let table = |to: &mut Writer<'_>, keyspace: &str, table: &str| {
        to.string("a keyspace's name", keyspace)?;
        to.string("a table's name", table)
    };
    if let Some((keyspace, name)) = global {
        table(to, keyspace, name)?;
    }
    for spec in specs {
        if global.is_none() {
            table(to, &spec.keyspace, &spec.table)?;
        }
        to.string("a column's name", &spec.name)?;
        write_type(to, version, &spec.ty)?;
    }
    Ok(())
}

fn read_specs(
    from: &mut Reader,
    count: u32,
    flags: i32,
) -> Result<Arc<[Arc<ColumnSpec>]>, Malformed> {
    let table = |from: &mut Reader| -> Result<(Arc<str>, Arc<str>), Malformed> {
        let keyspace = from.string("a column's keyspace")?;
        Ok((keyspace.into(), from.string("a column's table")?.into()))
    };
    let global = (flags & GLOBAL_TABLES_SPEC != 0).then(|| table(from)).transpose()?;
    // The shortest is an empty name and a plain type.
    let left = from.left();
    let fitting = usize::try_from(count).ok().filter(|count| *count <= left / 4);
    let Some(count) = fitting else {
        return Err(from.wrong(SPECS, Problem::Count { count: i64::from(count), left }));
    };
    let mut specs = Vec::with_capacity(count);
    for _ in 0..count {
        let (keyspace, table) = match &global {
            Some((keyspace, table)) => (Arc::clone(keyspace), Arc::clone(table)),
            None => table(from)?,
        };
        let name = from.string("a column's name")?;
        specs.push(Arc::new(ColumnSpec { keyspace, table, name, ty: read_type(from)? }));
    }
    Ok(specs.into())
}

/// Writes a result's rows cell by cell, row after row, and counts them.
///
/// Begun with [`Outbound::rows`](super::Outbound::rows). Nothing is kept but counters: each cell goes to its place in
/// the buffer at once.
#[derive(Debug)]
pub struct RowsWriter<'w, 'b> {
    to: &'w mut Writer<'b>,
    columns: usize,
    cells: u64,
    /// Where the number of rows belongs.
    count_at: usize,
}

impl<'w, 'b> RowsWriter<'w, 'b> {
    pub(crate) fn begin(
        to: &'w mut Writer<'b>,
        version: Version,
        metadata: &RowsMetadata,
    ) -> Result<RowsWriter<'w, 'b>, EncodeError> {
        metadata.write(to, version)?;
        let count_at = to.buffer().len();
        to.int(0);
        Ok(RowsWriter { to, columns: metadata.columns.count(), cells: 0, count_at })
    }

    /// The next cell of the row; `None` is `null`.
    pub fn cell(&mut self, cell: Option<&[u8]>) -> Result<(), EncodeError> {
        self.cells += 1;
        self.to.bytes("a cell", cell)
    }

    /// Bytes of the response so far, for a server that ends a page when it is large enough.
    pub fn bytes_so_far(&mut self) -> usize {
        self.to.buffer().len() - self.count_at
    }

    /// Puts the number of rows where it belongs.
    pub(crate) fn finish(self) -> Result<(), EncodeError> {
        let RowsWriter { to, columns, cells, count_at } = self;
        let width = u64::try_from(columns).unwrap_or(u64::MAX);
        let ragged = EncodeError::RaggedRow { cells, columns };
        let rows = match (cells, width) {
            (0, _) => 0,
            (_, 0) => return Err(ragged),
            (cells, width) if cells % width != 0 => return Err(ragged),
            (cells, width) => cells / width,
        };
        let max = i32::MAX.unsigned_abs() as usize;
        let too_many = |_| EncodeError::TooMany {
            what: "the rows",
            count: usize::try_from(rows).unwrap_or(usize::MAX),
            max,
        };
        let rows = i32::try_from(rows).map_err(too_many)?;
        if let Some(mut at) = to.buffer().get_mut(count_at..) {
            at.put_i32(rows);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
