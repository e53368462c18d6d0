#!/usr/bin/env bash
# Every check of the project: scripts/test.sh [STAGE…] (all stages without a name). Ends at the first stage that fails.
#
#   deps     what the tests need is installed (scripts/install-deps.sh)
#   fmt      cargo fmt --check
#   clippy   all targets, warnings are errors
#   build    the release binary that the later stages drive
#   test     unit, property, conformance and integration tests
#   clients  client libraries and applications, against us and against stock (scripts/clients.sh), and the ways of migration
#   package  the Debian package and the archive are built of the binary, and start (scripts/package.sh)
#   suite    the tests of Redis's own suite that must pass (tests/redis-suite/must-pass.txt), some of them over TLS as well
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
target=${CARGO_TARGET_DIR:-target}
export RSREDIS_SERVER=${RSREDIS_SERVER:-$target/release/rsredis-server}

deps() { scripts/install-deps.sh; }
fmt() { cargo fmt --check; }
clippy() { cargo clippy --quiet --all-targets -- -D warnings; }
build() { cargo build --quiet --release; }
tests() {
    # Linked test programs need no debugger's information; without it they build and link in half the time.
    if cargo nextest --version >/dev/null 2>&1; then
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 cargo nextest run --no-fail-fast --status-level fail
    else
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 cargo test --quiet --no-fail-fast
    fi
    # Every bench once, so that none of them rots.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 cargo test --quiet --bench main
}
clients() { scripts/clients.sh; scripts/migration.sh; }
package() { scripts/package.sh; }
suite() {
    # A part of it over TLS; the rest runs alike there, at three times the cost.
    scripts/redis-suite.sh --must-pass --tls unit/auth unit/acl unit/type/string unit/type/hash unit/type/set unit/functions
    scripts/redis-suite.sh --must-pass
}

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(deps fmt clippy build test clients package suite)
started=$SECONDS
report=
for stage in "${stages[@]}"; do
    echo "== $stage"
    begun=$SECONDS
    function=$stage
    [ "$stage" = test ] && function=tests
    # A function in a condition would run without `set -e`; a subshell keeps it.
    set +e
    (set -e; "$function")
    status=$?
    set -e
    report+=$(printf '%-8s %4d s' "$stage" $((SECONDS - begun)))$'\n'
    if [ $status -ne 0 ]; then
        printf '%s' "$report"
        echo "test.sh: stage $stage FAILED (exit $status)" >&2
        exit 1
    fi
done
if [ ${#stages[@]} -gt 1 ]; then
    printf -- '-- time per stage, %d s in all\n%s' $((SECONDS - started)) "$report"
    # The suite's verdict again, so that it is the last line.
    [[ " ${stages[*]} " == *" suite "* ]] && cat .cache/redis-suite/verdict || true
fi
