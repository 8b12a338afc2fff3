"""What is written is what is read: types, nulls, times, orders, pages, batches."""

import datetime
import decimal
import ipaddress
import math
import time
import uuid

from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.protocol import ProtocolException
from cassandra.query import BatchStatement, BatchType, SimpleStatement
from cassandra.util import Date, Duration, Time, uuid_from_time

from suite import NODES, equal, eventually, raises, session, test, true
from test_cluster import keyspace

SCALARS = {
    "ascii": ["", "plain"],
    "bigint": [0, -1, 2**63 - 1, -(2**63)],
    "blob": [b"", b"\x00\xff", bytes(range(256)) * 300],
    "boolean": [True, False],
    "date": [Date(0), Date("2024-02-29"), Date(-719162)],
    "decimal": [decimal.Decimal("0"), decimal.Decimal("-1.50"), decimal.Decimal("1E+20"), decimal.Decimal("1e-40")],
    "double": [0.0, -0.0, 1.5e300, float("inf"), float("nan")],
    "duration": [Duration(0, 0, 0), Duration(14, 3, 5_000_000_000), Duration(-1, -2, -3)],
    "float": [0.0, 0.5, -3.25, float("-inf")],
    "inet": ["127.0.0.1", "2001:db8::1"],
    "int": [0, -1, 2**31 - 1, -(2**31)],
    "smallint": [0, -1, 2**15 - 1, -(2**15)],
    "text": ["", "Grüße, 世界 🦀", "x" * 200_000],
    "time": [Time(0), Time(86_399_999_999_999)],
    "timestamp": [datetime.datetime(1970, 1, 1), datetime.datetime(2024, 2, 29, 12, 30, 1, 5000), datetime.datetime(1901, 1, 1)],
    "timeuuid": [uuid_from_time(1_700_000_000.0)],
    "tinyint": [0, -1, 127, -128],
    "uuid": [uuid.UUID("12345678-1234-4321-9876-0123456789ab"), uuid.UUID(int=0)],
    "varchar": ["it's"],
    "varint": [0, -1, 128, -129, 2**200, -(2**200)],
}

COLLECTIONS = {
    "frozen<list<int>>": [[1, 2, 3, 2], [-1]],
    "frozen<set<text>>": [{"b", "a", ""}],
    "frozen<map<text, bigint>>": [{"one": 1, "two": 2}],
    "frozen<list<frozen<map<int, frozen<set<text>>>>>>": [[{1: {"x", "y"}}, {2: {"z"}}]],
    "tuple<int, text, double>": [(1, "a", 0.5), (None, "b", None)],
    "frozen<tuple<int, frozen<list<text>>>>": [(7, ["p", "q"])],
}


def plain(value):
    """The value without the driver's own kinds of collection, for comparison and for reading."""
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            return value
    if isinstance(value, (bytes, datetime.datetime, uuid.UUID, Date, Time, Duration, decimal.Decimal)):
        return value
    if hasattr(value, "items"):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, (list,)):
        return [plain(v) for v in value]
    if hasattr(value, "__iter__"):
        return {plain(v) for v in value}
    return value


def same(found, wanted):
    if isinstance(wanted, float) and math.isnan(wanted):
        return math.isnan(found)
    if isinstance(wanted, float):
        return found == wanted and math.copysign(1, found) == math.copysign(1, wanted)
    if isinstance(wanted, decimal.Decimal):
        return found.as_tuple() == wanted.as_tuple()
    return plain(found) == plain(wanted)


@test
def types(version):
    """Values of every scalar type, frozen collections and tuples come back as they were bound."""
    with session(version) as on:
        name = keyspace(on, f"types{version}")
        kinds = SCALARS | COLLECTIONS
        columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(kinds))
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, {columns})")
        for number, (kind, values) in enumerate(kinds.items()):
            insert = on.prepare(f"INSERT INTO {name}.t (k, c{number}) VALUES (?, ?)")
            select = on.prepare(f"SELECT c{number} FROM {name}.t WHERE k = ?")
            for value in [*values, None]:
                on.execute(insert, (number, value))
                found = on.execute(select, (number,)).one()[0]
                true(same(found, value), f"{kind}: found {str(found)[:200]!r}, wanted {str(value)[:200]!r}")


@test
def types_as_keys(version):
    """Every scalar type but duration is a partition key and a clustering key, in its own order."""
    with session(version) as on:
        name = keyspace(on, f"keys{version}")
        for number, (kind, values) in enumerate(SCALARS.items()):
            if kind in ("duration", "decimal"):
                continue
            table = f"{name}.t{number}"
            on.execute(f"CREATE TABLE {table} (k {kind}, c {kind}, PRIMARY KEY (k, c))")
            insert = on.prepare(f"INSERT INTO {table} (k, c) VALUES (?, ?)")
            select = on.prepare(f"SELECT c FROM {table} WHERE k = ?")
            short = [value for value in values if not isinstance(value, (str, bytes)) or len(value) < 60_000]
            key = short[-1]
            for value in short:
                on.execute(insert, (key, value))
            found = [row.c for row in on.execute(select, (key,))]
            equal(len(found), len(short), f"rows of {kind}")
            for value in short:
                true(any(same(f, value) for f in found), f"{kind}: {value!r} is not among {found!r}")
            if kind in ("bigint", "int", "smallint", "tinyint", "varint", "timestamp"):
                equal(found, sorted(short), f"order of {kind}")


@test
def decimal_keys(version):
    """Decimals order by value as clustering keys. Those that are equal share a key, so their scale is not kept there."""
    with session(version) as on:
        name = keyspace(on, f"decimals{version}")
        on.execute(f"CREATE TABLE {name}.t (k decimal, c decimal, PRIMARY KEY (k, c))")
        insert = on.prepare(f"INSERT INTO {name}.t (k, c) VALUES (?, ?)")
        key = decimal.Decimal("7.00")
        for value in SCALARS["decimal"]:
            on.execute(insert, (key, value))
        rows = on.execute(on.prepare(f"SELECT k, c FROM {name}.t WHERE k = ?"), (key,)).all()
        equal([row.c for row in rows], sorted(SCALARS["decimal"]), "order")
        equal(str(rows[0].k), "7.00", "partition key")


@test
def literals(version):
    """Values written as text in CQL are those that a bound value would have been."""
    with session(version) as on:
        name = keyspace(on, f"literals{version}")
        on.execute(
            f"CREATE TABLE {name}.t (k int PRIMARY KEY, b blob, d date, u uuid, l frozen<list<int>>, "
            f"m frozen<map<text, int>>, s frozen<set<int>>, t tuple<int, text>, x double, w timestamp, r duration)"
        )
        on.execute(
            f"INSERT INTO {name}.t (k, b, d, u, l, m, s, t, x, w, r) VALUES (1, 0xCAFE, '2024-02-29', "
            f"12345678-1234-4321-9876-0123456789ab, [1, 2], {{'a': 1}}, {{3, 2, 3}}, (1, 'it''s'), "
            f"-1.5e3, '2024-01-01 00:00:00+0000', 1y2mo3d4h)"
        )
        row = on.execute(f"SELECT b, d, u, l, m, s, t, x, w, r FROM {name}.t WHERE k = 1").one()
        wanted = (b"\xca\xfe", Date("2024-02-29"), uuid.UUID("12345678-1234-4321-9876-0123456789ab"), [1, 2])
        wanted += ({"a": 1}, {2, 3}, (1, "it's"), -1500.0, datetime.datetime(2024, 1, 1))
        wanted += (Duration(14, 3, 4 * 3600 * 10**9),)
        equal(tuple(plain(v) for v in row), wanted, "row")
        row = on.execute(f"SELECT m AS other FROM {name}.t WHERE k = %s", (1,)).one()
        equal(dict(row.other), {"a": 1}, "renamed column, value written by the driver")


@test
def counters(version):
    """Counters are added to, also several times in one batch, through whichever node; they are values when read."""
    with session(version) as on:
        name = keyspace(on, f"counters{version}")
        on.execute(f"CREATE TABLE {name}.t (k int, c int, n counter, m counter, PRIMARY KEY (k, c))")
        update = on.prepare(f"UPDATE {name}.t SET n = n + ?, m = m - 1 WHERE k = 1 AND c = ?")
        for future in [on.execute_async(update, (n, n % 2)) for n in range(50)]:
            future.result()
        select = f"SELECT c, n, m FROM {name}.t WHERE k = 1"
        equal([tuple(row) for row in on.execute(select)], [(0, 600, -25), (1, 625, -25)], "what was added at once")
        batch = BatchStatement(BatchType.COUNTER)
        for _ in range(3):
            batch.add(update, (10, 0))
        batch.add(f"DELETE FROM {name}.t WHERE k = 1 AND c = 1")
        on.execute(batch)
        equal([tuple(row) for row in on.execute(select)], [(0, 630, -28)], "after a batch")
        equal(tuple(on.execute(f"SELECT sum(n), max(m) FROM {name}.t").one()), (630, -28), "aggregates")
        equal(on.cluster.metadata.keyspaces[name].tables["t"].columns["n"].cql_type, "counter", "type")
        raises(InvalidRequest, lambda: on.execute(f"INSERT INTO {name}.t (k, c, n) VALUES (1, 1, 1)"), "counter tables")
        raises(InvalidRequest, lambda: on.execute(f"UPDATE {name}.t SET n = 1 WHERE k = 1 AND c = 1"), "set")
        logged = BatchStatement(BatchType.LOGGED)
        logged.add(update, (1, 1))
        raises(InvalidRequest, lambda: on.execute(logged), "logged batch")


@test
def elements(version):
    """Elements of sets, maps and lists are written one by one, and read together, each with its own version and TTL."""
    with session(version) as on:
        name = keyspace(on, f"elements{version}")
        on.execute(
            f"CREATE TABLE {name}.t (k int PRIMARY KEY, s set<text>, m map<text, int>, l list<int>, d set<decimal>, e list<frozen<set<int>>>)"
        )
        row = on.prepare(f"SELECT s, m, l FROM {name}.t WHERE k = 1")

        def read():
            return tuple(plain(v) for v in on.execute(row).one())

        insert = on.prepare(f"INSERT INTO {name}.t (k, s, m, l) VALUES (1, ?, ?, ?)")
        on.execute(insert, ({"a", "b"}, {"x": 1, "y": 2}, [1, 2]))
        equal(read(), ({"a", "b"}, {"x": 1, "y": 2}, [1, 2]), "a whole row")
        on.execute(f"UPDATE {name}.t SET s = s + {{'c'}}, m['z'] = 3, l = l + [3] WHERE k = 1")
        add = on.prepare(f"UPDATE {name}.t SET s = s + ?, m = m + ?, l = ? + l WHERE k = 1")
        on.execute(add, ({"d"}, {"x": 7}, [-1, 0]))
        equal(read(), ({"a", "b", "c", "d"}, {"x": 7, "y": 2, "z": 3}, [-1, 0, 1, 2, 3]), "elements that were added")
        take = on.prepare(f"UPDATE {name}.t SET s = s - ?, m = m - ?, l = l - ? WHERE k = 1")
        on.execute(take, ({"a", "nope"}, {"y"}, [0, 2]))
        equal(read(), ({"b", "c", "d"}, {"x": 7, "z": 3}, [-1, 1, 3]), "elements that were taken away")
        place = on.prepare(f"UPDATE {name}.t SET l[?] = ?, m[?] = ? WHERE k = 1")
        on.execute(place, (1, 10, "z", None))
        on.execute(f"DELETE s['b'], l[0] FROM {name}.t WHERE k = 1")
        equal(read(), ({"c", "d"}, {"x": 7}, [10, 3]), "elements that were changed by their keys")
        raises(InvalidRequest, lambda: on.execute(place, (5, 1, "z", None)), "index 5", "size 2")
        raises(InvalidRequest, lambda: on.execute(f"SELECT writetime(s) FROM {name}.t"), "writetime", "collection")
        equal(on.execute(f"SELECT m['x'] FROM {name}.t WHERE k = 1").one()[0], 7, "one element")
        batch = BatchStatement(BatchType.UNLOGGED)
        append = on.prepare(f"UPDATE {name}.t SET l = l + ? WHERE k = 1")
        for values in ([4], [5, 6], [7]):
            batch.add(append, (values,))
        batch.add(on.prepare(f"DELETE l[?] FROM {name}.t WHERE k = 1"), (0,))
        on.execute(batch)
        equal(read()[2], [3, 4, 5, 6, 7], "a batch that appends and deletes")
        slices = on.execute(f"SELECT s['c'..'c'], m['y'..], s[..'a'] FROM {name}.t WHERE k = 1").one()
        equal(tuple(plain(v) for v in slices), ({"c"}, None, None), "slices")
        on.execute(insert, ({"new"}, None, []))
        equal(read(), ({"new"}, None, None), "a whole value, and none")
        on.execute(f"UPDATE {name}.t USING TTL 1 SET s = s + {{'brief'}} WHERE k = 1")
        eventually("the TTL of one element", lambda: read()[0] == {"new"})
        on.execute(f"DELETE s FROM {name}.t WHERE k = 1")
        equal(read(), (None, None, None), "nothing is left, and the row outlives it")
        decimals = f"UPDATE {name}.t SET d = d + {{1.0, 1.00, 2}}, e = [{{1}}, {{2, 3}}] WHERE k = 2"
        on.execute(decimals)
        found = on.execute(f"SELECT d, e FROM {name}.t WHERE k = 2").one()
        equal((len(found.d), [set(part) for part in found.e]), (2, [{1}, {2, 3}]), "elements of other types")
        kept = on.execute(f"SELECT k FROM {name}.t WHERE d CONTAINS 2 ALLOW FILTERING").all()
        equal([row.k for row in kept], [2], "CONTAINS")


@test
def null_and_unset(version):
    """Null deletes a column; a value that is left unset leaves the column as it was."""
    with session(version) as on:
        name = keyspace(on, f"unset{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, a int, b int)")
        insert = on.prepare(f"INSERT INTO {name}.t (k, a, b) VALUES (:k, :a, :b)")
        row = f"SELECT a, b FROM {name}.t WHERE k = 1"
        on.execute(insert, {"k": 1, "a": 10, "b": 20})
        on.execute(insert, {"k": 1, "b": 21})
        equal(tuple(on.execute(row).one()), (10, 21), "after a was unset")
        on.execute(insert, {"k": 1, "a": None, "b": 22})
        equal(tuple(on.execute(row).one()), (None, 22), "after a was null")
        on.execute(f"DELETE b FROM {name}.t WHERE k = 1")
        equal(tuple(on.execute(row).one()), (None, None), "the row outlives its columns")
        on.execute(f"DELETE FROM {name}.t WHERE k = 1")
        equal(on.execute(row).one(), None, "the deleted row")


@test
def timestamps_and_ttl(version):
    """The client's timestamp decides, writetime() and ttl() tell, and what has a TTL goes."""
    with session(version) as on:
        name = keyspace(on, f"times{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        row = f"SELECT v, writetime(v) AS at, ttl(v) AS left FROM {name}.t WHERE k = "
        on.execute(f"INSERT INTO {name}.t (k, v) VALUES (1, 'late') USING TIMESTAMP 2000")
        on.execute(f"INSERT INTO {name}.t (k, v) VALUES (1, 'early') USING TIMESTAMP 1000")
        equal(tuple(on.execute(row + "1").one()), ("late", 2000, None), "the later write")
        on.execute(f"DELETE FROM {name}.t USING TIMESTAMP 1500 WHERE k = 1")
        equal(on.execute(row + "1").one().v, "late", "after an earlier deletion")
        before = int(time.time() * 1e6)
        on.execute(f"INSERT INTO {name}.t (k, v) VALUES (2, 'now')")
        at = on.execute(row + "2").one().at
        true(before - 10**6 <= at <= int(time.time() * 1e6) + 10**6, f"writetime {at} is now")
        insert = on.prepare(f"INSERT INTO {name}.t (k, v) VALUES (?, ?) USING TTL ? AND TIMESTAMP ?")
        on.execute(insert, (3, "kept", 1000, 5000))
        found = on.execute(row + "3").one()
        true(found.at == 5000 and 990 <= found.left <= 1000, f"TTL and timestamp are bound: {found}")
        on.execute(insert, (4, "brief", 1, int(time.time() * 1e6)))
        eventually("a TTL of a second ends", lambda: on.execute(row + "4").one() is None, 5)
        on.execute(f"UPDATE {name}.t USING TTL 100 SET v = 'again' WHERE k = 4")
        true(0 < on.execute(row + "4").one().left <= 100, "TTL of UPDATE")


def numbers(on, name):
    """A table of one partition with a descending and an ascending clustering column, 10 by 5 rows."""
    on.execute(
        f"CREATE TABLE {name}.t (k int, a int, b int, v int, s text static, PRIMARY KEY (k, a, b)) "
        f"WITH CLUSTERING ORDER BY (a DESC, b ASC)"
    )
    insert = on.prepare(f"INSERT INTO {name}.t (k, a, b, v) VALUES (?, ?, ?, ?)")
    for future in [on.execute_async(insert, (1, n // 5, n % 5, n)) for n in range(50)]:
        future.result()


@test
def slices(version):
    """Clustering order, slices of one and of several columns, IN, both directions, limits."""
    with session(version) as on:
        name = keyspace(on, f"slices{version}")
        numbers(on, name)

        def read(rest, columns="a, b"):
            return [tuple(row) for row in on.execute(f"SELECT {columns} FROM {name}.t WHERE k = 1 {rest}")]

        every = [(a, b) for a in range(9, -1, -1) for b in range(5)]
        equal(read(""), every, "the declared order")
        equal(read("ORDER BY a ASC, b DESC"), every[::-1], "the other order")
        equal(read("AND a = 3 AND b >= 1 AND b < 4"), [(3, 1), (3, 2), (3, 3)], "slice of b")
        equal(read("AND a > 7"), [p for p in every if p[0] > 7], "slice of a")
        equal(read("AND (a, b) >= (8, 3)"), [p for p in every if p >= (8, 3)], "slice of both")
        equal(read("AND a IN (2, 5) AND b IN (4, 0)"), [(5, 0), (5, 4), (2, 0), (2, 4)], "IN of both")
        equal(read("AND (a, b) IN ((1, 1), (9, 4))"), [(9, 4), (1, 1)], "IN of pairs")
        equal(read("LIMIT 3"), every[:3], "LIMIT")
        on.execute(f"UPDATE {name}.t SET s = 'shared' WHERE k = 1")
        equal(read("LIMIT 2", "s, v"), [("shared", 45), ("shared", 46)], "static column")
        on.execute(f"DELETE FROM {name}.t WHERE k = 1 AND a >= 2 AND a < 9")
        equal(read(""), [p for p in every if not 2 <= p[0] < 9], "after a range deletion")
        on.execute(f"DELETE FROM {name}.t WHERE k = 1 AND a = 9")
        equal(read(""), [p for p in every if p[0] < 2], "after the deletion of a prefix")
        on.execute(f"DELETE FROM {name}.t WHERE k = 1")
        equal(read("", "s"), [], "after the deletion of the partition")


@test
def many_partitions(version):
    """IN of partition keys, PER PARTITION LIMIT, DISTINCT, token ranges, ALLOW FILTERING."""
    with session(version) as on:
        name = keyspace(on, f"partitions{version}")
        on.execute(f"CREATE TABLE {name}.t (k int, c int, v int, PRIMARY KEY (k, c))")
        insert = on.prepare(f"INSERT INTO {name}.t (k, c, v) VALUES (?, ?, ?)")
        for future in [on.execute_async(insert, (n // 10, n % 10, n)) for n in range(300)]:
            future.result()
        rows = on.execute(f"SELECT k, c FROM {name}.t WHERE k IN (7, 3, 29) AND c < 2")
        equal(sorted(map(tuple, rows)), [(k, c) for k in (3, 7, 29) for c in (0, 1)], "IN of keys")
        select = on.prepare(f"SELECT k FROM {name}.t WHERE k IN ?")
        equal(len(on.execute(select, ([1, 2, 99],)).all()), 20, "IN of a bound list")
        rows = on.execute(f"SELECT k, c FROM {name}.t PER PARTITION LIMIT 2").all()
        equal(sorted(map(tuple, rows)), [(k, c) for k in range(30) for c in (0, 1)], "PER PARTITION LIMIT")
        keys = on.execute(f"SELECT DISTINCT k, token(k) AS t FROM {name}.t").all()
        equal(sorted(row.k for row in keys), list(range(30)), "DISTINCT")
        tokens = [row.t for row in keys]
        equal(tokens, sorted(tokens), "partitions come in the order of their tokens")
        middle = tokens[14]
        low = on.execute(f"SELECT k FROM {name}.t WHERE token(k) <= {middle}").all()
        high = on.execute(f"SELECT k FROM {name}.t WHERE token(k) > {middle}").all()
        equal((len(low), len(high)), (150, 150), "both halves of the ring")
        rows = on.execute(f"SELECT v FROM {name}.t WHERE v > 290 ALLOW FILTERING").all()
        equal(sorted(row.v for row in rows), list(range(291, 300)), "ALLOW FILTERING")


@test
def aggregates(version):
    """count, min, max, sum, avg and GROUP BY, over more rows than a page has."""
    with session(version) as on:
        name = keyspace(on, f"aggregates{version}")
        numbers(on, name)
        on.default_fetch_size = 7
        row = on.execute(f"SELECT count(*), min(v), max(v), sum(v), avg(v) FROM {name}.t").one()
        equal(tuple(row), (50, 0, 49, 1225, 24), "over all")
        equal(on.execute(f"SELECT count(*) FROM {name}.t WHERE k = 2").one()[0], 0, "over nothing")
        rows = on.execute(f"SELECT a, count(v) AS n, max(v) AS m FROM {name}.t WHERE k = 1 GROUP BY a")
        equal([tuple(r) for r in rows], [(a, 5, a * 5 + 4) for a in range(9, -1, -1)], "GROUP BY")
        row = on.execute(f"SELECT CAST(v AS text) AS t, toTimestamp(now()) AS w FROM {name}.t LIMIT 1").one()
        true(row.t == "45" and isinstance(row.w, datetime.datetime), f"functions: {row}")


@test
def pages(version):
    """Pages of the size that was asked for, and a saved position is taken up over another node."""
    with session(version) as on:
        name = keyspace(on, f"pages{version}")
        on.execute(f"CREATE TABLE {name}.t (k int, c int, PRIMARY KEY (k, c))")
        insert = on.prepare(f"INSERT INTO {name}.t (k, c) VALUES (?, ?)")
        wanted = [(n % 20, n) for n in range(1000)]
        for future in [on.execute_async(insert, pair) for pair in wanted]:
            future.result()
        query = SimpleStatement(f"SELECT k, c FROM {name}.t", fetch_size=37)
        equal(sorted(map(tuple, on.execute(query))), sorted(wanted), "all pages of a scan")
        for size in (1, 49, 50, 51, 5000):
            one = SimpleStatement(f"SELECT c FROM {name}.t WHERE k = 3", fetch_size=size)
            result = on.execute(one)
            true(len(result.current_rows) <= size, "a page is no larger than asked for")
            equal([row.c for row in result], list(range(3, 1000, 20)), f"partition in pages of {size}")
        found = []
        state = None
        larger = SimpleStatement(f"SELECT k, c FROM {name}.t", fetch_size=120)
        for turn in range(20):
            with session(version, only=NODES[turn % 3]) as other:
                result = other.execute(larger, paging_state=state)
                found += map(tuple, result.current_rows)
                state = result.paging_state
            if state is None:
                break
        true(state is None, "the pages end")
        equal(sorted(found), sorted(wanted), "pages over a new connection each")
        # The driver closes a connection that broke the protocol, so that this one has a session of its own.
        with session(version, only=NODES[0]) as other:
            raises(ProtocolException, lambda: other.execute(query, paging_state=b"\xffnonsense"), "paging state")
        limited = SimpleStatement(f"SELECT c FROM {name}.t LIMIT 120", fetch_size=50)
        equal(len(on.execute(limited).all()), 120, "LIMIT holds over pages")


@test
def batches(version):
    """Batches over partitions, LOGGED or not, and of one partition, with a timestamp, text and prepared."""
    with session(version) as on:
        name = keyspace(on, f"batches{version}")
        on.execute(f"CREATE TABLE {name}.t (k int, c int, v text, PRIMARY KEY (k, c))")
        insert = on.prepare(f"INSERT INTO {name}.t (k, c, v) VALUES (?, ?, ?)")
        batch = BatchStatement(batch_type=BatchType.UNLOGGED, consistency_level=ConsistencyLevel.QUORUM)
        for number in range(30):
            batch.add(insert, (number, 0, "spread"))
        on.execute(batch)
        equal(on.execute(f"SELECT count(*) FROM {name}.t").one()[0], 30, "rows of an unlogged batch")
        batch = BatchStatement(batch_type=BatchType.LOGGED, consistency_level=ConsistencyLevel.QUORUM)
        for number in range(3):
            batch.add(insert, (number, 1, "logged"))
        on.execute(batch)
        rows = on.execute(f"SELECT v FROM {name}.t WHERE k IN (0, 1, 2) AND c = 1")
        equal([tuple(row) for row in rows], [("logged",)] * 3, "a logged batch over partitions")
        batch = BatchStatement(batch_type=BatchType.LOGGED)
        for number in range(1, 11):
            batch.add(insert, (5, number, "together"))
        batch.add(SimpleStatement(f"DELETE FROM {name}.t WHERE k = 5 AND c = 0"))
        batch.add(f"UPDATE {name}.t SET v = %s WHERE k = 5 AND c = 11", ("text",))
        on.execute(batch)
        rows = [tuple(r) for r in on.execute(f"SELECT c, v FROM {name}.t WHERE k = 5")]
        equal(rows, [(n, "together") for n in range(1, 11)] + [(11, "text")], "a logged batch")
        on.execute(
            f"BEGIN BATCH USING TIMESTAMP 77 INSERT INTO {name}.t (k, c, v) VALUES (90, 1, 'a'); "
            f"INSERT INTO {name}.t (k, c, v) VALUES (90, 2, 'b'); APPLY BATCH"
        )
        rows = [tuple(r) for r in on.execute(f"SELECT v, writetime(v) FROM {name}.t WHERE k = 90")]
        equal(rows, [("a", 77), ("b", 77)], "BEGIN BATCH USING TIMESTAMP")
        on.execute("BEGIN BATCH APPLY BATCH")


@test
def prepared(version):
    """A statement is prepared once for a node, keeps its id, and tells what it binds and answers."""
    with session(version) as on:
        name = keyspace(on, f"prepared{version}")
        on.execute(f'CREATE TABLE {name}.t (a int, b text, "C" blob, PRIMARY KEY ((b, a)))')
        first = on.prepare(f'UPDATE {name}.t SET "C" = ? WHERE a = ? AND b = ?')
        again = on.prepare(f'UPDATE {name}.t SET "C" = ? WHERE a = ? AND b = ?')
        equal(first.query_id, again.query_id, "id of the same text")
        equal(list(first.routing_key_indexes), [2, 1], "where the partition key is")
        equal([c.name for c in first.column_metadata], ["C", "a", "b"], "markers")
        on.execute(first, (b"x", 1, "one"))
        star = on.prepare(f"SELECT * FROM {name}.t WHERE a = :a AND b = :b")
        row = on.execute(star, {"a": 1, "b": "one"}).one()
        equal(row._asdict(), {"a": 1, "b": "one", "C": b"x"}, "row")
        equal(on.execute(star, {"a": 2, "b": "two"}).one(), None, "row that is not there")
    with session(version, keyspace=name) as on:
        row = on.execute(on.prepare("SELECT a FROM t WHERE a = ? AND b = ?"), (1, "one")).one()
        equal(row.a, 1, "prepared without the keyspace's name")
        raises(ValueError, lambda: star.bind((1, "one", "more")))
