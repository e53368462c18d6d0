"""A job queue with rq: jobs, results, failures with retries, dependencies and a delayed job. A program of scripts/clients.py."""
import json
import os
import time
from datetime import timedelta

import redis
from rq import Queue, Retry, SimpleWorker
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
from rq.scheduler import RQScheduler


def add(a, b):
    return a + b


def fail(text):
    raise ValueError(text)


def count_up(key):
    return redis.Redis(port=int(os.environ["PORT"])).incr(key)


def main():
    # rq finds a job's function by its module, which must not be __main__.
    import app_rq as tasks
    connection = redis.Redis(port=int(os.environ["PORT"]))
    queue = Queue("work", connection=connection)
    worker = SimpleWorker([queue], connection=connection, name="worker")

    jobs = [queue.enqueue(tasks.add, i, i) for i in range(20)]
    after = queue.enqueue(tasks.count_up, "after", depends_on=jobs[:5])
    say("queued", [len(queue), after.get_status()])
    worker.work(burst=True, logging_level="ERROR")
    say("results", [job.latest_result().return_value for job in jobs] + [after.latest_result().return_value])
    say("registries", [len(queue), FinishedJobRegistry(queue=queue).count])

    failing = queue.enqueue(tasks.fail, "on purpose", retry=Retry(max=2))
    worker.work(burst=True, logging_level="CRITICAL")
    say("failed", [failing.get_status(), failing.retries_left, FailedJobRegistry(queue=queue).get_job_ids() == [failing.id],
                   "ValueError: on purpose" in failing.latest_result().exc_string])

    later = queue.enqueue_in(timedelta(milliseconds=500), tasks.count_up, "later")
    say("scheduled", [later.get_status(), ScheduledJobRegistry(queue=queue).count])
    time.sleep(1.1)
    scheduler = RQScheduler([queue], connection=connection, logging_level="ERROR")
    scheduler.acquire_locks()
    scheduler.enqueue_scheduled_jobs()
    worker.work(burst=True, logging_level="ERROR")
    say("after its time", [later.get_status(refresh=True), later.latest_result().return_value])

    stopped = queue.enqueue(tasks.add, 1, 1)
    stopped.cancel()
    say("cancelled", [stopped.get_status(), len(queue)])
    say("keys", sorted({":".join(key.decode().split(":")[:2]) for key in connection.scan_iter("rq:*")}))


def say(name, result):
    print(f"{name}\t{json.dumps(result, default=str)}", flush=True)


if __name__ == "__main__":
    main()
