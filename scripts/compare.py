#!/usr/bin/env python3
"""Feeds random commands with odd arguments to rsredis and to the installed redis-server and compares every reply byte by byte.

usage: compare.py --server BINARY [--steps N] [--seed S] [--only WORD[,WORD…]] [--resp 2|3|inline] [--most N]

A step is a command of the list below: its arguments are drawn (negative and huge counts, empty strings, bytes that are no UTF-8, keys of
another type, NaN, infinity), options come in any order, twice, or in pieces, letters change their case, an argument is dropped or added.
Every few steps the data is compared, too (DEBUG DIGEST-VALUE, OBJECT ENCODING, TTL). Replies whose order is nobody's business are
sorted, times may differ a little. Each kind of difference is printed with what led to it, once; the exit status is 1 if there is any.
`--only session` compares whole exchanges of transactions, subscriptions, scripts and changes of protocol, `--only config` asks for every directive with bad values, `--only getkeys` for the keys of every command.
"""
import argparse
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

KEYS = {"string": [b"s1", b"s2", b"num", b"bits"], "list": [b"l1", b"l2"], "set": [b"u1", b"u2", b"ints"], "hash": [b"h1", b"h2"],
        "zset": [b"z1", b"z2"], "stream": [b"x1", b"x2"], "geo": [b"g1"], "hll": [b"p1", b"p2"], "none": [b"nokey", b"", b"\xffkey"]}
ALL_KEYS = sorted({key for keys in KEYS.values() for key in keys})
MEMBERS = [b"a", b"b", b"c", b"", b"1", b"2", b"-5", b"10", b"\xff\x00", b"x y", b"A", b"99999999999999999999", b"member" * 15]
INTS = [b"0", b"1", b"2", b"3", b"5", b"-1", b"-2", b"10", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808",
        b"9223372036854775808", b"18446744073709551615", b"4294967296", b"2147483647", b"2147483648", b"-2147483649", b"", b" 1", b"1 ", b"01", b"+1",
        b"-0", b"1.0", b"1e3", b"0x10", b"abc", b"\xff", b"4611686018427387904", b"512", b"536870911", b"536870912"]
FLOATS = INTS[:8] + [b"1.5", b"-2.25", b"inf", b"-inf", b"+inf", b"Infinity", b"nan", b"NaN", b"1e400", b"-1e400", b"1e-400", b"0.1", b"3.0e2", b".5", b"5.",
                     b"0x1p3", b"1_0", b"", b" 1", b"1 ", b"abc", b"(1", b"(inf", b"((1", b"1e5", b"-0", b"0.30000000000000004", b"179.9", b"85.1", b"-181"]
TIMES = [b"100000", b"200000", b"0", b"-1", b"9223372036854775807", b"9223372036854775", b"-9223372036854775808", b"abc", b"", b"1.5", b"4102444800",
         b"4102444800000", b"1", b"9999999999999999"]
LEX = [b"-", b"+", b"[a", b"(a", b"[c", b"(c", b"a", b"", b"[", b"(", b"[\xff", b"+x"]
IDS = [b"0", b"1", b"1-1", b"2-0", b"5-5", b"5-*", b"-", b"+", b"$", b">", b"*", b"(1-1", b"(0", b"1-", b"-1", b"1-1-1", b"abc", b"", b"18446744073709551615-18446744073709551615",
       b"18446744073709551616", b"7", b"7-7", b"3-*", b"(-", b"(+"]
PATTERNS = [b"*", b"a*", b"[a-c]*", b"?", b"\\*", b"[^a]", b"[", b"", b"s?", b"*\xff*", b"h1->*"]

# `a|b` is a choice of words, `[…]` an option that may come, `…` after it that it is drawn several times in any order. Upper case letters
# alone stand for: K key of the type, Y any key, D a key to store in, V value or member, N integer, F float, W timeout, T time, L lex border, I stream id, P pattern.
COMMANDS = """
string: SET K V [EX T] [PX T] [EXAT T] [PXAT T] [NX] [XX] [GET] [KEEPTTL]
string: GET K| GETDEL K| GETEX K [EX T] [PX T] [EXAT T] [PXAT T] [PERSIST]| GETSET K V| APPEND K V| STRLEN K| SETNX K V| SETEX K T V| PSETEX K T V
string: GETRANGE K N N| SUBSTR K N N| SETRANGE K S V| INCR K| DECR K| INCRBY K N| DECRBY K N| INCRBYFLOAT K F| MGET K Y K| MSET K V K V| MSETNX D V K V| LCS K K [LEN] [IDX] [MINMATCHLEN N] [WITHMATCHLEN]
string: SETBIT K B 0| SETBIT K B 1| SETBIT K N V| GETBIT K N| BITCOUNT K N N [BYTE] [BIT]| BITCOUNT K| BITCOUNT K N| BITPOS K 1 N N [BIT] [BYTE]| BITPOS K 0| BITPOS K N| BITPOS K 0 N| BITOP and D K K| BITOP or D K Y| BITOP xor D K K K| BITOP not D K| BITOP not D K K| BITOP zip D K
string: BITFIELD K [GET u8 N] [SET i5 B N] [INCRBY u2 B N] [OVERFLOW sat] [OVERFLOW fail] [OVERFLOW wrap] [GET i64 #1] [GET u64 0] [INCRBY i64 0 N] [SET u63 #0 N] [INCRBY i8 #B N] [OVERFLOW x] [GET i0 0] [GET u8 -1]| BITFIELD_RO K [GET u8 N] [GET i3 B] [SET u8 0 1]| BITFIELD K
hll: PFADD K V V| PFCOUNT K K| PFMERGE D K K| PFADD K| PFCOUNT K| PFDEBUG encoding K| PFDEBUG nosuch K
list: LPUSH K V V| RPUSH K V| LPUSHX K V| RPUSHX K V| LPOP K| RPOP K N| LPOP K N| LLEN K| LINDEX K N| LSET K N V| LINSERT K before V V| LINSERT K after V V| LINSERT K x V V| LRANGE K N N| LREM K N V| LTRIM K N N
list: LPOS K V [RANK N] [COUNT N] [MAXLEN N]| RPOPLPUSH K D| LMOVE K D left right| LMOVE K D right x| LMPOP N K K LEFT [COUNT N]| LMPOP N K right [COUNT N]| BLPOP K W| BLMOVE K D left left W| BLMPOP W N K left [COUNT N]| BRPOP K Y W| BRPOPLPUSH K D W
set: SADD K V V| SREM K V| SISMEMBER K V| SMISMEMBER K V V| SCARD K| SMEMBERS K| SPOP K N| SRANDMEMBER K 0| SMOVE K D V| SINTER K K| SUNION K K Y| SDIFF K K| SINTERSTORE D K K| SUNIONSTORE D K| SDIFFSTORE D K K| SINTERCARD N K K [LIMIT N]| SINTERCARD N K LIMIT| SSCAN K 0 [COUNT N] [MATCH P]| SRANDMEMBER K N X
hash: HSET K V V V V| HSET K V| HMSET K V V| HSETNX K V V| HGET K V| HMGET K V V| HDEL K V| HLEN K| HSTRLEN K V| HEXISTS K V| HGETALL K| HKEYS K| HVALS K| HINCRBY K V N| HINCRBYFLOAT K V F| HSCAN K 0 [COUNT N] [MATCH P]| HSCAN K N| HRANDFIELD K 0| HRANDFIELD K N x| HRANDFIELD K 0 withvalues
zset: ZADD K [NX] [XX] [GT] [LT] [CH] [INCR] F V| ZADD K [NX] [CH] [GT] F V F V| ZADD K F| ZINCRBY K F V| ZREM K V V| ZSCORE K V| ZMSCORE K V V| ZCARD K| ZRANK K V| ZREVRANK K V| ZCOUNT K F F| ZLEXCOUNT K L L
zset: ZRANGE K N N [REV] [WITHSCORES] [LIMIT N N]| ZRANGE K F F [BYSCORE] [REV] [LIMIT N N] [WITHSCORES]| ZRANGE K L L [BYLEX] [REV] [LIMIT N N] [WITHSCORES] [BYSCORE]| ZRANGESTORE D K F F [BYSCORE] [REV] [LIMIT N N] [WITHSCORES]| ZRANGESTORE D K L L [BYLEX] [REV] [LIMIT N N]| ZRANGESTORE D K N N [REV]
zset: ZREVRANGE K N N [WITHSCORES]| ZRANGEBYSCORE K F F [WITHSCORES] [LIMIT N N]| ZREVRANGEBYSCORE K F F [LIMIT N N] [WITHSCORES]| ZRANGEBYLEX K L L [LIMIT N N]| ZREVRANGEBYLEX K L L [LIMIT N N]| ZREMRANGEBYRANK K N N| ZREMRANGEBYSCORE K F F| ZREMRANGEBYLEX K L L| ZPOPMIN K N| ZPOPMAX K| ZPOPMIN K| ZPOPMAX K N
zset: ZUNIONSTORE D N K K [WEIGHTS F F] [AGGREGATE max] [AGGREGATE min] [AGGREGATE x]| ZINTERSTORE D N K Y [WEIGHTS F F] [AGGREGATE sum]| ZUNION N K K [WEIGHTS F F] [AGGREGATE max] [WITHSCORES]| ZINTER N K K [WITHSCORES] [WEIGHTS F]| ZDIFF N K K [WITHSCORES]| ZDIFFSTORE D N K K| ZINTERCARD N K K [LIMIT N]| ZDIFF N K [WEIGHTS 1]
zset: ZMPOP N K K min [COUNT N]| ZMPOP N K x| BZPOPMIN K W| BZPOPMAX K Y W| BZMPOP W N K max [COUNT N]| ZSCAN K 0 [COUNT N] [MATCH P]| ZRANDMEMBER K 0| ZRANDMEMBER K 0 withscores| ZRANDMEMBER K N x
geo: GEOADD K [NX] [XX] [CH] F F V| GEOADD K F F V F F V| GEOPOS K V V| GEODIST K V V m| GEODIST K V V x| GEODIST K V V| GEOHASH K V V| GEORADIUS K F F F km [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT N] [ANY] [ASC] [DESC] [STORE D] [STOREDIST D]| GEORADIUSBYMEMBER K V F m [WITHDIST] [COUNT N] [DESC]| GEORADIUS_RO K F F F m [STORE D] [ASC]
geo: GEOSEARCH K [FROMMEMBER V] [FROMLONLAT F F] [BYRADIUS F km] [BYBOX F F m] [ASC] [COUNT N] [ANY] [WITHDIST] [WITHCOORD] [WITHHASH]| GEOSEARCHSTORE D K [FROMLONLAT F F] [BYRADIUS F km] [BYBOX F F ft] [ASC] [COUNT N] [STOREDIST] [WITHDIST]
stream: XADD K [NOMKSTREAM] [MAXLEN N] [MAXLEN = N] [MAXLEN ~ N] [MINID I] [LIMIT N] I V V| XADD K I V| XLEN K| XRANGE K I I [COUNT N]| XREVRANGE K I I [COUNT N]| XDEL K I I| XTRIM K maxlen N [LIMIT N]| XTRIM K maxlen ~ N [LIMIT N]| XTRIM K minid = I [LIMIT N]| XTRIM K minid I| XTRIM K x N| XSETID K I [ENTRIESADDED N] [MAXDELETEDID I]
stream: XREAD [COUNT N] [BLOCK 1] STREAMS K I| XREAD STREAMS K K I I| XREAD STREAMS K K I| XREADGROUP GROUP G C [COUNT N] [NOACK] [BLOCK 1] STREAMS K I| XREADGROUP GROUP G C STREAMS K >| XACK K G I I| XGROUP create K G I [MKSTREAM] [ENTRIESREAD N]| XGROUP setid K G I [ENTRIESREAD N]| XGROUP destroy K G| XGROUP createconsumer K G C| XGROUP delconsumer K G C
stream: XPENDING K G [IDLE N] I I N [C]| XPENDING K G| XPENDING K G I I N C| XCLAIM K G C 0 I I [IDLE N] [TIME N] [RETRYCOUNT N] [FORCE] [JUSTID] [LASTID I]| XCLAIM K G C N I| XAUTOCLAIM K G C N I [COUNT N] [JUSTID]| XINFO help| XINFO groups K
any: EXPIRE Y T [NX] [XX] [GT] [LT]| PEXPIRE Y T [NX] [XX] [GT] [LT]| EXPIREAT Y T [NX] [GT]| PEXPIREAT Y T [XX] [LT]| PERSIST Y| TTL Y| PTTL Y| EXPIRETIME Y| PEXPIRETIME Y| TYPE Y| EXISTS Y Y| DEL Y| UNLINK Y| RENAME Y D| RENAMENX Y D| COPY Y D [REPLACE] [DB N]| TOUCH Y Y| MOVE Y N| DBSIZE| KEYS P| RANDOMKEY x
any: SORT Y [BY P] [LIMIT N N] [GET P] [GET #] [ASC] [DESC] [ALPHA] [STORE D]| SORT_RO Y [BY nosort] [ALPHA] [GET h1->*] [STORE D]| OBJECT encoding Y| OBJECT refcount Y| OBJECT freq Y| OBJECT nosuch Y| OBJECT help| OBJECT encoding| MEMORY usage Y [SAMPLES N] x| MEMORY nosuch| MEMORY usage Y SAMPLES| SCAN 0 [COUNT N] [MATCH P] [TYPE string] [TYPE x]| SCAN N| DEBUG object nokey| DEBUG nosuch| DEBUG
any: SELECT N| SWAPDB N N| ECHO V| PING V| PING V V| WAIT x 0| DUMP nokey| RESTORE Y N V [REPLACE] [ABSTTL] [IDLETIME N] [FREQ N]| SETRANGE Y N V| EVAL V N Y| EVALSHA V N| FCALL V N| FUNCTION nosuch| FUNCTION load V| FUNCTION delete V| FUNCTION restore V| FUNCTION list [LIBRARYNAME P] [WITHCODE] x| SCRIPT exists V V| SCRIPT nosuch| SCRIPT load V| SCRIPT flush V| V V V| V
any: CLIENT reply V| CLIENT no-evict V| CLIENT no-evict on| CLIENT kill V| CLIENT kill id N| CLIENT kill type V| CLIENT kill addr V skipme V| CLIENT kill user V| CLIENT list type V| CLIENT list id N N x| CLIENT setname V| CLIENT getname| CLIENT nosuch V| CLIENT tracking V| CLIENT caching V| CLIENT unblock N V| CLIENT trackinginfo| CLIENT getredir| CLIENT tracking on [PREFIX V] [OPTIN] [OPTOUT] [REDIRECT N] [NOLOOP]| CLIENT tracking off
any: HELLO N| HELLO 4| HELLO x| HELLO 2 AUTH V V| HELLO 2 SETNAME V| HELLO 3 x| AUTH V| AUTH V V| AUTH V V V| ACL nosuch| ACL cat V| ACL deluser V| ACL getuser V| ACL setuser V V| ACL dryrun default V V| ACL dryrun V get a| ACL genpass N x| ACL log N x| ACL whoami| LATENCY graph V| LATENCY nosuch| LATENCY reset V| SLOWLOG get N x| SLOWLOG nosuch| CONFIG get P x| CONFIG nosuch| CONFIG set V V| CONFIG set V| PUBLISH V V| PUBSUB numsub V| PUBSUB nosuch| COMMAND nosuch| COMMAND info V| COMMAND docs V| COMMAND list filterby V V| COMMAND getkeys V V| REPLCONF V V| REPLCONF V| RESET
"""
# What changes the state of a connection, and what then is answered in another way.
SESSION = """MULTI|MULTI|EXEC|EXEC|DISCARD|WATCH s1|WATCH s1 l1|UNWATCH|SET s1 v|SET s1|GET s1|INCR s1|GET l1|LPUSH l1 a b|BLPOP l1 0.001|BLPOP nokey 0.001|BLMOVE nokey l1 LEFT LEFT 0.001|NOSUCH x|\xff|
SUBSCRIBE c1|SUBSCRIBE c1 c2|SUBSCRIBE|UNSUBSCRIBE|UNSUBSCRIBE c1|UNSUBSCRIBE c1 nosuch|PSUBSCRIBE c*|PUNSUBSCRIBE|PUNSUBSCRIBE c* x|SSUBSCRIBE c1|SUNSUBSCRIBE|SUNSUBSCRIBE c1|PUBLISH c1 m|SPUBLISH c1 m|PING|PING x|PING x y|
HELLO|HELLO 2|HELLO 3|HELLO 4|HELLO 3 SETNAME n|HELLO 2 AUTH default x|HELLO 3 AUTH u pw SETNAME|HELLO 3 AUTH u pw|AUTH u pw|AUTH u no|AUTH pw|RESET|RESET x|SELECT 1|SELECT 0|SELECT 99|CLIENT REPLY SKIP|CLIENT REPLY ON|CLIENT REPLY x|
CLIENT SETNAME n|CLIENT GETNAME|CLIENT TRACKING on|CLIENT TRACKING on BCAST|CLIENT TRACKING on OPTIN|CLIENT TRACKING off|CLIENT CACHING yes|CLIENT CACHING no|CLIENT GETREDIR|CLIENT TRACKINGINFO|CLIENT NO-EVICT on|CLIENT NO-EVICT x|
EVAL "return redis.call('get', KEYS[1])" 1 s1|EVAL "return redis.call('lpush', KEYS[1], 'x')" 1 s1|EVAL "return redis.pcall('lpush', KEYS[1], 'x')" 1 s1|EVAL "return {1, 'a', false, {ok='x'}, {err='E y'}, 1.9}" 0|EVAL "redis.setresp(3) return redis.call('hgetall', KEYS[1])" 1 h1|
EVAL "return {double=1.5}" 0|EVAL "return {map={a=1}}" 0|EVAL "return {set={a=true}}" 0|EVAL "return {big_number='12'}" 0|EVAL "return {verbatim_string={format='txt', string='x'}}" 0|EVAL "error('x')" 0|EVAL "error({err='MY x'})" 0|EVAL "return redis.call('subscribe', 'x')" 0|
EVAL "return redis.call()" 0|EVAL "return redis.call(1, {})" 0|EVAL "return foo" 0|EVAL "return redis.call('blpop', 'nokey', 0)" 0|EVAL "return redis.status_reply(1)" 0|EVAL "return redis.error_reply('x')" 0|EVAL_RO "return redis.call('set', 'a', 'b')" 0|EVAL "return cjson.decode('{')" 0|
EVAL "return tostring(cmsgpack.unpack('\xc1'))" 0|EVAL "return redis.sha1hex()" 0|EVAL "return redis.acl_check_cmd('nosuch')" 0|EVAL "return redis.acl_check_cmd('get', 'x')" 0|EVAL "redis.setresp(4)" 0|EVAL "return struct.pack('<i4z', 5, 'a')" 0|EVAL "return bit.tohex(255, -4)" 0|EVAL "a = 1" 0|
EVAL "return string.format('%5.2f %q', 3.14159, 'x')" 0|EVAL "return {tostring(1e15), tostring(0.1), tostring(-0/1)}" 0|EVAL "return {KEYS[1], ARGV[1]}" 2 a b c|EVAL "return #ARGV" 0 a b|EVAL "return redis.breakpoint()" 0|EVAL "return redis.REDIS_VERSION_NUM > 0" 0|
DEBUG JMAP|ASKING|READONLY|READWRITE|WAIT 0 0|OBJECT HELP|XREAD BLOCK 1 STREAMS x1 $|XREAD STREAMS x1 0|ZRANGE z1 0 -1 WITHSCORES|ZADD z1 INCR 1 a|HGETALL h1|SMEMBERS ints|HRANDFIELD h1 5 WITHVALUES|ZPOPMIN z1 2|GEOPOS g1 a|LPOS l1 a COUNT 0|LMPOP 1 l1 LEFT COUNT 2|
CONFIG GET maxmemory|CONFIG GET|COMMAND COUNT x|MEMORY DOCTOR x|SCRIPT EXISTS x|FUNCTION STATS|FCALL nosuch 0|LATENCY LATEST|ACL WHOAMI|ACL WHOAMI x|SAVE x|LASTSAVE x|QUIT x|QUIT""".replace("\n", "").split("|")
# What is newer than the stock server, or told in other words on purpose.
KNOWN = [rb"xread .*\+", rb"z(rev)?rank( \S+){3}$", rb"command (info|getkeys\S*)( \S+)?$", rb"command getkeys\S* (z(rev)?rank|debug)", rb"debug object", rb"config (set|get) loglevel",
         rb"command getkeysandflags zintercard", rb"scan 0 .*", rb"config set (tls-ciphersuites|cluster-announce-hostname) .*xff"]
UNORDERED = {"smembers", "sunion", "sinter", "sdiff", "hgetall", "hkeys", "hvals", "keys", "scan", "sscan", "hscan", "zscan", "spop", "sort", "sort_ro"}
TIMED = {"ttl", "pttl", "expiretime", "pexpiretime", "xpending", "memory", "client", "hello"}


def templates():
    found = []
    for line in COMMANDS.strip().splitlines():
        kind, rest = line.split(": ", 1)
        found += [(kind, text.split()) for text in re.split(r"\| ", rest)]
    return found


class Dice(random.Random):
    def odd(self, usual, odd, share=0.25):
        return self.choice(odd) if self.random() < share else self.choice(usual)

    def word(self, name, kind):
        if name == "K":
            return self.choice(KEYS.get(kind) or ALL_KEYS) if self.random() < 0.88 else self.choice(ALL_KEYS)
        if name == "Y":
            return self.choice(ALL_KEYS)
        if name == "D":
            return self.choice([b"d1", b"d2", self.choice(ALL_KEYS)])
        if name == "V":
            return self.choice(MEMBERS)
        if name == "N":
            return self.odd(INTS[:10], INTS)
        if name in "BS":
            return self.odd([b"0", b"1", b"7", b"8", b"20", b"100"], [b"-1", b"abc", b"", b"4294967296", b"9223372036854775807"], 0.1)
        if name == "F":
            return self.odd([b"1", b"2", b"3.5", b"-1", b"0.1", b"10", b"0"], FLOATS)
        if name == "W":
            return self.odd([b"0.01", b"0.001"], [b"-1", b"abc", b"", b"nan", b"1e400", b"-inf", b"inf", b"0x", b"9223372036854775807", b" 1"])
        if name == "T":
            return self.odd(TIMES[:2], TIMES)
        if name == "L":
            return self.choice(LEX)
        if name == "I":
            return self.choice(IDS)
        if name == "P":
            return self.choice(PATTERNS)
        if name == "G":
            return self.choice([b"g", b"g", b"g2", b"nogroup\xff"])
        if name == "C":
            return self.choice([b"c1", b"c2", b"c\xff"])
        return name.encode()

    def case(self, word):
        return bytes(self.choice([c, ord(chr(c).swapcase())]) if chr(c).isalpha() and c < 128 else c for c in word)

    def command(self, template):
        kind, words = template
        args, at, options = [], 0, []
        plain = []
        while at < len(words):
            if words[at].startswith("["):
                end = at
                while not words[end].endswith("]"):
                    end += 1
                phrase = " ".join(words[at:end + 1])[1:-1].split()
                options.append(phrase)
                at = end + 1
                if at == len(words) or not words[at].startswith("["):
                    for _ in range(self.choice([0, 0, 1, 1, 2, 2, 3, 4])):
                        chosen = self.choice(options)
                        plain += [self.case(w.encode()) if len(w) > 1 and w.isupper() else self.word(w, kind) for w in chosen]
                    options = []
            else:
                plain.append(self.case(words[at].encode()) if at == 0 and self.random() < 0.2 and len(words[at]) > 1 else self.word(words[at], kind))
                at += 1
        args = plain
        change = self.random()
        if change < 0.04 and len(args) > 1:
            del args[self.randrange(1, len(args))]
        elif change < 0.08:
            args.insert(self.randrange(1, len(args) + 1), self.choice([b"", b"x", b"1", b"LIMIT", b"COUNT", b"WITHSCORES"]))
        elif change < 0.11 and len(args) > 1:
            args[self.randrange(1, len(args))] = self.choice(INTS + FLOATS + MEMBERS)
        return args


class Server:
    def __init__(self, binary, *options):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.dir = tempfile.mkdtemp(prefix="rs-compare.")
        self.child = subprocess.Popen([binary, "--port", str(self.port), "--dir", self.dir, "--save", "", "--enable-debug-command", "yes", *options],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connect()

    def connect(self):
        begun = time.time()
        while True:
            try:
                self.stream = socket.create_connection(("127.0.0.1", self.port), timeout=4)
                break
            except OSError:
                if time.time() - begun > 10 or self.child.poll() is not None:
                    sys.exit("compare: a server is gone")
                time.sleep(0.01)
        self.file = self.stream.makefile("rb")

    def call(self, *words, inline=False):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        if inline:
            self.stream.sendall(b" ".join(quoted(w) for w in words) + b"\r\n")
        else:
            self.stream.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        try:
            return self.reply()
        except (ConnectionError, EOFError):
            self.connect()
            return ("closed",)
        except TimeoutError:
            self.connect()
            return ("silent",)

    def exchange(self, words, mark):
        """All that is said after a command until the answer to a mark comes, as it is; None if the connection ends."""
        frame = lambda words: b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        said = b""
        try:
            # Twice, since the first answer may be left out.
            self.stream.sendall(frame(words) + frame([b"PING", mark + b"-"]) + frame([b"PING", mark + b"+"]))
            while mark + b"+" not in said and not said.endswith(b"+QUEUED\r\n" * 2):
                said += self.stream.recv(65536) or self.end()
            if mark + b"+" not in said:
                # In a transaction the marks are queued, and there may be a third.
                time.sleep(0.003)
                said += self.stream.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self.connect()
            return said + b"<end>"
        return said

    def end(self):
        raise EOFError

    def reply(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        kind, rest = line[:1].decode(), line[1:].rstrip(b"\r\n")
        if kind in "$=!":
            return (kind, None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2])
        if kind in "*~>":
            return (kind, None if rest == b"-1" else [self.reply() for _ in range(int(rest))])
        if kind in "%|":
            return (kind, [(self.reply(), self.reply()) for _ in range(int(rest))])
        return (kind, rest)

    def stop(self):
        self.child.kill()
        self.child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def quoted(word):
    if word and re.fullmatch(rb"[A-Za-z0-9_.+*$>()-]+", word):
        return word
    return b'"' + b"".join(b"\\" + bytes([c]) if c in b'"\\' else bytes([c]) if 32 <= c < 127 else b"\\x%02x" % c for c in word) + b'"'


def leveled(reply):
    """The same with the elements of every array sorted."""
    kind, *rest = reply
    if rest and isinstance(rest[0], list):
        return (kind, sorted((leveled(r) if isinstance(r[0], str) else tuple(map(leveled, r)) for r in rest[0]), key=repr))
    return reply


def close(one, other):
    """Whether two replies are the same but for integers that tell the time."""
    if one[0] != other[0] or len(one) != len(other):
        return False
    if len(one) == 1 or one == other:
        return True
    if one[0] == ":":
        return abs(int(one[1]) - int(other[1])) <= 20000 and int(one[1]) > 5 and int(other[1]) > 5
    if isinstance(one[1], list) and isinstance(other[1], list) and len(one[1]) == len(other[1]):
        return all(close(*pair) if isinstance(pair[0][0], str) else all(map(close, *pair)) for pair in zip(one[1], other[1]))
    return False


class Comparison:
    def __init__(self, options):
        self.options = options
        self.ours = Server(os.path.abspath(options.server))
        self.stock = Server(shutil.which("redis-server") or sys.exit("compare: no redis-server"))
        self.dice = Dice(options.seed)
        self.compared, self.seen, self.recent = 0, set(), []

    def both(self, *args, inline=False):
        return self.ours.call(*args, inline=inline), self.stock.call(*args, inline=inline)

    def differ(self, args, one, other):
        """Tells of a difference, once of each kind."""
        text = b" ".join(map(quoted, args))
        if any(re.match(known, text, re.I) for known in KNOWN):
            return
        mark = re.sub(rb"\d+|'[^']*'", b"#", repr((args[0].lower(), one[0], other[0], one[1:] if one[0] == "-" else "", other[1:] if other[0] == "-" else "")).encode())
        if mark in self.seen:
            return
        self.seen.add(mark)
        print(f"{text.decode()}\n  ours  {one}\n  stock {other}", flush=True)
        for before in self.recent[len(self.recent) - min(self.options.most, len(self.recent)):]:
            print(f"     after {b' '.join(map(quoted, before)).decode(errors='replace')}")

    def compare(self, args, inline=False):
        one, other = self.both(*args, inline=inline)
        self.compared += 1
        name = args[0].lower().decode(errors="replace")
        if one != other and name in UNORDERED:
            one, other = leveled(one), leveled(other)
        if one != other and not (name in TIMED and close(one, other)):
            self.differ(args, one, other)
            return False
        self.recent.append(args)
        return True

    def start_over(self):
        for server in (self.ours, self.stock):
            server.stream.close()
            server.connect()
            server.call("FLUSHALL")
            server.call("FUNCTION", "FLUSH")
            server.call("ACL", "DELUSER", *[m for m in MEMBERS])
            server.call("CONFIG", "RESETSTAT")
            if self.options.resp == "3":
                server.call("HELLO", "3")
        self.recent = []
        for line in ["SET s1 hello", "SET num 10", "SET bits \xf0", "RPUSH l1 a b c 1 2", "SADD u1 a b c", "SADD ints 1 2 3", "HSET h1 a 1 b 2 c x", "ZADD z1 1 a 2 b 3 c",
                     "ZADD z2 0 a 0 b 0 c", "XADD x1 1-1 f v", "XADD x1 2-0 f v g w", "XADD x1 5-5 a b", "XGROUP CREATE x1 g 0", "XREADGROUP GROUP g c1 COUNT 2 STREAMS x1 >", "GEOADD g1 13.361389 38.115556 a 15.087269 37.502669 b",
                     "PFADD p1 a b c"]:
            self.both(*line.split())

    def look_at_data(self):
        for key in ALL_KEYS + [b"d1", b"d2"]:
            for question in ([b"DEBUG", b"DIGEST-VALUE", key], [b"PTTL", key], [b"TYPE", key]):
                if not self.compare(question):
                    return False
        return True

    def run(self):
        every = templates()
        only = set(filter(None, (self.options.only or "").split(",")))
        if only:
            every = [t for t in every if t[0] in only or t[1][0].lower() in only] or sys.exit("compare: no such command")
        self.start_over()
        for step in range(self.options.steps):
            if step % 40 == 39:
                self.look_at_data()
                self.start_over()
            args = self.dice.command(self.dice.choice(every))
            inline = self.options.resp == "inline" and b"\0" not in b"".join(args) and args[0]
            if not self.compare(args, inline=inline):
                # What differs may have left different data.
                self.start_over()

    def run_session(self):
        for server in (self.ours, self.stock):
            server.call("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&*")
        for step in range(self.options.steps):
            if step % 25 == 0:
                self.start_over()
                for server in (self.ours, self.stock):
                    server.stream.settimeout(1)
                    server.call("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&*")
            text = self.dice.choice(SESSION).strip()
            args = [m.group(1).encode().decode("unicode_escape").encode("latin1") if m.group(1) is not None else m.group(2).encode("latin1")
                    for m in re.finditer(r'"([^"]*)"|(\S+)', text)]
            mark = b"mark%d" % step
            one, other = self.ours.exchange(args, mark), self.stock.exchange(args, mark)
            self.compared += 1
            hidden = [(rb"(id\r\n):\d+", rb"\1"), (rb"\$\d+\r\n(7\.\d+\.\d+)\r\n", b"version"), (rb"\.\d+\r\n", b".n"), (rb"mark\d+", b"mark"), (rb"flags\r\n", b"flags")]
            for pattern, text in hidden:
                one, other = re.sub(pattern, text, one), re.sub(pattern, text, other)
            if one != other:
                self.differ(args, ("-", one), ("-", other))
                self.start_over()
                for server in (self.ours, self.stock):
                    server.stream.settimeout(1)
            else:
                self.recent.append(args)

    def run_config(self):
        """Every directive with values that it may not have, or has in a form of its own."""
        fixed = {"port", "bind", "dir", "logfile", "unixsocket", "pidfile", "maxclients", "tls-port", "requirepass", "masterauth", "replicaof", "slaveof", "daemonize", "supervised",
                 "appendonly", "save", "maxmemory", "rename-command", "aclfile", "masteruser", "user", "oom-score-adj", "bind-source-addr", "cluster-enabled", "dbfilename", "timeout"}
        names = [pair[1] for at, pair in enumerate(self.stock.call("CONFIG", "GET", "*")[1]) if at % 2 == 0]
        values = [b"", b"x", b"-1", b"0", b"1", b"yes", b"YES", b"no", b"maybe", b"100", b"99999999999", b"9223372036854775808", b"-9223372036854775809", b"1mb", b"1KB", b"10%", b"-5%", b"101%", b"1.5", b" 1", b"a b c", b"\xff",
                  b"normal 1 2 3", b"replica 1mb 2mb 60", b"normal 1 2", b"0 0 0", b"1 2 3", b"-1 2 3", b"AKE", b"KEA$", b"allkeys-lru", b"debug", b"10 20 101", b"50 99.9", b"local", b"hello\r\nthere"]
        for name in names:
            for value in values:
                if name.decode() in fixed and value not in (b"x", b"-1", b"", b"maybe", b"99999999999"):
                    continue
                if name.decode() in ("dir", "logfile", "bind", "unixsocket", "port", "tls-port", "requirepass", "save", "maxmemory", "maxclients", "dbfilename", "bind-source-addr", "replicaof"):
                    continue
                if self.compare([b"CONFIG", b"SET", name, value]):
                    self.compare([b"CONFIG", b"GET", name])
            before = self.stock.call("CONFIG", "GET", name)[1]
            if before:
                self.ours.call("CONFIG", "SET", name, before[1][1])

    def run_getkeys(self):
        every = templates()
        for _ in range(self.options.steps):
            args = self.dice.command(self.dice.choice(every))
            self.compare([b"COMMAND", self.dice.choice([b"GETKEYS", b"GETKEYSANDFLAGS"])] + args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only")
    parser.add_argument("--resp", choices=["2", "3", "inline"], default="2")
    parser.add_argument("--most", type=int, default=0, help="commands shown that went before")
    options = parser.parse_args()
    comparison = Comparison(options)
    try:
        {"session": comparison.run_session, "config": comparison.run_config, "getkeys": comparison.run_getkeys}.get(options.only, comparison.run)()
        print(f"{comparison.compared} replies compared, {len(comparison.seen)} kinds of differences")
        sys.exit(bool(comparison.seen))
    finally:
        comparison.ours.stop()
        comparison.stock.stop()


if __name__ == "__main__":
    main()
