//! Threads on shared shards: the time of one batch when others run theirs, on many keys and on a single one.

use crate::commands::{Bench, batches};
use criterion::{Criterion, Throughput};
use rsredis::resp::Batch;
use std::sync::atomic::{AtomicBool, Ordering};

pub fn contention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("contention, batches of 32");
    group.throughput(Throughput::Elements(32));
    for (name, line) in [("many keys", "SET K V"), ("one key", "SET hot V")] {
        for others in [0, 1, 3] {
            let server = Bench::server();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..others {
                    scope.spawn(|| {
                        let (mut bench, mut batch) = (Bench::new(server), Batch::default());
                        let mut prepared = batches(line);
                        while !stop.load(Ordering::Relaxed) {
                            for buffer in &mut prepared {
                                bench.run(buffer, &mut batch);
                            }
                        }
                    });
                }
                let (mut bench, mut batch) = (Bench::new(server), Batch::default());
                let mut prepared = batches(line);
                let mut at = 0;
                group.bench_function(format!("{name}, {others} others"), |bencher| {
                    bencher.iter(|| {
                        at = (at + 1) % prepared.len();
                        bench.run(&mut prepared[at], &mut batch)
                    });
                });
                stop.store(true, Ordering::Relaxed);
            });
        }
    }
    group.finish();
}
