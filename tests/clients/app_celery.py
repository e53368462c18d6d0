"""A task queue with Celery, its broker and its results: a worker process, chains, groups, chords, retries. A program of scripts/clients.py."""
import json
import os
import subprocess
import sys

from celery import Celery, chain, chord, group

URL = f"redis://127.0.0.1:{os.environ['PORT']}"
app = Celery("app_celery", broker=URL + "/1", backend=URL + "/2")
app.conf.broker_connection_retry_on_startup = True
LIMIT = 30


@app.task
def add(a, b):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def stubborn(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task
def fail():
    raise ValueError("on purpose")


def main():
    from app_celery import add, fail, stubborn, total  # by the names that the worker knows
    words = ["-A", "app_celery", "worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "ERROR", "--without-mingle"]
    worker = subprocess.Popen([sys.executable, "-m", "celery", *words], stdout=sys.stderr)
    try:
        say("one", add.delay(2, 3).get(LIMIT))
        say("chain", chain(add.s(1, 2), add.s(10), add.s(100))().get(LIMIT))
        say("group", group(add.s(i, i) for i in range(20))().get(LIMIT))
        say("chord", chord([add.s(i, i) for i in range(20)])(total.s()).get(LIMIT))
        say("retries", stubborn.delay().get(LIMIT))
        say("failure", repr(fail.delay().get(LIMIT, propagate=False)))
        say("later", add.apply_async((4, 4), countdown=1).get(LIMIT))
        say("ping", [next(iter(answer.values())) for answer in app.control.ping(timeout=2)])
    finally:
        worker.terminate()
        worker.wait(20)
    say("ended", worker.returncode)


def say(name, result):
    print(f"{name}\t{json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
