#!/usr/bin/env bash
# Benchmarks against the installed redis-server, side by side: scripts/bench.sh [--full] [--only hot,mix,…]
# (see scripts/bench.py --help). Builds the release binary and the load generator first.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
command -v redis-server >/dev/null || { echo "bench: no redis-server; run scripts/install-deps.sh" >&2; exit 1; }
if [ -z "${RSREDIS_SERVER:-}" ]; then
    cargo build --release --quiet
    RSREDIS_SERVER=$target/release/rsredis-server
fi
cargo build --release --quiet --example loadgen
exec python3 scripts/bench.py --server "$RSREDIS_SERVER" --loadgen "$target/release/examples/loadgen" "$@"
