"""What the tests share: a register of tests, clusters of the driver, and patience with a limit."""

import contextlib
import os
import re
import subprocess
import sys
import time
import traceback
import urllib.request

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import (
    ConstantReconnectionPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
    WhiteListRoundRobinPolicy,
)

NODES = ["127.0.9.1", "127.0.9.2", "127.0.9.3"]

TESTS = []


def test(function):
    """Registers a test. Its docstring is what it claims, and what the report says."""
    TESTS.append(function)
    return function


def alone(function):
    """Registers a test that kills a node or takes the time: nothing else may use the cluster meanwhile."""
    function.alone = True
    return test(function)


def connect(version, compression=False, only=None, consistency=ConsistencyLevel.QUORUM, **more):
    """A cluster object of the driver; `only` ties its requests to one node."""
    policy = WhiteListRoundRobinPolicy([only]) if only else TokenAwarePolicy(RoundRobinPolicy())
    more.setdefault("reconnection_policy", ConstantReconnectionPolicy(0.3, None))
    profile = ExecutionProfile(
        load_balancing_policy=policy,
        consistency_level=consistency,
        request_timeout=20,
        retry_policy=more.pop("retry_policy", None),
    )
    return Cluster(
        [only] if only else NODES,
        protocol_version=version,
        compression=compression,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        **more,
    )


@contextlib.contextmanager
def session(version, keyspace=None, **more):
    """A session that is closed at the end of the block."""
    cluster = connect(version, **more)
    try:
        yield cluster.connect(keyspace)
    finally:
        cluster.shutdown()


def equal(found, wanted, what="value"):
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def raises(kind, function, *words):
    """The exception, which must be of exactly this kind and say all the words."""
    try:
        found = function()
    except kind as error:
        true(type(error) is kind, f"wanted {kind.__name__}, found {type(error).__name__}: {error}")
        for word in words:
            true(word.lower() in str(error).lower(), f"{kind.__name__} does not say {word!r}: {error}")
        return error
    except Exception as error:
        raise AssertionError(f"wanted {kind.__name__}, found {type(error).__name__}: {error}") from error
    raise AssertionError(f"wanted {kind.__name__}, but it went well: {found!r}")


def eventually(what, function, seconds=20, pause=0.05):
    """The first true answer of `function`; an exception is an answer that is not true."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            last = function()
            if last:
                return last
        except Exception as error:
            last = error
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds} s, last {last!r}")


def nodes(verb, number):
    """Starts or kills a node: `nodes("kill", 3)`."""
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([os.path.join(here, "..", "nodes"), verb, str(number)], check=True, timeout=30)


def metric(number, name):
    """The samples of a node's metric."""
    with urllib.request.urlopen(f"http://{NODES[number - 1]}:9180/metrics", timeout=5) as page:
        text = page.read().decode()
    return [float(sample) for sample in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)]


def sees_alive(numbers, count, seconds=20):
    """Waits until each of these nodes holds so many alive, itself among them. A driver's own view is of its connections."""
    for number in numbers:
        eventually(
            f"node {number} holds {count} nodes alive",
            lambda: metric(number, "helenus_members_up") == [count],
            seconds,
        )


def run(wanted, versions, which="all"):
    """Runs every test for every version, or only those that go alone or together; returns how many failed."""
    failed = 0
    count = 0
    for function in TESTS:
        if which != "all" and (which == "alone") != getattr(function, "alone", False):
            continue
        if wanted and not any(word in function.__name__ for word in wanted):
            continue
        for version in getattr(function, "versions", versions):
            count += 1
            started = time.monotonic()
            name = f"v{version} {function.__name__}"
            try:
                function(version)
            except Exception:
                failed += 1
                print(f"FAIL {name}: {function.__doc__}\n{traceback.format_exc()}", flush=True)
            else:
                print(f"ok   {name} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{count - failed} of {count} passed", flush=True)
    if count == 0:
        print("no test has such a name", file=sys.stderr)
        return 1
    return failed
