"""User-defined types: what the driver makes of them."""

from collections import namedtuple

from suite import equal, session, test, true
from test_errors import table

Phone = namedtuple("Phone", "prefix number")
Address = namedtuple("Address", "street zip phones")


@test
def user_types(version):
    """Registered classes are bound and read; a field that is added is None in rows from before, and found in new ones."""
    with session(version) as on:
        name, t = table(on, f"user_types{version}")
        on.execute(f"CREATE TYPE {name}.phone (prefix int, number text)")
        on.execute(f"CREATE TYPE {name}.address (street text, zip int, phones frozen<list<frozen<phone>>>)")
        on.execute(f"ALTER TABLE {t} ADD (home frozen<address>, calls phone, all set<frozen<phone>>)")
        on.cluster.register_user_type(name, "phone", Phone)
        on.cluster.register_user_type(name, "address", Address)
        insert = on.prepare(f"INSERT INTO {t} (k, c, home, calls, all) VALUES (?, ?, ?, ?, ?)")
        home = Address("Long Lane", 5, [Phone(44, "7"), Phone(None, "8")])
        on.execute(insert, [1, 1, home, Phone(49, None), {Phone(1, "2")}])
        row = on.execute(f"SELECT home, calls, all, home.zip AS zip FROM {t}").one()
        equal((row.home, row.calls, set(row.all), row.zip), (home, Phone(49, None), {Phone(1, "2")}, 5))
        on.execute(f"UPDATE {t} SET calls.number = %s WHERE k = 1 AND c = 1", ["9"])
        equal(on.execute(f"SELECT calls FROM {t}").one().calls, Phone(49, "9"))

        types = on.cluster.metadata.keyspaces[name].user_types
        equal(types["address"].field_types, ["text", "int", "frozen<list<frozen<phone>>>"])
        true("CREATE TYPE" in types["phone"].as_cql_query(), "the driver can write the type down")
        on.execute(f"ALTER TYPE {name}.phone ADD kind text")
        equal(on.cluster.metadata.keyspaces[name].user_types["phone"].field_names, ["prefix", "number", "kind"])

    # A driver that knows the type as it is now, and old rows.
    with session(version) as on:
        on.execute(f"UPDATE {t} SET calls.kind = 'mobile' WHERE k = 1 AND c = 1")
        select = on.prepare(f"SELECT home, calls FROM {t} WHERE k = ?")
        row = on.execute(select, [1]).one()
        equal((row.calls.prefix, row.calls.number, row.calls.kind), (49, "9", "mobile"))
        equal([phone.kind for phone in row.home.phones], [None, None])
        on.execute(f"ALTER TYPE {name}.phone ADD last int")
        row = on.execute(select, [1]).one()
        equal((row.calls.kind, row.home.phones[0].number), ("mobile", "7"))
