// A job queue with BullMQ: workers, retries, delays, priorities, flows, repeated jobs, events. A program of scripts/clients.py.
'use strict';
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');
const { check, main, site, until } = require('./check.js');

const connection = { port: site.port, host: '127.0.0.1', maxRetriesPerRequest: null };
const queue = (name) => new Queue(name, { connection });
const worker = (name, body, options = {}) => new Worker(name, body, { connection, ...options });

check('jobs and results', async () => {
  const [jobs, events] = [queue('jobs'), new QueueEvents('jobs', { connection })];
  await events.waitUntilReady();
  const square = worker('jobs', async (job) => job.data.n ** 2, { concurrency: 5 });
  const added = await jobs.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'square', data: { n } })));
  const results = await Promise.all(added.map((job) => job.waitUntilFinished(events, 20000)));
  await Promise.all([square.close(), events.close()]);
  return [results, await jobs.getJobCounts('completed', 'failed', 'waiting', 'active')];
});

check('retries and failures', async () => {
  const jobs = queue('failing');
  const tries = [];
  const failing = worker('failing', async (job) => {
    tries.push([job.name, job.attemptsMade]);
    if (job.name === 'never' || job.attemptsMade < 2) throw new Error('on purpose');
    return 'at last';
  });
  const [third, never] = [await jobs.add('third', {}, { attempts: 3, backoff: 10 }), await jobs.add('never', {}, { attempts: 2 })];
  await until('both are over', async () => (await third.isCompleted()) && (await never.isFailed()));
  await failing.close();
  const failed = await jobs.getJob(never.id);
  return [tries.sort(), failed.failedReason, failed.attemptsMade, (await jobs.getJob(third.id)).returnvalue];
});

check('priorities and delays', async () => {
  const jobs = queue('order');
  await jobs.pause();
  await jobs.add('late', {}, { delay: 300 });
  for (const priority of [3, 1, 2]) await jobs.add(`p${priority}`, {}, { priority });
  await jobs.add('plain', {});
  await jobs.add('last in, first out', {}, { lifo: true });
  const counts = await jobs.getJobCounts('delayed', 'prioritized', 'paused', 'waiting');
  await jobs.resume();
  const order = [];
  const one = worker('order', async (job) => { order.push(job.name); });
  await until('all are done', async () => order.length === 6);
  await one.close();
  return [counts, order];
});

check('flows', async () => {
  const flow = new FlowProducer({ connection });
  const children = worker('children', async (job) => job.data.n * 10);
  let sum;
  const parent = worker('parent', async (job) => {
    sum = Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
    return sum;
  });
  const tree = await flow.add({ name: 'sum', queueName: 'parent', children: [1, 2, 3].map((n) => ({ name: 'child', data: { n }, queueName: 'children' })) });
  await until('the parent is done', async () => tree.job.isCompleted());
  await Promise.all([children.close(), parent.close(), flow.close()]);
  return sum;
});

check('repeated jobs and limits', async () => {
  const jobs = queue('repeated');
  await jobs.upsertJobScheduler('tick', { every: 100, limit: 3 }, { name: 'tick' });
  let ticks = 0;
  const ticking = worker('repeated', async () => { ticks += 1; }, { limiter: { max: 10, duration: 100 } });
  await until('it has ticked', async () => ticks === 3);
  const schedulers = (await jobs.getJobSchedulers()).length;
  await jobs.removeJobScheduler('tick');
  await ticking.close();
  await jobs.obliterate({ force: true });
  return [schedulers > 0 || ticks === 3, await jobs.getJobCounts('completed', 'delayed', 'waiting')];
});

check('a stalled job is taken again', async () => {
  const jobs = queue('stalled');
  const job = await jobs.add('stuck', {});
  const dead = worker('stalled', () => new Promise(() => {}), { lockDuration: 300, stalledInterval: 200, lockRenewTime: 100000 });
  await until('it runs', async () => job.isActive());
  await dead.close(true);
  const heir = worker('stalled', async () => 'by the heir', { lockDuration: 5000, stalledInterval: 200 });
  await until('the heir has done it', async () => job.isCompleted());
  await heir.close();
  return (await jobs.getJob(job.id)).returnvalue;
});

main();
