//! Tests of `rows`: metadata byte by byte, and rows that cannot be.

use super::super::read::Problem;
use super::*;
use bytes::BytesMut;
use helenus_core::cql::CqlType;

fn spec(table: &str, name: &str) -> Arc<ColumnSpec> {
    let (keyspace, table) = ("ks".into(), table.into());
    Arc::new(ColumnSpec { keyspace, table, name: name.into(), ty: CqlType::Int })
}

fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut Writer::new(&mut out)).unwrap();
    out.freeze()
}

#[test]
fn one_table_is_named_once_and_two_with_each_column() {
    let one = RowsMetadata::new([spec("t", "a"), spec("t", "b")].into());
    let bytes = written(|to| one.write(to, Version::V4));
    assert_eq!(bytes, &b"\0\0\0\x01\0\0\0\x02\0\x02ks\0\x01t\0\x01a\0\x09\0\x01b\0\x09"[..]);
    let two = RowsMetadata::new([spec("t", "a"), spec("u", "b")].into());
    let bytes = written(|to| two.write(to, Version::V4));
    let expected = b"\0\0\0\0\0\0\0\x02\0\x02ks\0\x01t\0\x01a\0\x09\0\x02ks\0\x01u\0\x01b\0\x09";
    assert_eq!(bytes, &expected[..]);
}

#[test]
fn pages_and_changed_metadata_come_before_the_columns() {
    let metadata = RowsMetadata {
        paging_state: Some(Bytes::from_static(b"p")),
        new_metadata_id: Some(Bytes::from_static(b"id")),
        ..RowsMetadata::new([spec("t", "a")].into())
    };
    let bytes = written(|to| metadata.write(to, Version::V5));
    let expected = b"\0\0\0\x0b\0\0\0\x01\0\0\0\x01p\0\x02id\0\x02ks\0\x01t\0\x01a\0\x09";
    assert_eq!(bytes, &expected[..]);
    assert_eq!(RowsMetadata::read(&mut Reader::new(bytes), Version::V5), Ok(metadata.clone()));
    let refused = metadata.write(&mut Writer::new(&mut BytesMut::new()), Version::V4);
    assert!(matches!(refused, Err(EncodeError::NotInVersion { .. })));
}

#[test]
fn columns_that_the_client_knows_are_only_counted() {
    let metadata = RowsMetadata { columns: Columns::Counted(3), ..RowsMetadata::none() };
    let bytes = written(|to| metadata.write(to, Version::V4));
    assert_eq!(bytes, &b"\0\0\0\x04\0\0\0\x03"[..]);
}

#[test]
fn prepared_names_the_partition_key_before_the_markers() {
    let prepared = Prepared {
        id: Bytes::from_static(b"ID"),
        result_metadata_id: Some(Bytes::from_static(b"R")),
        markers: [spec("t", "a")].into(),
        pk_indexes: vec![0],
        result: RowsMetadata::none(),
    };
    let tail = b"\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x02ks\0\x01t\0\x01a\0\x09\0\0\0\x04\0\0\0\0";
    let v4 = written(|to| prepared.write(to, Version::V4));
    assert_eq!(v4, [&b"\0\x02ID"[..], tail].concat());
    let v5 = written(|to| prepared.write(to, Version::V5));
    assert_eq!(v5, [&b"\0\x02ID\0\x01R"[..], tail].concat());
    assert_eq!(Prepared::read(&mut Reader::new(v5), Version::V5), Ok(prepared));
}

#[test]
fn rows_are_counted_as_their_cells_come() {
    let metadata = RowsMetadata { columns: Columns::Counted(2), ..RowsMetadata::none() };
    let bytes = written(|to| {
        let mut rows = RowsWriter::begin(to, Version::V4, &metadata)?;
        for cell in [Some(&b"k"[..]), None, Some(b""), Some(b"v")] {
            rows.cell(cell)?;
        }
        assert_eq!(rows.bytes_so_far(), 4 + 5 + 4 + 4 + 5);
        rows.finish()
    });
    let cells = b"\0\0\0\x02\0\0\0\x01k\xff\xff\xff\xff\0\0\0\0\0\0\0\x01v";
    assert_eq!(bytes, [&b"\0\0\0\x04\0\0\0\x02"[..], cells].concat());
}

#[test]
fn cells_that_are_no_whole_rows_are_refused() {
    let cells = |columns: u32, cells: usize| {
        let metadata = RowsMetadata { columns: Columns::Counted(columns), ..RowsMetadata::none() };
        let mut out = BytesMut::new();
        let mut to = Writer::new(&mut out);
        let mut rows = RowsWriter::begin(&mut to, Version::V4, &metadata).unwrap();
        (0..cells).for_each(|_| rows.cell(None).unwrap());
        rows.finish()
    };
    assert_eq!(cells(3, 6), Ok(()));
    assert_eq!(cells(0, 0), Ok(()));
    assert_eq!(cells(3, 5), Err(EncodeError::RaggedRow { cells: 5, columns: 3 }));
    assert_eq!(cells(0, 1), Err(EncodeError::RaggedRow { cells: 1, columns: 0 }));
}

#[test]
fn rows_and_columns_beyond_the_bytes_are_refused() {
    let rows = |bytes: &'static [u8]| {
        Rows::read(&mut Reader::new(Bytes::from_static(bytes)), Version::V4).unwrap_err().problem
    };
    // Two thousand million rows of no columns would take no bytes.
    let nothing = rows(b"\0\0\0\x04\0\0\0\0\x7f\xff\xff\xff");
    assert_eq!(nothing, Problem::Count { count: i64::from(i32::MAX), left: 0 });
    assert!(matches!(rows(b"\0\0\0\x04\0\0\0\0\0\0\0\x01x"), Problem::Refused { .. }));
    assert!(matches!(
        rows(b"\0\0\0\x04\0\0\0\x02\0\0\0\x01\xff\xff\xff\xff"),
        Problem::Count { .. }
    ));
    assert!(matches!(rows(b"\0\0\0\x01\x7f\xff\xff\xff\0\0\0\0"), Problem::Count { .. }));
    assert!(matches!(rows(b"\0\0\0\x01\xff\xff\xff\xff\0\0\0\0"), Problem::Length { length: -1 }));
    assert!(matches!(rows(b"\0\0\0\x04\x7f\xff\xff\xff\0\0\0\x01"), Problem::Count { .. }));
}
