// Sessions of a web application: express-session with connect-redis over node-redis. A program of scripts/clients.py.
'use strict';
const http = require('node:http');
const { RedisStore } = require('connect-redis');
const session = require('express-session');
const { createClient } = require('redis');
const { assert, check, main, site, sleep } = require('./check.js');

let client, store, base;

async function start() {
  client = await createClient({ socket: { port: site.port } }).connect();
  store = new RedisStore({ client, prefix: 'session:', ttl: 100 });
  const middleware = session({ store, secret: 'secret', resave: false, saveUninitialized: false, rolling: true, cookie: { maxAge: 100000 } });
  const routes = {
    '/login': (request) => { request.session.user = 'alice'; request.session.visits = 0; },
    '/visit': (request) => { if (request.session.user) request.session.visits += 1; },
    '/logout': (request) => new Promise((done) => request.session.destroy(done)),
  };
  const server = http.createServer((request, response) => middleware(request, response, async () => {
    await routes[request.url](request);
    response.end(JSON.stringify({ user: request.session?.user, visits: request.session?.visits }));
  }));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${server.address().port}`;
}

/** A browser: it keeps the cookie. */
function browser() {
  let cookie = '';
  return async (path) => {
    const response = await fetch(base + path, { headers: { cookie } });
    cookie = response.headers.get('set-cookie')?.split(';')[0] ?? cookie;
    return response.json();
  };
}

check('a session lives', async () => {
  const go = browser();
  const seen = [await go('/visit'), await go('/login'), await go('/visit'), await go('/visit')];
  const [key] = await client.keys('session:*');
  const ttl = await client.ttl(key);
  assert(ttl > 95 && ttl <= 100, `ttl ${ttl}`);
  return [seen, JSON.parse(await client.get(key)).visits, await go('/logout'), await go('/visit'), await client.dbSize()];
});

check('many at once', async () => {
  const browsers = Array.from({ length: 50 }, browser);
  await Promise.all(browsers.map((go) => go('/login')));
  for (let i = 0; i < 5; i++) await Promise.all(browsers.map((go) => go('/visit')));
  const last = await Promise.all(browsers.map((go) => go('/visit')));
  return [await store.length(), (await store.ids()).length, (await store.all()).length, last.every(({ visits }) => visits === 6)];
});

check('expiry', async () => {
  const [id] = await store.ids();
  await store.touch(id, { cookie: { expires: new Date(Date.now() + 1100) } });
  const before = (await store.get(id)).user;
  await sleep(2200);
  const after = (await store.get(id)) ?? null;
  await store.clear();
  return [before, after, await store.length()];
});

main(async () => { if (!client) await start(); });
