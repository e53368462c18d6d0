#!/usr/bin/env bash
# Runs Redis's own Tcl suite with our binary in place of redis-server: scripts/redis-suite.sh [OPTION…] [FILE…]
# (see scripts/redis_suite.py --help; --must-pass is what CI runs).
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f .cache/redis-src/tests/test_helper.tcl ] || scripts/install-deps.sh
if [ -z "${RSREDIS_SERVER:-}" ]; then
    cargo build --release --quiet
    RSREDIS_SERVER=${CARGO_TARGET_DIR:-target}/release/rsredis-server
fi
exec python3 scripts/redis_suite.py --server "$RSREDIS_SERVER" "$@"
