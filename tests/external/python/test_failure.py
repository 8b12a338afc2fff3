"""A node is killed under load and comes back. This is the last test: it leaves three nodes, one of them restarted."""

import itertools
import threading

from cassandra import ConsistencyLevel, Unavailable
from cassandra.policies import FallthroughRetryPolicy, RetryPolicy
from cassandra.protocol import QueryMessage
from cassandra.query import SimpleStatement

from suite import NODES, alone, equal, eventually, nodes, raises, session, true
from test_cluster import keyspace

VICTIM = 3
WRITERS = 4


class FewRetries(RetryPolicy):
    """Asks another node, up to five times, whatever failed: all statements of this test are idempotent."""

    def again(self, retry_num):
        return (self.RETRY_NEXT_HOST, None) if retry_num < 5 else (self.RETHROW, None)

    def on_read_timeout(self, query, consistency, required_responses, received_responses, data_retrieved, retry_num):
        return self.again(retry_num)

    def on_write_timeout(self, query, consistency, write_type, required_responses, received_responses, retry_num):
        return self.again(retry_num)

    def on_unavailable(self, query, consistency, required_replicas, alive_replicas, retry_num):
        return self.again(retry_num)

    def on_request_error(self, query, consistency, error, retry_num):
        return self.again(retry_num)


class Load:
    """Writers that write a key, read it back and remember what was acknowledged, until they are stopped."""

    def __init__(self, on, name):
        self.on = on
        self.insert = on.prepare(f"INSERT INTO {name}.t (k, v) VALUES (?, ?)")
        self.select = on.prepare(f"SELECT v FROM {name}.t WHERE k = ?")
        self.insert.is_idempotent = self.select.is_idempotent = True
        self.acknowledged = set()
        self.errors = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(n,)) for n in range(WRITERS)]

    def write(self, number):
        for turn in itertools.count():
            if self.stopped.is_set():
                return
            key = turn * WRITERS + number
            try:
                self.on.execute(self.insert, (key, f"value {key}"))
                self.acknowledged.add(key)
                row = self.on.execute(self.select, (key,)).one()
                if row is None or row.v != f"value {key}":
                    self.errors.append(f"key {key} was acknowledged, but read as {row}")
            except Exception as error:
                self.errors.append(f"key {key}: {type(error).__name__}: {error}")

    def more(self, count):
        """Waits until this many further writes were acknowledged."""
        goal = len(self.acknowledged) + count
        eventually(f"{count} more writes", lambda: len(self.acknowledged) >= goal)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@alone
def first_answer(version):
    """A node that starts again serves QUORUM from its first answer: it takes no request before it knows its peers."""
    with session(version, only=NODES[0]) as on:
        name = keyspace(on, f"first{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY)")
        endpoint = on.cluster.metadata.get_host(NODES[VICTIM - 1]).endpoint
        query = QueryMessage(f"SELECT k FROM {name}.t WHERE k = 1", ConsistencyLevel.QUORUM)
        for _ in range(3):
            nodes("kill", VICTIM)
            nodes("start", VICTIM)
            connection = eventually("a connection", lambda: on.cluster.connection_factory(endpoint), pause=0.002)
            try:
                answer = connection.wait_for_response(query, timeout=10)
                equal(answer.parsed_rows, [], "rows")
            finally:
                connection.close()


@alone
def killed_node(version):
    """SIGKILL under load: no error at QUORUM with retries, Unavailable at ALL, events, and a return without loss."""
    quick = {"reprepare_on_up": False, "status_event_refresh_window": 0, "topology_event_refresh_window": 0}
    with session(version, retry_policy=FewRetries(), **quick) as on, \
            session(version, only=NODES[0], retry_policy=FallthroughRetryPolicy(), **quick) as watch:
        events = []
        ears = watch.cluster.control_connection._connection
        ears.register_watcher("STATUS_CHANGE", events.append)
        name = keyspace(watch, f"killed{version}")
        watch.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        victim = NODES[VICTIM - 1]

        def heard(change):
            return any(e["change_type"] == change and e["address"][0] == victim for e in events)

        every = SimpleStatement(
            f"INSERT INTO {name}.t (k, v) VALUES (-1, 'all')", consistency_level=ConsistencyLevel.ALL
        )
        watch.execute(every)
        with Load(on, name) as load:
            load.more(100)
            nodes("kill", VICTIM)
            load.more(300)
            eventually("STATUS_CHANGE DOWN", lambda: heard("DOWN"))
            error = raises(Unavailable, lambda: watch.execute(every))
            equal((error.required_replicas, error.alive_replicas), (3, 2), "required and alive replicas")
            equal(error.consistency, ConsistencyLevel.ALL, "consistency of the error")
            read = SimpleStatement(f"SELECT v FROM {name}.t WHERE k = 0", consistency_level=ConsistencyLevel.ALL)
            error = raises(Unavailable, lambda: watch.execute(read))
            equal((error.required_replicas, error.alive_replicas), (3, 2), "required and alive replicas")
            load.more(100)
            events.clear()
            nodes("start", VICTIM)
            eventually("STATUS_CHANGE UP", lambda: heard("UP"))
            load.more(100)
        equal(load.errors[:5], [], f"{len(load.errors)} errors of {len(load.acknowledged)} writes")
        eventually("ALL works again", lambda: watch.execute(every) is not None)
        host = on.cluster.metadata.get_host(victim)
        eventually("the driver has connected to it again", lambda: host.is_up and on._pools.get(host))
        # The restarted node knows no prepared statement: the driver is told so, prepares again and repeats.
        row = on.execute(load.select, (0,), host=host).one()
        equal(row.v, "value 0", "prepared statement on the node that came back")
        reads = [(key, on.execute_async(load.select, (key,))) for key in sorted(load.acknowledged)]
        for key, future in reads:
            row = future.result().one()
            true(row is not None and row.v == f"value {key}", f"acknowledged key {key} reads as {row}")


first_answer.versions = (4,)
killed_node.versions = (5,)
