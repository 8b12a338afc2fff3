"""Cassandra's Python driver against three real nodes, over versions 4 and 5 of the protocol.

    test_driver.py [all|alone|together] [4|5|4,5] [WORD …]

Runs the tests whose name has one of the words; without words, all. Those that kill a node or take the time go alone.

The nodes run already; EXT_DIR and EXT_HELENUS say where (see ../nodes).
"""

import logging
import sys

import suite
import test_cluster  # noqa: F401  (they register themselves; in the last two nodes fall)
import test_conditional  # noqa: F401
import test_data  # noqa: F401
import test_errors  # noqa: F401
import test_schema  # noqa: F401
import test_tracing  # noqa: F401
import test_types  # noqa: F401
import test_failure  # noqa: F401

if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    which, versions, *words = sys.argv[1:] or ["all", "4,5"]
    sys.exit(1 if suite.run(words, [int(v) for v in versions.split(",")], which) else 0)
