// ioredis doing everyday work: a program of scripts/clients.py.
'use strict';
const Redis = require('ioredis');
const { assert, check, errorOf, main, site, sleep, until } = require('./check.js');

const redis = new Redis(site.port);
const connect = (options = {}) => new Redis({ port: site.port, ...options });

check('strings', async () => {
  assert.equal(await redis.set('k', 'v', 'EX', 100), 'OK');
  assert.equal(await redis.set('k', 'w', 'NX'), null);
  return [await redis.get('k'), await redis.ttl('k'), await redis.incrby('n', 5), await redis.mget('k', 'none', 'n')];
});

check('binary and big values', async () => {
  const big = Buffer.alloc(4 << 20, Buffer.from([0, 255, 13, 10]));
  await redis.set('big', big);
  assert((await redis.getBuffer('big')).equals(big));
});

check('collections', async () => {
  await redis.hset('h', { a: 1, b: 'two' });
  await redis.zadd('z', 1, 'a', 2.5, 'b');
  await redis.rpush('l', 1, 2, 3);
  await redis.sadd('s', 'x');
  const id = await redis.xadd('x', '1-1', 'f', 'v');
  return [await redis.hgetall('h'), await redis.zrange('z', 0, -1, 'WITHSCORES'), await redis.lrange('l', 0, -1), await redis.smembers('s'),
    id, await redis.xrange('x', '-', '+'), await redis.geoadd('g', 13.4, 52.5, 'Berlin'), await redis.geopos('g', 'Berlin')];
});

check('pipelines', async () => {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 10000; i++) pipeline.set(`p:${i}`, i);
  pipeline.incr('l').lpush('p:1', 'x').get('p:9999');
  const replies = await pipeline.exec();
  assert.equal(replies.length, 10003);
  return replies.slice(-3).map(([error, reply]) => error?.message ?? reply);
});

check('auto pipelining', async () => {
  const own = connect({ enableAutoPipelining: true });
  const replies = await Promise.all(Array.from({ length: 1000 }, () => own.incr('auto')));
  own.disconnect();
  return [replies[0], replies[999]];
});

check('transactions', async () => {
  const replies = await redis.multi().set('t', 1).incr('t').lpush('t', 'x').get('t').exec();
  await redis.watch('t');
  await connect().set('t', 'changed');
  return [replies.map(([error, reply]) => error?.message ?? reply), await redis.multi().set('t', 'mine').exec(), await redis.get('t')];
});

check('publish and subscribe', async () => {
  const subscriber = connect();
  const got = [];
  subscriber.on('message', (channel, text) => got.push([channel, text]));
  subscriber.on('pmessage', (pattern, channel, text) => got.push([pattern, channel, text]));
  await subscriber.subscribe('one', 'two');
  await subscriber.psubscribe('t*');
  const counts = [await redis.publish('one', '1'), await redis.publish('two', '2'), await redis.publish('none', '3')];
  await until('the messages are there', async () => got.length === 3);
  await subscriber.unsubscribe('one', 'two');
  subscriber.disconnect();
  return [counts, got.sort()];
});

check('scripts', async () => {
  redis.defineCommand('addto', { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  await redis.script('FLUSH');
  return [await redis.addto('sc', 5), await redis.addto('sc', 5), await redis.eval('return {KEYS[1], ARGV[1], 3.9, false}', 1, 'k', 'v'),
    await errorOf(redis.eval("return redis.error_reply('MY error')", 0)), await errorOf(redis.evalsha('f'.repeat(40), 0))];
});

check('blocking', async () => {
  const waiter = connect();
  const popped = waiter.blpop('q1', 'q2', 5);
  await sleep(50);
  await redis.rpush('q2', 'job');
  const moved = waiter.blmove('q1', 'q3', 'LEFT', 'RIGHT', 5);
  await sleep(50);
  await redis.rpush('q1', 'other');
  return [await popped, await moved, await waiter.bzpopmin('none', 0.05)];
});

check('streams with groups', async () => {
  await redis.xgroup('CREATE', 'jobs', 'g', '$', 'MKSTREAM');
  const reading = connect().xreadgroup('GROUP', 'g', 'c', 'BLOCK', 5000, 'STREAMS', 'jobs', '>');
  await sleep(50);
  await redis.xadd('jobs', '5-1', 'f', 'v');
  return [await reading, await redis.xpending('jobs', 'g'), await redis.xack('jobs', 'g', '5-1')];
});

check('scanning', async () => {
  await redis.mset(...Array.from({ length: 1000 }, (_, i) => [`s:${i}`, i]).flat());
  const seen = new Set();
  for await (const keys of redis.scanStream({ match: 's:*', count: 100 })) keys.forEach((key) => seen.add(key));
  return seen.size;
});

check('tracking by redirection', async () => {
  const inbox = connect();
  const [reader, stale] = [connect(), []];
  const id = await inbox.client('ID');
  inbox.on('message', (channel, keys) => stale.push([channel, keys]));
  await inbox.subscribe('__redis__:invalidate');
  await reader.client('TRACKING', 'ON', 'REDIRECT', id);
  await reader.get('cached');
  await redis.set('cached', 'new');
  await until('the invalidation is there', async () => stale.length === 1);
  return stale.map(([channel, keys]) => [channel, String(keys)]);
});

check('tls', async () => {
  const secure = new Redis({ port: site.tlsPort, host: 'localhost', tls: site.tls() });
  await secure.set('over', 'tls');
  const foreign = new Redis({ port: site.tlsPort, host: 'localhost', tls: {}, retryStrategy: null, lazyConnect: true });
  foreign.on('error', () => {});
  return [await redis.get('over'), await errorOf(foreign.connect())];
});

check('acl', async () => {
  await redis.acl('SETUSER', 'bob', 'on', '>pw', '~bob:*', '+get', '+set', '+ping', '+info');
  const bob = connect({ username: 'bob', password: 'pw' });
  const wrong = connect({ username: 'bob', password: 'no', retryStrategy: null, lazyConnect: true });
  wrong.on('error', () => {});
  return [await bob.set('bob:k', 'v'), await errorOf(bob.get('other')), await errorOf(bob.del('bob:k')), await errorOf(wrong.connect().then(() => wrong.ping())),
    await redis.acl('DELUSER', 'bob')];
});

check('reconnecting', async () => {
  const own = connect({ connectionName: 'victim', maxRetriesPerRequest: 5 });
  const id = await own.client('ID');
  await redis.client('KILL', 'ID', id);
  await own.set('after', 'the kill');
  return [await own.get('after'), await own.client('GETNAME')];
});

check('sentinel', async () => {
  const sentinels = [{ host: '127.0.0.1', port: site.sentinelPort }];
  const primary = new Redis({ sentinels, name: 'main' });
  const replica = new Redis({ sentinels, name: 'main', role: 'slave' });
  await primary.set('before', 1);
  assert.equal(await primary.wait(1, 5000), 1);
  const read = await replica.get('before');
  await new Redis(site.sentinelPort).call('SENTINEL', 'FAILOVER', 'main');
  const port = (client) => client.info('server').then((text) => Number(/tcp_port:(\d+)/.exec(text)[1]));
  await until('the client follows', async () => (await primary.set('after', 2)) && (await port(primary)) === site.replicaPort);
  return [read, await primary.mget('before', 'after')];
});

main(async () => { await redis.flushall(); });
