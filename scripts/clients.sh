#!/usr/bin/env bash
# Runs client libraries and applications against our server and against stock: scripts/clients.sh [NAME…]
# (see scripts/clients.py --help). Builds first what is compiled; scripts/install-deps.sh has installed the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
if [ -z "${RSREDIS_SERVER:-}" ]; then
    cargo build --release --quiet
    RSREDIS_SERVER=$target/release/rsredis-server
fi
[ -d tests/clients/node_modules ] || scripts/install-deps.sh
mkdir -p "$target/clients"
cargo build --quiet --locked --manifest-path tests/clients/rust/Cargo.toml --target-dir "$target/clients"

# Debian's hiredis knows neither RESP3 nor TLS; the one in Redis's source does, and is built with it.
cc -O1 -Wall -Werror -o "$target/clients/hiredis" tests/clients/hiredis.c -lhiredis
newer=.cache/redis-src/deps/hiredis
cc -O1 -Wall -DWITH_TLS -I"$(dirname $newer)" -o "$target/clients/hiredis-tls" tests/clients/hiredis.c \
    $newer/{alloc,async,hiredis,net,read,sds,sockcompat,ssl}.c -lssl -lcrypto
exec python3 scripts/clients.py --server "$RSREDIS_SERVER" "$@"
