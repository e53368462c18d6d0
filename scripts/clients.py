#!/usr/bin/env python3
"""redis-py doing everyday work against a server: scripts/clients.py --server BINARY (run with .venv/bin/python).

Every check runs in RESP2 and RESP3 on one fresh server; prints one line per check and `N passed, N failed`.
"""
import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CHECKS = []


def check(needs=""):
    """Registers a check; `needs` names a command that must exist for it (a server still growing may lack it)."""
    def register(function):
        CHECKS.append((function, needs))
        return function
    return register


@check()
def strings_and_expiry(r):
    assert r.set("k", "v") is True
    assert r.get("k") == b"v"
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", get=True) == b"v"
    assert r.setex("e", 100, "x") is True
    assert 99 <= r.ttl("e") <= 100
    assert r.persist("e") is True and r.ttl("e") == -1
    assert r.set("short", "x", px=40) is True
    time.sleep(0.08)
    assert r.get("short") is None
    assert r.mset({"a": 1, "b": 2}) is True and r.mget("a", "nokey", "b") == [b"1", None, b"2"]
    assert r.incr("n", 5) == 5 and r.incrbyfloat("f", 1.5) == 1.5
    assert r.append("k", "ww") == 3 and r.strlen("k") == 3 and r.getrange("k", 0, 0) == b"w"
    assert r.getdel("k") == b"www" and r.exists("k") == 0
    assert r.setbit("bits", 7, 1) == 0 and r.bitcount("bits") == 1


@check()
def pipelines(r):
    with r.pipeline(transaction=False) as p:
        for i in range(10_000):
            p.set(f"p:{i}", i)
        assert p.execute() == [True] * 10_000
    with r.pipeline(transaction=False) as p:
        for i in range(10_000):
            p.get(f"p:{i}")
        assert p.execute() == [str(i).encode() for i in range(10_000)]


@check()
def transactions(r):
    with r.pipeline() as p:
        p.set("t", 1).incr("t").get("t")
        assert p.execute() == [True, 2, b"2"]
    r.set("counter", 0)

    def add():
        own = redis.Redis(connection_pool=r.connection_pool)
        for _ in range(50):
            def body(p):
                value = int(p.get("counter"))
                p.multi()
                p.set("counter", value + 1)
            own.transaction(body, "counter")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert r.get("counter") == b"200", r.get("counter")


@check()
def scanning(r):
    r.flushdb()
    for i in range(1000):
        r.set(f"s:{i}", i)
    assert {int(k.split(b":")[1]) for k in r.scan_iter(match="s:*", count=50)} == set(range(1000))
    assert len(r.keys("s:99*")) == 11 and r.dbsize() == 1000
    assert r.delete(*[f"s:{i}" for i in range(1000)]) == 1000


@check("pubsub")
def pubsub(r):
    p = r.pubsub()
    p.subscribe("ch")
    p.psubscribe("pat*")
    assert [p.get_message(timeout=2)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
    assert r.publish("ch", "one") == 1 and r.publish("pattern", "two") == 1
    got = [p.get_message(timeout=2) for _ in range(2)]
    assert [(m["type"], m["data"]) for m in got] == [("message", b"one"), ("pmessage", b"two")], got
    p.unsubscribe()
    p.punsubscribe()
    p.close()


@check("blpop")
def blocking(r):
    got = []
    waiter = threading.Thread(target=lambda: got.append(r.blpop(["q1", "q2"], timeout=5)))
    waiter.start()
    time.sleep(0.05)
    assert r.rpush("q2", "job") == 1
    waiter.join(5)
    assert [list(map(bytes, pair)) for pair in got] == [[b"q2", b"job"]], got
    started = time.time()
    assert r.blpop("empty", timeout=0.1) is None and time.time() - started >= 0.09


@check("hset")
def hashes(r):
    assert r.hset("h", mapping={"a": 1, "b": "two"}) == 2
    assert r.hgetall("h") == {b"a": b"1", b"b": b"two"}
    assert r.hincrby("h", "a", 4) == 5 and r.hget("h", "a") == b"5"
    assert dict(r.hscan_iter("h")) == {b"a": b"5", b"b": b"two"}
    assert r.hdel("h", "a", "b") == 2


@check("lpush")
def lists(r):
    assert r.rpush("l", 1, 2, 3) == 3 and r.lrange("l", 0, -1) == [b"1", b"2", b"3"]
    assert r.lpop("l") == b"1" and r.lmove("l", "l2", "LEFT", "RIGHT") == b"2"


@check("sadd")
def sets(r):
    assert r.sadd("s", 1, 2, "x") == 3 and r.smembers("s") == {b"1", b"2", b"x"}
    assert r.sismember("s", "x") == 1 and r.srem("s", "x") == 1 and r.scard("s") == 2


@check("zadd")
def sorted_sets(r):
    assert r.zadd("z", {"a": 1, "b": 2.5, "c": 3}) == 3
    pairs = [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)]
    assert pairs == [(b"a", 1.0), (b"b", 2.5), (b"c", 3.0)], pairs
    assert r.zscore("z", "b") == 2.5 and r.zrank("z", "c") == 2 and r.zincrby("z", 1, "a") == 2.0


@check("xadd")
def streams(r):
    first = r.xadd("x", {"f": "v"})
    r.xgroup_create("x", "g", id="0")
    r.xadd("x", {"f": "w"})
    read = r.xreadgroup("g", "c", {"x": ">"})
    entries = read[0][1] if isinstance(read, list) else next(iter(read.values()))[0]
    assert len(entries) == 2 and entries[0][0] == first
    assert r.xack("x", "g", first) == 1


@check("eval")
def scripts(r):
    assert r.eval("return {KEYS[1], ARGV[1]}", 1, "k", "v") == [b"k", b"v"]
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert add(keys=["sc"], args=[5]) == 5 and add(keys=["sc"], args=[5]) == 10


@check()
def errors(r):
    r.set("text", "abc")
    for call, start in ((lambda: r.incr("text"), "value is not an integer"),
                        (lambda: r.execute_command("NOSUCH"), "unknown command"),
                        (lambda: r.execute_command("GET"), "wrong number of arguments")):
        try:
            call()
        except redis.ResponseError as error:
            assert str(error).startswith(start), error
        else:
            raise AssertionError(start)


@check("info")
def operator_view(r):
    info = r.info()
    assert info["redis_version"].startswith("7.") and info["connected_clients"] >= 1
    assert r.config_get("maxmemory") == {"maxmemory": "0"}
    assert any(c["name"] == "seen" for c in seen(r))
    assert r.ping() is True and isinstance(r.time()[0], int)


def seen(r):
    known = r.connection_pool.connection_kwargs
    with redis.Redis(port=known["port"], protocol=known["protocol"], single_connection_client=True) as named:
        named.client_setname("seen")
        return r.client_list()


@check()
def big_values_and_binary(r):
    big = os.urandom(8 * 1024 * 1024)
    r.set("big", big)
    assert r.get("big") == big
    r.set(b"\x00\xff\r\n", b"\r\n\x00")
    assert r.get(b"\x00\xff\r\n") == b"\r\n\x00"


def start(binary, where):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = open(os.path.join(where, "log"), "ab")
    child = subprocess.Popen([os.path.abspath(binary), "--port", str(port), "--dir", where, "--save", ""],
                             stdout=log, stderr=log)
    for _ in range(200):
        try:
            redis.Redis(port=port).ping()
            return child, port
        except redis.ConnectionError:
            if child.poll() is not None:
                break
            time.sleep(0.05)
    sys.exit("clients.py: the server did not start\n" + open(log.name).read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--growing", action="store_true", help="leave out checks whose command does not exist yet")
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="rs-clients.") as where:
        child, port = start(options.server, where)
        try:
            for protocol in (2, 3):
                r = redis.Redis(port=port, protocol=protocol, socket_timeout=20, retry=Retry(NoBackoff(), 0))
                for function, needs in CHECKS:
                    if options.growing and needs and not exists(r, needs):
                        print(f"left out  RESP{protocol} {function.__name__}: no {needs.upper()} yet")
                        continue
                    try:
                        r.flushall()
                        function(r)
                        passed += 1
                        print(f"passed    RESP{protocol} {function.__name__}")
                    except Exception:  # a check may fail in any way; the others still run
                        failed += 1
                        print(f"FAILED    RESP{protocol} {function.__name__}\n{traceback.format_exc()}")
        finally:
            child.terminate()
            child.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def exists(r, command):
    try:
        r.execute_command(command)
    except redis.ResponseError as error:
        return not str(error).startswith("unknown command")
    return True


if __name__ == "__main__":
    sys.exit(main())
