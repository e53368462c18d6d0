#!/usr/bin/env python3
"""Mixed load for a long time with everything switched on, then a verdict.

usage: scripts/soak.py --server BINARY [SECONDS]

    workers ──► primary: AOF, expiry, eviction, snapshots ──► replica: AOF
    (they reconnect)        ▲ links cut, files rewritten         ▲ restarted now and then

Good is: no error at any client, RSS flat, p99.9 of a probe stable (as far as the machine's own delays are), the data sets of
primary and replica equal at the end, and equal again after the primary has been killed and has loaded its files.
"""
import argparse
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

MEMORY = "48mb"
KEYS = 60_000
WINDOW = 5  # seconds between two samples
POP_AND_COUNT = """
local item = redis.call('LPOP', KEYS[1])
if item then redis.call('INCRBY', KEYS[2], #item) end
return item
"""


class Server:
    def __init__(self, binary, where, *words):
        self.binary, self.dir, self.words = binary, where, words
        os.makedirs(where)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.start()

    def start(self):
        words = [self.binary, "--port", str(self.port), "--dir", self.dir, "--bind", "127.0.0.1", "--enable-debug-command", "local",
                 "--logfile", os.path.join(self.dir, "log"), "--appendonly", "yes", "--save", "20 1000", *map(str, self.words)]
        self.child = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        self.client = connect(self.port)
        deadline = time.time() + 60
        while True:
            try:
                return self.client.ping()
            except (redis.ConnectionError, redis.BusyLoadingError):
                if time.time() > deadline or self.child.poll() is not None:
                    sys.exit(f"soak: no server\n{open(os.path.join(self.dir, 'log'), errors='replace').read()[-2000:]}")
                time.sleep(0.05)

    def rss_mb(self):
        with open(f"/proc/{self.child.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self):
        self.child.kill()
        self.child.wait()


def connect(port):
    return redis.Redis(port=port, socket_timeout=30, retry=Retry(NoBackoff(), 0))


def work(port, seed, until, report):
    """One client: batches of mixed commands, a new connection every so often. Reports errors and how much it did."""
    dice = random.Random(seed)
    done, r = 0, connect(port)
    try:
        while time.time() < until:
            if dice.random() < 0.02:
                r.close()
                r = connect(port)
            done += dice.choices([mixed, transaction, queue, messages, cut], [90, 4, 4, 1, 1])[0](r, dice, port)
            time.sleep(0.005)
    except Exception as error:  # whatever it is, the verdict must tell of it
        report.put(("error", f"{type(error).__name__}: {error}"))
    report.put(("done", done))


def mixed(r, dice, _port):
    with r.pipeline(transaction=False) as p:
        for _ in range(30):
            n, value = dice.randrange(KEYS), dice.randbytes(dice.choice((8, 60, 300, 1500)))
            dice.choice((
                lambda: p.set(f"s:{n}", value), lambda: p.set(f"t:{n}", value, px=dice.randrange(50, 60_000)), lambda: p.get(f"s:{n}"),
                lambda: p.incr(f"n:{n % 1000}"), lambda: p.append(f"a:{n % 100}", b"x") if dice.random() < 0.9 else p.delete(f"a:{n % 100}"),
                lambda: p.hset(f"h:{n % 500}", str(n), value), lambda: p.hdel(f"h:{n % 500}", str(n)), lambda: p.hgetall(f"h:{n % 500}"),
                lambda: p.zadd(f"z:{n % 200}", {str(n): dice.random()}), lambda: p.zremrangebyrank(f"z:{n % 200}", 100, -1),
                lambda: p.zrange(f"z:{n % 200}", 0, 10), lambda: p.sadd(f"m:{n % 300}", n), lambda: p.spop(f"m:{n % 300}", 2),
                lambda: p.lpush(f"l:{n % 200}", value), lambda: p.ltrim(f"l:{n % 200}", 0, 50), lambda: p.lrange(f"l:{n % 200}", 0, 5),
                lambda: p.xadd(f"x:{n % 50}", {"f": value}, maxlen=100), lambda: p.expire(f"h:{n % 500}", 30),
                lambda: p.pfadd(f"p:{n % 20}", n), lambda: p.setbit(f"b:{n % 20}", n, 1), lambda: p.unlink(f"h:{n % 500}") if n % 50 == 0 else p.exists(f"h:{n}"),
            ))()
        return len(p.execute())


def fill(r):
    """Up to the limit: memory that grows because there is more data is no leak."""
    n = 0
    while not r.info("stats")["evicted_keys"]:
        with r.pipeline(transaction=False) as p:
            for n in range(n + 1, n + 1000):
                p.set(f"s:{n % KEYS}" if n < KEYS else f"fill:{n}", random.randbytes(400))
            p.execute()


def transaction(r, dice, _port):
    with r.pipeline() as p:
        n = dice.randrange(1000)
        p.incr(f"n:{n}").lpush(f"l:{n % 200}", "in a transaction").expire(f"l:{n % 200}", 60)
        return len(p.execute())


def queue(r, dice, _port):
    name = dice.randrange(4)
    r.rpush(f"q:{name}", dice.randbytes(20))
    r.eval(POP_AND_COUNT, 2, f"q:{name}", "popped")
    r.blpop([f"q:{(name + 1) % 4}"], timeout=0.01)
    return 3


def messages(r, dice, _port):
    with r.pubsub() as inbox:
        channel = f"c:{dice.random()}"
        inbox.subscribe(channel)
        assert inbox.get_message(timeout=10)["type"] == "subscribe"
        assert r.publish(channel, "text") == 1
        assert inbox.get_message(timeout=10)["data"] == b"text"
    return 2


def cut(r, dice, port):
    """A client whose connection goes away in the middle of what it does."""
    with connect(port) as victim:
        number = victim.client_id()
        victim.set("cut", dice.randbytes(100_000), ex=60)
        r.client_kill_filter(_id=number)
    return 2


def probe(port, until, latencies):
    """A client at a steady pace; hands over window by window how late replies came, and how late the machine woke it from its sleep:
    what the machine does to everybody is not the server's doing."""
    r, window, wakes, ends = connect(port), [], [], time.time() + WINDOW
    while time.time() < until:
        begun = time.perf_counter()
        r.set("probe", "x") if len(window) % 2 else r.get("probe")
        answered = time.perf_counter()
        window.append(answered - begun)
        time.sleep(0.001)
        wakes.append(time.perf_counter() - answered - 0.001)
        if time.time() > ends:
            latencies.put((p999_ms(window), p999_ms(wakes)))
            window, wakes, ends = [], [], time.time() + WINDOW


def p999_ms(seconds):
    return sorted(seconds)[int(len(seconds) * 0.999)] * 1000


def disturb(turn, primary, replica):
    """What happens beside the load; one thing each turn."""
    r = primary.client
    saving = r.info("persistence")
    if turn % 4 == 0 and not saving["aof_rewrite_in_progress"] and not saving["aof_rewrite_scheduled"]:
        r.bgrewriteaof()
    elif turn % 4 == 1:
        r.client_kill_filter(_type="slave")
    elif turn % 4 == 2 and not saving["rdb_bgsave_in_progress"]:
        r.bgsave(schedule=True)
    elif turn % 12 == 3:
        replica.child.terminate()
        replica.child.wait()
        replica.start()


def equal(primary, replica):
    """Whether both hold the same. Keys go on expiring meanwhile, so digests of two moments may differ: it asks until they do not."""
    deadline = time.time() + 60
    digests = None
    while time.time() < deadline:
        primary.client.wait(1, 5000)
        digests = [s.client.execute_command("DEBUG", "DIGEST") for s in (primary, replica)]
        if digests[0] == digests[1]:
            return True
        time.sleep(0.5)
    print(f"soak: digests {digests}, keys {[s.client.dbsize() for s in (primary, replica)]}")
    return False


def thirds(samples):
    """Medians of the middle and of the last third: the first warms up."""
    third = max(1, len(samples) // 3)
    return statistics.median(samples[third:2 * third] or samples), statistics.median(samples[-third:])


def soak(binary, where, seconds):
    common = ["--maxmemory-policy", "allkeys-lru", "--auto-aof-rewrite-min-size", "16mb"]
    primary = Server(binary, os.path.join(where, "primary"), "--maxmemory", MEMORY, *common)
    replica = Server(binary, os.path.join(where, "replica"), "--replicaof", "127.0.0.1", primary.port, *common)
    fill(primary.client)
    reports, latencies = multiprocessing.Queue(), multiprocessing.Queue()
    until = time.time() + seconds
    clients = [multiprocessing.Process(target=work, args=(primary.port, seed, until, reports)) for seed in range(4)]
    clients.append(multiprocessing.Process(target=probe, args=(primary.port, until, latencies)))
    problems, rss, rss_replica, p999, wakes = [], [], [], [], []
    try:
        for client in clients:
            client.start()
        print("time s   RSS MB primary   replica   p99.9 ms   machine   evicted   expired   keys", flush=True)
        turn, begun, done = 0, time.time(), 0
        while time.time() < until - WINDOW:
            answered, woken = latencies.get(timeout=60)
            p999.append(answered)
            wakes.append(woken)
            rss.append(primary.rss_mb())
            rss_replica.append(replica.rss_mb())
            stats = primary.client.info("stats")
            if turn % 6 == 0 or seconds <= 120:
                print(f"{time.time() - begun:6.0f} {rss[-1]:16.1f} {rss_replica[-1]:9.1f} {p999[-1]:10.2f} {wakes[-1]:9.2f} {stats['evicted_keys']:9} "
                      f"{stats['expired_keys']:9} {primary.client.dbsize():6}", flush=True)
            disturb(turn, primary, replica)
            turn += 1
        for _ in clients[:-1]:
            kind, value = reports.get(timeout=60)
            while kind == "error":
                problems.append(f"a client: {value}")
                kind, value = reports.get(timeout=60)
            done += value
        for client in clients:
            client.join(60)
        info = primary.client.info()
        checks = [
            ("the last snapshot failed", info["rdb_last_bgsave_status"] != "ok"),
            ("the last rewrite failed", info["aof_last_bgrewrite_status"] != "ok" or info["aof_last_write_status"] != "ok"),
            ("nothing was evicted", info["evicted_keys"] == 0), ("nothing expired", info["expired_keys"] == 0),
            ("the primary's RSS grows", thirds(rss)[1] > thirds(rss)[0] * 1.1 + 5),
            ("the replica's RSS grows", thirds(rss_replica)[1] > thirds(rss_replica)[0] * 1.1 + 5),
            ("p99.9 grows", thirds(p999)[1] > thirds(p999)[0] * 2 * max(1, thirds(wakes)[1] / thirds(wakes)[0]) + 2),
            ("primary and replica differ", not equal(primary, replica)),
        ]
        primary.client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        time.sleep(2)  # what was acknowledged is in the file after the second of `everysec`
        keys = primary.client.dbsize()
        primary.kill()
        primary.start()
        checks.append(("primary and replica differ after a kill -9 and a load", not equal(primary, replica)))
        problems += [text for text, is_bad in checks if is_bad]
        print(f"{done} commands of {len(clients) - 1} workers in {seconds:.0f} s, {info['total_connections_received']} connections, "
              f"{info['sync_full']} full and {info['sync_partial_ok']} partial syncs, {info['evicted_keys']} evicted, "
              f"{info['expired_keys']} expired, {keys} keys at the end")
        for name, values, unit in (("RSS primary", rss, "MB"), ("RSS replica", rss_replica, "MB"), ("p99.9", p999, "ms"),
                                   ("p99.9 of the machine's own delays", wakes, "ms")):
            print(f"{name}: median of the middle third {thirds(values)[0]:.2f}, of the last {thirds(values)[1]:.2f}, highest {max(values):.2f} {unit}")
    finally:
        for client in clients:
            client.kill()
        for server in (primary, replica):
            server.kill()
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=3600)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    where = tempfile.mkdtemp(prefix="rs-soak.")
    problems = soak(os.path.abspath(options.server), where, options.seconds)
    for problem in problems:
        print(f"soak: {problem}")
    print(f"soak: {'FAILED, logs in ' + where if problems else 'good'}")
    if not problems:
        shutil.rmtree(where)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
