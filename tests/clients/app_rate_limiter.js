// Rate limits with rate-limiter-flexible over ioredis: points, blocks, bursts, queues, many processes. A program of scripts/clients.py.
'use strict';
const Redis = require('ioredis');
const { BurstyRateLimiter, RateLimiterQueue, RateLimiterRedis } = require('rate-limiter-flexible');
const { check, main, site, sleep } = require('./check.js');

const redis = new Redis(site.port);
const limiter = (options) => new RateLimiterRedis({ storeClient: redis, ...options });
/** How often of n times it was allowed, and what was left at the end. */
async function take(limit, key, n, points = 1) {
  const results = [];
  for (let i = 0; i < n; i++) {
    const outcome = await limit.consume(key, points).catch((refused) => { if (refused instanceof Error) throw refused; return refused; });
    results.push([outcome.consumedPoints, outcome.remainingPoints]);
  }
  return results;
}

check('points', async () => {
  const limit = limiter({ points: 5, duration: 60, keyPrefix: 'points' });
  const taken = await take(limit, 'user', 7);
  await limit.penalty('other', 3);
  await limit.reward('other', 1);
  return [taken, await take(limit, 'other', 2, 2), (await limit.get('user')).consumedPoints, await limit.delete('user'), await limit.get('user')];
});

check('a window passes', async () => {
  const limit = limiter({ points: 1, duration: 1, keyPrefix: 'window' });
  const first = await take(limit, 'user', 2);
  await sleep(1100);
  return [first, await take(limit, 'user', 1)];
});

check('blocking', async () => {
  const limit = limiter({ points: 1, duration: 1, blockDuration: 60, keyPrefix: 'block' });
  await take(limit, 'user', 2);
  const left = await redis.pttl('block:user');
  await limit.block('banned', 30);
  return [left > 55000 && left <= 60000, (await limit.get('banned')).remainingPoints, await take(limit, 'banned', 1)];
});

check('many at once', async () => {
  const limit = limiter({ points: 100, duration: 60, keyPrefix: 'many', useRedis3AndLowerPackage: false });
  const outcomes = await Promise.allSettled(Array.from({ length: 300 }, () => limit.consume('user')));
  return outcomes.filter(({ status }) => status === 'fulfilled').length;
});

check('bursts and queues', async () => {
  const bursty = new BurstyRateLimiter(limiter({ points: 2, duration: 60, keyPrefix: 'steady' }), limiter({ points: 3, duration: 60, keyPrefix: 'burst' }));
  const allowed = (await Promise.allSettled(Array.from({ length: 8 }, () => bursty.consume('user')))).filter(({ status }) => status === 'fulfilled').length;
  const queue = new RateLimiterQueue(limiter({ points: 2, duration: 1, keyPrefix: 'queue' }));
  const begun = Date.now();
  for (let i = 0; i < 4; i++) await queue.removeTokens(1);
  return [allowed, Date.now() - begun >= 500];
});

check('in-memory insurance is not needed', async () => {
  const limit = limiter({ points: 3, duration: 60, keyPrefix: 'insured', insuranceLimiter: limiter({ points: 1, duration: 60, keyPrefix: 'other' }) });
  return [await take(limit, 'user', 3), await redis.exists('other:user')];
});

main();
