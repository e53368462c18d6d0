//! The fuzz targets for files, run for a bounded time on damaged copies of real ones: nothing panics, and nothing takes
//! memory that the bytes do not justify (the process may have two gigabytes of address space more, no further).
//!
//! `FUZZ_SECONDS=3600 cargo test --test fuzz_files` runs longer; the seed of a failure is in its message.

mod support;

use nix::sys::resource::{Resource, setrlimit};
use rsredis::persistence::fuzzing;
use std::fs;
use std::time::{Duration, Instant};
use support::{Reply, Server};

/// A small generator, so that a failure can be repeated from its seed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Damages a file in a few places, each in one of the ways in which lengths, types and counts go wrong.
fn damage(file: &[u8], others: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=noise.below(4) {
        let at = noise.below(bytes.len());
        match noise.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << noise.below(8),
            2 => bytes[at] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xfe, 0xff][noise.below(11)],
            3 => bytes[at] = noise.next() as u8,
            4 => drop(bytes.drain(at..(at + noise.below(9)).min(bytes.len()))),
            5 => {
                let piece: Vec<u8> = (0..noise.below(9)).map(|_| noise.next() as u8).collect();
                bytes.splice(at..at, piece);
            }
            6 => {
                let other = &others[noise.below(others.len())];
                let from = noise.below(other.len());
                let piece = &other[from..(from + noise.below(64)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                // A length of eight bytes, huge.
                let len = [0x81, 0, 0, 0, 1, 0, 0, 0, 0];
                bytes.splice(at..at, len);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'R');
        }
    }
    bytes
}

/// RDB files with and without compression, append-only files with and without preamble, payloads of DUMP.
type Files = Vec<Vec<u8>>;

fn real_files() -> (Files, Files, Files) {
    let (mut files, mut payloads, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
    for preamble in ["yes", "no"] {
        let args = ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--rdbcompression", preamble];
        let mut server = Server::start(&args);
        let mut client = server.client();
        for n in 0..40 {
            for line in [
                format!("RPUSH list element:{n} {n}"),
                format!("SADD ints {n} {}", n * 70000),
                format!("SADD words w{n} x"),
                format!("HSET hash f{n} {n}"),
                format!("ZADD zset {n}.5 m{n}"),
                format!("XADD stream {n}-1 f {n}"),
            ] {
                client.line(&line);
            }
        }
        for n in 0..300 {
            client.line(&format!("RPUSH biglist {:0>60}", n));
            client.line(&format!("SADD bigset member:{n}"));
            client.line(&format!("HSET bighash field:{n} {n}"));
            client.line(&format!("ZADD bigzset {n} member:{n}"));
        }
        for line in [
            "SET number 12345",
            "SET text hello EX 100000",
            "SETRANGE padded 300 x",
            "HPEXPIREAT hash 4102444800000 FIELDS 2 f1 f2",
            "HPEXPIREAT bighash 4102444800000 FIELDS 1 field:1",
            "PFADD hll a b c",
            "SAVE",
            "BGREWRITEAOF",
        ] {
            client.line(line);
        }
        support::wait_until("the rewrite is done", || server.info("aof_rewrite_in_progress") == "0");
        for line in ["MULTI", "INCR number", "SELECT 3", "LPUSH list x", "EXEC", "SET volatile x PX 100000"] {
            client.line(line);
        }
        for key in
            ["list", "ints", "words", "hash", "zset", "biglist", "bigset", "bighash", "bigzset", "text", "stream"]
        {
            if let Reply::Bulk(payload) = client.line(&format!("DUMP {key}")) {
                payloads.push(payload);
            }
        }
        server.terminate();
        files.push(fs::read(server.dir().join("dump.rdb")).expect("SAVE has written it"));
        for entry in fs::read_dir(server.dir().join("appendonlydir")).expect("its files") {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("readable");
            if path.extension().is_some_and(|end| end == "manifest") {
                manifests.push(bytes)
            } else {
                files.push(bytes)
            }
        }
    }
    (files, payloads, manifests)
}

#[test]
fn damaged_files_do_no_harm() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let (files, payloads, manifests) = real_files();
    files.iter().for_each(|file| fuzzing::load(file));
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').next().and_then(|text| text.parse().ok()).expect("a size");
    let limit = pages * 4096 + (2 << 30);
    setrlimit(Resource::RLIMIT_AS, limit, limit).expect("a limit below the present one");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0u64;
    while Instant::now() < end {
        for _ in 0..50 {
            runs += 1;
            let mut noise = Noise(runs.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let file = damage(&files[noise.below(files.len())], &files, &mut noise);
            let payload = damage(&payloads[noise.below(payloads.len())], &payloads, &mut noise);
            let manifest = damage(&manifests[noise.below(manifests.len())], &manifests, &mut noise);
            let result = std::panic::catch_unwind(|| {
                fuzzing::rdb(&file);
                fuzzing::restore(&payload);
                fuzzing::manifest(&manifest);
                if runs.is_multiple_of(10) {
                    fuzzing::load(&file);
                }
            });
            assert!(result.is_ok(), "run {runs}");
        }
    }
    assert!(runs >= 500, "only {runs} runs");
    eprintln!("{runs} damaged files");
}
