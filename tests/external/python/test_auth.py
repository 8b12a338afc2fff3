"""Cassandra's Python driver, and cqlsh, against a node that asks for a password and speaks TLS.

    test_auth.py

Starts a node of its own on 127.0.9.4, and ends it. EXT_DIR and EXT_HELENUS say where (see ../nodes); helenusctl lies beside
the server, openssl makes the certificates.
"""

import logging
import os
import ssl
import subprocess
import sys

from cassandra import AuthenticationFailed, InvalidRequest, Unauthorized
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable

import suite
from suite import equal, eventually, raises, test, true

NODE = "127.0.9.4"
DIR = os.path.join(os.environ["EXT_DIR"], "auth")
HELENUS = os.environ["EXT_HELENUS"]
CTL = os.path.join(os.path.dirname(HELENUS), "helenusctl")

CONFIGURATION = f"""
listen_address = "{NODE}:7000"
rpc_address = "{NODE}:9160"
native_transport_address = "{NODE}:9042"
data_directory = "{DIR}/data"
authenticator = "PasswordAuthenticator"
native_transport_tls_certificate = "{DIR}/node.crt"
native_transport_tls_private_key = "{DIR}/node.key"
"""


def openssl(*words):
    subprocess.run(["openssl", *words], cwd=DIR, check=True, capture_output=True, timeout=60)


def certificates():
    """An authority, and a certificate of it for the node: the commands of docs/src/security.md."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=suite", "-keyout", "ca.key", "-out", "ca.crt")
    names = f"subjectAltName=IP:{NODE}"
    openssl("req", *key, "-subj", "/CN=node", "-addext", names, "-keyout", "node.key", "-out", "node.csr")
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copy"]
    openssl("x509", "-req", "-in", "node.csr", *signed, "-days", "2", "-out", "node.crt")


def role(*words, password=""):
    command = [CTL, "--host", f"{NODE}:9160", "role", *words]
    return subprocess.run(command, input=password, text=True, check=True, capture_output=True, timeout=60)


def context():
    found = ssl.create_default_context(cafile=os.path.join(DIR, "ca.crt"))
    found.verify_mode = ssl.CERT_REQUIRED
    return found


def connect(version, password="Ilion", **more):
    more.setdefault("auth_provider", PlainTextAuthProvider("ada", password))
    more.setdefault("ssl_context", context())
    return Cluster([NODE], protocol_version=version, connect_timeout=20, **more)


def refused(cluster):
    """Why the driver does not connect."""
    try:
        error = raises(NoHostAvailable, cluster.connect)
    finally:
        cluster.shutdown()
    [reason] = error.errors.values()
    return reason


@test
def a_role_logs_in_through_tls(version):
    """Who has the password and believes the authority connects, and works."""
    cluster = connect(version)
    try:
        session = cluster.connect()
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute("CREATE TABLE IF NOT EXISTS k.t (k int PRIMARY KEY, v text)")
        insert = session.prepare("INSERT INTO k.t (k, v) VALUES (?, ?)")
        for k in range(200):
            session.execute(insert, (k, "x" * 1000 * (k % 7)))
        equal(len(list(session.execute("SELECT * FROM k.t"))), 200, "rows")
        raises(Unauthorized, lambda: session.execute("SELECT * FROM system_auth.roles"), "hashes")
        raises(InvalidRequest, lambda: session.execute("CREATE ROLE eve"), "not support")
    finally:
        cluster.shutdown()


@test
def a_wrong_password_is_told(version):
    """The driver raises AuthenticationFailed, with Cassandra's words."""
    reason = refused(connect(version, password="Troy"))
    true(isinstance(reason, AuthenticationFailed), f"{reason!r}")
    true("Provided username ada and/or password are incorrect" in str(reason), f"{reason}")


@test
def nobody_is_told_apart(version):
    """A name that is no role's gets the same words."""
    provider = PlainTextAuthProvider("hector", "Ilion")
    reason = refused(connect(version, auth_provider=provider))
    true("Provided username hector and/or password are incorrect" in str(reason), f"{reason}")


@test
def without_a_password_or_tls_nothing_goes(version):
    """A driver without an auth provider is asked for one; one without TLS hears nothing."""
    reason = refused(connect(version, auth_provider=None))
    true(isinstance(reason, AuthenticationFailed), f"{reason!r}")
    refused(connect(version, ssl_context=None))
    distrustful = ssl.create_default_context()
    true("certificate" in str(refused(connect(version, ssl_context=distrustful))).lower(), "a certificate is refused")


@test
def cqlsh_asks_for_both(version):
    """`cqlsh --ssl -u` as the page says it."""
    cqlsh = os.path.join(os.path.dirname(sys.executable), "cqlsh")
    command = [cqlsh, "--ssl", NODE, "9042", "-u", "ada", "-p", "Ilion", f"--protocol-version={version}"]
    command += ["-e", "SELECT cluster_name FROM system.local"]
    environment = {**os.environ, "HOME": DIR, "SSL_CERTFILE": os.path.join(DIR, "ca.crt")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    true(done.returncode == 0 and "helenus" in done.stdout, f"{done.stdout}\n{done.stderr}")


def main():
    os.makedirs(DIR)
    certificates()
    with open(os.path.join(DIR, "node.toml"), "w", encoding="utf-8") as file:
        file.write(CONFIGURATION)
    with open(os.path.join(DIR, "node.log"), "wb") as log:
        node = subprocess.Popen([HELENUS, "--config", file.name], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        eventually("a role can be made", lambda: role("create", "ada", "--password-stdin", password="Ilion\n"))
        failed = suite.run(sys.argv[1:], [4, 5])
    finally:
        node.terminate()
        node.wait(timeout=20)
    return failed


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    sys.exit(1 if main() else 0)
