"""What a driver learns of the cluster: its nodes, its tokens, its schema, and what changes."""

import time
import uuid

from cassandra import ConsistencyLevel
from cassandra.metadata import Murmur3Token

from suite import NODES, alone, connect, equal, eventually, session, test, true


def keyspace(on, name, copies=3):
    """A keyspace that did not exist before, with this many copies in dc1."""
    on.execute(f"DROP KEYSPACE IF EXISTS {name}")
    on.execute(
        f"CREATE KEYSPACE {name} WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', 'dc1': {copies}}}"
    )
    return name


@test
def topology(version):
    """Three hosts are found from one address, up, with dc, rack, host id and 16 tokens each."""
    cluster = connect(version, only=NODES[1])
    try:
        cluster.connect()
        hosts = cluster.metadata.all_hosts()
        equal(sorted(host.address for host in hosts), NODES, "addresses")
        equal({host.datacenter for host in hosts}, {"dc1"}, "data centres")
        racks = {host.address: host.rack for host in hosts}
        equal(racks, {"127.0.9.1": "r1", "127.0.9.2": "r2", "127.0.9.3": "r3"}, "racks")
        equal(len({host.host_id for host in hosts}), 3, "host ids")
        true(all(isinstance(host.host_id, uuid.UUID) for host in hosts), "host ids are UUIDs")
        true(all(host.release_version.startswith("4.1") for host in hosts), "release 4.1")
        equal(cluster.metadata.cluster_name, "external", "cluster name")
        equal(cluster.metadata.partitioner, "org.apache.cassandra.dht.Murmur3Partitioner", "partitioner")
        tokens = cluster.metadata.token_map
        owned = [host.address for host in tokens.token_to_host_owner.values()]
        equal({node: owned.count(node) for node in NODES}, dict.fromkeys(NODES, 16), "tokens of each")
        true(all(isinstance(token, Murmur3Token) for token in tokens.ring), "tokens are Murmur3's")
    finally:
        cluster.shutdown()
    with session(version) as on:
        eventually("all hosts are up", lambda: all(h.is_up for h in on.cluster.metadata.all_hosts()))
        equal(on.cluster.protocol_version, version, "protocol version")


@test
def compression(version):
    """Frames compressed with LZ4 arrive, in both directions, small and larger than one segment."""
    with session(version, compression="lz4") as on:
        name = keyspace(on, f"compressed{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        insert = on.prepare(f"INSERT INTO {name}.t (k, v) VALUES (?, ?)")
        for key, value in enumerate(["", "a", "ab" * 5000, "".join(map(str, range(60_000)))]):
            on.execute(insert, (key, value))
            equal(on.execute(f"SELECT v FROM {name}.t WHERE k = {key}").one().v, value, f"value {key}")
        used = {conn.compressor is not None for conn in connections(on)}
        equal(used, {True}, "the connections compress")


def connections(on):
    return [conn for pool in on._pools.values() for conn in pool.get_connections()]


def placement(version, key_columns, key_type, values):
    with session(version) as on:
        name = keyspace(on, f"placed{version}", copies=1)
        on.execute(f"CREATE TABLE {name}.t ({key_columns[0]}, v int, PRIMARY KEY ({key_columns[1]}))")
        markers = ", ".join("?" * key_type)
        insert = on.prepare(f"INSERT INTO {name}.t ({key_columns[2]}, v) VALUES ({markers}, ?)")
        insert.consistency_level = ConsistencyLevel.ONE
        table = on.cluster.metadata
        eventually("the driver knows the keyspace", lambda: name in table.keyspaces)
        hits = 0
        for number, key in enumerate(values):
            bound = insert.bind((*key, number))
            replicas = {host.address for host in table.get_replicas(name, bound.routing_key)}
            equal(len(replicas), 1, "replicas of a key")
            future = on.execute_async(bound)
            future.result()
            hits += future.coordinator_host.address in replicas
        return name, hits


@test
def token_aware(version):
    """Of 1,000 token-aware writes at least 990 go to the owner that the driver computed."""
    columns = ("a int, b text", "(a, b)", "a, b")
    _, hits = placement(version, columns, 2, [(n, f"key {n}") for n in range(1000)])
    true(hits >= 990, f"{hits} of 1000 reached an owner")


@test
def owners_agree(version):
    """The owner that the driver computes is the one that alone can answer: rows are where tokens say.

    With one copy, counting per token range, as the driver splits the ring, finds each row once.
    """
    columns = ("a blob", "(a)", "a")
    values = [(bytes([200 + n % 56]) * (n % 40) + n.to_bytes(2, "big"),) for n in range(300)]
    name, hits = placement(version, columns, 1, values)
    true(hits >= 297, f"{hits} of 300 reached an owner")
    with session(version, consistency=ConsistencyLevel.ONE) as on:
        metadata = on.cluster.metadata
        rows = list(on.execute(f"SELECT a, token(a) AS t FROM {name}.t"))
        equal(len(rows), 300, "rows")
        for row in rows:
            wanted = metadata.token_map.token_class.from_key(row.a).value
            equal(row.t, wanted, f"token of {row.a.hex()}")


@alone
def schema_agreement(version):
    """All nodes agree on the schema within a second of a change, and each then serves the new table."""
    with session(version) as on:
        name = keyspace(on, f"agreed{version}")
        for number in range(5):
            started = time.monotonic()
            future = on.execute_async(f"CREATE TABLE {name}.t{number} (k int PRIMARY KEY, v int)")
            future.result()
            spent = time.monotonic() - started
            true(future.is_schema_agreed, "the driver saw the schema agree")
            true(spent < 1, f"CREATE TABLE and agreement took {spent:.2f} s")
            for node in NODES:
                host = on.cluster.metadata.get_host(node)
                on.execute(f"INSERT INTO {name}.t{number} (k, v) VALUES (1, 2)", host=host)
        versions = set()
        for node in NODES:
            host = on.cluster.metadata.get_host(node)
            local = on.execute("SELECT schema_version FROM system.local WHERE key = 'local'", host=host)
            versions.add(local.one().schema_version)
        equal(len(versions), 1, "schema versions")


@test
def metadata(version):
    """The driver's own model of the schema: columns, kinds, order, options, replication, and CQL of it."""
    with session(version) as on:
        name = keyspace(on, f"described{version}", copies=2)
        made = on.execute_async(
            f"CREATE TABLE {name}.t (a int, b text, c timeuuid, d int, s text static, "
            f"v frozen<map<text, int>>, w tuple<int, text>, PRIMARY KEY ((a, b), c, d)) "
            f"WITH CLUSTERING ORDER BY (c DESC, d ASC) AND comment = 'it''s a table' "
            f"AND gc_grace_seconds = 7200 AND default_time_to_live = 86400"
        )
        made.result()
        true("comment" in " ".join(made.warnings or []), "a warning says that comments are not kept")
        on.cluster.refresh_schema_metadata()
        found = on.cluster.metadata.keyspaces[name]
        equal(found.replication_strategy.name, "NetworkTopologyStrategy", "strategy")
        equal(found.replication_strategy.dc_replication_factors, {"dc1": 2}, "copies")
        equal(found.durable_writes, True, "durable_writes")
        table = found.tables["t"]
        equal([c.name for c in table.partition_key], ["a", "b"], "partition key")
        equal([c.name for c in table.clustering_key], ["c", "d"], "clustering key")
        equal([c.is_reversed for c in table.clustering_key], [True, False], "order")
        types = {column.name: column.cql_type for column in table.columns.values()}
        wanted = {"a": "int", "b": "text", "c": "timeuuid", "d": "int", "s": "text"}
        wanted |= {"v": "frozen<map<text, int>>", "w": "frozen<tuple<int, text>>"}
        equal(types, wanted, "types")
        true(table.columns["s"].is_static, "s is static")
        equal(table.options["gc_grace_seconds"], 7200, "gc_grace_seconds")
        equal(table.options["default_time_to_live"], 86400, "default_time_to_live")
        true(not table.is_compact_storage, "no COMPACT STORAGE")
        text = table.export_as_string()
        on.execute(f"DROP TABLE {name}.t")
        eventually("the driver forgets the table", lambda: "t" not in found.tables or
                   "t" not in on.cluster.metadata.keyspaces[name].tables)
        on.execute(text)
        eventually("the driver's CQL makes it again",
                   lambda: on.cluster.metadata.keyspaces[name].tables["t"].export_as_string() == text)


@test
def schema_events(version):
    """A session that did not change the schema hears of it and refreshes what it knows."""
    quick = {"schema_event_refresh_window": 0}
    with session(version, only=NODES[0]) as changes, session(version, only=NODES[2], **quick) as hears:
        heard = []
        ears = hears.cluster.control_connection._connection
        ears.register_watcher("SCHEMA_CHANGE", heard.append)
        name = keyspace(changes, f"heard{version}")
        changes.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY)")
        changes.execute(f"CREATE TABLE IF NOT EXISTS {name}.t (k int PRIMARY KEY)")
        known = hears.cluster.metadata.keyspaces
        eventually("CREATE is heard", lambda: "t" in known[name].tables)
        changes.execute(f"DROP KEYSPACE {name}")
        eventually("DROP is heard", lambda: name not in known)
        mine = [(e["change_type"], e["target_type"], e.get("table")) for e in heard if e["keyspace"] == name]
        wanted = [("CREATED", "KEYSPACE", None), ("CREATED", "TABLE", "t"), ("DROPPED", "KEYSPACE", None)]
        equal(mine, wanted, "events")


@test
def many_requests(version):
    """2,000 requests in flight over one session are all answered, each with its own row."""
    with session(version) as on:
        name = keyspace(on, f"many{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        insert = on.prepare(f"INSERT INTO {name}.t (k, v) VALUES (?, ?)")
        select = on.prepare(f"SELECT v FROM {name}.t WHERE k = ?")
        for future in [on.execute_async(insert, (n, f"value {n}")) for n in range(2000)]:
            future.result()
        futures = [on.execute_async(select, (n,)) for n in range(2000)]
        for number, future in enumerate(futures):
            equal(future.result().one().v, f"value {number}", f"row {number}")
