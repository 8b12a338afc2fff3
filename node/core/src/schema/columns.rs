//! The columns of a table: what its keys are made of, and what its cells are.
//!
//! Key columns are kept in the order in which they make a key; they are no cells and have no id. Every other column has
//! an id, under which its cells are on disk and on the wire, and which is never given to another column, so that a column
//! that is dropped and added again does not find its old cells (Cassandra keeps the time of the drop for that). What was
//! dropped is listed all the same, so that it can be shown, and so that a row that has nothing else left is no row.

use crate::cql::CqlType;
use crate::data::ColumnId;
use crate::types::TimestampMicros;
use std::collections::BTreeSet;

/// A table has at most so many columns.
pub const COLUMNS_MAX: usize = 4096;
/// A column's name has at most so many bytes.
const NAME_BYTES_MAX: usize = 1024;

/// A column of the partition key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: CqlType,
}

/// A clustering column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusteringColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: CqlType,
    /// `CLUSTERING ORDER BY (… DESC)`.
    pub reversed: bool,
}

/// A column that has cells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellColumn {
    /// What its cells are found by.
    pub id: ColumnId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: CqlType,
    /// One cell a partition instead of one a row.
    pub is_static: bool,
}

/// A column that a table had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DroppedColumn {
    /// The name it had.
    pub name: String,
    /// The type it had.
    pub ty: CqlType,
    /// Whether it was static.
    pub is_static: bool,
    /// When it was dropped, by the clock of the node that was asked to.
    pub at: TimestampMicros,
}

/// All columns of a table.
///
/// Invariant (of every table that was accepted, [`Columns::check`]): there is a partition key; names and ids are unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Columns {
    /// In the order of the key.
    pub partition_key: Vec<KeyColumn>,
    /// In the order in which rows are sorted.
    pub clustering: Vec<ClusteringColumn>,
    /// In the order of their ids.
    pub cells: Vec<CellColumn>,
    /// The id of the next column that is added.
    pub next_id: u32,
    /// What was dropped, by name: of each name the latest. At most [`COLUMNS_MAX`]: the oldest is forgotten.
    pub dropped: Vec<DroppedColumn>,
}

/// Why these cannot be the columns of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    /// No partition key.
    #[error("a table needs at least one column in its partition key: PRIMARY KEY ((a, b), c)")]
    NoPartitionKey,
    /// A name is none.
    #[error("a column's name has 1 to {NAME_BYTES_MAX} bytes, and `{name}` has {}", name.len())]
    Name {
        /// What was given.
        name: String,
    },
    /// Two of one name.
    #[error("column `{name}` is there twice")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// Two of one id.
    #[error("columns `{name}` and another have the id {}, or the next one is not behind it", id.0)]
    Id {
        /// One of the two.
        name: String,
        /// Their id.
        id: ColumnId,
    },
    /// Of no use in a key.
    #[error(
        "column `{name}` of type {ty} cannot be part of a primary key: it has no order, or is kept in several cells (freeze it)"
    )]
    NotAKeyType {
        /// The column.
        name: String,
        /// Its type.
        ty: CqlType,
    },
    /// Static cells belong to a partition with several rows.
    #[error(
        "column `{name}` is static, and the table has no clustering columns: without them a partition has one row"
    )]
    StaticWithoutClustering {
        /// The column.
        name: String,
    },
    /// Counters and other cells.
    #[error("column `{name}` is {}a counter, and others are {}: a table's cells are all counters, or none is", if *counter { "" } else { "not " }, if *counter { "not" } else { "" })]
    CountersAndOthers {
        /// The column.
        name: String,
        /// Whether it is a counter.
        counter: bool,
    },
    /// The list of dropped columns is out of order, or too long.
    #[error("the dropped columns are not in the order of their names, or more than {COLUMNS_MAX}")]
    Dropped,
    /// More than [`COLUMNS_MAX`].
    #[error("the table has {columns} columns, {COLUMNS_MAX} are allowed")]
    TooMany {
        /// How many.
        columns: usize,
    },
}

impl Default for Columns {
    fn default() -> Self {
        Columns::key_value()
    }
}

impl Columns {
    /// Those of a key-value table: `key blob PRIMARY KEY, value blob`.
    pub fn key_value() -> Columns {
        let value = CellColumn {
            id: ColumnId::VALUE,
            name: "value".to_owned(),
            ty: CqlType::Blob,
            is_static: false,
        };
        Columns {
            partition_key: vec![KeyColumn { name: "key".to_owned(), ty: CqlType::Blob }],
            clustering: Vec::new(),
            cells: vec![value],
            next_id: 1,
            dropped: Vec::new(),
        }
    }

    /// Whether every row is one key and one value, whatever their types and names: what the key-value API reads and writes.
    pub fn is_one_value(&self) -> bool {
        let [_] = self.partition_key.as_slice() else { return false };
        let [value] = self.cells.as_slice() else { return false };
        self.clustering.is_empty()
            && value.id == ColumnId::VALUE
            && !value.ty.is_multicell()
            && !value.ty.is_counter()
    }

    /// The names of all columns: of the partition key, of the clustering key, and of the cells.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let keys = self.partition_key.iter().map(|column| &column.name);
        let clustering = self.clustering.iter().map(|column| &column.name);
        let cells = self.cells.iter().map(|column| &column.name);
        keys.chain(clustering).chain(cells).map(String::as_str)
    }

    /// The column of cells of this name.
    pub fn cell(&self, name: &str) -> Option<&CellColumn> {
        self.cells.iter().find(|column| column.name == name)
    }

    /// Whether it is a table of counters, which are written in their own way.
    pub fn has_counters(&self) -> bool {
        self.cells.first().is_some_and(|column| column.ty.is_counter())
    }

    /// Whether these can be the columns of a table.
    pub fn check(&self) -> Result<(), ColumnsError> {
        if self.partition_key.is_empty() {
            return Err(ColumnsError::NoPartitionKey);
        }
        let columns = self.partition_key.len() + self.clustering.len() + self.cells.len();
        if columns > COLUMNS_MAX {
            return Err(ColumnsError::TooMany { columns });
        }
        let mut names = BTreeSet::new();
        for name in self.names() {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(ColumnsError::Name { name: name.to_owned() });
            }
            if !names.insert(name) {
                return Err(ColumnsError::NameTwice { name: name.to_owned() });
            }
        }
        let keys = self.partition_key.iter().map(|column| (&column.name, &column.ty));
        let clustering = self.clustering.iter().map(|column| (&column.name, &column.ty));
        if let Some((name, ty)) = keys.chain(clustering).find(|(_, ty)| !ty.is_key_type()) {
            return Err(ColumnsError::NotAKeyType { name: name.clone(), ty: ty.clone() });
        }
        let in_order = self.dropped.is_sorted_by(|a, b| a.name < b.name);
        if !in_order || self.dropped.len() > COLUMNS_MAX {
            return Err(ColumnsError::Dropped);
        }
        self.check_cells()
    }

    fn check_cells(&self) -> Result<(), ColumnsError> {
        let counters = self.has_counters();
        let mut last = None;
        for column in &self.cells {
            let name = column.name.clone();
            if last.is_some_and(|last| last >= column.id) || column.id.0 >= self.next_id {
                return Err(ColumnsError::Id { name, id: column.id });
            }
            last = Some(column.id);
            if column.is_static && self.clustering.is_empty() {
                return Err(ColumnsError::StaticWithoutClustering { name });
            }
            let counter = column.ty.is_counter();
            if counter != counters {
                return Err(ColumnsError::CountersAndOthers { name, counter });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(id: u32, name: &str, ty: CqlType) -> CellColumn {
        CellColumn { id: ColumnId(id), name: name.to_owned(), ty, is_static: false }
    }

    fn orders() -> Columns {
        let key = |name: &str, ty| KeyColumn { name: name.to_owned(), ty };
        let at = ClusteringColumn { name: "at".to_owned(), ty: CqlType::Timestamp, reversed: true };
        Columns {
            partition_key: vec![key("shop", CqlType::Text), key("customer", CqlType::Uuid)],
            clustering: vec![at],
            cells: vec![cell(0, "state", CqlType::Text), cell(3, "total", CqlType::Decimal)],
            next_id: 4,
            dropped: Vec::new(),
        }
    }

    #[test]
    fn a_table_of_keys_rows_and_cells_is_accepted() {
        assert_eq!(orders().check(), Ok(()));
        assert_eq!(Columns::key_value().check(), Ok(()));
        assert!(Columns::key_value().is_one_value());
        assert!(!orders().is_one_value());
        let names: Vec<String> = orders().names().map(str::to_owned).collect();
        assert_eq!(names, ["shop", "customer", "at", "state", "total"]);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        type Change = fn(&mut Columns);
        let refused: [(Change, &str); 9] = [
            (|c| c.partition_key.clear(), "at least one column in its partition key"),
            (|c| c.cells[0].name.clear(), "1 to 1024 bytes"),
            (|c| c.cells[0].name = "at".to_owned(), "column `at` is there twice"),
            (|c| c.clustering[0].ty = CqlType::Duration, "column `at` of type duration"),
            (|c| c.partition_key[0].ty = CqlType::Counter, "column `shop` of type counter"),
            (|c| c.cells[1].id = ColumnId(0), "columns `total` and another have the id 0"),
            (|c| c.next_id = 3, "columns `total` and another have the id 3"),
            (|c| c.cells[1].ty = CqlType::Counter, "column `total` is a counter"),
            (
                |c| {
                    c.cells[0].is_static = true;
                    c.clustering.clear();
                },
                "column `state` is static",
            ),
        ];
        for (change, said) in refused {
            let mut columns = orders();
            change(&mut columns);
            let error = columns.check().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
