"""Statements with IF: what the driver makes of `[applied]` and of the row, and the levels that go with them."""

from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.query import BatchStatement, BatchType, SimpleStatement

from suite import equal, raises, session, test, true
from test_cluster import keyspace


def table(on, name):
    name = keyspace(on, name)
    on.execute(f"CREATE TABLE {name}.t (k int, c int, s text static, v int, PRIMARY KEY (k, c))")
    return f"{name}.t"


@test
def one_row(version):
    """INSERT, UPDATE and DELETE of a row, as texts and prepared; the columns of a refusal are those of the condition."""
    with session(version) as on:
        t = table(on, f"conditional{version}")
        insert = on.prepare(f"INSERT INTO {t} (k, c, v) VALUES (?, ?, ?) IF NOT EXISTS")
        true(on.execute(insert, (1, 1, 10)).was_applied, "the first INSERT")
        refused = on.execute(insert, (1, 1, 11))
        true(not refused.was_applied, "the second INSERT")
        equal(tuple(refused.one()), (False, 1, 1, None, 10), "the row that is there")
        update = on.prepare(f"UPDATE {t} SET v = ? WHERE k = ? AND c = ? IF v = ? AND s IN ?")
        refused = on.execute(update, (20, 1, 1, 9, ["x"]))
        equal(refused.column_names, ["[applied]", "v", "s"], "columns of the refusal")
        equal(tuple(refused.one()), (False, 10, None), "values of the refusal")
        on.execute(f"UPDATE {t} SET s = 'x' WHERE k = 1")
        true(on.execute(update, (20, 1, 1, 10, ["w", "x"])).was_applied, "the UPDATE whose condition holds")
        delete = f"DELETE FROM {t} WHERE k = 1 AND c = 1 IF v > 19 AND v != null"
        true(on.execute(delete).was_applied, "DELETE")
        refused = on.execute(f"DELETE FROM {t} WHERE k = 1 AND c = 1 IF EXISTS")
        equal((refused.column_names, tuple(refused.one())), (["[applied]"], (False,)), "of a row that is gone")


@test
def batches(version):
    """Several rows of one partition, all or nothing."""
    with session(version) as on:
        t = table(on, f"conditional_batch{version}")
        insert = on.prepare(f"INSERT INTO {t} (k, c, v) VALUES (?, ?, ?) IF NOT EXISTS")
        update = on.prepare(f"UPDATE {t} SET v = ? WHERE k = ? AND c = ? IF v = ?")
        on.execute(insert, (1, 1, 10))
        batch = BatchStatement(batch_type=BatchType.LOGGED, serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL)
        batch.add(update, (11, 1, 1, 10))
        batch.add(update, (21, 1, 2, None))
        true(on.execute(batch).was_applied, "the batch whose conditions hold")
        refused = on.execute(batch)
        equal(sorted(map(tuple, refused)), [(False, 1, 1, 11), (False, 1, 2, 21)], "the rows, with their keys")
        batch = BatchStatement()
        batch.add(update, (0, 1, 1, 11))
        batch.add(update, (0, 2, 1, None))
        raises(InvalidRequest, lambda: on.execute(batch), "partition")


@test
def serial(version):
    """A read at SERIAL sees what was decided; it is of one partition, and no level of a write."""
    with session(version) as on:
        t = table(on, f"serial{version}")
        on.execute(f"INSERT INTO {t} (k, c, v) VALUES (1, 1, 1) IF NOT EXISTS")
        for level in (ConsistencyLevel.SERIAL, ConsistencyLevel.LOCAL_SERIAL):
            read = SimpleStatement(f"SELECT v FROM {t} WHERE k = 1", consistency_level=level)
            equal(on.execute(read).one().v, 1, "read")
            for statement in (f"SELECT v FROM {t}", f"INSERT INTO {t} (k, c, v) VALUES (1, 1, 1)"):
                refused = SimpleStatement(statement, consistency_level=level)
                raises(InvalidRequest, lambda: on.execute(refused))
