#!/usr/bin/env bash
# Benchmarks against the installed redis-server, side by side: scripts/bench.sh [--full] [--only hot,mix,…] [--other NAME=BINARY]…
# (see scripts/bench.py --help; --full writes benches/numbers.md and its plots). Builds the release binary and the load
# generator first, unless RSREDIS_SERVER and LOADGEN name them.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
command -v redis-server >/dev/null || { echo "bench: no redis-server; run scripts/install-deps.sh" >&2; exit 1; }
if [ -z "${RSREDIS_SERVER:-}" ]; then
    cargo build --release --quiet
    RSREDIS_SERVER=$target/release/rsredis-server
fi
if [ -z "${LOADGEN:-}" ]; then
    cargo build --release --quiet --example loadgen
    LOADGEN=$target/release/examples/loadgen
fi
exec python3 scripts/bench.py --server "$RSREDIS_SERVER" --loadgen "$LOADGEN" "$@"
