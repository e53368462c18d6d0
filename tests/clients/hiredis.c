/* hiredis doing everyday work: a program of scripts/clients.py, which sets the environment.
 *
 * Built twice: with Debian's library (0.14: RESP2, no TLS), and -DWITH_TLS with the one in Redis's source, which adds both. */
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <hiredis/hiredis_ssl.h>
#endif

static int port(const char *name) { return atoi(getenv(name)); }

static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static redisContext *dial(int to) {
    redisContext *c = redisConnect("127.0.0.1", to);
    if (!c || c->err) die("connect", c ? c->errstr : "no memory");
    return c;
}

/* A reply as text, so that two servers can be compared: (5) $text +status -error [a b], nil. */
static void print(const redisReply *r) {
    if (!r) { printf("lost"); return; }
    switch (r->type) {
    case REDIS_REPLY_INTEGER: printf("(%lld)", r->integer); break;
    case REDIS_REPLY_NIL: printf("nil"); break;
    case REDIS_REPLY_STRING: printf("$%s", r->str); break;
    case REDIS_REPLY_STATUS: printf("+%s", r->str); break;
    case REDIS_REPLY_ERROR: printf("-%s", r->str); break;
    case REDIS_REPLY_ARRAY:
#ifdef WITH_TLS
    case REDIS_REPLY_MAP: case REDIS_REPLY_SET: case REDIS_REPLY_PUSH:
#endif
        printf("%d[", r->type);
        for (size_t i = 0; i < r->elements; i++) { if (i) putchar(' '); print(r->element[i]); }
        printf("]");
        break;
    default: printf("type %d: %s", r->type, r->str ? r->str : "");
    }
}

/* One command; its reply is printed behind the check's name. */
static void say(redisContext *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    redisReply *r = redisvCommand(c, format, arguments);
    va_end(arguments);
    if (!r) die(format, c->errstr);
    print(r);
    putchar(' ');
    freeReplyObject(r);
}

/* The next reply of a pipeline, or message. */
static void next(redisContext *c) {
    redisReply *r;
    if (redisGetReply(c, (void **)&r) != REDIS_OK) die("reply", c->errstr);
    print(r);
    putchar(' ');
    freeReplyObject(r);
}

static void begin(const char *name) { printf("%s\t", name); }
static void end(void) { putchar('\n'); fflush(stdout); }

static void values(redisContext *c) {
    begin("values");
    say(c, "SET %s %b EX 100", "k", "a\0b", (size_t)3);
    redisReply *r = redisCommand(c, "GET k");
    if (r->len != 3 || memcmp(r->str, "a\0b", 3)) die("values", "not binary safe");
    freeReplyObject(r);
    say(c, "HSET h a 1 b two");
    say(c, "HGETALL h");
    say(c, "ZADD z 1 a 2.5 b");
    say(c, "ZRANGE z 0 -1 WITHSCORES");
    say(c, "ZSCORE z b");
    say(c, "SADD s x");
    say(c, "SMEMBERS s");
    say(c, "RPUSH l 1 2 3");
    say(c, "LRANGE l 0 -1");
    say(c, "XADD x 1-1 f v");
    say(c, "XRANGE x - +");
    say(c, "GET none");
    say(c, "INCR h");
    say(c, "NOSUCH a b");
    say(c, "GET");
    say(c, "CONFIG GET maxmemory");
    end();
}

static void pipelines(redisContext *c) {
    begin("pipelines");
    for (int i = 0; i < 10000; i++) redisAppendCommand(c, "INCRBY n %d", i);
    for (int i = 0; i < 10000; i++) {
        redisReply *r;
        if (redisGetReply(c, (void **)&r) != REDIS_OK || r->type != REDIS_REPLY_INTEGER) die("pipelines", c->errstr);
        if (i == 9999) print(r);
        freeReplyObject(r);
    }
    end();
}

static void transactions(redisContext *c) {
    redisContext *other = dial(port("PORT"));
    begin("transactions");
    say(c, "WATCH t");
    say(c, "MULTI");
    say(c, "SET t 1");
    say(c, "LPUSH t x");
    say(c, "EXEC");
    say(c, "WATCH t");
    say(other, "SET t other");
    say(c, "MULTI");
    say(c, "SET t mine");
    say(c, "EXEC");
    say(c, "MULTI");
    say(c, "NOSUCH");
    say(c, "EXEC");
    end();
    redisFree(other);
}

static void messages(redisContext *c) {
    redisContext *subscriber = dial(port("PORT"));
    begin("messages");
    say(subscriber, "SUBSCRIBE one");
    say(subscriber, "PSUBSCRIBE t*");
    say(c, "PUBLISH one 1");
    say(c, "PUBLISH two 2");
    next(subscriber);
    next(subscriber);
    say(subscriber, "GET k");
    say(subscriber, "UNSUBSCRIBE");
    say(subscriber, "PUNSUBSCRIBE");
    say(subscriber, "EXISTS k");
    end();
    redisFree(subscriber);
}

static void scripts(redisContext *c) {
    begin("scripts");
    say(c, "EVAL %s 1 k v", "return {KEYS[1], ARGV[1], 3.9, {1, 2}}");
    say(c, "SCRIPT LOAD %s", "return redis.call('INCR', KEYS[1])");
    say(c, "EVALSHA 61636018f4e6b5817b89791bbed242f93fa089e3 1 sc");
    say(c, "EVAL %s 0", "return redis.call('LPUSH', 'sc', 'x')");
    end();
}

static void blocking(redisContext *c) {
    redisContext *waiter = dial(port("PORT"));
    begin("blocking");
    redisAppendCommand(waiter, "BLPOP q1 q2 5");
    int written = 0;
    while (!written) redisBufferWrite(waiter, &written);
    usleep(50000);
    say(c, "RPUSH q2 job");
    next(waiter);
    say(waiter, "BLPOP none 0.05");
    end();
    redisFree(waiter);
}

static void acl(redisContext *c) {
    begin("acl");
    say(c, "ACL SETUSER bob on >pw ~bob:* +get +set");
    redisContext *bob = dial(port("PORT"));
    say(bob, "AUTH bob no");
    say(bob, "AUTH bob pw");
    say(bob, "SET bob:k v");
    say(bob, "GET other");
    say(bob, "DEL bob:k");
    say(c, "ACL DELUSER bob");
    end();
    redisFree(bob);
}

#ifdef WITH_TLS
static int invalidated;
static void on_push(void *unused, void *reply) {
    (void)unused;
    redisReply *r = reply;
    if (r->elements == 2 && !strcmp(r->element[0]->str, "invalidate")) invalidated++;
    freeReplyObject(reply);
}

static void resp3(redisContext *c) {
    redisContext *three = dial(port("PORT"));
    redisSetPushCallback(three, on_push);
    begin("resp3");
    freeReplyObject(redisCommand(three, "HELLO 3"));
    say(three, "HGETALL h");
    say(three, "ZSCORE z b");
    say(three, "ZRANGE z 0 -1 WITHSCORES");
    say(three, "SMEMBERS s");
    say(three, "SISMEMBER s x");
    say(three, "GET none");
    say(three, "EVAL %s 0", "redis.setresp(3) return redis.call('HGETALL', 'h')");
    end();
    begin("client-side caching");
    say(three, "CLIENT TRACKING ON");
    say(three, "GET cached");
    say(c, "SET cached new");
    for (int i = 0; i < 100 && !invalidated; i++) { freeReplyObject(redisCommand(three, "PING")); usleep(10000); }
    printf("%d invalidation ", invalidated);
    say(three, "GET cached");
    end();
    redisFree(three);
}

static void tls(redisContext *c) {
    redisInitOpenSSL();
    redisSSLContext *context = redisCreateSSLContext(getenv("CA"), NULL, getenv("CERT"), getenv("KEY"), "localhost", NULL);
    redisContext *secure = dial(port("TLS_PORT"));
    begin("tls");
    if (!context || redisInitiateSSLWithContext(secure, context) != REDIS_OK) die("tls", secure->errstr);
    for (int i = 0; i < 1000; i++) redisAppendCommand(secure, "SET tls %d", i);
    for (int i = 0; i < 1000; i++) { redisReply *r; if (redisGetReply(secure, (void **)&r) != REDIS_OK) die("tls", secure->errstr); freeReplyObject(r); }
    say(secure, "SET over tls");
    say(c, "GET over");
    end();
    redisFree(secure);
    redisFreeSSLContext(context);
}
#endif

/* Asks the sentinel as a program does that has no library for it: who is the primary, then a failover, then again. */
static void sentinel(redisContext *c) {
    redisContext *s = dial(port("SENTINEL_PORT"));
    begin("sentinel");
    freeReplyObject(redisCommand(c, "SET before 1"));
    say(c, "WAIT 1 5000");
    say(s, "SENTINEL FAILOVER main");
    int found = port("PORT");
    for (int i = 0; i < 250 && found == port("PORT"); i++) {
        usleep(100000);
        redisReply *r = redisCommand(s, "SENTINEL GET-MASTER-ADDR-BY-NAME main");
        if (r && r->elements == 2) found = atoi(r->element[1]->str);
        freeReplyObject(r);
    }
    if (found != port("REPLICA_PORT")) die("sentinel", "no failover");
    redisContext *primary = dial(found);
    say(primary, "SET after 2");
    say(primary, "MGET before after");
    end();
    redisFree(primary);
    redisFree(s);
}

int main(void) {
    redisContext *c = dial(port("PORT"));
    values(c);
    pipelines(c);
    transactions(c);
    messages(c);
    scripts(c);
    blocking(c);
    acl(c);
#ifdef WITH_TLS
    resp3(c);
    tls(c);
#endif
    sentinel(c);
    redisFree(c);
    return 0;
}
