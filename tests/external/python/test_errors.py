"""What is wrong is said with the right word: the driver has an exception for each."""

from cassandra import (
    AlreadyExists,
    ConsistencyLevel,
    InvalidRequest,
    ProtocolVersion,
)
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import (
    ConfigurationException,
    ExecuteMessage,
    PreparedQueryNotFound,
    SyntaxException,
)
from cassandra.query import SimpleStatement

from suite import connect, equal, raises, session, test, true
from test_cluster import keyspace

# Statements that are refused (most of them CQL that Helenus does not carry out), and a word that the refusal must have.
UNSUPPORTED = {
    "CREATE TABLE {ks}.counted (k int PRIMARY KEY, n counter, v int)": "counter",
    "ALTER TABLE {t} ALTER v TYPE bigint": "keeps its type",
    "ALTER TABLE {t} DROP v USING TIMESTAMP 1": "USING TIMESTAMP",
    "CREATE INDEX ON {t} (v)": "CREATE INDEX",
    "CREATE MATERIALIZED VIEW {ks}.w AS SELECT * FROM {t} WHERE k IS NOT NULL AND c IS NOT NULL "
    "PRIMARY KEY (c, k)": "MATERIALIZED VIEW",
    "CREATE ROLE somebody": "ROLE",
    "SELECT JSON * FROM {t}": "JSON",
    "INSERT INTO {t} JSON '{{\"k\": 1, \"c\": 1}}'": "JSON",
    "BEGIN COUNTER BATCH UPDATE {t} SET v = 1 WHERE k = 1 AND c = 1 APPLY BATCH": "counter",
}


def table(on, name):
    name = keyspace(on, name)
    on.execute(f"CREATE TABLE {name}.t (k int, c int, v int, PRIMARY KEY (k, c))")
    return name, f"{name}.t"


@test
def unsupported(version):
    """What Helenus does not do is refused with InvalidRequest and a sentence, as text and when prepared."""
    with session(version) as on:
        name, t = table(on, f"unsupported{version}")
        for statement, word in UNSUPPORTED.items():
            text = statement.format(ks=name, t=t)
            try:
                error = raises(InvalidRequest, lambda: on.execute(text), word)
                raises(InvalidRequest, lambda: on.execute(on.prepare(text)), word)
            except AssertionError as failure:
                raise AssertionError(f"{text}: {failure}") from failure
            true(" " in error.args[0] and len(str(error)) < 600, f"a sentence: {error}")
        serial = SimpleStatement(f"SELECT * FROM {t}", consistency_level=ConsistencyLevel.SERIAL)
        raises(InvalidRequest, lambda: on.execute(serial), "SERIAL")
        equal(on.execute(f"SELECT count(*) FROM {t}").one()[0], 0, "rows after refused writes")


@test
def syntax(version):
    """Text that is no CQL is a SyntaxException that says where."""
    with session(version) as on:
        for text in ("SELEC 1", "SELECT FROM t", "INSERT INTO t VALUES (1)", "SELECT * FROM t WHERE k = 'open", "", ";"):
            raises(SyntaxException, lambda: on.execute(SimpleStatement(text)))
        raises(SyntaxException, lambda: on.execute("SELECT * FROM a WHERE k ="), "line 1:")
        raises(SyntaxException, lambda: on.execute("SELECT " + "(" * 5000 + "1" + ")" * 5000 + " FROM t"))


@test
def invalid(version):
    """What is CQL but means nothing here is InvalidRequest, and names what it is about."""
    with session(version) as on:
        name, t = table(on, f"invalid{version}")
        cases = {
            f"SELECT * FROM {name}.nothing": "nothing",
            "SELECT * FROM nowhere.t": "nowhere",
            "SELECT * FROM t": "keyspace",
            "USE nowhere": "nowhere",
            f"SELECT w FROM {t}": "w",
            f"SELECT * FROM {t} WHERE v = 1": "ALLOW FILTERING",
            f"SELECT * FROM {t} WHERE c = 1": "ALLOW FILTERING",
            f"INSERT INTO {t} (k, v) VALUES (1, 1)": "c",
            f"INSERT INTO {t} (k, c) VALUES (1, null)": "c",
            f"INSERT INTO {t} (k, c) VALUES ('one', 1)": "k",
            f"UPDATE {t} SET c = 2 WHERE k = 1": "c",
            f"SELECT * FROM {t} WHERE k = 1 ORDER BY v": "order",
            f"DROP TABLE {name}.nothing": "nothing",
        }
        for text, word in cases.items():
            try:
                raises(InvalidRequest, lambda: on.execute(text), word)
            except AssertionError as failure:
                raise AssertionError(f"{text}: {failure}") from failure


@test
def no_primary_key(version):
    """A table without a primary key is refused as it is read: a SyntaxException here, InvalidRequest in Cassandra."""
    with session(version) as on:
        name, _ = table(on, f"keyless{version}")
        raises(SyntaxException, lambda: on.execute(f"CREATE TABLE {name}.bad (k int)"), "primary key")


@test
def unprepared(version):
    """EXECUTE of an id that nobody prepared is answered with UNPREPARED and that id."""
    with session(version) as on:
        connection = on.cluster.control_connection._connection
        message = ExecuteMessage(b"0123456789abcdef", [], ConsistencyLevel.ONE)
        if ProtocolVersion.uses_prepared_metadata(version):
            message.result_metadata_id = b"0123456789abcdef"
        error = raises(PreparedQueryNotFound, lambda: connection.wait_for_response(message))
        equal(error.info, b"0123456789abcdef", "id")


@test
def definitions(version):
    """AlreadyExists names what exists; IF NOT EXISTS and IF EXISTS go well; bad options are ConfigurationException."""
    with session(version) as on:
        name, t = table(on, f"exists{version}")
        replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 3}"
        error = raises(AlreadyExists, lambda: on.execute(f"CREATE TABLE {t} (k int PRIMARY KEY)"))
        equal((error.keyspace, error.table), (name, "t"), "what exists")
        error = raises(AlreadyExists, lambda: on.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}"))
        equal((error.keyspace, error.table or ""), (name, ""), "what exists")
        on.execute(f"CREATE TABLE IF NOT EXISTS {t} (k int PRIMARY KEY)")
        on.execute(f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {replication}")
        on.execute(f"DROP TABLE IF EXISTS {name}.nothing")
        raises(
            ConfigurationException,
            lambda: on.execute(f"CREATE KEYSPACE {name}b WITH replication = {{'class': 'NoSuchStrategy'}}"),
            "NoSuchStrategy",
        )


@test
def after_errors(version):
    """A connection that was refused things serves the next request; an odd version is refused at the door."""
    with session(version) as on:
        for _ in range(200):
            raises(SyntaxException, lambda: on.execute("nonsense"))
        equal(on.execute("SELECT cluster_name FROM system.local").one().cluster_name, "external", "answer")
    cluster = connect(ProtocolVersion.DSE_V1, allow_beta_protocol_version=False)
    try:
        raises(NoHostAvailable, cluster.connect)
    finally:
        cluster.shutdown()
