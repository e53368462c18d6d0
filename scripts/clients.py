#!/usr/bin/env python3
"""Client libraries and applications doing everyday work, against our server and against the stock one.

usage: scripts/clients.py --server BINARY [--stock BINARY] [NAME…]          (scripts/clients.sh builds what is compiled)

A program of tests/clients/ does its checks and prints a line for each, `check<TAB>result`. It runs twice at once, each time
on a site of its own, and both must succeed with the same lines:

    sentinel ──► primary ──► replica        all three stock, or all three ours
                 (TCP and TLS)

The programs learn the site from the environment: PORT, TLS_PORT, CA, CERT, KEY, REPLICA_PORT, SENTINEL_PORT (the name is `main`).
"""
import argparse
import concurrent.futures
import difflib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = os.path.join(ROOT, "tests/clients")
PYTHON = os.path.join(ROOT, ".venv/bin/python")
BUILT = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "clients")

PROGRAMS = {
    "redis-py": [PYTHON, "redis_py.py"],
    "ioredis": ["node", "ioredis.js"],
    "node-redis": ["node", "node_redis.js"],
    "redis-rs": [f"{BUILT}/debug/redis-rs"],
    "fred": [f"{BUILT}/debug/fred"],
    "hiredis": [f"{BUILT}/hiredis"],
    "hiredis-tls": [f"{BUILT}/hiredis-tls"],
    "rq": [PYTHON, "app_rq.py"],
    "celery": [PYTHON, "app_celery.py"],
    "limits": [PYTHON, "app_limits.py"],
    "bullmq": ["node", "app_bullmq.js"],
    "sessions": ["node", "app_sessions.js"],
    "rate-limiter": ["node", "app_rate_limiter.js"],
}
LIMIT = 90  # seconds that a program may take


class Site:
    """Primary, replica and sentinel in a directory of their own."""

    def __init__(self, server):
        self.server, self.children = server, []
        self.dir = tempfile.mkdtemp(prefix="rs-clients.")
        self.ports = dict(zip(("PORT", "TLS_PORT", "REPLICA_PORT", "SENTINEL_PORT"), free_ports(4)))
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        certify(self.dir)
        port, replica = self.ports["PORT"], self.ports["REPLICA_PORT"]
        tls = ["--tls-port", self.ports["TLS_PORT"], "--tls-auth-clients", "optional", "--tls-cert-file", "server.crt",
               "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.crt"]
        self.start(self.server, "--port", port, "--repl-diskless-sync-delay", 0, *tls, name="primary")
        self.start(self.server, "--port", replica, "--replicaof", "127.0.0.1", port, name="replica")
        wait("the primary answers", lambda: ask(port, "PING") == "+PONG")
        wait("the replica is in step", lambda: "master_link_status:up" in ask(replica, "INFO replication"))
        with open(os.path.join(self.dir, "sentinel.conf"), "w") as f:
            f.write(f"port {self.ports['SENTINEL_PORT']}\nsentinel monitor main 127.0.0.1 {port} 1\n"
                    "sentinel down-after-milliseconds main 3000\nsentinel failover-timeout main 10000\n")
        self.start(self.server, "sentinel.conf", "--sentinel", name="sentinel")
        sentinel = self.ports["SENTINEL_PORT"]
        wait("the sentinel sees both", lambda: "status=ok" in (text := ask(sentinel, "INFO sentinel")) and "slaves=1" in text)

    def start(self, binary, *words, name):
        """Each process has a directory, except that the primary's holds the certificates and the sentinel its file."""
        where = self.dir if name != "replica" else os.path.join(self.dir, name)
        os.makedirs(where, exist_ok=True)
        words = [binary, *map(str, words)] + (["--save", "", "--bind", "127.0.0.1"] if name != "sentinel" else [])
        with open(os.path.join(self.dir, name + ".log"), "wb") as log:
            self.children.append(subprocess.Popen(words, cwd=where, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def environment(self):
        files = {"CA": "ca.crt", "CERT": "client.crt", "KEY": "client.key"}
        return {**os.environ, **{k: str(v) for k, v in self.ports.items()},
                **{k: os.path.join(self.dir, v) for k, v in files.items()}}

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def certify(where):
    """A CA, and certificates of a server at 127.0.0.1 and of a client, as `openssl` makes them."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=where, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test CA")
    for name in ("server", "client"):
        with open(os.path.join(where, name + ".ext"), "w") as f:
            f.write("basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", *curve, "-keyout", name + ".key", "-out", name + ".csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", name + ".ext", "-out", name + ".crt")


def ask(port, line):
    """The reply to one inline command, as far as it fits into a read; nothing while nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            s.sendall(line.encode() + b"\r\n")
            time.sleep(0.01)
            return s.recv(1 << 16).decode(errors="replace").rstrip("\r\n")
    except OSError:
        return ""


def wait(what, condition, limit=20):
    deadline = time.time() + limit
    while not condition():
        if time.time() > deadline:
            raise RuntimeError(f"waited {limit} s until {what}")
        time.sleep(0.05)


def run(name, server):
    """(succeeded, lines, errors) of one program at one kind of site."""
    site = None
    try:
        site = Site(server)
        done = subprocess.run(PROGRAMS[name], cwd=HERE, env=site.environment(), capture_output=True, text=True,
                              timeout=LIMIT, stdin=subprocess.DEVNULL, start_new_session=True)
        return done.returncode == 0, done.stdout.splitlines(), done.stderr
    except subprocess.TimeoutExpired as late:
        return False, (late.stdout or b"").decode().splitlines(), f"took longer than {LIMIT} s"
    except RuntimeError as error:
        return False, [], str(error)
    finally:
        if site:
            site.close()


def compare(name, ours, stock):
    """Prints how the two runs of a program went; whether they succeeded with the same lines."""
    equal = ours[1] == stock[1]
    if ours[0] and stock[0] and equal and ours[1]:
        print(f"passed    {name}: {len(ours[1])} checks, equal results", flush=True)
        return True
    print(f"FAILED    {name}")
    for side, (succeeded, lines, errors) in (("ours", ours), ("stock", stock)):
        if not succeeded or not lines:
            print(f"  -- {side} did not succeed after {len(lines)} checks\n{errors[-4000:]}")
    if not equal:
        print("\n".join(difflib.unified_diff(stock[1], ours[1], "stock", "ours", lineterm="", n=0)))
    sys.stdout.flush()
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--server", required=True)
    parser.add_argument("--stock", default=shutil.which("redis-server"))
    parser.add_argument("--parallel", type=int, default=2, help="programs at a time")
    options = parser.parse_args()
    for name in options.names:
        if name not in PROGRAMS:
            parser.error(f"no program {name}; there are {', '.join(PROGRAMS)}")
    names = options.names or list(PROGRAMS)
    servers = [os.path.abspath(options.server), options.stock or sys.exit("clients.py: no redis-server")]
    passed = 0
    with concurrent.futures.ThreadPoolExecutor(2 * options.parallel) as pool:
        runs = [(name, [pool.submit(run, name, server) for server in servers]) for name in names]
        for name, pair in runs:
            passed += compare(name, *(future.result() for future in pair))
    print(f"{passed} passed, {len(names) - passed} failed")
    return 0 if passed == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
