#!/usr/bin/env bash
# Runs the tests of the rooms with unsafe code under Miri, which sees undefined behaviour: scripts/miri.sh [FILTER…]
# Miri interprets, a hundred times slower than the machine: property tests take few cases there (cfg!(miri)), and CI leaves it out.
# It needs a nightly toolchain: rustup toolchain install nightly --component miri,rust-src
set -euo pipefail
cd "$(dirname "$0")/.."
cargo +nightly miri --version >/dev/null 2>&1 || {
    echo "miri: not installed; rustup toolchain install nightly --component miri,rust-src" >&2
    exit 1
}
# Tests leak the keyspace on purpose; the hash seed comes from the system.
export MIRIFLAGS="-Zmiri-ignore-leaks -Zmiri-disable-isolation ${MIRIFLAGS:-}"
# For the property tests that do not say how many cases they want there. The same cases every time, so that every unsafe block is
# known to be run, and how long it takes; another seed looks at other ones.
export PROPTEST_CASES=${PROPTEST_CASES:-2}
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri
[ $# -gt 0 ] || set -- engine::
for filter in "$@"; do
    # One test at a time: threads only take turns here, and then a report names its test.
    cargo +nightly miri test --lib "$filter" -- --test-threads=1
done
