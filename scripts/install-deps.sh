#!/usr/bin/env bash
# Installs what the tests need: the stock Redis (server, tools, sentinel), Tcl, the Debian source of redis with its test
# suite under .cache/redis-src, a Python environment under .venv, and the Node.js packages of tests/clients/.
# Safe to run again: what is there is left alone. What cannot be installed ends the script with a clear error.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "install-deps: $*" >&2; exit 1; }

apt_ready=
apt_install() {
    command -v apt-get >/dev/null || die "needs the Debian packages $*, and there is no apt-get here"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "needs the Debian packages $*: run as root, or install sudo"
        as_root=(sudo -n)
    fi
    if [ -z "$apt_ready" ]; then
        # A foreign repository that does not answer must not stop us; whether the packages are found decides.
        "${as_root[@]}" apt-get update -qq >&2 || echo "install-deps: apt-get update had errors, going on" >&2
        apt_ready=yes
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 \
        || die "cannot install the Debian packages: $*"
}

# Debian starts redis-server and redis-sentinel as services when they are installed; tests start their own.
keep_services_off() {
    [ "$(id -u)" = 0 ] && [ ! -e /usr/sbin/policy-rc.d ] || return 0
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need redis-server redis-server
need redis-cli redis-tools
need redis-benchmark redis-tools
need redis-sentinel redis-sentinel
need tclsh tcl
# The suite over TLS (scripts/redis-suite.sh --tls).
command -v tclsh >/dev/null && echo 'package require tls' | tclsh >/dev/null 2>&1 || missing+=(tcl-tls)
need cc build-essential
need pkg-config pkg-config
need python3 python3
need dpkg-source dpkg-dev
need ps procps
need openssl openssl
need curl curl
need node nodejs
need npm npm
[ -f /usr/include/hiredis/hiredis.h ] || missing+=(libhiredis-dev)
[ -f /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ -f /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ ${#missing[@]} -gt 0 ]; then
    keep_services_off
    apt_install $(printf '%s\n' "${missing[@]}" | sort -u)
fi

# The source package, from a private sources list, so that the system's lists stay as they are.
fetch_source() {
    local where=$PWD/.cache/redis-src.new lists suite
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
    lists=$PWD/.cache/apt
    rm -rf "$where" && mkdir -p "$where" "$lists/lists/partial"
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f $keyring ] || apt_install debian-archive-keyring
    cat > "$lists/sources.list" <<LIST
deb-src [signed-by=$keyring] http://deb.debian.org/debian $suite main
deb-src [signed-by=$keyring] http://deb.debian.org/debian $suite-updates main
deb-src [signed-by=$keyring] http://deb.debian.org/debian-security $suite-security main
LIST
    local options=(-o "Dir::Etc::SourceList=$lists/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$lists/lists" -o "Dir::Cache=$lists" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update -qq >&2 || die "cannot read Debian's source index ($suite)"
    (cd "$where" && apt-get "${options[@]}" source -qq redis >&2 2>&1) || die "cannot fetch the source package of redis"
    local unpacked
    unpacked=$(find "$where" -mindepth 1 -maxdepth 1 -type d -name 'redis-*' | head -1)
    [ -f "$unpacked/tests/test_helper.tcl" ] || die "the source package of redis has no test suite"
    rm -rf .cache/redis-src
    mv "$unpacked" .cache/redis-src
    rm -rf "$where" "$lists"
}
if [ ! -f .cache/redis-src/tests/test_helper.tcl ]; then
    fetch_source
fi

# What was installed is noted, so that a changed list is installed again and an equal one costs nothing.
python_list=tests/clients/requirements.txt
if ! cmp -s "$python_list" .venv/installed.txt; then
    python3 -m venv .venv || die "cannot create the Python environment .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$python_list" >&2 \
        || die "pip cannot install $python_list into .venv"
    cp "$python_list" .venv/installed.txt
fi

node_list=tests/clients/package-lock.json
if ! cmp -s "$node_list" tests/clients/node_modules/installed.json; then
    node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' || die "Node.js $(node --version) is too old, the client libraries need 18"
    # Without the packages' own install scripts: they would compile optional accelerators.
    (cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) \
        || die "npm cannot install $node_list into tests/clients/node_modules"
    cp "$node_list" tests/clients/node_modules/installed.json
fi
echo "install-deps: $(redis-server --version | grep -o 'v=[0-9.]*'), $(.venv/bin/python -c 'import redis; print("redis-py", redis.__version__)')," \
    "node $(node --version), suite in .cache/redis-src"
