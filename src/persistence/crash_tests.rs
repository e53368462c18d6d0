//! The append-only file on a disk that loses power, tears writes and runs full: whatever the moment, a restart finds a
//! beginning of the history that holds every write that was acknowledged, each transaction whole.
//!
//! The test is the only thread: it writes, lets the writer take a step, rewrites; the disk fails at an operation chosen
//! beforehand, also in the middle of a rotation, a rewrite or a recovery.

use super::aof::Aof;
use super::aof_load::{self, Place};
use super::aof_rewrite::{self, Cut};
use super::aof_writer::Writer;
use super::startup;
use super::storage::Storage;
use super::storage::crashing::CrashingDisk;
use crate::base::random::Random;
use crate::engine::keyspace::Locked;
use crate::engine::value::{StringRef, ValueRef};
use crate::resp::{OwnedArgs, Reply};
use crate::server::clients::Client;
use crate::server::config::{Appendfsync, Config, ConfigStore};
use crate::server::table::CommandTable;
use crate::server::{Server, Session, Worker, dispatch};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

const DIR: &str = "/appendonlydir";

fn new_server(appendfsync: Appendfsync, rdb_preamble: bool) -> &'static Server {
    static TABLE: OnceLock<&'static CommandTable> = OnceLock::new();
    let table = TABLE.get_or_init(|| CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES));
    let config = Config { appendonly: true, appendfsync, aof_use_rdb_preamble: rdb_preamble, ..Config::default() };
    Server::leak(ConfigStore::new(config), table, None, 0)
}

/// A server on such a disk, with one client.
struct Life {
    server: &'static Server,
    aof: &'static Aof,
    writer: Writer<'static>,
    worker: Worker,
    session: Session,
    /// Elements that the list holds.
    written: u64,
    /// Offset of the journal behind each element.
    ends: Vec<u64>,
}

impl Life {
    /// Starts as the process does: loads what is there, then follows.
    fn start(disk: &'static CrashingDisk, appendfsync: Appendfsync, rdb_preamble: bool) -> Life {
        let server = new_server(appendfsync, rdb_preamble);
        let (dir, stem) = (Path::new(DIR), server.config.current().appendfilename.clone());
        let manifest = startup::read_manifest(disk, dir, &stem).expect("a sound manifest");
        let place = Place { storage: disk, dir };
        startup::redo(place, &stem, &manifest).expect("a disk with room");
        aof_load::load_all(server, place, &manifest).expect("files that can be loaded");
        let aof: &'static Aof = Box::leak(Box::new(Aof::new(server, disk, dir.to_owned(), manifest)));
        aof.open_at_start().expect("room on the disk");
        let worker = Worker::new(server);
        let client = Client::new(1, String::new(), String::new(), -1, worker.now_ms);
        let session = Session::new(Arc::new(client), true);
        let mut life = Life { server, aof, writer: Writer::new(aof), worker, session, written: 0, ends: Vec::new() };
        life.written = life.check_list();
        life
    }

    /// The list must hold 0, 1, 2 … and the counter, which transactions raise with it, must agree.
    fn check_list(&self) -> u64 {
        let locked = self.server.keyspace.lock_all();
        let find = |key: &[u8]| locked.db(Locked::hash(key), 0).and_then(|db| db.find(Locked::hash(key), key));
        let mut count = 0;
        if let Some(ValueRef::List(list)) = find(b"log").map(|record| record.value()) {
            list.for_each(|element| {
                assert_eq!(element.to_vec(), count.to_string().into_bytes(), "a write is missing or doubled");
                count += 1;
            });
        }
        let counted = match find(b"count").map(|record| record.value()) {
            Some(ValueRef::String(StringRef::Int(value))) => value as u64,
            _ => 0,
        };
        assert_eq!(counted, count, "half of a transaction");
        count
    }

    fn call(&mut self, words: &[&str]) {
        let args = OwnedArgs::new(words.iter().map(|word| word.as_bytes()));
        let mut reply = Reply::new(false);
        self.worker.refresh();
        dispatch::run_one(&mut self.worker, &mut self.session, args.as_args(), &mut reply);
        assert_ne!(reply.as_bytes().first(), Some(&b'-'), "{words:?}: {:?}", reply.as_bytes());
    }

    /// One element of the list, as a transaction or a script would write it.
    fn write(&mut self) {
        let number = self.written.to_string();
        self.call(&["MULTI"]);
        self.call(&["RPUSH", "log", &number]);
        self.call(&["PUBLISH", "channel", &number]);
        self.call(&["INCR", "count"]);
        self.call(&["EXEC"]);
        self.written += 1;
        self.ends.push(self.server.journal.end());
    }

    /// How many elements are acknowledged under `always`.
    fn acknowledged(&self, before: u64) -> u64 {
        let durable = self.server.journal.marks.durable();
        before + self.ends.iter().filter(|end| **end <= durable).count() as u64
    }
}

/// Lives one life until the power fails; returns the disk as the next one finds it, and how much was acknowledged by then.
fn live(disk: &'static CrashingDisk, random: &mut Random, policy: Appendfsync) -> (&'static CrashingDisk, u64) {
    disk.faults().until_crash.store(random.below(120) as i64, Ordering::Relaxed);
    let mut life = Life::start(disk, policy, random.below(2) == 0);
    let before = life.written;
    let mut acknowledged = before;
    let mut pending: Option<Cut> = None;
    loop {
        match random.below(20) {
            0..10 => life.write(),
            10..16 => {
                if policy != Appendfsync::Always && random.below(3) == 0 {
                    life.aof.sync_now.store(true, Ordering::Relaxed);
                }
                life.writer.step().expect("a disk with room");
            }
            16 if pending.is_none() => {
                pending = aof_rewrite::cut(life.aof, None, |aof, _| aof.rotate_here());
            }
            17 if life.aof.has_rotated() => {
                if let Some(cut) = pending.take() {
                    aof_rewrite::run(life.aof, &cut);
                }
            }
            _ => {}
        }
        if let Some(survivor) = disk.survivor() {
            return (survivor, acknowledged);
        }
        // Replies go out between two steps: what a step has made durable counts from its end on.
        acknowledged = life.acknowledged(before);
    }
}

#[test]
fn no_acknowledged_write_is_lost_whenever_the_power_fails() {
    for policy in [Appendfsync::Always, Appendfsync::No] {
        for seed in 0..if cfg!(miri) { 1 } else { 5 } {
            let mut random = Random::seeded(seed);
            let mut disk = CrashingDisk::leak();
            for _ in 0..6 {
                let (survivor, acknowledged) = live(disk, &mut random, policy);
                let found = Life::start(survivor, policy, true).written;
                assert!(found >= acknowledged, "seed {seed}: {found} of {acknowledged} acknowledged writes");
                disk = survivor;
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing_when_space_returns() {
    for policy in [Appendfsync::Always, Appendfsync::Everysec] {
        let disk = CrashingDisk::leak();
        let mut life = Life::start(disk, policy, true);
        life.write();
        life.writer.step().expect("room");
        disk.faults().room.store(70, Ordering::Relaxed);
        (0..3).for_each(|_| life.write());
        for _ in 0..3 {
            let error = life.writer.step().expect_err("no room");
            life.writer.report(&error);
        }
        assert_eq!(life.server.save_status.aof.write_error.load(Ordering::Relaxed), 28);
        assert!(life.server.save_status.is_alarmed());
        if policy == Appendfsync::Always {
            assert_eq!(life.acknowledged(0), 1, "an acknowledgement of what is not on disk");
        }
        // What was written of a command before the disk was full is not there any more.
        assert_eq!(Life::start(disk_image(disk), policy, true).written, 1);
        disk.faults().room.store(u64::MAX, Ordering::Relaxed);
        life.aof.sync_now.store(true, Ordering::Relaxed);
        life.writer.step().expect("room again");
        assert!(!life.server.save_status.is_alarmed());
        assert_eq!(life.acknowledged(0), 4);
        assert_eq!(Life::start(disk_image(disk), policy, true).written, 4);
    }
}

#[test]
fn nothing_is_written_behind_a_torn_command() {
    for policy in [Appendfsync::Always, Appendfsync::Everysec] {
        let disk = CrashingDisk::leak();
        let mut life = Life::start(disk, policy, true);
        life.write();
        disk.faults().room.store(50, Ordering::Relaxed);
        disk.faults().cut_fails.store(true, Ordering::Relaxed);
        life.writer.step().expect_err("no room");
        disk.faults().room.store(u64::MAX, Ordering::Relaxed);
        life.write();
        life.writer.step().expect_err("the torn command is still there");
        disk.faults().cut_fails.store(false, Ordering::Relaxed);
        life.writer.step().expect("the disk is well");
        assert_eq!(Life::start(disk_image(disk), policy, true).written, 2);
        // The same for what a sync that fails has to take back.
        life.write();
        disk.faults().sync_fails.store(true, Ordering::Relaxed);
        disk.faults().cut_fails.store(true, Ordering::Relaxed);
        life.aof.sync_now.store(true, Ordering::Relaxed);
        life.writer.step().expect_err("the sync fails");
        disk.faults().sync_fails.store(false, Ordering::Relaxed);
        if policy == Appendfsync::Always {
            life.writer.step().expect_err("it would be there twice");
        }
        disk.faults().cut_fails.store(false, Ordering::Relaxed);
        life.write();
        life.writer.step().expect("the disk is well");
        assert_eq!(Life::start(disk_image(disk), policy, true).written, 4);
    }
}

#[test]
fn a_sync_that_failed_is_not_believed_when_the_next_one_succeeds() {
    let disk = CrashingDisk::leak();
    let mut life = Life::start(disk, Appendfsync::Always, true);
    life.write();
    disk.faults().sync_fails.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let error = life.writer.step().expect_err("the sync fails");
        life.writer.report(&error);
        assert_eq!(life.acknowledged(0), 0);
    }
    assert!(life.server.save_status.is_alarmed());
    disk.faults().sync_fails.store(false, Ordering::Relaxed);
    life.writer.step().expect("the disk is well");
    assert_eq!(life.acknowledged(0), 1);
    assert!(!life.server.save_status.is_alarmed());
    life.write();
    life.writer.step().expect("the disk is well");
    assert_eq!(Life::start(disk_image(disk), Appendfsync::Always, true).written, 2);

    // Under everysec the kernel may have dropped what it could not write: a new base brings it back.
    let disk = CrashingDisk::leak();
    let mut life = Life::start(disk, Appendfsync::Everysec, true);
    life.write();
    life.aof.sync_now.store(true, Ordering::Relaxed);
    disk.faults().sync_fails.store(true, Ordering::Relaxed);
    let error = life.writer.step().expect_err("the sync fails");
    life.writer.report(&error);
    disk.faults().sync_fails.store(false, Ordering::Relaxed);
    life.writer.step().expect("the disk is well");
    assert!(!life.server.save_status.is_alarmed());
    assert!(life.server.save_status.aof.rewrite_scheduled.load(Ordering::Relaxed));
}

/// Pieces that are too long for the redo log, or for their buffer to be kept, are on disk when they are acknowledged, too.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn long_pieces_survive_a_power_cut() {
    for len in [100, 300, 1000, 200_000, 600_000, 1_500_000, 5_000_000] {
        let disk = CrashingDisk::leak();
        let mut life = Life::start(disk, Appendfsync::Always, true);
        life.write();
        life.writer.step().expect("room");
        life.write();
        life.writer.step().expect("room");
        life.call(&["RPUSH", "long", &"x".repeat(len)]);
        let end = life.server.journal.end();
        while life.server.journal.marks.durable() < end {
            life.writer.step().expect("room");
        }
        disk.faults().until_crash.store(0, Ordering::Relaxed);
        life.write();
        life.writer.step().expect("the disk goes on in vain");
        let again = Life::start(disk.survivor().expect("the power has failed"), Appendfsync::Always, true);
        let locked = again.server.keyspace.lock_all();
        let hash = Locked::hash(b"long");
        assert!(locked.db(hash, 0).and_then(|db| db.find(hash, b"long")).is_some(), "{len} bytes are lost");
    }
}

/// A rewrite on a disk that runs full at any of its steps: the files that are listed afterwards hold everything, also when the next
/// file begins.
#[test]
fn a_rewrite_that_runs_out_of_space_leaves_files_that_hold_everything() {
    for room in (0..600).step_by(if cfg!(miri) { 200 } else { 12 }) {
        let disk = CrashingDisk::leak();
        let mut life = Life::start(disk, Appendfsync::Everysec, true);
        life.write();
        let cut = aof_rewrite::cut(life.aof, None, |aof, _| aof.rotate_here()).expect("no other");
        life.write();
        while !life.aof.has_rotated() {
            life.writer.step().expect("room");
        }
        disk.faults().room.store(room, Ordering::Relaxed);
        aof_rewrite::run(life.aof, &cut);
        disk.faults().room.store(u64::MAX, Ordering::Relaxed);
        life.write();
        // Given up at once: what counts is the file that it begins.
        let cut = aof_rewrite::cut(life.aof, None, |aof, _| aof.rotate_here()).expect("no other");
        life.server.save_status.cancel();
        while !life.aof.has_rotated() {
            life.writer.step().expect("room");
        }
        aof_rewrite::run(life.aof, &cut);
        life.write();
        life.writer.step().expect("room");
        assert_eq!(Life::start(disk_image(disk), Appendfsync::Everysec, true).written, 4, "room for {room} bytes");
    }
}

/// A thread that pushes to its own list and waits for the file as connections do (`front::connection::hold`).
fn push_and_wait(aof: &'static Aof, key: &str, acknowledged: &AtomicU64, stop: &AtomicBool) {
    let mut worker = Worker::new(aof.server);
    let client = Client::new(1, String::new(), String::new(), -1, worker.now_ms);
    let mut session = Session::new(Arc::new(client), true);
    let (marks, waker) = (&aof.server.journal.marks, Waker::from(Arc::new(Unpark(std::thread::current()))));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        worker.refresh();
        let args = OwnedArgs::new(["RPUSH".as_bytes(), key.as_bytes(), number.to_string().as_bytes()]);
        dispatch::run_one(&mut worker, &mut session, args.as_args(), &mut Reply::new(false));
        let mark = aof.server.journal.end();
        while !marks.is_kept(mark) {
            aof.write_for_replies();
            if marks.wait(mark, &waker) {
                aof.write_for_replies();
                if !marks.is_kept(mark) {
                    std::thread::park();
                }
            }
        }
        number += 1;
        acknowledged.store(number, Ordering::Release);
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn list_len(server: &Server, key: &str) -> u64 {
    let locked = server.keyspace.lock_all();
    let hash = Locked::hash(key.as_bytes());
    let found = locked.db(hash, 0).and_then(|db| db.find(hash, key.as_bytes()));
    let Some(ValueRef::List(list)) = found.map(|record| record.value()) else { return 0 };
    let mut len = 0;
    list.for_each(|element| {
        assert_eq!(element.to_vec(), len.to_string().into_bytes(), "a write is missing or doubled");
        len += 1;
    });
    len
}

/// Several workers write one file, which goes on to new ones meanwhile, and is synced: whenever the process dies, what was acknowledged
/// is there, once and in order.
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn workers_that_write_side_by_side_lose_and_double_nothing() {
    const KEYS: [&str; 3] = ["list:0", "list:1", "list:2"];
    for policy in [Appendfsync::Everysec, Appendfsync::No] {
        let disk = CrashingDisk::leak();
        let mut life = Life::start(disk, policy, true);
        let aof = life.aof;
        let acknowledged = KEYS.map(|_| AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        let running = AtomicU64::new(KEYS.len() as u64);
        std::thread::scope(|scope| {
            for (key, count) in KEYS.iter().zip(&acknowledged) {
                let (stop, running) = (&stop, &running);
                scope.spawn(move || {
                    push_and_wait(aof, key, count, stop);
                    running.fetch_sub(1, Ordering::Release);
                });
            }
            let mut random = Random::seeded(7);
            for round in 0..120 {
                match random.below(8) {
                    0 => {
                        let _all = aof.server.keyspace.lock_all();
                        aof.rotate_here();
                    }
                    1 => aof.sync_now.store(true, Ordering::Relaxed),
                    _ => {}
                }
                life.writer.step().expect("a disk with room");
                if round % 30 == 29 {
                    let at_least = acknowledged.each_ref().map(|count| count.load(Ordering::Acquire));
                    let again = Life::start(disk_image(disk), policy, true);
                    for (key, at_least) in KEYS.iter().zip(at_least) {
                        let found = list_len(again.server, key);
                        assert!(found >= at_least, "{key}: {found} of {at_least} acknowledged writes");
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
            while running.load(Ordering::Acquire) > 0 {
                life.writer.step().expect("a disk with room");
            }
        });
        let again = Life::start(disk_image(disk), policy, true);
        for (key, count) in KEYS.iter().zip(&acknowledged) {
            assert_eq!(list_len(again.server, key), count.load(Ordering::Relaxed));
            assert!(count.load(Ordering::Relaxed) > 10, "there was hardly any load");
        }
    }
}

/// What is on the disk now, without a crash.
fn disk_image(disk: &CrashingDisk) -> &'static CrashingDisk {
    let image = CrashingDisk::leak();
    for path in disk.paths() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut disk.open(&path).expect("listed"), &mut content).expect("in memory");
        image.create(&path).and_then(|file| file.write(&content)).expect("in memory");
    }
    image
}
