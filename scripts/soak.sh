#!/usr/bin/env bash
# Mixed load for a long time with everything switched on, then a verdict: scripts/soak.sh [SECONDS] (an hour without a number).
# See scripts/soak.py --help.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${RSREDIS_SERVER:-}" ]; then
    cargo build --release --quiet
    RSREDIS_SERVER=${CARGO_TARGET_DIR:-target}/release/rsredis-server
fi
.venv/bin/python -c 'import redis' 2>/dev/null || scripts/install-deps.sh
exec .venv/bin/python scripts/soak.py --server "$RSREDIS_SERVER" "$@"
