#!/usr/bin/env python3
"""Unpacks what scripts/package.sh has built and starts the server from it as the unit does: scripts/package_check.py DIRECTORY

The unit's own ExecStart runs with NOTIFY_SOCKET, as systemd would run it: READY=1 must come, the shipped redis.conf must
load, data must be there again after a stop and a start, and STOPPING=1 must come. A static archive also runs in a directory with
nothing else in it, where this may be tried (by root). What dpkg makes of the package, scripts/package_drill.py finds out.
"""
import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time


def check(where, binary, config, unit):
    """Starts the unit's command line with the paths of `where`, writes, stops, starts, reads."""
    line = re.search(r"(?m)^ExecStart=\S+ \S+ (.*)$", open(unit).read())[1].split()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    data = os.path.join(where, "data")
    os.makedirs(data)
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(os.path.join(where, "notify"))
    inbox.settimeout(20)
    words = [binary, config, *line, "--port", str(port), "--dir", data, "--appendonly", "yes"]
    for command, expected in (("SET survivor yes", "+OK"), ("GET survivor", "$3\r\nyes")):
        with open(os.path.join(where, "log"), "ab") as log:
            server = subprocess.Popen(words, env={**os.environ, "NOTIFY_SOCKET": os.path.join(where, "notify")}, stdout=log, stderr=log)
        try:
            told(inbox, "READY=1", where)
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                s.sendall(command.encode() + b"\r\n")
                reply = s.recv(100).decode().strip()
            assert reply == expected, f"{command}: {reply}"
        finally:
            server.terminate()
            server.wait(20)
        told(inbox, "STOPPING=1", where)
        assert server.returncode == 0, f"exit status {server.returncode}"


def told(inbox, state, where):
    text = ""
    try:
        while state not in text:
            text = inbox.recv(1000).decode()
    except TimeoutError:
        sys.exit(f"package_check: no {state}\n" + open(os.path.join(where, "log"), errors="replace").read())


def check_control(package, where):
    """What dpkg will act on: the scripts are shell, the settings are the user's, and no file is redis-server's as well."""
    subprocess.run(["dpkg-deb", "-e", package, where + "/control"], check=True)
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", f"{where}/control/{script}"], check=True)
    with open(where + "/control/conffiles") as f:
        assert f.read() == "/etc/rsredis/redis.conf\n", "conffiles"
    listed = subprocess.run(["dpkg-deb", "-c", package], check=True, capture_output=True, text=True).stdout.splitlines()
    names = [line.split()[5] for line in listed if not line.startswith("d")]
    theirs = [name for name in names if re.search(r"/(redis|redis-[a-z]+(\.service)?)(/|$)", name)]
    assert not theirs, f"redis-server has these, too: {theirs}"


def check_bare(archive, where):
    """The archive where there is nothing at all: no libraries, no users, no names."""
    subprocess.run(["tar", "-C", where, "--strip-components=1", "-xzf", archive], check=True)
    os.makedirs(where + "/dev")
    for name, minor in (("null", 3), ("random", 8), ("urandom", 9)):
        os.mknod(f"{where}/dev/{name}", 0o20666, os.makedev(1, minor))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for command, expected in (("SET k v", "+OK"), ("GET k", "$1\r\nv")):
        words = ["chroot", where, "/rsredis-server", "/redis.conf", "--port", str(port), "--appendonly", "yes", "--logfile", "/log"]
        server = subprocess.Popen(words)
        try:
            reply = asked(port, command)
            assert reply == expected, f"{command}: {reply}"
        finally:
            server.terminate()
            server.wait(20)
        assert server.returncode == 0, f"exit status {server.returncode}"


def asked(port, command):
    deadline = time.time() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                s.sendall(command.encode() + b"\r\n")
                return s.recv(100).decode().strip()
        except ConnectionRefusedError:
            assert time.time() < deadline, "no server"
            time.sleep(0.05)


def main():
    built = os.path.abspath(sys.argv[1])
    package, archive = glob.glob(built + "/*.deb")[0], glob.glob(built + "/*.tar.gz")[0]
    where = tempfile.mkdtemp(prefix="rs-package.")
    try:
        for part in ("deb", "archive", "bare"):
            os.makedirs(os.path.join(where, part))
        check_control(package, where)
        subprocess.run(["dpkg-deb", "-x", package, where + "/deb"], check=True)
        root = where + "/deb"
        unit = root + "/usr/lib/systemd/system/rsredis-server.service"
        if shutil.which("systemd-analyze"):
            # It complains about the binary, which is not installed; about anything else it must not.
            said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True).stderr
            bad = [line for line in said.splitlines() if unit in line and "is not executable" not in line]
            assert not bad, bad
        check(root, root + "/usr/bin/rsredis-server", root + "/etc/rsredis/redis.conf", unit)
        print(f"package_check: {os.path.basename(package)} starts, keeps its data, and tells systemd")
        subprocess.run(["tar", "-C", where + "/archive", "--strip-components=1", "-xzf", archive], check=True)
        root = where + "/archive"
        check(root, root + "/rsredis-server", root + "/redis.conf", root + "/rsredis-server.service")
        dynamic = subprocess.run(["ldd", root + "/rsredis-server"], capture_output=True, text=True).stdout
        is_static = "=>" not in dynamic
        print(f"package_check: {os.path.basename(archive)} starts; it is {'statically' if is_static else 'dynamically'} linked")
        if is_static and os.geteuid() == 0:
            check_bare(archive, where + "/bare")
            print("package_check: it runs in a directory with nothing else in it")
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
