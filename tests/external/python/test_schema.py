"""Changes of the schema: what the driver makes of them."""

from cassandra import InvalidRequest

from suite import equal, raises, session, test, true
from test_errors import table


@test
def altered(version):
    """A column that is added is known to the driver, to who prepared before, and empty when it was dropped in between."""
    with session(version) as on:
        name, t = table(on, f"altered{version}")
        on.execute(f"INSERT INTO {t} (k, c, v) VALUES (1, 1, 11)")
        prepared = on.prepare(f"SELECT * FROM {t} WHERE k = ?")
        equal(sorted(on.execute(prepared, [1]).one()._asdict()), ["c", "k", "v"])
        on.execute(f"ALTER TABLE {t} ADD w text")
        equal(list(on.cluster.metadata.keyspaces[name].tables["t"].columns), ["k", "c", "v", "w"])
        equal(sorted(on.execute(prepared, [1]).one()._asdict()), ["c", "k", "v", "w"])
        on.execute(f"ALTER TABLE {t} DROP v")
        on.execute(f"ALTER TABLE {t} ADD v text")
        row = on.execute(prepared, [1]).one()
        equal((row.v, row.w), (None, None))
        raises(InvalidRequest, lambda: on.execute(f"ALTER TABLE {t} DROP k"), "PRIMARY KEY")


@test
def truncated(version):
    """A table that was truncated is empty, and takes what is written since by whoever prepared before."""
    with session(version) as on:
        name, t = table(on, f"truncated{version}")
        insert = on.prepare(f"INSERT INTO {t} (k, c) VALUES (?, ?)")
        for c in range(100):
            on.execute(insert, [1, c])
        on.execute(f"TRUNCATE {t}")
        equal(on.execute(f"SELECT count(*) FROM {t}").one()[0], 0)
        on.execute(insert, [1, 7])
        equal([row.c for row in on.execute(f"SELECT c FROM {t}")], [7])
        true(name in on.cluster.metadata.keyspaces, "the driver knows the keyspace still")
