"""Rate limits with the library `limits`: fixed, moving and sliding windows, which are Lua scripts. A program of scripts/clients.py."""
import json
import os
import time

from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

storage = storage_from_string(f"redis://127.0.0.1:{os.environ['PORT']}")
for strategy in (FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter):
    limiter, limit = strategy(storage), parse("5/minute")
    # Windows begin with the minute of the server's clock: not in its last seconds.
    while time.time() % 60 > 55:
        time.sleep(0.5)
    taken = [limiter.hit(limit, strategy.__name__, "user") for _ in range(7)]
    left = limiter.get_window_stats(limit, strategy.__name__, "user").remaining
    heavy = [limiter.hit(limit, strategy.__name__, "heavy", cost=cost) for cost in (3, 3, 2)]
    limiter.clear(limit, strategy.__name__, "user")
    result = [taken, left, heavy, limiter.test(limit, strategy.__name__, "user")]
    short = parse("2/second")
    begun = time.time()
    spent = [limiter.hit(short, strategy.__name__, "short") for _ in range(2)]
    while not limiter.hit(short, strategy.__name__, "short"):
        time.sleep(0.02)
    result += [spent, time.time() - begun < 3]
    print(f"{strategy.__name__}\t{json.dumps(result)}", flush=True)
print(f"storage\t{json.dumps([storage.check(), storage.reset() is not None])}")
