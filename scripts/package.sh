#!/usr/bin/env bash
# Builds a Debian package and a release archive in target/package: scripts/package.sh
#
# The archive's binary is static: musl's where that target is installed (rustup target add …-musl, apt install musl-tools),
# else glibc's, which resolves names by files and DNS only. RSREDIS_SERVER=BINARY packs that binary into both as it is.
# Ends with a trial of both (scripts/package_check.py). scripts/package_drill.py then installs, upgrades and removes the package on a
# Debian made for it, beside redis-server. The archive needs nothing of the system but /dev/random and /dev/urandom.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "package: $*" >&2; exit 1; }
command -v dpkg-deb >/dev/null || die "no dpkg-deb; this needs Debian's dpkg"

target=${CARGO_TARGET_DIR:-target}
out=$target/package
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
arch=$(dpkg --print-architecture)
machine=$(uname -m)
rm -rf "$out" && mkdir -p "$out"

if [ -n "${RSREDIS_SERVER:-}" ]; then
    deb_binary=$RSREDIS_SERVER archive_binary=$RSREDIS_SERVER libc=gnu
else
    cargo build --release --locked --bin rsredis-server
    deb_binary=$target/release/rsredis-server
    libc=gnu
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$machine-unknown-linux-musl" ] && command -v musl-gcc >/dev/null; then
        libc=musl
    fi
    triple=$machine-unknown-linux-$libc
    # A target of its own, since static linking must not reach the build scripts.
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --bin rsredis-server --target "$triple"
    archive_binary=$target/$triple/release/rsredis-server
fi

# Names of functions stay, so that a crash report can be read; lines go.
place() { install -D -m "$3" "$1" "$2"; }
place_binary() { mkdir -p "$(dirname "$2")" && objcopy --strip-debug "$1" "$2" && chmod 755 "$2"; }

# redis.conf as it is shipped: for this machine only, data in a directory of its own, the log to the journal.
settings() {
    cat config/redis.conf
    printf '\n%s\n' '# What this package sets:' 'bind 127.0.0.1 -::1' 'port 6379' "dir $1"
}

# ---- the Debian package --------------------------------------------------------------------------------------------
root=$out/root
place_binary "$deb_binary" "$root/usr/bin/rsredis-server"
place scripts/package/rsredis-server.service "$root/usr/lib/systemd/system/rsredis-server.service" 644
ln -s rsredis-server "$root/usr/bin/rsredis-sentinel"
place config/sentinel.conf "$root/usr/share/doc/rsredis/sentinel.conf" 644
place README.md "$root/usr/share/doc/rsredis/README.md" 644
place COMPATIBILITY.md "$root/usr/share/doc/rsredis/COMPATIBILITY.md" 644
place LICENSE "$root/usr/share/doc/rsredis/copyright" 644
mkdir -p "$root/etc/rsredis" "$root/DEBIAN"
settings /var/lib/rsredis > "$root/etc/rsredis/redis.conf"
echo /etc/rsredis/redis.conf > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do place scripts/package/$script "$root/DEBIAN/$script" 755; done
glibc=$(objdump -T "$root/usr/bin/rsredis-server" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1 | cut -d_ -f2)
cat > "$root/DEBIAN/control" <<CONTROL
Package: rsredis
Version: $version
Architecture: $arch
Maintainer: The rsredis project <rsredis@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: libc6 (>= ${glibc:-2.36}), libgcc-s1, adduser
Recommends: redis-tools
Section: database
Priority: optional
Description: drop-in replacement for redis-server that uses several cores
 One server process that stock clients, redis-cli and Sentinel talk to as they
 talk to redis-server 7. Commands run on all cores, snapshots need no fork, and
 RDB files, append-only files and replication are Redis's own.
CONTROL
dpkg-deb --build --root-owner-group "$root" "$out/rsredis_${version}_$arch.deb" >/dev/null
rm -rf "$root"

# ---- the archive ---------------------------------------------------------------------------------------------------
name=rsredis-$version-$machine-linux-$libc
place_binary "$archive_binary" "$out/$name/rsredis-server"
settings ./ > "$out/$name/redis.conf"
place config/sentinel.conf "$out/$name/sentinel.conf" 644
for file in README.md COMPATIBILITY.md LICENSE scripts/package/rsredis-server.service; do place $file "$out/$name/$(basename $file)" 644; done
tar -C "$out" --owner=0 --group=0 --sort=name -czf "$out/$name.tar.gz" "$name"
rm -rf "${out:?}/$name"

python3 scripts/package_check.py "$out"
(cd "$out" && sha256sum ./*.deb ./*.tar.gz | tee SHA256SUMS)
