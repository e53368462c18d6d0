#!/usr/bin/env bash
# Runs the tests of the rooms with unsafe code under Miri, which sees undefined behaviour: scripts/miri.sh [FILTER…]
# It needs a nightly toolchain: rustup toolchain install nightly --component miri,rust-src
#
# Miri interprets, a hundred times slower than the machine: tests take fewer and shorter cases there (cfg!(miri)), those that only
# measure or count none. All of it takes some 5 minutes of one core, and some 10 more the first time, for building; CI leaves it out,
# for nightly's sake. With this seed every unsafe block of src/engine is run but three kinds: a prefetch, which is a hint to the
# processor; engine/lua, which calls Lua's C code; and jemalloc's interface in memory.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo +nightly miri --version >/dev/null 2>&1 || {
    echo "miri: not installed; rustup toolchain install nightly --component miri,rust-src" >&2
    exit 1
}
# Tests leak the keyspace on purpose; the hash seed comes from the system. parking_lot keeps pointers in integers.
flags="-Zmiri-ignore-leaks -Zmiri-disable-isolation -Zmiri-permissive-provenance ${MIRIFLAGS:-}"
# For the property tests that do not say how many cases they want there; another seed looks at other ones.
export PROPTEST_CASES=${PROPTEST_CASES:-2}
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}

# One test at a time: threads only take turns here, and then a report names its test.
run() { MIRIFLAGS="$flags $1" cargo +nightly miri test --quiet --lib "$2" -- --test-threads=1 --skip engine::lua; }

if [ $# -gt 0 ]; then
    for filter in "$@"; do run "" "$filter"; done
else
    run "" engine::
    # Locks are about who comes first: the same tests in other orders.
    run "-Zmiri-many-seeds=1..5" engine::keyspace::lock
fi
