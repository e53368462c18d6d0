#!/usr/bin/env python3
"""Feeds random rules of users to rsredis and to the installed redis-server and compares every reply byte by byte.

usage: acl_compare.py --server BINARY [--rounds N] [--seed S]

A round makes a user with a random sequence of words, valid and not (ACL SETUSER), and compares the reply, ACL GETUSER, ACL LIST and
ACL DRYRUN of many requests. Two texts may tell the same commands in other words, since rsredis has commands that the stock server
lacks: then ours, without these, must make the stock server say what it said before. Any other difference is printed, with
the words that lead to it, and the exit status is 1.
"""
import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CATEGORIES = ("keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking "
              "dangerous connection transaction scripting all").split()
PATTERNS = ["*", "a", "a*", "b:*", "key", "k?y", "[a-c]x", "", "a b", "**", "\\*", "x\0y", "ключ"]
HASHES = ["30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4", "30C952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4",
          "30c9", "", "z" * 64, "0" * 64]
FIXED = ("on off ON nopass NoPass resetpass reset RESET allkeys resetkeys allchannels resetchannels allcommands nocommands "
         "sanitize-payload skip-sanitize-payload clearselectors bogus +@nosuch -@nosuch +nosuch -nosuch + - +@ & ~ % %R %~x %RW %RWR~x "
         "%Z~x ( ) () (~a (+get) (on) (nopass) (>pw) (+@read ~* (a) +config|get -config|get +config|nosuch +config|get|x +select|0 +select|1 "
         "+SELECT|0 -select|0 +select| +get|x +acl|setuser -acl +client|id|x @all +|x !x <x # ! > < ((+get)) (+get)x").split()
REQUESTS = """GET key|GET a1|GET b:1|SET a v|SET b:x v GET|DEL a b:1 key|COPY a key|COPY a b:2|RENAME a a2|MGET a a3 zz|MSET a 1 b:2 2|EXISTS a b:1|
SORT a BY w_* GET x|SORT a STORE b:1|SORT_RO a|OBJECT ENCODING a|OBJECT HELP|XREAD STREAMS a key 0 0|XREADGROUP GROUP g c STREAMS a >|
EVAL return 2 a b:1|EVAL return 0|EVALSHA x 1 key|FCALL f 1 a|ZUNIONSTORE a 2 key b:1|ZDIFF 1 a|LMPOP 1 a LEFT|BLPOP a b:1 0|LMOVE a b:1 LEFT LEFT|
PUBLISH a x|PUBLISH ax x|SPUBLISH key x|SUBSCRIBE a b:1|PSUBSCRIBE a*|PSUBSCRIBE * a|SSUBSCRIBE b:x|UNSUBSCRIBE a|CONFIG GET a|CONFIG SET a b|CONFIG|CLIENT ID|CLIENT LIST|
ACL WHOAMI|ACL SETUSER a|SELECT 0|SELECT 1|PING|AUTH a|HELLO|RESET|QUIT|MULTI|EXEC|WATCH a|FLUSHALL|KEYS *|SCAN 0|RANDOMKEY|DEBUG SLEEP 0|SHUTDOWN|
GEORADIUS a 1 1 1 m STORE key|GEORADIUS a 1 1 1 m|GEORADIUS_RO a 1 1 1 m|BITFIELD a SET u8 0 1|BITFIELD a GET u8 0|BITFIELD_RO a GET u8 0|SET a|NOSUCH a|CONFIG NOSUCH|GETEX a|
GETEX a EX 5|MIGRATE h 1 a 0 5|MIGRATE h 1 "" 0 5 KEYS a b:1|DUMP a|RESTORE a 0 x|INCR a|SINTERCARD 1 a|SINTERSTORE a b:1|XADD a * f v|XLEN a|XINFO STREAM a|PFCOUNT a key|PFMERGE a key|
MEMORY USAGE a|MEMORY DOCTOR|SUBSTR a 0 1|GETDEL a|APPEND a x|SETRANGE a 0 x|SMOVE a b:1 m|TOUCH a|EXPIRE a 1|TTL a|TYPE a|WAIT 0 0|REPLICAOF a 1|COMMAND COUNT|COMMAND|LATENCY DOCTOR"""


class Server:
    def __init__(self, binary):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.dir = tempfile.mkdtemp(prefix="rs-acl.")
        self.child = subprocess.Popen([binary, "--port", str(self.port), "--dir", self.dir, "--save", ""],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.time()
        while True:
            try:
                self.stream = socket.create_connection(("127.0.0.1", self.port), timeout=20)
                break
            except OSError:
                if time.time() - begun > 10:
                    sys.exit(f"acl_compare: {binary} did not start")
                time.sleep(0.01)
        self.file = self.stream.makefile("rb")

    def call(self, *words):
        words = [w if isinstance(w, bytes) else w.encode() for w in words]
        self.stream.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.reply()

    def reply(self):
        line = self.file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        return line

    def stop(self):
        self.child.kill()
        self.child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def commands_of(server):
    """Every command and `container|sub` of a server."""
    names = []
    for entry in server.call("COMMAND"):
        names.append(entry[0].decode())
        names += [sub[0].decode() for sub in entry[9]]
    return names


def word(dice, commands, depth=0):
    kind = dice.randrange(13 if depth == 0 else 9)
    if kind < 3:
        return dice.choice("+-") + "@" + dice.choice(CATEGORIES)
    if kind < 6:
        name = dice.choice(commands)
        return dice.choice("+-") + (name.upper() if dice.random() < 0.05 else name)
    if kind < 8:
        return dice.choice(["~", "~", "%R~", "%W~", "%RW~", "%wr~", "&", "&"]) + dice.choice(PATTERNS)
    if kind == 8:
        return dice.choice(["allkeys", "resetkeys", "allchannels", "resetchannels", "+@all", "-@all", "~*", "&*"])
    if kind == 9:
        return dice.choice("><") + dice.choice(["pw", "pw2", ""]) if dice.random() < 0.7 else dice.choice("#!") + dice.choice(HASHES)
    if kind == 10:
        return "(" + " ".join(word(dice, commands, 1) for _ in range(dice.randrange(4))) + ")"
    return dice.choice(FIXED)


class Comparison:
    def __init__(self, ours, stock, seed):
        self.ours, self.stock, self.dice = ours, stock, random.Random(seed)
        known = commands_of(stock)
        self.commands = [name for name in known if name in set(commands_of(ours))]
        self.newer = set(commands_of(ours)) - set(known)
        # Taken from both before their texts are compared.
        self.missing = b"".join(b" -" + name.encode() for name in known if name not in self.commands)
        self.differences = self.retold = self.compared = 0

    def same(self, words, *question):
        a, b = self.ours.call(*question), self.stock.call(*question)
        self.compared += 1
        if a != b and not (question[1] in ("GETUSER", "LIST") and self.tells_the_same(a, b)):
            self.differences += 1
            print(f"{' '.join(question[:3])} differs\n  words {words}\n  asked {question[1:]}\n  ours  {a}\n  stock {b}", flush=True)
        return b

    def tells_the_same(self, a, b):
        """Whether texts of rules differ in nothing but how they tell the commands."""
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(x == y or self.tells_the_same(x, y) for x, y in zip(a, b))
        if not isinstance(a, bytes) or not isinstance(b, bytes) or b"@all" not in b:
            return False
        for name, text in (("told", a), ("was", b)):
            root, *selectors = (text.split(b" ", 2)[2] if text.startswith(b"user ") else text).split(b" (")
            text = b" (".join([root + self.missing] + [selector[:-1] + self.missing + b")" for selector in selectors])
            # Of the last word of a selector only the parenthesis stays.
            rules = [(b")" if w.endswith(b")") else b"") if w.rstrip(b")")[1:].decode(errors="replace") in self.newer else w
                     for w in text.split(b" ")]
            # `~*` among other patterns was `%RW~*`, and can come after or before them only as that.
            rules = [b"%RW~*" if w == b"~*" and b" ~* ~" in text + b" ~" else w for w in rules if w]
            self.stock.call("ACL", "DELUSER", name)
            self.stock.call("ACL", "SETUSER", name, *rules)
        told, was = self.stock.call("ACL", "GETUSER", "told"), self.stock.call("ACL", "GETUSER", "was")
        self.stock.call("ACL", "DELUSER", "told", "was")
        self.retold += told is not None and told == was
        return told is not None and told == was

    def round(self):
        for server in (self.ours, self.stock):
            server.call("ACL", "DELUSER", "u")
        words = []
        for _ in range(self.dice.randrange(1, 5)):
            step = [word(self.dice, self.commands) for _ in range(self.dice.randrange(1, 5))]
            words.append(step)
            self.same(words, "ACL", "SETUSER", "u", *step)
            self.same(words, "ACL", "GETUSER", "u")
        self.same(words, "ACL", "LIST")
        requests = [r.strip() for r in REQUESTS.split("|")]
        for request in self.dice.sample(requests, 25) + [n.replace("|", " ") for n in self.dice.sample(self.commands, 10)]:
            self.same(words, "ACL", "DRYRUN", "u", *[w.strip('"') for w in request.split(" ")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ours, stock = Server(os.path.abspath(options.server)), Server(shutil.which("redis-server") or sys.exit("acl_compare: no redis-server"))
    try:
        comparison = Comparison(ours, stock, options.seed)
        for _ in range(options.rounds):
            comparison.round()
        print(f"{options.rounds} users of seed {options.seed}: {comparison.compared} replies compared, {comparison.differences} differ, "
              f"{comparison.retold} tell the same commands in other words")
        sys.exit(comparison.differences > 0)
    finally:
        ours.stop()
        stock.stop()


if __name__ == "__main__":
    main()
