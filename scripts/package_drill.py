#!/usr/bin/env python3
"""Installs the package of scripts/package.sh on a Debian of its own, beside redis-server, and lives through what a user does with it.

usage: package_drill.py DIRECTORY [--root DEBIAN] [--release NAME]

    stock redis-server ─► ours beside it ─► upgrade ─► removal ─► again ─► redis-server removed ─► purge
    each step: run as the unit runs it, by its user, from a terminal of the Debian; the data is there afterwards

DIRECTORY is where the package is. --root names a tree for the Debian; one that is there already is used again, so that only the first
drill needs a minute for debootstrap. Needs root (chroot) and a Debian mirror; CI does without it (scripts/package_check.py).
"""
import argparse
import contextlib
import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

CONF, DATA, UNIT = "etc/rsredis/redis.conf", "var/lib/rsredis", "usr/lib/systemd/system/rsredis-server.service"


class Debian:
    """A tree with a Debian in it, and what is mounted there meanwhile."""

    def __init__(self, root, release):
        self.root = root
        if not os.path.exists(self.path("usr/bin/dpkg")):
            subprocess.run(["debootstrap", "--variant=minbase", release, root], check=True, stdout=subprocess.DEVNULL)
        shutil.copy("/etc/resolv.conf", self.path("etc/resolv.conf"))

    def path(self, name):
        return os.path.join(self.root, name.lstrip("/"))

    def __enter__(self):
        for kind in ("proc", "sysfs"):
            subprocess.run(["mount", "-t", kind, kind, self.path("proc" if kind == "proc" else "sys")], check=True)
        return self

    def __exit__(self, *_):
        for name in ("proc", "sys"):
            subprocess.run(["umount", "-l", self.path(name)], check=False)

    def run(self, *words, fails=False):
        """A command in the tree; what it says."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        done = subprocess.run(["chroot", self.root, *words], capture_output=True, text=True, env=env)
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{' '.join(words)}: exit status {done.returncode}\n{text}"
        return text

    def owner(self, name):
        """user:group mode of a file, as the tree names them."""
        return self.run("stat", "-c", "%U:%G %a", "/" + name).strip()

    @contextlib.contextmanager
    def service(self, unit, port, *more):
        """The command line of a unit under its user, as systemd would run it; stopped by SIGTERM, which must end it well."""
        settings = dict(re.findall(r"(?m)^(\w+)=(.*)$", open(self.path(unit)).read()))
        for kind, parent in (("RuntimeDirectory", "run"), ("StateDirectory", "var/lib")):
            if settings.get(kind):
                self.run("install", "-d", "-o", settings["User"], "-g", settings["Group"], "-m", settings[kind + "Mode"],
                         f"/{parent}/{settings[kind]}")
        inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        inbox.settimeout(30)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path("run/notify"))
        inbox.bind(self.path("run/notify"))
        os.chmod(self.path("run/notify"), 0o777)
        place = settings.get("WorkingDirectory", "/")
        words = ["chroot", self.root, "setpriv", "--reuid", settings["User"], "--regid", settings["Group"], "--init-groups", "sh", "-c",
                 f'umask {settings.get("UMask", "0022")}; cd {place}; NOTIFY_SOCKET=/run/notify exec "$@"', "sh",
                 *settings["ExecStart"].split(), "--port", str(port), *more]
        with open(self.path("tmp/drill.log"), "a") as log:
            server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            told(inbox, "READY=1", self.path("tmp/drill.log"))
            yield lambda *words: self.run("redis-cli", "-p", str(port), *words).strip()
        finally:
            server.terminate()
            status = server.wait(30)
        expect("exit status", status, 0)


def told(inbox, state, log):
    text = ""
    try:
        while state not in text:
            text = inbox.recv(1000).decode()
    except TimeoutError:
        sys.exit(f"package_drill: no {state}\n" + open(log, errors="replace").read()[-3000:])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def expect(what, found, wanted):
    assert found == wanted, f"{what}: {found!r} instead of {wanted!r}"


def newer(package, where):
    """The same package as if it were the next version, with another redis.conf."""
    subprocess.run(["dpkg-deb", "-R", package, where + "/next"], check=True)
    control = where + "/next/DEBIAN/control"
    text = open(control).read()
    with open(control, "w") as f:
        f.write(re.sub(r"(?m)^(Version: .*)$", r"\1+next", text))
    with open(where + "/next/" + CONF, "a") as f:
        f.write("\n# A line of the next version.\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", where + "/next", where + "/next.deb"], check=True, stdout=subprocess.DEVNULL)
    return where + "/next.deb"


def drill(debian, package, where):
    port = free_port()
    install = lambda deb, *more: (shutil.copy(deb, debian.path("tmp/p.deb")), debian.run("dpkg", *more, "-i", "/tmp/p.deb"))
    debian.run("apt-get", "update", "-qq")
    debian.run("dpkg", "--purge", "rsredis")
    debian.run("apt-get", "install", "-y", "--no-install-recommends", "redis-server", "redis-tools", "adduser")
    stock = "usr/lib/systemd/system/redis-server.service"
    with debian.service(stock, port) as cli:
        expect("stock", cli("SET", "from", "stock"), "OK")
        expect("stock", cli("SAVE"), "OK")
    step("redis-server runs and has data")

    install(package)
    expect("state", debian.run("dpkg-query", "-W", "-f", "${Status}", "rsredis"), "install ok installed")
    expect("conffiles", debian.run("dpkg-query", "-W", "-f", "${Conffiles}", "rsredis").split()[0], "/" + CONF)
    expect("modes", [debian.owner(name) for name in (DATA, "etc/rsredis", CONF, "usr/bin/rsredis-server")],
           ["rsredis:rsredis 750", "rsredis:rsredis 750", "rsredis:rsredis 640", "root:root 755"])
    assert "nologin" in debian.run("getent", "passwd", "rsredis"), "the user can log in"
    expect("dpkg --verify", debian.run("dpkg", "--verify", "rsredis"), "")
    assert "rsredis-server" in debian.run("rsredis-server", "--help") and "rsredis=" in debian.run("rsredis-server", "--version")
    step("installed beside redis-server: its user, its directories, no file in common")

    debian.run("install", "-o", "rsredis", "-g", "rsredis", "-m", "640", "/var/lib/redis/dump.rdb", "/" + DATA + "/dump.rdb")
    with debian.service(UNIT, port) as cli:
        expect("redis-server's file", cli("GET", "from"), "stock")
        expect("who", debian.run("stat", "-c", "%U", f"/proc/{pid_of(cli)}").strip(), "rsredis")
        expect("SET", cli("SET", "kept", "yes"), "OK")
        expect("CONFIG", cli("CONFIG", "SET", "maxmemory", "100mb", "appendonly", "yes"), "OK")
        expect("CONFIG REWRITE", cli("CONFIG", "REWRITE"), "OK")
        assert re.search(r"uptime_in_seconds:\d", cli("INFO", "server"))
    expect("rewritten", debian.owner(CONF), "rsredis:rsredis 600")
    assert "\nmaxmemory 100mb" in open(debian.path(CONF)).read().replace("104857600", "100mb"), "CONFIG REWRITE is not in the file"
    modes = debian.run("find", "/" + DATA, "-type", "f", "-perm", "/077", "-name", "*.aof*")
    expect("files that others can read", modes, "")
    step("runs as the unit says, loads redis-server's file, writes its own settings")

    user = debian.run("id", "-u", "rsredis")
    install(newer(package, where), "--force-confold")
    expect("modes", [debian.owner(name) for name in (DATA, "etc/rsredis", CONF)],
           ["rsredis:rsredis 750", "rsredis:rsredis 750", "rsredis:rsredis 640"])
    expect("user", debian.run("id", "-u", "rsredis"), user)
    with debian.service(UNIT, port) as cli:
        expect("after the upgrade", [cli("GET", "kept"), cli("CONFIG", "GET", "maxmemory").split()[-1]], ["yes", str(100 << 20)])
    step("upgraded: data, settings and user stay")

    debian.run("dpkg", "--remove", "rsredis")
    left = [os.path.exists(debian.path(name)) for name in ("usr/bin/rsredis-server", UNIT, "usr/share/doc/rsredis", CONF, DATA + "/appendonlydir")]
    expect("left after removal", left, [False, False, False, True, True])
    with debian.service(stock, port) as cli:
        expect("redis-server", cli("GET", "from"), "stock")
    step("removed: data and settings stay, redis-server is as it was")

    install(package, "--force-confold")
    debian.run("apt-get", "purge", "-y", "redis-server")
    with debian.service(UNIT, port) as cli:
        expect("again", cli("GET", "kept"), "yes")
    debian.run("dpkg", "--purge", "rsredis")
    left = [os.path.exists(debian.path(name)) for name in ("etc/rsredis", DATA, "usr/bin/rsredis-server")]
    expect("left after purge", left, [False, False, False])
    expect("dpkg --audit", debian.run("dpkg", "--audit"), "")
    step("installed again, redis-server purged, ours purged: nothing is left")


def pid_of(cli):
    return re.search(r"process_id:(\d+)", cli("INFO", "server"))[1]


def step(text):
    print(f"package_drill: {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--root", default="")
    parser.add_argument("--release", default="bookworm")
    options = parser.parse_args()
    built = os.path.abspath(options.directory)
    where = tempfile.mkdtemp(prefix="rs-drill.")
    try:
        with Debian(options.root or where + "/debian", options.release) as debian:
            drill(debian, glob.glob(built + "/*.deb")[0], where)
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
