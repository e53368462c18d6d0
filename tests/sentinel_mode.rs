//! Sentinel mode of this binary: beside stock redis-sentinel in one quorum, in its place, and on its file.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::server::{binary, free_port};
use support::{Certs, Client, Reply, Server};

const NAME: &str = "mymaster";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    Ours,
    Stock,
}

struct Sentinel {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Sentinel {
    /// A sentinel with these lines behind the ones that all have.
    fn start(make: Make, lines: &str) -> Sentinel {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("rsredis-sentinel-mode-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        let text = format!("# of the test\nport {port}\ndir {}\nlogfile log\n{lines}", dir.display());
        std::fs::write(dir.join("sentinel.conf"), text).expect("a file");
        Sentinel::start_in(make, dir, port)
    }

    fn start_in(make: Make, dir: PathBuf, port: u16) -> Sentinel {
        let conf = dir.join("sentinel.conf");
        let mut command = match make {
            Make::Ours => Command::new(binary()),
            Make::Stock => Command::new("redis-sentinel"),
        };
        // Scripts get the environment of the sentinel.
        command.env("MARK", "of the test");
        command.arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if make == Make::Ours {
            command.arg("--sentinel");
        }
        let mut sentinel = Sentinel { child: command.spawn().expect("a sentinel"), port, dir };
        sentinel.wait("it answers", |sentinel| {
            assert!(matches!(sentinel.child.try_wait(), Ok(None)), "it has ended\n{}", sentinel.log());
            Client::connect(sentinel.port).and_then(|mut client| client.try_call(&["PING"])).is_ok()
        });
        sentinel
    }

    /// Stops it, and starts either binary on its file.
    fn restart(mut self, make: Make) -> Sentinel {
        self.stop();
        let (dir, port) = (self.dir.clone(), self.port);
        std::mem::forget(self);
        Sentinel::start_in(make, dir, port)
    }

    fn stop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("cannot connect: {error}\n{}", self.log()))
    }

    fn call(&self, words: &[&str]) -> Reply {
        self.client().call(words)
    }

    fn field(&self, name: &str) -> String {
        field(&self.call(&["SENTINEL", "MASTER", NAME]), name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.dir.join("sentinel.conf")).expect("its file")
    }

    fn wait(&mut self, what: &str, mut condition: impl FnMut(&mut Sentinel) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < LIMIT, "timed out waiting until {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_log(&mut self, text: &str) {
        self.wait(&format!("the log says {text:?}"), |sentinel| sentinel.log().contains(text));
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(45);

fn field(reply: &Reply, name: &str) -> String {
    let Reply::Array(fields) = reply else { return String::new() };
    let found = fields.chunks(2).find(|pair| pair[0].text() == name);
    found.map_or_else(String::new, |pair| pair[1].text())
}

fn watching(primary: u16, quorum: u32) -> String {
    format!(
        "sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\nsentinel down-after-milliseconds {NAME} 2000\n\
         sentinel failover-timeout {NAME} 8000\n"
    )
}

fn wait(what: &str, sentinels: &[Sentinel], mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > LIMIT {
            let logs: Vec<String> = sentinels.iter().map(Sentinel::log).collect();
            panic!("timed out waiting until {what}\n{}", logs.join("\n-- the next sentinel\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_acquaintance(sentinels: &[Sentinel], replicas: usize) {
    let (replicas, others) = (replicas.to_string(), (sentinels.len() - 1).to_string());
    wait("everybody knows everybody", sentinels, || {
        sentinels.iter().all(|sentinel| {
            sentinel.field("num-slaves") == replicas
                && sentinel.field("num-other-sentinels") == others
                && sentinel.field("flags") == "master"
        })
    });
}

fn wait_for_sync(replica: &Server) {
    wait("the replica is in sync", &[], || replica.info("master_link_status") == "up");
}

/// A server that follows another, with a file that Sentinel can have rewritten.
fn replica_of(primary: u16, stock: bool) -> Server {
    let port = primary.to_string();
    let args = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
    let replica = if stock { Server::start_stock(&args) } else { Server::start(&args) };
    wait_for_sync(&replica);
    replica
}

/// Two of ours and a stock one; a stock replica beside one of ours.
#[test]
fn a_mixed_quorum_fails_over_and_brings_the_old_primary_back() {
    let mut primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let replicas = [replica_of(primary.port(), false), replica_of(primary.port(), true)];
    let lines = watching(primary.port(), 2);
    let mut sentinels: Vec<Sentinel> =
        [Make::Ours, Make::Stock, Make::Ours].into_iter().map(|make| Sentinel::start(make, &lines)).collect();
    wait_for_acquaintance(&sentinels, 2);
    let mut listener = sentinels[0].client();
    listener.call(&["PSUBSCRIBE", "*"]);

    let old = primary.port();
    primary.kill();
    wait("all name a new primary", &sentinels, || {
        let named: Vec<String> = sentinels.iter().map(|sentinel| sentinel.field("port")).collect();
        named.iter().all(|port| *port == named[0] && *port != old.to_string())
    });
    let new = sentinels[0].field("port");
    let switch = format!("{NAME} 127.0.0.1 {old} 127.0.0.1 {new}");
    let mut heard = Vec::new();
    while !heard.iter().any(|(channel, text)| channel == "+switch-master" && *text == switch) {
        let message = listener.frame().expect("a message");
        let parts: Vec<String> = message.items().iter().map(Reply::text).collect();
        heard.push((parts[2].clone(), parts[3].clone()));
    }
    let said =
        |channel: &str, start: &str| heard.iter().any(|(known, text)| known == channel && text.starts_with(start));
    assert!(said("+sdown", &format!("master {NAME} 127.0.0.1 {old}")), "{heard:?}");
    // Either this one was the leader, or it has heard of the new configuration.
    let leads = said("+odown", &format!("master {NAME} 127.0.0.1 {old} #quorum "));
    assert!(leads || said("+config-update-from", "sentinel "), "{heard:?}");

    primary.restart();
    wait("the old primary follows", &sentinels, || {
        primary.info("role") == "slave"
            && primary.info("master_port") == new
            && primary.info("master_link_status") == "up"
    });
    let other = replicas.iter().find(|replica| replica.port().to_string() != new).expect("one is not promoted");
    wait("the other replica follows", &sentinels, || other.info("master_port") == new);

    // What is in the file is what stock reads, and the other way round.
    let epoch = sentinels[0].field("config-epoch");
    let id = sentinels[0].call(&["SENTINEL", "MYID"]).text();
    let ours = sentinels.remove(0).restart(Make::Stock);
    sentinels.insert(0, ours);
    let stock = sentinels.remove(1).restart(Make::Ours);
    sentinels.insert(1, stock);
    assert_eq!((sentinels[0].field("config-epoch"), sentinels[0].call(&["SENTINEL", "MYID"]).text()), (epoch, id));
    wait_for_acquaintance(&sentinels, 2);
    assert!(sentinels.iter().all(|sentinel| sentinel.field("port") == new));
    assert!(sentinels.iter().all(|sentinel| sentinel.file().starts_with("# of the test\n")));
}

/// Everything that does not depend on time is the same, byte by byte.
#[test]
fn replies_are_those_of_stock_sentinel() {
    let primary = Server::start(&[]);
    let _replica = replica_of(primary.port(), false);
    let lines = watching(primary.port(), 1) + "sentinel deny-scripts-reconfig no\n";
    let sentinels = [Make::Ours, Make::Stock].map(|make| Sentinel::start(make, &lines));
    wait_for_acquaintance(&sentinels, 1);
    let mut clients = sentinels.each_ref().map(Sentinel::client);
    for line in [
        "PING",
        "PING x",
        "GET key",
        "CONFIG GET port",
        "MULTI",
        "SELECT 0",
        "DEBUG sleep 0",
        "RESET",
        "ROLE",
        "AUTH x",
        "AUTH default x",
        "COMMAND COUNT",
        "CLIENT SETNAME me",
        "CLIENT GETNAME",
        "ACL WHOAMI",
        "PUBLISH other message",
        "PUBLISH __sentinel__:hello nonsense",
        "SENTINEL",
        "SENTINEL nonsense",
        "SENTINEL MASTERS x",
        "SENTINEL MASTER",
        "SENTINEL MASTER nobody",
        "SENTINEL REPLICAS nobody",
        "SENTINEL SLAVES nobody",
        "SENTINEL SENTINELS nobody",
        "SENTINEL GET-MASTER-ADDR-BY-NAME nobody",
        "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster",
        "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *",
        "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 x *",
        "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *",
        "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1",
        "SENTINEL CKQUORUM nobody",
        "SENTINEL FAILOVER nobody",
        "SENTINEL REMOVE nobody",
        "SENTINEL RESET nobody*",
        "SENTINEL MONITOR a 127.0.0.1 1 x",
        "SENTINEL MONITOR a 127.0.0.1 x 1",
        "SENTINEL MONITOR a 127.0.0.1 1 0",
        "SENTINEL MONITOR a 127.0.0.1 99999 1",
        "SENTINEL MONITOR a no-such-host 1 1",
        "SENTINEL MONITOR mymaster 127.0.0.1 1 1",
        "SENTINEL MONITOR other 127.0.0.1 1 2",
        "SENTINEL GET-MASTER-ADDR-BY-NAME other",
        "SENTINEL SET nobody quorum 1",
        "SENTINEL SET other quorum",
        "SENTINEL SET other quorum x",
        "SENTINEL SET other quorum 0",
        "SENTINEL SET other bogus 1",
        "SENTINEL SET other down-after-milliseconds -1",
        "SENTINEL SET other failover-timeout 0",
        "SENTINEL SET other parallel-syncs 3 quorum 4 bogus 1",
        "SENTINEL SET other rename-command a",
        "SENTINEL SET other rename-command a b",
        "SENTINEL SET other notification-script /no/such/file",
        "SENTINEL SET other client-reconfig-script /no/such/file",
        "SENTINEL SET other master-reboot-down-after-period -1",
        "SENTINEL SET other auth-pass word auth-user me",
        "SENTINEL CKQUORUM other",
        "SENTINEL REMOVE other",
        "SENTINEL CONFIG GET",
        "SENTINEL CONFIG GET *",
        "SENTINEL CONFIG GET announce-*",
        "SENTINEL CONFIG SET announce-port x",
        "SENTINEL CONFIG SET announce-port 7000",
        "SENTINEL CONFIG SET announce-ip 10.0.0.1",
        "SENTINEL CONFIG SET resolve-hostnames maybe",
        "SENTINEL CONFIG SET sentinel-user me",
        "SENTINEL CONFIG SET bogus 1",
        "SENTINEL CONFIG GET *",
        "SENTINEL DEBUG",
        "SENTINEL DEBUG ping-period",
        "SENTINEL DEBUG ping-period 0",
        "SENTINEL DEBUG bogus 1",
        "SENTINEL DEBUG info-period 5000 ask-period 300",
        "SENTINEL DEBUG",
        "SENTINEL SIMULATE-FAILURE help",
        "SENTINEL SIMULATE-FAILURE bogus",
        "SENTINEL SIMULATE-FAILURE crash-after-election",
        "SENTINEL INFO-CACHE nobody",
        "SENTINEL PENDING-SCRIPTS",
        "SENTINEL FLUSHCONFIG",
        "SHUTDOWN bogus",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let [mine, his] = clients.each_mut().map(|client| client.call(&words));
        assert_eq!(mine, his, "{line}");
    }
    // What depends on time has the same shape.
    for line in ["SENTINEL MASTERS", "SENTINEL MASTER mymaster", "SENTINEL REPLICAS mymaster", "COMMAND LIST"] {
        let words: Vec<&str> = line.split(' ').collect();
        let [mine, his] = clients.each_mut().map(|client| names(&client.call(&words), line.starts_with("COMMAND")));
        assert_eq!(mine, his, "{line}");
    }
    let [mine, his] = clients.each_mut().map(|client| {
        let text = client.call(&["INFO", "sentinel"]).text();
        text.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(mine, his);
    let mut client = sentinels[0].client();
    let Reply::Map(greeting) = client.call(&["HELLO", "3"]) else { panic!("no map") };
    assert!(greeting.contains(&(Reply::Bulk(b"mode".to_vec()), Reply::Bulk(b"sentinel".to_vec()))));
    assert_eq!(greeting.len(), 6);
    assert!(client.call(&["QUIT"]).is_ok());
}

/// The names of fields, or all texts in order.
fn names(reply: &Reply, all: bool) -> Vec<String> {
    match reply {
        Reply::Array(items) if items.iter().any(|item| matches!(item, Reply::Array(_))) => {
            items.iter().flat_map(|item| names(item, all)).collect()
        }
        Reply::Array(items) if all => {
            let mut texts: Vec<String> = items.iter().map(Reply::text).collect();
            texts.sort();
            texts
        }
        Reply::Array(items) => items.iter().step_by(2).map(Reply::text).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_without_a_good_file_is_refused() {
    for (lines, reason) in [
        ("sentinel monitor a 127.0.0.1 6379 0\n", "Quorum must be 1 or greater."),
        ("sentinel bogus 1\n", "Unrecognized sentinel configuration statement."),
        ("sentinel parallel-syncs a 1\n", "No such master with specified name."),
        ("sentinel monitor a no-such-host 6379 1\n", "Can't resolve instance hostname."),
    ] {
        let path = std::env::temp_dir().join(format!("rsredis-sentinel-bad-{}.conf", std::process::id()));
        std::fs::write(&path, format!("port {}\n{lines}", free_port())).expect("a file");
        let (status, text) = Server::run(&[path.to_str().expect("text"), "--sentinel"], "");
        assert!(!status.success() && text.contains("at line 2") && text.contains(reason), "{text}");
        std::fs::remove_file(&path).ok();
    }
    let (status, text) = Server::run(&["--sentinel"], "");
    assert!(!status.success() && text.contains("Sentinel needs config file on disk to save state."), "{text}");
}

/// The binary under the name of stock Sentinel needs no option.
#[test]
fn the_name_of_the_binary_is_enough() {
    let dir = std::env::temp_dir().join(format!("rsredis-sentinel-name-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    for name in ["redis-sentinel", "rsredis-sentinel"] {
        let link = dir.join(name);
        std::os::unix::fs::symlink(binary(), &link).expect("a link");
        let port = free_port();
        std::fs::write(dir.join("sentinel.conf"), format!("port {port}\nlogfile {}/log\n", dir.display()))
            .expect("a file");
        let mut child =
            Command::new(&link).arg(dir.join("sentinel.conf")).stdout(Stdio::null()).spawn().expect("it starts");
        support::wait_until("it is a sentinel", || {
            let role = Client::connect(port).and_then(|mut client| client.try_call(&["ROLE"]));
            role.is_ok_and(|role| role.items()[0].text() == "sentinel")
        });
        // SIGTERM ends it without a dump.
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it lives");
        assert!(child.wait().expect("its end").success());
        assert!(!Path::new("dump.rdb").exists() && !dir.join("dump.rdb").exists());
    }
    std::fs::remove_dir_all(&dir).ok();
}

/// SENTINEL FAILOVER, with passwords on both sides, scripts that are run, and a vote that survives.
#[test]
fn a_wished_failover_with_passwords_and_scripts() {
    let secrets = ["--requirepass", "secret", "--masterauth", "secret", "--repl-diskless-sync-delay", "0"];
    let primary = Server::start(&secrets);
    let port = primary.port().to_string();
    let follow = [&secrets[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let replica = Server::start(&follow);
    let scripts = std::env::temp_dir().join(format!("rsredis-sentinel-scripts-{}", std::process::id()));
    std::fs::create_dir_all(&scripts).expect("a directory");
    // The first run asks to be repeated.
    let script = scripts.join("script");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/told\necho \"$MARK\" >> {0}/marks\n[ -e {0}/once ] && exit 0\ntouch {0}/once\nexit 1\n",
        scripts.display()
    );
    std::fs::write(&script, text).expect("a file");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it may run");
    let lines = watching(primary.port(), 2)
        + &format!(
            "sentinel auth-pass {NAME} secret\nsentinel notification-script {NAME} {0}\n\
             sentinel client-reconfig-script {NAME} {0}\nrequirepass watchword\nsentinel sentinel-pass watchword\n",
            script.display()
        );
    let mut ours = Sentinel::start(Make::Ours, &lines);
    let stock = Sentinel::start(Make::Stock, &lines);
    let login = |sentinel: &Sentinel| {
        let mut client = sentinel.client();
        assert!(client.call(&["PING"]).is_error("NOAUTH"));
        assert!(client.call(&["AUTH", "watchword"]).is_ok());
        client
    };
    let (mut client, mut other) = (login(&ours), login(&stock));
    assert!(client.call(&["SENTINEL", "DEBUG", "script-retry-delay", "200"]).is_ok());
    ours.wait("the replica and the other sentinel are known and up", |_| {
        [&mut client, &mut other].iter_mut().all(|client| {
            let master = client.call(&["SENTINEL", "MASTER", NAME]);
            let replicas = client.call(&["SENTINEL", "REPLICAS", NAME]);
            let is_good =
                |reply: &Reply| field(reply, "master-link-status") == "ok" && field(reply, "flags") == "slave";
            field(&master, "num-other-sentinels") == "1" && replicas.items().iter().any(is_good)
        }) && !client.call(&["SENTINEL", "CKQUORUM", NAME]).is_error("NOQUORUM")
    });
    assert!(client.call(&["SENTINEL", "FAILOVER", NAME]).is_ok());
    assert!(client.call(&["SENTINEL", "FAILOVER", NAME]).is_error("INPROG"));
    let new = replica.port().to_string();
    ours.wait("both name the replica", |_| {
        [&mut client, &mut other]
            .iter_mut()
            .all(|client| field(&client.call(&["SENTINEL", "MASTER", NAME]), "port") == new)
    });
    let told = format!("{NAME} leader start 127.0.0.1 {port} 127.0.0.1 {new}");
    ours.wait("the scripts have run, one of them twice", |_| {
        let lines = std::fs::read_to_string(scripts.join("told")).unwrap_or_default();
        lines.contains(&told)
            && lines.contains("+switch-master mymaster 127.0.0.1")
            && lines.matches(&format!("+monitor master {NAME} 127.0.0.1 {port} quorum 2\n")).count() >= 1
    });
    let marks = std::fs::read_to_string(scripts.join("marks")).expect("a file");
    assert!(marks.lines().all(|mark| mark == "of the test"), "{marks}");
    ours.wait("no script waits", |_| client.call(&["SENTINEL", "PENDING-SCRIPTS"]).items().is_empty());
    drop(stock);
    std::fs::remove_dir_all(&scripts).ok();
}

/// A sentinel that crashes after its election has its vote in the file.
#[test]
fn a_simulated_crash_leaves_the_vote_in_the_file() {
    let mut primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let _replica = replica_of(primary.port(), false);
    let mut sentinel = Sentinel::start(Make::Ours, &watching(primary.port(), 1));
    sentinel.wait("the replica is known", |sentinel| sentinel.field("num-slaves") == "1");
    assert!(sentinel.call(&["SENTINEL", "SIMULATE-FAILURE", "crash-after-election"]).is_ok());
    primary.kill();
    let start = Instant::now();
    let status = loop {
        match sentinel.child.try_wait().expect("a child") {
            Some(status) => break status,
            None => assert!(start.elapsed() < LIMIT, "{}", sentinel.log()),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(99));
    let file = sentinel.file();
    assert!(
        file.contains(&format!("sentinel leader-epoch {NAME} 1\n")) && file.contains("sentinel current-epoch 1\n"),
        "{file}"
    );
    // The next life goes on from there, and fails over in an epoch of its own.
    let mut sentinel = sentinel.restart(Make::Ours);
    sentinel.wait_for_log("+switch-master");
    assert!(sentinel.file().contains("sentinel current-epoch 2\n"), "{}", sentinel.file());
}

/// Names instead of addresses; -BUSY answered with SCRIPT KILL; TILT when the process stood still.
#[test]
fn names_busy_scripts_and_tilt() {
    let primary = Server::start(&["--busy-reply-threshold", "100"]);
    let lines = watching(primary.port(), 1).replace("127.0.0.1", "localhost")
        + "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n";
    let mut sentinel = Sentinel::start(Make::Ours, &lines);
    sentinel.wait("it is connected", |sentinel| sentinel.field("runid").len() == 40);
    let address = sentinel.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
    assert_eq!(address.items()[0].text(), "localhost");
    assert!(sentinel.file().contains(&format!("sentinel monitor {NAME} localhost {} 1\n", primary.port())));
    assert!(sentinel.call(&["SENTINEL", "CONFIG", "SET", "announce-hostnames", "no"]).is_ok());
    let address = sentinel.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
    assert!(["127.0.0.1", "::1"].contains(&address.items()[0].text().as_str()), "{address:?}");

    let mut busy = primary.client();
    busy.send(&["EVAL", "while true do end", "0"]).expect("sent");
    sentinel.wait_for_log("+sdown master mymaster");
    let reply = busy.reply().expect("the script is killed");
    assert!(matches!(&reply, Reply::Error(text) if text.contains("killed by user")), "{reply:?}");
    sentinel.wait_for_log("-sdown master mymaster");

    assert!(sentinel.call(&["SENTINEL", "DEBUG", "tilt-period", "500"]).is_ok());
    let pid = Pid::from_raw(sentinel.child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("it lives");
    // Not awaited but caused: the time that stands still.
    std::thread::sleep(Duration::from_millis(2500));
    kill(pid, Signal::SIGCONT).expect("it lives");
    sentinel.wait_for_log("+tilt #tilt mode entered");
    sentinel.wait_for_log("-tilt #tilt mode exited");
}

/// With tls-replication everything that Sentinel says goes through TLS.
#[test]
fn tls_to_everybody() {
    let certs = Certs::make("sentinel");
    let (primary, port) = certs.serve(&["--tls-replication", "yes"]);
    let tls_port = free_port();
    let [cert, key, ca] = ["redis.crt", "redis.key", "ca.crt"].map(|name| certs.path(name));
    let lines = watching(port, 1)
        + &format!(
            "tls-port {tls_port}\ntls-replication yes\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n"
        );
    let mut sentinel = Sentinel::start(Make::Ours, &lines);
    sentinel.wait("it has read INFO through TLS", |sentinel| sentinel.field("runid").len() == 40);
    assert_eq!(sentinel.field("flags"), "master");
    assert_eq!(certs.cli(tls_port, true, &["SENTINEL", "MYID"]).len(), 40);
    drop(primary);
}

/// What comes in from outside may not write lines into the file.
#[test]
fn control_characters_stay_out_of_the_file() {
    let primary = Server::start(&[]);
    let sentinel = Sentinel::start(Make::Ours, &watching(primary.port(), 1));
    let mut client = sentinel.client();
    for words in [
        &["SENTINEL", "SET", NAME, "auth-pass", "x\nsentinel notification-script mymaster /bin/sh"][..],
        &["SENTINEL", "SET", NAME, "rename-command", "config", "x\ny"],
        &["SENTINEL", "CONFIG", "SET", "sentinel-pass", "x\r\ny"],
        &["SENTINEL", "MONITOR", "a\nb", "127.0.0.1", "1", "1"],
    ] {
        assert!(client.call(words).is_error("ERR"), "{words:?}");
    }
    assert!(client.call(&["SENTINEL", "SET", NAME, "auth-pass", "two words"]).is_ok());
    assert!(sentinel.file().contains("sentinel auth-pass mymaster \"two words\"\n"));
    let sentinel = sentinel.restart(Make::Stock);
    assert_eq!(sentinel.field("name"), NAME);
}
