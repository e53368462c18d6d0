//! The wire: every way in which a request may be cut, quoted or broken, and the limits. What the reference answers was
//! found by running this very file against it (`RSREDIS_SERVER=redis-server cargo test --test protocol`).

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::client::request;
use support::{Client, Reply, Server};

/// Sends the bytes on a fresh connection; everything the server answers before it closes, or within `quiet`.
fn exchange(server: &Server, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return (String::from_utf8_lossy(&answer).into_owned(), true);
            }
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
        }
    }
}

#[track_caller]
fn answers(server: &Server, bytes: &[u8], expected: &str, closes: bool) {
    let got = exchange(server, bytes);
    assert_eq!(got, (expected.to_string(), closes), "for {}", bytes[..bytes.len().min(200)].escape_ascii());
}

#[test]
fn a_request_may_be_cut_at_every_byte() {
    let server = Server::start(&[]);
    let mut all = request(&["SET", "key", "a\r\nvalue"]);
    all.extend(request(&["GET", "key"]));
    all.extend(b"PING\r\n\r\n*0\r\nECHO \"in line\"\r\n");
    all.extend(request(&["MGET", "key", "nokey", "key"]));
    let expected =
        b"+OK\r\n$8\r\na\r\nvalue\r\n+PONG\r\n$7\r\nin line\r\n*3\r\n$8\r\na\r\nvalue\r\n$-1\r\n$8\r\na\r\nvalue\r\n";
    for cut in 0..=all.len() {
        let mut client = server.client();
        client.write(&all[..cut]).expect("written");
        // The first part must have its own read; a few milliseconds on loopback are enough, and none is harmless.
        std::thread::sleep(Duration::from_millis(2));
        client.write(&all[cut..]).expect("written");
        client.wire.clear();
        let mut wire = Vec::new();
        while wire.len() < expected.len() {
            client.reply().expect("a reply");
            wire.extend(std::mem::take(&mut client.wire));
        }
        assert_eq!(wire, expected, "cut at {cut}");
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for byte in request(&["SET", "k", "v"]).iter().chain(b"get k\r\n") {
        client.write(&[*byte]).expect("written");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(client.reply().expect("a reply").is_ok());
    assert_eq!(client.reply().expect("a reply"), Reply::Bulk(b"v".to_vec()));
}

#[test]
fn inline_commands_have_redis_quoting() {
    let server = Server::start(&[]);
    let bad = "-ERR Protocol error: unbalanced quotes in request\r\n";
    for (line, answer, closes) in [
        ("PING\r\n", "+PONG\r\n", false),
        ("PING\n", "+PONG\r\n", false),
        ("  PING  \r\n", "+PONG\r\n", false),
        ("\r\n\n  \r\nPING\r\n", "+PONG\r\n", false),
        ("ECHO \"a b\"\r\n", "$3\r\na b\r\n", false),
        ("ECHO 'a b'\r\n", "$3\r\na b\r\n", false),
        ("ECHO \"\"\r\n", "$0\r\n\r\n", false),
        ("ECHO ''\r\n", "$0\r\n\r\n", false),
        ("ECHO \"\\x41\\x00\\n\\t\\\"\"\r\n", "$5\r\nA\0\n\t\"\r\n", false),
        ("ECHO '\\n\\x41\\''\r\n", "$7\r\n\\n\\x41'\r\n", false),
        ("ECHO a\"b\"\r\n", "$2\r\nab\r\n", false),
        ("ECHO \"\\xZZ\"\r\n", "$3\r\nxZZ\r\n", false),
        ("ECHO \"abc\r\n", bad, true),
        ("ECHO 'abc\r\n", bad, true),
        ("ECHO \"a\"b\r\n", bad, true),
        ("ECHO 'a'b\r\n", bad, true),
        ("PING\r\nECHO \"abc\r\nPING\r\n", &format!("+PONG\r\n{bad}"), true),
        ("\tPING\r\n", "+PONG\r\n", false),
    ] {
        answers(&server, line.as_bytes(), answer, closes);
    }
}

#[test]
fn protocol_errors_are_redis_errors() {
    let server = Server::start(&[]);
    let length = "-ERR Protocol error: invalid multibulk length\r\n";
    let bulk = "-ERR Protocol error: invalid bulk length\r\n";
    let dollar = |c: char| format!("-ERR Protocol error: expected '$', got '{c}'\r\n");
    for (bytes, answer, closes) in [
        ("*abc\r\n", length, true),
        ("*2147483648\r\n", length, true),
        ("*99999999999999999999\r\n", length, true),
        ("*\r\n", length, true),
        ("*+1\r\n$4\r\nPING\r\n", length, true),
        ("*01\r\n$4\r\nPING\r\n", length, true),
        ("* 1\r\n$4\r\nPING\r\n", length, true),
        ("*-1\r\nPING\r\n", "+PONG\r\n", false),
        ("*-10\r\nPING\r\n", "+PONG\r\n", false),
        ("*0\r\nPING\r\n", "+PONG\r\n", false),
        ("*1\r\n:4\r\n", &dollar(':'), true),
        ("*1\r\nPING\r\n", &dollar('P'), true),
        // Line ends within an error text become spaces.
        ("*1\r\n\r\n", &dollar(' '), true),
        ("*1\r\n$abc\r\n", bulk, true),
        ("*1\r\n$-1\r\n", bulk, true),
        ("*1\r\n$\r\n", bulk, true),
        ("*1\r\n$99999999999999999999\r\n", bulk, true),
        ("*1\r\n$536870913\r\n", bulk, true),
        ("*2\r\n$4\r\nECHO\r\n$-5\r\n", bulk, true),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", &dollar('f'), true),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", bulk, true),
        ("*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n", &format!("+PONG\r\n{length}"), true),
        // The two bytes after a payload are taken for granted.
        ("*1\r\n$4\r\nPINGxx", "+PONG\r\n", false),
        ("*2\r\n$0\r\n\r\n$1\r\na\r\n", "-ERR unknown command '', with args beginning with: 'a' \r\n", false),
    ] {
        answers(&server, bytes.as_bytes(), answer, closes);
    }
}

#[test]
fn long_inline_and_header_lines_are_refused() {
    let server = Server::start(&[]);
    let inline = "-ERR Protocol error: too big inline request\r\n";
    answers(&server, &vec![b'a'; 65 * 1024], inline, true);
    let mut count = b"*1".to_vec();
    count.resize(65 * 1024, b'1');
    answers(&server, &count, "-ERR Protocol error: too big mbulk count string\r\n", true);
    let mut bulk = b"*1\r\n$1".to_vec();
    bulk.resize(65 * 1024, b'1');
    answers(&server, &bulk, "-ERR Protocol error: too big bulk count string\r\n", true);
    let mut fits = b"ECHO ".to_vec();
    fits.resize(60 * 1024, b'x');
    fits.extend(b"\r\n");
    let (answer, closed) = exchange(&server, &fits);
    assert!(answer.starts_with(&format!("${}\r\n", 60 * 1024 - 5)) && !closed);
}

#[test]
fn before_authentication_the_limits_are_low() {
    let server = Server::start(&["--requirepass", "secret"]);
    let count = "-ERR Protocol error: unauthenticated multibulk length\r\n";
    let bulk = "-ERR Protocol error: unauthenticated bulk length\r\n";
    answers(&server, b"*11\r\n", count, true);
    answers(&server, b"*2\r\n$16385\r\n", bulk, true);
    answers(&server, b"*1\r\n$4\r\nPING\r\n", "-NOAUTH Authentication required.\r\n", false);
    let mut client = server.client();
    assert!(client.line("AUTH wrong").is_error("WRONGPASS"));
    assert!(client.line("AUTH secret").is_ok());
    let long = "x".repeat(20_000);
    assert!(client.call(&["SET", "k", &long]).is_ok());
}

#[test]
fn a_browser_is_turned_away() {
    let server = Server::start(&[]);
    answers(&server, b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n", "", true);
    answers(&server, b"Host: localhost\r\nPING\r\n", "", true);
    answers(&server, b"host: x\r\n", "", true);
    support::wait_until("the attack is logged", || server.log().contains("Possible SECURITY ATTACK detected"));
    assert_eq!(server.client().line("PING"), Reply::Status("PONG".into()));
}

#[test]
fn proto_max_bulk_len_is_a_setting() {
    let server = Server::start(&["--proto-max-bulk-len", "2mb"]);
    let big = "x".repeat(2 * 1024 * 1024);
    assert!(server.client().call(&["SET", "k", &big]).is_ok());
    answers(
        &server,
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2097153\r\n",
        "-ERR Protocol error: invalid bulk length\r\n",
        true,
    );
    assert!(server.client().line("CONFIG SET proto-max-bulk-len 1mb").is_ok());
    answers(
        &server,
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n",
        "-ERR Protocol error: invalid bulk length\r\n",
        true,
    );
    let mut client = server.client();
    let reply = client.line("APPEND k x");
    assert!(reply.is_error("ERR string exceeds maximum allowed size (proto-max-bulk-len)"), "{reply:?}");
}

#[test]
fn the_query_buffer_has_a_limit() {
    let server = Server::start(&["--client-query-buffer-limit", "1mb"]);
    let mut client = server.client();
    let mut bytes = b"*2\r\n$3\r\nGET\r\n$2000000\r\n".to_vec();
    bytes.resize(1_500_000, b'x');
    client.write(&bytes).ok();
    // Closed without a reply; the reason is in the log.
    assert!(client.rest().unwrap_or_default().is_empty());
    support::wait_until("the closing is logged", || server.log().contains("query buffer"));
}

#[test]
fn quit_ends_the_session_and_drops_what_follows() {
    let server = Server::start(&[]);
    answers(&server, b"PING\r\nQUIT\r\nSET after quit\r\n", "+PONG\r\n+OK\r\n", true);
    assert_eq!(server.client().line("EXISTS after"), Reply::Integer(0));
}

#[test]
fn reset_returns_to_the_first_state() {
    let server = Server::start(&[]);
    let mut client = server.client3();
    client.line("CLIENT SETNAME x");
    client.line("SELECT 3");
    client.line("MULTI");
    assert_eq!(client.line("RESET"), Reply::Status("RESET".into()));
    // RESP2 again: a map comes as an array, and the transaction is gone.
    assert!(client.line("EXEC").is_error("ERR EXEC without MULTI"));
    assert_eq!(client.line("CLIENT GETNAME"), Reply::Nil);
    client.line("SET in0 v");
    assert_eq!(server.client().line("EXISTS in0"), Reply::Integer(1));
    assert_eq!(String::from_utf8_lossy(&client.wire), "+OK\r\n");
}

#[test]
fn client_reply_off_and_skip() {
    let server = Server::start(&[]);
    answers(
        &server,
        b"CLIENT REPLY OFF\r\nPING\r\nSET a 1\r\nCLIENT REPLY ON\r\nGET a\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\n",
        "+OK\r\n$1\r\n1\r\n+PONG\r\n",
        false,
    );
    // ON after SKIP is itself skipped; errors are silenced like any reply.
    answers(&server, b"CLIENT REPLY SKIP\r\nNOSUCH\r\nPING\r\n", "+PONG\r\n", false);
    answers(&server, b"CLIENT REPLY OFF\r\nNOSUCH\r\nPING\r\n", "", false);
}

#[test]
fn a_million_commands_before_the_first_reply_is_read() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let count = 1_000_000;
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(request(&["SET", &format!("k{}", number % 1000), &number.to_string()]));
    }
    let started = Instant::now();
    // From this thread alone: a server that stops reading while its replies wait would hang here.
    client.write(&bytes).expect("written without reading");
    for number in 0..count {
        assert!(client.reply().unwrap_or_else(|error| panic!("reply {number}: {error}")).is_ok());
    }
    println!("{count} pipelined SETs in {:?}", started.elapsed());
    assert_eq!(client.line("DBSIZE"), Reply::Integer(1000));
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("a limit");
    let wanted = 10_000u64;
    if limit.1 < 2 * wanted + 200 {
        println!("left out: only {} file descriptors allowed", limit.1);
        return;
    }
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit.1, limit.1).expect("raised");
    let server = Server::start(&["--maxclients", "11000"]);
    let before = server.rss();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..wanted {
        let mut client = server.client();
        assert_eq!(client.line("PING"), Reply::Status("PONG".into()));
        clients.push(client);
    }
    // Idle buffers may be given back by a periodic task.
    std::thread::sleep(Duration::from_secs(3));
    let each = server.rss().saturating_sub(before) / wanted;
    println!("{each} bytes of RSS per idle connection");
    assert!(each < 24 * 1024, "{each} bytes per idle connection");
    let started = Instant::now();
    for client in clients.iter_mut().step_by(100) {
        assert_eq!(client.line("PING"), Reply::Status("PONG".into()));
    }
    assert!(started.elapsed() < Duration::from_secs(2), "100 pings took {:?}", started.elapsed());
    assert!(server.client().line("SET k v").is_ok());
}

#[test]
fn maxclients_refuses_with_its_error() {
    let server = Server::start(&[]);
    let mut clients = vec![server.client()];
    // The connection that asked whether the server is ready may not be gone yet.
    while !clients[0].line("INFO clients").text().contains("connected_clients:1\r") {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(clients[0].line("CONFIG SET maxclients 3").is_ok());
    clients.extend((0..2).map(|_| server.client()));
    for client in &mut clients {
        assert_eq!(client.line("PING"), Reply::Status("PONG".into()));
    }
    let (answer, closed) = exchange(&server, b"");
    assert_eq!((answer.as_str(), closed), ("-ERR max number of clients reached\r\n", true));
    drop(clients);
    support::wait_until("a place is free", || {
        Client::connect(server.port())
            .is_ok_and(|mut client| client.try_call(&["PING"]).is_ok_and(|r| !r.is_error("ERR")))
    });
}

#[test]
fn resp3_types_reach_the_wire() {
    let server = Server::start(&[]);
    let mut client = server.client3();
    let wire = |client: &mut Client, line: &str| {
        client.line(line);
        String::from_utf8_lossy(&client.wire).into_owned()
    };
    assert_eq!(wire(&mut client, "GET nokey"), "_\r\n");
    client.line("HSET h f v");
    assert_eq!(wire(&mut client, "HGETALL h"), "%1\r\n$1\r\nf\r\n$1\r\nv\r\n");
    client.line("SADD s m");
    assert_eq!(wire(&mut client, "SMEMBERS s"), "~1\r\n$1\r\nm\r\n");
    client.line("ZADD z 1.5 m");
    assert_eq!(wire(&mut client, "ZSCORE z m"), ",1.5\r\n");
    assert_eq!(wire(&mut client, "ZRANGE z 0 -1 WITHSCORES"), "*1\r\n*2\r\n$1\r\nm\r\n,1.5\r\n");
    assert_eq!(wire(&mut client, "DEBUG PROTOCOL true"), "#t\r\n");
    assert_eq!(wire(&mut client, "DEBUG PROTOCOL verbatim"), "=29\r\ntxt:This is a verbatim\nstring\r\n");
}
