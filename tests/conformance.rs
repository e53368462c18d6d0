//! The conformance scripts of `tests/conformance/<group>/*.txt` (format: `support/script.rs`), each on a fresh server.
//!
//! `scripts/bless.sh FILE…` runs the same scripts against a stock redis-server and writes its replies into them, so the
//! reference is the oracle. `pending.txt` names the files that wait for a capability; they run, and are reported when they begin to pass.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::script::Script;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// `group/file` of every script that the environment's filter (`CONFORMANCE=part of a name`) lets through.
fn scripts() -> Vec<String> {
    let filter = std::env::var("CONFORMANCE").unwrap_or_default();
    let mut names: Vec<String> = fs::read_dir(root())
        .expect("tests/conformance")
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()))
        .flat_map(|group| fs::read_dir(group.path()).expect("a group").filter_map(Result::ok))
        .filter_map(|file| file.path().strip_prefix(root()).ok().map(|path| path.to_string_lossy().into_owned()))
        .filter_map(|name| name.strip_suffix(".txt").map(String::from))
        .filter(|name| filter.split(',').any(|part| name.contains(part)))
        .collect();
    names.sort();
    names
}

/// Files that may fail, each with the reason.
fn pending() -> BTreeMap<String, String> {
    fs::read_to_string(root().join("pending.txt"))
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(name, reason)| (name.into(), reason.trim().into()))
        .collect()
}

fn script(name: &str) -> Script {
    let path = root().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Script::parse(&format!("tests/conformance/{name}.txt"), &text).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn every_reply_is_redis_reply() {
    // Whoever names scripts wants to see their differences, pending or not.
    let pending = if std::env::var_os("CONFORMANCE").is_some() { BTreeMap::new() } else { pending() };
    let names = scripts();
    let mut failed = Vec::new();
    // Servers are cheap and scripts mostly wait: a few threads keep two cores busy.
    let results: Vec<(String, Vec<String>)> = in_parallel(&names, |name| script(name).check());
    for (name, differences) in results {
        match (differences.is_empty(), pending.get(&name)) {
            (true, None) => println!("{name}: passed"),
            (true, Some(_)) => println!("{name}: passed; take it off pending.txt"),
            (false, Some(reason)) => println!("{name}: {} differences, pending: {reason}", differences.len()),
            (false, None) => {
                println!("{name}: FAILED\n{}", differences.join("\n"));
                failed.push(format!("{name}: {} differences", differences.len()));
            }
        }
    }
    println!("{} scripts, {} failed", names.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Not a test: `scripts/bless.sh` calls it with a stock server as the binary.
#[test]
#[ignore = "rewrites the scripts from the replies of a stock server"]
fn bless() {
    assert!(support::server::is_stock(), "blessing needs RSREDIS_SERVER=…/redis-server");
    in_parallel(&scripts(), |name| {
        let blessed = script(name).blessed();
        fs::write(root().join(format!("{name}.txt")), blessed).expect("writable");
        println!("{name}: blessed");
    });
}

/// Not a test: takes the files that pass now off `pending.txt` (`scripts/bless.sh --pending`).
#[test]
#[ignore = "rewrites pending.txt"]
fn ratchet() {
    let text = fs::read_to_string(root().join("pending.txt")).unwrap_or_default();
    let pending: Vec<String> = pending().into_keys().collect();
    let passed: Vec<String> = in_parallel(&pending, |name| script(name).check())
        .into_iter()
        .filter(|(_, differences)| differences.is_empty())
        .map(|(name, _)| name)
        .collect();
    let left: Vec<&str> =
        text.lines().filter(|line| !passed.iter().any(|name| line.split_whitespace().next() == Some(name))).collect();
    fs::write(root().join("pending.txt"), left.join("\n") + "\n").expect("writable");
    println!("{} files pass now, {} pending", passed.len(), pending.len() - passed.len());
}

#[test]
fn pending_names_exist() {
    for name in pending().keys() {
        assert!(root().join(format!("{name}.txt")).exists(), "pending.txt names {name}, which is not there");
    }
}

fn in_parallel<T: Send>(names: &[String], work: impl Fn(&str) -> T + Sync) -> Vec<(String, T)> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            done.push((name.clone(), work(name)));
        }
        done
    };
    let mut results: Vec<(String, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the worker ends well")).collect()
    });
    results.sort_by(|one, other| one.0.cmp(&other.0));
    results
}
