//! The server as a process: ports that move, limits, its title, the watchdog, very many connections, very long pipelines.

mod support;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::client::request;
use support::server::{free_port, is_stock};
use support::{Client, Reply, Server, wait_until};

/// A reply or an error, as text.
fn said(reply: Reply) -> String {
    if let Reply::Error(text) = reply { text } else { reply.text() }
}

fn set(client: &mut Client, name: &str, value: &str) -> String {
    said(client.call(&["CONFIG", "SET", name, value]))
}

fn get(client: &mut Client, name: &str) -> String {
    client.call(&["CONFIG", "GET", name]).items()[1].text()
}

#[test]
fn the_port_moves_at_run_time() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let (old, new) = (server.port(), free_port());
    assert_eq!(set(&mut client, "port", &new.to_string()), "OK");
    let mut moved = Client::connect(new).expect("the new port answers");
    assert_eq!(moved.call(&["PING"]).text(), "PONG");
    assert!(TcpStream::connect(("127.0.0.1", old)).is_err(), "the old port still accepts");
    assert_eq!(client.call(&["PING"]).text(), "PONG", "connections through the old port live on");

    // A port that somebody else has: nothing changes.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_port = taken.local_addr().expect("its address").port().to_string();
    assert_eq!(
        set(&mut client, "port", &taken_port),
        "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."
    );
    assert_eq!(get(&mut client, "port"), new.to_string());
    assert_eq!(Client::connect(new).expect("it still answers").call(&["PING"]).text(), "PONG");

    assert_eq!(set(&mut client, "port", "0"), "OK");
    assert!(TcpStream::connect(("127.0.0.1", new)).is_err(), "port 0 means no port");
    assert_eq!(set(&mut client, "port", &old.to_string()), "OK");
    assert_eq!(server.client().call(&["PING"]).text(), "PONG");
}

#[test]
fn the_addresses_move_at_run_time() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let port = server.port();
    assert_eq!(set(&mut client, "bind", "127.0.0.2"), "OK");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "not bound any more");
    assert!(TcpStream::connect(("127.0.0.2", port)).is_ok());
    assert_eq!(
        set(&mut client, "bind", "127.0.0.1 999.999.999.999"),
        "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses."
    );
    assert_eq!(get(&mut client, "bind"), "127.0.0.2");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "half of a refused change stayed");
    assert!(TcpStream::connect(("127.0.0.2", port)).is_ok(), "the old address is not back");

    // Both at once, and both undone where the second fails.
    let other = free_port();
    let both = client.call(&["CONFIG", "SET", "port", &other.to_string(), "bind", "127.0.0.1"]);
    assert_eq!(both.text(), "OK");
    assert_eq!(Client::connect(other).expect("connected").call(&["PING"]).text(), "PONG");
    let failed = client.call(&["CONFIG", "SET", "port", &port.to_string(), "bind", "999.999.999.999"]);
    assert!(failed.is_error("ERR CONFIG SET failed"), "{failed:?}");
    assert_eq!((get(&mut client, "port"), get(&mut client, "bind")), (other.to_string(), "127.0.0.1".into()));
    assert_eq!(Client::connect(other).expect("connected").call(&["PING"]).text(), "PONG");
}

#[test]
fn maxclients_follows_what_the_system_grants() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let refused = set(&mut client, "maxclients", "4294967295");
    assert!(
        refused.starts_with(
            "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle \
             the specified number of clients, try with "
        ),
        "{refused}"
    );
    assert_eq!(get(&mut client, "maxclients"), "10000");
    assert_eq!(set(&mut client, "maxclients", "1"), "OK");
    let mut second = server.client();
    assert_eq!(said(second.reply().expect("a refusal")), "ERR max number of clients reached");
    assert_eq!(set(&mut client, "maxclients", "2"), "OK");
    // The connection by which the test saw that the server is up may just be ending.
    wait_until("there is room for two", || said(server.client().call(&["PING"])) == "PONG");
}

#[test]
fn the_process_list_shows_the_title() {
    let server = Server::start(&["--proc-title-template", "{title} {listen-addr} here"]);
    let title = || {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", server.pid())).expect("a command line");
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    };
    let program = support::server::binary().display().to_string();
    assert_eq!(title(), format!("{program} *:{} here", server.port()));
    let mut client = server.client();
    assert_eq!(set(&mut client, "proc-title-template", "T {port} {server-mode}"), "OK");
    assert_eq!(title().trim_end(), format!("T {}", server.port()));
    assert_eq!(
        set(&mut client, "proc-title-template", "{no-such-variable}"),
        "ERR CONFIG SET failed (possibly related to argument 'proc-title-template') - template format is invalid or \
         contains unknown variables"
    );
}

#[test]
fn the_watchdog_tells_of_a_long_command_while_it_runs() {
    let server = Server::start(&["--watchdog-period", "0"]);
    let mut client = server.client();
    client.call(&["DEBUG", "SLEEP", "0.5"]);
    assert!(!server.log().contains("WATCHDOG TIMER EXPIRED"), "it is off");
    assert_eq!(set(&mut client, "watchdog-period", "200"), "OK");
    client.send(&["DEBUG", "SLEEP", "2"]).expect("sent");
    let asleep = Instant::now();
    wait_until("the watchdog speaks", || server.log().contains("WATCHDOG TIMER EXPIRED"));
    assert!(asleep.elapsed() < Duration::from_secs(2), "it spoke when all was over");
    if !is_stock() {
        assert!(server.log().contains("it runs 'debug'"), "{}", server.log());
    }
    assert_eq!(client.reply().expect("an end").text(), "OK");
}

/// What the kernel says of threads whose names begin so.
fn processors(server: &Server, name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    let mut lists: Vec<String> = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter(|status| status.starts_with(&format!("Name:\t{name}")))
        .filter_map(|status| {
            Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned())
        })
        .collect();
    lists.sort();
    lists.dedup();
    lists
}

#[test]
fn threads_run_on_the_processors_of_their_kind() {
    let all = processors(&Server::start(&[]), "worker").remove(0);
    let first = all.split([',', '-']).next().expect("a number").to_owned();
    let server = Server::start(&["--server_cpulist", &first]);
    let mut client = server.client();
    assert_eq!(processors(&server, "worker"), [first.as_str()]);
    assert_eq!(processors(&server, "lazyfree"), [all.as_str()], "another kind");
    assert_eq!(get(&mut client, "server-cpulist"), first);
    if is_stock() {
        return;
    }
    // At run time, unlike in Redis.
    assert_eq!(set(&mut client, "bio-cpulist", &first), "OK");
    assert_eq!(processors(&server, "lazyfree"), [first.as_str()]);
    assert_eq!(set(&mut client, "server_cpulist", ""), "OK");
    assert_eq!(processors(&server, "worker"), [all.as_str()]);
    assert_eq!(
        set(&mut client, "server-cpulist", "0-"),
        "ERR CONFIG SET failed (possibly related to argument 'server-cpulist') - '0-' is not a list of processors such as 0-7:2 or 1,3"
    );
    assert_eq!(
        set(&mut client, "server-cpulist", "1023"),
        "ERR CONFIG SET failed (possibly related to argument 'server-cpulist') - none of these processors can be used"
    );
    assert_eq!(processors(&server, "worker"), [all.as_str()]);
    assert_eq!(get(&mut client, "server-cpulist"), "");
}

/// Room for so many sockets in this process, too.
fn allow_sockets(count: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if soft < count {
        setrlimit(Resource::RLIMIT_NOFILE, count, hard.max(count)).expect("a higher limit of descriptors");
    }
}

fn connected(client: &mut Client) -> u64 {
    let info = client.call(&["INFO", "clients"]).text();
    let line = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
    line.and_then(|count| count.parse().ok()).expect("a number of clients")
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    const CONNECTIONS: u64 = 10_000;
    allow_sockets(CONNECTIONS + 200);
    let server = Server::start(&["--maxclients", "11000"]);
    let mut client = server.client();
    client.call(&["SET", "key", "value"]);
    let before = server.rss();
    let mut idle = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connected");
        // Each has been active once, with more than a few bytes.
        if number % 2 == 0 {
            stream.write_all(&request(&["SET", &format!("key:{number}"), &"x".repeat(500)])).expect("written");
        }
        idle.push(stream);
    }
    wait_until("all are connected", || connected(&mut client) == CONNECTIONS + 1);
    wait_until("all have been served", || client.call(&["DBSIZE"]).integer() == 1 + CONNECTIONS as i64 / 2);
    let each = (server.rss() - before) / CONNECTIONS;
    assert!(each < 6000, "{each} bytes per idle connection");

    // Answers are as quick as ever: no walk over all of them for each request.
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(client.call(&["GET", "key"]).text(), "value");
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(3), "1000 round trips took {elapsed:?}");
    // And all of them still work.
    let mut last = Client::connect(server.port()).expect("connected");
    assert_eq!(last.call(&["PING"]).text(), "PONG");
    drop(idle);
    wait_until("all are gone", || connected(&mut client) == 2);
}

#[test]
fn a_million_commands_may_be_written_before_the_first_reply_is_read() {
    const COMMANDS: usize = 1_000_000;
    let server = Server::start(&[]);
    let mut client = server.client();
    client.read_timeout(Duration::from_secs(120));
    let batch = request(&["INCR", "counter"]).repeat(1000);
    for _ in 0..COMMANDS / 1000 {
        client.write(&batch).expect("the server reads on while replies wait");
    }
    for number in 1..=COMMANDS {
        let reply = client.reply().expect("a reply");
        assert_eq!(reply.integer(), number as i64);
    }
}

/// Who connects as soon as the port is open finds a server that is ready, if there is nothing much to load.
#[test]
fn a_short_load_is_waited_for() {
    let dir = std::env::temp_dir().join(format!("rsredis-short-load-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    for round in 0..8 {
        let port = free_port();
        let mut child = std::process::Command::new(support::server::binary())
            .args(["--port", &port.to_string(), "--appendonly", "yes", "--dir"])
            .arg(&dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the server");
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut client = loop {
            match Client::connect(port) {
                Ok(client) => break client,
                Err(_) => assert!(Instant::now() < deadline, "it does not listen"),
            }
        };
        let reply = client.call(&["INCR", "rounds"]);
        child.kill().expect("killed");
        child.wait().expect("ended");
        // What was written last may be lost with the process.
        assert!(matches!(reply, Reply::Integer(1..)), "round {round}: {reply:?}");
    }
    std::fs::remove_dir_all(&dir).ok();
}
