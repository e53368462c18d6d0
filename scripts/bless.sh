#!/usr/bin/env bash
# Writes the replies of a stock redis-server into conformance scripts: scripts/bless.sh [group/file…]
# (all of them without a name). A name is any part of group/file; STOCK_SERVER names another binary.
# scripts/bless.sh --pending takes the scripts that pass with our binary now off tests/conformance/pending.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --pending ]; then
    exec cargo test --quiet --test conformance ratchet -- --ignored --exact --nocapture
fi
stock=${STOCK_SERVER:-$(command -v redis-server || true)}
[ -n "$stock" ] || { echo "bless: no redis-server found; run scripts/install-deps.sh" >&2; exit 1; }
names=()
for name in "$@"; do
    name=${name#tests/conformance/}
    names+=("${name%.txt}")
done
CONFORMANCE=$(IFS=,; echo "${names[*]-}") RSREDIS_SERVER=$stock \
    exec cargo test --quiet --test conformance bless -- --ignored --exact --nocapture
