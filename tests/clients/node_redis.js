// node-redis doing everyday work, in RESP2 and RESP3: a program of scripts/clients.py.
'use strict';
const { createClient, createSentinel, createClientPool, RESP_TYPES } = require('redis');
const { assert, check, errorOf, main, site, sleep, until } = require('./check.js');

async function connect(RESP, options = {}) {
  const client = createClient({ RESP, ...options, socket: { port: site.port, host: '127.0.0.1', reconnectStrategy: false, ...options.socket } });
  client.on('error', () => {});
  return client.connect();
}

const clients = {};
for (const RESP of [2, 3]) {
  const on = (name, body) => check(`RESP${RESP} ${name}`, () => body(clients[RESP]));

  on('strings and collections', async (redis) => {
    await redis.set('k', 'v', { expiration: { type: 'EX', value: 100 } });
    await redis.hSet('h', { a: 1, b: 'two' });
    await redis.zAdd('z', [{ value: 'a', score: 1 }, { value: 'b', score: 2.5 }]);
    await redis.rPush('l', ['1', '2', '3']);
    await redis.xAdd('x', '1-1', { f: 'v' });
    return [await redis.get('k'), await redis.ttl('k'), await redis.set('k', 'w', { condition: 'NX' }), await redis.hGetAll('h'),
      await redis.zRangeWithScores('z', 0, -1), await redis.zScore('z', 'b'), await redis.lRange('l', 0, -1), await redis.xRange('x', '-', '+'),
      await redis.mGet(['k', 'none']), await redis.sIsMember('s', 'x'), await redis.hExists('h', 'a'), await redis.configGet('maxmemory')];
  });

  on('binary and big values', async (redis) => {
    const big = Buffer.alloc(4 << 20, Buffer.from([0, 255, 13, 10]));
    await redis.set('big', big);
    assert((await redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).get('big')).equals(big));
  });

  on('pipelines', async (redis) => {
    const replies = await Promise.all(Array.from({ length: 10000 }, () => redis.incr('n')));
    const mixed = await redis.multi().set('a', 1).ping().get('a').execAsPipeline();
    return [replies[0], replies[9999], mixed];
  });

  on('transactions', async (redis) => {
    const replies = await redis.multi().set('t', 1).incr('t').get('t').exec();
    const own = await connect(RESP);
    await own.watch('t');
    await redis.set('t', 'changed');
    const lost = await errorOf(own.multi().set('t', 'mine').exec());
    const wrong = await errorOf(redis.multi().set('t', 'x').lPush('t', 'x').exec());
    own.destroy();
    return [replies, lost, wrong, await redis.get('t')];
  });

  on('publish and subscribe', async (redis) => {
    const subscriber = await connect(RESP);
    const got = [];
    await subscriber.subscribe('one', (text, channel) => got.push([channel, text]));
    await subscriber.pSubscribe('t*', (text, channel) => got.push([channel, text]));
    await subscriber.sSubscribe('shard', (text, channel) => got.push([channel, text]));
    const counts = [await redis.publish('one', '1'), await redis.publish('two', '2'), await redis.sPublish('shard', '3')];
    await until('the messages are there', async () => got.length === 3);
    // RESP3 may do anything on a subscribed connection.
    const other = RESP === 3 ? await subscriber.set('while', 'subscribed') : 'OK';
    await subscriber.unsubscribe('one');
    subscriber.destroy();
    return [counts, got.sort(), other];
  });

  on('scripts and functions', async (redis) => {
    const sha = await redis.scriptLoad("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    const library = "#!lua name=lib\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)";
    return [sha, await redis.evalSha(sha, { keys: ['sc'], arguments: ['5'] }), await redis.eval('return {KEYS[1], ARGV[1], 3.9}', { keys: ['k'], arguments: ['v'] }),
      await redis.functionLoad(library, { REPLACE: true }), await redis.fCall('twice', { arguments: ['21'] }), await redis.functionFlush(),
      await errorOf(redis.eval("return redis.call('LPUSH', 'sc', 'x')"))];
  });

  on('blocking', async (redis) => {
    const waiter = await connect(RESP);
    const popped = waiter.blPop(['q1', 'q2'], 5);
    await sleep(50);
    await redis.rPush('q2', 'job');
    const least = waiter.bzPopMin('bz', 5);
    await sleep(50);
    await redis.zAdd('bz', { value: 'm', score: 1.5 });
    const result = [await popped, await least, await waiter.blPop('none', 0.05)];
    waiter.destroy();
    return result;
  });

  on('streams with groups', async (redis) => {
    await redis.xGroupCreate('jobs', 'g', '$', { MKSTREAM: true });
    await redis.xAdd('jobs', '5-1', { f: 'v' });
    return [await redis.xReadGroup('g', 'c', { key: 'jobs', id: '>' }), await redis.xPending('jobs', 'g'), await redis.xAck('jobs', 'g', '5-1')];
  });

  on('scanning', async (redis) => {
    await redis.mSet(Array.from({ length: 1000 }, (_, i) => [`s:${i}`, `${i}`]));
    const seen = new Set();
    for await (const keys of redis.scanIterator({ MATCH: 's:*', COUNT: 100 })) keys.forEach((key) => seen.add(key));
    return seen.size;
  });

  on('a pool', async () => {
    const pool = await createClientPool({ RESP, socket: { port: site.port } }).connect();
    const replies = await Promise.all(Array.from({ length: 500 }, () => pool.incr('pool')));
    pool.destroy();
    return Math.max(...replies);
  });

  on('tls', async (redis) => {
    const secure = await connect(RESP, { socket: { port: site.tlsPort, host: 'localhost', tls: true, ...site.tls() } });
    await secure.set('over', 'tls');
    secure.destroy();
    return redis.get('over');
  });

  on('acl', async (redis) => {
    await redis.aclSetUser('bob', ['on', '>pw', '~bob:*', '+get', '+set']);
    const bob = await connect(RESP, { username: 'bob', password: 'pw' });
    const result = [await bob.set('bob:k', 'v'), await errorOf(bob.get('other')), await errorOf(bob.del('bob:k')),
      await errorOf(connect(RESP, { username: 'bob', password: 'no' })), await redis.aclDelUser('bob')];
    bob.destroy();
    return result;
  });
}

check('client-side caching', async () => {
  const cached = await connect(3, { clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: 'LRU' } });
  await clients[2].set('cached', 'old');
  const before = [await cached.get('cached'), await cached.get('cached')];
  await clients[2].set('cached', 'new');
  await until('the invalidation is there', async () => (await cached.get('cached')) === 'new');
  cached.destroy();
  return before;
});

check('sentinel', async () => {
  const follower = createSentinel({ name: 'main', sentinelRootNodes: [{ host: '127.0.0.1', port: site.sentinelPort }], replicaPoolSize: 1 });
  follower.on('error', () => {});
  await follower.connect();
  await follower.set('before', '1');
  assert.equal(await clients[2].wait(1, 5000), 1);
  const read = await follower.get('before');
  const sentinel = await connect(2, { socket: { port: site.sentinelPort } });
  await sentinel.sendCommand(['SENTINEL', 'FAILOVER', 'main']);
  const port = () => follower.use((client) => client.info('server')).then((text) => Number(/tcp_port:(\d+)/.exec(text)[1]));
  await until('the client follows', async () => (await follower.set('after', '2')) && (await port()) === site.replicaPort);
  return [read, await follower.mGet(['before', 'after'])];
});

main(async () => {
  for (const RESP of [2, 3]) clients[RESP] ??= await connect(RESP);
  await clients[2].flushAll();
});
