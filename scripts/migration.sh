#!/usr/bin/env bash
# Walks the README's ways from Redis to rsredis and back with the installed redis-server, redis-cli and redis-sentinel:
# by files, by replication without a stop, and by Sentinel. After every step all the data must be there.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}
ours=$(realpath "${RSREDIS_SERVER:-$CARGO_TARGET_DIR/release/rsredis-server}")
where=$(mktemp -d) pids=()
# Not asked to end: who cannot save into a directory that is gone would stay.
trap 'kill -KILL "${pids[@]}" 2>/dev/null; rm -rf "$where"' EXIT
die() { echo "migration: $*" >&2; exit 1; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_true() { for _ in $(seq 300); do "$@" && return; sleep 0.1; done; die "waited in vain: $*"; }
answers() { [ "$(redis-cli -p "$1" ping 2>/dev/null)" = PONG ]; }
is_linked() { redis-cli -p "$1" info replication | grep -q master_link_status:up; }
start() { # BINARY PORT DIRECTORY WORD…
    mkdir -p "$where/$3"
    (cd "$where/$3" && exec "$1" --port "$2" "${@:4}" >> log 2>&1) &
    pids+=($!)
    until_true answers "$2"
}
stop() { redis-cli -p "$1" shutdown >/dev/null 2>&1 || true; until_true not_there "$1"; }
not_there() { ! answers "$1"; }
fill() {
    redis-cli -p "$1" eval "for i = 1, 1000 do redis.call('SET', 's:' .. i, i) redis.call('RPUSH', 'l', i) redis.call('HSET', 'h', i, i)
        redis.call('ZADD', 'z', i, i) redis.call('SADD', 'm', i) redis.call('XADD', 'x', i .. '-1', 'f', i) end" 0 >/dev/null
    redis-cli -p "$1" set volatile yes ex 10000 >/dev/null
}
same() { # PORT what: the digest of the whole data set is that of the beginning
    [ "$(redis-cli -p "$1" debug digest)" = "$expected" ] || die "$2: other data ($(redis-cli -p "$1" dbsize) keys)"
    echo "passed    $2"
}
debug=(--enable-debug-command local)

a=$(port) b=$(port) s=$(port)
# Files: there, and back. Once with an append-only file, once with dump.rdb alone.
for kind in yes no; do
    words=("${debug[@]}" --appendonly $kind)
    start redis-server "$a" "files-$kind" "${words[@]}"
    fill "$a"
    expected=$(redis-cli -p "$a" debug digest)
    stop "$a"
    start "$ours" "$a" "files-$kind" "${words[@]}"
    same "$a" "files (appendonly $kind): rsredis reads what redis-server wrote"
    stop "$a"
    start redis-server "$a" "files-$kind" "${words[@]}"
    same "$a" "files (appendonly $kind): and back"
    stop "$a"
done

# Without a stop: as a replica, then promoted; and back the same way.
start redis-server "$a" stock "${debug[@]}"
fill "$a"
expected=$(redis-cli -p "$a" debug digest)
start "$ours" "$b" ours "${debug[@]}"
for step in "$b $a there" "$a $b back"; do
    read -r to from name <<< "$step"
    redis-cli -p "$to" replicaof 127.0.0.1 "$from" >/dev/null
    until_true is_linked "$to"
    redis-cli -p "$to" replicaof no one >/dev/null
    same "$to" "replication: $name"
done

# Sentinel: a replica of ours beside the stock primary becomes the primary.
redis-cli -p "$b" replicaof 127.0.0.1 "$a" >/dev/null
until_true is_linked "$b"
printf '%s\n' "port $s" "sentinel monitor main 127.0.0.1 $a 1" > "$where/sentinel.conf"
redis-sentinel "$where/sentinel.conf" > "$where/sentinel.log" 2>&1 &
pids+=($!)
knows_replica() { redis-cli -p "$s" sentinel replicas main 2>/dev/null | grep -q "127.0.0.1:$b"; }
until_true knows_replica
# It is refused (NOGOODSLAVE) until the sentinel has heard from the replica itself.
fails_over() { said=$(redis-cli -p "$s" sentinel failover main); echo "failover: $said" >> "$where/sentinel.log"; [ "$said" = OK ]; }
until_true fails_over
is_primary() { [ "$(redis-cli -p "$s" sentinel get-master-addr-by-name main | tail -1)" = "$1" ]; }
until_true is_primary "$b"
until_true is_linked "$a"
same "$b" "Sentinel: the replica of ours is the primary, and redis-server its replica"
