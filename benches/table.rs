//! The key table and its records, one shard, no locks.

use criterion::{Criterion, Throughput};
use rsredis::engine::keyspace::{Db, Locked, NewExpiry};
use std::hint::black_box;

const KEYS: usize = 1 << 20;

fn key(number: usize) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let text = format!("{number:012}");
    key[4..].copy_from_slice(text.as_bytes());
    key
}

fn filled(keys: usize) -> Db {
    let mut db = Db::default();
    for number in 0..keys {
        let key = key(number);
        db.set_string(Locked::hash(&key), &key, &[b'v'; 64], NewExpiry::Clear, 0);
    }
    db
}

pub fn table(criterion: &mut Criterion) {
    let keys: Vec<([u8; 16], u64)> = (0..KEYS).map(|number| (key(number), Locked::hash(&key(number)))).collect();
    let mut db = filled(KEYS);
    let mut group = criterion.benchmark_group("table of 1 Mi keys");
    group.throughput(Throughput::Elements(1));
    let mut at = 0;
    // A stride that visits every key in an order no prefetcher guesses.
    let mut next = move || {
        at = (at + 611_953) % KEYS;
        at
    };
    group.bench_function("find", |bencher| {
        bencher.iter(|| {
            let (key, hash) = &keys[next()];
            black_box(db.find(*hash, key).is_some())
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            let (_, hash) = &keys[next()];
            black_box(db.find(hash.wrapping_add(1), b"nosuchkey").is_some())
        });
    });
    group.bench_function("overwrite", |bencher| {
        bencher.iter(|| {
            let (key, hash) = &keys[next()];
            db.set_string(*hash, key, &[b'w'; 64], NewExpiry::Clear, 0)
        });
    });
    group.bench_function("remove and insert", |bencher| {
        bencher.iter(|| {
            let (key, hash) = &keys[next()];
            drop(db.remove(*hash, key));
            db.set_string(*hash, key, &[b'w'; 64], NewExpiry::Clear, 0)
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("growth");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("100 000 new keys", |bencher| bencher.iter(|| black_box(filled(100_000).len())));
    group.finish();
}
