//! Whole batches through dispatch, without sockets: what a command costs between parsing and the reply bytes.

use crate::push;
use criterion::{Criterion, Throughput};
use rsredis::base::clock;
use rsredis::resp::{Batch, Limits, Reply, RequestParser};
use rsredis::server::clients::Client;
use rsredis::server::config::ConfigStore;
use rsredis::server::dispatch::{self, MaySettle};
use rsredis::server::table::CommandTable;
use rsredis::server::{Server, Session, Worker, commands as session_commands, config};
use std::hint::black_box;
use std::sync::Arc;

const BATCH: usize = 32;
const KEYS: usize = 100_000;

pub struct Bench {
    worker: Worker,
    session: Session,
    reply: Reply,
}

impl Bench {
    pub fn new(server: &'static Server) -> Bench {
        let id = server.clients.next_id();
        let client = Arc::new(Client::new(id, "bench".into(), "bench".into(), -1, clock::unix_ms()));
        Bench { worker: Worker::new(server), session: Session::new(client, true), reply: Reply::default() }
    }

    pub fn server() -> &'static Server {
        let table = CommandTable::leak(rsredis::commands::FAMILIES, session_commands::FAMILIES);
        Server::leak(ConfigStore::new(config::defaults().clone()), table, None, clock::unix_ms())
    }

    /// Parses and runs one prepared batch.
    pub fn run(&mut self, buffer: &mut [u8], batch: &mut Batch) -> usize {
        let limits = Limits { bulk_len_max: 512 << 20, authenticated: true };
        batch.clear();
        RequestParser::default().parse(buffer, 0, BATCH, limits, batch).expect("well-formed");
        self.reply.truncate(0);
        let (worker, session, reply) = (&mut self.worker, &mut self.session, &mut self.reply);
        black_box(dispatch::run_batch(worker, session, batch, buffer, reply, MaySettle::Yes));
        self.reply.len()
    }
}

/// Prepared batches of a command; `K` stands for a key of the many, `M` for a member, `V` for a value of 64 bytes.
pub fn batches(line: &str) -> Vec<Vec<u8>> {
    let mut number = 0usize;
    let mut next = || {
        number = (number + 61_953) % KEYS;
        number
    };
    let one = |next: &mut dyn FnMut() -> usize| {
        let words: Vec<Vec<u8>> = line
            .split(' ')
            .map(|word| match word {
                "K" => format!("key:{:012}", next()).into_bytes(),
                "M" => format!("member:{:09}", next()).into_bytes(),
                "N" => next().to_string().into_bytes(),
                "V" => vec![b'v'; 64],
                other => other.as_bytes().to_vec(),
            })
            .collect();
        words
    };
    (0..512)
        .map(|_| {
            let mut buffer = Vec::new();
            for _ in 0..BATCH {
                let words = one(&mut next);
                push(&mut buffer, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            buffer
        })
        .collect()
}

pub fn commands(criterion: &mut Criterion) {
    let server = Bench::server();
    let mut bench = Bench::new(server);
    let mut batch = Batch::default();
    for mut buffer in batches("SET K V") {
        bench.run(&mut buffer, &mut batch);
    }
    let mut group = criterion.benchmark_group("commands in batches of 32");
    group.throughput(Throughput::Elements(BATCH as u64));
    for line in [
        "PING",
        "GET K",
        "SET K V",
        "INCR counter:M",
        "EXPIRE K 1000",
        "HSET hash M V",
        "HGET hash M",
        "RPUSH list V",
        "LPOP list",
        "SADD set M",
        "ZADD zset N M",
        "ZSCORE zset M",
        "ZRANK zset M",
        "MGET K K K K K K K K K K",
    ] {
        let name = line.split(' ').next().unwrap_or(line);
        // The table grows with the server; what it does not know yet is left out.
        if server.table.find(name.as_bytes()).is_none() {
            continue;
        }
        let mut prepared = batches(line);
        let mut at = 0;
        group.bench_function(line, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % prepared.len();
                bench.run(&mut prepared[at], &mut batch)
            });
        });
    }
    group.finish();
}
