#!/usr/bin/env python3
"""Writes the conformance scripts that are the same question asked of every command (without replies; scripts/bless.sh
fills those in): too few and too many arguments, a key of the wrong type, absurd numbers.

usage: scripts/conformance_matrix.py [--server STOCK_REDIS_SERVER]
"""
import argparse
import os
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(HERE, "tests/conformance/errors")

# Commands that end the server or the session, or turn the connection into something else, when the arity is right.
UNSAFE = {"shutdown", "psync", "sync", "monitor", "subscribe", "psubscribe", "ssubscribe", "quit", "failover", "multi",
          "debug", "reset", "replconf", "restore-asking"}

# One valid call of each command on keys; K is the key of the type, N an integer, P a count,
# C a cursor, F a float. The type that fits is first.
CALLS = """
string GET K|GETDEL K|GETEX K|GETSET K v|APPEND K v|STRLEN K|GETRANGE K N N|SUBSTR K N N|SETRANGE K N v
string INCR K|DECR K|INCRBY K N|DECRBY K N|INCRBYFLOAT K F|SETBIT K N 1|GETBIT K N|BITCOUNT K N N|BITPOS K 1 N N
string BITFIELD K GET u8 N|BITFIELD K SET u8 0 N|BITFIELD K INCRBY i8 0 N|BITFIELD_RO K GET u8 0|LCS K K|SETNX K v
string BITOP AND dest K|BITOP NOT dest K|PFADD K v|PFCOUNT K|PFMERGE K|SET K v GET|SET K v EX N|SET K v PXAT N
string SETEX K N v|PSETEX K N v|GETEX K EX N|GETEX K PXAT N|MGET K
list LPUSH K v|RPUSH K v|LPUSHX K v|RPUSHX K v|LPOP K|RPOP K|LPOP K N|RPOP K N|LLEN K|LINDEX K N|LSET K N v
list LINSERT K BEFORE a b|LRANGE K N N|LREM K N a|LTRIM K N N|LPOS K a|LPOS K a RANK N|LPOS K a COUNT N
list LPOS K a MAXLEN N|LMOVE K dest LEFT RIGHT|RPOPLPUSH K dest|LMPOP N K LEFT|LMPOP 1 K LEFT COUNT N|BLPOP K F|BRPOP K F
list BLMOVE K dest LEFT LEFT F|BRPOPLPUSH K dest F|BLMPOP F 1 K LEFT|BLMPOP 1 N K LEFT
hash HSET K f v|HSETNX K f v|HMSET K f v|HGET K f|HMGET K f|HGETALL K|HDEL K f|HEXISTS K f|HLEN K|HKEYS K|HVALS K
hash HSTRLEN K f|HINCRBY K n N|HINCRBYFLOAT K n F|HRANDFIELD K|HRANDFIELD K P|HRANDFIELD K P WITHVALUES|HSCAN K 0
hash HSCAN K C|HSCAN K 0 COUNT N
set SADD K v|SREM K v|SCARD K|SISMEMBER K v|SMISMEMBER K v|SMEMBERS K|SPOP K|SPOP K N|SRANDMEMBER K|SRANDMEMBER K P
set SMOVE K dest v|SINTER K|SUNION K|SDIFF K|SINTERSTORE dest K|SUNIONSTORE dest K|SDIFFSTORE dest K|SINTERCARD N K
set SINTERCARD 1 K LIMIT N|SSCAN K C|SSCAN K 0 COUNT N
zset ZADD K F m|ZADD K INCR F m|ZINCRBY K F m|ZSCORE K m|ZMSCORE K m|ZCARD K|ZREM K m|ZRANK K m|ZREVRANK K m
zset ZCOUNT K F F|ZLEXCOUNT K - +|ZRANGE K N N|ZREVRANGE K N N|ZRANGE K F F BYSCORE|ZRANGE K 0 10 BYSCORE LIMIT N N
zset ZRANGEBYSCORE K F F|ZREVRANGEBYSCORE K F F|ZRANGEBYSCORE K 0 10 LIMIT N N|ZRANGEBYLEX K - + LIMIT N N
zset ZREVRANGEBYLEX K + -|ZRANGESTORE dest K N N|ZPOPMIN K|ZPOPMAX K|ZPOPMIN K N|ZPOPMAX K N|ZMPOP N K MIN
zset ZMPOP 1 K MAX COUNT N|BZPOPMIN K F|BZPOPMAX K F|BZMPOP F 1 K MIN|ZRANDMEMBER K|ZRANDMEMBER K P|ZUNION N K
zset ZUNION 1 K WEIGHTS F|ZINTER N K|ZDIFF N K|ZINTERCARD N K|ZINTERCARD 1 K LIMIT N|ZUNIONSTORE dest N K
zset ZINTERSTORE dest 1 K WEIGHTS F|ZDIFFSTORE dest N K|ZREMRANGEBYRANK K N N|ZREMRANGEBYSCORE K F F|ZREMRANGEBYLEX K - +
zset ZSCAN K C|ZSCAN K 0 COUNT N|GEOADD K F F m|GEOPOS K m|GEOHASH K m|GEODIST K m n|GEORADIUS K F F F km
zset GEORADIUSBYMEMBER K m F km|GEOSEARCH K FROMLONLAT F F BYRADIUS F km|GEOSEARCH K FROMLONLAT 0 0 BYBOX F F m COUNT N
zset GEOSEARCHSTORE dest K FROMLONLAT 0 0 BYRADIUS 1 km
stream XADD K 9-9 f v|XADD K MAXLEN N 10-10 f v|XLEN K|XRANGE K - +|XRANGE K N N|XRANGE K - + COUNT N|XREVRANGE K + -
stream XDEL K N|XTRIM K MAXLEN N|XTRIM K MINID N|XREAD STREAMS K 0|XREAD COUNT N STREAMS K 0|XSETID K 11-11|XINFO STREAM K
stream XINFO GROUPS K|XINFO CONSUMERS K g|XGROUP CREATE K g2 0|XGROUP DESTROY K nosuch|XGROUP SETID K g N
stream XGROUP CREATECONSUMER K g c|XGROUP DELCONSUMER K g c|XREADGROUP GROUP g c COUNT N STREAMS K >
stream XACK K g N|XPENDING K g|XPENDING K g - + N|XCLAIM K g c N 1-1|XAUTOCLAIM K g c N 0|XAUTOCLAIM K g c 0 0 COUNT N
any EXPIRE K N|PEXPIRE K N|EXPIREAT K N|PEXPIREAT K N|SORT K LIMIT N N|COPY K dest DB N|MOVE K N|SCAN C|SCAN 0 COUNT N
any RESTORE fresh N x|OBJECT FREQ K|WAIT N 1|WAIT 0 N|SELECT N|SWAPDB N 0|CLIENT UNBLOCK N|CLIENT KILL ID N|SLOWLOG GET N
any MEMORY USAGE K SAMPLES N|DEBUG SLEEP abc|CLIENT PAUSE abc|LOLWUT VERSION N|EVAL 'return_1' N|FCALL nofunction N
""".strip()

INTEGERS = ["abc", '""', "1.5", '" 1"', "1\\x00", "+1", "01", "-0", "0x10", "1e3", "9223372036854775807",
            "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "99999999999999999999999999", "nan"]
# Counts that a conforming server may answer with that many random elements have their negative extremes left out.
COUNTS = [number for number in INTEGERS if number not in ("-9223372036854775808",)]
# A cursor that is a number may point anywhere: what it returns is the server's own affair.
CURSORS = ["abc", '" 1"', "1.5", "0x10", "1e3", "-", "99999999999999999999999999"]
FLOATS = ["abc", '""', '" 1"', '"1 "', "nan", "-nan", "1e400", "-1e400", "1e-400", "0x", "1,5", "--1", "1e", "."]
KEYS = {"string": "SET string v", "number": "SET number 12", "list": "RPUSH list a b c", "hash": "HSET hash f v n 1",
        "set": "SADD set a", "ints": "SADD ints 1 2 3", "zset": "ZADD zset 1 m 2 n", "stream": "XADD stream 1-1 f v"}
# Between these integers a blocking command or a huge SETRANGE would be legal: these calls take few of the numbers.
SMALL = ("SETRANGE", "SETBIT")


def calls():
    for line in CALLS.splitlines():
        kind, rest = line.split(" ", 1)
        for call in rest.split("|"):
            yield kind, call.strip()


def commands(server):
    """(name, arity) of every command of the stock server, subcommands left out."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory() as where:
        child = subprocess.Popen([server, "--port", str(port), "--dir", where, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                time.sleep(0.05)
                found = subprocess.run(["redis-cli", "-p", str(port), "--json", "COMMAND"], capture_output=True, text=True)
                if found.returncode == 0 and found.stdout.startswith("["):
                    break
            import json
            return sorted((entry[0], entry[1]) for entry in json.loads(found.stdout))
        finally:
            child.terminate()
            child.wait()


def write(name, head, lines):
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, name + ".txt"), "w") as f:
        f.write(f"# {head}\n# (lines from scripts/conformance_matrix.py, replies from scripts/bless.sh)\n")
        f.write("\n".join(lines) + "\n")


def arity(server):
    lines = []
    for name, count in commands(server):
        least = abs(count)
        for words in range(1, min(least, 5)):
            lines.append(name.upper() + " x" * (words - 1))
        if count > 0 and name not in UNSAFE:
            lines.append(name.upper() + " x" * count)
    write("arity", "the wrong number of arguments, for every command", lines)


def wrong_type():
    for group in ("string", "list", "hash", "set", "zset", "stream"):
        write("wrong_type_" + group, f"{group} commands on a key of every other type", wrong_type_lines(group))


def wrong_type_lines(group):
    lines = []
    for kind, call in calls():
        if kind != group:
            continue
        for key, create in KEYS.items():
            fits = kind == key or (kind == "string" and key == "number") or (kind == "set" and key == "ints")
            if fits or (kind == "zset" and key in ("set", "ints") and call.split()[0] in SET_TAKERS):
                continue
            filled = fill(call, key, "1")
            lines += ["@any", create, filled]
            if filled.split()[0] in ("SET", "SETEX", "PSETEX", "SETNX", "MGET"):
                lines += ["@any", "DEL " + key]
    return lines


SET_TAKERS = ("ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE")


def fill(call, key, number):
    words = []
    for word in call.split():
        words.append({"K": key, "N": number, "P": number, "C": "0", "F": number}.get(word, word))
    return " ".join(words)


def numbers():
    for group in ("string", "list", "hash", "set", "zset", "stream", "any"):
        text = f"absurd and malformed numbers in every place of {group} commands that takes one"
        write("numbers_" + group, text, numbers_lines(group))


def numbers_lines(group):
    lines = ["@any\n" + create for create in KEYS.values()]
    lines.append("@any\nXGROUP CREATE stream g 0")
    for kind, call in calls():
        if kind != group:
            continue
        words = call.split()
        for place, word in enumerate(words):
            if word not in ("N", "P", "C", "F"):
                continue
            key = {"any": "string", "string": "number"}.get(kind, kind)
            values = {"N": INTEGERS, "P": COUNTS, "C": CURSORS, "F": FLOATS}[word]
            if words[0] in SMALL:
                values = [value for value in values if value not in ("+1", "01", "-0", "1e3", '" 1"')]
            for value in values:
                filled = list(words)
                filled[place] = '"%s"' % value if "\\x" in value else value
                line = fill(" ".join(filled), key, "1")
                lines += ["@any\nDEL dest fresh " + key, "@any\n" + KEYS["number" if key == "number" else key], line]
                if key == "stream":
                    lines.insert(-1, "@any\nXGROUP CREATE stream g 0")
                if words[0] == "SCAN":
                    lines.insert(-1, "@sort scan")
                if words[0] in ("SELECT", "SWAPDB"):
                    lines.append("@any\nSELECT 0")
    return [line for lines_of_one in lines for line in lines_of_one.split("\n")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="redis-server")
    options = parser.parse_args()
    arity(options.server)
    wrong_type()
    numbers()


if __name__ == "__main__":
    main()
