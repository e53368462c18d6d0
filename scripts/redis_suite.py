#!/usr/bin/env python3
"""Runs Redis's Tcl test suite against a server binary, file by file.

usage: redis_suite.py --server BINARY [--must-pass | --bless] [--tls] [FILE…]

FILE is a file of the suite such as unit/type/string, cluster/04-resharding or sentinel/05-manual; shell patterns are
allowed; without any, every file of `runtest --list-tests`. Each file runs by itself from a private copy of the suite,
with our binary as src/redis-server and src/redis-sentinel and the stock tools beside it, under a time limit; several
files run at once, each in a port range of its own. A test that ends its file (a dead server, a hang) is recorded, and
the file runs again without it, so that the tests behind it are reached.

  --must-pass   run what tests/redis-suite/must-pass.txt lists; exit 1 if a listed test did not pass
  --bless       add the tests that passed to that list (it only grows)
  --tls         every connection through TLS, with certificates that are made once (the suite's own script); wants tcl-tls

  --large       the tests that take gigabytes of memory, too: up to 20 GB at once

must-pass.txt: one `file<TAB>test name` per line, or a line `file` alone for every test of it.
Results: .cache/redis-suite/<file>.log, one line per file here, failures by name, and at the end how many results there were (a test
that runs in several settings has one for each) and `N passed, N failed`, which counts names.
"""
import argparse
import concurrent.futures
import ctypes
import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE = os.path.join(ROOT, ".cache/redis-src")
RESULTS = os.path.join(ROOT, ".cache/redis-suite")
MUST_PASS = os.path.join(ROOT, "tests/redis-suite/must-pass.txt")
TOOLS = ("redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb")
FIRST_PORT, PORTS = 20000, 500
LEGACY = ("cluster", "sentinel")
# Lines of runtest, colours removed.
RESULT = re.compile(r"^\[(ok|err|exception|ignore|skip)\]: (.*?)(?: in (tests/\S+\.tcl))?(?: \((\d+) ms\))?$")


def die(text):
    sys.exit("redis-suite: " + text)


# ---- the private copy ----------------------------------------------------------------------------------------------

# Redis saves in a forked child, and some tests kill that child to see a save fail. Here a thread saves, which nobody can kill. What
# fails in its place is the file: it is taken away while it is written, so that it cannot get its name in the end. That is a
# failed save to every server; one that has a child loses its child, as before.
FAIL_SAVING = r'''
# Makes the saving that runs fail, if one does. "delay" is what rdb-key-save-delay shall be from then on (the tests set it before they
# kill; a thread would be done before its file is gone). Returns the pid that is part of the temporary file's name.
proc fail_saving {level {delay {}}} {
    set pid [srv $level pid]
    set r [srv $level client]
    if {$delay eq {}} { set delay [lindex [$r config get rdb-key-save-delay] 1] }
    if {![catch {exec pgrep -P $pid} children]} {
        $r config set rdb-key-save-delay $delay
        set child [lindex [split $children \n] 0]
        catch {exec kill -9 $child}
        return $child
    }
    set dir [lindex [$r config get dir] 1]
    set began [status $r total_forks]
    while {[status $r rdb_bgsave_in_progress] || [status $r aof_rewrite_in_progress]} {
        set files [glob -nocomplain -directory $dir temp-*.rdb temp-*.aof]
        if {$files eq {}} { after 5; continue }
        file delete {*}$files
        # The rest of it takes about half a second. Not no time: what is tried again meanwhile must not be over before we see it.
        $r config set rdb-key-save-delay [expr {500000 / ([$r dbsize] + 1)}]
        while {[status $r total_forks] == $began &&
               ([status $r rdb_bgsave_in_progress] || [status $r aof_rewrite_in_progress])} { after 5 }
        break
    }
    $r config set rdb-key-save-delay $delay
    return $pid
}
'''

# (file, text as a pattern, what takes its place): how the tests get to what they are after without a child to kill.
WITHOUT_CHILD = [
    ("integration/aof-multi-part", r"r config set rdb-key-save-delay 0\n\s*catch \{exec kill -9 \[get_child_pid 0\]\}", "fail_saving 0 0"),
    ("integration/aof-multi-part", r"set (pid\d) \[get_child_pid 0\]\n\s*catch \{exec kill -9 \$\1\}", r"set \1 [fail_saving 0]"),
    ("integration/aof-multi-part", r"catch \{exec kill -9 \[get_child_pid 0\]\}", "fail_saving 0"),
    ("integration/rdb", r"set pid1 \[get_child_pid 0\]\n\s*catch \{exec kill -9 \$pid1\}", "fail_saving 0"),
    # The temporary file is what counts, whatever number its name has.
    ("unit/shutdown", r"set child_pid \[get_child_pid 0\]\n", ""),
    ("unit/shutdown", r"\[file join (\[lindex \[r config get dir\] 1\]) temp-\$\{child_pid\}\.rdb\]",
     r"[lindex [glob -nocomplain -directory \1 temp-*.rdb] 0]"),
]
# A full sync under a busy script. The test sets a value that no Redis 7.0 takes, so it fails there too; this must be what it meant.
# Then it fills the primary's buffer for a replica that does not read, until the link is cut. Ours reads on while its script runs: the
# full sync is had by cutting the link ourselves, and the history with it.
FULL_SYNC = [
    ("integration/replication", r"repl-diskless-load yes\n", "repl-diskless-load swapdb\n"),
    ("integration/replication", r"populate 5 bigkey 1000000 -1\n",
     "populate 5 bigkey 1000000 -1\n$master debug change-repl-id\n$master client kill type replica\n"),
]

# The test server of runtest prints results only; which test had begun when a file died must be written down too.
BEGUN = '''
    if {$status eq "testing" && [info exists ::env(SUITE_BEGUN)]} {
        set begun [open $::env(SUITE_BEGUN) a]; puts $begun $data; close $begun
    }
'''
# A server that died before its PID line is noticed at once, not after two minutes.
DEAD = "incr maxiter -1\n        if {[catch {exec kill -0 $pid}] && [incr __dead] >= 3} break"


def edit(path, old, new):
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        text = f.read()
    if old not in text:
        die(f"{path}: this version of the suite has no {old!r}")
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
        f.write(text.replace(old, new, 1))


# Scores are printed with the fewest digits that tell them, as Redis does since 7.2; the tests have Tcl print 17. They are to be the same
# number.
DIGITS = [("unit/type/zset", r"assert_equal \[lindex \$aux \$i\] (\[r zm?score zscoretest \$i\])", r"assert {[lindex $aux $i] == \1}")]


def edit_tests(where):
    with open(where + "/tests/support/util.tcl", "a", encoding="utf-8") as f:
        f.write(FAIL_SAVING)
    for name, pattern, new in WITHOUT_CHILD + FULL_SYNC + DIGITS:
        path = f"{where}/tests/{name}.tcl"
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            text, count = re.subn(pattern, new, f.read())
        if not count:
            die(f"{path}: this version of the suite has no {pattern!r}")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(text)


def private_copy(server, base):
    where = tempfile.mkdtemp(prefix="rs-suite.")
    skip = shutil.ignore_patterns("modules", "moduleapi", "tmp")
    shutil.copytree(SOURCE + "/tests", where + "/tests", symlinks=True, ignore=skip)
    for name in ("tests/tmp", "tests/cluster/tmp", "tests/sentinel/tmp", "src"):
        os.makedirs(os.path.join(where, name), exist_ok=True)
    for name in os.listdir(SOURCE):
        if name.startswith("runtest") or name.endswith(".conf"):
            shutil.copy2(os.path.join(SOURCE, name), where)
    os.symlink(SOURCE + "/utils", where + "/utils")
    for tool in TOOLS:
        os.symlink(shutil.which(tool) or die(f"no {tool}; run scripts/install-deps.sh"), f"{where}/src/{tool}")
    for name in ("redis-server", "redis-sentinel"):
        os.symlink(server, f"{where}/src/{name}")
    line = "foreach {status data elapsed} $payload break"
    edit(where + "/tests/test_helper.tcl", line, line + BEGUN)
    edit(where + "/tests/support/server.tcl", "incr maxiter -1", DEAD)
    edit_tests(where)
    with open(where + "/tests/instances.tcl", encoding="utf-8", errors="surrogateescape") as f:
        text = f.read()
    text = re.sub(r"(?m)^set ::sentinel_base_port .*$", f"set ::sentinel_base_port {base + 250}", text)
    text = re.sub(r"(?m)^set ::redis_base_port .*$", f"set ::redis_base_port {base + 40}", text)
    with open(where + "/tests/instances.tcl", "w", encoding="utf-8", errors="surrogateescape") as f:
        f.write(text)
    return where


def make_certificates():
    """The certificates of the suite, as its own script makes them; private copies take them along."""
    if os.path.exists(SOURCE + "/tests/tls/redis.dh"):
        return
    made = subprocess.run(["bash", "utils/gen-test-certs.sh"], cwd=SOURCE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if made.returncode:
        die("no test certificates: " + made.stderr.decode(errors="replace")[-300:])
    if subprocess.run(["tclsh"], input=b"package require tls", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        die("no Tcl package tls; run scripts/install-deps.sh")


# ---- processes -----------------------------------------------------------------------------------------------------

def adopt_orphans():
    """Servers whose Tcl parent died become our children, so that they can be found and ended."""
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def processes_in(where):
    """Processes whose working directory lies in the private copy: all that a run of it started."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(where) and int(pid) != os.getpid():
                found.append(int(pid))
        except OSError:
            continue
    return found


def end_processes(where):
    for sign in (signal.SIGTERM, signal.SIGKILL):
        stop = time.time() + 3
        while (left := processes_in(where)) and time.time() < stop:
            for pid in left:
                try:
                    os.kill(pid, sign)
                    os.kill(pid, signal.SIGCONT)
                except OSError:
                    pass
            time.sleep(0.1)
        if not left:
            return


# ---- one file ------------------------------------------------------------------------------------------------------

class Outcome:
    def __init__(self, name):
        self.name = name
        self.passed, self.failed = [], {}  # names; name -> reason
        self.left_out = set()
        self.outside = []  # errors outside any test
        self.results = {}  # kind -> number, of the last run
        self.state, self.seconds = "done", 0.0

    def line(self):
        text = f"{self.name:34} {len(self.passed):4} passed {len(self.failed):4} failed {self.seconds:6.0f} s"
        return text + ("" if self.state == "done" else f"  {self.state.upper()}")


def stable(name):
    """A test name without the ports, pids and dice of the run (integration/psync2 plays random layouts for a fixed time)."""
    name = re.sub(r"(127\.0\.0\.1|localhost|::1)([: ])\d{4,5}\b", r"\1\2PORT", name)
    name = re.sub(r"\(x = \d+\)", "(x = N)", name)
    name = re.sub(r"(PSYNC2: .*)Set #\d+ (to replicate|as master)( from #\d+)?", r"\1Set # \2", name)
    name = re.sub(r"PSYNC2: --- CYCLE \d+ ---", "PSYNC2: --- CYCLE ---", name)
    return re.sub(r"\(pid \d+\)", "(pid)", name)


# Tests that cannot pass and leave settings behind with which those after them fail. They are left out, and count as failed.
LEFT_OUT = {"unit/type/set": {"SRANDMEMBER with a dict containing long chain": "left out: it steers how a table of Redis rehashes"}}


def command(name, base, skipped, options):
    kind = name.split("/")[0]
    if kind in LEGACY:
        words = ["tclsh", f"tests/{kind}/run.tcl", "--single", "/" + name.split("/", 1)[1] + ".tcl", "--dont-clean"]
        return words + ["--tls"] * options.tls
    words = ["./runtest", "--single", name, "--clients", "1", "--durable", "--dont-clean", "--no-latency"]
    words += ["--timeout", str(options.silence), "--baseport", str(base + 40), "--portcount", "450"]
    words += ["--large-memory"] * options.large
    words += ["--tls"] * options.tls
    for test in skipped:
        words += ["--skiptest", test]
    return words


def run_once(where, name, base, skipped, options, log):
    """One run: (exit status or None for over the limit, output, the test that had begun last)."""
    begun = os.path.join(where, "begun")
    if os.path.exists(begun):
        os.remove(begun)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "REDIS"))}
    kept.update(LANG="C.UTF-8", TERM="dumb", SUITE_BEGUN=begun)
    words = command(name, base, skipped, options)
    with open(log, "a") as f:
        f.write(f"### {' '.join(words)}\n")
        f.flush()
        child = subprocess.Popen(words, cwd=where, env=kept, stdin=subprocess.DEVNULL, stdout=f,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = child.wait(options.limit)
        except subprocess.TimeoutExpired:
            status = None
    end_processes(where)
    child.wait()
    with open(log, encoding="utf-8", errors="replace") as f:
        output = re.sub(r"\x1b\[[0-9;]*m", "", f.read().rsplit("### ", 1)[1])
    last = None
    if os.path.exists(begun):
        with open(begun, encoding="utf-8", errors="replace") as f:
            last = (f.read().rstrip("\n").split("\n") or [None])[-1]
    return status, output, last


def collect(outcome, output, legacy):
    """Reads results into the outcome; the names seen in this run."""
    seen, outcome.results = set(), dict.fromkeys(("ok", "err", "ignore", "skip"), 0)
    lines = output.split("\n")
    if legacy:
        for number, line in enumerate(lines):
            if found := re.match(r"^\d\d:\d\d:\d\d> (.*): (OK|FAILED.*)?", line):
                name = stable(found[1])
                rest = lines[number + 1] if number + 1 < len(lines) else ""
                if found[2] == "OK":
                    outcome.passed.append(name)
                elif (found[2] or "").startswith("FAILED") or "FAILED" in rest:
                    outcome.failed[name] = found[2] or rest
        return seen
    for number, line in enumerate(lines):
        found = RESULT.match(line)
        if not found:
            continue
        kind, name = found[1], stable(found[2])
        seen.add(name)
        if kind in outcome.results and (kind != "err" or found[3]):
            outcome.results[kind] += 1
        if kind == "ok" and name not in outcome.passed:
            outcome.passed.append(name)
        elif kind == "err" and found[3]:
            short, full = (lines[number + 1:number + 3] + ["", ""])[:2]
            outcome.failed.setdefault(name, full if full.endswith(short) else short)
        elif kind == "err":
            outcome.outside.append(name)
        elif kind in ("ignore", "skip"):
            outcome.left_out.add(name)
    return seen


def run_file(name, server, base, options):
    outcome = Outcome(name)
    log = os.path.join(RESULTS, name.replace("/", "_") + (".tls" if options.tls else "") + ".log")
    open(log, "w").close()
    legacy = name.split("/")[0] in LEGACY
    where = private_copy(server, base)
    started = time.time()
    skipped = list(LEFT_OUT.get(name, []))
    outcome.failed.update(LEFT_OUT.get(name, {}))
    try:
        for _ in range(1 + (0 if legacy else options.reruns)):
            status, output, last = run_once(where, name, base, skipped, options, log)
            seen = collect(outcome, output, legacy)
            ended = status is not None and (legacy or "\\o/ All tests passed" in output or "!!! WARNING" in output)
            if ended:
                break
            outcome.state = "over the time limit" if status is None else "aborted"
            # The culprit began and has no result; a file that dies outside its tests cannot be helped by a rerun.
            if status is None or last is None or stable(last) in seen or last in skipped:
                break
            outcome.failed[stable(last)] = "ended the file"
            skipped.append(last)
        outcome.passed = [test for test in outcome.passed if test not in outcome.failed]
        if legacy and status != 0 and not outcome.failed:
            outcome.failed["(the file)"] = f"exit status {status}"
    finally:
        end_processes(where)
        shutil.rmtree(where, ignore_errors=True)
        outcome.seconds = time.time() - started
    return outcome


# ---- many files ----------------------------------------------------------------------------------------------------

def known_files():
    listed = subprocess.run(["./runtest", "--list-tests"], cwd=SOURCE, stdout=subprocess.PIPE, text=True, check=True)
    files = [name for name in listed.stdout.split() if "moduleapi" not in name]
    for folder in ("unit/cluster",):
        inside = os.path.join(SOURCE, "tests", folder)
        files += [f"{folder}/{entry[:-4]}" for entry in sorted(os.listdir(inside)) if entry.endswith(".tcl")]
    legacy = []
    for kind in LEGACY:
        inside = os.path.join(SOURCE, "tests", kind, "tests")
        legacy += [f"{kind}/{entry[:-4]}" for entry in sorted(os.listdir(inside)) if entry.endswith(".tcl")]
    return list(dict.fromkeys(files)), legacy


def chosen(patterns):
    files, legacy = known_files()
    if not patterns:
        return files
    names = []
    for pattern in patterns:
        hits = [name for name in files + legacy if fnmatch.fnmatch(name, pattern)]
        names += hits or die(f"no file {pattern} in the suite")
    return list(dict.fromkeys(names))


def read_list():
    """{file: set of test names}; an empty set stands for all tests of the file."""
    wanted = {}
    if os.path.exists(MUST_PASS):
        with open(MUST_PASS, encoding="utf-8") as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    name, _, test = line.rstrip("\n").partition("\t")
                    wanted.setdefault(name, set()).update({test} if test else ())
    return wanted


def run_all(names, server, options):
    os.makedirs(RESULTS, exist_ok=True)
    bases = [FIRST_PORT + PORTS * slot for slot in range(options.parallel)]
    outcomes = {}

    def one(name):
        base = bases.pop()
        try:
            return run_file(name, server, base, options)
        finally:
            bases.append(base)

    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        for future in concurrent.futures.as_completed([pool.submit(one, name) for name in names]):
            outcome = outcomes[future.result().name] = future.result()
            print(outcome.line(), flush=True)
            for test, reason in outcome.failed.items():
                print(f"    failed: {test}: {' '.join(reason.split())[:160]}")
            for error in outcome.outside:
                print(f"    outside any test: {error[:200]}")
    return outcomes


def try_again(outcomes, wanted, server, options):
    """Runs the files in which something is missing once more, alone. The suite was written for a server of one thread and
    waits for fixed times; a test that passes only at the second try is told of, so that it is looked at."""
    late = [name for name, outcome in outcomes.items() if wanted.get(name, set()) - set(outcome.passed) - outcome.left_out]
    if not late:
        return
    print("once more: " + ", ".join(late), flush=True)
    options.parallel = 1
    for name, second in run_all(late, server, options).items():
        first = outcomes[name]
        for test in sorted((wanted[name] & set(second.passed)) - set(first.passed)):
            print(f"passed at the second try: {name}: {test}")
        first.passed = list(dict.fromkeys(first.passed + second.passed))


def check_list(outcomes, wanted):
    missing = 0
    for name, tests in sorted(wanted.items()):
        outcome = outcomes[name]
        for test in sorted(tests - set(outcome.passed) - outcome.left_out):
            missing += 1
            print(f"must pass, did not: {name}: {test}")
        if not tests and (outcome.failed or outcome.outside or outcome.state != "done"):
            missing += 1
            print(f"must pass as a whole, did not: {name}")
    return missing


def bless(outcomes):
    wanted = read_list()
    before = sum(map(len, wanted.values()))
    for name, outcome in outcomes.items():
        wanted.setdefault(name, set()).update(test for test in outcome.passed if test)
    with open(MUST_PASS, "w", encoding="utf-8") as f:
        f.write("# Tests of Redis's suite that must pass; scripts/redis-suite.sh --bless adds to it, nothing takes away.\n")
        for name in sorted(wanted):
            f.writelines(f"{name}\t{test}\n" for test in sorted(wanted[name]))
    print(f"must-pass.txt: {before} tests before, {sum(map(len, wanted.values()))} now")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--server", required=True)
    parser.add_argument("--must-pass", action="store_true")
    parser.add_argument("--bless", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--limit", type=int, default=600, help="seconds that one run of a file may take")
    parser.add_argument("--silence", type=int, default=240, help="seconds without progress that end a run")
    parser.add_argument("--reruns", type=int, default=4, help="runs again without the test that ended the file")
    parser.add_argument("--parallel", type=int, default=2)
    options = parser.parse_args()
    server = shutil.which(os.path.abspath(options.server)) or shutil.which(options.server)
    if not server:
        die(f"no executable {options.server}")
    if not os.path.exists(SOURCE + "/tests/test_helper.tcl"):
        die("no suite in .cache/redis-src; run scripts/install-deps.sh")
    if options.tls:
        make_certificates()
    adopt_orphans()
    wanted = read_list()
    names = chosen(options.files)
    if options.must_pass:
        names = [name for name in (chosen(sorted(wanted)) if wanted else []) if not options.files or name in names]
    outcomes = run_all(names, os.path.abspath(server), options)
    failed = sum(len(outcome.failed) for outcome in outcomes.values())
    if options.bless:
        bless(outcomes)
    if options.must_pass:
        try_again(outcomes, wanted, os.path.abspath(server), options)
        failed = check_list(outcomes, {name: wanted[name] for name in names})
        passed = sum(len(wanted[name] & set(outcomes[name].passed)) or len(outcomes[name].passed) for name in names)
    else:
        passed = sum(len(outcome.passed) for outcome in outcomes.values())
    total = {kind: sum(outcome.results.get(kind, 0) for outcome in outcomes.values()) for kind in ("ok", "err", "ignore", "skip")}
    print("results: {ok} ok, {err} not, {ignore} not asked for, {skip} left out".format(**total))
    verdict = f"{passed} passed, {failed} failed"
    with open(os.path.join(RESULTS, "verdict"), "w") as f:
        f.write(verdict + "\n")
    print(verdict)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
