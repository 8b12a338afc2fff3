"""Waits until every node lists all the others in system.peers_v2, or says which does not."""

import sys
import time

from cassandra.cluster import Cluster, ExecutionProfile, EXEC_PROFILE_DEFAULT
from cassandra.policies import WhiteListRoundRobinPolicy

NODES = ["127.0.9.1", "127.0.9.2", "127.0.9.3"]
DEADLINE_SECONDS = 30


def seen_by(node):
    """The nodes that this one knows with all that drivers ask of a peer, itself among them."""
    only = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([node]))
    cluster = Cluster(
        [node], protocol_version=4, connect_timeout=2, execution_profiles={EXEC_PROFILE_DEFAULT: only}
    )
    try:
        session = cluster.connect()
        rows = session.execute("SELECT native_address, host_id, tokens FROM system.peers_v2")
        return {node} | {row.native_address for row in rows if row.host_id and row.tokens}
    finally:
        cluster.shutdown()


def main():
    deadline = time.monotonic() + DEADLINE_SECONDS
    missing = {}
    while time.monotonic() < deadline:
        missing = {}
        for node in NODES:
            try:
                absent = sorted(set(NODES) - seen_by(node))
                if absent:
                    missing[node] = f"does not see {', '.join(absent)}"
            except Exception as error:  # not up yet, in whichever way
                missing[node] = f"does not answer: {error}"
        if not missing:
            return 0
        time.sleep(0.1)
    for node, what in missing.items():
        print(f"{node} {what}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
