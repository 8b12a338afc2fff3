//! What is written is what is read: types, nulls, batches, pages.

use crate::suite::{Checked, KEYSPACE, check, connect, connect_with, equal, profile, run};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::client::Compression;
use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::statement::batch::{Batch, BatchType};
use scylla::value::{
    CqlDate, CqlDecimal, CqlDuration, CqlTime, CqlTimestamp, CqlTimeuuid, CqlVarint, MaybeUnset,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use uuid::Uuid;

/// Values compressed by both algorithms that v4 has arrive in both directions.
pub(crate) async fn compression(on: &Session) -> Checked {
    run(on, format!("CREATE TABLE {KEYSPACE}.pressed (k int PRIMARY KEY, v text)")).await?;
    for by in [Compression::Lz4, Compression::Snappy] {
        let on = connect_with(profile().build(), Some(by)).await?;
        let insert = format!("INSERT INTO {KEYSPACE}.pressed (k, v) VALUES (?, ?)");
        let insert = on.prepare(insert).await?;
        let select = on.prepare(format!("SELECT v FROM {KEYSPACE}.pressed WHERE k = ?")).await?;
        for (k, count) in (0..).zip([0, 1, 5_000, 60_000]) {
            let value: String = (0..count).map(|n: i32| n.to_string()).collect();
            on.execute_unpaged(&insert, (k, &value)).await?;
            let found = on.execute_unpaged(&select, (k,)).await?.into_rows_result()?;
            check(found.single_row::<(String,)>()?.0 == value, format_args!("{by:?}: value {k}"))?;
        }
    }
    Ok(())
}

/// A value of every scalar type, and frozen collections and tuples; then null and unset.
pub(crate) async fn kinds(on: &Session) -> Checked {
    run(
        on,
        format!(
            "CREATE TABLE {KEYSPACE}.kinds (k int PRIMARY KEY, a ascii, big bigint, bin blob, yes boolean, day date, \
             exact decimal, wide double, span duration, slim float, addr inet, small smallint, t text, clock time, \
             at timestamp, made timeuuid, tiny tinyint, id uuid, huge varint, words frozen<list<text>>, \
             counts frozen<map<text, int>>, kinds frozen<set<int>>, pair tuple<int, text>)"
        ),
    )
    .await?;
    type First =
        (String, i64, Vec<u8>, bool, CqlDate, CqlDecimal, f64, CqlDuration, f32, IpAddr, i16);
    type Second = (String, CqlTime, CqlTimestamp, CqlTimeuuid, i8, Uuid, CqlVarint);
    type Third = (Vec<String>, BTreeMap<String, i32>, BTreeSet<i32>, (Option<i32>, String));
    let first: First = (
        "plain".to_owned(),
        i64::MIN,
        vec![0, 255],
        true,
        CqlDate((1 << 31) + 19_782),
        CqlDecimal::from_signed_be_bytes_and_exponent(vec![0xCF, 0xC8], 3),
        1.5e300,
        CqlDuration { months: -1, days: -2, nanoseconds: -3 },
        -0.25,
        "2001:db8::1".parse()?,
        i16::MIN,
    );
    let second: Second = (
        "Grüße, 世界".to_owned(),
        CqlTime(86_399_999_999_999),
        CqlTimestamp(-1),
        CqlTimeuuid::from_u128(0x1234_5678_1234_1234_9876_0123_4567_89ab),
        i8::MIN,
        Uuid::from_u128(0x1234_5678_1234_4321_9876_0123_4567_89ab),
        CqlVarint::from_signed_bytes_be(vec![0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    );
    let third: Third = (
        vec!["a".to_owned(), String::new(), "ü".to_owned()],
        BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]),
        BTreeSet::from([3, -1]),
        (None, "x".to_owned()),
    );
    let columns = [
        "a, big, bin, yes, day, exact, wide, span, slim, addr, small",
        "t, clock, at, made, tiny, id, huge",
        "words, counts, kinds, pair",
    ];
    // Three statements, because a tuple has at most sixteen values.
    macro_rules! there_and_back {
        ($columns:expr, $values:expr, $kind:ty) => {{
            let names: Vec<&str> = $columns.split(", ").collect();
            let set = names.join(" = ?, ");
            let update = on.prepare(format!("UPDATE {KEYSPACE}.kinds SET {set} = ? WHERE k = 1"));
            on.execute_unpaged(&update.await?, $values.clone()).await?;
            let select =
                on.prepare(format!("SELECT {} FROM {KEYSPACE}.kinds WHERE k = 1", $columns));
            let found = on.execute_unpaged(&select.await?, ()).await?.into_rows_result()?;
            equal(found.single_row::<$kind>()?, $values, "values")?;
        }};
    }
    there_and_back!(columns[0], first, First);
    there_and_back!(columns[1], second, Second);
    there_and_back!(columns[2], third, Third);
    let insert = format!("INSERT INTO {KEYSPACE}.kinds (k, big, yes) VALUES (1, ?, ?)");
    let unset: (MaybeUnset<i64>, Option<bool>) = (MaybeUnset::Unset, None);
    on.execute_unpaged(&on.prepare(insert).await?, unset).await?;
    let select = format!("SELECT big, yes FROM {KEYSPACE}.kinds WHERE k = 1");
    let found = on.query_unpaged(select, ()).await?.into_rows_result()?;
    let found = found.single_row::<(Option<i64>, Option<bool>)>()?;
    equal(found, (Some(i64::MIN), None), "after unset and null")
}

/// Unlogged over partitions, with prepared and plain statements; logged in one.
pub(crate) async fn batches(on: &Session) -> Checked {
    run(
        on,
        format!(
            "CREATE TABLE {KEYSPACE}.rows (k int, c int, v text, PRIMARY KEY (k, c)) \
             WITH CLUSTERING ORDER BY (c DESC)"
        ),
    )
    .await?;
    let insert = format!("INSERT INTO {KEYSPACE}.rows (k, c, v) VALUES (?, ?, ?)");
    let prepared = on.prepare(insert.as_str()).await?;
    for start in (0..500).step_by(50) {
        let mut batch = Batch::new(BatchType::Unlogged);
        let mut values = Vec::new();
        for n in start..start + 50 {
            batch.append_statement(prepared.clone());
            values.push((n % 5, n, n.to_string()));
        }
        on.batch(&batch, values).await?;
    }
    let mut batch = Batch::new(BatchType::Logged);
    let mut values = Vec::new();
    for n in 0..20 {
        batch.append_statement(insert.as_str());
        values.push((77, n, "logged".to_owned()));
    }
    on.batch(&batch, values).await?;
    let count = format!("SELECT count(*) FROM {KEYSPACE}.rows WHERE k = 77");
    let found = on.query_unpaged(count, ()).await?.into_rows_result()?;
    equal(found.single_row::<(i64,)>()?.0, 20, "rows of the logged batch")
}

/// A partition in pages that the driver asks for, then all rows from saved states, some of them in another session.
pub(crate) async fn pages(on: &Session) -> Checked {
    let select = format!("SELECT c FROM {KEYSPACE}.rows WHERE k = ?");
    let mut select = on.prepare(select).await?;
    select.set_page_size(7);
    let rows = on.execute_iter(select, (3,)).await?.rows_stream::<(i32,)>()?;
    let found: Vec<i32> = rows.map_ok(|(c,)| c).try_collect().await?;
    let wanted: Vec<i32> = (0..500).rev().filter(|n| n % 5 == 3).collect();
    equal(found, wanted, "rows of a partition")?;

    let all = format!("SELECT k, c FROM {KEYSPACE}.rows");
    let mut seen = BTreeSet::new();
    let mut state = PagingState::start();
    for turn in 0..100 {
        let other = if turn % 10 == 0 { Some(connect().await?) } else { None };
        let session = other.as_ref().unwrap_or(on);
        let mut select = session.prepare(all.as_str()).await?;
        select.set_page_size(37);
        let (page, next) = session.execute_single_page(&select, &(), state).await?;
        let page = page.into_rows_result()?;
        check(page.rows_num() <= 37, format_args!("a page of 37 has {} rows", page.rows_num()))?;
        for row in page.rows::<(i32, i32)>()? {
            let row = row?;
            check(seen.insert(row), format_args!("row {row:?} came twice"))?;
        }
        match next.into_paging_control_flow() {
            ControlFlow::Break(()) => return equal(seen.len(), 520, "rows of all pages"),
            ControlFlow::Continue(next) => state = next,
        }
    }
    Err("pages do not come to an end".into())
}

/// Two thousand requests over one session, each answered with its own row.
pub(crate) async fn many_requests(on: &Session) -> Checked {
    run(on, format!("CREATE TABLE {KEYSPACE}.many (k int PRIMARY KEY, v text)")).await?;
    let insert = on.prepare(format!("INSERT INTO {KEYSPACE}.many (k, v) VALUES (?, ?)")).await?;
    let select = on.prepare(format!("SELECT v FROM {KEYSPACE}.many WHERE k = ?")).await?;
    let (insert, select) = (&insert, &select);
    let writes = stream::iter(0..2000)
        .map(async |n| on.execute_unpaged(insert, (n, format!("value {n}"))).await.map(drop));
    writes.buffer_unordered(2000).try_collect::<()>().await?;
    let reads = stream::iter(0..2000).map(async |n| -> Checked {
        let row = on.execute_unpaged(select, (n,)).await?.into_rows_result()?;
        equal(row.single_row::<(String,)>()?.0, format!("value {n}"), format_args!("row {n}"))
    });
    reads.buffer_unordered(2000).try_collect::<()>().await
}
