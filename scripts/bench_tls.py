"""The part `tls` of bench.py: the hot path through TLS, both servers with one certificate, driven by redis-benchmark --tls.

The load generator does not speak TLS; so the requests are counted by redis-benchmark and the CPU is read from /proc.
"""
import os
import re
import shutil
import socket
import subprocess
import tempfile

# Label, test, pipeline, requests per second of measuring (about what one core does).
CASES = [("GET", "get", 1, 30_000), ("SET", "set", 1, 30_000), ("GET", "get", 16, 250_000), ("SET", "set", 16, 250_000),
         ("GET", "get", 100, 500_000), ("SET", "set", 100, 500_000), ("SET of 16 kB", "set", 1, 15_000)]
BIG = 16 * 1024
KEYS = 100_000
HANDSHAKES = 400


def certificate(directory):
    """A certificate that signs itself, with its key: what the server shows and the client trusts."""
    cert, key = os.path.join(directory, "tls.crt"), os.path.join(directory, "tls.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=bench", "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
    return cert, key


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def cpu_s(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(bench, Server):
    directory = tempfile.mkdtemp(prefix="rs-bench-tls.")
    cert, key = certificate(directory)
    ports = dict(zip(bench.binaries, free_ports(len(bench.binaries))))
    servers = [Server(name, binary, "--tls-port", str(ports[name]), "--tls-cert-file", cert, "--tls-key-file", key,
                      "--tls-ca-cert-file", cert, "--tls-auth-clients", "no") for name, binary in bench.binaries.items()]

    def measure(server, requests, *words):
        command = ["redis-benchmark", "-p", str(ports[server.name]), "--tls", "--cacert", cert, "--csv", "-n", str(requests), *map(str, words)]
        before = cpu_s(server.child.pid)
        out = subprocess.run(command, capture_output=True, text=True).stdout
        rate = re.search(r'(?m)^"[^"]*(?:GET|SET|PING)[^"]*","([\d.]+)"', out)
        return {"cpu": (cpu_s(server.child.pid) - before) * 1e6 / requests, "rate": float(rate[1])} if rate else None

    try:
        found = {}
        for server in servers:
            measure(server, 2 * KEYS, "-t", "set", "-r", KEYS, "-d", 64, "-P", 16)
        for _ in range(bench.options.rounds):
            for label, test, pipeline, rate in CASES:
                for server in servers:
                    size = BIG if "kB" in label else 64
                    got = measure(server, int(rate * bench.options.seconds), "-t", test, "-P", pipeline, "-r", KEYS if size == 64 else 100, "-d", size)
                    found.setdefault(f"{label} P{pipeline}", {}).setdefault(server.name, []).append(got)
            for server in servers:
                got = measure(server, int(HANDSHAKES * bench.options.seconds), "-t", "ping_mbulk", "-k", 0)
                found.setdefault("PING on a connection of its own", {}).setdefault(server.name, []).append(got)
        for title, field in [("TLS: redis-benchmark, 50 connections, server CPU us/op", "cpu"),
                             ("Throughput with TLS: operations per second (a larger ratio is better)", "rate")]:
            bench.table(title, "", [(label, {n: bench.median(r, field) for n, r in by.items()}) for label, by in found.items()])
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
