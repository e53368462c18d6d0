#!/usr/bin/env python3
"""A client of redis-py that follows Sentinel: scripts/sentinel_client.py MASTER-NAME PORT... (run with .venv/bin/python).

Writes counter values to whoever is the primary until its standard input ends, each with WAIT 1. Then it reads back what
was acknowledged, from the primary of that time, and prints `acknowledged N lost M outage S` (seconds without a write).
"""
import select
import sys
import time

import redis
from redis.sentinel import Sentinel

name, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
sentinel = Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=0.5)
primary = sentinel.master_for(name, socket_timeout=0.5)

acknowledged, number = [], 0
last_success, outage = time.monotonic(), 0.0
print("writing", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    key = f"drill:{number}"
    try:
        # Both on one connection: WAIT speaks of the writes of its own.
        written, replicas = primary.pipeline(transaction=False).set(key, number).execute_command("WAIT", 1, 500).execute()
        if written and replicas >= 1:
            acknowledged.append(key)
        now = time.monotonic()
        outage = max(outage, now - last_success)
        last_success = now
    except redis.RedisError:
        time.sleep(0.02)
    time.sleep(0.002)

for _ in range(100):
    try:
        lost = [key for key in acknowledged if primary.get(key) is None]
        print(f"acknowledged {len(acknowledged)} lost {len(lost)} outage {outage:.2f}", flush=True)
        break
    except redis.RedisError:
        time.sleep(0.1)
