#!/usr/bin/env bash
# Writes COMPATIBILITY.md from the command tables of the installed redis-server and of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
WRITE_COMPATIBILITY=1 exec cargo test --quiet --test command_info the_compatibility_table_is_current
