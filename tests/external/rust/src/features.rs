//! What is more than rows and cells: collections by their elements.

use crate::suite::{Checked, KEYSPACE, equal, run};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use std::collections::{BTreeMap, BTreeSet};

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
