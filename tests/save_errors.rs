//! When a save cannot be written: Redis's refusals, nothing half-written left behind, and recovery. When it takes long: others go on.

mod support;

use std::fs;
use std::time::Duration;
use support::{Client, Reply, Server, wait_until};

fn temporary_files(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(server.dir()).expect("the server's directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("temp-")).collect()
}

#[test]
fn a_failed_bgsave_refuses_writes_until_one_succeeds() {
    let server = Server::start(&["--save", "3600", "1"]);
    let mut client = server.client();
    client.line("SET x 1");
    // A directory in the way of the file: the rename fails, whoever runs the test.
    fs::create_dir(server.dir().join("dump.rdb")).expect("a directory");
    client.line("BGSAVE");
    wait_until("the save has failed", || server.info("rdb_last_bgsave_status") == "err");
    let refused = client.line("SET x 2");
    assert!(refused.is_error("MISCONF Redis is configured to save RDB snapshots"), "{refused:?}");
    let in_script = client.call(&["EVAL", "return redis.call('set', 'x', 2)", "1", "x"]);
    assert!(in_script.is_error("MISCONF"), "{in_script:?}");
    assert_eq!(client.line("GET x"), Reply::Bulk(b"1".to_vec()));
    assert_eq!(temporary_files(&server), [] as [String; 0]);
    client.line("CONFIG SET stop-writes-on-bgsave-error no");
    assert!(client.line("SET x 3").is_ok());
    client.line("CONFIG SET stop-writes-on-bgsave-error yes");
    assert!(client.line("SET x 4").is_error("MISCONF"));
    fs::remove_dir(server.dir().join("dump.rdb")).expect("empty");
    client.line("BGSAVE");
    wait_until("the save has succeeded", || server.info("rdb_last_bgsave_status") == "ok");
    assert!(client.line("SET x 5").is_ok());
}

#[test]
fn a_shutdown_leaves_no_temporary_file_of_a_running_save() {
    let mut server = Server::start(&["--rdb-key-save-delay", "100000"]);
    let mut client = server.client();
    (0..50).for_each(|n| drop(client.line(&format!("SET key:{n} {n}"))));
    client.line("BGSAVE");
    wait_until("the temporary file is there", || !temporary_files(&server).is_empty());
    client.send(&["SHUTDOWN", "NOSAVE"]).expect("sent");
    server.await_exit();
    assert_eq!(temporary_files(&server), [] as [String; 0]);
}

/// Rewrites that are given up leave their INCR files in the manifest: together they still hold everything.
#[test]
fn rewrites_that_fail_add_up_to_the_same_data() {
    let mut server = Server::start(&["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]);
    let mut client = server.client();
    (0..20).for_each(|n| drop(client.line(&format!("SET key:{n} {n}"))));
    // In the way of the new base's temporary file.
    let obstacle = server.dir().join(format!("temp-rewriteaof-bg-{}.aof", server.pid()));
    fs::create_dir(&obstacle).expect("a directory");
    for n in 0..3 {
        client.line("BGREWRITEAOF");
        wait_until("the rewrite is over", || server.info("aof_rewrite_in_progress") == "0");
        assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
        assert_eq!(server.info("aof_rewrites_consecutive_failures"), (n + 1).to_string());
        client.line("INCR counter");
    }
    let manifest = || fs::read_to_string(server.dir().join("appendonlydir/appendonly.aof.manifest")).expect("manifest");
    // The writer goes on to a new file by itself, whatever becomes of the rewrite.
    wait_until("four files hold the commands", || manifest().matches("type i").count() == 4);
    fs::remove_dir(&obstacle).expect("empty");
    client.line("BGREWRITEAOF");
    wait_until("the rewrite is over", || server.info("aof_last_bgrewrite_status") == "ok");
    wait_until("the old files are gone", || manifest().lines().count() == 2);
    client.line("INCR counter");
    std::thread::sleep(Duration::from_millis(100));
    server.restart();
    let mut client = server.client();
    assert_eq!(client.line("GET counter"), Reply::Bulk(b"4".to_vec()));
    assert_eq!(client.line("DBSIZE"), Reply::Integer(21));
}

#[test]
fn the_file_can_be_turned_off_and_on_while_writes_go_on() {
    let mut server = Server::start(&["--appendfsync", "always"]);
    let mut client = server.client();
    client.line("SET before 1");
    for round in 0..3 {
        assert!(client.line("CONFIG SET appendonly yes").is_ok());
        (0..50).for_each(|n| drop(client.line(&format!("SET key:{round}:{n} {n}"))));
        wait_until("the first base is there", || {
            server.info("aof_rewrite_in_progress") == "0" && server.info("aof_rewrite_scheduled") == "0"
        });
        client.line("INCR rounds");
        if round < 2 {
            assert!(client.line("CONFIG SET appendonly no").is_ok());
            assert_eq!(server.info("aof_enabled"), "0");
            client.line("INCR rounds");
        }
    }
    server.kill();
    let args = ["--appendonly", "yes"];
    let again = Server::start_in(server.dir(), &args);
    let mut client = again.client();
    assert_eq!(client.line("GET rounds"), Reply::Bulk(b"5".to_vec()));
    assert_eq!(client.line("DBSIZE"), Reply::Integer(152));
}

/// A transaction's CONFIG REWRITE writes the settings of its place, when nothing is locked any more, and answers at its place.
#[test]
fn a_rewrite_of_the_configuration_inside_a_transaction_holds_nobody_up() {
    let dir = std::env::temp_dir().join(format!("rsredis-rewrite-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let conf = dir.join("redis.conf");
    fs::write(&conf, "maxclients 100\n").expect("writable");
    let port = support::server::free_port();
    let mut child = std::process::Command::new(support::server::binary())
        .arg(&conf)
        .args(["--port", &port.to_string(), "--save", "", "--io-threads", "2", "--dir", &dir.to_string_lossy()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the server binary");
    let connect = || Client::connect(port).expect("it listens");
    wait_until("it listens", || Client::connect(port).is_ok());
    let transaction: [&[&str]; 7] = [
        &["MULTI"],
        &["SET", "k", "1"],
        &["CONFIG", "SET", "maxclients", "101"],
        &["CONFIG", "REWRITE"],
        &["CONFIG", "SET", "maxclients", "102"],
        &["GET", "k"],
        &["EXEC"],
    ];
    let mut client = connect();
    let send = |client: &mut Client| {
        let (exec, queued) = transaction.split_last().expect("not empty");
        // By themselves: what has been answered in one go with EXEC would wait for it.
        queued.iter().for_each(|words| drop(client.call(words)));
        client.send(exec).expect("sent");
    };
    // Whoever reads the old file waits until somebody writes it.
    fs::remove_file(&conf).expect("there");
    nix::unistd::mkfifo(&conf, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    send(&mut client);
    // Half of the connections are served by the thread that waits for the file.
    let answers = (0..6).filter(|_| {
        let mut other = connect();
        other.read_timeout(Duration::from_millis(300));
        other.try_call(&["GET", "k"]).is_ok_and(|reply| reply == Reply::Bulk(b"1".to_vec()))
    });
    assert!(answers.count() >= 2, "a key of the transaction is locked");
    fs::write(&conf, "# mine\nmaxclients 100\n").expect("somebody reads");
    let replies = |reply: Reply| reply.items().iter().map(Reply::clone).collect::<Vec<_>>();
    let ok = || Reply::Status("OK".into());
    assert_eq!(replies(client.reply().expect("a reply")), [ok(), ok(), ok(), ok(), Reply::Bulk(b"1".to_vec())]);
    assert!(fs::read_to_string(&conf).expect("there").starts_with("# mine\nmaxclients 101\n"));
    // In the way of its temporary file.
    fs::create_dir(dir.join(format!("redis.conf.{}.tmp", child.id()))).expect("a directory");
    send(&mut client);
    let found = replies(client.reply().expect("a reply"));
    assert!(found[2].is_error("ERR Rewriting config file: Is a directory"), "{found:?}");
    assert_eq!((&found[3], &found[4]), (&ok(), &Reply::Bulk(b"1".to_vec())));
    let _ = client.try_call(&["SHUTDOWN", "NOSAVE"]);
    child.wait().expect("it has ended");
    fs::remove_dir_all(&dir).expect("removed");
}
