"""redis-py doing everyday work, in RESP2 and RESP3: a program of scripts/clients.py, which sets the environment."""
import json
import os
import sys
import threading
import time
import traceback

import redis
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

PORT = int(os.environ["PORT"])
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def connect(r, **options):
    """A connection like that of `r`, with other options."""
    return redis.Redis(**{"port": PORT, "protocol": protocol_of(r), "socket_timeout": 20, "retry": Retry(NoBackoff(), 0), **options})


def protocol_of(r):
    return r.connection_pool.connection_kwargs["protocol"]


@check
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


@check
def pipelines(r):
    with r.pipeline(transaction=False) as p:
        for i in range(10_000):
            p.set(f"p:{i}", i)
        assert p.execute() == [True] * 10_000
    with r.pipeline(transaction=False) as p:
        for i in range(10_000):
            p.get(f"p:{i}")
        assert p.execute() == [str(i).encode() for i in range(10_000)]


@check
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


@check
def scanning(r):
    r.flushdb()
    for i in range(1000):
        r.set(f"s:{i}", i)
    assert {int(k.split(b":")[1]) for k in r.scan_iter(match="s:*", count=50)} == set(range(1000))
    assert len(r.keys("s:99*")) == 11 and r.dbsize() == 1000
    assert r.delete(*[f"s:{i}" for i in range(1000)]) == 1000


@check
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


@check
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


@check
def hashes(r):
    assert r.hset("h", mapping={"a": 1, "b": "two"}) == 2
    assert r.hgetall("h") == {b"a": b"1", b"b": b"two"}
    assert r.hincrby("h", "a", 4) == 5 and r.hget("h", "a") == b"5"
    assert dict(r.hscan_iter("h")) == {b"a": b"5", b"b": b"two"}
    assert r.hdel("h", "a", "b") == 2


@check
def lists(r):
    assert r.rpush("l", 1, 2, 3) == 3 and r.lrange("l", 0, -1) == [b"1", b"2", b"3"]
    assert r.lpop("l") == b"1" and r.lmove("l", "l2", "LEFT", "RIGHT") == b"2"


@check
def sets(r):
    assert r.sadd("s", 1, 2, "x") == 3 and r.smembers("s") == {b"1", b"2", b"x"}
    assert r.sismember("s", "x") == 1 and r.srem("s", "x") == 1 and r.scard("s") == 2


@check
def sorted_sets(r):
    assert r.zadd("z", {"a": 1, "b": 2.5, "c": 3}) == 3
    pairs = [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)]
    assert pairs == [(b"a", 1.0), (b"b", 2.5), (b"c", 3.0)], pairs
    assert r.zscore("z", "b") == 2.5 and r.zrank("z", "c") == 2 and r.zincrby("z", 1, "a") == 2.0


@check
def streams(r):
    first = r.xadd("x", {"f": "v"})
    r.xgroup_create("x", "g", id="0")
    r.xadd("x", {"f": "w"})
    read = r.xreadgroup("g", "c", {"x": ">"})
    entries = read[0][1] if isinstance(read, list) else next(iter(read.values()))[0]
    assert len(entries) == 2 and entries[0][0] == first
    assert r.xack("x", "g", first) == 1


@check
def scripts(r):
    assert r.eval("return {KEYS[1], ARGV[1]}", 1, "k", "v") == [b"k", b"v"]
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert add(keys=["sc"], args=[5]) == 5 and add(keys=["sc"], args=[5]) == 10


@check
def errors(r):
    r.set("text", "abc")
    return [error_of(lambda: r.incr("text")), error_of(lambda: r.execute_command("NOSUCH", "a")),
            error_of(lambda: r.execute_command("GET")), error_of(lambda: r.lpush("text", "x")),
            error_of(lambda: r.eval("return redis.call('nosuch')", 0)), error_of(lambda: r.evalsha("f" * 40, 0))]


def error_of(call):
    try:
        return f"no error but {call()}"
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"


@check
def operator_view(r):
    info = r.info()
    assert info["redis_version"].startswith("7.") and info["connected_clients"] >= 1
    assert r.config_get("maxmemory") == {"maxmemory": "0"}
    assert any(c["name"] == "seen" for c in seen(r))
    assert r.ping() is True and isinstance(r.time()[0], int)


def seen(r):
    with connect(r, single_connection_client=True) as named:
        named.client_setname("seen")
        return r.client_list()


@check
def big_values_and_binary(r):
    big = os.urandom(8 * 1024 * 1024)
    r.set("big", big)
    assert r.get("big") == big
    r.set(b"\x00\xff\r\n", b"\r\n\x00")
    assert r.get(b"\x00\xff\r\n") == b"\r\n\x00"


@check
def client_side_caching(r):
    """redis-py has a cache for RESP3 and servers from 7.4 on; elsewhere invalidations go to a subscriber."""
    if protocol_of(r) == 3 and r.info("server")["redis_version"] >= "7.4":
        return cache_of_the_library(r)
    listener, reader = connect(r, protocol=2, single_connection_client=True), connect(r, single_connection_client=True)
    number = listener.client_id()
    inbox = listener.pubsub()
    inbox.connection = listener.connection
    inbox.subscribe("__redis__:invalidate")
    assert inbox.get_message(timeout=2)["type"] == "subscribe"
    reader.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", number)
    reader.get("cached")
    r.set("cached", "new")
    assert inbox.get_message(timeout=2)["data"] == [b"cached"]
    return reader.get("cached").decode()


def cache_of_the_library(r):
    cached = connect(r, cache_config=CacheConfig())
    r.set("cached", "old")
    assert cached.get("cached") == b"old" and cached.get("cached") == b"old"
    assert cached.get_cache().size == 1
    r.set("cached", "new")
    deadline = time.time() + 5
    while cached.get("cached") != b"new":
        assert time.time() < deadline, "no invalidation came"
    return cached.get("cached").decode()


@check
def tls(r):
    files = {"ssl": True, "ssl_ca_certs": os.environ["CA"], "ssl_certfile": os.environ["CERT"], "ssl_keyfile": os.environ["KEY"]}
    secure = connect(r, port=int(os.environ["TLS_PORT"]), host="localhost", **files)
    assert secure.set("over", "tls") and r.get("over") == b"tls"
    with secure.pipeline(transaction=False) as p:
        for i in range(1000):
            p.set(f"tls:{i}", "x" * 100)
        return len(p.execute())


@check
def acl(r):
    r.acl_setuser("bob", enabled=True, passwords=["+pw"], keys=["bob:*"], commands=["+get", "+set", "+ping"], reset=True)
    bob = connect(r, username="bob", password="pw")
    assert bob.set("bob:k", "v") and bob.get("bob:k") == b"v"
    errors = [error_of(lambda: bob.get("other")), error_of(lambda: bob.delete("bob:k")),
              error_of(lambda: connect(r, username="bob", password="wrong").ping())]
    assert r.acl_deluser("bob") == 1 and b"bob" not in r.acl_users()
    return errors


@check
def functions(r):
    r.function_load("#!lua name=lib\nredis.register_function('double', function(keys, args) return args[1] * 2 end)", replace=True)
    assert r.fcall("double", 0, 21) == 42
    r.function_flush()
    return error_of(lambda: r.fcall("double", 0, 21))


@check
def replica(r):
    other = connect(r, port=int(os.environ["REPLICA_PORT"]))
    r.set("to", "replica")
    assert r.wait(1, 5000) == 1 and other.get("to") == b"replica"
    return [error_of(lambda: other.set("to", "x")), other.role()[0].decode()]


def sentinel():
    """Last, since it turns the roles around."""
    ports = [("127.0.0.1", int(os.environ["SENTINEL_PORT"]))]
    follower = Sentinel(ports, socket_timeout=2)
    assert follower.discover_master("main")[1] == PORT
    primary = follower.master_for("main", socket_timeout=2)
    primary.set("before", 1)
    assert primary.wait(1, 5000) == 1
    follower.sentinels[0].sentinel_failover("main")
    deadline = time.time() + 25
    while True:
        try:
            # The old primary takes writes until the sentinel has told it of the new one.
            if primary.set("after", 2) and primary.info("server")["tcp_port"] == int(os.environ["REPLICA_PORT"]):
                break
        except redis.RedisError:
            pass
        assert time.time() < deadline, "no failover"
        time.sleep(0.1)
    return [value.decode() for value in primary.mget("before", "after")]


def main():
    failed = False
    for protocol in (2, 3):
        r = redis.Redis(port=PORT, protocol=protocol, socket_timeout=20, retry=Retry(NoBackoff(), 0))
        for function in CHECKS:
            r.flushall()
            failed |= not passes(f"RESP{protocol} {function.__name__}", lambda: function(r))
    failed |= not passes("sentinel", sentinel)
    return 1 if failed else 0


def passes(name, call):
    try:
        print(f"{name}\t{json.dumps(call())}", flush=True)
        return True
    except Exception:  # a check may fail in any way; the others still run
        print(f"{name}\tFAILED", flush=True)
        traceback.print_exc()
        return False


if __name__ == "__main__":
    sys.exit(main())
