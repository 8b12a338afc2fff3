"""What a driver reads of a request's trace: from whichever node it asks, as soon as it asks."""

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType, SimpleStatement

from suite import NODES, alone, equal, nodes, sees_alive, session, test, true
from test_cluster import keyspace


def told(trace, *words):
    """The event that has all the words."""
    for event in trace.events:
        if all(word in event.description for word in words):
            return event
    raise AssertionError(f"nobody says {words}: {[str(event) for event in trace.events]}")


def sends(trace, what):
    return [e.description for e in trace.events if e.description.startswith(f"Sending {what} message")]


@test
def tracing(version):
    """A write, a read, a prepared statement and a batch have traces, complete when their session has a duration."""
    with session(version) as on:
        name = keyspace(on, f"traced{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        write = SimpleStatement(
            f"INSERT INTO {name}.t (k, v) VALUES (1, 'a')", consistency_level=ConsistencyLevel.ALL
        )
        trace = on.execute(write, trace=True).get_query_trace()
        equal(trace.request_type, "Execute CQL3 query", "request")
        equal(trace.parameters["consistency_level"], "ALL", "level")
        equal(trace.parameters["query"], write.query_string, "query")
        true(trace.coordinator in NODES, f"coordinator {trace.coordinator}")
        true(trace.duration.total_seconds() > 0, "a duration")
        equal(len(sends(trace, "MUTATION")), 2, "messages")
        equal({e.source for e in trace.events if e.thread_name == "replica"}, set(NODES), "replicas")
        told(trace, "ALL is reached: 3 of 3")
        times = [event.datetime for event in trace.events]
        equal(times, sorted(times), "the order of events")
        prepared = on.prepare(f"SELECT v FROM {name}.t WHERE k = ?")
        trace = on.execute(prepared, [1], trace=True).get_query_trace()
        equal(trace.request_type, "Execute CQL3 prepared query", "request")
        told(trace, "Received digest from")
        told(trace, "QUORUM is reached: 2 of 2")
        batch = BatchStatement(batch_type=BatchType.UNLOGGED)
        batch.add(write).add(prepared_insert(on, name), [2, "b"])
        trace = on.execute(batch, trace=True).get_query_trace()
        equal(trace.request_type, "Execute batch of CQL3 queries", "request")
        equal(len([e for e in trace.events if "Determining replicas" in e.description]), 2, "writes")
        local = on.execute("SELECT cluster_name FROM system.local", trace=True)
        told(local.get_query_trace(), "Answering with 1 row")
        true(on.execute(prepared, [1]).get_query_trace() is None, "a trace that nobody asked for")


def prepared_insert(on, name):
    return on.prepare(f"INSERT INTO {name}.t (k, v) VALUES (?, ?)")


@alone
def a_trace_of_an_outage(version):
    """With a node down, the trace of a write names its hint, and is found at any level."""
    with session(version, only=NODES[0]) as on:
        name = keyspace(on, f"outage{version}")
        on.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        nodes("kill", 3)
        try:
            sees_alive([1, 2], 2)
            result = on.execute(f"INSERT INTO {name}.t (k, v) VALUES (1, 'a')", trace=True)
            trace = result.response_future.get_query_trace(query_cl=ConsistencyLevel.ALL)
            told(trace, f"Writing a hint for {NODES[2]}:7000")
            told(trace, "QUORUM is reached: 2 of 2")
        finally:
            nodes("start", 3)
            sees_alive([1, 2, 3], 3)
