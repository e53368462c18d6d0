//! The fuzz targets for files, run for a bounded time on damaged copies of real ones: nothing panics, and nothing takes
//! memory that the bytes do not justify (the process may have two gigabytes of address space more, no further).
//!
//! `FUZZ_SECONDS=3600 cargo test --test fuzz_files` runs longer; a failure names its run.

mod support;

use rsredis::persistence::fuzzing;
use std::fs;
use support::fuzz::{campaign, damage, limit_memory, resident_kb};
use support::{Reply, Server};

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
    let (files, payloads, manifests) = real_files();
    files.iter().for_each(|file| fuzzing::load(file));
    limit_memory();
    campaign("files", 300, |run, noise| {
        fuzzing::rdb(&damage(noise.pick(&files), &files, &[], noise));
        fuzzing::restore(&damage(noise.pick(&payloads), &payloads, &[], noise));
        fuzzing::manifest(&damage(noise.pick(&manifests), &manifests, &[], noise));
        if run.is_multiple_of(10) {
            fuzzing::load(&damage(noise.pick(&files), &files, &[], noise));
        }
    });
}

/// Words of the append-only file and of its manifest.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"*1\r\n",
    b"*3\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"$2147483647\r\n",
    b"*2147483647\r\n",
    b"*0\r\n",
    b"*1\r\n$5\r\nMULTI\r\n",
    b"*1\r\n$4\r\nEXEC\r\n",
    b"*1\r\n$7\r\nDISCARD\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$2\r\n15\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$2\r\n-1\r\n",
    b"*1\r\n$8\r\nFLUSHALL\r\n",
    b"#TS:1700000000\r\n",
    b"#TS:x\r\n",
    b"#\r\n",
    b"REDIS0011",
    b"*4\r\n$5\r\nBLPOP\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n0\r\n",
    b"*2\r\n$5\r\nWATCH\r\n$1\r\na\r\n",
];
const MANIFEST_WORDS: &[&[u8]] = &[
    b"file ",
    b"base.rdb",
    b"incr.aof",
    b" seq ",
    b" seq 0",
    b" type h\n",
    b" type i\n",
    b" type b\n",
    b"\n",
    b"\"",
    b"\\x",
    b"../",
    b"#",
];

#[test]
fn damaged_append_only_files_do_no_harm() {
    let (files, _, _) = real_files();
    let (bases, incrs): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.starts_with(b"REDIS"));
    assert!(!bases.is_empty() && incrs.iter().any(|file| file.len() > 1000));
    let sound =
        b"file base.rdb seq 1 type b\nfile one.incr.aof seq 1 type i\nfile two.incr.aof seq 2 type i\n".to_vec();
    limit_memory();
    campaign("append-only files", 60, |_, noise| {
        // Most runs damage one file, and little of it, so that the rest is reached.
        let which = noise.below(5);
        let base = noise.pick(&bases).to_vec();
        let parts = [noise.pick(&incrs).to_vec(), noise.pick(&incrs).to_vec()];
        let hurt = |is_hurt: bool, file: Vec<u8>, others: &[Vec<u8>], noise: &mut support::fuzz::Noise| {
            if is_hurt { damage(&file, others, WORDS, noise) } else { file }
        };
        let manifest = if which == 0 {
            damage(&sound, std::slice::from_ref(&sound), MANIFEST_WORDS, noise)
        } else {
            sound.clone()
        };
        let [one, two] = parts;
        let base = hurt(which == 1, base, &bases, noise);
        let one = hurt(which == 2 || which == 4, one, &incrs, noise);
        let two = hurt(which >= 3, two, &incrs, noise);
        fuzzing::append_only(&manifest, &[("base.rdb", &base), ("one.incr.aof", &one), ("two.incr.aof", &two)]);
    });
}

/// Each append-only file is loaded by a worker of its own, and its counters must not stay behind (DEBUG LOADAOF, a fuzzer's runs).
#[test]
fn loading_again_and_again_takes_no_more_memory() {
    let (files, _, _) = real_files();
    let (bases, incrs): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.starts_with(b"REDIS"));
    let manifest = b"file base.rdb seq 1 type b\nfile one.incr.aof seq 1 type i\n";
    let incr = incrs.iter().find(|file| !file.is_empty()).expect("what was written after the rewrite");
    let load = || fuzzing::append_only(manifest, &[("base.rdb", &bases[0]), ("one.incr.aof", incr)]);
    (0..30).for_each(|_| load());
    let before = resident_kb();
    (0..300).for_each(|_| load());
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 4096, "{grown} KB more after 300 loads");
}
