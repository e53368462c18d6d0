//! Requests in, replies out: bytes per second of the codec alone.

use crate::push;
use criterion::{Criterion, Throughput};
use rsredis::resp::{Batch, Limits, Reply, RequestParser};
use std::hint::black_box;

const LIMITS: Limits = Limits { bulk_len_max: 512 << 20, authenticated: true };

pub fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse 32 requests");
    let value = [b'x'; 64];
    for (name, words) in [
        ("GET", vec![b"GET".as_slice(), b"key:000000000001"]),
        ("SET", vec![b"SET", b"key:000000000001", &value]),
        ("MGET 10", [b"MGET".as_slice()].into_iter().chain([b"key:000000000001".as_slice(); 10]).collect()),
    ] {
        let mut buffer = Vec::new();
        for _ in 0..32 {
            push(&mut buffer, &words);
        }
        let (mut parser, mut batch) = (RequestParser::default(), Batch::default());
        group.throughput(Throughput::Elements(32));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                batch.clear();
                parser.parse(black_box(&mut buffer), 0, 32, LIMITS, &mut batch).expect("well-formed")
            });
        });
    }
    group.finish();
}

pub fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write a reply");
    let mut reply = Reply::default();
    group.bench_function("ok", |bencher| {
        bencher.iter(|| {
            reply.truncate(0);
            reply.ok();
            black_box(reply.len())
        });
    });
    group.bench_function("bulk 64", |bencher| {
        bencher.iter(|| {
            reply.truncate(0);
            reply.bulk(black_box(&[b'x'; 64]));
            black_box(reply.len())
        });
    });
    group.bench_function("integer", |bencher| {
        bencher.iter(|| {
            reply.truncate(0);
            reply.integer(black_box(1_234_567));
            black_box(reply.len())
        });
    });
    group.finish();
}
