#!/usr/bin/env python3
"""Measures rsredis and the installed redis-server side by side, interleaved, and prints Markdown tables with ratios.

usage: bench.py --server BINARY --loadgen BINARY [--full] [--only hot,mix,mem,snap,aof,persistence,repl,tls,bench] [--rounds N]
                [--seconds S] [--keys N] [--out DIRECTORY] [--other NAME=BINARY]…

CPU us/op is user and system time of the server process per operation: client and servers share the machine, so that
figure and the ratios carry over to another machine, throughput does not. Medians over the rounds.
--full measures everything and writes benches/numbers.md with a plot for each table beside it.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench_tls
from bench_plot import svg

HOT = [("GET", "get", 1), ("SET", "set", 1), ("GET", "get", 16), ("SET", "set", 16), ("GET", "get", 100), ("SET", "set", 100)]
MIX = [("INCR", "incr", 16), ("LPUSH + RPOP, one list", "lpush,rpop", 16), ("LRANGE 100", "lrange100", 4),
       ("HSET, one big hash", "hset", 16), ("HGET, one big hash", "hget", 16), ("SADD", "sadd", 16), ("ZADD", "zadd", 16),
       ("ZSCORE", "zscore", 16), ("ZRANK", "zrank", 16), ("MGET 10", "mget10", 4), ("MSET 10", "mset10", 4),
       ("EXPIRE", "expire", 16), ("XADD", "xadd", 16), ("EVAL of one SET", "eval", 16), ("GET:SET 80:20, skewed", "get:80,set:20", 16)]
MEM = [("string 16 B -> 64 B", "string", 80), ("string 16 B -> integer", "int", 24), ("string with TTL", "ttl", 88),
       ("10-field hashes, per field", "hash10", 17), ("one big hash, per field", "bighash", 30),
       ("one big zset, per member", "zset", 24), ("one big set, per member", "set", 16),
       ("one big list, per element", "list", 17), ("stream, two fields, per entry", "stream", 18)]


class Server:
    """A server process in a directory of its own."""

    def __init__(self, name, binary, *args):
        self.name, self.binary, self.args = name, binary, args
        self.dir = tempfile.mkdtemp(prefix="rs-bench.")
        self.start()

    def start(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        words = [self.binary, "--port", str(self.port), "--dir", self.dir, "--save", "", *self.args]
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.child = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        begun = time.time()
        while time.time() - begun < 120:
            try:
                if self.call("PING") == b"+PONG":
                    self.started_in = time.time() - begun
                    return
            except OSError:
                if self.child.poll() is not None:
                    break
            time.sleep(0.005)
        sys.exit(f"bench: {self.name} did not start\n" + open(self.log.name, errors="replace").read()[-2000:])

    def call(self, *words):
        """One command on a connection of its own; the reply's first line, or the whole text of a bulk."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as s:
            s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
            f = s.makefile("rb")
            line = f.readline().rstrip(b"\r\n")
            return f.read(int(line[1:])) if line[:1] == b"$" and int(line[1:]) > 0 else line

    def info(self, field):
        text = self.call("INFO", "everything").decode(errors="replace")
        found = re.search(rf"(?m)^{field}:(.*?)\r?$", text)
        return found[1] if found else ""

    def pss_kb(self):
        """Proportional memory of the process and its children: what a fork really adds."""
        pids = [self.child.pid]
        try:
            with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children") as f:
                pids += map(int, f.read().split())
        except OSError:
            pass
        total = 0
        for pid in pids:
            try:
                with open(f"/proc/{pid}/smaps_rollup") as f:
                    total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
            except OSError:
                pass
        return total

    def stop(self, keep=False):
        self.child.terminate()
        self.child.wait()
        self.log.close()
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)


class Bench:
    def __init__(self, options):
        self.options, self.keys = options, options.keys
        self.tables, self.costlier = [], []
        self.binaries = {"redis-server": shutil.which("redis-server") or sys.exit("bench: no redis-server"),
                         "rsredis": os.path.abspath(options.server)}
        for other in options.other:
            name, binary = other.split("=", 1)
            self.binaries[name] = binary

    def load(self, server, *words):
        command = [self.options.loadgen, "--port", str(server.port), "--pid", str(server.child.pid), *map(str, words)]
        out = subprocess.run(command, capture_output=True, text=True)
        if out.returncode != 0:
            # What a server cannot do is a gap in the table; what the generator does not understand is not to pass for that.
            print(f"bench: {' '.join(command)}\n{out.stderr.strip()[-300:]}", file=sys.stderr)
            return None
        return json.loads(out.stdout)

    def servers(self, *args):
        return [Server(name, binary, *args) for name, binary in self.binaries.items()]

    def table(self, title, head, rows):
        """rows: (label, {name: number or None}); the ratio is rsredis to redis-server, smaller is better unless the title says so."""
        names = list(self.binaries)
        lines = [f"\n## {title}\n", f"| {head} | {' | '.join(names)} | ratio |", f"|---|{'---|' * (len(names) + 1)}"]
        for label, numbers in rows:
            cells = ["–" if numbers.get(n) is None else f"{numbers[n]:.4g}" for n in names]
            ours, theirs = numbers.get("rsredis"), numbers.get("redis-server")
            ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else "–"
            lines.append(f"| {label} | {' | '.join(cells)} | {ratio} |")
            if "CPU us" in title and ours is not None and theirs and ours > theirs:
                self.costlier.append(label)
        print("\n".join(lines), flush=True)
        self.tables.append((title, rows, lines))

    def write(self, head):
        """The tables as they were printed, each with its plot."""
        os.makedirs(self.options.out, exist_ok=True)
        text = [head]
        for title, rows, lines in self.tables:
            picture = "numbers-" + re.sub(r"[^a-z]+", "-", re.split(r":|, ", title)[0].lower()).strip("-") + ".svg"
            with open(os.path.join(self.options.out, picture), "w") as f:
                f.write(svg(title, list(self.binaries), rows))
            text += [*lines, f"\n![{title}]({picture})"]
        if self.costlier:
            text.append("\nCostlier than redis-server: " + ", ".join(self.costlier) + ".")
        with open(os.path.join(self.options.out, "numbers.md"), "w") as f:
            f.write("\n".join(text) + "\n")

    def interleaved(self, servers, cases, words):
        """Median CPU per operation of every case on every server; a case a server cannot do is None."""
        found = {}
        for _ in range(self.options.rounds):
            for label, mix, pipeline in cases:
                for server in servers:
                    more = ["--skewed"] if "skewed" in label else []
                    got = self.load(server, "--mix", mix, "--pipeline", pipeline, "--seconds", self.options.seconds, *words, *more)
                    usable = got and got["errors"] * 100 < got["ops"]
                    found.setdefault((label, pipeline), {}).setdefault(server.name, []).append(got if usable else None)
        return found

    @staticmethod
    def median(results, field):
        numbers = [r[field] for r in results if r]
        return statistics.median(numbers) if numbers else None

    def hot(self):
        servers = self.servers()
        try:
            empty = {s.name: self.load(s, "--load", "string", "--keys", 0)["rss_kb"] for s in servers}
            full = {s.name: self.load(s, "--load", "string", "--keys", self.keys)["rss_kb"] for s in servers}
            found = self.interleaved(servers, HOT, ["--keys", self.keys])
            rows = [(f"{label} P{p}", {n: self.median(r, "cpu_us_op") for n, r in by.items()}) for (label, p), by in found.items()]
            self.table(f"Hot path: {self.keys:,} keys of 16 B + 64 B, 50 connections, server CPU us/op", "", rows)
            rows = [(f"{label} P{p}", {n: self.median(r, "ops_s") for n, r in by.items()}) for (label, p), by in found.items()]
            self.table("Throughput of the hot path: operations per second (a larger ratio is better)", "", rows)
            self.table(f"Memory of {self.keys:,} keys, MB of RSS above the empty server", "",
                       [("16 B + 64 B", {n: (full[n] - empty[n]) / 1024 for n in full})])
            one = self.interleaved(servers, [("GET", "get", 1)], ["--keys", self.keys, "--conns", 1])["GET", 1]
            self.table("One connection", "", [(f"GET {p}, us", {n: self.median(r, f"{p}_us") for n, r in one.items()}) for p in ("p50", "p99")])
        finally:
            for server in servers:
                server.stop()

    def mix(self):
        servers = self.servers()
        try:
            for server in servers:
                self.load(server, "--load", "string", "--keys", 100_000)
            found = self.interleaved(servers, MIX, ["--keys", 100_000])
            rows = [(f"{label} (P{p})", {n: self.median(r, "cpu_us_op") for n, r in by.items()}) for (label, p), by in found.items()]
            self.table("Other commands, 100 k distinct members, server CPU us/op", "", rows)
        finally:
            for server in servers:
                server.stop()

    def mem(self):
        rows = []
        for label, kind, raw in MEM:
            numbers = {}
            for name, binary in self.binaries.items():
                server = Server(name, binary)
                got = self.load(server, "--load", kind, "--keys", self.keys)
                numbers[name] = got["bytes_per_item"] if got and not got["errors"] else None
                server.stop()
            rows.append((f"{label} (raw {raw})", numbers))
        self.table(f"Memory, bytes of RSS per item, {self.keys:,} items", "", rows)

    def snap(self):
        numbers, keys = {}, 2 * self.keys
        for name, binary in self.binaries.items():
            server = Server(name, binary)
            self.load(server, "--load", "string", "--keys", keys)
            writes = ["--mix", "set", "--pipeline", 1, "--conns", 20, "--keys", keys]
            idle = self.load(server, *writes, "--seconds", 4)
            before, peak, during = server.pss_kb(), [0], []
            worker = threading.Thread(target=lambda: during.append(self.load(server, *writes, "--seconds", 4)))
            worker.start()
            time.sleep(0.3)
            begun = time.time()
            server.call("BGSAVE")
            while server.info("rdb_bgsave_in_progress") == "1" and time.time() - begun < 60:
                peak[0] = max(peak[0], server.pss_kb())
                time.sleep(0.05)
            took = time.time() - begun
            worker.join()
            saved = server.info("rdb_last_bgsave_status") == "ok" and server.info("rdb_changes_since_last_save") != ""
            server.stop(keep=True)
            server.start()
            loaded = server.started_in if server.call("DBSIZE") == b":%d" % keys else None
            numbers[name] = {f"BGSAVE of {keys:,} keys under writes, s": took if saved else None,
                             "extra memory during it, %": 100 * max(0, peak[0] - before) / before if saved else None,
                             "p99.9 during / idle": during[0]["p999_us"] / idle["p999_us"] if saved and during[0] else None,
                             f"load {keys:,} keys at start, s": loaded}
            server.stop()
        self.by_line("Snapshots", numbers)

    def aof(self):
        numbers = {}
        for name, binary in self.binaries.items():
            line = numbers[name] = {}
            for policy in ("always", "everysec"):
                server = Server(name, binary, "--appendonly", "yes", "--appendfsync", policy)
                got = self.load(server, "--mix", "set", "--pipeline", 1, "--seconds", self.options.seconds)
                if policy == "always":
                    line["always: SET ops/s, 50 connections (larger is better)"] = got and got["ops_s"]
                else:
                    line["everysec: CPU us/op at P1"] = got and got["cpu_us_op"]
                server.stop()
        self.by_line("AOF", numbers)

    def persistence(self):
        self.snap()
        self.aof()

    def repl(self):
        numbers = {}
        for name, binary in self.binaries.items():
            primary, replica = Server(name, binary), Server(name, binary)
            self.load(primary, "--load", "string", "--keys", self.keys, "--size", 100)
            begun = time.time()
            answer = replica.call("REPLICAOF", "127.0.0.1", str(primary.port))
            done = False
            while answer == b"+OK" and not done and time.time() - begun < 60:
                time.sleep(0.02)
                done = replica.info("master_link_status") == "up"
            took = time.time() - begun
            got = self.load(primary, "--mix", "set", "--pipeline", 16, "--seconds", self.options.seconds) if done else None
            # A burst at full speed: from its end, how long until the replica has applied all of it.
            burst = self.load(primary, "--mix", "set", "--pipeline", 16, "--seconds", 5) if done else None
            ended = time.time()
            while burst and replica.info("slave_repl_offset") != primary.info("master_repl_offset") and time.time() - ended < 60:
                time.sleep(0.002)
            lag_ms = (time.time() - ended) * 1000
            numbers[name] = {f"full sync of {self.keys:,} keys of 100 B, s": took if done else None,
                             "SET P16 with a replica, primary's CPU us/op": got and got["cpu_us_op"],
                             "lag behind a burst of 5 s of SET P16, ms": lag_ms if burst else None}
            replica.stop()
            primary.stop()
        self.by_line("Replication", numbers)

    def tls(self):
        bench_tls.run(self, Server)

    def by_line(self, title, numbers):
        lines = list(dict.fromkeys(label for line in numbers.values() for label in line))
        self.table(title, "", [(label, {n: numbers[n].get(label) for n in numbers}) for label in lines])

    def bench(self):
        """redis-benchmark as everyone runs it: requests per second."""
        servers = self.servers()
        found = {}
        try:
            for pipeline in (1, 16):
                for _ in range(self.options.rounds):
                    for server in servers:
                        command = ["redis-benchmark", "-p", str(server.port), "-q", "--csv", "-n", str(100_000 * (1 if pipeline == 1 else 5)),
                                   "-P", str(pipeline), "-r", "100000", "-t", "ping_mbulk,set,get,incr,lpush,rpop,sadd,hset,zadd,mset"]
                        out = subprocess.run(command, capture_output=True, text=True).stdout
                        for test, rate in re.findall(r'(?m)^"([^"]+)","([\d.]+)"', out):
                            found.setdefault((test, pipeline), {}).setdefault(server.name, []).append({"rate": float(rate)})
            rows = [(f"{test} P{p}", {n: self.median(r, "rate") for n, r in by.items()}) for (test, p), by in found.items()]
            self.table("redis-benchmark, requests per second (a larger ratio is better)", "", rows)
        finally:
            for server in servers:
                server.stop()


def machine():
    """What it was measured on, in words."""
    model = re.search(r"(?m)^model name\s*: (.*)$", open("/proc/cpuinfo").read())
    return f"{os.cpu_count()} cores of {model[1] if model else os.uname().machine}, Linux {os.uname().release}"


def version(binary):
    said = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    return re.sub(r"\s(sha|malloc|bits|build)=\S+", "", said.strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--loadgen", required=True)
    parser.add_argument("--full", action="store_true", help="every table, not only hot and redis-benchmark; written to --out")
    parser.add_argument("--only", default="")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=BINARY")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--out", default="", help="directory for numbers.md and the plots (with --full: benches)")
    options = parser.parse_args()
    bench = Bench(options)
    parts = options.only.split(",") if options.only else ["hot", "bench"] + (["mix", "mem", "snap", "aof", "repl", "tls"] if options.full else [])
    words = [word for word in sys.argv[1:] if word not in ("--server", options.server, "--loadgen", options.loadgen)]
    versions = "\n".join(f"- {name}: {version(binary)}" for name, binary in bench.binaries.items())
    head = (f"# Numbers of {time.strftime('%Y-%m-%d %H:%M')}\n\n{machine()}; `scripts/bench.sh {' '.join(words)}`; medians of "
            f"{options.rounds} rounds of {options.seconds:g} s, the servers in turns; CPU is user and system time of the server.\n\n{versions}")
    print(head)
    for part in parts:
        getattr(bench, part)()
    options.out = options.out or ("benches" if options.full else "")
    if options.out:
        bench.write(head)


if __name__ == "__main__":
    main()
