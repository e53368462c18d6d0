// What the Node.js programs share: checks that print `name<TAB>result`, and the site (see scripts/clients.py).
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');

const number = (name) => Number(process.env[name]);
const site = {
  port: number('PORT'),
  tlsPort: number('TLS_PORT'),
  replicaPort: number('REPLICA_PORT'),
  sentinelPort: number('SENTINEL_PORT'),
  tls: () => ({
    ca: fs.readFileSync(process.env.CA),
    cert: fs.readFileSync(process.env.CERT),
    key: fs.readFileSync(process.env.KEY),
  }),
};

const checks = [];
const check = (name, body) => checks.push([name, body]);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The text with which a promise fails. */
async function errorOf(promise) {
  try {
    return `no error but ${await promise}`;
  } catch (error) {
    return error.message;
  }
}

/** Polls until the condition holds; errors count as no. */
async function until(what, condition, seconds = 25) {
  const deadline = Date.now() + seconds * 1000;
  while (!(await condition().catch(() => false))) {
    assert(Date.now() < deadline, `waited in vain until ${what}`);
    await sleep(50);
  }
}

/** Runs the checks one after another; `before` is called ahead of each. */
async function main(before = async () => {}) {
  let failed = false;
  for (const [name, body] of checks) {
    let result;
    try {
      await before();
      result = JSON.stringify(await body());
    } catch (error) {
      failed = true;
      result = 'FAILED';
      console.error(`${name}: ${error.stack}`);
    }
    console.log(`${name}\t${result}`);
  }
  process.exit(failed ? 1 : 0);
}

module.exports = { assert, check, errorOf, main, site, sleep, until };
