//! From `ALTER` statements and definitions to other definitions.
//!
//! A column that is added gets an id that no column of the table had: see [`fresh_ids`]. One that is dropped takes its id
//! with it, and is listed. Types are not altered, and of key columns only the names are.
//!
//! **Absent on purpose:** a column may be added again with another type and kind than it had. Cassandra refuses that where
//! old cells would be read as what they are not (CASSANDRA-8099); here nobody reads them.
//!
//! Source: Cassandra 4.1, `AlterTableStatement`.

use super::{DefineError, UserTypes, check_expiry, column_type, options};
use crate::cql::CqlType;
use crate::cql::ast::{ColumnDef, Ident, TableChange};
use crate::data::ColumnId;
use crate::schema::{COLUMNS_MAX, CellColumn, Columns, ColumnsError, DroppedColumn, TableDef};
use crate::types::TimestampMicros;
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

/// From how many ids that no column had those of added columns are taken.
const IDS_APART: u32 = 256;

/// The table as `change` makes it; the same if there is nothing to change (`IF EXISTS`, `IF NOT EXISTS`). `now` is when a
/// column is said to be dropped; `users` are the types of the keyspace. Adds a warning for each property that has no effect and that somebody may count on.
///
/// # Errors
/// What should be changed is not there, or is there already, or cannot be so.
pub fn alter_table(
    def: &TableDef,
    change: &TableChange,
    now: TimestampMicros,
    users: UserTypes<'_>,
    warnings: &mut Vec<String>,
) -> Result<TableDef, DefineError> {
    let mut altered = def.clone();
    match change {
        TableChange::Add { if_not_exists, columns } => {
            add(&mut altered.columns, *if_not_exists, columns, users)?;
        }
        TableChange::Drop { if_exists, columns, timestamp } => {
            if timestamp.is_some() {
                return Err(DefineError::DropTimestamp);
            }
            columns.iter().try_for_each(|name| drop(&mut altered, *if_exists, name, now))?;
        }
        TableChange::Rename { if_exists, renames } => {
            for (from, to) in renames {
                rename(&mut altered, *if_exists, from, to)?;
            }
        }
        TableChange::AlterType { column, .. } => {
            return Err(DefineError::AlterType { column: column.clone() });
        }
        TableChange::DropCompactStorage => return Err(DefineError::CompactStorage),
        TableChange::With(properties) => {
            altered.options = options(altered.options, properties, warnings)?;
        }
    }
    altered.columns.check()?;
    check_expiry(&altered.columns, &altered.options)?;
    Ok(altered)
}

fn add(
    columns: &mut Columns,
    if_not_exists: bool,
    new: &[ColumnDef],
    users: UserTypes<'_>,
) -> Result<(), DefineError> {
    if new.len() > COLUMNS_MAX {
        return Err(ColumnsError::TooMany { columns: new.len() }.into());
    }
    let mut names: BTreeSet<String> = columns.names().map(str::to_owned).collect();
    let mut added = Vec::new();
    for column in new {
        let ty = column_type(column, users)?;
        let name = column.name.as_str().to_owned();
        if names.insert(name.clone()) {
            added.push((name, ty, column.is_static));
        } else if !if_not_exists {
            return Err(DefineError::ColumnExists { column: column.name.clone() });
        }
    }
    let (ids, next_id) = fresh_ids(columns.next_id, &added).ok_or(DefineError::NoMoreIds)?;
    let added = ids.into_iter().zip(added);
    columns.cells.extend(added.map(|(id, (name, ty, is_static))| CellColumn {
        id,
        name,
        ty,
        is_static,
    }));
    columns.cells.sort_by_key(|column| column.id);
    columns.next_id = next_id;
    Ok(())
}

/// Ids for columns that are added, and the next one that is free after them. `None`: there are no more.
///
/// Each is found by what the column is called and of what type it is, among [`IDS_APART`] (or twice as many as columns are
/// added, if that is more). So two nodes that add columns in the same moment, of which only the later definition stays,
/// hardly ever give one id to two columns: cells that were written meanwhile under the one that is lost are not read as
/// another column's. The same column has the same id on both.
fn fresh_ids(first: u32, added: &[(String, CqlType, bool)]) -> Option<(Vec<ColumnId>, u32)> {
    if added.is_empty() {
        return Some((Vec::new(), first));
    }
    let span = IDS_APART.max(u32::try_from(added.len()).ok()?.checked_mul(2)?);
    let next = first.checked_add(span)?;
    let mut taken = BTreeSet::new();
    let ids = added.iter().map(|(name, ty, is_static)| {
        let hash = xxh3_64(format!("{name}\0{ty}\0{is_static}").as_bytes());
        let mut at = u32::try_from(hash % u64::from(span)).unwrap_or(0);
        while !taken.insert(at) {
            at = (at + 1) % span;
        }
        ColumnId(first + at)
    });
    Some((ids.collect(), next))
}

fn drop(
    def: &mut TableDef,
    if_exists: bool,
    name: &Ident,
    now: TimestampMicros,
) -> Result<(), DefineError> {
    let columns = &mut def.columns;
    let Some(at) = columns.cells.iter().position(|column| *name == column.name.as_str()) else {
        if columns.names().any(|column| *name == column) {
            return Err(DefineError::DropKey { column: name.clone() });
        }
        return missing(def, if_exists, name);
    };
    let CellColumn { name, ty, is_static, .. } = columns.cells.remove(at);
    columns.dropped.retain(|column| column.name != name);
    if columns.dropped.len() >= COLUMNS_MAX {
        let oldest = columns.dropped.iter().enumerate().min_by_key(|(_, column)| column.at);
        if let Some((oldest, _)) = oldest {
            columns.dropped.remove(oldest);
        }
    }
    let place = columns.dropped.partition_point(|column| column.name < name);
    columns.dropped.insert(place, DroppedColumn { name, ty, is_static, at: now });
    Ok(())
}

fn rename(
    def: &mut TableDef,
    if_exists: bool,
    from: &Ident,
    to: &Ident,
) -> Result<(), DefineError> {
    let columns = &mut def.columns;
    if columns.cell(from.as_str()).is_some() {
        return Err(DefineError::RenameCell { column: from.clone() });
    }
    if !columns.names().any(|column| *from == column) {
        return missing(def, if_exists, from);
    }
    if columns.names().any(|column| *to == column) {
        let (column, to) = (from.clone(), to.clone());
        return Err(DefineError::RenameToExisting { column, to });
    }
    let keys = columns.partition_key.iter_mut().map(|column| &mut column.name);
    let clustering = columns.clustering.iter_mut().map(|column| &mut column.name);
    if let Some(name) = keys.chain(clustering).find(|name| *from == name.as_str()) {
        to.as_str().clone_into(name);
    }
    Ok(())
}

fn missing(def: &TableDef, fine: bool, column: &Ident) -> Result<(), DefineError> {
    if fine {
        return Ok(());
    }
    let table = format!("{}.{}", def.keyspace, def.name);
    Err(DefineError::ColumnMissing { column: column.clone(), table })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cql::ast::Statement;
    use crate::cql::parse;
    use crate::schema::{TableId, TableOptions};

    fn orders() -> TableDef {
        let text = "CREATE TABLE ks.orders (shop text, at timestamp, open boolean static, total int, \
                    PRIMARY KEY (shop, at))";
        let Statement::CreateTable(create) = parse(text).unwrap().statement else { panic!() };
        TableDef {
            id: TableId(1),
            keyspace: "ks".to_owned(),
            name: "orders".to_owned(),
            columns: super::super::table(&create, UserTypes::NONE).unwrap().columns,
            options: TableOptions::default(),
            altered: TimestampMicros(0),
            dropped: false,
        }
    }

    fn altered(def: &TableDef, change: &str) -> Result<TableDef, DefineError> {
        let text = format!("ALTER TABLE ks.orders {change}");
        let Statement::AlterTable(alter) = parse(&text).unwrap().statement else { panic!() };
        alter_table(def, &alter.change, TimestampMicros(7), UserTypes::NONE, &mut Vec::new())
    }

    fn id(def: &TableDef, name: &str) -> ColumnId {
        def.columns.cell(name).unwrap().id
    }

    #[test]
    fn a_column_that_is_added_again_is_another_column() {
        let first = altered(&orders(), "ADD note text").unwrap();
        let dropped = altered(&first, "DROP note").unwrap();
        assert_eq!(dropped.columns.cells, orders().columns.cells);
        let gone = DroppedColumn {
            name: "note".to_owned(),
            ty: CqlType::Text,
            is_static: false,
            at: TimestampMicros(7),
        };
        assert_eq!(dropped.columns.dropped, [gone]);
        // Of another type, too, and of another kind.
        for again in ["ADD note text", "ADD note int", "ADD note int static"] {
            let second = altered(&dropped, again).unwrap();
            assert!(id(&second, "note") > id(&first, "note"), "{again}");
            assert_eq!(second.columns.check(), Ok(()));
        }
        // Columns of the first hour as well.
        let dropped = altered(&dropped, "DROP (total, open)").unwrap();
        assert!(dropped.columns.cells.is_empty());
        let again = altered(&dropped, "ADD total int").unwrap();
        assert!(id(&again, "total") >= ColumnId(2));
    }

    #[test]
    fn two_nodes_that_add_columns_at_once_give_one_column_one_id_and_others_others() {
        let (a, b) = (altered(&orders(), "ADD a int"), altered(&orders(), "ADD b text"));
        assert_ne!(id(&a.unwrap(), "a"), id(&b.unwrap(), "b"));
        let both = altered(&orders(), "ADD b text, a int").unwrap();
        assert_eq!(id(&both, "a"), id(&altered(&orders(), "ADD a int").unwrap(), "a"));
        // As many as a table holds, of which many meet.
        let many: Vec<String> = (0..4000).map(|nth| format!("c{nth} int")).collect();
        let many = altered(&orders(), &format!("ADD ({})", many.join(", "))).unwrap();
        assert_eq!(many.columns.cells.len(), 4002);
        assert_eq!(many.columns.check(), Ok(()), "ids are in order, once each, and below the next");
    }

    #[test]
    fn nothing_is_changed_where_nothing_need_be() {
        for change in [
            "ADD IF NOT EXISTS (total int, shop blob)",
            "DROP IF EXISTS (nothing, neither)",
            "RENAME IF EXISTS nothing TO something",
            "WITH gc_grace_seconds = 864000",
        ] {
            assert_eq!(altered(&orders(), change).unwrap(), orders(), "{change}");
        }
    }

    #[test]
    fn keys_are_renamed_and_options_set() {
        let renamed = altered(&orders(), "RENAME shop TO \"Shop\" AND at TO placed").unwrap();
        let names: Vec<&str> = renamed.columns.names().collect();
        assert_eq!(names, ["Shop", "placed", "open", "total"]);
        let set = altered(&orders(), "WITH gc_grace_seconds = 60 AND compression = {}").unwrap();
        assert_eq!((set.options.gc_grace_seconds, set.options.compression), (60, false));
        let again = altered(&set, "WITH default_time_to_live = 5").unwrap();
        assert_eq!(again.options.gc_grace_seconds, 60, "what was set stays set");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (change, said) in [
            ("ADD total int", "column total exists already"),
            ("ADD shop int", "column shop exists already"),
            ("ADD a int, a int", "column a exists already"),
            ("ADD a frozen<int>", "column a: "),
            ("ADD IF NOT EXISTS n counter", "counter"),
            ("DROP nothing", "column nothing was not found in table ks.orders"),
            ("DROP shop", "column shop is part of the PRIMARY KEY and cannot be dropped"),
            ("DROP total USING TIMESTAMP 3", "USING TIMESTAMP"),
            ("DROP COMPACT STORAGE", "COMPACT STORAGE"),
            ("RENAME total TO sum", "column total is not part of the PRIMARY KEY"),
            ("RENAME nothing TO sum", "column nothing was not found in table ks.orders"),
            ("RENAME shop TO total", "column shop cannot be renamed to total"),
            ("RENAME shop TO a AND at TO a", "column at cannot be renamed to a"),
            ("ALTER total TYPE bigint", "column total"),
            ("WITH gc_grace_second = 1", "did you mean gc_grace_seconds?"),
        ] {
            let error = altered(&orders(), change).unwrap_err();
            assert!(error.to_string().contains(said), "{change}: {error}");
            assert_eq!(error.is_config(), change.starts_with("WITH"), "{change}");
        }
        let mut counters = orders();
        counters.columns.cells.iter_mut().for_each(|column| column.ty = CqlType::Counter);
        let expiring = altered(&counters, "WITH default_time_to_live = 5").unwrap_err();
        assert_eq!(expiring, DefineError::CountersExpire);
        let mut one_row = orders();
        one_row.columns.clustering.clear();
        one_row.columns.cells.remove(0);
        let error = altered(&one_row, "ADD s int static").unwrap_err();
        assert!(error.to_string().contains("column `s` is static"), "{error}");
    }

    #[test]
    fn a_table_runs_out_of_ids_and_not_into_those_of_others() {
        let mut def = orders();
        def.columns.next_id = u32::MAX - 10;
        assert_eq!(altered(&def, "ADD a int").unwrap_err(), DefineError::NoMoreIds);
        assert!(altered(&def, "DROP total").is_ok());
    }

    #[test]
    fn of_dropped_columns_the_latest_of_a_name_is_listed_and_the_oldest_of_too_many_forgotten() {
        let mut def = orders();
        for nth in 0..=COLUMNS_MAX {
            let name = format!("c{nth:05}");
            let (ty, at) = (CqlType::Int, TimestampMicros(i64::try_from(nth).unwrap()));
            let column = CellColumn {
                id: ColumnId(def.columns.next_id),
                name: name.clone(),
                ty,
                is_static: false,
            };
            def.columns.next_id += 1;
            def.columns.cells.push(column);
            drop(&mut def, false, &Ident::quoted(name), at).unwrap();
        }
        assert_eq!(def.columns.dropped.len(), COLUMNS_MAX);
        assert_eq!(def.columns.dropped[0].name, "c00001");
        assert_eq!(def.columns.check(), Ok(()));
        let again = altered(&altered(&def, "ADD c00009 text").unwrap(), "DROP c00009").unwrap();
        let listed: Vec<_> =
            again.columns.dropped.iter().filter(|it| it.name == "c00009").collect();
        assert!(matches!(listed.as_slice(), [one] if one.at == TimestampMicros(7)));
    }
}
