//! What the driver learns of the cluster: its nodes, its tokens, its schema.

use crate::suite::{Checked, KEYSPACE, KEYSPACE_ONE, NODES, check, equal, eventually, only, run};
use scylla::client::session::Session;
use scylla::cluster::metadata::Strategy;
use scylla::statement::{Consistency, Statement};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Three nodes, each in its rack, with 16 tokens each.
pub(crate) async fn topology(on: &Session) -> Checked {
    let state = on.get_cluster_state();
    let nodes = state.get_nodes_info();
    let mut found: Vec<_> = nodes
        .iter()
        .map(|node| (node.address.ip(), node.datacenter.as_deref(), node.rack.as_deref()))
        .collect();
    found.sort();
    let wanted = NODES.into_iter().zip(["r1", "r2", "r3"]);
    equal(found, wanted.map(|(ip, rack)| (ip, Some("dc1"), Some(rack))).collect(), "nodes")?;
    let ids: BTreeSet<_> = nodes.iter().map(|node| node.host_id).collect();
    equal(ids.len(), 3, "host ids")?;
    equal(state.cluster_name(), "external", "cluster name")?;
    let mut tokens = BTreeMap::new();
    for (_, node) in state.replica_locator().ring().iter() {
        *tokens.entry(node.address.ip()).or_insert(0) += 1;
    }
    equal(tokens, NODES.map(|ip| (ip, 16)).into(), "tokens of each")
}

/// With one copy of each row, at least 990 of 1,000 writes go to the node that the driver computed, and what `token()`
/// says of the row is what the driver computed.
pub(crate) async fn token_aware(on: &Session) -> Checked {
    let table = format!("{KEYSPACE_ONE}.placed");
    run(on, format!("CREATE TABLE {table} (a int, b text, v int, PRIMARY KEY ((a, b)))")).await?;
    let insert = format!("INSERT INTO {table} (a, b, v) VALUES (?, ?, ?)");
    let mut insert = on.prepare(insert).await?;
    insert.set_consistency(Consistency::One);
    check(insert.is_token_aware(), "the driver knows the partition key")?;
    let select = format!("SELECT token(a, b) FROM {table} WHERE a = ? AND b = ?");
    let mut select = on.prepare(select).await?;
    select.set_consistency(Consistency::One);
    let mut hits = 0;
    for n in 0..1000 {
        let key = format!("key {n}");
        let values = (n, key.as_str(), n);
        let token = insert.calculate_token(&values)?.ok_or("the driver computes no token")?;
        let state = on.get_cluster_state();
        let owners = state.get_token_endpoints(KEYSPACE_ONE, "placed", token);
        equal(owners.len(), 1, "owners of a row")?;
        let done = on.execute_unpaged(&insert, values).await?;
        let at = done.request_coordinator().node().host_id;
        hits += usize::from(owners.iter().any(|(owner, _)| owner.host_id == at));
        if n % 10 == 0 {
            let row = on.execute_unpaged(&select, (n, key.as_str())).await?.into_rows_result()?;
            let (theirs,) = row.single_row::<(i64,)>()?;
            equal(theirs, token.value(), format_args!("token of {key}"))?;
        }
    }
    check(hits >= 990, format_args!("{hits} of 1000 writes reached the owner"))
}

/// The driver sees all nodes agree within a second of a change, and each serves the new table.
pub(crate) async fn schema_agreement(on: &Session) -> Checked {
    for n in 0..3 {
        let began = Instant::now();
        run(on, format!("CREATE TABLE {KEYSPACE}.agreed{n} (k int PRIMARY KEY, v int)")).await?;
        on.await_schema_agreement().await?;
        let spent = began.elapsed();
        check(
            spent < Duration::from_secs(1),
            format_args!("CREATE TABLE and agreement took {spent:?}"),
        )?;
        for ip in NODES {
            let insert = format!("INSERT INTO {KEYSPACE}.agreed{n} (k, v) VALUES (1, 2)");
            let mut insert = Statement::new(insert);
            insert.set_load_balancing_policy(Some(only(on, ip)?));
            let done = on.query_unpaged(insert, ()).await?;
            equal(done.request_coordinator().node().address.ip(), ip, "coordinator")?;
        }
    }
    Ok(())
}

/// Columns, keys, kinds and replication are those of the statement that made the table.
pub(crate) async fn metadata(on: &Session) -> Checked {
    run(
        on,
        format!(
            "CREATE TABLE {KEYSPACE}.described (a int, b text, c timeuuid, d int, s text static, \
             v frozen<map<text, int>>, PRIMARY KEY ((a, b), c, d)) \
             WITH CLUSTERING ORDER BY (c DESC, d ASC)"
        ),
    )
    .await?;
    on.refresh_metadata().await?;
    let state = on.get_cluster_state();
    let keyspace = state.get_keyspace(KEYSPACE).ok_or("the keyspace is not known")?;
    let Strategy::NetworkTopologyStrategy { datacenter_repfactors } = &keyspace.strategy else {
        return Err(format!("strategy {:?}", keyspace.strategy).into());
    };
    equal(datacenter_repfactors.get("dc1"), Some(&3), "copies")?;
    let table = keyspace.tables.get("described").ok_or("the table is not known")?;
    equal(table.partition_key.clone(), vec!["a".to_owned(), "b".to_owned()], "partition key")?;
    equal(table.clustering_key.clone(), vec!["c".to_owned(), "d".to_owned()], "clustering key")?;
    let kinds: BTreeMap<_, _> = table
        .columns
        .iter()
        .map(|(name, column)| (name.as_str(), format!("{:?}", column.kind)))
        .collect();
    let wanted = [
        ("a", "PartitionKey"),
        ("b", "PartitionKey"),
        ("c", "Clustering"),
        ("d", "Clustering"),
        ("s", "Static"),
        ("v", "Regular"),
    ];
    equal(kinds, wanted.map(|(name, kind)| (name, kind.to_owned())).into(), "kinds of columns")?;
    run(on, format!("DROP TABLE {KEYSPACE}.described")).await?;
    eventually("the driver forgets the table", async || {
        on.refresh_metadata().await?;
        let state = on.get_cluster_state();
        let keyspace = state.get_keyspace(KEYSPACE).ok_or("the keyspace is not known")?;
        Ok(!keyspace.tables.contains_key("described"))
    })
    .await
}
