//! What is more than rows and cells: elements of collections, conditions, counters, logged batches, tables that change,
//! and traces.

use crate::errors::said;
use crate::suite::{Checked, KEYSPACE, NODES, check, equal, only, run};
use scylla::client::session::Session;
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::DbError;
use scylla::observability::tracing::TracingInfo;
use scylla::response::query_result::QueryResult;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::{Consistency, SerialConsistency, Statement};
use scylla::value::Counter;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The one row of a statement.
async fn row<R>(on: &Session, text: &str) -> Checked<R>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let answer = on.query_unpaged(text, ()).await.map_err(|error| format!("{text}: {error}"))?;
    Ok(answer.into_rows_result()?.single_row::<R>()?)
}

/// Collections that are not frozen: written whole, added to, taken from, an element at a time, and gone when empty.
pub(crate) async fn collections(on: &Session) -> Checked {
    let table = format!("{KEYSPACE}.collected");
    let columns = "l list<int>, s set<text>, m map<text, int>";
    run(on, format!("CREATE TABLE {table} (k int PRIMARY KEY, {columns})")).await?;
    type Collected = (Option<Vec<i32>>, Option<BTreeSet<String>>, Option<BTreeMap<String, i32>>);
    let select = format!("SELECT l, s, m FROM {table} WHERE k = 1");
    let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<BTreeSet<_>>();
    let counts = |counts: &[(&str, i32)]| {
        counts.iter().map(|(text, count)| (text.to_string(), *count)).collect::<BTreeMap<_, _>>()
    };
    let insert =
        on.prepare(format!("INSERT INTO {table} (k, l, s, m) VALUES (1, ?, ?, ?)")).await?;
    let whole = (vec![2, 3], texts(&["b", "a"]), counts(&[("one", 1)]));
    on.execute_unpaged(&insert, &whole).await?;
    let found: Collected = row(on, &select).await?;
    equal(found, (Some(whole.0), Some(whole.1), Some(whole.2)), "whole")?;

    let update = format!("UPDATE {table} SET l = ? + l, s = s + ?, m = m + ? WHERE k = 1");
    let update = on.prepare(update).await?;
    on.execute_unpaged(&update, (vec![1], texts(&["c"]), counts(&[("two", 2)]))).await?;
    run(on, format!("UPDATE {table} SET l = l + [4], s = s - {{'a'}}, m['one'] = 11 WHERE k = 1"))
        .await?;
    run(on, format!("UPDATE {table} SET l[1] = 22 WHERE k = 1")).await?;
    let found: Collected = row(on, &select).await?;
    let wanted = (vec![1, 22, 3, 4], texts(&["b", "c"]), counts(&[("one", 11), ("two", 2)]));
    equal(found, (Some(wanted.0), Some(wanted.1), Some(wanted.2)), "added to and taken from")?;

    run(on, format!("DELETE m['one'], l[0] FROM {table} WHERE k = 1")).await?;
    run(on, format!("UPDATE {table} SET s = {{}} WHERE k = 1")).await?;
    let found: Collected = row(on, &select).await?;
    equal(found, (Some(vec![22, 3, 4]), None, Some(counts(&[("two", 2)]))), "after deletions")
}

/// A condition that holds is applied, and one that does not tells what is there: alone, in a batch, and to a serial read.
pub(crate) async fn conditions(on: &Session) -> Checked {
    let table = format!("{KEYSPACE}.conditions");
    let columns = "k int, c int, s text static, v int, PRIMARY KEY (k, c)";
    run(on, format!("CREATE TABLE {table} ({columns})")).await?;
    let applied = |answer: QueryResult, what: &str| -> Checked {
        let rows = answer.into_rows_result()?;
        equal(
            rows.column_specs().get_by_index(0).map(|column| column.name()),
            Some("[applied]"),
            what,
        )?;
        check(rows.single_row::<(bool,)>().is_ok_and(|(applied,)| applied), what)
    };
    type Whole = (bool, i32, i32, Option<String>, Option<i32>);
    let insert = format!("INSERT INTO {table} (k, c, v) VALUES (?, ?, ?) IF NOT EXISTS");
    let insert = on.prepare(insert).await?;
    applied(on.execute_unpaged(&insert, (1, 1, 10)).await?, "the first INSERT")?;
    let refused = on.execute_unpaged(&insert, (1, 1, 11)).await?.into_rows_result()?;
    equal(refused.single_row::<Whole>()?, (false, 1, 1, None, Some(10)), "the second INSERT")?;

    let update = format!("UPDATE {table} SET v = ? WHERE k = ? AND c = ? IF v = ?");
    let mut update = on.prepare(update).await?;
    for (level, was) in [(SerialConsistency::Serial, 10), (SerialConsistency::LocalSerial, 11)] {
        update.set_serial_consistency(Some(level));
        let refused = on.execute_unpaged(&update, (0, 1, 1, 0)).await?.into_rows_result()?;
        let found = refused.single_row::<(bool, Option<i32>)>()?;
        equal(found, (false, Some(was)), format_args!("a condition that fails at {level:?}"))?;
        let held = on.execute_unpaged(&update, (was + 1, 1, 1, was)).await?;
        applied(held, "a condition that holds")?;
    }
    for (level, wanted) in [(Consistency::Serial, 12), (Consistency::LocalSerial, 12)] {
        let mut read = Statement::new(format!("SELECT v FROM {table} WHERE k = 1 AND c = 1"));
        read.set_consistency(level);
        let read = on.query_unpaged(read, ()).await?.into_rows_result()?;
        equal(read.single_row::<(i32,)>()?.0, wanted, format_args!("a read at {level:?}"))?;
    }

    let mut batch = Batch::new(BatchType::Logged);
    batch.append_statement(update.clone());
    batch.append_statement(insert.clone());
    applied(on.batch(&batch, ((13, 1, 1, 12), (1, 2, 20))).await?, "a batch that holds")?;
    let refused = on.batch(&batch, ((14, 1, 1, 13), (1, 2, 21))).await?.into_rows_result()?;
    let rows: Vec<Whole> = refused.rows::<Whole>()?.collect::<Result<_, _>>()?;
    let wanted = vec![(false, 1, 1, None, Some(13)), (false, 1, 2, None, Some(20))];
    equal(rows, wanted, "a batch of which one condition fails, and the rows with their keys")?;
    let delete = format!("DELETE FROM {table} WHERE k = 1 AND c = 2 IF EXISTS");
    applied(on.query_unpaged(delete.as_str(), ()).await?, "DELETE of what is there")?;
    let (gone,): (bool,) = row(on, &delete).await?;
    check(!gone, "DELETE of what is gone was applied")?;
    let two = format!("UPDATE {table} SET v = 0 WHERE k IN (1, 2) AND c = 1 IF v = 0");
    equal(said(on.query_unpaged(two, ()).await)?, DbError::Invalid, "of two partitions")
}

/// Increments add up, whichever node takes them, and so do those of a batch, which may say one counter twice.
pub(crate) async fn counters(on: &Session) -> Checked {
    let table = format!("{KEYSPACE}.counted");
    run(on, format!("CREATE TABLE {table} (k text PRIMARY KEY, n counter, m counter)")).await?;
    let update = format!("UPDATE {table} SET n = n + ?, m = m - ? WHERE k = ?");
    let mut update = on.prepare(update).await?;
    for (nth, ip) in (0..30).zip(NODES.into_iter().cycle()) {
        update.set_load_balancing_policy(Some(only(on, ip)?));
        on.execute_unpaged(&update, (Counter(nth), Counter(1), "a")).await?;
    }
    let select = format!("SELECT n, m FROM {table} WHERE k = 'a'");
    let found: (Counter, Counter) = row(on, &select).await?;
    equal(found, (Counter(435), Counter(-30)), "counters")?;
    update.set_load_balancing_policy(None);
    let mut batch = Batch::new(BatchType::Counter);
    let mut values = Vec::new();
    for k in ["a", "b", "a"] {
        batch.append_statement(update.clone());
        values.push((Counter(100), Counter(-1), k));
    }
    on.batch(&batch, values).await?;
    let found: (Counter, Counter) = row(on, &select).await?;
    equal(found, (Counter(635), Counter(-28)), "counters after a batch")?;
    let set = format!("UPDATE {table} SET n = 1 WHERE k = 'a'");
    equal(said(on.query_unpaged(set, ()).await)?, DbError::Invalid, "a counter that is set")
}

/// A logged batch writes all of its partitions.
pub(crate) async fn logged_batch(on: &Session) -> Checked {
    let table = format!("{KEYSPACE}.logged");
    run(on, format!("CREATE TABLE {table} (k int PRIMARY KEY, v text)")).await?;
    let insert = on.prepare(format!("INSERT INTO {table} (k, v) VALUES (?, ?)")).await?;
    let mut batch = Batch::new(BatchType::Logged);
    batch.set_timestamp(Some(77));
    let mut values = Vec::new();
    for k in 0..50 {
        batch.append_statement(insert.clone());
        values.push((k, format!("value {k}")));
    }
    on.batch(&batch, values).await?;
    let select = format!("SELECT count(*), min(writetime(v)), max(writetime(v)) FROM {table}");
    let found: (i64, i64, i64) = row(on, &select).await?;
    equal(found, (50, 77, 77), "rows of the batch, and their timestamps")
}

/// The driver's model of a table has these columns, and no other. It refreshes it after its own changes, and when asked.
async fn knows<const N: usize>(
    on: &Session,
    table: &str,
    wanted: [(&str, &ColumnType<'static>); N],
) -> Checked {
    on.refresh_metadata().await?;
    let state = on.get_cluster_state();
    let keyspace = state.get_keyspace(KEYSPACE).ok_or("the keyspace is not known")?;
    let table = keyspace.tables.get(table).ok_or("the table is not known")?;
    let found: BTreeMap<_, _> =
        table.columns.iter().map(|(name, column)| (name.as_str(), &column.typ)).collect();
    equal(found, BTreeMap::from(wanted), "columns that the driver knows")
}

/// Columns come and go under a statement that was prepared before, and the driver's model of the table follows; a table
/// that was truncated is empty, and takes what is written since.
pub(crate) async fn altered(on: &Session) -> Checked {
    let table = format!("{KEYSPACE}.altered");
    run(on, format!("CREATE TABLE {table} (k int PRIMARY KEY, v int)")).await?;
    let insert = on.prepare(format!("INSERT INTO {table} (k, v) VALUES (?, ?)")).await?;
    on.execute_unpaged(&insert, (1, 2)).await?;
    // It asks for the columns with each answer: in v4 this driver does not trust those that it was told of by PREPARE.
    let select = on.prepare(format!("SELECT * FROM {table} WHERE k = 1")).await?;
    let found = on.execute_unpaged(&select, ()).await?.into_rows_result()?;
    equal(found.single_row::<(i32, i32)>()?, (1, 2), "before")?;

    run(on, format!("ALTER TABLE {table} ADD tags set<text>")).await?;
    let int = ColumnType::Native(NativeType::Int);
    let texts = CollectionType::Set(Box::new(ColumnType::Native(NativeType::Text)));
    let texts = ColumnType::Collection { frozen: false, typ: texts };
    knows(on, "altered", [("k", &int), ("tags", &texts), ("v", &int)]).await?;
    run(on, format!("UPDATE {table} SET tags = {{'new'}} WHERE k = 1")).await?;
    type Added = (i32, Option<BTreeSet<String>>, Option<i32>);
    for ip in NODES {
        let mut there = select.clone();
        there.set_load_balancing_policy(Some(only(on, ip)?));
        let found = on.execute_unpaged(&there, ()).await?.into_rows_result()?;
        let wanted = (1, Some(BTreeSet::from(["new".to_owned()])), Some(2));
        equal(found.single_row::<Added>()?, wanted, format_args!("a column more, at {ip}"))?;
    }

    run(on, format!("ALTER TABLE {table} DROP v")).await?;
    knows(on, "altered", [("k", &int), ("tags", &texts)]).await?;
    let found = on.execute_unpaged(&select, ()).await?.into_rows_result()?;
    let columns: Vec<_> = found.column_specs().iter().map(|column| column.name()).collect();
    equal(columns, vec!["k", "tags"], "a column less")?;
    let read = on.query_unpaged(format!("SELECT v FROM {table}"), ()).await;
    equal(said(read)?, DbError::Invalid, "a column that was dropped is read")?;
    let written = on.execute_unpaged(&insert, (1, 2)).await;
    equal(said(written)?, DbError::Invalid, "a column that was dropped is written")?;

    run(on, format!("TRUNCATE {table}")).await?;
    let count = format!("SELECT count(*) FROM {table}");
    equal(row::<(i64,)>(on, &count).await?, (0,), "rows after TRUNCATE")?;
    run(on, format!("INSERT INTO {table} (k) VALUES (1)")).await?;
    equal(row::<(i64,)>(on, &count).await?, (1,), "rows since")
}

/// The driver finds the traces of what it asked: who was asked, what they answered, and who coordinated.
pub(crate) async fn tracing(on: &Session) -> Checked {
    let table = format!("{KEYSPACE}.traced");
    run(on, format!("CREATE TABLE {table} (k int PRIMARY KEY, v int)")).await?;
    let at = NODES[1];
    let mut write = Statement::new(format!("INSERT INTO {table} (k, v) VALUES (1, 2)"));
    write.set_consistency(Consistency::All);
    write.set_load_balancing_policy(Some(only(on, at)?));
    write.set_tracing(true);
    let trace = trace_of(on, &on.query_unpaged(write.clone(), ()).await?).await?;
    let asked = trace.parameters.ok_or("a trace without parameters")?;
    equal(asked.get("consistency_level").map(String::as_str), Some("ALL"), "level")?;
    equal(asked.get("query"), Some(&write.contents), "query")?;
    equal(trace.request.as_deref(), Some("Execute CQL3 query"), "request")?;
    equal((trace.coordinator, trace.client.is_some()), (Some(at), true), "coordinator and client")?;
    check(trace.duration.is_some_and(|micros| micros > 0), "a trace without a duration")?;
    let says = |what: &str| -> BTreeSet<IpAddr> {
        let events = trace.events.iter();
        let those = events.filter(|it| it.activity.as_ref().is_some_and(|it| it.contains(what)));
        those.filter_map(|event| event.source).collect()
    };
    equal(says("Merged into the memtable"), NODES.into(), "replicas that wrote")?;
    equal(says("Sending MUTATION message to 127.0.9.1"), [at].into(), "who asked the first node")?;
    equal(says("Sending MUTATION message to 127.0.9.3"), [at].into(), "who asked the third node")?;
    equal(says("ALL is reached: 3 of 3 required answers"), [at].into(), "who counted")?;

    let mut select = on.prepare(format!("SELECT v FROM {table} WHERE k = ?")).await?;
    select.set_tracing(true);
    let done = on.execute_unpaged(&select, (1,)).await?;
    let coordinator = done.request_coordinator().node().address.ip();
    let trace = trace_of(on, &done).await?;
    equal(trace.request.as_deref(), Some("Execute CQL3 prepared query"), "request")?;
    equal(trace.coordinator, Some(coordinator), "coordinator of a prepared statement")?;
    let digest = |it: &str| it.starts_with("Received digest from");
    let heard = trace.events.iter().any(|event| event.activity.as_deref().is_some_and(digest));
    check(heard, format_args!("no digest was received: {:?}", trace.events))?;
    select.set_tracing(false);
    let untraced = on.execute_unpaged(&select, (1,)).await?;
    equal(untraced.tracing_id(), None, "a trace that nobody asked for")
}

async fn trace_of(on: &Session, done: &QueryResult) -> Checked<TracingInfo> {
    let id = done.tracing_id().ok_or("a traced request has no id of its trace")?;
    Ok(on.get_tracing_info(&id).await?)
}
