"""A session of cqlsh during which nodes go and come back, printed so that two runs print the same.

    degraded.py CQLSH SCRIPT

The script is CQL of cqlsh, cut by lines that begin with `--:`

    --: on N        what follows is asked of node N, by a cqlsh of its own
    --: kill N      SIGKILL; goes on when every other node holds node N to be down
    --: start N     goes on when every node that runs holds exactly those that run to be alive
    --: hints N     goes on when node N owes nobody a hint

The nodes run already; EXT_DIR and EXT_HELENUS say where (see ../nodes). How many nodes one holds alive, and which hints it
owes, is in its metrics.

Of a trace are left: who says what, and the names of its columns. What a node says is in its order; what others answered
stands before the line in which the coordinator has received it, and answers that may come in any order are sorted. Digests
are numbered, tokens stay; ids, and timestamps that a node has given, are masked.
"""

import os
import re
import subprocess
import sys
import tempfile

from suite import NODES, eventually, metric, nodes, sees_alive

SECONDS = 40


class Cluster:
    """Which nodes run."""

    def __init__(self):
        self.running = {1, 2, 3}

    def agree(self):
        sees_alive(sorted(self.running), len(self.running), SECONDS)

    def kill(self, node):
        nodes("kill", node)
        self.running.remove(node)
        self.agree()

    def start(self, node):
        nodes("start", node)
        self.running.add(node)
        self.agree()

    def hints(self, node):
        def delivered():
            # Nothing at all is said by a node that has not looked yet.
            pending = metric(node, "helenus_hints_pending")
            return pending and not any(pending)

        eventually(f"node {node} owes no hint", delivered, SECONDS)


def sections(script):
    """The verbs, each with its node, and the text that follows, with empty lines in front so that lines keep their numbers."""
    verb, node, start = None, None, 0
    lines = script.splitlines()
    for number, line in [*enumerate(lines), (len(lines), "--: end 0")]:
        if line.startswith("--:"):
            if verb:
                yield verb, node, "\n" * start + "\n".join(lines[start:number]) + "\n"
            verb, node, start = *line[3:].split(), number + 1


def cqlsh(program, node, text, name):
    """What cqlsh prints."""
    with tempfile.TemporaryDirectory(dir=os.environ["EXT_DIR"]) as home:
        path = os.path.join(home, name)
        with open(path, "w") as file:
            file.write(text)
        done = subprocess.run(
            [program, NODES[node - 1], "9042", "-f", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, HOME=home),
            timeout=120,
            text=True,
        )
        return done.stdout.replace(home + "/", "")


class Plain:
    """Makes what cqlsh prints comparable."""

    def __init__(self):
        self.digests = {}

    def masked(self, line):
        def digest(found):
            number = self.digests.setdefault(found[2], len(self.digests) + 1)
            return f"{found[1]}#{number}"

        line = re.sub(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>", line)
        line = re.sub(r"\b(digest |: |has )([0-9a-f]{8})\b", digest, line)
        line = re.sub(r"\b\d{16}\b", "<timestamp>", line)
        line = re.sub(r"once for \d+ acknowledgements?", "once for <n> acknowledgements", line)
        line = re.sub(r"(?<= is on )(.*?)(?=; )", lambda found: ", ".join(sorted(found[1].split(", "))), line)
        return line.rstrip()

    def text(self, printed):
        lines = iter(printed.splitlines())
        for line in lines:
            if line.startswith("WARNING: cqlsh was built against"):
                continue
            if not line.startswith(" activity "):
                yield self.masked(line)
                continue
            yield " source    | " + ", ".join(column.strip() for column in line.split("|") if column.strip() != "source")
            next(lines)
            rows = []
            for row in lines:
                if not row.strip():
                    break
                activity, _, source, *_ = (part.strip() for part in row.rsplit(" | ", 4))
                rows.append((source, activity))
            yield from (f" {source} | {self.masked(activity)}" for source, activity in ordered(rows))
            yield ""


def ordered(rows):
    """A trace's rows, without what chance has decided."""
    coordinator = rows[0][0]
    held = {}
    blocks = []
    for source, activity in rows:
        if source != coordinator:
            held.setdefault(source, []).append((source, activity))
            continue
        told = re.match(r"Received .* from ([0-9.]+):", activity)
        before = held.pop(told[1], []) if told else []
        kind = activity.split()[0] if re.match("Sending|Received", activity) else None
        if kind is None or not blocks or blocks[-1][0] != kind:
            blocks.append((kind, []))
        blocks[-1][1].append((activity, [*before, (source, activity)]))
    for _, block in blocks:
        for _, lines in sorted(block):
            yield from lines
    for source in sorted(held):
        yield from held[source]


def main():
    program, script = sys.argv[1:]
    with open(script) as file:
        text = file.read()
    cluster, plain = Cluster(), Plain()
    try:
        for verb, node, part in sections(text):
            print(f"--: {verb} {node}")
            if verb == "on":
                for line in plain.text(cqlsh(program, int(node), part, os.path.basename(script))):
                    print(line)
            elif verb in ("kill", "start", "hints"):
                getattr(cluster, verb)(int(node))
            else:
                sys.exit(f"degraded.py: no such verb: {verb} (see the head of this file)")
    finally:
        # Whatever went wrong, the next suite finds three nodes.
        for node in {1, 2, 3} - cluster.running:
            cluster.start(node)


if __name__ == "__main__":
    main()
